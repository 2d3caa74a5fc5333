//! The unCLIP pipeline: image embeddings to images (diffusers' `StableUnCLIPImg2ImgPipeline`).
//!
//! An embedding is noised to a class vector; a UNet conditioned on it and on a text denoises
//! latents step by step, with classifier-free guidance; a VAE turns the latents into pixels.
//! [`UnClipPipeline::decode`] does it all; its stages are public for tests and for callers with
//! noise or latents of their own. What does not depend on how the UNet is conditioned is
//! [`LatentDiffusion`], which the route by prompt embeddings ([`super::prompt`]) shares.

use std::ops::{ControlFlow, Deref, Range};
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, Tensor, TensorData};
use image::RgbImage;

use super::kind::PipelineKind;
use super::latent_diffusion::{LatentDiffusion, check_embeddings, check_size};
use super::noise::TileNoise;
use super::prompt_encoder::PromptEncoder;
use super::{Condition, DecodeError, DecodeOptions, DecodePlan, DecodeProgress, ImageNoiser};
use crate::model::precision::Precision;

/// What the text encoder makes of the prompts: hidden states `[R, L, E]` each, where R is 1 for
/// one prompt shared by all tiles, or the number of tiles.
#[derive(Debug, Clone)]
pub struct Prompts {
    positive: Tensor<3>,
    negative: Tensor<3>,
}

/// A decoder of image embeddings with its weights on a device.
#[derive(Debug)]
pub struct UnClipPipeline {
    parts: LatentDiffusion,
    noiser: ImageNoiser,
}

impl Deref for UnClipPipeline {
    type Target = LatentDiffusion;

    fn deref(&self) -> &LatentDiffusion {
        &self.parts
    }
}

impl UnClipPipeline {
    /// Reads a diffusers pipeline folder: `model_index.json` and the folders `unet`, `vae`,
    /// `text_encoder`, `tokenizer`, `scheduler`, `image_normalizer` and
    /// `image_noising_scheduler`. `image_encoder` and `feature_extractor` are not needed.
    ///
    /// # Errors
    /// When a part is missing, damaged or unsupported, or the parts do not fit each other.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, DecodeError> {
        Self::load_in(folder, device, Precision::F32)
    }

    /// As [`Self::load`], with a UNet that computes in `precision`; the kernels of the CPU stay in
    /// float32, and so do the VAE, the text encoder, and the latents between the steps.
    ///
    /// # Errors
    /// As [`Self::load`], and when a weight is beyond the range of the precision.
    pub fn load_in(
        folder: &Path,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, DecodeError> {
        PipelineKind::of(folder)?.require(PipelineKind::UnClip, folder)?;
        let text = Arc::new(PromptEncoder::load(folder, device)?);
        let parts = LatentDiffusion::load(folder, text, device, precision)?;
        let noiser = ImageNoiser::load(folder, device)?;
        check_size(
            folder,
            "the UNet's class vector (projection_class_embeddings_input_dim)",
            parts.unet().class_vector_len().unwrap_or(0),
            2 * noiser.dim(),
        )?;
        Ok(Self { parts, noiser })
    }

    /// Dimension D of the image embeddings that this pipeline decodes.
    pub fn embedding_dim(&self) -> usize {
        self.noiser.dim()
    }

    /// The noising of image embeddings.
    pub fn noiser(&self) -> &ImageNoiser {
        &self.noiser
    }

    /// Text states of `positive` prompts and of those that guidance steers away from. Both lists
    /// have one prompt for all tiles, or one per tile.
    ///
    /// # Errors
    /// When a list is empty, their lengths differ, or a text cannot be tokenized.
    pub fn prompts(&self, positive: &[&str], negative: &[&str]) -> Result<Prompts, DecodeError> {
        if positive.is_empty() || positive.len() != negative.len() {
            return Err(DecodeError::Option {
                option: "the number of negative prompts",
                found: negative.len().to_string(),
                expected: format!("that of the prompts ({}), and at least 1", positive.len()),
            });
        }
        Ok(Prompts {
            positive: self.text().encode(positive)?,
            negative: self.text().encode(negative)?,
        })
    }

    /// What decoding `tiles` embeddings will cost.
    ///
    /// # Errors
    /// When an option is out of range.
    pub fn plan(&self, tiles: usize, options: &DecodeOptions) -> Result<DecodePlan, DecodeError> {
        if options.noise_level >= self.noiser.levels() {
            let (found, levels) = (options.noise_level, self.noiser.levels());
            return Err(DecodeError::NoiseLevel { found, levels });
        }
        self.plan_tiles(tiles, options)
    }

    /// Decodes embeddings `[D]` each, in the scale of the encoder (not normalised), to one image
    /// each. `on_step` hears of every denoising step and every finished batch, and can stop the
    /// run.
    ///
    /// # Errors
    /// When an embedding or option is out of range, latents diverge, the device fails, or
    /// `on_step` breaks ([`DecodeError::Cancelled`]).
    pub fn decode(
        &self,
        embeddings: &[Vec<f32>],
        options: &DecodeOptions,
        on_step: &mut dyn FnMut(DecodeProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<RgbImage>, DecodeError> {
        let dim = self.embedding_dim();
        check_embeddings(embeddings, dim)?;
        let plan = self.plan(embeddings.len(), options)?;
        let prompts = self.prompts(&[&options.prompt], &[&options.negative_prompt])?;
        let mut condition = |tiles: Range<usize>, noise: &TileNoise| {
            let rows = TensorData::new(embeddings[tiles.clone()].concat(), [tiles.len(), dim]);
            let class_vectors = self.noiser.noise_image_embeddings(
                Tensor::from_data(rows, (self.device(), DType::F32)),
                options.noise_level,
                noise.embedding_noise(dim, self.device()),
            )?;
            self.condition(class_vectors, &prompts, options.guidance_scale)
        };
        self.decode_tiles(&plan, options, &mut condition, on_step)
    }

    /// Prepares the UNet for a batch with class vectors `[B, 2 D]`. Guidance (a scale above 1)
    /// contrasts them with the zero vector, zeros in the code of the noise level included.
    ///
    /// # Errors
    /// When the prompts are neither one nor B.
    pub fn condition(
        &self,
        class_vectors: Tensor<2>,
        prompts: &Prompts,
        guidance_scale: f64,
    ) -> Result<Condition, DecodeError> {
        let Prompts { positive, negative } = prompts.clone();
        let (tiles, texts) = (class_vectors.dims()[0], positive.dims()[0]);
        if texts != 1 && texts != tiles {
            return Err(DecodeError::Option {
                option: "the number of prompts",
                found: texts.to_string(),
                expected: format!("1 or the number of tiles ({tiles})"),
            });
        }
        let guided = guidance_scale > 1.0;
        let (class_labels, hidden_states) = if guided {
            let zeros = class_vectors.zeros_like();
            (Tensor::cat(vec![zeros, class_vectors], 0), Tensor::cat(vec![negative, positive], 0))
        } else {
            (class_vectors, positive)
        };
        self.prepare(hidden_states, Some(class_labels), guided.then_some(guidance_scale))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{SchedulerKind, VaeTiling};
    use crate::model::device::ComputeDevice;
    use crate::random::{Stream, standard_normal};

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/unclip_image/pipeline")
    }

    fn pipeline() -> UnClipPipeline {
        UnClipPipeline::load(&folder(), &ComputeDevice::cpu().device).unwrap()
    }

    fn embeddings(pipeline: &UnClipPipeline, count: u64) -> Vec<Vec<f32>> {
        let dim = pipeline.embedding_dim();
        (0..count).map(|i| standard_normal(5, Stream::EmbeddingSamples, i, dim)).collect()
    }

    fn options() -> DecodeOptions {
        DecodeOptions { steps: 3, ..DecodeOptions::default() }
    }

    fn run(
        pipeline: &UnClipPipeline,
        embeddings: &[Vec<f32>],
        options: &DecodeOptions,
    ) -> Vec<RgbImage> {
        pipeline.decode(embeddings, options, &mut |_| ControlFlow::Continue(())).unwrap()
    }

    /// Largest difference of two images in levels.
    fn difference(a: &RgbImage, b: &RgbImage) -> u8 {
        assert_eq!(a.dimensions(), b.dimensions());
        a.as_raw().iter().zip(b.as_raw()).map(|(&a, &b)| a.abs_diff(b)).max().unwrap_or(0)
    }

    #[test]
    fn a_tile_is_the_same_to_rounding_in_every_batch_and_alone() {
        let pipeline = pipeline();
        let embeddings = embeddings(&pipeline, 5);
        for independent_noise in [false, true] {
            let options = DecodeOptions {
                scheduler: Some(SchedulerKind::EulerAncestral),
                noise_level: 300,
                independent_noise,
                ..options()
            };
            let with =
                |batch_size| DecodeOptions { batch_size: Some(batch_size), ..options.clone() };
            let whole = run(&pipeline, &embeddings, &with(5));
            let batched = run(&pipeline, &embeddings, &with(2));
            let alone = DecodeOptions { first_tile: 3, ..options.clone() };
            let alone = run(&pipeline, &embeddings[3..4], &alone);
            for (a, b) in whole.iter().zip(&batched).chain([(&whole[3], &alone[0])]) {
                // Matrix products sum in another order for another number of rows.
                assert!(difference(a, b) <= 1, "{}", difference(a, b));
            }
            assert!(difference(&whole[0], &whole[1]) > 8);
        }
    }

    #[test]
    fn equal_embeddings_differ_by_independent_noise_alone() {
        let pipeline = pipeline();
        let twice = vec![embeddings(&pipeline, 1).remove(0); 2];
        let common = run(&pipeline, &twice, &options());
        assert_eq!(common[0], common[1]);
        let independent = DecodeOptions { independent_noise: true, ..options() };
        let independent = run(&pipeline, &twice, &independent);
        assert!(difference(&independent[0], &independent[1]) > 8);
        assert_eq!(independent[0], common[0]);
        let reseeded = run(&pipeline, &twice, &DecodeOptions { seed: 1, ..options() });
        assert!(difference(&reseeded[0], &common[0]) > 8);
    }

    #[test]
    fn the_plan_counts_what_decoding_reports() {
        let pipeline = pipeline();
        let embeddings = embeddings(&pipeline, 5);
        for (scheduler, guidance_scale, calls, halves) in
            [(SchedulerKind::Pndm, 3.0, 4, 2), (SchedulerKind::Ddim, 1.0, 3, 1)]
        {
            let options = DecodeOptions {
                scheduler: Some(scheduler),
                guidance_scale,
                batch_size: Some(2),
                ..options()
            };
            let plan = pipeline.plan(embeddings.len(), &options).unwrap();
            assert_eq!((plan.steps, plan.batches, plan.batch_size), (calls, 3, 2));
            assert_eq!(plan.unet_evaluations, 5 * calls * halves);
            let (mut steps, mut fraction) = (0, 0.0);
            let mut finished = Vec::new();
            let images = pipeline
                .decode(&embeddings, &options, &mut |progress| {
                    assert!(progress.fraction() > fraction || progress.preview.is_none());
                    fraction = progress.fraction();
                    assert_eq!((progress.tiles, progress.batches), (5, 3));
                    match progress.preview {
                        Some(_) => steps += 1,
                        None => finished.push(progress.finished.len()),
                    }
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(steps, plan.batches * plan.steps);
            assert_eq!(finished, [2, 4, 5]);
            assert_eq!(fraction, 1.0);
            assert!(images.iter().all(|i| i.dimensions() == (plan.width, plan.height)));
        }
    }

    #[test]
    fn a_break_stops_the_run_at_once() {
        let pipeline = pipeline();
        let mut calls = 0;
        let result = pipeline.decode(&embeddings(&pipeline, 3), &options(), &mut |_| {
            calls += 1;
            if calls == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(matches!(result, Err(DecodeError::Cancelled)));
        assert_eq!(calls, 2);
    }

    #[test]
    fn a_preview_has_one_image_for_each_tile_in_progress() {
        let pipeline = pipeline();
        let scheduler = Some(SchedulerKind::Ddim);
        let options = DecodeOptions { scheduler, batch_size: Some(2), ..options() };
        let mut sizes = Vec::new();
        let images = pipeline
            .decode(&embeddings(&pipeline, 3), &options, &mut |progress| {
                if let Some(preview) = progress.preview {
                    sizes.push(preview.images().unwrap().len());
                }
                ControlFlow::Continue(())
            })
            .unwrap();
        assert_eq!(sizes, [2, 2, 2, 1, 1, 1]);
        assert_eq!(images.len(), 3);
    }

    #[test]
    fn images_of_another_size_are_made_and_sides_the_vae_cannot_make_are_refused() {
        let pipeline = pipeline();
        let embeddings = embeddings(&pipeline, 1);
        let of = |width, height| DecodeOptions { size: Some((width, height)), ..options() };
        let factor = pipeline.vae().spatial_factor() as u32;
        let images = run(&pipeline, &embeddings, &of(5 * factor, 3 * factor));
        assert_eq!(images[0].dimensions(), (5 * factor, 3 * factor));
        let error = pipeline.plan(1, &of(5 * factor + 1, factor)).unwrap_err().to_string();
        assert!(error.contains(&format!("multiples of {factor}")), "{error}");
        assert!(pipeline.plan(1, &of(0, factor)).is_err());
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        let pipeline = pipeline();
        let dim = pipeline.embedding_dim();
        let message = |embedding: Vec<f32>, options: DecodeOptions| {
            pipeline
                .decode(&[embedding], &options, &mut |_| ControlFlow::Continue(()))
                .unwrap_err()
                .to_string()
        };
        let text = message(vec![0.0; dim + 1], options());
        assert!(text.contains(&(dim + 1).to_string()) && text.contains(&dim.to_string()), "{text}");
        let text = message([vec![0.0; dim - 1], vec![f32::NAN]].concat(), options());
        assert!(text.contains("tile 0"), "{text}");
        let text = message(vec![f32::MAX; dim], options());
        assert!(text.contains("step 1 of"), "{text}");
        let zero = vec![0.0; dim];
        for (options, expected) in [
            (DecodeOptions { steps: 0, ..options() }, "choose 1 to 1000"),
            (DecodeOptions { steps: 1001, ..options() }, "choose 1 to 1000"),
            (DecodeOptions { noise_level: 1000, ..options() }, "0 to 999"),
            (DecodeOptions { guidance_scale: f64::NAN, ..options() }, "guidance scale is NaN"),
            (DecodeOptions { batch_size: Some(0), ..options() }, "batch size is 0"),
            (
                DecodeOptions { scheduler: Some(SchedulerKind::UnClip), ..options() },
                "prediction_type",
            ),
        ] {
            let text = message(zero.clone(), options);
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn tiles_of_the_vae_are_planned_and_change_the_images_a_little() {
        let pipeline = pipeline();
        let embeddings = embeddings(&pipeline, 1);
        let side = (2 * pipeline.vae().tile_side() * pipeline.vae().spatial_factor()) as u32;
        let of = |vae_tiling| DecodeOptions { size: Some((side, side)), vae_tiling, ..options() };
        let plan = |tiling| pipeline.plan(1, &of(tiling)).unwrap();
        assert_eq!(plan(VaeTiling::On).vae_tile, Some(side / 2));
        assert_eq!(plan(VaeTiling::Auto).vae_tile, None);
        let [whole, auto, tiled] = [VaeTiling::Off, VaeTiling::Auto, VaeTiling::On]
            .map(|tiling| run(&pipeline, &embeddings, &of(tiling)).swap_remove(0));
        assert_eq!(whole, auto);
        assert_ne!(whole, tiled);
        assert_eq!(tiled.dimensions(), (side, side));
    }

    #[test]
    fn a_folder_of_another_pipeline_is_refused() {
        let device = ComputeDevice::cpu().device;
        let folder = tempfile::tempdir().unwrap();
        let missing = UnClipPipeline::load(folder.path(), &device).unwrap_err().to_string();
        assert!(missing.contains("model_index.json"), "{missing}");
        let index = folder.path().join("model_index.json");
        std::fs::write(index, r#"{"_class_name": "StableDiffusionPipeline"}"#).unwrap();
        let other = UnClipPipeline::load(folder.path(), &device).unwrap_err().to_string();
        assert!(other.contains("StableDiffusionPipeline"), "{other}");
        assert!(other.contains("StableUnCLIPImg2ImgPipeline"), "{other}");
    }
}
