//! PNDM (Liu et al., arXiv 2202.09778): linear multistep (PLMS) over the network outputs, after
//! an optional Runge-Kutta warm-up (PRK).

use burn::tensor::Tensor;

use super::config::Settings;
use super::timesteps::PRK_CALLS;
use super::{NoiseTable, PredictionType, StepOutput};

/// Network calls of one Runge-Kutta step.
const PRK_GROUP: usize = 4;
/// Earlier outputs that the fourth-order formula looks back at.
const OUTPUTS_KEPT: usize = 4;

#[derive(Debug, Clone)]
pub(super) struct Pndm<const D: usize> {
    table: NoiseTable,
    prediction: PredictionType,
    final_alpha: f64,
    timesteps: Vec<usize>,
    stride: usize,
    /// Number of leading calls that belong to the Runge-Kutta warm-up.
    prk_calls: usize,
    /// Outputs of the multistep formula, newest last.
    outputs: Vec<Tensor<D>>,
    /// The sample that a group of calls starts from.
    start: Option<Tensor<D>>,
    /// Weighted sum of the outputs of the running Runge-Kutta group.
    weighted: Option<Tensor<D>>,
}

impl<const D: usize> Pndm<D> {
    pub(super) fn new(settings: &Settings, steps: usize, timesteps: &[f64]) -> Self {
        Self {
            final_alpha: settings.final_alpha(),
            timesteps: timesteps.iter().map(|&t| t as usize).collect(),
            stride: settings.table.len() / steps,
            prk_calls: if settings.skip_prk_steps { 0 } else { PRK_CALLS },
            table: settings.table.clone(),
            prediction: settings.prediction,
            outputs: Vec::new(),
            start: None,
            weighted: None,
        }
    }

    pub(super) fn step(&mut self, output: Tensor<D>, i: usize, sample: Tensor<D>) -> StepOutput<D> {
        let a = self.table.alpha_bar(self.timesteps[i]);
        let original = self.prediction.original(&output, &sample, a.sqrt(), (1.0 - a).sqrt());
        let prev_sample = if i < self.prk_calls {
            self.runge_kutta(output, i, sample)
        } else {
            self.multistep(output, i, sample)
        };
        StepOutput { prev_sample, pred_original_sample: original }
    }

    /// One of the four calls of a Runge-Kutta step (eq. 13), weights 1/6, 1/3, 1/3, 1/6.
    fn runge_kutta(&mut self, output: Tensor<D>, i: usize, sample: Tensor<D>) -> Tensor<D> {
        let from = self.timesteps[i / PRK_GROUP * PRK_GROUP];
        let half = if i.is_multiple_of(2) { self.stride / 2 } else { 0 };
        let to = self.timesteps[i].checked_sub(half);
        let call = i % PRK_GROUP;
        let weight = if call == 0 || call == PRK_GROUP - 1 { 1.0 / 6.0 } else { 1.0 / 3.0 };
        let mut weighted = output.clone().mul_scalar(weight);
        if let Some(sum) = self.weighted.take() {
            weighted = sum + weighted;
        }
        if call == 0 {
            self.remember(output.clone());
            self.start = Some(sample.clone());
        }
        let start = self.start.clone().unwrap_or(sample);
        if call == PRK_GROUP - 1 {
            return self.transfer(start, from, to, weighted);
        }
        self.weighted = Some(weighted);
        self.transfer(start, from, to, output)
    }

    /// Adams-Bashforth over the raw outputs (eq. 12). Without warm-up, the second time step is
    /// visited twice: call 1 redoes call 0 with the mean of both outputs.
    fn multistep(&mut self, output: Tensor<D>, i: usize, sample: Tensor<D>) -> Tensor<D> {
        let t = self.timesteps[i];
        if i == 1 && self.prk_calls == 0 {
            let start = self.start.take().unwrap_or(sample);
            let mean = match self.outputs.last() {
                Some(first) => (output + first.clone()).div_scalar(2.0),
                None => output,
            };
            return self.transfer(start, t + self.stride, Some(t), mean);
        }
        if i == 0 {
            self.start = Some(sample.clone());
        }
        self.remember(output);
        let term = |back: usize, weight: f64| {
            self.outputs[self.outputs.len() - back].clone().mul_scalar(weight)
        };
        let direction = match self.outputs.len() {
            1 => term(1, 1.0),
            2 => (term(1, 3.0) - term(2, 1.0)).div_scalar(2.0),
            3 => (term(1, 23.0) - term(2, 16.0) + term(3, 5.0)).div_scalar(12.0),
            _ => (term(1, 55.0) - term(2, 59.0) + term(3, 37.0) - term(4, 9.0)).div_scalar(24.0),
        };
        self.transfer(sample, t, t.checked_sub(self.stride), direction)
    }

    fn remember(&mut self, output: Tensor<D>) {
        if self.outputs.len() == OUTPUTS_KEPT {
            self.outputs.remove(0);
        }
        self.outputs.push(output);
    }

    /// Moves `sample` from training step `from` to `to` along `output` (eq. 9). A velocity is
    /// turned into noise here, after outputs were averaged.
    fn transfer(
        &self,
        sample: Tensor<D>,
        from: usize,
        to: Option<usize>,
        output: Tensor<D>,
    ) -> Tensor<D> {
        let a = self.table.alpha_bar(from);
        let a_prev = self.table.alpha_bar_or(to, self.final_alpha);
        let epsilon = self.prediction.epsilon(&output, &sample, a.sqrt(), (1.0 - a).sqrt());
        let denominator = a * (1.0 - a_prev).sqrt() + (a * (1.0 - a) * a_prev).sqrt();
        sample.mul_scalar((a_prev / a).sqrt()) - epsilon.mul_scalar((a_prev - a) / denominator)
    }
}
