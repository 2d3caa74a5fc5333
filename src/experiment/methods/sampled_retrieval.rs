//! What samples of a predicted density would retrieve.
//!
//! Every sample of a query's density ranks the gallery by itself; the mean of their softmaxes is
//! the distribution of the retrieved item, and its entropy an uncertainty about the *answer*
//! rather than about the embedding. It is what the window shows as the chance of each item to come
//! first.

use std::sync::Arc;

use rayon::prelude::*;

use crate::encoder::Modality;
use crate::experiment::method::{FittedMethod, Scores};
use crate::experiment::retrieval::{Direction, RetrievalPair, Scales, cosines, unit_rows};
use crate::experiment::{EmbeddedPairs, ExperimentError};

/// Samples of each query.
const SAMPLES: u64 = 16;
/// Queries predicted at a time.
const BATCH: usize = 256;

/// Entropy of the mean softmax over samples of the densities of `base`, whose adapters predict the
/// modality they are given.
pub struct SampledRetrieval {
    pub base: Arc<dyn FittedMethod>,
    pub scales: Scales,
    pub seed: u64,
}

impl FittedMethod for SampledRetrieval {
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        _retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let Some(adapter) = self.base.adapter(modality) else {
            return Err(pairs.unusable("there is no density to draw samples from".to_owned()));
        };
        let direction = Direction::asked_by(modality);
        let scale = self.scales.get(direction);
        let dim = pairs.dim();
        let gallery = unit_rows(pairs.matrix(direction.gallery()), dim);
        let count = pairs.count(modality);
        let mut entropies = Vec::with_capacity(count);
        for start in (0..count).step_by(BATCH) {
            let batch: Vec<_> = (start..(start + BATCH).min(count))
                .map(|position| pairs.embedding(modality, position))
                .collect();
            let predicted = adapter.predict_batch(&batch, 0, self.seed)?;
            entropies.par_extend(predicted.par_iter().map_init(
                || (Vec::new(), Vec::new()),
                |(mean, row), density| {
                    mean.clear();
                    mean.resize(gallery.len() / dim, 0f64);
                    for sample in 0..SAMPLES {
                        let sample = unit_rows(density.sample(self.seed, sample, 1.0), dim);
                        row.clear();
                        row.extend(cosines(&sample, &gallery, dim));
                        add_softmax(row, scale, mean);
                    }
                    mean.iter().map(|p| p / SAMPLES as f64).map(entropy_term).sum::<f64>()
                },
            ));
        }
        Ok(Scores::whole(entropies))
    }
}

fn add_softmax(cosines: &[f64], scale: f64, sum: &mut [f64]) {
    let most = cosines.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights = || cosines.iter().map(|c| (scale * (c - most)).exp());
    let total: f64 = weights().sum();
    for (sum, weight) in sum.iter_mut().zip(weights()) {
        *sum += weight / total;
    }
}

fn entropy_term(p: f64) -> f64 {
    if p > 0.0 { -p * p.ln() } else { 0.0 }
}
