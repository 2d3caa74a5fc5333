//! Where Haze keeps what it can make again, such as indexes of galleries.

use std::path::PathBuf;

use super::error::SessionError;
use crate::files::{SystemPlace, create_folder};

/// The cache folder, created if need be: `HAZE_CACHE`, else the system's place for caches.
///
/// # Errors
/// When there is no such place or it cannot be written.
pub fn folder() -> Result<PathBuf, SessionError> {
    let folder = PLACE.folder().ok_or(SessionError::NoCache)?;
    create_folder(&folder)?;
    // A folder that exists may still refuse files.
    tempfile::tempfile_in(&folder).map_err(crate::files::FileError::write(&folder))?;
    Ok(folder)
}

const PLACE: SystemPlace = SystemPlace {
    own: "HAZE_CACHE",
    windows: "LOCALAPPDATA",
    macos: "Library/Caches",
    xdg: "XDG_CACHE_HOME",
    home: ".cache",
};
