//! Why decoding embeddings to images failed.

use std::path::{Path, PathBuf};

use crate::model::config::ConfigError;
use crate::model::weights::WeightsError;

/// Any failure of the decoder. Messages name what was found, what was expected and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(
        "unknown scheduler {0:?}; expected ddim, ddpm, pndm, euler, euler-ancestral, \
         dpmsolver++, unipc or unclip"
    )]
    UnknownScheduler(String),
    #[error("{steps} denoising steps do not work with the {scheduler} scheduler: {reason}")]
    Steps { scheduler: String, steps: usize, reason: String },
    #[error("step {step} of the {scheduler} scheduler needs noise, but none was handed in")]
    NoiseMissing { scheduler: String, step: usize },
    #[error("noise level {found} is out of range; expected 0 to {}", levels - 1)]
    NoiseLevel { found: usize, levels: usize },
    #[error(
        "the embedding has {found} dimensions, the decoder expects {expected}; use the encoder \
         that the decoder was trained with"
    )]
    EmbeddingDim { found: usize, expected: usize },
    #[error("the noise has shape {found:?}, expected {expected:?}")]
    NoiseShape { found: Vec<usize>, expected: Vec<usize> },
    #[error("{}: cannot be used as a decoder: {reason}", path.display())]
    Folder { path: PathBuf, reason: String },
}

impl DecodeError {
    /// A decoder folder whose parts do not fit each other or Haze.
    pub(crate) fn folder(path: &Path, reason: impl Into<String>) -> Self {
        DecodeError::Folder { path: path.to_owned(), reason: reason.into() }
    }
}
