//! The distribution of a whole embedding.

use rayon::prelude::*;

use super::error::{check_length, check_variances};
use super::{DiagonalGaussian, DistributionError, GeneralizedGaussian};
use crate::random::{Stream, generator};

/// Standard deviation of a dimension in which samples do not vary; far below what any encoder
/// resolves.
pub const LEAST_DEVIATION: f64 = 1e-6;

/// Density of an embedding in R^D with independent dimensions, and how unsure the model is about
/// that density.
///
/// *Aleatoric* variance is the variance of the predicted density: what the query leaves open.
/// *Epistemic* variance is the variance of the predicted mean over models that the data allow
/// (dropout passes, a Laplace posterior): what training left open. They add up to the total
/// variance (law of total variance; Kendall and Gal, arXiv 1703.04977).
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingDistribution {
    dimensions: Vec<GeneralizedGaussian>,
    aleatoric: Vec<f64>,
    epistemic: Vec<f64>,
}

impl EmbeddingDistribution {
    /// `dimensions[d]` is the density of dimension d, `epistemic[d]` the epistemic variance of
    /// its mean, 0 when that was not estimated.
    ///
    /// # Errors
    /// When there is no dimension, the lengths differ, an epistemic variance is negative or not
    /// finite, or a density is so heavy-tailed that its variance is not finite in f64.
    pub fn new(
        dimensions: Vec<GeneralizedGaussian>,
        epistemic: Vec<f64>,
    ) -> Result<Self, DistributionError> {
        if dimensions.is_empty() {
            return Err(DistributionError::Empty { name: "the embedding", of: "dimension" });
        }
        check_length("epistemic variance", epistemic.len(), dimensions.len())?;
        check_variances("epistemic variance", &epistemic, "a finite number from 0 on")?;
        let aleatoric: Vec<f64> = dimensions.iter().map(GeneralizedGaussian::variance).collect();
        check_variances(
            "aleatoric variance",
            &aleatoric,
            "a finite number: bound the predicted shape (beta) from below",
        )?;
        Ok(Self { dimensions, aleatoric, epistemic })
    }

    /// The Gaussian with the means and (unbiased) variances of at least two samples `[D]`: what is
    /// known of a density that can only be sampled. How its dimensions depend on each other, and
    /// any other shape, is lost. A dimension that does not vary gets a deviation of
    /// [`LEAST_DEVIATION`]; the epistemic variance is not estimated and 0.
    ///
    /// # Errors
    /// When there are fewer than two samples, they differ in length, or are not finite.
    pub fn from_samples(samples: &[Vec<f32>]) -> Result<Self, DistributionError> {
        let ([first, _, ..], count) = (samples, samples.len() as f64) else {
            return Err(DistributionError::Empty { name: "the sample", of: "second embedding" });
        };
        for sample in samples {
            check_length("a sample", sample.len(), first.len())?;
        }
        let dimension = |d: usize| {
            let values = || samples.iter().map(|sample| f64::from(sample[d]));
            let mean = values().sum::<f64>() / count;
            let variance = values().map(|x| (x - mean).powi(2)).sum::<f64>() / (count - 1.0);
            GeneralizedGaussian::gaussian(mean, variance.sqrt().max(LEAST_DEVIATION))
        };
        let dimensions = (0..first.len()).map(dimension).collect::<Result<Vec<_>, _>>()?;
        let epistemic = vec![0.0; dimensions.len()];
        Self::new(dimensions, epistemic)
    }

    /// Number of dimensions D, at least 1.
    pub fn dim(&self) -> usize {
        self.dimensions.len()
    }

    /// The densities `[D]`.
    pub fn dimensions(&self) -> &[GeneralizedGaussian] {
        &self.dimensions
    }

    /// Mean `[D]`, the embedding that the density is centred on.
    pub fn mean(&self) -> Vec<f32> {
        self.dimensions.iter().map(|d| d.mu() as f32).collect()
    }

    /// Aleatoric variance `[D]`.
    pub fn aleatoric(&self) -> &[f64] {
        &self.aleatoric
    }

    /// Epistemic variance `[D]`.
    pub fn epistemic(&self) -> &[f64] {
        &self.epistemic
    }

    /// Total variance `[D]`, aleatoric plus epistemic.
    pub fn total(&self) -> Vec<f64> {
        self.aleatoric.iter().zip(&self.epistemic).map(|(a, e)| a + e).collect()
    }

    /// Aleatoric variance, mean over dimensions: one number per query, as in ProbVLM.
    pub fn mean_aleatoric(&self) -> f64 {
        mean(&self.aleatoric)
    }

    /// Epistemic variance, mean over dimensions.
    pub fn mean_epistemic(&self) -> f64 {
        mean(&self.epistemic)
    }

    /// Total variance, mean over dimensions.
    pub fn mean_total(&self) -> f64 {
        self.mean_aleatoric() + self.mean_epistemic()
    }

    /// Differential entropy of the (aleatoric) density in nats, the sum over dimensions.
    pub fn entropy(&self) -> f64 {
        self.dimensions.iter().map(GeneralizedGaussian::entropy).sum()
    }

    /// Log density of the embedding `x` `[D]` in nats, the sum over dimensions.
    ///
    /// # Errors
    /// When `x` has another number of dimensions.
    pub fn log_prob(&self, x: &[f32]) -> Result<f64, DistributionError> {
        check_length("the embedding", x.len(), self.dim())?;
        Ok(self.dimensions.iter().zip(x).map(|(d, &x)| d.log_prob(f64::from(x))).sum())
    }

    /// Log densities of many embeddings `[D]`, the same numbers as from
    /// [`EmbeddingDistribution::log_prob`], in less time.
    ///
    /// # Errors
    /// When one has another number of dimensions.
    pub fn log_probs(&self, rows: &[Vec<f32>]) -> Result<Vec<f64>, DistributionError> {
        let peaks: Vec<f64> = self.dimensions.iter().map(GeneralizedGaussian::log_peak).collect();
        rows.par_iter()
            .map(|x| {
                check_length("the embedding", x.len(), self.dim())?;
                let terms = self.dimensions.iter().zip(&peaks).zip(x);
                Ok(terms.map(|((d, peak), &x)| peak - d.power(f64::from(x))).sum())
            })
            .collect()
    }

    /// Sample number `index` `[D]` of the aleatoric density; epistemic variance does not enter.
    ///
    /// `temperature` scales the deviation from the mean: 1 is the density itself, 0 gives the
    /// mean, in between is closer to it.
    ///
    /// The sample depends on nothing but the density, `seed`, `index` and `temperature`: not on
    /// how many samples are drawn, nor in which order. Each dimension has random numbers of its
    /// own, so a change of one density leaves the other dimensions of the sample as they were,
    /// and the same (seed, index) gives comparable samples of two queries or two adapters.
    pub fn sample(&self, seed: u64, index: u64, temperature: f64) -> Vec<f32> {
        let mut rng = generator(seed, Stream::EmbeddingSamples, index);
        let draw = |(d, density): (usize, &GeneralizedGaussian)| {
            rng.set_stream(d as u64);
            rng.set_word_pos(0);
            (density.mu() + temperature * density.sample_deviation(&mut rng)) as f32
        };
        self.dimensions.iter().enumerate().map(draw).collect()
    }

    /// The Gaussian with the same mean and total variance, for the distances of
    /// [`DiagonalGaussian`]s.
    pub fn matched_gaussian(&self) -> DiagonalGaussian {
        let mean = self.dimensions.iter().map(GeneralizedGaussian::mu).collect();
        DiagonalGaussian::from_valid(mean, self.total())
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn density(mu: f64, alpha: f64, beta: f64) -> GeneralizedGaussian {
        GeneralizedGaussian::new(mu, alpha, beta).unwrap()
    }

    fn example() -> EmbeddingDistribution {
        let dimensions =
            vec![density(0.5, 0.2, 0.7), density(-1.0, 1.5, 2.0), density(3.0, 0.1, 5.0)];
        EmbeddingDistribution::new(dimensions, vec![0.01, 0.0, 0.3]).unwrap()
    }

    #[test]
    fn variances_add_up_per_dimension_and_on_average() {
        let d = example();
        for i in 0..3 {
            assert_eq!(d.aleatoric()[i], d.dimensions()[i].variance());
            assert_eq!(d.total()[i], d.aleatoric()[i] + d.epistemic()[i]);
        }
        let by_hand = d.total().iter().sum::<f64>() / 3.0;
        assert!((d.mean_total() - by_hand).abs() < 1e-15);
        assert!((d.mean_epistemic() - 0.31 / 3.0).abs() < 1e-15);
        assert_eq!(d.matched_gaussian().variance(), d.total());
    }

    #[test]
    fn the_density_of_samples_has_their_moments() {
        let samples = [vec![1.0f32, 5.0], vec![2.0, 5.0], vec![6.0, 5.0]];
        let d = EmbeddingDistribution::from_samples(&samples).unwrap();
        assert_eq!(d.mean(), [3.0, 5.0]);
        assert!((d.aleatoric()[0] - 7.0).abs() < 1e-12, "{:?}", d.aleatoric());
        assert!((d.aleatoric()[1].sqrt() - LEAST_DEVIATION).abs() < 1e-12);
        assert_eq!((d.dimensions()[0].beta(), d.epistemic()), (2.0, &[0.0, 0.0][..]));
        assert!(EmbeddingDistribution::from_samples(&samples[..1]).is_err());
        assert!(EmbeddingDistribution::from_samples(&[vec![1.0], vec![1.0, 2.0]]).is_err());
        assert!(EmbeddingDistribution::from_samples(&[vec![1.0], vec![f32::NAN]]).is_err());
    }

    #[test]
    fn log_prob_and_entropy_are_sums_over_dimensions() {
        let d = example();
        let x = [0.25f32, 0.5, 3.0];
        let expected: f64 =
            d.dimensions().iter().zip(x).map(|(d, x)| d.log_prob(f64::from(x))).sum();
        assert_eq!(d.log_prob(&x).unwrap(), expected);
        let rows = vec![x.to_vec(), vec![9.0, -3.0, 0.0]];
        let one_by_one: Vec<f64> = rows.iter().map(|x| d.log_prob(x).unwrap()).collect();
        assert_eq!(d.log_probs(&rows).unwrap(), one_by_one);
        assert!(d.log_probs(&[vec![0.0]]).is_err());
        let entropy: f64 = d.dimensions().iter().map(|d| d.entropy()).sum();
        assert!((d.entropy() - entropy).abs() < 1e-12);
        assert!(matches!(d.log_prob(&x[..2]), Err(DistributionError::Length { found: 2, .. })));
    }

    #[test]
    fn minus_the_mean_log_prob_of_samples_is_the_entropy() {
        let d = example();
        let n = 4000;
        let logs: Vec<f64> = (0..n).map(|i| d.log_prob(&d.sample(3, i, 1.0)).unwrap()).collect();
        let mean = logs.iter().sum::<f64>() / n as f64;
        let variance = logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / n as f64;
        assert!((mean + d.entropy()).abs() < 5.0 * (variance / n as f64).sqrt());
    }

    #[test]
    fn a_sample_depends_on_its_own_seed_and_index_alone() {
        let d = example();
        let alone = d.sample(9, 4, 1.0);
        let among: Vec<_> = (0..8).rev().map(|i| d.sample(9, i, 1.0)).collect();
        assert_eq!(alone, among[3]);
        assert_ne!(alone, among[4]);
        assert_ne!(alone, d.sample(10, 4, 1.0));
    }

    #[test]
    fn a_changed_dimension_leaves_the_others_of_a_sample_as_they_were() {
        let d = example();
        let mut dimensions = d.dimensions().to_vec();
        dimensions[1] = density(7.0, 0.3, 0.2);
        let changed = EmbeddingDistribution::new(dimensions, vec![0.0; 3]).unwrap();
        for index in 0..50 {
            let (a, b) = (d.sample(1, index, 1.0), changed.sample(1, index, 1.0));
            assert_eq!((a[0], a[2]), (b[0], b[2]));
            assert_ne!(a[1], b[1]);
        }
    }

    #[test]
    fn dimensions_are_not_correlated() {
        let d = EmbeddingDistribution::new(vec![density(0.0, 1.0, 2.0); 2], vec![0.0; 2]).unwrap();
        let n = 4000;
        let product = |i| {
            let s = d.sample(2, i, 1.0);
            f64::from(s[0]) * f64::from(s[1])
        };
        let mean = (0..n).map(product).sum::<f64>() / n as f64;
        // both have variance 1/2, so their product has standard deviation 1/2
        assert!(mean.abs() < 5.0 * 0.5 / (n as f64).sqrt(), "{mean}");
    }

    #[test]
    fn samples_of_a_recipe_do_not_change_from_release_to_release() {
        // whoever changes these numbers breaks the replay of every saved recipe
        let sample = example().sample(7, 3, 1.0);
        for (got, expected) in sample.into_iter().zip([-0.357_382_8, -0.661_997_85, 3.053_180_7]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn temperature_scales_the_deviation_from_the_mean() {
        let d = example();
        assert_eq!(d.sample(1, 0, 0.0), d.mean());
        let (full, half) = (d.sample(1, 0, 1.0), d.sample(1, 0, 0.5));
        for i in 0..3 {
            let mean = d.mean()[i];
            assert!(((half[i] - mean) * 2.0 - (full[i] - mean)).abs() < 1e-5);
        }
    }

    #[test]
    fn what_is_no_distribution_is_refused() {
        let one = || vec![density(0.0, 1.0, 2.0)];
        assert!(matches!(
            EmbeddingDistribution::new(vec![], vec![]),
            Err(DistributionError::Empty { .. })
        ));
        assert!(matches!(
            EmbeddingDistribution::new(one(), vec![0.0, 1.0]),
            Err(DistributionError::Length { found: 2, expected: 1, .. })
        ));
        for bad in [-1e-9, f64::NAN, f64::INFINITY] {
            assert!(matches!(
                EmbeddingDistribution::new(one(), vec![bad]),
                Err(DistributionError::Dimension { dimension: 0, .. })
            ));
        }
        let heavy = vec![density(0.0, 1.0, 1e-3)];
        assert!(EmbeddingDistribution::new(heavy, vec![0.0]).is_err());
    }
}
