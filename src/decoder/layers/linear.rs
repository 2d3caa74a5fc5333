//! Affine maps of the channels.

use burn::tensor::Tensor;

use super::{Engine, FeatureMap, HostMap, Scope};
use crate::decoder::cpu::gemm::{Output, PackedMatrix, Rows, multiply_parallel};
use crate::decoder::model_error::ModelError;

/// `y = x W + b` over the channels. A 1x1 convolution is the same map, pixel by pixel.
#[derive(Debug)]
pub struct Linear(Kernel);

#[expect(clippy::large_enum_variant, reason = "few of them, and a tensor is never small")]
#[derive(Debug)]
enum Kernel {
    Host(PackedMatrix),
    /// `[in, out]` and `[out]`.
    Tensor(Tensor<2>, Option<Tensor<1>>),
}

impl Linear {
    /// Reads `weight` and `bias`.
    pub fn load(scope: &Scope<'_>, inputs: usize, outputs: usize) -> Result<Self, ModelError> {
        Self::joined(std::slice::from_ref(scope), inputs, outputs, true)
    }

    /// Reads a map without a bias.
    pub fn load_unbiased(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
    ) -> Result<Self, ModelError> {
        Self::joined(std::slice::from_ref(scope), inputs, outputs, false)
    }

    /// Reads maps of the same input whose outputs are wanted side by side, `outputs` of each.
    pub fn joined(
        scopes: &[Scope<'_>],
        inputs: usize,
        outputs: usize,
        bias: bool,
    ) -> Result<Self, ModelError> {
        // PyTorch keeps `[out, in]`, so parts that are joined lie one after the other.
        match scopes[0].engine() {
            Engine::Cpu => {
                let mut values = Vec::new();
                let mut biases = Vec::new();
                for scope in scopes {
                    values.extend(scope.values("weight", [outputs, inputs])?);
                    if bias {
                        biases.extend(scope.values("bias", [outputs])?);
                    }
                }
                let shape = [inputs, outputs * scopes.len()];
                let matrix = PackedMatrix::pack(&values, shape, [1, inputs]);
                Ok(Self(Kernel::Host(if bias { matrix.with_bias(&biases) } else { matrix })))
            }
            Engine::Burn => {
                let mut weights = Vec::new();
                let mut biases = Vec::new();
                for scope in scopes {
                    weights.push(scope.tensor("weight", [outputs, inputs])?);
                    if bias {
                        biases.push(scope.tensor("bias", [outputs])?);
                    }
                }
                let weight = Tensor::cat(weights, 0).transpose();
                let bias = bias.then(|| Tensor::cat(biases, 0));
                Ok(Self(Kernel::Tensor(weight, bias)))
            }
        }
    }

    /// `[B, H, W, in]` to `[B, H, W, out]`.
    pub fn forward(&self, x: FeatureMap) -> FeatureMap {
        match &self.0 {
            Kernel::Host(matrix) => {
                let x = x.into_host();
                let [batch, height, width, channels] = x.dims;
                let outputs = matrix.columns();
                let mut out = vec![0.0; batch * height * width * outputs];
                let rows = Rows::dense(&x.values, channels);
                multiply_parallel(rows, matrix, &mut out, Output::Overwrite);
                FeatureMap::Host(HostMap::new([batch, height, width, outputs], out))
            }
            Kernel::Tensor(weight, bias) => {
                let x = x.into_tensor();
                FeatureMap::Tensor(burn::tensor::module::linear(x, weight.clone(), bias.clone()))
            }
        }
    }

    /// `residual + self.forward(x)`.
    pub fn forward_add(&self, x: FeatureMap, residual: FeatureMap) -> FeatureMap {
        match &self.0 {
            Kernel::Host(matrix) => {
                let (x, mut sum) = (x.into_host(), residual.into_host());
                let rows = Rows::dense(&x.values, x.dims[3]);
                multiply_parallel(rows, matrix, sum.values_mut(), Output::Add);
                FeatureMap::Host(sum)
            }
            Kernel::Tensor(..) => self.forward(x).add(residual),
        }
    }

    /// The packed matrix, for a map that runs on the host.
    pub(super) fn host(&self) -> Option<&PackedMatrix> {
        match &self.0 {
            Kernel::Host(matrix) => Some(matrix),
            Kernel::Tensor(..) => None,
        }
    }
}
