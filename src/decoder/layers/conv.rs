//! 3x3 convolutions, and the resizing layers made of them.

use burn::module::{Initializer, Module, Param};
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor};

use super::FeatureMap;

/// Side of every kernel; 1x1 convolutions are [`super::Linear`].
const KERNEL: usize = 3;

/// Where a convolution of stride 2 adds its row and column of zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding {
    /// One on every side.
    Symmetric,
    /// One at the right and one at the bottom.
    End,
}

/// A 3x3 convolution (cross-correlation) with bias.
#[derive(Module, Debug)]
pub struct Conv {
    /// `[out, in, 3, 3]`.
    weight: Param<Tensor<4>>,
    /// `[out]`.
    bias: Param<Tensor<1>>,
}

impl Conv {
    /// A convolution whose weights are still to be loaded.
    pub fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            weight: Initializer::Zeros.init([outputs, inputs, KERNEL, KERNEL], device),
            bias: Initializer::Zeros.init([outputs], device),
        }
    }

    /// `[B, H, W, in]` to `[B, H, W, out]`, with one pixel of zeros on every side.
    pub fn forward(&self, x: FeatureMap) -> FeatureMap {
        self.convolve(x, 1, Padding::Symmetric)
    }

    fn convolve(&self, x: FeatureMap, stride: usize, padding: Padding) -> FeatureMap {
        let padding = match padding {
            Padding::Symmetric => (1, 1),
            Padding::End => (0, 1),
        };
        let options = ConvOptions::new_with_padding([stride; 2], [padding; 2], [1; 2], 1);
        let bias = Some(self.bias.val());
        FeatureMap::from_nchw(conv2d(x.into_nchw(), self.weight.val(), bias, options))
    }
}

/// Halves height and width by a convolution of stride 2.
#[derive(Module, Debug)]
pub struct Downsample {
    conv: Conv,
    #[module(skip)]
    padding: Padding,
}

impl Downsample {
    /// A layer whose weights are still to be loaded.
    pub fn new(channels: usize, padding: Padding, device: &Device) -> Self {
        Self { conv: Conv::new(channels, channels, device), padding }
    }

    /// `[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), C]`; halves are rounded down with
    /// [`Padding::End`].
    pub fn forward(&self, x: FeatureMap) -> FeatureMap {
        self.conv.convolve(x, 2, self.padding)
    }
}

/// Enlarges by nearest neighbours, then convolves.
#[derive(Module, Debug)]
pub struct Upsample {
    conv: Conv,
}

impl Upsample {
    /// A layer whose weights are still to be loaded.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self { conv: Conv::new(channels, channels, device) }
    }

    /// `[B, H, W, C]` to `[B, height, width, C]`.
    pub fn forward(&self, x: FeatureMap, height: usize, width: usize) -> FeatureMap {
        self.conv.forward(x.resize_nearest(height, width))
    }
}
