//! Affine maps of the channels.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};

use super::FeatureMap;

/// `y = x W + b` over the last axis. A 1x1 convolution is the same map, pixel by pixel.
///
/// The name matters: weights of a struct called `Linear` are transposed from PyTorch's
/// `[out, in]` when they are loaded.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[in, out]`.
    weight: Param<Tensor<2>>,
    /// `[out]`.
    bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    /// A map whose weights are still to be loaded.
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            bias: Some(Initializer::Zeros.init([outputs], device)),
            ..Self::unbiased(inputs, outputs, device)
        }
    }

    /// A map without bias whose weights are still to be loaded.
    pub fn unbiased(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self { weight: Initializer::Zeros.init([inputs, outputs], device), bias: None }
    }

    /// `[.., in]` to `[.., out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let bias = self.bias.as_ref().map(Param::val);
        burn::tensor::module::linear(x, self.weight.val(), bias)
    }

    /// The map of every pixel: `[B, H, W, in]` to `[B, H, W, out]`.
    pub fn forward_map(&self, x: FeatureMap) -> FeatureMap {
        FeatureMap::new(self.forward(x.into_tensor()))
    }
}
