//! `haze annotate`: the next images to label, out as a file, and the answers back.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::progress::Progress;
use super::{Context, Exit, table};
use crate::experiment::active::Strategy;
use crate::experiment::annotation::{LabelChanges, Labels, Task, write_tasks};
use crate::session::experiments::PairSource;
use crate::session::labelling::{LabelPool, LabelRequest, labels_file, next_tasks};
use crate::session::{Session, SessionError};

/// Write the next images to label as CSV or JSON lines, or take the answers back
///
/// `--out FILE` writes the images that a strategy wants labelled, most wanted first, with an empty
/// column `answer`: a caption of the image. `--answers FILE` checks a filled-in file and puts its
/// answers into the labels file beside the cache; images in there are not asked for again.
#[derive(Debug, Args)]
pub struct Annotate {
    /// Embedded images: a cache, a data set, or an index without captions
    #[arg(long, value_name = "PATH[:SPLITS]")]
    cache: PairSource,
    /// Labels file [default: labels.jsonl in the cache's folder]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    labels: Option<PathBuf>,
    /// Write the next images to label into this file (.csv or .jsonl)
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath,
          required_unless_present = "answers", conflicts_with = "answers")]
    out: Option<PathBuf>,
    /// Replace that file
    #[arg(long)]
    overwrite: bool,
    /// Take the answers of this file (.csv or .jsonl)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    answers: Option<PathBuf>,
    /// Let new answers replace other ones for the same image
    #[arg(long, requires = "answers")]
    replace: bool,
    /// Images at most
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100, value_parser = parse_count)]
    count: usize,
    /// random, total, aleatoric, epistemic, margin, entropy, k-center or bald
    #[arg(long, value_name = "STRATEGY", default_value = "total")]
    strategy: Strategy,
    /// Adapter for images, whose uncertainty is written and picks [default: one trained on what is
    /// labelled, where the strategy needs it]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    adapter: Option<PathBuf>,
    /// The adapter works on embeddings of unit length, as those that `haze evaluate` trains
    #[arg(long, requires = "adapter")]
    unit: bool,
    /// Hugging Face folder of the encoder, for captions and answers [default: the demo's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    /// Dropout passes behind epistemic uncertainty and BALD
    #[arg(long, value_name = "N", default_value_t = 10)]
    passes: usize,
    /// Seed of random picks, training and dropout
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
}

fn parse_count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a number from 1 on".to_owned()),
        Ok(count) => Ok(count),
    }
}

impl Annotate {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let session = Session::new(context.assets()?, context.device()?);
        let path = self.labels.clone().unwrap_or_else(|| labels_file(&self.cache.path));
        let labels = Labels::read(&path)?;
        match (&self.answers, &self.out) {
            (Some(answers), _) => self.take(context, &session, answers, labels, path),
            (None, Some(out)) => self.send(context, &session, out, &labels),
            (None, None) => Err(usage("name a file to write (--out) or to read (--answers)")),
        }
    }

    fn send(
        &self,
        context: &Context,
        session: &Session,
        out: &std::path::Path,
        labels: &Labels,
    ) -> anyhow::Result<Exit> {
        if out.exists() && !self.overwrite {
            return Err(usage(format!(
                "{}: exists already and may hold answers; choose another name, or add --overwrite",
                out.display()
            )));
        }
        // A wrong ending should not cost the user the whole search.
        if !["csv", "jsonl"].iter().any(|ending| out.extension().is_some_and(|e| e == *ending)) {
            return Err(usage(format!("{}: the ending must be .csv or .jsonl", out.display())));
        }
        let request = LabelRequest {
            pool: self.cache.clone(),
            encoder: self.encoder.clone(),
            strategy: self.strategy,
            count: self.count,
            adapter: self.adapter.clone(),
            unit: self.unit,
            passes: self.passes,
            seed: self.seed,
        };
        let progress = Progress::new(context.options.quiet);
        progress.start("look for the next images");
        let found = next_tasks(session, &request, labels, &mut |event| {
            progress.advance(event.done, event.total);
            context.interrupt.flow()
        });
        progress.finish();
        let found = found?;
        write_tasks(out, &found.tasks)?;
        let mut text = format!(
            "Wrote {}: {} of {} unlabelled images, by {}; {} of {} are labelled\n",
            out.display(),
            found.tasks.len(),
            found.images - found.labelled,
            self.strategy,
            found.labelled,
            found.images
        );
        text += &first_tasks(&found.tasks);
        let json = json!({
            "out": out, "strategy": self.strategy, "tasks": found.tasks.len(),
            "images": found.images, "labelled": found.labelled,
        });
        context.print(&json, text)?;
        Ok(Exit::Success)
    }

    fn take(
        &self,
        context: &Context,
        session: &Session,
        answers: &std::path::Path,
        mut labels: Labels,
        path: PathBuf,
    ) -> anyhow::Result<Exit> {
        let pool =
            LabelPool::open(session, &self.cache, self.encoder.as_deref(), false, &mut |_| {
                context.interrupt.flow()
            })?;
        let changes = labels.take(answers, &pool.known_ids(), self.replace)?;
        if context.interrupt.is_set() {
            return Err(SessionError::Cancelled.into());
        }
        labels.write(&path)?;
        let LabelChanges { added, replaced, unchanged, left_open, labelled } = &changes;
        let text = format!(
            "{}: {} added, {} replaced, {} as before, {left_open} left open\nWrote {}: {labelled} \
             labelled images\n",
            answers.display(),
            added.len(),
            replaced.len(),
            unchanged.len(),
            path.display()
        );
        context.print(&json!({ "labels": path, "changes": changes }), text)?;
        Ok(Exit::Success)
    }
}

/// The first few, so that a user sees what was picked.
fn first_tasks(tasks: &[Task]) -> String {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.4}"));
    let rows: Vec<Vec<String>> = tasks
        .iter()
        .take(5)
        .map(|task| {
            vec![
                task.rank.to_string(),
                table::shorten(&task.id, 40),
                format!("{:.4}", task.score),
                number(task.aleatoric),
                number(task.epistemic),
            ]
        })
        .collect();
    let columns = [
        table::numbers("rank"),
        table::words("id"),
        table::numbers("score"),
        table::numbers("aleatoric"),
        table::numbers("epistemic"),
    ];
    table::render(&columns, &rows)
}
