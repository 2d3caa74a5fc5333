//! Training of ProbVLM adapters on cached embeddings.
//!
//! In: rows of raw embeddings and which of them belong together. Out: the adapter with the best
//! held-out likelihood, and one event per batch and epoch on the way. Encoders, datasets and
//! progress bars are the caller's business.
//!
//! The two modalities of ProbVLM share no parameter, and its loss is a sum over them, so training
//! them one by one gives what training them together gives. Targets may be the input's own
//! modality, as in the paper, or the other one's: then the adapter predicts the distribution of
//! image embeddings for a text (or the reverse).

mod baseline;
mod batch;
pub mod calibration;
mod checkpoint;
mod data;
mod error;
mod event;
mod optimizer;
mod options;
mod run;
mod summary;

pub use baseline::{ConstantDensities, constant_densities};
pub use data::{Item, RowSource, Rows, TrainingData};
pub use error::TrainingError;
pub use event::{EpochRecord, TrainingEvent};
pub use optimizer::{AdamOptimizer, Moments};
pub use options::{Schedule, TrainingOptions};
pub(in crate::adapter) use run::order;
pub use run::{TrainingOutcome, TrainingRun};
pub use summary::{Baselines, TrainingSummary};

#[cfg(test)]
mod synthetic;
#[cfg(test)]
mod tests;
