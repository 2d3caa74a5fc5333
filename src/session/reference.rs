//! How uncertain a query is among the gallery's own captions or images.
//!
//! A mean variance alone says little: its scale depends on the encoder. Compared with queries of
//! the same kind it does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::error::SessionError;
use super::event::{Event, Stage};
use super::galleries::Gallery;
use super::recipe::{ModelRef, Models};
use super::result::Reference;
use super::{Job, cache};
use crate::adapter::Adapter;
use crate::encoder::{Encoder, Modality};
use crate::files::{read_bounded, write_atomic};
use crate::query::{AlphaPolicy, read_image};

/// Captions or images compared with at most; evenly spread over the gallery.
const REFERENCE_SIZE: usize = 512;
/// Inputs embedded at a time.
const BATCH: usize = 64;
/// Steps between the smallest and the largest variance that are kept with a result.
const QUANTILES: usize = 50;
const FILE_LIMIT: u64 = 16 << 20;

/// Mean aleatoric variances of a gallery's own captions or images, sorted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Variances(Vec<f64>);

impl Variances {
    /// Where `aleatoric` stands among them; `None` when there are none.
    pub fn place(&self, aleatoric: f64) -> Option<Reference> {
        let Self(sorted) = self;
        let below = sorted.partition_point(|&other| other < aleatoric);
        Some(Reference {
            count: sorted.len(),
            share_below: below as f64 / sorted.len() as f64,
            median: *sorted.get(sorted.len() / 2)?,
            quantiles: (0..=QUANTILES)
                .map(|i| sorted[i * (sorted.len() - 1) / QUANTILES])
                .collect(),
        })
    }

    /// Predicts them, or takes them from the cache.
    ///
    /// # Errors
    /// When the gallery's metadata cannot be read, the models fail, or the job was cancelled.
    pub fn of(
        gallery: &Gallery,
        encoder: &Encoder,
        adapter: &Arc<Adapter>,
        models: &Models,
        job: &mut Job<'_>,
    ) -> Result<Self, SessionError> {
        let file = cache_file(models, &gallery.hash);
        if let Some(cached) = file.as_deref().and_then(read) {
            return Ok(cached);
        }
        job.stage(Stage::Reference)?;
        let ids = spread(gallery.store.len(), REFERENCE_SIZE);
        let mut variances = Vec::new();
        for (batch, ids) in ids.chunks(BATCH).enumerate() {
            job.tell(Event::Progress { done: batch * BATCH, total: ids.len().max(batch * BATCH) })?;
            let metadata = gallery.store.metadata(ids)?;
            let embeddings = match adapter.input_modality() {
                Modality::Text => {
                    // One caption each, a different one from item to item, so that captions of
                    // every kind are among them.
                    let texts: Vec<&str> = ids
                        .iter()
                        .zip(&metadata)
                        .filter(|(_, item)| !item.captions.is_empty())
                        .map(|(id, item)| item.captions[id % item.captions.len()].text.as_str())
                        .filter(|text| !text.trim().is_empty())
                        .collect();
                    encoder.embed_texts(&texts)?
                }
                Modality::Image => {
                    let paths: Vec<PathBuf> =
                        metadata.iter().filter_map(|item| gallery.store.image_file(item)).collect();
                    let images: Vec<image::RgbImage> = paths
                        .par_iter()
                        .filter_map(|path| read_image(path).ok())
                        .map(|image| image.to_rgb(AlphaPolicy::default()))
                        .collect();
                    encoder.embed_images(&images)?
                }
            };
            let predicted = adapter.predict_batch(&embeddings, 0, 0)?;
            variances.extend(predicted.iter().map(|d| d.mean_aleatoric()));
        }
        variances.sort_by(f64::total_cmp);
        let variances = Self(variances);
        if let Some(file) = file {
            // A cache that cannot be written only costs time.
            let _ = write_atomic(&file, |out| Ok(serde_json::to_writer(out, &variances)?));
        }
        Ok(variances)
    }
}

fn read(file: &Path) -> Option<Variances> {
    let bytes = read_bounded(file, FILE_LIMIT, "a cache file").ok()?;
    serde_json::from_slice(&bytes).ok()
}

fn cache_file(models: &Models, gallery_hash: &str) -> Option<PathBuf> {
    let adapter = models.adapter.as_ref()?;
    let hashes = [&models.encoder, adapter].map(|m: &ModelRef| m.hash.as_str());
    let key = blake3::hash(format!("{}\n{gallery_hash}", hashes.join("\n")).as_bytes()).to_hex();
    let folder = cache::folder().ok()?.join("references");
    crate::files::create_folder(&folder).ok()?;
    Some(folder.join(format!("{}.json", &key.as_str()[..32])))
}

/// At most `limit` of `count` rows, evenly spread.
pub(super) fn spread(count: usize, limit: usize) -> Vec<usize> {
    if count <= limit {
        return (0..count).collect();
    }
    (0..limit).map(|i| i * count / limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_placed_by_the_share_below_it() {
        let variances = Variances(vec![1.0, 2.0, 3.0, 4.0]);
        assert_eq!(variances.place(2.5).unwrap().share_below, 0.5);
        assert_eq!(variances.place(9.0).unwrap().share_below, 1.0);
        assert!(Variances(Vec::new()).place(1.0).is_none());
    }

    #[test]
    fn quantiles_run_from_the_smallest_to_the_largest_variance() {
        let variances = Variances((0..101).map(f64::from).collect());
        let quantiles = variances.place(3.0).unwrap().quantiles;
        assert_eq!(quantiles.len(), 51);
        assert_eq!((quantiles[0], quantiles[25], quantiles[50]), (0.0, 50.0, 100.0));
        assert_eq!(Variances(vec![7.0]).place(3.0).unwrap().quantiles, [7.0; 51]);
    }

    #[test]
    fn rows_are_spread_over_the_whole_gallery_without_repeats() {
        assert_eq!(spread(3, 10), [0, 1, 2]);
        let rows = spread(1000, 10);
        assert_eq!(rows.len(), 10);
        assert_eq!((rows[0], rows[9]), (0, 900));
    }
}
