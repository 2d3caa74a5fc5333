//! `haze index`: a gallery index from an image folder or a dataset.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::progress::Progress;
use super::{Context, Exit, table};
use crate::encoder::Encoder;
use crate::gallery::Dataset;
use crate::session::recipe::ModelRef;
use crate::session::request::or_demo;
use crate::session::{SessionError, fingerprint, galleries};

/// Build a gallery index from an image folder or a dataset
#[derive(Debug, Args)]
pub struct Index {
    /// A folder of images (searched recursively), or a dataset: Karpathy json, COCO, VSE++,
    /// Flickr30k, CUB, Oxford Flowers, webdataset tars, or captions beside the images
    #[arg(value_name = "DATASET", value_hint = ValueHint::AnyPath)]
    dataset: PathBuf,
    /// Folder for the index (clip-retrieval's layout: img_emb/*.npy, metadata/*.parquet)
    #[arg(long, short, value_name = "DIR", value_hint = ValueHint::DirPath)]
    out: PathBuf,
    /// Hugging Face folder of the encoder [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    /// Index these splits of the dataset only; may be given more than once
    #[arg(long, value_name = "SPLIT")]
    split: Vec<String>,
    /// Replace an earlier index in that folder
    #[arg(long)]
    overwrite: bool,
}

impl Index {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let assets = context.assets()?;
        let earlier = self.out.join("img_emb").is_dir();
        if self.out.exists() && !(self.overwrite && earlier) {
            let hint = if earlier { "add --overwrite to replace it" } else { "choose another" };
            return Err(usage(format!("{}: already exists; {hint}", self.out.display())));
        }
        let named = or_demo(self.encoder.as_deref(), "clip");
        let encoder_path = assets.resolve(&named, "encoder")?;
        let dataset = assets.resolve(&self.dataset, "dataset")?;
        let mut dataset = Dataset::open(&dataset).map_err(SessionError::from)?;
        if !self.split.is_empty() {
            let splits: Vec<&str> = self.split.iter().map(String::as_str).collect();
            dataset = dataset.with_splits(&splits).map_err(SessionError::from)?;
        }
        if !context.options.quiet {
            dataset.notes.iter().for_each(|note| eprintln!("note: {note}"));
        }
        let progress = Progress::new(context.options.quiet);
        progress.start("load the encoder");
        let device = context.device()?;
        let encoder = Encoder::load(&encoder_path, &device.device).map_err(SessionError::from)?;
        let hash = fingerprint::of_folder(&encoder_path)?;
        let reference = ModelRef { path: named, hash };
        progress.start("embed images");
        let report =
            galleries::index(&dataset, &self.out, &reference, &encoder, &mut |done, total| {
                progress.advance(done, total);
                context.interrupt.flow()
            })?;
        progress.finish();
        let json = json!({
            "out": self.out,
            "index": report.info,
            "notes": dataset.notes,
            "skipped": report.skipped.iter().map(|skipped| json!({
                "image": skipped.image,
                "reason": skipped.reason,
            })).collect::<Vec<_>>(),
        });
        let mut text = format!(
            "Wrote {}: {} images, {} dimensions, {}\n",
            self.out.display(),
            report.info.count,
            report.info.dim,
            table::bytes((report.info.count * report.info.dim * 2) as u64)
        );
        if !report.skipped.is_empty() {
            text += &format!("  {}\n", galleries::skipped_text(&report));
        }
        context.print(&json, text)?;
        Ok(Exit::Success)
    }
}
