//! Normalisation layers.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor, activation};

use super::FeatureMap;

/// Group normalisation (arXiv 1803.08494): mean 0 and variance 1 over the pixels and the channels
/// of a group, for each image; then `gamma x + beta` per channel.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[C]`.
    gamma: Param<Tensor<1>>,
    /// `[C]`.
    beta: Param<Tensor<1>>,
    groups: usize,
    epsilon: f64,
}

impl GroupNorm {
    /// A norm whose weights are still to be loaded. `groups` divides `channels`.
    pub fn new(groups: usize, channels: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([channels], device),
            beta: Initializer::Zeros.init([channels], device),
            groups,
            epsilon,
        }
    }

    /// Normalises the map.
    pub fn forward(&self, x: &FeatureMap) -> FeatureMap {
        FeatureMap::new(self.normalise(x))
    }

    /// Normalises the map and applies SiLU.
    pub fn forward_silu(&self, x: &FeatureMap) -> FeatureMap {
        FeatureMap::new(activation::silu(self.normalise(x)))
    }

    fn normalise(&self, x: &FeatureMap) -> Tensor<4> {
        let [batch, height, width, channels] = x.dims();
        let grouped = x.clone().into_tensor().reshape([
            batch,
            height * width,
            self.groups,
            channels / self.groups,
        ]);
        let mean = grouped.clone().mean_dim(3).mean_dim(1);
        let centred = grouped - mean;
        let variance = centred.clone().square().mean_dim(3).mean_dim(1);
        let normal = centred / (variance + self.epsilon).sqrt();
        normal.reshape([batch, height, width, channels])
            * self.gamma.val().reshape([1, 1, 1, channels])
            + self.beta.val().reshape([1, 1, 1, channels])
    }
}

/// Layer normalisation (arXiv 1607.06450): mean 0 and variance 1 over the channels of each pixel;
/// then `gamma x + beta`.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[C]`.
    gamma: Param<Tensor<1>>,
    /// `[C]`.
    beta: Param<Tensor<1>>,
    epsilon: f64,
}

impl LayerNorm {
    /// A norm whose weights are still to be loaded.
    pub fn new(channels: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            gamma: Initializer::Ones.init([channels], device),
            beta: Initializer::Zeros.init([channels], device),
            epsilon,
        }
    }

    /// Normalises every pixel of the map.
    pub fn forward(&self, x: &FeatureMap) -> FeatureMap {
        let normal = burn::tensor::module::layer_norm(
            x.clone().into_tensor(),
            self.gamma.val(),
            Some(self.beta.val()),
            self.epsilon,
        );
        FeatureMap::new(normal)
    }
}
