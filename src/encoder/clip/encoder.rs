//! A whole CLIP folder: both towers, tokenizer and image processor.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use image::RgbImage;
use rayon::prelude::*;

use super::super::preprocess::{self, ImagePreprocessor};
use super::super::tokenizer::ClipTokenizer;
use super::super::{Embedding, EncoderError, Modality};
use super::ClipModel;
use crate::model::config::{ConfigError, read_json};

/// Texts or images that go through a tower at once.
const CPU_BATCH: usize = 16;
const GPU_BATCH: usize = 32;
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
            let path = folder.join(preprocess::FILE_NAME);
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
    /// Equal texts get equal embeddings, to the last bit.
    ///
    /// # Errors
    /// When a text cannot be tokenized, the device fails, or an embedding is not finite.
    pub fn embed_texts(&self, texts: &[&str]) -> Result<Vec<Embedding>, EncoderError> {
        self.once_per_text(texts, |texts| {
            let tokens = self.tokenizer.encode(texts)?;
            let values = read(self.model.text.embed(&tokens)?, texts.len())?;
            self.split(values, Modality::Text, |i| quoted(texts[i]))
        })
    }

    /// Embeds images, in order; raw, not normalised.
    ///
    /// # Errors
    /// When the device fails, or an embedding is not finite.
    pub fn embed_images(&self, images: &[RgbImage]) -> Result<Vec<Embedding>, EncoderError> {
        self.in_batches(images, |first, images| {
            let pixels = self.preprocessor.batch(images, &self.device)?;
            let values = read(self.model.vision.embed(pixels)?, images.len())?;
            self.split(values, Modality::Image, |i| format!("image {}", first + i))
        })
    }

    /// As [`Self::embed_texts`], with the features that the embeddings are projected from.
    ///
    /// # Errors
    /// As [`Self::embed_texts`].
    pub fn pool_texts(&self, texts: &[&str]) -> Result<Vec<Pooled>, EncoderError> {
        self.once_per_text(texts, |texts| {
            let features = self.model.text.pool(&self.tokenizer.encode(texts)?)?;
            let values = read(self.model.text.project(features.clone())?, texts.len())?;
            let embeddings = self.split(values, Modality::Text, |i| quoted(texts[i]))?;
            with_features(features, embeddings)
        })
    }

    /// As [`Self::embed_images`], with the features that the embeddings are projected from.
    ///
    /// # Errors
    /// As [`Self::embed_images`].
    pub fn pool_images(&self, images: &[RgbImage]) -> Result<Vec<Pooled>, EncoderError> {
        self.in_batches(images, |first, images| {
            let features =
                self.model.vision.pool(self.preprocessor.batch(images, &self.device)?)?;
            let values = read(self.model.vision.project(features.clone()), images.len())?;
            let name = |i| format!("image {}", first + i);
            with_features(features, self.split(values, Modality::Image, name)?)
        })
    }

    /// The features that raw embeddings `[N, D]` were projected from, `[N, P]`, by least squares:
    /// for embeddings whose images or texts are gone. `None` where the projection loses dimensions
    /// (P > D, such as 768 to 512 of ViT-B/32's images), so that no embedding says what it was.
    ///
    /// Rounding of the embeddings grows by up to the condition number of the projection.
    ///
    /// # Errors
    /// When the device fails or the projection is missing.
    pub fn unproject(
        &self,
        modality: Modality,
        embeddings: &[f32],
    ) -> Result<Option<Vec<f32>>, EncoderError> {
        let weights = match modality {
            Modality::Text => self.model.text.projection().ok_or(EncoderError::NoTextProjection)?,
            Modality::Image => self.model.vision.projection(),
        };
        let [width, dim] = weights.dims();
        if width > dim {
            return Ok(None);
        }
        let weights = read(weights, 1)?;
        let weights = Mat::from_fn(width, dim, |p, d| f64::from(weights[p * dim + d]));
        let Ok(gram) = (&weights * weights.transpose()).llt(Side::Lower) else { return Ok(None) };
        let count = embeddings.len() / dim;
        let rows = Mat::from_fn(dim, count, |d, i| f64::from(embeddings[i * dim + d]));
        let features = gram.solve(&weights * rows);
        Ok(Some((0..count * width).map(|at| features[(at % width, at / width)] as f32).collect()))
    }

    /// Embeds every distinct text once, texts of about one length together, which wastes little
    /// on padding; captions often repeat.
    fn once_per_text<R: Clone + Send>(
        &self,
        texts: &[&str],
        embed: impl Fn(&[&str]) -> Result<Vec<R>, EncoderError> + Send + Sync,
    ) -> Result<Vec<R>, EncoderError> {
        let mut unique = texts.to_vec();
        unique.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
        unique.dedup();
        let results = self.in_batches(&unique, |_, texts| embed(texts))?;
        let by_text: HashMap<&str, &R> = unique.into_iter().zip(&results).collect();
        Ok(texts.iter().map(|text| by_text[text].clone()).collect())
    }

    /// Runs batches one after the other on a GPU, and side by side on the CPU, where single
    /// operations do not keep all cores busy. `embed` is told the index of its first input.
    fn in_batches<T: Sync, R: Send>(
        &self,
        inputs: &[T],
        embed: impl Fn(usize, &[T]) -> Result<Vec<R>, EncoderError> + Send + Sync,
    ) -> Result<Vec<R>, EncoderError> {
        let batches: Vec<Vec<R>> = match inputs.len() {
            0 => return Ok(Vec::new()),
            1..=CPU_BATCH => return embed(0, inputs),
            _ if self.device == Device::flex() => {
                let batches = inputs.par_chunks(CPU_BATCH).enumerate();
                batches.map(|(i, inputs)| embed(i * CPU_BATCH, inputs)).collect::<Result<_, _>>()?
            }
            _ => {
                let batches = inputs.chunks(GPU_BATCH).enumerate();
                batches.map(|(i, inputs)| embed(i * GPU_BATCH, inputs)).collect::<Result<_, _>>()?
            }
        };
        Ok(batches.into_iter().flatten().collect())
    }

    /// Splits `[B, D]` values into checked embeddings.
    fn split(
        &self,
        values: Vec<f32>,
        modality: Modality,
        name: impl Fn(usize) -> String,
    ) -> Result<Vec<Embedding>, EncoderError> {
        let rows = values.chunks_exact(self.dim()).enumerate();
        rows.map(|(i, values)| {
            if values.iter().any(|v| !v.is_finite()) {
                return Err(EncoderError::NotFinite { input: name(i) });
            }
            Ok(Embedding { values: values.to_vec(), modality })
        })
        .collect()
    }

    /// Dimension D of the shared space.
    pub fn dim(&self) -> usize {
        self.model.text.config().projection_dim
    }

    /// Width P of the features before the projection.
    pub fn pooled_dim(&self, modality: Modality) -> usize {
        match modality {
            Modality::Text => self.model.text.config().transformer.hidden_size,
            Modality::Image => self.model.vision.config().transformer.hidden_size,
        }
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

/// One input just before and just after the projection into the shared space.
#[derive(Debug, Clone, PartialEq)]
pub struct Pooled {
    /// `[P]`: the pooled token after the final norm; P is [`ClipEncoder::pooled_dim`].
    pub features: Vec<f32>,
    /// The projected features, as [`ClipEncoder::embed_texts`] and [`ClipEncoder::embed_images`]
    /// give them.
    pub embedding: Embedding,
}

/// Splits features `[B, P]` and joins them with their embeddings. Features of finite embeddings are
/// finite.
fn with_features(
    features: Tensor<2>,
    embeddings: Vec<Embedding>,
) -> Result<Vec<Pooled>, EncoderError> {
    let width = features.dims()[1];
    let values = read(features, embeddings.len())?;
    let rows = values.chunks_exact(width).zip(embeddings);
    Ok(rows.map(|(row, embedding)| Pooled { features: row.to_vec(), embedding }).collect())
}

/// How an error message names a text.
fn quoted(text: &str) -> String {
    format!("the text {:?}", text.chars().take(QUOTE).collect::<String>())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;
    use crate::query::{AlphaPolicy, read_image};
    use serde::Deserialize;

    fn demo() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo"))
    }

    fn encoder() -> ClipEncoder {
        ClipEncoder::load(&demo().join("clip"), &ComputeDevice::cpu().device).unwrap()
    }

    /// Karpathy's dataset format, as far as it is needed here.
    #[derive(Deserialize)]
    struct Dataset {
        images: Vec<Item>,
    }

    #[derive(Deserialize)]
    struct Item {
        filename: String,
        sentences: Vec<Sentence>,
    }

    #[derive(Deserialize)]
    struct Sentence {
        raw: String,
    }

    #[test]
    fn the_demo_gallery_is_retrieved_as_well_as_by_transformers() {
        let encoder = encoder();
        let dataset: Dataset = read_json(&demo().join("gallery/dataset.json")).unwrap();
        let meta: serde_json::Value = read_json(&demo().join("meta.json")).unwrap();
        let read = |item: &Item| {
            let path = demo().join("gallery/images").join(&item.filename);
            read_image(&path).unwrap().to_rgb(AlphaPolicy::Drop)
        };
        let images: Vec<RgbImage> = dataset.images.par_iter().map(read).collect();
        let captions: Vec<(usize, &str)> = dataset
            .images
            .iter()
            .enumerate()
            .flat_map(|(i, item)| item.sentences.iter().map(move |s| (i, s.raw.as_str())))
            .collect();
        let texts: Vec<&str> = captions.iter().map(|&(_, text)| text).collect();
        let images = encoder.embed_images(&images).unwrap();
        let texts = encoder.embed_texts(&texts).unwrap();

        let mean_norm =
            |e: &[Embedding]| e.iter().map(Embedding::norm).sum::<f64>() / e.len() as f64;
        for (embeddings, key) in [(&images, "image_norm_mean"), (&texts, "text_norm_mean")] {
            let expected = meta["reference"][key].as_f64().unwrap();
            assert!((mean_norm(embeddings) / expected - 1.0).abs() < 1e-5, "{key}");
        }

        let units: Vec<Vec<f32>> = images.iter().map(Embedding::unit).collect();
        let ranks: Vec<usize> = texts
            .par_iter()
            .zip(&captions)
            .map(|(text, &(own, _))| {
                let cosine = |i: usize| -> f32 {
                    text.values.iter().zip(&units[i]).map(|(a, b)| a * b).sum()
                };
                let own = cosine(own);
                (0..units.len()).filter(|&i| cosine(i) > own).count()
            })
            .collect();
        for (k, key) in [(1, "R@1"), (5, "R@5"), (10, "R@10")] {
            let recall = ranks.iter().filter(|&&r| r < k).count() as f64 / ranks.len() as f64;
            let expected = meta["reference"]["text_to_image"][key].as_f64().unwrap();
            // The reference comes in f32; one caption more or less would show.
            assert!((recall - expected).abs() < 0.5 / ranks.len() as f64, "{key} {recall}");
        }
    }

    #[test]
    fn the_batch_a_text_or_image_is_in_does_not_move_its_embedding() {
        let encoder = encoder();
        let texts: Vec<String> = (0..40).map(|i| "a red cat ".repeat(i % 7 + 1) + "!").collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let images: Vec<RgbImage> = (0..40)
            .map(|i| RgbImage::from_fn(70 + i, 64, |x, y| image::Rgb([x as u8, (y * i) as u8, 9])))
            .collect();
        let close = |a: &Embedding, b: &Embedding| {
            a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() < 1e-4)
        };
        let together = encoder.embed_texts(&texts).unwrap();
        for (i, text) in texts.iter().enumerate() {
            assert!(close(&encoder.embed_texts(&[text]).unwrap()[0], &together[i]), "{text}");
        }
        assert_eq!(together[0], together[7], "equal texts");
        let together = encoder.embed_images(&images).unwrap();
        for (i, image) in images.iter().enumerate() {
            let alone = encoder.embed_images(std::slice::from_ref(image)).unwrap();
            assert!(close(&alone[0], &together[i]), "image {i}");
        }
        assert!(encoder.embed_texts(&[]).unwrap().is_empty());
    }

    #[test]
    fn pooled_features_are_what_the_embeddings_are_projected_from() {
        let encoder = encoder();
        let texts = ["a red cat", "two dogs", "a red cat", "a very long caption of a green tree"];
        let images: Vec<RgbImage> = (0..20)
            .map(|i| RgbImage::from_fn(64, 70 + i, |x, y| image::Rgb([y as u8, (x * i) as u8, 9])))
            .collect();
        for (pooled, embeddings, modality) in [
            (encoder.pool_texts(&texts), encoder.embed_texts(&texts), Modality::Text),
            (encoder.pool_images(&images), encoder.embed_images(&images), Modality::Image),
        ] {
            let (pooled, embeddings) = (pooled.unwrap(), embeddings.unwrap());
            assert_eq!(pooled.len(), embeddings.len());
            // The demo's projections keep all dimensions, so the features can be found again.
            let values: Vec<f32> = embeddings.iter().flat_map(|e| e.values.clone()).collect();
            let found = encoder.unproject(modality, &values).unwrap().unwrap();
            let features = pooled.iter().flat_map(|p| &p.features);
            assert_eq!(found.len(), embeddings.len() * encoder.pooled_dim(modality));
            assert!(found.iter().zip(features).all(|(a, b)| (a - b).abs() < 1e-2), "{modality}");
            for (pooled, embedding) in pooled.iter().zip(&embeddings) {
                assert_eq!(&pooled.embedding, embedding);
                assert_eq!(pooled.features.len(), encoder.pooled_dim(modality));
                assert_ne!(pooled.features, embedding.values);
                // The weights as the file has them, [D, P].
                let name = match modality {
                    Modality::Text => "text_projection.weight",
                    Modality::Image => "visual_projection.weight",
                };
                let weights = super::super::weights::open(&demo().join("clip")).unwrap();
                let device = ComputeDevice::cpu().device;
                let weight = read(weights.tensor::<2>(name, &device).unwrap(), 1).unwrap();
                let rows = weight.chunks_exact(pooled.features.len());
                for (row, &value) in rows.zip(&embedding.values) {
                    let product = row.iter().zip(&pooled.features);
                    let sum: f64 = product.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                    assert!((sum - f64::from(value)).abs() < 1e-4, "{sum} {value}");
                }
            }
        }
    }

    #[test]
    fn a_folder_of_another_model_is_refused_by_its_type() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), r#"{"model_type": "blip"}"#).unwrap();
        let error = ClipEncoder::load(folder.path(), &ComputeDevice::cpu().device).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("blip") && message.contains("expected clip"), "{message}");
    }
}
