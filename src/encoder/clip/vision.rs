//! The vision tower.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::super::EncoderError;
use super::super::patches::{PatchEmbedding, flatten_kernel};
use super::super::transformer::{AttentionRange, StoredLayer, Stream, Transformer, layer_norm};
use super::super::weights::{open, tower};
use super::ClipVisionConfig;
use crate::model::weights::Weights;

/// What a whole `CLIPModel` has beside this tower.
const OTHERS: [&str; 3] = ["text_model.", "text_projection.", "logit_scale"];

/// `CLIPVisionModelWithProjection`: a vision transformer whose class token, normed and projected,
/// is the image embedding.
#[derive(Debug)]
pub struct ClipVisionModel {
    config: ClipVisionConfig,
    patch_embedding: PatchEmbedding,
    /// The class embedding with its position embedding, `[1, 1, D]`.
    class_token: Tensor<3>,
    /// Position embeddings of the patches, `[1, N, D]`.
    patch_positions: Tensor<3>,
    pre_layer_norm: LayerNorm,
    transformer: Transformer,
    post_layer_norm: LayerNorm,
    visual_projection: Linear,
}

/// Everything the vision tower computes, as `CLIPVisionModelOutput` of transformers.
#[derive(Debug)]
pub struct ClipVisionOutput {
    /// After the first norm, then after each layer; `[B, 1 + N, D]` each, class token first.
    pub hidden_states: Vec<Tensor<3>>,
    /// After the last layer, before the final norm, `[B, 1 + N, D]`.
    pub last_hidden_state: Tensor<3>,
    /// The class token after the final norm, `[B, D]`.
    pub pooled: Tensor<2>,
    /// Projected into the shared space, `[B, projection_dim]`, not normalised.
    pub image_embeds: Tensor<2>,
}

/// The tower as weight files store it (misspelling included).
#[derive(Module, Debug)]
struct Stored {
    class_embedding: Param<Tensor<1>>,
    patch_embedding: Linear,
    position_embedding: Embedding,
    pre_layrnorm: LayerNorm,
    layers: Vec<StoredLayer>,
    post_layernorm: LayerNorm,
    visual_projection: Linear,
}

/// Some small weights of a vision tower, as one vector: enough to tell two towers of one shape apart
/// without loading them.
///
/// # Errors
/// When the folder has no weights, or they are no vision tower's.
pub fn vision_weights(folder: &Path, device: &Device) -> Result<Vec<f32>, EncoderError> {
    let weights = tower(open(folder)?, "vision_model.", &OTHERS);
    let mut values = Vec::new();
    for name in
        ["class_embedding", "pre_layrnorm.weight", "post_layernorm.weight", "post_layernorm.bias"]
    {
        values.extend(read(weights.tensor::<1>(name, device)?)?);
    }
    values.extend(read(weights.tensor::<2>("visual_projection.weight", device)?)?);
    Ok(values)
}

fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, EncoderError> {
    let data = tensor
        .try_into_data()
        .map_err(|error| EncoderError::Device { count: 1, reason: error.to_string() })?;
    Ok(data.iter::<f32>().collect())
}

impl ClipVisionModel {
    /// Loads `config.json` and the weights of a folder that holds a
    /// `CLIPVisionModelWithProjection` or a whole `CLIPModel`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let config = ClipVisionConfig::load(folder)?;
        Self::from_weights(open(folder)?, config, device)
    }

    fn from_weights(
        weights: Weights,
        config: ClipVisionConfig,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let weights = tower(weights, "vision_model.", &OTHERS).reshape(flatten_kernel);
        let width = config.transformer.hidden_size;
        let patches = config.patches.count();
        let linear = |from, to| LinearConfig::new(from, to).with_bias(false).init(device);
        let stored = weights.load_into(Stored {
            class_embedding: Initializer::Zeros.init([width], device),
            patch_embedding: PatchEmbedding::init(&config.patches, width, false, device),
            position_embedding: EmbeddingConfig::new(patches + 1, width).init(device),
            pre_layrnorm: layer_norm(&config.transformer, device),
            layers: StoredLayer::init_all(&config.transformer, device),
            post_layernorm: layer_norm(&config.transformer, device),
            visual_projection: linear(width, config.projection_dim),
        })?;
        let positions = stored.position_embedding.weight.val();
        let class = stored.class_embedding.val().unsqueeze::<2>();
        Ok(Self {
            patch_embedding: PatchEmbedding::new(stored.patch_embedding, config.patches),
            class_token: (class + positions.clone().narrow(0, 0, 1)).unsqueeze(),
            patch_positions: positions.narrow(0, 1, patches).unsqueeze(),
            pre_layer_norm: stored.pre_layrnorm,
            transformer: Transformer::new(stored.layers, &config.transformer, AttentionRange::All),
            post_layer_norm: stored.post_layernorm,
            visual_projection: stored.visual_projection,
            config,
        })
    }

    /// What the tower was built from.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// Runs the tower on pixel values `[B, 3, S, S]` and keeps everything. [`Self::embed`] is
    /// cheaper where it suffices.
    ///
    /// # Errors
    /// When there are no images, or they have another shape than the config says.
    pub fn forward(&self, pixel_values: Tensor<4>) -> Result<ClipVisionOutput, EncoderError> {
        let embeddings = self.embeddings(pixel_values)?;
        let (hidden_states, last) = self.transformer.hidden_states(embeddings);
        let pooled = self.post_layer_norm.forward(last.pick(&vec![0; last.batch]));
        Ok(ClipVisionOutput {
            hidden_states,
            last_hidden_state: last.unfold(),
            image_embeds: self.visual_projection.forward(pooled.clone()),
            pooled,
        })
    }

    /// The images in the shared space, `[B, projection_dim]`, not normalised.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn embed(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, EncoderError> {
        Ok(self.project(self.pool(pixel_values)?))
    }

    /// The class tokens after the final norm, `[B, D]`: what [`Self::project`] takes.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn pool(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, EncoderError> {
        let embeddings = self.embeddings(pixel_values)?;
        let class_tokens = vec![0; embeddings.batch];
        let pooled = self.transformer.forward_to(embeddings, &class_tokens);
        Ok(self.post_layer_norm.forward(pooled))
    }

    /// Projects pooled features `[B, D]` into the shared space, `[B, projection_dim]`.
    pub fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.visual_projection.forward(pooled)
    }

    /// The weights of [`Self::project`], `[D, projection_dim]`.
    pub fn projection(&self) -> Tensor<2> {
        self.visual_projection.weight.val()
    }

    fn embeddings(&self, pixel_values: Tensor<4>) -> Result<Stream, EncoderError> {
        let patches = self.patch_embedding.forward(pixel_values)?;
        let [batch, _, width] = patches.dims();
        let class = self.class_token.clone().expand([batch, 1, width]);
        let tokens = Tensor::cat(vec![class, patches + self.patch_positions.clone()], 1);
        Ok(Stream::fold(tokens).map(|x| self.pre_layer_norm.forward(x)))
    }
}
