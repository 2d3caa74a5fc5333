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
use crate::model::device_failure::{DeviceFailure, explain};
use crate::model::hub::HubError;
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
    Hub(#[from] HubError),
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
        "{what} {} does not exist, neither in the working folder nor in {}; {hub}",
        path.display(), assets.display()
    )]
    NotCached { what: &'static str, path: PathBuf, assets: PathBuf, hub: Box<HubError> },
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
    #[error("the device failed: {}", explain(.0))]
    DeviceFailed(String),
    #[error("an internal error ended the job: {0}; please report it with the command you ran")]
    Panic(String),
}

impl SessionError {
    /// What a panic with that text was: a device that says so in no other way, or a defect.
    pub fn of_panic(text: Option<String>) -> Self {
        let text = text.unwrap_or_else(|| "unknown cause".to_owned());
        match DeviceFailure::classify(&text) {
            Some(_) => SessionError::DeviceFailed(text),
            None => SessionError::Panic(text),
        }
    }

    /// Which known failure of a device this tells of, at whatever depth.
    pub fn device_failure(&self) -> Option<DeviceFailure> {
        match self {
            // Tells of it in its own words.
            SessionError::Decode(DecodeError::OutOfMemory { .. }) => {
                Some(DeviceFailure::OutOfMemory)
            }
            error => DeviceFailure::told_in(&error.to_string()),
        }
    }

    /// True when the job ended because it was asked to.
    pub fn is_cancelled(&self) -> bool {
        match self {
            SessionError::Cancelled => true,
            SessionError::Hub(error) => matches!(error, HubError::Cancelled),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::EncoderError;

    #[test]
    fn a_device_failure_is_known_below_any_error_and_a_defect_stays_one() {
        let raw = "Failed to read tensor: RecvError(())".to_owned();
        let encoder = EncoderError::Device { count: 3, reason: raw.clone() };
        for error in [
            SessionError::of_panic(Some(raw.clone())),
            SessionError::from(AdapterError::Device(raw.clone())),
            SessionError::from(DecodeError::Text(encoder)),
            SessionError::from(DecodeError::Device { batch_size: 2, reason: raw }),
        ] {
            assert_eq!(error.device_failure(), Some(DeviceFailure::LinkDropped), "{error}");
            assert!(error.to_string().contains("start the job again"), "{error}");
        }
        let defect = SessionError::of_panic(Some("index out of bounds".to_owned()));
        assert!(matches!(defect, SessionError::Panic(_)));
        assert_eq!(defect.device_failure(), None);
        assert!(matches!(SessionError::of_panic(None), SessionError::Panic(_)));
    }
}
