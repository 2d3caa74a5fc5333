use crate::adapter::AdapterError;
use crate::adapter::training::TrainingError;
use crate::distribution::DistributionError;
use crate::evaluation::EvaluationError;
use crate::gallery::GalleryError;

/// Why an experiment cannot be run, or failed.
#[derive(Debug, thiserror::Error)]
pub enum ExperimentError {
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Training(#[from] TrainingError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error(transparent)]
    Distribution(#[from] DistributionError),
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    /// The pairs are no usable data; says what, where, and what to do.
    #[error("the embedded pairs of {name} cannot be used: {reason}")]
    Data { name: String, reason: String },
    #[error("{what} is {found}, expected {expected}")]
    Setting { what: &'static str, found: String, expected: String },
    /// A method needs something that the cache does not hold.
    #[error("{method} needs {needs}, which {name} does not hold; {hint}")]
    Missing { method: String, needs: &'static str, name: String, hint: &'static str },
    #[error("cancelled")]
    Cancelled,
}
