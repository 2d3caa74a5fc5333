//! `config.json` of a diffusers model, read key by key: a missing key takes diffusers' default, a
//! value out of bounds or without support here is an error that names the file and the key.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::model::config::{ConfigError, read_json};

/// Bounds that every real model keeps by far; they stop a damaged config before it is allocated.
pub const CHANNELS: RangeInclusive<usize> = 1..=65_536;
/// Layers, blocks or heads in a row.
pub const COUNT: RangeInclusive<usize> = 1..=256;
/// Resolution levels: each halves the image.
const LEVELS: RangeInclusive<usize> = 1..=16;

/// The keys of one config file.
pub struct DiffusersConfig {
    path: PathBuf,
    keys: Map<String, Value>,
}

impl DiffusersConfig {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// When it is missing, too large or not a JSON object.
    pub fn open(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let keys = read_json(&path)?;
        Ok(Self { path, keys })
    }

    /// An error about the value of `key`.
    pub fn error(&self, key: &str, expected: impl Into<String>) -> ConfigError {
        let found = self.keys.get(key).map_or_else(|| "missing".to_owned(), Value::to_string);
        ConfigError::value(&self.path, key, found, expected)
    }

    /// An integer within bounds.
    ///
    /// # Errors
    /// When the value is no integer or out of bounds.
    pub fn integer(
        &self,
        key: &str,
        default: usize,
        bounds: RangeInclusive<usize>,
    ) -> Result<usize, ConfigError> {
        match self.keys.get(key) {
            None => Ok(default),
            Some(value) => integer(value, &bounds)
                .ok_or_else(|| self.error(key, format!("an integer in {bounds:?}"))),
        }
    }

    /// An integer within bounds, or nothing when the key is missing or null.
    ///
    /// # Errors
    /// When the value is no integer or out of bounds.
    pub fn optional_integer(
        &self,
        key: &str,
        bounds: RangeInclusive<usize>,
    ) -> Result<Option<usize>, ConfigError> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.integer(key, 0, bounds).map(Some),
        }
    }

    /// One integer for all levels, or a list with one for each.
    ///
    /// # Errors
    /// When the value is neither, or out of bounds.
    pub fn integer_per_level(
        &self,
        key: &str,
        default: usize,
        levels: usize,
        bounds: RangeInclusive<usize>,
    ) -> Result<Vec<usize>, ConfigError> {
        let expected =
            || format!("an integer in {bounds:?}, or a list of {levels} of them (one per level)");
        match self.keys.get(key) {
            None => Ok(vec![default; levels]),
            Some(Value::Array(list)) if list.len() == levels => list
                .iter()
                .map(|value| integer(value, &bounds).ok_or_else(|| self.error(key, expected())))
                .collect(),
            Some(value) => integer(value, &bounds)
                .map(|value| vec![value; levels])
                .ok_or_else(|| self.error(key, expected())),
        }
    }

    /// `block_out_channels`: how many levels there are and how wide each is.
    ///
    /// # Errors
    /// When it is no list of channel counts.
    pub fn level_channels(&self, default: &[usize]) -> Result<Vec<usize>, ConfigError> {
        let key = "block_out_channels";
        let expected = || format!("a list of {LEVELS:?} integers in {CHANNELS:?}");
        match self.keys.get(key) {
            None => Ok(default.to_vec()),
            Some(Value::Array(list)) if LEVELS.contains(&list.len()) => list
                .iter()
                .map(|value| integer(value, &CHANNELS).ok_or_else(|| self.error(key, expected())))
                .collect(),
            Some(_) => Err(self.error(key, expected())),
        }
    }

    /// A list with one of the `known` names for each level, as the indices of the names.
    ///
    /// # Errors
    /// When the list has another length or holds another name.
    pub fn name_per_level(
        &self,
        key: &str,
        default: &[usize],
        levels: usize,
        known: &[&str],
    ) -> Result<Vec<usize>, ConfigError> {
        let expected = || format!("a list of {levels} names out of {}", known.join(", "));
        match self.keys.get(key) {
            None if default.len() == levels => Ok(default.to_vec()),
            Some(Value::Array(list)) if list.len() == levels => list
                .iter()
                .map(|value| {
                    known
                        .iter()
                        .position(|name| value.as_str() == Some(name))
                        .ok_or_else(|| self.error(key, expected()))
                })
                .collect(),
            _ => Err(self.error(key, expected())),
        }
    }

    /// A finite number of at least `least`.
    ///
    /// # Errors
    /// When the value is no such number.
    pub fn number(&self, key: &str, default: f64, least: f64) -> Result<f64, ConfigError> {
        match self.keys.get(key) {
            None => Ok(default),
            Some(value) => value
                .as_f64()
                .filter(|number| *number >= least && number.is_finite())
                .ok_or_else(|| self.error(key, format!("a number of at least {least}"))),
        }
    }

    /// A finite number, or nothing when the key is missing or null.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn optional_number(&self, key: &str) -> Result<Option<f64>, ConfigError> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.number(key, 0.0, f64::MIN).map(Some),
        }
    }

    /// True or false.
    ///
    /// # Errors
    /// When the value is neither.
    pub fn boolean(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.keys.get(key) {
            None => Ok(default),
            Some(value) => {
                value.as_bool().ok_or_else(|| self.error(key, "true or false".to_owned()))
            }
        }
    }

    /// A string, or nothing when the key is missing or null.
    ///
    /// # Errors
    /// When the value is something else.
    pub fn optional_name(&self, key: &str) -> Result<Option<&str>, ConfigError> {
        match self.keys.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(name)) => Ok(Some(name)),
            Some(_) => Err(self.error(key, "a name or null".to_owned())),
        }
    }

    /// Refuses every value of `key` but `supported`. A missing key passes: the caller lists
    /// diffusers' default among the supported values.
    ///
    /// # Errors
    /// When the value is another one.
    pub fn require(&self, key: &str, supported: &[Value]) -> Result<(), ConfigError> {
        let same = |a: &Value, b: &Value| match (a.as_f64(), b.as_f64()) {
            (Some(a), Some(b)) => a == b,
            _ => a == b,
        };
        match self.keys.get(key) {
            Some(value) if !supported.iter().any(|known| same(known, value)) => {
                let names: Vec<String> = supported.iter().map(Value::to_string).collect();
                Err(self.error(key, format!("{} (no other is supported)", names.join(" or "))))
            }
            _ => Ok(()),
        }
    }
}

fn integer(value: &Value, bounds: &RangeInclusive<usize>) -> Option<usize> {
    let number = usize::try_from(value.as_u64()?).ok()?;
    bounds.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(json: &str) -> DiffusersConfig {
        let keys = serde_json::from_str(json).unwrap();
        DiffusersConfig { path: PathBuf::from("model/config.json"), keys }
    }

    #[test]
    fn a_missing_key_takes_the_default_and_null_does_not() {
        assert_eq!(config("{}").integer("layers_per_block", 2, COUNT).unwrap(), 2);
        let error = config(r#"{"layers_per_block": null}"#)
            .integer("layers_per_block", 2, COUNT)
            .unwrap_err()
            .to_string();
        assert!(error.contains("layers_per_block is null"), "{error}");
        assert!(error.contains("model/config.json"), "{error}");
    }

    #[test]
    fn one_integer_counts_for_every_level_and_a_list_must_fit() {
        let one = config(r#"{"heads": 8}"#).integer_per_level("heads", 1, 3, COUNT).unwrap();
        assert_eq!(one, [8, 8, 8]);
        let list = config(r#"{"heads": [5, 10, 20]}"#);
        assert_eq!(list.integer_per_level("heads", 1, 3, COUNT).unwrap(), [5, 10, 20]);
        assert!(list.integer_per_level("heads", 1, 4, COUNT).is_err());
        assert!(
            config(r#"{"heads": [5, [1], 20]}"#).integer_per_level("heads", 1, 3, COUNT).is_err()
        );
    }

    #[test]
    fn sizes_beyond_any_model_are_refused() {
        let huge = config(r#"{"block_out_channels": [320, 4000000000]}"#);
        assert!(huge.level_channels(&[64]).is_err());
        let many = format!(r#"{{"block_out_channels": {:?}}}"#, vec![1; 1000]);
        assert!(config(&many).level_channels(&[64]).is_err());
    }

    #[test]
    fn an_unsupported_value_is_named_and_numbers_compare_by_value() {
        let config = config(r#"{"act_fn": "mish", "scale": 1.0}"#);
        let error = config.require("act_fn", &["silu".into()]).unwrap_err().to_string();
        assert!(error.contains(r#"act_fn is "mish""#) && error.contains("silu"), "{error}");
        assert!(config.require("scale", &[1.into()]).is_ok());
        assert!(config.require("absent", &[1.into()]).is_ok());
    }
}
