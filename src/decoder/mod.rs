//! (in progress)

mod diffusers_config;
mod layers;
pub mod model_error;
pub mod unet;
pub mod vae;
