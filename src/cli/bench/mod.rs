//! `haze bench`: times of every stage, for comparison with `benches/peer/peer.py`.

mod decoder;
mod training;
mod ui;

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};
use clap::{Args, Subcommand, ValueHint};
use npyz::WriterBuilder;
use serde::Serialize;
use serde_json::json;

use super::exit::usage;
use super::progress::Progress;
use super::{Context, Exit, system, table};
use crate::adapter::SpaceKind;
use crate::adapter::probvlm::Preset;
use crate::adapter::training::{
    Item, Rows, TrainingData, TrainingEvent, TrainingOptions, TrainingRun,
};
use crate::decoder::unet::UNet;
use crate::decoder::vae::Vae;
use crate::decoder::{DecodeOptions, UnClipPipeline};
use crate::encoder::{Embedding, Encoder, Modality};
use crate::files::{FileError, write_atomic};
use crate::gallery::{Dataset, EmbeddingRows, ExactSearch};
use crate::query::{AlphaPolicy, read_located_image};
use crate::random::{Stream, standard_normal};
use crate::session::SessionError;
use crate::session::request::DEMO_BUNDLE;

const BATCH: usize = 16;
const STEPS: usize = 20;
const GUIDANCE_SCALE: f64 = 3.0;
const ADAPTER_BATCH: usize = 512;
/// Training steps before the clock starts.
const WARM_UP_STEPS: usize = 3;
const QUERIES: usize = 64;
const TOP_K: usize = 10;
const LARGE_GALLERY_ROWS: usize = 200_000;
const SEED: u64 = 0;

/// Measure every stage
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    part: Option<Part>,
    /// Bundle whose models are measured [default: demo]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    bundle: Option<PathBuf>,
    /// Timed repeats of every stage, after untimed ones
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repeat: u32,
    /// Measure these stages only; may be given more than once
    #[arg(long, value_name = "NAME")]
    stage: Vec<String>,
}

/// What is measured by itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// Frame times of the window under a scripted user; needs a display
    Ui(ui::Ui),
    /// Steps per second, time to the first image and memory of an unCLIP decoder
    Decoder(decoder::Decoder),
    /// Steps per second and memory of training, on random embeddings
    Training(training::Training),
}

/// Wall-clock times of one stage in milliseconds.
#[derive(Debug, Serialize)]
struct StageTimes {
    median_ms: f64,
    min_ms: f64,
    times_ms: Vec<f64>,
}

/// All stages, in the order they run.
const STAGES: [&str; 11] = [
    "load_models",
    "encode_text",
    "encode_image",
    "unet_step_b16",
    "unet_step_b16_noguidance",
    "vae_decode_b16",
    "decode_16x20",
    "adapter_training_step_b512",
    "search",
    "search_200k",
    "predict_100_passes",
];

struct Stopwatch<'a> {
    context: &'a Context,
    progress: Progress,
    wanted: &'a [String],
    repeat: usize,
    stages: Vec<(&'static str, StageTimes)>,
}

impl Stopwatch<'_> {
    /// Times `work` after `warm_up` untimed calls.
    fn measure(
        &mut self,
        name: &'static str,
        warm_up: usize,
        mut work: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        if !self.wants(name) {
            return Ok(());
        }
        self.progress.start(name);
        let mut times = Vec::with_capacity(self.repeat);
        for i in 0..warm_up + self.repeat {
            if self.context.interrupt.is_set() {
                return Err(SessionError::Cancelled.into());
            }
            let start = Instant::now();
            work()?;
            let elapsed = start.elapsed().as_secs_f64() * 1e3;
            if i >= warm_up {
                times.push(elapsed);
            }
            self.progress.advance(i + 1, warm_up + self.repeat);
        }
        self.stages.push((name, StageTimes::of(times)));
        Ok(())
    }

    /// Times steps of the ProbVLM text adapter on the same rows `[512, D]`, one batch per step.
    fn measure_training(
        &mut self,
        rows: &[f32],
        dim: usize,
        device: &Device,
    ) -> anyhow::Result<()> {
        let name = "adapter_training_step_b512";
        if !self.wants(name) {
            return Ok(());
        }
        self.progress.start(name);
        let rows = Rows::new(rows, dim).map_err(SessionError::from)?;
        let steps = WARM_UP_STEPS + self.repeat;
        let items = (0..steps * ADAPTER_BATCH)
            .map(|i| Item { input: i % ADAPTER_BATCH, target: i % ADAPTER_BATCH })
            .collect();
        let training = TrainingData::new(rows, rows, items).map_err(SessionError::from)?;
        let options = TrainingOptions {
            space: SpaceKind::Unit,
            batch_size: ADAPTER_BATCH,
            epochs: 1,
            ..TrainingOptions::new(Preset::Paper)
        };
        let run = TrainingRun {
            options: &options,
            input_modality: Modality::Text,
            output_modality: Modality::Text,
            training: &training,
            validation: &TrainingData::identity(rows).map_err(SessionError::from)?,
            checkpoint: None,
            device,
        };
        let mut ends = Vec::with_capacity(steps);
        run.run(|event| {
            if let TrainingEvent::Batch { batch, .. } = event {
                ends.push(Instant::now());
                self.progress.advance(batch, steps);
            }
            self.context.interrupt.flow()
        })
        .map_err(SessionError::from)?;
        if self.context.interrupt.is_set() {
            return Err(SessionError::Cancelled.into());
        }
        let times = ends.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64() * 1e3);
        let times = times.skip(WARM_UP_STEPS - 1).collect();
        self.stages.push((name, StageTimes::of(times)));
        Ok(())
    }

    fn wants(&self, name: &str) -> bool {
        self.wanted.is_empty() || self.wanted.iter().any(|wanted| wanted == name)
    }
}

impl StageTimes {
    /// Summary of at least one time in milliseconds.
    fn of(times_ms: Vec<f64>) -> Self {
        let mut sorted = times_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        let median_ms = if sorted.len().is_multiple_of(2) {
            (sorted[middle - 1] + sorted[middle]) / 2.0
        } else {
            sorted[middle]
        };
        Self { median_ms, min_ms: sorted[0], times_ms }
    }
}

impl Bench {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        match &self.part {
            Some(Part::Ui(ui)) => return ui.run(context),
            Some(Part::Decoder(decoder)) => return decoder.run(context),
            Some(Part::Training(training)) => return training.run(context),
            None => {}
        }
        if let Some(unknown) = self.stage.iter().find(|name| !STAGES.contains(&name.as_str())) {
            return Err(usage(format!("unknown stage {unknown:?}; one of {}", STAGES.join(", "))));
        }
        let assets = context.assets()?;
        let named = self.bundle.clone().unwrap_or_else(|| PathBuf::from(DEMO_BUNDLE));
        let bundle = assets.resolve(&named, "bundle")?;
        let device = context.device()?;
        let mut stopwatch = Stopwatch {
            context,
            progress: Progress::new(context.options.quiet),
            wanted: &self.stage,
            repeat: self.repeat as usize,
            stages: Vec::new(),
        };
        measure_all(&mut stopwatch, &bundle, &device.device)?;
        stopwatch.progress.finish();
        let stages = stopwatch.stages;

        let columns = [table::words("stage"), table::numbers("median"), table::numbers("min")];
        let rows: Vec<Vec<String>> = stages
            .iter()
            .map(|(name, times)| {
                let ms = |value: f64| format!("{value:.3} ms");
                vec![(*name).to_owned(), ms(times.median_ms), ms(times.min_ms)]
            })
            .collect();
        let peak = system::peak_memory();
        let mut text = format!("{}\n\n{}", device.label, table::render(&columns, &rows));
        if let Some(peak) = peak {
            text += &format!("\npeak memory {}\n", table::bytes(peak));
        }
        let json = json!({
            "haze": env!("CARGO_PKG_VERSION"),
            "device": device.label,
            "cpu": system::cpu_name(),
            "threads": rayon::current_num_threads(),
            "peak_memory_bytes": peak,
            "stages": stages.into_iter().collect::<BTreeMap<_, _>>(),
        });
        context.print(&json, text)?;
        Ok(Exit::Success)
    }
}

fn measure_all(
    stopwatch: &mut Stopwatch<'_>,
    bundle: &Path,
    device: &Device,
) -> anyhow::Result<()> {
    let load = || -> Result<(Encoder, UnClipPipeline), SessionError> {
        let encoder = Encoder::load(&bundle.join("clip"), device)?;
        Ok((encoder, UnClipPipeline::load(&bundle.join("unclip"), device)?))
    };
    stopwatch.measure("load_models", 1, || {
        load()?;
        Ok(())
    })?;
    let (encoder, pipeline) = load()?;
    let dataset = Dataset::open(&bundle.join("gallery")).map_err(SessionError::from)?;
    let captions: Vec<&str> = dataset
        .items
        .iter()
        .flat_map(|item| &item.captions)
        .map(|caption| caption.text.as_str())
        .collect();
    if captions.is_empty() {
        return Err(usage(format!("{}: its gallery has no captions", bundle.display())));
    }

    let embed_texts = |texts: &[&str]| encoder.embed_texts(texts).map_err(SessionError::from);
    let embed_images = |count: usize| -> Result<Vec<Embedding>, SessionError> {
        let items = dataset.items.iter().cycle().take(count);
        let images = items
            .map(|item| Ok(read_located_image(&item.image)?.to_rgb(AlphaPolicy::default())))
            .collect::<Result<Vec<_>, SessionError>>()?;
        Ok(encoder.embed_images(&images)?)
    };
    stopwatch.measure("encode_text", 2, || Ok(embed_texts(&captions[..1]).map(drop)?))?;
    stopwatch.measure("encode_image", 2, || Ok(embed_images(1).map(drop)?))?;

    measure_networks(stopwatch, bundle, device)?;
    let embeddings: Vec<Vec<f32>> = embed_images(BATCH)?.into_iter().map(|e| e.values).collect();
    let options = DecodeOptions {
        steps: STEPS,
        guidance_scale: GUIDANCE_SCALE,
        batch_size: Some(BATCH),
        ..DecodeOptions::default()
    };
    stopwatch.measure("decode_16x20", 1, || {
        let images = pipeline.decode(&embeddings, &options, &mut |_| ControlFlow::Continue(()));
        Ok(images.map(drop).map_err(SessionError::from)?)
    })?;

    measure_adapter(stopwatch, &embed_texts, &captions, bundle, device)?;
    measure_search(stopwatch, &embed_texts, &embed_images, &captions, &dataset)
}

fn measure_networks(
    stopwatch: &mut Stopwatch<'_>,
    bundle: &Path,
    device: &Device,
) -> anyhow::Result<()> {
    let unclip = bundle.join("unclip");
    let session = |error: crate::decoder::model_error::ModelError| {
        SessionError::from(crate::decoder::DecodeError::from(error))
    };
    let pipeline = UnClipPipeline::load(&unclip, device).map_err(SessionError::from)?;
    let unet = UNet::load(&unclip.join("unet"), device).map_err(session)?;
    let vae = Vae::load(&unclip.join("vae"), device).map_err(session)?;
    let [height, width] = unet.sample_size().unwrap_or([8, 8]);
    let shape = [BATCH, unet.in_channels(), height, width];
    let random = |shape: [usize; 4]| -> Tensor<4> {
        let values = standard_normal(SEED, Stream::InitialLatents, 0, shape.iter().product());
        Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
    };
    let dim = pipeline.embedding_dim();
    let vectors = |rows: usize| -> Tensor<2> {
        let values = standard_normal(SEED, Stream::EmbeddingNoise, 0, rows * dim);
        Tensor::from_data(TensorData::new(values, [rows, dim]), (device, DType::F32))
    };
    for (name, guidance) in [("unet_step_b16", GUIDANCE_SCALE), ("unet_step_b16_noguidance", 1.0)] {
        let prompts = pipeline.prompts(&[""], &[""]).map_err(SessionError::from)?;
        let class = pipeline
            .noiser()
            .noise_image_embeddings(vectors(BATCH), 0, vectors(BATCH))
            .map_err(SessionError::from)?;
        let condition =
            pipeline.condition(class, &prompts, guidance).map_err(SessionError::from)?;
        let class = condition.class_labels().cloned();
        let rows = class.as_ref().map_or(BATCH, |class| class.dims()[0]);
        let prepared = unet.prepare(condition.hidden_states().clone(), class).map_err(session)?;
        let latents = random(shape);
        stopwatch.measure(name, 2, || {
            let mut scheduler = pipeline.scheduler(None, STEPS).map_err(SessionError::from)?;
            let scaled = scheduler.scale_model_input(latents.clone(), 0);
            let input = if rows == 2 * BATCH {
                Tensor::cat(vec![scaled.clone(), scaled], 0)
            } else {
                scaled
            };
            let timestep = scheduler.timesteps()[0];
            let output = unet.forward_prepared(input, timestep, &prepared).map_err(session)?;
            let output = if rows == 2 * BATCH {
                let [negative, positive]: [Tensor<4>; 2] = output
                    .chunk(2, 0)
                    .try_into()
                    .map_err(|_| usage("the network's output has no two halves"))?;
                negative.clone() + (positive - negative).mul_scalar(guidance)
            } else {
                output
            };
            let step =
                scheduler.step(output, 0, latents.clone(), None).map_err(SessionError::from)?;
            // Reading the values waits for the device.
            step.prev_sample.try_into_data()?;
            Ok(())
        })?;
    }
    let latents = random(shape);
    stopwatch.measure("vae_decode_b16", 2, || {
        vae.decode(latents.clone()).map_err(session)?.try_into_data()?;
        Ok(())
    })
}

fn measure_adapter(
    stopwatch: &mut Stopwatch<'_>,
    embed_texts: &impl Fn(&[&str]) -> Result<Vec<Embedding>, SessionError>,
    captions: &[&str],
    bundle: &Path,
    device: &Device,
) -> anyhow::Result<()> {
    let texts: Vec<&str> = captions.iter().copied().cycle().take(ADAPTER_BATCH).collect();
    let rows: Vec<f32> = embed_texts(&texts)?.iter().flat_map(Embedding::unit).collect();
    let dim = rows.len() / ADAPTER_BATCH;
    stopwatch.measure_training(&rows, dim, device)?;
    let adapters = Path::new(bundle).join("adapters");
    let Ok(entries) = std::fs::read_dir(adapters) else { return Ok(()) };
    let embedding = embed_texts(&captions[..1])?.swap_remove(0);
    let fitting = entries
        .flatten()
        .filter_map(|entry| crate::adapter::Adapter::load(&entry.path(), device).ok())
        .find(|adapter| adapter.input_modality() == embedding.modality);
    if let Some(adapter) = fitting {
        stopwatch.measure("predict_100_passes", 2, || {
            adapter.predict(&embedding, 100, SEED).map_err(SessionError::from)?;
            Ok(())
        })?;
    }
    Ok(())
}

fn measure_search(
    stopwatch: &mut Stopwatch<'_>,
    embed_texts: &impl Fn(&[&str]) -> Result<Vec<Embedding>, SessionError>,
    embed_images: &impl Fn(usize) -> Result<Vec<Embedding>, SessionError>,
    captions: &[&str],
    dataset: &Dataset,
) -> anyhow::Result<()> {
    let texts: Vec<&str> = captions.iter().copied().cycle().take(QUERIES).collect();
    let queries: Vec<Vec<f32>> = embed_texts(&texts)?.into_iter().map(|e| e.values).collect();
    let dim = queries[0].len();
    let folder = tempfile::tempdir()?;
    let gallery: Vec<f32> =
        embed_images(dataset.items.len())?.iter().flat_map(Embedding::unit).collect();
    let random = standard_normal(SEED, Stream::Resampling, 0, LARGE_GALLERY_ROWS * dim);
    for (name, rows) in [("search", gallery), ("search_200k", random)] {
        let file = folder.path().join(format!("{name}.npy"));
        write_rows(&file, &rows, dim).map_err(SessionError::from)?;
        let rows = EmbeddingRows::map(&[file]).map_err(SessionError::from)?;
        let search = ExactSearch::new(rows).map_err(SessionError::from)?;
        stopwatch.measure(name, 2, || {
            search.search(&queries, TOP_K).map_err(SessionError::from)?;
            Ok(())
        })?;
    }
    Ok(())
}

/// Rows `[N, D]` as float16, in the layout of a gallery's files.
fn write_rows(path: &Path, values: &[f32], dim: usize) -> Result<(), FileError> {
    write_atomic(path, |file| {
        let shape = [(values.len() / dim) as u64, dim as u64];
        let mut writer = npyz::WriteOptions::<half::f16>::new()
            .default_dtype()
            .shape(&shape)
            .writer(file)
            .begin_nd()?;
        writer.extend(values.iter().map(|&v| half::f16::from_f32(v)))?;
        writer.finish()
    })
}
