//! Constant densities fitted to the targets: what an adapter has to beat.

use rayon::prelude::*;

use crate::adapter::gamma::ln_gamma_and_digamma_1p;
use crate::adapter::training::Baselines;

/// Rows that the shape of the generalised Gaussian is fitted on, evenly spread over the data. Its
/// standard error is then a few per cent, far below what the likelihood notices.
const FIT_ROWS: usize = 8192;
/// Search range of the shape β, and how closely it is found.
const BETA_RANGE: (f64, f64) = (0.3, 12.0);
const BETA_STEPS: usize = 24;

/// Held-out negative log likelihoods, nats per dimension, of one Gaussian and one generalised
/// Gaussian per dimension fitted by maximum likelihood to `training` (`[N, D]` row by row) and
/// evaluated on `validation`.
///
/// The generalised Gaussian is centred on the mean; α has a closed form given β, and β is found
/// by golden section on the likelihood.
pub fn constant_densities(training: &[f32], validation: &[f32], dim: usize) -> Baselines {
    let per_dimension: Vec<[f64; 2]> = (0..dim)
        .into_par_iter()
        .map(|d| {
            let column = |values: &[f32]| -> Vec<f64> {
                values.iter().skip(d).step_by(dim).map(|&v| f64::from(v)).collect()
            };
            dimension(&column(training), &column(validation))
        })
        .collect();
    let mean = |k: usize| per_dimension.iter().map(|p| p[k]).sum::<f64>() / dim as f64;
    Baselines { gaussian_nll: mean(0), generalized_gaussian_nll: mean(1) }
}

fn dimension(training: &[f64], validation: &[f64]) -> [f64; 2] {
    let count = training.len() as f64;
    let mean = training.iter().sum::<f64>() / count;
    let variance = training.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
    let variance = variance.max(f64::MIN_POSITIVE);
    let tau = 2.0 * std::f64::consts::PI;
    let squares = validation.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    let gaussian = 0.5 * (tau * variance).ln() + 0.5 * squares / validation.len() as f64 / variance;

    let step = training.len().div_ceil(FIT_ROWS).max(1);
    let sizes: Vec<f64> =
        training.iter().step_by(step).map(|x| (x - mean).abs()).filter(|&r| r > 0.0).collect();
    if sizes.is_empty() {
        return [gaussian, gaussian];
    }
    let logs: Vec<f64> = sizes.iter().map(|r| r.ln()).collect();
    let beta = golden_section(BETA_RANGE, |beta| {
        let ln_alpha = ln_alpha_of(&logs, beta);
        density_constant(ln_alpha, beta) + beta.recip()
    });
    let ln_alpha = ln_alpha_of(&logs, beta);
    let residual = validation
        .iter()
        .map(|x| (x - mean).abs())
        .map(|r| if r > 0.0 { (beta * (r.ln() - ln_alpha)).exp() } else { 0.0 })
        .sum::<f64>();
    [gaussian, density_constant(ln_alpha, beta) + residual / validation.len() as f64]
}

/// The likeliest α for a β: `α^β = β mean(r^β)`.
fn ln_alpha_of(logs: &[f64], beta: f64) -> f64 {
    let mean = logs.iter().map(|l| (beta * l).exp()).sum::<f64>() / logs.len() as f64;
    (beta * mean).ln() / beta
}

/// `-ln(β / (2 α Γ(1/β)))`.
fn density_constant(ln_alpha: f64, beta: f64) -> f64 {
    2f64.ln() + ln_alpha + ln_gamma_and_digamma_1p(beta.recip()).0
}

/// The argument of the minimum of a function with one minimum, searched on a log scale.
fn golden_section((low, high): (f64, f64), f: impl Fn(f64) -> f64) -> f64 {
    const RATIO: f64 = 0.618_033_988_749_894_9;
    let (mut low, mut high) = (low.ln(), high.ln());
    let at = |x: f64| f(x.exp());
    let (mut a, mut b) = (high - RATIO * (high - low), low + RATIO * (high - low));
    let (mut fa, mut fb) = (at(a), at(b));
    for _ in 0..BETA_STEPS {
        if fa < fb {
            high = b;
            (b, fb) = (a, fa);
            a = high - RATIO * (high - low);
            fa = at(a);
        } else {
            low = a;
            (a, fa) = (b, fb);
            b = low + RATIO * (high - low);
            fb = at(b);
        }
    }
    (0.5 * (low + high)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, standard_normal};

    #[test]
    fn normal_targets_cost_the_entropy_of_a_normal_under_both_densities() {
        let scale = 3.0f32;
        let draw = |index| -> Vec<f32> {
            let normal = standard_normal(4, Stream::Resampling, index, 40_000);
            normal.into_iter().map(|x| 5.0 + scale * x).collect()
        };
        let entropy = 0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E).ln() + 3f64.ln();
        let found = constant_densities(&draw(0), &draw(1), 2);
        assert!((found.gaussian_nll - entropy).abs() < 0.02, "{found:?}");
        assert!((found.generalized_gaussian_nll - entropy).abs() < 0.02, "{found:?}");
    }

    #[test]
    fn peaked_targets_cost_less_under_the_generalised_gaussian() {
        let laplace = |index| -> Vec<f32> {
            // The product of a normal and an independent chi with two degrees is Laplace.
            let z = standard_normal(6, Stream::Resampling, index, 60_000);
            z.chunks(3).map(|c| c[0] * (c[1] * c[1] + c[2] * c[2]).sqrt()).collect()
        };
        let found = constant_densities(&laplace(0), &laplace(1), 1);
        let entropy = 1.0 + 2f64.ln();
        assert!((found.generalized_gaussian_nll - entropy).abs() < 0.03, "{found:?}");
        assert!(found.gaussian_nll > entropy + 0.05, "{found:?}");
    }
}
