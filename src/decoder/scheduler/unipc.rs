//! UniPC (Zhao et al., arXiv 2302.04867): a predictor and a corrector of order 2 on the predicted
//! clean sample, with B(h) = e^h - 1 ("bh2").

use burn::tensor::Tensor;

use super::config::Settings;
use super::sigmas::{alpha_sigma, lambda};
use super::{PredictionType, StepOutput};

const ORDER: usize = 2;

#[derive(Debug, Clone)]
pub(super) struct UniPc<const D: usize> {
    prediction: PredictionType,
    sigmas: Vec<f64>,
    /// Clean samples predicted at the last two steps, newest last.
    originals: Vec<Tensor<D>>,
    /// The corrected sample of the step before, and the order of its predictor.
    before: Option<(Tensor<D>, usize)>,
}

impl<const D: usize> UniPc<D> {
    pub(super) fn new(settings: &Settings, sigmas: Vec<f64>) -> Self {
        Self { prediction: settings.prediction, sigmas, originals: Vec::new(), before: None }
    }

    pub(super) fn sigmas(&self) -> &[f64] {
        &self.sigmas
    }

    pub(super) fn step(&mut self, output: Tensor<D>, i: usize, sample: Tensor<D>) -> StepOutput<D> {
        let (alpha, sigma) = alpha_sigma(self.sigmas[i]);
        let original = self.prediction.original(&output, &sample, alpha, sigma);
        let corrected = match self.before.take() {
            Some((start, order)) => self.correct(i, start, order, &original),
            None => sample,
        };
        self.originals.push(original.clone());
        if self.originals.len() > ORDER {
            self.originals.remove(0);
        }
        let calls = self.sigmas.len() - 1;
        let order = ORDER.min(calls - i).min(i + 1);
        let prev_sample = self.predict(i, corrected.clone(), order, &original);
        self.before = Some((corrected, order));
        StepOutput { prev_sample, pred_original_sample: original }
    }

    /// Lambda of call `i`.
    fn lambda(&self, i: usize) -> f64 {
        lambda(self.sigmas[i])
    }

    /// From call `i` to the next (UniP).
    fn predict(
        &self,
        i: usize,
        sample: Tensor<D>,
        order: usize,
        original: &Tensor<D>,
    ) -> Tensor<D> {
        let (_, sigma) = alpha_sigma(self.sigmas[i]);
        let (alpha_next, sigma_next) = alpha_sigma(self.sigmas[i + 1]);
        let h = self.lambda(i + 1) - self.lambda(i);
        let gain = alpha_next * (-h).exp_m1();
        let next = sample.mul_scalar(sigma_next / sigma) - original.clone().mul_scalar(gain);
        if order < ORDER {
            return next;
        }
        let ratio = (self.lambda(i - 1) - self.lambda(i)) / h;
        let before = self.originals[self.originals.len() - 2].clone();
        next - (before - original.clone()).mul_scalar(0.5 * gain / ratio)
    }

    /// Redoes the step that led to call `i`, now that the output there is known (UniC).
    fn correct(&self, i: usize, start: Tensor<D>, order: usize, original: &Tensor<D>) -> Tensor<D> {
        let (_, sigma_before) = alpha_sigma(self.sigmas[i - 1]);
        let (alpha, sigma) = alpha_sigma(self.sigmas[i]);
        let h = self.lambda(i) - self.lambda(i - 1);
        let phi_1 = (-h).exp_m1();
        let gain = alpha * phi_1;
        let newest = self.originals[self.originals.len() - 1].clone();
        let base = start.mul_scalar(sigma / sigma_before) - newest.clone().mul_scalar(gain);
        let change = original.clone() - newest.clone();
        if order < ORDER {
            return base - change.mul_scalar(0.5 * gain);
        }
        // The 2x2 system of eq. 11 for the weights of both differences.
        let ratio = (self.lambda(i - 2) - self.lambda(i - 1)) / h;
        let phi_2 = phi_1 / -h - 1.0;
        let phi_3 = phi_2 / -h - 0.5;
        let (b_1, b_2) = (phi_2 / phi_1, 2.0 * phi_3 / phi_1);
        let rho_1 = (b_1 - b_2) / (1.0 - ratio);
        let rho_2 = b_1 - rho_1;
        let older = self.originals[self.originals.len() - 2].clone();
        let earlier = (older - newest).div_scalar(ratio);
        base - earlier.mul_scalar(gain * rho_1) - change.mul_scalar(gain * rho_2)
    }
}
