//! A store of embeddings in the layout of [clip-retrieval](https://github.com/rom1504/clip-retrieval):
//!
//! ```text
//! img_emb/img_emb_<n>.npy          float16 or float32 [N_n, D]
//! text_emb/text_emb_<n>.npy        optional, one row per image
//! metadata/metadata_<n>.parquet    one row per image
//! index.json                       only in stores that Haze wrote: what they were made from
//! ```
//!
//! Files with the same number belong together row by row; all files are read as one store.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::metadata::MetadataTable;
use super::rows::numbered_files;
use super::{EmbeddingRows, GalleryError, ItemMetadata};
use crate::model::config::{ConfigError, read_json};

/// Version of `index.json`; raised when a field changes its meaning.
pub(super) const INDEX_SCHEMA: u32 = 1;

pub(super) const IMAGE_FOLDER: &str = "img_emb";
pub(super) const TEXT_FOLDER: &str = "text_emb";
pub(super) const METADATA_FOLDER: &str = "metadata";
pub(super) const INDEX_FILE: &str = "index.json";

/// A model or dataset that a store was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRef {
    pub path: PathBuf,
    /// A hash over its content, compared to tell whether a store is stale.
    pub hash: String,
}

/// What a store was made from: the content of its `index.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexInfo {
    /// Format version of this file.
    pub schema: u32,
    /// Version of Haze that wrote the store.
    pub haze: String,
    pub encoder: SourceRef,
    /// The hash is [`super::Dataset::fingerprint`].
    pub dataset: SourceRef,
    pub dim: usize,
    pub count: usize,
    /// Whether the rows were scaled to unit norm.
    pub normalised: bool,
}

impl IndexInfo {
    /// Why the store does not belong to this encoder and dataset, or None when it does.
    pub fn stale_reason(&self, encoder_hash: &str, dataset_hash: &str) -> Option<String> {
        if self.encoder.hash != encoder_hash {
            let path = self.encoder.path.display();
            return Some(format!("it was made by another encoder, {path}"));
        }
        if self.dataset.hash != dataset_hash {
            return Some("the dataset has changed since".to_owned());
        }
        None
    }
}

/// A store, opened: rows are memory-mapped, metadata is read on demand.
#[derive(Debug)]
pub struct EmbeddingStore {
    folder: PathBuf,
    images: EmbeddingRows,
    texts: Option<EmbeddingRows>,
    metadata: MetadataTable,
    info: Option<IndexInfo>,
}

impl EmbeddingStore {
    /// Opens the store in `folder`.
    ///
    /// # Errors
    /// When files are missing, are malformed, or do not belong together.
    pub fn open(folder: &Path) -> Result<Self, GalleryError> {
        let image_files = files(folder, IMAGE_FOLDER, "npy")?;
        let images = EmbeddingRows::map(&paths(&image_files))?;
        let metadata_files = files(folder, METADATA_FOLDER, "parquet")?;
        same_numbers(folder, METADATA_FOLDER, &image_files, &metadata_files)?;
        let metadata = MetadataTable::open(&paths(&metadata_files))?;
        let image_parts = || image_files.iter().map(|f| f.1.as_path()).zip(images.part_lengths());
        same_rows(image_parts(), metadata.parts())?;
        let texts = if folder.join(TEXT_FOLDER).is_dir() {
            let text_files = files(folder, TEXT_FOLDER, "npy")?;
            same_numbers(folder, TEXT_FOLDER, &image_files, &text_files)?;
            let texts = EmbeddingRows::map(&paths(&text_files))?;
            let text_parts = text_files.iter().map(|f| f.1.as_path()).zip(texts.part_lengths());
            same_rows(image_parts(), text_parts)?;
            Some(texts)
        } else {
            None
        };
        if images.is_empty() {
            return Err(not_a_store(folder, "it has no rows".to_owned()));
        }
        let info = read_info(folder)?;
        if let Some(info) = &info
            && (info.count, info.dim) != (images.len(), images.dim())
        {
            let reason = format!(
                "{INDEX_FILE} says {} rows of {} dimensions, the files hold {} of {}",
                info.count,
                info.dim,
                images.len(),
                images.dim()
            );
            return Err(not_a_store(folder, reason));
        }
        Ok(Self { folder: folder.to_owned(), images, texts, metadata, info })
    }

    /// Number of images N.
    pub fn len(&self) -> usize {
        self.images.len()
    }

    pub fn is_empty(&self) -> bool {
        self.images.is_empty()
    }

    /// Dimension D of the embeddings.
    pub fn dim(&self) -> usize {
        self.images.dim()
    }

    /// The folder as it was given to [`EmbeddingStore::open`].
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image embeddings `[N, D]`, of whatever norms the files hold.
    pub fn image_rows(&self) -> &EmbeddingRows {
        &self.images
    }

    /// One text embedding per image `[N, D]`, where the store has them.
    pub fn text_rows(&self) -> Option<&EmbeddingRows> {
        self.texts.as_ref()
    }

    /// What the store was made from, where Haze made it.
    pub fn info(&self) -> Option<&IndexInfo> {
        self.info.as_ref()
    }

    /// The metadata of some rows, in the order of `ids`. Decodes only the pages that hold them.
    ///
    /// # Errors
    /// When an id is not below [`EmbeddingStore::len`], or the table is damaged.
    pub fn metadata(&self, ids: &[usize]) -> Result<Vec<ItemMetadata>, GalleryError> {
        self.metadata.fetch(ids)
    }

    /// Hands the metadata of every row to `visit`, in order, without holding all of it.
    ///
    /// # Errors
    /// When the table is damaged, or the first error of `visit`.
    pub fn for_each_metadata(
        &self,
        visit: impl FnMut(ItemMetadata) -> Result<(), GalleryError>,
    ) -> Result<(), GalleryError> {
        self.metadata.for_each(visit)
    }

    /// The image file that a row's metadata names: absolute, or relative to the store's folder.
    pub fn image_file(&self, item: &ItemMetadata) -> Option<PathBuf> {
        item.image_path.as_ref().map(|path| self.folder.join(path))
    }
}

fn read_info(folder: &Path) -> Result<Option<IndexInfo>, GalleryError> {
    let path = folder.join(INDEX_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let info: IndexInfo = read_json(&path).map_err(|error| match error {
        ConfigError::File(error) => GalleryError::File(error),
        other => not_a_store(folder, other.to_string()),
    })?;
    if info.schema != INDEX_SCHEMA {
        let reason = format!(
            "{INDEX_FILE} has schema {}, this version of Haze reads {INDEX_SCHEMA}; index again",
            info.schema
        );
        return Err(not_a_store(folder, reason));
    }
    Ok(Some(info))
}

fn not_a_store(folder: &Path, reason: String) -> GalleryError {
    GalleryError::NotAStore { path: folder.to_owned(), reason }
}

fn files(folder: &Path, kind: &str, extension: &str) -> Result<Vec<(u64, PathBuf)>, GalleryError> {
    let inside = folder.join(kind);
    if !inside.is_dir() {
        let reason = format!(
            "it has no folder {kind:?}; expected {IMAGE_FOLDER}/ and {METADATA_FOLDER}/ as \
             `haze index` and clip-retrieval write them"
        );
        return Err(not_a_store(folder, reason));
    }
    let found = numbered_files(&inside, kind, extension)?;
    if found.is_empty() {
        return Err(not_a_store(folder, format!("{kind}/ has no {kind}_<number>.{extension}")));
    }
    Ok(found)
}

fn paths(files: &[(u64, PathBuf)]) -> Vec<PathBuf> {
    files.iter().map(|file| file.1.clone()).collect()
}

fn same_numbers(
    folder: &Path,
    kind: &str,
    images: &[(u64, PathBuf)],
    others: &[(u64, PathBuf)],
) -> Result<(), GalleryError> {
    let numbers = |files: &[(u64, PathBuf)]| files.iter().map(|f| f.0).collect::<Vec<_>>();
    let (images, others) = (numbers(images), numbers(others));
    if images == others {
        return Ok(());
    }
    let alone = images
        .iter()
        .find(|n| !others.contains(n))
        .or_else(|| others.iter().find(|n| !images.contains(n)))
        .copied()
        .unwrap_or_default();
    let reason = format!("file {alone} of {IMAGE_FOLDER}/ and {kind}/ has no partner");
    Err(not_a_store(folder, reason))
}

fn same_rows<'a>(
    images: impl Iterator<Item = (&'a Path, usize)>,
    others: impl Iterator<Item = (&'a Path, usize)>,
) -> Result<(), GalleryError> {
    for ((image_path, expected), (path, found)) in images.zip(others) {
        if found != expected {
            return Err(GalleryError::RowCount {
                path: path.to_owned(),
                found,
                other: image_path.to_owned(),
                expected,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs::File;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, RecordBatch, StringArray};
    use half::f16;
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::gallery::npy;

    /// Writes one numbered part of a store as clip-retrieval does.
    pub fn write_part(folder: &Path, number: &str, rows: &[Vec<f32>], names: &[&str]) {
        write_rows(folder, IMAGE_FOLDER, number, rows);
        std::fs::create_dir_all(folder.join(METADATA_FOLDER)).unwrap();
        let names: ArrayRef = Arc::new(StringArray::from(names.to_vec()));
        let batch = RecordBatch::try_from_iter([("image_path", names)]).unwrap();
        let path = folder.join(METADATA_FOLDER).join(format!("metadata_{number}.parquet"));
        let mut writer =
            ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn write_rows(folder: &Path, kind: &str, number: &str, rows: &[Vec<f32>]) {
        std::fs::create_dir_all(folder.join(kind)).unwrap();
        let mut bytes = npy::header(npy::Float::F16, rows.len(), rows[0].len()).to_vec();
        bytes.extend(rows.iter().flatten().flat_map(|&v| f16::from_f32(v).to_le_bytes()));
        std::fs::write(folder.join(kind).join(format!("{kind}_{number}.npy")), bytes).unwrap();
    }

    #[test]
    fn numbered_parts_read_as_one_store_in_the_order_of_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        write_part(folder.path(), "10", &[vec![5.0, 6.0]], &["c.png"]);
        write_part(folder.path(), "9", &[vec![1.0, 2.0], vec![3.0, 4.0]], &["a.png", "/b.png"]);
        let store = EmbeddingStore::open(folder.path()).unwrap();
        assert_eq!((store.len(), store.dim()), (3, 2));
        assert_eq!(store.image_rows().row(2), [5.0, 6.0]);
        let items = store.metadata(&[2, 1]).unwrap();
        assert_eq!(store.image_file(&items[0]), Some(folder.path().join("c.png")));
        assert_eq!(store.image_file(&items[1]), Some(PathBuf::from("/b.png")));
        assert!(store.text_rows().is_none() && store.info().is_none());
    }

    #[test]
    fn text_rows_are_read_where_there_are_any() {
        let folder = tempfile::tempdir().unwrap();
        write_part(folder.path(), "0", &[vec![1.0, 2.0], vec![3.0, 4.0]], &["a.png", "b.png"]);
        write_rows(folder.path(), TEXT_FOLDER, "0", &[vec![7.0, 8.0], vec![9.0, 0.5]]);
        let store = EmbeddingStore::open(folder.path()).unwrap();
        assert_eq!(store.text_rows().unwrap().row(1), [9.0, 0.5]);
        write_rows(folder.path(), TEXT_FOLDER, "0", &[vec![7.0, 8.0]]);
        assert!(matches!(
            EmbeddingStore::open(folder.path()).unwrap_err(),
            GalleryError::RowCount { found: 1, expected: 2, .. }
        ));
    }

    #[test]
    fn a_table_with_another_number_of_rows_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        write_part(folder.path(), "0", &[vec![1.0, 2.0], vec![3.0, 4.0]], &["a", "b", "c"]);
        let error = EmbeddingStore::open(folder.path()).unwrap_err();
        assert!(matches!(error, GalleryError::RowCount { found: 3, expected: 2, .. }));
        assert!(error.to_string().contains("metadata_0.parquet"));
    }

    #[test]
    fn a_part_without_its_table_is_refused_by_its_number() {
        let folder = tempfile::tempdir().unwrap();
        write_part(folder.path(), "0", &[vec![1.0, 2.0]], &["a"]);
        write_rows(folder.path(), IMAGE_FOLDER, "3", &[vec![1.0, 2.0]]);
        let error = EmbeddingStore::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("file 3 of img_emb/ and metadata/"), "{error}");
    }

    #[test]
    fn a_truncated_file_and_a_header_that_claims_too_much_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        write_part(folder.path(), "0", &[vec![1.0, 2.0], vec![3.0, 4.0]], &["a", "b"]);
        let path = folder.path().join("img_emb/img_emb_0.npy");
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let error = EmbeddingStore::open(folder.path()).unwrap_err();
        assert!(
            error.to_string().contains("img_emb_0.npy") && error.to_string().contains("cut off")
        );
        let mut huge = npy::header(npy::Float::F16, 1_000_000_000_000, 768).to_vec();
        huge.extend([0; 64]);
        std::fs::write(&path, huge).unwrap();
        assert!(matches!(
            EmbeddingStore::open(folder.path()).unwrap_err(),
            GalleryError::Npy { .. }
        ));
    }

    #[test]
    fn a_folder_that_is_no_store_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let error = EmbeddingStore::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("\"img_emb\""));
        std::fs::create_dir(folder.path().join(IMAGE_FOLDER)).unwrap();
        let error = EmbeddingStore::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("img_emb_<number>.npy"));
    }

    #[test]
    fn an_index_is_stale_for_another_encoder_or_a_changed_dataset() {
        let source = |hash: &str| SourceRef { path: PathBuf::from("x"), hash: hash.to_owned() };
        let info = IndexInfo {
            schema: INDEX_SCHEMA,
            haze: "0".to_owned(),
            encoder: source("e"),
            dataset: source("d"),
            dim: 2,
            count: 1,
            normalised: true,
        };
        assert_eq!(info.stale_reason("e", "d"), None);
        assert!(info.stale_reason("f", "d").unwrap().contains("another encoder"));
        assert!(info.stale_reason("e", "f").unwrap().contains("dataset has changed"));
    }
}
