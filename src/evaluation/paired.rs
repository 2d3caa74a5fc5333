//! Methods compared on the same queries, with what the queries and the training seeds leave open.

use rand::{Rng, RngExt};

use super::bins::Binning;
use super::error::check_at_least;
use super::estimate::Estimate;
use super::ranked::{Harmonic, Ranked, minus_s_r2};
use super::resampling::{Queries, bootstrap, estimate};
use super::{EvaluationError, selective_risk};

/// What of a method is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairedStatistic {
    /// Area under the risk-coverage curve, lower is better.
    Aurc,
    /// -S·R² over levels of equal count, higher is better; 0 where there is nothing to order, as
    /// in [`level_trend`](super::level_trend).
    MinusSR2 { levels: usize },
    /// Area under the ROC curve of failure, higher is better.
    Auroc,
}

/// Mean over training seeds of one method's statistic, with a 95 % interval.
///
/// `per_seed[s][i]` is the uncertainty of query `i` by the model of seed `s`, `hits[i]` whether
/// its best match is right. Each bootstrap replicate draws queries and seeds, both with
/// replacement; every seed sees the same draw of queries. With few seeds the part that is due to
/// them is underestimated, by a factor (S - 1)/S in its variance.
///
/// # Errors
/// When there is no seed, no query or no replicate, lengths differ, an uncertainty is not finite,
/// a number of levels is 0, or AUROC is asked for and all queries are right, or all wrong.
pub fn seed_estimate<'a>(
    per_seed: &[&[f64]],
    queries: impl Into<Queries<'a>>,
    statistic: PairedStatistic,
    replicates: usize,
    seed: u64,
) -> Result<Estimate, EvaluationError> {
    let queries = queries.into();
    let method = Seeds::new(per_seed, queries.hits, statistic)?;
    resampled(&[method], queries, statistic, replicates, seed)
}

/// The statistic of `a` minus that of `b`, each the mean over its training seeds, with a 95 %
/// interval over queries and seeds, as in [`seed_estimate`].
///
/// Both see the same draw of queries. Where they have the same number of seeds these are taken as
/// pairs (the same seed trained both) and drawn together, else apart.
///
/// # Errors
/// Those of [`seed_estimate`].
pub fn paired_difference<'a>(
    a: &[&[f64]],
    b: &[&[f64]],
    queries: impl Into<Queries<'a>>,
    statistic: PairedStatistic,
    replicates: usize,
    seed: u64,
) -> Result<Estimate, EvaluationError> {
    let queries = queries.into();
    let hits = queries.hits;
    let methods = [Seeds::new(a, hits, statistic)?, Seeds::new(b, hits, statistic)?];
    resampled(&methods, queries, statistic, replicates, seed)
}

/// The queries as each seed of one method ranks them.
struct Seeds {
    ranked: Vec<Ranked>,
    /// Mean over seeds of the statistic.
    value: f64,
}

impl Seeds {
    fn new(
        per_seed: &[&[f64]],
        hits: &[bool],
        statistic: PairedStatistic,
    ) -> Result<Self, EvaluationError> {
        check_at_least("the number of seeds", per_seed.len(), 1)?;
        if let PairedStatistic::MinusSR2 { levels } = statistic {
            check_at_least("the number of levels", levels, 1)?;
        }
        let ranked =
            per_seed.iter().map(|u| Ranked::new(u, hits)).collect::<Result<Vec<_>, _>>()?;
        if statistic == PairedStatistic::Auroc && ranked[0].is_one_class() {
            let found = if hits[0] { "right" } else { "wrong" };
            return Err(EvaluationError::OneClass { found });
        }
        let harmonic = Harmonic::new(hits.len());
        let ones = vec![1; hits.len()];
        let mut sum = 0.0;
        for (ranked, uncertainty) in ranked.iter().zip(per_seed) {
            sum += match statistic {
                PairedStatistic::Aurc => selective_risk(uncertainty, hits)?.aurc,
                _ => measure(ranked, &ones, statistic, &harmonic).unwrap_or(0.0),
            };
        }
        Ok(Self { value: sum / per_seed.len() as f64, ranked })
    }
}

/// The statistic of one method, or of the first minus the second.
fn resampled(
    methods: &[Seeds],
    queries: Queries<'_>,
    statistic: PairedStatistic,
    replicates: usize,
    seed: u64,
) -> Result<Estimate, EvaluationError> {
    queries.check()?;
    let hits = queries.hits;
    check_at_least("the number of bootstrap replicates", replicates, 1)?;
    let harmonic = Harmonic::new(hits.len());
    let minus = |values: &[f64]| values[0] - values.get(1).copied().unwrap_or(0.0);
    let together = methods.windows(2).all(|pair| pair[0].ranked.len() == pair[1].ranked.len());
    let drawn = bootstrap(queries, replicates, seed, Vec::new, |drawn, rng, in_order| {
        let mut times = Vec::new();
        let mut values = Vec::with_capacity(methods.len());
        for (i, method) in methods.iter().enumerate() {
            if i == 0 || !together {
                times = drawn_seeds(method.ranked.len(), rng);
            }
            let mut sum = 0.0;
            for (ranked, &times) in method.ranked.iter().zip(&times).filter(|(_, t)| **t > 0) {
                ranked.gather(drawn, in_order);
                sum += f64::from(times) * measure(ranked, in_order, statistic, &harmonic)?;
            }
            values.push(sum / method.ranked.len() as f64);
        }
        Some(minus(&values))
    });
    let value = minus(&methods.iter().map(|method| method.value).collect::<Vec<_>>());
    // Only AUROC has replicates without a value, those of one class.
    let whole_range = if methods.len() > 1 { [-1.0, 1.0] } else { [0.0, 1.0] };
    Ok(estimate(value, drawn.into_iter().flatten().collect(), whole_range))
}

/// How often each of `count` seeds is drawn.
fn drawn_seeds(count: usize, rng: &mut impl Rng) -> Vec<u32> {
    let mut times = vec![0; count];
    for _ in 0..count {
        times[rng.random_range(0..count)] += 1;
    }
    times
}

/// The statistic of one seed; `None` where it is not defined for these weights.
fn measure(
    ranked: &Ranked,
    weights: &[u32],
    statistic: PairedStatistic,
    harmonic: &Harmonic,
) -> Option<f64> {
    match statistic {
        PairedStatistic::Aurc => Some(ranked.aurc(weights, harmonic)[0]),
        PairedStatistic::Auroc => ranked.auroc(weights),
        PairedStatistic::MinusSR2 { levels } => {
            let flat = ranked.is_constant() || ranked.len() < levels;
            let formed = || ranked.levels(weights, levels, Binning::Quantile);
            Some(if flat { 0.0 } else { minus_s_r2(formed()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::{FailureOptions, TrendOptions, failure_detection, level_trend};
    use crate::random::{Stream, generator};

    /// Hits with probability 1 - u, and uncertainties that are u plus noise of each width.
    fn queries(count: usize, noise: &[f64]) -> (Vec<Vec<f64>>, Vec<bool>) {
        let mut rng = generator(5, Stream::TrainingOrder, 0);
        let mut per_seed = vec![Vec::new(); noise.len()];
        let hits = (0..count)
            .map(|_| {
                let u = rng.random::<f64>();
                for (seed, noise) in per_seed.iter_mut().zip(noise) {
                    seed.push(u + noise * (rng.random::<f64>() - 0.5));
                }
                rng.random::<f64>() > u
            })
            .collect();
        (per_seed, hits)
    }

    fn slices(per_seed: &[Vec<f64>]) -> Vec<&[f64]> {
        per_seed.iter().map(Vec::as_slice).collect()
    }

    #[test]
    fn one_seed_has_the_value_and_the_interval_of_the_single_metric() {
        let (per_seed, hits) = queries(500, &[0.2]);
        let single = failure_detection(&per_seed[0], &hits, &FailureOptions::new(400, 3)).unwrap();
        let run = |statistic| seed_estimate(&slices(&per_seed), &hits, statistic, 400, 3).unwrap();
        assert_eq!(run(PairedStatistic::Aurc), single.aurc);
        assert_eq!(run(PairedStatistic::Auroc), single.auroc.unwrap());
        let options = TrendOptions {
            levels: 5,
            binning: Binning::Quantile,
            bootstrap: 400,
            permutations: 1,
            seed: 3,
        };
        let trend = level_trend(&per_seed[0], &hits, &options).unwrap();
        let found = run(PairedStatistic::MinusSR2 { levels: 5 });
        assert!((found.value - trend.minus_s_r2).abs() < 1e-12);
        assert_eq!([found.low, found.high], trend.interval);
    }

    #[test]
    fn a_better_method_differs_in_the_right_direction_and_an_equal_one_not_at_all() {
        let (per_seed, hits) = queries(1500, &[0.1, 0.15, 0.1, 20.0, 25.0]);
        let all = slices(&per_seed);
        let (good, bad) = all.split_at(3);
        let risk = paired_difference(good, bad, &hits, PairedStatistic::Aurc, 300, 1).unwrap();
        assert!(risk.high < 0.0 && risk.low < risk.value && risk.value < risk.high, "{risk:?}");
        let auroc = paired_difference(good, bad, &hits, PairedStatistic::Auroc, 300, 1).unwrap();
        assert!(auroc.low > 0.1, "{auroc:?}");
        let same = paired_difference(good, good, &hits, PairedStatistic::Aurc, 300, 1).unwrap();
        assert_eq!((same.value, same.low, same.high), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_value_is_the_mean_over_seeds_and_seeds_that_disagree_widen_the_interval() {
        let (per_seed, hits) = queries(2000, &[0.0, 30.0]);
        let all = slices(&per_seed);
        let of =
            |seeds: &[&[f64]]| seed_estimate(seeds, &hits, PairedStatistic::Auroc, 400, 2).unwrap();
        let (first, second, both) = (of(&all[..1]), of(&all[1..]), of(&all));
        assert!((both.value - (first.value + second.value) / 2.0).abs() < 1e-12);
        assert!(both.high - both.low > 2.0 * (first.high - first.low), "{both:?} {first:?}");
    }

    #[test]
    fn what_has_no_statistic_is_refused_or_flat() {
        let uncertainty: &[f64] = &[1.0, 2.0, 3.0];
        let run = |hits: &[bool], statistic| seed_estimate(&[uncertainty], hits, statistic, 9, 0);
        let one_class = run(&[true; 3], PairedStatistic::Auroc);
        assert_eq!(one_class, Err(EvaluationError::OneClass { found: "right" }));
        let few = run(&[true, false, false], PairedStatistic::MinusSR2 { levels: 5 }).unwrap();
        assert_eq!((few.value, few.low, few.high), (0.0, 0.0, 0.0));
        assert!(run(&[true, false], PairedStatistic::Aurc).is_err());
        assert!(run(&[true; 3], PairedStatistic::MinusSR2 { levels: 0 }).is_err());
        assert!(seed_estimate(&[], &[true], PairedStatistic::Aurc, 9, 0).is_err());
        assert!(seed_estimate(&[&[1.0]], &[true], PairedStatistic::Aurc, 0, 0).is_err());
    }
}
