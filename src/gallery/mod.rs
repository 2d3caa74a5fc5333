//! Datasets of images and captions, stores of their embeddings, and exact search in them.
//!
//! In comes a folder: images, one of the data sets that papers use ([`LAYOUTS`]), or a
//! clip-retrieval store of embeddings.
//! Out go ranked hits per query, and over the samples of an embedding distribution the
//! distribution of every item's rank. Nothing here knows how embeddings are made: the encoder is
//! a closure that [`build_index`] calls.
//!
//! ```text
//! Dataset ──build_index──► EmbeddingStore ──image_rows──► ExactSearch ──► hits, RankDistribution
//!                          (a folder)
//! ```

mod build;
mod caption_index;
mod dataset;
mod datasets;
mod dot;
mod error;
mod image_location;
mod metadata;
pub(crate) mod npy;
mod pairs;
mod rank_distribution;
mod rows;
mod search;
mod store;
mod store_writer;

pub use build::{BuildOptions, BuildReport, SkippedImage, build_index};
pub use caption_index::{CaptionIndex, same_caption};
pub(crate) use dataset::coco_id;
pub use dataset::{Caption, Dataset, DatasetItem};
pub use datasets::{LAYOUTS, Layout};
pub use error::GalleryError;
pub use image_location::ImageLocation;
pub use metadata::ItemMetadata;
pub(crate) use metadata::read_footer;
pub use pairs::{PairCaption, PairSet};
pub use rank_distribution::{Interval, ItemRanks, RankDistribution, RankOptions, wilson};
pub use rows::EmbeddingRows;
pub use search::{ExactSearch, Hit, Placement};
pub use store::{EmbeddingStore, IndexInfo, SourceRef};
pub use store_writer::StoreWriter;
