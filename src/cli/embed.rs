//! `haze embed`: frozen embeddings of texts and images, and of a whole dataset as a cache.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::progress::Progress;
use super::sample::guess;
use super::{Context, Exit, table};
use crate::encoder::{Embedding, Encoder, Gaussian, Modality};
use crate::experiment::cache::{CACHE_FILE, Manifest};
use crate::export::arrays::{Array, write_npz};
use crate::query::Query;
use crate::session::embedding::{EmbeddingJob, embed_dataset};
use crate::session::pairs::left_out_text;
use crate::session::recipe::RecipeQuery;
use crate::session::request::or_demo;
use crate::session::{SessionError, embed_query, predict_query};

/// Queries embedded at a time.
const BATCH: usize = 32;

/// Embed texts or images with the frozen encoder, or a whole dataset into a cache
///
/// With --dataset, every captioned image and every distinct caption is embedded once, for `haze
/// evaluate`. An interrupted run keeps what it did; the same command goes on from there.
#[derive(Debug, Args)]
pub struct Embed {
    /// Texts, or paths of image files
    #[arg(
        value_name = "QUERY",
        required_unless_present = "dataset",
        conflicts_with = "dataset",
        value_hint = ValueHint::AnyPath
    )]
    queries: Vec<String>,
    /// Hugging Face folder of the encoder [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    /// Write the embeddings `[N, D]`, and the variances of an encoder that predicts them, to this
    /// .npz file; with --dataset, the folder of the cache
    #[arg(long, short, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    out: Option<PathBuf>,
    #[command(flatten)]
    cache: CacheOptions,
}

/// What a cache of a dataset is made of.
#[derive(Debug, Args)]
#[command(next_help_heading = "Datasets")]
struct CacheOptions {
    /// Embed this dataset of images and captions
    #[arg(long, value_name = "PATH", requires = "out", value_hint = ValueHint::AnyPath)]
    dataset: Option<PathBuf>,
    /// Embed these splits only, for example train,val
    #[arg(long, value_name = "SPLITS", value_delimiter = ',', requires = "dataset")]
    splits: Vec<String>,
    /// Also measure the spread of N augmented copies of every item (TTDA)
    #[arg(long, value_name = "N", requires = "dataset", value_parser = clap::value_parser!(u16).range(2..=1000))]
    augment: Option<u16>,
    /// Seed of the augmented copies
    #[arg(long, value_name = "SEED", default_value_t = 0, requires = "augment")]
    seed: u64,
    /// Also keep the features before the projections (for BayesVLM)
    #[arg(long, requires = "dataset")]
    pooled: bool,
    /// Replace another cache in that folder
    #[arg(long, requires = "dataset")]
    overwrite: bool,
}

impl Embed {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        if let (Some(dataset), Some(out)) = (&self.cache.dataset, &self.out) {
            return self.embed_dataset(dataset, out, context);
        }
        if let Some(out) = &self.out
            && out.extension().is_none_or(|extension| extension != "npz")
        {
            return Err(usage(format!("{}: expected a name that ends in .npz", out.display())));
        }
        let queries = read(&self.queries)?;
        let encoder = load_encoder(self.encoder.as_deref(), context)?;
        let mut embeddings = Vec::with_capacity(queries.len());
        // Of an encoder that predicts distributions, one row for each query; of others none.
        let mut variances = Vec::new();
        for batch in queries.chunks(BATCH) {
            if context.interrupt.is_set() {
                return Err(SessionError::Cancelled.into());
            }
            for query in batch {
                match predict_query(&encoder, query)? {
                    Some(Gaussian { mean, variance }) => {
                        embeddings.push(mean);
                        variances.push(variance);
                    }
                    None => embeddings.push(embed_query(&encoder, query)?),
                }
            }
        }
        if let Some(out) = &self.out {
            let values = embeddings.iter().flat_map(|e| e.values.iter().copied()).collect();
            let shape = vec![embeddings.len(), encoder.dim()];
            let mut arrays = vec![Array::F32("embeddings", shape.clone(), values)];
            if !variances.is_empty() {
                let variances = variances.iter().flatten().copied().collect();
                arrays.push(Array::F32("variances", shape, variances));
            }
            write_npz(out, &arrays).map_err(SessionError::from)?;
        }
        let text = self.text(&embeddings, &variances);
        context.print(&self.json(&embeddings, &variances), text)?;
        Ok(Exit::Success)
    }

    fn embed_dataset(&self, dataset: &Path, out: &Path, context: &Context) -> anyhow::Result<Exit> {
        let assets = context.assets()?;
        let CacheOptions { splits, augment, seed, pooled, overwrite, .. } = &self.cache;
        let job = EmbeddingJob {
            dataset: dataset.to_owned(),
            encoder: or_demo(self.encoder.as_deref(), "clip"),
            splits: splits.clone(),
            augmentation: augment.map(usize::from),
            seed: *seed,
            pooled: *pooled,
            out: out.to_owned(),
            overwrite: *overwrite,
        };
        let progress = Progress::new(context.options.quiet);
        progress.start("load the encoder and the dataset");
        let mut shown = None;
        let device = context.device()?;
        let manifest = embed_dataset(&job, &assets, &device, &mut |event| {
            if shown.replace(event.modality) != Some(event.modality) {
                progress.start(match event.modality {
                    Modality::Image => "embed images",
                    Modality::Text => "embed captions",
                });
            }
            progress.advance(event.done, event.total);
            context.interrupt.flow()
        });
        progress.finish();
        let manifest = match manifest {
            Err(error) if error.is_cancelled() && out.join(CACHE_FILE).is_file() => {
                eprintln!("haze: interrupted; the same command goes on from {}", out.display());
                return Ok(Exit::Interrupted);
            }
            manifest => manifest?,
        };
        let json = json!({ "out": out, "cache": manifest });
        context.print(&json, cache_text(out, &manifest))?;
        Ok(Exit::Success)
    }

    fn json(&self, embeddings: &[Embedding], variances: &[Vec<f32>]) -> serde_json::Value {
        let each =
            self.queries.iter().zip(embeddings).enumerate().map(|(i, (query, embedding))| {
                let mut entry = json!({
                    "query": query,
                    "modality": embedding.modality,
                    "norm": embedding.norm(),
                });
                // In a file they are not repeated on the screen.
                if self.out.is_none() {
                    entry["values"] = json!(embedding.values);
                    if let Some(variance) = variances.get(i) {
                        entry["variances"] = json!(variance);
                    }
                }
                entry
            });
        json!({ "out": self.out, "embeddings": each.collect::<Vec<_>>() })
    }

    fn text(&self, embeddings: &[Embedding], variances: &[Vec<f32>]) -> String {
        let mut columns = vec![
            table::words("query"),
            table::words("modality"),
            table::numbers("dimensions"),
            table::numbers("norm"),
            table::words("first values"),
        ];
        if !variances.is_empty() {
            columns.insert(4, table::numbers("mean variance"));
        }
        let rows: Vec<Vec<String>> = self
            .queries
            .iter()
            .zip(embeddings)
            .enumerate()
            .map(|(i, (query, embedding))| {
                let first: Vec<String> =
                    embedding.values.iter().take(4).map(|v| format!("{v:+.3}")).collect();
                let mut row = vec![
                    table::shorten(query, 40),
                    embedding.modality.to_string(),
                    embedding.dim().to_string(),
                    format!("{:.3}", embedding.norm()),
                    first.join(" ") + " \u{2026}",
                ];
                if let Some(variance) = variances.get(i) {
                    let sum: f64 = variance.iter().map(|&v| f64::from(v)).sum();
                    row.insert(4, format!("{:.3e}", sum / variance.len() as f64));
                }
                row
            })
            .collect();
        let mut text = table::render(&columns, &rows);
        match &self.out {
            Some(out) => text += &format!("Wrote {}\n", out.display()),
            None => text += "All values: --json, or --out FILE.npz\n",
        }
        text
    }
}

fn cache_text(out: &Path, manifest: &Manifest) -> String {
    let mut text = format!(
        "{}: {} images, {} captions of {} distinct texts, {} dimensions, {}\n",
        out.display(),
        manifest.images,
        manifest.captions,
        manifest.texts,
        manifest.dim,
        table::bytes(((manifest.images + manifest.texts) * manifest.dim * 2) as u64)
    );
    if let Some(left_out) = left_out_text(manifest) {
        text += &format!("  {left_out}\n");
    }
    text
}

/// Reads queries as typed: existing files as images, anything else as text.
///
/// # Errors
/// When a text is empty or an image cannot be read.
pub fn read(queries: &[String]) -> Result<Vec<Query>, SessionError> {
    queries
        .iter()
        .map(|query| match guess(query) {
            RecipeQuery::Text(text) => Ok(Query::text(text)?),
            RecipeQuery::Image { path, .. } => Ok(Query::image(&path)?),
        })
        .collect()
}

/// Loads the named encoder, or the demo bundle's.
///
/// # Errors
/// When it is missing or damaged, or there is no device.
pub fn load_encoder(named: Option<&Path>, context: &Context) -> Result<Encoder, SessionError> {
    let path = context.assets()?.resolve(&or_demo(named, "clip"), "encoder")?;
    Ok(Encoder::load(&path, &context.device()?.device)?)
}
