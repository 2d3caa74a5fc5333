//! What can go wrong between a query and its embedding.

use std::path::PathBuf;

use super::preprocess::PreprocessError;
use crate::files::FileError;
use crate::model::config::ConfigError;
use crate::model::device_failure::explain;
use crate::model::weights::WeightsError;

/// Why an encoder could not be loaded, or an input not be embedded.
#[derive(Debug, thiserror::Error)]
pub enum EncoderError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(
        "{}: it holds {found}, which has no contrastive heads (vision_proj, text_proj) and so no \
         shared space; use a retrieval checkpoint such as Salesforce/blip-itm-base-coco",
        folder.display()
    )]
    NoContrastiveHeads { folder: PathBuf, found: String },
    #[error("{}: {reason}", path.display())]
    Tokenizer { path: PathBuf, reason: String },
    #[error("token id {id} at position {position} of text {text}; the model knows {vocab_size}")]
    TokenOutOfVocabulary { text: usize, position: usize, id: u32, vocab_size: usize },
    #[error("there is nothing to embed")]
    EmptyBatch,
    #[error("the texts were padded to {found} tokens, but the model reads at most {limit}")]
    TextLength { found: usize, limit: usize },
    #[error("pixel values have shape {found:?}, the model takes [batch, 3, {size}, {size}]")]
    PixelShape { found: [usize; 4], size: usize },
    #[error(transparent)]
    Preprocess(#[from] PreprocessError),
    #[error("the model has no text projection, so it gives no text embedding of the shared space")]
    NoTextProjection,
    #[error(
        "the embedding of {input} is not finite; the weights are damaged or the device computes \
         wrongly (try --device cpu)"
    )]
    NotFinite { input: String },
    #[error("the device failed while embedding {count} inputs: {}", explain(reason))]
    Device { count: usize, reason: String },
}
