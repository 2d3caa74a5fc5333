//! The ProbVLM adapter (Upadhyay et al., ICCV 2023, arXiv 2307.00398): one embedding in, a
//! generalised Gaussian per dimension of the target embedding out.
//!
//! Raw embeddings go in and densities over raw embeddings come out; the working space between is
//! nobody else's business.

mod average;
mod config;
mod files;
mod network;

use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};

pub use config::{
    Preset, ProbVlmConfig, RELEASED_DROPOUT, RELEASED_IMAGE_FACTOR, RELEASED_PREDICTION_DROPOUT,
    UnitRows, released_space,
};
pub(super) use files::load_network;
pub use network::{HeadOutputs, Network, dropout_mask, from_pytorch_name};

use crate::adapter::loss::{Family, HeadValues, SMALLEST_INVERSE_ALPHA};
use crate::adapter::space::{Space, ToRaw};
use crate::adapter::{AdapterError, Predictor, check_input};
use crate::distribution::{EmbeddingDistribution, GeneralizedGaussian};
use crate::encoder::{Embedding, Modality};

/// Rows that go through the network at once: bounds the memory of a prediction.
const ROWS_AT_ONCE: usize = 4096;

/// A loaded or trained ProbVLM adapter for one direction.
#[derive(Debug)]
pub struct ProbVlm {
    config: ProbVlmConfig,
    input_space: Space,
    output_space: Space,
    network: Network,
}

/// Mean and variance over dropout passes, `[N, D]` each.
struct OverPasses {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl ProbVlm {
    /// The parts of an adapter as a trainer has them.
    pub(super) fn from_parts(
        config: ProbVlmConfig,
        input_space: Space,
        output_space: Space,
        network: Network,
    ) -> Self {
        Self { config, input_space, output_space, network }
    }

    /// Its config.
    pub fn config(&self) -> &ProbVlmConfig {
        &self.config
    }

    /// Notes which encoder's embeddings the adapter belongs to.
    pub fn set_encoder(&mut self, fingerprint: String) {
        self.config.encoder = Some(fingerprint);
    }

    /// The network, in PyTorch terms the module in evaluation mode.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Number of dimensions D.
    pub fn dim(&self) -> usize {
        self.config.input_dim
    }

    /// The density of the target embedding, with `passes` dropout passes for its epistemic part.
    ///
    /// The masks of pass p come from (`seed`, dropout stream, p) alone; 0 passes give an epistemic
    /// variance of 0. See [`Preset`] for how densities and epistemic variances are made.
    ///
    /// # Errors
    /// When the embedding has another dimension or modality, is not finite or all zeros, or the
    /// weights give no usable density for it.
    pub fn predict(
        &self,
        embedding: &Embedding,
        passes: usize,
        seed: u64,
    ) -> Result<EmbeddingDistribution, AdapterError> {
        let mut all = self.predict_batch(std::slice::from_ref(embedding), passes, seed)?;
        all.pop().ok_or_else(|| AdapterError::Device("the prediction was lost".into()))
    }

    /// Predictions for many embeddings: the same as one by one, since every embedding of a pass
    /// meets the same mask (one thinned network per pass).
    ///
    /// # Errors
    /// As [`predict`](Self::predict), for the first embedding that fails.
    pub fn predict_batch(
        &self,
        embeddings: &[Embedding],
        passes: usize,
        seed: u64,
    ) -> Result<Vec<EmbeddingDistribution>, AdapterError> {
        for embedding in embeddings {
            check_input(embedding, self.config.input_modality, self.dim())?;
        }
        let dropout = match self.config.preset {
            Preset::Paper => self.config.dropout,
            Preset::Released => RELEASED_PREDICTION_DROPOUT,
        };
        let hidden_dim = self.config.hidden_dim;
        let masks: Vec<f32> = (0..passes)
            .flat_map(|pass| dropout_mask(dropout, seed, pass as u64, hidden_dim))
            .collect();
        let device = self.network.device();
        let masks = Tensor::<2>::from_data(
            TensorData::new(masks, [passes, hidden_dim]),
            (&device, DType::F32),
        );
        let mut results = Vec::with_capacity(embeddings.len());
        for chunk in embeddings.chunks((ROWS_AT_ONCE / passes.max(1)).max(1)) {
            results.extend(self.predict_chunk(chunk, &masks, passes, &device)?);
        }
        Ok(results)
    }

    fn predict_chunk(
        &self,
        chunk: &[Embedding],
        masks: &Tensor<2>,
        passes: usize,
        device: &Device,
    ) -> Result<Vec<EmbeddingDistribution>, AdapterError> {
        let dim = self.dim();
        let mut working = Vec::with_capacity(chunk.len() * dim);
        for embedding in chunk {
            match self.config.unit_rows {
                Some(_) if embedding.norm() == 0.0 => return Err(AdapterError::Zero),
                Some(_) => self.input_space.push_working(&embedding.unit(), &mut working)?,
                None => self.input_space.push_working(&embedding.values, &mut working)?,
            }
        }
        let x = Tensor::<2>::from_data(
            TensorData::new(working, [chunk.len(), dim]),
            (device, DType::F32),
        );
        let hidden = self.network.hidden_activations(x.clone());
        let (density, epistemic) = match (passes, self.config.preset) {
            (0, _) => {
                let heads = self.network.heads(self.network.trunk_output(x, hidden)).read()?;
                (heads, vec![0.0; chunk.len() * dim])
            }
            (_, Preset::Paper) => {
                let trunk = self.masked_trunk(x.clone(), hidden.clone(), masks);
                let mu = read(self.network.mu(trunk))?;
                let epistemic = over_passes(&mu, passes, dim, 0).variance;
                let heads = self.network.heads(self.network.trunk_output(x, hidden)).read()?;
                (heads, epistemic)
            }
            (_, Preset::Released) => {
                let trunk = self.masked_trunk(x, hidden, masks);
                self.released_over_passes(&self.network.heads(trunk).read()?, passes)
            }
        };
        chunk
            .iter()
            .enumerate()
            .map(|(i, embedding)| {
                let (query_norm, length) = match self.config.unit_rows {
                    Some(unit) => (1.0, unit.target_norm.unwrap_or_else(|| embedding.norm())),
                    None => (embedding.norm(), 1.0),
                };
                let mut dimensions = Vec::with_capacity(dim);
                let mut raw_epistemic = Vec::with_capacity(dim);
                for d in 0..dim {
                    let at = i * dim + d;
                    let ToRaw { offset, scale } = self.output_space.to_raw(d, query_norm);
                    let (offset, scale) = (length * offset, length * scale);
                    let (alpha, beta) =
                        self.alpha_beta(density.inverse_alpha[at], density.beta[at]);
                    let mu = offset + scale * f64::from(density.mu[at]);
                    dimensions.push(GeneralizedGaussian::new(mu, scale * alpha, beta)?);
                    raw_epistemic.push(scale * scale * epistemic[at]);
                }
                Ok(EmbeddingDistribution::new(dimensions, raw_epistemic)?)
            })
            .collect()
    }

    /// The input of the heads for every item and pass, `[N * P, D]`, the passes of an item
    /// together.
    fn masked_trunk(&self, x: Tensor<2>, hidden: Tensor<2>, masks: &Tensor<2>) -> Tensor<2> {
        let [items, dim] = x.dims();
        let [passes, hidden_dim] = masks.dims();
        let masked = hidden.unsqueeze_dim::<3>(1) * masks.clone().unsqueeze_dim::<3>(0);
        let x = x.unsqueeze_dim::<3>(1).repeat_dim(1, passes);
        let rows = items * passes;
        self.network.trunk_output(x.reshape([rows, dim]), masked.reshape([rows, hidden_dim]))
    }

    /// α and β in the working space, from raw head outputs.
    fn alpha_beta(&self, inverse_alpha: f32, beta: f32) -> (f64, f64) {
        let link = self.config.preset.link();
        let inverse_alpha = f64::from(link.apply(inverse_alpha));
        let beta = f64::from(link.apply(beta));
        let (alpha, beta) = match self.config.preset {
            Preset::Paper => {
                let smallest_beta = self.config.preset.loss().smallest_beta;
                ((inverse_alpha + SMALLEST_INVERSE_ALPHA).recip(), beta + smallest_beta)
            }
            Preset::Released => {
                ((inverse_alpha + 1e-5).recip().clamp(1e-4, 5.0), (beta + 0.1).clamp(0.1, 5.0))
            }
        };
        (alpha, self.config.family.fixed_beta().unwrap_or(beta))
    }

    /// Means of μ, 1/α and β over the passes, and `sqrt(Var(σ²) Var(μ))`, as `multi_fwpass_ProbVLM`
    /// of the authors' code has them.
    fn released_over_passes(&self, heads: &HeadValues, passes: usize) -> (HeadValues, Vec<f64>) {
        let dim = self.dim();
        let link = self.config.preset.link();
        let linked =
            |values: &[f32]| -> Vec<f32> { values.iter().map(|&v| link.apply(v)).collect() };
        let variances: Vec<f32> = heads
            .inverse_alpha
            .iter()
            .zip(&heads.beta)
            .map(|(&a, &b)| {
                let (alpha, beta) = self.alpha_beta(a, b);
                GeneralizedGaussian::new(0.0, alpha, beta).map_or(f32::NAN, |g| g.variance() as f32)
            })
            .collect();
        let mu = over_passes(&heads.mu, passes, dim, 1);
        let sigma = over_passes(&variances, passes, dim, 1);
        let mean = |values: &[f32]| -> Vec<f32> {
            over_passes(&linked(values), passes, dim, 1).mean.iter().map(|&m| m as f32).collect()
        };
        let density = HeadValues {
            mu: mu.mean.iter().map(|&m| m as f32).collect(),
            // Means of positive numbers: the rectifier leaves them as they are.
            inverse_alpha: mean(&heads.inverse_alpha),
            beta: mean(&heads.beta),
        };
        let epistemic =
            mu.variance.iter().zip(&sigma.variance).map(|(m, s)| (m * s).sqrt()).collect();
        (density, epistemic)
    }
}

fn read(tensor: Tensor<2>) -> Result<Vec<f32>, AdapterError> {
    tensor.try_into_vec_as::<f32>().map_err(|e| AdapterError::Device(e.to_string()))
}

/// Mean and variance over the passes of values `[N, P, D]`; the divisor of the variance is
/// `passes - lost`. A single pass has no variance.
fn over_passes(values: &[f32], passes: usize, dim: usize, lost: usize) -> OverPasses {
    let items = values.len() / (passes * dim);
    let divisor = passes.saturating_sub(lost).max(1) as f64;
    let mut mean = vec![0f64; items * dim];
    let mut variance = vec![0f64; items * dim];
    for item in 0..items {
        let rows = &values[item * passes * dim..][..passes * dim];
        for d in 0..dim {
            let column = || rows[d..].iter().step_by(dim).map(|&v| f64::from(v));
            let m = column().sum::<f64>() / passes as f64;
            mean[item * dim + d] = m;
            variance[item * dim + d] = column().map(|v| (v - m).powi(2)).sum::<f64>() / divisor;
        }
    }
    OverPasses { mean, variance }
}

impl Predictor for ProbVlm {
    fn predict_batch(
        &self,
        embeddings: &[Embedding],
        passes: usize,
        seed: u64,
    ) -> Result<Vec<EmbeddingDistribution>, AdapterError> {
        ProbVlm::predict_batch(self, embeddings, passes, seed)
    }

    fn input_modality(&self) -> Modality {
        self.config.input_modality
    }

    fn output_modality(&self) -> Modality {
        self.config.output_modality
    }

    fn dim(&self) -> usize {
        ProbVlm::dim(self)
    }

    fn encoder(&self) -> Option<&str> {
        self.config.encoder.as_deref()
    }

    fn set_encoder(&mut self, fingerprint: String) {
        ProbVlm::set_encoder(self, fingerprint);
    }

    fn describe(&self) -> String {
        let c = &self.config;
        let trained = match &c.training {
            Some(t) => format!(
                ", trained on {} pairs (held-out {:.4} nats/dim, one Gaussian {:.4})",
                t.training_items, t.validation_nll, t.baselines.gaussian_nll
            ),
            None => String::new(),
        };
        let family = match c.family {
            Family::GeneralizedGaussian => String::new(),
            family => format!(", family {family}"),
        };
        format!(
            "ProbVLM {} to {}, {} dimensions, {} hidden, dropout {}, preset {}{family}{trained}",
            c.input_modality, c.output_modality, c.input_dim, c.hidden_dim, c.dropout, c.preset
        )
    }

    fn save(&self, folder: &Path) -> Result<(), AdapterError> {
        ProbVlm::save(self, folder)
    }

    fn save_trained_on_unit(&self, folder: &Path, target_norm: f64) -> Result<(), AdapterError> {
        let crossed = self.config.input_modality != self.config.output_modality;
        let unit_rows = Some(UnitRows { target_norm: crossed.then_some(target_norm) });
        self.save_as(folder, &ProbVlmConfig { unit_rows, ..self.config.clone() })
    }
}

#[cfg(test)]
mod tests;
