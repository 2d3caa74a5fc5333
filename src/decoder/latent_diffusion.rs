//! What all latent diffusion decoders have in common: a UNet that denoises latents step by step, with
//! classifier-free guidance, and a VAE that turns them into pixels.
//!
//! How the UNet is conditioned is up to [`UnClipPipeline`](super::UnClipPipeline) and
//! [`PromptPipeline`](super::PromptPipeline), which hand in a [`Condition`] for every batch.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Tensor};
use image::RgbImage;

use super::failure::{Stage, read, within};
use super::latent_preview::LatentPreview;
use super::layers::Engine;
use super::noise::TileNoise;
use super::plan::{MemoryModel, automatic_batch_size, vae_batch_size};
use super::prompt_encoder::PromptEncoder;
use super::scheduler::{Scheduler, SchedulerConfig, SchedulerKind};
use super::unet::{Conditioning, UNet};
use super::vae::{Vae, VaeTiling};
use super::{DecodeError, DecodeOptions, DecodePlan};
use crate::model::precision::Precision;

/// Longest side of an image in pixels.
const SIDE_LIMIT: u32 = 8192;
/// Most guidance that can be asked for; useful values lie below 20.
const GUIDANCE_LIMIT: f64 = 1000.0;
const RGB: usize = 3;

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
