//! How good retrieval is, and whether the uncertainty knows when it is wrong.
//!
//! In: ranks of the relevant items, uncertainties, confidences and hits, as plain slices with one
//! entry per query, and predicted densities with what came true. Out: single numbers with intervals
//! and small tables in f64. Nothing here knows of models, galleries or tensors, and nothing depends
//! on the order in which queries are given, except that equal uncertainties keep the order of the
//! slice, so that a result is reproducible.
//!
//! | question | where |
//! | --- | --- |
//! | is the right item found? | `recall`, `plausible`, `plausible_file` |
//! | does recall fall with uncertainty? | `bins`, `correlation`, `levels` |
//! | does uncertainty find the wrong answers? | `risk`, `failure` |
//! | is one method better than another? | `paired`, `agreement` |
//! | is a confidence a probability? | `calibration`, `confidence` |
//! | is a density a density? | `likelihood` |

mod agreement;
mod bins;
mod calibration;
mod confidence;
mod correlation;
mod error;
mod estimate;
mod failure;
mod levels;
mod likelihood;
mod paired;
mod plausible;
mod plausible_file;
mod ranked;
mod recall;
mod resampling;
mod risk;

pub use agreement::{
    Agreement, curve_area, kendall_agreement, kendall_tau_b, mean_over_seeds, paired_over_seeds,
    top1_regret,
};
pub use bins::{Binning, UncertaintyBin, uncertainty_bins};
pub use calibration::{ReliabilityBin, expected_calibration_error, reliability_bins};
pub use confidence::{
    ConfidenceCalibration, GalleryProbability, LOGIT_SCALES, confidence_calibration,
    fit_logit_scale, gallery_probability,
};
pub use correlation::{Trend, average_ranks, pearson, spearman, trend};
pub use error::EvaluationError;
pub use estimate::Estimate;
pub use failure::{FailureDetection, FailureOptions, SelectiveRecall, auroc, failure_detection};
pub use levels::{LevelTrend, TrendOptions, level_trend};
pub use likelihood::{
    ConstantDensity, IntervalCoverage, LikelihoodAccumulator, LikelihoodChecks, LikelihoodOptions,
};
pub use paired::{PairedStatistic, paired_difference, seed_estimate};
pub use plausible::{PLAUSIBLE_RECALL_AT, PlausibleScores, PlausibleTruth};
pub use plausible_file::PlausibleFile;
pub use recall::{hits_at_k, image_to_text_ranks, recall_at_k, text_to_image_ranks};
pub use resampling::{
    Clusters, Queries, mean_estimate, mean_over_queries, median_estimate, quantiles, share_of_hits,
};
pub use risk::{SelectiveRisk, risk_coverage_curve, selective_risk};
