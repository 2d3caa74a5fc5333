//! Is a predicted density a density? Checks per dimension on held-out targets.

use std::f64::consts::{PI, SQRT_2};

use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use statrs::function::erf::erf;

use super::EvaluationError;
use super::error::{check_at_least, check_pair};
use crate::distribution::{EmbeddingDistribution, GeneralizedGaussian};
use crate::random::{Stream, generator};

/// Likelihood checks of predicted densities on held-out targets, means over items and dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LikelihoodChecks {
    pub items: usize,
    pub dimensions: usize,
    /// Negative log likelihood, nats per dimension of the raw targets.
    pub nll: f64,
    /// The same of one Gaussian per dimension for all queries, fitted to the training targets.
    pub nll_constant: f64,
    /// Share of probability integral transforms in each of 20 bins of equal width; all 0.05 when
    /// the densities are right.
    pub pit: Vec<f64>,
    /// Kolmogorov-Smirnov distance of the transforms from uniform, mean over dimensions.
    pub pit_ks: f64,
    /// How often central intervals hold the target.
    pub coverage: Vec<IntervalCoverage>,
    /// Continuous ranked probability score, lower is better, in units of the embedding.
    pub crps: f64,
    pub crps_constant: f64,
    /// Energy score of the whole embedding, from samples, lower is better.
    pub energy_score: f64,
    pub energy_score_constant: f64,
}

/// Nominal and observed coverage of a central interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntervalCoverage {
    pub nominal: f64,
    pub observed: f64,
}

/// Bins of the histogram of transforms that is shown.
const PIT_BINS: usize = 20;
/// Bins per dimension behind the Kolmogorov-Smirnov distance, which is exact to 1 / bins.
const KS_BINS: usize = 1000;
/// Central intervals that are checked.
const NOMINAL: [f64; 3] = [0.5, 0.8, 0.95];
/// Items that are held at once while a batch is measured.
const CHUNK: usize = 256;
/// Least variance of a constant density, relative to the mean over dimensions: a dimension that
/// never changed in training would have a density without width.
const LEAST_VARIANCE: f64 = 1e-6;

/// One Gaussian per dimension for all queries, fitted to training targets: what a predicted density
/// has to beat.
#[derive(Debug, Clone, PartialEq)]
pub struct ConstantDensity {
    distribution: EmbeddingDistribution,
    /// Mean and standard deviation of each dimension.
    moments: Vec<[f64; 2]>,
    /// Negative log density at the mean, nats, the sum over dimensions.
    nll_at_mean: f64,
}

impl ConstantDensity {
    /// Mean and (population) variance of each dimension of the targets `[N, D]`. A variance below a
    /// millionth of the mean over dimensions is raised to that.
    ///
    /// # Errors
    /// When there are fewer than two targets, they differ in length, a value is not finite, or all
    /// targets are equal.
    pub fn fit<T: AsRef<[f32]>>(
        targets: impl IntoIterator<Item = T>,
    ) -> Result<Self, EvaluationError> {
        let (mut count, mut mean, mut squares) = (0usize, Vec::new(), Vec::new());
        for (index, target) in targets.into_iter().enumerate() {
            let target = target.as_ref();
            if count == 0 {
                mean = vec![0.0; target.len()];
                squares = vec![0.0; target.len()];
            }
            check_target(target, index, mean.len())?;
            count += 1;
            // Welford's update
            for ((mean, squares), &x) in mean.iter_mut().zip(&mut squares).zip(target) {
                let before = f64::from(x) - *mean;
                *mean += before / count as f64;
                *squares += before * (f64::from(x) - *mean);
            }
        }
        check_at_least("the number of training targets", count, 2)?;
        let variances: Vec<f64> = squares.iter().map(|s| s / count as f64).collect();
        let floor = LEAST_VARIANCE * variances.iter().sum::<f64>() / variances.len() as f64;
        if floor == 0.0 {
            return Err(EvaluationError::Constant { what: "the training targets" });
        }
        let moments: Vec<[f64; 2]> = mean
            .into_iter()
            .zip(variances)
            .map(|(mean, variance)| [mean, variance.max(floor).sqrt()])
            .collect();
        let densities = moments
            .iter()
            .map(|&[mean, sigma]| GeneralizedGaussian::gaussian(mean, sigma))
            .collect::<Result<Vec<_>, _>>()?;
        let nll_at_mean = -densities.iter().map(GeneralizedGaussian::log_peak).sum::<f64>();
        let epistemic = vec![0.0; densities.len()];
        let distribution = EmbeddingDistribution::new(densities, epistemic)?;
        Ok(Self { distribution, moments, nll_at_mean })
    }

    /// Negative log density of a target `[D]` in nats, the sum over dimensions.
    fn nll(&self, target: &[f32]) -> f64 {
        let squares = self.moments.iter().zip(target);
        let squares = squares.map(|([mean, sigma], &x)| ((f64::from(x) - mean) / sigma).powi(2));
        self.nll_at_mean + 0.5 * squares.sum::<f64>()
    }

    /// CRPS in one dimension: what [`GeneralizedGaussian::crps`] gives for a Gaussian, in a fraction
    /// of the time.
    fn crps(&self, dimension: usize, x: f64) -> f64 {
        let [mean, sigma] = self.moments[dimension];
        let z = (x - mean).abs() / sigma;
        let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
        sigma * (z * erf(z / SQRT_2) + 2.0 * density - PI.sqrt().recip())
    }

    fn sample(&self, dimension: usize, rng: &mut ChaCha8Rng) -> f64 {
        let [mean, sigma] = self.moments[dimension];
        let normal: f64 = StandardNormal.sample(rng);
        mean + sigma * normal
    }

    /// The density `[D]`.
    pub fn distribution(&self) -> &EmbeddingDistribution {
        &self.distribution
    }

    /// Number of dimensions.
    pub fn dim(&self) -> usize {
        self.distribution.dim()
    }
}

/// How much [`LikelihoodAccumulator`] measures. The likelihood itself is always over all items and
/// dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LikelihoodOptions {
    /// Dimensions, evenly spaced, behind the transforms, their coverage and the CRPS; at least 1.
    pub dimensions: usize,
    /// Items, evenly spaced, behind the energy score at most; at least 1.
    pub energy_items: usize,
    /// Samples of each of these, at least 2.
    pub samples: usize,
    pub seed: u64,
}

impl Default for LikelihoodOptions {
    fn default() -> Self {
        Self { dimensions: 64, energy_items: 256, samples: 64, seed: 0 }
    }
}

/// Checks predicted densities against targets as they come, in constant memory.
///
/// The result does not depend on how the items are batched, nor on the number of threads.
#[derive(Debug, Clone)]
pub struct LikelihoodAccumulator {
    constant: ConstantDensity,
    options: LikelihoodOptions,
    /// Dimensions that are checked, ascending.
    checked: Vec<usize>,
    /// Every how many items one has its energy score measured.
    energy_stride: usize,
    items: usize,
    energy_items: usize,
    /// Sums over items of the numbers in [`Scores`].
    predicted: Scores,
    baseline: Scores,
    /// Transforms of each checked dimension in bins of equal width, `[checked, KS_BINS]`.
    transforms: Vec<u64>,
    /// Transforms inside of each central interval.
    inside: [u64; NOMINAL.len()],
}

/// Sums over items (and dimensions, where a score has them).
#[derive(Debug, Clone, Copy, Default)]
struct Scores {
    nll: f64,
    crps: f64,
    energy: f64,
}

/// What one item adds.
struct ItemScores {
    predicted: Scores,
    baseline: Scores,
    /// Of the checked dimensions.
    transforms: Vec<f64>,
}

impl LikelihoodAccumulator {
    /// Checks against `constant` as the baseline. `expected_items` is how many will come, which
    /// spaces those of the energy score; a different number is no error.
    ///
    /// # Errors
    /// When an option is below its least value.
    pub fn new(
        constant: ConstantDensity,
        expected_items: usize,
        options: LikelihoodOptions,
    ) -> Result<Self, EvaluationError> {
        check_at_least("the number of checked dimensions", options.dimensions, 1)?;
        check_at_least("the number of items of the energy score", options.energy_items, 1)?;
        check_at_least("the number of samples of the energy score", options.samples, 2)?;
        let dim = constant.dim();
        let count = options.dimensions.min(dim);
        Ok(Self {
            checked: (0..count).map(|i| i * dim / count).collect(),
            energy_stride: expected_items.div_ceil(options.energy_items).max(1),
            items: 0,
            energy_items: 0,
            predicted: Scores::default(),
            baseline: Scores::default(),
            transforms: vec![0; count * KS_BINS],
            inside: [0; NOMINAL.len()],
            constant,
            options,
        })
    }

    /// Adds one item: the density that was predicted, and the target `[D]` that came true.
    ///
    /// # Errors
    /// When either has another number of dimensions than the baseline, or a target is not finite.
    pub fn push(
        &mut self,
        distribution: &EmbeddingDistribution,
        target: &[f32],
    ) -> Result<(), EvaluationError> {
        self.push_batch(std::slice::from_ref(distribution), &[target])
    }

    /// Adds items in order, measured in parallel.
    ///
    /// # Errors
    /// Those of [`push`](Self::push), or when the lengths differ. Nothing is added then.
    pub fn push_batch<T: AsRef<[f32]> + Sync>(
        &mut self,
        distributions: &[EmbeddingDistribution],
        targets: &[T],
    ) -> Result<(), EvaluationError> {
        if distributions.is_empty() && targets.is_empty() {
            return Ok(());
        }
        check_pair("the list of targets", targets.len(), distributions.len())?;
        for (i, (distribution, target)) in distributions.iter().zip(targets).enumerate() {
            check_target(target.as_ref(), self.items + i, self.constant.dim())?;
            let (found, expected) = (distribution.dim(), self.constant.dim());
            if found != expected {
                let what = "the predicted density";
                return Err(EvaluationError::Length { what, found, expected });
            }
        }
        for (distributions, targets) in distributions.chunks(CHUNK).zip(targets.chunks(CHUNK)) {
            let first = self.items;
            let measured: Vec<ItemScores> = distributions
                .par_iter()
                .zip(targets)
                .enumerate()
                .map(|(i, (distribution, target))| {
                    self.measure(first + i, distribution, target.as_ref())
                })
                .collect();
            for item in measured {
                self.add(&item);
            }
        }
        Ok(())
    }

    fn measure(
        &self,
        item: usize,
        distribution: &EmbeddingDistribution,
        target: &[f32],
    ) -> ItemScores {
        let checked = |score: &dyn Fn(usize, f64) -> f64| {
            self.checked.iter().map(|&d| score(d, f64::from(target[d]))).collect::<Vec<f64>>()
        };
        let densities = distribution.dimensions();
        let [energy, constant_energy] = match item % self.energy_stride {
            0 => [
                self.energy_score(item, target, |d, rng| densities[d].sample(rng)),
                self.energy_score(item, target, |d, rng| self.constant.sample(d, rng)),
            ],
            _ => [0.0; 2],
        };
        let log_prob = densities.iter().zip(target).map(|(d, &x)| d.log_prob(f64::from(x)));
        let constant = &self.constant;
        ItemScores {
            predicted: Scores {
                nll: -log_prob.sum::<f64>(),
                crps: checked(&|d, x| densities[d].crps(x)).iter().sum(),
                energy,
            },
            baseline: Scores {
                nll: constant.nll(target),
                crps: checked(&|d, x| constant.crps(d, x)).iter().sum(),
                energy: constant_energy,
            },
            transforms: checked(&|d, x| densities[d].cdf(x)),
        }
    }

    /// Energy score E‖X - y‖ - 1/2 E‖X - X'‖ (Gneiting and Raftery, JASA 102, 2007, equation 22
    /// with exponent 1), both means over samples and their pairs, so without bias. `draw` gives the
    /// value of one dimension.
    fn energy_score(
        &self,
        item: usize,
        target: &[f32],
        draw: impl Fn(usize, &mut ChaCha8Rng) -> f64,
    ) -> f64 {
        // One sequence per item: `EmbeddingDistribution::sample` keys every dimension for itself,
        // which costs more than the draw.
        let mut rng = generator(self.options.seed, Stream::EmbeddingSamples, item as u64);
        let mut sample = || (0..target.len()).map(|d| draw(d, &mut rng) as f32).collect();
        let samples: Vec<Vec<f32>> = (0..self.options.samples).map(|_| sample()).collect();
        let to_target: f64 = samples.iter().map(|sample| distance(sample, target)).sum();
        let between: f64 = samples
            .iter()
            .enumerate()
            .flat_map(|(i, a)| samples[i + 1..].iter().map(|b| distance(a, b)))
            .sum();
        let count = self.options.samples as f64;
        to_target / count - between / (count * (count - 1.0))
    }

    fn add(&mut self, item: &ItemScores) {
        self.energy_items += usize::from(self.items.is_multiple_of(self.energy_stride));
        self.items += 1;
        for (sums, new) in
            [(&mut self.predicted, &item.predicted), (&mut self.baseline, &item.baseline)]
        {
            sums.nll += new.nll;
            sums.crps += new.crps;
            sums.energy += new.energy;
        }
        for (bins, &transform) in self.transforms.chunks_mut(KS_BINS).zip(&item.transforms) {
            bins[((transform * KS_BINS as f64) as usize).min(KS_BINS - 1)] += 1;
            for (inside, nominal) in self.inside.iter_mut().zip(NOMINAL) {
                *inside += u64::from((transform - 0.5).abs() <= nominal / 2.0);
            }
        }
    }

    /// The checks of all items so far.
    ///
    /// # Errors
    /// When there was no item.
    pub fn finish(self) -> Result<LikelihoodChecks, EvaluationError> {
        check_at_least("the number of items", self.items, 1)?;
        let items = self.items as f64;
        let all = items * self.constant.dim() as f64;
        let checked = items * self.checked.len() as f64;
        let energy = self.energy_items as f64;
        let mut pit = vec![0.0; PIT_BINS];
        for (i, &count) in self.transforms.iter().enumerate() {
            pit[i % KS_BINS / (KS_BINS / PIT_BINS)] += count as f64 / checked;
        }
        let ks = self.transforms.chunks(KS_BINS).map(|bins| uniform_distance(bins, self.items));
        let coverage = NOMINAL.iter().zip(self.inside);
        Ok(LikelihoodChecks {
            items: self.items,
            dimensions: self.constant.dim(),
            nll: self.predicted.nll / all,
            nll_constant: self.baseline.nll / all,
            pit,
            pit_ks: ks.sum::<f64>() / self.checked.len() as f64,
            coverage: coverage
                .map(|(&nominal, inside)| IntervalCoverage {
                    nominal,
                    observed: inside as f64 / checked,
                })
                .collect(),
            crps: self.predicted.crps / checked,
            crps_constant: self.baseline.crps / checked,
            energy_score: self.predicted.energy / energy,
            energy_score_constant: self.baseline.energy / energy,
        })
    }
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
    squares.sum::<f64>().sqrt()
}

/// Largest distance of the cumulative shares of bins of equal width from uniform, at their edges.
fn uniform_distance(bins: &[u64], total: usize) -> f64 {
    let mut below = 0;
    let mut most = 0f64;
    for (i, count) in bins.iter().enumerate() {
        below += count;
        let share = below as f64 / total as f64;
        most = most.max((share - (i + 1) as f64 / bins.len() as f64).abs());
    }
    most
}

fn check_target(target: &[f32], index: usize, dim: usize) -> Result<(), EvaluationError> {
    check_at_least("the number of dimensions", target.len(), 1)?;
    if target.len() != dim {
        let (what, found) = ("a target", target.len());
        return Err(EvaluationError::Dimensions { what, index, found, expected: dim });
    }
    match target.iter().find(|x| !x.is_finite()) {
        None => Ok(()),
        Some(&x) => Err(EvaluationError::Value {
            what: "a target",
            index,
            found: f64::from(x),
            expected: "finite numbers",
        }),
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;

    /// Densities of random scale and shape, and targets drawn from them `widen` times as wide.
    fn drawn(items: usize, dim: usize, widen: f64) -> (Vec<EmbeddingDistribution>, Vec<Vec<f32>>) {
        let mut rng = generator(11, Stream::TrainingOrder, 0);
        (0..items as u64)
            .map(|item| {
                let dimensions = (0..dim)
                    .map(|_| {
                        let mu = 2.0 * rng.random::<f64>() - 1.0;
                        let alpha = 0.05 + rng.random::<f64>();
                        let beta = 0.7 + 2.0 * rng.random::<f64>();
                        GeneralizedGaussian::new(mu, alpha, beta).unwrap()
                    })
                    .collect();
                let density = EmbeddingDistribution::new(dimensions, vec![0.0; dim]).unwrap();
                let target = density.sample(99, item, widen);
                (density, target)
            })
            .unzip()
    }

    fn options() -> LikelihoodOptions {
        LikelihoodOptions { dimensions: 8, energy_items: 100, samples: 64, seed: 1 }
    }

    fn checks(densities: &[EmbeddingDistribution], targets: &[Vec<f32>]) -> LikelihoodChecks {
        let constant = ConstantDensity::fit(targets).unwrap();
        let mut checks = LikelihoodAccumulator::new(constant, targets.len(), options()).unwrap();
        checks.push_batch(densities, targets).unwrap();
        checks.finish().unwrap()
    }

    #[test]
    fn the_true_density_passes_every_check_and_beats_the_constant_one() {
        let (densities, targets) = drawn(3000, 8, 1.0);
        let found = checks(&densities, &targets);
        assert_eq!((found.items, found.dimensions), (3000, 8));
        assert!(found.pit.iter().all(|share| (share - 0.05).abs() < 0.01), "{:?}", found.pit);
        // 1.36 / sqrt(n) is what one sample in twenty exceeds, 0.87 / sqrt(n) the mean.
        assert!(found.pit_ks < 1.36 / 3000f64.sqrt(), "{}", found.pit_ks);
        for interval in &found.coverage {
            assert!((interval.observed - interval.nominal).abs() < 0.015, "{interval:?}");
        }
        let entropy: f64 = densities.iter().map(|d| d.entropy() / 8.0).sum::<f64>() / 3000.0;
        assert!((found.nll - entropy).abs() < 0.03, "{} {entropy}", found.nll);
        assert!(found.nll < found.nll_constant - 0.1);
        assert!(found.crps < found.crps_constant);
        assert!(found.energy_score < found.energy_score_constant);
    }

    #[test]
    fn a_density_that_is_too_narrow_shows_in_every_check() {
        let (densities, right) = drawn(1500, 8, 1.0);
        let (_, wide) = drawn(1500, 8, 3.0);
        let (right, wide) = (checks(&densities, &right), checks(&densities, &wide));
        assert!(wide.pit[0] > 0.15 && wide.pit[19] > 0.15, "{:?}", wide.pit);
        assert!(wide.pit_ks > 3.0 * right.pit_ks);
        assert!(wide.coverage[2].observed < 0.7, "{:?}", wide.coverage);
        assert!(wide.nll > right.nll + 0.5);
        assert!(wide.crps > right.crps && wide.energy_score > right.energy_score);
    }

    #[test]
    fn batches_do_not_change_the_result() {
        let (densities, targets) = drawn(300, 3, 1.0);
        let constant = ConstantDensity::fit(&targets).unwrap();
        let mut single = LikelihoodAccumulator::new(constant, 300, options()).unwrap();
        for (density, target) in densities.iter().zip(&targets) {
            single.push(density, target).unwrap();
        }
        assert_eq!(single.finish().unwrap(), checks(&densities, &targets));
    }

    #[test]
    fn the_energy_score_in_one_dimension_is_the_crps() {
        let (densities, targets) = drawn(200, 1, 1.0);
        let constant = ConstantDensity::fit(&targets).unwrap();
        let options = LikelihoodOptions { energy_items: 200, samples: 256, ..options() };
        let mut checks = LikelihoodAccumulator::new(constant, 200, options).unwrap();
        checks.push_batch(&densities, &targets).unwrap();
        let found = checks.finish().unwrap();
        assert!((found.energy_score / found.crps - 1.0).abs() < 0.05, "{found:?}");
        assert!((found.energy_score_constant / found.crps_constant - 1.0).abs() < 0.05);
    }

    #[test]
    fn the_constant_density_has_the_moments_of_the_targets() {
        let rows = [[1.0f32, 5.0], [3.0, 5.0]];
        let fitted = ConstantDensity::fit(rows).unwrap();
        let [first, second] = fitted.distribution().dimensions() else { panic!() };
        assert_eq!((first.mu(), second.mu()), (2.0, 5.0));
        assert!((first.variance() - 1.0).abs() < 1e-12);
        // No spread at all: a millionth of the mean variance 0.5.
        assert!((second.variance() / 5e-7 - 1.0).abs() < 1e-9);
        let target = [4.5f32, 4.999];
        let nll = -fitted.distribution().log_prob(&target).unwrap();
        assert!((fitted.nll(&target) - nll).abs() < 1e-9);
        for (d, density) in [first, second].into_iter().enumerate() {
            for x in [-3.0, 2.0, 4.999, 5.0] {
                assert!((fitted.crps(d, x) - density.crps(x)).abs() < 1e-9, "{d} {x}");
            }
        }
        let equal = ConstantDensity::fit([[1.0f32], [1.0]]);
        assert!(matches!(equal, Err(EvaluationError::Constant { .. })));
    }

    #[test]
    fn bad_input_is_refused_and_adds_nothing() {
        assert!(ConstantDensity::fit([[1.0f32]]).is_err());
        assert!(ConstantDensity::fit([vec![1.0f32, 2.0], vec![1.0]]).is_err());
        assert!(ConstantDensity::fit([[1.0f32], [f32::NAN]]).is_err());
        assert!(ConstantDensity::fit(Vec::<Vec<f32>>::new()).is_err());
        let (densities, mut targets) = drawn(3, 2, 1.0);
        let constant = ConstantDensity::fit(&targets).unwrap();
        let few = LikelihoodOptions { samples: 1, ..options() };
        assert!(LikelihoodAccumulator::new(constant.clone(), 3, few).is_err());
        let mut checks = LikelihoodAccumulator::new(constant, 3, options()).unwrap();
        assert!(checks.push_batch(&densities[1..], &targets).is_err());
        assert!(checks.push(&densities[0], &[1.0]).is_err());
        targets[2][1] = f32::INFINITY;
        let refused = checks.push_batch(&densities, &targets);
        assert!(matches!(refused, Err(EvaluationError::Value { index: 2, .. })));
        assert!(checks.finish().is_err());
    }
}
