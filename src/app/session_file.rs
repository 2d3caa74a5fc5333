//! A session on disk: queries as recipes, what is shown, and the layout.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::layout::SavedLayout;
use super::state::State;
use super::state::form::QueryForm;
use super::state::history::EntryId;
use super::state::jobs::JobKind;
use crate::files::{FileError, read_bounded, write_atomic};
use crate::session::recipe::Recipe;

/// Raised when a field changes its meaning.
const SCHEMA: u32 = 1;
/// A larger file is no session.
const FILE_LIMIT: u64 = 64 << 20;

/// A session without pictures: they are decoded again, to the same pixels, from the recipes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedSession {
    haze_session: u32,
    pub form: QueryForm,
    pub entries: Vec<SavedEntry>,
    pub current: Option<EntryId>,
    pub compared: Option<EntryId>,
    /// Queries whose decoding waited or ran.
    pub queue: Vec<EntryId>,
    pub layout: SavedLayout,
}

/// One query.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SavedEntry {
    pub id: EntryId,
    pub recipe: Recipe,
    pub pinned: bool,
    pub asked: SystemTime,
}

/// Why a session could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SessionFileError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: not a saved session of Haze: {reason}", path.display())]
    NotASession { path: PathBuf, reason: String },
    #[error(
        "{}: the session has version {found}, this version of Haze reads version {SCHEMA}; open it \
         with the version that saved it",
        path.display()
    )]
    Version { path: PathBuf, found: u64 },
    #[error("{}: the session is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

impl SessionFileError {
    /// Whether the file is a session at all, if one that cannot be used.
    pub fn is_a_session(&self) -> bool {
        matches!(self, Self::Version { .. } | Self::Damaged { .. })
    }
}

impl SavedSession {
    /// What is worth keeping of a state.
    pub fn of(state: &State, layout: SavedLayout) -> Self {
        let entries = state.history.iter().map(|entry| SavedEntry {
            id: entry.id,
            recipe: entry.recipe.clone(),
            pinned: entry.pinned,
            asked: entry.asked,
        });
        let queue = state.jobs.iter().filter(|job| job.kind == JobKind::Decode);
        Self {
            haze_session: SCHEMA,
            form: state.form.clone(),
            entries: entries.collect(),
            current: state.current,
            compared: state.compared,
            queue: queue.filter_map(|job| job.entry).collect(),
            layout,
        }
    }

    /// Reads a session.
    ///
    /// # Errors
    /// When the file is missing, too large, no session, of another version or damaged.
    pub fn load(path: &Path) -> Result<Self, SessionFileError> {
        let bytes = read_bounded(path, FILE_LIMIT, "a session file")?;
        let not_a_session =
            |reason: String| SessionFileError::NotASession { path: path.to_owned(), reason };
        let json: serde_json::Value =
            serde_json::from_slice(&bytes).map_err(|e| not_a_session(e.to_string()))?;
        let found = json
            .get("haze_session")
            .and_then(serde_json::Value::as_u64)
            .ok_or_else(|| not_a_session("it has no field haze_session".to_owned()))?;
        if found != u64::from(SCHEMA) {
            return Err(SessionFileError::Version { path: path.to_owned(), found });
        }
        serde_json::from_value(json).map_err(|error| SessionFileError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }

    /// Writes the session, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        write_atomic(path, |file| {
            serde_json::to_writer_pretty(&mut *file, self)?;
            file.write_all(b"\n")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::layout::default_tree;

    fn session() -> SavedSession {
        SavedSession {
            haze_session: SCHEMA,
            form: QueryForm { text: "a café".to_owned(), ..QueryForm::default() },
            entries: Vec::new(),
            current: Some(EntryId(3)),
            compared: None,
            queue: vec![EntryId(3)],
            layout: SavedLayout::of(&default_tree(1280.0)),
        }
    }

    #[test]
    fn a_session_comes_back_as_it_was_saved() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.json");
        session().save(&path).unwrap();
        let loaded = SavedSession::load(&path).unwrap();
        assert_eq!(loaded.form, session().form);
        assert_eq!((loaded.current, loaded.queue.clone()), (Some(EntryId(3)), vec![EntryId(3)]));
        assert!(loaded.layout.into_tree().is_some());
    }

    #[test]
    fn another_version_and_a_cut_file_are_refused_and_left_as_they_were() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.json");
        session().save(&path).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replacen("\"haze_session\": 1", "\"haze_session\": 9", 1))
            .unwrap();
        let error = SavedSession::load(&path).unwrap_err();
        assert!(matches!(error, SessionFileError::Version { found: 9, .. }), "{error}");
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        let error = SavedSession::load(&path).unwrap_err();
        assert!(matches!(error, SessionFileError::NotASession { .. }));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text[..text.len() / 2]);
    }
}
