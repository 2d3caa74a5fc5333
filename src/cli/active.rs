//! `haze active`: which images are worth a label, as an experiment on labelled pairs.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::progress::Progress;
use super::{Context, Exit, table};
use crate::evaluation::Estimate;
use crate::experiment::active::{
    ActiveData, ActiveEvent, ActiveReport, ActiveSettings, Measure, Strategy, run,
};
use crate::experiment::annotation::Labels;
use crate::export::figures::{Figure, FigureFormat, TableFormat, write_figure, write_pane_data};
use crate::files::{FileError, create_folder, write_atomic};
use crate::session::experiments::{ExperimentData, ExperimentEvent, Opened, PairSource};
use crate::session::labelling::labels_file;
use crate::session::pairs::Opening;
use crate::session::{Session, SessionError};

/// File of the whole report in the output folder.
const REPORT_FILE: &str = "active.json";

/// Compare strategies that choose which images to label, on pairs whose labels are known
///
/// The pool's captions stand for labels: an image is labelled by saying which captions are its own.
/// Each round trains a light head on the frozen encoder and the adapters on what is labelled,
/// measures them on the test pairs, and picks the next images. Without data it runs on the demo.
#[derive(Debug, Args)]
pub struct Active {
    /// Pairs to label [default: the demo's]
    #[arg(long, value_name = "PATH[:SPLITS]", requires = "val", requires = "test")]
    pool: Option<PairSource>,
    /// Pairs that decide when training stops
    #[arg(long, value_name = "PATH[:SPLITS]", requires = "pool")]
    val: Option<PairSource>,
    /// Pairs that are measured
    #[arg(long, value_name = "PATH[:SPLITS]", requires = "pool")]
    test: Option<PairSource>,
    /// Hugging Face folder of the encoder, for pairs that are not embedded yet [default: the demo's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    /// Folder for the report: active.json, curves.csv, areas.csv, summary.txt, and for every measure
    /// its learning curves with bands as PNG, SVG and CSV
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: Option<PathBuf>,
    /// Replace a report in that folder
    #[arg(long)]
    overwrite: bool,
    /// random, total, aleatoric, epistemic, margin, entropy, k-center, bald [default: all]
    #[arg(long, value_name = "S,S,…", value_delimiter = ',')]
    strategies: Vec<Strategy>,
    /// Seeds: 0 to N-1
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,
    /// Labelled images in each round, growing; the first is the start [default: 5 to 50 % of the
    /// pool in five steps]
    #[arg(long, value_name = "N,N,…", value_delimiter = ',')]
    budgets: Vec<usize>,
    /// Start from the images that this labels file names [default: labels.jsonl beside the pool,
    /// where there is one]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "no_labels")]
    labels: Option<PathBuf>,
    /// Start from images drawn at random, even beside a labels file
    #[arg(long)]
    no_labels: bool,
    /// Epochs of the adapters at most
    #[arg(long, value_name = "N", default_value_t = 30)]
    epochs: usize,
    /// Epochs of the head at most
    #[arg(long, value_name = "N", default_value_t = 40)]
    head_epochs: usize,
    /// Dropout passes behind epistemic uncertainty and BALD
    #[arg(long, value_name = "N", default_value_t = 10)]
    passes: usize,
}

impl Active {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        if let Some(out) = &self.out
            && out.join(REPORT_FILE).exists()
            && !self.overwrite
        {
            return Err(usage(format!(
                "{}: holds a report already; choose another folder, or add --overwrite",
                out.display()
            )));
        }
        let session = Session::new(context.assets()?, context.device()?);
        let progress = Progress::new(context.options.quiet);
        progress.start("load the pairs");
        let (pool_source, validation_source, test_source) = self.sources();
        let opening = Opening { encoder: self.encoder.clone(), ..Opening::default() };
        let mut on_event = |event: ExperimentEvent<'_>| {
            if let ExperimentEvent::Step { what, .. } = event {
                progress.message(what);
            }
            context.interrupt.flow()
        };
        let mut opened = Opened::new(&session, &opening, &mut on_event);
        let pool = opened.pairs(&pool_source)?;
        let validation = opened.pairs(&validation_source)?;
        let test = opened.pairs(&test_source)?;
        let labelled = self.labelled(&pool_source, &pool)?;
        let settings = self.settings(pool.image_count(), labelled.as_deref())?;
        let data = ActiveData {
            pool: &pool,
            validation: &validation,
            test: &test,
            labelled: labelled.as_deref(),
            device: &session.device().device,
        };
        let report = run(&data, &settings, &mut |event| {
            show(&progress, &event);
            context.interrupt.flow()
        });
        progress.finish();
        let report = report.map_err(SessionError::from)?;
        let text = summary(&report);
        let files = match &self.out {
            Some(out) => self.write(&report, out, &text)?,
            None => Vec::new(),
        };
        let wrote = match &self.out {
            Some(out) => format!("\nWrote {}\n", out.display()),
            None => String::new(),
        };
        context.print(&json!({ "report": report, "files": files }), text + &wrote)?;
        Ok(Exit::Success)
    }

    fn sources(&self) -> (PairSource, PairSource, PairSource) {
        match (&self.pool, &self.val, &self.test) {
            (Some(pool), Some(val), Some(test)) => (pool.clone(), val.clone(), test.clone()),
            _ => {
                let (pool, val, tests) = ExperimentData::Demo.sources();
                let test = tests.first().cloned().unwrap_or_else(|| val.clone());
                (pool, val, test)
            }
        }
    }

    /// Pool positions that a labels file names.
    fn labelled(
        &self,
        source: &PairSource,
        pool: &crate::experiment::EmbeddedPairs,
    ) -> anyhow::Result<Option<Vec<usize>>> {
        let path = self.labels.clone().unwrap_or_else(|| labels_file(&source.path));
        if self.no_labels || (self.labels.is_none() && !path.exists()) {
            return Ok(None);
        }
        if !path.exists() {
            return Err(usage(format!("{}: no such labels file", path.display())));
        }
        let labels = Labels::read(&path)?;
        let positions: Vec<usize> = (0..pool.image_count())
            .filter(|&image| labels.contains(&pool.facts(image).id))
            .collect();
        if positions.len() < 2 {
            return Err(usage(format!(
                "{}: names {} images of the pool {}, expected at least 2 to start from; add \
                 --no-labels to start at random",
                path.display(),
                positions.len(),
                pool.name()
            )));
        }
        Ok(Some(positions))
    }

    fn settings(&self, pool: usize, labelled: Option<&[usize]>) -> anyhow::Result<ActiveSettings> {
        let budgets = match (self.budgets.is_empty(), labelled) {
            (false, _) => self.budgets.clone(),
            (true, None) => ActiveSettings::default_budgets(pool),
            (true, Some(labelled)) => {
                let mut budgets = vec![labelled.len()];
                let larger = ActiveSettings::default_budgets(pool).into_iter();
                budgets.extend(larger.filter(|&budget| budget > labelled.len()));
                budgets
            }
        };
        let mut settings = ActiveSettings::new(budgets);
        if !self.strategies.is_empty() {
            settings.strategies = self.strategies.clone();
        }
        settings.seeds = (0..self.seeds).collect();
        settings.adapter.epochs = self.epochs;
        settings.head.epochs = self.head_epochs;
        settings.passes = self.passes;
        Ok(settings)
    }

    fn write(
        &self,
        report: &ActiveReport,
        out: &std::path::Path,
        text: &str,
    ) -> Result<Vec<PathBuf>, FileError> {
        use std::io::Write;
        create_folder(out)?;
        let mut files =
            ["curves.csv", "areas.csv", "summary.txt"].map(|name| out.join(name)).to_vec();
        report.write_curves(&files[0])?;
        report.write_areas(&files[1])?;
        write_atomic(&files[2], |file| file.write_all(text.as_bytes()))?;
        for measure in Measure::ALL {
            let figure = Figure::Active { report, measure };
            let path = |ending: &str| out.join(format!("curves-{}.{ending}", measure.file_name()));
            write_figure(figure, FigureFormat::Png, &path("png"))?;
            write_figure(figure, FigureFormat::Svg, &path("svg"))?;
            write_pane_data(figure, TableFormat::Csv, &path("csv"))?;
            files.extend(["png", "svg", "csv"].map(path));
        }
        // The report comes last: a folder with one is complete.
        files.push(out.join(REPORT_FILE));
        report.write_json(&out.join(REPORT_FILE))?;
        Ok(files)
    }
}

fn show(progress: &Progress, event: &ActiveEvent<'_>) {
    match event {
        ActiveEvent::Training { strategy, seed, labelled, done, total } => {
            progress.advance(*done, *total);
            progress.message(format!("{strategy}, seed {seed}, {labelled} labelled"));
        }
        ActiveEvent::Step | ActiveEvent::Measured { .. } => {}
    }
}

/// Sizes, and one table per measure: the area under each strategy's curve.
fn summary(report: &ActiveReport) -> String {
    let settings = &report.settings;
    let budgets: Vec<String> = settings.budgets.iter().map(usize::to_string).collect();
    let percent = |recall: [f64; 3]| recall.map(|r| format!("{:.1}", 100.0 * r)).join(" / ");
    let mut text = format!(
        "Pool {}: {} images, {} captions; test {}: {} images, {} captions\nlabelled images per \
         round: {}; seeds: {}\nfrozen encoder on the test pairs, R@1/5/10 in %: i2t {}, t2i {}\n",
        report.pool.name,
        report.pool.images,
        report.pool.captions,
        report.test.name,
        report.test.images,
        report.test.captions,
        budgets.join(", "),
        settings.seeds.len(),
        percent(report.frozen.image_to_text),
        percent(report.frozen.text_to_image)
    );
    let interval = |estimate: Option<Estimate>| match estimate {
        Some(e) => format!("{:+.4} ({:+.4} to {:+.4})", e.value, e.low, e.high),
        None => "-".to_owned(),
    };
    for measure in Measure::ALL {
        let better = match measure.higher_is_better() {
            true => "higher is better",
            false => "lower is better",
        };
        text += &format!("\n{}, {better}\n", measure.label());
        let columns = [
            table::words("strategy"),
            table::numbers("first"),
            table::numbers("last"),
            table::numbers("area"),
            table::numbers("less random (95 % over seeds)"),
        ];
        let rows: Vec<Vec<String>> = settings
            .strategies
            .iter()
            .filter_map(|&strategy| {
                let area = report.area(strategy, measure)?;
                let curves = || report.curves.iter().filter(|curve| curve.strategy == strategy);
                let count = curves().count() as f64;
                let mean = |round: &dyn Fn(usize) -> usize| {
                    let value = curves().map(|curve| {
                        let at = round(curve.rounds.len());
                        measure.of(&curve.rounds[at])
                    });
                    value.sum::<f64>() / count
                };
                Some(vec![
                    strategy.to_string(),
                    format!("{:.4}", mean(&|_| 0)),
                    format!("{:.4}", mean(&|rounds| rounds - 1)),
                    format!("{:.4}", area.mean),
                    interval(area.against_random),
                ])
            })
            .collect();
        text += &table::render(&columns, &rows);
    }
    text
}
