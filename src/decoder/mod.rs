//! (in progress)

mod cpu;
mod diffusers_config;
mod layers;
pub mod model_error;
#[cfg(test)]
mod speed;
pub mod unet;
pub mod vae;
