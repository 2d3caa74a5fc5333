//! `config.json` of CLIP models, with the defaults of `CLIPTextConfig` and `CLIPVisionConfig` of
//! transformers, bounded before anything is allocated.

use std::path::Path;

use serde_json::Value;

use super::super::activation::Activation;
use super::super::config::{
    POSITIONS_LIMIT, PatchGrid, Source, TransformerConfig, VOCABULARY_LIMIT, WIDTH_LIMIT,
};
use crate::model::config::ConfigError;

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
    pub patches: PatchGrid,
    /// Dimension of the shared space.
    pub projection_dim: usize,
}

impl ClipTextConfig {
    /// Reads the text part of `config.json` in `folder`: a `clip_text_model` or a whole `clip`.
    ///
    /// # Errors
    /// When the file is missing or malformed, describes another kind of model, or a value is
    /// unknown or out of bounds.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Self::read(Source::open(folder)?)
    }
}

impl ClipVisionConfig {
    /// Reads the vision part of `config.json` in `folder`: a `clip_vision_model` or a whole `clip`.
    ///
    /// # Errors
    /// As [`ClipTextConfig::load`].
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Self::read(Source::open(folder)?)
    }
}

/// The values of one tower ("text" or "vision").
fn tower(mut source: Source, side: &str) -> Result<Source, ConfigError> {
    let own = format!("clip_{side}_model");
    match source.text("model_type") {
        Some(kind) if kind == own => return Ok(source),
        Some("clip") => {}
        found => {
            let found = found.unwrap_or("missing").to_owned();
            return Err(source.error("model_type", found, format!("{own} or clip")));
        }
    }
    // Where `text_config_dict` is there it is the whole truth: transformers completes it with
    // the defaults of the class, not with the values of `text_config`.
    let (plain, dict) = (format!("{side}_config"), format!("{side}_config_dict"));
    let mut tower = source.take(if source.value(&dict).is_some() { &dict } else { &plain })?;
    // `CLIPModel` projects both towers to its own `projection_dim` and ignores theirs.
    tower.set("projection_dim", source.value("projection_dim").cloned().unwrap_or(Value::Null));
    Ok(tower)
}

impl ClipTextConfig {
    fn read(source: Source) -> Result<Self, ConfigError> {
        let source = tower(source, "text")?;
        Ok(Self {
            transformer: source.transformer(&TransformerConfig {
                hidden_size: 512,
                intermediate_size: 2048,
                num_hidden_layers: 12,
                num_attention_heads: 8,
                layer_norm_eps: 1e-5,
                hidden_act: Activation::QuickGelu,
            })?,
            vocab_size: source.size("vocab_size", 49408, VOCABULARY_LIMIT)?,
            max_position_embeddings: source.size("max_position_embeddings", 77, POSITIONS_LIMIT)?,
            eos_token_id: eos_token_id(&source)?,
            projection_dim: source.size("projection_dim", 512, WIDTH_LIMIT)?,
        })
    }
}

impl ClipVisionConfig {
    fn read(source: Source) -> Result<Self, ConfigError> {
        let source = tower(source, "vision")?;
        Ok(Self {
            transformer: source.transformer(&TransformerConfig {
                hidden_size: 768,
                intermediate_size: 3072,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                layer_norm_eps: 1e-5,
                hidden_act: Activation::QuickGelu,
            })?,
            patches: source.patch_grid(224, 32)?,
            projection_dim: source.size("projection_dim", 512, WIDTH_LIMIT)?,
        })
    }
}

fn eos_token_id(source: &Source) -> Result<u32, ConfigError> {
    match source.value("eos_token_id") {
        None => Ok(49407),
        Some(value) => value
            .as_u64()
            .and_then(|id| u32::try_from(id).ok())
            .ok_or_else(|| source.error("eos_token_id", value, "a token id")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(json: Value) -> Result<ClipTextConfig, ConfigError> {
        ClipTextConfig::read(Source::of(json))
    }

    fn vision(json: Value) -> Result<ClipVisionConfig, ConfigError> {
        ClipVisionConfig::read(Source::of(json))
    }

    #[test]
    fn missing_keys_take_the_defaults_of_transformers() {
        let text = text(json!({"model_type": "clip_text_model"})).unwrap();
        assert_eq!((text.vocab_size, text.transformer.hidden_size), (49408, 512));
        assert_eq!((text.max_position_embeddings, text.eos_token_id), (77, 49407));
        assert_eq!(text.transformer.hidden_act, Activation::QuickGelu);
        let vision = vision(json!({"model_type": "clip_vision_model"})).unwrap();
        assert_eq!((vision.patches.image_size, vision.patches.patch_size), (224, 32));
        assert_eq!((vision.patches.side(), vision.patches.count()), (7, 49));
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
