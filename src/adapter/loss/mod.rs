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

mod kernel;
mod vector_math;

use burn::tensor::{Device, Tensor, TensorData};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

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
}

/// The densities that an adapter may predict, by the shape β of the generalised Gaussian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// β is predicted, as in ProbVLM.
    #[default]
    GeneralizedGaussian,
    /// β = 2: a heteroscedastic Gaussian with the variance `α² / 2` (Kendall & Gal, NeurIPS 2017,
    /// arXiv 1703.04977, equation 5).
    Gaussian,
    /// β = 1: a heteroscedastic Laplace density with the variance `2 α²`.
    Laplace,
}

impl Family {
    pub const ALL: [Family; 3] = [Family::GeneralizedGaussian, Family::Gaussian, Family::Laplace];

    /// The shape β, where the family fixes it.
    pub fn fixed_beta(self) -> Option<f64> {
        match self {
            Family::GeneralizedGaussian => None,
            Family::Gaussian => Some(2.0),
            Family::Laplace => Some(1.0),
        }
    }

    /// True for the family that ProbVLM predicts.
    pub fn is_generalized(&self) -> bool {
        *self == Family::GeneralizedGaussian
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Family::GeneralizedGaussian => "generalized-gaussian",
            Family::Gaussian => "gaussian",
            Family::Laplace => "laplace",
        })
    }
}

impl std::str::FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Family::ALL.into_iter().find(|family| family.to_string() == text).ok_or_else(|| {
            format!("unknown family {text:?}; expected generalized-gaussian, gaussian or laplace")
        })
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
    /// The shape β, where it is not predicted: the outputs for β then count for nothing, and
    /// their gradient is zero.
    pub fixed_beta: Option<f64>,
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
        fixed_beta: None,
    };

    /// The defaults of the published training code. Its README trains with `nll_weight` 1e-4.
    pub const RELEASED: Loss = Loss {
        l1_weight: 1.0,
        nll_weight: 5e-2,
        residual: Residual::Product,
        clamp: Some([1e-4, 1e3]),
        link: Link::Relu,
        smallest_beta: 1e-4,
        fixed_beta: None,
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

impl Loss {
    /// The loss of a batch.
    ///
    /// # Panics
    /// When the four slices differ in length.
    pub fn evaluate(&self, heads: &HeadValues, targets: &[f32]) -> LossValue {
        self.accumulate(heads, targets, 0.0, &mut HeadGradients::zeros(targets.len()))
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
            .map(|(chunk, ((d_mu, d_inverse_alpha), d_beta))| {
                let range = chunk * CHUNK..chunk * CHUNK + d_mu.len();
                let batch = kernel::Batch {
                    mu: &heads.mu[range.clone()],
                    inverse_alpha: &heads.inverse_alpha[range.clone()],
                    beta: &heads.beta[range.clone()],
                    targets: &targets[range],
                    d_mu,
                    d_inverse_alpha,
                    d_beta,
                };
                kernel::accumulate(self, scale, batch)
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
        for family in [Family::Gaussian, Family::Laplace] {
            let fixed_beta = family.fixed_beta();
            losses.push(Loss { fixed_beta, l1_weight: 0.3, ..Loss::PAPER });
            losses.push(Loss { fixed_beta, ..Loss::RELEASED });
        }
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
        assert!((value.nll + density.ln() + 2f64.ln()).abs() < 2e-6);
    }

    #[test]
    fn a_fixed_shape_gives_the_closed_forms_whatever_the_head_for_beta_says() {
        let (mu, inverse_alpha, z) = (0.25f32, 1.5f32, -0.5f32);
        let alpha = 1.0 / (f64::from(inverse_alpha) + SMALLEST_INVERSE_ALPHA);
        let r = f64::from(mu - z);
        // Gaussian with σ² = α² / 2, and Laplace with the scale α.
        let variance = 0.5 * alpha * alpha;
        let gaussian = 0.5 * (2.0 * std::f64::consts::PI * variance).ln() + 0.5 * r * r / variance;
        let laplace = (2.0 * alpha).ln() + r / alpha;
        for (family, expected) in [(Family::Gaussian, gaussian), (Family::Laplace, laplace)] {
            let loss = Loss { link: Link::Relu, fixed_beta: family.fixed_beta(), ..Loss::PAPER };
            for beta in [-3.0, 0.7, 9.0] {
                let mut gradients = HeadGradients::zeros(1);
                let point = heads(mu, inverse_alpha, beta);
                let value = loss.accumulate(&point, &[z], 1.0, &mut gradients);
                let found = value.nll + std::f64::consts::LN_2;
                assert!((found - expected).abs() < 2e-6, "{family}: {found}, not {expected}");
                assert_eq!(gradients.beta, [0.0]);
                let slope = match family {
                    Family::Gaussian => r / variance,
                    _ => alpha.recip(),
                };
                assert!((f64::from(gradients.mu[0]) - slope).abs() < 1e-5 * slope, "{family}");
            }
        }
    }

    #[test]
    fn every_family_is_found_by_its_name_in_text_and_in_json() {
        for family in Family::ALL {
            assert_eq!(family.to_string().parse::<Family>().unwrap(), family);
            assert_eq!(serde_json::to_string(&family).unwrap(), format!("\"{family}\""));
        }
        assert!("normal".parse::<Family>().unwrap_err().contains("laplace"));
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
