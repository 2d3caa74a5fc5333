//! Calibration of a retrieval's confidence, and what temperature scaling makes of it.

use serde::{Deserialize, Serialize};

use super::calibration::ReliabilityBin;
use super::estimate::Estimate;

/// How far confidences are from the share of right answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceCalibration {
    /// What the logits are multiplied with before the softmax over the gallery.
    pub scale: f64,
    /// Expected calibration error, in `0..=1`.
    pub ece: Estimate,
    /// Mean squared difference of confidence and hit, in `0..=1`.
    pub brier: f64,
    /// Mean negative log of the probability given to the true item (or items), nats.
    pub nlpd: f64,
    pub bins: Vec<ReliabilityBin>,
}
