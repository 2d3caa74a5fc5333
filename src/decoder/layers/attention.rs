//! Multi-head attention over the pixels of a map.

use burn::module::Module;
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Tensor};

use super::{FeatureMap, Linear};

/// `to_out(softmax(q k^T / sqrt(d)) v)` with heads of size d.
#[derive(Module, Debug)]
pub struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
}

/// Keys and values of a context that stays the same over many queries.
#[derive(Debug, Clone)]
pub struct KeyValue {
    /// `[R, heads, L, d]`.
    key: Tensor<4>,
    /// `[R, heads, L, d]`.
    value: Tensor<4>,
}

impl Attention {
    /// Attention as in the transformer blocks of the UNet: only `to_out` has a bias. Weights are
    /// still to be loaded. `heads` divides `channels`.
    pub fn new(channels: usize, context: usize, heads: usize, device: &Device) -> Self {
        Self {
            to_q: Linear::unbiased(channels, channels, device),
            to_k: Linear::unbiased(context, channels, device),
            to_v: Linear::unbiased(context, channels, device),
            to_out: Linear::new(channels, channels, device),
            heads,
        }
    }

    /// Self attention with a bias in all four maps, as in the VAE. Weights are still to be loaded.
    pub fn biased(channels: usize, heads: usize, device: &Device) -> Self {
        Self {
            to_q: Linear::new(channels, channels, device),
            to_k: Linear::new(channels, channels, device),
            to_v: Linear::new(channels, channels, device),
            to_out: Linear::new(channels, channels, device),
            heads,
        }
    }

    /// Every pixel attends to all pixels of its image. `[B, H, W, C]` to the same shape.
    pub fn self_attention(&self, x: FeatureMap) -> FeatureMap {
        let [batch, height, width, channels] = x.dims();
        let tokens = x.into_tensor().reshape([batch, height * width, channels]);
        let context = self.key_value(tokens.clone());
        let out = self.attend(tokens, &context);
        FeatureMap::new(out.reshape([batch, height, width, channels]))
    }

    /// Every pixel attends to the context of its image. `[B, H, W, C]` to the same shape. The
    /// context has R rows, R a divisor of B; row r serves images `r B / R .. (r + 1) B / R`.
    pub fn cross_attention(&self, x: FeatureMap, context: &KeyValue) -> FeatureMap {
        let [batch, height, width, channels] = x.dims();
        let [rows, ..] = context.key.dims();
        // Queries do not see each other, so images with the same context are one long sequence.
        let tokens = x.into_tensor().reshape([rows, batch / rows * height * width, channels]);
        let out = self.attend(tokens, context);
        FeatureMap::new(out.reshape([batch, height, width, channels]))
    }

    /// Keys and values of a context `[R, L, E]`.
    pub fn key_value(&self, context: Tensor<3>) -> KeyValue {
        KeyValue {
            key: self.split_heads(self.to_k.forward(context.clone())),
            value: self.split_heads(self.to_v.forward(context)),
        }
    }

    fn attend(&self, tokens: Tensor<3>, context: &KeyValue) -> Tensor<3> {
        let dims = tokens.dims();
        let query = self.split_heads(self.to_q.forward(tokens));
        let options = AttentionModuleOptions::default();
        let (key, value) = (context.key.clone(), context.value.clone());
        let heads = attention(query, key, value, None, None, options);
        self.to_out.forward(heads.swap_dims(1, 2).reshape(dims))
    }

    /// `[R, L, C]` to `[R, heads, L, C / heads]`.
    fn split_heads(&self, tokens: Tensor<3>) -> Tensor<4> {
        let [rows, length, channels] = tokens.dims();
        tokens.reshape([rows, length, self.heads, channels / self.heads]).swap_dims(1, 2)
    }
}
