//! Which tiles are shown, and in which order.

use crate::app::state::history::Entry;
use crate::app::state::selection::{Item, Selection};
use crate::encoder::cosine;
use crate::session::result::QueryResult;

/// What samples are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SortKey {
    #[default]
    Likelihood,
    DistanceToMean,
    CosineToMean,
    CosineToQuery,
    BestMatch,
    Decoded,
    Index,
}

impl SortKey {
    pub const ALL: [SortKey; 7] = [
        SortKey::Likelihood,
        SortKey::DistanceToMean,
        SortKey::CosineToMean,
        SortKey::CosineToQuery,
        SortKey::BestMatch,
        SortKey::Decoded,
        SortKey::Index,
    ];

    pub fn name(self) -> &'static str {
        match self {
            SortKey::Likelihood => "Likeliest first",
            SortKey::DistanceToMean => "Nearest to the mean",
            SortKey::CosineToMean => "Most like the mean",
            SortKey::CosineToQuery => "Most like the query",
            SortKey::BestMatch => "Best match in the gallery",
            SortKey::Decoded => "Best kept by decoding",
            SortKey::Index => "As drawn",
        }
    }

    /// What a sample is worth under this key: larger comes first.
    fn value(self, result: &QueryResult, sample: usize) -> f64 {
        let sample = &result.samples[sample];
        let statistics = &sample.statistics;
        match self {
            SortKey::Likelihood => statistics.log_prob,
            SortKey::DistanceToMean => -statistics.distance_to_mean,
            SortKey::CosineToMean => statistics.cosine_to_mean,
            SortKey::CosineToQuery => cosine(&sample.values, &result.query_embedding.values),
            SortKey::BestMatch => statistics.nearest.as_ref().map_or(-1.0, |nearest| nearest.score),
            SortKey::Decoded => statistics.decoded_cosine.unwrap_or(-1.0),
            SortKey::Index => -(statistics.index as f64),
        }
    }
}

/// The order on screen.
#[derive(Debug, Clone)]
pub struct Order {
    pub key: SortKey,
    pub reversed: bool,
    /// Samples below this typicality, 0 to 1, are left out.
    pub least_typical: f64,
}

impl Default for Order {
    fn default() -> Self {
        Self { key: SortKey::default(), reversed: false, least_typical: 0.0 }
    }
}

impl Order {
    /// The query and the mean, then the samples; ties by index. What is not selected is left out
    /// while the selection is isolated.
    pub fn items(&self, entry: &Entry, selection: &Selection) -> Vec<Item> {
        let mut samples: Vec<usize> = (0..entry.tiles.len().saturating_sub(1)).collect();
        if let Some(result) = &entry.result {
            samples.retain(|&sample| {
                result.samples.get(sample).is_some_and(|s| s.statistics.typicality >= self.least_typical)
            });
            let values: Vec<f64> = (0..result.samples.len())
                .map(|sample| self.key.value(result, sample))
                .collect();
            samples.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
            if self.reversed {
                samples.reverse();
            }
        }
        let hidden = |sample: &usize| {
            selection.isolated
                && selection.samples().next().is_some()
                && !selection.contains(Item::Sample(*sample))
        };
        samples.retain(|sample| !hidden(sample));
        [Item::Query, Item::Mean].into_iter().chain(samples.into_iter().map(Item::Sample)).collect()
    }

    /// Number of samples that are typical enough.
    pub fn count(&self, entry: &Entry) -> usize {
        let samples = entry.result.iter().flat_map(|result| &result.samples);
        samples.filter(|sample| sample.statistics.typicality >= self.least_typical).count()
    }
}
