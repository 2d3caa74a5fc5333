//! `haze bench decoder`: denoising steps per second, time to the first image and memory of an
//! unCLIP decoder, on random embeddings.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueHint};
use serde::Serialize;
use serde_json::json;

use super::super::exit::usage;
use super::super::progress::Progress;
use super::super::{Context, Exit, system, table};
use super::StageTimes;
use crate::decoder::{DecodeOptions, SchedulerKind, UnClipPipeline, VaeTiling};
use crate::model::precision::PrecisionChoice;
use crate::random::{Stream, standard_normal};
use crate::session::SessionError;
use crate::session::recipe::Decoding;
use crate::session::request::or_demo;

/// Measure an unCLIP decoder: steps per second, time to the first image, memory
///
/// Decodes random embeddings. `benches/peer/full_size.py` measures the same in diffusers.
#[derive(Debug, Args)]
pub struct Decoder {
    /// Diffusers folder of the unCLIP decoder [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    decoder: Option<PathBuf>,
    /// Size of the images [default: what the decoder was trained on]
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = image_size)]
    size: Option<(u32, u32)>,
    /// Images denoised together; may be a list
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 4],
          value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: Vec<u16>,
    /// Denoising steps
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u16).range(1..))]
    steps: u16,
    /// ddim, ddpm, pndm, euler, euler-ancestral, dpmsolver++, unipc or unclip [default: the decoder's]
    #[arg(long, value_name = "NAME")]
    scheduler: Option<SchedulerKind>,
    /// Guidance; 1 switches it off and halves the work
    #[arg(long, value_name = "SCALE", default_value_t = Decoding::default().guidance_scale)]
    guidance: f64,
    /// What the UNet computes in: auto, f32, f16 or bf16
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    precision: PrecisionChoice,
    /// Decode images in overlapping tiles: auto, on or off
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    vae_tiling: VaeTiling,
    /// Timed decodes for each batch size, after one that is not
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
}

/// What one batch size cost.
#[derive(Debug, Serialize)]
struct Row {
    batch_size: usize,
    /// The first decode at this size in seconds: shaders are compiled and kernels chosen on the
    /// way.
    first_s: f64,
    /// Denoising steps of the whole batch, guidance included.
    step: StageTimes,
    steps_per_second: f64,
    /// From latents to 8-bit images, of the whole batch.
    vae: StageTimes,
    /// Whole decodes: images per second.
    images_per_second: f64,
    /// Largest resident memory of the process so far; batch sizes come in the order given.
    peak_memory_bytes: Option<u64>,
}

/// When things happened in one decode, in seconds.
#[derive(Debug, Default)]
struct Trace {
    whole: f64,
    steps: Vec<f64>,
    vae: f64,
}

impl Decoder {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let begin = Instant::now();
        let progress = Progress::new(context.options.quiet);
        progress.start("load decoder");
        let named = or_demo(self.decoder.as_deref(), "unclip");
        let folder = context.assets()?.resolve(&named, "decoder")?;
        let device = context.device()?;
        let precision = device.precision(self.precision).map_err(SessionError::from)?;
        let pipeline = UnClipPipeline::load_in(&folder, &device.device, precision)
            .map_err(SessionError::from)?;
        let load_s = begin.elapsed().as_secs_f64();
        let mut first_image_s = None;
        let mut rows = Vec::with_capacity(self.batch_size.len());
        for &batch_size in &self.batch_size {
            let batch_size = usize::from(batch_size);
            progress.start(&format!("batch {batch_size}"));
            let runs = 1 + usize::from(self.repeat);
            let mut traces = Vec::with_capacity(runs);
            for run in 0..runs {
                traces.push(self.decode(&pipeline, batch_size, context)?);
                first_image_s.get_or_insert_with(|| begin.elapsed().as_secs_f64());
                progress.advance(run + 1, runs);
            }
            rows.push(row(batch_size, &traces)?);
        }
        progress.finish();
        let plan = pipeline.plan(1, &self.options(1)).map_err(SessionError::from)?;
        let first_image_s = first_image_s.unwrap_or(f64::NAN);

        let columns = [
            table::numbers("batch"),
            table::numbers("first"),
            table::numbers("median step"),
            table::numbers("steps/s"),
            table::numbers("VAE"),
            table::numbers("images/s"),
            table::numbers("peak memory"),
        ];
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                vec![
                    row.batch_size.to_string(),
                    format!("{:.2} s", row.first_s),
                    format!("{:.1} ms", row.step.median_ms),
                    format!("{:.3}", row.steps_per_second),
                    format!("{:.1} ms", row.vae.median_ms),
                    format!("{:.3}", row.images_per_second),
                    row.peak_memory_bytes.map_or_else(|| "?".to_owned(), table::bytes),
                ]
            })
            .collect();
        let text = format!(
            "{}\n{} x {} pixels, {} network calls, guidance {}, UNet in {precision}\n\n{}\nloaded after {load_s:.2} s, first \
             image after {first_image_s:.2} s\n",
            device.label,
            plan.width,
            plan.height,
            plan.steps,
            self.guidance,
            table::render(&columns, &cells)
        );
        let json = json!({
            "haze": env!("CARGO_PKG_VERSION"),
            "device": device.label,
            "cpu": system::cpu_name(),
            "threads": rayon::current_num_threads(),
            "decoder": folder,
            "width": plan.width,
            "height": plan.height,
            "network_calls": plan.steps,
            "guidance_scale": self.guidance,
            "precision": precision,
            "load_s": load_s,
            "first_image_s": first_image_s,
            "rows": rows,
        });
        context.print(&json, text)?;
        Ok(Exit::Success)
    }

    fn options(&self, batch_size: usize) -> DecodeOptions {
        DecodeOptions {
            scheduler: self.scheduler,
            steps: self.steps.into(),
            guidance_scale: self.guidance,
            size: self.size,
            batch_size: Some(batch_size),
            vae_tiling: self.vae_tiling,
            ..DecodeOptions::default()
        }
    }

    /// One batch of random embeddings to images. Every step waits for the device.
    fn decode(
        &self,
        pipeline: &UnClipPipeline,
        batch_size: usize,
        context: &Context,
    ) -> anyhow::Result<Trace> {
        let dim = pipeline.embedding_dim();
        let embeddings: Vec<Vec<f32>> = (0..batch_size as u64)
            .map(|i| standard_normal(super::SEED, Stream::EmbeddingSamples, i, dim))
            .collect();
        let begin = Instant::now();
        let (mut last, mut trace) = (begin, Trace::default());
        pipeline
            .decode(&embeddings, &self.options(batch_size), &mut |progress| {
                let now = Instant::now();
                let elapsed = (now - last).as_secs_f64();
                match progress.preview {
                    Some(_) => trace.steps.push(elapsed),
                    None => trace.vae += elapsed,
                }
                last = now;
                match context.interrupt.is_set() {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
            .map_err(SessionError::from)?;
        trace.whole = begin.elapsed().as_secs_f64();
        Ok(trace)
    }
}

/// The summary of one decode that is not timed and at least one that is.
fn row(batch_size: usize, traces: &[Trace]) -> anyhow::Result<Row> {
    let [first, timed @ ..] = traces else { return Err(usage("nothing was decoded")) };
    // Before the first step, texts are encoded and noise is drawn.
    let steps = timed.iter().flat_map(|trace| match &trace.steps[..] {
        [_, rest @ ..] if !rest.is_empty() => rest,
        all => all,
    });
    let step = StageTimes::of(steps.map(|seconds| seconds * 1e3).collect());
    let vae = StageTimes::of(timed.iter().map(|trace| trace.vae * 1e3).collect());
    let whole = StageTimes::of(timed.iter().map(|trace| trace.whole * 1e3).collect());
    Ok(Row {
        batch_size,
        first_s: first.whole,
        steps_per_second: 1e3 / step.median_ms,
        step,
        vae,
        images_per_second: batch_size as f64 * 1e3 / whole.median_ms,
        peak_memory_bytes: system::peak_memory(),
    })
}

fn image_size(text: &str) -> Result<(u32, u32), String> {
    text.split_once('x')
        .and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)))
        .ok_or_else(|| "expected WIDTHxHEIGHT in pixels, for example 768x768".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_size_is_two_numbers() {
        assert_eq!(image_size("768x512"), Ok((768, 512)));
        assert!(image_size("768").is_err() && image_size("768x-1").is_err());
    }

    #[test]
    fn the_first_decode_and_the_first_step_of_each_stay_out_of_the_medians() {
        let trace = |factor: f64| Trace {
            whole: 10.0 * factor,
            steps: vec![9.0, factor, 2.0 * factor],
            vae: factor,
        };
        let row = row(4, &[trace(100.0), trace(1.0), trace(1.0)]).unwrap();
        assert_eq!(row.first_s, 1000.0);
        assert_eq!((row.step.median_ms, row.vae.median_ms), (1500.0, 1000.0));
        assert_eq!(row.images_per_second, 0.4);
    }
}
