//! The pre-norm transformer that both towers are made of.
//!
//! ```text
//! x += out_proj(attention(LN1 x))        x += fc2(act(fc1(LN2 x)))
//! ```
//! The residual stream is kept as `[B T, D]`: every layer but attention works on single tokens.

use burn::module::{Module, Param};
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

use super::{Activation, TransformerConfig};

/// One layer as weight files store it.
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

/// A layer norm over the width of a tower.
pub fn layer_norm(config: &TransformerConfig, device: &Device) -> LayerNorm {
    LayerNormConfig::new(config.hidden_size).with_epsilon(config.layer_norm_eps).init(device)
}

/// Which tokens a token attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionRange {
    /// All tokens of the sequence (vision).
    All,
    /// Itself and what stands before it (text).
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
        let layers = stored.into_iter().map(|layer| Layer::new(layer, config)).collect();
        Self { layers, range }
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

/// One layer, with the three input projections of attention in one.
#[derive(Debug)]
struct Layer {
    norm1: LayerNorm,
    /// `[D, 3 D]`; the queries carry the factor 1/sqrt(D/H).
    qkv: Linear,
    out: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    activation: Activation,
}

impl Layer {
    fn new(stored: StoredLayer, config: &TransformerConfig) -> Self {
        let head = config.hidden_size / config.num_attention_heads;
        let scale = (head as f64).powf(-0.5);
        Self {
            norm1: stored.layer_norm1,
            qkv: fuse(stored.q_proj, stored.k_proj, stored.v_proj, scale),
            out: stored.out_proj,
            norm2: stored.layer_norm2,
            fc1: stored.fc1,
            fc2: stored.fc2,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
        }
    }

    fn forward(&self, x: Stream, mask: Option<&Tensor<4>>) -> Stream {
        let [rows, width] = x.tokens.dims();
        let qkv = self.qkv.forward(self.norm1.forward(x.tokens.clone()));
        let qkv = self.by_head(qkv, x.batch, x.length);
        let query = qkv.clone().narrow(1, 0, self.heads);
        let context = self.attend(query, qkv, mask).reshape([rows, width]);
        x.map(|tokens| self.feed_forward(tokens + self.out.forward(context)))
    }

    fn forward_to(&self, x: Stream, positions: &[usize], mask: Option<Tensor<4>>) -> Tensor<2> {
        let [_, width] = x.tokens.dims();
        let rows = x.rows(positions);
        let qkv = self.qkv.forward(self.norm1.forward(x.tokens.clone()));
        let query = qkv.clone().narrow(1, 0, width).select(0, rows.clone());
        let query = self.by_head(query, x.batch, 1);
        let qkv = self.by_head(qkv, x.batch, x.length);
        let context = self.attend(query, qkv, mask.as_ref()).reshape([x.batch, width]);
        self.feed_forward(x.tokens.select(0, rows) + self.out.forward(context))
    }

    /// softmax(Q Kᵀ) V: `[B, Q, H, D/H]` from queries `[B, H, Q, D/H]` and `qkv` `[B, 3 H, T, D/H]`.
    fn attend(&self, query: Tensor<4>, qkv: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<4> {
        let key = qkv.clone().narrow(1, self.heads, self.heads);
        let value = qkv.narrow(1, 2 * self.heads, self.heads);
        let mut scores = query.matmul(key.transpose());
        if let Some(mask) = mask {
            scores = scores + mask.clone();
        }
        activation::softmax(scores, 3).matmul(value).swap_dims(1, 2)
    }

    /// `[B T, n D]` to `[B, n H, T, D/H]`.
    fn by_head(&self, x: Tensor<2>, batch: usize, length: usize) -> Tensor<4> {
        let [_, columns] = x.dims();
        let head = self.qkv.weight.dims()[0] / self.heads;
        x.reshape([batch, length, columns / head, head]).swap_dims(1, 2)
    }

    fn feed_forward(&self, x: Tensor<2>) -> Tensor<2> {
        let inner = self.activation.forward(self.fc1.forward(self.norm2.forward(x.clone())));
        x + self.fc2.forward(inner)
    }
}

/// One projection `[D, 3 D]` out of three.
fn fuse(query: Linear, key: Linear, value: Linear, scale: f64) -> Linear {
    let weights = vec![query.weight.val() * scale, key.weight.val(), value.weight.val()];
    let biases: Option<Vec<Tensor<1>>> = [(query.bias, scale), (key.bias, 1.0), (value.bias, 1.0)]
        .into_iter()
        .map(|(bias, scale)| bias.map(|b| b.val() * scale))
        .collect();
    Linear {
        weight: Param::from_tensor(Tensor::cat(weights, 1)),
        bias: biases.map(|b| Param::from_tensor(Tensor::cat(b, 0))),
    }
}
