//! Options that several commands share, and how they change a recipe.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::decoder::{SchedulerKind, VaeTiling};
use crate::model::device::DeviceChoice;
use crate::model::precision::PrecisionChoice;
use crate::session::recipe::{Bridge, Recipe};
use crate::session::request::ModelChoice;

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub struct GlobalOptions {
    /// Where tensors live: auto, cpu, vulkan, metal, dx12, wgpu, cuda, or remote:HOST[:PORT] for a
    /// machine that runs haze serve
    #[arg(long, global = true, default_value = "auto", value_name = "DEVICE")]
    pub device: DeviceChoice,
    /// Folder that holds the bundles
    #[arg(long, global = true, env = "HAZE_ASSETS", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub assets: Option<PathBuf>,
    /// CPU threads [default: all cores]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Print one JSON object on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress on stderr
    #[arg(long, short, global = true)]
    pub quiet: bool,
    /// Say more; twice for even more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// Which models to use. A bundle is a folder with `clip/`, `unclip/`, `gallery/`, `adapters/`.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Models")]
pub struct ModelOptions {
    /// Bundle that supplies every model not named by itself [default: demo]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub bundle: Option<PathBuf>,
    /// Hugging Face folder of the frozen encoder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub encoder: Option<PathBuf>,
    /// Folder of the probabilistic adapter; of prompt embeddings also a .pth or .safetensors file
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub adapter: Option<PathBuf>,
    /// How a text query reaches image space: cross-modal, prior, linear-map, mean-shift or none
    /// [default: cross-modal; prompt-embeddings with a Stable Diffusion decoder]
    #[arg(long, value_name = "BRIDGE")]
    pub bridge: Option<Bridge>,
    /// Diffusers folder with the prior of --bridge prior (Karlo, StableUnCLIP, Kandinsky 2.2)
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub prior: Option<PathBuf>,
    /// Diffusers folder of the unCLIP decoder, or of a Stable Diffusion pipeline for prompt embeddings
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub decoder: Option<PathBuf>,
    /// Gallery: an index, an image folder, or a dataset file
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub gallery: Option<PathBuf>,
}

impl ModelOptions {
    pub fn choice(&self) -> ModelChoice {
        ModelChoice {
            bundle: self.bundle.clone(),
            encoder: self.encoder.clone(),
            adapter: self.adapter.clone(),
            bridge: self.bridge,
            prior: self.prior.clone(),
            decoder: self.decoder.clone(),
            gallery: self.gallery.clone(),
        }
    }
}

/// How the distribution is sampled.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Sampling")]
pub struct SamplingOptions {
    /// Embeddings to decode and write out [default: 16]
    #[arg(long, short = 'n', value_name = "N")]
    pub samples: Option<usize>,
    /// Embeddings behind every probability and rank interval [default: 1000]
    #[arg(long, value_name = "N")]
    pub draws: Option<usize>,
    /// Seed of all randomness [default: 0]
    #[arg(long, value_name = "SEED")]
    pub seed: Option<u64>,
    /// Scales the spread of the draws; 1 is what the adapter predicts [default: 1]
    #[arg(long, value_name = "T")]
    pub temperature: Option<f64>,
    /// Dropout passes behind the epistemic uncertainty [default: 100]
    #[arg(long, value_name = "N")]
    pub dropout_passes: Option<usize>,
    /// Denoising steps of the prior [default: 25]
    #[arg(long, value_name = "N")]
    pub prior_steps: Option<usize>,
    /// How strictly the prior follows the text; 1 switches guidance off [default: 4]
    #[arg(long, value_name = "SCALE")]
    pub prior_guidance: Option<f64>,
    /// Items listed, and k of P(in top k) [default: 10]
    #[arg(long, short = 'k', value_name = "K")]
    pub top_k: Option<usize>,
}

impl SamplingOptions {
    pub fn apply(&self, recipe: &mut Recipe) {
        set(&mut recipe.sampling.samples, self.samples);
        set(&mut recipe.sampling.draws, self.draws);
        set(&mut recipe.sampling.seed, self.seed);
        set(&mut recipe.sampling.temperature, self.temperature);
        set(&mut recipe.sampling.dropout_passes, self.dropout_passes);
        if recipe.models.bridge == Bridge::Prior {
            let prior = recipe.sampling.prior.get_or_insert_default();
            set(&mut prior.steps, self.prior_steps);
            set(&mut prior.guidance_scale, self.prior_guidance);
        }
        set(&mut recipe.retrieval.top_k, self.top_k);
    }
}

/// How embeddings are decoded.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Decoding")]
pub struct DecodingOptions {
    /// Denoising steps [default: 20]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// ddim, ddpm, pndm, euler, euler-ancestral, dpmsolver++, unipc or unclip [default: the decoder's]
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<SchedulerKind>,
    /// How strictly the decoder follows the embedding; 1 switches guidance off [default: 5]
    #[arg(long, value_name = "SCALE")]
    pub guidance: Option<f64>,
    /// Noise the decoder adds to the embedding first, 0 to 999 [default: 0]
    #[arg(long, value_name = "LEVEL")]
    pub noise_level: Option<usize>,
    /// Give every tile its own decoder noise instead of one for all
    #[arg(long)]
    pub independent_noise: bool,
    /// Text given to the decoder beside the embedding
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Tiles decoded at once [default: as memory allows]; the result does not depend on it
    #[arg(long, value_name = "N")]
    pub batch_size: Option<usize>,
    /// What the decoder's UNet computes in: auto, f32, f16 or bf16. Auto takes f16 on a GPU with
    /// matrix units; the CPU has f32 alone [default: auto]
    #[arg(long, value_name = "FORMAT")]
    pub precision: Option<PrecisionChoice>,
    /// Decode images in overlapping tiles, which takes less memory and changes them a little: auto,
    /// on or off [default: auto]
    #[arg(long, value_name = "WHEN")]
    pub vae_tiling: Option<VaeTiling>,
}

impl DecodingOptions {
    pub fn apply(&self, recipe: &mut Recipe) {
        set(&mut recipe.decoding.steps, self.steps);
        set(&mut recipe.decoding.guidance_scale, self.guidance);
        set(&mut recipe.decoding.noise_level, self.noise_level);
        set(&mut recipe.decoding.prompt, self.prompt.clone());
        set(&mut recipe.decoding.precision, self.precision);
        set(&mut recipe.decoding.vae_tiling, self.vae_tiling);
        if self.scheduler.is_some() {
            recipe.decoding.scheduler = self.scheduler;
        }
        recipe.decoding.independent_noise |= self.independent_noise;
    }
}

/// Replaces a default where the user gave a value.
pub fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

/// Where results go.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Result folder [default: haze-out/ and a name made from the query]
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,
    /// Replace an earlier result in that folder
    #[arg(long)]
    pub overwrite: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use crate::session::recipe::{Decoding, PriorSampling, Retrieval, Sampling};

    /// The help text of one option of `haze sample`.
    fn help(option: &str) -> String {
        let command = crate::cli::Cli::command();
        let sample = command.find_subcommand("sample").unwrap();
        let argument = sample.get_arguments().find(|a| a.get_long() == Some(option)).unwrap();
        argument.get_help().unwrap().to_string()
    }

    #[test]
    fn the_help_names_the_defaults_that_are_used() {
        let (sampling, decoding) = (Sampling::default(), Decoding::default());
        for (option, value) in [
            ("samples", sampling.samples.to_string()),
            ("draws", sampling.draws.to_string()),
            ("seed", sampling.seed.to_string()),
            ("temperature", sampling.temperature.to_string()),
            ("dropout-passes", sampling.dropout_passes.to_string()),
            ("prior-steps", PriorSampling::default().steps.to_string()),
            ("prior-guidance", PriorSampling::default().guidance_scale.to_string()),
            ("top-k", Retrieval::default().top_k.to_string()),
            ("steps", decoding.steps.to_string()),
            ("guidance", decoding.guidance_scale.to_string()),
            ("noise-level", decoding.noise_level.to_string()),
            ("precision", decoding.precision.to_string()),
            ("vae-tiling", decoding.vae_tiling.to_string()),
        ] {
            let help = help(option);
            assert!(help.contains(&format!("[default: {value}]")), "--{option}: {help}");
        }
    }
}
