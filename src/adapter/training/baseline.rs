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

/// One Gaussian and one generalised Gaussian per dimension, fitted by maximum likelihood.
#[derive(Debug, Clone)]
pub struct ConstantDensities {
    dimensions: Vec<Dimension>,
}

/// The densities of one dimension, both centred on the mean.
#[derive(Debug, Clone, Copy)]
struct Dimension {
    mean: f64,
    variance: f64,
    /// ln α and β; `None` where all targets are the same.
    shape: Option<(f64, f64)>,
}

impl ConstantDensities {
    /// The densities of rows `[N, D]`, at least one.
    ///
    /// The generalised Gaussian is centred on the mean; α has a closed form given β, and β is
    /// found by golden section on the likelihood.
    pub fn fit(rows: &[f32], dim: usize) -> Self {
        let column = |d: usize| -> Vec<f64> {
            rows.iter().skip(d).step_by(dim).map(|&v| f64::from(v)).collect()
        };
        let dimensions = (0..dim).into_par_iter().map(|d| Dimension::fit(&column(d))).collect();
        Self { dimensions }
    }

    /// Negative log likelihoods of rows `[N, D]` in nats, summed over rows and dimensions: of the
    /// Gaussians, and of the generalised Gaussians.
    pub fn nll_sums(&self, rows: &[f32]) -> [f64; 2] {
        let dim = self.dimensions.len();
        let sums: Vec<[f64; 2]> = self
            .dimensions
            .par_iter()
            .enumerate()
            .map(|(d, density)| density.nll_sums(rows.iter().skip(d).step_by(dim)))
            .collect();
        [0, 1].map(|k| sums.iter().map(|s| s[k]).sum())
    }
}

/// Held-out negative log likelihoods, nats per dimension, of [`ConstantDensities`] fitted to
/// `training` (`[N, D]` row by row) and evaluated on `validation`.
pub fn constant_densities(training: &[f32], validation: &[f32], dim: usize) -> Baselines {
    let sums = ConstantDensities::fit(training, dim).nll_sums(validation);
    let [gaussian_nll, generalized_gaussian_nll] = sums.map(|sum| sum / validation.len() as f64);
    Baselines { gaussian_nll, generalized_gaussian_nll }
}

impl Dimension {
    fn fit(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        let variance = variance.max(f64::MIN_POSITIVE);
        let step = values.len().div_ceil(FIT_ROWS).max(1);
        let logs: Vec<f64> = values
            .iter()
            .step_by(step)
            .map(|x| (x - mean).abs())
            .filter(|&r| r > 0.0)
            .map(f64::ln)
            .collect();
        let shape = (!logs.is_empty()).then(|| {
            let beta = golden_section(BETA_RANGE, |beta| {
                density_constant(ln_alpha_of(&logs, beta), beta) + beta.recip()
            });
            (ln_alpha_of(&logs, beta), beta)
        });
        Self { mean, variance, shape }
    }

    fn nll_sums<'a>(&self, values: impl Iterator<Item = &'a f32>) -> [f64; 2] {
        let (mut count, mut squares, mut powers) = (0.0, 0.0, 0.0);
        for &x in values {
            let r = (f64::from(x) - self.mean).abs();
            count += 1.0;
            squares += r * r;
            if let Some((ln_alpha, beta)) = self.shape
                && r > 0.0
            {
                powers += (beta * (r.ln() - ln_alpha)).exp();
            }
        }
        let tau = 2.0 * std::f64::consts::PI;
        let gaussian = 0.5 * count * (tau * self.variance).ln() + 0.5 * squares / self.variance;
        let generalized = self
            .shape
            .map_or(gaussian, |(ln_alpha, beta)| count * density_constant(ln_alpha, beta) + powers);
        [gaussian, generalized]
    }
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
