//! Why decoding embeddings to images failed.

use std::path::{Path, PathBuf};

use super::model_error::ModelError;
use crate::encoder::EncoderError;
use crate::model::config::ConfigError;
use crate::model::device_failure::explain;
use crate::model::weights::WeightsError;

/// Any failure of the decoder. Messages name what was found, what was expected and what to do.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error("the decoder's text encoder: {0}")]
    Text(#[from] EncoderError),
    #[error("the prior's text encoder: {0}")]
    PriorText(EncoderError),
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
    #[error("the embedding of tile {tile} holds a value that is infinite or not a number")]
    EmbeddingNotFinite { tile: usize },
    #[error("the VAE gave pixels of shape {shape:?}, expected 3 channels last")]
    Pixels { shape: [usize; 4] },
    #[error("{option} is {found}, expected {expected}")]
    Option { option: &'static str, found: String, expected: String },
    #[error(
        "the latents became infinite or not a number at step {step} of {steps}; \
         lower the guidance scale, choose another scheduler, or try --precision f32 or --device cpu"
    )]
    NotFinite { step: usize, steps: usize },
    #[error(
        "the prior's embeddings became infinite or not a number at step {step} of {steps}; \
         lower the prior's guidance scale, or try --device cpu"
    )]
    PriorNotFinite { step: usize, steps: usize },
    #[error("the device failed while decoding a batch of {batch_size}: {}", explain(reason))]
    Device { batch_size: usize, reason: String },
    #[error(
        "the device ran out of memory while {stage} a batch of {batch_size}: {reason}; {advice}"
    )]
    OutOfMemory { stage: &'static str, batch_size: usize, reason: String, advice: String },
    #[error("decoding was cancelled")]
    Cancelled,
    #[error("the noise has shape {found:?}, expected {expected:?}")]
    NoiseShape { found: Vec<usize>, expected: Vec<usize> },
    #[error("{}: cannot be used as a decoder: {reason}", path.display())]
    Folder { path: PathBuf, reason: String },
    #[error("{}: cannot be used as a prior: {reason}", path.display())]
    PriorFolder { path: PathBuf, reason: String },
}

impl DecodeError {
    /// A decoder folder whose parts do not fit each other or Haze.
    pub(crate) fn folder(path: &Path, reason: impl Into<String>) -> Self {
        DecodeError::Folder { path: path.to_owned(), reason: reason.into() }
    }

    /// A folder that holds no prior, or one whose parts do not fit each other.
    pub(crate) fn prior_folder(path: &Path, reason: impl Into<String>) -> Self {
        DecodeError::PriorFolder { path: path.to_owned(), reason: reason.into() }
    }
}
