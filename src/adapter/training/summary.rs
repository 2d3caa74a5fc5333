//! What an adapter remembers of its training.

use serde::{Deserialize, Serialize};

/// Held-out negative log likelihoods of constant densities fitted to the training targets, in
/// nats per dimension of the raw targets. An adapter is worth something when it is below them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Baselines {
    /// One Gaussian per dimension.
    pub gaussian_nll: f64,
    /// One generalised Gaussian per dimension.
    pub generalized_gaussian_nll: f64,
}

/// How a training run went. Likelihoods are in nats per dimension of the raw targets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingSummary {
    pub training_items: usize,
    pub validation_items: usize,
    /// Epochs that were run.
    pub epochs: usize,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Held-out negative log likelihood of the kept weights, of the density that was trained.
    /// (What the released preset predicts is that density clipped.)
    pub validation_nll: f64,
    pub baselines: Baselines,
    /// Standard deviation of the noise that inputs were trained with, given or found.
    pub input_noise: f64,
    pub options: super::TrainingOptions,
}
