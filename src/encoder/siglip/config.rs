//! `config.json` of SigLIP, with the defaults of `SiglipTextConfig` and `SiglipVisionConfig` of
//! transformers.

use std::path::Path;

use super::super::activation::Activation;
use super::super::config::{
    POSITIONS_LIMIT, PatchGrid, Source, TransformerConfig, VOCABULARY_LIMIT, WIDTH_LIMIT,
};
use crate::model::config::ConfigError;

/// The text tower.
#[derive(Debug, Clone, PartialEq)]
pub struct SiglipTextConfig {
    pub transformer: TransformerConfig,
    pub vocab_size: usize,
    /// Tokens that every text is padded to.
    pub max_position_embeddings: usize,
    /// Dimension of the shared space.
    pub projection_size: usize,
}

/// The vision tower; its width is the dimension of the shared space.
#[derive(Debug, Clone, PartialEq)]
pub struct SiglipVisionConfig {
    pub transformer: TransformerConfig,
    pub patches: PatchGrid,
}

/// A whole `SiglipModel`.
#[derive(Debug, Clone, PartialEq)]
pub struct SiglipConfig {
    pub text: SiglipTextConfig,
    pub vision: SiglipVisionConfig,
}

impl SiglipConfig {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// When the file is missing or malformed, describes another kind of model, a value is unknown
    /// or out of bounds, or the towers end in different dimensions.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Self::read(Source::open(folder)?)
    }

    fn read(mut source: Source) -> Result<Self, ConfigError> {
        match source.text("model_type") {
            Some("siglip") => {}
            found => {
                let found = found.unwrap_or("missing").to_owned();
                return Err(source.error("model_type", found, "siglip"));
            }
        }
        let defaults = TransformerConfig {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            layer_norm_eps: 1e-6,
            hidden_act: Activation::GeluTanh,
        };
        let text = source.take("text_config")?;
        let transformer = text.transformer(&defaults)?;
        let text = SiglipTextConfig {
            vocab_size: text.size("vocab_size", 32000, VOCABULARY_LIMIT)?,
            max_position_embeddings: text.size("max_position_embeddings", 64, POSITIONS_LIMIT)?,
            projection_size: text.size("projection_size", transformer.hidden_size, WIDTH_LIMIT)?,
            transformer,
        };
        let vision = source.take("vision_config")?;
        if !vision.flag("vision_use_head", true)? {
            let expected = "true: without the pooling head there is no image embedding";
            return Err(vision.error("vision_config.vision_use_head", false, expected));
        }
        let vision = SiglipVisionConfig {
            transformer: vision.transformer(&defaults)?,
            patches: vision.patch_grid(224, 16)?,
        };
        let dim = vision.transformer.hidden_size;
        if text.projection_size != dim {
            let expected = format!("the hidden_size of the vision tower, {dim}");
            return Err(source.error(
                "text_config.projection_size",
                text.projection_size,
                expected,
            ));
        }
        Ok(Self { text, vision })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(json: Value) -> Result<SiglipConfig, ConfigError> {
        SiglipConfig::read(Source::of(json))
    }

    #[test]
    fn missing_keys_take_the_defaults_of_transformers() {
        let config = read(json!({"model_type": "siglip"})).unwrap();
        assert_eq!((config.text.vocab_size, config.text.max_position_embeddings), (32000, 64));
        assert_eq!(config.text.transformer.layer_norm_eps, 1e-6);
        assert_eq!(config.vision.transformer.hidden_act, Activation::GeluTanh);
        let patches = config.vision.patches;
        assert_eq!((patches.image_size, patches.patch_size, patches.count()), (224, 16, 196));
    }

    #[test]
    fn the_published_configs_of_other_sizes_are_read() {
        // google/siglip-so400m-patch14-384 and google/siglip2-base-patch16-224.
        let large = read(json!({
            "model_type": "siglip",
            "text_config": {
                "hidden_size": 1152, "intermediate_size": 4304, "model_type": "siglip_text_model",
                "num_attention_heads": 16, "num_hidden_layers": 27,
            },
            "vision_config": {
                "hidden_size": 1152, "image_size": 384, "intermediate_size": 4304,
                "model_type": "siglip_vision_model", "num_attention_heads": 16,
                "num_hidden_layers": 27, "patch_size": 14,
            },
        }))
        .unwrap();
        assert_eq!((large.text.projection_size, large.vision.patches.side()), (1152, 27));
        let second = read(json!({
            "model_type": "siglip",
            "text_config": {"vocab_size": 256_000, "model_type": "siglip_text_model"},
            "vision_config": {"model_type": "siglip_vision_model"},
        }))
        .unwrap();
        assert_eq!((second.text.vocab_size, second.text.projection_size), (256_000, 768));
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_key() {
        for (json, key) in [
            (json!({"model_type": "siglip2"}), "siglip2"),
            (json!({"model_type": "siglip", "text_config": 3}), "text_config"),
            (
                json!({"model_type": "siglip", "vision_config": {"vision_use_head": false}}),
                "vision_use_head",
            ),
            (
                json!({"model_type": "siglip", "text_config": {"projection_size": 5}}),
                "projection_size",
            ),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("config.json"), "{error}");
        }
    }
}
