//! Whether two orders agree, what a choice costs, and what a curve over a budget is worth.

use rand::seq::SliceRandom;
use statrs::distribution::{ContinuousCDF, StudentsT};

use super::EvaluationError;
use super::error::{check_at_least, check_finite, check_pair};
use super::estimate::Estimate;
use crate::random::{Stream, generator};

/// Permutations where there are too many values to try all.
const PERMUTATIONS: u64 = 9_999;
/// Values up to which all permutations are tried.
const EXACT_VALUES: usize = 8;

/// Kendall's tau-b and how likely chance is to give it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Agreement {
    /// -1 for opposite orders, 1 for equal ones; 0 where one side is constant.
    pub tau: f64,
    /// Two-sided permutation p-value; exact up to 8 values, else from 9,999 permutations.
    pub p_value: f64,
}

/// Kendall's tau-b (ties on either side taken out of its maximum; Kendall, "The Treatment of Ties
/// in Ranking Problems", Biometrika 33, 1945) with its permutation p-value.
///
/// Meant for tens of values: the time grows with their square.
///
/// # Errors
/// When there are fewer than two values, the lengths differ, or a value is not finite.
pub fn kendall_agreement(x: &[f64], y: &[f64]) -> Result<Agreement, EvaluationError> {
    let tau = kendall_tau_b(x, y)?;
    let found = tau.abs() - 1e-12;
    let extreme = |order: &[f64]| tau_b(x, order).abs() >= found;
    let mut order = y.to_vec();
    if y.len() <= EXACT_VALUES {
        let (mut hits, mut total) = (0u64, 0u64);
        for_each_order(&mut order, 0, &mut |order| {
            total += 1;
            hits += u64::from(extreme(order));
        });
        return Ok(Agreement { tau, p_value: hits as f64 / total as f64 });
    }
    let hits = (0..PERMUTATIONS)
        .filter(|&i| {
            order.copy_from_slice(y);
            order.shuffle(&mut generator(1, Stream::Resampling, i));
            extreme(&order)
        })
        .count();
    Ok(Agreement { tau, p_value: (hits + 1) as f64 / (PERMUTATIONS + 1) as f64 })
}

/// Kendall's tau-b alone, in `-1..=1`; 0 where one side is constant.
///
/// # Errors
/// Those of [`kendall_agreement`].
pub fn kendall_tau_b(x: &[f64], y: &[f64]) -> Result<f64, EvaluationError> {
    check_pair("y", y.len(), x.len())?;
    check_at_least("the number of values", x.len(), 2)?;
    check_finite("x", x)?;
    check_finite("y", y)?;
    Ok(tau_b(x, y))
}

fn tau_b(x: &[f64], y: &[f64]) -> f64 {
    let sign = |a: f64, b: f64| f64::from(i8::from(b > a) - i8::from(b < a));
    let (mut balance, mut untied_x, mut untied_y) = (0.0, 0.0, 0.0);
    for i in 0..x.len() {
        for j in i + 1..x.len() {
            let (x, y) = (sign(x[i], x[j]), sign(y[i], y[j]));
            balance += x * y;
            untied_x += x * x;
            untied_y += y * y;
        }
    }
    let most = f64::sqrt(untied_x * untied_y);
    if most == 0.0 { 0.0 } else { balance / most }
}

fn for_each_order(values: &mut [f64], from: usize, visit: &mut impl FnMut(&[f64])) {
    if from + 1 >= values.len() {
        visit(values);
        return;
    }
    for i in from..values.len() {
        values.swap(from, i);
        for_each_order(values, from + 1, visit);
        values.swap(from, i);
    }
}

/// What it costs to trust a signal: the best `truth` minus the truth of the candidate with the
/// lowest `signal`, at least 0, in units of the truth. Among equally low signals the choice is
/// taken as random, so their mean truth counts.
///
/// `signal` is what picks (mean uncertainty, lower is chosen), `truth` what counts (recall@1,
/// higher is better).
///
/// # Errors
/// When there is no candidate, the lengths differ, or a value is not finite.
pub fn top1_regret(signal: &[f64], truth: &[f64]) -> Result<f64, EvaluationError> {
    check_pair("truth", truth.len(), signal.len())?;
    check_finite("signal", signal)?;
    check_finite("truth", truth)?;
    let lowest = signal.iter().copied().fold(f64::INFINITY, f64::min);
    let best = truth.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let chosen: Vec<f64> =
        signal.iter().zip(truth).filter(|(s, _)| **s == lowest).map(|(_, t)| *t).collect();
    let mean = chosen.iter().map(|t| t / chosen.len() as f64).sum::<f64>();
    Ok((best - mean).max(0.0))
}

/// Mean height of a curve over its budgets: the area by the trapezoidal rule, divided by the
/// width, in units of the values.
///
/// # Errors
/// When there are fewer than two budgets, the lengths differ, a value is not finite, or the
/// budgets do not grow.
pub fn curve_area(budgets: &[f64], values: &[f64]) -> Result<f64, EvaluationError> {
    check_pair("the values", values.len(), budgets.len())?;
    check_at_least("the number of budgets", budgets.len(), 2)?;
    check_finite("the budgets", budgets)?;
    check_finite("the values", values)?;
    if let Some(step) = budgets.windows(2).find(|step| step[1] <= step[0]) {
        let expected = "larger than the one before it";
        return Err(EvaluationError::Setting { what: "a budget", found: step[1], expected });
    }
    let area: f64 = budgets
        .windows(2)
        .zip(values.windows(2))
        .map(|(x, y)| (x[1] - x[0]) * (y[0] + y[1]) / 2.0)
        .sum();
    Ok(area / (budgets[budgets.len() - 1] - budgets[0]))
}

/// Mean over seeds with Student's 95 % interval, mean ± t(0.975, n - 1) s / sqrt(n).
///
/// # Errors
/// When there are fewer than two seeds (one says nothing about others), or a value is not finite.
pub fn mean_over_seeds(values: &[f64]) -> Result<Estimate, EvaluationError> {
    check_at_least("the number of seeds", values.len(), 2)?;
    check_finite("the values", values)?;
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
    // The parameters are valid for two values or more.
    let t = StudentsT::new(0.0, 1.0, count - 1.0).map_or(f64::INFINITY, |t| t.inverse_cdf(0.975));
    let half = t * (variance / count).sqrt();
    Ok(Estimate { value: mean, low: mean - half, high: mean + half })
}

/// Mean over seeds of `a` minus `b` (areas under curves, say), with Student's 95 % interval of the
/// differences. `a[s]` and `b[s]` belong to the same seed.
///
/// # Errors
/// When the lengths differ, or those of [`mean_over_seeds`].
pub fn paired_over_seeds(a: &[f64], b: &[f64]) -> Result<Estimate, EvaluationError> {
    check_pair("the second list", b.len(), a.len())?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    mean_over_seeds(&differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tau_b_with_ties_is_that_of_scipy() {
        // scipy.stats.kendalltau(x, y).statistic
        let x = [1.0, 2.0, 2.0, 3.0, 5.0, 4.0, 7.0, 8.0];
        let y = [2.0, 1.0, 3.0, 3.0, 6.0, 4.0, 4.0, 9.0];
        let tau = kendall_tau_b(&x, &y).unwrap();
        assert!((tau - 0.792_593_923_901_217_1).abs() < 1e-14, "{tau}");
        assert_eq!(kendall_tau_b(&y, &x).unwrap(), tau);
    }

    #[test]
    fn the_exact_p_value_counts_the_orders_that_are_as_extreme() {
        // Of 24 orders of four values, two have tau = 1 or -1.
        let steps = [0.0, 1.0, 2.0, 3.0];
        let found = kendall_agreement(&steps, &[4.0, 3.0, 2.0, 1.0]).unwrap();
        assert_eq!(found.tau, -1.0);
        assert!((found.p_value - 2.0 / 24.0).abs() < 1e-12);
        // One of three pairs is the other way round.
        assert!((kendall_tau_b(&steps[..3], &[1.0, 3.0, 2.0]).unwrap() - 1.0 / 3.0).abs() < 1e-12);
        // All 720 orders by itertools and scipy: 32 have |tau-b| of 0.785714 or more.
        let (x, y) = ([1.0, 2.0, 2.0, 3.0, 5.0, 4.0], [2.0, 1.0, 3.0, 3.0, 6.0, 4.0]);
        let found = kendall_agreement(&x, &y).unwrap();
        assert!((found.tau - 0.785_714_285_714_285_8).abs() < 1e-12);
        assert!((found.p_value - 32.0 / 720.0).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn many_values_are_tested_by_random_orders() {
        let x: Vec<f64> = (0..12).map(f64::from).collect();
        let same = kendall_agreement(&x, &x).unwrap();
        assert_eq!((same.tau, same.p_value), (1.0, 1e-4));
        let mixed = [3.0, 9.0, 1.0, 11.0, 0.0, 7.0, 5.0, 2.0, 10.0, 4.0, 8.0, 6.0];
        assert!(kendall_agreement(&x, &mixed).unwrap().p_value > 0.3);
    }

    #[test]
    fn a_constant_has_no_order() {
        let found = kendall_agreement(&[1.0, 2.0, 3.0], &[5.0; 3]).unwrap();
        assert_eq!((found.tau, found.p_value), (0.0, 1.0));
    }

    #[test]
    fn regret_is_what_the_lowest_signal_misses() {
        // ProbVLM, table 2, target Flowers: the second best source is picked.
        let regret = top1_regret(&[11.83, 13.55, 18.39], &[47.9, 49.5, 37.7]).unwrap();
        assert!((regret - 1.6).abs() < 1e-12);
        assert_eq!(top1_regret(&[1.0, 2.0], &[0.9, 0.3]).unwrap(), 0.0);
        assert!((top1_regret(&[1.0, 1.0], &[0.9, 0.3]).unwrap() - 0.3).abs() < 1e-12);
        assert!(top1_regret(&[], &[]).is_err());
    }

    #[test]
    fn the_area_of_a_curve_is_its_mean_height() {
        assert_eq!(curve_area(&[0.0, 10.0], &[0.5, 0.5]).unwrap(), 0.5);
        // (2 * 0.5 + 8 * 0.8) / 10
        let area = curve_area(&[100.0, 102.0, 110.0], &[0.4, 0.6, 1.0]).unwrap();
        assert!((area - 0.74).abs() < 1e-12);
        assert!(curve_area(&[1.0], &[1.0]).is_err());
        assert!(curve_area(&[1.0, 1.0], &[1.0, 1.0]).is_err());
        assert!(curve_area(&[1.0, 2.0], &[1.0, f64::NAN]).is_err());
    }

    #[test]
    fn intervals_over_seeds_are_those_of_students_t() {
        // scipy.stats.t.ppf(.975, 4) * std(ddof=1) / sqrt(5)
        let a = [1.1, 1.3, 0.95, 1.2, 1.15];
        let found = paired_over_seeds(&a, &[1.0; 5]).unwrap();
        assert!((found.value - 0.14).abs() < 1e-12);
        assert!((found.low + 0.020_698_378_536_6).abs() < 1e-9, "{found:?}");
        assert!((found.high - 0.300_698_378_536_6).abs() < 1e-9, "{found:?}");
        assert!(mean_over_seeds(&[1.0]).is_err());
        assert!(paired_over_seeds(&[1.0, 2.0], &[1.0]).is_err());
    }
}
