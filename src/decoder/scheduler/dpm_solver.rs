//! DPM-Solver++ 2M (Lu et al., arXiv 2211.01095, algorithm 2), midpoint variant.

use burn::tensor::Tensor;

use super::config::Settings;
use super::sigmas::{alpha_sigma, lambda};
use super::{PredictionType, StepOutput};

#[derive(Debug, Clone)]
pub(super) struct DpmSolver<const D: usize> {
    prediction: PredictionType,
    sigmas: Vec<f64>,
    /// The clean sample predicted at the step before.
    before: Option<Tensor<D>>,
}

impl<const D: usize> DpmSolver<D> {
    pub(super) fn new(settings: &Settings, sigmas: Vec<f64>) -> Self {
        Self { prediction: settings.prediction, sigmas, before: None }
    }

    pub(super) fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    pub(super) fn step(&mut self, output: Tensor<D>, i: usize, sample: Tensor<D>) -> StepOutput<D> {
        let (here, next) = (self.sigmas[i], self.sigmas[i + 1]);
        let (alpha, sigma) = alpha_sigma(here);
        let (alpha_next, sigma_next) = alpha_sigma(next);
        let original = self.prediction.original(&output, &sample, alpha, sigma);
        let h = lambda(next) - lambda(here);
        let gain = alpha_next * -(-h).exp_m1();
        let mut prev_sample =
            sample.mul_scalar(sigma_next / sigma) + original.clone().mul_scalar(gain);
        // At the last step h is infinite; only the first order has a limit there.
        let last = i + 2 == self.sigmas.len();
        if let (Some(before), false) = (self.before.take(), last) {
            let ratio = (lambda(here) - lambda(self.sigmas[i - 1])) / h;
            let change = original.clone() - before;
            prev_sample = prev_sample + change.mul_scalar(gain / (2.0 * ratio));
        }
        self.before = Some(original.clone());
        StepOutput { prev_sample, pred_original_sample: original }
    }
}
