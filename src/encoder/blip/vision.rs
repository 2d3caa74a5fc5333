//! The vision tower.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Initializer, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::super::EncoderError;
use super::super::patches::{PatchEmbedding, flatten_kernel};
use super::super::transformer::{FusedLayer, Stream, Transformer, layer_norm};
use super::super::weights::shorten;
use super::BlipConfig;
use super::model::open;

/// `BlipVisionModel` with `vision_proj`: a vision transformer whose class token, normed and
/// projected, is the image embedding.
#[derive(Debug)]
pub struct BlipVisionModel {
    patch_embedding: PatchEmbedding,
    /// The class embedding with its position embedding, `[1, 1, D]`.
    class_token: Tensor<3>,
    /// `[1, N, D]`
    patch_positions: Tensor<3>,
    transformer: Transformer,
    post_layer_norm: LayerNorm,
    vision_proj: Linear,
}

/// The tower as weight files store it.
#[derive(Module, Debug)]
struct Stored {
    class_embedding: Param<Tensor<3>>,
    patch_embedding: Linear,
    position_embedding: Param<Tensor<3>>,
    layers: Vec<FusedLayer>,
    post_layernorm: LayerNorm,
    vision_proj: Linear,
}

impl BlipVisionModel {
    /// Loads the weights of a folder that holds a `BlipForImageTextRetrieval`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(folder: &Path, config: &BlipConfig, device: &Device) -> Result<Self, EncoderError> {
        let weights = open(folder, config)?
            .rename(|name| match name.strip_prefix("vision_model.") {
                Some(own) => Some(shorten(own).replace(".projection.", ".out_proj.")),
                None if name.starts_with("vision_proj.") => Some(name.to_owned()),
                None => None,
            })
            .reshape(flatten_kernel);
        let vision = &config.vision;
        let width = vision.transformer.hidden_size;
        let patches = vision.patches.count();
        let stored = weights.load_into(Stored {
            class_embedding: Initializer::Zeros.init([1, 1, width], device),
            patch_embedding: PatchEmbedding::init(&vision.patches, width, true, device),
            position_embedding: Initializer::Zeros.init([1, patches + 1, width], device),
            layers: FusedLayer::init_all(&vision.transformer, device),
            post_layernorm: layer_norm(&vision.transformer, device),
            vision_proj: LinearConfig::new(width, config.image_text_hidden_size).init(device),
        })?;
        let positions = stored.position_embedding.val();
        Ok(Self {
            patch_embedding: PatchEmbedding::new(stored.patch_embedding, vision.patches),
            class_token: stored.class_embedding.val() + positions.clone().narrow(1, 0, 1),
            patch_positions: positions.narrow(1, 1, patches),
            transformer: Transformer::fused(stored.layers, &vision.transformer),
            post_layer_norm: stored.post_layernorm,
            vision_proj: stored.vision_proj,
        })
    }

    /// All tokens after the final norm, `[B, 1 + N, D]`, class token first.
    ///
    /// # Errors
    /// When there are no images, or they have another shape than the config says.
    pub fn last_hidden_state(&self, pixel_values: Tensor<4>) -> Result<Tensor<3>, EncoderError> {
        let x = self.transformer.forward(self.embeddings(pixel_values)?);
        Ok(x.map(|x| self.post_layer_norm.forward(x)).unfold())
    }

    /// The class tokens after the final norm, `[B, D]`: what [`Self::project`] takes.
    ///
    /// # Errors
    /// As [`Self::last_hidden_state`].
    pub fn pool(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, EncoderError> {
        let embeddings = self.embeddings(pixel_values)?;
        let class_tokens = vec![0; embeddings.batch];
        let pooled = self.transformer.forward_to(embeddings, &class_tokens);
        Ok(self.post_layer_norm.forward(pooled))
    }

    /// Projects pooled features `[B, D]` into the shared space, not yet of unit length.
    pub fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.vision_proj.forward(pooled)
    }

    fn embeddings(&self, pixel_values: Tensor<4>) -> Result<Stream, EncoderError> {
        let patches = self.patch_embedding.forward(pixel_values)?;
        let [batch, _, width] = patches.dims();
        let class = self.class_token.clone().expand([batch, 1, width]);
        let patches = patches + self.patch_positions.clone();
        Ok(Stream::fold(Tensor::cat(vec![class, patches], 1)))
    }
}
