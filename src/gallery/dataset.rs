//! A dataset: images, and what is known about each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::GalleryError;
use super::{image_folder, karpathy};
use crate::files::FileError;

/// A caption of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    pub text: String,
    /// How unspecific the caption is, where the dataset says so: 0 is exact, larger is coarser.
    pub level: Option<u32>,
}

/// One image of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetItem {
    /// Path of the image below the image folder, with `/` between folders. Unique in a dataset.
    pub id: String,
    /// The image file, absolute.
    pub image: PathBuf,
    pub captions: Vec<Caption>,
    /// `train`, `val`, `test`, `restval`..., where the dataset has splits.
    pub split: Option<String>,
    /// Further facts in the dataset's own words, such as a class or a concept.
    pub labels: BTreeMap<String, String>,
}

/// Images and what is known about each, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// As the dataset calls itself, else the name of its folder.
    pub name: String,
    /// The folder or file that it was read from, absolute.
    pub source: PathBuf,
    pub items: Vec<DatasetItem>,
}

impl Dataset {
    /// Reads what `path` holds: a Karpathy json file, a folder with `dataset.json` (or one
    /// `dataset_*.json`), or a folder of images, searched recursively.
    ///
    /// Whether the images of a Karpathy file exist is not checked here, because most people hold
    /// some splits only: see [`Dataset::with_splits`] and [`Dataset::require_images`].
    ///
    /// # Errors
    /// When `path` is none of these, or holds no images, or names images outside its folder.
    pub fn open(path: &Path) -> Result<Self, GalleryError> {
        let path = std::path::absolute(path).map_err(FileError::read(path))?;
        let kind = std::fs::metadata(&path).map_err(FileError::read(&path))?;
        if kind.is_file() {
            return karpathy::read(&path);
        }
        if let Some(json) = find_json(&path)? {
            return karpathy::read(&json);
        }
        if path.join("img_emb").is_dir() {
            return Err(GalleryError::Dataset {
                path,
                reason: "it is a store of embeddings; give it as the gallery instead".to_owned(),
            });
        }
        image_folder::read(&path)
    }

    /// Keeps the items of the named splits. Karpathy's COCO protocol trains on `train` and
    /// `restval` together.
    ///
    /// # Errors
    /// When no item has one of them; names the splits there are.
    pub fn with_splits(mut self, wanted: &[&str]) -> Result<Self, GalleryError> {
        let counts = self.split_counts();
        for &split in wanted {
            if !counts.contains_key(split) {
                return Err(GalleryError::NoSuchSplit {
                    path: self.source.clone(),
                    wanted: split.to_owned(),
                    found: describe_splits(&counts),
                });
            }
        }
        self.items.retain(|item| item.split.as_deref().is_some_and(|s| wanted.contains(&s)));
        Ok(self)
    }

    /// Number of items of each split; items without one are not counted.
    pub fn split_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for split in self.items.iter().filter_map(|item| item.split.as_deref()) {
            *counts.entry(split).or_insert(0) += 1;
        }
        counts
    }

    /// Checks that every image file exists.
    ///
    /// # Errors
    /// Lists the first missing ones and counts them.
    pub fn require_images(&self) -> Result<(), GalleryError> {
        let missing: Vec<_> = self
            .items
            .iter()
            .filter(|item| !item.image.is_file())
            .map(|item| item.image.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let total = self.items.len();
        Err(GalleryError::MissingImages { dataset: self.source.clone(), total, missing })
    }

    /// A BLAKE3 fingerprint over every item's id, size in bytes, captions, split and labels: tells
    /// whether an index is stale without reading a single image. An image replaced by another of
    /// the very same size goes unnoticed; a missing image counts as size 0.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for item in &self.items {
            field(item.id.as_bytes());
            let size = std::fs::metadata(&item.image).map_or(0, |m| m.len());
            field(&size.to_le_bytes());
            field(&(item.captions.len() as u64).to_le_bytes());
            for caption in &item.captions {
                field(caption.text.as_bytes());
                field(&caption.level.map_or(-1, i64::from).to_le_bytes());
            }
            // A marker apart from every split name keeps "no split" and "" different.
            field(item.split.as_ref().map_or(&[0xff], |split| split.as_bytes()));
            field(&(item.labels.len() as u64).to_le_bytes());
            for (name, value) in &item.labels {
                field(name.as_bytes());
                field(value.as_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// "test (741), train (4915)", or "no splits at all".
pub(super) fn describe_splits(counts: &BTreeMap<&str, usize>) -> String {
    if counts.is_empty() {
        return "no splits at all".to_owned();
    }
    counts.iter().map(|(split, n)| format!("{split} ({n})")).collect::<Vec<_>>().join(", ")
}

/// `dataset.json`, else the only `dataset_*.json` (Karpathy's own names: `dataset_coco.json`).
fn find_json(folder: &Path) -> Result<Option<PathBuf>, GalleryError> {
    let plain = folder.join("dataset.json");
    if plain.is_file() {
        return Ok(Some(plain));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(FileError::read(folder))? {
        let name = entry.map_err(FileError::read(folder))?.file_name();
        let text = name.to_string_lossy();
        if text.starts_with("dataset_") && text.ends_with(".json") {
            found.push(folder.join(&name));
        }
    }
    found.sort();
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(|p| p.display().to_string()).collect();
        return Err(GalleryError::Dataset {
            path: folder.to_owned(),
            reason: format!("it holds several datasets, name one of {}", names.join(", ")),
        });
    }
    Ok(found.pop())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, split: Option<&str>) -> DatasetItem {
        DatasetItem {
            id: id.to_owned(),
            image: PathBuf::from("/nowhere").join(id),
            captions: vec![Caption { text: "a thing".to_owned(), level: None }],
            split: split.map(str::to_owned),
            labels: BTreeMap::new(),
        }
    }

    fn dataset(items: Vec<DatasetItem>) -> Dataset {
        Dataset { name: "test".to_owned(), source: PathBuf::from("/nowhere"), items }
    }

    #[test]
    fn splits_select_items_and_an_unknown_split_names_those_there_are() {
        let set = dataset(vec![
            item("a", Some("train")),
            item("b", Some("restval")),
            item("c", None),
            item("d", Some("test")),
        ]);
        let train = set.clone().with_splits(&["train", "restval"]).unwrap();
        assert_eq!(train.items.iter().map(|i| i.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let error = set.with_splits(&["dev"]).unwrap_err().to_string();
        assert!(error.contains("\"dev\"") && error.contains("restval (1), test (1), train (1)"));
    }

    #[test]
    fn the_bundled_gallery_opens_with_all_images_captions_and_levels() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/gallery");
        let gallery = Dataset::open(&folder).unwrap();
        gallery.require_images().unwrap();
        let has_levels = |item: &DatasetItem| item.captions.iter().all(|c| c.level.is_some());
        assert!(gallery.items.iter().all(|item| !item.captions.is_empty() && has_levels(item)));
        assert_eq!(gallery.split_counts().values().sum::<usize>(), gallery.items.len());
    }

    #[test]
    fn missing_images_are_counted_and_the_first_ones_named() {
        let set = dataset((0..9).map(|i| item(&format!("{i}.png"), None)).collect());
        let error = set.require_images().unwrap_err().to_string();
        assert!(error.contains("9 of 9"), "{error}");
        assert!(error.contains("0.png") && error.contains("4.png") && !error.contains("5.png"));
        assert!(error.contains("and 4 more"));
    }

    #[test]
    fn the_fingerprint_changes_with_every_fact_about_an_item() {
        let base = dataset(vec![item("a", None), item("b", None)]);
        let mut changed = vec![base.clone(); 5];
        changed[0].items[0].captions[0].text.push('!');
        changed[1].items[0].captions[0].level = Some(0);
        changed[2].items[1].split = Some(String::new());
        changed[3].items[1].labels.insert("concept".to_owned(), "thing".to_owned());
        changed[4].items.swap(0, 1);
        let mut prints: Vec<_> = changed.iter().map(Dataset::fingerprint).collect();
        prints.push(base.fingerprint());
        assert_eq!(base.fingerprint(), base.clone().fingerprint());
        prints.sort();
        prints.dedup();
        assert_eq!(prints.len(), 6);
    }
}
