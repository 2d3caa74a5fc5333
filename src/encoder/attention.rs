//! Multi-head attention: softmax(Q Kᵀ / sqrt(D/H)) V (Vaswani et al. 2017, arXiv 1706.03762).

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

/// Attention of a sequence to itself, with the three input projections in one.
#[derive(Debug)]
pub struct SelfAttention {
    /// `[D, 3 D]`; the queries carry the factor 1/sqrt(D/H).
    qkv: Linear,
    out: Linear,
    heads: usize,
}

impl SelfAttention {
    /// From separate projections `[D, D]`.
    pub fn new(query: Linear, key: Linear, value: Linear, out: Linear, heads: usize) -> Self {
        let query = scaled(query, heads);
        Self { qkv: join(vec![query, key, value]), out, heads }
    }

    /// From one projection `[D, 3 D]` to queries, keys and values.
    pub fn fused(qkv: Linear, out: Linear, heads: usize) -> Self {
        let width = qkv.weight.dims()[0];
        Self::new(part(&qkv, 0, width), part(&qkv, 1, width), part(&qkv, 2, width), out, heads)
    }

    /// The context of every token, `[B T, D]`, of tokens `[B T, D]`; `mask` `[1 or B, 1, 1 or T, T]`
    /// is added to the scores.
    pub fn forward(
        &self,
        x: Tensor<2>,
        (batch, length): (usize, usize),
        mask: Option<&Tensor<4>>,
    ) -> Tensor<2> {
        let [rows, width] = x.dims();
        let qkv = split_heads(self.qkv.forward(x), (batch, length), width / self.heads);
        let query = qkv.clone().narrow(1, 0, self.heads);
        self.out.forward(self.attend(query, qkv, mask).reshape([rows, width]))
    }

    /// As [`Self::forward`], for the token of one row of each sequence: `[B, D]`; `mask`
    /// `[1 or B, 1, 1, T]`.
    pub fn forward_rows(
        &self,
        x: Tensor<2>,
        rows: Tensor<1, Int>,
        (batch, length): (usize, usize),
        mask: Option<&Tensor<4>>,
    ) -> Tensor<2> {
        let [_, width] = x.dims();
        let qkv = self.qkv.forward(x);
        let query = qkv.clone().narrow(1, 0, width).select(0, rows);
        let query = split_heads(query, (batch, 1), width / self.heads);
        let qkv = split_heads(qkv, (batch, length), width / self.heads);
        self.out.forward(self.attend(query, qkv, mask).reshape([batch, width]))
    }

    /// From queries `[B, H, Q, D/H]` and `qkv` `[B, 3 H, T, D/H]`.
    fn attend(&self, query: Tensor<4>, qkv: Tensor<4>, mask: Option<&Tensor<4>>) -> Tensor<4> {
        let key = qkv.clone().narrow(1, self.heads, self.heads);
        attend(query, key, qkv.narrow(1, 2 * self.heads, self.heads), mask)
    }
}

/// Attention of a sequence to another.
#[derive(Debug)]
pub struct CrossAttention {
    /// `[D, D]`, with the factor 1/sqrt(D/H).
    query: Linear,
    /// `[C, 2 D]`
    key_value: Linear,
    out: Linear,
    heads: usize,
}

impl CrossAttention {
    /// From projections `[D, D]` of the queries and `[C, D]` of what they attend to.
    pub fn new(query: Linear, key: Linear, value: Linear, out: Linear, heads: usize) -> Self {
        Self { query: scaled(query, heads), key_value: join(vec![key, value]), out, heads }
    }

    /// From one projection `[D, 3 D]` to queries, keys and values.
    pub fn fused(qkv: Linear, out: Linear, heads: usize) -> Self {
        let width = qkv.weight.dims()[0];
        Self::new(part(&qkv, 0, width), part(&qkv, 1, width), part(&qkv, 2, width), out, heads)
    }

    /// What queries `[B, Q, D]` find in a context `[B, T, C]`: `[B, Q, D]`.
    pub fn forward(&self, queries: Tensor<3>, context: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = queries.dims();
        let [_, context_length, context_width] = context.dims();
        let head = width / self.heads;
        let query = self.query.forward(queries.reshape([batch * length, width]));
        let query = split_heads(query, (batch, length), head);
        let context = context.reshape([batch * context_length, context_width]);
        let kv = split_heads(self.key_value.forward(context), (batch, context_length), head);
        let key = kv.clone().narrow(1, 0, self.heads);
        let found = attend(query, key, kv.narrow(1, self.heads, self.heads), None);
        self.out.forward(found.reshape([batch * length, width])).reshape([batch, length, width])
    }
}

/// Added to the scores of sequences that are padded: minus infinity where a key is padding,
/// `[B, 1, 1, T]`. `is_token` is `[B, T]` row-major, not 0 at tokens; `None` when all are tokens.
pub fn padding_mask(is_token: &[u8], length: usize, device: &Device) -> Option<Tensor<4>> {
    if is_token.iter().all(|&token| token != 0) {
        return None;
    }
    let score = |&token: &u8| if token == 0 { f32::NEG_INFINITY } else { 0.0 };
    let scores: Vec<f32> = is_token.iter().map(score).collect();
    let data = TensorData::new(scores, [is_token.len() / length, 1, 1, length]);
    Some(Tensor::from_data(data, (device, DType::F32)))
}

/// `[B, Q, H, D/H]` from queries `[B, H, Q, D/H]`, keys and values `[B, H, T, D/H]`.
fn attend(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    mask: Option<&Tensor<4>>,
) -> Tensor<4> {
    let mut scores = query.matmul(key.transpose());
    if let Some(mask) = mask {
        scores = scores + mask.clone();
    }
    activation::softmax(scores, 3).matmul(value).swap_dims(1, 2)
}

/// `[B T, n D]` to `[B, n H, T, D/H]`.
fn split_heads(x: Tensor<2>, (batch, length): (usize, usize), head: usize) -> Tensor<4> {
    let [_, columns] = x.dims();
    x.reshape([batch, length, columns / head, head]).swap_dims(1, 2)
}

/// A projection with the factor 1/sqrt(D/H) of the scores in it.
fn scaled(query: Linear, heads: usize) -> Linear {
    let head = query.weight.dims()[1] / heads;
    let scale = (head as f64).powf(-0.5);
    Linear {
        weight: Param::from_tensor(query.weight.val() * scale),
        bias: query.bias.map(|bias| Param::from_tensor(bias.val() * scale)),
    }
}

/// Columns `index * width..` of a projection.
fn part(all: &Linear, index: usize, width: usize) -> Linear {
    let weight = all.weight.val().narrow(1, index * width, width);
    let bias = all.bias.as_ref().map(|bias| bias.val().narrow(0, index * width, width));
    Linear { weight: Param::from_tensor(weight), bias: bias.map(Param::from_tensor) }
}

/// Projections of one input, side by side.
fn join(parts: Vec<Linear>) -> Linear {
    let weights = parts.iter().map(|part| part.weight.val()).collect();
    let biases: Option<Vec<Tensor<1>>> =
        parts.iter().map(|part| part.bias.as_ref().map(|bias| bias.val())).collect();
    Linear {
        weight: Param::from_tensor(Tensor::cat(weights, 1)),
        bias: biases.map(|biases| Param::from_tensor(Tensor::cat(biases, 0))),
    }
}
