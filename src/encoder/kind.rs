//! Which kinds of encoder there are, and what the config of each says about it.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::blip::BlipConfig;
use super::clip::{ClipTextConfig, ClipVisionConfig};
use super::prolip::ProLipConfig;
use super::siglip::SiglipConfig;
use super::{EncoderError, Logits, Modality, TransformerConfig, weights};
use crate::model::config::{ConfigError, read_json};

/// A family of encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EncoderKind {
    Clip,
    Blip,
    Siglip,
    ProLip,
}

impl EncoderKind {
    /// As people write it.
    pub fn name(self) -> &'static str {
        match self {
            EncoderKind::Clip => "CLIP",
            EncoderKind::Blip => "BLIP (contrastive heads)",
            EncoderKind::Siglip => "SigLIP",
            EncoderKind::ProLip => "ProLIP",
        }
    }

    /// The kind that `config.json` of a folder describes.
    ///
    /// # Errors
    /// When the file is missing or malformed, or is of a model that is no supported encoder; says
    /// which are, and what to take instead where that is known.
    pub fn of_folder(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join("config.json");
        let config: Value = read_json(&path)?;
        let kind = config["model_type"].as_str();
        // The configs of open_clip have no model type.
        if kind.is_none() && config["vision_cfg"].is_object() {
            return Ok(EncoderKind::ProLip);
        }
        let instead = match kind {
            Some("clip") => return Ok(EncoderKind::Clip),
            Some("blip") => return Ok(EncoderKind::Blip),
            Some("siglip") => return Ok(EncoderKind::Siglip),
            Some("siglip2") => {
                "; of SigLIP 2 those of a fixed image size, such as google/siglip2-base-patch16-224"
            }
            Some("blip-2" | "instructblip") => "; of BLIP such as Salesforce/blip-itm-base-coco",
            Some("clip_vision_model" | "clip_text_model") => "; this is one tower alone",
            _ => "",
        };
        let found = kind.unwrap_or("missing");
        let expected = format!("an encoder: clip, blip or siglip, or a ProLIP config{instead}");
        Err(ConfigError::value(&path, "model_type", found, expected))
    }
}

/// Whether embeddings have a length of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Norm {
    /// As the projection gives them; decoders need it.
    Raw,
    /// Scaled to length 1 by the model.
    Unit,
}

/// What a model says about one input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Prediction {
    /// One embedding.
    Point,
    /// A Gaussian with independent dimensions.
    Gaussian,
}

/// The config of an encoder folder.
#[derive(Debug, Clone, PartialEq)]
pub enum EncoderConfig {
    Clip { text: ClipTextConfig, vision: ClipVisionConfig },
    Blip(BlipConfig),
    Siglip(SiglipConfig),
    ProLip(ProLipConfig),
}

impl EncoderConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// As [`EncoderKind::of_folder`], and when a value is unknown or out of bounds.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Ok(match EncoderKind::of_folder(folder)? {
            EncoderKind::Clip => Self::Clip {
                text: ClipTextConfig::load(folder)?,
                vision: ClipVisionConfig::load(folder)?,
            },
            EncoderKind::Blip => Self::Blip(BlipConfig::load(folder)?),
            EncoderKind::Siglip => Self::Siglip(SiglipConfig::load(folder)?),
            EncoderKind::ProLip => Self::ProLip(ProLipConfig::load(folder)?),
        })
    }

    pub fn kind(&self) -> EncoderKind {
        match self {
            Self::Clip { .. } => EncoderKind::Clip,
            Self::Blip(_) => EncoderKind::Blip,
            Self::Siglip(_) => EncoderKind::Siglip,
            Self::ProLip(_) => EncoderKind::ProLip,
        }
    }

    /// Dimension D of the shared space.
    pub fn dim(&self) -> usize {
        match self {
            Self::Clip { text, .. } => text.projection_dim,
            Self::Blip(blip) => blip.image_text_hidden_size,
            Self::Siglip(siglip) => siglip.text.projection_size,
            Self::ProLip(prolip) => prolip.embed_dim,
        }
    }

    /// Width P of the features that the last projection takes.
    pub fn pooled_dim(&self, modality: Modality) -> usize {
        match (self, modality) {
            // The head's last layer, onto which a residual is added.
            (Self::Siglip(siglip), Modality::Image) => siglip.vision.transformer.intermediate_size,
            _ => self.transformer(modality).hidden_size,
        }
    }

    /// The transformer of one tower.
    pub fn transformer(&self, modality: Modality) -> &TransformerConfig {
        let (text, vision) = match self {
            Self::Clip { text, vision } => (&text.transformer, &vision.transformer),
            Self::Blip(blip) => (&blip.text.transformer, &blip.vision.transformer),
            Self::Siglip(siglip) => (&siglip.text.transformer, &siglip.vision.transformer),
            Self::ProLip(prolip) => (&prolip.text.transformer, &prolip.vision.transformer),
        };
        match modality {
            Modality::Text => text,
            Modality::Image => vision,
        }
    }

    /// Height and width of the images that the vision tower takes, in pixels.
    pub fn image_size(&self) -> usize {
        match self {
            Self::Clip { vision, .. } => vision.patches.image_size,
            Self::Blip(blip) => blip.vision.patches.image_size,
            Self::Siglip(siglip) => siglip.vision.patches.image_size,
            Self::ProLip(prolip) => prolip.vision.patches.image_size,
        }
    }

    /// Height and width of a patch, in pixels.
    pub fn patch_size(&self) -> usize {
        match self {
            Self::Clip { vision, .. } => vision.patches.patch_size,
            Self::Blip(blip) => blip.vision.patches.patch_size,
            Self::Siglip(siglip) => siglip.vision.patches.patch_size,
            Self::ProLip(prolip) => prolip.vision.patches.patch_size,
        }
    }

    /// Most tokens that a text can have, those that the tokenizer adds included.
    pub fn max_tokens(&self) -> usize {
        match self {
            Self::Clip { text, .. } => text.max_position_embeddings,
            Self::Blip(blip) => blip.text.max_position_embeddings,
            Self::Siglip(siglip) => siglip.text.max_position_embeddings,
            Self::ProLip(prolip) => prolip.text.context_length,
        }
    }

    /// Rows of the token embedding.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Clip { text, .. } => text.vocab_size,
            Self::Blip(blip) => blip.text.vocab_size,
            Self::Siglip(siglip) => siglip.text.vocab_size,
            Self::ProLip(prolip) => prolip.text.vocab_size,
        }
    }

    /// Whether embeddings have a length of their own.
    pub fn norm(&self) -> Norm {
        match self {
            Self::Clip { .. } | Self::Siglip(_) => Norm::Raw,
            Self::Blip(_) | Self::ProLip(_) => Norm::Unit,
        }
    }

    /// What turns cosines into logits: learnt numbers in the weights of `folder`, or what BLIP's
    /// config says.
    ///
    /// # Errors
    /// When the weights are missing or malformed.
    pub fn logits(&self, folder: &Path) -> Result<Logits, EncoderError> {
        match self {
            Self::Blip(blip) => Ok(blip.logits()),
            _ => weights::logits(folder),
        }
    }

    /// What the model says about one input.
    pub fn predicts(&self) -> Prediction {
        match self {
            Self::ProLip(_) => Prediction::Gaussian,
            _ => Prediction::Point,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(config: Value) -> Result<EncoderKind, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        EncoderKind::of_folder(folder.path())
    }

    #[test]
    fn the_model_type_or_the_layout_of_open_clip_tells_the_kind() {
        assert_eq!(kind(json!({"model_type": "clip"})).unwrap(), EncoderKind::Clip);
        assert_eq!(kind(json!({"model_type": "blip"})).unwrap(), EncoderKind::Blip);
        assert_eq!(kind(json!({"model_type": "siglip"})).unwrap(), EncoderKind::Siglip);
        let prolip = json!({"embed_dim": 768, "vision_cfg": {}, "text_cfg": {}});
        assert_eq!(kind(prolip).unwrap(), EncoderKind::ProLip);
    }

    #[test]
    fn other_models_are_refused_with_what_can_be_taken_instead() {
        for (config, advice) in [
            (json!({"model_type": "siglip2"}), "siglip2-base-patch16-224"),
            (json!({"model_type": "blip-2"}), "blip-itm-base-coco"),
            (json!({"model_type": "clip_vision_model"}), "one tower"),
            (json!({"model_type": "bert"}), "clip, blip or siglip"),
            (json!({}), "missing"),
        ] {
            let error = kind(config).unwrap_err().to_string();
            assert!(error.contains(advice) && error.contains("config.json"), "{error}");
        }
    }
}
