//! The transformer inside a UNet block: self attention, attention to the text, feed forward.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation};

use crate::decoder::layers::{Attention, FeatureMap, GroupNorm, KeyValue, LayerNorm, Linear};

/// Fixed in the architecture, whatever `norm_eps` says.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;
/// The feed forward network is this much wider than its input.
const FEED_FORWARD: usize = 4;

/// `x + proj_out(blocks(proj_in(norm x)))`, as `Transformer2DModel` of diffusers.
#[derive(Module, Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<Block>,
    proj_out: Linear,
}

impl Transformer {
    /// A transformer whose weights are still to be loaded.
    pub fn new(
        channels: usize,
        context: usize,
        heads: usize,
        blocks: usize,
        groups: usize,
        device: &Device,
    ) -> Self {
        let block = || Block::new(channels, context, heads, device);
        Self {
            norm: GroupNorm::new(groups, channels, GROUP_NORM_EPS, device),
            proj_in: Linear::new(channels, channels, device),
            transformer_blocks: (0..blocks).map(|_| block()).collect(),
            proj_out: Linear::new(channels, channels, device),
        }
    }

    /// `[B, H, W, C]` to the same shape. `text` yields the keys and values of one block after the
    /// other.
    pub fn forward<'a>(
        &self,
        x: FeatureMap,
        text: &mut impl Iterator<Item = &'a KeyValue>,
    ) -> FeatureMap {
        let mut hidden = self.proj_in.forward_map(self.norm.forward(&x));
        for (block, text) in self.transformer_blocks.iter().zip(text) {
            hidden = block.forward(hidden, text);
        }
        self.proj_out.forward_map(hidden).add(x)
    }

    /// Keys and values of the text `[R, L, E]` for each block.
    pub fn key_values(&self, text: &Tensor<3>) -> impl Iterator<Item = KeyValue> {
        self.transformer_blocks.iter().map(|block| block.attn2.key_value(text.clone()))
    }
}

/// One `BasicTransformerBlock` of diffusers, pre-norm.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl Block {
    fn new(channels: usize, context: usize, heads: usize, device: &Device) -> Self {
        let norm = || LayerNorm::new(channels, LAYER_NORM_EPS, device);
        Self {
            norm1: norm(),
            attn1: Attention::new(channels, channels, heads, device),
            norm2: norm(),
            attn2: Attention::new(channels, context, heads, device),
            norm3: norm(),
            ff: FeedForward::new(channels, device),
        }
    }

    fn forward(&self, x: FeatureMap, text: &KeyValue) -> FeatureMap {
        let x = self.attn1.self_attention(self.norm1.forward(&x)).add(x);
        let x = self.attn2.cross_attention(self.norm2.forward(&x), text).add(x);
        self.ff.forward(self.norm3.forward(&x)).add(x)
    }
}

/// GEGLU feed forward (arXiv 2002.05202): `W2 (a gelu(b))` with `[a, b] = W1 x`.
#[derive(Module, Debug)]
struct FeedForward {
    proj_in: Linear,
    proj_out: Linear,
}

impl FeedForward {
    fn new(channels: usize, device: &Device) -> Self {
        let inner = FEED_FORWARD * channels;
        Self {
            proj_in: Linear::new(channels, 2 * inner, device),
            proj_out: Linear::new(inner, channels, device),
        }
    }

    fn forward(&self, x: FeatureMap) -> FeatureMap {
        let [.., channels] = x.dims();
        let inner = FEED_FORWARD * channels;
        let both = self.proj_in.forward_map(x).into_tensor();
        let value = both.clone().narrow(3, 0, inner);
        let gate = activation::gelu(both.narrow(3, inner, inner));
        self.proj_out.forward_map(FeatureMap::new(value * gate))
    }
}
