//! The feed forward network of a transformer block.

use burn::tensor::activation;
use rayon::prelude::*;

use super::{FeatureMap, Linear, Scope};
use crate::decoder::cpu::activation::geglu;
use crate::decoder::cpu::gemm::{Output, ROW_BLOCK, Rows, multiply};
use crate::decoder::cpu::scratch::with_scratch;
use crate::decoder::model_error::ModelError;

/// The network is this much wider than its input.
const EXPANSION: usize = 4;

/// GEGLU feed forward (arXiv 2002.05202): `W2 (a gelu(b))` with `[a, b] = W1 x`.
#[derive(Debug)]
pub struct FeedForward {
    proj_in: Linear,
    proj_out: Linear,
}

impl FeedForward {
    /// Reads `net.0.proj` and `net.2`.
    pub fn load(scope: &Scope<'_>, channels: usize) -> Result<Self, ModelError> {
        let inner = EXPANSION * channels;
        Ok(Self {
            proj_in: Linear::load(&scope.at("net.0.proj"), channels, 2 * inner)?,
            proj_out: Linear::load(&scope.at("net.2"), inner, channels)?,
        })
    }

    /// `residual` plus the network of every pixel of `x`, `[B, H, W, C]`.
    pub fn forward_add(&self, x: FeatureMap, residual: FeatureMap) -> FeatureMap {
        let [.., channels] = x.dims();
        let inner = EXPANSION * channels;
        if let (Some(proj_in), Some(proj_out)) = (self.proj_in.host(), self.proj_out.host()) {
            let (x, mut sum) = (x.into_host(), residual.into_host());
            let task = ROW_BLOCK * channels;
            // Block by block, because the inner activations fit the cache but not all at once.
            sum.values_mut().par_chunks_mut(task).zip(x.values.par_chunks(task)).for_each(
                |(sum, x)| {
                    let rows = x.len() / channels;
                    with_scratch(rows * 2 * inner, |both| {
                        let x = Rows::dense(x, channels);
                        multiply(x, proj_in, both, 2 * inner, Output::Overwrite);
                        geglu(both, inner);
                        let gated = Rows { values: both, stride: 2 * inner, count: rows };
                        multiply(gated, proj_out, sum, channels, Output::Add);
                    });
                },
            );
            return FeatureMap::Host(sum);
        }
        let both = self.proj_in.forward(x).into_tensor();
        let value = both.clone().narrow(3, 0, inner);
        let gate = activation::gelu(both.narrow(3, inner, inner));
        self.proj_out.forward_add(FeatureMap::Tensor(value * gate), residual)
    }
}
