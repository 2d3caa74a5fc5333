//! Readers of the data sets that papers about images and their captions use.
//!
//! In goes a folder or one of its files; out comes a [`Dataset`] with a note for every oddity. No
//! image is opened here. Which reader it is, the names of the files say: see [`Layout`].

mod coco;
mod cub;
mod flickr;
mod flowers;
mod folder;
mod karpathy;
mod mat;
mod notes;
mod places;
mod precomp;
mod split_lists;
mod table;
mod text;
mod webdataset;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use self::notes::Notes;
use super::{Caption, Dataset, DatasetItem, GalleryError, ImageLocation};
use crate::files::FileError;

/// The layouts of datasets that are read, for people, a line each.
pub const LAYOUTS: &str = "  \
  Karpathy (COCO, Flickr30k): dataset.json or dataset_*.json, images beside it
  COCO: annotations/captions_*.json; with PCME's coco_*_ids.npy for Karpathy's splits
  VSE++: *_caps.txt and *_ids.txt, best with id_mapping.json
  Flickr30k: results.csv or results_*.token; with split lists such as test.txt
  CUB: images/NNN.Class/ and text_c10/NNN.Class/; with lists such as testclasses.txt
  Oxford Flowers: jpg/ and text_c10/class_NNNNN/, imagelabels.mat; with class lists
  webdataset: test/0.tar, 1.tar...: key.jpg with key.txt, or key.cls
  images with captions: a.jpg with a.txt, or captions.csv, captions.jsonl, metadata.jsonl
  images alone";

/// Labels become columns of an index; a dataset with more kinds of them is not understood.
const LABEL_LIMIT: usize = 64;

/// The label that holds an item's class.
const CLASS: &str = "class";

/// How a dataset lies on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// The json file.
    Karpathy(PathBuf),
    /// The folder that holds images and annotations, and its caption files.
    Coco {
        root: PathBuf,
        files: Vec<PathBuf>,
    },
    /// The folder of the `*_caps.txt`.
    Precomp(PathBuf),
    /// The caption file.
    Flickr(PathBuf),
    Cub(PathBuf),
    Flowers(PathBuf),
    WebDataset(PathBuf),
    /// Images, with captions beside them or without.
    Folder(PathBuf),
}

impl Layout {
    /// Tells the layout of a folder or file by the names of its files; the first that fits, in the
    /// order of the enum.
    ///
    /// # Errors
    /// When `path` cannot be read, holds several Karpathy files, or is a store of embeddings.
    pub fn of(path: &Path) -> Result<Self, GalleryError> {
        let kind = std::fs::metadata(path).map_err(FileError::read(path))?;
        if kind.is_file() {
            return Ok(Self::of_file(path));
        }
        if path.join("img_emb").is_dir() {
            return Err(unusable(
                path,
                "it is a store of embeddings; give it as the gallery instead",
            ));
        }
        if let Some(json) = karpathy::find(path)? {
            return Ok(Layout::Karpathy(json));
        }
        let files = coco::find(path)?;
        if !files.is_empty() {
            return Ok(Layout::Coco { root: path.to_owned(), files });
        }
        if let Some(folder) = precomp::find(path)? {
            return Ok(Layout::Precomp(folder));
        }
        if let Some(file) = flickr::find(path)? {
            return Ok(Layout::Flickr(file));
        }
        if flowers::is(path) {
            return Ok(Layout::Flowers(path.to_owned()));
        }
        if cub::is(path) {
            return Ok(Layout::Cub(path.to_owned()));
        }
        if webdataset::is(path)? {
            return Ok(Layout::WebDataset(path.to_owned()));
        }
        Ok(Layout::Folder(path.to_owned()))
    }

    fn of_file(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let folder = path.parent().unwrap_or(Path::new("/"));
        if name.ends_with(".tar") {
            Layout::WebDataset(path.to_owned())
        } else if name.starts_with("captions_") && name.ends_with(".json") {
            let above = folder.file_name().is_some_and(|name| name == "annotations");
            let root = if above { folder.parent().unwrap_or(folder) } else { folder };
            Layout::Coco { root: root.to_owned(), files: vec![path.to_owned()] }
        } else if name.ends_with("_caps.txt") {
            Layout::Precomp(folder.to_owned())
        } else if flickr::is_caption_file(&name) {
            Layout::Flickr(path.to_owned())
        } else if table::NAMES.contains(&name.as_str()) {
            Layout::Folder(folder.to_owned())
        } else {
            Layout::Karpathy(path.to_owned())
        }
    }

    /// Whether more than the images themselves told the layout.
    pub fn is_described(&self) -> bool {
        !matches!(self, Layout::Folder(_))
    }
}

/// Reads the dataset at `path` (absolute).
pub(super) fn read(path: &Path) -> Result<Dataset, GalleryError> {
    let mut notes = Notes::default();
    let (name, items) = match Layout::of(path)? {
        Layout::Karpathy(json) => {
            let (name, items) = karpathy::read(&json, &mut notes)?;
            return finish(&json, name, items, notes);
        }
        Layout::Coco { root, files } => ("coco", coco::read(&root, &files, &mut notes)?),
        Layout::Precomp(folder) => ("", precomp::read(&folder, &mut notes)?),
        Layout::Flickr(file) => {
            let root = if path.is_dir() { path } else { file.parent().unwrap_or(path) };
            ("flickr30k", flickr::read(&file, root, &mut notes)?)
        }
        Layout::Cub(folder) => ("cub", cub::read(&folder, &mut notes)?),
        Layout::Flowers(folder) => ("flowers", flowers::read(&folder, &mut notes)?),
        Layout::WebDataset(at) => ("", webdataset::read(&at, &mut notes)?),
        Layout::Folder(folder) => ("", folder::read(&folder, &mut notes)?),
    };
    let own = || path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let name = if name.is_empty() { own() } else { name.to_owned() };
    finish(path, name, items, notes)
}

/// Checks what holds of every dataset.
fn finish(
    source: &Path,
    name: String,
    items: Vec<DatasetItem>,
    notes: Notes,
) -> Result<Dataset, GalleryError> {
    if items.is_empty() {
        return Err(GalleryError::NoImages { path: source.to_owned() });
    }
    let mut ids = HashSet::with_capacity(items.len());
    let mut labels = HashSet::new();
    for item in &items {
        if !ids.insert(item.id.as_str()) {
            return Err(unusable(source, format!("the image {:?} is listed twice", item.id)));
        }
        labels.extend(item.labels.keys().map(String::as_str));
        if labels.len() > LABEL_LIMIT {
            let reason = format!("its images have more than {LABEL_LIMIT} different fields");
            return Err(unusable(source, reason));
        }
    }
    Ok(Dataset { name, source: source.to_owned(), items, notes: notes.into_sentences() })
}

/// An item without a split and labels.
fn item(id: String, image: ImageLocation, captions: Vec<Caption>) -> DatasetItem {
    DatasetItem { id, image, captions, split: None, labels: BTreeMap::new() }
}

fn caption(text: impl Into<String>) -> Caption {
    Caption { text: text.into(), level: None, id: None }
}

fn unusable(path: &Path, reason: impl Into<String>) -> GalleryError {
    GalleryError::Dataset { path: path.to_owned(), reason: reason.into() }
}

/// Files of a folder, sorted by name, at most [`ENTRY_LIMIT`]. Hidden ones are left out.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, GalleryError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(FileError::read(folder))? {
        let entry = entry.map_err(FileError::read(folder))?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if found.len() == ENTRY_LIMIT {
            return Err(unusable(folder, format!("it holds more than {ENTRY_LIMIT} files")));
        }
        found.push(entry.path());
    }
    found.sort();
    Ok(found)
}

/// Most files in one folder. COCO's largest has 83 thousand.
const ENTRY_LIMIT: usize = 10_000_000;

/// The name of a file, as text.
fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The name of a file without its ending, as text.
fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}
