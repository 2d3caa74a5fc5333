//! Multi-head attention over the pixels of a map.

use burn::tensor::activation::softmax;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{DType, Tensor};

use super::{FeatureMap, HostMap, Linear, Scope};
use crate::decoder::cpu::attention::{Columns, Context};
use crate::decoder::model_error::ModelError;

/// Bytes that the scores of one call may take.
pub const SCORE_BUDGET: u64 = 512 << 20;
/// Scores are float32 at worst.
const SCORE_BYTES: u64 = 4;

/// Attention of every pixel to all pixels of its image:
/// `to_out(softmax(q k^T / sqrt(d)) v)` with heads of size d.
#[derive(Debug)]
pub struct SelfAttention {
    /// Queries, keys and values side by side.
    to_qkv: Linear,
    to_out: Linear,
    heads: usize,
}

impl SelfAttention {
    /// Reads `to_q`, `to_k`, `to_v` (with biases if `bias`) and `to_out.0`. `heads` divides
    /// `channels`.
    pub fn load(
        scope: &Scope<'_>,
        channels: usize,
        heads: usize,
        bias: bool,
    ) -> Result<Self, ModelError> {
        let parts = ["to_q", "to_k", "to_v"].map(|name| scope.at(name));
        Ok(Self {
            to_qkv: Linear::joined(&parts, channels, channels, bias)?,
            to_out: Linear::load(&scope.at("to_out.0"), channels, channels)?,
            heads,
        })
    }

    /// `residual` plus the attention of `x`, `[B, H, W, C]`.
    pub fn forward_add(&self, x: FeatureMap, residual: FeatureMap) -> FeatureMap {
        let dims @ [batch, height, width, channels] = x.dims();
        let mixed = match self.to_qkv.forward(x) {
            FeatureMap::Host(qkv) => {
                let part = |index| Columns {
                    values: &qkv.values,
                    stride: 3 * channels,
                    first: index * channels,
                    width: channels,
                };
                let context = Context::new(part(1), part(2), batch, self.heads);
                FeatureMap::Host(HostMap::new(dims, context.attend(part(0))))
            }
            FeatureMap::Tensor(qkv) => {
                let qkv = qkv.reshape([batch, height * width, 3 * channels]);
                let part = |index| {
                    split_heads(qkv.clone().narrow(2, index * channels, channels), self.heads)
                };
                attend(part(0), part(1), part(2), dims)
            }
        };
        self.to_out.forward_add(mixed, residual)
    }
}

/// Attention of every pixel to a context (the text) that stays the same over many calls.
#[derive(Debug)]
pub struct CrossAttention {
    to_q: Linear,
    /// Keys and values side by side.
    to_kv: Linear,
    to_out: Linear,
    heads: usize,
}

/// Keys and values of a context.
#[expect(clippy::large_enum_variant, reason = "few of them, and a tensor is never small")]
#[derive(Debug, Clone)]
pub enum KeyValue {
    Host(Context),
    /// Keys and values, `[R, heads, L, d]` each.
    Tensor(Tensor<4>, Tensor<4>),
}

impl CrossAttention {
    /// Reads `to_q`, `to_k`, `to_v` and `to_out.0`, of which only the last has a bias. `heads`
    /// divides `channels`; `context` is the width E of the context.
    pub fn load(
        scope: &Scope<'_>,
        channels: usize,
        context: usize,
        heads: usize,
    ) -> Result<Self, ModelError> {
        let parts = ["to_k", "to_v"].map(|name| scope.at(name));
        Ok(Self {
            to_q: Linear::load_unbiased(&scope.at("to_q"), channels, channels)?,
            to_kv: Linear::joined(&parts, context, channels, false)?,
            to_out: Linear::load(&scope.at("to_out.0"), channels, channels)?,
            heads,
        })
    }

    /// Keys and values of R contexts of L positions, given as a map `[R, 1, L, E]`.
    pub fn key_value(&self, context: FeatureMap) -> KeyValue {
        let [rows, _, length, _] = context.dims();
        match self.to_kv.forward(context) {
            FeatureMap::Host(kv) => {
                let width = kv.dims[3] / 2;
                let part = |index| Columns {
                    values: &kv.values,
                    stride: 2 * width,
                    first: index * width,
                    width,
                };
                KeyValue::Host(Context::new(part(0), part(1), rows, self.heads))
            }
            FeatureMap::Tensor(kv) => {
                let width = kv.dims()[3] / 2;
                let kv = kv.reshape([rows, length, 2 * width]);
                let part =
                    |index| split_heads(kv.clone().narrow(2, index * width, width), self.heads);
                KeyValue::Tensor(part(0), part(1))
            }
        }
    }

    /// `residual` plus the attention of `x` `[B, H, W, C]` to the context. The context has R rows,
    /// R a divisor of B; row r serves images `r B / R .. (r + 1) B / R`.
    pub fn forward_add(
        &self,
        x: FeatureMap,
        context: &KeyValue,
        residual: FeatureMap,
    ) -> FeatureMap {
        let dims @ [batch, height, width, channels] = x.dims();
        let query = self.to_q.forward(x);
        let mixed = match context {
            KeyValue::Host(context) => {
                let query = query.into_host();
                let columns =
                    Columns { values: &query.values, stride: channels, first: 0, width: channels };
                FeatureMap::Host(HostMap::new(dims, context.attend(columns)))
            }
            KeyValue::Tensor(key, value) => {
                let [rows, ..] = key.dims();
                // Queries do not see each other, so images with the same context are one long
                // sequence.
                let length = batch / rows * height * width;
                let query = query.into_tensor().reshape([rows, length, channels]);
                attend(split_heads(query, self.heads), key.clone(), value.clone(), dims)
            }
        };
        self.to_out.forward_add(mixed, residual)
    }
}

/// `[R, L, C]` to `[R, heads, L, C / heads]`.
fn split_heads(tokens: Tensor<3>, heads: usize) -> Tensor<4> {
    let [rows, length, channels] = tokens.dims();
    tokens.reshape([rows, length, heads, channels / heads]).swap_dims(1, 2)
}

/// Attention of queries, keys and values `[R, heads, L, d]`, as a map of shape `dims`.
fn attend(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>, dims: [usize; 4]) -> FeatureMap {
    let [rows, heads, queries, size] = query.dims();
    let keys = key.dims()[2];
    let length = queries.div_ceil(score_slices(rows * heads, queries, keys));
    let parts = (0..queries).step_by(length.max(1)).map(|first| {
        let part = query.clone().narrow(2, first, length.min(queries - first));
        // Where queries are as few as a head is wide, a device may choose to store the scores in
        // the type of the queries, and half precision cannot hold them (SD 2.1 goes past 65504).
        if part.dtype() != DType::F32 && part.dims()[2] <= size {
            attend_by_scores(part, key.clone(), value.clone())
        } else {
            let options = AttentionModuleOptions::default();
            attention(part, key.clone(), value.clone(), None, None, options)
        }
    });
    let mut parts: Vec<Tensor<4>> = parts.collect();
    let heads = if parts.len() == 1 { parts.swap_remove(0) } else { Tensor::cat(parts, 2) };
    FeatureMap::Tensor(heads.swap_dims(1, 2).reshape(dims))
}

/// `softmax(q k^T / sqrt(d)) v` with scores and softmax in float32.
fn attend_by_scores(query: Tensor<4>, key: Tensor<4>, value: Tensor<4>) -> Tensor<4> {
    let dtype = value.dtype();
    let scale = (query.dims()[3] as f64).sqrt().recip();
    let query = query.cast(DType::F32).mul_scalar(scale);
    let scores = query.matmul(key.cast(DType::F32).swap_dims(2, 3));
    softmax(scores, 3).cast(dtype).matmul(value)
}

/// Into how many parts queries are cut, so that the scores of one part stay within
/// [`SCORE_BUDGET`]. Queries do not see each other: the result is the same. Devices with a fused
/// kernel store no scores, but which kernel runs is theirs to choose.
pub fn score_slices(sequences: usize, queries: usize, keys: usize) -> usize {
    let scores = (sequences as u64).saturating_mul(queries as u64).saturating_mul(keys as u64);
    let slices = scores.saturating_mul(SCORE_BYTES).div_ceil(SCORE_BUDGET);
    usize::try_from(slices).unwrap_or(usize::MAX).clamp(1, queries.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;
    use crate::random::{Stream, standard_normal};
    use burn::tensor::TensorData;

    fn noise(shape: [usize; 4], index: u64) -> Tensor<4> {
        let values = standard_normal(5, Stream::InitialLatents, index, shape.iter().product());
        let device = ComputeDevice::cpu().device;
        Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
    }

    fn distance(a: Tensor<4>, b: Tensor<4>) -> f32 {
        (a.cast(DType::F32) - b.cast(DType::F32)).abs().max().into_scalar()
    }

    #[test]
    fn scores_beyond_the_budget_are_computed_in_parts() {
        assert_eq!(score_slices(1, 64, 64), 1);
        // Stable Diffusion 2.1 at 768 pixels, both halves of guidance: 3.2 GiB of scores.
        assert_eq!(score_slices(2 * 5, 96 * 96, 96 * 96), 7);
        assert_eq!(score_slices(0, 0, 0), 1);
        assert_eq!(score_slices(usize::MAX, 8, usize::MAX), 8);
    }

    #[test]
    fn parts_of_the_queries_attend_as_all_of_them_do() {
        let [query, key, value] = [1, 2, 3].map(|index| noise([1, 2, 37, 4], index));
        let whole = attention(
            query.clone(),
            key.clone(),
            value.clone(),
            None,
            None,
            AttentionModuleOptions::default(),
        );
        let parts = [0, 16, 32].map(|first| {
            let part = query.clone().narrow(2, first, 16.min(37 - first));
            attend_by_scores(part, key.clone(), value.clone())
        });
        assert!(distance(whole, Tensor::cat(parts.to_vec(), 2)) < 1e-6);
    }

    #[test]
    fn scores_beyond_half_precision_do_not_overflow() {
        for dtype in [DType::F16, DType::BF16] {
            // Products of up to 4 x 300 x 300 = 360000.
            let [query, key] = [1, 2].map(|index| noise([1, 1, 3, 4], index).mul_scalar(300.0));
            let value = noise([1, 1, 3, 4], 3);
            let exact = attend_by_scores(query.clone(), key.clone(), value.clone());
            let half = [query, key, value].map(|tensor| tensor.cast(dtype));
            let [query, key, value] = half;
            let map = attend(query, key, value, [1, 3, 1, 4]).into_tensor();
            let map = map.reshape([1, 3, 1, 4]).swap_dims(1, 2);
            // 8 significant bits of a value of up to 3.
            assert!(distance(exact, map) < 0.03, "{dtype:?}");
        }
    }
}
