//! Is a predicted density a density? Checks per dimension on held-out targets.

use serde::{Deserialize, Serialize};

/// Likelihood checks of predicted densities on held-out targets, means over items and dimensions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LikelihoodChecks {
    pub items: usize,
    pub dimensions: usize,
    /// Negative log likelihood, nats per dimension of the raw targets.
    pub nll: f64,
    /// The same of one Gaussian per dimension for all queries, fitted to the training targets.
    pub nll_constant: f64,
    /// Share of probability integral transforms in each of 20 bins of equal width; all 0.05 when
    /// the densities are right.
    pub pit: Vec<f64>,
    /// Kolmogorov-Smirnov distance of the transforms from uniform, mean over dimensions.
    pub pit_ks: f64,
    /// How often central intervals hold the target.
    pub coverage: Vec<IntervalCoverage>,
    /// Continuous ranked probability score, lower is better, in units of the embedding.
    pub crps: f64,
    pub crps_constant: f64,
    /// Energy score of the whole embedding, from samples, lower is better.
    pub energy_score: f64,
    pub energy_score_constant: f64,
}

/// Nominal and observed coverage of a central interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct IntervalCoverage {
    pub nominal: f64,
    pub observed: f64,
}
