//! Activations of a convolutional network, channels last.

use burn::tensor::Tensor;
use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};

/// Activations `[B, H, W, C]`: B images of H x W pixels with C channels.
#[derive(Debug, Clone)]
pub struct FeatureMap {
    values: Tensor<4>,
}

impl FeatureMap {
    /// From activations `[B, H, W, C]`.
    pub fn new(values: Tensor<4>) -> Self {
        Self { values }
    }

    /// From activations `[B, C, H, W]`.
    pub fn from_nchw(values: Tensor<4>) -> Self {
        Self { values: values.permute([0, 2, 3, 1]) }
    }

    /// Activations `[B, C, H, W]`.
    pub fn into_nchw(self) -> Tensor<4> {
        self.values.permute([0, 3, 1, 2])
    }

    /// Activations `[B, H, W, C]`.
    pub fn into_tensor(self) -> Tensor<4> {
        self.values
    }

    /// `[B, H, W, C]`.
    pub fn dims(&self) -> [usize; 4] {
        self.values.dims()
    }

    /// Sum of two maps of the same shape.
    pub fn add(self, other: FeatureMap) -> FeatureMap {
        Self { values: self.values + other.values }
    }

    /// Adds one vector `[B, C]` or `[1, C]` to all pixels of each image.
    pub fn add_to_pixels(self, vector: Tensor<2>) -> FeatureMap {
        let [rows, channels] = vector.dims();
        Self { values: self.values + vector.reshape([rows, 1, 1, channels]) }
    }

    /// Channels of `self` followed by those of `other`.
    pub fn concat(self, other: FeatureMap) -> FeatureMap {
        Self { values: Tensor::cat(vec![self.values, other.values], 3) }
    }

    /// Nearest-neighbour resize: pixel i of the result is pixel floor(i h / height) of the map.
    pub fn resize_nearest(self, height: usize, width: usize) -> FeatureMap {
        let options =
            InterpolateOptions::new(InterpolateMode::Nearest).with_output_size([height, width]);
        Self::from_nchw(interpolate(self.into_nchw(), options))
    }
}
