//! Both towers of one model folder.

use std::path::Path;

use burn::tensor::{Device, Tensor};

use super::super::dual_encoder::{PooledBatch, Towers};
use super::super::tokenizer::TokenIds;
use super::super::weights::logits;
use super::super::{EncoderError, Logits, Modality};
use super::ProLipConfig;
use super::text::TextTower;
use super::vision::VisionTower;

/// `ProLIPHF`: two towers, the temperature and the bias between them.
#[derive(Debug)]
pub struct ProLipModel {
    text: TextTower,
    vision: VisionTower,
    logits: Logits,
}

/// Gaussians of a batch.
#[derive(Debug)]
pub struct ProLipOutput {
    /// What the mean was projected from, `[B, P]`.
    pub features: Tensor<2>,
    /// Means `[B, D]`, scaled to unit length.
    pub mean: Tensor<2>,
    /// Logarithms of the variances, `[B, D]` (called "std" in the authors' code).
    pub log_variance: Tensor<2>,
}

impl ProLipModel {
    /// Loads `config.json` and the weights of a folder that holds a `ProLIPHF`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let config = ProLipConfig::load(folder)?;
        Ok(Self {
            text: TextTower::load(folder, &config, device)?,
            vision: VisionTower::load(folder, &config, device)?,
            logits: logits(folder)?,
        })
    }

    /// Gaussians of texts that are padded to the context length.
    ///
    /// # Errors
    /// When there are no texts, an id is outside the vocabulary, or the texts are longer than the
    /// model reads.
    pub fn texts(&self, tokens: &TokenIds) -> Result<ProLipOutput, EncoderError> {
        self.text.forward(tokens)
    }

    /// Gaussians of images, pixel values `[B, 3, S, S]`.
    ///
    /// # Errors
    /// When there are no images, or they have another shape than the config says.
    pub fn images(&self, pixel_values: Tensor<4>) -> Result<ProLipOutput, EncoderError> {
        self.vision.forward(pixel_values)
    }
}

impl Towers for ProLipModel {
    fn embed_texts(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError> {
        Ok(self.texts(tokens)?.mean)
    }

    fn embed_images(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, EncoderError> {
        Ok(self.images(pixel_values)?.mean)
    }

    fn pool_texts(&self, tokens: &TokenIds) -> Result<PooledBatch, EncoderError> {
        let ProLipOutput { features, mean, .. } = self.texts(tokens)?;
        Ok(PooledBatch { features, embeddings: mean })
    }

    fn pool_images(&self, pixel_values: Tensor<4>) -> Result<PooledBatch, EncoderError> {
        let ProLipOutput { features, mean, .. } = self.images(pixel_values)?;
        Ok(PooledBatch { features, embeddings: mean })
    }

    /// The embeddings are scaled to unit length: not the weights alone.
    fn projection(&self, _modality: Modality) -> Option<Tensor<2>> {
        None
    }

    fn logits(&self) -> Logits {
        self.logits
    }

    fn predict_texts(&self, tokens: &TokenIds) -> Option<Result<[Tensor<2>; 2], EncoderError>> {
        Some(self.texts(tokens).map(|output| [output.mean, output.log_variance]))
    }

    fn predict_images(
        &self,
        pixel_values: Tensor<4>,
    ) -> Option<Result<[Tensor<2>; 2], EncoderError>> {
        Some(self.images(pixel_values).map(|output| [output.mean, output.log_variance]))
    }
}

/// The names of open_clip's residual blocks as [`super::super::transformer::FusedLayer`] has them.
pub fn block_name(name: &str) -> String {
    name.replace("transformer.resblocks.", "layers.")
        .replace(".ln_1.", ".layer_norm1.")
        .replace(".ln_2.", ".layer_norm2.")
        .replace(".attn.in_proj_", ".qkv.")
        .replace(".attn.out_proj.", ".out_proj.")
        .replace(".mlp.c_fc.", ".fc1.")
        .replace(".mlp.c_proj.", ".fc2.")
}

/// True for what belongs to one of the towers, or is a learnt number beside them.
pub fn is_known(name: &str) -> bool {
    name.starts_with("text.") || name.starts_with("visual.") || name.starts_with("logit_")
}
