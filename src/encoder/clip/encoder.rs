//! A whole CLIP folder: both towers, tokenizer and image processor.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use image::RgbImage;

use super::super::preprocess::ImagePreprocessor;
use super::super::tokenizer::ClipTokenizer;
use super::super::{Embedding, EncoderError, Modality};
use super::ClipModel;
use crate::model::config::{ConfigError, read_json};

/// Texts and images that go through a tower at once.
const BATCH: usize = 32;
/// How much of a text an error message quotes, in characters.
const QUOTE: usize = 40;

/// A frozen CLIP model that embeds texts and images into one space.
#[derive(Debug)]
pub struct ClipEncoder {
    model: ClipModel,
    tokenizer: ClipTokenizer,
    preprocessor: ImagePreprocessor,
    device: Device,
}

impl ClipEncoder {
    /// Loads a Hugging Face folder of a `CLIPModel`: `config.json`, weights, tokenizer files and
    /// `preprocessor_config.json`.
    ///
    /// # Errors
    /// When a file is missing or malformed, the folder holds another kind of model, or its parts
    /// do not fit together.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        check_model_type(folder)?;
        let model = ClipModel::load(folder, device)?;
        let (text, vision) = (model.text.config(), model.vision.config());
        let tokenizer = ClipTokenizer::load(folder, text.max_position_embeddings)?;
        tokenizer.check_vocab_size(text.vocab_size)?;
        let preprocessor = ImagePreprocessor::load(folder)?;
        let size = vision.image_size;
        if preprocessor.output_size() != Some((size, size)) {
            let path = folder.join("preprocessor_config.json");
            let found = match preprocessor.output_size() {
                Some((height, width)) => format!("{height} x {width}"),
                None => "not the same for every image".to_owned(),
            };
            let expected = format!("the image_size of the model, {size} x {size}");
            return Err(ConfigError::value(&path, "the output size", found, expected).into());
        }
        Ok(Self { model, tokenizer, preprocessor, device: device.clone() })
    }

    /// Embeds texts, in order; raw, not normalised. Texts beyond [`Self::max_tokens`] are cut.
    ///
    /// # Errors
    /// When a text cannot be tokenized, the device fails, or an embedding is not finite.
    pub fn embed_texts(&self, texts: &[&str]) -> Result<Vec<Embedding>, EncoderError> {
        let mut embeddings = Vec::with_capacity(texts.len());
        for (chunk, texts) in texts.chunks(BATCH).enumerate() {
            let tokens = self.tokenizer.encode(texts)?;
            let values = read(self.model.text.embed(&tokens)?, texts.len())?;
            let name = |i: usize| {
                let quote: String = texts[i].chars().take(QUOTE).collect();
                format!("text {} ({quote:?})", chunk * BATCH + i)
            };
            split(&values, self.dim(), Modality::Text, name, &mut embeddings)?;
        }
        Ok(embeddings)
    }

    /// Embeds images, in order; raw, not normalised.
    ///
    /// # Errors
    /// When the device fails, or an embedding is not finite.
    pub fn embed_images(&self, images: &[RgbImage]) -> Result<Vec<Embedding>, EncoderError> {
        let mut embeddings = Vec::with_capacity(images.len());
        for (chunk, images) in images.chunks(BATCH).enumerate() {
            let pixels = self.preprocessor.batch(images, &self.device)?;
            let values = read(self.model.vision.embed(pixels)?, images.len())?;
            let name = |i: usize| format!("image {}", chunk * BATCH + i);
            split(&values, self.dim(), Modality::Image, name, &mut embeddings)?;
        }
        Ok(embeddings)
    }

    /// Dimension D of the shared space.
    pub fn dim(&self) -> usize {
        self.model.text.config().projection_dim
    }

    /// Factor that turns cosines into logits: exp of the learnt `logit_scale`.
    pub fn logit_scale(&self) -> f32 {
        self.model.logit_scale
    }

    /// Tokens of a text, begin and end included, before it is cut to [`Self::max_tokens`].
    ///
    /// # Errors
    /// When the text cannot be tokenized.
    pub fn token_count(&self, text: &str) -> Result<usize, EncoderError> {
        self.tokenizer.token_count(text)
    }

    /// Tokens that the model reads at most, begin and end included.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_length()
    }
}

fn check_model_type(folder: &Path) -> Result<(), EncoderError> {
    let path = folder.join("config.json");
    let config: serde_json::Value = read_json(&path)?;
    match config["model_type"].as_str() {
        Some("clip") => Ok(()),
        found => {
            let found = found.unwrap_or("missing");
            let expected = "clip, the one kind of encoder that is supported";
            Err(ConfigError::value(&path, "model_type", found, expected).into())
        }
    }
}

/// Reads a tensor back from its device.
fn read<const D: usize>(tensor: Tensor<D>, count: usize) -> Result<Vec<f32>, EncoderError> {
    let data = tensor
        .try_into_data()
        .map_err(|error| EncoderError::Device { count, reason: error.to_string() })?;
    Ok(data.iter::<f32>().collect())
}

/// Splits `[B, D]` values into checked embeddings.
fn split(
    values: &[f32],
    dim: usize,
    modality: Modality,
    name: impl Fn(usize) -> String,
    embeddings: &mut Vec<Embedding>,
) -> Result<(), EncoderError> {
    for (i, values) in values.chunks_exact(dim).enumerate() {
        if values.iter().any(|v| !v.is_finite()) {
            return Err(EncoderError::NotFinite { input: name(i) });
        }
        embeddings.push(Embedding { values: values.to_vec(), modality });
    }
    Ok(())
}
