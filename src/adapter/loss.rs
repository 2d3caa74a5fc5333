//! The likelihood that ProbVLM adapters are trained with, and its exact gradient.
//!
//! In: what the three heads of a network gave for a batch, and the targets. Out: the mean loss and
//! its derivative with respect to every head output. The heads parametrise a generalised Gaussian
//! per dimension with density `β / (2 α Γ(1/β)) exp(-(|z - μ| / α)^β)` (ProbVLM, arXiv 2307.00398,
//! section 3.2). This module knows nothing of networks, optimisers or files.
//!
//! The derivatives are written out instead of recorded by automatic differentiation: the loss
//! becomes one pass over the batch, `|z - μ| = 0` has a defined gradient (autograd gives NaN for
//! β < 1), and no log-gamma operation is needed from the tensor backend.

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::gamma::ln_gamma_and_digamma_1p;

/// Added to 1/α after the link, in training and in prediction (`alpha_eps` of the authors' code),
/// so that α stays finite.
pub const SMALLEST_INVERSE_ALPHA: f64 = 1e-4;

/// Elements per parallel task. Partial sums are added in task order, so that a loss does not
/// depend on the number of threads.
const CHUNK: usize = 8192;

/// How an unbounded head output becomes a positive number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Link {
    /// `max(x, 0)`, as in the authors' code. Outputs stuck below zero no longer learn.
    Relu,
    /// `ln(1 + e^x)`: close to the former where that is positive, with a slope everywhere.
    Softplus,
}

impl Link {
    /// The link's value, without the epsilon.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Link::Relu => x.max(0.0),
            Link::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
        }
    }

    /// The number whose link is `value`, for a positive value.
    pub fn inverse(self, value: f32) -> f32 {
        match self {
            Link::Relu => value,
            // ln(e^v - 1), without overflow.
            Link::Softplus => value + (-(-value).exp_m1()).ln(),
        }
    }

    /// Value and slope. The slope of the rectifier at zero is zero, as in PyTorch.
    fn apply_with_slope(self, x: f64) -> (f64, f64) {
        match self {
            Link::Relu => (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 }),
            Link::Softplus => {
                let e = (-x.abs()).exp();
                let value = x.max(0.0) + e.ln_1p();
                let slope = if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) };
                (value, slope)
            }
        }
    }
}

/// What stands for `(|z - μ| / α)^β` in the negative log likelihood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Residual {
    /// The power itself: the likelihood of the paper.
    Power,
    /// `|z - μ| β / α`. The published code computes this product, the power is commented out.
    Product,
}

/// The loss `T1 |z - μ| + T2 NLL`, averaged over items and dimensions, with
/// `NLL = residual - ln(1/α) + ln Γ(1/β) - ln β`; the constant `ln 2` of the density is left out,
/// as in the paper (equation 4) and the published code.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Loss {
    /// T1, the weight of the absolute error.
    pub l1_weight: f64,
    /// T2, the weight of the negative log likelihood.
    pub nll_weight: f64,
    pub residual: Residual,
    /// The residual is clamped to this range; outside of it its gradient is zero.
    pub clamp: Option<[f64; 2]>,
    pub link: Link,
    /// Added to β after the link, in training and in prediction.
    pub smallest_beta: f64,
}

impl Loss {
    /// The paper's text: the exact likelihood alone. β is kept above 1/2: below, one surprising
    /// item makes a density with a variance beyond all bounds.
    pub const PAPER: Loss = Loss {
        l1_weight: 0.0,
        nll_weight: 1.0,
        residual: Residual::Power,
        clamp: None,
        link: Link::Softplus,
        smallest_beta: 0.5,
    };

    /// The defaults of the published training code. Its README trains with `nll_weight` 1e-4.
    pub const RELEASED: Loss = Loss {
        l1_weight: 1.0,
        nll_weight: 5e-2,
        residual: Residual::Product,
        clamp: Some([1e-4, 1e3]),
        link: Link::Relu,
        smallest_beta: 1e-4,
    };
}

/// The raw outputs of the three heads on the host, `[N, D]` row by row, before the link.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadValues {
    pub mu: Vec<f32>,
    pub inverse_alpha: Vec<f32>,
    pub beta: Vec<f32>,
}

/// Derivatives of a loss with respect to [`HeadValues`], in the same layout.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadGradients {
    pub mu: Vec<f32>,
    pub inverse_alpha: Vec<f32>,
    pub beta: Vec<f32>,
}

impl HeadGradients {
    /// All zero, for `len` outputs per head.
    pub fn zeros(len: usize) -> Self {
        Self { mu: vec![0.0; len], inverse_alpha: vec![0.0; len], beta: vec![0.0; len] }
    }
}

/// A loss and its parts, each a mean over items and dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct LossValue {
    /// `T1 l1 + T2 nll`.
    pub total: f64,
    /// Mean absolute error of μ.
    pub l1: f64,
    /// Mean negative log likelihood, nats per dimension, without `ln 2`.
    pub nll: f64,
}

/// One dimension of one item: its two losses, and the derivatives of their weighted sum.
struct Element {
    l1: f64,
    nll: f64,
    mu: f64,
    inverse_alpha: f64,
    beta: f64,
}

impl Loss {
    /// The loss of a batch.
    ///
    /// # Panics
    /// When the four slices differ in length.
    pub fn evaluate(&self, heads: &HeadValues, targets: &[f32]) -> LossValue {
        check_lengths(heads, targets);
        let sums: Vec<[f64; 2]> = (0..targets.len().div_ceil(CHUNK))
            .into_par_iter()
            .map(|chunk| {
                let range = chunk * CHUNK..((chunk + 1) * CHUNK).min(targets.len());
                let mut sum = [0f64; 2];
                for i in range {
                    let element = self.element(heads, i, targets[i]);
                    sum[0] += element.l1;
                    sum[1] += element.nll;
                }
                sum
            })
            .collect();
        self.mean(&sums, targets.len())
    }

    /// The loss of a batch, with `weight` times its gradient added to `gradients`.
    ///
    /// # Panics
    /// When the slices differ in length.
    pub fn accumulate(
        &self,
        heads: &HeadValues,
        targets: &[f32],
        weight: f64,
        gradients: &mut HeadGradients,
    ) -> LossValue {
        check_lengths(heads, targets);
        let HeadGradients { mu, inverse_alpha, beta } = gradients;
        assert_eq!(mu.len(), targets.len(), "one gradient per target");
        let scale = weight / targets.len() as f64;
        let sums: Vec<[f64; 2]> = mu
            .par_chunks_mut(CHUNK)
            .zip_eq(inverse_alpha.par_chunks_mut(CHUNK))
            .zip_eq(beta.par_chunks_mut(CHUNK))
            .enumerate()
            .map(|(chunk, ((mu, inverse_alpha), beta))| {
                let mut sum = [0f64; 2];
                for k in 0..mu.len() {
                    let i = chunk * CHUNK + k;
                    let element = self.element(heads, i, targets[i]);
                    sum[0] += element.l1;
                    sum[1] += element.nll;
                    mu[k] += (scale * element.mu) as f32;
                    inverse_alpha[k] += (scale * element.inverse_alpha) as f32;
                    beta[k] += (scale * element.beta) as f32;
                }
                sum
            })
            .collect();
        self.mean(&sums, targets.len())
    }

    fn mean(&self, sums: &[[f64; 2]], count: usize) -> LossValue {
        let count = count as f64;
        let l1 = sums.iter().map(|s| s[0]).sum::<f64>() / count;
        let nll = sums.iter().map(|s| s[1]).sum::<f64>() / count;
        LossValue { total: self.l1_weight * l1 + self.nll_weight * nll, l1, nll }
    }

    /// With t = |r| / α and d = t^β (or tβ): ∂d/∂μ = β d / r, ∂d/∂(1/α) = β d α, ∂d/∂β = d ln t.
    /// `ln Γ(1/β) - ln β` is `ln Γ(1 + 1/β)`, whose derivative is `-ψ(1 + 1/β) / β²`.
    #[inline]
    fn element(&self, heads: &HeadValues, i: usize, target: f32) -> Element {
        let (inverse_alpha, alpha_slope) =
            self.link.apply_with_slope(f64::from(heads.inverse_alpha[i]));
        let (beta, beta_slope) = self.link.apply_with_slope(f64::from(heads.beta[i]));
        let inverse_alpha = inverse_alpha + SMALLEST_INVERSE_ALPHA;
        let beta = beta + self.smallest_beta;
        // The difference is taken in f32, as the reference code does, so that equal numbers
        // give exactly zero.
        let r = f64::from(heads.mu[i] - target);
        let size = r.abs();
        let sign = if r > 0.0 {
            1.0
        } else if r < 0.0 {
            -1.0
        } else {
            0.0
        };
        let (d, d_size, d_inverse_alpha, d_beta) = match self.residual {
            Residual::Power if size > 0.0 => {
                let ln_t = (size * inverse_alpha).ln();
                let d = (beta * ln_t).exp();
                (d, beta * d / size, beta * d / inverse_alpha, d * ln_t)
            }
            Residual::Power => (0.0, 0.0, 0.0, 0.0),
            Residual::Product => (
                size * inverse_alpha * beta,
                inverse_alpha * beta,
                size * beta,
                size * inverse_alpha,
            ),
        };
        let (d, inside) = match self.clamp {
            None => (d, 1.0),
            Some([low, high]) => {
                (d.clamp(low, high), if (low..=high).contains(&d) { 1.0 } else { 0.0 })
            }
        };
        let x = beta.recip();
        let (ln_gamma, digamma) = ln_gamma_and_digamma_1p(x);
        let (t1, t2) = (self.l1_weight, self.nll_weight);
        Element {
            l1: size,
            nll: d - inverse_alpha.ln() + ln_gamma,
            mu: sign * (t1 + t2 * inside * d_size),
            inverse_alpha: t2 * alpha_slope * (inside * d_inverse_alpha - inverse_alpha.recip()),
            beta: t2 * beta_slope * (inside * d_beta - digamma * x * x),
        }
    }
}

fn check_lengths(heads: &HeadValues, targets: &[f32]) {
    let lengths = [heads.mu.len(), heads.inverse_alpha.len(), heads.beta.len()];
    assert!(
        lengths.iter().all(|&n| n == targets.len()),
        "head outputs of {lengths:?} elements for {} targets",
        targets.len()
    );
}

/// A scalar tensor whose gradient with respect to the head outputs is `gradients`; calling
/// `backward` on it carries them into the network. Its value means nothing.
///
/// `outputs` are the `[N, D]` outputs for μ, 1/α and β, on an autodiff device.
pub fn with_gradients(outputs: [Tensor<2>; 3], gradients: HeadGradients) -> Tensor<1> {
    let device: Device = outputs[0].device();
    let dims = outputs[0].dims();
    let [mu, inverse_alpha, beta] = outputs;
    let dot = |output: Tensor<2>, gradient: Vec<f32>| {
        (output * Tensor::from_data(TensorData::new(gradient, dims), &device)).sum()
    };
    dot(mu, gradients.mu) + dot(inverse_alpha, gradients.inverse_alpha) + dot(beta, gradients.beta)
}

#[cfg(test)]
mod tests {
    use statrs::function::gamma::ln_gamma;

    use super::*;

    fn heads(mu: f32, inverse_alpha: f32, beta: f32) -> HeadValues {
        HeadValues { mu: vec![mu], inverse_alpha: vec![inverse_alpha], beta: vec![beta] }
    }

    fn all_losses() -> Vec<Loss> {
        let mut losses = Vec::new();
        for residual in [Residual::Power, Residual::Product] {
            for link in [Link::Relu, Link::Softplus] {
                losses.push(Loss { residual, link, l1_weight: 0.3, ..Loss::PAPER });
            }
        }
        losses.extend([Loss::PAPER, Loss::RELEASED]);
        losses
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss_in_every_variant() {
        let points = [
            (0.3, 0.8, 1.7, -0.4),
            (-1.2, 0.2, 0.6, 0.5),
            (0.9, 2.5, 4.0, 1.0),
            (0.1, 1.0, 1.0, 0.0),
        ];
        for loss in all_losses() {
            for (mu, a, b, z) in points {
                let mut gradients = HeadGradients::zeros(1);
                let value = loss.accumulate(&heads(mu, a, b), &[z], 1.0, &mut gradients);
                assert_eq!(value, loss.evaluate(&heads(mu, a, b), &[z]));
                let h = 1e-3f32;
                let slope = |dm: f32, da: f32, db: f32| {
                    let up = loss.evaluate(&heads(mu + dm, a + da, b + db), &[z]).total;
                    let down = loss.evaluate(&heads(mu - dm, a - da, b - db), &[z]).total;
                    (up - down) / f64::from(2.0 * h)
                };
                for (got, slope) in [
                    (gradients.mu[0], slope(h, 0.0, 0.0)),
                    (gradients.inverse_alpha[0], slope(0.0, h, 0.0)),
                    (gradients.beta[0], slope(0.0, 0.0, h)),
                ] {
                    let error = (f64::from(got) - slope).abs();
                    assert!(error < 2e-3 * (1.0 + slope.abs()), "{loss:?}: {got} against {slope}");
                }
            }
        }
    }

    #[test]
    fn the_paper_loss_is_the_negative_log_density_without_ln_2() {
        let loss = Loss { link: Link::Relu, smallest_beta: 0.25, ..Loss::PAPER };
        let (mu, inverse_alpha, beta, z) = (0.25f32, 1.5f32, 1.8f32, -0.5f32);
        let value = loss.evaluate(&heads(mu, inverse_alpha, beta), &[z]);
        let a = 1.0 / (f64::from(inverse_alpha) + SMALLEST_INVERSE_ALPHA);
        let b = f64::from(beta) + 0.25;
        let density = b / (2.0 * a * ln_gamma(1.0 / b).exp()) * (-(0.75f64 / a).powf(b)).exp();
        assert!((value.nll + density.ln() + 2f64.ln()).abs() < 1e-9);
    }

    #[test]
    fn an_exact_hit_with_a_sharp_peak_has_finite_gradients() {
        let mut gradients = HeadGradients::zeros(1);
        let value = Loss { smallest_beta: 1e-4, ..Loss::PAPER }.accumulate(
            &heads(0.5, 1.0, -0.5),
            &[0.5],
            1.0,
            &mut gradients,
        );
        assert!(value.total.is_finite());
        assert_eq!(gradients.mu, [0.0]);
        assert!(gradients.inverse_alpha[0].is_finite() && gradients.beta[0].is_finite());
    }

    #[test]
    fn a_residual_outside_the_clamp_moves_neither_mu_nor_the_residual() {
        let loss = Loss { l1_weight: 0.0, clamp: Some([1e-4, 10.0]), ..Loss::PAPER };
        let mut gradients = HeadGradients::zeros(1);
        let far = loss.accumulate(&heads(100.0, 3.0, 2.0), &[0.0], 1.0, &mut gradients);
        assert_eq!(gradients.mu, [0.0]);
        assert_eq!(far.nll, loss.evaluate(&heads(200.0, 3.0, 2.0), &[0.0]).nll);
    }

    #[test]
    fn weighted_terms_add_up_in_one_gradient() {
        let loss = Loss::PAPER;
        let point = heads(0.3, 0.5, 0.9);
        let (mut both, mut first, mut second) =
            (HeadGradients::zeros(1), HeadGradients::zeros(1), HeadGradients::zeros(1));
        loss.accumulate(&point, &[1.0], 1.0, &mut both);
        loss.accumulate(&point, &[-2.0], 0.5, &mut both);
        loss.accumulate(&point, &[1.0], 1.0, &mut first);
        loss.accumulate(&point, &[-2.0], 1.0, &mut second);
        assert!((both.mu[0] - first.mu[0] - 0.5 * second.mu[0]).abs() < 1e-6);
        assert!((both.beta[0] - first.beta[0] - 0.5 * second.beta[0]).abs() < 1e-6);
    }
}
