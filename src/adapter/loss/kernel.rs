//! The loss and its derivatives for a run of dimensions, written so that it vectorises.

use super::vector_math::{exp, ln, ln_gamma_and_digamma_1p};
use super::{Link, Loss, Residual, SMALLEST_INVERSE_ALPHA};
use crate::adapter::gamma::ln_gamma_and_digamma_1p as exact_ln_gamma_and_digamma_1p;

/// Elements that are computed side by side.
const LANES: usize = 16;

/// Slices of equal length: raw head outputs, targets, and where the gradients are added.
pub struct Batch<'a> {
    pub mu: &'a [f32],
    pub inverse_alpha: &'a [f32],
    pub beta: &'a [f32],
    pub targets: &'a [f32],
    pub d_mu: &'a mut [f32],
    pub d_inverse_alpha: &'a mut [f32],
    pub d_beta: &'a mut [f32],
}

/// What does not change between elements.
#[derive(Clone, Copy)]
struct Constants {
    t1: f32,
    t2: f32,
    scale: f32,
    low: f32,
    high: f32,
    smallest_inverse_alpha: f32,
    smallest_beta: f32,
    /// Used where β is fixed: itself, and ln Γ(1 + 1/β).
    beta: f32,
    ln_gamma: f32,
}

/// Adds `scale` times the gradient of `T1 |z - μ| + T2 NLL`, summed over the elements, and returns
/// the sums of the absolute errors and of the negative log likelihoods.
pub fn accumulate(loss: &Loss, scale: f64, batch: Batch<'_>) -> [f64; 2] {
    let [low, high] = loss.clamp.unwrap_or([0.0, f64::from(f32::MAX)]);
    let fixed_beta = loss.fixed_beta.unwrap_or(1.0);
    let constants = Constants {
        t1: loss.l1_weight as f32,
        t2: loss.nll_weight as f32,
        scale: scale as f32,
        low: low as f32,
        high: high as f32,
        smallest_inverse_alpha: SMALLEST_INVERSE_ALPHA as f32,
        smallest_beta: loss.smallest_beta as f32,
        beta: fixed_beta as f32,
        ln_gamma: exact_ln_gamma_and_digamma_1p(fixed_beta.recip()).0 as f32,
    };
    match (loss.link, loss.residual, loss.fixed_beta.is_some()) {
        (Link::Relu, Residual::Power, false) => dispatch::<false, true, false>(constants, batch),
        (Link::Relu, Residual::Product, false) => dispatch::<false, false, false>(constants, batch),
        (Link::Softplus, Residual::Power, false) => dispatch::<true, true, false>(constants, batch),
        (Link::Softplus, Residual::Product, false) => {
            dispatch::<true, false, false>(constants, batch)
        }
        (Link::Relu, Residual::Power, true) => dispatch::<false, true, true>(constants, batch),
        (Link::Relu, Residual::Product, true) => dispatch::<false, false, true>(constants, batch),
        (Link::Softplus, Residual::Power, true) => dispatch::<true, true, true>(constants, batch),
        (Link::Softplus, Residual::Product, true) => {
            dispatch::<true, false, true>(constants, batch)
        }
    }
}

fn dispatch<const SOFTPLUS: bool, const POWER: bool, const FIXED: bool>(
    c: Constants,
    batch: Batch<'_>,
) -> [f64; 2] {
    #[cfg(target_arch = "x86_64")]
    {
        #[target_feature(enable = "avx2")]
        fn with_avx2<const SOFTPLUS: bool, const POWER: bool, const FIXED: bool>(
            c: Constants,
            batch: Batch<'_>,
        ) -> [f64; 2] {
            run::<SOFTPLUS, POWER, FIXED>(c, batch)
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has the feature that the function is compiled for.
            return unsafe { with_avx2::<SOFTPLUS, POWER, FIXED>(c, batch) };
        }
    }
    run::<SOFTPLUS, POWER, FIXED>(c, batch)
}

#[inline(always)]
fn run<const SOFTPLUS: bool, const POWER: bool, const FIXED: bool>(
    c: Constants,
    batch: Batch<'_>,
) -> [f64; 2] {
    let (mu, mu_rest) = batch.mu.as_chunks::<LANES>();
    let (a, a_rest) = batch.inverse_alpha.as_chunks::<LANES>();
    let (b, b_rest) = batch.beta.as_chunks::<LANES>();
    let (z, z_rest) = batch.targets.as_chunks::<LANES>();
    let (d_mu, d_mu_rest) = batch.d_mu.as_chunks_mut::<LANES>();
    let (d_a, d_a_rest) = batch.d_inverse_alpha.as_chunks_mut::<LANES>();
    let (d_b, d_b_rest) = batch.d_beta.as_chunks_mut::<LANES>();
    let mut sums = [[0f64; LANES]; 2];
    for i in 0..z.len() {
        let (mu, a, b, z) = (&mu[i], &a[i], &b[i], &z[i]);
        let (d_mu, d_a, d_b) = (&mut d_mu[i], &mut d_a[i], &mut d_b[i]);
        let (mut l1, mut nll) = ([0f32; LANES], [0f32; LANES]);
        for k in 0..LANES {
            let e = element::<SOFTPLUS, POWER, FIXED>(c, mu[k], a[k], b[k], z[k]);
            d_mu[k] += c.scale * e.mu;
            d_a[k] += c.scale * e.inverse_alpha;
            d_b[k] += c.scale * e.beta;
            l1[k] = e.l1;
            nll[k] = e.nll;
        }
        for k in 0..LANES {
            sums[0][k] += f64::from(l1[k]);
            sums[1][k] += f64::from(nll[k]);
        }
    }
    for k in 0..z_rest.len() {
        let e = element::<SOFTPLUS, POWER, FIXED>(c, mu_rest[k], a_rest[k], b_rest[k], z_rest[k]);
        d_mu_rest[k] += c.scale * e.mu;
        d_a_rest[k] += c.scale * e.inverse_alpha;
        d_b_rest[k] += c.scale * e.beta;
        sums[0][k] += f64::from(e.l1);
        sums[1][k] += f64::from(e.nll);
    }
    sums.map(|lanes| lanes.iter().sum())
}

/// One dimension of one item: its two losses, and the derivatives of their weighted sum.
struct Element {
    l1: f32,
    nll: f32,
    mu: f32,
    inverse_alpha: f32,
    beta: f32,
}

/// With t = |r| / α and d = t^β (or tβ): ∂d/∂μ = ± β d / |r|, ∂d/∂(1/α) = β d α, ∂d/∂β = d ln t.
/// `ln Γ(1/β) - ln β` is `ln Γ(1 + 1/β)`, whose derivative is `-ψ(1 + 1/β) / β²`.
#[inline(always)]
fn element<const SOFTPLUS: bool, const POWER: bool, const FIXED: bool>(
    c: Constants,
    mu: f32,
    raw_inverse_alpha: f32,
    raw_beta: f32,
    target: f32,
) -> Element {
    let (inverse_alpha, alpha_slope) = link::<SOFTPLUS>(raw_inverse_alpha);
    let inverse_alpha = inverse_alpha + c.smallest_inverse_alpha;
    let (beta, beta_slope) = if FIXED {
        (c.beta, 0.0)
    } else {
        let (beta, slope) = link::<SOFTPLUS>(raw_beta);
        (beta + c.smallest_beta, slope)
    };
    let alpha = 1.0 / inverse_alpha;
    let x = 1.0 / beta;
    let r = mu - target;
    let size = r.abs();
    let hit = size == 0.0;
    let ln_inverse_alpha = ln(inverse_alpha);
    let (d, d_size, d_inverse_alpha, d_beta) = if POWER {
        let ln_t = ln(size) + ln_inverse_alpha;
        let d = if hit { 0.0 } else { exp(beta * ln_t) };
        let slope = beta * d;
        (d, if hit { 0.0 } else { slope / size }, slope * alpha, d * ln_t)
    } else {
        let t = size * inverse_alpha;
        (t * beta, inverse_alpha * beta, size * beta, t)
    };
    let inside = if d >= c.low && d <= c.high { c.t2 } else { 0.0 };
    let (ln_gamma, digamma) = if FIXED { (c.ln_gamma, 0.0) } else { ln_gamma_and_digamma_1p(x) };
    // Maxima and clamps swallow a NaN; this carries one in the outputs on to the loss.
    let poison = 0.0 * (mu + raw_inverse_alpha + raw_beta);
    Element {
        l1: size,
        nll: d.max(c.low).min(c.high) - ln_inverse_alpha + ln_gamma + poison,
        mu: if hit { 0.0 } else { (c.t1 + inside * d_size).copysign(r) },
        inverse_alpha: alpha_slope * (inside * d_inverse_alpha - c.t2 * alpha),
        beta: if FIXED { 0.0 } else { beta_slope * (inside * d_beta - c.t2 * digamma * x * x) },
    }
}

/// Value and slope of the link. The slope of the rectifier at zero is zero, as in PyTorch.
#[inline(always)]
fn link<const SOFTPLUS: bool>(x: f32) -> (f32, f32) {
    if SOFTPLUS {
        let e = exp(-x.abs());
        let y = 1.0 / (1.0 + e);
        (x.max(0.0) + ln(1.0 + e), if x >= 0.0 { y } else { e * y })
    } else {
        (x.max(0.0), if x > 0.0 { 1.0 } else { 0.0 })
    }
}
