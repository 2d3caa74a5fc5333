//! Reading the files of a tokenizer folder.

use std::path::Path;

use serde_json::Value;

use super::super::EncoderError;
use crate::files::read_bounded;
use crate::model::config::read_json;

const FILE_LIMIT: u64 = 64 << 20;

/// The bytes of one file.
pub fn read(path: &Path, what: &'static str) -> Result<Vec<u8>, EncoderError> {
    Ok(read_bounded(path, FILE_LIMIT, what)?)
}

/// A JSON file of the folder; null when it is not there.
pub fn optional_json(folder: &Path, name: &str) -> Result<Value, EncoderError> {
    let path = folder.join(name);
    Ok(if path.is_file() { read_json(&path)? } else { Value::Null })
}

/// The text of a special token as files write it: plain, or in an object with flags.
pub fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// The text of a special token by its role: `special_tokens_map.json` wins over
/// `tokenizer_config.json`.
pub fn special(folder: &Path, role: &str) -> Result<Option<String>, EncoderError> {
    for name in ["special_tokens_map.json", "tokenizer_config.json"] {
        if let Some(token) = content(&optional_json(folder, name)?[role]) {
            return Ok(Some(token.to_owned()));
        }
    }
    Ok(None)
}
