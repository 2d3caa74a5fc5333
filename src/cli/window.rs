//! `haze` without a command, and `haze demo` on a desktop: the window.

use std::path::Path;

use super::options::GlobalOptions;
use super::{Exit, exit};
use crate::app::launch::{self, AppOptions, WindowError};
use crate::model::device::DeviceChoice;
use crate::session::Assets;

/// Opens the window and waits until it is closed; `query` is run at once. With `screenshot` the
/// window closes by itself, once everything is shown and its picture is written there.
///
/// # Errors
/// When there are no assets, no display or no graphics adapter, or the window fails.
pub fn open(
    options: &GlobalOptions,
    query: Option<&str>,
    screenshot: Option<&Path>,
) -> anyhow::Result<Exit> {
    let app = AppOptions {
        // What was not asked for is left to the window's settings.
        device: Some(options.device.clone()).filter(|device| *device != DeviceChoice::Auto),
        query: query.map(str::to_owned),
        screenshot_to: screenshot.map(Path::to_owned),
        ..AppOptions::new(Assets::find(options.assets.as_deref())?)
    };
    launch::run(app)?;
    Ok(Exit::Success)
}

/// Whether an error says that this machine can show no window.
pub fn is_unavailable(error: &anyhow::Error) -> bool {
    error.downcast_ref::<WindowError>().is_some_and(WindowError::is_unavailable)
}

/// The error of a window that cannot be shown, with what works without one.
pub fn with_alternative(error: anyhow::Error) -> anyhow::Error {
    if !is_unavailable(&error) {
        return error;
    }
    exit::no_window(format!(
        "{error}; haze sample \"a slice of cake\" and haze demo --headless work without a window"
    ))
}
