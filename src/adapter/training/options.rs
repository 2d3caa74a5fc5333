//! What a training run is asked to do.

use serde::{Deserialize, Serialize};

use crate::adapter::loss::{Family, Loss};
use crate::adapter::probvlm::Preset;
use crate::adapter::space::SpaceKind;
use crate::adapter::training::TrainingError;

/// Batches after which the released code ends an epoch.
const RELEASED_STEPS_PER_EPOCH: usize = 2001;

/// How the learning rate goes over the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    Constant,
    /// Half a cosine from the learning rate at the first step to zero after the last epoch.
    Cosine,
}

impl Schedule {
    /// The learning rate of a step out of `steps` in all, from the `first` one on.
    pub(in crate::adapter) fn rate(self, first: f64, step: usize, steps: usize) -> f64 {
        match self {
            Schedule::Constant => first,
            Schedule::Cosine => {
                let phase = std::f64::consts::PI * step as f64 / steps as f64;
                0.5 * first * (1.0 + phase.cos())
            }
        }
    }
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
    /// The densities that are learned.
    #[serde(default, skip_serializing_if = "Family::is_generalized")]
    pub family: Family,
    /// Weight T1 of the absolute error. `None` is the preset's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub l1_weight: Option<f64>,
    /// Weight T2 of the negative log likelihood. `None` is the preset's; the README of the released
    /// code trains with 1e-4, its defaults with 0.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nll_weight: Option<f64>,
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
    /// Steps of an epoch at most: the released code breaks off each at 2001 batches of another
    /// random order. `None` goes through all items.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steps_per_epoch: Option<usize>,
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
            family: Family::GeneralizedGaussian,
            l1_weight: None,
            nll_weight: None,
            space: SpaceKind::Standardised,
            hidden_dim: 256,
            dropout: 0.1,
            cross_weight: 0.1,
            learning_rate: 3e-4,
            schedule: Schedule::Cosine,
            batch_size: 512,
            epochs: 30,
            patience: 5,
            steps_per_epoch: None,
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
                steps_per_epoch: Some(RELEASED_STEPS_PER_EPOCH),
                ..common
            },
        }
    }

    /// The loss: the preset's, with the weights and the family of these options.
    pub fn loss(&self) -> Loss {
        let preset = self.preset.loss();
        Loss {
            l1_weight: self.l1_weight.unwrap_or(preset.l1_weight),
            nll_weight: self.nll_weight.unwrap_or(preset.nll_weight),
            fixed_beta: self.family.fixed_beta(),
            ..preset
        }
    }

    /// Batches of an epoch over so many items.
    pub(super) fn batches(&self, items: usize) -> usize {
        let all = items.div_ceil(self.batch_size);
        self.steps_per_epoch.map_or(all, |most| all.min(most))
    }

    /// The learning rate of a step out of `steps` in all.
    pub(super) fn learning_rate_at(&self, step: usize, steps: usize) -> f64 {
        self.schedule.rate(self.learning_rate, step, steps)
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
            ("steps per epoch", self.steps_per_epoch.unwrap_or(1)),
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
        let Loss { l1_weight, nll_weight, .. } = self.loss();
        for (option, weight) in [("L1 weight", l1_weight), ("NLL weight", nll_weight)] {
            if !(weight.is_finite() && weight >= 0.0) {
                return bad(option, &weight, "a number from 0 on");
            }
        }
        if l1_weight + nll_weight == 0.0 {
            return bad("L1 weight + NLL weight", &0, "a loss: one of both above 0");
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
