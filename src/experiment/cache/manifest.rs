//! `cache.json`: what a cache was made from and how far it got.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::unusable;
use crate::experiment::ExperimentError;
use crate::files::write_atomic;
use crate::gallery::SourceRef;
use crate::model::config::read_json;

/// The file that makes a folder a cache.
pub const CACHE_FILE: &str = "cache.json";
/// Raised when a field changes its meaning.
const SCHEMA: u32 = 1;
const OVERWRITE: &str = "embed it again into another folder, or into this one with --overwrite";

/// The content of `cache.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Format version of this file.
    pub schema: u32,
    /// Version of Haze that began the cache.
    pub haze: String,
    /// What the dataset calls itself.
    pub name: String,
    /// The hash is [`crate::gallery::Dataset::fingerprint`] of the chosen splits.
    pub dataset: SourceRef,
    /// The hash is over the files of the encoder's folder.
    pub encoder: SourceRef,
    /// The splits that were embedded; empty for all items, with and without a split.
    pub splits: Vec<String>,
    /// Dimension D of the embeddings.
    pub dim: usize,
    /// Type of the embeddings: `float16`, raw and not normalised.
    pub dtype: String,
    /// The factor on cosines before a softmax.
    pub logit_scale: f64,
    /// Augmented copies whose spread was measured.
    pub augmentation: Option<Augmentation>,
    /// Whether the features before the projections are there.
    pub pooled: bool,
    /// True once nothing is missing.
    pub complete: bool,
    /// Rows of images, of distinct texts, and captions; of a complete cache.
    pub images: usize,
    pub texts: usize,
    pub captions: usize,
    /// The parts that are done, in order.
    pub image_parts: Vec<PartInfo>,
    pub text_parts: Vec<PartInfo>,
    /// Items of the dataset that were left out because they have no caption.
    pub without_caption: usize,
    /// Items with captions that could not be used.
    pub skipped: Vec<SkippedItem>,
}

/// How copies of items were made for TTDA.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Augmentation {
    /// Copies of each item, at least 2.
    pub passes: usize,
    /// Share of words masked, 0 to 1.
    pub masked_share: f64,
    pub seed: u64,
}

/// One part: file number i of every array of its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartInfo {
    /// Items that it went through, skipped ones included.
    pub items: usize,
    pub rows: usize,
}

/// An item that is not in the cache, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedItem {
    /// Position in the dataset.
    pub item: usize,
    pub id: String,
    pub reason: String,
}

impl Manifest {
    /// A cache of which nothing is done yet.
    pub(super) fn new(name: String, dataset: SourceRef, encoder: SourceRef, dim: usize) -> Self {
        Self {
            schema: SCHEMA,
            haze: env!("CARGO_PKG_VERSION").to_owned(),
            name,
            dataset,
            encoder,
            splits: Vec::new(),
            dim,
            dtype: "float16".to_owned(),
            logit_scale: 0.0,
            augmentation: None,
            pooled: false,
            complete: false,
            images: 0,
            texts: 0,
            captions: 0,
            image_parts: Vec::new(),
            text_parts: Vec::new(),
            without_caption: 0,
            skipped: Vec::new(),
        }
    }

    /// Reads the manifest of a cache, finished or not.
    ///
    /// # Errors
    /// When there is none, it is damaged, or another version of the format.
    pub fn read(folder: &Path) -> Result<Self, ExperimentError> {
        let manifest: Self = read_json(&folder.join(CACHE_FILE))?;
        if manifest.schema != SCHEMA {
            let reason = format!(
                "{CACHE_FILE} has schema {}, this version of Haze reads {SCHEMA}; {OVERWRITE}",
                manifest.schema
            );
            return Err(unusable(folder, reason));
        }
        if manifest.dim == 0 || manifest.dtype != "float16" {
            let reason = format!(
                "{CACHE_FILE} says {} dimensions of {}, expected at least one of float16; \
                 {OVERWRITE}",
                manifest.dim, manifest.dtype
            );
            return Err(unusable(folder, reason));
        }
        Ok(manifest)
    }

    pub(super) fn write(&self, folder: &Path) -> Result<(), ExperimentError> {
        Ok(write_atomic(&folder.join(CACHE_FILE), |file| {
            serde_json::to_writer_pretty(file, self).map_err(io::Error::other)
        })?)
    }

    /// Checks that the cache was made by the encoder with this hash.
    ///
    /// # Errors
    /// When it was not; says so and what to do.
    pub fn require_encoder(&self, folder: &Path, hash: &str) -> Result<(), ExperimentError> {
        if self.encoder.hash == hash {
            return Ok(());
        }
        Err(stale(
            folder,
            format!(
                "the encoder changed (it was made by {} with hash {}, now the hash is {})",
                self.encoder.path.display(),
                short(&self.encoder.hash),
                short(hash)
            ),
        ))
    }

    /// Checks that the cache was made from a dataset with this fingerprint.
    ///
    /// # Errors
    /// When it was not; says so and what to do.
    pub fn require_dataset(&self, folder: &Path, hash: &str) -> Result<(), ExperimentError> {
        if self.dataset.hash == hash {
            return Ok(());
        }
        Err(stale(
            folder,
            format!(
                "the dataset {} changed (its fingerprint was {}, now it is {})",
                self.dataset.path.display(),
                short(&self.dataset.hash),
                short(hash)
            ),
        ))
    }

    /// Items of the dataset that the image parts went through.
    pub fn image_items_done(&self) -> usize {
        self.image_parts.iter().map(|part| part.items).sum()
    }

    /// Distinct texts that are done.
    pub fn texts_done(&self) -> usize {
        self.text_parts.iter().map(|part| part.items).sum()
    }
}

/// A cache that does not fit what it is to be used with.
pub(super) fn stale(folder: &Path, changed: String) -> ExperimentError {
    ExperimentError::Stale { path: folder.to_owned(), changed, hint: OVERWRITE }
}

fn short(hash: &str) -> String {
    hash.chars().take(12).collect()
}
