//! Multi-head attention over the pixels of a map.

use burn::tensor::Tensor;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;

use super::{FeatureMap, HostMap, Linear, Scope};
use crate::decoder::cpu::attention::{Columns, Context};
use crate::decoder::model_error::ModelError;

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
    let heads = attention(query, key, value, None, None, AttentionModuleOptions::default());
    FeatureMap::Tensor(heads.swap_dims(1, 2).reshape(dims))
}
