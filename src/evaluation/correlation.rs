//! Correlations, and the score that ProbVLM (arXiv 2307.00398, table 1) makes of them.

use super::EvaluationError;
use super::bins::ascending;
use super::error::{check_at_least, check_finite, check_pair};

/// How a quantity falls with the uncertainty level.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trend {
    /// Spearman rank correlation in `-1..=1`; -1 when recall falls at every level.
    pub spearman: f64,
    /// Coefficient of determination of the least-squares line, in `0..=1`.
    pub r_squared: f64,
}

impl Trend {
    /// -S·R², in `-1..=1`; 1 is ideal: recall falls with uncertainty, and on a line.
    ///
    /// With few levels this is a noisy score: uncertainty that is pure noise passes 0.51 one
    /// time in twenty at 5 levels (0.16 at 10 levels).
    pub fn minus_s_r2(&self) -> f64 {
        // 0 - ... so that a flat trend gives 0 and not -0
        0.0 - self.spearman * self.r_squared
    }
}

/// Trend of `y` (recall per level) over `x` (number or mean uncertainty of the level).
///
/// Both parts are 0 by convention when there are fewer than two levels or one side is constant.
///
/// # Errors
/// When there is no level, the lengths differ, or a value is not finite.
pub fn trend(x: &[f64], y: &[f64]) -> Result<Trend, EvaluationError> {
    check_pair("y", y.len(), x.len())?;
    check_finite("x", x)?;
    check_finite("y", y)?;
    if is_constant(x) || is_constant(y) {
        return Ok(Trend { spearman: 0.0, r_squared: 0.0 });
    }
    Ok(Trend { spearman: spearman(x, y)?, r_squared: pearson(x, y)?.powi(2) })
}

/// Pearson correlation of `x` and `y`, in `-1..=1`.
///
/// # Errors
/// When it is not defined: fewer than two values, lengths that differ, a value that is not
/// finite, or a side that is constant.
pub fn pearson(x: &[f64], y: &[f64]) -> Result<f64, EvaluationError> {
    check_pair("y", y.len(), x.len())?;
    check_at_least("the number of values", x.len(), 2)?;
    let x = deviations("x", x)?;
    let y = deviations("y", y)?;
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    Ok((dot(&x, &y) / (dot(&x, &x).sqrt() * dot(&y, &y).sqrt())).clamp(-1.0, 1.0))
}

/// Spearman correlation: Pearson correlation of the average ranks, in `-1..=1`.
///
/// # Errors
/// Those of [`pearson`].
pub fn spearman(x: &[f64], y: &[f64]) -> Result<f64, EvaluationError> {
    check_finite("x", x)?;
    check_finite("y", y)?;
    pearson(&average_ranks(x), &average_ranks(y))
}

/// Ranks from 1 for the smallest value; equal values share the mean of their ranks.
/// The values must be numbers: the rank of a NaN has no meaning.
pub fn average_ranks(values: &[f64]) -> Vec<f64> {
    let mut ranks = vec![0.0; values.len()];
    let mut below = 0;
    for ties in ascending(values).chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = below as f64 + (ties.len() as f64 + 1.0) / 2.0;
        for &i in ties {
            ranks[i] = rank;
        }
        below += ties.len();
    }
    ranks
}

fn is_constant(values: &[f64]) -> bool {
    values.iter().all(|v| v == &values[0])
}

/// Differences from the mean in units of the range, so that squares neither overflow nor vanish.
fn deviations(what: &'static str, values: &[f64]) -> Result<Vec<f64>, EvaluationError> {
    check_finite(what, values)?;
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if lowest == highest {
        return Err(EvaluationError::Constant { what });
    }
    // halved before the difference, which could overflow
    let range = highest / 2.0 - lowest / 2.0;
    let scaled: Vec<f64> = values.iter().map(|v| (v / 2.0 - lowest / 2.0) / range).collect();
    let mean = scaled.iter().sum::<f64>() / scaled.len() as f64;
    Ok(scaled.into_iter().map(|v| v - mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_share_the_mean_of_their_ranks() {
        assert_eq!(average_ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
        assert_eq!(average_ranks(&[0.0, -0.0]), [1.5, 1.5]);
        assert!(average_ranks(&[]).is_empty());
    }

    #[test]
    fn spearman_sees_order_alone_and_pearson_sees_lines() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0];
        let cubes = x.map(|v: f64| -v.powi(3));
        assert!((spearman(&x, &cubes).unwrap() + 1.0).abs() < 1e-15);
        assert!(pearson(&x, &cubes).unwrap() > -0.96);
        // deviations (-1.5, -.5, .5, 1.5) and (-1.25, .75, -.25, .75): 2.5 / sqrt(5 * 2.75)
        let expected = 2.5 / (5f64 * 2.75).sqrt();
        let got = pearson(&[1.0, 2.0, 3.0, 4.0], &[1.0, 3.0, 2.0, 3.0]).unwrap();
        assert!((got - expected).abs() < 1e-15);
    }

    #[test]
    fn correlation_does_not_depend_on_scale_even_near_the_limits_of_f64() {
        let (x, y) = ([1.0, 5.0, 2.0, 8.0], [2.0, 3.0, 1.0, 9.0]);
        let expected = pearson(&x, &y).unwrap();
        for scale in [1e-300, 1e300, 1.7e307] {
            let scaled = pearson(&x.map(|v| (v - 4.0) * scale), &y).unwrap();
            assert!((scaled - expected).abs() < 1e-12, "{scale}: {scaled} {expected}");
        }
    }

    #[test]
    fn a_recall_that_falls_on_a_line_scores_one() {
        let ideal = trend(&[0.0, 1.0, 2.0], &[0.9, 0.8, 0.7]).unwrap();
        assert!((ideal.minus_s_r2() - 1.0).abs() < 1e-12);
        let inverted = trend(&[0.0, 1.0, 2.0], &[0.7, 0.8, 0.9]).unwrap();
        assert!((inverted.minus_s_r2() + 1.0).abs() < 1e-12);
    }

    #[test]
    fn a_constant_has_no_correlation_and_a_flat_trend() {
        assert_eq!(pearson(&[1.0, 2.0], &[3.0, 3.0]), Err(EvaluationError::Constant { what: "y" }));
        assert!(spearman(&[1.0, 1.0], &[3.0, 4.0]).is_err());
        for (x, y) in [(vec![1.0, 2.0], vec![1.0, 1.0]), (vec![1.0], vec![2.0])] {
            let flat = trend(&x, &y).unwrap();
            assert_eq!((flat.spearman, flat.r_squared), (0.0, 0.0));
            assert!(flat.minus_s_r2().is_sign_positive());
        }
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(trend(&[], &[]).is_err());
        assert!(trend(&[1.0, 2.0], &[1.0]).is_err());
        assert!(trend(&[1.0, f64::INFINITY], &[1.0, 2.0]).is_err());
        assert!(pearson(&[], &[]).is_err());
        assert!(pearson(&[1.0], &[1.0]).is_err());
        assert!(spearman(&[1.0, f64::NAN], &[1.0, 2.0]).is_err());
    }
}
