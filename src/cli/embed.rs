//! `haze embed`: frozen embeddings of texts and images.

use std::path::{Path, PathBuf};

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::sample::guess;
use super::{Context, Exit, table};
use crate::encoder::{ClipEncoder, Embedding};
use crate::export::arrays::{Array, write_npz};
use crate::query::Query;
use crate::session::recipe::RecipeQuery;
use crate::session::request::or_demo;
use crate::session::{SessionError, embed_query};

/// Queries embedded at a time.
const BATCH: usize = 32;

/// Embed texts or images with the frozen encoder
#[derive(Debug, Args)]
pub struct Embed {
    /// Texts, or paths of image files
    #[arg(value_name = "QUERY", required = true, value_hint = ValueHint::AnyPath)]
    queries: Vec<String>,
    /// Hugging Face folder of the encoder [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    /// Write the embeddings `[N, D]` to this .npz file
    #[arg(long, short, value_name = "FILE", value_hint = ValueHint::FilePath)]
    out: Option<PathBuf>,
}

impl Embed {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        if let Some(out) = &self.out
            && out.extension().is_none_or(|extension| extension != "npz")
        {
            return Err(usage(format!("{}: expected a name that ends in .npz", out.display())));
        }
        let queries = read(&self.queries)?;
        let encoder = load_encoder(self.encoder.as_deref(), context)?;
        let mut embeddings = Vec::with_capacity(queries.len());
        for batch in queries.chunks(BATCH) {
            if context.interrupt.is_set() {
                return Err(SessionError::Cancelled.into());
            }
            for query in batch {
                embeddings.push(embed_query(&encoder, query)?);
            }
        }
        if let Some(out) = &self.out {
            let values = embeddings.iter().flat_map(|e| e.values.iter().copied()).collect();
            let shape = vec![embeddings.len(), encoder.dim()];
            write_npz(out, &[Array::F32("embeddings", shape, values)])
                .map_err(SessionError::from)?;
        }
        context.print(&self.json(&embeddings), self.text(&embeddings))?;
        Ok(Exit::Success)
    }

    fn json(&self, embeddings: &[Embedding]) -> serde_json::Value {
        let each = self.queries.iter().zip(embeddings).map(|(query, embedding)| {
            let mut entry = json!({
                "query": query,
                "modality": embedding.modality,
                "norm": embedding.norm(),
            });
            // In a file they are not repeated on the screen.
            if self.out.is_none() {
                entry["values"] = json!(embedding.values);
            }
            entry
        });
        json!({ "out": self.out, "embeddings": each.collect::<Vec<_>>() })
    }

    fn text(&self, embeddings: &[Embedding]) -> String {
        let columns = [
            table::words("query"),
            table::words("modality"),
            table::numbers("dimensions"),
            table::numbers("norm"),
            table::words("first values"),
        ];
        let rows: Vec<Vec<String>> = self
            .queries
            .iter()
            .zip(embeddings)
            .map(|(query, embedding)| {
                let first: Vec<String> =
                    embedding.values.iter().take(4).map(|v| format!("{v:+.3}")).collect();
                vec![
                    table::shorten(query, 40),
                    embedding.modality.to_string(),
                    embedding.dim().to_string(),
                    format!("{:.3}", embedding.norm()),
                    first.join(" ") + " \u{2026}",
                ]
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
pub fn load_encoder(named: Option<&Path>, context: &Context) -> Result<ClipEncoder, SessionError> {
    let path = context.assets()?.resolve(&or_demo(named, "clip"), "encoder")?;
    Ok(ClipEncoder::load(&path, &context.device()?.device)?)
}
