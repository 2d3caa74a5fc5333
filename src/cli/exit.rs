//! Exit codes, the same for every command.

use std::process::ExitCode;

use crate::adapter::AdapterError;
use crate::adapter::training::TrainingError;
use crate::app::launch::WindowError;
use crate::app::trace::TraceError;
use crate::decoder::DecodeError;
use crate::encoder::EncoderError;
use crate::experiment::ExperimentError;
use crate::experiment::annotation::AnnotationError;
use crate::export::arrays::ArrayError;
use crate::export::folder::OutputError;
use crate::export::metadata::SheetError;
use crate::files::FileError;
use crate::model::hub::HubError;
use crate::model::inspect::InspectError;
use crate::session::SessionError;

/// What a script can tell from how Haze ended. Documented in the README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Success = 0,
    /// A defect in Haze.
    Internal = 1,
    /// The command line or a query is not usable as it stands.
    Usage = 2,
    /// An input file is missing, damaged, or does not fit the others.
    Input = 3,
    /// The device or the computation failed.
    Compute = 4,
    /// The result could not be written.
    Output = 5,
    /// A check was made and failed: `verify` with failed cases, `replay` that differs.
    CheckFailed = 6,
    /// No window can be opened: no display, or no graphics adapter.
    NoWindow = 7,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// The exit code of an error, found in its chain of causes.
pub fn of(error: &anyhow::Error) -> Exit {
    for cause in error.chain() {
        if let Some(error) = cause.downcast_ref::<SessionError>() {
            return of_session(error);
        }
        if let Some(error) = cause.downcast_ref::<OutputError>() {
            return match error {
                OutputError::File(error) => of_file(error),
                OutputError::Exists { .. } | OutputError::NotAResult { .. } => Exit::Output,
            };
        }
        if cause.is::<SheetError>() || cause.is::<ArrayError>() || cause.is::<InspectError>() {
            return Exit::Input;
        }
        if let Some(error) = cause.downcast_ref::<AnnotationError>() {
            return match error {
                AnnotationError::File(error) => of_file(error),
                AnnotationError::Ending { .. } => Exit::Usage,
                AnnotationError::Answers { .. } | AnnotationError::Whole { .. } => Exit::Input,
            };
        }
        if let Some(error) = cause.downcast_ref::<HubError>() {
            return of_hub(error);
        }
        if let Some(error) = cause.downcast_ref::<FileError>() {
            return of_file(error);
        }
        if cause.is::<UsageError>() {
            return Exit::Usage;
        }
        if cause.is::<NoWindowError>() || cause.is::<WindowError>() {
            return Exit::NoWindow;
        }
        if let Some(error) = cause.downcast_ref::<TraceError>() {
            return match error {
                TraceError::Window(_) => Exit::NoWindow,
                TraceError::Closed => Exit::Interrupted,
                TraceError::Failed(_) => Exit::Compute,
            };
        }
    }
    Exit::Internal
}

fn of_file(error: &FileError) -> Exit {
    if error.is_write() { Exit::Output } else { Exit::Input }
}

fn of_hub(error: &HubError) -> Exit {
    match error {
        HubError::Name { .. }
        | HubError::Pattern { .. }
        | HubError::Variant { .. }
        | HubError::NothingSelected { .. }
        | HubError::LicenceNotAccepted { .. } => Exit::Usage,
        HubError::Disk { .. } => Exit::Output,
        HubError::File(error) => of_file(error),
        HubError::Cancelled => Exit::Interrupted,
        _ => Exit::Input,
    }
}

fn of_session(error: &SessionError) -> Exit {
    if error.is_cancelled() {
        return Exit::Interrupted;
    }
    match error {
        SessionError::OutOfRange { .. } => Exit::Usage,
        SessionError::Device(_) | SessionError::DeviceFailed(_) | SessionError::Distribution(_) => {
            Exit::Compute
        }
        // A device that failed below an encoder, an adapter or an experiment.
        error if error.device_failure().is_some() => Exit::Compute,
        SessionError::Encoder(EncoderError::Device { .. })
        | SessionError::Adapter(AdapterError::Device(_)) => Exit::Compute,
        SessionError::Decode(
            DecodeError::Device { .. }
            | DecodeError::OutOfMemory { .. }
            | DecodeError::NotFinite { .. }
            | DecodeError::PriorNotFinite { .. },
        ) => Exit::Compute,
        SessionError::Decode(DecodeError::Option { .. } | DecodeError::NoiseLevel { .. }) => {
            Exit::Usage
        }
        SessionError::Training(TrainingError::Option { .. })
        | SessionError::Experiment(ExperimentError::Setting { .. }) => Exit::Usage,
        SessionError::Experiment(ExperimentError::Training(TrainingError::Option { .. })) => {
            Exit::Usage
        }
        SessionError::Training(TrainingError::Diverged { .. }) => Exit::Compute,
        SessionError::Hub(error) => of_hub(error),
        SessionError::Panic(_) => Exit::Internal,
        SessionError::File(error) | SessionError::Experiment(ExperimentError::File(error)) => {
            of_file(error)
        }
        _ => Exit::Input,
    }
}

/// The command line asks for something that cannot be done as written.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// Shorthand for an error about the command line.
pub fn usage(message: impl Into<String>) -> anyhow::Error {
    UsageError(message.into()).into()
}

/// No window can be opened; says what works without one.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoWindowError(pub String);

/// Shorthand for an error about a window that cannot be opened.
pub fn no_window(message: impl Into<String>) -> anyhow::Error {
    NoWindowError(message.into()).into()
}
