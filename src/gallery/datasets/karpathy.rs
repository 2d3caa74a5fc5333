//! The caption files of Karpathy and Fei-Fei (2015), in which COCO and Flickr30k are split.
//!
//! `{"dataset": .., "images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}], ..}]}`.
//! COCO's `filepath` is a folder above `filename`. A `level` beside `raw` says how unspecific the
//! caption is, a `sentid` is its number. All further texts and numbers of an image are kept as
//! labels.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::notes::Notes;
use super::{Caption, DatasetItem, GalleryError, entries, file_name, item, places, text, unusable};

#[derive(Deserialize)]
struct File {
    dataset: Option<String>,
    images: Vec<Image>,
}

#[derive(Deserialize)]
struct Image {
    filename: String,
    filepath: Option<String>,
    split: Option<String>,
    #[serde(default)]
    sentences: Vec<Sentence>,
    #[serde(flatten)]
    other: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
struct Sentence {
    raw: String,
    level: Option<u32>,
    /// A whole number, where it is from Karpathy.
    sentid: Option<Value>,
}

/// `dataset.json`, else the only `dataset_*.json` (Karpathy's own names: `dataset_coco.json`).
pub fn find(folder: &Path) -> Result<Option<PathBuf>, GalleryError> {
    let plain = folder.join("dataset.json");
    if plain.is_file() {
        return Ok(Some(plain));
    }
    let named = |path: &PathBuf| {
        let name = file_name(path);
        name.starts_with("dataset_") && name.ends_with(".json")
    };
    let mut found: Vec<_> = entries(folder)?.into_iter().filter(named).collect();
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(|p| p.display().to_string()).collect();
        let reason = format!("it holds several datasets, name one of {}", names.join(", "));
        return Err(unusable(folder, reason));
    }
    Ok(found.pop())
}

/// Reads the Karpathy file at `path` (absolute): its name, and its items.
pub fn read(path: &Path, notes: &mut Notes) -> Result<(String, Vec<DatasetItem>), GalleryError> {
    let file: File = text::json(path, "a Karpathy json file", notes)?;
    let mut items = Vec::with_capacity(file.images.len());
    for image in file.images {
        items.push(read_item(path, image, notes)?);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let (root, _) = places::image_root(folder, &ids);
    for item in &mut items {
        item.image = root.join(&item.id).into();
    }
    Ok((file.dataset.unwrap_or_else(|| file_name(folder)), items))
}

/// One item, whose `image` is not known yet.
fn read_item(path: &Path, image: Image, notes: &mut Notes) -> Result<DatasetItem, GalleryError> {
    let id = match &image.filepath {
        Some(folder) if !folder.is_empty() => format!("{folder}/{}", image.filename),
        _ => image.filename,
    };
    places::check_inside(path, &id)?;
    let mut captions = Vec::with_capacity(image.sentences.len());
    for Sentence { raw, level, sentid } in image.sentences {
        if raw.trim().is_empty() {
            notes.count(text::BLANK, &id);
        } else {
            let id = sentid.and_then(|id| id.as_i64()?.try_into().ok());
            captions.push(Caption { text: raw, level, id });
        }
    }
    let mut item = item(id, PathBuf::new().into(), captions);
    item.split = image.split;
    item.labels = image.other.into_iter().filter_map(|(k, v)| Some((k, scalar(v)?))).collect();
    Ok(item)
}

/// A text, number or truth value as text.
pub fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::LABEL_LIMIT;
    use super::*;
    use crate::gallery::Dataset;

    fn write(json: &str, images: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dataset.json"), json).unwrap();
        for image in images {
            let path = folder.path().join(image);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        folder
    }

    #[test]
    fn a_coco_style_file_gives_joined_paths_captions_levels_splits_and_labels() {
        let json = r#"{"dataset": "coco", "images": [
            {"filename": "b.jpg", "filepath": "val2014", "split": "restval", "cocoid": 9,
             "sentids": [1, 2], "sentences": [
                {"raw": "A dog.", "tokens": ["a", "dog"], "level": 0, "sentid": 1},
                {"raw": "An animal.", "level": 2, "sentid": "b"}, {"raw": "A café", "sentid": -3}]},
            {"filename": "a.jpg", "split": "test", "concept": "cat", "sentences": []}]}"#;
        let folder = write(json, &["val2014/b.jpg", "a.jpg"]);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.name, "coco");
        let [first, second] = &dataset.items[..] else { panic!("two items expected") };
        assert_eq!(first.id, "val2014/b.jpg");
        assert_eq!(first.split.as_deref(), Some("restval"));
        let levels: Vec<_> = first.captions.iter().map(|c| c.level).collect();
        assert_eq!(levels, [Some(0), Some(2), None]);
        let ids: Vec<_> = first.captions.iter().map(|c| c.id).collect();
        assert_eq!(ids, [Some(1), None, None]);
        assert_eq!((first.coco_id(), second.coco_id()), (Some(9), None));
        assert_eq!(first.captions[2].text, "A café");
        assert_eq!(first.labels, BTreeMap::from([("cocoid".to_owned(), "9".to_owned())]));
        assert_eq!(second.labels["concept"], "cat");
        dataset.require_images().unwrap();
        let by_file = Dataset::open(&folder.path().join("dataset.json")).unwrap();
        assert_eq!(by_file, dataset);
    }

    #[test]
    fn images_are_found_in_a_folder_beside_the_file() {
        let json = r#"{"images": [{"filename": "a.jpg"}, {"filename": "b.jpg"}]}"#;
        for root in ["images", ".", "flickr30k-images"] {
            let folder = write(json, &[&format!("{root}/a.jpg"), &format!("{root}/b.jpg")]);
            Dataset::open(folder.path()).unwrap().require_images().unwrap();
        }
        let folder = write(json, &["images/b.jpg"]);
        let error = Dataset::open(folder.path()).unwrap().require_images().unwrap_err();
        assert!(error.to_string().contains("1 of 2") && error.to_string().contains("a.jpg"));
    }

    #[test]
    fn names_that_leave_the_folder_are_refused() {
        for (filepath, filename) in [
            ("", "../secret.png"),
            ("", "/etc/passwd"),
            ("..", "x.png"),
            ("a/../..", "x.png"),
            ("/tmp", "x.png"),
            ("", ""),
        ] {
            let json = serde_json::json!({
                "images": [{"filename": filename, "filepath": filepath, "sentences": []}]
            });
            let folder = write(&json.to_string(), &[]);
            let error = Dataset::open(folder.path()).unwrap_err();
            assert!(matches!(error, GalleryError::UnsafeName { .. }), "{filepath} {filename}");
        }
    }

    #[test]
    fn malformed_and_empty_files_are_errors_that_name_the_place() {
        let error = Dataset::open(write(r#"{"images": [{"filename": 3}]}"#, &[]).path());
        assert!(error.unwrap_err().to_string().contains("line 1 column"));
        let error = Dataset::open(write(r#"{"images": []}"#, &[]).path()).unwrap_err();
        assert!(matches!(error, GalleryError::NoImages { .. }));
        let twice = r#"{"images": [{"filename": "a.png"}, {"filename": "a.png"}]}"#;
        let error = Dataset::open(write(twice, &[]).path()).unwrap_err();
        assert!(error.to_string().contains("listed twice"));
    }

    #[test]
    fn the_fields_of_an_image_are_bounded() {
        let fields: BTreeMap<_, _> = (0..=LABEL_LIMIT).map(|i| (format!("f{i}"), i)).collect();
        let mut image = serde_json::json!(fields);
        image["filename"] = "a.png".into();
        let json = serde_json::json!({ "images": [image] });
        let error = Dataset::open(write(&json.to_string(), &[]).path()).unwrap_err();
        assert!(error.to_string().contains("different fields"));
    }
}
