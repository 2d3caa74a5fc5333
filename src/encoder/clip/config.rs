//! `config.json` of CLIP models, with the defaults of `CLIPTextConfig` and `CLIPVisionConfig` of
//! transformers, bounded before anything is allocated.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::Activation;
use crate::model::config::{ConfigError, read_json};

/// Largest values that any published model comes near to.
const LAYERS_LIMIT: usize = 1024;
const WIDTH_LIMIT: usize = 1 << 16;
const FEED_FORWARD_LIMIT: usize = 1 << 18;
const VOCABULARY_LIMIT: usize = 1 << 24;
const POSITIONS_LIMIT: usize = 1 << 16;
const SIDE_LIMIT: usize = 4096;

/// What the transformers of both towers have in common.
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

/// The text tower.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipTextConfig {
    pub transformer: TransformerConfig,
    pub vocab_size: usize,
    /// Most tokens that a text can have.
    pub max_position_embeddings: usize,
    /// End-of-text id. The value 2 stands in old configs whatever the real id is, and selects the
    /// old pooling rule (see [`super::ClipTextModel`]).
    pub eos_token_id: u32,
    /// Dimension of the shared space.
    pub projection_dim: usize,
}

/// The vision tower.
#[derive(Debug, Clone, PartialEq)]
pub struct ClipVisionConfig {
    pub transformer: TransformerConfig,
    /// Height and width of the images it takes, in pixels.
    pub image_size: usize,
    pub patch_size: usize,
    /// Dimension of the shared space.
    pub projection_dim: usize,
}

impl ClipVisionConfig {
    /// Patches along one side.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }
}

impl ClipTextConfig {
    /// Reads the text part of `config.json` in `folder`: a `clip_text_model` or a whole `clip`.
    ///
    /// # Errors
    /// When the file is missing or malformed, describes another kind of model, or a value is
    /// unknown or out of bounds.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Source::open(folder)?.tower("text")?.text()
    }
}

impl ClipVisionConfig {
    /// Reads the vision part of `config.json` in `folder`: a `clip_vision_model` or a whole `clip`.
    ///
    /// # Errors
    /// As [`ClipTextConfig::load`].
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Source::open(folder)?.tower("vision")?.vision()
    }
}

/// A `config.json` as it stands.
struct Source {
    path: PathBuf,
    json: Map<String, Value>,
}

impl Source {
    fn open(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let json = read_json(&path)?;
        Ok(Self { path, json })
    }

    /// The values of one tower ("text" or "vision").
    fn tower(mut self, side: &str) -> Result<Self, ConfigError> {
        let own = format!("clip_{side}_model");
        match self.json.get("model_type").and_then(Value::as_str) {
            Some(kind) if kind == own => return Ok(self),
            Some("clip") => {}
            found => {
                let found = found.unwrap_or("missing");
                let expected = format!("{own} or clip");
                return Err(ConfigError::value(&self.path, "model_type", found, expected));
            }
        }
        // Where `text_config_dict` is there it is the whole truth: transformers completes it with
        // the defaults of the class, not with the values of `text_config`.
        let (plain, dict) = (format!("{side}_config"), format!("{side}_config_dict"));
        let key =
            if matches!(self.json.get(&dict), None | Some(Value::Null)) { plain } else { dict };
        let mut tower = match self.json.remove(&key) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(tower)) => tower,
            Some(other) => return Err(ConfigError::value(&self.path, &key, other, "an object")),
        };
        // `CLIPModel` projects both towers to its own `projection_dim` and ignores theirs.
        let projection = self.json.remove("projection_dim").unwrap_or(Value::Null);
        tower.insert("projection_dim".to_owned(), projection);
        Ok(Self { path: self.path, json: tower })
    }

    fn text(&self) -> Result<ClipTextConfig, ConfigError> {
        Ok(ClipTextConfig {
            transformer: self.transformer([512, 2048, 12, 8])?,
            vocab_size: self.size("vocab_size", 49408, VOCABULARY_LIMIT)?,
            max_position_embeddings: self.size("max_position_embeddings", 77, POSITIONS_LIMIT)?,
            eos_token_id: self.eos_token_id()?,
            projection_dim: self.size("projection_dim", 512, WIDTH_LIMIT)?,
        })
    }

    fn vision(&self) -> Result<ClipVisionConfig, ConfigError> {
        let config = ClipVisionConfig {
            transformer: self.transformer([768, 3072, 12, 12])?,
            image_size: self.size("image_size", 224, SIDE_LIMIT)?,
            patch_size: self.size("patch_size", 32, SIDE_LIMIT)?,
            projection_dim: self.size("projection_dim", 512, WIDTH_LIMIT)?,
        };
        let channels = self.size("num_channels", 3, WIDTH_LIMIT)?;
        if channels != 3 {
            return Err(self.error("num_channels", channels, "3 (RGB)"));
        }
        if config.grid() == 0 {
            let expected = format!("at most image_size, {}", config.image_size);
            return Err(self.error("patch_size", config.patch_size, expected));
        }
        if config.grid().pow(2) >= POSITIONS_LIMIT {
            let expected = format!("fewer than {POSITIONS_LIMIT} patches");
            return Err(self.error("image_size / patch_size", config.grid(), expected));
        }
        Ok(config)
    }

    /// Defaults: hidden size, feed-forward size, layers, heads.
    fn transformer(&self, defaults: [usize; 4]) -> Result<TransformerConfig, ConfigError> {
        let hidden_size = self.size("hidden_size", defaults[0], WIDTH_LIMIT)?;
        let heads = self.size("num_attention_heads", defaults[3], WIDTH_LIMIT)?;
        if !hidden_size.is_multiple_of(heads) {
            let expected = format!("a divisor of hidden_size, {hidden_size}");
            return Err(self.error("num_attention_heads", heads, expected));
        }
        Ok(TransformerConfig {
            hidden_size,
            intermediate_size: self.size("intermediate_size", defaults[1], FEED_FORWARD_LIMIT)?,
            num_hidden_layers: self.size("num_hidden_layers", defaults[2], LAYERS_LIMIT)?,
            num_attention_heads: heads,
            layer_norm_eps: self.layer_norm_eps()?,
            hidden_act: self.activation()?,
        })
    }

    fn eos_token_id(&self) -> Result<u32, ConfigError> {
        match self.value("eos_token_id") {
            None => Ok(49407),
            Some(value) => value
                .as_u64()
                .and_then(|id| u32::try_from(id).ok())
                .ok_or_else(|| self.error("eos_token_id", value, "a token id")),
        }
    }

    fn layer_norm_eps(&self) -> Result<f64, ConfigError> {
        match self.value("layer_norm_eps") {
            None => Ok(1e-5),
            Some(value) => match value.as_f64() {
                Some(eps) if eps > 0.0 && eps < 1.0 => Ok(eps),
                _ => Err(self.error("layer_norm_eps", value, "a number between 0 and 1")),
            },
        }
    }

    fn activation(&self) -> Result<Activation, ConfigError> {
        match self.value("hidden_act") {
            None => Ok(Activation::QuickGelu),
            Some(value) => value
                .as_str()
                .and_then(Activation::from_name)
                .ok_or_else(|| self.error("hidden_act", value, Activation::NAMES)),
        }
    }

    fn size(&self, key: &str, default: usize, limit: usize) -> Result<usize, ConfigError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value
                .as_u64()
                .and_then(|n| usize::try_from(n).ok())
                .filter(|&n| (1..=limit).contains(&n))
                .ok_or_else(|| self.error(key, value, format!("a whole number of 1 to {limit}"))),
        }
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    fn error(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> ConfigError {
        ConfigError::value(&self.path, key, found, expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn source(json: Value) -> Source {
        let Value::Object(json) = json else { panic!("not an object") };
        Source { path: PathBuf::from("config.json"), json }
    }

    fn text(json: Value) -> Result<ClipTextConfig, ConfigError> {
        source(json).tower("text")?.text()
    }

    fn vision(json: Value) -> Result<ClipVisionConfig, ConfigError> {
        source(json).tower("vision")?.vision()
    }

    #[test]
    fn missing_keys_take_the_defaults_of_transformers() {
        let text = text(json!({"model_type": "clip_text_model"})).unwrap();
        assert_eq!((text.vocab_size, text.transformer.hidden_size), (49408, 512));
        assert_eq!((text.max_position_embeddings, text.eos_token_id), (77, 49407));
        assert_eq!(text.transformer.hidden_act, Activation::QuickGelu);
        let vision = vision(json!({"model_type": "clip_vision_model"})).unwrap();
        assert_eq!((vision.image_size, vision.patch_size, vision.grid()), (224, 32, 7));
        assert_eq!(vision.transformer.num_attention_heads, 12);
        assert_eq!(vision.transformer.layer_norm_eps, 1e-5);
    }

    #[test]
    fn a_config_dict_replaces_the_config_and_its_gaps_are_defaults() {
        let config = text(json!({
            "model_type": "clip",
            "projection_dim": 768,
            "text_config": {"hidden_size": 32, "eos_token_id": 2, "projection_dim": 1},
            "text_config_dict": {"hidden_size": 64},
        }))
        .unwrap();
        assert_eq!((config.transformer.hidden_size, config.eos_token_id), (64, 49407));
        assert_eq!(config.projection_dim, 768);
        let config = text(json!({
            "model_type": "clip",
            "text_config": {"hidden_size": 32, "projection_dim": 1},
            "text_config_dict": null,
        }))
        .unwrap();
        assert_eq!((config.transformer.hidden_size, config.projection_dim), (32, 512));
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_key() {
        for (key, value) in [
            ("hidden_size", json!(1_000_000_000_000_u64)),
            ("hidden_size", json!(-4)),
            ("num_attention_heads", json!(7)),
            ("num_hidden_layers", json!(0)),
            ("hidden_act", json!("relu")),
            ("layer_norm_eps", json!("small")),
            ("num_channels", json!(4)),
            ("patch_size", json!(300)),
        ] {
            let mut json = json!({"model_type": "clip_vision_model"});
            json[key] = value;
            let error = vision(json).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("config.json"), "{error}");
        }
    }

    #[test]
    fn another_kind_of_model_is_named_with_what_is_supported() {
        let error = text(json!({"model_type": "siglip"})).unwrap_err().to_string();
        assert!(error.contains("siglip") && error.contains("clip_text_model"), "{error}");
        assert!(vision(json!({"model_type": "clip_text_model"})).is_err());
        assert!(text(json!({})).is_err());
    }
}
