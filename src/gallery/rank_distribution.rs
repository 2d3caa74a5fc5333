//! What the samples of an embedding distribution say about the ranks of gallery items.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ExactSearch, GalleryError, Hit, Placement};

/// Two-sided 95 % quantile of the normal distribution, for Wilson intervals.
const Z_95: f64 = 1.959_963_984_540_054;

/// Share of samples whose best matches [`RankDistribution::covering_set`] holds.
const COVERAGE_PERCENT: usize = 90;

/// Items that are compared with each other at most, see [`RankDistribution::above`].
const COMPARED_ITEMS: usize = 64;

/// Which items are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankOptions {
    /// k of P(in top k), at least 1. The k best items of the mean embedding are listed, and the
    /// k others that are most often in the top k of the samples, as far as there are any.
    pub top_k: usize,
    /// Items to list besides, such as the true matches.
    pub also: Vec<usize>,
    /// Number of samples, from the first, whose own best items are kept.
    pub own_hits: usize,
}

/// Bounds of a share of samples, 0 to 1, given that samples are finitely many.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// One item over all samples.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemRanks {
    /// Row of the gallery.
    pub id: usize,
    /// Rank under the mean embedding; 1 is the best match.
    pub rank_of_mean: usize,
    /// Cosine with the mean embedding.
    pub score_of_mean: f64,
    /// Number of samples whose best match this item is.
    pub top1_count: usize,
    /// Share of samples whose best match this item is.
    pub p_top1: f64,
    /// 95 % Wilson interval of [`ItemRanks::p_top1`] as an estimate from finitely many samples.
    pub p_top1_interval: Interval,
    /// Number of samples that rank this item k-th or better.
    pub top_k_count: usize,
    /// Share of samples that rank this item k-th or better.
    pub p_top_k: f64,
    /// 95 % Wilson interval of [`ItemRanks::p_top_k`].
    pub p_top_k_interval: Interval,
    /// Quantiles of the rank over samples at 5, 25, 50, 75 and 95 %: the smallest rank that at
    /// least that share of samples does not exceed (the inverse of the empirical distribution
    /// function), so always a rank that some sample gave.
    pub rank_q05: usize,
    pub rank_q25: usize,
    pub rank_median: usize,
    pub rank_q75: usize,
    pub rank_q95: usize,
    /// Mean over samples of the cosine.
    pub score_mean: f64,
    /// Standard deviation over samples of the cosine (divisor S - 1); 0 for a single sample.
    pub score_sd: f64,
}

/// The rank distribution of a query over a gallery.
#[derive(Debug, Clone, PartialEq)]
pub struct RankDistribution {
    /// By the mean embedding's ranking.
    pub items: Vec<ItemRanks>,
    /// The best match of each sample, `[S]`.
    pub best: Vec<Hit>,
    /// The first [`RankOptions::own_hits`] samples' own `top_k` best items, best first.
    pub own_hits: Vec<Vec<Hit>>,
    /// `[n][n]` over the first n of `items`, at most 64: share of samples in which item i ranks
    /// before item j; 0 on the diagonal.
    pub above: Vec<Vec<f32>>,
    /// Number of samples S.
    pub samples: usize,
    /// k of P(in top k).
    pub top_k: usize,
    /// The smallest set of items that holds the best match of at least 90 % of samples: most
    /// frequent first, ties by the lower id.
    pub covering_set: Vec<usize>,
    /// Number of items that are the best match of at least one sample.
    pub distinct_top1: usize,
    /// Entropy in nats of the distribution of the best match over samples (plug-in estimate:
    /// low by about (distinct_top1 - 1) / 2S; Miller 1955). 0 when all samples agree; its
    /// exponential is an effective number of candidates.
    pub top1_entropy: f64,
}

impl RankDistribution {
    /// Ranks the gallery by `mean` `[D]` and by each of `samples`, S of `[D]`.
    ///
    /// # Errors
    /// When there are no samples, an item of `also` does not exist, or an embedding has the wrong
    /// dimension or a value that is not finite.
    pub fn new(
        search: &ExactSearch,
        mean: &[f32],
        samples: &[Vec<f32>],
        options: &RankOptions,
    ) -> Result<Self, GalleryError> {
        if samples.is_empty() {
            return Err(GalleryError::NoSamples);
        }
        let top_k = options.top_k.max(1);
        let mean = [mean.to_vec()];
        let top_of_mean = search.search(&mean, top_k)?.swap_remove(0);
        let mut top_of_samples = search.search(samples, top_k)?;
        let ids = listed(&top_of_mean, &top_of_samples, top_k, &options.also);
        let of_mean = search.ranks_of(&mean, &ids)?.swap_remove(0);
        let of_samples = search.ranks_of(samples, &ids)?;

        let mut order: Vec<usize> = (0..ids.len()).collect();
        order.sort_by_key(|&i| of_mean[i].rank);
        let items: Vec<_> = order
            .iter()
            .map(|&i| {
                let mut ranks: Vec<_> = of_samples.iter().map(|sample| sample[i].rank).collect();
                let scores: Vec<_> = of_samples.iter().map(|sample| sample[i].score).collect();
                ranks.sort_unstable();
                let within = |k| ranks.partition_point(|&rank| rank <= k);
                let (score_mean, score_sd) = mean_and_sd(&scores);
                ItemRanks {
                    id: ids[i],
                    rank_of_mean: of_mean[i].rank,
                    score_of_mean: of_mean[i].score,
                    top1_count: within(1),
                    p_top1: within(1) as f64 / samples.len() as f64,
                    p_top1_interval: wilson(within(1), samples.len()),
                    top_k_count: within(top_k),
                    p_top_k: within(top_k) as f64 / samples.len() as f64,
                    p_top_k_interval: wilson(within(top_k), samples.len()),
                    rank_q05: ranks[quantile_index(5, ranks.len())],
                    rank_q25: ranks[quantile_index(25, ranks.len())],
                    rank_median: ranks[quantile_index(50, ranks.len())],
                    rank_q75: ranks[quantile_index(75, ranks.len())],
                    rank_q95: ranks[quantile_index(95, ranks.len())],
                    score_mean,
                    score_sd,
                }
            })
            .collect();
        let winners = count_top1(&top_of_samples);
        let best = top_of_samples.iter().filter_map(|hits| hits.first().copied()).collect();
        order.truncate(COMPARED_ITEMS);
        Ok(Self {
            items,
            best,
            above: above(&of_samples, &order),
            own_hits: {
                top_of_samples.truncate(options.own_hits);
                top_of_samples
            },
            samples: samples.len(),
            top_k,
            covering_set: covering_set(&winners, samples.len()),
            distinct_top1: winners.len(),
            top1_entropy: entropy(&winners, samples.len()),
        })
    }

    /// The items by their median rank over samples, ties by the ranking of the mean.
    pub fn by_median_rank(&self) -> Vec<&ItemRanks> {
        let mut items: Vec<_> = self.items.iter().collect();
        items.sort_by_key(|item| (item.rank_median, item.rank_of_mean));
        items
    }
}

/// Ids of the listed items, each once.
fn listed(
    top_of_mean: &[Hit],
    top_of_samples: &[Vec<Hit>],
    top_k: usize,
    also: &[usize],
) -> Vec<usize> {
    let mut ids: Vec<_> = top_of_mean.iter().map(|hit| hit.id).collect();
    let mut frequency = HashMap::new();
    for hit in top_of_samples.iter().flatten() {
        *frequency.entry(hit.id).or_insert(0usize) += 1;
    }
    for id in &ids {
        frequency.remove(id);
    }
    ids.extend(most_frequent_first(frequency).into_iter().take(top_k).map(|(id, _)| id));
    ids.extend(also);
    let mut seen = std::collections::HashSet::new();
    ids.retain(|&id| seen.insert(id));
    ids
}

/// Share of samples that rank item `order[i]` before item `order[j]`: `[i][j]`.
fn above(of_samples: &[Vec<Placement>], order: &[usize]) -> Vec<Vec<f32>> {
    let share = |i: usize, j: usize| {
        let before = of_samples.iter().filter(|ranks| ranks[i].rank < ranks[j].rank).count();
        (before as f64 / of_samples.len() as f64) as f32
    };
    order.par_iter().map(|&i| order.iter().map(|&j| share(i, j)).collect()).collect()
}

/// How often each item is the best match, most frequent first.
fn count_top1(top_of_samples: &[Vec<Hit>]) -> Vec<(usize, usize)> {
    let mut counts = HashMap::new();
    for hit in top_of_samples.iter().filter_map(|hits| hits.first()) {
        *counts.entry(hit.id).or_insert(0usize) += 1;
    }
    most_frequent_first(counts)
}

fn most_frequent_first(counts: HashMap<usize, usize>) -> Vec<(usize, usize)> {
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_unstable_by_key(|&(id, count)| (std::cmp::Reverse(count), id));
    counts
}

fn covering_set(winners: &[(usize, usize)], samples: usize) -> Vec<usize> {
    let needed = (samples * COVERAGE_PERCENT).div_ceil(100);
    let mut covered = 0;
    let mut set = Vec::new();
    for &(id, count) in winners {
        if covered >= needed {
            break;
        }
        covered += count;
        set.push(id);
    }
    set
}

fn entropy(winners: &[(usize, usize)], samples: usize) -> f64 {
    let share = |count: usize| count as f64 / samples as f64;
    // Adding zero turns the -0 of a certain outcome into 0.
    -winners.iter().map(|&(_, count)| share(count) * share(count).ln()).sum::<f64>() + 0.0
}

/// Index, in sorted values, of the smallest one that at least `percent` % of them do not exceed.
fn quantile_index(percent: usize, len: usize) -> usize {
    (percent * len).div_ceil(100).max(1) - 1
}

/// 95 % score interval of a binomial share (Wilson 1927). `samples` is at least 1.
pub fn wilson(hits: usize, samples: usize) -> Interval {
    let (n, p) = (samples as f64, hits as f64 / samples as f64);
    let z2 = Z_95 * Z_95;
    let centre = p + z2 / (2.0 * n);
    let half = Z_95 * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z2 / n;
    // Exactly 0 and 1 at the ends, where rounding would leave a trace.
    let low = if hits == 0 { 0.0 } else { (centre - half) / scale };
    let high = if hits == samples { 1.0 } else { (centre + half) / scale };
    Interval { low, high }
}

fn mean_and_sd(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::EmbeddingRows;
    use crate::random::{Stream, standard_normal};

    /// A gallery on the unit circle at these angles, in degrees.
    fn circle(angles: &[f64]) -> ExactSearch {
        let values = angles.iter().flat_map(|&angle| at(angle)).collect();
        ExactSearch::new(EmbeddingRows::from_values(values, 2).unwrap()).unwrap()
    }

    fn at(degrees: f64) -> Vec<f32> {
        let radians = degrees.to_radians();
        vec![radians.cos() as f32, radians.sin() as f32]
    }

    fn options(top_k: usize) -> RankOptions {
        RankOptions { top_k, also: Vec::new(), own_hits: 0 }
    }

    #[test]
    fn shares_ranks_and_scores_are_those_counted_by_hand() {
        // Items at 0, 10, 20 and 90 degrees; of ten samples seven lie at 1, two at 12, one at 80.
        let search = circle(&[0.0, 10.0, 20.0, 90.0]);
        let samples: Vec<_> =
            [vec![1.0; 7], vec![12.0; 2], vec![80.0]].concat().into_iter().map(at).collect();
        let ranks = RankDistribution::new(&search, &at(4.0), &samples, &options(2)).unwrap();
        assert_eq!(ranks.items.iter().map(|i| i.id).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let first = &ranks.items[0];
        assert_eq!((first.rank_of_mean, first.p_top1, first.p_top_k), (1, 0.7, 0.7));
        // At 12 degrees: 10, 20, 0, 90. At 80: 90, 20, 10, 0.
        assert_eq!((first.rank_q05, first.rank_median, first.rank_q95), (1, 1, 4));
        let second = &ranks.items[1];
        assert_eq!((second.p_top1, second.p_top_k), (0.2, 0.9));
        assert_eq!((second.rank_q05, second.rank_median, second.rank_q95), (1, 2, 3));
        assert_eq!((second.rank_q25, second.rank_q75), (2, 2));
        assert_eq!((second.top1_count, second.top_k_count), (2, 9));
        // Item 1 stands before item 0 at 12 and at 80 degrees, before item 2 at 1 and at 12.
        assert_eq!((ranks.above[1][0], ranks.above[1][2]), (0.3, 0.9));
        let cosines = [(7.0, 9f64), (2.0, 2.0), (1.0, 70.0)];
        let mean = cosines.map(|(n, d)| n * d.to_radians().cos()).iter().sum::<f64>() / 10.0;
        let variance =
            cosines.map(|(n, d)| n * (d.to_radians().cos() - mean).powi(2)).iter().sum::<f64>()
                / 9.0;
        assert!((second.score_mean - mean).abs() < 1e-6);
        assert!((second.score_sd - variance.sqrt()).abs() < 1e-6);
        assert!((second.score_of_mean - 6f64.to_radians().cos()).abs() < 1e-6);
        assert_eq!(ranks.distinct_top1, 3);
        assert_eq!(ranks.covering_set, [0, 1]);
        let expected = -(0.7f64 * 0.7f64.ln() + 0.2 * 0.2f64.ln() + 0.1 * 0.1f64.ln());
        assert!((ranks.top1_entropy - expected).abs() < 1e-12);
    }

    #[test]
    fn items_that_only_the_samples_rank_high_are_listed_too_and_sorted_by_the_mean() {
        let angles: Vec<f64> = (0..60).map(f64::from).collect();
        let search = circle(&angles);
        let samples: Vec<_> = [30.0, 30.2, 50.0, 50.0, 50.2].map(at).into();
        let also = RankOptions { top_k: 1, also: vec![7, 50], own_hits: 0 };
        let ranks = RankDistribution::new(&search, &at(10.0), &samples, &also).unwrap();
        let ids: Vec<_> = ranks.items.iter().map(|item| item.id).collect();
        assert_eq!(ids, [10, 7, 50]);
        let by_median: Vec<_> = ranks.by_median_rank().iter().map(|item| item.id).collect();
        assert_eq!(by_median, [50, 10, 7]);
    }

    #[test]
    fn probabilities_of_all_items_add_up() {
        let dim = 6;
        let numbers = |index, n| standard_normal(2, Stream::EmbeddingSamples, index, n * dim);
        let rows = EmbeddingRows::from_values(numbers(0, 30), dim).unwrap();
        let search = ExactSearch::new(rows).unwrap();
        let samples: Vec<_> = numbers(1, 200).chunks(dim).map(<[f32]>::to_vec).collect();
        let mut options = options(5);
        options.also = (0..30).collect();
        let ranks = RankDistribution::new(&search, &[1.0; 6], &samples, &options).unwrap();
        let sum = |f: fn(&ItemRanks) -> f64| ranks.items.iter().map(f).sum::<f64>();
        assert_eq!(ranks.items.len(), 30);
        assert!((sum(|i| i.p_top1) - 1.0).abs() < 1e-12);
        assert!((sum(|i| i.p_top_k) - 5.0).abs() < 1e-12);
        for item in &ranks.items {
            assert!(item.p_top1_interval.low <= item.p_top1);
            assert!(item.p_top1_interval.high >= item.p_top1);
            let ranks = [item.rank_q05, item.rank_q25, item.rank_median, item.rank_q75];
            assert!(ranks.is_sorted() && item.rank_q75 <= item.rank_q95);
        }
        for (i, row) in ranks.above.iter().enumerate() {
            assert_eq!(row[i], 0.0);
            for j in (0..row.len()).filter(|&j| j != i) {
                assert!((row[j] + ranks.above[j][i] - 1.0).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn the_hits_kept_for_a_sample_are_those_of_a_search_with_it() {
        let dim = 5;
        let numbers = |index, n| standard_normal(9, Stream::EmbeddingSamples, index, n * dim);
        let rows = EmbeddingRows::from_values(numbers(0, 200), dim).unwrap();
        let search = ExactSearch::new(rows).unwrap();
        let samples: Vec<_> = numbers(1, 12).chunks(dim).map(<[f32]>::to_vec).collect();
        let options = RankOptions { own_hits: 4, ..options(7) };
        let ranks = RankDistribution::new(&search, &samples[0], &samples, &options).unwrap();
        assert_eq!(ranks.own_hits.len(), 4);
        for (sample, hits) in samples.iter().zip(&ranks.own_hits) {
            let alone = search.search(std::slice::from_ref(sample), 7).unwrap();
            assert_eq!(*hits, alone[0]);
        }
        assert!(ranks.above.len() <= COMPARED_ITEMS);
    }

    #[test]
    fn equal_rows_are_ordered_by_the_lower_one_in_every_sample() {
        let search = circle(&[30.0, 30.0, 90.0]);
        let samples: Vec<_> = [10.0, 20.0, 40.0].map(at).into();
        let ranks = RankDistribution::new(&search, &at(30.0), &samples, &options(3)).unwrap();
        assert_eq!((ranks.above[0][1], ranks.above[1][0]), (1.0, 0.0));
    }

    #[test]
    fn quantiles_are_the_smallest_rank_that_the_share_does_not_exceed() {
        // 5 % of 20 is one value exactly, of 21 needs two.
        assert_eq!((quantile_index(5, 20), quantile_index(5, 21)), (0, 1));
        assert_eq!((quantile_index(50, 4), quantile_index(50, 5)), (1, 2));
        assert_eq!((quantile_index(95, 20), quantile_index(95, 21)), (18, 19));
        assert_eq!((quantile_index(5, 1), quantile_index(95, 1)), (0, 0));
    }

    #[test]
    fn wilson_intervals_have_their_published_values() {
        // Newcombe (1998), Statistics in Medicine 17, table I, method 3.
        for (hits, samples, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let found = wilson(hits, samples);
            assert!((found.low - low).abs() < 5e-5, "{found:?}");
            assert!((found.high - high).abs() < 5e-5, "{found:?}");
        }
        assert_eq!(wilson(7, 7).high, 1.0);
    }

    #[test]
    fn agreeing_samples_have_no_entropy_and_one_candidate() {
        let search = circle(&[0.0, 90.0]);
        let ranks =
            RankDistribution::new(&search, &at(0.0), &[at(1.0), at(2.0)], &options(1)).unwrap();
        assert_eq!((ranks.top1_entropy, ranks.distinct_top1), (0.0, 1));
        assert_eq!(ranks.covering_set, [0]);
        assert!(matches!(
            RankDistribution::new(&search, &at(0.0), &[], &options(1)).unwrap_err(),
            GalleryError::NoSamples
        ));
    }
}
