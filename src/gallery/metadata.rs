//! What a store knows about its rows: parquet tables with one row per embedding.
//!
//! clip-retrieval writes `image_path`, `caption` and a column for everything else it was told.
//! Haze adds `captions` (a list), `caption_levels` and `caption_ids` (lists of the same length) and
//! `split`. Rows are read when they are asked for: a search result shows a few of perhaps millions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, ListBuilder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type};
use arrow_array::{Array, ArrayRef, RecordBatch};
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowSelection,
};

use super::{Caption, DatasetItem, GalleryError};
use crate::files::FileError;

/// Rows decoded at a time.
const BATCH_ROWS: usize = 4096;

const IMAGE_PATH: &str = "image_path";
const CAPTION: &str = "caption";
const CAPTIONS: &str = "captions";
const CAPTION_LEVELS: &str = "caption_levels";
const CAPTION_IDS: &str = "caption_ids";
const SPLIT: &str = "split";
const OWN_COLUMNS: [&str; 6] = [IMAGE_PATH, CAPTION, CAPTIONS, CAPTION_LEVELS, CAPTION_IDS, SPLIT];

/// What a store knows about one of its rows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ItemMetadata {
    /// The image file as the store names it; see [`super::EmbeddingStore::image_file`].
    pub image_path: Option<String>,
    /// All captions; where the store has one caption per image, that one.
    pub captions: Vec<Caption>,
    pub split: Option<String>,
    /// Every other column that holds text or whole numbers.
    pub labels: BTreeMap<String, String>,
}

/// The parquet files of a store, opened: their footers are in memory, their rows are not.
#[derive(Debug)]
pub(super) struct MetadataTable {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    path: PathBuf,
    /// Number of rows in the parts before this one.
    first: usize,
    rows: usize,
    footer: ArrowReaderMetadata,
}

impl MetadataTable {
    /// Opens the files as one table, in the order given.
    pub fn open(paths: &[PathBuf]) -> Result<Self, GalleryError> {
        let mut parts = Vec::with_capacity(paths.len());
        let mut first = 0;
        for path in paths {
            let footer = read_footer(path)?;
            let rows = usize::try_from(footer.metadata().file_metadata().num_rows())
                .map_err(|error| GalleryError::metadata(path, error))?;
            parts.push(Part { path: path.clone(), first, rows, footer });
            first += rows;
        }
        Ok(Self { parts })
    }

    /// Path and number of rows of each file.
    pub fn parts(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.parts.iter().map(|part| (part.path.as_path(), part.rows))
    }

    /// The metadata of some rows, in the order of `ids`, which must exist.
    pub fn fetch(&self, ids: &[usize]) -> Result<Vec<ItemMetadata>, GalleryError> {
        let wanted: BTreeSet<usize> = ids.iter().copied().collect();
        let mut found = HashMap::with_capacity(wanted.len());
        for part in &self.parts {
            let within: Vec<usize> = wanted
                .range(part.first..part.first + part.rows)
                .map(|id| id - part.first)
                .collect();
            if within.is_empty() {
                continue;
            }
            let ranges = within.iter().map(|&row| row..row + 1);
            let selection = RowSelection::from_consecutive_ranges(ranges, part.rows);
            let mut next = within.iter();
            part.read(Some(selection), |item| {
                if let Some(row) = next.next() {
                    found.insert(part.first + row, item);
                }
                Ok(())
            })?;
        }
        ids.iter()
            .map(|id| {
                found
                    .get(id)
                    .cloned()
                    .ok_or(GalleryError::NoSuchItem { id: *id, count: self.len() })
            })
            .collect()
    }

    /// Hands every row to `visit`, in order, a batch in memory at a time.
    pub fn for_each(
        &self,
        mut visit: impl FnMut(ItemMetadata) -> Result<(), GalleryError>,
    ) -> Result<(), GalleryError> {
        self.parts.iter().try_for_each(|part| part.read(None, &mut visit))
    }

    fn len(&self) -> usize {
        self.parts.last().map_or(0, |part| part.first + part.rows)
    }
}

/// Reads the footer of a parquet file and checks that it points inside the file.
pub(crate) fn read_footer(path: &Path) -> Result<ArrowReaderMetadata, GalleryError> {
    let file = File::open(path).map_err(FileError::read(path))?;
    // The plain parquet types: pandas' hints would bring dictionaries and large strings.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let footer = ArrowReaderMetadata::load(&file, options)
        .map_err(|error| GalleryError::metadata(path, error))?;
    let length = file.metadata().map_err(FileError::read(path))?.len();
    chunks_lie_within(&footer, length).map_err(|error| GalleryError::metadata(path, error))?;
    Ok(footer)
}

/// Checks where the footer says that columns lie, which the parquet reader takes on trust: it
/// panics on negative offsets.
fn chunks_lie_within(footer: &ArrowReaderMetadata, file_length: u64) -> Result<(), &'static str> {
    for column in footer.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
        let starts = [start, column.data_page_offset(), column.compressed_size()];
        let end = start.checked_add(column.compressed_size());
        let within = end.and_then(|end| u64::try_from(end).ok()).is_some_and(|e| e <= file_length);
        if starts.iter().any(|&start| start < 0) || !within {
            return Err("its footer points outside the file");
        }
    }
    Ok(())
}

impl Part {
    fn read(
        &self,
        selection: Option<RowSelection>,
        mut visit: impl FnMut(ItemMetadata) -> Result<(), GalleryError>,
    ) -> Result<(), GalleryError> {
        let broken = |error: &dyn std::fmt::Display| GalleryError::metadata(&self.path, error);
        for batch in self.batches(selection)? {
            let batch = batch.map_err(|error| broken(&error))?;
            let columns = Columns::of(&batch);
            for row in 0..batch.num_rows() {
                visit(columns.item(row).map_err(|error| broken(&error))?)?;
            }
        }
        Ok(())
    }

    fn batches(
        &self,
        selection: Option<RowSelection>,
    ) -> Result<ParquetRecordBatchReader, GalleryError> {
        let file = File::open(&self.path).map_err(FileError::read(&self.path))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.footer.clone())
            .with_batch_size(BATCH_ROWS);
        match selection {
            Some(selection) => reader.with_row_selection(selection),
            None => reader,
        }
        .build()
        .map_err(|error| GalleryError::metadata(&self.path, error))
    }
}

/// The columns of one batch by their meaning.
struct Columns<'a> {
    image_path: Option<&'a ArrayRef>,
    caption: Option<&'a ArrayRef>,
    captions: Option<&'a ArrayRef>,
    caption_levels: Option<&'a ArrayRef>,
    caption_ids: Option<&'a ArrayRef>,
    split: Option<&'a ArrayRef>,
    labels: Vec<(String, &'a ArrayRef)>,
}

impl<'a> Columns<'a> {
    fn of(batch: &'a RecordBatch) -> Self {
        let schema = batch.schema_ref();
        let labels = schema.fields().iter().zip(batch.columns());
        Self {
            image_path: batch.column_by_name(IMAGE_PATH),
            caption: batch.column_by_name(CAPTION),
            captions: batch.column_by_name(CAPTIONS),
            caption_levels: batch.column_by_name(CAPTION_LEVELS),
            caption_ids: batch.column_by_name(CAPTION_IDS),
            split: batch.column_by_name(SPLIT),
            labels: labels
                .filter(|(field, _)| !OWN_COLUMNS.contains(&field.name().as_str()))
                .map(|(field, column)| (field.name().clone(), column))
                .collect(),
        }
    }

    fn item(&self, row: usize) -> Result<ItemMetadata, String> {
        let text_of = |column: Option<&ArrayRef>| column.and_then(|column| text(column, row));
        let labels = self
            .labels
            .iter()
            .filter_map(|(name, column)| Some((name.clone(), text(column, row)?)));
        Ok(ItemMetadata {
            image_path: text_of(self.image_path),
            captions: self.captions(row)?,
            split: text_of(self.split),
            labels: labels.collect(),
        })
    }

    fn captions(&self, row: usize) -> Result<Vec<Caption>, String> {
        let Some(texts) = self.captions.and_then(|column| list(column, row)) else {
            let single = self.caption.and_then(|column| text(column, row));
            return Ok(single
                .into_iter()
                .map(|text| Caption { text, level: None, id: None })
                .collect());
        };
        let levels = self.caption_levels.and_then(|column| list(column, row));
        let ids = self.caption_ids.and_then(|column| list(column, row));
        for (numbers, what) in [(&levels, "caption levels"), (&ids, "caption ids")] {
            if let Some(numbers) = numbers
                && numbers.len() != texts.len()
            {
                return Err(format!(
                    "an image has {} captions but {} {what}",
                    texts.len(),
                    numbers.len()
                ));
            }
        }
        let level = |i| levels.as_ref().and_then(|levels| integer(levels, i)?.try_into().ok());
        let id = |i| ids.as_ref().and_then(|ids| integer(ids, i)?.try_into().ok());
        let captions = (0..texts.len()).filter_map(|i| {
            let text = text(&texts, i)?;
            Some(Caption { text, level: level(i), id: id(i) })
        });
        Ok(captions.collect())
    }
}

/// The text, or the whole number as text, at `row`; None for null and for any other type.
fn text(column: &ArrayRef, row: usize) -> Option<String> {
    match column.as_string_opt::<i32>() {
        Some(texts) => texts.is_valid(row).then(|| texts.value(row).to_owned()),
        None => integer(column, row).map(|number| number.to_string()),
    }
}

fn integer(column: &ArrayRef, row: usize) -> Option<i64> {
    if column.is_null(row) {
        return None;
    }
    let long = column.as_primitive_opt::<Int64Type>().map(|numbers| numbers.value(row));
    long.or_else(|| Some(column.as_primitive_opt::<Int32Type>()?.value(row).into()))
}

fn list(column: &ArrayRef, row: usize) -> Option<ArrayRef> {
    let lists = column.as_list_opt::<i32>()?;
    lists.is_valid(row).then(|| lists.value(row))
}

/// The columns of a table about dataset items.
#[derive(Debug, Clone)]
pub(super) struct TableColumns {
    /// Label and the name of its column.
    labels: Vec<(String, String)>,
}

impl TableColumns {
    /// Finds the labels that any of the items has.
    pub fn of<'a>(items: impl Iterator<Item = &'a DatasetItem>) -> Self {
        let mut labels = BTreeSet::new();
        for name in items.flat_map(|item| item.labels.keys()) {
            if !labels.contains(name) {
                labels.insert(name.clone());
            }
        }
        let column = |name: String| match OWN_COLUMNS.contains(&name.as_str()) {
            true => (name.clone(), format!("label_{name}")),
            false => (name.clone(), name),
        };
        Self { labels: labels.into_iter().map(column).collect() }
    }

    /// The rows of some items.
    pub fn batch(&self, items: &[&DatasetItem]) -> Result<RecordBatch, String> {
        let strings = |value: &dyn Fn(&DatasetItem) -> Option<String>| {
            let mut column = StringBuilder::new();
            items.iter().for_each(|item| column.append_option(value(item)));
            Arc::new(column.finish()) as ArrayRef
        };
        let mut captions = ListBuilder::new(StringBuilder::new());
        let mut levels = ListBuilder::new(Int64Builder::new());
        let mut ids = ListBuilder::new(Int64Builder::new());
        for item in items {
            for caption in &item.captions {
                captions.values().append_value(&caption.text);
                levels.values().append_option(caption.level.map(i64::from));
                ids.values().append_option(caption.id.and_then(|id| i64::try_from(id).ok()));
            }
            captions.append(true);
            levels.append(true);
            ids.append(true);
        }
        let first_caption = |item: &DatasetItem| item.captions.first().map(|c| c.text.clone());
        let image_path =
            |item: &DatasetItem| Some(item.image.path().to_string_lossy().into_owned());
        let mut columns = vec![
            (IMAGE_PATH, strings(&image_path), true),
            (CAPTION, strings(&first_caption), true),
            (CAPTIONS, Arc::new(captions.finish()) as ArrayRef, true),
            (CAPTION_LEVELS, Arc::new(levels.finish()) as ArrayRef, true),
            (CAPTION_IDS, Arc::new(ids.finish()) as ArrayRef, true),
            (SPLIT, strings(&|item| item.split.clone()), true),
        ];
        for (label, column) in &self.labels {
            columns.push((column, strings(&|item| item.labels.get(label).cloned()), true));
        }
        RecordBatch::try_from_iter_with_nullable(columns).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Float64Array, Int32Array, LargeStringArray, StringArray};
    use parquet::arrow::ArrowWriter;

    use super::*;

    fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut writer =
            ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
    }

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    #[test]
    fn rows_come_in_the_order_asked_for_across_files() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("0.parquet"), folder.path().join("1.parquet")];
        write(
            &paths[0],
            vec![(IMAGE_PATH, texts(&["a", "b", "c"])), (CAPTION, texts(&["A", "B", "C"]))],
        );
        write(&paths[1], vec![(IMAGE_PATH, texts(&["d", "e"])), (CAPTION, texts(&["D", "E"]))]);
        let table = MetadataTable::open(&paths).unwrap();
        let items = table.fetch(&[4, 0, 2, 4, 3]).unwrap();
        let names: Vec<_> = items.iter().map(|i| i.image_path.clone().unwrap()).collect();
        assert_eq!(names, ["e", "a", "c", "e", "d"]);
        assert_eq!(items[0].captions, [Caption { text: "E".to_owned(), level: None, id: None }]);
        let mut all = Vec::new();
        let mut keep = |item: ItemMetadata| {
            all.push(item.image_path.unwrap());
            Ok(())
        };
        table.for_each(&mut keep).unwrap();
        assert_eq!(all, ["a", "b", "c", "d", "e"]);
        assert!(matches!(
            table.fetch(&[5]).unwrap_err(),
            GalleryError::NoSuchItem { id: 5, count: 5 }
        ));
    }

    #[test]
    fn foreign_columns_of_text_and_whole_numbers_are_labels_and_others_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.parquet");
        write(
            &path,
            vec![
                ("url", Arc::new(LargeStringArray::from(vec![Some("u"), None])) as ArrayRef),
                ("width", Arc::new(Int32Array::from(vec![640, 480]))),
                ("similarity", Arc::new(Float64Array::from(vec![0.5, 0.25]))),
            ],
        );
        let items = MetadataTable::open(&[path]).unwrap().fetch(&[0, 1]).unwrap();
        assert_eq!(
            items[0].labels,
            BTreeMap::from([("url", "u"), ("width", "640")].map(|(k, v)| (k.into(), v.into())))
        );
        assert_eq!(items[1].labels.len(), 1);
        assert_eq!(items[0].image_path, None);
        assert!(items[0].captions.is_empty());
    }

    #[test]
    fn captions_and_their_numbers_of_different_length_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.parquet");
        let mut captions = ListBuilder::new(StringBuilder::new());
        captions.append_value([Some("one"), Some("two")]);
        let captions = Arc::new(captions.finish()) as ArrayRef;
        let mut numbers = ListBuilder::new(Int64Builder::new());
        numbers.append_value([Some(1)]);
        let numbers = Arc::new(numbers.finish()) as ArrayRef;
        for (column, words) in [(CAPTION_LEVELS, "caption levels"), (CAPTION_IDS, "caption ids")] {
            write(&path, vec![(CAPTIONS, captions.clone()), (column, numbers.clone())]);
            let error =
                MetadataTable::open(std::slice::from_ref(&path)).unwrap().fetch(&[0]).unwrap_err();
            assert!(error.to_string().contains(&format!("2 captions but 1 {words}")), "{error}");
        }
    }

    #[test]
    fn a_truncated_table_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.parquet");
        write(&path, vec![(IMAGE_PATH, texts(&["a", "b", "c"]))]);
        let bytes = std::fs::read(&path).unwrap();
        for end in [0, 4, bytes.len() / 2, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..end]).unwrap();
            let error = MetadataTable::open(std::slice::from_ref(&path)).unwrap_err();
            assert!(error.to_string().contains("0.parquet"), "cut at {end}: {error}");
        }
    }

    #[test]
    fn a_table_with_a_changed_byte_is_read_or_refused_but_never_panics() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.parquet");
        let mut captions = ListBuilder::new(StringBuilder::new());
        captions.append_value([Some("one"), Some("two")]);
        captions.append_value([None::<&str>]);
        write(
            &path,
            vec![
                (IMAGE_PATH, texts(&["a", "b"])),
                (CAPTIONS, Arc::new(captions.finish()) as ArrayRef),
            ],
        );
        let whole = std::fs::read(&path).unwrap();
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            // In the footer's numbers this bit is the sign.
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let read = MetadataTable::open(std::slice::from_ref(&path))
                .and_then(|table| table.for_each(|_| Ok(())));
            refused += usize::from(read.is_err());
        }
        assert!(refused > 0);
    }
}
