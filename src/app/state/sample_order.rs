//! In which order the samples stand, and which of them: one choice, followed by the grid and by
//! the large view.
//!
//! In comes a result, out go indices of samples. Nothing here knows how they are drawn.

use std::sync::{Arc, Weak};

use serde::{Deserialize, Serialize};

use super::history::{Entry, EntryId};
use crate::encoder::cosine;
use crate::session::result::{QueryResult, SampleStatistics};

/// What the samples are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SortKey {
    /// Log-density; the likeliest first.
    #[default]
    Likelihood,
    /// Euclidean distance from the mean; the closest first.
    Distance,
    /// Cosine to the mean; the most similar first.
    CosineToMean,
    /// Cosine to the frozen embedding of the query; the most similar first.
    CosineToQuery,
    /// Cosine of each sample's own best match in the gallery; the best first.
    BestMatch,
}

impl SortKey {
    pub const ALL: [SortKey; 5] = [
        SortKey::Likelihood,
        SortKey::Distance,
        SortKey::CosineToMean,
        SortKey::CosineToQuery,
        SortKey::BestMatch,
    ];

    /// What is shown in lists.
    pub fn label(self) -> &'static str {
        match self {
            SortKey::Likelihood => "likelihood",
            SortKey::Distance => "distance from the mean",
            SortKey::CosineToMean => "similarity to the mean",
            SortKey::CosineToQuery => "similarity to the query",
            SortKey::BestMatch => "score of the best match",
        }
    }

    /// Which samples stand first.
    pub fn first(self, reversed: bool) -> &'static str {
        match (self, reversed) {
            (SortKey::Likelihood, false) => "Likeliest first",
            (SortKey::Likelihood, true) => "Least likely first",
            (SortKey::Distance, false) => "Closest first",
            (SortKey::Distance, true) => "Farthest first",
            (SortKey::CosineToMean | SortKey::CosineToQuery, false) => "Most similar first",
            (SortKey::CosineToMean | SortKey::CosineToQuery, true) => "Least similar first",
            (SortKey::BestMatch, false) => "Best score first",
            (SortKey::BestMatch, true) => "Worst score first",
        }
    }
}

/// A range of typicality (likelihood quantile), 0 in the tails to 1 at the mean, ends included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TypicalityBand {
    pub low: f64,
    pub high: f64,
}

impl Default for TypicalityBand {
    fn default() -> Self {
        Self { low: 0.0, high: 1.0 }
    }
}

impl TypicalityBand {
    /// Whether every sample is inside.
    pub fn is_all(self) -> bool {
        self == Self::default()
    }

    pub fn contains(self, typicality: f64) -> bool {
        (self.low..=self.high).contains(&typicality)
    }
}

/// Order and filter of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SampleOrder {
    pub key: SortKey,
    /// The other end first.
    pub reversed: bool,
    /// Only samples in this band are shown. Not kept: what a filter hides is not missed later.
    #[serde(skip)]
    pub band: TypicalityBand,
}

impl SampleOrder {
    /// Indices of the samples that are shown, in order; ties by index. Samples without a match
    /// stand last when sorted by it.
    pub fn apply(&self, result: &QueryResult) -> Vec<usize> {
        let query = &result.query_embedding.values;
        // Smaller stands first.
        let place = |index: usize| {
            let sample = &result.samples[index];
            let SampleStatistics { log_prob, distance_to_mean, cosine_to_mean, .. } =
                sample.statistics;
            match self.key {
                SortKey::Likelihood => Some(-log_prob),
                SortKey::Distance => Some(distance_to_mean),
                SortKey::CosineToMean => Some(-cosine_to_mean),
                SortKey::CosineToQuery => {
                    (query.len() == sample.values.len()).then(|| -cosine(&sample.values, query))
                }
                SortKey::BestMatch => sample.statistics.nearest.as_ref().map(|n| -n.score),
            }
        };
        let shown = |&index: &usize| {
            self.band.is_all() || self.band.contains(result.samples[index].statistics.typicality)
        };
        let mut placed: Vec<(usize, Option<f64>)> =
            (0..result.samples.len()).filter(shown).map(|index| (index, place(index))).collect();
        placed.sort_by(|(i, a), (j, b)| {
            let by_place = match (a, b) {
                (Some(a), Some(b)) if self.reversed => b.total_cmp(a),
                (Some(a), Some(b)) => a.total_cmp(b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            };
            by_place.then(i.cmp(j))
        });
        placed.into_iter().map(|(index, _)| index).collect()
    }
}

/// The samples shown of one entry, sorted again only when something has changed.
#[derive(Debug, Default)]
pub struct ShownSamples {
    made_of: Option<MadeOf>,
    indices: Arc<Vec<usize>>,
}

#[derive(Debug)]
struct MadeOf {
    entry: EntryId,
    /// Weak, so that a result is not kept alive, and yet its address is not used again.
    result: Weak<QueryResult>,
    order: SampleOrder,
    count: usize,
}

impl ShownSamples {
    /// Indices of the shown samples, in order. Without a result: all tiles, by index.
    pub fn of(&mut self, entry: &Entry, order: &SampleOrder) -> Arc<Vec<usize>> {
        let result = entry.result.as_ref().map(Arc::downgrade).unwrap_or_default();
        let count = sample_count(entry);
        let same = self.made_of.as_ref().is_some_and(|made| {
            made.entry == entry.id
                && made.result.ptr_eq(&result)
                && made.order == *order
                && made.count == count
        });
        if !same {
            let indices = match &entry.result {
                Some(result) => order.apply(result),
                None => (0..count).collect(),
            };
            self.indices = Arc::new(indices);
            self.made_of = Some(MadeOf { entry: entry.id, result, order: *order, count });
        }
        Arc::clone(&self.indices)
    }
}

/// Number of samples of an entry: those of its result, or those it has tiles for.
pub fn sample_count(entry: &Entry) -> usize {
    match &entry.result {
        Some(result) => result.samples.len(),
        None => entry.tiles.len().saturating_sub(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::panes::samples::fixture;

    fn orders(key: SortKey, reversed: bool) -> Vec<usize> {
        SampleOrder { key, reversed, ..SampleOrder::default() }.apply(&fixture::result("a", 8))
    }

    #[test]
    fn the_likeliest_sample_stands_first_and_last_when_reversed() {
        let result = fixture::result("a", 8);
        assert_eq!(orders(SortKey::Likelihood, false), result.by_likelihood());
        let mut backwards = orders(SortKey::Likelihood, true);
        backwards.reverse();
        assert_eq!(backwards, result.by_likelihood());
    }

    #[test]
    fn every_key_shows_every_sample_once() {
        for key in SortKey::ALL {
            for reversed in [false, true] {
                let mut order = orders(key, reversed);
                order.sort_unstable();
                assert_eq!(order, (0..8).collect::<Vec<_>>(), "{key:?}");
            }
        }
    }

    #[test]
    fn samples_without_a_match_stand_last_in_both_directions() {
        let mut result = fixture::result("a", 4);
        result.samples[1].statistics.nearest = None;
        for reversed in [false, true] {
            let order = SampleOrder { key: SortKey::BestMatch, reversed, ..SampleOrder::default() };
            assert_eq!(order.apply(&result).last(), Some(&1));
        }
    }

    #[test]
    fn a_band_leaves_out_what_is_more_or_less_typical() {
        let result = fixture::result("a", 64);
        let band = TypicalityBand { low: 0.25, high: 0.75 };
        let order = SampleOrder { band, ..SampleOrder::default() };
        let shown = order.apply(&result);
        assert!(!shown.is_empty() && shown.len() < 64);
        for (index, sample) in result.samples.iter().enumerate() {
            assert_eq!(shown.contains(&index), band.contains(sample.statistics.typicality));
        }
    }

    #[test]
    fn a_changed_order_is_followed_and_an_unchanged_one_is_not_sorted_again() {
        let entry = fixture::entry(1, "a", 8);
        let mut shown = ShownSamples::default();
        let order = SampleOrder::default();
        let first = shown.of(&entry, &order);
        assert!(Arc::ptr_eq(&first, &shown.of(&entry, &order)));
        let reversed = SampleOrder { reversed: true, ..order };
        assert_ne!(*shown.of(&entry, &reversed), *first);
    }

    #[test]
    fn a_filter_is_not_kept_and_the_sort_key_is() {
        let order = SampleOrder {
            key: SortKey::Distance,
            reversed: true,
            band: TypicalityBand { low: 0.5, high: 1.0 },
        };
        let kept = serde_json::to_string(&order).unwrap();
        let back: SampleOrder = serde_json::from_str(&kept).unwrap();
        assert_eq!(back, SampleOrder { band: TypicalityBand::default(), ..order });
    }
}
