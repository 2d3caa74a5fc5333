//! A dataset: images, and what is known about each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{GalleryError, ImageLocation, datasets};
use crate::files::FileError;

/// A caption of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    pub text: String,
    /// How unspecific the caption is, where the dataset says so: 0 is exact, larger is coarser.
    pub level: Option<u32>,
    /// Number that the dataset gives the caption, at most `i64::MAX`: the id of COCO's annotation,
    /// which is Karpathy's `sentid`.
    pub id: Option<u64>,
}

/// One image of a dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetItem {
    /// Path of the image below the image folder, with `/` between folders. Unique in a dataset.
    pub id: String,
    pub image: ImageLocation,
    /// In the dataset's order; images have none, one or many.
    pub captions: Vec<Caption>,
    /// `train`, `restval`, `val` or `test` where the dataset has splits. VSE++'s `testall` is the
    /// rest of the test split behind its first part `test`; CUB's `seen_test` are the images left
    /// out of its training classes.
    pub split: Option<String>,
    /// Further facts in the dataset's own words, such as a concept. `class` is the class where
    /// relevance goes by class (CUB, Flowers, and webdatasets with class labels).
    pub labels: BTreeMap<String, String>,
}

impl DatasetItem {
    /// Number that COCO gives the image (Karpathy's `cocoid`), where it is from there.
    pub fn coco_id(&self) -> Option<u64> {
        coco_id(&self.labels)
    }
}

/// COCO's number of an image with these labels; at most `i64::MAX`.
pub(crate) fn coco_id(labels: &BTreeMap<String, String>) -> Option<u64> {
    labels.get("cocoid")?.parse().ok().filter(|&id| i64::try_from(id).is_ok())
}

/// Images and what is known about each, in a fixed order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dataset {
    /// As the dataset calls itself, else the name of its folder.
    pub name: String,
    /// The folder or file that it was read from, absolute.
    pub source: PathBuf,
    pub items: Vec<DatasetItem>,
    /// What is odd about the files, and what was made of it: a sentence each, with counts.
    pub notes: Vec<String>,
}

impl Dataset {
    /// A dataset without notes.
    pub fn new(name: impl Into<String>, source: PathBuf, items: Vec<DatasetItem>) -> Self {
        Self { name: name.into(), source, items, notes: Vec::new() }
    }

    /// Reads what `path` holds: one of the [`LAYOUTS`](super::LAYOUTS), or a file of one
    /// (`dataset_coco.json`, `captions_val2014.json`, `results.csv`, `0.tar`).
    ///
    /// Whether the images exist is not checked here, because most people hold some splits only:
    /// see [`Dataset::with_splits`], [`Dataset::require_images`] and
    /// [`Dataset::without_missing_images`].
    ///
    /// # Errors
    /// When `path` is none of these, or holds no images, lists an image twice, or names images
    /// outside its folder.
    pub fn open(path: &Path) -> Result<Self, GalleryError> {
        let path = std::path::absolute(path).map_err(FileError::read(path))?;
        datasets::read(&path)
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
            .filter(|item| !item.image.exists())
            .map(|item| item.image.path())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let total = self.items.len();
        Err(GalleryError::MissingImages { dataset: self.source.clone(), total, missing })
    }

    /// Leaves out the items whose image file is missing, and says how many that were. A note keeps
    /// the number.
    ///
    /// # Errors
    /// When all are missing.
    pub fn without_missing_images(mut self) -> Result<(Self, usize), GalleryError> {
        let total = self.items.len();
        let mut first = None;
        let (kept, missing): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.items).into_iter().partition(|item| item.image.exists());
        if let Some(item) = missing.first() {
            first = Some(item.image.to_string());
        }
        if kept.is_empty() {
            let missing = missing.into_iter().map(|item| item.image.path()).collect();
            return Err(GalleryError::MissingImages { dataset: self.source, total, missing });
        }
        self.items = kept;
        if let Some(first) = first {
            let count = missing.len();
            self.notes.push(format!(
                "images that are missing on disk and were left out: {count} of {total} (first: \
                 {first})"
            ));
        }
        Ok((self, missing.len()))
    }

    /// Keeps the first `captions` captions of each image: five is the protocol of COCO and
    /// Flickr30k, of which some images have more.
    pub fn with_at_most(mut self, captions: usize) -> Self {
        for item in &mut self.items {
            item.captions.truncate(captions);
        }
        self
    }

    /// A BLAKE3 fingerprint over every item's id, size in bytes, captions, split and labels: tells
    /// whether an index is stale without reading a single image. An image replaced by another of
    /// the very same size goes unnoticed; a missing image counts as size 0. The ids of captions do
    /// not count: no embedding depends on them.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut field = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        for item in &self.items {
            field(item.id.as_bytes());
            field(&item.image.size().to_le_bytes());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn item(id: &str, split: Option<&str>) -> DatasetItem {
        DatasetItem {
            id: id.to_owned(),
            image: PathBuf::from("/nowhere").join(id).into(),
            captions: vec![Caption { text: "a thing".to_owned(), level: None, id: None }],
            split: split.map(str::to_owned),
            labels: BTreeMap::new(),
        }
    }

    fn dataset(items: Vec<DatasetItem>) -> Dataset {
        Dataset::new("test", PathBuf::from("/nowhere"), items)
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
    fn missing_images_are_left_out_and_counted_on_demand() {
        let folder = tempfile::tempdir().unwrap();
        let mut items: Vec<_> = (0..4).map(|i| item(&format!("{i}.png"), None)).collect();
        let path = folder.path().join("2.png");
        std::fs::write(&path, b"x").unwrap();
        items[2].image = path.into();
        let (kept, missing) = dataset(items.clone()).without_missing_images().unwrap();
        assert_eq!((kept.items.len(), missing), (1, 3));
        assert_eq!(kept.items[0].id, "2.png");
        assert!(kept.notes[0].contains("3 of 4") && kept.notes[0].contains("0.png"));
        let (same, missing) = kept.clone().without_missing_images().unwrap();
        assert_eq!((same, missing), (kept, 0));
        items.remove(2);
        let error = dataset(items).without_missing_images().unwrap_err();
        assert!(error.to_string().contains("3 of 3"), "{error}");
    }

    #[test]
    fn the_protocol_of_five_captions_keeps_the_first_five() {
        let mut items = vec![item("a", None), item("b", None)];
        let caption = |i: usize| Caption { text: i.to_string(), level: None, id: None };
        items[0].captions = (0..7).map(caption).collect();
        let five = dataset(items).with_at_most(5);
        assert_eq!(five.items[0].captions, (0..5).map(caption).collect::<Vec<_>>());
        assert_eq!(five.items[1].captions.len(), 1);
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
