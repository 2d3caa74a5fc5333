//! `haze train`: adapters and bridges from image-text pairs.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::options::set;
use super::progress::Progress;
use super::{Context, Exit, table};
use crate::adapter::loss::Family;
use crate::adapter::probvlm::Preset;
use crate::adapter::training::{Schedule, TrainingEvent, TrainingOptions};
use crate::session::request::or_demo;
use crate::session::training::{
    CHECKPOINT_FILE, HeldOut, Target, TrainingJob, TrainingProgress, TrainingReport, is_finished,
    train,
};

/// Train an adapter, or fit a bridge, on image-text pairs
///
/// Ctrl-C writes a checkpoint into the folder and stops; the same command goes on from there.
#[derive(Debug, Args)]
pub struct Train {
    /// What to train: cross-modal (text to image), text, image, linear-map or mean-shift
    #[arg(value_name = "TARGET")]
    target: Target,
    /// Raw image embeddings with captions, in clip-retrieval's layout [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pairs: Option<PathBuf>,
    /// Hugging Face folder of the encoder that made them [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    /// Folder for the adapter
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// Replace an adapter in that folder
    #[arg(long)]
    overwrite: bool,
    /// Split to learn from
    #[arg(long, value_name = "SPLIT", default_value = "train")]
    train_split: String,
    /// Split held out, to decide when to stop
    #[arg(long, value_name = "SPLIT", default_value = "val")]
    val_split: String,
    /// Hold out this share of the training split's images instead of another split
    #[arg(long, value_name = "SHARE", conflicts_with = "val_split")]
    hold_out: Option<f64>,
    /// paper follows the paper's text, released the authors' code
    #[arg(long, value_name = "PRESET", default_value = "paper")]
    preset: Preset,
    /// Densities to learn: generalized-gaussian (ProbVLM), gaussian or laplace
    #[arg(long, value_name = "FAMILY", default_value = "generalized-gaussian")]
    family: Family,
    /// Weight T1 of the absolute error [default: as the preset says]
    #[arg(long, value_name = "WEIGHT")]
    l1_weight: Option<f64>,
    /// Weight T2 of the negative log-likelihood [default: as the preset says; the README of the
    /// authors' code has 1e-4]
    #[arg(long, value_name = "WEIGHT")]
    nll_weight: Option<f64>,
    /// Epochs at most [default: as the preset says]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Epochs without a better held-out likelihood before the run stops
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
    /// Steps of an epoch at most [default: all pairs; 2001 with the released preset]
    #[arg(long, value_name = "N")]
    steps_per_epoch: Option<usize>,
    /// Pairs per step
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// Adam's learning rate
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// constant or cosine
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<Schedule>,
    /// Width of the hidden layers
    #[arg(long, value_name = "N")]
    hidden: Option<usize>,
    /// Share of hidden units dropped, 0 to 1
    #[arg(long, value_name = "SHARE")]
    dropout: Option<f64>,
    /// Standard deviation of noise on standardised inputs [default: found by ridge regression for
    /// cross-modal, else none]
    #[arg(long, value_name = "SD")]
    input_noise: Option<f64>,
    /// Weight of the crossed term (text and image targets)
    #[arg(long, value_name = "WEIGHT")]
    cross_weight: Option<f64>,
    /// Longest gradient; longer ones are scaled down
    #[arg(long, value_name = "NORM")]
    gradient_clip: Option<f64>,
    /// Seed of initial weights, order and dropout
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    seed: u64,
}

impl Train {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let assets = context.assets()?;
        if is_finished(&self.out) && !self.overwrite {
            return Err(usage(format!(
                "{}: holds an adapter already; choose another folder, or add --overwrite",
                self.out.display()
            )));
        }
        let job = TrainingJob {
            pairs: or_demo(self.pairs.as_deref(), "pairs"),
            encoder: or_demo(self.encoder.as_deref(), "clip"),
            target: self.target,
            options: self.options(),
            training_split: self.train_split.clone(),
            validation: match self.hold_out {
                Some(share) => HeldOut::Share(share),
                None => HeldOut::Split(self.val_split.clone()),
            },
            out: self.out.clone(),
        };
        let progress = Progress::new(context.options.quiet);
        progress.start("load the encoder and the pairs");
        let quiet = context.options.quiet || context.options.json;
        let report = train(&job, &assets, &context.device()?, &mut |event| {
            show(&progress, &event, quiet);
            context.interrupt.flow()
        });
        progress.finish();
        let report = match report {
            Err(error) if error.is_cancelled() => {
                let checkpoint = self.out.join(CHECKPOINT_FILE);
                if checkpoint.is_file() {
                    eprintln!(
                        "haze: interrupted; the same command goes on from {}",
                        checkpoint.display()
                    );
                    return Ok(Exit::Interrupted);
                }
                return Err(error.into());
            }
            report => report?,
        };
        let json = json!({ "out": self.out, "target": self.target.to_string(), "report": report });
        context.print(&json, self.text(&report))?;
        Ok(Exit::Success)
    }

    fn options(&self) -> TrainingOptions {
        let mut options = TrainingOptions::new(self.preset);
        set(&mut options.epochs, self.epochs);
        set(&mut options.patience, self.patience);
        set(&mut options.batch_size, self.batch_size);
        set(&mut options.learning_rate, self.learning_rate);
        set(&mut options.schedule, self.schedule);
        set(&mut options.hidden_dim, self.hidden);
        set(&mut options.dropout, self.dropout);
        set(&mut options.cross_weight, self.cross_weight);
        options.family = self.family;
        options.l1_weight = self.l1_weight;
        options.nll_weight = self.nll_weight;
        options.input_noise = self.input_noise;
        options.gradient_clip = self.gradient_clip.or(options.gradient_clip);
        options.steps_per_epoch = self.steps_per_epoch.or(options.steps_per_epoch);
        options.seed = self.seed;
        options
    }

    fn text(&self, report: &TrainingReport) -> String {
        let mut text = format!(
            "Wrote {}: {}, learned from {} pairs, held out {}\n",
            self.out.display(),
            self.target,
            report.training_pairs,
            report.validation_pairs
        );
        if let (Some(nll), Some(constant)) = (report.validation_nll, report.baselines) {
            text += "\nHeld-out negative log-likelihood, nats per dimension (lower is better)\n";
            text += &format!("  this adapter                        {nll:.4}\n");
            text +=
                &format!("  one Gaussian for all queries        {:.4}\n", constant.gaussian_nll);
            text += &format!(
                "  one generalised Gaussian for all    {:.4}\n",
                constant.generalized_gaussian_nll
            );
        }
        if let (Some(mapped), Some(unmapped)) = (report.validation_cosine, report.unmapped_cosine) {
            text += "\nHeld-out cosine between texts and their images\n";
            text += &format!("  mapped    {mapped:.4}\n  as it is  {unmapped:.4}\n");
        }
        if !report.aleatoric_by_level.is_empty() {
            text += "\nHeld-out aleatoric variance by caption level (0 is exact)\n";
            let columns =
                [table::numbers("level"), table::numbers("captions"), table::numbers("variance")];
            let rows: Vec<Vec<String>> = report
                .aleatoric_by_level
                .iter()
                .map(|l| {
                    let variance = format!("{:.4}", l.aleatoric);
                    vec![l.level.to_string(), l.captions.to_string(), variance]
                })
                .collect();
            text += &table::render(&columns, &rows);
        }
        text
    }
}

fn show(progress: &Progress, event: &TrainingProgress, quiet: bool) {
    match event {
        TrainingProgress::Embedding { done, total } => {
            if *done <= *total / 4 {
                progress.message("embed the captions".to_owned());
            }
            progress.advance(*done, *total);
        }
        TrainingProgress::Training(TrainingEvent::Started {
            resumed: (epochs, batches), ..
        }) => {
            progress.start("train");
            if (*epochs, *batches) != (0, 0) && !quiet {
                progress.note(&format!("resumed after {epochs} epochs and {batches} batches"));
            }
        }
        TrainingProgress::Training(TrainingEvent::Batch {
            epoch,
            batch,
            batches_per_epoch,
            loss,
            remaining,
            ..
        }) => {
            progress.advance(*batch, *batches_per_epoch);
            progress.message(format!(
                "epoch {epoch}, loss {loss:.4}, at most {} to go",
                minutes(*remaining)
            ));
        }
        TrainingProgress::Training(TrainingEvent::Epoch { record, epochs, .. }) if !quiet => {
            progress.note(&format!(
                "epoch {:>3} of {epochs}  loss {:.4}  held-out NLL {:.4}{}",
                record.epoch,
                record.training_loss,
                record.validation_nll,
                if record.best { "  best" } else { "" }
            ));
        }
        TrainingProgress::Training(_) => {}
    }
}

fn minutes(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 { format!("{seconds} s") } else { format!("{} min", seconds / 60) }
}
