//! Opening a gallery, indexing it first where there is no index yet, and ranking it by draws.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::assets::Assets;
use super::draws::Draws;
use super::error::SessionError;
use super::event::Event;
use super::projection::GalleryMap;
use super::recipe::{ModelRef, RecipeQuery};
use super::result::{ItemName, Nearest, RankedItem, Retrieved};
use super::{Job, cache, fingerprint};
use crate::encoder::{ClipEncoder, Embedding, EncoderError};
use crate::gallery::{
    BuildOptions, BuildReport, Dataset, EmbeddingStore, ExactSearch, GalleryError, Hit,
    ItemMetadata, RankDistribution, RankOptions, SourceRef, build_index,
};
use crate::query::{AlphaPolicy, QueryError, read_image};

/// Images embedded at a time while indexing.
const INDEX_BATCH: usize = 32;

/// A gallery that can be searched.
pub struct Gallery {
    /// As the user named it.
    pub path: PathBuf,
    /// Content hash, as in recipes.
    pub hash: String,
    /// Hash of the encoder it was opened for.
    pub encoder_hash: String,
    pub store: EmbeddingStore,
    search: ExactSearch,
    map: Mutex<Option<Arc<GalleryMap>>>,
    captions: Mutex<Option<HashMap<u64, Vec<usize>>>>,
    /// Holds an index for which there was no other place than a temporary one.
    _temporary: Option<tempfile::TempDir>,
}

/// What ranking a gallery gives.
pub struct Found {
    pub retrieved: Retrieved,
    /// `[N]` the best match of each draw.
    pub nearest: Vec<Nearest>,
}

impl Gallery {
    /// Opens an index, or an image folder or dataset file, which is indexed on first use and kept
    /// in the cache.
    ///
    /// # Errors
    /// When it is none of these, an index is damaged or of another dimension, no image of a
    /// dataset can be read, or the job was cancelled.
    pub fn open(
        reference: &ModelRef,
        encoder_reference: &ModelRef,
        assets: &Assets,
        encoder: &ClipEncoder,
        job: &mut Job<'_>,
    ) -> Result<Self, SessionError> {
        let path = assets.resolve(&reference.path, "gallery")?;
        let (store, hash, temporary) = if path.join("img_emb").is_dir() {
            let store = EmbeddingStore::open(&path)?;
            warn_of_other_encoder(&store, encoder_reference, &path, job)?;
            (store, fingerprint::of_folder(&path)?, None)
        } else {
            let dataset = Dataset::open(&path)?;
            let hash = dataset.fingerprint();
            let (store, temporary) = indexed(&dataset, &hash, encoder_reference, encoder, job)?;
            (store, hash, temporary)
        };
        if store.dim() != encoder.dim() {
            return Err(SessionError::Mismatch(format!(
                "the gallery {} holds embeddings of {} dimensions, the encoder makes {}; index it \
                 again with haze index and this encoder",
                path.display(),
                store.dim(),
                encoder.dim()
            )));
        }
        let search = ExactSearch::new(store.image_rows().clone())?;
        Ok(Self {
            path: reference.path.clone(),
            hash,
            encoder_hash: encoder_reference.hash.clone(),
            store,
            search,
            map: Mutex::default(),
            captions: Mutex::default(),
            _temporary: temporary,
        })
    }

    /// Ranks all items by the mean, and by every draw. `numbers` are k, and how many of the draws
    /// are samples whose own ranking is kept.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn rank(
        &self,
        query: &RecipeQuery,
        embedding: &Embedding,
        mean: &[f32],
        draws: &Draws,
        numbers: (usize, usize),
    ) -> Result<Found, SessionError> {
        let (top_k, samples) = numbers;
        let options = RankOptions { top_k, also: Vec::new() };
        let ranks = RankDistribution::new(&self.search, mean, &draws.values, &options)?;
        let ids: Vec<usize> = ranks.items.iter().map(|item| item.id).collect();
        let frozen = self.search.ranks_of(std::slice::from_ref(&embedding.values), &ids)?;
        let frozen = frozen.into_iter().flatten().map(|placement| placement.rank);
        let metadata = self.store.metadata(&ids)?;
        let sample_hits: Vec<Vec<Hit>> = ranks.hits.iter().take(samples).cloned().collect();
        let mut mentioned: Vec<usize> = ids.clone();
        mentioned.extend(sample_hits.iter().flatten().chain(&ranks.best).map(|hit| hit.id));
        let names = self.names(mentioned)?;
        let relevant = self.relevant(query, embedding)?;
        let count = |share: f64| (share * ranks.samples as f64).round() as usize;
        let items = ranks.items.iter().zip(&metadata).zip(frozen).map(|((ranks, item), frozen)| {
            RankedItem {
                rank: ranks.rank_of_mean,
                row: ranks.id,
                image: file_name(item, ranks.id),
                image_path: self.store.image_file(item),
                caption: item.captions.first().map(|caption| caption.text.clone()),
                score: ranks.score_of_mean,
                frozen_rank: frozen,
                top_1_count: count(ranks.p_top1),
                p_top_1: ranks.p_top1,
                top_k_count: count(ranks.p_top_k),
                p_top_k: ranks.p_top_k,
                rank_median: ranks.rank_median,
                rank_q25: ranks.rank_q25,
                rank_q75: ranks.rank_q75,
                relevant: relevant.as_ref().map(|rows| rows.contains(&ranks.id)),
                p_top_1_interval: ranks.p_top1_interval,
                p_top_k_interval: ranks.p_top_k_interval,
                rank_low: ranks.rank_q05,
                rank_high: ranks.rank_q95,
            }
        });
        let retrieved = Retrieved {
            gallery_size: self.store.len(),
            draws: ranks.samples,
            top_k: ranks.top_k,
            items: items.collect(),
            distinct_best: ranks.distinct_top1,
            best_match_set: ranks.covering_set.len(),
            best_match_rows: ranks.covering_set.clone(),
            sample_hits,
            above: ranks.above.clone(),
            names,
        };
        let nearest = nearest(&ranks.best, &retrieved.names);
        Ok(Found { retrieved, nearest })
    }

    /// The gallery in two dimensions, computed when it is first wanted.
    ///
    /// # Errors
    /// When the gallery has no principal components.
    pub fn map(&self) -> Result<Arc<GalleryMap>, SessionError> {
        let mut slot = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(map) = &*slot {
            return Ok(Arc::clone(map));
        }
        let map = Arc::new(GalleryMap::fit(self.store.image_rows(), &self.hash)?);
        *slot = Some(Arc::clone(&map));
        Ok(map)
    }

    /// Ranks of some rows for each query `[D]`, from 1.
    ///
    /// # Errors
    /// When a row does not exist, or a query has another dimension or is not finite.
    pub fn ranks_of(
        &self,
        queries: &[Vec<f32>],
        rows: &[usize],
    ) -> Result<Vec<Vec<usize>>, SessionError> {
        let found = self.search.ranks_of(queries, rows)?;
        let ranks = found.into_iter().map(|of| of.into_iter().map(|p| p.rank).collect());
        Ok(ranks.collect())
    }

    /// The `k` best items of one query `[D]`, by cosine, ties by the lower row.
    ///
    /// # Errors
    /// When the query has another dimension or is not finite.
    pub fn search(&self, query: &[f32], k: usize) -> Result<Vec<Hit>, SessionError> {
        Ok(self.search.search(&[query.to_vec()], k)?.swap_remove(0))
    }

    /// What is known of some rows.
    fn names(&self, mut rows: Vec<usize>) -> Result<BTreeMap<usize, ItemName>, SessionError> {
        rows.sort_unstable();
        rows.dedup();
        let metadata = self.store.metadata(&rows)?;
        let name = |(row, item): (usize, &ItemMetadata)| {
            let name = ItemName {
                image: file_name(item, row),
                image_path: self.store.image_file(item),
                caption: item.captions.first().map(|caption| caption.text.clone()),
            };
            (row, name)
        };
        Ok(rows.into_iter().zip(&metadata).map(name).collect())
    }

    /// Rows that belong to a query: those with that very caption, or the image itself. `None`
    /// where the gallery does not say: it has no captions, or the image is not in it.
    fn relevant(
        &self,
        query: &RecipeQuery,
        embedding: &Embedding,
    ) -> Result<Option<BTreeSet<usize>>, SessionError> {
        match query {
            RecipeQuery::Text(text) => {
                let mut slot = self.captions.lock().unwrap_or_else(PoisonError::into_inner);
                let index = match &mut *slot {
                    Some(index) => index,
                    none => none.insert(self.caption_index()?),
                };
                // A text that is nobody's caption has no known answer.
                Ok(index.get(&caption_key(text)).map(|rows| rows.iter().copied().collect()))
            }
            RecipeQuery::Image { .. } => {
                let best = self.search(&embedding.values, 1)?;
                let itself = best.into_iter().find(|hit| hit.score >= SAME_IMAGE);
                Ok(itself.map(|hit| BTreeSet::from([hit.id])))
            }
        }
    }

    /// Rows by the hash of their captions.
    fn caption_index(&self) -> Result<HashMap<u64, Vec<usize>>, SessionError> {
        let mut index: HashMap<u64, Vec<usize>> = HashMap::new();
        let mut row = 0;
        self.store.for_each_metadata(|item| {
            for caption in &item.captions {
                index.entry(caption_key(&caption.text)).or_default().push(row);
            }
            row += 1;
            Ok(())
        })?;
        Ok(index)
    }
}

/// Cosine from which an image query is taken for the gallery's own image: rounding of float16
/// stores stays above it.
const SAME_IMAGE: f64 = 0.9999;

/// 64 bits of a caption, whatever its case and the space around it. Two captions share them with a
/// chance of about one in 10^13 even among a million.
fn caption_key(text: &str) -> u64 {
    let hash = blake3::hash(text.trim().to_lowercase().as_bytes());
    u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap_or_default())
}

/// Names the best match of every draw.
fn nearest(best: &[Hit], names: &BTreeMap<usize, ItemName>) -> Vec<Nearest> {
    let nearest = |hit: &Hit| {
        let name = names.get(&hit.id);
        Nearest {
            row: hit.id,
            image: name.map_or_else(|| format!("row {}", hit.id), |name| name.image.clone()),
            caption: name.and_then(|name| name.caption.clone()),
            score: hit.score,
        }
    };
    best.iter().map(nearest).collect()
}

/// The image's file name, or its row where the gallery has no paths.
pub fn file_name(item: &ItemMetadata, row: usize) -> String {
    let path = item.image_path.as_deref().map(Path::new);
    match path.and_then(Path::file_name) {
        Some(name) => name.to_string_lossy().into_owned(),
        None => format!("row {row}"),
    }
}

fn warn_of_other_encoder(
    store: &EmbeddingStore,
    encoder: &ModelRef,
    path: &Path,
    job: &mut Job<'_>,
) -> Result<(), SessionError> {
    match store.info() {
        Some(info) if info.encoder.hash != encoder.hash => job.tell(Event::Warning(format!(
            "the index {} was made by another encoder ({}); its scores mean nothing here unless \
             both embed into the same space",
            path.display(),
            info.encoder.path.display()
        ))),
        _ => Ok(()),
    }
}

/// The index of a dataset from the cache, made now if there is none.
fn indexed(
    dataset: &Dataset,
    hash: &str,
    encoder_reference: &ModelRef,
    encoder: &ClipEncoder,
    job: &mut Job<'_>,
) -> Result<(EmbeddingStore, Option<tempfile::TempDir>), SessionError> {
    let key = blake3::hash(format!("{hash}\n{}", encoder_reference.hash).as_bytes()).to_hex();
    let (folder, temporary) = match cache::folder() {
        Ok(cache) => (cache.join("galleries").join(&key.as_str()[..32]), None),
        Err(error) => {
            job.tell(Event::Warning(format!("the gallery's index is not kept: {error}")))?;
            let folder = tempfile::tempdir()
                .map_err(crate::files::FileError::write(&std::env::temp_dir()))?;
            (folder.path().join("gallery"), Some(folder))
        }
    };
    if let Ok(store) = EmbeddingStore::open(&folder)
        && let Some(info) = store.info()
        && info.stale_reason(&encoder_reference.hash, hash).is_none()
    {
        return Ok((store, temporary));
    }
    if let Some(parent) = folder.parent() {
        crate::files::create_folder(parent)?;
    }
    let report = index(dataset, &folder, encoder_reference, encoder, &mut |done, total| {
        (job.on_event)(Event::Progress { done, total })
    })?;
    if !report.skipped.is_empty() {
        job.tell(Event::Warning(skipped_text(&report)))?;
    }
    Ok((EmbeddingStore::open(&folder)?, temporary))
}

/// Embeds a dataset's images into a store at `folder`.
///
/// # Errors
/// As [`build_index`].
pub fn index(
    dataset: &Dataset,
    folder: &Path,
    encoder_reference: &ModelRef,
    encoder: &ClipEncoder,
    on_progress: &mut dyn FnMut(usize, usize) -> ControlFlow<()>,
) -> Result<BuildReport, SessionError> {
    let options = BuildOptions {
        batch_size: INDEX_BATCH,
        encoder: SourceRef {
            path: encoder_reference.path.clone(),
            hash: encoder_reference.hash.clone(),
        },
        dim: encoder.dim(),
    };
    let prepare =
        |path: &Path| Ok::<_, QueryError>(read_image(path)?.to_rgb(AlphaPolicy::default()));
    let embed = |images: &[image::RgbImage]| -> Result<Vec<Embedding>, EncoderError> {
        encoder.embed_images(images)
    };
    let report = build_index(dataset, folder, &options, prepare, embed, on_progress);
    report.map_err(|error: GalleryError| error.into())
}

/// What to say of images that are not in an index.
pub fn skipped_text(report: &BuildReport) -> String {
    let first: Vec<String> =
        report.skipped.iter().take(3).map(|skipped| skipped.reason.clone()).collect();
    format!(
        "{} image(s) could not be read and are not in the index, for example: {}",
        report.skipped.len(),
        first.join("; ")
    )
}
