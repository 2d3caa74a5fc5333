//! What a decoding run will cost, told before it starts.

use std::path::Path;

use super::DecodeError;
use super::diffusers_config::{COUNT, DiffusersConfig};
use super::layers::weight_file;
use crate::encoder::clip::ClipTextConfig;
use crate::model::weights::Weights;

/// Bytes of a float32.
const FLOAT: u64 = 4;
/// Maps of a level's width that are alive at the widest moment, with the buffers of convolutions
/// and of the feed forward network (8 + 4 widths): fitted to the peak memory of CPU runs at image
/// sides from 64 to 512 and batches from 1 to 32, which the plan then met to 40 % at worst.
const UNET_MAPS: u64 = 22;
const VAE_MAPS: u64 = 6;
/// Activations that one batch may take when the caller names no batch size.
const MEMORY_BUDGET: u64 = 2 << 30;
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
    /// Estimated peak of memory in bytes: all weights and the activations of one batch.
    pub bytes: u64,
}

/// Sizes of the networks' activations, from their configs.
#[derive(Debug, Clone)]
pub(super) struct MemoryModel {
    weights: u64,
    unet: Levels,
    vae: Levels,
}

/// Channels of a network from full resolution down, and blocks at each resolution.
#[derive(Debug, Clone)]
struct Levels {
    channels: Vec<usize>,
    layers: usize,
}

impl MemoryModel {
    /// Reads the configs and weight headers of a pipeline folder.
    pub(super) fn read(pipeline: &Path, text: &ClipTextConfig) -> Result<Self, DecodeError> {
        let (unet, vae) = (pipeline.join("unet"), pipeline.join("vae"));
        let mut parameters = text_parameters(text);
        for folder in [&unet, &vae] {
            let weights = Weights::open(&weight_file(folder)?)?;
            parameters += weights
                .entries()
                .map(|(_, _, shape)| shape.iter().map(|&side| side as u64).product::<u64>())
                .sum::<u64>();
        }
        Ok(Self {
            weights: parameters * FLOAT,
            unet: Levels::read(&unet, &[320, 640, 1280, 1280], 2)?,
            vae: Levels::read(&vae, &[64], 1)?,
        })
    }

    /// Bytes of all weights in float32.
    pub(super) fn weights(&self) -> u64 {
        self.weights
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
        (skips + widest) * FLOAT
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
            weights: 0,
            unet: Levels { channels: vec![320, 640, 1280, 1280], layers: 2 },
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
    fn a_batch_is_never_larger_than_the_run_or_the_limit() {
        assert_eq!(automatic_batch_size(0), LARGEST_BATCH);
        assert_eq!(automatic_batch_size(u64::MAX), 1);
        assert_eq!(vae_batch_size(1, 3), 3);
    }
}
