//! The decoder: embeddings in, RGB images out, by a latent diffusion pipeline. [`UnClipPipeline`]
//! decodes image embeddings, [`PromptPipeline`] the hidden states of a text encoder; the [`prior`]
//! draws image embeddings for a text.
//!
//! It knows embeddings as plain vectors and nothing about where they come from.

mod cpu;
mod diffusers_config;
mod error;
mod failure;
mod kind;
pub mod latent_diffusion;
mod latent_preview;
mod layers;
pub mod model_error;
mod noise;
pub mod noising;
mod options;
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
pub use latent_diffusion::{Condition, DecodeProgress, DenoisingStep, LatentDiffusion, Preview};
pub use noising::{ImageNoiser, ImageNormalizer};
pub use options::DecodeOptions;
pub use pipeline::{Prompts, UnClipPipeline};
pub use plan::DecodePlan;
pub use prompt::PromptPipeline;
pub use prompt_encoder::PromptEncoder;
pub use scheduler::{Scheduler, SchedulerConfig, SchedulerKind};
pub use vae::VaeTiling;
