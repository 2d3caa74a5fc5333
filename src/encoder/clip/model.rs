//! Both towers of one model folder.

use std::path::Path;

use burn::tensor::Device;

use super::super::EncoderError;
use super::weights::{LOGIT_SCALE, open};
use super::{ClipTextModel, ClipVisionModel};

/// `CLIPModel`: two towers and the temperature between them.
#[derive(Debug)]
pub struct ClipModel {
    pub text: ClipTextModel,
    pub vision: ClipVisionModel,
    /// Factor that turns cosines into logits: exp of the learnt parameter of that name.
    pub logit_scale: f32,
}

impl ClipModel {
    /// Loads `config.json` and the weights of a folder that holds a `CLIPModel`.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let weights = open(folder)?
            .reshape(|name, shape| (name == LOGIT_SCALE && shape.is_empty()).then(|| vec![1]));
        let logit_scale = weights.tensor::<1>(LOGIT_SCALE, device)?;
        let logit_scale = logit_scale
            .try_into_data()
            .map_err(|error| EncoderError::Device { count: 1, reason: error.to_string() })?;
        Ok(Self {
            text: ClipTextModel::load(folder, device)?,
            vision: ClipVisionModel::load(folder, device)?,
            logit_scale: logit_scale.iter::<f32>().next().unwrap_or(0.0).exp(),
        })
    }
}
