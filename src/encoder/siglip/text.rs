//! The text tower.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::super::EncoderError;
use super::super::tokenizer::TokenIds;
use super::super::tokens::token_ids;
use super::super::transformer::{AttentionRange, StoredLayer, Stream, Transformer, layer_norm};
use super::super::weights::{open, tower};
use super::SiglipTextConfig;

/// What a whole `SiglipModel` has beside this tower.
const OTHERS: [&str; 3] = ["vision_model.", "logit_scale", "logit_bias"];

/// `SiglipTextModel`: every token sees every other, padding too; the last position, which is
/// padding in most texts, is the pooled one.
#[derive(Debug)]
pub struct SiglipTextModel {
    config: SiglipTextConfig,
    /// `[vocab_size, D]`
    token_embedding: Embedding,
    /// `[max_position_embeddings, D]`
    position_embedding: Tensor<2>,
    transformer: Transformer,
    final_layer_norm: LayerNorm,
    head: Linear,
    device: Device,
}

/// The tower as weight files store it.
#[derive(Module, Debug)]
struct Stored {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<StoredLayer>,
    final_layer_norm: LayerNorm,
    head: Linear,
}

impl SiglipTextModel {
    /// Loads the weights of a folder that holds a `SiglipModel`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(
        folder: &Path,
        config: SiglipTextConfig,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let weights = tower(open(folder)?, "text_model.", &OTHERS);
        let width = config.transformer.hidden_size;
        let positions = config.max_position_embeddings;
        let stored = weights.load_into(Stored {
            token_embedding: EmbeddingConfig::new(config.vocab_size, width).init(device),
            position_embedding: EmbeddingConfig::new(positions, width).init(device),
            layers: StoredLayer::init_all(&config.transformer, device),
            final_layer_norm: layer_norm(&config.transformer, device),
            head: LinearConfig::new(width, config.projection_size).init(device),
        })?;
        Ok(Self {
            token_embedding: stored.token_embedding,
            position_embedding: stored.position_embedding.weight.val(),
            transformer: Transformer::new(stored.layers, &config.transformer, AttentionRange::All),
            final_layer_norm: stored.final_layer_norm,
            head: stored.head,
            device: device.clone(),
            config,
        })
    }

    /// All tokens after the final norm, `[B, L, D]`.
    ///
    /// # Errors
    /// When there are no texts, an id is outside the vocabulary, or the texts are longer than the
    /// model reads.
    pub fn last_hidden_state(&self, tokens: &TokenIds) -> Result<Tensor<3>, EncoderError> {
        let x = self.transformer.forward(self.embeddings(tokens)?);
        Ok(x.map(|x| self.final_layer_norm.forward(x)).unfold())
    }

    /// The last position of each text after the final norm, `[B, D]`: what [`Self::project`] takes.
    /// Texts must be padded to the length that the model was trained with.
    ///
    /// # Errors
    /// As [`Self::last_hidden_state`].
    pub fn pool(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError> {
        let last = vec![tokens.length() - 1; tokens.batch()];
        let pooled = self.transformer.forward_to(self.embeddings(tokens)?, &last);
        Ok(self.final_layer_norm.forward(pooled))
    }

    /// Projects pooled features `[B, D]` into the shared space, `[B, projection_size]`.
    pub fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.head.forward(pooled)
    }

    fn embeddings(&self, tokens: &TokenIds) -> Result<Stream, EncoderError> {
        let limit = self.config.max_position_embeddings;
        let length = tokens.length();
        let ids = token_ids(tokens, length, limit, self.config.vocab_size, &self.device)?;
        let positions = self.position_embedding.clone().narrow(0, 0, length).unsqueeze();
        Ok(Stream::fold(self.token_embedding.forward(ids) + positions))
    }
}
