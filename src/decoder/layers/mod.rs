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

use crate::model::precision::Precision;

pub use attention::{CrossAttention, KeyValue, SCORE_BUDGET, SelfAttention, score_slices};
pub use conv::{Conv, Downsample, Padding, Upsample};
pub use feature_map::{FeatureMap, HostMap};
pub use feed_forward::FeedForward;
pub use linear::Linear;
pub use norm::{GroupNorm, LayerNorm};
pub use resnet::{Resnet, ResnetOptions};
pub use weights::{Scope, WeightFile};

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

    /// What layers compute in when `wanted` is asked for: the kernels of the CPU know float32 alone.
    pub fn precision(self, wanted: Precision) -> Precision {
        match self {
            Engine::Burn => wanted,
            Engine::Cpu => Precision::F32,
        }
    }
}
