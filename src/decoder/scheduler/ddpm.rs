//! DDPM (Ho et al., arXiv 2006.11239): sampling from the posterior of the next time step.

use burn::tensor::Tensor;

use super::config::Settings;
use super::{NoiseTable, PredictionType, StepOutput};

/// Keeps the logarithm of a vanishing variance finite, as in the reference.
const SMALLEST_VARIANCE: f64 = 1e-20;

#[derive(Debug, Clone)]
pub(super) struct Ddpm {
    table: NoiseTable,
    prediction: PredictionType,
    clip: Option<f64>,
    timesteps: Vec<usize>,
}

/// One reverse step between two noise levels.
pub(super) struct Posterior {
    /// alpha-bar here, and one step closer to the clean end.
    pub(super) a: f64,
    pub(super) a_prev: f64,
    /// Variance of the forward step between them.
    pub(super) beta: f64,
}

impl Ddpm {
    pub(super) fn new(settings: &Settings, timesteps: &[f64]) -> Self {
        Self {
            table: settings.table.clone(),
            prediction: settings.prediction,
            clip: settings.clip,
            timesteps: timesteps.iter().map(|&t| t as usize).collect(),
        }
    }

    pub(super) fn step<const D: usize>(
        &self,
        output: Tensor<D>,
        i: usize,
        sample: Tensor<D>,
        noise: Option<Tensor<D>>,
    ) -> StepOutput<D> {
        let a = self.table.alpha_bar(self.timesteps[i]);
        let a_prev = self.table.alpha_bar_or(self.timesteps.get(i + 1).copied(), 1.0);
        let posterior = Posterior { a, a_prev, beta: 1.0 - a / a_prev };
        posterior.step(self.prediction, self.clip, output, sample, noise)
    }
}

impl Posterior {
    /// Mean (eq. 7) plus noise of the posterior variance.
    pub(super) fn step<const D: usize>(
        &self,
        prediction: PredictionType,
        clip: Option<f64>,
        output: Tensor<D>,
        sample: Tensor<D>,
        noise: Option<Tensor<D>>,
    ) -> StepOutput<D> {
        let Posterior { a, a_prev, beta } = *self;
        let mut original = prediction.original(&output, &sample, a.sqrt(), (1.0 - a).sqrt());
        if let Some(range) = clip {
            original = original.clamp(-range, range);
        }
        let mut prev_sample = original.clone().mul_scalar(a_prev.sqrt() * beta / (1.0 - a))
            + sample.mul_scalar((1.0 - beta).sqrt() * (1.0 - a_prev) / (1.0 - a));
        if let Some(noise) = noise {
            let variance = ((1.0 - a_prev) / (1.0 - a) * beta).max(SMALLEST_VARIANCE);
            prev_sample = prev_sample + noise.mul_scalar(variance.sqrt());
        }
        StepOutput { prev_sample, pred_original_sample: original }
    }
}
