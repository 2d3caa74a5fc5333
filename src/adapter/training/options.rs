//! What a training run is asked to do.

use serde::{Deserialize, Serialize};

use crate::adapter::probvlm::Preset;
use crate::adapter::space::SpaceKind;
use crate::adapter::training::TrainingError;

/// How the learning rate goes over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Constant,
    /// Half a cosine from the learning rate at the first step to zero after the last epoch.
    Cosine,
}

impl std::str::FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "constant" => Ok(Schedule::Constant),
            "cosine" => Ok(Schedule::Cosine),
            other => Err(format!("unknown schedule {other:?}; expected constant or cosine")),
        }
    }
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
    /// Standard deviation of the noise added to inputs in the working space. `None` finds it:
    /// noise of variance ρ acts on a linear map like a ridge penalty ρ per item (Bishop, Neural
    /// Computation 7(1), 1995), so a cross-modal adapter in a standardised space gets the ρ of the
    /// [`LinearMap`](crate::adapter::bridge::LinearMap) with the best held-out error; any other
    /// gets no noise.
    pub input_noise: Option<f64>,
    /// Decides initial weights, order and dropout.
    pub seed: u64,
}

impl TrainingOptions {
    /// The recommended options of a preset.
    pub fn new(preset: Preset) -> Self {
        let common = Self {
            preset,
            space: SpaceKind::Standardised,
            hidden_dim: 256,
            dropout: 0.1,
            cross_weight: 0.1,
            learning_rate: 3e-4,
            schedule: Schedule::Cosine,
            batch_size: 512,
            epochs: 30,
            patience: 5,
            gradient_clip: None,
            input_noise: None,
            seed: 0,
        };
        match preset {
            Preset::Paper => common,
            Preset::Released => Self {
                space: SpaceKind::Unit,
                cross_weight: 1e-4,
                learning_rate: 1e-4,
                schedule: Schedule::Constant,
                batch_size: 64,
                epochs: 100,
                patience: 100,
                ..common
            },
        }
    }

    /// The learning rate of a step out of `steps` in all.
    pub(super) fn learning_rate_at(&self, step: usize, steps: usize) -> f64 {
        match self.schedule {
            Schedule::Constant => self.learning_rate,
            Schedule::Cosine => {
                let phase = std::f64::consts::PI * step as f64 / steps as f64;
                0.5 * self.learning_rate * (1.0 + phase.cos())
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), TrainingError> {
        let bad = |option, found: &dyn std::fmt::Display, expected| {
            Err(TrainingError::Option { option, found: found.to_string(), expected })
        };
        for (option, value) in [
            ("hidden size", self.hidden_dim),
            ("batch size", self.batch_size),
            ("epochs", self.epochs),
            ("patience", self.patience),
        ] {
            if value == 0 {
                return bad(option, &value, "at least 1");
            }
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return bad("dropout", &self.dropout, "0 <= dropout < 1");
        }
        if !(self.learning_rate.is_finite() && self.learning_rate > 0.0) {
            return bad("learning rate", &self.learning_rate, "a positive number");
        }
        if !(self.cross_weight.is_finite() && self.cross_weight >= 0.0) {
            return bad("cross weight", &self.cross_weight, "a number from 0 on");
        }
        if let Some(noise) = self.input_noise
            && !(noise.is_finite() && noise >= 0.0)
        {
            return bad("input noise", &noise, "a number from 0 on");
        }
        match self.gradient_clip {
            Some(limit) if !(limit.is_finite() && limit > 0.0) => {
                bad("gradient clip", &limit, "a positive number")
            }
            _ => Ok(()),
        }
    }
}
