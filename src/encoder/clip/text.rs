//! The text tower.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Int, Tensor, TensorData};

use super::super::EncoderError;
use super::super::tokenizer::TokenIds;
use super::ClipTextConfig;
use super::transformer::{AttentionRange, StoredLayer, Stream, Transformer, layer_norm};
use super::weights::{open, text_tower};
use crate::model::weights::Weights;

/// The pooling rule of old configs is chosen by this value of `eos_token_id`.
const LEGACY_EOS: u32 = 2;

/// `CLIPTextModel`, with or without its projection.
///
/// The pooled token is the first one that equals `eos_token_id` (position 0 if none does). Configs
/// with `eos_token_id` 2, which no tokenizer gives, mean the rule of old: the position of the
/// largest id, the first of equals.
#[derive(Debug)]
pub struct ClipTextModel {
    config: ClipTextConfig,
    /// `[vocab_size, D]`
    token_embedding: Embedding,
    /// `[max_position_embeddings, D]`
    position_embedding: Tensor<2>,
    transformer: Transformer,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
    device: Device,
}

/// Everything the text tower computes, as `CLIPTextModelOutput` of transformers.
#[derive(Debug)]
pub struct ClipTextOutput {
    /// After the embeddings, then after each layer, before the final norm; `[B, L, D]` each.
    pub hidden_states: Vec<Tensor<3>>,
    /// After the final norm, `[B, L, D]`.
    pub last_hidden_state: Tensor<3>,
    /// The pooled token of `last_hidden_state`, `[B, D]`.
    pub pooled: Tensor<2>,
    /// Projected into the shared space, `[B, projection_dim]`, not normalised.
    pub text_embeds: Option<Tensor<2>>,
}

/// The tower as weight files store it.
#[derive(Module, Debug)]
struct Stored {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<StoredLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
}

impl ClipTextModel {
    /// Loads `config.json` and the weights of a folder that holds a `CLIPTextModel`, a
    /// `CLIPTextModelWithProjection` or a whole `CLIPModel`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let config = ClipTextConfig::load(folder)?;
        Self::from_weights(open(folder)?, config, device)
    }

    fn from_weights(
        weights: Weights,
        config: ClipTextConfig,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let weights = text_tower(weights);
        let width = config.transformer.hidden_size;
        let projection = weights.contains("text_projection.weight");
        let stored = weights.load_into(Stored {
            token_embedding: EmbeddingConfig::new(config.vocab_size, width).init(device),
            position_embedding: EmbeddingConfig::new(config.max_position_embeddings, width)
                .init(device),
            layers: StoredLayer::init_all(&config.transformer, device),
            final_layer_norm: layer_norm(&config.transformer, device),
            text_projection: projection.then(|| {
                LinearConfig::new(width, config.projection_dim).with_bias(false).init(device)
            }),
        })?;
        Ok(Self {
            token_embedding: stored.token_embedding,
            position_embedding: stored.position_embedding.weight.val(),
            transformer: Transformer::new(
                stored.layers,
                &config.transformer,
                AttentionRange::Causal,
            ),
            final_layer_norm: stored.final_layer_norm,
            text_projection: stored.text_projection,
            device: device.clone(),
            config,
        })
    }

    /// What the tower was built from.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// Runs the tower and keeps everything. [`Self::last_hidden_state`] and [`Self::embed`] are
    /// cheaper where they suffice.
    ///
    /// # Errors
    /// When an id is outside the vocabulary, or the texts are longer than the model reads.
    pub fn forward(&self, tokens: &TokenIds) -> Result<ClipTextOutput, EncoderError> {
        let positions = self.pooled_positions(tokens);
        let embeddings = self.embeddings(tokens, tokens.length())?;
        let (hidden_states, last) = self.transformer.hidden_states(embeddings);
        let normed = last.map(|x| self.final_layer_norm.forward(x));
        let pooled = normed.pick(&positions);
        Ok(ClipTextOutput {
            hidden_states,
            last_hidden_state: normed.unfold(),
            text_embeds: self.text_projection.as_ref().map(|p| p.forward(pooled.clone())),
            pooled,
        })
    }

    /// The tokens after the final norm, `[B, L, D]`: what Stable Diffusion is conditioned on.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn last_hidden_state(&self, tokens: &TokenIds) -> Result<Tensor<3>, EncoderError> {
        let x = self.transformer.forward(self.embeddings(tokens, tokens.length())?);
        Ok(x.map(|x| self.final_layer_norm.forward(x)).unfold())
    }

    /// The texts in the shared space, `[B, projection_dim]`, not normalised. What stands behind
    /// the pooled token cannot reach it and is not computed.
    ///
    /// # Errors
    /// As [`Self::forward`], and when the model has no projection.
    pub fn embed(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError> {
        let projection = self.text_projection.as_ref().ok_or(EncoderError::NoTextProjection)?;
        let positions = self.pooled_positions(tokens);
        let length = positions.iter().max().map_or(1, |last| last + 1);
        let pooled = self.transformer.forward_to(self.embeddings(tokens, length)?, &positions);
        Ok(projection.forward(self.final_layer_norm.forward(pooled)))
    }

    /// Applies the final norm to a hidden state `[B, L, D]`. "Clip skip" k conditions on
    /// `final_layer_norm(hidden_states[len - 1 - k])`.
    pub fn final_layer_norm(&self, hidden_state: Tensor<3>) -> Tensor<3> {
        self.final_layer_norm.forward(hidden_state)
    }

    /// Token plus position embeddings of the first `length` tokens of each text.
    fn embeddings(&self, tokens: &TokenIds, length: usize) -> Result<Stream, EncoderError> {
        let (limit, vocab_size) = (self.config.max_position_embeddings, self.config.vocab_size);
        if tokens.length() > limit || tokens.batch() == 0 {
            return Err(EncoderError::TextLength { found: tokens.length(), limit });
        }
        let mut ids = Vec::with_capacity(tokens.batch() * length);
        for (text, row) in tokens.rows().enumerate() {
            // The GPU does not check indices.
            if let Some(position) = row.iter().position(|&id| id as usize >= vocab_size) {
                let id = row[position];
                return Err(EncoderError::TokenOutOfVocabulary { text, position, id, vocab_size });
            }
            ids.extend(row[..length].iter().map(|&id| id as i32));
        }
        let ids = TensorData::new(ids, [tokens.batch(), length]);
        let ids = Tensor::<2, Int>::from_data(ids, &self.device);
        let positions = self.position_embedding.clone().narrow(0, 0, length).unsqueeze();
        let embedded = self.token_embedding.forward(ids) + positions;
        Ok(Stream::fold(embedded))
    }

    fn pooled_positions(&self, tokens: &TokenIds) -> Vec<usize> {
        tokens.rows().map(|row| pooled_position(row, self.config.eos_token_id)).collect()
    }
}

fn pooled_position(ids: &[u32], eos: u32) -> usize {
    let target = if eos == LEGACY_EOS { ids.iter().max().copied() } else { Some(eos) };
    ids.iter().position(|&id| Some(id) == target).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pooled_token_is_the_first_end_or_by_the_old_rule_the_largest_id() {
        assert_eq!(pooled_position(&[7, 1, 9, 5, 9], 9), 2);
        assert_eq!(pooled_position(&[7, 1, 9, 5, 9], 6), 0);
        assert_eq!(pooled_position(&[7, 1, 8, 2, 9, 9], 2), 4);
        assert_eq!(pooled_position(&[7, 1, 8, 3, 9, 9], 3), 3);
    }
}
