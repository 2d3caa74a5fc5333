//! What a decoding run can be asked for.

use super::SchedulerKind;
use super::vae::VaeTiling;

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
