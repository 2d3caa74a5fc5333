//! Images and their captions as pairs to train and check adapters with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::dataset::describe_splits;
use super::{EmbeddingRows, EmbeddingStore, GalleryError};

/// A caption of one image of a [`PairSet`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairCaption {
    /// Position of the image in the set.
    pub image: usize,
    pub text: String,
    /// How unspecific the caption is, where the store says so: 0 is exact.
    pub level: Option<u32>,
}

/// The image embeddings of a store with all captions of each image. Text embeddings are made from
/// [`PairSet::captions`] by whoever holds an encoder.
///
/// Rows are handed out with the norm that the store holds. Adapters for an unCLIP decoder need raw
/// norms, so their trainer should look at [`PairSet::is_normalised`].
#[derive(Debug, Clone)]
pub struct PairSet {
    folder: PathBuf,
    rows: EmbeddingRows,
    /// Row of each image of the set.
    images: Vec<usize>,
    splits: Vec<Option<Arc<str>>>,
    captions: Vec<PairCaption>,
}

impl PairSet {
    /// Reads a store in clip-retrieval's layout; its rows stay in their files.
    ///
    /// # Errors
    /// When it is no such store, or none of its images has a caption.
    pub fn open(folder: &Path) -> Result<Self, GalleryError> {
        let store = EmbeddingStore::open(folder)?;
        let mut splits = Vec::with_capacity(store.len());
        let mut names: BTreeMap<String, Arc<str>> = BTreeMap::new();
        let mut captions = Vec::new();
        store.for_each_metadata(|item| {
            let image = splits.len();
            splits.push(item.split.map(|split| match names.get(&split) {
                Some(name) => name.clone(),
                None => names.entry(split.clone()).or_insert(split.into()).clone(),
            }));
            captions.extend(item.captions.into_iter().map(|caption| PairCaption {
                image,
                text: caption.text,
                level: caption.level,
            }));
            Ok(())
        })?;
        if captions.is_empty() {
            return Err(GalleryError::NotAStore {
                path: folder.to_owned(),
                reason: "its table has no captions, so it holds no pairs; expected a column \
                         \"caption\" or \"captions\""
                    .to_owned(),
            });
        }
        Ok(Self {
            folder: folder.to_owned(),
            rows: store.image_rows().clone(),
            images: (0..store.len()).collect(),
            splits,
            captions,
        })
    }

    /// Keeps the images of one split and their captions.
    ///
    /// # Errors
    /// When no image has that split; names the splits there are.
    pub fn with_split(self, wanted: &str) -> Result<Self, GalleryError> {
        let mut position = vec![None; self.images.len()];
        let (mut images, mut splits) = (Vec::new(), Vec::new());
        for (i, split) in self.splits.iter().enumerate() {
            if split.as_deref() == Some(wanted) {
                position[i] = Some(images.len());
                images.push(self.images[i]);
                splits.push(split.clone());
            }
        }
        if images.is_empty() {
            return Err(GalleryError::NoSuchSplit {
                wanted: wanted.to_owned(),
                found: describe_splits(&self.split_counts()),
                path: self.folder,
            });
        }
        let moved = |caption: PairCaption| {
            position[caption.image].map(|image| PairCaption { image, ..caption })
        };
        let captions = self.captions.into_iter().filter_map(moved).collect();
        Ok(Self { images, splits, captions, ..self })
    }

    /// Number of images of each split; images without one are not counted.
    pub fn split_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for split in self.splits.iter().filter_map(Option::as_deref) {
            *counts.entry(split).or_insert(0) += 1;
        }
        counts
    }

    /// Number of images N.
    pub fn image_count(&self) -> usize {
        self.images.len()
    }

    /// Dimension D of the image embeddings.
    pub fn dim(&self) -> usize {
        self.rows.dim()
    }

    /// All captions, those of one image next to each other, images in order.
    pub fn captions(&self) -> &[PairCaption] {
        &self.captions
    }

    /// The split of an image, where it has one.
    ///
    /// # Panics
    /// When `image` is not below [`PairSet::image_count`].
    pub fn split(&self, image: usize) -> Option<&str> {
        self.splits[image].as_deref()
    }

    /// The embeddings of some images, `[images, D]` row by row.
    ///
    /// # Panics
    /// When an image is not below [`PairSet::image_count`].
    pub fn image_rows(&self, images: impl IntoIterator<Item = usize>) -> Vec<f32> {
        images.into_iter().flat_map(|image| self.rows.row(self.images[image])).collect()
    }

    /// The embeddings of all images, `[N, D]` row by row.
    pub fn all_image_rows(&self) -> Vec<f32> {
        self.image_rows(0..self.image_count())
    }

    /// True when the store holds unit rows, whose original norms are lost.
    pub fn is_normalised(&self) -> bool {
        self.rows.look_normalised()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::store::tests::write_part;

    fn demo() -> PairSet {
        PairSet::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/pairs")).unwrap()
    }

    #[test]
    fn the_bundled_pairs_are_raw_rows_with_captions_in_the_order_of_their_images() {
        let pairs = demo();
        assert!(!pairs.is_normalised());
        assert!(pairs.captions().iter().all(|caption| caption.level.is_some()));
        assert!(pairs.captions().is_sorted_by_key(|caption| caption.image));
        let last = pairs.captions().last().unwrap();
        assert_eq!(last.image + 1, pairs.image_count());
        assert_eq!(pairs.all_image_rows().len(), pairs.image_count() * pairs.dim());
    }

    #[test]
    fn splits_part_the_pairs_without_loss_and_keep_each_caption_with_its_image() {
        let pairs = demo();
        let counts = pairs.split_counts();
        assert_eq!(counts.values().sum::<usize>(), pairs.image_count());
        let (mut images, mut captions) = (0, 0);
        for &split in counts.keys() {
            let part = pairs.clone().with_split(split).unwrap();
            assert_eq!(part.image_count(), counts[split]);
            assert!((0..part.image_count()).all(|i| part.split(i) == Some(split)));
            let caption = &part.captions()[part.captions().len() / 2];
            let row = part.image_rows([caption.image]);
            let whole = pairs
                .captions()
                .iter()
                .any(|c| c.text == caption.text && pairs.image_rows([c.image]) == row);
            assert!(whole, "{caption:?} lost its image");
            images += part.image_count();
            captions += part.captions().len();
        }
        assert_eq!((images, captions), (pairs.image_count(), pairs.captions().len()));
        let error = pairs.with_split("nowhere").unwrap_err().to_string();
        assert!(error.contains("\"nowhere\"") && error.contains("train ("), "{error}");
    }

    #[test]
    fn a_store_without_captions_holds_no_pairs() {
        let folder = tempfile::tempdir().unwrap();
        write_part(folder.path(), "0", &[vec![1.0, 2.0]], &["a"]);
        let error = PairSet::open(folder.path()).unwrap_err();
        assert!(error.to_string().contains("no captions"));
    }
}
