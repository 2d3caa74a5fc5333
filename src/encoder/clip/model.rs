//! Both towers of one model folder.

use std::path::Path;

use burn::tensor::{Device, Tensor};

use super::super::dual_encoder::{PooledBatch, Towers};
use super::super::tokenizer::TokenIds;
use super::super::weights::logits;
use super::super::{EncoderError, Logits, Modality};
use super::{ClipTextModel, ClipVisionModel};

/// `CLIPModel`: two towers and the temperature between them.
#[derive(Debug)]
pub struct ClipModel {
    pub text: ClipTextModel,
    pub vision: ClipVisionModel,
    /// What turns cosines into logits.
    pub logits: Logits,
}

impl ClipModel {
    /// Loads `config.json` and the weights of a folder that holds a `CLIPModel`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        Ok(Self {
            text: ClipTextModel::load(folder, device)?,
            vision: ClipVisionModel::load(folder, device)?,
            logits: logits(folder)?,
        })
    }
}

impl Towers for ClipModel {
    fn embed_texts(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError> {
        self.text.embed(tokens)
    }

    fn embed_images(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, EncoderError> {
        self.vision.embed(pixel_values)
    }

    fn pool_texts(&self, tokens: &TokenIds) -> Result<PooledBatch, EncoderError> {
        let features = self.text.pool(tokens)?;
        Ok(PooledBatch { embeddings: self.text.project(features.clone())?, features })
    }

    fn pool_images(&self, pixel_values: Tensor<4>) -> Result<PooledBatch, EncoderError> {
        let features = self.vision.pool(pixel_values)?;
        Ok(PooledBatch { embeddings: self.vision.project(features.clone()), features })
    }

    fn projection(&self, modality: Modality) -> Option<Tensor<2>> {
        match modality {
            Modality::Text => self.text.projection(),
            Modality::Image => Some(self.vision.projection()),
        }
    }

    fn logits(&self) -> Logits {
        self.logits
    }
}
