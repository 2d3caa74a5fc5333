//! Experiments on cached embeddings: every method at equal budget, scored on the same queries.
//!
//! In: [`EmbeddedPairs`] of images and captions, split into training, validation and test. Out: a
//! [`Report`] with recall by the frozen embeddings, and for every method how well its uncertainty
//! knows when retrieval is wrong. Only [`cache`] and [`annotation`] know of files; nothing here knows of encoders or
//! windows.
//!
//! | module | what |
//! | --- | --- |
//! | [`density`] | how far an embedding lies from those of training |
//! | [`cache`] | the files that pairs are read from |
//! | [`pairs`] | cached embeddings and which belong together |
//! | `plausible` | scores by matches that people judged |
//! | [`method`] | the methods that are compared |
//! | [`retrieval`] | ranks and confidences by the frozen embeddings |
//! | [`methods`] | how each is fitted |
//! | [`run`] | the experiment itself |
//! | [`report`] | what comes out |
//! | [`uncertainty`] | variances in unit space, which encoders and items may be compared by |
//! | [`active`] | active learning: which images are worth a label |
//! | [`annotation`] | items to label, out as files, and the answers back |
//! | [`selection`] | which of several models fits unlabelled data |
//! | [`shift`] | every data set as source and as target |
//! | [`overlap`] | two sets under one item's density |

pub mod active;
pub mod annotation;
pub mod cache;
pub mod density;
mod error;
mod likelihood;
pub mod method;
pub mod methods;
pub mod overlap;
pub mod pairs;
mod plausible;
pub mod report;
pub mod retrieval;
pub mod run;
pub mod selection;
pub mod shift;
pub mod uncertainty;

pub use density::{KnnDensity, MahalanobisDensity};
pub use error::ExperimentError;
pub use method::{FittedMethod, Method, Scores};
pub use pairs::{EmbeddedPairs, PairStore};
pub use report::Report;
pub use retrieval::{Direction, Retrieval};
pub use run::{Experiment, Progress, TestSet};

#[cfg(test)]
pub(crate) mod tests;
