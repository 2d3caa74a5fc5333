//! How recall falls over uncertainty levels, and how much of that is chance.

use serde::{Deserialize, Serialize};

use super::bins::{Binning, UncertaintyBin};

/// Recall over levels of growing uncertainty (ProbVLM, arXiv 2307.00398, section 4.1), scored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LevelTrend {
    /// Levels asked for.
    pub requested: usize,
    pub binning: Binning,
    /// Those that hold a query, lowest uncertainty first.
    pub levels: Vec<UncertaintyBin>,
    /// S: Spearman's correlation of level and recall, in `-1..=1`.
    pub spearman: f64,
    /// R² of the least-squares line, in `0..=1`.
    pub r_squared: f64,
    /// -S·R², in `-1..=1`, 1 is ideal. With the uncertainty negated it has the opposite sign, up
    /// to how ties fall.
    pub minus_s_r2: f64,
    /// 95 % bootstrap interval of -S·R² over queries.
    pub interval: [f64; 2],
    /// Share of random orders of the queries whose -S·R² is at least as large.
    pub p_value: f64,
    /// What one random order in twenty exceeds.
    pub null_95: f64,
}
