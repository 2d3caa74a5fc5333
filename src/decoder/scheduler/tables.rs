//! The noise schedule: beta and the running product of 1 - beta for every training step.
//!
//! Networks were trained against float32 tables, so these are built with the same roundings.

use burn::tensor::Tensor;

/// How beta runs over the training steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BetaSchedule {
    /// Evenly from `beta_start` to `beta_end`.
    Linear,
    /// Square of an even run between the square roots (Stable Diffusion).
    ScaledLinear,
    /// Cosine of arXiv 2102.09672, capped at 0.999; has no start and end.
    SquaredCosine,
}

/// Beta and alpha-bar of every training step.
#[derive(Debug, Clone, PartialEq)]
pub struct NoiseTable {
    betas: Vec<f32>,
    alphas_cumprod: Vec<f32>,
}

impl NoiseTable {
    pub(super) fn new(schedule: BetaSchedule, steps: usize, start: f64, end: f64) -> Self {
        let betas: Vec<f32> = match schedule {
            BetaSchedule::Linear => linspace_f32(start, end, steps),
            BetaSchedule::ScaledLinear => linspace_f32(start.sqrt(), end.sqrt(), steps)
                .into_iter()
                .map(|root| root * root)
                .collect(),
            BetaSchedule::SquaredCosine => squared_cosine(steps),
        };
        let mut product = 1.0f64;
        let alphas_cumprod = betas
            .iter()
            .map(|&beta| {
                // The product runs in f64 and each prefix is rounded.
                product *= f64::from(1.0 - beta);
                product as f32
            })
            .collect();
        Self { betas, alphas_cumprod }
    }

    /// Number of training steps.
    pub fn len(&self) -> usize {
        self.betas.len()
    }

    /// True when there are no training steps, which no valid config gives.
    pub fn is_empty(&self) -> bool {
        self.betas.is_empty()
    }

    /// beta of every training step.
    pub fn betas(&self) -> &[f32] {
        &self.betas
    }

    /// alpha-bar of every training step: the share of signal left in the variance.
    pub fn alphas_cumprod(&self) -> &[f32] {
        &self.alphas_cumprod
    }

    /// alpha-bar at training step `t`.
    pub(super) fn alpha_bar(&self, t: usize) -> f64 {
        f64::from(self.alphas_cumprod[t])
    }

    /// alpha-bar at training step `t`, or `last` for the clean end before step 0.
    pub(super) fn alpha_bar_or(&self, t: Option<usize>, last: f64) -> f64 {
        t.map_or(last, |t| self.alpha_bar(t))
    }

    /// sqrt(a) x0 + sqrt(1 - a) epsilon: `original` as it looks at training step `t`.
    ///
    /// # Panics
    /// When `t` is no training step.
    pub fn add_noise<const D: usize>(
        &self,
        original: Tensor<D>,
        noise: Tensor<D>,
        t: usize,
    ) -> Tensor<D> {
        let a = self.alpha_bar(t);
        original.mul_scalar(a.sqrt()) + noise.mul_scalar((1.0 - a).sqrt())
    }

    /// The velocity sqrt(a) epsilon - sqrt(1 - a) x0 at training step `t`.
    ///
    /// # Panics
    /// When `t` is no training step.
    pub fn velocity<const D: usize>(
        &self,
        original: Tensor<D>,
        noise: Tensor<D>,
        t: usize,
    ) -> Tensor<D> {
        let a = self.alpha_bar(t);
        noise.mul_scalar(a.sqrt()) - original.mul_scalar((1.0 - a).sqrt())
    }
}

/// torch.linspace in float32: both halves run from their own end, each value rounded once.
fn linspace_f32(start: f64, end: f64, n: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = f64::from((end - start) / (n - 1) as f32);
    (0..n)
        .map(|i| {
            if i < n / 2 {
                (f64::from(start) + step * i as f64) as f32
            } else {
                (f64::from(end) - step * (n - 1 - i) as f64) as f32
            }
        })
        .collect()
}

fn squared_cosine(steps: usize) -> Vec<f32> {
    let alpha_bar = |i: usize| {
        let t = i as f64 / steps as f64;
        ((t + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
    };
    (0..steps).map(|i| (1.0 - alpha_bar(i + 1) / alpha_bar(i)).min(0.999) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaled_linear_betas_begin_and_end_where_the_config_says() {
        let table = NoiseTable::new(BetaSchedule::ScaledLinear, 1000, 0.00085, 0.012);
        assert!((table.betas()[0] - 0.00085).abs() < 1e-9);
        assert!((table.betas()[999] - 0.012).abs() < 1e-8);
        assert!(table.alphas_cumprod().is_sorted_by(|a, b| a > b));
    }

    #[test]
    fn squared_cosine_betas_grow_and_are_capped() {
        let table = NoiseTable::new(BetaSchedule::SquaredCosine, 1000, 0.0, 0.0);
        assert!(table.betas().is_sorted());
        assert_eq!(table.betas()[999], 0.999);
        // Halfway, by the closed form.
        let exact =
            ((0.501f64 - 0.001 + 0.008) / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2)
                / (0.008f64 / 1.008 * std::f64::consts::FRAC_PI_2).cos().powi(2);
        assert!((table.alpha_bar(499) - exact).abs() < 1e-5);
    }
}
