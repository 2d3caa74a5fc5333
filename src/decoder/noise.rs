//! The noise that tiles are decoded from, a pure function of seed and tile.

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::random::{Stream, generator};

/// The noise of the tiles of one batch.
pub(super) struct TileNoise {
    seed: u64,
    /// One index per tile, or a single one for the noise that all tiles share.
    indices: Vec<u64>,
    tiles: usize,
    /// One generator per index, whose sequence runs on from step to step.
    step_generators: Vec<ChaCha8Rng>,
}

impl TileNoise {
    /// Noise for `tiles` tiles: `indices` has one noise for each, or one that all have in common,
    /// so that they differ by their embedding alone.
    pub(super) fn new(seed: u64, indices: Vec<u64>, tiles: usize) -> Self {
        let step_generators =
            indices.iter().map(|&index| generator(seed, Stream::AncestralSteps, index)).collect();
        Self { seed, indices, tiles, step_generators }
    }

    /// What denoising starts from: standard normal `[B, C, H, W]` for `shape` `[C, H, W]`.
    pub(super) fn initial_latents(&self, shape: [usize; 3], device: &Device) -> Tensor<4> {
        let [channels, height, width] = shape;
        let rows = self.rows(Stream::InitialLatents, channels * height * width);
        self.batch(rows, [self.indices.len(), channels, height, width], device)
    }

    /// What embeddings are noised with: standard normal `[B, D]`.
    pub(super) fn embedding_noise(&self, dim: usize, device: &Device) -> Tensor<2> {
        let rows = self.rows(Stream::EmbeddingNoise, dim);
        self.batch(rows, [self.indices.len(), dim], device)
    }

    /// The next noise of a stochastic scheduler: standard normal `[B, C, H, W]`.
    pub(super) fn next_step(&mut self, shape: [usize; 3], device: &Device) -> Tensor<4> {
        let [channels, height, width] = shape;
        let len = channels * height * width;
        let rows = self.step_generators.iter_mut().map(|rng| draw(rng, len)).collect();
        self.batch(rows, [self.indices.len(), channels, height, width], device)
    }

    fn rows(&self, stream: Stream, len: usize) -> Vec<Vec<f32>> {
        let row = |&index| draw(&mut generator(self.seed, stream, index), len);
        self.indices.iter().map(row).collect()
    }

    /// Rows as a tensor; a single common row is repeated for every tile.
    fn batch<const D: usize>(
        &self,
        rows: Vec<Vec<f32>>,
        shape: [usize; D],
        device: &Device,
    ) -> Tensor<D> {
        let tensor =
            Tensor::<D>::from_data(TensorData::new(rows.concat(), shape), (device, DType::F32));
        if shape[0] == self.tiles { tensor } else { tensor.repeat_dim(0, self.tiles) }
    }
}

fn draw(rng: &mut ChaCha8Rng, len: usize) -> Vec<f32> {
    (0..len).map(|_| StandardNormal.sample(rng)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;
    use crate::random::standard_normal;

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    #[test]
    fn a_tile_has_the_same_noise_in_every_batch() {
        let device = ComputeDevice::cpu().device;
        for independent in [false, true] {
            let indices = |tiles: std::ops::Range<u64>| -> Vec<u64> {
                if independent { tiles.collect() } else { vec![0] }
            };
            let mut whole = TileNoise::new(9, indices(4..7), 3);
            let mut part = TileNoise::new(9, indices(6..7), 1);
            let last = |tensor: Tensor<4>| tensor.narrow(0, 2, 1);
            let shape = [2, 3, 3];
            assert_eq!(
                values(last(whole.initial_latents(shape, &device))),
                values(part.initial_latents(shape, &device))
            );
            for _ in 0..2 {
                assert_eq!(
                    values(last(whole.next_step(shape, &device))),
                    values(part.next_step(shape, &device))
                );
            }
        }
    }

    #[test]
    fn common_noise_is_that_of_tile_zero_and_independent_noise_that_of_the_tile() {
        let device = ComputeDevice::cpu().device;
        let of = |indices| values(TileNoise::new(3, indices, 2).embedding_noise(4, &device));
        let tile = |index| standard_normal(3, Stream::EmbeddingNoise, index, 4);
        assert_eq!(of(vec![0]), [tile(0), tile(0)].concat());
        assert_eq!(of(vec![5, 6]), [tile(5), tile(6)].concat());
    }

    #[test]
    fn steps_continue_one_sequence() {
        let device = ComputeDevice::cpu().device;
        let mut noise = TileNoise::new(3, vec![1], 1);
        let both = [noise.next_step([1, 2, 2], &device), noise.next_step([1, 2, 2], &device)];
        let sequence = standard_normal(3, Stream::AncestralSteps, 1, 8);
        assert_eq!(both.map(values).concat(), sequence);
    }
}
