//! Adapters whose loss looks at the image-text pairs of a batch: PFE, PCME, PCME++ and AsymVLM.
//!
//! In: raw embeddings of a frozen encoder. Out: the distribution of an embedding in the raw space.
//! PFE, PCME and PCME++ keep the embedding as the mean and predict a variance per dimension; they
//! are the baselines PFE* and PCME* of ProbVLM (arXiv 2307.00398, section 4) and PCME++* of GroVE
//! (arXiv 2505.05163). AsymVLM (arXiv 2505.11029) maps a text to a density on the sphere of image
//! embeddings. Galleries, datasets and files of embeddings are the caller's business.
//!
//! | module | what |
//! | --- | --- |
//! | [`loss`] | the losses and their gradients |
//! | `spherical` | the two densities on the sphere |
//! | `network` | the multilayer perceptron that all of them use |
//! | `run` | training |

mod config;
mod data;
mod files;
mod kind;
pub mod loss;
mod network;
mod options;
mod run;
mod spherical;

use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};

pub use config::PairwiseConfig;
pub use data::PairRows;
pub use kind::PairwiseKind;
pub use options::{PairwiseOptions, PairwiseSummary};
pub use run::{PairwiseOutcome, PairwiseRun};

use crate::adapter::probvlm::dropout_mask;
use crate::adapter::{AdapterError, Predictor, check_input};
use crate::distribution::{EmbeddingDistribution, GeneralizedGaussian, MatchProbability};
use crate::encoder::{Embedding, Modality};
use network::Mlp;
use spherical::Spherical;

/// Rows that go through the network at once: bounds the memory of a prediction.
const ROWS_AT_ONCE: usize = 4096;

/// A trained pairwise adapter for one modality.
///
/// | kind | density in raw space | [`own_scores`](Predictor::own_scores) |
/// | --- | --- | --- |
/// | `pfe`, `pcme++` | Gaussian around the input, variances `norm² σ²` | `Σ σ²` in unit space |
/// | `pcme` | the same | the same |
/// | `asym-vmf`, `asym-power-spherical` | Gaussian with the mean and the variance per dimension of the density on the sphere, times the mean norm of the training embeddings | `1/κ` |
///
/// Dropout passes give an epistemic variance for AsymVLM where it was trained with dropout (the
/// paper's is not). The mean of the other methods is the input itself whatever the weights, so
/// their epistemic variance is 0 by construction.
#[derive(Debug)]
pub struct PairwiseAdapter {
    config: PairwiseConfig,
    network: Mlp,
}

impl PairwiseAdapter {
    fn from_parts(config: PairwiseConfig, network: Mlp) -> Self {
        Self { config, network }
    }

    /// Its config.
    pub fn config(&self) -> &PairwiseConfig {
        &self.config
    }

    /// The learned map from distances of unit embeddings to the probability of a match: PCME's
    /// from the distance of two samples, PCME++'s from the closed-form sampled distance.
    pub fn match_probability(&self) -> Option<MatchProbability> {
        let (scale, shift) = (f64::from(self.config.scale?), f64::from(self.config.shift?));
        // PCME's sigmoid is e^x / (e^x + e^-x), the usual one at 2x.
        let factor = if self.config.kind == PairwiseKind::Pcme { 2.0 } else { 1.0 };
        Some(MatchProbability { scale: factor * scale, shift: factor * shift })
    }

    /// Network outputs `[N, D]` for each mask `[H]`, or once without one.
    fn outputs(
        &self,
        chunk: &[Embedding],
        masks: &[Vec<f32>],
    ) -> Result<Vec<Vec<f32>>, AdapterError> {
        let dim = self.dim();
        let device = self.network.device();
        let mut unit = Vec::with_capacity(chunk.len() * dim);
        for embedding in chunk {
            check_input(embedding, self.config.input_modality, self.dim())?;
            run::push_unit(&embedding.values, &mut unit)?;
        }
        let unit = TensorData::new(unit, [chunk.len(), dim]);
        let input = run::network_input(Tensor::from_data(unit, (&device, DType::F32)));
        let hidden = self.network.hidden_activations(input);
        let read = |output: Tensor<2>| {
            let values = output.try_into_vec_as::<f32>();
            values.map_err(|e| AdapterError::Device(e.to_string()))
        };
        if masks.is_empty() {
            return Ok(vec![read(self.network.output(hidden))?]);
        }
        masks
            .iter()
            .map(|mask| {
                let data = TensorData::new(mask.clone(), [1, mask.len()]);
                let mask = Tensor::<2>::from_data(data, (&device, DType::F32));
                read(self.network.output(hidden.clone() * mask))
            })
            .collect()
    }

    /// σ² of one dimension in unit space, from the network's output.
    fn variance(&self, output: f32) -> f64 {
        let log_variance = match self.config.kind {
            PairwiseKind::Pcme => 2.0 * output,
            _ => output,
        };
        let [low, high] = loss::LOG_VARIANCE_RANGE;
        f64::from(log_variance.clamp(low, high)).exp()
    }

    /// The density of one embedding whose mean is itself.
    fn around_input(
        &self,
        embedding: &Embedding,
        output: &[f32],
    ) -> Result<EmbeddingDistribution, AdapterError> {
        let norm = embedding.norm();
        let dimensions = embedding.values.iter().zip(output).map(|(&mean, &output)| {
            GeneralizedGaussian::gaussian(f64::from(mean), norm * self.variance(output).sqrt())
        });
        let dimensions = dimensions.collect::<Result<Vec<_>, _>>()?;
        let epistemic = vec![0.0; dimensions.len()];
        Ok(EmbeddingDistribution::new(dimensions, epistemic)?)
    }

    /// The density of one embedding from η `[D]`, and from η of every dropout pass.
    fn on_sphere(
        &self,
        family: Spherical,
        eta: &[f32],
        passes: &[&[f32]],
    ) -> Result<EmbeddingDistribution, AdapterError> {
        let dim = eta.len();
        let norm = self.config.output_norm.unwrap_or(1.0);
        let (kappa, direction) = polar(eta);
        let moments = family.moments(dim, kappa);
        let dimensions = direction.iter().map(|&mu| {
            let variance = moments.variance(mu);
            GeneralizedGaussian::gaussian(norm * moments.mean * mu, norm * variance.sqrt())
        });
        let dimensions = dimensions.collect::<Result<Vec<_>, _>>()?;
        let means: Vec<Vec<f64>> = passes
            .iter()
            .map(|eta| {
                let (kappa, direction) = polar(eta);
                let length = norm * family.moments(dim, kappa).mean;
                direction.into_iter().map(|mu| length * mu).collect()
            })
            .collect();
        let epistemic = (0..dim).map(|d| variance(means.iter().map(|mean| mean[d]))).collect();
        Ok(EmbeddingDistribution::new(dimensions, epistemic)?)
    }
}

/// κ and μ of η = κ μ. A network that gives 0 says nothing of a direction.
fn polar(eta: &[f32]) -> (f64, Vec<f64>) {
    let kappa = crate::encoder::norm(eta);
    let length = if kappa > 0.0 { kappa } else { 1.0 };
    (kappa, eta.iter().map(|&e| f64::from(e) / length).collect())
}

/// Variance with divisor n; 0 without a value.
fn variance(values: impl ExactSizeIterator<Item = f64> + Clone) -> f64 {
    let count = values.len().max(1) as f64;
    let mean = values.clone().sum::<f64>() / count;
    values.map(|v| (v - mean).powi(2)).sum::<f64>() / count
}

impl Predictor for PairwiseAdapter {
    fn predict_batch(
        &self,
        embeddings: &[Embedding],
        passes: usize,
        seed: u64,
    ) -> Result<Vec<EmbeddingDistribution>, AdapterError> {
        let family = self.config.kind.spherical();
        let dropout = self.config.dropout;
        let passes = if family.is_some() && dropout > 0.0 { passes } else { 0 };
        let masks: Vec<Vec<f32>> = (0..passes)
            .map(|pass| dropout_mask(dropout, seed, pass as u64, self.config.hidden_dim))
            .collect();
        let dim = self.dim();
        let mut results = Vec::with_capacity(embeddings.len());
        for chunk in embeddings.chunks((ROWS_AT_ONCE / passes.max(1)).max(1)) {
            let whole = self.outputs(chunk, &[])?;
            let thinned = if passes > 0 { self.outputs(chunk, &masks)? } else { Vec::new() };
            for (i, embedding) in chunk.iter().enumerate() {
                let row = |outputs: &'_ [f32]| i * dim..((i + 1) * dim).min(outputs.len());
                let output = &whole[0][row(&whole[0])];
                results.push(match family {
                    None => self.around_input(embedding, output)?,
                    Some(family) => {
                        let passes: Vec<&[f32]> = thinned.iter().map(|o| &o[row(o)]).collect();
                        self.on_sphere(family, output, &passes)?
                    }
                });
            }
        }
        Ok(results)
    }

    fn input_modality(&self) -> Modality {
        self.config.input_modality
    }

    fn output_modality(&self) -> Modality {
        self.config.output_modality
    }

    fn dim(&self) -> usize {
        self.config.input_dim
    }

    fn encoder(&self) -> Option<&str> {
        self.config.encoder.as_deref()
    }

    fn set_encoder(&mut self, fingerprint: String) {
        self.config.encoder = Some(fingerprint);
    }

    fn describe(&self) -> String {
        let c = &self.config;
        let trained = match &c.training {
            Some(t) => format!(
                ", trained on {} pairs (held-out loss {:.4}, {:.4} before)",
                t.training_pairs, t.validation_loss, t.first_validation_loss
            ),
            None => String::new(),
        };
        format!(
            "{} {} to {}, {} dimensions, {} hidden, dropout {}{trained}",
            c.kind.label(),
            c.input_modality,
            c.output_modality,
            c.input_dim,
            c.hidden_dim,
            c.dropout
        )
    }

    fn save(&self, folder: &Path) -> Result<(), AdapterError> {
        PairwiseAdapter::save(self, folder)
    }

    fn own_scores(&self, embeddings: &[Embedding]) -> Result<Option<Vec<f64>>, AdapterError> {
        let mut scores = Vec::with_capacity(embeddings.len());
        for chunk in embeddings.chunks(ROWS_AT_ONCE) {
            let outputs = self.outputs(chunk, &[])?;
            scores.extend(outputs[0].chunks(self.dim()).map(|output| {
                match self.config.kind.spherical() {
                    Some(_) => polar(output).0.recip(),
                    None => output.iter().map(|&o| self.variance(o)).sum(),
                }
            }));
        }
        Ok(Some(scores))
    }
}

#[cfg(test)]
mod tests;
