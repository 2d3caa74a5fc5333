//! Normalisation layers. Statistics, gamma and beta are float32 in every precision.

use burn::tensor::{DType, Tensor, activation};
use rayon::prelude::*;

use super::{Engine, FeatureMap, HostMap, Scope};
use crate::decoder::cpu::gemm::ROW_BLOCK;
use crate::decoder::cpu::norm::{self as kernels, Then};
use crate::decoder::model_error::ModelError;

/// Group normalisation (arXiv 1803.08494): mean 0 and variance 1 over the pixels and the channels
/// of a group, for each image; then `gamma x + beta` per channel.
#[derive(Debug)]
pub struct GroupNorm(GroupKernel);

#[expect(clippy::large_enum_variant, reason = "few of them, and a tensor is never small")]
#[derive(Debug)]
enum GroupKernel {
    Host(kernels::GroupNorm),
    /// gamma and beta `[1, 1, 1, C]`.
    Tensor {
        gamma: Tensor<4>,
        beta: Tensor<4>,
        groups: usize,
        epsilon: f64,
    },
}

impl GroupNorm {
    /// Reads `weight` and `bias`. `groups` divides `channels`.
    pub fn load(
        scope: &Scope<'_>,
        groups: usize,
        channels: usize,
        epsilon: f64,
    ) -> Result<Self, ModelError> {
        let shape = [channels];
        Ok(Self(match scope.engine() {
            Engine::Cpu => GroupKernel::Host(kernels::GroupNorm {
                gamma: scope.values("weight", shape)?,
                beta: scope.values("bias", shape)?,
                groups,
                epsilon,
            }),
            Engine::Burn => GroupKernel::Tensor {
                gamma: scope.in_f32().tensor("weight", shape)?.reshape([1, 1, 1, channels]),
                beta: scope.in_f32().tensor("bias", shape)?.reshape([1, 1, 1, channels]),
                groups,
                epsilon,
            },
        }))
    }

    /// Normalises the map.
    pub fn forward(&self, x: &FeatureMap) -> FeatureMap {
        self.normalise(x, Then::Nothing)
    }

    /// Normalises the map and applies SiLU.
    pub fn forward_silu(&self, x: &FeatureMap) -> FeatureMap {
        self.normalise(x, Then::Silu)
    }

    fn normalise(&self, x: &FeatureMap, then: Then) -> FeatureMap {
        match &self.0 {
            GroupKernel::Host(norm) => {
                let x = x.clone().into_host();
                let out = norm.forward(&x.values, x.pixels(), then);
                FeatureMap::Host(HostMap::new(x.dims, out))
            }
            GroupKernel::Tensor { gamma, beta, groups, epsilon } => {
                let dims @ [batch, height, width, channels] = x.dims();
                let shape = [batch, height * width, *groups, channels / groups];
                let x = x.clone().into_tensor();
                // The squares of half precision would overflow, and its sums lose what they add.
                let dtype = x.dtype();
                let grouped = FeatureMap::Tensor(x).cast(DType::F32).into_tensor().reshape(shape);
                let mean = grouped.clone().mean_dim(3).mean_dim(1);
                let centred = grouped - mean;
                let variance = centred.clone().square().mean_dim(3).mean_dim(1);
                let normal = (centred / (variance + *epsilon).sqrt()).reshape(dims);
                let normal = normal * gamma.clone() + beta.clone();
                let normal = FeatureMap::Tensor(match then {
                    Then::Nothing => normal,
                    Then::Silu => activation::silu(normal),
                });
                normal.cast(dtype)
            }
        }
    }
}

/// Layer normalisation (arXiv 1607.06450): mean 0 and variance 1 over the channels of each pixel;
/// then `gamma x + beta`.
#[derive(Debug)]
pub struct LayerNorm {
    kernel: LayerKernel,
    epsilon: f64,
}

#[expect(clippy::large_enum_variant, reason = "few of them, and a tensor is never small")]
#[derive(Debug)]
enum LayerKernel {
    /// gamma and beta `[C]`.
    Host(Vec<f32>, Vec<f32>),
    /// gamma and beta `[C]`.
    Tensor(Tensor<1>, Tensor<1>),
}

impl LayerNorm {
    /// Reads `weight` and `bias`.
    pub fn load(scope: &Scope<'_>, channels: usize, epsilon: f64) -> Result<Self, ModelError> {
        let shape = [channels];
        let kernel = match scope.engine() {
            Engine::Cpu => {
                LayerKernel::Host(scope.values("weight", shape)?, scope.values("bias", shape)?)
            }
            Engine::Burn => {
                let scope = scope.in_f32();
                LayerKernel::Tensor(scope.tensor("weight", shape)?, scope.tensor("bias", shape)?)
            }
        };
        Ok(Self { kernel, epsilon })
    }

    /// Normalises every pixel of the map.
    pub fn forward(&self, x: &FeatureMap) -> FeatureMap {
        match &self.kernel {
            LayerKernel::Host(gamma, beta) => {
                let x = x.clone().into_host();
                let mut out = vec![0.0; x.values.len()];
                let task = ROW_BLOCK * gamma.len();
                out.par_chunks_mut(task).zip(x.values.par_chunks(task)).for_each(|(out, x)| {
                    kernels::layer_norm(out, x, gamma, beta, self.epsilon);
                });
                FeatureMap::Host(HostMap::new(x.dims, out))
            }
            LayerKernel::Tensor(gamma, beta) => {
                let x = x.clone().into_tensor();
                let dtype = x.dtype();
                let x = FeatureMap::Tensor(x).cast(DType::F32).into_tensor();
                let (gamma, beta) = (gamma.clone(), Some(beta.clone()));
                let normal = burn::tensor::module::layer_norm(x, gamma, beta, self.epsilon);
                FeatureMap::Tensor(normal).cast(dtype)
            }
        }
    }
}
