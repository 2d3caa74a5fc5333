//! Queries in the order of their uncertainty, sorted once, and the statistics of weighted copies
//! of them.
//!
//! A bootstrap replicate is how often each query was drawn: its weight. Sorting a replicate is
//! then walking the queries in the order that they have anyway, and each statistic takes one pass.
//! With weights of 1 the statistics are those of the queries themselves.

use super::EvaluationError;
use super::bins::{Binning, ascending, cumulative_edges, quantile_size, width_level};
use super::correlation::trend;
use super::error::{check_finite, check_pair};

/// Queries sorted by uncertainty, equal values in the order that they were given in.
pub(super) struct Ranked {
    order: Vec<u32>,
    /// Ascending.
    uncertainty: Vec<f64>,
    /// In the same order.
    hits: Vec<bool>,
    /// Whether a place is the last with its uncertainty.
    closes_tie: Vec<bool>,
}

/// Queries and hits of one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub count: u64,
    pub hits: u64,
}

/// H_0 = 0 to H_n, the partial sums of 1 + 1/2 + 1/3 + ...
pub(super) struct Harmonic(Vec<f64>);

impl Harmonic {
    pub fn new(count: usize) -> Self {
        let mut sum = 0.0;
        let rest = (1..=count).map(|k| {
            sum += 1.0 / k as f64;
            sum
        });
        Self(std::iter::once(0.0).chain(rest).collect())
    }

    /// AURC of the best order of `count` queries of which `right` are right: the mean over places
    /// k > right of (k - right) / k.
    pub fn best_aurc(&self, right: usize, count: usize) -> f64 {
        let errors = (count - right) as f64;
        (errors - right as f64 * (self.0[count] - self.0[right])) / count as f64
    }
}

impl Ranked {
    /// # Errors
    /// When there is no query, the lengths differ, or an uncertainty is not finite.
    pub fn new(uncertainty: &[f64], hits: &[bool]) -> Result<Self, EvaluationError> {
        check_pair("uncertainty", uncertainty.len(), hits.len())?;
        check_finite("uncertainty", uncertainty)?;
        let order = ascending(uncertainty);
        let sorted: Vec<f64> = order.iter().map(|&i| uncertainty[i]).collect();
        let closes_tie =
            (0..sorted.len()).map(|i| sorted.get(i + 1).is_none_or(|&next| next != sorted[i]));
        Ok(Self {
            closes_tie: closes_tie.collect(),
            hits: order.iter().map(|&i| hits[i]).collect(),
            uncertainty: sorted,
            order: order.into_iter().map(|i| i as u32).collect(),
        })
    }

    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Hits in the order of uncertainty.
    pub fn hits(&self) -> &[bool] {
        &self.hits
    }

    /// Uncertainties, ascending.
    pub fn uncertainty(&self) -> &[f64] {
        &self.uncertainty
    }

    /// Whether all uncertainties are equal: there is no order then, and no level.
    pub fn is_constant(&self) -> bool {
        self.uncertainty[0] == self.uncertainty[self.len() - 1]
    }

    /// Whether all queries are right, or all wrong.
    pub fn is_one_class(&self) -> bool {
        self.hits.iter().all(|&hit| hit == self.hits[0])
    }

    /// Brings weights from the order of the queries to that of uncertainty.
    pub fn gather(&self, weights: &[u32], into: &mut Vec<u32>) {
        into.clear();
        into.extend(self.order.iter().map(|&query| weights[query as usize]));
    }

    fn weighted(&self, weights: &[u32]) -> impl DoubleEndedIterator<Item = (usize, u64, bool)> {
        let parts = weights.iter().zip(&self.hits).enumerate();
        parts.map(|(place, (&weight, &hit))| (place, u64::from(weight), hit))
    }

    /// Area under the ROC curve of "wrong" by uncertainty, the probability that a wrong answer has
    /// the larger uncertainty, ties counted one half (Mann-Whitney U). `None` without both right
    /// and wrong answers.
    pub fn auroc(&self, weights: &[u32]) -> Option<f64> {
        let (mut right, mut wrong, mut twice_won) = (0, 0, 0);
        let (mut tied_right, mut tied_wrong) = (0, 0);
        for (place, weight, hit) in self.weighted(weights) {
            *(if hit { &mut tied_right } else { &mut tied_wrong }) += weight;
            if self.closes_tie[place] {
                twice_won += tied_wrong * (2 * right + tied_right);
                right += tied_right;
                wrong += tied_wrong;
                (tied_right, tied_wrong) = (0, 0);
            }
        }
        (right > 0 && wrong > 0).then(|| twice_won as f64 / (2 * right * wrong) as f64)
    }

    /// Share of right answers that are flagged by the largest threshold that flags at least 95 %
    /// of the wrong ones; equal uncertainties are flagged together. `None` without both classes.
    pub fn fpr95(&self, weights: &[u32]) -> Option<f64> {
        let (mut right, mut wrong) = (0, 0);
        for (_, weight, hit) in self.weighted(weights) {
            *(if hit { &mut right } else { &mut wrong }) += weight;
        }
        if right == 0 || wrong == 0 {
            return None;
        }
        let (mut flagged_right, mut flagged_wrong) = (0, 0);
        for (place, weight, hit) in self.weighted(weights).rev() {
            *(if hit { &mut flagged_right } else { &mut flagged_wrong }) += weight;
            let complete = place == 0 || self.closes_tie[place - 1];
            if complete && 20 * flagged_wrong >= 19 * wrong {
                break;
            }
        }
        Some(flagged_right as f64 / right as f64)
    }

    /// Area under the risk-coverage curve, equal uncertainties in their order, and that above the
    /// best order.
    ///
    /// A query with weight w behind `n` others with `e` errors adds the sum over j = 1..w of
    /// e / (n + j) where it is right, and of (e + j) / (n + j) = 1 + (e - n) / (n + j) where not.
    pub fn aurc(&self, weights: &[u32], harmonic: &Harmonic) -> [f64; 2] {
        let (mut count, mut errors, mut sum) = (0usize, 0usize, 0.0);
        for (_, weight, hit) in self.weighted(weights) {
            let weight = weight as usize;
            let share = harmonic.0[count + weight] - harmonic.0[count];
            sum += match hit {
                true => errors as f64 * share,
                false => weight as f64 + (errors as f64 - count as f64) * share,
            };
            count += weight;
            errors += if hit { 0 } else { weight };
        }
        let aurc = sum / count as f64;
        [aurc, (aurc - harmonic.best_aurc(count - errors, count)).max(0.0)]
    }

    /// Share of hits among the `answered` (at least 1) least uncertain.
    pub fn recall_of_first(&self, weights: &[u32], answered: usize) -> f64 {
        let (mut room, mut right) = (answered as u64, 0);
        for (_, weight, hit) in self.weighted(weights) {
            let taken = weight.min(room);
            room -= taken;
            right += if hit { taken } else { 0 };
            if room == 0 {
                break;
            }
        }
        right as f64 / answered as f64
    }

    /// Queries and hits of each of `bins` levels, formed anew for these weights.
    pub fn levels(&self, weights: &[u32], bins: usize, binning: Binning) -> Vec<Tally> {
        let mut levels = vec![Tally::default(); bins];
        let mut add = |level: usize, count: u64, hit: bool| {
            levels[level].count += count;
            levels[level].hits += if hit { count } else { 0 };
        };
        let drawn = |&(_, weight, _): &(usize, u64, bool)| weight > 0;
        let present = || self.weighted(weights).filter(drawn);
        let (Some(first), Some(last)) = (present().next(), present().next_back()) else {
            return levels;
        };
        let (lowest, highest) = (self.uncertainty[first.0], self.uncertainty[last.0]);
        match binning {
            Binning::Quantile => {
                let total = weights.iter().map(|&weight| weight as usize).sum();
                let size = |level| quantile_size(total, bins, level) as u64;
                let (mut level, mut room) = (0, size(0));
                for (_, mut weight, hit) in present() {
                    while weight > 0 && level < bins {
                        let taken = weight.min(room);
                        add(level, taken, hit);
                        weight -= taken;
                        room -= taken;
                        if room == 0 {
                            level += 1;
                            room = size(level);
                        }
                    }
                }
            }
            Binning::Width => {
                for (place, weight, hit) in present() {
                    add(width_level(self.uncertainty[place], lowest, highest, bins), weight, hit);
                }
            }
            Binning::CumulativeWidth => {
                let edges = cumulative_edges(lowest, highest, bins);
                for (place, weight, hit) in present() {
                    let lowest_level = edges.partition_point(|&e| e < self.uncertainty[place]);
                    add(lowest_level.min(bins - 1), weight, hit);
                }
                for level in 1..bins {
                    levels[level].count += levels[level - 1].count;
                    levels[level].hits += levels[level - 1].hits;
                }
            }
        }
        levels
    }
}

/// -S·R² of recall over the numbers of the levels that hold a query.
pub(super) fn minus_s_r2(levels: impl IntoIterator<Item = Tally>) -> f64 {
    let filled = levels.into_iter().enumerate().filter(|(_, level)| level.count > 0);
    let (x, y): (Vec<f64>, Vec<f64>) =
        filled.map(|(i, level)| (i as f64, level.hits as f64 / level.count as f64)).unzip();
    trend(&x, &y).map_or(0.0, |trend| trend.minus_s_r2())
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::{selective_risk, uncertainty_bins};
    use super::*;

    /// 60 queries with 13 distinct uncertainties, that both this and a NumPy script can make:
    /// `i = arange(60); u = (i * 37 % 101) // 8 * .5; hit = i * 53 % 97 + 30 > 20 * u`.
    pub fn table() -> (Vec<f64>, Vec<bool>) {
        let uncertainty: Vec<f64> = (0..60).map(|i| f64::from(i * 37 % 101 / 8) * 0.5).collect();
        let hits = (0..60).zip(&uncertainty);
        let hits = hits.map(|(i, u)| f64::from(i * 53 % 97 + 30) > 20.0 * u).collect();
        (uncertainty, hits)
    }

    /// Weights 0 to 3, and the same queries written out that often.
    fn copies(uncertainty: &[f64], hits: &[bool]) -> (Vec<u32>, Vec<f64>, Vec<bool>) {
        // 60 in all, as in a bootstrap
        let weights: Vec<u32> = (0..60).map(|i| [0, 3, 1, 0, 2, 0][i % 6]).collect();
        assert_eq!(weights.iter().sum::<u32>(), 60);
        let written = || (0..60).flat_map(|i| std::iter::repeat_n(i, weights[i] as usize));
        let copied = (written().map(|i| uncertainty[i]), written().map(|i| hits[i]));
        (weights.clone(), copied.0.collect(), copied.1.collect())
    }

    #[test]
    fn weights_give_what_written_out_copies_give() {
        let (uncertainty, hits) = table();
        let ranked = Ranked::new(&uncertainty, &hits).unwrap();
        let (weights, copied, copied_hits) = copies(&uncertainty, &hits);
        let mut in_order = Vec::new();
        ranked.gather(&weights, &mut in_order);
        let written = Ranked::new(&copied, &copied_hits).unwrap();
        let ones = [1; 60];
        assert_eq!(ranked.auroc(&in_order), written.auroc(&ones));
        assert_eq!(ranked.fpr95(&in_order), written.fpr95(&ones));
        let harmonic = Harmonic::new(60);
        let risk = selective_risk(&copied, &copied_hits).unwrap();
        let [aurc, excess] = ranked.aurc(&in_order, &harmonic);
        assert!((aurc - risk.aurc).abs() < 1e-12, "{aurc} {}", risk.aurc);
        assert!((excess - risk.excess_aurc).abs() < 1e-12);
        assert_eq!(ranked.recall_of_first(&in_order, 31), written.recall_of_first(&ones, 31));
        for binning in [Binning::Quantile, Binning::Width, Binning::CumulativeWidth] {
            for bins in [1, 4, 7, 20] {
                let levels = ranked.levels(&in_order, bins, binning);
                let filled = levels.iter().enumerate().filter(|(_, level)| level.count > 0);
                let got: Vec<_> = filled
                    .map(|(i, l)| (i, l.count as usize, l.hits as f64 / l.count as f64))
                    .collect();
                let expected = uncertainty_bins(&copied, &copied_hits, bins, binning).unwrap();
                let expected: Vec<_> =
                    expected.iter().map(|b| (b.index, b.count, b.recall)).collect();
                assert_eq!(got, expected, "{binning:?} {bins}");
            }
        }
    }
}
