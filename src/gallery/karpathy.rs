//! The caption files of Karpathy and Fei-Fei (2015), in which COCO and Flickr30k are split.
//!
//! `{"dataset": .., "images": [{"filename", "filepath"?, "split", "sentences": [{"raw"}], ..}]}`.
//! COCO's `filepath` is a folder above `filename`. A `level` beside `raw` says how unspecific the
//! caption is. All further texts and numbers of an image are kept as labels.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{Caption, Dataset, DatasetItem, GalleryError};
use crate::files::read_bounded;

/// COCO's file has 144 MB.
const JSON_LIMIT: u64 = 1 << 30;

/// Labels become columns of an index; a file with more kinds of them is not a Karpathy file.
const LABEL_LIMIT: usize = 64;

/// How many images are looked up to find the folder that they lie in.
const PROBES: usize = 32;

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
}

/// Reads the Karpathy file at `path` (absolute).
pub(super) fn read(path: &Path) -> Result<Dataset, GalleryError> {
    let bytes = read_bounded(path, JSON_LIMIT, "a Karpathy json file")?;
    let file: File = serde_json::from_slice(&bytes).map_err(|error| GalleryError::Dataset {
        path: path.to_owned(),
        reason: format!("not a Karpathy json file: {error}"),
    })?;
    drop(bytes);
    if file.images.is_empty() {
        return Err(GalleryError::NoImages { path: path.to_owned() });
    }
    let mut items = Vec::with_capacity(file.images.len());
    let mut ids = BTreeSet::new();
    let mut label_names = BTreeSet::new();
    for image in file.images {
        let item = item(path, image)?;
        if !ids.insert(item.id.clone()) {
            return Err(GalleryError::Dataset {
                path: path.to_owned(),
                reason: format!("the image {:?} is listed twice", item.id),
            });
        }
        for name in item.labels.keys() {
            if !label_names.contains(name) {
                label_names.insert(name.clone());
            }
        }
        if label_names.len() > LABEL_LIMIT {
            return Err(GalleryError::Dataset {
                path: path.to_owned(),
                reason: format!("its images have more than {LABEL_LIMIT} different fields"),
            });
        }
        items.push(item);
    }
    let root = image_root(path, &items);
    for item in &mut items {
        item.image = root.join(&item.id);
    }
    let folder = path.parent().and_then(Path::file_name).unwrap_or(path.as_os_str());
    let name = file.dataset.unwrap_or_else(|| folder.to_string_lossy().into_owned());
    Ok(Dataset { name, source: path.to_owned(), items })
}

/// One item, whose `image` is not known yet.
fn item(path: &Path, image: Image) -> Result<DatasetItem, GalleryError> {
    let id = match &image.filepath {
        Some(folder) if !folder.is_empty() => format!("{folder}/{}", image.filename),
        _ => image.filename,
    };
    let inside = Path::new(&id)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if id.is_empty() || !inside {
        return Err(GalleryError::UnsafeName { path: path.to_owned(), name: id });
    }
    let caption = |s: Sentence| Caption { text: s.raw, level: s.level };
    Ok(DatasetItem {
        id,
        image: PathBuf::new(),
        captions: image.sentences.into_iter().map(caption).collect(),
        split: image.split,
        labels: image.other.into_iter().filter_map(|(k, v)| Some((k, scalar(v)?))).collect(),
    })
}

fn scalar(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The folder that most of a few items spread over the file are found in: `images/` beside the
/// file, its own folder, or another folder beside it (Flickr30k ships `flickr30k-images/`).
/// Where none is found, `images/`, so that the error about missing images names that.
fn image_root(json: &Path, items: &[DatasetItem]) -> PathBuf {
    let folder = json.parent().unwrap_or(Path::new("/"));
    let mut candidates = vec![folder.join("images"), folder.to_owned()];
    if let Ok(entries) = std::fs::read_dir(folder) {
        let mut beside: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        beside.sort();
        candidates.extend(beside);
    }
    let step = items.len().div_ceil(PROBES);
    let found = |root: &Path| {
        items.iter().step_by(step).filter(|item| root.join(&item.id).is_file()).count()
    };
    let mut best = (0, 0);
    for (i, candidate) in candidates.iter().enumerate() {
        let count = found(candidate);
        if count > best.0 {
            best = (count, i);
        }
    }
    candidates.swap_remove(best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

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
                {"raw": "An animal.", "level": 2}, {"raw": "A café"}]},
            {"filename": "a.jpg", "split": "test", "concept": "cat", "sentences": []}]}"#;
        let folder = write(json, &["val2014/b.jpg", "a.jpg"]);
        let dataset = Dataset::open(folder.path()).unwrap();
        assert_eq!(dataset.name, "coco");
        let [first, second] = &dataset.items[..] else { panic!("two items expected") };
        assert_eq!(first.id, "val2014/b.jpg");
        assert_eq!(first.split.as_deref(), Some("restval"));
        let levels: Vec<_> = first.captions.iter().map(|c| c.level).collect();
        assert_eq!(levels, [Some(0), Some(2), None]);
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
