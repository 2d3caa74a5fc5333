/// Why numbers do not make a distribution, or do not fit one.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum DistributionError {
    #[error("{name} is {found}, expected {expected}")]
    Parameter { name: &'static str, found: f64, expected: &'static str },
    #[error("{name} of dimension {dimension} is {found}, expected {expected}")]
    Dimension { name: &'static str, dimension: usize, found: f64, expected: &'static str },
    #[error("{name} has {found} dimensions, expected {expected}: both must come from one model")]
    Length { name: &'static str, found: usize, expected: usize },
    #[error("{name} is empty, expected at least one {of}")]
    Empty { name: &'static str, of: &'static str },
}

/// Two things that must have the same number of dimensions.
pub(super) fn check_length(
    name: &'static str,
    found: usize,
    expected: usize,
) -> Result<(), DistributionError> {
    if found != expected {
        return Err(DistributionError::Length { name, found, expected });
    }
    Ok(())
}

/// Variances are finite numbers from 0 on; `expected` says so, and how to get there.
pub(super) fn check_variances(
    name: &'static str,
    variances: &[f64],
    expected: &'static str,
) -> Result<(), DistributionError> {
    match variances.iter().position(|v| !(v.is_finite() && *v >= 0.0)) {
        None => Ok(()),
        Some(dimension) => Err(DistributionError::Dimension {
            name,
            dimension,
            found: variances[dimension],
            expected,
        }),
    }
}
