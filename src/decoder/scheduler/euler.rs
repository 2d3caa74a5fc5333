//! Euler steps of the probability flow ODE, and their ancestral variant (Karras et al.,
//! arXiv 2206.00364; names after k-diffusion).

use burn::tensor::Tensor;

use super::config::Settings;
use super::sigmas::{alpha_sigma, sigmas};
use super::timesteps::Spacing;
use super::{PredictionType, StepOutput};

#[derive(Debug, Clone)]
pub(super) struct Euler {
    prediction: PredictionType,
    spacing: Spacing,
    sigmas: Vec<f64>,
    ancestral: bool,
}

impl Euler {
    pub(super) fn new(settings: &Settings, timesteps: &[f64], ancestral: bool) -> Self {
        Self {
            prediction: settings.prediction,
            spacing: settings.spacing,
            sigmas: sigmas(&settings.table, timesteps),
            ancestral,
        }
    }

    pub(super) fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    pub(super) fn is_ancestral(&self) -> bool {
        self.ancestral
    }

    pub(super) fn init_noise_sigma(&self) -> f64 {
        let largest = self.sigmas.iter().copied().fold(0.0, f64::max);
        match self.spacing {
            Spacing::Linspace | Spacing::Trailing => largest,
            // Does not start at full noise: signal of variance 1 is assumed on top.
            Spacing::Leading => (largest * largest + 1.0).sqrt(),
        }
    }

    /// The network expects samples of variance 1.
    pub(super) fn input_scale(&self, i: usize) -> f64 {
        alpha_sigma(self.sigmas[i]).0
    }

    pub(super) fn step<const D: usize>(
        &self,
        output: Tensor<D>,
        i: usize,
        sample: Tensor<D>,
        noise: Option<Tensor<D>>,
    ) -> StepOutput<D> {
        let (sigma, next) = (self.sigmas[i], self.sigmas[i + 1]);
        let (alpha, _) = alpha_sigma(sigma);
        let original = match self.prediction {
            PredictionType::Epsilon => sample.clone() - output.mul_scalar(sigma),
            PredictionType::Velocity => {
                sample.clone().mul_scalar(alpha * alpha) - output.mul_scalar(sigma * alpha)
            }
            PredictionType::Sample => output,
        };
        let slope = (sample.clone() - original.clone()).div_scalar(sigma);
        let prev_sample = match noise {
            None => sample + slope.mul_scalar(next - sigma),
            Some(noise) => {
                // Noise to add back, and the level to step down to, so that both give `next`.
                let up = next * ((sigma * sigma - next * next).max(0.0)).sqrt() / sigma;
                let down = (next * next - up * up).max(0.0).sqrt();
                sample + slope.mul_scalar(down - sigma) + noise.mul_scalar(up)
            }
        };
        StepOutput { prev_sample, pred_original_sample: original }
    }
}
