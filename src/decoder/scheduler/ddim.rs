//! DDIM (Song et al., arXiv 2010.02502, eq. 12).

use burn::tensor::Tensor;

use super::config::Settings;
use super::{NoiseTable, PredictionType, StepOutput};

#[derive(Debug, Clone)]
pub(super) struct Ddim {
    table: NoiseTable,
    prediction: PredictionType,
    clip: Option<f64>,
    final_alpha: f64,
    timesteps: Vec<usize>,
    stride: usize,
    pub(super) eta: f64,
}

impl Ddim {
    pub(super) fn new(settings: &Settings, steps: usize, timesteps: &[f64]) -> Self {
        Self {
            final_alpha: settings.final_alpha(),
            timesteps: timesteps.iter().map(|&t| t as usize).collect(),
            stride: settings.table.len() / steps,
            table: settings.table.clone(),
            prediction: settings.prediction,
            clip: settings.clip,
            eta: 0.0,
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
        let a = self.table.alpha_bar(t);
        // One stride back, which is not the next entry of the list for every spacing.
        let a_prev = self.table.alpha_bar_or(t.checked_sub(self.stride), self.final_alpha);
        let (signal, sigma) = (a.sqrt(), (1.0 - a).sqrt());
        let mut original = self.prediction.original(&output, &sample, signal, sigma);
        let epsilon = self.prediction.epsilon(&output, &sample, signal, sigma);
        if let Some(range) = self.clip {
            original = original.clamp(-range, range);
        }
        // eq. 16
        let deviation = self.eta * ((1.0 - a_prev) / (1.0 - a) * (1.0 - a / a_prev)).sqrt();
        let direction = (1.0 - a_prev - deviation * deviation).max(0.0).sqrt();
        let mut prev_sample =
            original.clone().mul_scalar(a_prev.sqrt()) + epsilon.mul_scalar(direction);
        if let Some(noise) = noise {
            prev_sample = prev_sample + noise.mul_scalar(deviation);
        }
        StepOutput { prev_sample, pred_original_sample: original }
    }
}
