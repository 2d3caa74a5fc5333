//! The layers that the UNet and the VAE are made of.
//!
//! Activations are [`FeatureMap`]s: channels last, so that a pixel is a row, and 1x1 convolutions
//! and the transformer blocks are plain matrix products without a transposition in between.

mod attention;
mod conv;
mod feature_map;
mod linear;
mod norm;
mod resnet;
mod weights;

pub use attention::{Attention, KeyValue};
pub use conv::{Conv, Downsample, Padding, Upsample};
pub use feature_map::FeatureMap;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
pub use resnet::Resnet;
pub use weights::{join_names, open_weights};
