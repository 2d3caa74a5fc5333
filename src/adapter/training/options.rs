//! What a training run is asked to do.

use serde::{Deserialize, Serialize};

use crate::adapter::probvlm::Preset;
use crate::adapter::space::SpaceKind;

/// How the learning rate goes over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Constant,
    /// Half a cosine from the learning rate at the first step to zero after the last epoch.
    Cosine,
}

/// Options of a training run. [`TrainingOptions::new`] gives the recommended ones of a preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingOptions {
    pub preset: Preset,
    /// The working space of inputs and targets.
    pub space: SpaceKind,
    pub hidden_dim: usize,
    pub dropout: f64,
    /// Weight λ of the crossed term, where the data has crossed targets.
    pub cross_weight: f64,
    pub learning_rate: f64,
    pub schedule: Schedule,
    pub batch_size: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a better held-out score before the run stops.
    pub patience: usize,
    /// Gradients of all parameters together are scaled down to this norm where they are longer.
    pub gradient_clip: Option<f64>,
    /// Decides initial weights, order and dropout.
    pub seed: u64,
}
