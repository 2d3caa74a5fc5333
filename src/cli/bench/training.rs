//! `haze bench training`: steps per second and memory of training from memory-mapped embeddings.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use clap::Args;
use npyz::WriterBuilder;
use serde::Serialize;
use serde_json::json;

use super::super::exit::usage;
use super::super::{Context, Exit, system, table};
use super::StageTimes;
use crate::adapter::SpaceKind;
use crate::adapter::probvlm::Preset;
use crate::adapter::training::{
    Item, Rows, Schedule, TrainingData, TrainingEvent, TrainingOptions, TrainingRun,
};
use crate::encoder::Modality;
use crate::files::{FileError, write_atomic};
use crate::gallery::EmbeddingRows;
use crate::random::{Stream, standard_normal};
use crate::session::SessionError;

/// Steps before the clock starts.
const WARM_UP_STEPS: usize = 5;
/// Pairs that are held out.
const HELD_OUT: usize = 1000;
/// Rows that are drawn at a time.
const ROWS_AT_ONCE: usize = 4096;

/// Measure training on random embeddings: steps per second and memory
///
/// Writes float16 matrices to a temporary folder and trains from them as from a cache of
/// embeddings. `benches/peer/training.py` measures the same steps in PyTorch.
#[derive(Debug, Args)]
pub struct Training {
    /// Pairs of embeddings
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    pairs: usize,
    /// Dimension of the embeddings
    #[arg(long, value_name = "N", default_value_t = 512)]
    dim: usize,
    /// Width of the hidden layers
    #[arg(long, value_name = "N", default_value_t = 256)]
    hidden: usize,
    /// Pairs per step; may be a list
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [64, 256, 1024])]
    batch_size: Vec<usize>,
    /// Timed steps for each batch size
    #[arg(long, value_name = "N", default_value_t = 100)]
    steps: usize,
    /// Learn one matrix from another instead of a matrix from itself
    #[arg(long)]
    cross_modal: bool,
}

#[derive(Serialize)]
struct Row {
    batch_size: usize,
    /// Until the first step: the working space, the constant densities and the noise.
    setup_s: f64,
    steps_per_second: f64,
    step: StageTimes,
    /// Largest so far: batch sizes come in the order they were given.
    peak_memory_bytes: Option<u64>,
}

impl Training {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let least = HELD_OUT + self.batch_size.iter().copied().max().unwrap_or(1);
        if self.pairs < least || self.dim == 0 || self.steps == 0 || self.batch_size.contains(&0) {
            return Err(usage(format!(
                "nothing to measure with {} pairs of {} dimensions and {} steps; expected at \
                 least {least} pairs ({HELD_OUT} are held out) and one of all others",
                self.pairs, self.dim, self.steps
            )));
        }
        let folder = tempfile::tempdir()?;
        let matrix = |name: &str, first: u64| -> anyhow::Result<EmbeddingRows> {
            let file = folder.path().join(name);
            write_random(&file, self.pairs, self.dim, first)?;
            Ok(EmbeddingRows::map(&[file]).map_err(SessionError::from)?)
        };
        let inputs = matrix("inputs.npy", 0)?;
        let targets = match self.cross_modal {
            true => matrix("targets.npy", 1 << 32)?,
            false => inputs.clone(),
        };
        let device = context.device()?;
        let mut rows = Vec::with_capacity(self.batch_size.len());
        for &batch_size in &self.batch_size {
            rows.push(self.measure(batch_size, &inputs, &targets, context, &device.device)?);
        }
        let columns = [
            table::numbers("batch"),
            table::numbers("setup"),
            table::numbers("median step"),
            table::numbers("steps/s"),
            table::numbers("peak memory"),
        ];
        let cells: Vec<Vec<String>> = rows
            .iter()
            .map(|row| {
                vec![
                    row.batch_size.to_string(),
                    format!("{:.2} s", row.setup_s),
                    format!("{:.3} ms", row.step.median_ms),
                    format!("{:.1}", row.steps_per_second),
                    row.peak_memory_bytes.map_or_else(|| "?".to_owned(), table::bytes),
                ]
            })
            .collect();
        let text = format!("{}\n\n{}", device.label, table::render(&columns, &cells));
        let json = json!({
            "haze": env!("CARGO_PKG_VERSION"),
            "device": device.label,
            "cpu": system::cpu_name(),
            "threads": rayon::current_num_threads(),
            "pairs": self.pairs,
            "dim": self.dim,
            "hidden": self.hidden,
            "cross_modal": self.cross_modal,
            "rows": rows,
        });
        context.print(&json, text)?;
        Ok(Exit::Success)
    }

    fn measure(
        &self,
        batch_size: usize,
        inputs: &EmbeddingRows,
        targets: &EmbeddingRows,
        context: &Context,
        device: &burn::tensor::Device,
    ) -> anyhow::Result<Row> {
        let data = |range: std::ops::Range<usize>| {
            let items = range.map(|i| Item { input: i, target: i }).collect();
            let rows = |rows| Rows::stored(rows).map_err(SessionError::from);
            TrainingData::new(rows(inputs)?, rows(targets)?, items).map_err(SessionError::from)
        };
        let training = data(0..self.pairs - HELD_OUT)?;
        let validation = data(self.pairs - HELD_OUT..self.pairs)?;
        let options = TrainingOptions {
            space: if self.cross_modal { SpaceKind::Standardised } else { SpaceKind::Unit },
            hidden_dim: self.hidden,
            batch_size,
            learning_rate: 1e-4,
            schedule: Schedule::Constant,
            epochs: 1_000_000,
            patience: usize::MAX,
            ..TrainingOptions::new(Preset::Paper)
        };
        let run = TrainingRun {
            options: &options,
            input_modality: Modality::Text,
            output_modality: if self.cross_modal { Modality::Image } else { Modality::Text },
            training: &training,
            validation: &validation,
            checkpoint: None,
            device,
        };
        let wanted = WARM_UP_STEPS + self.steps;
        let (begin, mut setup_s, mut last) = (Instant::now(), 0.0, None);
        let (mut done, mut times) = (0, Vec::with_capacity(self.steps));
        run.run(|event| {
            match event {
                TrainingEvent::Started { .. } => setup_s = begin.elapsed().as_secs_f64(),
                TrainingEvent::Batch { epoch, .. } => {
                    let now = Instant::now();
                    done += 1;
                    // Between epochs lies a validation, which is no part of a step.
                    if let Some((before, then)) = last.replace((epoch, now))
                        && before == epoch
                        && done > WARM_UP_STEPS
                    {
                        times.push((now - then).as_secs_f64() * 1e3);
                    }
                    if times.len() >= self.steps || done > 4 * wanted {
                        return ControlFlow::Break(());
                    }
                }
                _ => {}
            }
            context.interrupt.flow()
        })
        .map_err(SessionError::from)?;
        if context.interrupt.is_set() {
            return Err(SessionError::Cancelled.into());
        }
        if times.is_empty() {
            return Err(usage(format!(
                "batches of {batch_size} leave one step an epoch; give more --pairs"
            )));
        }
        let step = StageTimes::of(times);
        Ok(Row {
            batch_size,
            setup_s,
            steps_per_second: 1e3 / step.median_ms,
            step,
            peak_memory_bytes: system::peak_memory(),
        })
    }
}

/// Writes standard normal rows `[N, D]` as float16, a few at a time.
fn write_random(path: &Path, rows: usize, dim: usize, first: u64) -> Result<(), FileError> {
    write_atomic(path, |file| {
        let mut writer = npyz::WriteOptions::<half::f16>::new()
            .default_dtype()
            .shape(&[rows as u64, dim as u64])
            .writer(file)
            .begin_nd()?;
        for start in (0..rows).step_by(ROWS_AT_ONCE) {
            let count = ROWS_AT_ONCE.min(rows - start);
            let index = first + start as u64;
            let values = standard_normal(super::SEED, Stream::Resampling, index, count * dim);
            writer.extend(values.into_iter().map(half::f16::from_f32))?;
        }
        writer.finish()
    })
}
