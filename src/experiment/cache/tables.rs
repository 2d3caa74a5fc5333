//! `metadata/images.parquet` and `metadata/captions.parquet`: what a cache knows about its rows.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::builder::{Int64Builder, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, RecordBatch};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::unusable;
use crate::experiment::ExperimentError;
use crate::experiment::pairs::{CaptionLink, ImageFacts};
use crate::files::{FileError, create_folder, write_atomic};
use crate::gallery::{GalleryError, read_footer};

/// The folder of the tables.
pub const FOLDER: &str = "metadata";
/// Columns that older caches do not have.
const COCO_ID: &str = "coco_id";
const CAPTION_ID: &str = "caption_id";

/// One row of `images.parquet`: an image row of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageEntry {
    pub id: String,
    pub split: Option<String>,
    pub class: Option<String>,
    /// Where the image was read from.
    pub path: String,
    /// Number that COCO gives the image.
    pub coco_id: Option<u64>,
}

/// One row of `captions.parquet`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaptionEntry {
    pub link: CaptionLink,
    pub words: Arc<str>,
}

/// Facts about image rows, with the names of the classes.
pub struct Images {
    pub facts: Vec<ImageFacts>,
    /// Sorted.
    pub classes: Vec<String>,
}

/// Captions, and the words of each text row.
pub struct Captions {
    pub links: Vec<CaptionLink>,
    pub words: Vec<Arc<str>>,
}

/// Writes both tables.
pub fn write(
    folder: &Path,
    images: &[ImageEntry],
    captions: &[CaptionEntry],
) -> Result<(), ExperimentError> {
    create_folder(&folder.join(FOLDER))?;
    let texts = |value: &dyn Fn(&ImageEntry) -> Option<String>| {
        let mut column = StringBuilder::new();
        images.iter().for_each(|image| column.append_option(value(image)));
        Arc::new(column.finish()) as ArrayRef
    };
    let numbers = |ids: &mut dyn Iterator<Item = Option<u64>>| {
        let mut column = Int64Builder::new();
        ids.for_each(|id| column.append_option(id.and_then(|id| i64::try_from(id).ok())));
        Arc::new(column.finish()) as ArrayRef
    };
    write_table(
        &images_file(folder),
        vec![
            ("id", texts(&|image| Some(image.id.clone()))),
            ("split", texts(&|image| image.split.clone())),
            ("class", texts(&|image| image.class.clone())),
            ("image_path", texts(&|image| Some(image.path.clone()))),
            (COCO_ID, numbers(&mut images.iter().map(|image| image.coco_id))),
        ],
    )?;
    let links = |value: &dyn Fn(&CaptionLink) -> Option<u64>| {
        numbers(&mut captions.iter().map(|caption| value(&caption.link)))
    };
    let mut words = StringBuilder::new();
    captions.iter().for_each(|caption| words.append_value(&caption.words));
    write_table(
        &captions_file(folder),
        vec![
            ("image", links(&|link| Some(link.image.into()))),
            ("text", links(&|link| Some(link.text.into()))),
            ("level", links(&|link| link.level.map(u64::from))),
            (CAPTION_ID, links(&|link| link.id)),
            ("caption", Arc::new(words.finish())),
        ],
    )
}

/// Reads the facts about `count` images.
pub fn read_images(folder: &Path, count: usize) -> Result<Images, ExperimentError> {
    let path = images_file(folder);
    let mut facts = Vec::with_capacity(count);
    let mut classes_of_rows: Vec<Option<String>> = Vec::with_capacity(count);
    let mut splits: BTreeMap<String, Arc<str>> = BTreeMap::new();
    for_each_batch(&path, count, |batch| {
        let (ids, splits_in, classes) =
            (column(batch, "id")?, column(batch, "split")?, column(batch, "class")?);
        let coco_ids = batch.column_by_name(COCO_ID);
        for row in 0..batch.num_rows() {
            let id = text(ids, row)?.ok_or("an image has no id")?;
            let split = text(splits_in, row)?.map(|split| {
                Arc::clone(splits.entry(split.clone()).or_insert_with(|| split.into()))
            });
            let coco_id = number(coco_ids, row)?;
            facts.push(ImageFacts { id, split, class: None, coco_id });
            classes_of_rows.push(text(classes, row)?);
        }
        Ok(())
    })?;
    let ids_of_classes = numbered(classes_of_rows.iter().filter_map(Option::as_deref));
    let classes = ids_of_classes.keys().map(|&name| name.to_owned()).collect();
    for (facts, class) in facts.iter_mut().zip(&classes_of_rows) {
        facts.class = class.as_deref().map(|class| ids_of_classes[class]);
    }
    Ok(Images { facts, classes })
}

/// Reads `count` captions that name `texts` text rows.
pub fn read_captions(
    folder: &Path,
    count: usize,
    texts: usize,
) -> Result<Captions, ExperimentError> {
    let path = captions_file(folder);
    let mut links = Vec::with_capacity(count);
    let mut words: Vec<Option<Arc<str>>> = vec![None; texts];
    for_each_batch(&path, count, |batch| {
        let (images, rows) = (column(batch, "image")?, column(batch, "text")?);
        let (levels, captions) = (column(batch, "level")?, column(batch, "caption")?);
        let ids = batch.column_by_name(CAPTION_ID);
        for row in 0..batch.num_rows() {
            let link = CaptionLink {
                image: number(Some(images), row)?.ok_or("a caption names no image")?,
                text: number(Some(rows), row)?.ok_or("a caption names no text")?,
                level: number(Some(levels), row)?,
                id: number(ids, row)?,
            };
            let slot = words
                .get_mut(link.text as usize)
                .ok_or_else(|| format!("a caption names text {} of {texts}", link.text))?;
            let caption = text(captions, row)?.ok_or("a caption has no words")?;
            match slot {
                Some(known) if **known != *caption => {
                    return Err(format!("text {} has two wordings", link.text));
                }
                Some(_) => {}
                None => *slot = Some(caption.into()),
            }
            links.push(link);
        }
        Ok(())
    })?;
    let words = words
        .into_iter()
        .enumerate()
        .map(|(i, words)| words.ok_or_else(|| unusable(&path, format!("no caption has text {i}"))))
        .collect::<Result<_, _>>()?;
    Ok(Captions { links, words })
}

/// Numbers names in sorted order, from 0.
pub fn numbered<'a>(names: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, u32> {
    let mut numbers: BTreeMap<&str, u32> = names.map(|name| (name, 0)).collect();
    numbers.values_mut().zip(0..).for_each(|(number, i)| *number = i);
    numbers
}

fn images_file(folder: &Path) -> PathBuf {
    folder.join(FOLDER).join("images.parquet")
}

fn captions_file(folder: &Path) -> PathBuf {
    folder.join(FOLDER).join("captions.parquet")
}

fn write_table(path: &Path, columns: Vec<(&str, ArrayRef)>) -> Result<(), ExperimentError> {
    // `level`, `split` and `class` may be null whether or not one is.
    let nullable = columns.into_iter().map(|(name, column)| (name, column, true));
    let batch = RecordBatch::try_from_iter_with_nullable(nullable)
        .map_err(|error| GalleryError::metadata(path, error))?;
    Ok(write_atomic(path, |file| {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::default()))
            .build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties))
            .map_err(io::Error::other)?;
        writer.write(&batch).map_err(io::Error::other)?;
        writer.close().map_err(io::Error::other)?;
        io::Write::write_all(file, &bytes)
    })?)
}

/// Hands over the rows of a table that must have `count` of them.
fn for_each_batch(
    path: &Path,
    count: usize,
    mut visit: impl FnMut(&RecordBatch) -> Result<(), String>,
) -> Result<(), ExperimentError> {
    let footer = read_footer(path)?;
    let found = footer.metadata().file_metadata().num_rows();
    if usize::try_from(found) != Ok(count) {
        return Err(unusable(
            path,
            format!(
                "it has {found} rows, expected {count}; the files do not belong together, embed \
                 the dataset again with --overwrite"
            ),
        ));
    }
    let broken = |error: &dyn std::fmt::Display| GalleryError::metadata(path, error);
    let file = File::open(path).map_err(FileError::read(path))?;
    let batches = ParquetRecordBatchReaderBuilder::new_with_metadata(file, footer)
        .build()
        .map_err(|error| broken(&error))?;
    let mut seen = 0;
    for batch in batches {
        let batch = batch.map_err(|error| broken(&error))?;
        seen += batch.num_rows();
        if seen > count {
            return Err(broken(&"it holds more rows than its footer says").into());
        }
        visit(&batch).map_err(|error| broken(&error))?;
    }
    if seen != count {
        return Err(broken(&"it holds fewer rows than its footer says").into());
    }
    Ok(())
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef, String> {
    batch.column_by_name(name).ok_or_else(|| format!("it has no column {name:?}"))
}

fn text(column: &ArrayRef, row: usize) -> Result<Option<String>, String> {
    let texts = column.as_string_opt::<i32>().ok_or("a column of texts holds something else")?;
    Ok(texts.is_valid(row).then(|| texts.value(row).to_owned()))
}

/// A whole number that is not negative; without the column none.
fn number<N: TryFrom<i64>>(column: Option<&ArrayRef>, row: usize) -> Result<Option<N>, String> {
    let Some(column) = column else { return Ok(None) };
    let numbers =
        column.as_primitive_opt::<Int64Type>().ok_or("a column of numbers holds something else")?;
    if numbers.is_null(row) {
        return Ok(None);
    }
    let number = numbers.value(row);
    Ok(Some(number.try_into().map_err(|_| format!("{number} is out of range"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_without_the_numbers_of_coco_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let image = ImageEntry {
            id: "a".to_owned(),
            split: None,
            class: None,
            path: "/a".to_owned(),
            coco_id: Some(9),
        };
        let link = CaptionLink { image: 0, text: 0, level: Some(2), id: Some(7) };
        write(folder.path(), &[image], &[CaptionEntry { link, words: "a text".into() }]).unwrap();
        let whole = (read_images(folder.path(), 1).unwrap(), read_captions(folder.path(), 1, 1));
        assert_eq!((whole.0.facts[0].coco_id, whole.1.unwrap().links[0]), (Some(9), link));

        // As caches were before they had these columns.
        for (path, column) in
            [(images_file(folder.path()), COCO_ID), (captions_file(folder.path()), CAPTION_ID)]
        {
            let file = File::open(&path).unwrap();
            let mut reader =
                ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
            let mut batch = reader.next().unwrap().unwrap();
            batch.remove_column(batch.schema().index_of(column).unwrap());
            let schema = batch.schema();
            let names = schema.fields().iter().map(|field| field.name().as_str());
            write_table(&path, names.zip(batch.columns().iter().cloned()).collect()).unwrap();
        }
        assert_eq!(read_images(folder.path(), 1).unwrap().facts[0].coco_id, None);
        let links = read_captions(folder.path(), 1, 1).unwrap().links;
        assert_eq!(links, [CaptionLink { id: None, ..link }]);
    }
}
