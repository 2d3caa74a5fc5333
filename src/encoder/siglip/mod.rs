//! SigLIP (Zhai et al. 2023, arXiv 2303.15343): two transformers trained with a sigmoid loss over
//! pairs. The fixed-size checkpoints of SigLIP 2 (arXiv 2502.14786) have the same towers.
//!
//! In: padded token ids, pixel values. Out: raw embeddings of one space.

mod config;
mod model;
mod text;
mod vision;

pub use config::{SiglipConfig, SiglipTextConfig, SiglipVisionConfig};
pub use model::SiglipModel;
pub use text::SiglipTextModel;
pub use vision::SiglipVisionModel;
