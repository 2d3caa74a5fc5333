//! The pre-norm transformer that the towers of CLIP, SigLIP and ProLIP and the vision tower of BLIP
//! are made of.
//!
//! ```text
//! x += out_proj(attention(LN1 x))        x += fc2(act(fc1(LN2 x)))
//! ```
//! The residual stream is kept as `[B T, D]`: every layer but attention works on single tokens.

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::activation::Activation;
use super::attention::SelfAttention;
use super::config::TransformerConfig;

/// One layer as the weight files of CLIP and SigLIP store it.
#[derive(Module, Debug)]
pub struct StoredLayer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl StoredLayer {
    /// All layers of a tower, to load weights into.
    pub fn init_all(config: &TransformerConfig, device: &Device) -> Vec<Self> {
        (0..config.num_hidden_layers).map(|_| Self::init(config, device)).collect()
    }

    fn init(config: &TransformerConfig, device: &Device) -> Self {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            layer_norm1: layer_norm(config, device),
            q_proj: linear(width, width),
            k_proj: linear(width, width),
            v_proj: linear(width, width),
            out_proj: linear(width, width),
            layer_norm2: layer_norm(config, device),
            fc1: linear(width, inner),
            fc2: linear(inner, width),
        }
    }
}

/// One layer as the weight files of BLIP and open_clip store it, with the three input projections
/// of attention in one.
#[derive(Module, Debug)]
pub struct FusedLayer {
    layer_norm1: LayerNorm,
    /// `[D, 3 D]`
    qkv: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl FusedLayer {
    /// All layers of a tower, to load weights into.
    pub fn init_all(config: &TransformerConfig, device: &Device) -> Vec<Self> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        (0..config.num_hidden_layers)
            .map(|_| Self {
                layer_norm1: layer_norm(config, device),
                qkv: linear(width, 3 * width),
                out_proj: linear(width, width),
                layer_norm2: layer_norm(config, device),
                fc1: linear(width, inner),
                fc2: linear(inner, width),
            })
            .collect()
    }
}

/// A layer norm over the width of a tower.
pub fn layer_norm(config: &TransformerConfig, device: &Device) -> LayerNorm {
    LayerNormConfig::new(config.hidden_size).with_epsilon(config.layer_norm_eps).init(device)
}

/// Which tokens a token attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionRange {
    /// All tokens of the sequence.
    All,
    /// Itself and what stands before it (the texts of CLIP).
    Causal,
}

/// The layers of a tower, ready to run.
#[derive(Debug)]
pub struct Transformer {
    layers: Vec<Layer>,
    range: AttentionRange,
}

/// The residual stream of B sequences of T tokens.
#[derive(Debug, Clone)]
pub struct Stream {
    /// `[B T, D]`
    pub tokens: Tensor<2>,
    pub batch: usize,
    pub length: usize,
}

impl Stream {
    /// `[B, T, D]`
    pub fn unfold(self) -> Tensor<3> {
        let [_, width] = self.tokens.dims();
        self.tokens.reshape([self.batch, self.length, width])
    }

    /// From `[B, T, D]`.
    pub fn fold(x: Tensor<3>) -> Self {
        let [batch, length, width] = x.dims();
        Self { tokens: x.reshape([batch * length, width]), batch, length }
    }

    /// Applies what works on single tokens.
    pub fn map(self, f: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Self {
        Self { tokens: f(self.tokens), ..self }
    }

    /// Token `positions[b]` of each sequence b, `[B, D]`.
    pub fn pick(&self, positions: &[usize]) -> Tensor<2> {
        self.tokens.clone().select(0, self.rows(positions))
    }

    /// Row of token `positions[b]` of each sequence b.
    fn rows(&self, positions: &[usize]) -> Tensor<1, Int> {
        let row = |(b, position): (usize, &usize)| (b * self.length + position) as i32;
        let rows: Vec<i32> = positions.iter().enumerate().map(row).collect();
        Tensor::from_data(TensorData::new(rows, [positions.len()]), &self.tokens.device())
    }
}

impl Transformer {
    /// Takes over loaded layers.
    pub fn new(
        stored: Vec<StoredLayer>,
        config: &TransformerConfig,
        range: AttentionRange,
    ) -> Self {
        let layer = |layer: StoredLayer| {
            let StoredLayer { layer_norm1, q_proj, k_proj, v_proj, out_proj, .. } = layer;
            let heads = config.num_attention_heads;
            Layer {
                norm1: layer_norm1,
                attention: SelfAttention::new(q_proj, k_proj, v_proj, out_proj, heads),
                norm2: layer.layer_norm2,
                fc1: layer.fc1,
                fc2: layer.fc2,
                activation: config.hidden_act,
            }
        };
        Self { layers: stored.into_iter().map(layer).collect(), range }
    }

    /// Takes over loaded layers whose tokens attend to all others.
    pub fn fused(stored: Vec<FusedLayer>, config: &TransformerConfig) -> Self {
        let layer = |layer: FusedLayer| Layer {
            norm1: layer.layer_norm1,
            attention: SelfAttention::fused(layer.qkv, layer.out_proj, config.num_attention_heads),
            norm2: layer.layer_norm2,
            fc1: layer.fc1,
            fc2: layer.fc2,
            activation: config.hidden_act,
        };
        Self { layers: stored.into_iter().map(layer).collect(), range: AttentionRange::All }
    }

    /// The stream after the last layer.
    pub fn forward(&self, x: Stream) -> Stream {
        let mask = self.mask(&x);
        self.layers.iter().fold(x, |x, layer| layer.forward(x, mask.as_ref()))
    }

    /// The stream before the first and after every layer, `[B, T, D]` each, and the last of them
    /// again.
    pub fn hidden_states(&self, mut x: Stream) -> (Vec<Tensor<3>>, Stream) {
        let mask = self.mask(&x);
        let mut states = vec![x.clone().unfold()];
        for layer in &self.layers {
            x = layer.forward(x, mask.as_ref());
            states.push(x.clone().unfold());
        }
        (states, x)
    }

    /// One token of each sequence after the last layer, `[B, D]`: token `positions[b]` of
    /// sequence b. The last layer is computed for these tokens alone.
    pub fn forward_to(&self, x: Stream, positions: &[usize]) -> Tensor<2> {
        let Some((last, layers)) = self.layers.split_last() else {
            return x.pick(positions);
        };
        let mask = self.mask(&x);
        let x = layers.iter().fold(x, |x, layer| layer.forward(x, mask.as_ref()));
        let mask = match self.range {
            AttentionRange::All => None,
            AttentionRange::Causal => causal_rows(positions, x.length, &x.tokens.device()),
        };
        last.forward_to(x, positions, mask)
    }

    fn mask(&self, x: &Stream) -> Option<Tensor<4>> {
        match self.range {
            AttentionRange::Causal if x.length > 1 => {
                Some(causal_mask(x.length, &x.tokens.device()))
            }
            _ => None,
        }
    }
}

/// Added to attention scores: minus infinity where a key stands behind its query,
/// `[1, 1, T, T]`.
fn causal_mask(length: usize, device: &Device) -> Tensor<4> {
    let rows: Vec<f32> = (0..length).flat_map(|query| causal_row(query, length)).collect();
    Tensor::from_data(TensorData::new(rows, [1, 1, length, length]), (device, DType::F32))
}

/// The mask of one query in each sequence, `[B, 1, 1, T]`; none when all stand at the end.
fn causal_rows(queries: &[usize], length: usize, device: &Device) -> Option<Tensor<4>> {
    if queries.iter().all(|&query| query + 1 == length) {
        return None;
    }
    let rows: Vec<f32> = queries.iter().flat_map(|&query| causal_row(query, length)).collect();
    let rows = TensorData::new(rows, [queries.len(), 1, 1, length]);
    Some(Tensor::from_data(rows, (device, DType::F32)))
}

fn causal_row(query: usize, length: usize) -> impl Iterator<Item = f32> {
    (0..length).map(move |key| if key > query { f32::NEG_INFINITY } else { 0.0 })
}

/// One layer.
#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    attention: SelfAttention,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

impl Layer {
    fn forward(&self, x: Stream, mask: Option<&Tensor<4>>) -> Stream {
        let normed = self.norm1.forward(x.tokens.clone());
        let context = self.attention.forward(normed, (x.batch, x.length), mask);
        x.map(|tokens| self.feed_forward(tokens + context))
    }

    fn forward_to(&self, x: Stream, positions: &[usize], mask: Option<Tensor<4>>) -> Tensor<2> {
        let rows = x.rows(positions);
        let normed = self.norm1.forward(x.tokens.clone());
        let shape = (x.batch, x.length);
        let context = self.attention.forward_rows(normed, rows.clone(), shape, mask.as_ref());
        self.feed_forward(x.tokens.select(0, rows) + context)
    }

    fn feed_forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = self.activation.forward(self.fc1.forward(self.norm2.forward(x.clone())));
        x + self.fc2.forward(inner)
    }
}
