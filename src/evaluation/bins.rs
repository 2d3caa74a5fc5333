//! Uncertainty levels: queries grouped by uncertainty, and the mean recall of each group.
//!
//! ProbVLM (arXiv 2307.00398, section 4.1) and its peers plot recall@1 against these levels and
//! score the trend; the papers differ in how they form them, so both ways are here.

use serde::{Deserialize, Serialize};

use super::EvaluationError;
use super::error::{check_at_least, check_finite, check_pair};

/// How queries are assigned to levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binning {
    /// Equal counts: sorted by (uncertainty, position), then cut; the first bins hold one more
    /// query when the count does not divide.
    Quantile,
    /// Equal width between the smallest and the largest uncertainty.
    Width,
}

/// One level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct UncertaintyBin {
    /// Number of the level, 0 for the lowest uncertainty. Empty levels are left out and keep
    /// their number.
    pub index: usize,
    /// Mean uncertainty of its queries.
    pub mean_uncertainty: f64,
    /// Share of its queries that hit, in `0..=1`.
    pub recall: f64,
    /// Number of its queries, at least 1.
    pub count: usize,
}

/// Groups queries into at most `bins` levels of uncertainty, lowest first.
///
/// `uncertainty[i]` and `hits[i]` belong to query `i`.
///
/// # Errors
/// When there is no query, the lengths differ, an uncertainty is not finite, or `bins` is 0.
pub fn uncertainty_bins(
    uncertainty: &[f64],
    hits: &[bool],
    bins: usize,
    binning: Binning,
) -> Result<Vec<UncertaintyBin>, EvaluationError> {
    check_pair("uncertainty", uncertainty.len(), hits.len())?;
    check_finite("uncertainty", uncertainty)?;
    check_at_least("the number of bins", bins, 1)?;
    let order = ascending(uncertainty);
    let level_of_place = levels_in_order(uncertainty, &order, bins, binning);

    let mut found = Vec::new();
    let mut start = 0;
    for group in level_of_place.chunk_by(|a, b| a == b) {
        let members = &order[start..start + group.len()];
        let count = members.len();
        found.push(UncertaintyBin {
            index: group[0],
            mean_uncertainty: members.iter().map(|&i| uncertainty[i] / count as f64).sum(),
            recall: members.iter().filter(|&&i| hits[i]).count() as f64 / count as f64,
            count,
        });
        start += count;
    }
    Ok(found)
}

/// Positions sorted by value, equal values in the order of the slice.
pub(super) fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    // partial_cmp, so that -0 and 0 are equal
    order.sort_by(|&a, &b| values[a].partial_cmp(&values[b]).unwrap_or(std::cmp::Ordering::Equal));
    order
}

/// The level of each query in sorted order, never decreasing.
fn levels_in_order(
    uncertainty: &[f64],
    order: &[usize],
    bins: usize,
    binning: Binning,
) -> Vec<usize> {
    let count = order.len();
    match binning {
        Binning::Quantile => {
            let (size, larger) = (count / bins, count % bins);
            let boundary = larger * (size + 1);
            let level = |place: usize| {
                if place < boundary {
                    place / (size + 1)
                } else {
                    larger + (place - boundary) / size
                }
            };
            (0..count).map(level).collect()
        }
        Binning::Width => {
            let lowest = uncertainty[order[0]];
            let range = uncertainty[order[count - 1]] - lowest;
            let level = |&i: &usize| {
                if range == 0.0 {
                    return 0;
                }
                // `as` truncates, and the largest value would fall just beyond the last level
                (((uncertainty[i] - lowest) / range * bins as f64) as usize).min(bins - 1)
            };
            order.iter().map(level).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(bins: &[UncertaintyBin]) -> Vec<(usize, usize)> {
        bins.iter().map(|b| (b.index, b.count)).collect()
    }

    #[test]
    fn quantile_levels_differ_by_one_query_and_the_first_are_larger() {
        let uncertainty: Vec<f64> = (0..11).rev().map(f64::from).collect();
        let hits: Vec<bool> = (0..11).map(|i| i >= 5).collect();
        let bins = uncertainty_bins(&uncertainty, &hits, 4, Binning::Quantile).unwrap();
        assert_eq!(counts(&bins), [(0, 3), (1, 3), (2, 3), (3, 2)]);
        assert!((bins[0].mean_uncertainty - 1.0).abs() < 1e-15);
        assert_eq!(bins[0].recall, 1.0);
        assert_eq!(bins[1].recall, 1.0);
        assert_eq!(bins[2].recall, 0.0);
    }

    #[test]
    fn equal_uncertainties_keep_the_order_of_the_queries() {
        let hits = [true, true, false, false];
        let bins = uncertainty_bins(&[0.0, -0.0, 0.0, -0.0], &hits, 2, Binning::Quantile).unwrap();
        assert_eq!(bins[0].recall, 1.0);
        assert_eq!(bins[1].recall, 0.0);
    }

    #[test]
    fn more_levels_than_queries_leave_the_last_levels_out() {
        let bins = uncertainty_bins(&[3.0, 1.0], &[true, false], 5, Binning::Quantile).unwrap();
        assert_eq!(counts(&bins), [(0, 1), (1, 1)]);
    }

    #[test]
    fn width_levels_leave_empty_levels_out_and_keep_their_numbers() {
        let uncertainty = [0.0, 0.1, 0.95, 1.0, 0.25];
        let bins = uncertainty_bins(&uncertainty, &[true; 5], 4, Binning::Width).unwrap();
        assert_eq!(counts(&bins), [(0, 2), (1, 1), (3, 2)]);
        assert!((bins[2].mean_uncertainty - 0.975).abs() < 1e-15);
    }

    #[test]
    fn a_constant_uncertainty_is_one_width_level() {
        let bins = uncertainty_bins(&[2.0; 3], &[true, true, false], 4, Binning::Width).unwrap();
        assert_eq!(counts(&bins), [(0, 3)]);
    }

    #[test]
    fn bad_input_is_refused() {
        let run = |u: &[f64], h: &[bool], n| uncertainty_bins(u, h, n, Binning::Width);
        assert!(matches!(run(&[], &[], 3), Err(EvaluationError::Empty { .. })));
        assert!(matches!(run(&[1.0], &[], 3), Err(EvaluationError::Length { .. })));
        assert!(matches!(run(&[1.0], &[true], 0), Err(EvaluationError::TooSmall { .. })));
        let nan = run(&[1.0, f64::NAN], &[true, true], 3);
        assert!(matches!(nan, Err(EvaluationError::Value { index: 1, .. })));
    }
}
