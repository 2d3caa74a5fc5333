//! 3x3 convolutions, and the resizing layers made of them.

use burn::tensor::Tensor;
use burn::tensor::module::conv2d;
use burn::tensor::ops::ConvOptions;

use super::{Engine, FeatureMap, HostMap, Scope};
use crate::decoder::cpu::conv::{Strided, Winograd};
use crate::decoder::cpu::gemm::Output;
use crate::decoder::model_error::ModelError;

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

impl Padding {
    /// Zeros before and after the image, along each side.
    fn sides(self) -> (usize, usize) {
        match self {
            Padding::Symmetric => (1, 1),
            Padding::End => (0, 1),
        }
    }
}

/// A 3x3 convolution (cross-correlation) with bias and one pixel of zeros on every side.
#[derive(Debug)]
pub struct Conv(Kernel<Winograd>);

#[expect(clippy::large_enum_variant, reason = "few of them, and a tensor is never small")]
#[derive(Debug)]
enum Kernel<H> {
    Host(H),
    /// `[out, in, 3, 3]` and `[out]`.
    Tensor(Tensor<4>, Tensor<1>),
}

impl<H> Kernel<H> {
    /// Reads `weight` and `bias`; `host` prepares them for the kernels of the CPU.
    fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        host: impl FnOnce(&[f32], [usize; 2], &[f32]) -> H,
    ) -> Result<Self, ModelError> {
        let shape = [outputs, inputs, KERNEL, KERNEL];
        Ok(match scope.engine() {
            Engine::Cpu => {
                let weight = scope.values("weight", shape)?;
                Kernel::Host(host(&weight, [outputs, inputs], &scope.values("bias", [outputs])?))
            }
            Engine::Burn => {
                Kernel::Tensor(scope.tensor("weight", shape)?, scope.tensor("bias", [outputs])?)
            }
        })
    }
}

fn convolve(
    x: FeatureMap,
    weight: &Tensor<4>,
    bias: &Tensor<1>,
    stride: usize,
    padding: Padding,
) -> FeatureMap {
    let options = ConvOptions::new_with_padding([stride; 2], [padding.sides(); 2], [1; 2], 1);
    let out = conv2d(x.into_nchw(), weight.clone(), Some(bias.clone()), options);
    FeatureMap::from_nchw(out, Engine::Burn)
}

impl Conv {
    /// Reads `weight` and `bias`.
    pub fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self, ModelError> {
        Kernel::load(scope, inputs, outputs, Winograd::new).map(Self)
    }

    /// `[B, H, W, in]` to `[B, H, W, out]`.
    pub fn forward(&self, x: FeatureMap) -> FeatureMap {
        self.run(x, None, None)
    }

    /// `offset + self.forward(x)`, with one vector per image, `[B, 1, 1, out]` or
    /// `[1, 1, 1, out]`, added to all its pixels.
    pub fn forward_offset(&self, x: FeatureMap, offset: FeatureMap) -> FeatureMap {
        self.run(x, Some(offset), None)
    }

    /// `residual + self.forward(x)`.
    pub fn forward_add(&self, x: FeatureMap, residual: FeatureMap) -> FeatureMap {
        self.run(x, None, Some(residual))
    }

    fn run(
        &self,
        x: FeatureMap,
        offset: Option<FeatureMap>,
        residual: Option<FeatureMap>,
    ) -> FeatureMap {
        match &self.0 {
            Kernel::Host(conv) => {
                let x = x.into_host();
                let offset = offset.map(FeatureMap::into_host);
                let offset = offset.as_ref().map(|offset| offset.values.as_slice());
                let [batch, height, width, _] = x.dims;
                let dims = [batch, height, width, conv.outputs()];
                let (mut out, mode) = match residual {
                    Some(residual) => (residual.into_host(), Output::Add),
                    None => {
                        let zeros = vec![0.0; dims.iter().product()];
                        (HostMap::new(dims, zeros), Output::Overwrite)
                    }
                };
                conv.forward(x.image(), offset, out.values_mut(), mode);
                FeatureMap::Host(out)
            }
            Kernel::Tensor(weight, bias) => {
                let mut out = convolve(x, weight, bias, 1, Padding::Symmetric);
                if let Some(offset) = offset {
                    out = FeatureMap::Tensor(out.into_tensor() + offset.into_tensor());
                }
                match residual {
                    Some(residual) => out.add(residual),
                    None => out,
                }
            }
        }
    }
}

/// Halves height and width by a convolution of stride 2.
#[derive(Debug)]
pub struct Downsample {
    kernel: Kernel<Strided>,
    padding: Padding,
}

impl Downsample {
    /// Reads `conv.weight` and `conv.bias`.
    pub fn load(scope: &Scope<'_>, channels: usize, padding: Padding) -> Result<Self, ModelError> {
        let kernel = Kernel::load(&scope.at("conv"), channels, channels, Strided::new)?;
        Ok(Self { kernel, padding })
    }

    /// `[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), C]`; halves are rounded down with
    /// [`Padding::End`].
    pub fn forward(&self, x: FeatureMap) -> FeatureMap {
        match &self.kernel {
            Kernel::Host(conv) => {
                let x = x.into_host();
                let [batch, height, width, _] = x.dims;
                let (before, after) = self.padding.sides();
                let size = [height, width]
                    .map(|side| (side + before + after).saturating_sub(KERNEL) / 2 + 1);
                let out = conv.forward(x.image(), size, before);
                FeatureMap::Host(HostMap::new([batch, size[0], size[1], conv.outputs()], out))
            }
            Kernel::Tensor(weight, bias) => convolve(x, weight, bias, 2, self.padding),
        }
    }
}

/// Enlarges by nearest neighbours, then convolves.
#[derive(Debug)]
pub struct Upsample(Conv);

impl Upsample {
    /// Reads `conv.weight` and `conv.bias`.
    pub fn load(scope: &Scope<'_>, channels: usize) -> Result<Self, ModelError> {
        Conv::load(&scope.at("conv"), channels, channels).map(Self)
    }

    /// `[B, H, W, C]` to `[B, height, width, C]`.
    pub fn forward(&self, x: FeatureMap, height: usize, width: usize) -> FeatureMap {
        self.0.forward(x.resize_nearest(height, width))
    }
}
