//! `haze evaluate`: every method on the same pairs, at equal budget.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::progress::Progress;
use super::{Context, Exit, table};
use crate::adapter::training::TrainingEvent;
use crate::evaluation::Estimate;
use crate::experiment::report::{Budget, ProbVlmSettings, Report, Settings, Whose};
use crate::experiment::shift::{ShiftCell, ShiftMatrix};
use crate::experiment::{Direction, Method};
use crate::export::figures::{Table, TableFormat};
use crate::export::report::{SummaryTable, heading, paper_tables, summary_tables, write_report};
use crate::files::{FileError, create_folder, write_atomic};
use crate::session::Session;
use crate::session::experiments::{
    ExperimentData, ExperimentEvent, ExperimentRequest, PairSource, ShiftRequest, run, run_shift,
};

/// The report so far, in the output folder while an experiment runs; it stays where one is
/// interrupted.
const UNFINISHED_FILE: &str = "report.unfinished.json";

/// Train and score every method on cached embeddings: recall, calibration, risk, likelihood
///
/// Without data it runs on the demo bundle: learns from its pairs, stops by its unseen concepts,
/// and is tested on its gallery, an artist whose style is in no training drawing. Your own data are
/// caches that `haze embed --dataset` writes, or embeddings from elsewhere; a part of one is named
/// as PATH:SPLIT,SPLIT.
#[derive(Debug, Args)]
pub struct Evaluate {
    /// Pairs to learn from [default: the demo's]; repeated, each with a --val, it makes the shift
    /// matrix: trained on each, tested on all
    #[arg(long, value_name = "PATH[:SPLITS]", requires = "val", requires = "test")]
    train: Vec<PairSource>,
    /// Pairs that decide when training stops, and the temperature
    #[arg(long, value_name = "PATH[:SPLITS]", requires = "train")]
    val: Vec<PairSource>,
    /// Pairs to test on; may be repeated
    #[arg(long, value_name = "PATH[:SPLITS]", requires = "train")]
    test: Vec<PairSource>,
    /// Hugging Face folder of the encoder, for pairs that are not embedded yet [default: the demo's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    /// Score retrieval by plausible matches too: ECCV Caption's *_image_to_caption.json and
    /// *_caption_to_image.json, CxC's sits_*.csv
    #[arg(long, value_name = "FILE", num_args = 1.., value_hint = ValueHint::FilePath)]
    plausible: Vec<PathBuf>,
    /// Folder for the report: tables (CSV, Parquet, JSON, Markdown) and figures (PNG, SVG)
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Replace a report in that folder
    #[arg(long)]
    overwrite: bool,
    /// Methods, by name [default: all that the data allow]
    #[arg(long, value_name = "M,M,…", value_delimiter = ',')]
    methods: Vec<Method>,
    /// Seeds of trained methods: 0 to N-1
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Whose uncertainty is held against the outcome of a query: query, retrieved or sum
    #[arg(long, value_name = "WHOSE", default_value = "query")]
    whose: Whose,
    /// Numbers of uncertainty levels; intervals of the summary are for the first
    #[arg(long, value_name = "L,L,…", value_delimiter = ',', default_values_t = [5, 10, 20])]
    levels: Vec<usize>,
    /// Epochs at most, for every trained method
    #[arg(long, value_name = "N", default_value_t = Budget::default().epochs)]
    epochs: usize,
    /// Epochs without a better held-out score before a run stops
    #[arg(long, value_name = "N", default_value_t = Budget::default().patience)]
    patience: usize,
    /// Pairs per step
    #[arg(long, value_name = "N", default_value_t = Budget::default().batch_size)]
    batch_size: usize,
    /// Learning rate
    #[arg(long, value_name = "RATE", default_value_t = Budget::default().learning_rate)]
    learning_rate: f64,
    /// Dropout passes behind epistemic uncertainty
    #[arg(long, value_name = "N", default_value_t = Budget::default().passes)]
    passes: usize,
    /// Weight of ProbVLM's crossed term within one modality
    #[arg(long, value_name = "WEIGHT", default_value_t = ProbVlmSettings::default().cross_weight)]
    cross_weight: f64,
    /// Standard deviation of noise on standardised inputs, for ProbVLM within one modality
    #[arg(long, value_name = "SD", default_value_t = ProbVlmSettings::default().input_noise)]
    input_noise: f64,
    /// Bootstrap replicates behind intervals
    #[arg(long, value_name = "N", default_value_t = 1000)]
    bootstrap: usize,
    /// Random orders behind p-values
    #[arg(long, value_name = "N", default_value_t = 2000)]
    permutations: usize,
    /// Keep the trained adapters in this folder
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    save_adapters: Option<PathBuf>,
    /// Print our figures beside those that the papers print
    #[arg(long)]
    paper: bool,
}

impl Evaluate {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        if let Some(out) = &self.out
            && out.join("report.json").exists()
            && !self.overwrite
        {
            return Err(usage(format!(
                "{}: holds a report already; choose another folder, or add --overwrite",
                out.display()
            )));
        }
        if self.train.len() != self.val.len() {
            return Err(usage(format!(
                "{} --train and {} --val; give one --val for each --train",
                self.train.len(),
                self.val.len()
            )));
        }
        if self.train.len() > 1 {
            return self.run_shift(context);
        }
        let request = self.request();
        let session = Session::new(context.assets()?, context.device()?);
        let progress = Progress::new(context.options.quiet);
        progress.start("load the pairs");
        let unfinished = self.out.as_ref().map(|out| out.join(UNFINISHED_FILE));
        let mut kept = Ok(());
        let report = run(&session, &request, &mut |event| {
            if let (ExperimentEvent::Partial(report), Some(file)) = (&event, &unfinished) {
                kept = keep(report, file);
                if kept.is_err() {
                    return ControlFlow::Break(());
                }
            }
            show(&progress, event);
            context.interrupt.flow()
        });
        progress.finish();
        kept?;
        let report = report?;
        let files = match &self.out {
            Some(out) => write_report(&report, out)?,
            None => Vec::new(),
        };
        if let Some(file) = unfinished.filter(|file| file.exists()) {
            std::fs::remove_file(&file).map_err(FileError::write(&file))?;
        }
        let json = json!({ "report": report, "files": files });
        context.print(&json, self.text(&report))?;
        Ok(Exit::Success)
    }

    /// Trained on each source, tested on all.
    fn run_shift(&self, context: &Context) -> anyhow::Result<Exit> {
        if self.save_adapters.is_some() || self.paper || !self.plausible.is_empty() {
            return Err(usage(
                "--save-adapters, --paper and --plausible are for a single --train".to_owned(),
            ));
        }
        let request = ShiftRequest {
            sources: self.train.iter().cloned().zip(self.val.iter().cloned()).collect(),
            encoder: self.encoder.clone(),
            tests: self.test.clone(),
            settings: self.settings(),
        };
        let session = Session::new(context.assets()?, context.device()?);
        let progress = Progress::new(context.options.quiet);
        progress.start("load the pairs");
        let matrix = run_shift(&session, &request, &mut |event| {
            show(&progress, event);
            context.interrupt.flow()
        });
        progress.finish();
        let matrix = matrix?;
        let mut files = Vec::new();
        if let Some(out) = &self.out {
            for (i, report) in matrix.reports.iter().enumerate() {
                files.extend(write_report(report, &out.join(format!("source-{}", i + 1)))?);
            }
            let path = out.join("shift.csv");
            shift_table(&matrix).write(None, TableFormat::Csv, &path)?;
            files.push(path);
        }
        context.print(&json!({ "shift": matrix, "files": files }), shift_text(&matrix))?;
        Ok(Exit::Success)
    }

    fn request(&self) -> ExperimentRequest {
        let data = match (self.train.first(), self.val.first()) {
            (Some(training), Some(validation)) => ExperimentData::Pairs {
                training: training.clone(),
                validation: validation.clone(),
                tests: self.test.clone(),
            },
            _ => ExperimentData::Demo,
        };
        let save_adapters = self.save_adapters.clone();
        let encoder = self.encoder.clone();
        let plausible = self.plausible.clone();
        ExperimentRequest { data, encoder, plausible, settings: self.settings(), save_adapters }
    }

    fn settings(&self) -> Settings {
        Settings {
            methods: match self.methods.is_empty() {
                true => Method::ALL.to_vec(),
                false => self.methods.clone(),
            },
            seeds: (0..self.seeds).collect(),
            whose: self.whose,
            levels: self.levels.clone(),
            bootstrap: self.bootstrap,
            permutations: self.permutations,
            budget: Budget {
                epochs: self.epochs,
                batch_size: self.batch_size,
                learning_rate: self.learning_rate,
                patience: self.patience,
                passes: self.passes,
            },
            probvlm: ProbVlmSettings {
                cross_weight: self.cross_weight,
                input_noise: self.input_noise,
            },
        }
    }

    fn text(&self, report: &Report) -> String {
        let mut text = heading(report);
        text.extend(summary_tables(report).into_iter().map(rendered));
        if self.paper {
            text.extend(paper_tables(report).into_iter().map(rendered));
        }
        for note in &report.notes {
            text += &format!("\nNote: {note}\n");
        }
        if let Some(out) = &self.out {
            text += &format!("\nWrote {}\n", out.display());
        }
        text
    }
}

/// Writes the report so far: an experiment takes long, and may be interrupted.
fn keep(report: &Report, file: &Path) -> Result<(), FileError> {
    if let Some(folder) = file.parent() {
        create_folder(folder)?;
    }
    write_atomic(file, |out| serde_json::to_writer(out, report).map_err(std::io::Error::other))
}

fn rendered(table: SummaryTable) -> String {
    let SummaryTable { title, columns, rows, note } = table;
    let columns: Vec<table::Column> = columns
        .into_iter()
        .enumerate()
        .map(|(i, title)| if i == 0 { table::words(title) } else { table::numbers(title) })
        .collect();
    format!("\n{title}\n{}", table::render(&columns, &rows)) + &format!("  {note}\n")
}

/// One table per method and direction: a row per source, a column per target, each cell -S·R² at
/// the first number of levels.
fn shift_text(matrix: &ShiftMatrix) -> String {
    let mut text = String::new();
    let mut kinds: Vec<(Method, Direction)> = Vec::new();
    for cell in &matrix.cells {
        if !kinds.contains(&(cell.method, cell.direction)) {
            kinds.push((cell.method, cell.direction));
        }
    }
    kinds.sort_by_key(|(method, direction)| (*method, direction.short()));
    for (method, direction) in kinds {
        let value = |source: &String, target: &String| {
            let is_it = |cell: &&ShiftCell| {
                (cell.method, cell.direction) == (method, direction)
                    && &cell.source == source
                    && &cell.target == target
            };
            matrix.cells.iter().find(is_it).map_or("-".to_owned(), |cell| {
                let Estimate { value, low, high } = cell.minus_s_r2;
                format!("{value:.2} ({low:.2} to {high:.2})")
            })
        };
        let mut columns = vec![table::words("trained on")];
        columns.extend(matrix.targets.iter().map(table::numbers));
        let rows: Vec<Vec<String>> = matrix
            .sources
            .iter()
            .map(|source| {
                std::iter::once(source.clone())
                    .chain(matrix.targets.iter().map(|target| value(source, target)))
                    .collect()
            })
            .collect();
        text += &format!("\n{}, {direction}: -S·R²\n", method.label());
        text += &table::render(&columns, &rows);
    }
    text
}

fn shift_table(matrix: &ShiftMatrix) -> Table {
    let cells = &matrix.cells;
    let numbers = |f: &dyn Fn(&ShiftCell) -> f64| cells.iter().map(f).collect::<Vec<f64>>();
    Table::default()
        .text("source", cells.iter().map(|c| c.source.clone()))
        .text("target", cells.iter().map(|c| c.target.clone()))
        .text("direction", cells.iter().map(|c| c.direction.short()))
        .text("method", cells.iter().map(|c| c.method.name()))
        .numbers("minus_s_r2", numbers(&|c| c.minus_s_r2.value))
        .numbers("minus_s_r2_low", numbers(&|c| c.minus_s_r2.low))
        .numbers("minus_s_r2_high", numbers(&|c| c.minus_s_r2.high))
        .numbers("aurc", numbers(&|c| c.aurc.value))
        .numbers("aurc_low", numbers(&|c| c.aurc.low))
        .numbers("aurc_high", numbers(&|c| c.aurc.high))
        .numbers("mean_uncertainty", numbers(&|c| c.mean_uncertainty))
}

fn show(progress: &Progress, event: ExperimentEvent<'_>) {
    match event {
        ExperimentEvent::Step { done, total, what } => {
            progress.advance(done, total);
            progress.message(what);
        }
        ExperimentEvent::Training { method, side, event, .. } => {
            if let TrainingEvent::Epoch { record, epochs, .. } = event {
                progress.message(format!(
                    "{}, {side}s: epoch {} of {epochs}, held-out score {:.4}",
                    method.label(),
                    record.epoch,
                    record.validation_nll
                ));
            }
        }
        ExperimentEvent::Partial(_) => {}
    }
}
