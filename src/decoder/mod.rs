//! The decoder: image embeddings in, RGB images out, by an unCLIP latent diffusion pipeline.
//!
//! It knows embeddings as plain vectors and nothing about where they come from.

mod error;
pub mod noising;
pub mod scheduler;

pub use error::DecodeError;
pub use noising::{ImageNoiser, ImageNormalizer};
pub use scheduler::{Scheduler, SchedulerConfig, SchedulerKind};
