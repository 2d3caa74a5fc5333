//! Where the bundled models, galleries and adapters are found.
//!
//! A *bundle* is a folder with any of `clip/`, `unclip/`, `gallery/`, `pairs/` and `adapters/`.
//! The demo bundle `demo/` is one; any other folder in that layout works the same way.

use std::path::{Path, PathBuf};

use super::error::SessionError;

/// The folder that holds bundles, in the order of search: the one the user named, next to the
/// executable, then the source tree.
#[derive(Debug, Clone)]
pub struct Assets {
    root: PathBuf,
}

impl Assets {
    /// Finds the assets folder.
    ///
    /// # Errors
    /// When the named folder does not exist, or none is found; lists where it looked.
    pub fn find(named: Option<&Path>) -> Result<Self, SessionError> {
        if let Some(root) = named {
            if root.is_dir() {
                return Ok(Self { root: root.to_owned() });
            }
            return Err(SessionError::NoAssets { looked: vec![root.to_owned()] });
        }
        let mut looked = Vec::new();
        if let Ok(executable) = std::env::current_exe()
            && let Some(folder) = executable.parent()
        {
            looked.push(folder.join("assets"));
            looked.push(folder.join("../share/haze"));
        }
        looked.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"));
        match looked.iter().find(|folder| folder.is_dir()) {
            Some(root) => Ok(Self { root: root.clone() }),
            None => Err(SessionError::NoAssets { looked }),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path as the user wrote it: absolute, relative to the working folder, or in the assets.
    ///
    /// # Errors
    /// When it exists in none of these places.
    pub fn resolve(&self, path: &Path, what: &'static str) -> Result<PathBuf, SessionError> {
        if path.exists() {
            return Ok(path.to_owned());
        }
        let inside = self.root.join(path);
        if path.is_relative() && inside.exists() {
            return Ok(inside);
        }
        Err(SessionError::NotFound { what, path: path.to_owned(), assets: self.root.clone() })
    }
}
