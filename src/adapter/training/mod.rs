//! Training of adapters on cached embeddings.

mod optimizer;
mod options;
mod summary;

pub use optimizer::AdamOptimizer;
pub use options::{Schedule, TrainingOptions};
pub use summary::{Baselines, TrainingSummary};
