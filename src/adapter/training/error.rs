use std::path::PathBuf;

use crate::adapter::AdapterError;
use crate::files::FileError;

/// Why a training run failed.
#[derive(Debug, thiserror::Error)]
pub enum TrainingError {
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("the training data cannot be used: {0}")]
    Data(String),
    #[error("{option} is {found}, expected {expected}")]
    Option { option: &'static str, found: String, expected: &'static str },
    #[error(
        "the loss became {loss} in epoch {epoch}, batch {batch} of {batches}; try a lower \
         learning rate or gradient clipping{}",
        match checkpoint {
            Some(path) => format!(" (the last checkpoint is kept in {})", path.display()),
            None => String::new(),
        }
    )]
    Diverged { epoch: usize, batch: usize, batches: usize, loss: f64, checkpoint: Option<PathBuf> },
    #[error("{}: not a usable checkpoint: {reason}", path.display())]
    Checkpoint { path: PathBuf, reason: String },
    #[error(
        "{}: is the checkpoint of another run ({what} differs); finish that run with its own \
         options and data, or delete the file to start over",
        path.display()
    )]
    OtherRun { path: PathBuf, what: &'static str },
}
