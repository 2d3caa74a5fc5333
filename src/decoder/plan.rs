//! What a decoding run will cost, told before it starts.

use std::path::Path;

use super::DecodeError;
use super::diffusers_config::{CHANNELS, COUNT, DiffusersConfig};
use super::layers::{SCORE_BUDGET, score_slices};
use super::vae::{TILE_STEP, VaeTiling};
use crate::encoder::clip::ClipTextConfig;
use crate::model::checkpoint;
use crate::model::precision::Precision;

/// Bytes of a float32.
const FLOAT: u64 = 4;
/// Maps of a level's width that are alive at the widest moment, with the buffers of convolutions
/// and of the feed forward network (8 + 4 widths): fitted to the peak memory of CPU runs at image
/// sides from 64 to 512 and batches from 1 to 32, which the plan then met to 40 % at worst.
const UNET_MAPS: u64 = 22;
const VAE_MAPS: u64 = 6;
/// Activations that one batch may take when the caller names no batch size.
const MEMORY_BUDGET: u64 = 2 << 30;
/// Activations of one image in the VAE beyond which it is decoded in tiles, unless the user decides.
/// An image of 1024 x 1024 pixels stays below it in the VAE of Stable Diffusion.
const TILING_LIMIT: u64 = 8 << 30;
/// Smallest side of a tile in latent pixels: what a tile knows of the picture shrinks with it.
const SMALLEST_TILE: usize = 16;
/// Larger batches are no faster on a CPU, and their tiles appear later.
const LARGEST_BATCH: usize = 16;

/// The cost of a decoding run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodePlan {
    /// Images to be made.
    pub tiles: usize,
    /// Denoising steps of each, as network calls (PNDM makes more calls than steps).
    pub steps: usize,
    /// Images that go through the UNet in all; guidance doubles them.
    pub unet_evaluations: usize,
    pub batches: usize,
    /// Tiles that are denoised together.
    pub batch_size: usize,
    /// Size of each image in pixels.
    pub width: u32,
    pub height: u32,
    /// What the UNet computes in; all else is float32.
    pub precision: Precision,
    /// Parts that the queries of the largest attention are cut into.
    pub attention_slices: usize,
    /// Side in pixels of the tiles that the VAE decodes images in; None: whole.
    pub vae_tile: Option<u32>,
    /// Estimated peak of memory in bytes: all weights and the activations of one batch.
    pub bytes: u64,
}

/// Sizes of the networks' activations, from their configs.
#[derive(Debug, Clone)]
pub(super) struct MemoryModel {
    /// Parameters of the UNet, and of the text encoder and the VAE.
    unet_parameters: u64,
    other_parameters: u64,
    precision: Precision,
    unet: Levels,
    /// Heads at the first level of the UNet that has attention, and that level. None where no
    /// scores are stored.
    attention: Option<(usize, u32)>,
    vae: Levels,
}

/// Channels of a network from full resolution down, and blocks at each resolution.
#[derive(Debug, Clone)]
struct Levels {
    channels: Vec<usize>,
    layers: usize,
}

impl MemoryModel {
    /// Reads the configs and weight headers of a pipeline folder. `stores_scores`: attention may
    /// hold all its scores in memory, as it may on a GPU.
    pub(super) fn read(
        pipeline: &Path,
        text: &ClipTextConfig,
        precision: Precision,
        stores_scores: bool,
    ) -> Result<Self, DecodeError> {
        let (unet, vae) = (pipeline.join("unet"), pipeline.join("vae"));
        let parameters = |folder: &Path, precision: Precision| -> Result<u64, DecodeError> {
            let weights = checkpoint::open(folder, checkpoint::DIFFUSERS, precision)?;
            Ok(weights
                .entries()
                .map(|(_, _, shape)| shape.iter().map(|&side| side as u64).product::<u64>())
                .sum())
        };
        Ok(Self {
            unet_parameters: parameters(&unet, precision)?,
            other_parameters: parameters(&vae, Precision::F32)? + text_parameters(text),
            precision,
            unet: Levels::read(&unet, &[320, 640, 1280, 1280], 2)?,
            attention: if stores_scores { first_attention(&unet)? } else { None },
            vae: Levels::read(&vae, &[64], 1)?,
        })
    }

    /// Bytes of all weights, in the precision they are computed with.
    pub(super) fn weights(&self) -> u64 {
        self.unet_parameters * self.precision.bytes() + self.other_parameters * FLOAT
    }

    /// Parts of the queries in the largest attention of the UNet, for `images` images together with
    /// latents of `pixels` pixels.
    pub(super) fn attention_slices(&self, pixels: u64, images: usize) -> usize {
        let Some((heads, level)) = self.attention else { return 1 };
        let length = usize::try_from((pixels >> (2 * level)).max(1)).unwrap_or(usize::MAX);
        score_slices(heads.saturating_mul(images), length, length)
    }

    /// Bytes of the scores that are in memory at a time, at most.
    pub(super) fn scores(&self, pixels: u64, images: usize) -> u64 {
        let Some((heads, level)) = self.attention else { return 0 };
        let length = (pixels >> (2 * level)).max(1);
        let all = length.saturating_mul(length).saturating_mul(heads as u64 * FLOAT);
        all.saturating_mul(images as u64).min(SCORE_BUDGET)
    }

    /// Side in latent pixels of the tiles for latents of this height and width, where images are
    /// decoded in tiles: `largest` or a fraction of it, so that a tile stays within the budget.
    /// `factor`: image pixels per latent pixel.
    pub(super) fn vae_tile(
        &self,
        tiling: VaeTiling,
        [height, width]: [usize; 2],
        factor: usize,
        largest: usize,
    ) -> Option<usize> {
        let bytes = |height: usize, width: usize| {
            self.vae_activations(
                (height as u64 * width as u64).saturating_mul((factor * factor) as u64),
            )
        };
        match tiling {
            VaeTiling::Off => return None,
            VaeTiling::Auto if bytes(height, width) <= TILING_LIMIT => return None,
            VaeTiling::Auto | VaeTiling::On => {}
        }
        let mut side = largest;
        while side > SMALLEST_TILE && bytes(side, side) > MEMORY_BUDGET {
            side = (side / 2).next_multiple_of(TILE_STEP);
        }
        (height.max(width) > side).then_some(side)
    }

    /// Peak bytes of one image in the UNet, for latents of `pixels` pixels.
    pub(super) fn unet_activations(&self, pixels: u64) -> u64 {
        let Levels { channels, layers } = &self.unet;
        let map = |level: usize, width: usize| width as u64 * (pixels >> (2 * level)).max(1);
        // Every map of the way down waits for the way up.
        let skips: u64 = (0..channels.len())
            .map(|i| map(i, channels[i]) * *layers as u64 + map(i + 1, channels[i]))
            .sum::<u64>()
            + map(0, channels[0]);
        let widest =
            (0..channels.len()).map(|i| UNET_MAPS * map(i, channels[i])).max().unwrap_or(0);
        (skips + widest) * self.precision.bytes()
    }

    /// Peak bytes of one image in the VAE's decoder, for images of `pixels` pixels.
    pub(super) fn vae_activations(&self, pixels: u64) -> u64 {
        let channels = &self.vae.channels;
        // The first resnet of a level still has the width of the level below.
        let widest = (0..channels.len())
            .map(|i| {
                let width = channels[(i + 1).min(channels.len() - 1)].max(channels[i]) as u64;
                VAE_MAPS * width * (pixels >> (2 * i)).max(1)
            })
            .max();
        widest.unwrap_or(0) * FLOAT
    }
}

impl Levels {
    fn read(folder: &Path, channels: &[usize], layers: usize) -> Result<Self, DecodeError> {
        let config = DiffusersConfig::open(folder)?;
        Ok(Self {
            channels: config.level_channels(channels)?,
            layers: config.integer("layers_per_block", layers, COUNT)?,
        })
    }
}

/// Heads of the first level with attention, and the level.
fn first_attention(unet: &Path) -> Result<Option<(usize, u32)>, DecodeError> {
    let config = DiffusersConfig::open(unet)?;
    let levels = config.level_channels(&[320, 640, 1280, 1280])?.len();
    let heads = config.integer_per_level("attention_head_dim", 8, levels, CHANNELS)?;
    let kinds = ["DownBlock2D", "CrossAttnDownBlock2D"];
    let kinds = config.name_per_level("down_block_types", &[1, 1, 1, 0], levels, &kinds)?;
    let first = kinds.iter().position(|kind| *kind == 1).unwrap_or(levels - 1);
    Ok(Some((heads[first], first as u32)))
}

/// Tiles in one batch, when the caller leaves that to Haze.
pub(super) fn automatic_batch_size(bytes_per_tile: u64) -> usize {
    let fitting = MEMORY_BUDGET / bytes_per_tile.max(1);
    usize::try_from(fitting).unwrap_or(LARGEST_BATCH).clamp(1, LARGEST_BATCH)
}

/// Images that go through the VAE together: its activations are far larger than the UNet's.
pub(super) fn vae_batch_size(bytes_per_image: u64, tiles: usize) -> usize {
    automatic_batch_size(bytes_per_image).min(tiles)
}

fn text_parameters(text: &ClipTextConfig) -> u64 {
    let width = text.transformer.hidden_size;
    let layer = 4 * width * width + 2 * width * text.transformer.intermediate_size;
    let tables = (text.vocab_size + text.max_position_embeddings) * width;
    (tables + text.transformer.num_hidden_layers * layer) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stable Diffusion 2.1.
    fn full_size() -> MemoryModel {
        MemoryModel {
            unet_parameters: 870 << 20,
            other_parameters: 420 << 20,
            precision: Precision::F32,
            unet: Levels { channels: vec![320, 640, 1280, 1280], layers: 2 },
            attention: Some((5, 0)),
            vae: Levels { channels: vec![128, 256, 512, 512], layers: 2 },
        }
    }

    #[test]
    fn larger_images_take_more_memory_and_smaller_batches() {
        let model = full_size();
        let (small, large) = (model.unet_activations(64 * 64), model.unet_activations(96 * 96));
        assert_eq!(large, small * 9 / 4);
        assert!(automatic_batch_size(large) < automatic_batch_size(small));
        assert!(automatic_batch_size(large) >= 1);
        // One image of the VAE at 768 pixels needs gigabytes, and still has to be made.
        assert!(model.vae_activations(768 * 768) > 2 << 30);
        assert_eq!(vae_batch_size(model.vae_activations(768 * 768), 8), 1);
    }

    #[test]
    fn half_precision_halves_the_unet_alone() {
        let full = full_size();
        let half = MemoryModel { precision: Precision::F16, ..full.clone() };
        assert_eq!(half.unet_activations(96 * 96) * 2, full.unet_activations(96 * 96));
        assert_eq!(half.vae_activations(768 * 768), full.vae_activations(768 * 768));
        assert_eq!(full.weights() - half.weights(), 2 * (870 << 20));
    }

    #[test]
    fn attention_is_cut_where_its_scores_could_be_stored_and_are_many() {
        let model = full_size();
        assert_eq!(model.attention_slices(16 * 16, 2), 1);
        assert_eq!(model.attention_slices(96 * 96, 2), 7);
        assert_eq!(model.scores(96 * 96, 2), SCORE_BUDGET);
        assert_eq!(model.scores(16 * 16, 2), 256 * 256 * 5 * 2 * 4);
        let fused = MemoryModel { attention: None, ..model };
        assert_eq!((fused.attention_slices(96 * 96, 2), fused.scores(96 * 96, 2)), (1, 0));
    }

    #[test]
    fn large_images_are_decoded_in_tiles_that_fit() {
        let model = full_size();
        let tile = |tiling, side: usize| model.vae_tile(tiling, [side; 2], 8, 96);
        assert_eq!(tile(VaeTiling::Auto, 96), None);
        assert_eq!(tile(VaeTiling::Auto, 128), None);
        assert_eq!(tile(VaeTiling::Off, 1024), None);
        for (tiling, side) in [(VaeTiling::Auto, 192), (VaeTiling::On, 96)] {
            let tile = tile(tiling, side).unwrap();
            assert_eq!(tile, 48);
            assert!(model.vae_activations((tile * tile * 64) as u64) <= MEMORY_BUDGET);
        }
        // What fits into one tile is no tile.
        assert_eq!(tile(VaeTiling::On, 48), None);
    }

    #[test]
    fn a_batch_is_never_larger_than_the_run_or_the_limit() {
        assert_eq!(automatic_batch_size(0), LARGEST_BATCH);
        assert_eq!(automatic_batch_size(u64::MAX), 1);
        assert_eq!(vae_batch_size(1, 3), 3);
    }
}
