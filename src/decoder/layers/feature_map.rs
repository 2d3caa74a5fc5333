//! Activations of a network, channels last.

use std::sync::Arc;

use burn::tensor::module::interpolate;
use burn::tensor::ops::{InterpolateMode, InterpolateOptions};
use burn::tensor::{DType, Device, Tensor, TensorData, activation};
use rayon::prelude::*;

use super::Engine;
use crate::decoder::cpu;
use crate::decoder::cpu::conv::Image;

/// Activations `[B, H, W, C]`: B images of H x W pixels with C channels. A batch of vectors is a
/// map of 1 x 1 pixels.
#[expect(clippy::large_enum_variant, reason = "few of them, and a tensor is never small")]
#[derive(Debug, Clone)]
pub enum FeatureMap {
    /// For the kernels of [`crate::decoder::cpu`].
    Host(HostMap),
    /// For burn.
    Tensor(Tensor<4>),
}

/// Activations in the memory of the host.
#[derive(Debug, Clone)]
pub struct HostMap {
    /// `[B, H, W, C]`.
    pub dims: [usize; 4],
    /// Shared, because skip connections keep what the next layer reads.
    pub values: Arc<Vec<f32>>,
}

impl HostMap {
    /// A map of its own values.
    pub fn new(dims: [usize; 4], values: Vec<f32>) -> Self {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        Self { dims, values: Arc::new(values) }
    }

    /// The values, copied only if they are shared.
    pub fn into_values(self) -> Vec<f32> {
        Arc::unwrap_or_clone(self.values)
    }

    /// The values to be changed, copied first if they are shared.
    pub fn values_mut(&mut self) -> &mut [f32] {
        let values: &mut Vec<f32> = Arc::make_mut(&mut self.values);
        values
    }

    /// As an input of a convolution.
    pub fn image(&self) -> Image<'_> {
        Image { values: &self.values, dims: self.dims }
    }

    /// H W, or 1 for an empty map.
    pub fn pixels(&self) -> usize {
        self.dims[1] * self.dims[2]
    }
}

impl FeatureMap {
    /// From activations `[B, C, H, W]`, for the layers of `engine`.
    pub fn from_nchw(values: Tensor<4>, engine: Engine) -> Self {
        Self::new(values.permute([0, 2, 3, 1]), engine)
    }

    /// From activations `[B, H, W, C]`, for the layers of `engine`.
    pub fn new(values: Tensor<4>, engine: Engine) -> Self {
        let map = Self::Tensor(values);
        match engine {
            Engine::Cpu => Self::Host(map.into_host()),
            Engine::Burn => map,
        }
    }

    /// From one vector per image, `[B, C]`.
    pub fn from_vectors(vectors: Tensor<2>, engine: Engine) -> Self {
        let [rows, channels] = vectors.dims();
        Self::from_nchw(vectors.reshape([rows, channels, 1, 1]), engine)
    }

    /// Activations `[B, C, H, W]`.
    pub fn into_nchw(self) -> Tensor<4> {
        self.into_tensor().permute([0, 3, 1, 2])
    }

    /// The vectors `[B, C]` of a map of 1 x 1 pixels.
    pub fn into_vectors(self) -> Tensor<2> {
        let [rows, _, _, channels] = self.dims();
        self.into_tensor().reshape([rows, channels])
    }

    /// Activations `[B, H, W, C]`.
    pub fn into_tensor(self) -> Tensor<4> {
        match self {
            Self::Tensor(values) => values,
            Self::Host(map) => {
                let dims = map.dims;
                let data = TensorData::new(map.into_values(), dims);
                Tensor::from_data(data, (&Device::flex(), DType::F32))
            }
        }
    }

    /// Activations in host memory.
    ///
    /// # Panics
    /// When a device fails to deliver them; maps of the CPU backend always are.
    pub fn into_host(self) -> HostMap {
        match self {
            Self::Host(map) => map,
            Self::Tensor(values) => {
                let dims = values.dims();
                let values = values.into_data().convert_dtype(DType::F32);
                HostMap::new(dims, values.iter::<f32>().collect())
            }
        }
    }

    /// `[B, H, W, C]`.
    pub fn dims(&self) -> [usize; 4] {
        match self {
            Self::Host(map) => map.dims,
            Self::Tensor(values) => values.dims(),
        }
    }

    /// The map in another float type. Maps in host memory are always float32.
    pub fn cast(self, dtype: DType) -> FeatureMap {
        match self {
            Self::Tensor(values) if values.dtype() != dtype => Self::Tensor(values.cast(dtype)),
            unchanged => unchanged,
        }
    }

    /// Sum of two maps of the same shape, or of maps of vectors of which one has one row.
    pub fn add(self, other: FeatureMap) -> FeatureMap {
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => {
                let (mut long, short) = if a.dims[0] >= b.dims[0] { (a, b) } else { (b, a) };
                for row in long.values_mut().chunks_mut(short.values.len().max(1)) {
                    row.iter_mut().zip(short.values.iter()).for_each(|(a, b)| *a += b);
                }
                Self::Host(long)
            }
            (a, b) => Self::Tensor(a.into_tensor() + b.into_tensor()),
        }
    }

    /// SiLU of every value.
    pub fn silu(self) -> FeatureMap {
        match self {
            Self::Host(mut map) => {
                map.values_mut().iter_mut().for_each(|x| *x = cpu::activation::silu(*x));
                Self::Host(map)
            }
            Self::Tensor(values) => Self::Tensor(activation::silu(values)),
        }
    }

    /// Channels of `self` followed by those of `other`.
    pub fn concat(self, other: FeatureMap) -> FeatureMap {
        match (self, other) {
            (Self::Host(a), Self::Host(b)) => {
                let [batch, height, width, left] = a.dims;
                let right = b.dims[3];
                let mut out = vec![0.0; a.values.len() + b.values.len()];
                out.par_chunks_exact_mut((left + right) * width)
                    .zip(a.values.par_chunks_exact(left * width))
                    .zip(b.values.par_chunks_exact(right * width))
                    .for_each(|((out, a), b)| {
                        let pixels = a.chunks_exact(left).zip(b.chunks_exact(right));
                        for (out, (a, b)) in out.chunks_exact_mut(left + right).zip(pixels) {
                            out[..left].copy_from_slice(a);
                            out[left..].copy_from_slice(b);
                        }
                    });
                Self::Host(HostMap::new([batch, height, width, left + right], out))
            }
            (a, b) => Self::Tensor(Tensor::cat(vec![a.into_tensor(), b.into_tensor()], 3)),
        }
    }

    /// Nearest-neighbour resize: pixel i of the result is pixel floor(i h / height) of the map.
    pub fn resize_nearest(self, height: usize, width: usize) -> FeatureMap {
        match self {
            Self::Host(map) => {
                let [batch, h, w, channels] = map.dims;
                let mut out = vec![0.0; batch * height * width * channels];
                out.par_chunks_exact_mut(width * channels).enumerate().for_each(|(row, out)| {
                    let (image, y) = (row / height, row % height);
                    let from = &map.values[(image * h + y * h / height) * w * channels..];
                    for (x, out) in out.chunks_exact_mut(channels).enumerate() {
                        out.copy_from_slice(&from[x * w / width * channels..][..channels]);
                    }
                });
                Self::Host(HostMap::new([batch, height, width, channels], out))
            }
            Self::Tensor(values) => {
                let options = InterpolateOptions::new(InterpolateMode::Nearest)
                    .with_output_size([height, width]);
                let resized = interpolate(values.permute([0, 3, 1, 2]), options);
                Self::Tensor(resized.permute([0, 2, 3, 1]))
            }
        }
    }
}
