//! Closed-form scores between two diagonal Gaussians.

use std::f64::consts::PI;

use super::error::check_length;
use super::{DiagonalGaussian, DistributionError};

/// Mutual likelihood score: log likelihood in nats that both embeddings are the same point,
/// -1/2 Σ [(mu1 - mu2)² / (v1 + v2) + ln(v1 + v2)] - D/2 ln 2π
/// (Probabilistic Face Embeddings, arXiv 1904.09658). Higher is closer.
///
/// # Errors
/// When the dimensions differ, or both know a dimension exactly (variance 0), which leaves the
/// likelihood undefined.
pub fn mutual_likelihood_score(
    a: &DiagonalGaussian,
    b: &DiagonalGaussian,
) -> Result<f64, DistributionError> {
    let constant = 0.5 * a.dim() as f64 * (2.0 * PI).ln();
    Ok(0.5 * mutual_likelihood_score_released(a, b)? - constant)
}

/// The score as the released code of Probabilistic Face Embeddings has it: without the factor 1/2
/// and without the constant. It orders pairs as [`mutual_likelihood_score`] does.
///
/// # Errors
/// Those of [`mutual_likelihood_score`].
pub fn mutual_likelihood_score_released(
    a: &DiagonalGaussian,
    b: &DiagonalGaussian,
) -> Result<f64, DistributionError> {
    let known = a.variance().iter().zip(b.variance()).position(|(v1, v2)| v1 + v2 == 0.0);
    if let Some(dimension) = known {
        return Err(DistributionError::Dimension {
            name: "the sum of both variances",
            dimension,
            found: 0.0,
            expected: "a number above 0",
        });
    }
    sum_over_dimensions(a, b, |difference, v1, v2| {
        let variance = v1 + v2;
        -(difference * difference / variance + variance.ln())
    })
}

/// Closed-form sampled distance, |mu1 - mu2|² + Σ (v1 + v2) (PCME++, arXiv 2305.18171,
/// section 2.2): the expected squared distance between independent samples of both. Lower is
/// closer.
///
/// # Errors
/// When the dimensions differ.
pub fn closed_form_sampled_distance(
    a: &DiagonalGaussian,
    b: &DiagonalGaussian,
) -> Result<f64, DistributionError> {
    sum_over_dimensions(a, b, |difference, v1, v2| difference * difference + v1 + v2)
}

/// Squared 2-Wasserstein distance, |mu1 - mu2|² + |sigma1 - sigma2|² (Dowson and Landau, Journal
/// of Multivariate Analysis 12(3), 1982, for covariances that commute). Lower is closer.
///
/// # Errors
/// When the dimensions differ.
pub fn squared_wasserstein2(
    a: &DiagonalGaussian,
    b: &DiagonalGaussian,
) -> Result<f64, DistributionError> {
    sum_over_dimensions(a, b, |difference, v1, v2| {
        difference * difference + (v1.sqrt() - v2.sqrt()).powi(2)
    })
}

/// Σ over dimensions of `term(mu1 - mu2, v1, v2)`.
fn sum_over_dimensions(
    a: &DiagonalGaussian,
    b: &DiagonalGaussian,
    term: impl Fn(f64, f64, f64) -> f64,
) -> Result<f64, DistributionError> {
    check_length("the second Gaussian", b.dim(), a.dim())?;
    let variances = a.variance().iter().zip(b.variance());
    let means = a.mean().iter().zip(b.mean());
    Ok(means.zip(variances).map(|((m1, m2), (&v1, &v2))| term(m1 - m2, v1, v2)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::GeneralizedGaussian;
    use crate::random::{Stream, standard_normal};

    fn gaussian(mean: &[f64], variance: &[f64]) -> DiagonalGaussian {
        DiagonalGaussian::new(mean.to_vec(), variance.to_vec()).unwrap()
    }

    #[test]
    fn mutual_likelihood_is_the_density_of_the_difference_at_zero() {
        let (a, b) = (gaussian(&[0.3, -1.0], &[0.2, 1.5]), gaussian(&[0.5, 2.0], &[0.1, 0.4]));
        let density_of_difference =
            |m: f64, v: f64| GeneralizedGaussian::gaussian(m, v.sqrt()).unwrap().log_prob(0.0);
        let expected =
            density_of_difference(0.3 - 0.5, 0.3) + density_of_difference(-1.0 - 2.0, 1.9);
        assert!((mutual_likelihood_score(&a, &b).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn the_sampled_distance_is_the_mean_over_samples() {
        let (a, b) = (gaussian(&[0.0, 1.0], &[0.5, 0.1]), gaussian(&[1.0, 0.5], &[0.2, 0.9]));
        let n = 20_000;
        let noise: Vec<f64> =
            standard_normal(4, Stream::Resampling, 0, 4 * n).into_iter().map(f64::from).collect();
        let distances: Vec<f64> = noise
            .chunks_exact(4)
            .map(|z| {
                let (x, y) =
                    (a.reparameterize(&z[..2]).unwrap(), b.reparameterize(&z[2..]).unwrap());
                (x[0] - y[0]).powi(2) + (x[1] - y[1]).powi(2)
            })
            .collect();
        let mean = distances.iter().sum::<f64>() / n as f64;
        let variance = distances.iter().map(|d| (d - mean).powi(2)).sum::<f64>() / n as f64;
        let expected = closed_form_sampled_distance(&a, &b).unwrap();
        assert!((mean - expected).abs() < 5.0 * (variance / n as f64).sqrt(), "{mean} {expected}");
    }

    #[test]
    fn wasserstein_of_a_gaussian_with_itself_is_zero_and_the_sampled_distance_is_not() {
        let a = gaussian(&[1.0, 2.0], &[0.5, 0.25]);
        assert_eq!(squared_wasserstein2(&a, &a).unwrap(), 0.0);
        assert_eq!(closed_form_sampled_distance(&a, &a).unwrap(), 1.5);
        let wider = gaussian(&[1.0, 2.0], &[2.0, 0.25]);
        let expected = (2f64.sqrt() - 0.5f64.sqrt()).powi(2);
        assert!((squared_wasserstein2(&a, &wider).unwrap() - expected).abs() < 1e-15);
    }

    #[test]
    fn two_points_have_no_mutual_likelihood() {
        let (a, b) = (gaussian(&[1.0, 2.0], &[1.0, 0.0]), gaussian(&[1.0, 2.0], &[0.5, 0.0]));
        let score = mutual_likelihood_score(&a, &b);
        assert!(matches!(score, Err(DistributionError::Dimension { dimension: 1, .. })));
        assert_eq!(closed_form_sampled_distance(&a, &b).unwrap(), 1.5);
    }

    #[test]
    fn gaussians_of_different_dimension_have_no_distance() {
        let (a, b) = (gaussian(&[1.0], &[1.0]), gaussian(&[1.0, 1.0], &[1.0, 1.0]));
        for f in [
            mutual_likelihood_score,
            mutual_likelihood_score_released,
            closed_form_sampled_distance,
            squared_wasserstein2,
        ] {
            assert!(matches!(f(&a, &b), Err(DistributionError::Length { .. })));
        }
    }
}
