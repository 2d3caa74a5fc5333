//! Captions of a folder's images in one table: `captions.csv`, `captions.jsonl`, or
//! `metadata.csv`, `metadata.jsonl` as Hugging Face's image folders have it.
//!
//! A row names an image below the folder and has one caption, or in jsonl a list of them; an image
//! may have several rows. Further columns are kept as labels, unless they differ between the rows
//! of one image.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::karpathy::scalar;
use super::notes::Notes;
use super::{Caption, DatasetItem, GalleryError, caption, item, places, text, unusable};

pub const NAMES: [&str; 4] = ["captions.csv", "captions.jsonl", "metadata.csv", "metadata.jsonl"];

const IMAGE_COLUMNS: [&str; 8] =
    ["file_name", "filename", "image", "image_name", "image_path", "filepath", "path", "file"];
const CAPTION_COLUMNS: [&str; 9] =
    ["caption", "captions", "text", "texts", "comment", "raw", "sentence", "sentences", "prompt"];

/// Largest number of columns of a table.
const COLUMN_LIMIT: usize = 256;

/// The table of a folder, if it has one.
pub fn find(folder: &Path) -> Option<PathBuf> {
    NAMES.iter().map(|name| folder.join(name)).find(|path| path.is_file())
}

/// One row: the facts by the names of their columns.
type Row = BTreeMap<String, Value>;

/// Reads the items that a table lists, in its order.
pub fn read(path: &Path, root: &Path, notes: &mut Notes) -> Result<Vec<DatasetItem>, GalleryError> {
    let rows = match path.extension().is_some_and(|ending| ending == "csv") {
        true => csv_rows(path, notes)?,
        false => jsonl_rows(path, notes)?,
    };
    let mut items: Vec<DatasetItem> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    let mut differing = BTreeSet::new();
    for (line, mut row) in rows {
        let place = || text::place(path, line);
        let id = image_of(&mut row)
            .ok_or_else(|| unusable(path, no_column(&place(), "an image", &IMAGE_COLUMNS, &row)))?;
        places::check_inside(path, &id)?;
        let captions = captions_of(&mut row, notes, &place).ok_or_else(|| {
            unusable(path, no_column(&place(), "a caption", &CAPTION_COLUMNS, &row))
        })?;
        let split = row.remove("split").and_then(scalar).filter(|split| !split.is_empty());
        let labels: BTreeMap<_, _> =
            row.into_iter().filter_map(|(name, value)| Some((name, scalar(value)?))).collect();
        let Some(&position) = positions.get(&id) else {
            positions.insert(id.clone(), items.len());
            let image = root.join(&id).into();
            items.push(DatasetItem { split, labels, ..item(id, image, captions) });
            continue;
        };
        let known = &mut items[position];
        if known.split != split {
            let reason = format!("{}: {:?} is in another split before", place(), known.id);
            return Err(unusable(path, reason));
        }
        known.captions.extend(captions);
        let names = known.labels.keys().chain(labels.keys());
        differing.extend(names.filter(|&n| known.labels.get(n) != labels.get(n)).cloned());
    }
    if !differing.is_empty() {
        let names: Vec<_> = differing.iter().map(String::as_str).collect();
        notes.say(format!(
            "columns that differ between the rows of one image, left out: {}",
            names.join(", ")
        ));
        items.iter_mut().for_each(|item| item.labels.retain(|name, _| !differing.contains(name)));
    }
    Ok(items)
}

fn image_of(row: &mut Row) -> Option<String> {
    match IMAGE_COLUMNS.iter().find_map(|&name| row.remove(name))? {
        Value::String(id) => Some(id.trim().trim_start_matches("./").to_owned()),
        _ => None,
    }
}

/// The captions of a row; `None` when it has no column for them.
fn captions_of(
    row: &mut Row,
    notes: &mut Notes,
    place: &impl Fn() -> String,
) -> Option<Vec<Caption>> {
    let value = CAPTION_COLUMNS.iter().find_map(|&name| row.remove(name))?;
    let texts = match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.into_iter().filter_map(scalar).collect(),
        Value::Null => Vec::new(),
        _ => return None,
    };
    let level = row.remove("level").and_then(|level| match level {
        Value::String(text) => text.trim().parse().ok(),
        other => u32::try_from(other.as_u64()?).ok(),
    });
    let found = texts.iter().filter_map(|text| text::caption_of(text, notes, place));
    Some(found.map(|found| Caption { level, ..caption(found.text) }).collect())
}

fn no_column(place: &str, what: &str, known: &[&str], row: &Row) -> String {
    let found: Vec<_> = row.keys().take(16).map(String::as_str).collect();
    format!(
        "{place} has no column for {what}: expected one of {}, found {}",
        known.join(", "),
        if found.is_empty() { "no other".to_owned() } else { found.join(", ") }
    )
}

fn csv_rows(path: &Path, notes: &mut Notes) -> Result<Vec<(usize, Row)>, GalleryError> {
    let bytes = text::read(path)?;
    let bytes = text::without_mark(&bytes, path)?;
    let head = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let delimiter = *[b'|', b'\t', b';'].iter().find(|d| head.contains(d)).unwrap_or(&b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(bytes);
    let failed = |error: csv::Error| unusable(path, error.to_string());
    let header = reader.byte_headers().map_err(failed)?.clone();
    if header.len() > COLUMN_LIMIT {
        let reason = format!("it has {} columns, more than {COLUMN_LIMIT}", header.len());
        return Err(unusable(path, reason));
    }
    let column = |name| text::decode(name, notes, || text::place(path, 0)).trim().to_lowercase();
    let names: Vec<String> = header.iter().map(column).collect();
    let mut rows = Vec::new();
    for record in reader.byte_records() {
        let record = record.map_err(failed)?;
        let line = record.position().map_or(0, |position| position.line() as usize - 1);
        let mut row = Row::new();
        for (name, value) in names.iter().zip(&record) {
            let value = text::decode(value, notes, || text::place(path, line)).into_owned();
            row.insert(name.clone(), Value::String(value));
        }
        rows.push((line, row));
    }
    Ok(rows)
}

fn jsonl_rows(path: &Path, notes: &mut Notes) -> Result<Vec<(usize, Row)>, GalleryError> {
    let lines = text::lines(path, notes)?.into_iter().enumerate();
    let filled = lines.filter(|(_, line)| !line.trim().is_empty());
    filled
        .map(|(i, line)| match serde_json::from_str(&line) {
            Ok(row) => Ok((i, row)),
            Err(error) => Err(unusable(path, format!("line {}: {error}", i + 1))),
        })
        .collect()
}
