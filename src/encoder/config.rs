//! `config.json` of encoders: what all kinds have in common, read with the defaults of the class
//! and bounded before anything is allocated.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::activation::Activation;
use crate::model::config::{ConfigError, read_json};

/// Largest values that any published model comes near to.
const LAYERS_LIMIT: usize = 1024;
pub const WIDTH_LIMIT: usize = 1 << 16;
const FEED_FORWARD_LIMIT: usize = 1 << 18;
pub const VOCABULARY_LIMIT: usize = 1 << 24;
pub const POSITIONS_LIMIT: usize = 1 << 16;
const SIDE_LIMIT: usize = 4096;

/// What the transformers of all towers have in common.
#[derive(Debug, Clone, PartialEq)]
pub struct TransformerConfig {
    /// Width D of the residual stream.
    pub hidden_size: usize,
    /// Width of the feed-forward layers.
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub layer_norm_eps: f64,
    pub hidden_act: Activation,
}

/// How an image is cut into patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchGrid {
    /// Height and width of the images, in pixels.
    pub image_size: usize,
    /// Height and width of a patch, in pixels.
    pub patch_size: usize,
}

impl PatchGrid {
    /// Patches along one side.
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Patches N of an image.
    pub fn count(&self) -> usize {
        self.side() * self.side()
    }
}

/// A `config.json`, or an object in it, as it stands.
pub struct Source {
    path: PathBuf,
    json: Map<String, Value>,
}

impl Source {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// When it is missing or not a JSON object.
    pub fn open(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let json = read_json(&path)?;
        Ok(Self { path, json })
    }

    /// Takes an object out of the file; an empty one where the key is missing, so that everything
    /// in it takes its default.
    ///
    /// # Errors
    /// When the key is there and is no object.
    pub fn take(&mut self, key: &str) -> Result<Self, ConfigError> {
        let json = match self.json.remove(key) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(json)) => json,
            Some(other) => return Err(self.error(key, other, "an object")),
        };
        Ok(Self { path: self.path.clone(), json })
    }

    /// Sets a key that belongs to the object but stands elsewhere in the file.
    pub fn set(&mut self, key: &str, value: Value) {
        self.json.insert(key.to_owned(), value);
    }

    /// The value of a key; `None` when it is missing or null.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// The words of a key.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key).and_then(Value::as_str)
    }

    /// Shape of a transformer; `defaults` stand for what is missing.
    ///
    /// # Errors
    /// When a value is unknown or out of bounds.
    pub fn transformer(
        &self,
        defaults: &TransformerConfig,
    ) -> Result<TransformerConfig, ConfigError> {
        let hidden_size = self.size("hidden_size", defaults.hidden_size, WIDTH_LIMIT)?;
        let heads = self.size("num_attention_heads", defaults.num_attention_heads, WIDTH_LIMIT)?;
        self.check_heads("num_attention_heads", heads, hidden_size)?;
        Ok(TransformerConfig {
            hidden_size,
            intermediate_size: self
                .feed_forward("intermediate_size", defaults.intermediate_size)?,
            num_hidden_layers: self.layers("num_hidden_layers", defaults.num_hidden_layers)?,
            num_attention_heads: heads,
            layer_norm_eps: self.epsilon("layer_norm_eps", defaults.layer_norm_eps)?,
            hidden_act: self.activation(defaults.hidden_act)?,
        })
    }

    /// Number of layers, under the name the config has for it.
    pub fn layers(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        self.size(key, default, LAYERS_LIMIT)
    }

    /// Width of the feed-forward layers, under the name the config has for it.
    pub fn feed_forward(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        self.size(key, default, FEED_FORWARD_LIMIT)
    }

    /// Refuses heads that do not divide the width.
    pub fn check_heads(&self, key: &str, heads: usize, width: usize) -> Result<(), ConfigError> {
        if width.is_multiple_of(heads) {
            return Ok(());
        }
        Err(self.error(key, heads, format!("a divisor of the width, {width}")))
    }

    /// Images and patches; a config of another number of channels than three is refused.
    ///
    /// # Errors
    /// When a value is out of bounds, or no patch fits into the image.
    pub fn patch_grid(
        &self,
        image_size: usize,
        patch_size: usize,
    ) -> Result<PatchGrid, ConfigError> {
        let grid = PatchGrid {
            image_size: self.size("image_size", image_size, SIDE_LIMIT)?,
            patch_size: self.size("patch_size", patch_size, SIDE_LIMIT)?,
        };
        let channels = self.size("num_channels", 3, WIDTH_LIMIT)?;
        if channels != 3 {
            return Err(self.error("num_channels", channels, "3 (RGB)"));
        }
        if grid.side() == 0 {
            let expected = format!("at most image_size, {}", grid.image_size);
            return Err(self.error("patch_size", grid.patch_size, expected));
        }
        if grid.count() >= POSITIONS_LIMIT {
            let expected = format!("fewer than {POSITIONS_LIMIT} patches");
            return Err(self.error("image_size / patch_size", grid.side(), expected));
        }
        Ok(grid)
    }

    /// A small number that keeps a norm from dividing by zero.
    pub fn epsilon(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(eps) if eps > 0.0 && eps < 1.0 => Ok(eps),
                _ => Err(self.error(key, value, "a number between 0 and 1")),
            },
        }
    }

    fn activation(&self, default: Activation) -> Result<Activation, ConfigError> {
        match self.value("hidden_act") {
            None => Ok(default),
            Some(value) => value
                .as_str()
                .and_then(Activation::from_name)
                .ok_or_else(|| self.error("hidden_act", value, Activation::NAMES)),
        }
    }

    /// A whole number from 1 to `limit`.
    pub fn size(&self, key: &str, default: usize, limit: usize) -> Result<usize, ConfigError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| (1..=limit).contains(&n))
                .ok_or_else(|| self.error(key, value, format!("a whole number of 1 to {limit}"))),
        }
    }

    /// True or false.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.error(key, value, "true or false")),
        }
    }

    /// A value that Haze cannot use.
    pub fn error(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> ConfigError {
        ConfigError::value(&self.path, key, found, expected)
    }

    /// A config that stands in memory, for tests of its readers.
    #[cfg(test)]
    pub fn of(json: Value) -> Self {
        let Value::Object(json) = json else { panic!("not an object") };
        Self { path: PathBuf::from("config.json"), json }
    }
}
