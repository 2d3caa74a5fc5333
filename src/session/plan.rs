//! What a recipe would take, told before it runs.

use serde::Serialize;

use crate::decoder::DecodePlan;
use crate::model::precision::Precision;

/// The cost of a recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    pub device: String,
    /// Embeddings behind the statistics.
    pub draws: usize,
    pub dropout_passes: usize,
    /// Denoising steps of each embedding; None where no prior is sampled.
    pub prior_steps: Option<usize>,
    /// Images decoded: one per sample and the mean; 0 when nothing is decoded.
    pub images: usize,
    /// Width and height of each image in pixels.
    pub image_size: Option<(u32, u32)>,
    pub steps: usize,
    /// Images that go through the UNet in all; guidance doubles them.
    pub unet_evaluations: usize,
    pub batches: usize,
    pub batch_size: usize,
    /// What the decoder's UNet computes in; None when nothing is decoded.
    pub precision: Option<Precision>,
    /// Parts that the decoder's largest attention is computed in.
    pub attention_slices: usize,
    /// Side in pixels of the tiles that images are decoded in; None: whole.
    pub vae_tile: Option<u32>,
    /// Estimated peak of the decoder's memory in bytes.
    pub decoder_bytes: u64,
}

impl Plan {
    /// A plan; `decode` is what the decoder says, where anything is decoded.
    pub fn new(
        device: String,
        draws: usize,
        dropout_passes: usize,
        prior_steps: Option<usize>,
        decode: Option<DecodePlan>,
    ) -> Self {
        let decode = decode.as_ref();
        let count = |f: fn(&DecodePlan) -> usize| decode.map_or(0, f);
        Self {
            device,
            draws,
            dropout_passes,
            prior_steps,
            images: count(|p| p.tiles),
            image_size: decode.map(|p| (p.width, p.height)),
            steps: count(|p| p.steps),
            unet_evaluations: count(|p| p.unet_evaluations),
            batches: count(|p| p.batches),
            batch_size: count(|p| p.batch_size),
            precision: decode.map(|p| p.precision),
            attention_slices: count(|p| p.attention_slices),
            vae_tile: decode.and_then(|p| p.vae_tile),
            decoder_bytes: decode.map_or(0, |p| p.bytes),
        }
    }

    /// Label and value of every line for people.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("device", self.device.clone()),
            (
                "draws",
                match self.prior_steps {
                    Some(steps) => {
                        format!("{} embeddings from the prior, {steps} steps each", self.draws)
                    }
                    None => {
                        format!("{} embeddings, {} dropout passes", self.draws, self.dropout_passes)
                    }
                },
            ),
        ];
        match self.image_size {
            Some((width, height)) => {
                lines.push((
                    "images",
                    format!(
                        "{} of {width} x {height} pixels (the mean and every sample)",
                        self.images
                    ),
                ));
                lines.push((
                    "steps",
                    format!(
                        "{} each, {} network evaluations in {} batch(es) of up to {}",
                        self.steps, self.unet_evaluations, self.batches, self.batch_size
                    ),
                ));
                if let Some(precision) = self.precision {
                    lines.push(("precision", format!("{precision} in the UNet, f32 elsewhere")));
                }
                let mut memory = format!("about {} MiB for the decoder", self.decoder_bytes >> 20);
                if self.attention_slices > 1 {
                    memory += &format!(", attention in {} slices", self.attention_slices);
                }
                if let Some(side) = self.vae_tile {
                    memory += &format!(", VAE in tiles of {side} x {side} pixels");
                }
                lines.push(("memory", memory));
            }
            None => lines.push(("images", "none".to_owned())),
        }
        lines
    }
}
