//! Decoding a large image in overlapping tiles, so that the activations of one tile are in memory
//! at a time.
//!
//! As `AutoencoderKL.tiled_decode` of diffusers: neighbours share a quarter of their side, over
//! which one fades into the other. Every tile has its own normalisation and attention, so that the
//! picture differs from one that is decoded whole, by slow changes of colour most of all.

use std::fmt;
use std::str::FromStr;

use burn::tensor::{DType, Tensor, TensorData};
use serde::{Deserialize, Serialize};

/// Sides of tiles are multiples of this, so that a quarter of one is whole.
pub const TILE_STEP: usize = 4;

/// Whether images are decoded in tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VaeTiling {
    /// Where one image would take too much memory; a question of its size and of the VAE alone, so
    /// that every machine answers it alike.
    #[default]
    Auto,
    On,
    Off,
}

impl VaeTiling {
    /// All choices, in the order shown to the user.
    pub const ALL: [VaeTiling; 3] = [Self::Auto, Self::On, Self::Off];
}

impl fmt::Display for VaeTiling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        })
    }
}

impl FromStr for VaeTiling {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| format!("unknown VAE tiling {text:?}; expected auto, on or off"))
    }
}

/// Tiles of one size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    /// Side in latent pixels, a multiple of [`TILE_STEP`].
    side: usize,
    /// Image pixels per latent pixel.
    factor: usize,
}

impl Tiles {
    /// Tiles of at least `side` latent pixels, rounded up to a multiple of [`TILE_STEP`].
    pub fn new(side: usize, factor: usize) -> Self {
        Self { side: side.max(1).next_multiple_of(TILE_STEP), factor }
    }

    /// Pixels over which neighbours fade into each other.
    fn overlap(self) -> usize {
        self.side * self.factor / TILE_STEP
    }

    /// Latent pixels from one tile to the next.
    fn stride(self) -> usize {
        self.side - self.side / TILE_STEP
    }

    /// Decodes latents `[B, C, h, w]` tile by tile to images `[B, 3, H, W]`. `decode` takes a tile
    /// of latents.
    ///
    /// # Errors
    /// Those of `decode`.
    pub fn decode<E>(
        self,
        latents: &Tensor<4>,
        mut decode: impl FnMut(Tensor<4>) -> Result<Tensor<4>, E>,
    ) -> Result<Tensor<4>, E> {
        let [_, _, height, width] = latents.dims();
        let (stride, overlap) = (self.stride(), self.overlap());
        let kept = stride * self.factor;
        let mut rows = Vec::new();
        // The lower edges of the row above.
        let mut above: Vec<Tensor<4>> = Vec::new();
        for y in (0..height).step_by(stride) {
            let mut row = Vec::new();
            let mut edges = Vec::new();
            let mut left: Option<Tensor<4>> = None;
            for (column, x) in (0..width).step_by(stride).enumerate() {
                let size = [self.side.min(height - y), self.side.min(width - x)];
                let mut tile = decode(cut(latents, [y, x], size))?;
                if let Some(above) = above.get(column) {
                    tile = fade(above.clone(), tile, 2);
                }
                if let Some(left) = left {
                    tile = fade(left, tile, 3);
                }
                left = Some(end(&tile, 3, overlap));
                edges.push(end(&tile, 2, overlap));
                let [_, _, tile_height, tile_width] = tile.dims();
                row.push(cut(&tile, [0, 0], [kept.min(tile_height), kept.min(tile_width)]));
            }
            above = edges;
            rows.push(Tensor::cat(row, 3));
        }
        Ok(Tensor::cat(rows, 2))
    }
}

/// The part of an image at `[y, x]`, of that height and width.
fn cut(image: &Tensor<4>, [y, x]: [usize; 2], [height, width]: [usize; 2]) -> Tensor<4> {
    image.clone().narrow(2, y, height).narrow(3, x, width)
}

/// The last `length` pixels along `dim`, or all where there are fewer.
fn end(tile: &Tensor<4>, dim: usize, length: usize) -> Tensor<4> {
    let size = tile.dims()[dim];
    let length = length.min(size);
    tile.clone().narrow(dim, size - length, length)
}

/// `tile`, whose first pixels along `dim` come out of the last ones of `before`: pixel i of n has
/// the share i / n of the tile.
fn fade(before: Tensor<4>, tile: Tensor<4>, dim: usize) -> Tensor<4> {
    let (size, length) = (tile.dims()[dim], before.dims()[dim].min(tile.dims()[dim]));
    let mut shape = [1; 4];
    shape[dim] = length;
    let share: Vec<f32> = (0..length).map(|i| i as f32 / length as f32).collect();
    let share = Tensor::<4>::from_data(TensorData::new(share, shape), (&tile.device(), DType::F32));
    let before = end(&before, dim, length);
    let first = tile.clone().narrow(dim, 0, length);
    let faded = before.clone() + (first - before) * share;
    if length == size {
        return faded;
    }
    Tensor::cat(vec![faded, tile.narrow(dim, length, size - length)], dim)
}
