//! `PriorTransformer` of diffusers: predicts a clean image embedding from a noisy one and a text.
//!
//! ```text
//! text states (L) | text embedding | time step | noisy image embedding | query  -> answer
//! ```
//! A causal transformer whose last token is read. The text stands first, so nothing of what
//! changes from step to step can reach it: its keys and values are computed once, by
//! [`PriorTransformer::prepare`], and a step runs the last three tokens alone.

use std::path::Path;

use burn::module::Module;
use burn::nn::{LayerNorm, LayerNormConfig, Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor, TensorData, activation};

use super::config::{ADDED_TOKENS, PriorConfig};
use crate::decoder::model_error::ModelError;
use crate::decoder::unet::timestep::Sinusoids;
use crate::model::checkpoint;
use crate::model::precision::Precision;

/// Added to the scores of keys that must not be seen. Finite in the reference too.
const MASKED: f32 = -10_000.0;
/// Tokens that change from step to step: time step, noisy embedding, query.
const TAIL: usize = ADDED_TOKENS - 1;
const NORM_EPSILON: f64 = 1e-5;
/// The feed forward network is this much wider than the stream.
const EXPANSION: usize = 4;

/// The network, with its weights on a device.
#[derive(Debug)]
pub struct PriorTransformer {
    config: PriorConfig,
    stored: Stored,
    /// `[L + 4, C]`
    positional_embedding: Tensor<2>,
    /// `[1, C]`
    query: Tensor<2>,
    /// Mean and standard deviation of image embeddings, `[1, E]` each.
    clip_mean: Tensor<2>,
    clip_std: Tensor<2>,
    device: Device,
}

/// What the network remembers of R texts.
#[derive(Debug, Clone)]
pub struct PriorCondition {
    /// Keys and values of each block, `[R, heads, L + 1, d]`.
    blocks: Vec<(Tensor<4>, Tensor<4>)>,
    /// Added to the scores of these keys, `[R, 1, 1, L + 1]`.
    mask: Tensor<4>,
}

/// The modules as the weight file stores them, under shorter names.
#[derive(Module, Debug)]
struct Stored {
    time_1: Linear,
    time_2: Linear,
    proj_in: Linear,
    embedding_proj: Linear,
    hidden_proj: Linear,
    blocks: Vec<Block>,
    norm_out: LayerNorm,
    proj_out: Linear,
}

/// `x += to_out(attention(norm1 x))`, `x += fc2(gelu(fc1(norm3 x)))`.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    norm3: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl PriorTransformer {
    /// Reads `config.json` and the weights in `folder`.
    ///
    /// # Errors
    /// When a file is missing or malformed, or the weights do not fit the config.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        let config = PriorConfig::read(folder)?;
        let weights = checkpoint::open(folder, checkpoint::DIFFUSERS, Precision::F32)?;
        let (width, dim) = (config.width(), config.embedding_dim);
        let tensor = |name: &str, shape: &[usize]| -> Result<Tensor<2>, ModelError> {
            let found = weights.shape(name);
            if found.as_deref().is_some_and(|found| found != shape) {
                let reason = format!(
                    "tensor {name} has shape {:?}, config.json calls for {shape:?}",
                    found.unwrap_or_default()
                );
                return Err(weights.tensor_error(reason).into());
            }
            let [.., rows, columns] = *shape else { unreachable!("shapes below have a rank") };
            let values = match shape.len() {
                2 => weights.tensor::<2>(name, device)?,
                _ => weights.tensor::<3>(name, device)?.reshape([rows, columns]),
            };
            Ok(values)
        };
        let length = config.num_embeddings + ADDED_TOKENS;
        let positional_embedding = tensor("positional_embedding", &[1, length, width])?;
        let query = tensor("prd_embedding", &[1, 1, width])?;
        let clip_mean = tensor("clip_mean", &[1, dim])?;
        let clip_std = tensor("clip_std", &[1, dim])?;
        let weights = weights.rename(short_name);
        let stored = weights.load_into(Stored::init(&config, device))?;
        Ok(Self {
            config,
            stored,
            positional_embedding,
            query,
            clip_mean,
            clip_std,
            device: device.clone(),
        })
    }

    /// What the network was built from.
    pub fn config(&self) -> &PriorConfig {
        &self.config
    }

    /// Runs the text part: `text_embeds` `[R, P]`, `hidden_states` `[R, L, E]` of the text encoder
    /// and `mask` `[R, L]`, 1 where a token stands and 0 where padding does.
    ///
    /// # Errors
    /// When a shape does not fit the network.
    pub fn prepare(
        &self,
        text_embeds: Tensor<2>,
        hidden_states: Tensor<3>,
        mask: Tensor<2>,
    ) -> Result<PriorCondition, ModelError> {
        let PriorConfig { embedding_dim, embedding_proj_dim, num_embeddings, .. } = self.config;
        let rows = text_embeds.dims()[0];
        for (input, found, expected) in [
            ("the text embeddings", &text_embeds.dims()[..], &[rows, embedding_proj_dim][..]),
            ("the text states", &hidden_states.dims(), &[rows, num_embeddings, embedding_dim]),
            ("the text mask", &mask.dims(), &[rows, num_embeddings]),
        ] {
            if found != expected {
                return Err(ModelError::Shape {
                    input,
                    found: found.to_vec(),
                    expected: format!("{expected:?}"),
                });
            }
        }
        let length = num_embeddings + 1;
        let states = self.stored.hidden_proj.forward(hidden_states);
        let text = self.stored.embedding_proj.forward(text_embeds).unsqueeze_dim::<3>(1);
        let positions = self.positional_embedding.clone().narrow(0, 0, length).unsqueeze::<3>();
        let mut x = Tensor::cat(vec![states, text], 1) + positions;

        let padding = mask.mul_scalar(-1.0).add_scalar(1.0).mul_scalar(MASKED);
        let text_is_seen = Tensor::<2>::zeros([rows, 1], &self.device);
        let mask: Tensor<4> = Tensor::cat(vec![padding, text_is_seen], 1).unsqueeze_dims(&[1, 2]);
        let range = causal(length, &self.device) + mask.clone();
        let heads = self.config.num_attention_heads;
        let mut blocks = Vec::with_capacity(self.stored.blocks.len());
        for (i, block) in self.stored.blocks.iter().enumerate() {
            let normed = block.norm1.forward(x.clone());
            let split = |linear: &Linear| split_heads(linear.forward(normed.clone()), heads);
            let (key, value) = (split(&block.to_k), split(&block.to_v));
            // Nothing reads what the last block makes of the text.
            if i + 1 < self.stored.blocks.len() {
                let scores = scaled_scores(split(&block.to_q), key.clone()) + range.clone();
                let mixed = activation::softmax(scores, 3).matmul(value.clone());
                x = block.rest(x, mixed.swap_dims(1, 2).flatten(2, 3));
            }
            blocks.push((key, value));
        }
        Ok(PriorCondition { blocks, mask })
    }

    /// Predicts the clean embeddings of `noisy` `[R N, E]`, N for each of the R texts of
    /// `condition` in their order, all at time step `t`. In and out are in the network's own
    /// scale; see [`Self::post_process`].
    ///
    /// # Errors
    /// When `noisy` does not fit the network or the number of texts.
    pub fn forward(
        &self,
        noisy: Tensor<2>,
        t: f64,
        condition: &PriorCondition,
    ) -> Result<Tensor<2>, ModelError> {
        let [rows, dim] = noisy.dims();
        let texts = condition.mask.dims()[0];
        if dim != self.config.embedding_dim || rows == 0 || !rows.is_multiple_of(texts) {
            return Err(ModelError::Shape {
                input: "the noisy image embeddings",
                found: vec![rows, dim],
                expected: format!("[a multiple of {texts}, {}]", self.config.embedding_dim),
            });
        }
        let (width, heads) = (self.config.width(), self.config.num_attention_heads);
        let code = Sinusoids { size: width, cosines_first: true, freq_shift: 0.0 };
        let time = self.stored.time_1.forward(code.encode(&[t], &self.device));
        let time = self.stored.time_2.forward(activation::silu(time));
        let each = |token: Tensor<2>| token.unsqueeze_dim::<3>(1).repeat_dim(0, rows);
        let noisy = self.stored.proj_in.forward(noisy).unsqueeze_dim::<3>(1);
        let first = self.config.num_embeddings + 1;
        let positions = self.positional_embedding.clone().narrow(0, first, TAIL).unsqueeze::<3>();
        let tail = vec![each(time), noisy, each(self.query.clone())];
        let mut x = Tensor::cat(tail, 1) + positions;

        let range = causal(TAIL, &self.device);
        for (block, (text_key, text_value)) in self.stored.blocks.iter().zip(&condition.blocks) {
            let normed = block.norm1.forward(x.clone());
            let split = |linear: &Linear| split_heads(linear.forward(normed.clone()), heads);
            let (query, key, value) = (split(&block.to_q), split(&block.to_k), split(&block.to_v));
            // Tokens with the same text are one long sequence of queries to it.
            let to_text = scaled_scores(by_text(query.clone(), texts), text_key.clone());
            let to_text = to_text + condition.mask.clone();
            let to_tail = by_text(scaled_scores(query, key) + range.clone(), texts);
            let text_length = text_key.dims()[2];
            let weights = activation::softmax(Tensor::cat(vec![to_text, to_tail], 3), 3);
            let of_text = weights.clone().narrow(3, 0, text_length).matmul(text_value.clone());
            let of_tail = by_row(weights.narrow(3, text_length, TAIL), rows).matmul(value);
            let mixed = by_row(of_text, rows) + of_tail;
            x = block.rest(x, mixed.swap_dims(1, 2).flatten(2, 3));
        }
        let answer = x.narrow(1, TAIL - 1, 1).squeeze_dim::<2>(1);
        Ok(self.stored.proj_out.forward(self.stored.norm_out.forward(answer)))
    }

    /// Raw image embeddings `[B, E]` of embeddings in the network's scale: x std + mean.
    pub fn post_process(&self, embeddings: Tensor<2>) -> Tensor<2> {
        embeddings * self.clip_std.clone() + self.clip_mean.clone()
    }
}

impl Stored {
    fn init(config: &PriorConfig, device: &Device) -> Self {
        let width = config.width();
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let norm = || LayerNormConfig::new(width).with_epsilon(NORM_EPSILON).init(device);
        let block = |_| Block {
            norm1: norm(),
            to_q: linear(width, width),
            to_k: linear(width, width),
            to_v: linear(width, width),
            to_out: linear(width, width),
            norm3: norm(),
            fc1: linear(width, EXPANSION * width),
            fc2: linear(EXPANSION * width, width),
        };
        Self {
            time_1: linear(width, config.time_embed_dim),
            time_2: linear(config.time_embed_dim, width),
            proj_in: linear(config.embedding_dim, width),
            embedding_proj: linear(config.embedding_proj_dim, width),
            hidden_proj: linear(config.embedding_dim, width),
            blocks: (0..config.num_layers).map(block).collect(),
            norm_out: norm(),
            proj_out: linear(width, config.embedding_dim),
        }
    }
}

impl Block {
    /// The stream after attention gave `mixed`, both `[B, T, C]`.
    fn rest(&self, x: Tensor<3>, mixed: Tensor<3>) -> Tensor<3> {
        let x = x + self.to_out.forward(mixed);
        let inner = activation::gelu(self.fc1.forward(self.norm3.forward(x.clone())));
        x + self.fc2.forward(inner)
    }
}

/// The module's name of a tensor; `None` for those that are no part of a module.
fn short_name(name: &str) -> Option<String> {
    if ["positional_embedding", "prd_embedding", "clip_mean", "clip_std"].contains(&name) {
        return None;
    }
    let name = name
        .replace("time_embedding.linear_", "time_")
        .replace("encoder_hidden_states_proj.", "hidden_proj.")
        .replace("proj_to_clip_embeddings.", "proj_out.")
        .replace("transformer_blocks.", "blocks.")
        .replace(".attn1.to_out.0.", ".to_out.")
        .replace(".attn1.", ".")
        .replace(".ff.net.0.proj.", ".fc1.")
        .replace(".ff.net.2.", ".fc2.");
    Some(name)
}

/// Added to scores: hides what stands behind a query, `[1, 1, T, T]`.
fn causal(length: usize, device: &Device) -> Tensor<4> {
    let value = |at: usize| if at % length > at / length { MASKED } else { 0.0 };
    let values: Vec<f32> = (0..length * length).map(value).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, length, length]), (device, DType::F32))
}

/// `[B, T, C]` to `[B, heads, T, d]`.
fn split_heads(tokens: Tensor<3>, heads: usize) -> Tensor<4> {
    let [batch, length, width] = tokens.dims();
    tokens.reshape([batch, length, heads, width / heads]).swap_dims(1, 2)
}

/// q kᵀ / sqrt(d)
fn scaled_scores(query: Tensor<4>, key: Tensor<4>) -> Tensor<4> {
    let scale = (query.dims()[3] as f64).sqrt();
    query.matmul(key.transpose()).div_scalar(scale)
}

/// `[R N, heads, T, d]` to `[R, heads, N T, d]`.
fn by_text(x: Tensor<4>, texts: usize) -> Tensor<4> {
    let [rows, heads, length, width] = x.dims();
    let each = rows / texts;
    let x = x.reshape([texts, each, heads, length, width]).swap_dims(1, 2);
    x.reshape([texts, heads, each * length, width])
}

/// `[R, heads, N T, d]` to `[R N, heads, T, d]`, the other way.
fn by_row(x: Tensor<4>, rows: usize) -> Tensor<4> {
    let [texts, heads, length, width] = x.dims();
    let each = rows / texts;
    let x = x.reshape([texts, heads, each, length / each, width]).swap_dims(1, 2);
    x.reshape([rows, heads, length / each, width])
}
