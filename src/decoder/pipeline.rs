//! The unCLIP pipeline: image embeddings to images (diffusers' `StableUnCLIPImg2ImgPipeline`).
//!
//! An embedding is noised to a class vector; a UNet conditioned on it and on a text denoises
//! latents step by step, with classifier-free guidance; a VAE turns the latents into pixels.
//! [`UnClipPipeline::decode`] does it all; its stages are public for tests and for callers with
//! noise or latents of their own. What does not depend on how the UNet is conditioned is
//! [`LatentDiffusion`], which the route by prompt embeddings ([`super::prompt`]) shares.

use std::ops::{ControlFlow, Deref, Range};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use burn::tensor::{DType, Device, Tensor, TensorData};
use image::RgbImage;

use super::kind::PipelineKind;
use super::latent_preview::LatentPreview;
use super::layers::Engine;
use super::noise::TileNoise;
use super::plan::{MemoryModel, automatic_batch_size, vae_batch_size};
use super::prompt_encoder::PromptEncoder;
use super::scheduler::{Scheduler, SchedulerConfig, SchedulerKind};
use super::unet::{Conditioning, UNet};
use super::vae::{Vae, VaeTiling};
use super::{DecodeError, DecodePlan, ImageNoiser};
use crate::model::precision::Precision;

/// Longest side of an image in pixels.
const SIDE_LIMIT: u32 = 8192;
/// Most guidance that can be asked for; useful values lie below 20.
const GUIDANCE_LIMIT: f64 = 1000.0;
const RGB: usize = 3;

/// How embeddings are decoded. Batch size has no influence on the images but for float rounding.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeOptions {
    /// None: the scheduler of the pipeline folder.
    pub scheduler: Option<SchedulerKind>,
    /// Denoising steps, at least 1.
    pub steps: usize,
    /// Strength of classifier-free guidance (arXiv 2207.12598); 1 or less turns it off.
    pub guidance_scale: f64,
    /// How far embeddings are noised, from 0 to the levels of the pipeline (1000), exclusive.
    pub noise_level: usize,
    /// Text that guides beside the embedding; usually empty.
    pub prompt: String,
    /// Text that guidance steers away from; usually empty.
    pub negative_prompt: String,
    /// Width and height in pixels; None: the size that the pipeline was trained on.
    pub size: Option<(u32, u32)>,
    pub seed: u64,
    /// False: every tile gets the noise of tile 0, so that tiles differ by their embedding alone.
    pub independent_noise: bool,
    /// Index of the noise that tiles have in common; 0 unless noises are compared.
    pub common_noise: u64,
    /// Tiles denoised together; None: as many as fit a memory budget.
    pub batch_size: Option<usize>,
    /// Whether the VAE decodes in tiles, which changes the images a little.
    pub vae_tiling: VaeTiling,
    /// Index of the first embedding among all tiles of the run, which selects independent noise.
    pub first_tile: u64,
}

impl Default for DecodeOptions {
    fn default() -> Self {
        Self {
            scheduler: None,
            steps: 20,
            guidance_scale: 5.0,
            noise_level: 0,
            prompt: String::new(),
            negative_prompt: String::new(),
            size: None,
            seed: 0,
            independent_noise: false,
            common_noise: 0,
            batch_size: None,
            vae_tiling: VaeTiling::Auto,
            first_tile: 0,
        }
    }
}

/// Where a decoding run stands, after a denoising step or after a batch became images.
pub struct DecodeProgress<'a> {
    /// Denoising steps done of this batch, as network calls.
    pub step: usize,
    pub steps: usize,
    /// Index of this batch.
    pub batch: usize,
    pub batches: usize,
    /// Finished images of all batches so far, in the order of the embeddings.
    pub finished: &'a [RgbImage],
    /// Number of images in all.
    pub tiles: usize,
    /// What the tiles in progress look like, which follow the finished ones.
    pub preview: Option<Preview<'a>>,
}

impl DecodeProgress<'_> {
    /// Share of the run that is done, 0 to 1.
    pub fn fraction(&self) -> f64 {
        let batches = self.batches.max(1) as f64;
        let within = match &self.preview {
            Some(_) => self.step as f64 / self.steps.max(1) as f64,
            None => 1.0,
        };
        (self.batch as f64 + within) / batches
    }
}

/// The clean images predicted halfway, decoded only on demand.
pub struct Preview<'a> {
    pipeline: &'a LatentDiffusion,
    latents: Tensor<4>,
    tiling: VaeTiling,
}

impl Preview<'_> {
    /// Decodes the predictions, one image per tile in progress.
    ///
    /// # Errors
    /// When the device fails.
    pub fn images(&self) -> Result<Vec<RgbImage>, DecodeError> {
        self.pipeline.images(self.latents.clone(), self.tiling)
    }

    /// Rough colours of the predictions, a fraction of the size and of the time.
    ///
    /// # Errors
    /// When the device fails.
    pub fn rough_images(&self) -> Result<Vec<RgbImage>, DecodeError> {
        let LatentDiffusion { rough, vae, device, .. } = self.pipeline;
        if rough.get().is_none() {
            // Another thread may have been quicker; both have fitted the same map.
            let _ = rough.set(LatentPreview::fit(vae, device)?);
        }
        Ok(rough.get().map(|rough| rough.images(self.latents.clone())).unwrap_or_default())
    }
}

/// What the text encoder makes of the prompts: hidden states `[R, L, E]` each, where R is 1 for
/// one prompt shared by all tiles, or the number of tiles.
#[derive(Debug, Clone)]
pub struct Prompts {
    positive: Tensor<3>,
    negative: Tensor<3>,
}

/// Everything that one batch is conditioned on.
#[derive(Debug, Clone)]
pub struct Condition {
    conditioning: Conditioning,
    class_labels: Option<Tensor<2>>,
    hidden_states: Tensor<3>,
    /// None without guidance.
    guidance_scale: Option<f64>,
}

impl Condition {
    /// Class vectors as the UNet gets them: `[B, 2 D]`, or with guidance `[2 B, 2 D]`, zeros
    /// first. None for a UNet without class vectors.
    pub fn class_labels(&self) -> Option<&Tensor<2>> {
        self.class_labels.as_ref()
    }

    /// Text states as the UNet gets them: `[R, L, E]`, or with guidance `[2 R, L, E]`, negative
    /// first.
    pub fn hidden_states(&self) -> &Tensor<3> {
        &self.hidden_states
    }

    /// The network's input for both halves of guidance.
    fn doubled(&self, sample: Tensor<4>) -> Tensor<4> {
        match self.guidance_scale {
            Some(_) => sample.repeat_dim(0, 2),
            None => sample,
        }
    }

    /// unconditional + scale (conditional - unconditional)
    fn guide(&self, output: Tensor<4>) -> Tensor<4> {
        let Some(scale) = self.guidance_scale else { return output };
        let tiles = output.dims()[0] / 2;
        let unconditional = output.clone().narrow(0, 0, tiles);
        let conditional = output.narrow(0, tiles, tiles);
        unconditional.clone() + (conditional - unconditional).mul_scalar(scale)
    }
}

/// One denoising step that was just taken.
pub struct DenoisingStep<'a> {
    /// Index of the network call.
    pub call: usize,
    /// Number of network calls in all.
    pub calls: usize,
    /// What the network was shown: `[B, C, h, w]`, or `[2 B, C, h, w]` with guidance.
    pub network_input: &'a Tensor<4>,
    /// What it predicted, before guidance, in the shape of its input.
    pub network_output: &'a Tensor<4>,
    /// Latents after the step, `[B, C, h, w]`.
    pub latents: &'a Tensor<4>,
    /// Clean latents predicted by the step, `[B, C, h, w]`.
    pub predicted_original: &'a Tensor<4>,
}

/// Prepares the UNet for a range of tiles that have this noise.
pub(super) type ConditionOf<'a> =
    &'a mut dyn FnMut(Range<usize>, &TileNoise) -> Result<Condition, DecodeError>;

/// What all latent diffusion decoders have in common, with its weights on a device.
#[derive(Debug)]
pub struct LatentDiffusion {
    device: Device,
    unet: UNet,
    vae: Vae,
    text: Arc<PromptEncoder>,
    scheduler: SchedulerConfig,
    memory: MemoryModel,
    /// Made when the first preview is wanted.
    rough: OnceLock<LatentPreview>,
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
            parts.unet.class_vector_len().unwrap_or(0),
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
                Tensor::from_data(rows, (&self.device, DType::F32)),
                options.noise_level,
                noise.embedding_noise(dim, &self.device),
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

impl LatentDiffusion {
    /// Reads the folders `unet`, `vae` and `scheduler` of a pipeline whose text encoder is `text`.
    ///
    /// # Errors
    /// When a part is missing, damaged or unsupported, or the parts do not fit each other.
    pub(super) fn load(
        folder: &Path,
        text: Arc<PromptEncoder>,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, DecodeError> {
        let unet = UNet::load_in(&folder.join("unet"), device, precision)?;
        let vae = Vae::load(&folder.join("vae"), device)?;
        for (what, found, expected) in [
            ("the UNet's latent channels (in_channels)", unet.in_channels(), vae.latent_channels()),
            ("the UNet's out_channels", unet.out_channels(), vae.latent_channels()),
            ("the text encoder's hidden_size", text.width(), unet.text_dim()),
        ] {
            check_size(folder, what, found, expected)?;
        }
        let stores_scores = Engine::for_device(device) == Engine::Burn;
        Ok(Self {
            memory: MemoryModel::read(folder, text.config(), unet.precision(), stores_scores)?,
            scheduler: SchedulerConfig::read(&folder.join("scheduler"))?,
            device: device.clone(),
            unet,
            vae,
            text,
            rough: OnceLock::new(),
        })
    }

    /// What the UNet computes in.
    pub fn precision(&self) -> Precision {
        self.unet.precision()
    }

    /// The text encoder with its tokenizer.
    pub fn text(&self) -> &PromptEncoder {
        &self.text
    }

    /// The UNet.
    pub(super) fn unet(&self) -> &UNet {
        &self.unet
    }

    /// Where the weights live.
    pub(super) fn device(&self) -> &Device {
        &self.device
    }

    /// The VAE, which can also encode images.
    pub fn vae(&self) -> &Vae {
        &self.vae
    }

    /// A scheduler for one run of `steps` steps; `kind` None takes the one of the folder.
    ///
    /// # Errors
    /// When the config does not work with that algorithm or number of steps.
    pub fn scheduler(
        &self,
        kind: Option<SchedulerKind>,
        steps: usize,
    ) -> Result<Scheduler<4>, DecodeError> {
        let kind = match kind {
            Some(kind) => kind,
            None => self.scheduler.kind()?,
        };
        Scheduler::new(&self.scheduler, kind, steps)
    }

    /// What decoding `tiles` tiles will cost.
    ///
    /// # Errors
    /// When an option is out of range.
    pub(super) fn plan_tiles(
        &self,
        tiles: usize,
        options: &DecodeOptions,
    ) -> Result<DecodePlan, DecodeError> {
        let steps = self.scheduler(options.scheduler, options.steps)?.timesteps().len();
        let guidance_scale = options.guidance_scale;
        if !(0.0..=GUIDANCE_LIMIT).contains(&guidance_scale) {
            return Err(DecodeError::Option {
                option: "the guidance scale",
                found: guidance_scale.to_string(),
                expected: format!("0 to {GUIDANCE_LIMIT}"),
            });
        }
        let (width, height) = self.size(options)?;
        let halves = if guidance_scale > 1.0 { 2 } else { 1 };
        let [_, latent_height, latent_width] = self.latent_shape((width, height));
        let pixels = (latent_height * latent_width) as u64;
        let unet = self.memory.unet_activations(pixels);
        let tile = self.vae_tile(options.vae_tiling, [latent_height, latent_width]);
        let vae = self.vae_bytes(tile, [latent_height, latent_width]);
        let batch_size = match options.batch_size {
            Some(0) => {
                return Err(DecodeError::Option {
                    option: "the batch size",
                    found: "0".to_owned(),
                    expected: "at least 1".to_owned(),
                });
            }
            Some(size) => size,
            None => automatic_batch_size(unet * halves as u64),
        };
        let batch_size = batch_size.min(tiles.max(1));
        let images = halves * batch_size;
        let activations = (unet.saturating_mul(images as u64))
            .saturating_add(self.memory.scores(pixels, images))
            .max(vae.saturating_mul(vae_batch_size(vae, batch_size) as u64));
        Ok(DecodePlan {
            tiles,
            steps,
            unet_evaluations: tiles * steps * halves,
            batches: tiles.div_ceil(batch_size),
            batch_size,
            width,
            height,
            precision: self.precision(),
            attention_slices: self.memory.attention_slices(pixels, images),
            vae_tile: tile.map(|side| (side * self.vae.spatial_factor()) as u32),
            bytes: self.memory.weights().saturating_add(activations),
        })
    }

    /// Makes the tiles of a plan, batch by batch. `condition` prepares the UNet for a range of
    /// tiles, whose noise it is given; `on_step` hears of every denoising step and every finished
    /// batch, and can stop the run.
    ///
    /// # Errors
    /// When `condition` fails, latents diverge, the device fails, or `on_step` breaks
    /// ([`DecodeError::Cancelled`]).
    pub(super) fn decode_tiles(
        &self,
        plan: &DecodePlan,
        options: &DecodeOptions,
        condition: ConditionOf<'_>,
        on_step: &mut dyn FnMut(DecodeProgress<'_>) -> ControlFlow<()>,
    ) -> Result<Vec<RgbImage>, DecodeError> {
        let latent_shape = self.latent_shape((plan.width, plan.height));
        let mut images: Vec<RgbImage> = Vec::with_capacity(plan.tiles);
        for batch in 0..plan.batches {
            let done = images.len();
            let tiles = done..plan.tiles.min(done + plan.batch_size);
            let first = options.first_tile + done as u64;
            let indices = match options.independent_noise {
                true => (first..).take(tiles.len()).collect(),
                false => vec![options.common_noise],
            };
            let count = tiles.len();
            let latents = within(Stage::Denoising, count, || {
                let mut noise = TileNoise::new(options.seed, indices, count);
                let condition = condition(tiles, &noise)?;
                let scheduler = self.scheduler(options.scheduler, options.steps)?;
                let latents = noise
                    .initial_latents(latent_shape, &self.device)
                    .mul_scalar(scheduler.init_noise_sigma());
                self.denoise_latents(
                    latents,
                    &condition,
                    scheduler,
                    &mut |_| noise.next_step(latent_shape, &self.device),
                    &mut |step| {
                        let latents = step.predicted_original.clone();
                        let preview =
                            Preview { pipeline: self, latents, tiling: options.vae_tiling };
                        on_step(progress(plan, batch, step.call + 1, &images, Some(preview)))
                    },
                )
            });
            let latents = latents.inspect_err(|error| self.reclaim(error))?;
            let finished =
                within(Stage::Pixels, count, || self.images(latents, options.vae_tiling));
            let finished = finished.inspect_err(|error| self.reclaim(error))?;
            images.extend(finished);
            if on_step(progress(plan, batch, plan.steps, &images, None)).is_break() {
                return Err(DecodeError::Cancelled);
            }
        }
        Ok(images)
    }

    /// Gives the memory of a batch that did not fit back to the device, for a smaller one.
    fn reclaim(&self, error: &DecodeError) {
        if matches!(error, DecodeError::OutOfMemory { .. }) {
            self.device.memory_cleanup();
        }
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
        Ok(Prompts { positive: self.text.encode(positive)?, negative: self.text.encode(negative)? })
    }

    /// Prepares the UNet for a batch. With guidance the first half of the rows is what it steers
    /// away from.
    pub(super) fn prepare(
        &self,
        hidden_states: Tensor<3>,
        class_labels: Option<Tensor<2>>,
        guidance_scale: Option<f64>,
    ) -> Result<Condition, DecodeError> {
        Ok(Condition {
            conditioning: self.unet.prepare(hidden_states.clone(), class_labels.clone())?,
            class_labels,
            hidden_states,
            guidance_scale,
        })
    }

    /// Denoises `latents` `[B, C, h, w]`, which are used as they are: noise drawn by the caller
    /// has to be scaled by [`Scheduler::init_noise_sigma`] first. `noise` gives fresh standard
    /// normal noise of the latents' shape for call i, where the scheduler wants it. `on_call`
    /// hears of every step and can stop the run.
    ///
    /// # Errors
    /// When latents become infinite or NaN, the device fails, or `on_call` breaks.
    pub fn denoise_latents(
        &self,
        mut latents: Tensor<4>,
        condition: &Condition,
        mut scheduler: Scheduler<4>,
        noise: &mut dyn FnMut(usize) -> Tensor<4>,
        on_call: &mut dyn FnMut(DenoisingStep<'_>) -> ControlFlow<()>,
    ) -> Result<Tensor<4>, DecodeError> {
        let timesteps = scheduler.timesteps().to_vec();
        let calls = timesteps.len();
        for (call, &timestep) in timesteps.iter().enumerate() {
            let input = condition.doubled(scheduler.scale_model_input(latents.clone(), call));
            let output =
                self.unet.forward_prepared(input.clone(), timestep, &condition.conditioning)?;
            let noise = scheduler.needs_noise(call).then(|| noise(call));
            let step = scheduler.step(condition.guide(output.clone()), call, latents, noise)?;
            latents = step.prev_sample;
            // Reading a number back also waits for the device, so that progress is real and a
            // cancel takes effect at once.
            if !is_finite(&latents)? {
                return Err(DecodeError::NotFinite { step: call + 1, steps: calls });
            }
            let step = DenoisingStep {
                call,
                calls,
                network_input: &input,
                network_output: &output,
                latents: &latents,
                predicted_original: &step.pred_original_sample,
            };
            if on_call(step).is_break() {
                return Err(DecodeError::Cancelled);
            }
        }
        Ok(latents)
    }

    /// Pixels of latents `[B, C, h, w]`: `[B, 3, H, W]`, roughly -1 to 1, not clamped.
    ///
    /// # Errors
    /// When the latents do not fit the VAE.
    pub fn decode_latents(&self, latents: Tensor<4>) -> Result<Tensor<4>, DecodeError> {
        self.decode_latents_in(latents, None)
    }

    /// As [`Self::decode_latents`]; `tile` is the side of the VAE's tiles in latent pixels.
    fn decode_latents_in(
        &self,
        latents: Tensor<4>,
        tile: Option<usize>,
    ) -> Result<Tensor<4>, DecodeError> {
        let mut latents = latents.div_scalar(self.vae.scaling_factor());
        if let Some(shift) = self.vae.shift_factor() {
            latents = latents.add_scalar(shift);
        }
        Ok(match tile {
            Some(side) => self.vae.decode_tiled(latents, side)?,
            None => self.vae.decode(latents)?,
        })
    }

    /// Images of latents `[B, C, h, w]`.
    ///
    /// # Errors
    /// When the latents do not fit the VAE, or the device fails.
    pub fn images(
        &self,
        latents: Tensor<4>,
        tiling: VaeTiling,
    ) -> Result<Vec<RgbImage>, DecodeError> {
        let [tiles, _, height, width] = latents.dims();
        let tile = self.vae_tile(tiling, [height, width]);
        let bytes = self.vae_bytes(tile, [height, width]);
        let batch = vae_batch_size(bytes, tiles).max(1);
        let mut images = Vec::with_capacity(tiles);
        for first in (0..tiles).step_by(batch) {
            let chunk = latents.clone().narrow(0, first, batch.min(tiles - first));
            images.extend(to_images(unit_range(self.decode_latents_in(chunk, tile)?))?);
        }
        Ok(images)
    }

    /// Side in latent pixels of the tiles that latents of this height and width are decoded in.
    fn vae_tile(&self, tiling: VaeTiling, latents: [usize; 2]) -> Option<usize> {
        let (factor, largest) = (self.vae.spatial_factor(), self.vae.tile_side());
        self.memory.vae_tile(tiling, latents, factor, largest)
    }

    /// Peak bytes of one image in the VAE, in such tiles or whole.
    fn vae_bytes(&self, tile: Option<usize>, [height, width]: [usize; 2]) -> u64 {
        let pixels = tile.map_or(height as u64 * width as u64, |side| (side * side) as u64);
        self.memory.vae_activations(pixels << (2 * self.vae.spatial_factor().ilog2()))
    }

    /// `[C, h, w]` of the latents of an image of that width and height.
    fn latent_shape(&self, (width, height): (u32, u32)) -> [usize; 3] {
        let factor = self.vae.spatial_factor();
        [self.vae.latent_channels(), height as usize / factor, width as usize / factor]
    }

    /// Width and height of the images.
    fn size(&self, options: &DecodeOptions) -> Result<(u32, u32), DecodeError> {
        let factor = self.vae.spatial_factor() as u32;
        let trained = self.unet.sample_size().and_then(|[height, width]| {
            let side = |latent: usize| u32::try_from(latent).ok()?.checked_mul(factor);
            Some((side(width)?, side(height)?))
        });
        let fits = |side: u32| side.is_multiple_of(factor) && (1..=SIDE_LIMIT).contains(&side);
        match options.size.or(trained) {
            Some((width, height)) if fits(width) && fits(height) => Ok((width, height)),
            found => Err(DecodeError::Option {
                option: "the image size",
                found: match found {
                    Some((width, height)) => format!("{width} x {height}"),
                    None => "not given by the model".to_owned(),
                },
                expected: format!("sides that are multiples of {factor}, up to {SIDE_LIMIT}"),
            }),
        }
    }
}

fn progress<'a>(
    plan: &DecodePlan,
    batch: usize,
    step: usize,
    finished: &'a [RgbImage],
    preview: Option<Preview<'a>>,
) -> DecodeProgress<'a> {
    let DecodePlan { steps, batches, tiles, .. } = *plan;
    DecodeProgress { step, steps, batch, batches, finished, tiles, preview }
}

/// Pixels `[B, 3, H, W]` from -1..1 to 0..1, clamped.
pub fn unit_range(decoded: Tensor<4>) -> Tensor<4> {
    decoded.div_scalar(2.0).add_scalar(0.5).clamp(0.0, 1.0)
}

/// Pixels `[B, 3, H, W]` in 0..1 as 8-bit images.
fn to_images(pixels: Tensor<4>) -> Result<Vec<RgbImage>, DecodeError> {
    let [tiles, channels, height, width] = pixels.dims();
    let (interleaved, shape) = (pixels.permute([0, 2, 3, 1]), [tiles, height, width, channels]);
    if channels != RGB {
        return Err(DecodeError::Pixels { shape });
    }
    let data = read(interleaved, Stage::Pixels, tiles)?;
    let levels: Vec<u8> = data.iter::<f32>().map(|v| (v * 255.0).round() as u8).collect();
    levels
        .chunks_exact(height * width * RGB)
        .map(|image| {
            RgbImage::from_raw(width as u32, height as u32, image.to_vec())
                .ok_or(DecodeError::Pixels { shape })
        })
        .collect()
}

/// False when any latent is infinite or NaN.
fn is_finite(latents: &Tensor<4>) -> Result<bool, DecodeError> {
    let tiles = latents.dims()[0];
    let mean = read(latents.clone().abs().mean(), Stage::Denoising, tiles)?;
    Ok(mean.iter::<f32>().all(f32::is_finite))
}

/// Where memory can run out.
#[derive(Clone, Copy)]
enum Stage {
    Denoising,
    Pixels,
}

/// Reads a tensor back; this is where a device reports what went wrong earlier.
fn read<const D: usize>(
    tensor: Tensor<D>,
    stage: Stage,
    batch_size: usize,
) -> Result<TensorData, DecodeError> {
    tensor.try_into_data().map_err(|error| device_error(stage, batch_size, error.to_string()))
}

/// How devices say that memory ran out: cubecl's errors, drivers' and their names.
const OUT_OF_MEMORY: [&str; 5] = [
    "out of device memory",
    "out of memory",
    "out_of_memory",
    "outofmemory",
    "can't allocate buffer of size",
];

/// The line of a device's words that says so, without the trace behind it.
fn out_of_memory(reason: &str) -> Option<&str> {
    let says_so = |line: &&str| {
        let line = line.to_lowercase();
        OUT_OF_MEMORY.iter().any(|words| line.contains(words))
    };
    reason.lines().find(says_so).map(str::trim)
}

/// Runs a stage; a panic that says that memory ran out becomes an error, any other goes on.
fn within<T>(
    stage: Stage,
    batch_size: usize,
    work: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        match crate::panics::message(panic.as_ref()).filter(|text| out_of_memory(text).is_some()) {
            Some(text) => Err(device_error(stage, batch_size, text)),
            None => std::panic::resume_unwind(panic),
        }
    })
}

/// What a device's words mean, and what helps.
fn device_error(stage: Stage, batch_size: usize, reason: String) -> DecodeError {
    let Some(line) = out_of_memory(&reason) else {
        return DecodeError::Device { batch_size, reason };
    };
    let reason = line.to_owned();
    let mut advice = Vec::new();
    if batch_size > 1 {
        advice.push(format!("--batch-size {}", batch_size / 2));
    }
    let stage = match stage {
        Stage::Denoising => {
            advice.push("--precision f16".to_owned());
            "denoising"
        }
        Stage::Pixels => {
            advice.push("--vae-tiling on".to_owned());
            "making pixels of"
        }
    };
    advice.push("--device cpu".to_owned());
    let advice = format!("try {}", advice.join(", or "));
    DecodeError::OutOfMemory { stage, batch_size, reason, advice }
}

/// Two parts of a pipeline must agree on a size.
pub(super) fn check_size(
    folder: &Path,
    what: &str,
    found: usize,
    expected: usize,
) -> Result<(), DecodeError> {
    if found == expected {
        return Ok(());
    }
    Err(DecodeError::folder(
        folder,
        format!("{what} is {found}, but the other parts need {expected}"),
    ))
}

/// Embeddings must have `dim` finite numbers.
pub(super) fn check_embeddings(embeddings: &[Vec<f32>], dim: usize) -> Result<(), DecodeError> {
    if let Some(embedding) = embeddings.iter().find(|e| e.len() != dim) {
        return Err(DecodeError::EmbeddingDim { found: embedding.len(), expected: dim });
    }
    match embeddings.iter().position(|e| e.iter().any(|v| !v.is_finite())) {
        Some(tile) => Err(DecodeError::EmbeddingNotFinite { tile }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
    fn memory_that_runs_out_is_told_from_other_failures_with_what_helps() {
        let of = |stage, batch, reason: &str| device_error(stage, batch, reason.to_owned());
        // The words of cubecl, with the trace that it puts behind them.
        let words = "a task failed:\nout of device memory allocating 9 bytes\n  0: main\n  1: run";
        let error = of(Stage::Denoising, 8, words).to_string();
        let start = "denoising a batch of 8: out of device memory allocating 9 bytes; try";
        assert!(error.contains(start), "{error}");
        assert!(error.contains("--batch-size 4") && error.contains("--precision f16"), "{error}");
        assert!(!error.contains("main"), "{error}");
        let panicking = |text: &'static str| {
            within(Stage::Pixels, 2, || -> Result<(), DecodeError> { std::panic::panic_any(text) })
        };
        let error = panicking("can't allocate buffer of size: 9").unwrap_err();
        assert!(matches!(error, DecodeError::OutOfMemory { batch_size: 2, .. }), "{error}");
        assert!(std::panic::catch_unwind(|| panicking("index out of bounds")).is_err());
        let error = of(Stage::Pixels, 1, "Out of memory").to_string();
        assert!(error.contains("--vae-tiling on") && !error.contains("--batch-size"), "{error}");
        let error = of(Stage::Pixels, 4, "the device was lost");
        assert!(matches!(error, DecodeError::Device { batch_size: 4, .. }), "{error}");
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
