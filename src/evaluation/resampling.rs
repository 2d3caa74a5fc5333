//! Resampling queries: bootstrap replicates, and the intervals that they give.
//!
//! Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13 (percentile interval).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::EvaluationError;
use super::error::{check_at_least, check_finite, check_pair};
use super::estimate::Estimate;
use crate::random::{Stream, generator};

/// Random orders are numbered from here on, bootstrap replicates from 0, so that the two never
/// share random numbers.
pub(super) const FIRST_PERMUTATION: u64 = 1 << 32;

/// Outcomes of queries, and which queries belong together.
///
/// Captions of one image are no independent trials: the same image is found, or not. Where
/// clusters are given, a bootstrap replicate draws whole clusters (Davison, Hinkley, "Bootstrap
/// Methods and their Application", 1997, section 3.8), which makes intervals as wide as they
/// should be.
#[derive(Debug, Clone, Copy)]
pub struct Queries<'a> {
    /// Whether each query was answered right.
    pub hits: &'a [bool],
    /// `None` where every query stands for itself.
    pub clusters: Option<&'a Clusters>,
}

impl<'a> From<&'a [bool]> for Queries<'a> {
    fn from(hits: &'a [bool]) -> Self {
        Self { hits, clusters: None }
    }
}

impl<'a> From<&'a Vec<bool>> for Queries<'a> {
    fn from(hits: &'a Vec<bool>) -> Self {
        hits.as_slice().into()
    }
}

impl<'a, const N: usize> From<&'a [bool; N]> for Queries<'a> {
    fn from(hits: &'a [bool; N]) -> Self {
        hits.as_slice().into()
    }
}

/// A partition of queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clusters {
    members: Vec<Vec<u32>>,
    queries: usize,
}

impl Clusters {
    /// From the number of each query's cluster.
    pub fn of(cluster_of_query: &[usize]) -> Self {
        let count = cluster_of_query.iter().max().map_or(0, |&largest| largest + 1);
        let mut members = vec![Vec::new(); count];
        for (query, &cluster) in cluster_of_query.iter().enumerate() {
            members[cluster].push(query as u32);
        }
        members.retain(|members| !members.is_empty());
        Self { members, queries: cluster_of_query.len() }
    }

    /// Number of queries.
    pub fn queries(&self) -> usize {
        self.queries
    }
}

impl Queries<'_> {
    /// # Errors
    /// When the clusters are of another number of queries.
    pub(super) fn check(&self) -> Result<(), EvaluationError> {
        match self.clusters {
            Some(clusters) => {
                check_pair("the clusters of queries", clusters.queries, self.hits.len())
            }
            None => Ok(()),
        }
    }

    /// Draws as many queries as there are, with replacement; the last cluster is cut to fit.
    fn draw(&self, rng: &mut ChaCha8Rng, drawn: &mut [u32]) {
        drawn.fill(0);
        let count = drawn.len();
        let Some(clusters) = self.clusters else {
            for _ in 0..count {
                drawn[rng.random_range(0..count)] += 1;
            }
            return;
        };
        let mut left = count;
        while left > 0 {
            let members = &clusters.members[rng.random_range(0..clusters.members.len())];
            for &query in members.iter().take(left) {
                drawn[query as usize] += 1;
            }
            left -= members.len().min(left);
        }
    }
}

/// Runs `statistic` on `replicates` resamples of the queries, in parallel; the result does not
/// depend on the number of threads.
///
/// `statistic` is given how often each query was drawn, and the generator of the replicate for
/// further draws; `scratch` makes what it may reuse from one replicate to the next.
pub(super) fn bootstrap<S, T: Send>(
    queries: Queries<'_>,
    replicates: usize,
    seed: u64,
    scratch: impl Fn() -> S + Sync + Send,
    statistic: impl Fn(&[u32], &mut ChaCha8Rng, &mut S) -> T + Sync + Send,
) -> Vec<T> {
    (0..replicates as u64)
        .into_par_iter()
        .map_init(
            || (vec![0u32; queries.hits.len()], scratch()),
            |(drawn, scratch), replicate| {
                let mut rng = generator(seed, Stream::Resampling, replicate);
                queries.draw(&mut rng, drawn);
                statistic(drawn, &mut rng, scratch)
            },
        )
        .collect()
}

/// Share of right answers with its 95 % bootstrap interval.
///
/// # Errors
/// When there is no query or no replicate, or the clusters are of another number of queries.
pub fn share_of_hits<'a>(
    queries: impl Into<Queries<'a>>,
    replicates: usize,
    seed: u64,
) -> Result<Estimate, EvaluationError> {
    let queries = queries.into();
    queries.check()?;
    check_at_least("the number of queries", queries.hits.len(), 1)?;
    check_at_least("the number of bootstrap replicates", replicates, 1)?;
    let count = queries.hits.len() as f64;
    let right = queries.hits.iter().filter(|&&hit| hit).count() as f64;
    let values = bootstrap(
        queries,
        replicates,
        seed,
        || (),
        |drawn, _, ()| {
            let hits = drawn.iter().zip(queries.hits).filter(|(_, hit)| **hit);
            f64::from(hits.map(|(&times, _)| times).sum::<u32>()) / count
        },
    );
    Ok(estimate(right / count, values, [0.0, 1.0]))
}

/// Mean of values, one per item, with its 95 % bootstrap interval over items.
///
/// # Errors
/// When there is no value or no replicate, or a value is not finite.
pub fn mean_estimate(
    values: &[f64],
    replicates: usize,
    seed: u64,
) -> Result<Estimate, EvaluationError> {
    mean_over_queries(values, None, replicates, seed)
}

/// [`mean_estimate`] of one value per query; where queries come in clusters, whole ones are drawn.
///
/// # Errors
/// As [`mean_estimate`], and when the clusters are of another number of queries.
pub fn mean_over_queries(
    values: &[f64],
    clusters: Option<&Clusters>,
    replicates: usize,
    seed: u64,
) -> Result<Estimate, EvaluationError> {
    check_at_least("the number of values", values.len(), 1)?;
    check_at_least("the number of bootstrap replicates", replicates, 1)?;
    check_finite("values", values)?;
    let count = values.len() as f64;
    let items = vec![true; values.len()];
    let queries = Queries { hits: &items, clusters };
    queries.check()?;
    let means = bootstrap(
        queries,
        replicates,
        seed,
        || (),
        |drawn, _, ()| {
            let sum: f64 = drawn.iter().zip(values).map(|(&times, v)| f64::from(times) * v).sum();
            sum / count
        },
    );
    let mean = values.iter().sum::<f64>() / count;
    Ok(estimate(mean, means, [mean; 2]))
}

/// Median of values, one per item, with its 95 % bootstrap interval over items. With few items the
/// interval is rough: a replicate's median is one of few values.
///
/// # Errors
/// When there is no value or no replicate, or a value is not finite.
pub fn median_estimate(
    values: &[f64],
    replicates: usize,
    seed: u64,
) -> Result<Estimate, EvaluationError> {
    check_at_least("the number of values", values.len(), 1)?;
    check_at_least("the number of bootstrap replicates", replicates, 1)?;
    check_finite("values", values)?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let items = vec![true; sorted.len()];
    let medians = bootstrap(
        Queries::from(&items),
        replicates,
        seed,
        || Vec::with_capacity(sorted.len()),
        |drawn, _, replicate: &mut Vec<f64>| {
            replicate.clear();
            for (&times, &value) in drawn.iter().zip(&sorted) {
                replicate.extend(std::iter::repeat_n(value, times as usize));
            }
            quantile(replicate, 0.5)
        },
    );
    let median = quantile(&sorted, 0.5);
    Ok(estimate(median, medians, [median; 2]))
}

/// Quantiles at `shares` in `0..=1` of at least one value, in ascending order; linear between
/// neighbours, as NumPy's default.
pub fn quantiles<const N: usize>(sorted: &[f64], shares: [f64; N]) -> [f64; N] {
    shares.map(|share| quantile(sorted, share))
}

/// The value with the 2.5 and 97.5 % quantiles of its replicates; without any replicate the
/// interval is `fallback`.
pub(super) fn estimate(value: f64, mut replicates: Vec<f64>, fallback: [f64; 2]) -> Estimate {
    replicates.sort_by(f64::total_cmp);
    let [low, high] = match replicates.is_empty() {
        true => fallback,
        false => [0.025, 0.975].map(|share| quantile(&replicates, share)),
    };
    Estimate { value, low, high }
}

/// The quantile at `share` in `0..=1` of ascending values, linear between neighbours (type 7 of
/// Hyndman and Fan, "Sample Quantiles in Statistical Packages", 1996; the default of NumPy).
pub(super) fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let below = place.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (place - below as f64) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_numpy() {
        // numpy.quantile([1, 2, 4, 8], [0, .025, .5, .9, 1])
        let values = [1.0, 2.0, 4.0, 8.0];
        for (share, expected) in [(0.0, 1.0), (0.025, 1.075), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)] {
            assert!((quantile(&values, share) - expected).abs() < 1e-12, "{share}");
        }
        assert_eq!(quantile(&[3.0], 0.975), 3.0);
    }

    #[test]
    fn the_interval_of_a_median_holds_it_and_narrows_with_more_values() {
        let values = |count: usize| -> Vec<f64> {
            (0..count).map(|i| (i as f64 + 0.5) / count as f64).collect()
        };
        let width = |count| {
            let found = median_estimate(&values(count), 2000, 1).unwrap();
            assert!((found.value - 0.5).abs() < 1e-12);
            assert!(found.low < 0.5 && found.high > 0.5);
            found.high - found.low
        };
        // Asymptotically 2 x 1.96 / (2 f sqrt n) with density f = 1: 0.1239 for 1000 values.
        assert!((width(1000) - 0.0620).abs() < 0.006, "{}", width(1000));
        assert!(width(40) > 2.0 * width(1000));
        // The order does not matter, and a median is no mean.
        assert_eq!(median_estimate(&[9.0, 1.0, 2.0], 10, 1).unwrap().value, 2.0);
        assert!(median_estimate(&[], 10, 1).is_err());
    }

    #[test]
    fn the_interval_of_a_share_is_that_of_the_binomial() {
        // 300 of 1000: standard error sqrt(.3 * .7 / 1000) = 0.01449
        let hits = [false; 1000];
        let values: Vec<f64> = bootstrap(
            Queries::from(&hits),
            4000,
            3,
            || (),
            |drawn, _, ()| f64::from(drawn[..300].iter().sum::<u32>()) / 1000.0,
        );
        let found = estimate(0.3, values, [0.0, 1.0]);
        assert!((found.low - (0.3 - 1.96 * 0.01449)).abs() < 0.002, "{found:?}");
        assert!((found.high - (0.3 + 1.96 * 0.01449)).abs() < 0.002, "{found:?}");
    }

    #[test]
    fn every_replicate_draws_as_many_queries_as_there_are_and_repeats() {
        let hits = [true; 50];
        let run =
            |seed| bootstrap(Queries::from(&hits), 20, seed, || (), |drawn, _, ()| drawn.to_vec());
        assert!(run(1).iter().all(|drawn| drawn.iter().sum::<u32>() == 50));
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn a_bootstrap_interval_holds_the_mean_and_shrinks_with_the_spread() {
        let values: Vec<f64> = (0..100).map(f64::from).collect();
        let wide = mean_estimate(&values, 2000, 1).unwrap();
        assert!(wide.low < wide.value && wide.value < wide.high);
        // Standard error 2.9: the interval is about 11.3 wide.
        assert!((wide.high - wide.low - 11.3).abs() < 1.5, "{wide:?}");
        let none = mean_estimate(&[2.0; 10], 2000, 1).unwrap();
        assert_eq!((none.low, none.high), (2.0, 2.0));
        assert!(mean_estimate(&[], 10, 1).is_err() && mean_estimate(&[f64::NAN], 10, 1).is_err());
    }

    #[test]
    fn clusters_are_drawn_whole_and_widen_the_interval_of_what_they_share() {
        // 200 images with five captions that are all right or all wrong: as good as 200 trials.
        let image: Vec<usize> = (0..1000).map(|query| query / 5).collect();
        let hits: Vec<bool> = image.iter().map(|image| image % 10 < 3).collect();
        let clusters = Clusters::of(&image);
        let share = |drawn: &[u32]| {
            let right = drawn.iter().zip(&hits).filter(|(_, hit)| **hit).map(|(d, _)| *d);
            f64::from(right.sum::<u32>()) / 1000.0
        };
        let width = |clusters| {
            let queries = Queries { hits: &hits, clusters };
            let values = bootstrap(queries, 2000, 1, || (), |drawn, _, ()| share(drawn));
            let found = estimate(0.3, values, [0.0, 1.0]);
            found.high - found.low
        };
        let ratio = width(Some(&clusters)) / width(None);
        assert!((ratio - 5f64.sqrt()).abs() < 0.25, "{ratio}");
        let queries = Queries { hits: &hits, clusters: Some(&clusters) };
        let drawn = bootstrap(queries, 5, 1, || (), |drawn, _, ()| drawn.to_vec());
        for drawn in drawn {
            assert_eq!(drawn.iter().sum::<u32>(), 1000);
            assert!(drawn.chunks(5).all(|captions| captions.iter().all(|d| *d == captions[0])));
        }
        let short = Queries { hits: &hits[..10], clusters: Some(&clusters) };
        assert!(short.check().is_err());
    }
}
