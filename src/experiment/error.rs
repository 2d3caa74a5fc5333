use std::path::PathBuf;

use crate::adapter::AdapterError;
use crate::adapter::training::TrainingError;
use crate::distribution::DistributionError;
use crate::evaluation::EvaluationError;
use crate::files::FileError;
use crate::gallery::GalleryError;
use crate::model::config::ConfigError;
use crate::model::weights::WeightsError;

/// Why an experiment cannot be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Training(#[from] TrainingError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error(transparent)]
    Distribution(#[from] DistributionError),
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A cache is not of the encoder or data that it is to be used with.
    #[error("the cache {} is stale: {changed}; {hint}", path.display())]
    Stale { path: PathBuf, changed: String, hint: &'static str },
    /// A cache, or what lies where one is to be written, cannot be used as one.
    #[error("{}: {reason}", path.display())]
    Cache { path: PathBuf, reason: String },
    /// The pairs are no usable data; says what, where, and what to do.
    #[error("the embedded pairs of {name} cannot be used: {reason}")]
    Data { name: String, reason: String },
    #[error("{what} is {found}, expected {expected}")]
    Setting { what: &'static str, found: String, expected: String },
    /// A method needs something that the cache does not hold.
    #[error("{method} needs {needs}, which {name} does not hold; {hint}")]
    Missing { method: String, needs: &'static str, name: String, hint: &'static str },
    #[error("cancelled")]
    Cancelled,
}
