//! The layers that the UNet and the VAE are made of.
//!
//! Activations are [`FeatureMap`]s: channels last, so that a pixel is a row, and 1x1 convolutions
//! and the transformer blocks are plain matrix products without a transposition in between. Each
//! layer has two implementations side by side: burn's operations, which run on every device, and
//! the kernels of [`crate::decoder::cpu`], which are several times faster on the CPU.

mod attention;
mod conv;
mod feature_map;
mod feed_forward;
mod linear;
mod norm;
mod resnet;
mod weights;

use burn::tensor::Device;

pub use attention::{CrossAttention, KeyValue, SelfAttention};
pub use conv::{Conv, Downsample, Padding, Upsample};
pub use feature_map::{FeatureMap, HostMap};
pub use feed_forward::FeedForward;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
pub use resnet::{Resnet, ResnetOptions};
pub use weights::{Scope, WeightFile, weight_file};

/// What computes the layers of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// burn, on whatever device the tensors are.
    Burn,
    /// [`crate::decoder::cpu`], in the memory of the host.
    Cpu,
}

impl Engine {
    /// The faster one for a device.
    pub fn for_device(device: &Device) -> Self {
        if *device == Device::flex() && !device.is_autodiff() { Engine::Cpu } else { Engine::Burn }
    }
}
