//! Stores in clip-retrieval's layout whose table has captions.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::manifest::stale;
use super::{name_of, tables, unusable};
use crate::experiment::pairs::{CaptionLink, ImageFacts};
use crate::experiment::{ExperimentError, PairStore};
use crate::gallery::{EmbeddingRows, EmbeddingStore, coco_id};

/// The image rows of a store with the captions of each, of which the embeddings may be missing.
#[derive(Debug, Clone)]
pub struct CaptionedImages {
    folder: PathBuf,
    images: EmbeddingRows,
    /// One text row per image, where the store has them.
    own_texts: Option<EmbeddingRows>,
    facts: Vec<ImageFacts>,
    classes: Vec<String>,
    links: Vec<CaptionLink>,
    /// Every distinct caption once.
    words: Vec<Arc<str>>,
    encoder: Option<String>,
}

impl CaptionedImages {
    /// Reads a store; image rows stay in their files. `notes` gets what had to be assumed.
    ///
    /// # Errors
    /// When it is no such store, or none of its images has a caption.
    pub fn open(folder: &Path, notes: &mut Vec<String>) -> Result<Self, ExperimentError> {
        let store = EmbeddingStore::open(folder)?;
        let (mut facts, mut links, mut words) = (Vec::new(), Vec::new(), Vec::new());
        let mut text_of: HashMap<String, u32> = HashMap::new();
        let mut splits: BTreeMap<String, Arc<str>> = BTreeMap::new();
        let mut classes = Vec::new();
        store.for_each_metadata(|mut item| {
            let image = facts.len() as u32;
            for caption in item.captions {
                let text = *text_of.entry(caption.text).or_insert_with_key(|text| {
                    words.push(Arc::from(text.as_str()));
                    words.len() as u32 - 1
                });
                links.push(CaptionLink { image, text, level: caption.level, id: caption.id });
            }
            let split = item.split.map(|split| {
                Arc::clone(splits.entry(split.clone()).or_insert_with(|| split.into()))
            });
            classes.push(item.labels.remove("class"));
            let id = item.image_path.unwrap_or_else(|| format!("{image}"));
            let coco_id = coco_id(&item.labels);
            facts.push(ImageFacts { id, split, class: None, coco_id });
            Ok(())
        })?;
        if links.is_empty() {
            return Err(unusable(
                folder,
                "its table has no captions, so it holds no pairs; expected a column \"caption\" or \
                 \"captions\"",
            ));
        }
        let names = tables::numbered(classes.iter().filter_map(Option::as_deref));
        for (facts, class) in facts.iter_mut().zip(&classes) {
            facts.class = class.as_deref().map(|class| names[class]);
        }
        if store.image_rows().look_normalised() {
            notes.push(format!(
                "{}: its image rows have unit norm; the norms that an unCLIP decoder needs are \
                 lost",
                folder.display()
            ));
        }
        Ok(Self {
            folder: folder.to_owned(),
            images: store.image_rows().clone(),
            own_texts: store.text_rows().cloned(),
            classes: names.keys().map(|&name| name.to_owned()).collect(),
            facts,
            links,
            words,
            encoder: store.info().map(|info| info.encoder.hash.clone()),
        })
    }

    /// Every distinct caption once, in the order that text rows must have.
    pub fn texts(&self) -> &[Arc<str>] {
        &self.words
    }

    /// The image embeddings `[N, D]`, row by row.
    pub fn image_values(&self) -> Vec<f32> {
        let (count, dim) = (self.images.len(), self.images.dim());
        let mut values = vec![0f32; count * dim];
        self.images.read(0..count, dim, &mut values);
        values
    }

    /// Dimension D of the image rows.
    pub fn dim(&self) -> usize {
        self.images.dim()
    }

    /// Whether the store holds an embedding for each image's one caption.
    pub fn has_texts(&self) -> bool {
        self.own_texts.is_some()
    }

    /// Checks that the image rows were made by the encoder with this hash, where the store says by
    /// which they were.
    ///
    /// # Errors
    /// When it was another.
    pub fn require_encoder(&self, hash: &str) -> Result<(), ExperimentError> {
        match &self.encoder {
            Some(made_by) if made_by != hash => Err(stale(
                &self.folder,
                "its image rows were made by another encoder than the one for its captions"
                    .to_owned(),
            )),
            _ => Ok(()),
        }
    }

    /// The pairs with embeddings of [`CaptionedImages::texts`], row by row.
    pub fn with_texts(
        self,
        texts: EmbeddingRows,
        encoder: Option<String>,
        logit_scale: Option<f64>,
    ) -> PairStore {
        PairStore {
            words: Some(self.words),
            classes: self.classes,
            encoder,
            logit_scale,
            ..PairStore::new(name_of(&self.folder), self.images, texts, self.facts, self.links)
        }
    }

    /// The pairs with the store's own text rows, one per image.
    ///
    /// # Errors
    /// When it has none, or an image has not exactly one caption.
    pub fn with_own_texts(self) -> Result<PairStore, ExperimentError> {
        let Some(texts) = self.own_texts.clone() else {
            return Err(unusable(
                &self.folder,
                "its captions have no embeddings; give the encoder of its images with --encoder, \
                 or embed the dataset by `haze embed --dataset`",
            ));
        };
        let one_each = self.links.len() == self.images.len()
            && self.links.iter().enumerate().all(|(i, link)| link.image as usize == i);
        if !one_each {
            return Err(unusable(
                &self.folder,
                format!(
                    "text_emb/ has one row per image, but {} images have {} captions; remove \
                     text_emb/ and give the encoder with --encoder",
                    self.images.len(),
                    self.links.len()
                ),
            ));
        }
        let words = self.links.iter().map(|link| self.words[link.text as usize].clone()).collect();
        let links =
            self.links.iter().map(|link| CaptionLink { text: link.image, ..*link }).collect();
        let encoder = self.encoder.clone();
        Ok(Self { words, links, ..self }.with_texts(texts, encoder, None))
    }
}
