//! `adapter_config.json` of a pairwise adapter.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{PairwiseKind, PairwiseSummary};
use crate::encoder::Modality;
use crate::model::config::ConfigError;

/// Wider layers than any embedding model has; bounds what a config can make the loader allocate.
const WIDTH_LIMIT: usize = 1 << 16;

/// What is written beside the weights.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairwiseConfig {
    pub kind: PairwiseKind,
    pub input_modality: Modality,
    /// The input's own modality, or the other one for AsymVLM.
    pub output_modality: Modality,
    /// Number of dimensions D of inputs and outputs.
    pub input_dim: usize,
    pub hidden_dim: usize,
    /// Dropout probability in training, and in the passes that AsymVLM's epistemic uncertainty
    /// comes from.
    pub dropout: f64,
    /// Norm that predicted embeddings get: the mean over the training embeddings of the output
    /// modality (AsymVLM). The other methods keep the norm of their input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_norm: Option<f64>,
    /// Learned a of `sigmoid(b - a d)` (PCME++) or `sigmoid(2 (b - a d))` (PCME).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// Learned b.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shift: Option<f32>,
    /// Learned temperature T of AsymVLM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Fingerprint of the encoder whose embeddings the adapter was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// How it was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<PairwiseSummary>,
}

impl PairwiseConfig {
    pub(super) fn check(&self, path: &Path) -> Result<(), ConfigError> {
        for (key, width) in [("input_dim", self.input_dim), ("hidden_dim", self.hidden_dim)] {
            if !(1..=WIDTH_LIMIT).contains(&width) {
                return Err(ConfigError::value(path, key, width, format!("1 to {WIDTH_LIMIT}")));
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(ConfigError::value(path, "dropout", self.dropout, "0 <= dropout < 1"));
        }
        let spherical = self.kind.spherical().is_some();
        if spherical == (self.input_modality == self.output_modality) {
            return Err(ConfigError::value(
                path,
                "output_modality",
                self.output_modality,
                match spherical {
                    true => "the other modality: AsymVLM predicts across modalities",
                    false => "the input modality: the mean is the input itself",
                },
            ));
        }
        match (spherical, self.output_norm) {
            (true, Some(norm)) if norm.is_finite() && norm > 0.0 => Ok(()),
            (true, found) => Err(ConfigError::value(
                path,
                "output_norm",
                format!("{found:?}"),
                "a positive number: densities on the sphere are scaled by it",
            )),
            (false, _) => Ok(()),
        }
    }
}
