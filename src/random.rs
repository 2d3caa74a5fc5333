//! Counter-based randomness: the same recipe gives the same noise on every machine, for every
//! batch size and in any order.
//!
//! A generator is keyed by (seed, stream, index). The seed comes from the user, the stream says
//! what the numbers are for, the index says which sample, tile or pass they belong to. All noise
//! is made on the CPU with ChaCha8, whose output is a pure function of key and counter.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// What a sequence of random numbers is used for. Streams never overlap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u64)]
pub enum Stream {
    /// Samples from an embedding distribution; the index is the sample.
    EmbeddingSamples = 1,
    /// Initial latents of the decoder; the index is the tile.
    InitialLatents = 2,
    /// Noise added to an image embedding before decoding (unCLIP noise level); index = tile.
    EmbeddingNoise = 3,
    /// Noise that a stochastic scheduler adds; the index is the tile, steps continue the sequence.
    AncestralSteps = 4,
    /// Dropout masks; the index is the pass.
    DropoutPasses = 5,
    /// Shuffling of training items; the index is the epoch.
    TrainingOrder = 6,
    /// Initial weights of a trained module; the index is the parameter.
    Initialisation = 7,
    /// Resampling for bootstrap intervals and permutation tests; the index is the replicate.
    Resampling = 8,
    /// Augmented copies of an image or a text; the index is the copy.
    Augmentation = 9,
    /// Samples of a diffusion prior; the index is the sample, its steps continue the sequence.
    PriorSamples = 20,
}

/// The generator of (seed, stream, index).
pub fn generator(seed: u64, stream: Stream, index: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(stream as u64).to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

/// `len` standard normal numbers of (seed, stream, index).
pub fn standard_normal(seed: u64, stream: Stream, index: u64, len: usize) -> Vec<f32> {
    let mut rng = generator(seed, stream, index);
    (0..len).map(|_| StandardNormal.sample(&mut rng)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_key_repeats_and_any_other_differs() {
        let base = standard_normal(7, Stream::InitialLatents, 3, 16);
        assert_eq!(base, standard_normal(7, Stream::InitialLatents, 3, 16));
        assert_eq!(base[..5], standard_normal(7, Stream::InitialLatents, 3, 5));
        assert_ne!(base, standard_normal(8, Stream::InitialLatents, 3, 16));
        assert_ne!(base, standard_normal(7, Stream::EmbeddingNoise, 3, 16));
        assert_ne!(base, standard_normal(7, Stream::InitialLatents, 4, 16));
    }

    #[test]
    fn normals_have_the_moments_of_a_normal() {
        let n = 200_000;
        let x = standard_normal(1, Stream::EmbeddingSamples, 0, n);
        let mean = x.iter().map(|&v| v as f64).sum::<f64>() / n as f64;
        let second = x.iter().map(|&v| (v as f64).powi(2)).sum::<f64>() / n as f64;
        let fourth = x.iter().map(|&v| (v as f64).powi(4)).sum::<f64>() / n as f64;
        let standard_error = (n as f64).sqrt().recip();
        assert!(mean.abs() < 5.0 * standard_error);
        assert!((second - 1.0).abs() < 5.0 * 2f64.sqrt() * standard_error);
        assert!((fourth - 3.0).abs() < 5.0 * 96f64.sqrt() * standard_error);
    }
}
