//! The vision tower.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::super::EncoderError;
use super::super::activation::Activation;
use super::super::attention::CrossAttention;
use super::super::patches::{PatchEmbedding, flatten_kernel};
use super::super::transformer::{AttentionRange, StoredLayer, Stream, Transformer, layer_norm};
use super::super::weights::{open, tower};
use super::SiglipVisionConfig;

/// What a whole `SiglipModel` has beside this tower.
const OTHERS: [&str; 3] = ["text_model.", "logit_scale", "logit_bias"];

/// `SiglipVisionModel`: a vision transformer without a class token; a head pools all tokens.
#[derive(Debug)]
pub struct SiglipVisionModel {
    patch_embedding: PatchEmbedding,
    /// `[1, N, D]`
    positions: Tensor<3>,
    transformer: Transformer,
    post_layer_norm: LayerNorm,
    head: PoolingHead,
}

/// `SiglipMultiheadAttentionPoolingHead`: one learnt query looks at all tokens, o; the embedding
/// is o + mlp(norm(o)).
#[derive(Debug)]
struct PoolingHead {
    /// The query, `[1, 1, D]`.
    probe: Tensor<3>,
    attention: CrossAttention,
    norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
}

/// The tower as weight files store it.
#[derive(Module, Debug)]
struct Stored {
    patch_embedding: Linear,
    position_embedding: Embedding,
    layers: Vec<StoredLayer>,
    post_layernorm: LayerNorm,
    head: StoredHead,
}

#[derive(Module, Debug)]
struct StoredHead {
    probe: Param<Tensor<3>>,
    qkv: Linear,
    out_proj: Linear,
    layernorm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
}

impl SiglipVisionModel {
    /// Loads the weights of a folder that holds a `SiglipModel`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(
        folder: &Path,
        config: SiglipVisionConfig,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let weights = tower(open(folder)?, "vision_model.", &OTHERS)
            .rename(|name| {
                Some(match name.strip_prefix("head.attention.") {
                    Some("in_proj_weight") => "head.qkv.weight".to_owned(),
                    Some("in_proj_bias") => "head.qkv.bias".to_owned(),
                    Some(own) => format!("head.{own}"),
                    None => name.to_owned(),
                })
            })
            .reshape(flatten_kernel);
        let transformer = &config.transformer;
        let (width, inner) = (transformer.hidden_size, transformer.intermediate_size);
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let stored = weights.load_into(Stored {
            patch_embedding: PatchEmbedding::init(&config.patches, width, true, device),
            position_embedding: EmbeddingConfig::new(config.patches.count(), width).init(device),
            layers: StoredLayer::init_all(transformer, device),
            post_layernorm: layer_norm(transformer, device),
            head: StoredHead {
                probe: Initializer::Zeros.init([1, 1, width], device),
                qkv: linear(width, 3 * width),
                out_proj: linear(width, width),
                layernorm: layer_norm(transformer, device),
                fc1: linear(width, inner),
                fc2: linear(inner, width),
            },
        })?;
        let StoredHead { probe, qkv, out_proj, layernorm, fc1, fc2 } = stored.head;
        Ok(Self {
            patch_embedding: PatchEmbedding::new(stored.patch_embedding, config.patches),
            positions: stored.position_embedding.weight.val().unsqueeze(),
            transformer: Transformer::new(stored.layers, transformer, AttentionRange::All),
            post_layer_norm: stored.post_layernorm,
            head: PoolingHead {
                probe: probe.val(),
                attention: CrossAttention::fused(qkv, out_proj, transformer.num_attention_heads),
                norm: layernorm,
                fc1,
                fc2,
                activation: transformer.hidden_act,
            },
        })
    }

    /// All tokens after the final norm, `[B, N, D]`, of pixel values `[B, 3, S, S]`.
    ///
    /// # Errors
    /// When there are no images, or they have another shape than the config says.
    pub fn last_hidden_state(&self, pixel_values: Tensor<4>) -> Result<Tensor<3>, EncoderError> {
        let embedded = self.patch_embedding.forward(pixel_values)? + self.positions.clone();
        let x = self.transformer.forward(Stream::fold(embedded));
        Ok(x.map(|x| self.post_layer_norm.forward(x)).unfold())
    }

    /// Pools the tokens of [`Self::last_hidden_state`]. Gives what the last layer of the head takes,
    /// `[B, intermediate_size]`, and the images in the shared space, `[B, D]`, not normalised.
    pub fn pool(&self, last_hidden_state: Tensor<3>) -> (Tensor<2>, Tensor<2>) {
        let [batch, _, width] = last_hidden_state.dims();
        let head = &self.head;
        let queries = head.probe.clone().expand([batch, 1, width]);
        let pooled = head.attention.forward(queries, last_hidden_state).reshape([batch, width]);
        let features = head.fc1.forward(head.norm.forward(pooled.clone()));
        let features = head.activation.forward(features);
        let embeddings = pooled + head.fc2.forward(features.clone());
        (features, embeddings)
    }
}
