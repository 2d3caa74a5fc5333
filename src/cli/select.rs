//! `haze select`: which of several models fits a new set of images or texts, without labels.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::progress::Progress;
use super::{Context, Exit, table};
use crate::encoder::Modality;
use crate::experiment::selection::{SelectionReport, Signal};
use crate::files::write_atomic;
use crate::session::Session;
use crate::session::experiments::PairSource;
use crate::session::selection::{CandidateFiles, SelectionRequest, run};

/// Rank models for a set of images or texts by how uncertain they are about it
///
/// Each candidate is NAME=PATH: the target items, embedded by that candidate's encoder, the same
/// items in the same order for all. The least uncertain comes first. Where the targets are pairs,
/// recall stands beside the rankings, with Kendall's tau and what the first pick costs.
#[derive(Debug, Args)]
pub struct Select {
    /// Embeddings of the target items by each candidate's encoder; two or more
    #[arg(value_name = "NAME=PATH[:SPLITS]", required = true, num_args = 2..)]
    candidates: Vec<Named>,
    /// Adapter of a candidate, for items of --items
    #[arg(long, value_name = "NAME=DIR")]
    adapter: Vec<Named>,
    /// Pairs that a candidate was trained on, for the distance to them
    #[arg(long, value_name = "NAME=PATH[:SPLITS]")]
    reference: Vec<Named>,
    /// Encoder of a candidate, where captions are not embedded yet [default: the demo's]
    #[arg(long, value_name = "NAME=DIR")]
    encoder: Vec<Named>,
    /// Also rank means of the weights of two candidates' adapters; both must have the same items
    #[arg(long, value_name = "NAME", num_args = 2, conflicts_with = "mean_adapter")]
    interpolate: Vec<String>,
    /// Means between the two, evenly spaced: 3 are at 1/4, 1/2 and 3/4
    #[arg(long, value_name = "N", default_value_t = 3, requires = "interpolate", value_parser = clap::value_parser!(u16).range(1..=100))]
    steps: u16,
    /// Use the mean of the weights of all adapters for every candidate, as ProbVLM's table 2 does
    #[arg(long)]
    mean_adapter: bool,
    /// Target items: image or text
    #[arg(long, value_name = "MODALITY", default_value = "image", value_parser = modality)]
    items: Modality,
    /// Adapters work on embeddings of unit length, as those that `haze evaluate` trains
    #[arg(long)]
    unit: bool,
    /// Do not look at which items belong together: no truth beside the rankings
    #[arg(long)]
    unlabelled: bool,
    /// Dropout passes behind epistemic uncertainty
    #[arg(long, value_name = "N", default_value_t = 15)]
    passes: usize,
    /// Seed of dropout
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
    /// Write the report as JSON
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

/// `NAME=VALUE`.
#[derive(Debug, Clone)]
struct Named {
    name: String,
    value: String,
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                Ok(Self { name: name.to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("{text:?} has no name; expected NAME=PATH")),
        }
    }
}

fn modality(text: &str) -> Result<Modality, String> {
    match text {
        "image" => Ok(Modality::Image),
        "text" => Ok(Modality::Text),
        other => Err(format!("unknown modality {other:?}; expected image or text")),
    }
}

impl Select {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let request = SelectionRequest {
            candidates: self.files()?,
            modality: self.items,
            unit: self.unit,
            labelled: !self.unlabelled,
            passes: self.passes,
            seed: self.seed,
        };
        let session = Session::new(context.assets()?, context.device()?);
        let progress = Progress::new(context.options.quiet);
        progress.start("score the candidates");
        let report = run(&session, &request, &mut |event| {
            progress.advance(event.done, event.total);
            context.interrupt.flow()
        });
        progress.finish();
        let report = report?;
        if let Some(out) = &self.out {
            write_atomic(out, |file| {
                serde_json::to_writer_pretty(&mut *file, &report)?;
                file.write_all(b"\n")
            })?;
        }
        let wrote = match &self.out {
            Some(out) => format!("\nWrote {}\n", out.display()),
            None => String::new(),
        };
        context.print(&json!({ "report": report, "out": self.out }), text(&report) + &wrote)?;
        Ok(Exit::Success)
    }

    fn files(&self) -> anyhow::Result<Vec<CandidateFiles>> {
        let names: Vec<&str> = self.candidates.iter().map(|named| named.name.as_str()).collect();
        let options = [
            ("--adapter", &self.adapter),
            ("--reference", &self.reference),
            ("--encoder", &self.encoder),
        ];
        for (option, given) in options {
            if let Some(named) = given.iter().find(|named| !names.contains(&named.name.as_str())) {
                return Err(usage(format!(
                    "{option} {}={}: no candidate has that name; candidates are {}",
                    named.name,
                    named.value,
                    names.join(", ")
                )));
            }
        }
        let source = |text: &str| text.parse::<PairSource>().map_err(usage);
        let of = |given: &[Named], name: &str| {
            given.iter().find(|named| named.name == name).map(|named| named.value.clone())
        };
        let files = |Named { name, value }: &Named| {
            let adapter = of(&self.adapter, name);
            Ok(CandidateFiles {
                name: name.clone(),
                target: source(value)?,
                adapter: adapter.into_iter().map(|folder| (PathBuf::from(folder), 1.0)).collect(),
                reference: of(&self.reference, name).map(|text| source(&text)).transpose()?,
                encoder: of(&self.encoder, name).map(PathBuf::from),
            })
        };
        let mut found: Vec<_> = self.candidates.iter().map(files).collect::<anyhow::Result<_>>()?;
        if let [first, last] = &self.interpolate[..] {
            let between = self.between(&found, first, last)?;
            found.extend(between);
        }
        if self.mean_adapter {
            let all: Vec<PathBuf> =
                found.iter().flat_map(|f| f.adapter.iter().map(|(path, _)| path.clone())).collect();
            if all.len() < found.len() {
                return Err(usage(format!(
                    "--mean-adapter: {} of {} candidates have an adapter; give each one with \
                     --adapter NAME=DIR",
                    all.len(),
                    found.len()
                )));
            }
            let share = 1.0 / all.len() as f64;
            for files in &mut found {
                files.adapter = all.iter().map(|path| (path.clone(), share)).collect();
            }
        }
        Ok(found)
    }

    /// The candidates between two, which differ from the first in their adapters.
    fn between(
        &self,
        candidates: &[CandidateFiles],
        first: &str,
        last: &str,
    ) -> anyhow::Result<Vec<CandidateFiles>> {
        let option = format!("--interpolate {first} {last}");
        let find = |name: &str| {
            let found = candidates.iter().find(|candidate| candidate.name == name);
            let found = found.ok_or_else(|| {
                let names: Vec<&str> = candidates.iter().map(|c| c.name.as_str()).collect();
                usage(format!(
                    "{option}: no candidate is called {name}; candidates are {}",
                    names.join(", ")
                ))
            })?;
            match &found.adapter[..] {
                [(folder, _)] => Ok((found, folder.clone())),
                _ => Err(usage(format!(
                    "{option}: {name} has no adapter; give it with --adapter {name}=DIR"
                ))),
            }
        };
        let ((from, from_adapter), (to, to_adapter)) = (find(first)?, find(last)?);
        if from.name == to.name {
            return Err(usage(format!("{option}: the same candidate twice; name two")));
        }
        if (&from.target, &from.encoder) != (&to.target, &to.encoder) {
            return Err(usage(format!(
                "{option}: their items are {} and {}; a mean of two adapters takes the embeddings \
                 of one encoder, give both candidates the same PATH",
                from.target, to.target
            )));
        }
        let steps = usize::from(self.steps);
        let step = |i: usize| {
            let share = i as f64 / (steps + 1) as f64;
            CandidateFiles {
                name: format!("{:.3} {first} + {share:.3} {last}", 1.0 - share),
                adapter: vec![(from_adapter.clone(), 1.0 - share), (to_adapter.clone(), share)],
                reference: from.reference.clone().filter(|_| from.reference == to.reference),
                ..from.clone()
            }
        };
        Ok((1..=steps).map(step).collect())
    }
}

fn text(report: &SelectionReport) -> String {
    let mut text = format!(
        "{} target {}s; variances are of unit space, so that encoders may be compared\n\n",
        report.items, report.modality
    );
    let signals: Vec<Signal> = report.rankings.iter().map(|ranking| ranking.signal).collect();
    let mut columns = vec![table::words("candidate")];
    columns.extend(signals.iter().map(|signal| table::numbers(signal.name())));
    let labelled = report.candidates.iter().any(|candidate| candidate.recall.is_some());
    if labelled {
        columns.extend(["R@1", "R@5", "R@10"].map(table::numbers));
    }
    let rows: Vec<Vec<String>> = report
        .candidates
        .iter()
        .map(|candidate| {
            let mut row = vec![candidate.name.clone()];
            row.extend(signals.iter().map(|signal| format!("{:.4}", candidate.signals[signal])));
            if let Some(recall) = &candidate.recall {
                let recall = recall.asking(report.modality);
                row.extend(recall.map(|recall| format!("{:.1} %", 100.0 * recall)));
            }
            row
        })
        .collect();
    text += &table::render(&columns, &rows);
    text.push('\n');
    let columns = [
        table::words("signal"),
        table::words("best first"),
        table::numbers("Kendall's tau"),
        table::numbers("top-1 regret"),
    ];
    let rows: Vec<Vec<String>> = report
        .rankings
        .iter()
        .map(|ranking| {
            let number = |value: Option<f64>, f: fn(f64) -> String| value.map_or("-".into(), f);
            vec![
                ranking.signal.name().to_owned(),
                ranking.order.join(" < "),
                number(ranking.kendall_tau, |v| format!("{v:+.2}")),
                number(ranking.top_1_regret, |v| format!("{:.1} %", 100.0 * v)),
            ]
        })
        .collect();
    text += &table::render(&columns, &rows);
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    text
}
