//! The decoder: image embeddings in, RGB images out, by an unCLIP latent diffusion pipeline.
//!
//! It knows embeddings as plain vectors and nothing about where they come from.

mod cpu;
mod diffusers_config;
mod error;
mod latent_preview;
mod layers;
pub mod model_error;
mod noise;
pub mod noising;
pub mod pipeline;
mod plan;
pub mod scheduler;
pub mod unet;
pub mod vae;

pub use error::DecodeError;
pub use noising::{ImageNoiser, ImageNormalizer};
pub use pipeline::{
    Condition, DecodeOptions, DecodeProgress, DenoisingStep, Preview, Prompts, UnClipPipeline,
};
pub use plan::DecodePlan;
pub use scheduler::{Scheduler, SchedulerConfig, SchedulerKind};
