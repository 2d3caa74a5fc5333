//! The vision tower.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Initializer, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::super::EncoderError;
use super::super::dual_encoder::unit;
use super::super::patches::{PatchEmbedding, flatten_kernel};
use super::super::transformer::{FusedLayer, Stream, Transformer, layer_norm};
use super::super::weights::open;
use super::model::{block_name, is_known};
use super::{ProLipConfig, ProLipOutput};

/// A transformer over the class token, `[UNC]` and the patches, in this order.
#[derive(Debug)]
pub struct VisionTower {
    patch_embedding: PatchEmbedding,
    /// Class token and `[UNC]` with their position embeddings, `[1, 2, W]`.
    extra_tokens: Tensor<3>,
    /// `[1, N, W]`
    patch_positions: Tensor<3>,
    ln_pre: LayerNorm,
    transformer: Transformer,
    ln_post: LayerNorm,
    /// `[W, D]`
    proj: Tensor<2>,
    uncertainty_proj: Linear,
}

/// The tower as weight files store it.
#[derive(Module, Debug)]
struct Stored {
    patch_embedding: Linear,
    class_embedding: Param<Tensor<1>>,
    unc_embedding: Param<Tensor<1>>,
    positional_embedding: Param<Tensor<2>>,
    ln_pre: LayerNorm,
    layers: Vec<FusedLayer>,
    ln_post: LayerNorm,
    proj: Param<Tensor<2>>,
    uncertainty_proj: Linear,
}

impl VisionTower {
    /// Loads the weights of the tower.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(
        folder: &Path,
        config: &ProLipConfig,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let weights = open(folder)?
            .rename(|name| match name.strip_prefix("visual.") {
                Some("conv1.weight") => Some("patch_embedding.weight".to_owned()),
                Some(own) => Some(block_name(own)),
                None => (!is_known(name)).then(|| name.to_owned()),
            })
            .reshape(flatten_kernel);
        let vision = &config.vision;
        let (width, patches) = (vision.transformer.hidden_size, vision.patches.count());
        let stored = weights.load_into(Stored {
            patch_embedding: PatchEmbedding::init(&vision.patches, width, false, device),
            class_embedding: Initializer::Zeros.init([width], device),
            unc_embedding: Initializer::Zeros.init([width], device),
            positional_embedding: Initializer::Zeros.init([patches + 2, width], device),
            ln_pre: layer_norm(&vision.transformer, device),
            layers: FusedLayer::init_all(&vision.transformer, device),
            ln_post: layer_norm(&vision.transformer, device),
            proj: Initializer::Zeros.init([width, config.embed_dim], device),
            uncertainty_proj: LinearConfig::new(width, config.embed_dim).init(device),
        })?;
        let positions = stored.positional_embedding.val();
        let extra = vec![stored.class_embedding.val(), stored.unc_embedding.val()];
        let extra = Tensor::stack::<2>(extra, 0) + positions.clone().narrow(0, 0, 2);
        Ok(Self {
            patch_embedding: PatchEmbedding::new(stored.patch_embedding, vision.patches),
            extra_tokens: extra.unsqueeze(),
            patch_positions: positions.narrow(0, 2, patches).unsqueeze(),
            ln_pre: stored.ln_pre,
            transformer: Transformer::fused(stored.layers, &vision.transformer),
            ln_post: stored.ln_post,
            proj: stored.proj.val(),
            uncertainty_proj: stored.uncertainty_proj,
        })
    }

    /// Gaussians of pixel values `[B, 3, S, S]`.
    ///
    /// # Errors
    /// When there are no images, or they have another shape than the config says.
    pub fn forward(&self, pixel_values: Tensor<4>) -> Result<ProLipOutput, EncoderError> {
        let patches = self.patch_embedding.forward(pixel_values)?;
        let [batch, _, width] = patches.dims();
        let extra = self.extra_tokens.clone().expand([batch, 2, width]);
        let tokens = Tensor::cat(vec![extra, patches + self.patch_positions.clone()], 1);
        let x = Stream::fold(tokens).map(|x| self.ln_pre.forward(x));
        let x = self.transformer.forward(x);
        let class = self.ln_post.forward(x.pick(&vec![0; batch]));
        let uncertainty = self.ln_post.forward(x.pick(&vec![1; batch]));
        // The authors' code norms the class token twice, and so were the weights trained.
        let features = self.ln_post.forward(class);
        Ok(ProLipOutput {
            mean: unit(features.clone().matmul(self.proj.clone())),
            features,
            log_variance: self.uncertainty_proj.forward(uncertainty),
        })
    }
}
