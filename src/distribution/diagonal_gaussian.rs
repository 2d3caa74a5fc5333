//! Gaussians with independent dimensions: what PFE, PCME and PCME++ predict.

use super::DistributionError;
use super::error::{check_length, check_variances};

/// Mean and variance `[D]` of a Gaussian with diagonal covariance.
#[derive(Debug, Clone, PartialEq)]
pub struct DiagonalGaussian {
    mean: Vec<f64>,
    variance: Vec<f64>,
}

impl DiagonalGaussian {
    /// The Gaussian with this mean and variance `[D]`. A variance may be 0: a known dimension.
    ///
    /// # Errors
    /// When there is no dimension, the lengths differ, a mean is not finite, or a variance is
    /// negative or not finite.
    pub fn new(mean: Vec<f64>, variance: Vec<f64>) -> Result<Self, DistributionError> {
        if mean.is_empty() {
            return Err(DistributionError::Empty { name: "the mean", of: "dimension" });
        }
        check_length("variance", variance.len(), mean.len())?;
        check_variances("variance", &variance, "a finite number from 0 on")?;
        if let Some(dimension) = mean.iter().position(|m| !m.is_finite()) {
            return Err(DistributionError::Dimension {
                name: "mean",
                dimension,
                found: mean[dimension],
                expected: "a finite number",
            });
        }
        Ok(Self { mean, variance })
    }

    /// From numbers that another distribution has checked.
    pub(super) fn from_valid(mean: Vec<f64>, variance: Vec<f64>) -> Self {
        Self { mean, variance }
    }

    /// Number of dimensions D.
    pub fn dim(&self) -> usize {
        self.mean.len()
    }

    /// Mean `[D]`.
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// Variance `[D]`.
    pub fn variance(&self) -> &[f64] {
        &self.variance
    }

    /// The point mean + sigma * noise `[D]`: a sample when `noise` `[D]` is standard normal.
    ///
    /// # Errors
    /// When `noise` has another number of dimensions.
    pub fn reparameterize(&self, noise: &[f64]) -> Result<Vec<f64>, DistributionError> {
        check_length("the noise", noise.len(), self.dim())?;
        let moments = self.mean.iter().zip(&self.variance);
        Ok(moments.zip(noise).map(|((m, v), n)| m + v.sqrt() * n).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_scaled_by_the_standard_deviation() {
        let d = DiagonalGaussian::new(vec![1.0, 2.0], vec![9.0, 0.0]).unwrap();
        assert_eq!(d.reparameterize(&[2.0, 5.0]).unwrap(), [7.0, 2.0]);
        assert!(d.reparameterize(&[2.0]).is_err());
    }

    #[test]
    fn what_is_no_gaussian_is_refused() {
        let new = DiagonalGaussian::new;
        assert!(matches!(new(vec![], vec![]), Err(DistributionError::Empty { .. })));
        assert!(matches!(new(vec![0.0], vec![]), Err(DistributionError::Length { .. })));
        let negative = new(vec![0.0, 0.0], vec![1.0, -1.0]);
        assert!(matches!(negative, Err(DistributionError::Dimension { dimension: 1, .. })));
        assert!(new(vec![f64::NAN], vec![1.0]).is_err());
    }
}
