//! BLIP (Li et al. 2022, arXiv 2201.12086): a vision transformer and a BERT that share one space by
//! the two heads of the image-text contrastive loss (ITC).
//!
//! In: token ids with their padding, pixel values. Out: unit embeddings of one space. The matching
//! head (ITM), which reads an image and a text together, is [`BlipMatchingModel`].

mod config;
mod model;
mod text;
mod vision;

pub use config::{BlipConfig, BlipTextConfig, BlipVisionConfig};
pub use model::{BlipMatchingModel, BlipModel};
pub use text::BlipTextModel;
pub use vision::BlipVisionModel;
