//! What a pairwise training run is asked to do, and what is remembered of it.

use serde::{Deserialize, Serialize};

use super::PairwiseKind;
use crate::adapter::training::{Schedule, TrainingError};

/// Options of a run. [`PairwiseOptions::new`] gives the recommended ones of a method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairwiseOptions {
    /// Width of the hidden layers; without one 256, or 2D for AsymVLM.
    pub hidden_dim: Option<usize>,
    pub dropout: f64,
    pub learning_rate: f64,
    pub schedule: Schedule,
    /// Decoupled from the gradient, as in AdamW: every step multiplies the networks (not a, b or
    /// T) by `1 - learning rate * decay`.
    pub weight_decay: f64,
    /// Matched pairs in a batch. Every text meets every image of its batch, so it decides how
    /// many wrong pairs there are.
    pub batch_size: usize,
    /// Epochs at most.
    pub epochs: usize,
    /// Epochs without a lower held-out loss before the run stops.
    pub patience: usize,
    /// Samples J per embedding and side (PCME only).
    pub samples: usize,
    /// Weight of the divergence from the standard normal (PCME and PCME++).
    pub vib_weight: f64,
    /// Train the image side of AsymVLM too, with roles exchanged: a density over texts. The
    /// paper has the text side only. The other methods always have both sides.
    pub image_side: bool,
    /// Decides initial weights, order, dropout and samples.
    pub seed: u64,
}

impl PairwiseOptions {
    /// The recommended options of a method.
    ///
    /// Sample count, weights of terms, depth and widths are the papers'. Adam at these rates is
    /// our choice: the baselines of GroVE train at 1e-8, at which a variance hardly leaves its
    /// first value, and AsymVLM trains 200 epochs of plain gradient descent at 1e-2.
    pub fn new(kind: PairwiseKind) -> Self {
        let common = Self {
            hidden_dim: None,
            dropout: 0.1,
            learning_rate: 3e-4,
            schedule: Schedule::Cosine,
            weight_decay: 0.0,
            batch_size: 128,
            epochs: 30,
            patience: 5,
            samples: 7,
            vib_weight: 0.0,
            image_side: false,
            seed: 0,
        };
        match kind {
            PairwiseKind::Pfe => common,
            PairwiseKind::Pcme => Self { vib_weight: 1e-5, ..common },
            PairwiseKind::PcmePlusPlus => Self { vib_weight: 1e-4, ..common },
            PairwiseKind::AsymVmf | PairwiseKind::AsymPowerSpherical => {
                Self { dropout: 0.0, learning_rate: 1e-4, batch_size: 512, ..common }
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), TrainingError> {
        let bad = |option, found: &dyn std::fmt::Display, expected| {
            Err(TrainingError::Option { option, found: found.to_string(), expected })
        };
        for (option, value) in [
            ("hidden size", self.hidden_dim.unwrap_or(1)),
            ("epochs", self.epochs),
            ("patience", self.patience),
        ] {
            if value == 0 {
                return bad(option, &value, "at least 1");
            }
        }
        if self.batch_size < 2 {
            return bad("batch size", &self.batch_size, "at least 2: one pair has no wrong pair");
        }
        if !(1..=64).contains(&self.samples) {
            return bad("number of samples", &self.samples, "1 to 64");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", &self.dropout, "0 <= dropout < 1");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return bad("learning rate", &self.learning_rate, "a positive number");
        }
        for (option, value) in
            [("weight decay", self.weight_decay), ("weight of the divergence", self.vib_weight)]
        {
            if !(value.is_finite() && value >= 0.0) {
                return bad(option, &value, "a number from 0 on");
            }
        }
        Ok(())
    }
}

/// How a run went. The unit of a loss is the method's own; see [`super::loss`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairwiseSummary {
    pub training_pairs: usize,
    pub validation_pairs: usize,
    /// Epochs that were run.
    pub epochs: usize,
    /// The epoch whose weights were kept, from 1.
    pub best_epoch: usize,
    /// Held-out loss of the kept weights.
    pub validation_loss: f64,
    /// Held-out loss before the first step.
    pub first_validation_loss: f64,
    pub options: PairwiseOptions,
}
