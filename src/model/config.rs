//! JSON config files of Hugging Face model folders, read within bounds.

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::files::{FileError, read_bounded};

/// Config files are a few kilobytes; tokenizers a few megabytes.
const JSON_LIMIT: u64 = 64 << 20;

/// Why a config could not be used. Always names the file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: not a valid config: {source}", path.display())]
    Parse { path: PathBuf, source: serde_json::Error },
    #[error("{}: {key} is {found}, expected {expected}", path.display())]
    Value { path: PathBuf, key: String, found: String, expected: String },
}

impl ConfigError {
    /// A value that is well formed but that Haze cannot use.
    pub fn value(
        path: &Path,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        ConfigError::Value {
            path: path.to_owned(),
            key: key.to_owned(),
            found: found.to_string(),
            expected: expected.into(),
        }
    }
}

/// Reads and parses one JSON file.
///
/// # Errors
/// When it is missing, too large, not JSON, or lacks or mistypes a field of `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let bytes = read_bounded(path, JSON_LIMIT, "a JSON file")?;
    serde_json::from_slice(&bytes)
        .map_err(|source| ConfigError::Parse { path: path.to_owned(), source })
}
