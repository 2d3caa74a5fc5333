//! Both towers of one model folder.

use std::path::Path;

use burn::tensor::{Device, Tensor};

use super::super::dual_encoder::{PooledBatch, Towers};
use super::super::tokenizer::TokenIds;
use super::super::weights::logits;
use super::super::{EncoderError, Logits, Modality};
use super::{SiglipConfig, SiglipTextModel, SiglipVisionModel};

/// `SiglipModel`: two towers, the temperature and the bias between them.
#[derive(Debug)]
pub struct SiglipModel {
    pub text: SiglipTextModel,
    pub vision: SiglipVisionModel,
    /// What turns cosines into logits.
    pub logits: Logits,
}

impl SiglipModel {
    /// Loads `config.json` and the weights of a folder that holds a `SiglipModel`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let SiglipConfig { text, vision } = SiglipConfig::load(folder)?;
        Ok(Self {
            text: SiglipTextModel::load(folder, text, device)?,
            vision: SiglipVisionModel::load(folder, vision, device)?,
            logits: logits(folder)?,
        })
    }
}

impl Towers for SiglipModel {
    fn embed_texts(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError> {
        Ok(self.pool_texts(tokens)?.embeddings)
    }

    fn embed_images(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, EncoderError> {
        Ok(self.pool_images(pixel_values)?.embeddings)
    }

    fn pool_texts(&self, tokens: &TokenIds) -> Result<PooledBatch, EncoderError> {
        let features = self.text.pool(tokens)?;
        Ok(PooledBatch { embeddings: self.text.project(features.clone()), features })
    }

    fn pool_images(&self, pixel_values: Tensor<4>) -> Result<PooledBatch, EncoderError> {
        let last_hidden_state = self.vision.last_hidden_state(pixel_values)?;
        let (features, embeddings) = self.vision.pool(last_hidden_state);
        Ok(PooledBatch { features, embeddings })
    }

    /// The text head has a bias and the image head a residual: not the weights alone.
    fn projection(&self, _modality: Modality) -> Option<Tensor<2>> {
        None
    }

    fn logits(&self) -> Logits {
        self.logits
    }
}
