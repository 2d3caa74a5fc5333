//! The diffusion prior of unCLIP (Ramesh et al. 2022, arXiv 2204.06125, section 2.2): a text in,
//! samples of p(image embedding | text) out.
//!
//! [`Prior`] is a whole folder with its own text encoder and tokenizer, and draws samples;
//! [`PriorTransformer`] is the network. It knows nothing of decoders; its embeddings fit one that
//! was trained on the same image space.

mod config;
mod network;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::path::Path;

use burn::tensor::{DType, Device, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use serde_json::Value;

pub use config::PriorConfig;
pub use network::{PriorCondition, PriorTransformer};

use super::DecodeError;
use super::scheduler::{Scheduler, SchedulerConfig, SchedulerKind};
use crate::encoder::EncoderError;
use crate::encoder::clip::{ClipTextConfig, ClipTextModel};
use crate::encoder::tokenizer::TextTokenizer;
use crate::model::config::read_json;
use crate::random::{Stream, generator};

/// Pipelines that hold a prior, and the names of its parts in them: text encoder, tokenizer and
/// scheduler. The network is `prior` in all.
const LAYOUTS: [(&str, [&str; 3]); 3] = [
    ("StableUnCLIPPipeline", ["prior_text_encoder", "prior_tokenizer", "prior_scheduler"]),
    ("UnCLIPPipeline", ["text_encoder", "tokenizer", "prior_scheduler"]),
    ("KandinskyV22PriorPipeline", ["text_encoder", "tokenizer", "scheduler"]),
];
/// Embeddings denoised together unless told otherwise; a few MiB each at full size.
const BATCH: usize = 64;
/// Most guidance that can be asked for; useful values lie below 20.
const GUIDANCE_LIMIT: f64 = 1000.0;

/// How a prior is sampled. The batch size has no influence on the result but for float rounding.
#[derive(Debug, Clone, PartialEq)]
pub struct PriorOptions {
    /// Denoising steps, at least 1.
    pub steps: usize,
    /// Strength of classifier-free guidance towards the text; 1 or less turns it off.
    pub guidance_scale: f64,
    pub seed: u64,
    /// Index of the first sample, which with the seed selects its noise.
    pub first: u64,
    /// Number of samples.
    pub count: usize,
    /// Samples denoised together; None: 64.
    pub batch_size: Option<usize>,
}

impl Default for PriorOptions {
    /// 25 steps and guidance 4, as the Karlo and Kandinsky pipelines have it.
    fn default() -> Self {
        Self { steps: 25, guidance_scale: 4.0, seed: 0, first: 0, count: 1, batch_size: None }
    }
}

/// What the prior's text encoder makes of R texts.
#[derive(Debug, Clone)]
pub struct PriorText {
    /// `[R, P]`, not normalised.
    pub text_embeds: Tensor<2>,
    /// `[R, L, E]`, after the final norm.
    pub hidden_states: Tensor<3>,
    /// `[R, L]`: 1 where a token stands, 0 where padding does.
    pub mask: Tensor<2>,
}

/// What a run is conditioned on.
#[derive(Debug, Clone)]
pub struct Guided {
    condition: PriorCondition,
    /// None without guidance; with it the texts to steer away from come first.
    guidance_scale: Option<f64>,
}

/// One denoising step that was just taken.
pub struct PriorStep<'a> {
    /// Index of the step.
    pub step: usize,
    /// What the network predicted, before guidance: `[B, E]`, or `[2 B, E]` with guidance,
    /// unconditional first.
    pub network_output: &'a Tensor<2>,
    /// Embeddings after the step in the network's scale, `[B, E]`.
    pub latents: &'a Tensor<2>,
}

/// Where a run stands after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorProgress {
    /// Steps done, of all batches.
    pub done: usize,
    pub total: usize,
}

/// A prior with its text encoder, loaded.
#[derive(Debug)]
pub struct Prior {
    network: PriorTransformer,
    text_encoder: ClipTextModel,
    tokenizer: TextTokenizer,
    scheduler: SchedulerConfig,
    device: Device,
}

impl Prior {
    /// Reads the prior of a diffusers folder: a `StableUnCLIPPipeline`, a Karlo `UnCLIPPipeline`
    /// or a `KandinskyV22PriorPipeline`. Its other parts are not read.
    ///
    /// # Errors
    /// When a part is missing, damaged or unsupported, or the parts do not fit each other.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, DecodeError> {
        let [text_encoder, tokenizer, scheduler] = layout(folder)?;
        let network = PriorTransformer::load(&folder.join("prior"), device)?;
        let text = ClipTextConfig::load(&folder.join(text_encoder))?;
        let config = network.config();
        for (what, found, expected) in [
            ("hidden_size", text.transformer.hidden_size, config.embedding_dim),
            ("projection_dim", text.projection_dim, config.embedding_proj_dim),
            ("max_position_embeddings", text.max_position_embeddings, config.num_embeddings),
        ] {
            if found != expected {
                let reason = format!(
                    "the {what} of {text_encoder} is {found}, but the prior needs {expected}"
                );
                return Err(DecodeError::prior_folder(folder, reason));
            }
        }
        let text_encoder = ClipTextModel::load(&folder.join(text_encoder), device)
            .map_err(DecodeError::PriorText)?;
        let tokenizer = TextTokenizer::clip(&folder.join(tokenizer), config.num_embeddings)
            .map_err(DecodeError::PriorText)?;
        tokenizer.check_vocab_size(text.vocab_size).map_err(DecodeError::PriorText)?;
        Ok(Self {
            scheduler: SchedulerConfig::read(&folder.join(scheduler))?,
            network,
            text_encoder,
            tokenizer,
            device: device.clone(),
        })
    }

    /// Dimension E of the image embeddings that it makes.
    pub fn embedding_dim(&self) -> usize {
        self.network.config().embedding_dim
    }

    /// The network.
    pub fn network(&self) -> &PriorTransformer {
        &self.network
    }

    /// A scheduler for one run of `steps` steps; `kind` None takes the one that the folder names.
    ///
    /// # Errors
    /// When the config does not work with that algorithm or number of steps.
    pub fn scheduler(
        &self,
        kind: Option<SchedulerKind>,
        steps: usize,
    ) -> Result<Scheduler<2>, DecodeError> {
        let kind = match kind {
            Some(kind) => kind,
            None => self.scheduler.kind()?,
        };
        Scheduler::new(&self.scheduler, kind, steps)
    }

    /// Runs the prior's own text encoder. Texts beyond its length are cut.
    ///
    /// # Errors
    /// When there is no text, one cannot be tokenized, or the encoder has no projection.
    pub fn encode(&self, texts: &[&str]) -> Result<PriorText, DecodeError> {
        let encode = || {
            let tokens = self.tokenizer.encode(texts)?;
            let output = self.text_encoder.forward(&tokens)?;
            let mask: Vec<f32> = tokens.attention_mask().into_iter().map(f32::from).collect();
            let mask = TensorData::new(mask, [tokens.batch(), tokens.length()]);
            Ok(PriorText {
                text_embeds: output.text_embeds.ok_or(EncoderError::NoTextProjection)?,
                hidden_states: output.last_hidden_state,
                mask: Tensor::from_data(mask, (&self.device, DType::F32)),
            })
        };
        encode().map_err(DecodeError::PriorText)
    }

    /// The text in the prior's own text space, `[P]`, not normalised.
    ///
    /// # Errors
    /// As [`Self::encode`], and when the device fails.
    pub fn text_embedding(&self, text: &str) -> Result<Vec<f32>, DecodeError> {
        let embeds = self.encode(&[text])?.text_embeds;
        read(embeds, 1)
    }

    /// Prepares the network for `texts`; guidance (a scale above 1) steers away from `negatives`,
    /// one for each text and usually empty.
    ///
    /// # Errors
    /// As [`Self::encode`], and when the lists differ in length.
    pub fn condition(
        &self,
        texts: &[&str],
        negatives: &[&str],
        guidance_scale: f64,
    ) -> Result<Guided, DecodeError> {
        if texts.len() != negatives.len() {
            return Err(DecodeError::Option {
                option: "the number of negative prompts",
                found: negatives.len().to_string(),
                expected: format!("that of the prompts ({})", texts.len()),
            });
        }
        let guided = guidance_scale > 1.0;
        let all = if guided { [negatives, texts].concat() } else { texts.to_vec() };
        let PriorText { text_embeds, hidden_states, mask } = self.encode(&all)?;
        let condition = self.network.prepare(text_embeds, hidden_states, mask)?;
        Ok(Guided { condition, guidance_scale: guided.then_some(guidance_scale) })
    }

    /// Denoises `latents` `[T N, E]`, standard normal, N for each of the T texts, to raw image
    /// embeddings. `noise` gives standard normal noise of the same shape for step i, where the
    /// scheduler wants it. `on_step` hears of every step and can stop the run.
    ///
    /// # Errors
    /// When embeddings become infinite or NaN, the device fails, or `on_step` breaks.
    pub fn denoise(
        &self,
        latents: Tensor<2>,
        guided: &Guided,
        mut scheduler: Scheduler<2>,
        noise: &mut dyn FnMut(usize) -> Tensor<2>,
        on_step: &mut dyn FnMut(PriorStep<'_>) -> ControlFlow<()>,
    ) -> Result<Tensor<2>, DecodeError> {
        let timesteps = scheduler.timesteps().to_vec();
        let rows = latents.dims()[0];
        let mut latents = latents.mul_scalar(scheduler.init_noise_sigma());
        for (step, &t) in timesteps.iter().enumerate() {
            let input = scheduler.scale_model_input(latents.clone(), step);
            let input = match guided.guidance_scale {
                Some(_) => input.repeat_dim(0, 2),
                None => input,
            };
            let output = self.network.forward(input, t, &guided.condition)?;
            let predicted = match guided.guidance_scale {
                Some(scale) => {
                    let unconditional = output.clone().narrow(0, 0, rows);
                    let conditional = output.clone().narrow(0, rows, rows);
                    unconditional.clone() + (conditional - unconditional).mul_scalar(scale)
                }
                None => output.clone(),
            };
            let noise = scheduler.needs_noise(step).then(|| noise(step));
            latents = scheduler.step(predicted, step, latents, noise)?.prev_sample;
            // Reading a number back also waits for the device: progress is real, and a cancel
            // takes effect at once.
            if !read(latents.clone().abs().mean(), rows)?.iter().all(|v| v.is_finite()) {
                return Err(DecodeError::PriorNotFinite { step: step + 1, steps: timesteps.len() });
            }
            let told = PriorStep { step, network_output: &output, latents: &latents };
            if on_step(told).is_break() {
                return Err(DecodeError::Cancelled);
            }
        }
        Ok(self.network.post_process(latents))
    }

    /// Draws image embeddings `[E]` for one text, in the scale of the encoder (not normalised).
    /// Sample i is a function of text, seed, index and numbers alone: not of how many are drawn,
    /// nor of the batch size but for float rounding.
    ///
    /// # Errors
    /// When an option is out of range, the text cannot be tokenized, embeddings diverge, the device
    /// fails, or `on_step` breaks ([`DecodeError::Cancelled`]).
    pub fn sample(
        &self,
        text: &str,
        options: &PriorOptions,
        on_step: &mut dyn FnMut(PriorProgress) -> ControlFlow<()>,
    ) -> Result<Vec<Vec<f32>>, DecodeError> {
        let PriorOptions { steps, guidance_scale, seed, first, count, batch_size } = *options;
        for (option, fits, found, expected) in [
            (
                "the prior's guidance scale",
                (0.0..=GUIDANCE_LIMIT).contains(&guidance_scale),
                guidance_scale.to_string(),
                format!("0 to {GUIDANCE_LIMIT}"),
            ),
            ("the batch size", batch_size != Some(0), "0".to_owned(), "at least 1".to_owned()),
        ] {
            if !fits {
                return Err(DecodeError::Option { option, found, expected });
            }
        }
        let scheduler = self.scheduler(None, steps)?;
        let guided = self.condition(&[text], &[""], guidance_scale)?;
        let (dim, batch_size) = (self.embedding_dim(), batch_size.unwrap_or(BATCH));
        let calls = scheduler.timesteps().len();
        let total = calls * count.div_ceil(batch_size);
        let mut samples = Vec::with_capacity(count);
        while samples.len() < count {
            let rows = batch_size.min(count - samples.len());
            let begin = first + samples.len() as u64;
            let before = calls * (samples.len() / batch_size);
            let mut generators: Vec<ChaCha8Rng> = (begin..begin + rows as u64)
                .map(|index| generator(seed, Stream::PriorSamples, index))
                .collect();
            let latents = draw(&mut generators, dim, &self.device);
            let embeddings = self.denoise(
                latents,
                &guided,
                scheduler.clone(),
                &mut |_| draw(&mut generators, dim, &self.device),
                &mut |step| on_step(PriorProgress { done: before + step.step + 1, total }),
            )?;
            samples.extend(read(embeddings, rows)?.chunks_exact(dim).map(<[f32]>::to_vec));
        }
        Ok(samples)
    }
}

/// The next `dim` standard normal numbers of every generator, `[B, dim]`.
fn draw(generators: &mut [ChaCha8Rng], dim: usize, device: &Device) -> Tensor<2> {
    let rows = generators.len();
    let values: Vec<f32> = generators
        .iter_mut()
        .flat_map(|rng| (0..dim).map(|_| StandardNormal.sample(rng)).collect::<Vec<f32>>())
        .collect();
    Tensor::from_data(TensorData::new(values, [rows, dim]), (device, DType::F32))
}

fn read<const D: usize>(tensor: Tensor<D>, batch_size: usize) -> Result<Vec<f32>, DecodeError> {
    tensor
        .try_into_vec_as()
        .map_err(|error| DecodeError::Device { batch_size, reason: error.to_string() })
}

/// The names of text encoder, tokenizer and scheduler in a folder.
fn layout(folder: &Path) -> Result<[&'static str; 3], DecodeError> {
    let index = folder.join("model_index.json");
    let json: Value = read_json(&index)?;
    let class = json["_class_name"].as_str().unwrap_or("missing");
    match LAYOUTS.into_iter().find(|(name, _)| *name == class) {
        Some((_, parts)) => Ok(parts),
        None => {
            let known = LAYOUTS.map(|(name, _)| name).join(", ");
            let reason = format!("_class_name is {class}, expected one of {known}");
            Err(DecodeError::prior_folder(&index, reason))
        }
    }
}
