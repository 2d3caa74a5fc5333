//! All draws of a job, and how each stands among the others.

use rayon::prelude::*;

use super::error::SessionError;
use super::recipe::Sampling;
use super::result::{Nearest, Sample, SampleStatistics};
use crate::distribution::EmbeddingDistribution;
use crate::encoder::cosine;

/// The draws behind every statistic; the decoded samples are the first of them.
#[derive(Debug, Clone)]
pub struct Draws {
    /// `[N]` rows of `[D]` values.
    pub values: Vec<Vec<f32>>,
    /// `[N]` log-densities in nats.
    pub log_probs: Vec<f64>,
    mean: Vec<f32>,
}

impl Draws {
    /// Draws `max(draws, samples)` embeddings.
    ///
    /// # Errors
    /// When a log-density cannot be computed.
    pub fn new(
        distribution: &EmbeddingDistribution,
        sampling: &Sampling,
    ) -> Result<Self, SessionError> {
        let count = sampling.draws.max(sampling.samples);
        let values: Vec<Vec<f32>> = (0..count as u64)
            .into_par_iter()
            .map(|index| distribution.sample(sampling.seed, index, sampling.temperature))
            .collect();
        Self::from_values(values, distribution)
    }

    /// Draws that were made elsewhere, judged by `distribution`.
    ///
    /// # Errors
    /// When a log-density cannot be computed.
    pub fn from_values(
        values: Vec<Vec<f32>>,
        distribution: &EmbeddingDistribution,
    ) -> Result<Self, SessionError> {
        let log_probs = distribution.log_probs(&values)?;
        Ok(Self { values, log_probs, mean: distribution.mean() })
    }

    /// The first `count` draws with their statistics. `nearest` holds the best match of each draw.
    pub fn samples(&self, count: usize, nearest: Option<&Vec<Nearest>>) -> Vec<Sample> {
        let mut sorted = self.log_probs.clone();
        sorted.sort_by(f64::total_cmp);
        let sample = |(index, values): (usize, &Vec<f32>)| {
            let log_prob = self.log_probs[index];
            let below = sorted.partition_point(|&other| other < log_prob);
            let difference: f64 = values
                .iter()
                .zip(&self.mean)
                .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
                .sum();
            Sample {
                values: values.clone(),
                statistics: SampleStatistics {
                    index,
                    log_prob,
                    typicality: below as f64 / sorted.len() as f64,
                    distance_to_mean: difference.sqrt(),
                    cosine_to_mean: cosine(values, &self.mean),
                    nearest: nearest.and_then(|all| all.get(index)).cloned(),
                    decoded_cosine: None,
                },
            }
        };
        self.values.iter().take(count).enumerate().map(sample).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::GeneralizedGaussian;

    fn distribution() -> EmbeddingDistribution {
        let dimension = |i: usize| GeneralizedGaussian::new(i as f64, 0.5, 1.5).unwrap();
        EmbeddingDistribution::new((0..6).map(dimension).collect(), vec![0.0; 6]).unwrap()
    }

    #[test]
    fn samples_do_not_depend_on_how_many_draws_stand_behind_the_statistics() {
        let few = Sampling { samples: 4, draws: 4, ..Sampling::default() };
        let many = Sampling { samples: 4, draws: 500, ..Sampling::default() };
        let values = |sampling: &Sampling| -> Vec<Vec<f32>> {
            let draws = Draws::new(&distribution(), sampling).unwrap();
            draws.samples(4, None).into_iter().map(|s| s.values).collect()
        };
        assert_eq!(values(&few), values(&many));
    }

    #[test]
    fn typicality_is_the_share_of_less_likely_draws() {
        let sampling = Sampling { samples: 200, draws: 200, ..Sampling::default() };
        let draws = Draws::new(&distribution(), &sampling).unwrap();
        let samples = draws.samples(200, None);
        let (likeliest, rarest) =
            samples.iter().fold((&samples[0], &samples[0]), |(best, worst), s| {
                let log_prob = s.statistics.log_prob;
                (
                    if log_prob > best.statistics.log_prob { s } else { best },
                    if log_prob < worst.statistics.log_prob { s } else { worst },
                )
            });
        assert_eq!(rarest.statistics.typicality, 0.0);
        assert_eq!(likeliest.statistics.typicality, 199.0 / 200.0);
    }
}
