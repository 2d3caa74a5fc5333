//! `config.json` of BLIP, with the defaults of `BlipConfig`, `BlipTextConfig` and
//! `BlipVisionConfig` of transformers.

use std::path::Path;

use super::super::Logits;
use super::super::activation::Activation;
use super::super::config::{
    POSITIONS_LIMIT, PatchGrid, Source, TransformerConfig, VOCABULARY_LIMIT, WIDTH_LIMIT,
};
use crate::model::config::ConfigError;

/// The text tower.
#[derive(Debug, Clone, PartialEq)]
pub struct BlipTextConfig {
    pub transformer: TransformerConfig,
    pub vocab_size: usize,
    /// Most tokens that a text can have.
    pub max_position_embeddings: usize,
}

/// The vision tower.
#[derive(Debug, Clone, PartialEq)]
pub struct BlipVisionConfig {
    pub transformer: TransformerConfig,
    pub patches: PatchGrid,
}

/// A whole `BlipForImageTextRetrieval`.
#[derive(Debug, Clone, PartialEq)]
pub struct BlipConfig {
    pub text: BlipTextConfig,
    pub vision: BlipVisionConfig,
    /// Dimension of the shared space.
    pub image_text_hidden_size: usize,
    /// Logarithm of the factor on cosines that training began with. Converted checkpoints do not
    /// keep the learnt one.
    pub logit_scale_init_value: f64,
    /// The class that the file says it holds.
    pub architecture: Option<String>,
}

impl BlipConfig {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// When the file is missing or malformed, describes another kind of model, or a value is
    /// unknown or out of bounds.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Self::read(Source::open(folder)?)
    }

    /// What turns cosines into logits, as far as the config knows.
    pub fn logits(&self) -> Logits {
        Logits { scale: self.logit_scale_init_value.exp() as f32, bias: None }
    }

    fn read(mut source: Source) -> Result<Self, ConfigError> {
        match source.text("model_type") {
            Some("blip") => {}
            found => {
                let found = found.unwrap_or("missing").to_owned();
                return Err(source.error("model_type", found, "blip"));
            }
        }
        let text = source.take("text_config")?;
        let text = BlipTextConfig {
            transformer: text.transformer(&TransformerConfig {
                hidden_size: 768,
                intermediate_size: 3072,
                num_hidden_layers: 12,
                num_attention_heads: 8,
                layer_norm_eps: 1e-12,
                hidden_act: Activation::Gelu,
            })?,
            vocab_size: text.size("vocab_size", 30524, VOCABULARY_LIMIT)?,
            max_position_embeddings: text.size("max_position_embeddings", 512, POSITIONS_LIMIT)?,
        };
        let vision = source.take("vision_config")?;
        let vision = BlipVisionConfig {
            transformer: vision.transformer(&TransformerConfig {
                hidden_size: 768,
                intermediate_size: 3072,
                num_hidden_layers: 12,
                num_attention_heads: 12,
                layer_norm_eps: 1e-5,
                hidden_act: Activation::Gelu,
            })?,
            patches: vision.patch_grid(384, 16)?,
        };
        let logit_scale = match source.value("logit_scale_init_value") {
            None => 2.6592,
            Some(value) => value.as_f64().filter(|scale| scale.abs() < 20.0).ok_or_else(|| {
                source.error("logit_scale_init_value", value, "a number of -20 to 20")
            })?,
        };
        let architecture = source.value("architectures").and_then(|names| names.get(0)?.as_str());
        Ok(Self {
            image_text_hidden_size: source.size("image_text_hidden_size", 256, WIDTH_LIMIT)?,
            logit_scale_init_value: logit_scale,
            architecture: architecture.map(str::to_owned),
            text,
            vision,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(json: Value) -> Result<BlipConfig, ConfigError> {
        BlipConfig::read(Source::of(json))
    }

    #[test]
    fn missing_keys_take_the_defaults_of_transformers() {
        let config = read(json!({"model_type": "blip"})).unwrap();
        assert_eq!((config.text.vocab_size, config.text.max_position_embeddings), (30524, 512));
        assert_eq!(config.text.transformer.num_attention_heads, 8);
        assert_eq!(config.text.transformer.layer_norm_eps, 1e-12);
        assert_eq!(config.vision.transformer.num_attention_heads, 12);
        let patches = config.vision.patches;
        assert_eq!((patches.image_size, patches.patch_size, patches.count()), (384, 16, 576));
        assert_eq!(config.image_text_hidden_size, 256);
        assert!((config.logit_scale_init_value.exp() - 14.28).abs() < 0.01);
    }

    #[test]
    fn the_published_retrieval_config_is_read() {
        let config = read(json!({
            "architectures": ["BlipForImageTextRetrieval"],
            "image_text_hidden_size": 256, "model_type": "blip", "projection_dim": 512,
            "text_config": {"num_attention_heads": 12, "model_type": "blip_text_model"},
            "vision_config": {
                "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16,
                "num_hidden_layers": 24, "model_type": "blip_vision_model",
            },
        }))
        .unwrap();
        assert_eq!(config.text.transformer.num_attention_heads, 12);
        assert_eq!(config.vision.transformer.hidden_size, 1024);
        assert_eq!(config.architecture.as_deref(), Some("BlipForImageTextRetrieval"));
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_key() {
        for (json, key) in [
            (json!({"model_type": "blip-2"}), "blip-2"),
            (json!({"model_type": "blip", "image_text_hidden_size": 0}), "image_text_hidden_size"),
            (json!({"model_type": "blip", "text_config": {"num_attention_heads": 7}}), "heads"),
            (json!({"model_type": "blip", "logit_scale_init_value": 1e9}), "logit_scale"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("config.json"), "{error}");
        }
    }
}
