//! Stable Diffusion by prompt embeddings: what a text encoder's hidden states look like.
//!
//! This is how the pictures of the ProbVLM paper (arXiv 2307.00398, section 3.3) were made: a
//! distribution over the hidden states of the text encoder is sampled, and every sample is given to
//! Stable Diffusion 1 or 2 in place of its prompt. The samples are not points of the space that
//! texts and images share, so they can neither be ranked nor compared with an image: it is another
//! experiment than [`UnClipPipeline`](super::UnClipPipeline)'s.

use std::ops::{ControlFlow, Deref, Range};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use image::RgbImage;

use super::kind::PipelineKind;
use super::latent_diffusion::{LatentDiffusion, check_embeddings};
use super::noise::TileNoise;
use super::prompt_encoder::PromptEncoder;
use super::{Condition, DecodeError, DecodeOptions, DecodePlan, DecodeProgress};
use crate::model::precision::Precision;

/// A text to image pipeline with its weights on a device (diffusers' `StableDiffusionPipeline`).
#[derive(Debug)]
pub struct PromptPipeline {
    parts: LatentDiffusion,
}

impl Deref for PromptPipeline {
    type Target = LatentDiffusion;

    fn deref(&self) -> &LatentDiffusion {
        &self.parts
    }
}

impl PromptPipeline {
    /// Reads a diffusers pipeline folder: `model_index.json` and the folders `unet`, `vae`,
    /// `text_encoder`, `tokenizer` and `scheduler`. `safety_checker` and `feature_extractor` are
    /// not needed.
    ///
    /// # Errors
    /// When a part is missing, damaged or unsupported, or the parts do not fit each other.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, DecodeError> {
        PipelineKind::of(folder)?.require(PipelineKind::StableDiffusion, folder)?;
        let text = Arc::new(PromptEncoder::load(folder, device)?);
        Self::load_with(folder, text, device, Precision::F32)
    }

    /// As [`Self::load`], with the folder's text encoder loaded before, and a UNet that computes in
    /// `precision`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_with(
        folder: &Path,
        text: Arc<PromptEncoder>,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, DecodeError> {
        PipelineKind::of(folder)?.require(PipelineKind::StableDiffusion, folder)?;
        let parts = LatentDiffusion::load(folder, text, device, precision)?;
        if let Some(length) = parts.unet().class_vector_len() {
            return Err(DecodeError::folder(
                folder,
                format!(
                    "its UNet takes a class vector of {length} numbers, which a \
                     StableDiffusionPipeline has not; a folder of an unCLIP pipeline says so in \
                     its model_index.json"
                ),
            ));
        }
        Ok(Self { parts })
    }

    /// Numbers of a prompt embedding: tokens L times the width E of a hidden state.
    pub fn embedding_dim(&self) -> usize {
        self.text().length() * self.text().width()
    }

    /// What decoding `tiles` prompt embeddings will cost.
    ///
    /// # Errors
    /// When an option is out of range, or makes no sense without an image embedding.
    pub fn plan(&self, tiles: usize, options: &DecodeOptions) -> Result<DecodePlan, DecodeError> {
        let refuse = |option, found, expected: &str| {
            Err(DecodeError::Option { option, found, expected: expected.to_owned() })
        };
        if options.noise_level != 0 {
            return refuse(
                "the noise level",
                options.noise_level.to_string(),
                "0: only image embeddings are noised, and this decoder takes prompt embeddings",
            );
        }
        if !options.prompt.is_empty() {
            return refuse(
                "the decoder's prompt",
                format!("{:?}", options.prompt),
                "none: the samples themselves are this decoder's prompts",
            );
        }
        self.plan_tiles(tiles, options)
    }

    /// Decodes prompt embeddings `[L E]` each (token after token) to one image each. Guidance
    /// steers away from [`DecodeOptions::negative_prompt`]. `on_step` hears of every denoising step
    /// and every finished batch, and can stop the run.
    ///
    /// # Errors
    /// When an embedding or option is out of range, latents diverge, the device fails, or
    /// `on_step` breaks ([`DecodeError::Cancelled`]).
    pub fn decode(
        &self,
        prompt_embeds: &[Vec<f32>],
        options: &DecodeOptions,
        on_step: &mut dyn FnMut(DecodeProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<RgbImage>, DecodeError> {
        check_embeddings(prompt_embeds, self.embedding_dim())?;
        let plan = self.plan(prompt_embeds.len(), options)?;
        let negative = self.text().encode(&[&options.negative_prompt])?;
        let (length, width) = (self.text().length(), self.text().width());
        let mut condition = |tiles: Range<usize>, _: &TileNoise| {
            let shape = [tiles.len(), length, width];
            let rows = TensorData::new(prompt_embeds[tiles].concat(), shape);
            let rows = Tensor::from_data(rows, (self.device(), DType::F32));
            self.condition(rows, negative.clone(), options.guidance_scale)
        };
        self.decode_tiles(&plan, options, &mut condition, on_step)
    }

    /// Prepares the UNet for a batch with prompt embeddings `[B, L, E]`. Guidance (a scale above 1)
    /// contrasts them with `negative`, `[1, L, E]` for all or `[B, L, E]`.
    ///
    /// # Errors
    /// When a shape does not fit.
    pub fn condition(
        &self,
        prompt_embeds: Tensor<3>,
        negative: Tensor<3>,
        guidance_scale: f64,
    ) -> Result<Condition, DecodeError> {
        if guidance_scale <= 1.0 {
            return self.prepare(prompt_embeds, None, None);
        }
        let ([tiles, length, width], found) = (prompt_embeds.dims(), negative.dims());
        if found != [1, length, width] && found != [tiles, length, width] {
            return Err(DecodeError::Option {
                option: "the shape of the negative prompt's embedding",
                found: format!("{found:?}"),
                expected: format!("[1 or {tiles}, {length}, {width}]"),
            });
        }
        let negative = if found[0] == tiles { negative } else { negative.repeat_dim(0, tiles) };
        let states = Tensor::cat(vec![negative, prompt_embeds], 0);
        self.prepare(states, None, Some(guidance_scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::UnClipPipeline;
    use crate::model::device::ComputeDevice;
    use crate::random::{Stream, standard_normal};

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
    }

    fn pipeline() -> PromptPipeline {
        let folder = fixture("sd_prompt/sd15/pipeline");
        PromptPipeline::load(&folder, &ComputeDevice::cpu().device).unwrap()
    }

    fn embeds(pipeline: &PromptPipeline, count: u64) -> Vec<Vec<f32>> {
        let dim = pipeline.embedding_dim();
        (0..count).map(|i| standard_normal(5, Stream::EmbeddingSamples, i, dim)).collect()
    }

    fn options() -> DecodeOptions {
        DecodeOptions { steps: 2, ..DecodeOptions::default() }
    }

    fn run(
        pipeline: &PromptPipeline,
        embeds: &[Vec<f32>],
        options: &DecodeOptions,
    ) -> Vec<RgbImage> {
        pipeline.decode(embeds, options, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    fn difference(a: &RgbImage, b: &RgbImage) -> u8 {
        a.as_raw().iter().zip(b.as_raw()).map(|(&a, &b)| a.abs_diff(b)).max().unwrap_or(0)
    }

    #[test]
    fn each_tile_shows_its_own_embedding_in_any_batch() {
        let pipeline = pipeline();
        let embeds = embeds(&pipeline, 3);
        let of = |size| DecodeOptions { batch_size: Some(size), ..options() };
        let (whole, single) = (run(&pipeline, &embeds, &of(3)), run(&pipeline, &embeds, &of(1)));
        for (a, b) in whole.iter().zip(&single) {
            assert!(difference(a, b) <= 1, "{}", difference(a, b));
        }
        // The noise is shared, so that only the text can tell the tiles apart.
        assert!(difference(&whole[0], &whole[1]) > 2, "{}", difference(&whole[0], &whole[1]));
        let same = run(&pipeline, &[embeds[0].clone(), embeds[0].clone()], &options());
        assert_eq!(same[0], same[1]);
    }

    #[test]
    fn a_text_is_embedded_alike_alone_and_among_others_and_what_is_cut_is_counted() {
        let pipeline = pipeline();
        let text = "a photo of a red cat!";
        let embeds = pipeline.text().prompt_embeds(text).unwrap();
        // Alone and beside another text.
        let both: Vec<f32> =
            pipeline.text().encode(&[text, ""]).unwrap().try_into_vec_as().unwrap();
        let largest = embeds.iter().zip(&both).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(embeds.len() * 2 == both.len() && largest < 1e-5, "{largest}");
        assert_eq!(pipeline.text().tokens_cut(text).unwrap(), 0);
        assert_eq!(pipeline.text().tokens_cut(&"cat ".repeat(80)).unwrap(), 80 + 2 - 77);
    }

    #[test]
    fn what_belongs_to_image_embeddings_is_refused_with_the_reason() {
        let pipeline = pipeline();
        for (options, expected) in [
            (DecodeOptions { noise_level: 3, ..options() }, "noise level is 3"),
            (DecodeOptions { prompt: "a drawing".to_owned(), ..options() }, "a drawing"),
            (DecodeOptions { guidance_scale: f64::NAN, ..options() }, "guidance scale is NaN"),
        ] {
            let error = pipeline.plan(1, &options).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let short = vec![vec![0.0; 7]];
        let error = pipeline.decode(&short, &options(), &mut |_| ControlFlow::Continue(()));
        assert!(matches!(error, Err(DecodeError::EmbeddingDim { found: 7, .. })));
    }

    #[test]
    fn neither_pipeline_opens_the_other_s_folder() {
        let device = ComputeDevice::cpu().device;
        let unclip = fixture("unclip_image/pipeline");
        let error = PromptPipeline::load(&unclip, &device).unwrap_err().to_string();
        assert!(error.contains("decodes image embeddings"), "{error}");
        let stable = fixture("sd_prompt/sd21/pipeline");
        let error = UnClipPipeline::load(&stable, &device).unwrap_err().to_string();
        assert!(error.contains("--adapter"), "{error}");
    }
}
