//! Experiments on cached embeddings: every method at equal budget, scored on the same queries.
//!
//! In: [`EmbeddedPairs`] of images and captions, split into training, validation and test. Out: a
//! [`Report`] with recall by the frozen embeddings, and for every method how well its uncertainty
//! knows when retrieval is wrong. Nothing here knows of encoders, files or windows.
//!
//! | module | what |
//! | --- | --- |
//! | [`pairs`] | cached embeddings and which belong together |
//! | [`method`] | the methods that are compared |
//! | [`retrieval`] | ranks and confidences by the frozen embeddings |
//! | [`report`] | what comes out |

mod error;
pub mod method;
pub mod pairs;
pub mod report;
pub mod retrieval;

pub use error::ExperimentError;
pub use method::{FittedMethod, Method, Scores};
pub use pairs::{EmbeddedPairs, PairStore};
pub use report::Report;
pub use retrieval::{Direction, Retrieval};
