//! Selective risk: the error that remains when only the most certain queries are answered.
//!
//! Geifman, Uziel, El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers",
//! ICLR 2019 (arXiv 1805.08206).

use super::EvaluationError;
use super::bins::ascending;
use super::error::{check_finite, check_pair};

/// Areas under the risk-coverage curve, lower is better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SelectiveRisk {
    /// Mean over all coverages of the share of errors among the answered queries, in `0..=1`.
    pub aurc: f64,
    /// The same above that of the best possible order (all errors last), at least 0: what the
    /// uncertainty gets wrong, apart from how many errors there are.
    pub excess_aurc: f64,
}

/// AURC and excess AURC of answering the queries from the least to the most uncertain.
///
/// # Errors
/// When there is no query, the lengths differ, or an uncertainty is not finite.
pub fn selective_risk(
    uncertainty: &[f64],
    hits: &[bool],
) -> Result<SelectiveRisk, EvaluationError> {
    let count = hits.len();
    let mean = |curve: Vec<f64>| curve.into_iter().sum::<f64>() / count as f64;
    let aurc = mean(risk_coverage_curve(uncertainty, hits)?);
    let correct = hits.iter().filter(|&&hit| hit).count();
    let best = mean(cumulative_risk((0..count).map(|place| place < correct)));
    // the same order summed twice must give 0, and rounding must not make it negative
    Ok(SelectiveRisk { aurc, excess_aurc: (aurc - best).max(0.0) })
}

/// Share of errors among the `k` least uncertain queries, for `k` = 1 to the number of queries.
/// Equal uncertainties are answered in the order of the slice.
///
/// # Errors
/// When there is no query, the lengths differ, or an uncertainty is not finite.
pub fn risk_coverage_curve(
    uncertainty: &[f64],
    hits: &[bool],
) -> Result<Vec<f64>, EvaluationError> {
    check_pair("uncertainty", uncertainty.len(), hits.len())?;
    check_finite("uncertainty", uncertainty)?;
    Ok(cumulative_risk(ascending(uncertainty).into_iter().map(|i| hits[i])))
}

fn cumulative_risk(hits_in_order: impl Iterator<Item = bool>) -> Vec<f64> {
    let mut errors = 0usize;
    hits_in_order
        .enumerate()
        .map(|(place, hit)| {
            errors += usize::from(!hit);
            errors as f64 / (place + 1) as f64
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_curve_counts_errors_from_the_most_certain_on() {
        let curve = risk_coverage_curve(&[0.3, 0.1, 0.2], &[true, true, false]).unwrap();
        assert_eq!(curve, [0.0, 0.5, 1.0 / 3.0]);
        let risk = selective_risk(&[0.3, 0.1, 0.2], &[true, true, false]).unwrap();
        assert!((risk.aurc - 2.5 / 9.0).abs() < 1e-15);
        assert!((risk.excess_aurc - (2.5 - 1.0) / 9.0).abs() < 1e-15);
    }

    #[test]
    fn a_perfect_order_has_no_excess_and_the_reverse_has_the_most() {
        let hits = [true, true, true, false, false];
        let perfect = selective_risk(&[1.0, 2.0, 3.0, 4.0, 5.0], &hits).unwrap();
        assert_eq!(perfect.excess_aurc, 0.0);
        let reverse = selective_risk(&[5.0, 4.0, 3.0, 2.0, 1.0], &hits).unwrap();
        let other = selective_risk(&[5.0, 4.0, 1.0, 2.0, 3.0], &hits).unwrap();
        assert!(reverse.excess_aurc > other.excess_aurc && other.excess_aurc > 0.0);
    }

    #[test]
    fn no_error_is_no_risk_and_all_errors_are_full_risk() {
        let none = selective_risk(&[2.0, 1.0], &[true, true]).unwrap();
        assert_eq!((none.aurc, none.excess_aurc), (0.0, 0.0));
        let all = selective_risk(&[2.0, 1.0], &[false, false]).unwrap();
        assert_eq!((all.aurc, all.excess_aurc), (1.0, 0.0));
    }

    #[test]
    fn bad_input_is_refused() {
        assert!(matches!(selective_risk(&[], &[]), Err(EvaluationError::Empty { .. })));
        assert!(selective_risk(&[1.0], &[true, false]).is_err());
        assert!(selective_risk(&[f64::NAN], &[true]).is_err());
    }
}
