//! Calibration: does a confidence of 0.8 mean being right 80 times in 100?
//!
//! Guo, Pleiss, Sun, Weinberger, "On Calibration of Modern Neural Networks", ICML 2017
//! (arXiv 1706.04599), equation 3.

use serde::{Deserialize, Serialize};

use super::EvaluationError;
use super::error::{check_at_least, check_pair};

/// One column of a reliability diagram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Number of the bin: it covers confidences above `index / bins` up to and including
    /// `(index + 1) / bins`. Empty bins are left out and keep their number.
    pub index: usize,
    /// Mean confidence of its queries, in `0..=1`.
    pub mean_confidence: f64,
    /// Share of its queries that hit, in `0..=1`.
    pub accuracy: f64,
    /// Number of its queries, at least 1.
    pub count: usize,
}

/// Groups queries by confidence into `bins` bins of equal width, lowest first. A confidence of
/// exactly 0 belongs to the first.
///
/// # Errors
/// When there is no query, the lengths differ, a confidence is not in `0..=1`, or `bins` is 0.
pub fn reliability_bins(
    confidence: &[f64],
    hits: &[bool],
    bins: usize,
) -> Result<Vec<ReliabilityBin>, EvaluationError> {
    check_pair("confidence", confidence.len(), hits.len())?;
    check_at_least("the number of bins", bins, 1)?;
    if let Some(index) = confidence.iter().position(|c| !(0.0..=1.0).contains(c)) {
        return Err(EvaluationError::Value {
            what: "confidence",
            index,
            found: confidence[index],
            expected: "a number from 0 to 1",
        });
    }
    // Compared with the edges themselves: rounding in confidence * bins would move values that
    // lie on an edge.
    let upper_edges = upper_edges(bins);
    let (mut sums, mut correct, mut counts) = (vec![0.0; bins], vec![0usize; bins], vec![0; bins]);
    for (&c, &hit) in confidence.iter().zip(hits) {
        let bin = upper_edges.partition_point(|&edge| edge < c);
        sums[bin] += c;
        correct[bin] += usize::from(hit);
        counts[bin] += 1;
    }
    let filled = (0..bins).filter(|&index| counts[index] > 0);
    Ok(filled
        .map(|index| ReliabilityBin {
            index,
            mean_confidence: sums[index] / counts[index] as f64,
            accuracy: correct[index] as f64 / counts[index] as f64,
            count: counts[index],
        })
        .collect())
}

/// Upper edges of the bins, which belong to them.
pub(super) fn upper_edges(bins: usize) -> Vec<f64> {
    (1..=bins).map(|i| i as f64 / bins as f64).collect()
}

/// Expected calibration error in `0..=1`: mean over queries of |accuracy - mean confidence| of
/// their bin. `hits[i]` says whether query `i` was answered correctly.
///
/// # Errors
/// Those of [`reliability_bins`].
pub fn expected_calibration_error(
    confidence: &[f64],
    hits: &[bool],
    bins: usize,
) -> Result<f64, EvaluationError> {
    let gap = |b: ReliabilityBin| b.count as f64 * (b.accuracy - b.mean_confidence).abs();
    let total: f64 = reliability_bins(confidence, hits, bins)?.into_iter().map(gap).sum();
    Ok(total / hits.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_edges_belong_to_the_bin_and_zero_to_the_first() {
        let confidence = [0.0, 0.1, 0.1 + 1e-9, 0.3, 1.0];
        let bins = reliability_bins(&confidence, &[true; 5], 10).unwrap();
        let seen: Vec<_> = bins.iter().map(|b| (b.index, b.count)).collect();
        assert_eq!(seen, [(0, 2), (1, 1), (2, 1), (9, 1)]);
    }

    #[test]
    fn every_edge_stays_in_the_bin_below_it_for_any_number_of_bins() {
        for bins in 1..=100usize {
            for edge in 1..=bins {
                let found = reliability_bins(&[edge as f64 / bins as f64], &[true], bins).unwrap();
                assert_eq!(found[0].index, edge - 1, "edge {edge} of {bins}");
            }
        }
    }

    #[test]
    fn the_error_is_the_gap_weighted_by_the_queries_of_a_bin() {
        let confidence = [0.9, 0.9, 0.9, 0.2];
        let hits = [true, true, false, true];
        let expected = (3.0 * (0.9 - 2.0 / 3.0) + 0.8) / 4.0;
        let got = expected_calibration_error(&confidence, &hits, 10).unwrap();
        assert!((got - expected).abs() < 1e-15);
    }

    #[test]
    fn bad_input_is_refused() {
        let run = expected_calibration_error;
        assert!(matches!(run(&[], &[], 10), Err(EvaluationError::Empty { .. })));
        assert!(run(&[0.5], &[true, true], 10).is_err());
        assert!(run(&[0.5], &[true], 0).is_err());
        for bad in [-0.1, 1.1, f64::NAN] {
            assert!(matches!(run(&[bad], &[true], 5), Err(EvaluationError::Value { .. })));
        }
    }
}
