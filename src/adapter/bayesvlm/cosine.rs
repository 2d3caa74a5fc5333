//! Cosines of embeddings that are Gaussians with diagonal covariance, and what softmaxes make of
//! them.

use crate::encoder::norm;

/// Mean and variance of the cosine of two independent Gaussians with means `mu` and variances
/// `var`, `[D]` each: ProbCosine of BayesVLM (arXiv 2412.06014), as
/// `_compute_probabilistic_logits_smith` of its code has it, after Smith et al. 2023.
///
/// With m = E‖x‖² = Σ μ² + σ² of each side:
///
/// mean = μᵥ·μₜ / √(mᵥ mₜ),  variance = Σ [(μᵥ² + σᵥ²) σₜ² + σᵥ² μₜ²] / (mᵥ mₜ).
///
/// A logit is the cosine times the logit scale s, so its variance is s² times this one. Both are 0
/// where a side is all zeros without variance.
///
/// # Panics
/// When the lengths differ.
pub fn prob_cosine(mu_v: &[f32], var_v: &[f64], mu_t: &[f32], var_t: &[f64]) -> (f64, f64) {
    let dim = mu_v.len();
    assert!(var_v.len() == dim && mu_t.len() == dim && var_t.len() == dim);
    let (mut product, mut spread) = (0.0, 0.0);
    let (mut square_v, mut square_t) = (0.0, 0.0);
    for d in 0..dim {
        let (v, t) = (f64::from(mu_v[d]), f64::from(mu_t[d]));
        let (v2, t2) = (v * v + var_v[d], t * t + var_t[d]);
        product += v * t;
        spread += v2 * var_t[d] + var_v[d] * t * t;
        square_v += v2;
        square_t += t2;
    }
    let squares = square_v * square_t;
    if squares > 0.0 { (product / squares.sqrt(), spread / squares) } else { (0.0, 0.0) }
}

/// Variances `[D]` of the unit vector μ/‖μ‖ of a Gaussian with mean `mu` and variances `var`, to
/// first order (the delta method): with y = μ/‖μ‖,
///
/// (σ² - 2 y² σ² + y² Σ y² σ²) / ‖μ‖².
///
/// All zeros where `mu` is.
///
/// # Panics
/// When the lengths differ.
pub fn unit_variance(mu: &[f32], var: &[f64]) -> Vec<f64> {
    assert_eq!(mu.len(), var.len());
    let length = norm(mu);
    if length == 0.0 {
        return vec![0.0; mu.len()];
    }
    let squares: Vec<f64> = mu.iter().map(|&m| (f64::from(m) / length).powi(2)).collect();
    let along: f64 = squares.iter().zip(var).map(|(y2, v)| y2 * v).sum();
    let of = |(y2, v): (&f64, &f64)| ((v - 2.0 * y2 * v + y2 * along) / length.powi(2)).max(0.0);
    squares.iter().zip(var).map(of).collect()
}

/// Probabilities of classes whose logits are Gaussians: the softmax of
/// mean / √(1 + π/8 · variance), MacKay's approximation to the mean of softmaxes.
///
/// # Panics
/// When the lengths differ.
pub fn probit_softmax(means: &[f64], variances: &[f64]) -> Vec<f64> {
    assert_eq!(means.len(), variances.len());
    let shrink = |(m, v): (&f64, &f64)| m / (1.0 + std::f64::consts::FRAC_PI_8 * v).sqrt();
    let logits: Vec<f64> = means.iter().zip(variances).map(shrink).collect();
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logits.iter().map(|l| (l - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, standard_normal};

    #[test]
    fn the_formulas_give_the_values_worked_out_by_hand() {
        // m_v = 9 + 0.5 + 16 + 0.5 = 26, m_t = 1 + 0.25 + 0 + 0.75 = 2.
        let (mean, variance) = prob_cosine(&[3.0, 4.0], &[0.5, 0.5], &[1.0, 0.0], &[0.25, 0.75]);
        assert!((mean - 3.0 / 52f64.sqrt()).abs() < 1e-12);
        // 9.5 * 0.25 + 0.5 * 1 + 16.5 * 0.75 + 0 = 15.25.
        assert!((variance - 15.25 / 52.0).abs() < 1e-12);
        let (cosine, none) = prob_cosine(&[3.0, 4.0], &[0.0; 2], &[1.0, 0.0], &[0.0; 2]);
        assert!((cosine - 0.6).abs() < 1e-12 && none == 0.0);
        assert_eq!(prob_cosine(&[0.0], &[0.0], &[1.0], &[0.0]), (0.0, 0.0));
        // y² = (0.36, 0.64), along = 0.36 * 1 + 0.64 * 2 = 1.64.
        let unit = unit_variance(&[3.0, 4.0], &[1.0, 2.0]);
        assert!((unit[0] - (1.0 - 0.72 + 0.36 * 1.64) / 25.0).abs() < 1e-9, "{unit:?}");
        assert!((unit[1] - (2.0 - 2.56 + 0.64 * 1.64) / 25.0).abs() < 1e-9, "{unit:?}");
        let p = probit_softmax(&[1.0, 0.0], &[8.0 * 3.0 / std::f64::consts::PI, 0.0]);
        assert!((p[0] - 0.5f64.exp() / (1.0 + 0.5f64.exp())).abs() < 1e-12);
    }

    #[test]
    fn sampled_products_and_unit_vectors_have_these_moments() {
        let (mu_v, var_v) = ([3.0f32, -1.0, 2.0], [0.04f64, 0.09, 0.01]);
        let (mu_t, var_t) = ([1.0f32, 2.0, -4.0], [0.02f64, 0.16, 0.05]);
        let count = 200_000;
        let noise = standard_normal(1, Stream::Resampling, 0, count * 6);
        let (mean, variance) = prob_cosine(&mu_v, &var_v, &mu_t, &var_t);
        let square = |mu: &[f32], var: &[f64]| -> f64 {
            mu.iter().zip(var).map(|(&m, v)| f64::from(m * m) + v).sum()
        };
        let scale = (square(&mu_v, &var_v) * square(&mu_t, &var_t)).sqrt();
        let (mut sum, mut squares) = (0.0, 0.0);
        let mut unit = [[0.0f64; 2]; 3];
        for noise in noise.chunks_exact(6) {
            let at = |mu: &[f32], var: &[f64], d: usize, z: f32| {
                f64::from(mu[d]) + f64::from(z) * var[d].sqrt()
            };
            let v: [f64; 3] = std::array::from_fn(|d| at(&mu_v, &var_v, d, noise[d]));
            let t: [f64; 3] = std::array::from_fn(|d| at(&mu_t, &var_t, d, noise[3 + d]));
            let product = v.iter().zip(&t).map(|(a, b)| a * b).sum::<f64>() / scale;
            sum += product;
            squares += product * product;
            let length = v.iter().map(|x| x * x).sum::<f64>().sqrt();
            for d in 0..3 {
                unit[d][0] += v[d] / length;
                unit[d][1] += (v[d] / length).powi(2);
            }
        }
        let n = count as f64;
        assert!((sum / n - mean).abs() < 4.0 * (variance / n).sqrt());
        let sampled = squares / n - (sum / n).powi(2);
        // The relative standard error of a sample variance is √(2/n) = 0.3 %.
        assert!((sampled / variance - 1.0).abs() < 0.015, "{sampled} {variance}");
        for (formula, [sum, squares]) in unit_variance(&mu_v, &var_v).into_iter().zip(unit) {
            let sampled = squares / n - (sum / n).powi(2);
            assert!((sampled / formula - 1.0).abs() < 0.03, "{sampled} {formula}");
        }
    }
}
