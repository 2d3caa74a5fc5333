//! How recall falls over uncertainty levels, and how much of that is chance.

use rand::seq::SliceRandom;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::EvaluationError;
use super::bins::{Binning, UncertaintyBin, level_places, uncertainty_bins};
use super::correlation::{Trend, trend};
use super::error::check_at_least;
use super::ranked::{Ranked, Tally, minus_s_r2};
use super::resampling::{FIRST_PERMUTATION, Queries, bootstrap, estimate, quantile};
use crate::random::{Stream, generator};

/// Rounding that separates equal scores of two orders.
const ROUNDING: f64 = 1e-12;

/// Recall over levels of growing uncertainty (ProbVLM, arXiv 2307.00398, section 4.1), scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelTrend {
    /// Levels asked for.
    pub requested: usize,
    pub binning: Binning,
    /// Those that hold a query, lowest uncertainty first.
    pub levels: Vec<UncertaintyBin>,
    /// S: Spearman's correlation of level and recall, in `-1..=1`.
    pub spearman: f64,
    /// R² of the least-squares line, in `0..=1`.
    pub r_squared: f64,
    /// -S·R², in `-1..=1`, 1 is ideal. With the uncertainty negated it has the opposite sign, up
    /// to how ties fall.
    pub minus_s_r2: f64,
    /// 95 % bootstrap interval of -S·R² over queries.
    pub interval: [f64; 2],
    /// Share of random orders of the queries whose -S·R² is at least as large.
    pub p_value: f64,
    /// What one random order in twenty exceeds.
    pub null_95: f64,
}

/// How [`level_trend`] forms levels and resamples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TrendOptions {
    /// Number of levels, at least 1; 5 in ProbVLM's table 1, 10 in most other work.
    pub levels: usize,
    pub binning: Binning,
    /// Bootstrap replicates behind the interval, at least 1.
    pub bootstrap: usize,
    /// Random orders behind p and the null, at least 1.
    pub permutations: usize,
    pub seed: u64,
}

/// Recall per level, S, R² and -S·R² over the number of the level, with a bootstrap interval over
/// queries (levels are formed anew in each replicate) and a one-sided permutation test.
///
/// p is (1 + orders with at least the score found) / (1 + orders), so it is never 0 and its test
/// is exact (Phipson and Smyth, "Permutation P-values Should Never Be Zero", 2010). A random order
/// keeps the levels and shuffles which queries hit.
///
/// Where there is nothing to order, S, R², -S·R², its interval and null are 0 and p is 1: fewer
/// queries than levels, all queries right or all wrong, or one uncertainty for all queries. In the
/// last case there is a single level.
///
/// # Errors
/// When there is no query, the lengths differ, an uncertainty is not finite, or a number of levels,
/// replicates or orders is 0.
pub fn level_trend<'a>(
    uncertainty: &[f64],
    queries: impl Into<Queries<'a>>,
    options: &TrendOptions,
) -> Result<LevelTrend, EvaluationError> {
    let queries = queries.into();
    queries.check()?;
    let hits = queries.hits;
    let &TrendOptions { levels: requested, binning, seed, .. } = options;
    check_at_least("the number of levels", requested, 1)?;
    check_at_least("the number of bootstrap replicates", options.bootstrap, 1)?;
    check_at_least("the number of permutations", options.permutations, 1)?;
    let ranked = Ranked::new(uncertainty, hits)?;
    let formed = if ranked.is_constant() { 1 } else { requested };
    let levels = uncertainty_bins(uncertainty, hits, formed, binning)?;
    let flat = ranked.is_constant() || ranked.is_one_class() || ranked.len() < requested;
    if flat {
        return Ok(LevelTrend {
            requested,
            binning,
            levels,
            spearman: 0.0,
            r_squared: 0.0,
            minus_s_r2: 0.0,
            interval: [0.0; 2],
            p_value: 1.0,
            null_95: 0.0,
        });
    }
    let found = trend_of(&levels)?;
    let score = found.minus_s_r2();
    let replicates = bootstrap(queries, options.bootstrap, seed, Vec::new, |drawn, _, in_order| {
        ranked.gather(drawn, in_order);
        minus_s_r2(ranked.levels(in_order, requested, binning))
    });
    let interval = estimate(score, replicates, [0.0; 2]);
    let null = null_scores(&ranked, options);
    let as_large = null.iter().filter(|&&other| other >= score - ROUNDING).count();
    Ok(LevelTrend {
        requested,
        binning,
        levels,
        spearman: found.spearman,
        r_squared: found.r_squared,
        minus_s_r2: score,
        interval: [interval.low, interval.high],
        p_value: (1 + as_large) as f64 / (1 + null.len()) as f64,
        null_95: quantile(&null, 0.95),
    })
}

/// Trend of recall over the number of the level.
fn trend_of(levels: &[UncertaintyBin]) -> Result<Trend, EvaluationError> {
    let (x, y): (Vec<f64>, Vec<f64>) =
        levels.iter().map(|level| (level.index as f64, level.recall)).unzip();
    trend(&x, &y)
}

/// -S·R² of random orders, ascending.
fn null_scores(ranked: &Ranked, options: &TrendOptions) -> Vec<f64> {
    let places = level_places(ranked.uncertainty(), options.levels, options.binning);
    let hits: Vec<u8> = ranked.hits().iter().map(|&hit| u8::from(hit)).collect();
    let mut scores: Vec<f64> = (0..options.permutations as u64)
        .into_par_iter()
        .map_init(
            || hits.clone(),
            |order, permutation| {
                let index = FIRST_PERMUTATION + permutation;
                order.copy_from_slice(&hits);
                order.shuffle(&mut generator(options.seed, Stream::Resampling, index));
                let mut levels = vec![Tally::default(); options.levels];
                for (level, places) in &places {
                    let members = &order[places.clone()];
                    levels[*level] = Tally {
                        count: members.len() as u64,
                        hits: u64::from(members.iter().map(|&hit| u32::from(hit)).sum::<u32>()),
                    };
                }
                minus_s_r2(levels)
            },
        )
        .collect();
    scores.sort_by(f64::total_cmp);
    scores
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    fn options(levels: usize, seed: u64) -> TrendOptions {
        let binning = Binning::Quantile;
        TrendOptions { levels, binning, bootstrap: 400, permutations: 999, seed }
    }

    /// Uniform uncertainties, and hits with probability `rate(u)`.
    fn queries(count: usize, seed: u64, rate: impl Fn(f64) -> f64) -> (Vec<f64>, Vec<bool>) {
        let mut rng = generator(seed, Stream::TrainingOrder, 0);
        (0..count)
            .map(|_| {
                let u = rng.random::<f64>();
                (u, rng.random::<f64>() < rate(u))
            })
            .unzip()
    }

    #[test]
    fn recall_that_falls_with_uncertainty_scores_near_one_and_its_negation_near_minus_one() {
        let (uncertainty, hits) = queries(4000, 1, |u| 0.9 - 0.8 * u);
        let found = level_trend(&uncertainty, &hits, &options(10, 0)).unwrap();
        assert!(found.minus_s_r2 > 0.95 && found.p_value == 0.001, "{found:?}");
        assert!(found.interval[0] > 0.9 && found.interval[1] <= 1.0, "{found:?}");
        assert!(found.interval[0] <= found.minus_s_r2);
        assert_eq!(found.levels.len(), 10);
        let negated: Vec<f64> = uncertainty.iter().map(|u| -u).collect();
        let opposite = level_trend(&negated, &hits, &options(10, 0)).unwrap();
        assert!((opposite.minus_s_r2 + found.minus_s_r2).abs() < 1e-12);
        assert_eq!(opposite.p_value, 1.0);
    }

    #[test]
    fn an_inverted_score_fails_the_one_sided_test_in_every_binning() {
        let (uncertainty, hits) = queries(2000, 4, |u| 0.2 + 0.6 * u);
        for binning in [Binning::Quantile, Binning::Width, Binning::CumulativeWidth] {
            let options = TrendOptions { binning, ..options(5, 0) };
            let found = level_trend(&uncertainty, &hits, &options).unwrap();
            assert!(found.minus_s_r2 < -0.7 && found.p_value > 0.97, "{binning:?} {found:?}");
        }
    }

    #[test]
    fn noise_reaches_the_published_null_scores_one_time_in_twenty() {
        let (uncertainty, hits) = queries(5000, 2, |_| 0.4);
        for (levels, expected) in [(5, 0.51), (10, 0.16), (20, 0.05)] {
            let options = TrendOptions { permutations: 6000, bootstrap: 1, ..options(levels, 3) };
            let found = level_trend(&uncertainty, &hits, &options).unwrap().null_95;
            assert!((found - expected).abs() < 0.12 * expected + 0.01, "{levels}: {found}");
        }
    }

    #[test]
    fn p_values_of_noise_are_uniform() {
        let mut p: Vec<f64> = (0..200)
            .map(|seed| {
                let (uncertainty, hits) = queries(300, 1000 + seed, |_| 0.3);
                let options = TrendOptions { permutations: 499, bootstrap: 1, ..options(5, seed) };
                level_trend(&uncertainty, &hits, &options).unwrap().p_value
            })
            .collect();
        p.sort_by(f64::total_cmp);
        let distance = |(i, p): (usize, &f64)| {
            (p - i as f64 / 200.0).abs().max((p - (i + 1) as f64 / 200.0).abs())
        };
        let ks = p.iter().enumerate().map(distance).fold(0.0, f64::max);
        // 1.63 / sqrt(200): what one uniform sample in a hundred exceeds.
        assert!(ks < 0.115, "{ks}");
    }

    #[test]
    fn captions_that_stand_and_fall_together_do_not_make_noise_significant() {
        // Each image decides for its five captions alike, and has one uncertainty for all five.
        // Shuffling single captions is still a fair test: the score sees a trend, not its size.
        let images = 60;
        let significant = (0..200).filter(|&seed| {
            let (uncertainty, hits) = queries(images, 3000 + seed, |_| 0.4);
            let five_times = |i: usize| i / 5;
            let uncertainty: Vec<f64> =
                (0..5 * images).map(|i| uncertainty[five_times(i)]).collect();
            let hits: Vec<bool> = (0..5 * images).map(|i| hits[five_times(i)]).collect();
            let options = TrendOptions { permutations: 199, bootstrap: 1, ..options(5, seed) };
            level_trend(&uncertainty, &hits, &options).unwrap().p_value <= 0.05
        });
        // Ten of 200 are due; 20 or more have a chance of one in 300.
        let count = significant.count();
        assert!(count < 20, "{count}");
    }

    #[test]
    fn nothing_to_order_is_no_trend_and_not_a_number_of_luck() {
        let cases: [(&str, Vec<f64>, Vec<bool>); 4] = [
            ("few", vec![1.0, 2.0, 3.0], vec![true, false, false]),
            ("right", (0..9).map(f64::from).collect(), vec![true; 9]),
            ("wrong", (0..9).map(f64::from).collect(), vec![false; 9]),
            ("constant", vec![2.0; 9], (0..9).map(|i| i < 4).collect()),
        ];
        for (name, uncertainty, hits) in cases {
            for binning in [Binning::Quantile, Binning::Width, Binning::CumulativeWidth] {
                let options = TrendOptions { binning, ..options(5, 0) };
                let found = level_trend(&uncertainty, &hits, &options).unwrap();
                assert_eq!((found.minus_s_r2, found.p_value, found.null_95), (0.0, 1.0, 0.0));
                assert_eq!(found.interval, [0.0; 2]);
                assert_eq!(found.levels.len() == 1, name == "constant", "{name} {binning:?}");
            }
        }
    }

    #[test]
    fn the_result_repeats_and_bad_input_is_refused() {
        let (uncertainty, hits) = queries(300, 5, |u| 1.0 - u);
        let run = |options| level_trend(&uncertainty, &hits, &options);
        assert_eq!(run(options(5, 7)), run(options(5, 7)));
        assert_ne!(run(options(5, 7)).unwrap().interval, run(options(5, 8)).unwrap().interval);
        assert!(run(options(0, 0)).is_err());
        assert!(run(TrendOptions { bootstrap: 0, ..options(5, 0) }).is_err());
        assert!(run(TrendOptions { permutations: 0, ..options(5, 0) }).is_err());
        assert!(level_trend(&[f64::NAN], &[true], &options(5, 0)).is_err());
        assert!(level_trend(&[1.0], &[], &options(5, 0)).is_err());
        assert!(level_trend(&[], &[], &options(5, 0)).is_err());
    }
}
