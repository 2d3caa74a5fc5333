//! What can go wrong in a session, and the exit code that tells a script which kind it was.

use std::path::PathBuf;

use crate::adapter::AdapterError;
use crate::adapter::training::TrainingError;
use crate::decoder::DecodeError;
use crate::distribution::DistributionError;
use crate::encoder::EncoderError;
use crate::evaluation::EvaluationError;
use crate::experiment::ExperimentError;
use crate::files::FileError;
use crate::gallery::GalleryError;
use crate::model::config::ConfigError;
use crate::model::device::DeviceError;
use crate::query::QueryError;
use crate::session::projection::ProjectionError;

/// Why a job ended without its result.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Query(#[from] QueryError),
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    #[error(transparent)]
    Training(#[from] TrainingError),
    #[error(transparent)]
    Distribution(#[from] DistributionError),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Gallery(#[from] GalleryError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Projection(#[from] ProjectionError),
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    #[error("{what} is {found}, expected {expected}")]
    OutOfRange { what: &'static str, found: String, expected: String },
    #[error("{origin}: not a recipe that can be used: {reason}")]
    Recipe { origin: String, reason: String },
    #[error(
        "no assets folder found (looked in {}); name it by --assets or HAZE_ASSETS",
        list(looked)
    )]
    NoAssets { looked: Vec<PathBuf> },
    #[error(
        "{what} {} does not exist, neither in the working folder nor in {}",
        path.display(), assets.display()
    )]
    NotFound { what: &'static str, path: PathBuf, assets: PathBuf },
    #[error(
        "the bundle {} has no adapter for {what}; train one with haze train, or name one with \
         --adapter",
        bundle.display()
    )]
    NoAdapter { bundle: PathBuf, what: String },
    #[error("no place for a cache on this system; set HAZE_CACHE to a writable folder")]
    NoCache,
    #[error("{0}")]
    Mismatch(String),
    #[error("cancelled")]
    Cancelled,
    #[error("an internal error ended the job: {0}; please report it with the command you ran")]
    Panic(String),
}

impl SessionError {
    /// True when the job ended because it was asked to.
    pub fn is_cancelled(&self) -> bool {
        match self {
            SessionError::Cancelled => true,
            SessionError::Decode(error) => matches!(error, DecodeError::Cancelled),
            SessionError::Gallery(error) => matches!(error, GalleryError::Cancelled),
            SessionError::Experiment(error) => matches!(error, ExperimentError::Cancelled),
            _ => false,
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
}
