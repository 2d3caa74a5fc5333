//! Writing a cache part by part, so that an interrupted run goes on where it stopped.

use std::path::{Path, PathBuf};

use super::manifest::{Augmentation, CACHE_FILE, Manifest, PartInfo, SkippedItem, stale};
use super::parts::{Array, fits_half};
use super::tables::{self, CaptionEntry, ImageEntry};
use super::unusable;
use crate::encoder::Modality;
use crate::experiment::ExperimentError;
use crate::files::{FileError, create_folder};
use crate::gallery::SourceRef;

/// What a cache is to be made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What the dataset calls itself.
    pub name: String,
    pub dataset: SourceRef,
    pub encoder: SourceRef,
    /// Empty for all items.
    pub splits: Vec<String>,
    pub dim: usize,
    pub logit_scale: f64,
    pub augmentation: Option<Augmentation>,
    pub pooled: bool,
    /// Items of the dataset that are left out because they have no caption.
    pub without_caption: usize,
}

/// One embedded item, of what the cache keeps.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// `[D]`, raw.
    pub embedding: Vec<f32>,
    /// Mean over dimensions of the variance over augmented copies, where the cache has it.
    pub variance: Option<f32>,
    /// Features before the projection, where the cache has them.
    pub pooled: Option<Vec<f32>>,
}

impl Embedded {
    /// True when float16 can hold it: finite and not zero.
    pub fn is_storable(&self) -> bool {
        fits_half(&self.embedding)
            && self.pooled.as_ref().is_none_or(|features| fits_half(features))
            && self.variance.is_none_or(f32::is_finite)
    }
}

/// A cache in the making. Every part is on disk, and noted in `cache.json`, when its call returns.
#[derive(Debug)]
pub struct CacheWriter {
    folder: PathBuf,
    manifest: Manifest,
}

impl CacheWriter {
    /// Begins a cache in `folder`, or goes on with the one that is there.
    ///
    /// # Errors
    /// When the folder holds something else, or a cache of another encoder, dataset, choice of
    /// splits or set of arrays (`overwrite` replaces that one), or cannot be written.
    pub fn begin(
        folder: &Path,
        request: Request,
        overwrite: bool,
    ) -> Result<Self, ExperimentError> {
        if folder.join(CACHE_FILE).is_file() {
            if !overwrite {
                let manifest = Manifest::read(folder)?;
                same_request(folder, &manifest, &request)?;
                return Ok(Self { folder: folder.to_owned(), manifest });
            }
        } else if folder.exists() && !is_empty(folder)? {
            return Err(unusable(
                folder,
                format!(
                    "it has content but no {CACHE_FILE}, so Haze did not write it and will not \
                     write into it; choose another folder"
                ),
            ));
        }
        create_folder(folder)?;
        let manifest = Manifest {
            splits: request.splits,
            logit_scale: request.logit_scale,
            augmentation: request.augmentation,
            pooled: request.pooled,
            without_caption: request.without_caption,
            ..Manifest::new(request.name, request.dataset, request.encoder, request.dim)
        };
        // First: arrays that no manifest names are harmless, a manifest without its arrays is not.
        manifest.write(folder)?;
        remove_arrays(folder)?;
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// How far the cache is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Adds a part of one side: `rows` are what `items` items gave, in their order, without those
    /// that are `skipped`.
    ///
    /// # Errors
    /// When the disk is full; the part does not count then.
    ///
    /// # Panics
    /// When a row lacks an array that the cache has, or has another dimension.
    pub fn push(
        &mut self,
        modality: Modality,
        items: usize,
        rows: &[Embedded],
        skipped: Vec<SkippedItem>,
    ) -> Result<(), ExperimentError> {
        let (parts, [embeddings, variances, pooled]) = match modality {
            Modality::Image => (
                &self.manifest.image_parts,
                [Array::ImageEmbeddings, Array::ImageVariances, Array::PooledImages],
            ),
            Modality::Text => (
                &self.manifest.text_parts,
                [Array::TextEmbeddings, Array::TextVariances, Array::PooledTexts],
            ),
        };
        let number = parts.len();
        let all = |array: Array, dim: usize, values: &dyn Fn(&Embedded) -> Vec<f32>| {
            let values: Vec<f32> = rows.iter().flat_map(values).collect();
            assert_eq!(values.len(), rows.len() * dim, "{} of every row", array.name());
            array.write(&self.folder, number, dim, &values)
        };
        all(embeddings, self.manifest.dim, &|row| row.embedding.clone())?;
        if self.manifest.augmentation.is_some() {
            all(variances, 1, &|row| row.variance.into_iter().collect())?;
        }
        if self.manifest.pooled {
            let width = rows.iter().find_map(|row| row.pooled.as_ref().map(Vec::len));
            all(pooled, width.unwrap_or(1), &|row| row.pooled.clone().unwrap_or_default())?;
        }
        let mut next = self.manifest.clone();
        let part = PartInfo { items, rows: rows.len() };
        match modality {
            Modality::Image => next.image_parts.push(part),
            Modality::Text => next.text_parts.push(part),
        }
        next.skipped.extend(skipped);
        next.write(&self.folder)?;
        self.manifest = next;
        Ok(())
    }

    /// Writes the tables and marks the cache as complete.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn finish(
        mut self,
        images: &[ImageEntry],
        captions: &[CaptionEntry],
    ) -> Result<Manifest, ExperimentError> {
        tables::write(&self.folder, images, captions)?;
        let rows = |parts: &[PartInfo]| parts.iter().map(|part| part.rows).sum();
        self.manifest.images = rows(&self.manifest.image_parts);
        self.manifest.texts = rows(&self.manifest.text_parts);
        self.manifest.captions = captions.len();
        self.manifest.complete = true;
        self.manifest.write(&self.folder)?;
        Ok(self.manifest)
    }
}

fn same_request(
    folder: &Path,
    manifest: &Manifest,
    request: &Request,
) -> Result<(), ExperimentError> {
    manifest.require_encoder(folder, &request.encoder.hash)?;
    let differs = |what: &str, was: String, now: String| {
        Err(stale(folder, format!("it was made with {what} {was}, not {now}")))
    };
    if manifest.splits != request.splits {
        let list = |splits: &[String]| match splits {
            [] => "all".to_owned(),
            some => some.join(","),
        };
        return differs("--splits", list(&manifest.splits), list(&request.splits));
    }
    manifest.require_dataset(folder, &request.dataset.hash)?;
    if manifest.augmentation != request.augmentation {
        let passes =
            |a: Option<Augmentation>| a.map_or("none".to_owned(), |a| a.passes.to_string());
        return differs("--augment", passes(manifest.augmentation), passes(request.augmentation));
    }
    if manifest.pooled != request.pooled {
        return differs("--pooled", manifest.pooled.to_string(), request.pooled.to_string());
    }
    Ok(())
}

/// Removes the arrays and tables of an earlier cache.
fn remove_arrays(folder: &Path) -> Result<(), ExperimentError> {
    for name in Array::ALL.map(Array::name).into_iter().chain([tables::FOLDER]) {
        let inside = folder.join(name);
        if inside.is_dir() {
            std::fs::remove_dir_all(&inside).map_err(FileError::write(&inside))?;
        }
    }
    Ok(())
}

fn is_empty(folder: &Path) -> Result<bool, ExperimentError> {
    let mut entries = std::fs::read_dir(folder).map_err(FileError::read(folder))?;
    Ok(entries.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::cache::open;
    use crate::experiment::pairs::CaptionLink;
    use crate::experiment::{EmbeddedPairs, PairStore};

    fn request() -> Request {
        let reference =
            |name: &str| SourceRef { path: PathBuf::from(name), hash: format!("hash of {name}") };
        Request {
            name: "birds".to_owned(),
            dataset: reference("birds"),
            encoder: reference("clip"),
            splits: vec!["train".to_owned()],
            dim: 2,
            logit_scale: 100.0,
            augmentation: Some(Augmentation { passes: 10, masked_share: 0.3, seed: 7 }),
            pooled: true,
            without_caption: 0,
        }
    }

    fn row(value: f32) -> Embedded {
        Embedded {
            embedding: vec![value, 1.5],
            variance: Some(value.abs() / 8.0),
            pooled: Some(vec![value, 2.0, -value]),
        }
    }

    fn image(id: &str, class: &str) -> ImageEntry {
        ImageEntry {
            id: id.to_owned(),
            split: Some("train".to_owned()),
            class: Some(class.to_owned()),
            path: format!("/images/{id}"),
            coco_id: (id == "b").then_some(391_895),
        }
    }

    fn caption(image: u32, text: u32, level: Option<u32>) -> CaptionEntry {
        CaptionEntry {
            link: CaptionLink { image, text, level, id: level.map(|_| 770_337) },
            words: format!("text {text}").into(),
        }
    }

    /// Two parts of three images, of which one was skipped, and three texts in one part.
    fn write(folder: &Path, overwrite: bool) -> Manifest {
        let mut writer = CacheWriter::begin(folder, request(), overwrite).unwrap();
        writer.push(Modality::Image, 1, &[row(-0.25)], Vec::new()).unwrap();
        // As after an interruption.
        let mut writer = CacheWriter::begin(folder, request(), false).unwrap();
        assert_eq!(writer.manifest().image_items_done(), 1);
        let gone = SkippedItem { item: 2, id: "c".to_owned(), reason: "no such file".to_owned() };
        writer.push(Modality::Image, 2, &[row(0.5)], vec![gone]).unwrap();
        writer.push(Modality::Text, 3, &[row(1.0), row(2.0), row(3.0)], Vec::new()).unwrap();
        let captions = [caption(0, 2, Some(1)), caption(0, 0, None), caption(1, 1, Some(0))];
        writer.finish(&[image("a", "wren"), image("b", "crow")], &captions).unwrap()
    }

    fn read(folder: &Path) -> Result<PairStore, ExperimentError> {
        open(folder, &mut Vec::new())
    }

    #[test]
    fn a_cache_written_in_parts_reads_back_whole() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = write(folder.path(), false);
        assert_eq!((manifest.images, manifest.texts, manifest.captions), (2, 3, 3));
        assert_eq!(manifest.skipped[0].id, "c");
        let store = read(folder.path()).unwrap();
        assert_eq!((store.name.as_str(), store.logit_scale), ("birds", Some(100.0)));
        assert_eq!(store.encoder.as_deref(), Some("hash of clip"));
        assert_eq!(store.images.row(1), [0.5, 1.5]);
        assert_eq!(store.texts.row(2), [3.0, 1.5]);
        assert_eq!(store.classes, ["crow", "wren"]);
        assert_eq!((store.facts[0].class, store.facts[1].class), (Some(1), Some(0)));
        assert_eq!(store.facts[1].split.as_deref(), Some("train"));
        assert_eq!((store.facts[0].coco_id, store.facts[1].coco_id), (None, Some(391_895)));
        let first = CaptionLink { image: 0, text: 2, level: Some(1), id: Some(770_337) };
        assert_eq!((store.captions[0], store.captions[1].id), (first, None));
        assert_eq!(&*store.words.as_ref().unwrap()[2], "text 2");
        let augmented = store.augmented.as_ref().unwrap();
        assert_eq!((augmented.passes, &augmented.images[..]), (10, &[0.03125, 0.0625][..]));
        assert_eq!(augmented.texts, [0.125, 0.25, 0.375]);
        assert_eq!(store.pooled.as_ref().unwrap().images.row(0), [-0.25, 2.0, 0.25]);
        assert_eq!(EmbeddedPairs::new(store).unwrap().caption_count(), 3);
    }

    #[test]
    fn an_unfinished_cache_says_how_to_finish_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = CacheWriter::begin(folder.path(), request(), false).unwrap();
        writer.push(Modality::Image, 1, &[row(1.0)], Vec::new()).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("unfinished: 1 images") && error.contains("again"), "{error}");
    }

    #[test]
    fn a_cache_of_other_data_is_stale_and_says_what_changed() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), false);
        let refused = |change: &dyn Fn(&mut Request), word: &str| {
            let mut request = request();
            change(&mut request);
            let error = CacheWriter::begin(folder.path(), request, false).unwrap_err();
            assert!(matches!(error, ExperimentError::Stale { .. }), "{error}");
            let error = error.to_string();
            assert!(error.contains(word) && error.contains("--overwrite"), "{error}");
        };
        refused(&|r| r.encoder.hash = "other".to_owned(), "the encoder changed");
        refused(&|r| r.dataset.hash = "other".to_owned(), "the dataset birds changed");
        refused(&|r| r.splits.clear(), "--splits train, not all");
        refused(&|r| r.augmentation = None, "--augment 10, not none");
        refused(&|r| r.pooled = false, "--pooled true, not false");
        write(folder.path(), true);
        assert_eq!(read(folder.path()).unwrap().images.len(), 2);
    }

    #[test]
    fn a_folder_with_other_content_is_never_written_into() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), b"").unwrap();
        for overwrite in [false, true] {
            let error = CacheWriter::begin(folder.path(), request(), overwrite).unwrap_err();
            assert!(error.to_string().contains("will not write into it"), "{error}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn damage_to_any_file_is_an_error_that_names_it() {
        for (file, word) in [
            ("image_emb/image_emb_0001.npy", "cut off"),
            ("text_emb/text_emb_0000.npy", "cut off"),
            ("image_tta/image_tta_0000.npy", "cut off"),
            ("pooled_text_emb/pooled_text_emb_0000.npy", "cut off"),
            ("metadata/images.parquet", "parquet"),
            ("metadata/captions.parquet", "parquet"),
            ("cache.json", "not a valid config"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            write(folder.path(), false);
            let path = folder.path().join(file);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
            let error = read(folder.path()).unwrap_err().to_string();
            assert!(error.contains(file) && error.contains(word), "{file}: {error}");
            std::fs::remove_file(&path).unwrap();
            assert!(read(folder.path()).is_err(), "{file}");
        }
    }

    #[test]
    fn files_that_do_not_belong_together_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), false);
        let part = |i: usize| folder.path().join(format!("image_emb/image_emb_{i:04}.npy"));
        Array::ImageEmbeddings.write(folder.path(), 0, 2, &[1.0; 4]).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has 2 rows, cache.json says 1"), "{error}");
        std::fs::copy(part(1), part(0)).unwrap();
        tables::write(folder.path(), &[image("a", "wren")], &[caption(0, 0, None)]).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("has 1 rows, expected 2"), "{error}");

        let twice = [image("a", "wren"), image("a", "wren")];
        let captions = [caption(0, 0, None), caption(1, 1, None), caption(1, 2, None)];
        tables::write(folder.path(), &twice, &captions).unwrap();
        let error = EmbeddedPairs::new(read(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("\"a\" comes twice"), "{error}");

        let beyond = [caption(0, 0, None), caption(1, 1, None), caption(1, 3, None)];
        tables::write(folder.path(), &[image("a", "x"), image("b", "x")], &beyond).unwrap();
        let error = read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("names text 3 of 3"), "{error}");
    }

    #[test]
    fn rows_that_float16_cannot_hold_are_not_storable() {
        let with = |embedding: Vec<f32>| Embedded { embedding, variance: None, pooled: None };
        assert!(with(vec![60_000.0, 0.0]).is_storable());
        for bad in [vec![70_000.0, 1.0], vec![f32::NAN, 1.0], vec![0.0, 0.0], vec![1e-9, 0.0]] {
            assert!(!with(bad.clone()).is_storable(), "{bad:?}");
        }
    }
}
