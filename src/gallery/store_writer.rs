//! Writing a store whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use half::f16;
use half::slice::HalfFloatSliceExt;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tempfile::TempDir;

use super::metadata::TableColumns;
use super::npy::{self, Float};
use super::store::{IMAGE_FOLDER, INDEX_FILE, INDEX_SCHEMA, IndexInfo, METADATA_FOLDER, SourceRef};
use super::{Dataset, DatasetItem, GalleryError};
use crate::encoder::norm;
use crate::files::{FileError, create_folder, write_atomic};

/// Rows of a parquet row group: small, because a search result reads a few rows of it.
const ROW_GROUP_ROWS: usize = 16_384;

/// Writes a store to a temporary folder beside its destination and moves it there at the end.
/// Dropped before [`StoreWriter::finish`], it leaves nothing behind.
///
/// Rows are scaled to unit norm and stored as float16, as clip-retrieval does.
pub struct StoreWriter {
    destination: PathBuf,
    folder: TempDir,
    rows: BufWriter<File>,
    rows_path: PathBuf,
    table: ArrowWriter<File>,
    table_path: PathBuf,
    columns: TableColumns,
    encoder: SourceRef,
    dataset: SourceRef,
    dim: usize,
    count: usize,
}

impl StoreWriter {
    /// Begins a store of embeddings `[_, dim]` of items of `dataset`.
    ///
    /// # Errors
    /// When `destination` holds something that Haze did not write, or its parent is not writable.
    pub fn create(
        destination: &Path,
        dim: usize,
        encoder: SourceRef,
        dataset: &Dataset,
    ) -> Result<Self, GalleryError> {
        let destination =
            std::path::absolute(destination).map_err(FileError::write(destination))?;
        refuse_foreign(&destination)?;
        let parent = destination.parent().unwrap_or(Path::new("/"));
        create_folder(parent)?;
        let folder = temporary_beside(parent).map_err(FileError::write(&destination))?;
        for kind in [IMAGE_FOLDER, METADATA_FOLDER] {
            create_folder(&folder.path().join(kind))?;
        }
        let rows_path = folder.path().join(IMAGE_FOLDER).join(format!("{IMAGE_FOLDER}_0.npy"));
        let mut rows =
            BufWriter::new(File::create_new(&rows_path).map_err(FileError::write(&rows_path))?);
        // The number of rows is known at the end only; the header's length does not depend on it.
        rows.write_all(&npy::header(Float::F16, 0, dim)).map_err(FileError::write(&rows_path))?;
        let table_path =
            folder.path().join(METADATA_FOLDER).join(format!("{METADATA_FOLDER}_0.parquet"));
        let columns = TableColumns::of(dataset.items.iter());
        let table = open_table(&table_path, &columns)?;
        Ok(Self {
            destination,
            folder,
            rows,
            rows_path,
            table,
            table_path,
            columns,
            encoder,
            dataset: SourceRef { path: dataset.source.clone(), hash: dataset.fingerprint() },
            dim,
            count: 0,
        })
    }

    /// Number of rows so far.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Adds items and their embeddings, row i of `rows` for item i. Nothing is added when one of
    /// the rows is of another dimension, not finite or zero.
    ///
    /// # Errors
    /// When a row cannot be stored, or the disk is full.
    pub fn push(&mut self, items: &[&DatasetItem], rows: &[&[f32]]) -> Result<(), GalleryError> {
        assert_eq!(items.len(), rows.len(), "one embedding per item");
        for (item, row) in items.iter().zip(rows) {
            if row.len() != self.dim {
                return Err(GalleryError::Dimension {
                    what: format!("the embedding of {}", item.id),
                    found: row.len(),
                    expected: self.dim,
                });
            }
            let length = norm(row);
            if !length.is_normal() {
                return Err(GalleryError::NotFinite {
                    what: format!("the embedding of {}", item.id),
                });
            }
        }
        let mut narrow = vec![f16::ZERO; self.dim];
        for row in rows {
            let scale = norm(row).recip();
            let unit: Vec<f32> = row.iter().map(|&v| (f64::from(v) * scale) as f32).collect();
            narrow.convert_from_f32_slice(&unit);
            for number in &narrow {
                self.rows
                    .write_all(&number.to_le_bytes())
                    .map_err(FileError::write(&self.rows_path))?;
            }
        }
        let broken =
            |error: &dyn std::fmt::Display| GalleryError::metadata(&self.table_path, error);
        let batch = self.columns.batch(items).map_err(|error| broken(&error))?;
        self.table.write(&batch).map_err(|error| broken(&error))?;
        self.count += rows.len();
        Ok(())
    }

    /// Completes the files, flushes them to disk and puts the store in its place. A store that
    /// Haze wrote there before is replaced; if that fails, it is kept.
    ///
    /// # Errors
    /// When the disk is full or the place is taken by something else meanwhile.
    pub fn finish(self) -> Result<IndexInfo, GalleryError> {
        let info = IndexInfo {
            schema: INDEX_SCHEMA,
            haze: env!("CARGO_PKG_VERSION").to_owned(),
            encoder: self.encoder,
            dataset: self.dataset,
            dim: self.dim,
            count: self.count,
            normalised: true,
        };
        finish_rows(self.rows, self.count, self.dim).map_err(FileError::write(&self.rows_path))?;
        self.table
            .into_inner()
            .map_err(|error| GalleryError::metadata(&self.table_path, error))?
            .sync_all()
            .map_err(FileError::write(&self.table_path))?;
        write_atomic(&self.folder.path().join(INDEX_FILE), |w| {
            serde_json::to_writer_pretty(w, &info).map_err(io::Error::other)
        })?;
        put_in_place(self.folder, &self.destination)?;
        Ok(info)
    }
}

fn open_table(path: &Path, columns: &TableColumns) -> Result<ArrowWriter<File>, GalleryError> {
    let file = File::create_new(path).map_err(FileError::write(path))?;
    let schema = columns.batch(&[]).map_err(|error| GalleryError::metadata(path, error))?.schema();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .build();
    ArrowWriter::try_new(file, schema, Some(properties))
        .map_err(|error| GalleryError::metadata(path, error))
}

fn finish_rows(rows: BufWriter<File>, count: usize, dim: usize) -> io::Result<()> {
    let mut file = rows.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&npy::header(Float::F16, count, dim))?;
    file.sync_all()
}

/// Only an empty folder or a store with an `index.json` may be replaced.
fn refuse_foreign(destination: &Path) -> Result<(), GalleryError> {
    let Ok(mut entries) = std::fs::read_dir(destination) else {
        if destination.exists() {
            return Err(GalleryError::NotAStore {
                path: destination.to_owned(),
                reason: "a file of that name is in the way of the index".to_owned(),
            });
        }
        return Ok(());
    };
    if entries.next().is_none() || destination.join(INDEX_FILE).is_file() {
        return Ok(());
    }
    Err(GalleryError::NotAStore {
        path: destination.to_owned(),
        reason: format!(
            "the folder has content but no {INDEX_FILE}, so Haze did not write it and will not \
             replace it; choose another folder"
        ),
    })
}

fn temporary_beside(parent: &Path) -> io::Result<TempDir> {
    tempfile::Builder::new().prefix(".haze-index-").suffix(".partial").tempdir_in(parent)
}

/// Renames `folder` to `destination`. What was there is moved aside first, because folders with
/// content cannot be renamed over, and moved back if the second rename fails.
fn put_in_place(folder: TempDir, destination: &Path) -> Result<(), GalleryError> {
    refuse_foreign(destination)?;
    let write = || FileError::write(destination);
    open_to_others(folder.path()).map_err(write())?;
    let parent = destination.parent().unwrap_or(Path::new("/"));
    let aside = temporary_beside(parent).map_err(write())?;
    let old = aside.path().join("old");
    let replaced = destination.exists();
    if replaced {
        std::fs::rename(destination, &old).map_err(write())?;
    }
    if let Err(error) = std::fs::rename(folder.path(), destination) {
        if replaced && std::fs::rename(&old, destination).is_err() {
            // Better a stray folder than a lost index.
            let _ = aside.keep();
        }
        return Err(FileError::write(destination)(error).into());
    }
    // It is no longer where the handle would delete it.
    let _ = folder.keep();
    Ok(())
}

/// Temporary folders are private (0700); a store is an ordinary folder (0755).
fn open_to_others(folder: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))?;
    }
    #[cfg(not(unix))]
    let _ = folder;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::gallery::{Caption, EmbeddingStore};

    fn dataset(count: usize) -> Dataset {
        let item = |i: usize| DatasetItem {
            id: format!("{i}.png"),
            image: PathBuf::from(format!("/images/{i}.png")).into(),
            captions: (0..i % 3)
                .map(|c| Caption {
                    text: format!("caption {c} of {i}"),
                    level: (c > 0).then_some(c as u32),
                    id: (c > 0).then_some((100 * i + c) as u64),
                })
                .collect(),
            split: i.is_multiple_of(2).then(|| "test".to_owned()),
            labels: match i % 4 {
                0 => BTreeMap::from([("concept".to_owned(), format!("thing {i}"))]),
                1 => BTreeMap::from([("caption".to_owned(), "a label of that name".to_owned())]),
                _ => BTreeMap::new(),
            },
        };
        let source = PathBuf::from("/images");
        Dataset::new("images", source, (0..count).map(item).collect())
    }

    fn encoder() -> SourceRef {
        SourceRef { path: PathBuf::from("/clip"), hash: "abc".to_owned() }
    }

    fn write(destination: &Path, dataset: &Dataset) -> IndexInfo {
        let mut writer = StoreWriter::create(destination, 3, encoder(), dataset).unwrap();
        for (i, item) in dataset.items.iter().enumerate() {
            writer.push(&[item], &[&[3.0 * (i + 1) as f32, 0.0, -4.0 * (i + 1) as f32]]).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn a_written_store_reads_back_with_unit_rows_and_everything_about_its_items() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("new/index");
        let dataset = dataset(9);
        let info = write(&destination, &dataset);
        let store = EmbeddingStore::open(&destination).unwrap();
        assert_eq!(store.info(), Some(&info));
        assert_eq!(info.dataset.hash, dataset.fingerprint());
        assert_eq!((store.len(), store.dim()), (9, 3));
        assert!(store.image_rows().look_normalised());
        let unit = [0.6, 0.0, -0.8].map(|v| f16::from_f32(v).to_f32());
        let ids: Vec<_> = (0..9).rev().collect();
        for (id, found) in ids.iter().zip(store.metadata(&ids).unwrap()) {
            assert_eq!(store.image_rows().row(*id), unit);
            let item = &dataset.items[*id];
            assert_eq!(store.image_file(&found), Some(item.image.path()));
            assert_eq!((&found.captions, &found.split), (&item.captions, &item.split));
            let labels: Vec<_> = found.labels.iter().map(|(k, v)| (k.as_str(), v)).collect();
            let expected: Vec<_> = item
                .labels
                .iter()
                .map(|(k, v)| (if k == "caption" { "label_caption" } else { k.as_str() }, v))
                .collect();
            assert_eq!(labels, expected);
        }
    }

    #[test]
    fn an_index_is_replaced_whole_and_nothing_stays_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("index");
        write(&destination, &dataset(5));
        write(&destination, &dataset(2));
        assert_eq!(EmbeddingStore::open(&destination).unwrap().len(), 2);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_writer_that_is_dropped_leaves_the_old_index_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let destination = folder.path().join("index");
        let dataset = dataset(5);
        write(&destination, &dataset);
        let mut writer = StoreWriter::create(&destination, 3, encoder(), &dataset).unwrap();
        writer.push(&[&dataset.items[0]], &[&[1.0, 2.0, 3.0]]).unwrap();
        drop(writer);
        assert_eq!(EmbeddingStore::open(&destination).unwrap().len(), 5);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_that_haze_did_not_write_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), b"").unwrap();
        let error = StoreWriter::create(folder.path(), 3, encoder(), &dataset(1)).err().unwrap();
        assert!(error.to_string().contains("will not replace it"), "{error}");
        let file = folder.path().join("thesis.tex");
        assert!(StoreWriter::create(&file, 3, encoder(), &dataset(1)).is_err());
        assert!(file.exists());
    }

    #[test]
    fn rows_that_cannot_be_ranked_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = dataset(1);
        let items = [&dataset.items[0]];
        let destination = folder.path().join("index");
        let mut writer = StoreWriter::create(&destination, 3, encoder(), &dataset).unwrap();
        for row in [[f32::NAN, 0.0, 1.0], [f32::INFINITY, 0.0, 0.0], [0.0; 3]] {
            let error = writer.push(&items, &[&row]).unwrap_err();
            assert!(matches!(error, GalleryError::NotFinite { .. }));
        }
        let error = writer.push(&items, &[&[1.0; 4]]).unwrap_err();
        assert!(matches!(error, GalleryError::Dimension { found: 4, expected: 3, .. }));
        assert_eq!(writer.count(), 0);
    }
}
