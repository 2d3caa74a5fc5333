//! Training an adapter, or fitting a bridge, on image-text pairs.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::seq::SliceRandom;
use serde::Serialize;

use super::assets::Assets;
use super::error::SessionError;
use super::{fingerprint, guarded};
use crate::adapter::bridge::{Bridge, BridgeMap, LinearMap, MeanShift};
use crate::adapter::training::{
    Baselines, EpochRecord, Item, Rows, TrainingData, TrainingEvent, TrainingOptions,
    TrainingOutcome, TrainingRun,
};
use crate::adapter::{CONFIG_FILE, ProbVlm};
use crate::encoder::{Embedding, Encoder, Modality};
use crate::files::{FileError, create_folder};
use crate::gallery::PairSet;
use crate::model::device::ComputeDevice;
use crate::random::{Stream, generator};

/// Captions embedded at a time.
const CAPTION_BATCH: usize = 64;
/// The state of an unfinished run, in the folder that the adapter will be in.
pub const CHECKPOINT_FILE: &str = "training.checkpoint.safetensors";

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// p(image embedding | text).
    CrossModal,
    /// p(text embedding | text embedding), as in the paper.
    Text,
    /// p(image embedding | image embedding), as in the paper.
    Image,
    /// Ridge regression from text to image embeddings.
    LinearMap,
    /// The mean difference of image and text embeddings.
    MeanShift,
}

impl Target {
    pub const ALL: [Target; 5] =
        [Target::CrossModal, Target::Text, Target::Image, Target::LinearMap, Target::MeanShift];

    /// Modality of inputs and of targets.
    pub fn modalities(self) -> (Modality, Modality) {
        match self {
            Target::CrossModal | Target::LinearMap | Target::MeanShift => {
                (Modality::Text, Modality::Image)
            }
            Target::Text => (Modality::Text, Modality::Text),
            Target::Image => (Modality::Image, Modality::Image),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Target::CrossModal => "cross-modal",
            Target::Text => "text",
            Target::Image => "image",
            Target::LinearMap => "linear-map",
            Target::MeanShift => "mean-shift",
        })
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Target::ALL.into_iter().find(|target| target.to_string() == text).ok_or_else(|| {
            format!(
                "unknown target {text:?}; expected cross-modal, text, image, linear-map or \
                 mean-shift"
            )
        })
    }
}

/// A training job.
#[derive(Debug, Clone)]
pub struct TrainingJob {
    /// Store of raw image embeddings with captions, in clip-retrieval's layout.
    pub pairs: PathBuf,
    pub encoder: PathBuf,
    pub target: Target,
    pub options: TrainingOptions,
    /// Split that is learned from.
    pub training_split: String,
    /// What decides when to stop, and what the held-out figures are about.
    pub validation: HeldOut,
    /// Folder of the adapter.
    pub out: PathBuf,
}

/// Pairs that are not learned from.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldOut {
    /// Those of another split.
    Split(String),
    /// All pairs of a share of the training split's images, 0 to 1, chosen by the seed.
    Share(f64),
}

/// What a training job says while it runs.
#[derive(Debug)]
pub enum TrainingProgress {
    /// Captions embedded so far, and in all.
    Embedding {
        done: usize,
        total: usize,
    },
    Training(TrainingEvent),
}

/// A finished job.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingReport {
    pub training_pairs: usize,
    pub validation_pairs: usize,
    /// Of an adapter: one entry per epoch.
    pub history: Vec<EpochRecord>,
    /// Of an adapter: held-out negative log-likelihood, nats per dimension.
    pub validation_nll: Option<f64>,
    pub baselines: Option<Baselines>,
    /// Of a bridge: mean cosine between mapped texts and their images, held out.
    pub validation_cosine: Option<f64>,
    /// The same without the bridge.
    pub unmapped_cosine: Option<f64>,
    /// Of an adapter that reads texts: mean aleatoric variance by caption level, held out.
    pub aleatoric_by_level: Vec<LevelUncertainty>,
}

/// How uncertain an adapter is about captions of one level.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LevelUncertainty {
    /// 0 is exact, larger is coarser.
    pub level: u32,
    pub captions: usize,
    /// Mean over captions of the mean aleatoric variance per dimension.
    pub aleatoric: f64,
}

/// Embedded pairs of one split.
struct Pairs {
    texts: Arc<[f32]>,
    images: Arc<[f32]>,
    dim: usize,
    /// Text row, image row and level of every caption.
    captions: Vec<(usize, usize, Option<u32>)>,
}

/// Runs a job; the adapter's folder is complete when it returns.
///
/// A run that is interrupted leaves a checkpoint in the folder, from which the same command goes
/// on.
///
/// # Errors
/// When pairs, encoder or options are unusable, training diverges, the folder cannot be written,
/// or the job was cancelled.
pub fn train(
    job: &TrainingJob,
    assets: &Assets,
    device: &ComputeDevice,
    on_progress: &mut dyn FnMut(TrainingProgress) -> ControlFlow<()>,
) -> Result<TrainingReport, SessionError> {
    guarded(|| {
        let encoder_path = assets.resolve(&job.encoder, "encoder")?;
        let pairs_path = assets.resolve(&job.pairs, "pairs")?;
        let encoder = Encoder::load(&encoder_path, &device.device)?;
        let hash = fingerprint::of_folder(&encoder_path)?;
        let all = PairSet::open(&pairs_path)?;
        if all.dim() != encoder.dim() {
            return Err(SessionError::Mismatch(format!(
                "the pairs {} hold embeddings of {} dimensions, the encoder makes {}; embed them \
                 again with this encoder",
                pairs_path.display(),
                all.dim(),
                encoder.dim()
            )));
        }
        let training = all.clone().with_split(&job.training_split)?;
        let validation = match &job.validation {
            HeldOut::Split(split) => Ok(all.with_split(split)?),
            HeldOut::Share(share) => Err(*share),
        };
        let count = |pairs: &PairSet| pairs.captions().len();
        let total = count(&training) + validation.as_ref().map_or(0, count);
        let mut done = 0;
        let mut embed = |pairs: &PairSet| {
            embed_pairs(pairs, &encoder, &mut |count| {
                done += count;
                on_progress(TrainingProgress::Embedding { done, total })
            })
        };
        let training = embed(&training)?;
        let (training, validation) = match validation {
            Ok(validation) => (training, embed(&validation)?),
            Err(share) => training.hold_out(share, job.options.seed)?,
        };
        create_folder(&job.out)?;
        match job.target {
            Target::LinearMap | Target::MeanShift => {
                fit_bridge(job, &training, &validation, hash, device)
            }
            Target::CrossModal | Target::Text | Target::Image => {
                train_adapter(job, &training, &validation, &hash, device, on_progress)
            }
        }
    })
}

/// Embeds every different caption once.
fn embed_pairs(
    pairs: &PairSet,
    encoder: &Encoder,
    on_progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Pairs, SessionError> {
    let mut row_of: HashMap<&str, usize> = HashMap::new();
    let mut different = Vec::new();
    let mut captions = Vec::with_capacity(pairs.captions().len());
    for caption in pairs.captions() {
        let row = *row_of.entry(&caption.text).or_insert_with(|| {
            different.push(caption.text.as_str());
            different.len() - 1
        });
        captions.push((row, caption.image, caption.level));
    }
    let mut texts = Vec::with_capacity(different.len() * encoder.dim());
    // Progress is counted in captions, of which several share a text.
    let mut told = 0;
    for (i, batch) in different.chunks(CAPTION_BATCH).enumerate() {
        let embedded = encoder.embed_texts(batch)?;
        texts.extend(embedded.iter().flat_map(|embedding| embedding.values.iter().copied()));
        let done = ((i * CAPTION_BATCH + batch.len()) * captions.len()) / different.len();
        if on_progress(done - told).is_break() {
            return Err(SessionError::Cancelled);
        }
        told = done;
    }
    Ok(Pairs {
        texts: texts.into(),
        images: pairs.all_image_rows().into(),
        dim: encoder.dim(),
        captions,
    })
}

impl Pairs {
    /// Parts with a share of the images, and all their captions, in the second.
    fn hold_out(self, share: f64, seed: u64) -> Result<(Self, Self), SessionError> {
        let images = self.images.len() / self.dim;
        let held_out = (share * images as f64).round() as usize;
        if !(0.0..1.0).contains(&share) || held_out == 0 || held_out >= images {
            return Err(SessionError::OutOfRange {
                what: "the share held out",
                found: share.to_string(),
                expected: format!("a share of {images} images that leaves some on both sides"),
            });
        }
        let mut order: Vec<usize> = (0..images).collect();
        order.shuffle(&mut generator(seed, Stream::Resampling, 0));
        let mut is_held_out = vec![false; images];
        order[..held_out].iter().for_each(|&image| is_held_out[image] = true);
        let part = |wanted: bool| Self {
            texts: Arc::clone(&self.texts),
            images: Arc::clone(&self.images),
            dim: self.dim,
            captions: self
                .captions
                .iter()
                .copied()
                .filter(|caption| is_held_out[caption.1] == wanted)
                .collect(),
        };
        Ok((part(false), part(true)))
    }

    fn data(&self, target: Target) -> Result<TrainingData<'_>, SessionError> {
        let texts = Rows::new(&self.texts, self.dim)?;
        let images = Rows::new(&self.images, self.dim)?;
        let items = |item: fn(usize, usize) -> (usize, usize)| -> Vec<Item> {
            let pair = |&(text, image, _): &(usize, usize, Option<u32>)| {
                let (input, target) = item(text, image);
                Item { input, target }
            };
            self.captions.iter().map(pair).collect()
        };
        Ok(match target {
            Target::CrossModal | Target::LinearMap | Target::MeanShift => {
                TrainingData::new(texts, images, items(|text, image| (text, image)))?
            }
            Target::Text => TrainingData::new(texts, texts, items(|text, _| (text, text)))?
                .with_crossed(images, self.captions.iter().map(|c| c.1).collect())?,
            Target::Image => TrainingData::new(images, images, items(|_, image| (image, image)))?
                .with_crossed(texts, self.captions.iter().map(|c| c.0).collect())?,
        })
    }

    fn text(&self, row: usize) -> Embedding {
        let values = self.texts[row * self.dim..(row + 1) * self.dim].to_vec();
        Embedding { values, modality: Modality::Text }
    }

    fn image(&self, row: usize) -> Embedding {
        let values = self.images[row * self.dim..(row + 1) * self.dim].to_vec();
        Embedding { values, modality: Modality::Image }
    }
}

fn train_adapter(
    job: &TrainingJob,
    training: &Pairs,
    validation: &Pairs,
    encoder_hash: &str,
    device: &ComputeDevice,
    on_progress: &mut dyn FnMut(TrainingProgress) -> ControlFlow<()>,
) -> Result<TrainingReport, SessionError> {
    let (input_modality, output_modality) = job.target.modalities();
    let checkpoint = job.out.join(CHECKPOINT_FILE);
    let run = TrainingRun {
        options: &job.options,
        input_modality,
        output_modality,
        training: &training.data(job.target)?,
        validation: &validation.data(job.target)?,
        checkpoint: Some(&checkpoint),
        device: &device.device,
    };
    let mut baselines = None;
    let outcome = run.run(|event| {
        if let TrainingEvent::Started { baselines: constant, .. } = &event {
            baselines = Some(*constant);
        }
        on_progress(TrainingProgress::Training(event))
    })?;
    let (mut adapter, history) = match outcome {
        TrainingOutcome::Finished { adapter, history } => (adapter, history),
        TrainingOutcome::Interrupted { .. } => return Err(SessionError::Cancelled),
    };
    adapter.set_encoder(encoder_hash.to_owned());
    adapter.save(&job.out)?;
    std::fs::remove_file(&checkpoint).map_err(FileError::write(&checkpoint))?;
    Ok(TrainingReport {
        training_pairs: training.captions.len(),
        validation_pairs: validation.captions.len(),
        validation_nll: adapter.config().training.as_ref().map(|t| t.validation_nll),
        baselines,
        history,
        validation_cosine: None,
        unmapped_cosine: None,
        aleatoric_by_level: match input_modality {
            Modality::Text => by_level(&adapter, validation)?,
            Modality::Image => Vec::new(),
        },
    })
}

fn by_level(adapter: &ProbVlm, pairs: &Pairs) -> Result<Vec<LevelUncertainty>, SessionError> {
    let mut levels: Vec<u32> = pairs.captions.iter().filter_map(|c| c.2).collect();
    levels.sort_unstable();
    levels.dedup();
    levels
        .into_iter()
        .map(|level| {
            let embeddings: Vec<Embedding> = pairs
                .captions
                .iter()
                .filter(|caption| caption.2 == Some(level))
                .map(|&(text, ..)| pairs.text(text))
                .collect();
            let predicted = adapter.predict_batch(&embeddings, 0, 0)?;
            let sum: f64 = predicted.iter().map(|d| d.mean_aleatoric()).sum();
            let captions = embeddings.len();
            Ok(LevelUncertainty { level, captions, aleatoric: sum / captions as f64 })
        })
        .collect()
}

fn fit_bridge(
    job: &TrainingJob,
    training: &Pairs,
    validation: &Pairs,
    encoder_hash: String,
    device: &ComputeDevice,
) -> Result<TrainingReport, SessionError> {
    let (data, held_out) = (training.data(job.target)?, validation.data(job.target)?);
    let (map, summary) = if job.target == Target::LinearMap {
        let (map, summary) = LinearMap::fit(&data, &held_out, &device.device)?;
        (BridgeMap::Linear(map), summary)
    } else {
        let (map, summary) = MeanShift::fit(&data, &held_out)?;
        (BridgeMap::MeanShift(map), summary)
    };
    let (input, output) = job.target.modalities();
    let norms = training.captions.iter().map(|&(_, image, _)| training.image(image).norm());
    let bridge = Bridge::new(map, input, output, Some(encoder_hash), Some(summary))
        .with_output_norm(norms.sum::<f64>() / training.captions.len() as f64);
    bridge.save(&job.out)?;
    let (mut mapped, mut unmapped) = (0.0, 0.0);
    for &(text, image, _) in &validation.captions {
        let (text, image) = (validation.text(text), validation.image(image));
        mapped += image.cosine(&bridge.apply(&text)?);
        unmapped += image.cosine(&text);
    }
    let count = validation.captions.len() as f64;
    Ok(TrainingReport {
        training_pairs: training.captions.len(),
        validation_pairs: validation.captions.len(),
        history: Vec::new(),
        validation_nll: None,
        baselines: None,
        validation_cosine: Some(mapped / count),
        unmapped_cosine: Some(unmapped / count),
        aleatoric_by_level: Vec::new(),
    })
}

/// Whether a folder holds a finished adapter or bridge.
pub fn is_finished(folder: &Path) -> bool {
    folder.join(CONFIG_FILE).is_file()
}
