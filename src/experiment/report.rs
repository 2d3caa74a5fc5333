//! What an experiment found: plain numbers that can be written down and read again.

use serde::{Deserialize, Serialize};

use super::method::Method;
use super::retrieval::Direction;
use crate::adapter::training::EpochRecord;
use crate::evaluation::{
    ConfidenceCalibration, Estimate, FailureDetection, LevelTrend, LikelihoodChecks,
};

/// Version of the written form; raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;

/// A whole experiment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    /// Version of Haze that made it.
    pub haze: String,
    pub settings: Settings,
    /// Name and size of what was learned from.
    pub training: SplitFacts,
    pub validation: SplitFacts,
    pub dim: usize,
    /// How training went, one entry per trained method, seed and side.
    pub runs: Vec<TrainingRecord>,
    pub tests: Vec<TestReport>,
    /// What a reader should know: fallbacks taken, methods left out and why.
    pub notes: Vec<String>,
    /// Wall-clock time of the whole experiment.
    pub seconds: f64,
}

/// What was asked for; with the same caches it gives the same report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub methods: Vec<Method>,
    pub seeds: Vec<u64>,
    /// Whose uncertainty is held against a query's outcome.
    pub whose: Whose,
    /// Numbers of levels.
    pub levels: Vec<usize>,
    pub bootstrap: usize,
    pub permutations: usize,
    pub budget: Budget,
    /// Of ProbVLM within one modality, and of the densities that share its network.
    #[serde(default)]
    pub probvlm: ProbVlmSettings,
}

/// What ProbVLM's paper leaves open, within one modality. The released preset has its own.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ProbVlmSettings {
    /// λ, the weight of the crossed term.
    pub cross_weight: f64,
    /// Standard deviation of the noise on standardised inputs in training.
    pub input_noise: f64,
}

impl Default for ProbVlmSettings {
    /// The best of the settings that were tried on the demo's validation split, see
    /// `docs/evaluation.md`. Without noise the network reproduces its input almost exactly, and
    /// what variance is left says little; without the crossed term, too.
    fn default() -> Self {
        Self { cross_weight: 3.0, input_noise: 1.0 }
    }
}

/// What every trained method gets.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    /// Passes over the training pairs at most.
    pub epochs: usize,
    pub batch_size: usize,
    pub learning_rate: f64,
    /// Epochs without a better held-out score before a run stops.
    pub patience: usize,
    /// Dropout passes behind epistemic uncertainty.
    pub passes: usize,
}

impl Default for Budget {
    /// Enough for the demo's pairs; larger data need fewer epochs, not more.
    fn default() -> Self {
        Self { epochs: 30, batch_size: 512, learning_rate: 3e-4, patience: 5, passes: 20 }
    }
}

/// Whose uncertainty is held against the outcome of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Whose {
    /// The query's own, as in ProbVLM and PCME++.
    #[default]
    Query,
    /// That of the best match, as in AsymVLM's image-to-text table.
    Retrieved,
    /// Both added.
    Sum,
}

/// A split in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitFacts {
    pub name: String,
    pub images: usize,
    pub captions: usize,
}

/// How one adapter was trained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    pub method: Method,
    pub seed: u64,
    /// `image`, `text`, or `both` for methods that train the sides together.
    pub side: String,
    pub epochs: Vec<EpochRecord>,
    pub seconds: f64,
}

/// Results on one test set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TestReport {
    pub split: SplitFacts,
    /// Whether relevance goes by class.
    pub by_class: bool,
    pub directions: Vec<DirectionReport>,
}

/// Results in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DirectionReport {
    pub direction: Direction,
    pub queries: usize,
    /// Recall at 1, 5 and 10 by the frozen embeddings.
    pub recall: [Estimate; 3],
    /// The same for a random order.
    pub chance: [f64; 3],
    /// Calibration of the softmax over the gallery, by the encoder's logit scale.
    pub confidence: Option<ConfidenceCalibration>,
    /// The same with the scale fitted on the validation pairs (temperature scaling).
    pub scaled_confidence: Option<ConfidenceCalibration>,
    pub plausible: Vec<PlausibleMatches>,
    /// In the order of [`Settings::methods`].
    pub methods: Vec<MethodReport>,
}

/// Metrics by plausible matches: relevance judged by people, beyond the own pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlausibleMatches {
    /// As its file is called: `eccv`, `cxc`.
    pub truth: String,
    /// Queries that the file judges.
    pub judged: usize,
    /// Those of them that are in the test set, with a match in its gallery: they are scored.
    pub queries: usize,
    /// Matches that the file lists for queries of the test set.
    pub listed: usize,
    /// Those of them that are in the gallery: they count.
    pub matches: usize,
    /// Share of queries with a plausible match among the first 1, 5 and 10.
    pub recall: [Estimate; 3],
    /// Share of plausible matches among the first R, where R is how many the query has.
    pub r_precision: Estimate,
    /// mAP@R, see [`PlausibleScores`](crate::evaluation::PlausibleScores).
    pub map_at_r: Estimate,
}

/// One method in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MethodReport {
    pub method: Method,
    /// One entry per seed; a method without seeds has one.
    pub seeds: Vec<SeedReport>,
    /// Mean over seeds of -S·R² at the first number of levels, equal counts, with a 95 % interval
    /// over queries and seeds.
    pub minus_s_r2: Estimate,
    /// Likewise AURC.
    pub aurc: Estimate,
    /// Likewise AUROC of failure.
    pub auroc: Option<Estimate>,
    /// AURC of this method minus that of plain cosine distance, over the same queries: below 0
    /// where this method is better. `None` for cosine distance itself, or when it was not run.
    pub aurc_against_cosine: Option<Estimate>,
    /// AURC of ProbVLM minus that of this method: below 0 where ProbVLM is better.
    pub probvlm_aurc_against: Option<Estimate>,
    /// Of the densities, where the method predicts any; of the first seed.
    pub likelihood: Option<LikelihoodChecks>,
}

/// One seed of one method in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SeedReport {
    pub seed: u64,
    pub mean_uncertainty: f64,
    pub mean_aleatoric: Option<f64>,
    pub mean_epistemic: Option<f64>,
    /// Spearman's correlation of the two parts over queries.
    pub aleatoric_epistemic: Option<f64>,
    /// Spearman's correlation of uncertainty and cosine distance: how much of it is the same.
    pub against_cosine: f64,
    /// One per number of levels and binning.
    pub trends: Vec<LevelTrend>,
    pub failure: FailureDetection,
}

impl Report {
    /// The report of one direction on one test set.
    pub fn direction(&self, test: usize, direction: Direction) -> Option<&DirectionReport> {
        self.tests.get(test)?.directions.iter().find(|report| report.direction == direction)
    }
}

impl DirectionReport {
    /// The report of one method.
    pub fn method(&self, method: Method) -> Option<&MethodReport> {
        self.methods.iter().find(|report| report.method == method)
    }
}

impl std::fmt::Display for Whose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Whose::Query => "query",
            Whose::Retrieved => "retrieved",
            Whose::Sum => "sum",
        })
    }
}

impl std::str::FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Whose::Query, Whose::Retrieved, Whose::Sum]
            .into_iter()
            .find(|whose| whose.to_string() == text)
            .ok_or_else(|| format!("unknown {text:?}; expected query, retrieved or sum"))
    }
}
