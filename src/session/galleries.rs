//! Opening a gallery, indexing it first where there is no index yet, and ranking it by draws.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::assets::Assets;
use super::draws::Draws;
use super::error::SessionError;
use super::event::Event;
use super::projection::GalleryMap;
use super::recipe::{ModelRef, Recipe, RecipeQuery};
use super::result::{ItemName, Nearest, RankedItem, Retrieved};
use super::{Job, cache, fingerprint};
use crate::encoder::{Embedding, Encoder, EncoderError};
use crate::gallery::{
    BuildOptions, BuildReport, CaptionIndex, Dataset, EmbeddingStore, ExactSearch, GalleryError,
    Hit, ImageLocation, ItemMetadata, RankDistribution, RankOptions, SourceRef, build_index,
    same_caption,
};
use crate::query::{AlphaPolicy, QueryError, read_located_image};

/// Images embedded at a time while indexing.
const INDEX_BATCH: usize = 32;
/// Cosine from which on an item is taken for the query image itself: float16 rows round a unit
/// vector by less.
const SAME_IMAGE_COSINE: f64 = 0.99999;

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
    /// `None` where the store has no captions.
    captions: OnceLock<Option<CaptionIndex>>,
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
        encoder: &Encoder,
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
            captions: OnceLock::new(),
            _temporary: temporary,
        })
    }

    /// Ranks all items by the mean, and by every draw. Of `recipe` the query, the number of decoded
    /// samples and k are read; `query` is the query's frozen embedding.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub fn rank(
        &self,
        recipe: &Recipe,
        query: &Embedding,
        mean: &[f32],
        draws: &Draws,
    ) -> Result<Found, SessionError> {
        let top_k = recipe.retrieval.top_k;
        let relevant = self.relevant(&recipe.query, query, top_k)?;
        let options =
            RankOptions { top_k, also: relevant.clone(), own_hits: recipe.sampling.samples };
        let ranks = RankDistribution::new(&self.search, mean, &draws.values, &options)?;
        let ids: Vec<usize> = ranks.items.iter().map(|item| item.id).collect();
        let frozen = self.search.ranks_of(std::slice::from_ref(&query.values), &ids)?;
        let frozen = frozen.into_iter().flatten().map(|placement| placement.rank);

        let hits = ranks.own_hits.iter().flatten().chain(&ranks.best).map(|hit| hit.id);
        let mentioned: BTreeSet<usize> = ids.iter().copied().chain(hits).collect();
        let mentioned: Vec<usize> = mentioned.into_iter().collect();
        let metadata = self.store.metadata(&mentioned)?;
        let known: BTreeMap<usize, &ItemMetadata> =
            mentioned.iter().copied().zip(&metadata).collect();
        let names: BTreeMap<usize, ItemName> =
            known.iter().map(|(&row, item)| (row, self.name(item, row))).collect();

        let items = ranks.items.iter().zip(frozen).map(|(ranks, frozen_rank)| {
            let ItemName { image, image_path, caption } = names[&ranks.id].clone();
            RankedItem {
                rank: ranks.rank_of_mean,
                row: ranks.id,
                image,
                image_path,
                caption,
                score: ranks.score_of_mean,
                frozen_rank,
                top_1_count: ranks.top1_count,
                p_top_1: ranks.p_top1,
                p_top_1_interval: ranks.p_top1_interval,
                top_k_count: ranks.top_k_count,
                p_top_k: ranks.p_top_k,
                p_top_k_interval: ranks.p_top_k_interval,
                rank_median: ranks.rank_median,
                rank_q25: ranks.rank_q25,
                rank_q75: ranks.rank_q75,
                relevant: (!relevant.is_empty()).then(|| {
                    relevant.contains(&ranks.id) || is_caption_of(&recipe.query, known[&ranks.id])
                }),
                rank_low: ranks.rank_q05,
                rank_high: ranks.rank_q95,
            }
        });
        let items = items.collect();
        let nearest = ranks.best.iter().map(|hit| {
            let ItemName { image, caption, .. } = names[&hit.id].clone();
            Nearest { row: hit.id, image, caption, score: hit.score }
        });
        let nearest = nearest.collect();
        let retrieved = Retrieved {
            gallery_size: self.store.len(),
            draws: ranks.samples,
            top_k: ranks.top_k,
            items,
            distinct_best: ranks.distinct_top1,
            best_match_set: ranks.covering_set.len(),
            best_match_rows: ranks.covering_set,
            sample_hits: ranks.own_hits,
            above: ranks.above,
            names,
        };
        Ok(Found { retrieved, nearest })
    }

    /// Rows that belong to the query, at most `limit`: a caption is the query text, or the row is
    /// the query image, which is looked for among the `limit` rows closest to the query.
    fn relevant(
        &self,
        query: &RecipeQuery,
        embedding: &Embedding,
        limit: usize,
    ) -> Result<Vec<usize>, SessionError> {
        match query {
            RecipeQuery::Text(text) => {
                let Some(captions) = self.captions()? else { return Ok(Vec::new()) };
                let candidates: Vec<usize> = captions.candidates(text).take(limit).collect();
                let metadata = self.store.metadata(&candidates)?;
                let found = candidates.into_iter().zip(&metadata);
                Ok(found
                    .filter(|(_, item)| is_caption_of(query, item))
                    .map(|(row, _)| row)
                    .collect())
            }
            RecipeQuery::Image { path, .. } => {
                let nearest = self.search(&embedding.values, limit)?;
                let rows: Vec<usize> = nearest.iter().map(|hit| hit.id).collect();
                let metadata = self.store.metadata(&rows)?;
                let found = nearest.iter().zip(&metadata).filter(|(hit, item)| {
                    hit.score >= SAME_IMAGE_COSINE
                        || self.store.image_file(item).is_some_and(|file| same_file(&file, path))
                });
                Ok(found.map(|(hit, _)| hit.id).collect())
            }
        }
    }

    /// The index of captions, built when it is first asked for.
    fn captions(&self) -> Result<Option<&CaptionIndex>, SessionError> {
        if self.captions.get().is_none() {
            let index = CaptionIndex::of(&self.store)?;
            // When two threads come here at once, both have built the same.
            let _ = self.captions.set(index);
        }
        Ok(self.captions.get().and_then(Option::as_ref))
    }

    fn name(&self, item: &ItemMetadata, row: usize) -> ItemName {
        ItemName {
            image: file_name(item, row),
            image_path: self.store.image_file(item),
            caption: item.captions.first().map(|caption| caption.text.clone()),
        }
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
}

/// Whether the query is a text that equals one of the item's captions.
fn is_caption_of(query: &RecipeQuery, item: &ItemMetadata) -> bool {
    match query {
        RecipeQuery::Text(text) => item.captions.iter().any(|c| same_caption(&c.text, text)),
        RecipeQuery::Image { .. } => false,
    }
}

/// Whether two paths lead to one file. Only files of the same name are looked up on disk.
fn same_file(a: &Path, b: &Path) -> bool {
    a == b
        || a.file_name() == b.file_name()
            && matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
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
    encoder: &Encoder,
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
    for note in &dataset.notes {
        job.tell(Event::Warning(format!("{}: {note}", dataset.name)))?;
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
    encoder: &Encoder,
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
    let prepare = |image: &ImageLocation| {
        Ok::<_, QueryError>(read_located_image(image)?.to_rgb(AlphaPolicy::default()))
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::{EmbeddingDistribution, GeneralizedGaussian};
    use crate::encoder::Modality;
    use crate::gallery::{Caption, DatasetItem, StoreWriter};
    use crate::session::recipe::{Bridge, Models};

    /// Three rows along the axes, with captions.
    fn gallery(folder: &Path) -> Gallery {
        let item = |id: &str, captions: &[&str]| DatasetItem {
            id: id.to_owned(),
            image: folder.join(id).into(),
            captions: captions
                .iter()
                .map(|&text| Caption { text: text.to_owned(), level: None, id: None })
                .collect(),
            split: None,
            labels: BTreeMap::new(),
        };
        let dataset = Dataset::new(
            "three",
            folder.to_owned(),
            vec![
                item("a.png", &["a red apple", "a fruit"]),
                item("b.png", &["a pear", "A Fruit "]),
                item("c.png", &["a car"]),
            ],
        );
        let source = SourceRef { path: PathBuf::from("clip"), hash: "e".to_owned() };
        let destination = folder.join("index");
        let mut writer = StoreWriter::create(&destination, 3, source, &dataset).unwrap();
        let rows = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        let items: Vec<&DatasetItem> = dataset.items.iter().collect();
        writer.push(&items, &rows.each_ref().map(|row| &row[..])).unwrap();
        writer.finish().unwrap();
        let store = EmbeddingStore::open(&destination).unwrap();
        Gallery {
            path: PathBuf::from("three"),
            hash: "h".to_owned(),
            encoder_hash: "e".to_owned(),
            search: ExactSearch::new(store.image_rows().clone()).unwrap(),
            store,
            map: Mutex::default(),
            captions: OnceLock::new(),
            _temporary: None,
        }
    }

    fn ranked(gallery: &Gallery, query: RecipeQuery, embedding: [f32; 3]) -> Found {
        let models = Models {
            encoder: ModelRef::new("clip"),
            adapter: Some(ModelRef::new("adapter")),
            bridge: Bridge::None,
            bridge_model: None,
            decoder: None,
            gallery: None,
        };
        let mut recipe = Recipe::new(query, models);
        recipe.sampling.samples = 3;
        recipe.sampling.draws = 40;
        recipe.retrieval.top_k = 1;
        let dimension = |&mu: &f32| GeneralizedGaussian::new(f64::from(mu), 0.4, 2.0).unwrap();
        let dimensions = embedding.iter().map(dimension).collect();
        let distribution = EmbeddingDistribution::new(dimensions, vec![0.0; 3]).unwrap();
        let draws = Draws::new(&distribution, &recipe.sampling).unwrap();
        let query = Embedding { values: embedding.to_vec(), modality: Modality::Text };
        gallery.rank(&recipe, &query, &distribution.mean(), &draws).unwrap()
    }

    fn relevance(found: &Found) -> BTreeMap<usize, Option<bool>> {
        found.retrieved.items.iter().map(|item| (item.row, item.relevant)).collect()
    }

    #[test]
    fn an_item_is_relevant_where_one_of_its_captions_is_the_query_text() {
        let folder = tempfile::tempdir().unwrap();
        let gallery = gallery(folder.path());
        let text = |text: &str| RecipeQuery::Text(text.to_owned());
        let apple = relevance(&ranked(&gallery, text(" A red APPLE"), [1.0, 0.6, 0.6]));
        assert!(apple.iter().all(|(&row, &relevant)| relevant == Some(row == 0)), "{apple:?}");
        // The first row with that caption is listed however far down it ranks; the second one is
        // known for what it is when it is listed for its rank.
        let fruit = relevance(&ranked(&gallery, text("a fruit"), [0.0, 1.0, 0.9]));
        assert_eq!((fruit[&0], fruit[&1]), (Some(true), Some(true)));
        let unknown = relevance(&ranked(&gallery, text("a boat"), [1.0, 0.6, 0.6]));
        assert!(unknown.values().all(Option::is_none), "{unknown:?}");
    }

    #[test]
    fn an_item_is_relevant_where_it_is_the_query_image() {
        let folder = tempfile::tempdir().unwrap();
        let gallery = gallery(folder.path());
        let image = |name: &str| RecipeQuery::image(&folder.path().join(name));
        let same_pixels = relevance(&ranked(&gallery, image("copy.png"), [0.0, 1.0, 0.0]));
        assert_eq!(same_pixels[&1], Some(true));
        let same_path = relevance(&ranked(&gallery, image("c.png"), [0.1, 0.1, 0.9]));
        assert_eq!(same_path[&2], Some(true));
        let other = relevance(&ranked(&gallery, image("other.png"), [0.5, 0.5, 0.6]));
        assert!(other.values().all(Option::is_none), "{other:?}");
    }

    #[test]
    fn every_row_that_is_mentioned_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let gallery = gallery(folder.path());
        let found = ranked(&gallery, RecipeQuery::Text("a boat".to_owned()), [0.6, 0.6, 0.5]);
        let retrieved = &found.retrieved;
        assert_eq!(retrieved.sample_hits.len(), 3);
        let hits = retrieved.sample_hits.iter().flatten().map(|hit| hit.id);
        let rows = retrieved.items.iter().map(|item| item.row).chain(hits);
        for row in rows.chain(found.nearest.iter().map(|nearest| nearest.row)) {
            assert_eq!(retrieved.names[&row].image, ["a.png", "b.png", "c.png"][row]);
        }
        let counted: usize = retrieved.items.iter().map(|item| item.top_1_count).sum();
        assert!(counted <= retrieved.draws);
        for item in &retrieved.items {
            assert!(item.p_top_1_interval.low <= item.p_top_1);
            assert!(item.p_top_1 <= item.p_top_1_interval.high);
        }
    }
}
