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
use super::ClipTextConfig;
use crate::model::weights::Weights;

/// What a whole `CLIPModel` has beside this tower.
const OTHERS: [&str; 3] = ["vision_model.", "visual_projection.", "logit_scale"];
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
        let weights = tower(weights, "text_model.", &OTHERS);
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
    /// When there are no texts, an id is outside the vocabulary, or the texts are longer than the
    /// model reads.
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
        self.project(self.pool(tokens)?)
    }

    /// The pooled tokens after the final norm, `[B, D]`: what [`Self::project`] takes.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn pool(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError> {
        let positions = self.pooled_positions(tokens);
        let length = positions.iter().max().map_or(1, |last| last + 1);
        let pooled = self.transformer.forward_to(self.embeddings(tokens, length)?, &positions);
        Ok(self.final_layer_norm.forward(pooled))
    }

    /// Projects pooled features `[B, D]` into the shared space, `[B, projection_dim]`.
    ///
    /// # Errors
    /// When the model has no projection.
    pub fn project(&self, pooled: Tensor<2>) -> Result<Tensor<2>, EncoderError> {
        let projection = self.text_projection.as_ref().ok_or(EncoderError::NoTextProjection)?;
        Ok(projection.forward(pooled))
    }

    /// The weights of [`Self::project`], `[D, projection_dim]`; `None` when there are none.
    pub fn projection(&self) -> Option<Tensor<2>> {
        self.text_projection.as_ref().map(|projection| projection.weight.val())
    }

    /// Applies the final norm to a hidden state `[B, L, D]`. "Clip skip" k conditions on
    /// `final_layer_norm(hidden_states[len - 1 - k])`.
    pub fn final_layer_norm(&self, hidden_state: Tensor<3>) -> Tensor<3> {
        self.final_layer_norm.forward(hidden_state)
    }

    /// Token plus position embeddings of the first `length` tokens of each text.
    fn embeddings(&self, tokens: &TokenIds, length: usize) -> Result<Stream, EncoderError> {
        let limit = self.config.max_position_embeddings;
        let ids = token_ids(tokens, length, limit, self.config.vocab_size, &self.device)?;
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
    use crate::model::device::ComputeDevice;
    use safetensors::SafeTensors;
    use safetensors::tensor::{Dtype, TensorView};
    use serde_json::Value;

    const FIXTURE: &str =
        concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/clip/text_proj_gelu_eos_modern");

    /// A copy of the fixture's model with changed config and weights.
    struct Copy(tempfile::TempDir);

    impl Copy {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["config.json", "model.safetensors"] {
                std::fs::copy(Path::new(FIXTURE).join(name), folder.path().join(name)).unwrap();
            }
            Self(folder)
        }

        fn config(self, key: &str, value: Value) -> Self {
            let path = self.0.path().join("config.json");
            let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            config[key] = value;
            std::fs::write(path, config.to_string()).unwrap();
            self
        }

        /// Rewrites every tensor: its name, and its values as half precision if `half`.
        fn weights(self, half: bool, name: impl Fn(&str) -> String) -> Self {
            let path = self.0.path().join("model.safetensors");
            let bytes = std::fs::read(&path).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
                .iter()
                .map(|(old, view)| {
                    let values = view.data().as_chunks::<4>().0.iter().flat_map(|&v| {
                        let value = f32::from_le_bytes(v);
                        let narrow = half::f16::from_f32(value).to_le_bytes();
                        if half { narrow.to_vec() } else { v.to_vec() }
                    });
                    (name(old), view.shape().to_vec(), values.collect())
                })
                .collect();
            let dtype = if half { Dtype::F16 } else { Dtype::F32 };
            let views = tensors.iter().map(|(name, shape, data)| {
                (name.as_str(), TensorView::new(dtype, shape.clone(), data).unwrap())
            });
            std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
            self
        }

        fn load(&self) -> Result<ClipTextModel, EncoderError> {
            ClipTextModel::load(self.0.path(), &ComputeDevice::cpu().device)
        }
    }

    fn embed(model: &ClipTextModel) -> Vec<f32> {
        let eos = model.config().eos_token_id;
        let tokens = TokenIds::from_ids(vec![5, 17, 256, eos, eos, 9, 3, 3, 40, eos], 5);
        model.embed(&tokens).unwrap().into_data().iter().collect()
    }

    #[test]
    fn names_without_the_prefix_of_the_tower_load_the_same_model() {
        let with = embed(&Copy::new().load().unwrap());
        let bare = |name: &str| name.trim_start_matches("text_model.").to_owned();
        let without = embed(&Copy::new().weights(false, bare).load().unwrap());
        assert_eq!(with, without);
    }

    #[test]
    fn half_precision_weights_are_computed_with_in_full_precision() {
        let full = embed(&Copy::new().load().unwrap());
        let half = embed(&Copy::new().weights(true, str::to_owned).load().unwrap());
        assert_ne!(full, half);
        assert!(full.iter().zip(&half).all(|(a, b)| (a - b).abs() < 0.02), "{full:?} {half:?}");
    }

    #[test]
    fn a_config_that_the_weights_do_not_fit_is_an_error_and_nothing_is_allocated() {
        for (key, value) in [
            ("hidden_size", 1_u64 << 16),
            ("hidden_size", 1_000_000_000_000),
            ("intermediate_size", 1 << 18),
            ("num_hidden_layers", 1),
            ("num_hidden_layers", 1024),
            ("vocab_size", 1 << 24),
            ("max_position_embeddings", 78),
        ] {
            let error = Copy::new().config(key, value.into()).load().unwrap_err().to_string();
            assert!(error.contains("config.json") || error.contains("safetensors"), "{error}");
        }
    }

    #[test]
    fn a_tensor_of_unknown_name_is_refused() {
        let odd = |name: &str| name.replace("layers.1.mlp.fc1.bias", "layers.1.mlp.fc3.bias");
        let error = Copy::new().weights(false, odd).load().unwrap_err().to_string();
        assert!(error.contains("layers.1.fc1.bias"), "{error}");
    }

    #[test]
    fn tokens_outside_the_vocabulary_and_long_texts_are_errors() {
        let model = Copy::new().load().unwrap();
        let (vocab, limit) =
            (model.config().vocab_size as u32, model.config().max_position_embeddings);
        let error = model.embed(&TokenIds::from_ids(vec![0, 1, 2, vocab], 2)).unwrap_err();
        let expected =
            matches!(error, EncoderError::TokenOutOfVocabulary { text: 1, position: 1, .. });
        assert!(expected, "{error}");
        let error = model.embed(&TokenIds::from_ids(vec![1; limit + 1], limit + 1)).unwrap_err();
        assert!(matches!(error, EncoderError::TextLength { .. }), "{error}");
    }

    #[test]
    fn the_short_way_to_the_embedding_equals_the_long_one() {
        let model = Copy::new().load().unwrap();
        let eos = model.config().eos_token_id;
        // The pooled tokens stand at different positions; one text has none at all.
        let ids = vec![4, 8, 15, eos, 1, 1, 7, eos, 2, 2, 2, 2, 9, 9, 9, 9, 9, 9];
        let tokens = TokenIds::from_ids(ids, 6);
        let long = model.forward(&tokens).unwrap().text_embeds.unwrap();
        let difference = (long - model.embed(&tokens).unwrap()).abs().max();
        assert!(difference.into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn the_pooled_token_is_the_first_end_or_by_the_old_rule_the_largest_id() {
        assert_eq!(pooled_position(&[7, 1, 9, 5, 9], 9), 2);
        assert_eq!(pooled_position(&[7, 1, 9, 5, 9], 6), 0);
        assert_eq!(pooled_position(&[7, 1, 8, 2, 9, 9], 2), 4);
        assert_eq!(pooled_position(&[7, 1, 8, 3, 9, 9], 3), 3);
    }
}
