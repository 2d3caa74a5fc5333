//! Where Haze keeps what it can make again, such as indexes of galleries.

use std::path::PathBuf;

use super::error::SessionError;
use crate::files::create_folder;

/// The cache folder, created if need be: `HAZE_CACHE`, else the system's place for caches.
///
/// # Errors
/// When there is no such place or it cannot be written.
pub fn folder() -> Result<PathBuf, SessionError> {
    let folder = location().ok_or(SessionError::NoCache)?;
    create_folder(&folder)?;
    // A folder that exists may still refuse files.
    tempfile::tempfile_in(&folder).map_err(crate::files::FileError::write(&folder))?;
    Ok(folder)
}

fn location() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(folder) = variable("HAZE_CACHE") {
        return Some(folder);
    }
    let base = if cfg!(target_os = "windows") {
        variable("LOCALAPPDATA")?
    } else if cfg!(target_os = "macos") {
        variable("HOME")?.join("Library/Caches")
    } else {
        variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?
    };
    Some(base.join("haze"))
}
