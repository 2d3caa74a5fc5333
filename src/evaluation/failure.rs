//! Uncertainty as a detector of wrong answers, and as a reason to abstain.

use serde::{Deserialize, Serialize};

use super::estimate::Estimate;

/// How well an uncertainty tells wrong answers from right ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureDetection {
    /// Area under the ROC curve of "wrong" by uncertainty: 0.5 is chance, 1 ideal. `None` when all
    /// queries are right, or all wrong.
    pub auroc: Option<Estimate>,
    /// Share of right answers that are flagged when 95 % of the wrong ones are, lower is better.
    pub fpr95: Option<Estimate>,
    /// Area under the risk-coverage curve, lower is better.
    pub aurc: Estimate,
    /// AURC above that of the best order, lower is better.
    pub excess_aurc: Estimate,
    /// Recall@1 of the most certain share of the queries, per coverage.
    pub selective_recall: Vec<SelectiveRecall>,
    /// The risk-coverage curve, thinned to at most 200 points `[coverage, risk]`.
    pub curve: Vec<[f64; 2]>,
}

/// Recall@1 when only the most certain queries are answered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SelectiveRecall {
    /// Share of queries answered.
    pub coverage: f64,
    pub recall: Estimate,
}
