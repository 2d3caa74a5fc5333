//! Uncertainty levels: queries grouped by uncertainty, and the mean recall of each group.
//!
//! ProbVLM (arXiv 2307.00398, section 4.1) and its peers plot recall@1 against these levels and
//! score the trend; the papers differ in how they form them, so both ways are here.

use std::ops::Range;

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
    /// `create_uncer_bins_eq_spacing` of ProbVLM's released code: as many edges as levels, equally
    /// spaced from the smallest to the largest uncertainty, and a query belongs to *every* level
    /// whose edge is not below its uncertainty. The first level holds the least uncertain query
    /// (and its equals) alone, the last one all queries.
    CumulativeWidth,
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
    let sorted: Vec<f64> = order.iter().map(|&i| uncertainty[i]).collect();
    let levels = level_places(&sorted, bins, binning).into_iter().map(|(index, places)| {
        let members = &order[places];
        let count = members.len();
        UncertaintyBin {
            index,
            mean_uncertainty: members.iter().map(|&i| uncertainty[i] / count as f64).sum(),
            recall: members.iter().filter(|&&i| hits[i]).count() as f64 / count as f64,
            count,
        }
    });
    Ok(levels.collect())
}

/// Positions sorted by value, equal values in the order of the slice.
pub(super) fn ascending(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    // partial_cmp, so that -0 and 0 are equal
    order.sort_by(|&a, &b| values[a].partial_cmp(&values[b]).unwrap_or(std::cmp::Ordering::Equal));
    order
}

/// Number of each level that holds a query, and its places in ascending order of uncertainty.
pub(super) fn level_places(
    sorted: &[f64],
    bins: usize,
    binning: Binning,
) -> Vec<(usize, Range<usize>)> {
    let count = sorted.len();
    let (lowest, highest) = (sorted[0], sorted[count - 1]);
    let mut start = 0;
    let mut next = |end: usize| std::mem::replace(&mut start, end)..end;
    let places: Vec<Range<usize>> = match binning {
        Binning::Quantile => {
            let mut end = 0;
            let mut place = |level| {
                end += quantile_size(count, bins, level);
                next(end)
            };
            (0..bins).map(&mut place).collect()
        }
        Binning::Width => {
            let end =
                |level| sorted.partition_point(|&u| width_level(u, lowest, highest, bins) <= level);
            (0..bins).map(|level| next(end(level))).collect()
        }
        Binning::CumulativeWidth => {
            let edges = cumulative_edges(lowest, highest, bins);
            edges.iter().map(|&edge| 0..sorted.partition_point(|&u| u <= edge)).collect()
        }
    };
    places.into_iter().enumerate().filter(|(_, places)| !places.is_empty()).collect()
}

/// Number of queries in one of `bins` levels of equal count.
pub(super) fn quantile_size(count: usize, bins: usize, level: usize) -> usize {
    count / bins + usize::from(level < count % bins)
}

/// Level of equal width that an uncertainty belongs to.
pub(super) fn width_level(uncertainty: f64, lowest: f64, highest: f64, bins: usize) -> usize {
    let range = highest - lowest;
    if range == 0.0 {
        return 0;
    }
    // `as` truncates, and the largest value would fall just beyond the last level
    (((uncertainty - lowest) / range * bins as f64) as usize).min(bins - 1)
}

/// Upper edges of the cumulative levels: `numpy.linspace(lowest, highest, bins)`, but one level
/// holds all.
pub(super) fn cumulative_edges(lowest: f64, highest: f64, bins: usize) -> Vec<f64> {
    let step = (highest - lowest) / bins.saturating_sub(1).max(1) as f64;
    let edge = |level: usize| lowest + step * level as f64;
    (0..bins).map(|level| if level + 1 == bins { highest } else { edge(level) }).collect()
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
    fn cumulative_levels_hold_all_queries_up_to_their_edge() {
        // The released code with n_bins = 4: edges linspace(0, 1, 4) = 0, 1/3, 2/3, 1.
        let uncertainty = [1.0, 0.0, 0.2, 0.9, 0.4];
        let hits = [false, true, true, false, true];
        let bins = uncertainty_bins(&uncertainty, &hits, 4, Binning::CumulativeWidth).unwrap();
        assert_eq!(counts(&bins), [(0, 1), (1, 2), (2, 3), (3, 5)]);
        assert_eq!(bins[2].recall, 1.0);
        assert_eq!(bins[3].recall, 0.6);
        assert!((bins[2].mean_uncertainty - 0.2).abs() < 1e-15);
        let one = uncertainty_bins(&uncertainty, &hits, 1, Binning::CumulativeWidth).unwrap();
        assert_eq!(counts(&one), [(0, 5)]);
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
