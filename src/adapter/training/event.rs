use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::adapter::training::Baselines;

/// What a running training tells its caller. The caller answers with
/// [`ControlFlow`](std::ops::ControlFlow): `Break` writes a checkpoint and stops.
#[derive(Debug, Clone, PartialEq)]
pub enum TrainingEvent {
    /// Before the first batch.
    Started {
        training_items: usize,
        validation_items: usize,
        batches_per_epoch: usize,
        /// Epochs at most.
        epochs: usize,
        /// Epochs that a checkpoint brought along, and batches of the next one.
        resumed: (usize, usize),
        baselines: Baselines,
    },
    /// After every batch.
    Batch {
        /// From 1.
        epoch: usize,
        /// From 1.
        batch: usize,
        batches_per_epoch: usize,
        /// Of this batch.
        loss: f64,
        learning_rate: f64,
        /// Since this process started the run.
        elapsed: Duration,
        /// Estimate for all epochs; early stopping may end the run before.
        remaining: Duration,
    },
    /// After every epoch, once it is validated.
    Epoch { record: EpochRecord, epochs: usize, elapsed: Duration },
    /// A checkpoint was written.
    Checkpoint { path: PathBuf },
}

/// One epoch in numbers.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EpochRecord {
    /// From 1.
    pub epoch: usize,
    /// Mean loss over its items, with dropout, while the weights changed.
    pub training_loss: f64,
    /// Held-out negative log likelihood, nats per dimension of the raw targets, without dropout.
    pub validation_nll: f64,
    /// Held-out mean absolute error of μ in the working space.
    pub validation_l1: f64,
    /// Learning rate of its last batch.
    pub learning_rate: f64,
    /// Whether its weights are the best so far.
    pub best: bool,
    /// Share of held-out targets inside the central intervals of
    /// [`COVERAGES`](super::calibration::COVERAGES), over dimensions and at most 2000 items. `None`
    /// where no density per dimension is trained, and in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<[f64; 3]>,
    /// Share of the probability integral transforms of the same targets in each of 20 bins of equal
    /// width, all 0.05 when the densities are right; empty where `coverage` is `None`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pit: Vec<f64>,
}
