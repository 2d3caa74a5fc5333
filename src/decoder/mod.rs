//! The decoder: embeddings in, RGB images out, by a latent diffusion pipeline. [`UnClipPipeline`]
//! decodes image embeddings, [`PromptPipeline`] the hidden states of a text encoder; the [`prior`]
//! draws image embeddings for a text.
//!
//! It knows embeddings as plain vectors and nothing about where they come from.

mod cpu;
mod diffusers_config;
mod error;
mod kind;
mod latent_preview;
mod layers;
pub mod model_error;
mod noise;
pub mod noising;
pub mod pipeline;
mod plan;
pub mod prior;
pub mod prompt;
mod prompt_encoder;
pub mod scheduler;
pub mod unet;
pub mod vae;

pub use error::DecodeError;
pub use kind::PipelineKind;
pub use noising::{ImageNoiser, ImageNormalizer};
pub use pipeline::{
    Condition, DecodeOptions, DecodeProgress, DenoisingStep, LatentDiffusion, Preview, Prompts,
    UnClipPipeline,
};
pub use plan::DecodePlan;
pub use prompt::PromptPipeline;
pub use prompt_encoder::PromptEncoder;
pub use scheduler::{Scheduler, SchedulerConfig, SchedulerKind};
pub use vae::VaeTiling;
