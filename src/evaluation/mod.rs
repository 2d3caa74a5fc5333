//! How good retrieval is, and whether the uncertainty knows when it is wrong.
//!
//! In: ranks of the relevant items, uncertainties, confidences and hits, as plain slices with one
//! entry per query. Out: single numbers and small tables in f64. Nothing here knows of models,
//! galleries or tensors, and nothing depends on the order in which queries are given, except
//! that equal uncertainties keep the order of the slice, so that a result is reproducible.

mod bins;
mod calibration;
mod confidence;
mod correlation;
mod error;
mod estimate;
mod failure;
mod levels;
mod likelihood;
mod recall;
mod risk;

pub use bins::{Binning, UncertaintyBin, uncertainty_bins};
pub use calibration::{ReliabilityBin, expected_calibration_error, reliability_bins};
pub use confidence::ConfidenceCalibration;
pub use correlation::{Trend, average_ranks, pearson, spearman, trend};
pub use error::EvaluationError;
pub use estimate::Estimate;
pub use failure::{FailureDetection, SelectiveRecall};
pub use levels::LevelTrend;
pub use likelihood::{IntervalCoverage, LikelihoodChecks};
pub use recall::{hits_at_k, image_to_text_ranks, recall_at_k, text_to_image_ranks};
pub use risk::{SelectiveRisk, risk_coverage_curve, selective_risk};
