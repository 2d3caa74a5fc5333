//! `haze search`: plain retrieval with the frozen embedding, without any adapter.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::embed::{load_encoder, read};
use super::progress::Progress;
use super::{Context, Exit, table};
use crate::session::SessionError;
use crate::session::galleries::{Gallery, file_name};
use crate::session::recipe::ModelRef;
use crate::session::request::or_demo;
use crate::session::{Job, embed_query, fingerprint};

/// Search a gallery with the frozen embedding of a query
#[derive(Debug, Args)]
pub struct Search {
    /// A text, or the path of an image file
    #[arg(value_name = "QUERY", value_hint = ValueHint::AnyPath)]
    query: String,
    /// An index, an image folder or a dataset [default: the demo bundle's gallery]
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    gallery: Option<PathBuf>,
    /// Hugging Face folder of the encoder [default: the demo bundle's]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    encoder: Option<PathBuf>,
    /// Number of results
    #[arg(long, short = 'k', value_name = "K", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    top_k: u32,
}

impl Search {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let query = read(std::slice::from_ref(&self.query))?.swap_remove(0);
        let assets = context.assets()?;
        let encoder_path = or_demo(self.encoder.as_deref(), "clip");
        let encoder = load_encoder(Some(&encoder_path), context)?;
        let hash = fingerprint::of_folder(&assets.resolve(&encoder_path, "encoder")?)?;
        let encoder_reference = ModelRef { path: encoder_path, hash };
        let gallery_reference = ModelRef::new(or_demo(self.gallery.as_deref(), "gallery"));
        let progress = Progress::new(context.options.quiet);
        let mut on_event = |event: crate::session::event::Event<'_>| {
            progress.show(&event);
            context.interrupt.flow()
        };
        let gallery = Gallery::open(
            &gallery_reference,
            &encoder_reference,
            &assets,
            &encoder,
            &mut Job::new(&mut on_event),
        )?;
        progress.finish();
        let embedding = embed_query(&encoder, &query)?;
        let hits = gallery.search(&embedding.values, self.top_k as usize)?;
        let ids: Vec<usize> = hits.iter().map(|hit| hit.id).collect();
        let metadata = gallery.store.metadata(&ids).map_err(SessionError::from)?;
        let caption = |i: usize| metadata[i].captions.first().map(|caption| caption.text.as_str());
        let items = hits.iter().enumerate().map(|(i, hit)| {
            json!({
                "rank": i + 1,
                "row": hit.id,
                "image": file_name(&metadata[i], hit.id),
                "path": gallery.store.image_file(&metadata[i]),
                "caption": caption(i),
                "score": hit.score,
            })
        });
        let json = json!({
            "query": self.query,
            "gallery_size": gallery.store.len(),
            "items": items.collect::<Vec<_>>(),
        });
        let columns = [
            table::numbers("rank"),
            table::numbers("cosine"),
            table::words("caption"),
            table::words("image"),
        ];
        let rows: Vec<Vec<String>> = hits
            .iter()
            .enumerate()
            .map(|(i, hit)| {
                vec![
                    (i + 1).to_string(),
                    format!("{:.4}", hit.score),
                    table::shorten(caption(i).unwrap_or("-"), 48),
                    table::shorten(&file_name(&metadata[i], hit.id), 48),
                ]
            })
            .collect();
        context.print(&json, table::render(&columns, &rows))?;
        Ok(Exit::Success)
    }
}
