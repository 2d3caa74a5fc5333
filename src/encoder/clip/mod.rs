//! CLIP (Radford et al. 2021, arXiv 2103.00020): a text and a vision transformer that share one
//! embedding space.
//!
//! [`ClipTextModel`] and [`ClipVisionModel`] are the two towers, also as the parts of diffusers
//! pipelines (`text_encoder/`, `image_encoder/`); [`ClipModel`] is both.

mod config;
mod model;
mod text;
mod vision;

pub use config::{ClipTextConfig, ClipVisionConfig};
pub use model::ClipModel;
pub use text::{ClipTextModel, ClipTextOutput};
pub use vision::{ClipVisionModel, ClipVisionOutput, vision_weights};
