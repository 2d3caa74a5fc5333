//! Embedding a whole dataset of images and captions into a cache for experiments.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use image::RgbImage;
use rayon::prelude::*;

use super::assets::Assets;
use super::error::SessionError;
use super::{fingerprint, guarded};
use crate::encoder::augment::{MASKED_SHARE, augment_image, mask_words};
use crate::encoder::{Embedding, Encoder, EncoderConfig, Modality, Norm, Pooled};
use crate::experiment::cache::{
    Augmentation, CacheWriter, CaptionEntry, Embedded, ImageEntry, Manifest, Request, SkippedItem,
};
use crate::experiment::pairs::CaptionLink;
use crate::gallery::{Caption, Dataset, DatasetItem, SourceRef};
use crate::model::device::ComputeDevice;
use crate::query::{AlphaPolicy, QueryError, read_located_image};

/// Images embedded at a time, their augmented copies included.
const IMAGE_BATCH: usize = 32;
/// Texts embedded at a time; the encoder sorts them by length, so many waste little on padding.
const TEXT_BATCH: usize = 256;
/// Items of a part, at most: what a crash costs. Ctrl-C costs nothing.
const PART_ITEMS: usize = 1024;

/// What is to be embedded.
#[derive(Debug, Clone)]
pub struct EmbeddingJob {
    pub dataset: PathBuf,
    pub encoder: PathBuf,
    /// Splits to embed; empty for all items.
    pub splits: Vec<String>,
    /// Augmented copies of each item, at least 2, whose spread is measured.
    pub augmentation: Option<usize>,
    /// Seed of the copies.
    pub seed: u64,
    /// Whether the features before the projections are kept too.
    pub pooled: bool,
    /// Folder of the cache.
    pub out: PathBuf,
    /// Replaces another cache in that folder.
    pub overwrite: bool,
}

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddingProgress {
    pub modality: Modality,
    /// Images, or distinct texts; those of an earlier run are counted.
    pub done: usize,
    pub total: usize,
}

/// Embeds every captioned image and every distinct caption of a dataset once, raw.
///
/// A run that is interrupted keeps what it did; the same job goes on from there. A finished cache
/// is left as it is. Items that cannot be used are in [`Manifest::skipped`].
///
/// # Errors
/// When the dataset or the encoder is unusable, two images have the same id, no image can be used,
/// the cache in the folder is of other data ([`EmbeddingJob::overwrite`]), the device fails, the
/// disk is full, or the job was cancelled.
pub fn embed_dataset(
    job: &EmbeddingJob,
    assets: &Assets,
    device: &ComputeDevice,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<Manifest, SessionError> {
    guarded(|| {
        let dataset = open_dataset(&assets.resolve(&job.dataset, "dataset")?, &job.splits)?;
        let encoder_path = assets.resolve(&job.encoder, "encoder")?;
        let encoder = Encoder::load(&encoder_path, &device.device)?;
        let reference =
            SourceRef { path: job.encoder.clone(), hash: fingerprint::of_folder(&encoder_path)? };
        embed_into(job, &dataset, &encoder, reference, on_progress)
    })
}

/// Opens a dataset and keeps some splits; none for all items.
///
/// # Errors
/// When it is no dataset, or has no such split.
pub fn open_dataset(path: &Path, splits: &[String]) -> Result<Dataset, SessionError> {
    let dataset = Dataset::open(path)?;
    if splits.is_empty() {
        return Ok(dataset);
    }
    let splits: Vec<&str> = splits.iter().map(String::as_str).collect();
    Ok(dataset.with_splits(&splits)?)
}

/// [`embed_dataset`] with everything loaded; of `job` the paths of what is loaded are not read.
///
/// # Errors
/// As [`embed_dataset`].
pub fn embed_into(
    job: &EmbeddingJob,
    dataset: &Dataset,
    encoder: &Encoder,
    encoder_reference: SourceRef,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<Manifest, SessionError> {
    if job.augmentation.is_some_and(|passes| passes < 2) {
        return Err(SessionError::OutOfRange {
            what: "the number of augmented copies",
            found: job.augmentation.unwrap_or_default().to_string(),
            expected: "at least 2, which have a variance".to_owned(),
        });
    }
    if job.pooled {
        check_pooled(encoder.config())?;
    }
    let captioned = captioned(dataset)?;
    let request = Request {
        name: dataset.name.clone(),
        dataset: SourceRef { path: dataset.source.clone(), hash: dataset.fingerprint() },
        encoder: encoder_reference,
        splits: job.splits.clone(),
        dim: encoder.dim(),
        logit_scale: f64::from(encoder.logit_scale()),
        augmentation: job.augmentation.map(|passes| Augmentation {
            passes,
            masked_share: MASKED_SHARE,
            seed: job.seed,
        }),
        pooled: job.pooled,
        without_caption: dataset.items.len() - captioned.len(),
    };
    let embedder = Embedder { encoder, augmentation: request.augmentation, pooled: request.pooled };
    let mut writer = CacheWriter::begin(&job.out, request, job.overwrite)?;
    if writer.manifest().complete {
        return Ok(writer.manifest().clone());
    }
    embed_images(&embedder, dataset, &captioned, &mut writer, on_progress)?;

    let skipped: HashSet<usize> = writer.manifest().skipped.iter().map(|s| s.item).collect();
    let kept: Vec<&DatasetItem> =
        captioned.iter().filter(|i| !skipped.contains(i)).map(|&i| &dataset.items[i]).collect();
    if kept.is_empty() {
        let reasons = writer.manifest().skipped.iter().map(|s| s.reason.clone()).collect();
        return Err(crate::gallery::GalleryError::AllSkipped { reasons }.into());
    }
    let (captions, texts) = distinct_captions(&kept);
    embed_texts(&embedder, &texts, &mut writer, on_progress)?;
    let images: Vec<ImageEntry> = kept.iter().map(|item| image_entry(item)).collect();
    Ok(writer.finish(&images, &captions)?)
}

/// Features before the projections are kept for BayesVLM, whose variances are those of raw
/// embeddings.
fn check_pooled(config: &EncoderConfig) -> Result<(), SessionError> {
    match config.norm() {
        Norm::Raw => Ok(()),
        Norm::Unit => Err(SessionError::Mismatch(format!(
            "the features before the projections (--pooled) are for BayesVLM, which needs raw \
             embeddings, but {} scales its embeddings to length 1; embed without --pooled, or with \
             a CLIP or SigLIP encoder",
            config.kind().name()
        ))),
    }
}

/// Positions of the items that have a caption.
fn captioned(dataset: &Dataset) -> Result<Vec<usize>, SessionError> {
    let mut seen = HashSet::new();
    if let Some(twice) = dataset.items.iter().find(|item| !seen.insert(item.id.as_str())) {
        return Err(SessionError::Mismatch(format!(
            "{}: two images have the id {:?}; every image must have its own",
            dataset.source.display(),
            twice.id
        )));
    }
    let has_caption = |item: &DatasetItem| item.captions.iter().any(|c| !c.text.trim().is_empty());
    let captioned: Vec<usize> =
        (0..dataset.items.len()).filter(|&i| has_caption(&dataset.items[i])).collect();
    if captioned.is_empty() {
        return Err(SessionError::Mismatch(format!(
            "{}: none of its {} images has a caption, so it holds no pairs; for a gallery without \
             captions use haze index",
            dataset.source.display(),
            dataset.items.len()
        )));
    }
    Ok(captioned)
}

/// Reads the image of an item.
fn read_item(item: &DatasetItem) -> Result<RgbImage, QueryError> {
    Ok(read_located_image(&item.image)?.to_rgb(AlphaPolicy::default()))
}

fn image_entry(item: &DatasetItem) -> ImageEntry {
    ImageEntry {
        id: item.id.clone(),
        split: item.split.clone(),
        class: item.labels.get("class").cloned(),
        path: item.image.to_string(),
        coco_id: item.coco_id(),
    }
}

/// The captions of the items, row i for item i, and every distinct text once. Blank captions are
/// left out.
fn distinct_captions(items: &[&DatasetItem]) -> (Vec<CaptionEntry>, Vec<Arc<str>>) {
    let mut rows: HashMap<&str, u32> = HashMap::new();
    let (mut captions, mut texts) = (Vec::new(), Vec::<Arc<str>>::new());
    for (image, item) in items.iter().enumerate() {
        for caption in item.captions.iter().filter(|c| !c.text.trim().is_empty()) {
            let row = *rows.entry(&caption.text).or_insert_with(|| {
                texts.push(caption.text.as_str().into());
                texts.len() as u32 - 1
            });
            let Caption { level, id, .. } = *caption;
            let link = CaptionLink { text: row, image: image as u32, level, id };
            captions.push(CaptionEntry { link, words: Arc::clone(&texts[row as usize]) });
        }
    }
    (captions, texts)
}

/// The frozen encoder and what is kept of each item.
struct Embedder<'a> {
    encoder: &'a Encoder,
    augmentation: Option<Augmentation>,
    pooled: bool,
}

impl Embedder<'_> {
    /// Embeds images; `items` are their positions in the dataset, which choose the copies.
    fn images(&self, items: &[usize], images: &[RgbImage]) -> Result<Vec<Embedded>, SessionError> {
        let mut rows: Vec<Embedded> = if self.pooled {
            self.encoder.pool_images(images)?.into_iter().map(with_features).collect()
        } else {
            self.encoder.embed_images(images)?.into_iter().map(plain).collect()
        };
        let Some(Augmentation { passes, seed, .. }) = self.augmentation else { return Ok(rows) };
        // Copies are as large as their images: few images at a time.
        let group = (IMAGE_BATCH / passes).max(1);
        for (start, images) in images.chunks(group).enumerate().map(|(i, c)| (i * group, c)) {
            let copies: Vec<RgbImage> = (0..images.len() * passes)
                .into_par_iter()
                .map(|copy| {
                    let index = copy_index(items[start + copy / passes], passes, copy % passes);
                    augment_image(&images[copy / passes], seed, index)
                })
                .collect();
            let copies = self.encoder.embed_images(&copies)?;
            for (row, copies) in rows[start..].iter_mut().zip(copies.chunks(passes)) {
                row.variance = Some(spread(copies));
            }
        }
        Ok(rows)
    }

    /// Embeds texts; `first` is the text row of the first.
    fn texts(&self, first: usize, texts: &[&str]) -> Result<Vec<Embedded>, SessionError> {
        let mut rows: Vec<Embedded> = if self.pooled {
            self.encoder.pool_texts(texts)?.into_iter().map(with_features).collect()
        } else {
            self.encoder.embed_texts(texts)?.into_iter().map(plain).collect()
        };
        if let Some(Augmentation { passes, masked_share, seed }) = self.augmentation {
            let copies: Vec<String> = (0..texts.len() * passes)
                .map(|copy| {
                    let index = copy_index(first + copy / passes, passes, copy % passes);
                    mask_words(texts[copy / passes], masked_share, seed, index)
                })
                .collect();
            let copies: Vec<&str> = copies.iter().map(String::as_str).collect();
            let copies = self.encoder.embed_texts(&copies)?;
            for (row, copies) in rows.iter_mut().zip(copies.chunks(passes)) {
                row.variance = Some(spread(copies));
            }
        }
        Ok(rows)
    }
}

fn plain(embedding: Embedding) -> Embedded {
    Embedded { embedding: embedding.values, variance: None, pooled: None }
}

fn with_features(pooled: Pooled) -> Embedded {
    Embedded { pooled: Some(pooled.features), ..plain(pooled.embedding) }
}

/// Which copy of which item, as one number, the same in every run.
fn copy_index(item: usize, passes: usize, copy: usize) -> u64 {
    item as u64 * passes as u64 + copy as u64
}

/// Mean over dimensions of the unbiased variance over unit embeddings of at least two copies: the
/// uncertainty of TTDA.
fn spread(copies: &[Embedding]) -> f32 {
    let units: Vec<Vec<f32>> = copies.iter().map(Embedding::unit).collect();
    let count = units.len() as f64;
    let dim = units[0].len();
    let sum: f64 = (0..dim)
        .map(|d| {
            let mean = units.iter().map(|unit| f64::from(unit[d])).sum::<f64>() / count;
            let squares = units.iter().map(|unit| (f64::from(unit[d]) - mean).powi(2));
            squares.sum::<f64>() / (count - 1.0)
        })
        .sum();
    (sum / dim as f64) as f32
}

/// Rows that are embedded but not yet in a part.
#[derive(Default)]
struct Pending {
    items: usize,
    rows: Vec<Embedded>,
    skipped: Vec<SkippedItem>,
}

impl Pending {
    /// Writes what is there as a part.
    fn flush(&mut self, writer: &mut CacheWriter, modality: Modality) -> Result<(), SessionError> {
        if self.items == 0 {
            return Ok(());
        }
        let Self { items, rows, skipped } = std::mem::take(self);
        Ok(writer.push(modality, items, &rows, skipped)?)
    }
}

/// Embeds the images that are not done yet. Whatever ends this, finished work is written first.
fn embed_images(
    embedder: &Embedder<'_>,
    dataset: &Dataset,
    captioned: &[usize],
    writer: &mut CacheWriter,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<(), SessionError> {
    let (start, total) = (writer.manifest().image_items_done(), captioned.len());
    let mut pending = Pending::default();
    let todo = &captioned[start.min(total)..];
    let outcome = with_images(dataset, todo, |items, images| {
        let (mut rows, mut usable, mut skipped) = (Vec::new(), Vec::new(), Vec::new());
        for (&item, image) in items.iter().zip(images) {
            match image {
                Ok(image) => {
                    usable.push(item);
                    rows.push(image);
                }
                Err(error) => skipped.push(skip(dataset, item, error.to_string())),
            }
        }
        for (&item, row) in usable.iter().zip(embedder.images(&usable, &rows)?) {
            match row.is_storable() {
                true => pending.rows.push(row),
                false => {
                    let reason = "its embedding is zero, or not finite in float16".to_owned();
                    skipped.push(skip(dataset, item, reason));
                }
            }
        }
        pending.skipped.extend(skipped);
        pending.items += items.len();
        if pending.items >= PART_ITEMS {
            pending.flush(writer, Modality::Image)?;
        }
        let done = writer.manifest().image_items_done() + pending.items;
        tell(on_progress, EmbeddingProgress { modality: Modality::Image, done, total })
    });
    pending.flush(writer, Modality::Image)?;
    outcome
}

fn embed_texts(
    embedder: &Embedder<'_>,
    texts: &[Arc<str>],
    writer: &mut CacheWriter,
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
) -> Result<(), SessionError> {
    let (start, total) = (writer.manifest().texts_done(), texts.len());
    let mut pending = Pending::default();
    let mut done = start.min(total);
    let outcome = texts[done..].chunks(TEXT_BATCH).try_for_each(|batch| {
        let words: Vec<&str> = batch.iter().map(|text| &**text).collect();
        let rows = embedder.texts(done, &words)?;
        if let Some(i) = rows.iter().position(|row| !row.is_storable()) {
            return Err(SessionError::Mismatch(format!(
                "the embedding of the text {:?} is zero, or not finite in float16; the encoder is \
                 damaged",
                words[i]
            )));
        }
        pending.rows.extend(rows);
        pending.items += batch.len();
        done += batch.len();
        if pending.items >= PART_ITEMS {
            pending.flush(writer, Modality::Text)?;
        }
        tell(on_progress, EmbeddingProgress { modality: Modality::Text, done, total })
    });
    pending.flush(writer, Modality::Text)?;
    outcome
}

fn skip(dataset: &Dataset, item: usize, reason: String) -> SkippedItem {
    SkippedItem { item, id: dataset.items[item].id.clone(), reason }
}

fn tell(
    on_progress: &mut dyn FnMut(EmbeddingProgress) -> ControlFlow<()>,
    progress: EmbeddingProgress,
) -> Result<(), SessionError> {
    match on_progress(progress) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(SessionError::Cancelled),
    }
}

/// Hands over the images of some items, a batch at a time, while the next batch is read on all
/// cores.
fn with_images(
    dataset: &Dataset,
    items: &[usize],
    mut consume: impl FnMut(&[usize], Vec<Result<RgbImage, QueryError>>) -> Result<(), SessionError>,
) -> Result<(), SessionError> {
    std::thread::scope(|scope| {
        let (sender, batches) = sync_channel(1);
        scope.spawn(move || {
            for batch in items.chunks(IMAGE_BATCH) {
                let images = batch.par_iter().map(|&item| read_item(&dataset.items[item]));
                // The receiver is gone when the work was cancelled or failed.
                if sender.send((batch, images.collect::<Vec<_>>())).is_err() {
                    return;
                }
            }
        });
        // Dropped at the end of this block, which stops the reader.
        batches.into_iter().try_for_each(|(items, images)| consume(items, images))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::experiment::EmbeddedPairs;
    use crate::experiment::cache;
    use crate::gallery::Caption;

    fn demo() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo"))
    }

    /// 70 images of the demo gallery, of which one is missing and one has no caption.
    fn dataset() -> Dataset {
        let mut dataset = Dataset::open(&demo().join("gallery")).unwrap();
        dataset.items.truncate(70);
        dataset.items[3].image = PathBuf::from("/nowhere/missing.png").into();
        dataset.items[5].captions.clear();
        dataset.items[6].captions.push(Caption { text: " ".to_owned(), level: None, id: None });
        dataset
    }

    fn job(out: &Path) -> EmbeddingJob {
        EmbeddingJob {
            dataset: PathBuf::new(),
            encoder: PathBuf::new(),
            splits: Vec::new(),
            augmentation: Some(3),
            seed: 1,
            pooled: true,
            out: out.to_owned(),
            overwrite: false,
        }
    }

    #[test]
    fn a_job_that_is_cancelled_again_and_again_ends_with_the_same_cache() {
        let encoder = Encoder::load(&demo().join("clip"), &ComputeDevice::cpu().device).unwrap();
        let reference = SourceRef { path: PathBuf::from("clip"), hash: "abc".to_owned() };
        let dataset = dataset();
        let folder = tempfile::tempdir().unwrap();
        let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
        let run = |out: &Path, flow: ControlFlow<()>| {
            embed_into(&job(out), &dataset, &encoder, reference.clone(), &mut |_| flow)
        };
        let manifest = run(&whole, ControlFlow::Continue(())).unwrap();
        assert_eq!((manifest.images, manifest.without_caption), (68, 1));
        assert_eq!(manifest.skipped.len(), 1);
        assert!(manifest.skipped[0].reason.contains("missing.png"), "{:?}", manifest.skipped);

        let mut cancelled = 0;
        let finished = loop {
            match run(&parts, ControlFlow::Break(())) {
                Err(error) if error.is_cancelled() => cancelled += 1,
                other => break other.unwrap(),
            }
        };
        // 69 captioned images are three batches; their captions at least one.
        assert!(cancelled >= 4, "{cancelled}");
        assert!(finished.image_parts.len() == 3 && manifest.image_parts.len() == 1);

        let open = |folder: &Path| cache::open(folder, &mut Vec::new()).unwrap();
        let (whole, parts) = (open(&whole), open(&parts));
        let equal = |a: &crate::gallery::EmbeddingRows, b: &crate::gallery::EmbeddingRows| {
            a.len() == b.len() && (0..a.len()).all(|row| a.row(row) == b.row(row))
        };
        assert!(equal(&whole.images, &parts.images) && equal(&whole.texts, &parts.texts));
        let pooled = [whole.pooled.as_ref().unwrap(), parts.pooled.as_ref().unwrap()];
        assert!(equal(&pooled[0].images, &pooled[1].images));
        assert!(equal(&pooled[0].texts, &pooled[1].texts));
        let augmented = [whole.augmented.as_ref().unwrap(), parts.augmented.as_ref().unwrap()];
        assert_eq!(augmented[0].images, augmented[1].images);
        assert_eq!(augmented[0].texts, augmented[1].texts);
        assert!(augmented[0].images.iter().all(|&variance| variance > 0.0));
        assert_eq!((&whole.facts, &whole.captions), (&parts.facts, &parts.captions));

        // Rows are those of the encoder, not normalised, and stand with the right image.
        let item = &dataset.items[69];
        let last = whole.images.row(whole.images.len() - 1);
        assert_eq!(whole.facts.last().unwrap().id, item.id);
        let direct = encoder.embed_images(&[read_item(item).unwrap()]).unwrap();
        assert!(direct[0].norm() > 5.0);
        let far = last.iter().zip(&direct[0].values).any(|(a, b)| (a - b).abs() > 0.01);
        assert!(!far, "{last:?} {direct:?}");
        let pairs = EmbeddedPairs::new(whole).unwrap();
        let captions = dataset.items[69].captions.len();
        assert_eq!(pairs.captions_of(67).len(), captions);
        let words = pairs.words(pairs.caption_count() - 1).unwrap();
        assert_eq!(words, dataset.items[69].captions[captions - 1].text);
    }

    #[test]
    fn the_spread_is_the_mean_unbiased_variance_of_unit_vectors() {
        let embedding =
            |values: [f32; 2]| Embedding { values: values.to_vec(), modality: Modality::Image };
        // Unit vectors (1, 0) and (0, 1): variance 1/2 in both dimensions.
        let found = spread(&[embedding([3.0, 0.0]), embedding([0.0, 0.1])]);
        assert!((found - 0.5).abs() < 1e-6, "{found}");
        assert_eq!(spread(&[embedding([2.0, 0.0]), embedding([5.0, 0.0])]), 0.0);
    }

    #[test]
    fn features_of_encoders_with_unit_embeddings_are_refused() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let check = |case: &str| check_pooled(&EncoderConfig::load(&fixtures.join(case)).unwrap());
        assert!(check("siglip/model").is_ok());
        for case in ["blip/itc", "prolip/model"] {
            assert!(check(case).unwrap_err().to_string().contains("raw"), "{case}");
        }
    }

    #[test]
    fn datasets_that_hold_no_pairs_are_refused_before_any_work() {
        let item = |id: &str, caption: &str| DatasetItem {
            id: id.to_owned(),
            image: PathBuf::from("/nowhere").join(id).into(),
            captions: vec![Caption { text: caption.to_owned(), level: None, id: None }],
            split: None,
            labels: BTreeMap::new(),
        };
        let dataset = |items| Dataset::new("test", PathBuf::from("/nowhere"), items);
        let twice = captioned(&dataset(vec![item("a", "x"), item("a", "y")]));
        assert!(twice.unwrap_err().to_string().contains("two images have the id \"a\""));
        let bare = captioned(&dataset(vec![item("a", " "), item("b", "")]));
        assert!(bare.unwrap_err().to_string().contains("none of its 2 images has a caption"));
    }
}
