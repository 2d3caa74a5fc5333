//! Images as sequences of embedded patches.

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::EncoderError;
use super::config::PatchGrid;

const CHANNELS: usize = 3;

/// Cuts images into patches and projects each: a convolution whose stride is its size, which is a
/// matrix product over patches.
#[derive(Debug)]
pub struct PatchEmbedding {
    /// `[3 P², D]`
    projection: Linear,
    grid: PatchGrid,
}

/// The shape that makes a convolution kernel `[D, 3, P, P]` of the name `patch_embedding.weight`
/// the matrix of a [`PatchEmbedding`]; `None` for all other tensors.
pub fn flatten_kernel(name: &str, shape: &[usize]) -> Option<Vec<usize>> {
    match (name, shape) {
        ("patch_embedding.weight", &[out, channels, height, width]) => {
            Some(vec![out, channels * height * width])
        }
        _ => None,
    }
}

impl PatchEmbedding {
    /// The projection to width `width`, to load weights into.
    pub fn init(grid: &PatchGrid, width: usize, bias: bool, device: &Device) -> Linear {
        let inputs = CHANNELS * grid.patch_size * grid.patch_size;
        LinearConfig::new(inputs, width).with_bias(bias).init(device)
    }

    /// Takes over a loaded projection.
    pub fn new(projection: Linear, grid: PatchGrid) -> Self {
        Self { projection, grid }
    }

    /// Patches `[B, N, D]` of pixel values `[B, 3, S, S]`, row by row.
    ///
    /// # Errors
    /// When there are no images, or they have another shape than the config says.
    pub fn forward(&self, pixel_values: Tensor<4>) -> Result<Tensor<3>, EncoderError> {
        let PatchGrid { image_size: size, patch_size: patch } = self.grid;
        let side = self.grid.side();
        let found = pixel_values.dims();
        let [batch, ..] = found;
        if batch == 0 {
            return Err(EncoderError::EmptyBatch);
        }
        if found != [batch, CHANNELS, size, size] {
            return Err(EncoderError::PixelShape { found, size });
        }
        // The convolution leaves out what is less than a patch at the right and bottom edge.
        let patches = pixel_values
            .narrow(2, 0, side * patch)
            .narrow(3, 0, side * patch)
            .reshape([batch, CHANNELS, side, patch, side, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * side * side, CHANNELS * patch * patch]);
        let embedded = self.projection.forward(patches);
        let [_, width] = embedded.dims();
        Ok(embedded.reshape([batch, side * side, width]))
    }
}
