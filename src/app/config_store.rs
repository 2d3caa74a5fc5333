//! Where settings and the running session are kept.

use std::path::{Path, PathBuf};

use super::session_file::SavedSession;
use super::state::settings::Settings;
use crate::files::{CONFIG, FileError, create_folder, read_bounded, write_atomic};

const SETTINGS: &str = "settings.json";
const SESSION: &str = "session.json";
/// Larger settings are not ours.
const SETTINGS_LIMIT: u64 = 1 << 20;

/// The configuration folder.
#[derive(Debug, Clone)]
pub struct ConfigStore {
    folder: PathBuf,
}

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum ConfigStoreError {
    #[error("this system has no place for settings; set HAZE_CONFIG to a writable folder")]
    NoPlace,
    #[error(transparent)]
    File(#[from] FileError),
}

impl ConfigStore {
    /// The folder `HAZE_CONFIG`, else the system's place for configuration; created if need be.
    ///
    /// # Errors
    /// When there is no such place or it cannot be made.
    pub fn open() -> Result<Self, ConfigStoreError> {
        Self::at(CONFIG.folder().ok_or(ConfigStoreError::NoPlace)?)
    }

    fn at(folder: PathBuf) -> Result<Self, ConfigStoreError> {
        create_folder(&folder)?;
        Ok(Self { folder })
    }

    /// The settings, and what was wrong with a damaged file, which is set aside.
    pub fn settings(&self) -> (Settings, Option<String>) {
        let path = self.folder.join(SETTINGS);
        if !path.exists() {
            return (Settings::default(), None);
        }
        let read = read_bounded(&path, SETTINGS_LIMIT, "settings").map_err(|e| e.to_string());
        let parsed = read.and_then(|bytes| {
            serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))
        });
        match parsed {
            Ok(settings) => (settings, None),
            Err(reason) => {
                let aside = set_aside(&path);
                (Settings::default(), Some(format!("{reason}; {aside}, defaults are used")))
            }
        }
    }

    /// The session that was open last. A file of another version or a damaged one is set aside.
    pub fn autosave(&self) -> Option<SavedSession> {
        let path = self.folder.join(SESSION);
        if !path.exists() {
            return None;
        }
        match SavedSession::load(&path) {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::warn!("{error}; {}", set_aside(&path));
                None
            }
        }
    }

    /// Keeps settings and session, each file whole or not at all.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn keep(&self, settings: &Settings, session: &SavedSession) -> Result<(), FileError> {
        write_atomic(&self.folder.join(SETTINGS), |file| {
            Ok(serde_json::to_writer_pretty(file, settings)?)
        })?;
        session.save(&self.folder.join(SESSION))
    }
}

fn set_aside(path: &Path) -> String {
    let aside = path.with_extension("json.damaged");
    match std::fs::rename(path, &aside) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it could not be set aside ({error})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_settings_are_set_aside_and_defaults_used() {
        let folder = tempfile::tempdir().unwrap();
        let store = ConfigStore::at(folder.path().to_owned()).unwrap();
        std::fs::write(folder.path().join(SETTINGS), "{ rubbish").unwrap();
        let (settings, problem) = store.settings();
        assert_eq!(settings, Settings::default());
        assert!(problem.unwrap().contains("damaged"));
        assert!(folder.path().join("settings.json.damaged").exists());
    }

    #[test]
    fn settings_of_an_older_version_keep_what_they_have() {
        let folder = tempfile::tempdir().unwrap();
        let store = ConfigStore::at(folder.path().to_owned()).unwrap();
        std::fs::write(folder.path().join(SETTINGS), r#"{"previews": false}"#).unwrap();
        let (settings, problem) = store.settings();
        assert!(problem.is_none());
        assert_eq!(settings, Settings { previews: false, ..Settings::default() });
    }
}
