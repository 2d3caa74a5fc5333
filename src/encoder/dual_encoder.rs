//! A whole encoder folder: both towers, tokenizer and image processor.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use image::RgbImage;
use rayon::prelude::*;

use super::blip::BlipModel;
use super::clip::ClipModel;
use super::preprocess::{self, ImagePreprocessor};
use super::prolip::ProLipModel;
use super::siglip::SiglipModel;
use super::tokenizer::{TextTokenizer, TokenIds};
use super::{Embedding, EncoderConfig, EncoderError, Gaussian, Modality, Prediction};
use crate::model::config::ConfigError;

/// Texts or images that go through a tower at once.
const CPU_BATCH: usize = 16;
const GPU_BATCH: usize = 32;
/// How much of a text an error message quotes, in characters.
const QUOTE: usize = 40;

/// The two towers of a model, on batches. D is the dimension of the shared space.
pub trait Towers: std::fmt::Debug + Send + Sync {
    /// Texts in the shared space, `[B, D]`.
    fn embed_texts(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError>;

    /// Images in the shared space, `[B, D]`, of pixel values `[B, 3, S, S]`.
    fn embed_images(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, EncoderError>;

    /// As [`Self::embed_texts`], with what the last projection takes.
    fn pool_texts(&self, tokens: &TokenIds) -> Result<PooledBatch, EncoderError>;

    /// As [`Self::embed_images`], with what the last projection takes.
    fn pool_images(&self, pixel_values: Tensor<4>) -> Result<PooledBatch, EncoderError>;

    /// The matrix `[P, D]` that takes features to embeddings; `None` where there is more to it.
    fn projection(&self, modality: Modality) -> Option<Tensor<2>>;

    /// What turns cosines into logits.
    fn logits(&self) -> Logits;

    /// Means and logarithms of variances `[B, D]` of texts; `None` for models that predict points.
    fn predict_texts(&self, _tokens: &TokenIds) -> Option<Result<[Tensor<2>; 2], EncoderError>> {
        None
    }

    /// Means and logarithms of variances `[B, D]` of images; `None` for models that predict points.
    fn predict_images(
        &self,
        _pixel_values: Tensor<4>,
    ) -> Option<Result<[Tensor<2>; 2], EncoderError>> {
        None
    }
}

/// Features before the last projection, and what they become.
#[derive(Debug)]
pub struct PooledBatch {
    /// `[B, P]`
    pub features: Tensor<2>,
    /// `[B, D]`
    pub embeddings: Tensor<2>,
}

/// What turns the cosine of a pair into its logit: `scale * cosine + bias`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Logits {
    /// Exp of the learnt `logit_scale`.
    pub scale: f32,
    /// Of models with a sigmoid loss over pairs.
    pub bias: Option<f32>,
}

/// Rows scaled to unit length: x / max(|x|, 1e-12), as `torch.nn.functional.normalize`.
pub fn unit(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / norm
}

/// A frozen vision-language model that embeds texts and images into one space.
#[derive(Debug)]
pub struct Encoder {
    towers: Box<dyn Towers>,
    config: EncoderConfig,
    tokenizer: TextTokenizer,
    preprocessor: ImagePreprocessor,
    device: Device,
}

impl Encoder {
    /// Loads a model folder of any kind in [`super::EncoderKind`]: `config.json`, weights, tokenizer
    /// files and `preprocessor_config.json` (which ProLIP's folders do not have).
    ///
    /// # Errors
    /// When a file is missing or malformed, the folder holds another kind of model, or its parts
    /// do not fit together.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let config = EncoderConfig::load(folder)?;
        let length = config.max_tokens();
        let (towers, tokenizer): (Box<dyn Towers>, _) = match &config {
            EncoderConfig::Clip { .. } => {
                (Box::new(ClipModel::load(folder, device)?), TextTokenizer::clip(folder, length)?)
            }
            EncoderConfig::Blip(_) => {
                (Box::new(BlipModel::load(folder, device)?), TextTokenizer::bert(folder, length)?)
            }
            EncoderConfig::Siglip(_) => (
                Box::new(SiglipModel::load(folder, device)?),
                TextTokenizer::siglip(folder, length)?,
            ),
            EncoderConfig::ProLip(prolip) => (
                Box::new(ProLipModel::load(folder, device)?),
                TextTokenizer::prolip(folder, prolip.text.cleaning, length)?,
            ),
        };
        tokenizer.check_vocab_size(config.vocab_size())?;
        let size = config.image_size();
        let preprocessor = match &config {
            EncoderConfig::ProLip(_) if !folder.join(preprocess::FILE_NAME).is_file() => {
                ImagePreprocessor::clip(size)
            }
            _ => ImagePreprocessor::load(folder)?,
        };
        if preprocessor.output_size() != Some((size, size)) {
            let path = folder.join(preprocess::FILE_NAME);
            let found = match preprocessor.output_size() {
                Some((height, width)) => format!("{height} x {width}"),
                None => "not the same for every image".to_owned(),
            };
            let expected = format!("the image_size of the model, {size} x {size}");
            return Err(ConfigError::value(&path, "the output size", found, expected).into());
        }
        Ok(Self { towers, config, tokenizer, preprocessor, device: device.clone() })
    }

    /// Embeds texts, in order, with the norm that the model gives ([`EncoderConfig::norm`]). Texts beyond [`Self::max_tokens`] are cut.
    /// Equal texts get equal embeddings, to the last bit.
    ///
    /// # Errors
    /// When a text cannot be tokenized, the device fails, or an embedding is not finite.
    pub fn embed_texts(&self, texts: &[&str]) -> Result<Vec<Embedding>, EncoderError> {
        self.once_per_text(texts, |texts| {
            let tokens = self.tokenizer.encode(texts)?;
            let values = read(self.towers.embed_texts(&tokens)?, texts.len())?;
            self.split(values, Modality::Text, |i| quoted(texts[i]))
        })
    }

    /// Embeds images, in order, with the norm that the model gives ([`EncoderConfig::norm`]).
    ///
    /// # Errors
    /// When the device fails, or an embedding is not finite.
    pub fn embed_images(&self, images: &[RgbImage]) -> Result<Vec<Embedding>, EncoderError> {
        self.in_batches(images, |first, images| {
            let pixels = self.preprocessor.batch(images, &self.device)?;
            let values = read(self.towers.embed_images(pixels)?, images.len())?;
            self.split(values, Modality::Image, |i| format!("image {}", first + i))
        })
    }

    /// As [`Self::embed_texts`], with the features that the embeddings are projected from.
    ///
    /// # Errors
    /// As [`Self::embed_texts`].
    pub fn pool_texts(&self, texts: &[&str]) -> Result<Vec<Pooled>, EncoderError> {
        self.once_per_text(texts, |texts| {
            let batch = self.towers.pool_texts(&self.tokenizer.encode(texts)?)?;
            let values = read(batch.embeddings, texts.len())?;
            let embeddings = self.split(values, Modality::Text, |i| quoted(texts[i]))?;
            with_features(batch.features, embeddings)
        })
    }

    /// As [`Self::embed_images`], with the features that the embeddings are projected from.
    ///
    /// # Errors
    /// As [`Self::embed_images`].
    pub fn pool_images(&self, images: &[RgbImage]) -> Result<Vec<Pooled>, EncoderError> {
        self.in_batches(images, |first, images| {
            let pixels = self.preprocessor.batch(images, &self.device)?;
            let batch = self.towers.pool_images(pixels)?;
            let values = read(batch.embeddings, images.len())?;
            let name = |i| format!("image {}", first + i);
            with_features(batch.features, self.split(values, Modality::Image, name)?)
        })
    }

    /// The Gaussian that the model itself predicts for each text, in order; `None` for models that
    /// predict points ([`EncoderConfig::predicts`]).
    ///
    /// # Errors
    /// As [`Self::embed_texts`], and when a variance is not finite.
    pub fn predict_texts(&self, texts: &[&str]) -> Result<Option<Vec<Gaussian>>, EncoderError> {
        if self.config.predicts() == Prediction::Point {
            return Ok(None);
        }
        let predicted = self.once_per_text(texts, |texts| {
            let tokens = self.tokenizer.encode(texts)?;
            let name = |i: usize| quoted(texts[i]);
            self.gaussians(self.towers.predict_texts(&tokens), Modality::Text, texts.len(), name)
        })?;
        Ok(Some(predicted))
    }

    /// As [`Self::predict_texts`], for images.
    ///
    /// # Errors
    /// As [`Self::embed_images`], and when a variance is not finite.
    pub fn predict_images(
        &self,
        images: &[RgbImage],
    ) -> Result<Option<Vec<Gaussian>>, EncoderError> {
        if self.config.predicts() == Prediction::Point {
            return Ok(None);
        }
        let predicted = self.in_batches(images, |first, images| {
            let pixels = self.preprocessor.batch(images, &self.device)?;
            let name = |i: usize| format!("image {}", first + i);
            let output = self.towers.predict_images(pixels);
            self.gaussians(output, Modality::Image, images.len(), name)
        })?;
        Ok(Some(predicted))
    }

    fn gaussians(
        &self,
        output: Option<Result<[Tensor<2>; 2], EncoderError>>,
        modality: Modality,
        count: usize,
        name: impl Fn(usize) -> String,
    ) -> Result<Vec<Gaussian>, EncoderError> {
        let Some(output) = output else { return Ok(Vec::new()) };
        let [mean, log_variance] = output?;
        let means = self.split(read(mean, count)?, modality, &name)?;
        let log_variances = read(log_variance, count)?;
        let rows = log_variances.chunks_exact(self.dim()).zip(means).enumerate();
        rows.map(|(i, (row, mean))| {
            let variance: Vec<f32> = row.iter().map(|log| log.exp()).collect();
            if variance.iter().any(|v| !v.is_finite()) {
                return Err(EncoderError::NotFinite { input: name(i) });
            }
            Ok(Gaussian { mean, variance })
        })
        .collect()
    }

    /// The features that raw embeddings `[N, D]` were projected from, `[N, P]`, by least squares:
    /// for embeddings whose images or texts are gone. `None` where the projection loses dimensions
    /// (P > D, such as 768 to 512 of ViT-B/32's images) or is no matrix alone, so that no embedding
    /// says what it was.
    ///
    /// Rounding of the embeddings grows by up to the condition number of the projection.
    ///
    /// # Errors
    /// When the device fails.
    pub fn unproject(
        &self,
        modality: Modality,
        embeddings: &[f32],
    ) -> Result<Option<Vec<f32>>, EncoderError> {
        let Some(weights) = self.towers.projection(modality) else { return Ok(None) };
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

    /// What the model is, as its config says.
    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// Dimension D of the shared space.
    pub fn dim(&self) -> usize {
        self.config.dim()
    }

    /// Width P of the features before the last projection.
    pub fn pooled_dim(&self, modality: Modality) -> usize {
        self.config.pooled_dim(modality)
    }

    /// What turns cosines into logits.
    pub fn logits(&self) -> Logits {
        self.towers.logits()
    }

    /// Factor that turns cosines into logits: exp of the learnt `logit_scale`.
    pub fn logit_scale(&self) -> f32 {
        self.logits().scale
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
    /// `[P]`: what the last projection takes; P is [`Encoder::pooled_dim`].
    pub features: Vec<f32>,
    /// The projected features, as [`Encoder::embed_texts`] and [`Encoder::embed_images`] give them.
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
    use crate::model::config::read_json;
    use crate::model::device::ComputeDevice;
    use crate::query::{AlphaPolicy, read_image};
    use serde::Deserialize;

    fn demo() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo"))
    }

    fn encoder() -> Encoder {
        Encoder::load(&demo().join("clip"), &ComputeDevice::cpu().device).unwrap()
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

    /// A folder as published: the model of a golden case with its tokenizer and image processor.
    fn folder(model: &str, tokenizer: &str, processor: Option<&str>) -> tempfile::TempDir {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let folder = tempfile::tempdir().unwrap();
        let tokenizer = ["tokenizer.json", "tokenizer_config.json"].map(|name| (tokenizer, name));
        for (case, name) in
            [(model, "config.json"), (model, "model.safetensors")].iter().chain(&tokenizer)
        {
            std::fs::copy(fixtures.join(case).join(name), folder.path().join(name)).unwrap();
        }
        if let Some(processor) = processor {
            std::fs::write(folder.path().join(preprocess::FILE_NAME), processor).unwrap();
        }
        folder
    }

    #[test]
    fn every_kind_of_folder_gives_embeddings_of_its_norm_and_dimension_in_any_batch() {
        let blip = r#"{"image_processor_type": "BlipImageProcessor", "size": 32}"#;
        let siglip = r#"{"image_processor_type": "SiglipImageProcessor",
            "size": {"height": 40, "width": 40}}"#;
        let texts = ["a photo of a cat", "two dogs", "", "an old tree on a green field"];
        let images: Vec<RgbImage> = (0..18)
            .map(|i| RgbImage::from_fn(50 + i, 44, |x, y| image::Rgb([x as u8, (y * i) as u8, 9])))
            .collect();
        for (folder, dim, unit, gaussian) in [
            (folder("blip/itc", "blip/itc", Some(blip)), 20, true, false),
            (folder("siglip/model", "siglip/model", Some(siglip)), 48, false, false),
            (folder("prolip/model", "siglip/model", None), 24, true, true),
        ] {
            let encoder = Encoder::load(folder.path(), &ComputeDevice::cpu().device).unwrap();
            let kind = encoder.config().kind();
            assert_eq!(encoder.dim(), dim);
            let close = |a: &Embedding, b: &Embedding| {
                a.values.iter().zip(&b.values).all(|(a, b)| (a - b).abs() < 1e-5)
            };
            let together = encoder.embed_texts(&texts).unwrap();
            for (text, embedding) in texts.iter().zip(&together) {
                // Alone there is no padding beside BERT's tokens.
                assert!(close(&encoder.embed_texts(&[text]).unwrap()[0], embedding), "{kind:?}");
                assert_eq!((embedding.norm() - 1.0).abs() < 1e-5, unit, "{kind:?}");
            }
            let seen = encoder.embed_images(&images).unwrap();
            let alone = encoder.embed_images(&images[17..]).unwrap();
            assert!(close(&alone[0], &seen[17]), "{kind:?}");
            assert_eq!((seen[3].norm() - 1.0).abs() < 1e-5, unit, "{kind:?}");

            for (pooled, embeddings, modality) in [
                (encoder.pool_texts(&texts).unwrap(), &together, Modality::Text),
                (encoder.pool_images(&images).unwrap(), &seen, Modality::Image),
            ] {
                for (pooled, embedding) in pooled.iter().zip(embeddings) {
                    assert!(close(&pooled.embedding, embedding), "{kind:?}");
                    assert_eq!(pooled.features.len(), encoder.pooled_dim(modality), "{kind:?}");
                }
            }
            assert_eq!(encoder.unproject(Modality::Text, &together[0].values).unwrap(), None);

            for (predicted, embeddings) in [
                (encoder.predict_texts(&texts).unwrap(), &together),
                (encoder.predict_images(&images).unwrap(), &seen),
            ] {
                assert_eq!(predicted.is_some(), gaussian, "{kind:?}");
                for (gaussian, embedding) in predicted.iter().flatten().zip(embeddings) {
                    assert!(close(&gaussian.mean, embedding), "{kind:?}");
                    assert_eq!(gaussian.variance.len(), dim);
                    assert!(gaussian.variance.iter().all(|&v| v > 0.0), "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn a_processor_of_another_size_than_the_model_is_refused() {
        let processor = r#"{"image_processor_type": "BlipImageProcessor"}"#;
        let folder = folder("blip/itc", "blip/itc", Some(processor));
        let error = Encoder::load(folder.path(), &ComputeDevice::cpu().device).unwrap_err();
        let message = error.to_string();
        assert!(message.contains("384 x 384") && message.contains("32 x 32"), "{message}");
    }
}
