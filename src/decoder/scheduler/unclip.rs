//! The scheduler of the unCLIP priors (Karlo, Kandinsky): DDPM whose last step reaches the clean
//! end from training step 0.

use burn::tensor::Tensor;

use super::config::Settings;
use super::ddpm::Posterior;
use super::{NoiseTable, PredictionType, StepOutput};

#[derive(Debug, Clone)]
pub(super) struct UnClip {
    table: NoiseTable,
    prediction: PredictionType,
    clip: Option<f64>,
    timesteps: Vec<usize>,
    pub(super) unit_stride: bool,
}

impl UnClip {
    pub(super) fn new(settings: &Settings, timesteps: &[f64]) -> Self {
        Self {
            table: settings.table.clone(),
            prediction: settings.prediction,
            clip: settings.clip,
            timesteps: timesteps.iter().map(|&t| t as usize).collect(),
            unit_stride: false,
        }
    }

    pub(super) fn step<const D: usize>(
        &self,
        output: Tensor<D>,
        i: usize,
        sample: Tensor<D>,
        noise: Option<Tensor<D>>,
    ) -> StepOutput<D> {
        let t = self.timesteps[i];
        let one_before = t.checked_sub(1);
        let previous = match self.timesteps.get(i + 1) {
            Some(&next) if !self.unit_stride => Some(next),
            _ => one_before,
        };
        let a = self.table.alpha_bar(t);
        let a_prev = self.table.alpha_bar_or(previous, 1.0);
        let beta = if previous == one_before {
            f64::from(self.table.betas()[t])
        } else {
            // In float32, as the reference: from training step 999 a long step keeps so little of
            // the sample (a / a_prev is about 1e-8) that 1 - beta loses it.
            f64::from(1.0 - a as f32 / a_prev as f32)
        };
        Posterior { a, a_prev, beta }.step(self.prediction, self.clip, output, sample, noise)
    }
}
