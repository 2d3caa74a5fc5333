//! CLIP (Radford et al. 2021, arXiv 2103.00020): a text and a vision transformer that share one
//! embedding space.
//!
//! [`ClipTextModel`] and [`ClipVisionModel`] are the two towers, also as the parts of diffusers
//! pipelines (`text_encoder/`, `image_encoder/`); [`ClipEncoder`] is a whole model folder with its
//! tokenizer and image processor.

mod activation;
mod config;
mod encoder;
mod model;
mod text;
mod transformer;
mod vision;
mod weights;

pub use activation::Activation;
pub use config::{ClipTextConfig, ClipVisionConfig, TransformerConfig};
pub use encoder::{ClipEncoder, Pooled};
pub use model::ClipModel;
pub use text::{ClipTextModel, ClipTextOutput};
pub use vision::{ClipVisionModel, ClipVisionOutput};
