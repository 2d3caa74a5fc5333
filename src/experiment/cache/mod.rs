//! Files of cached embeddings, read as a [`PairStore`].
//!
//! In: a path. Out: image and text embeddings, mapped where the format allows it, and which belong
//! together. Whether they can be used is checked by [`EmbeddedPairs::new`]. Nothing here knows how
//! embeddings are made.
//!
//! | module | what it reads |
//! | --- | --- |
//! | `native` | caches that [`CacheWriter`] wrote for `haze embed --dataset` |
//! | `captioned` | stores in clip-retrieval's layout whose table has captions |
//! | `foreign` | `image.*` and `text.*` arrays of other tools, and a caption-to-image map |
//!
//! [`EmbeddedPairs::new`]: super::EmbeddedPairs::new

mod captioned;
mod foreign;
mod manifest;
mod native;
mod parts;
mod tables;
mod writer;

use std::path::Path;

pub use captioned::CaptionedImages;
pub use manifest::{Augmentation, CACHE_FILE, Manifest, SkippedItem};
pub use tables::{CaptionEntry, ImageEntry};
pub use writer::{CacheWriter, Embedded, Request};

use super::{ExperimentError, PairStore};

/// What a path holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A cache by Haze.
    Native,
    /// A store in clip-retrieval's layout.
    Captioned,
    /// `image.*` and `text.*` of other tools.
    Foreign,
}

impl Kind {
    /// Looks at the names of files only. `None` for anything else, such as a dataset of images.
    pub fn of(path: &Path) -> Option<Self> {
        if path.join(CACHE_FILE).is_file() {
            Some(Kind::Native)
        } else if path.join("img_emb").is_dir() {
            Some(Kind::Captioned)
        } else if foreign::is_foreign(path) {
            Some(Kind::Foreign)
        } else {
            None
        }
    }
}

/// Reads cached embeddings. `notes` gets what had to be assumed, a sentence each.
///
/// # Errors
/// When `path` is none of the formats above, is unfinished or damaged, its files do not belong
/// together, or it is a store without embeddings of its captions.
pub fn open(path: &Path, notes: &mut Vec<String>) -> Result<PairStore, ExperimentError> {
    match Kind::of(path) {
        Some(Kind::Native) => native::open(path),
        Some(Kind::Captioned) => CaptionedImages::open(path, notes)?.with_own_texts(),
        Some(Kind::Foreign) => foreign::open(path, notes),
        None => Err(ExperimentError::Cache {
            path: path.to_owned(),
            reason: format!(
                "no cached embeddings found; expected {CACHE_FILE} (made by `haze embed \
                 --dataset`), img_emb/ and metadata/ (clip-retrieval), or image and text arrays \
                 (npy, npz, safetensors or pt) with cap_id_to_img_id.json; embed a dataset of \
                 images by `haze embed --dataset {} --out CACHE`",
                path.display()
            ),
        }),
    }
}

/// An error about a cache.
fn unusable(path: &Path, reason: impl Into<String>) -> ExperimentError {
    ExperimentError::Cache { path: path.to_owned(), reason: reason.into() }
}

/// What a folder is called where it does not say.
fn name_of(path: &Path) -> String {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into())
}
