//! Cached embeddings of images and captions, and which belong together.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::seq::SliceRandom;
use rayon::prelude::*;

use super::ExperimentError;
use super::retrieval::DEFAULT_LOGIT_SCALE;
use crate::adapter::training::{Item, Rows, TrainingData, TrainingError};
use crate::encoder::{Embedding, Modality};
use crate::gallery::EmbeddingRows;
use crate::random::{Stream, generator};

/// What is known about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFacts {
    /// Unique in a store: the path below the image folder, or an id of the dataset.
    pub id: String,
    /// `train`, `val`, `test`, `restval`...
    pub split: Option<Arc<str>>,
    /// Index of its class into [`PairStore::classes`], where relevance goes by class (CUB,
    /// Flowers).
    pub class: Option<u32>,
    /// Number that COCO gives the image, where it is from there.
    pub coco_id: Option<u64>,
}

/// One caption of one image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptionLink {
    /// Row of the caption's embedding; captions of equal words may share one.
    pub text: u32,
    /// The image: a row of the store, or in an [`EmbeddedPairs`] its position there.
    pub image: u32,
    /// How unspecific the caption is, where the dataset says so: 0 is exact.
    pub level: Option<u32>,
    /// Number that the dataset gives the caption, such as the id of COCO's annotation.
    pub id: Option<u64>,
}

/// Mean over dimensions of the variance over augmented copies, of unit embeddings: what TTDA
/// measures.
#[derive(Debug, Clone)]
pub struct AugmentationVariance {
    /// Copies of each item.
    pub passes: usize,
    /// One per image row.
    pub images: Vec<f32>,
    /// One per text row.
    pub texts: Vec<f32>,
}

/// Features just before an encoder's projection layers, which BayesVLM needs.
#[derive(Debug, Clone)]
pub struct PooledFeatures {
    /// `[N, Pv]`.
    pub images: EmbeddingRows,
    /// `[T, Pt]`.
    pub texts: EmbeddingRows,
}

/// A whole cache of embeddings, all splits.
#[derive(Debug, Clone)]
pub struct PairStore {
    /// What the data calls itself.
    pub name: String,
    /// `[N, D]`.
    pub images: EmbeddingRows,
    /// `[T, D]`.
    pub texts: EmbeddingRows,
    /// One per image row.
    pub facts: Vec<ImageFacts>,
    /// Every caption once; `image` is a row of `images`.
    pub captions: Vec<CaptionLink>,
    /// The words of each text row, where they are known.
    pub words: Option<Vec<Arc<str>>>,
    pub classes: Vec<String>,
    /// Fingerprint of the encoder, where known.
    pub encoder: Option<String>,
    /// The encoder's logit scale (the factor on cosines before a softmax), where known.
    pub logit_scale: Option<f64>,
    pub augmented: Option<AugmentationVariance>,
    pub pooled: Option<PooledFeatures>,
}

/// Some images of a [`PairStore`] and their captions. Cloning is cheap.
///
/// Images and captions have positions, 0 to their count, that say nothing about rows.
#[derive(Debug, Clone)]
pub struct EmbeddedPairs {
    store: Arc<PairStore>,
    /// Row of each image.
    images: Arc<[u32]>,
    /// `image` is a position in `images`; sorted by it.
    captions: Arc<[CaptionLink]>,
}

impl PairStore {
    /// Pairs of which nothing further is known.
    pub fn new(
        name: impl Into<String>,
        images: EmbeddingRows,
        texts: EmbeddingRows,
        facts: Vec<ImageFacts>,
        captions: Vec<CaptionLink>,
    ) -> Self {
        Self {
            name: name.into(),
            images,
            texts,
            facts,
            captions,
            words: None,
            classes: Vec::new(),
            encoder: None,
            logit_scale: None,
            augmented: None,
            pooled: None,
        }
    }
}

impl EmbeddedPairs {
    /// All pairs of a store.
    ///
    /// # Errors
    /// When there is no image or no caption, the dimensions of both sides differ, lists have
    /// lengths that do not fit, an id comes twice, a caption names a row that is not there, an
    /// image has no caption, some images have a class and some have none, or an embedding is not
    /// finite or all zeros.
    pub fn new(store: PairStore) -> Result<Self, ExperimentError> {
        check(&store)?;
        let images: Arc<[u32]> = (0..store.images.len() as u32).collect();
        let mut captions = store.captions.clone();
        captions.sort_by_key(|caption| caption.image);
        Ok(Self { store: Arc::new(store), images, captions: captions.into() })
    }

    /// All pairs of a store, with embeddings scaled to unit length, as the papers compare them.
    ///
    /// # Errors
    /// As [`EmbeddedPairs::new`].
    pub fn unit(mut store: PairStore) -> Result<Self, ExperimentError> {
        store.images = store.images.into_unit();
        store.texts = store.texts.into_unit();
        Self::new(store)
    }

    /// What the data calls itself.
    pub fn name(&self) -> &str {
        &self.store.name
    }

    /// The store that the pairs are of.
    pub fn store(&self) -> &PairStore {
        &self.store
    }

    /// The encoder's logit scale; CLIP's where the store names none.
    pub fn logit_scale(&self) -> f64 {
        self.store.logit_scale.unwrap_or(DEFAULT_LOGIT_SCALE)
    }

    /// Number of images N.
    pub fn image_count(&self) -> usize {
        self.images.len()
    }

    /// Number of captions M.
    pub fn caption_count(&self) -> usize {
        self.captions.len()
    }

    /// Number of items of a modality.
    pub fn count(&self, modality: Modality) -> usize {
        match modality {
            Modality::Image => self.image_count(),
            Modality::Text => self.caption_count(),
        }
    }

    /// Dimension D.
    pub fn dim(&self) -> usize {
        self.store.images.dim()
    }

    /// Number of images of each split; images without one are not counted.
    pub fn split_counts(&self) -> BTreeMap<&str, usize> {
        let mut counts = BTreeMap::new();
        for &row in self.images.iter() {
            if let Some(split) = self.store.facts[row as usize].split.as_deref() {
                *counts.entry(split).or_insert(0) += 1;
            }
        }
        counts
    }

    /// Keeps the images of the named splits and their captions.
    ///
    /// # Errors
    /// When a split has no image; names the splits there are.
    pub fn with_splits(&self, wanted: &[&str]) -> Result<Self, ExperimentError> {
        let counts = self.split_counts();
        for &split in wanted {
            if !counts.contains_key(split) {
                let found = match counts.is_empty() {
                    true => "no splits at all".to_owned(),
                    false => {
                        let list = counts.iter().map(|(s, n)| format!("{s} ({n} images)"));
                        list.collect::<Vec<_>>().join(", ")
                    }
                };
                return Err(self.unusable(format!("no image has split {split:?}; found {found}")));
            }
        }
        let split = |i: usize| self.store.facts[self.images[i] as usize].split.as_deref();
        let keep =
            (0..self.image_count()).filter(|&i| split(i).is_some_and(|s| wanted.contains(&s)));
        Ok(self.subset(&keep.collect::<Vec<_>>()))
    }

    /// The images at these positions, in this order, with all their captions.
    ///
    /// # Panics
    /// When a position is not below [`EmbeddedPairs::image_count`].
    pub fn subset(&self, positions: &[usize]) -> Self {
        let mut place = vec![u32::MAX; self.image_count()];
        for (new, &old) in positions.iter().enumerate() {
            place[old] = new as u32;
        }
        let mut captions: Vec<CaptionLink> = self
            .captions
            .iter()
            .filter(|c| place[c.image as usize] != u32::MAX)
            .map(|c| CaptionLink { image: place[c.image as usize], ..*c })
            .collect();
        captions.sort_by_key(|caption| caption.image);
        let images = positions.iter().map(|&i| self.images[i]).collect();
        Self { store: Arc::clone(&self.store), images, captions: captions.into() }
    }

    /// The captions at these positions and the images they belong to.
    ///
    /// # Panics
    /// When a position is not below [`EmbeddedPairs::caption_count`].
    pub fn with_captions(&self, positions: &[usize]) -> Self {
        let mut kept: Vec<CaptionLink> = positions.iter().map(|&j| self.captions[j]).collect();
        kept.sort_by_key(|caption| caption.image);
        let mut rows = Vec::new();
        let mut last = None;
        for caption in &mut kept {
            if last != Some(caption.image) {
                last = Some(caption.image);
                rows.push(self.images[caption.image as usize]);
            }
            caption.image = rows.len() as u32 - 1;
        }
        Self { store: Arc::clone(&self.store), images: rows.into(), captions: kept.into() }
    }

    /// Parts with a share of the images, and all their captions, in the second; chosen by `seed`.
    ///
    /// # Errors
    /// When one of the parts would be empty.
    pub fn hold_out(&self, share: f64, seed: u64) -> Result<(Self, Self), ExperimentError> {
        let held_out = (share * self.image_count() as f64).round() as usize;
        if !(0.0..1.0).contains(&share) || held_out == 0 || held_out >= self.image_count() {
            return Err(ExperimentError::Setting {
                what: "the share held out",
                found: share.to_string(),
                expected: format!(
                    "a share of {} images that leaves some on both sides",
                    self.image_count()
                ),
            });
        }
        let mut order: Vec<usize> = (0..self.image_count()).collect();
        order.shuffle(&mut generator(seed, Stream::Resampling, 0));
        let (second, first) = order.split_at_mut(held_out);
        first.sort_unstable();
        second.sort_unstable();
        Ok((self.subset(first), self.subset(second)))
    }

    /// The captions, those of one image next to each other, images in order.
    pub fn captions(&self) -> &[CaptionLink] {
        &self.captions
    }

    /// The image of each caption.
    pub fn image_of_caption(&self) -> Vec<usize> {
        self.captions.iter().map(|caption| caption.image as usize).collect()
    }

    /// Positions of the captions of an image.
    pub fn captions_of(&self, image: usize) -> std::ops::Range<usize> {
        let start = self.captions.partition_point(|c| (c.image as usize) < image);
        let end = self.captions.partition_point(|c| (c.image as usize) <= image);
        start..end
    }

    /// What is known about an image.
    pub fn facts(&self, image: usize) -> &ImageFacts {
        &self.store.facts[self.images[image] as usize]
    }

    /// Number that COCO gives an image, or a caption, where it is known.
    pub fn coco_id(&self, modality: Modality, position: usize) -> Option<u64> {
        match modality {
            Modality::Image => self.facts(position).coco_id,
            Modality::Text => self.captions[position].id,
        }
    }

    /// The words of a caption, where they are known.
    pub fn words(&self, caption: usize) -> Option<&str> {
        let words = self.store.words.as_ref()?;
        Some(&words[self.captions[caption].text as usize])
    }

    /// True when images have classes, and relevance goes by class.
    pub fn has_classes(&self) -> bool {
        self.store.facts.first().is_some_and(|facts| facts.class.is_some())
    }

    /// Row in the store of an item's embedding.
    pub fn row_of(&self, modality: Modality, position: usize) -> usize {
        match modality {
            Modality::Image => self.images[position] as usize,
            Modality::Text => self.captions[position].text as usize,
        }
    }

    /// All rows of a modality in the store.
    pub fn rows(&self, modality: Modality) -> &EmbeddingRows {
        match modality {
            Modality::Image => &self.store.images,
            Modality::Text => &self.store.texts,
        }
    }

    /// One raw embedding `[D]`.
    pub fn row(&self, modality: Modality, position: usize) -> Vec<f32> {
        self.rows(modality).row(self.row_of(modality, position))
    }

    /// One raw embedding.
    pub fn embedding(&self, modality: Modality, position: usize) -> Embedding {
        Embedding { values: self.row(modality, position), modality }
    }

    /// All raw embeddings of a modality, `[count, D]` row by row.
    pub fn matrix(&self, modality: Modality) -> Vec<f32> {
        let dim = self.dim();
        let mut out = vec![0f32; self.count(modality) * dim];
        out.par_chunks_mut(dim).enumerate().for_each(|(position, out)| {
            let row = self.row_of(modality, position);
            self.rows(modality).read(row..row + 1, dim, out);
        });
        out
    }

    /// Mean norm of the embeddings of a modality as they are stored, at most 10,000 of them, evenly
    /// spread.
    pub fn mean_raw_norm(&self, modality: Modality) -> f64 {
        let rows = self.rows(modality).clone().into_raw();
        let count = self.count(modality);
        let step = count.div_ceil(10_000).max(1);
        let positions: Vec<usize> = (0..count).step_by(step).collect();
        let length = |&at: &usize| crate::encoder::norm(&rows.row(self.row_of(modality, at)));
        positions.iter().map(length).sum::<f64>() / positions.len() as f64
    }

    /// What an adapter from `input` to `output` learns from: one item per caption. Within one
    /// modality the target is the input itself, and the paired embedding of the other modality is
    /// the crossed target (ProbVLM, arXiv 2307.00398, equations 6 to 8).
    ///
    /// # Errors
    /// As [`TrainingData::new`].
    pub fn training_data(
        &self,
        input: Modality,
        output: Modality,
    ) -> Result<TrainingData<'_>, TrainingError> {
        let rows = |modality| Rows::checked(self.rows(modality));
        let side = |modality, caption: &CaptionLink| match modality {
            Modality::Text => caption.text as usize,
            Modality::Image => self.images[caption.image as usize] as usize,
        };
        let items = self
            .captions
            .iter()
            .map(|caption| Item { input: side(input, caption), target: side(output, caption) });
        let data = TrainingData::new(rows(input), rows(output), items.collect())?;
        if input != output {
            return Ok(data);
        }
        let other = match input {
            Modality::Text => Modality::Image,
            Modality::Image => Modality::Text,
        };
        let crossed = self.captions.iter().map(|caption| side(other, caption)).collect();
        data.with_crossed(rows(other), crossed)
    }

    /// An error about these pairs.
    pub fn unusable(&self, reason: String) -> ExperimentError {
        ExperimentError::Data { name: self.store.name.clone(), reason }
    }
}

fn check(store: &PairStore) -> Result<(), ExperimentError> {
    let unusable = |reason: String| Err(ExperimentError::Data { name: store.name.clone(), reason });
    let (images, texts) = (store.images.len(), store.texts.len());
    if images == 0 || texts == 0 || store.captions.is_empty() {
        return unusable(format!(
            "{images} images, {texts} texts and {} captions; expected at least one of each",
            store.captions.len()
        ));
    }
    if images > u32::MAX as usize || texts > u32::MAX as usize {
        return unusable(format!("{images} images and {texts} texts are more than 2^32"));
    }
    if store.images.dim() != store.texts.dim() {
        return unusable(format!(
            "images have {} dimensions, texts {}; both must come from one encoder",
            store.images.dim(),
            store.texts.dim()
        ));
    }
    for (what, found, expected) in [
        ("image facts", store.facts.len(), images),
        ("texts in words", store.words.as_ref().map_or(texts, Vec::len), texts),
        ("image variances", store.augmented.as_ref().map_or(images, |a| a.images.len()), images),
        ("text variances", store.augmented.as_ref().map_or(texts, |a| a.texts.len()), texts),
        ("pooled images", store.pooled.as_ref().map_or(images, |p| p.images.len()), images),
        ("pooled texts", store.pooled.as_ref().map_or(texts, |p| p.texts.len()), texts),
    ] {
        if found != expected {
            return unusable(format!(
                "{found} {what} for {expected} rows; the files do not belong together"
            ));
        }
    }
    let mut captioned = vec![false; images];
    for (j, caption) in store.captions.iter().enumerate() {
        let (image, text) = (caption.image as usize, caption.text as usize);
        if image >= images || text >= texts {
            return unusable(format!(
                "caption {j} names image {image} of {images} and text {text} of {texts}"
            ));
        }
        captioned[image] = true;
    }
    if let Some(bare) = captioned.iter().position(|&c| !c) {
        return unusable(format!(
            "image {} ({bare}) has no caption; leave it out of the cache",
            store.facts[bare].id
        ));
    }
    let mut ids: Vec<&str> = store.facts.iter().map(|facts| facts.id.as_str()).collect();
    ids.sort_unstable();
    if let Some(twice) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return unusable(format!("the image id {:?} comes twice", twice[0]));
    }
    let with_class = store.facts.iter().filter(|facts| facts.class.is_some()).count();
    if with_class != 0 && with_class != images {
        return unusable(format!(
            "{with_class} of {images} images have a class; expected all of them or none"
        ));
    }
    let classes = store.classes.len();
    if let Some(facts) = store.facts.iter().find(|f| f.class.is_some_and(|c| c as usize >= classes))
    {
        return unusable(format!(
            "image {} has class {} of {classes}",
            facts.id,
            facts.class.unwrap_or_default()
        ));
    }
    for (what, rows) in [("image", &store.images), ("text", &store.texts)] {
        if let Some((row, problem)) = first_bad_row(rows) {
            return unusable(format!("{what} embedding {row} {problem}; embed it again"));
        }
    }
    Ok(())
}

/// The first row that is not finite or all zeros.
fn first_bad_row(rows: &EmbeddingRows) -> Option<(usize, &'static str)> {
    let dim = rows.dim();
    (0..rows.len())
        .into_par_iter()
        .map_init(
            || vec![0f32; dim],
            |values, row| {
                rows.read(row..row + 1, dim, values);
                if values.iter().any(|v| !v.is_finite()) {
                    Some((row, "is not finite"))
                } else if values.iter().all(|&v| v == 0.0) {
                    Some((row, "is all zeros"))
                } else {
                    None
                }
            },
        )
        .find_first(Option::is_some)
        .flatten()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Three images with two, one and two captions in two dimensions.
    pub(crate) fn small_store() -> PairStore {
        let rows = |values: &[f32]| EmbeddingRows::from_values(values.to_vec(), 2).unwrap();
        let facts = |id: &str, split: &str| ImageFacts {
            id: id.to_owned(),
            split: Some(split.into()),
            class: None,
            coco_id: None,
        };
        let link = |image, text| CaptionLink { image, text, level: None, id: None };
        PairStore::new(
            "small",
            rows(&[1.0, 0.0, 0.0, 1.0, -1.0, 0.5]),
            rows(&[1.0, 0.1, 0.9, 0.0, 0.0, 2.0, -1.0, 0.0]),
            vec![facts("a", "train"), facts("b", "test"), facts("c", "train")],
            vec![link(2, 3), link(0, 0), link(0, 1), link(1, 2), link(2, 0)],
        )
    }

    #[test]
    fn captions_stand_with_their_images_and_splits_keep_them_together() {
        let pairs = EmbeddedPairs::new(small_store()).unwrap();
        assert_eq!(pairs.image_of_caption(), [0, 0, 1, 2, 2]);
        assert_eq!(pairs.captions_of(2), 3..5);
        assert_eq!(pairs.row(Modality::Text, 3), [-1.0, 0.0]);
        let train = pairs.with_splits(&["train"]).unwrap();
        assert_eq!((train.image_count(), train.caption_count()), (2, 4));
        assert_eq!(train.facts(1).id, "c");
        assert_eq!(train.image_of_caption(), [0, 0, 1, 1]);
        assert_eq!(train.matrix(Modality::Image), [1.0, 0.0, -1.0, 0.5]);
        let error = pairs.with_splits(&["dev"]).unwrap_err().to_string();
        assert!(error.contains("test (1 images), train (2 images)"), "{error}");
        let some = pairs.with_captions(&[4, 0]);
        assert_eq!((some.image_count(), some.image_of_caption()), (2, vec![0, 1]));
    }

    #[test]
    fn held_out_images_take_their_captions_along() {
        let pairs = EmbeddedPairs::new(small_store()).unwrap();
        let (rest, held_out) = pairs.hold_out(0.34, 1).unwrap();
        assert_eq!((rest.image_count(), held_out.image_count()), (2, 1));
        assert_eq!(rest.caption_count() + held_out.caption_count(), 5);
        assert!(pairs.hold_out(0.1, 0).is_err() && pairs.hold_out(1.0, 0).is_err());
    }

    #[test]
    fn data_that_does_not_fit_together_is_refused_with_the_place() {
        let refused = |change: &dyn Fn(&mut PairStore), word: &str| {
            let mut store = small_store();
            change(&mut store);
            let error = EmbeddedPairs::new(store).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        let rows = |values: &[f32], dim| EmbeddingRows::from_values(values.to_vec(), dim).unwrap();
        refused(&|s| s.captions.clear(), "0 captions");
        refused(&|s| s.texts = rows(&[1.0, 2.0, 3.0], 3), "3");
        refused(&|s| s.facts.truncate(2), "2 image facts for 3");
        refused(&|s| s.captions[0].image = 9, "image 9 of 3");
        refused(&|s| s.captions.retain(|c| c.image != 1), "image b (1) has no caption");
        refused(&|s| s.facts[2].id = "a".to_owned(), "\"a\" comes twice");
        refused(&|s| s.facts[0].class = Some(0), "1 of 3 images have a class");
        refused(&|s| s.images = rows(&[1.0, 0.0, f32::NAN, 1.0, 1.0, 1.0], 2), "image embedding 1");
        refused(&|s| s.texts = rows(&[0.0; 8], 2), "text embedding 0 is all zeros");
    }
}
