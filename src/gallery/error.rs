use std::path::PathBuf;

use crate::files::FileError;

/// How many examples an error lists before it says "and N more".
const LISTED: usize = 5;

/// Why a dataset, a store or a search failed.
#[derive(Debug, thiserror::Error)]
pub enum GalleryError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: not a usable dataset: {reason}", path.display())]
    Dataset { path: PathBuf, reason: String },
    #[error(
        "{}: no images found; expected images (png, jpg, jpeg, webp, gif or bmp, searched \
         recursively), or one of the layouts that are known:\n{}",
        path.display(), super::LAYOUTS
    )]
    NoImages { path: PathBuf },
    #[error(
        "{}: {} of {total} images are missing: {}",
        dataset.display(), missing.len(), list(missing.iter().map(|p| p.display().to_string()))
    )]
    MissingImages { dataset: PathBuf, total: usize, missing: Vec<PathBuf> },
    #[error(
        "{}: the image name {name:?} leaves the image folder; only relative names without \"..\" \
         are read",
        path.display()
    )]
    UnsafeName { path: PathBuf, name: String },
    #[error("{}: no item has split {wanted:?}; found {found}", path.display())]
    NoSuchSplit { path: PathBuf, wanted: String, found: String },
    #[error("{}: not a store of embeddings: {reason}", path.display())]
    NotAStore { path: PathBuf, reason: String },
    #[error("{}: not a usable npy file of embeddings: {reason}", path.display())]
    Npy { path: PathBuf, reason: String },
    #[error("{}: cannot read the parquet table: {reason}", path.display())]
    Metadata { path: PathBuf, reason: String },
    #[error(
        "{} has {found} rows, but {} has {expected}; row i of one describes row i of the other, \
         so the two files do not belong together",
        path.display(), other.display()
    )]
    RowCount { path: PathBuf, found: usize, other: PathBuf, expected: usize },
    #[error("{what} has {found} dimensions, expected {expected}: it comes from another model")]
    Dimension { what: String, found: usize, expected: usize },
    #[error("{what} holds a value that is not a finite number")]
    NotFinite { what: String },
    #[error("item {id} does not exist: the gallery has {count} items")]
    NoSuchItem { id: usize, count: usize },
    #[error("there are no samples to rank")]
    NoSamples,
    #[error("the embedding of a batch of {batch} images failed: {source}")]
    Encoder { batch: usize, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("none of the {} images could be used: {}", reasons.len(), list(reasons.iter().cloned()))]
    AllSkipped { reasons: Vec<String> },
    #[error("cancelled; nothing was written")]
    Cancelled,
}

impl GalleryError {
    pub(crate) fn npy(path: &std::path::Path, reason: impl Into<String>) -> Self {
        GalleryError::Npy { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn metadata(path: &std::path::Path, reason: impl std::fmt::Display) -> Self {
        GalleryError::Metadata { path: path.to_owned(), reason: reason.to_string() }
    }
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let shown = items.take(LISTED).collect::<Vec<_>>().join(", ");
    if more == 0 { shown } else { format!("{shown}, and {more} more") }
}
