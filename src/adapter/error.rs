use std::path::{Path, PathBuf};

use crate::distribution::DistributionError;
use crate::encoder::Modality;
use crate::files::FileError;
use crate::model::config::ConfigError;
use crate::model::device_failure::explain;
use crate::model::weights::WeightsError;

/// Why an adapter could not be loaded, saved or applied.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(
        "{}: holds a {found}, expected {expected}; {hint}",
        path.display()
    )]
    Kind { path: PathBuf, found: String, expected: &'static str, hint: &'static str },
    #[error("{}: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },
    #[error(
        "the embedding has {found} dimensions, the adapter {expected}; use the encoder that the \
         adapter was trained with"
    )]
    Dimension { found: usize, expected: usize },
    #[error(
        "the adapter reads vectors of {found} numbers, the text encoder gives {length} tokens of \
         {width}: expected an adapter of {width} (one token at a time) or {} (all at once); use \
         the decoder whose text encoder the adapter was trained with",
        length * width
    )]
    PromptDimension { found: usize, length: usize, width: usize },
    #[error("the embedding is of {found}, the adapter expects {expected} embeddings")]
    Modality { found: Modality, expected: Modality },
    #[error("the embedding is {found} in dimension {dimension}, expected finite numbers")]
    NotFinite { dimension: usize, found: f32 },
    #[error("the embedding is all zeros; it has no direction to normalise")]
    Zero,
    #[error(
        "the adapter predicted no usable density: {0}; its weights may come from a failed training run"
    )]
    Prediction(#[from] DistributionError),
    /// The weights of adapters have no mean.
    #[error(
        "{what} is {found}, expected {expected}: only ProbVLM adapters of one kind and size have a \
         mean; train them with the same options"
    )]
    Average { what: &'static str, found: String, expected: String },
    #[error("the device failed: {}", explain(.0))]
    Device(String),
    #[error("no {what} can be fitted: {reason}")]
    Fit { what: &'static str, reason: String },
}

impl AdapterError {
    pub(super) fn checkpoint(path: &Path, reason: impl Into<String>) -> Self {
        AdapterError::Checkpoint { path: path.to_owned(), reason: reason.into() }
    }
}
