//! The transformer inside a UNet block: self attention, attention to the text, feed forward.

use crate::decoder::layers::{
    CrossAttention, FeatureMap, FeedForward, GroupNorm, KeyValue, LayerNorm, Linear, Scope,
    SelfAttention,
};
use crate::decoder::model_error::ModelError;

/// Fixed in the architecture, whatever `norm_eps` says.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;

/// `x + proj_out(blocks(proj_in(norm x)))`, as `Transformer2DModel` of diffusers.
#[derive(Debug)]
pub(super) struct Transformer {
    norm: GroupNorm,
    proj_in: Linear,
    blocks: Vec<Block>,
    proj_out: Linear,
}

/// Sizes of a transformer.
#[derive(Debug, Clone, Copy)]
pub(super) struct TransformerOptions {
    pub channels: usize,
    /// Width of the text states.
    pub context: usize,
    pub heads: usize,
    pub blocks: usize,
    pub groups: usize,
}

impl Transformer {
    /// Reads the transformer.
    pub fn load(scope: &Scope<'_>, options: TransformerOptions) -> Result<Self, ModelError> {
        let TransformerOptions { channels, groups, blocks, .. } = options;
        let block = |i| Block::load(&scope.at("transformer_blocks").at(i), options);
        Ok(Self {
            norm: GroupNorm::load(&scope.at("norm"), groups, channels, GROUP_NORM_EPS)?,
            proj_in: Linear::load(&scope.at("proj_in"), channels, channels)?,
            blocks: (0..blocks).map(block).collect::<Result<_, _>>()?,
            proj_out: Linear::load(&scope.at("proj_out"), channels, channels)?,
        })
    }

    /// `[B, H, W, C]` to the same shape. `text` yields the keys and values of one block after the
    /// other.
    pub fn forward<'a>(
        &self,
        x: FeatureMap,
        text: &mut impl Iterator<Item = &'a KeyValue>,
    ) -> FeatureMap {
        let mut hidden = self.proj_in.forward(self.norm.forward(&x));
        for (block, text) in self.blocks.iter().zip(text) {
            hidden = block.forward(hidden, text);
        }
        self.proj_out.forward_add(hidden, x)
    }

    /// Keys and values of the text, a map `[R, 1, L, E]`, for each block.
    pub fn key_values(&self, text: &FeatureMap) -> impl Iterator<Item = KeyValue> {
        self.blocks.iter().map(|block| block.attn2.key_value(text.clone()))
    }
}

/// One `BasicTransformerBlock` of diffusers, pre-norm.
#[derive(Debug)]
struct Block {
    norm1: LayerNorm,
    attn1: SelfAttention,
    norm2: LayerNorm,
    attn2: CrossAttention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl Block {
    fn load(scope: &Scope<'_>, options: TransformerOptions) -> Result<Self, ModelError> {
        let TransformerOptions { channels, context, heads, .. } = options;
        let norm = |name| LayerNorm::load(&scope.at(name), channels, LAYER_NORM_EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: SelfAttention::load(&scope.at("attn1"), channels, heads, false)?,
            norm2: norm("norm2")?,
            attn2: CrossAttention::load(&scope.at("attn2"), channels, context, heads)?,
            norm3: norm("norm3")?,
            ff: FeedForward::load(&scope.at("ff"), channels)?,
        })
    }

    fn forward(&self, x: FeatureMap, text: &KeyValue) -> FeatureMap {
        let x = self.attn1.forward_add(self.norm1.forward(&x), x);
        let x = self.attn2.forward_add(self.norm2.forward(&x), text, x);
        self.ff.forward_add(self.norm3.forward(&x), x)
    }
}
