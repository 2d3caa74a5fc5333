//! `config.json` of ProLIP, as `PyTorchModelHubMixin` writes the arguments of `ProLIPHF`, with the
//! defaults of `ProLIPVisionCfg` and `ProLIPTextCfg`.

use std::path::Path;

use serde_json::Value;

use super::super::activation::Activation;
use super::super::config::{
    POSITIONS_LIMIT, PatchGrid, Source, TransformerConfig, VOCABULARY_LIMIT, WIDTH_LIMIT,
};
use super::super::tokenizer::TextCleaning;
use crate::model::config::ConfigError;

/// The text tower.
#[derive(Debug, Clone, PartialEq)]
pub struct ProLipTextConfig {
    pub transformer: TransformerConfig,
    pub vocab_size: usize,
    /// Tokens that every text is padded to, without `[UNC]` and `[CLS]`.
    pub context_length: usize,
    pub cleaning: TextCleaning,
}

/// The vision tower.
#[derive(Debug, Clone, PartialEq)]
pub struct ProLipVisionConfig {
    pub transformer: TransformerConfig,
    pub patches: PatchGrid,
}

/// A whole `ProLIPHF`.
#[derive(Debug, Clone, PartialEq)]
pub struct ProLipConfig {
    /// Dimension of the shared space.
    pub embed_dim: usize,
    pub text: ProLipTextConfig,
    pub vision: ProLipVisionConfig,
}

/// Options that change the network; those of the published models are the only ones built here.
const VISION_OPTIONS: [(&str, &str); 7] = [
    ("ls_init_value", "no layer scale"),
    ("attentional_pool", "no attentional pooling"),
    ("no_ln_pre", "a norm before the transformer"),
    ("timm_model_name", "no timm model"),
    ("act_kwargs", "no options of the activation"),
    ("output_tokens", "no token output"),
    ("patch_dropout", "no patch dropout"),
];
const TEXT_OPTIONS: [(&str, &str); 4] = [
    ("ls_init_value", "no layer scale"),
    ("hf_model_name", "no transformers model"),
    ("act_kwargs", "no options of the activation"),
    ("output_tokens", "no token output"),
];

impl ProLipConfig {
    /// Reads `config.json` in `folder`.
    ///
    /// # Errors
    /// When the file is missing or malformed, is of a model without uncertainty tokens, or a value
    /// is unknown or out of bounds.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        Self::read(Source::open(folder)?)
    }

    fn read(mut source: Source) -> Result<Self, ConfigError> {
        let embed_dim = match source.value("embed_dim") {
            Some(_) => source.size("embed_dim", 0, WIDTH_LIMIT)?,
            None => return Err(source.error("embed_dim", "missing", "the dimension of the space")),
        };
        let activation = match source.flag("quick_gelu", false)? {
            true => Activation::QuickGelu,
            false => Activation::Gelu,
        };
        let mut vision = source.take("vision_cfg")?;
        check(&vision, "vision_cfg", &VISION_OPTIONS)?;
        if !vision.flag("embed_unc", false)? {
            let expected = "true: without the [UNC] token the model predicts no distribution";
            return Err(vision.error("vision_cfg.embed_unc", false, expected));
        }
        words(&vision, "vision_cfg.pool_type", "pool_type", "tok", &["tok"])?;
        let learnt = ["learnable", "sin_cos_2d"];
        words(&vision, "vision_cfg.pos_embed_type", "pos_embed_type", "learnable", &learnt)?;
        let width = vision.size("width", 768, WIDTH_LIMIT)?;
        let head = vision.size("head_width", 64, WIDTH_LIMIT)?;
        if !width.is_multiple_of(head) {
            let expected = format!("a divisor of the width, {width}");
            return Err(vision.error("vision_cfg.head_width", head, expected));
        }
        let vision = ProLipVisionConfig {
            transformer: transformer(&mut vision, width, width / head, activation)?,
            patches: vision.patch_grid(224, 16)?,
        };

        let mut text = source.take("text_cfg")?;
        check(&text, "text_cfg", &TEXT_OPTIONS)?;
        for key in ["embed_cls", "embed_unc", "no_causal_mask", "proj_bias"] {
            if !text.flag(key, true)? {
                return Err(text.error(&format!("text_cfg.{key}"), false, "true"));
            }
        }
        let width = text.size("width", 768, WIDTH_LIMIT)?;
        if width != embed_dim {
            let expected = format!("embed_dim, {embed_dim}: the variance is read from the mean");
            return Err(text.error("text_cfg.width", width, expected));
        }
        let heads = text.size("heads", 12, WIDTH_LIMIT)?;
        text.check_heads("text_cfg.heads", heads, width)?;
        let cleaning = text.take("tokenizer_kwargs")?;
        let found = words(
            &cleaning,
            "text_cfg.tokenizer_kwargs.clean",
            "clean",
            "whitespace",
            &["canonicalize", "lower", "whitespace"],
        )?;
        let text = ProLipTextConfig {
            transformer: transformer(&mut text, width, heads, activation)?,
            vocab_size: text.size("vocab_size", 32100, VOCABULARY_LIMIT)?,
            context_length: text.size("context_length", 64, POSITIONS_LIMIT)?,
            cleaning: match found {
                "canonicalize" => TextCleaning::Canonicalize,
                "lower" => TextCleaning::Lower,
                _ => TextCleaning::Whitespace,
            },
        };
        Ok(Self { embed_dim, text, vision })
    }
}

/// Refuses options that are set, to anything but their "off".
fn check(source: &Source, part: &str, options: &[(&str, &str)]) -> Result<(), ConfigError> {
    for (key, expected) in options {
        let off = |value: &Value| match value {
            Value::Bool(set) => !set,
            Value::Number(number) => number.as_f64() == Some(0.0),
            Value::Object(options) => options.is_empty(),
            _ => false,
        };
        let set = source.value(key).filter(|value| !off(value));
        if let Some(found) = set {
            return Err(source.error(&format!("{part}.{key}"), found, *expected));
        }
    }
    Ok(())
}

/// One of some words.
fn words<'a>(
    source: &'a Source,
    name: &str,
    key: &str,
    default: &'a str,
    known: &[&str],
) -> Result<&'a str, ConfigError> {
    let Some(value) = source.value(key) else { return Ok(default) };
    match value.as_str().filter(|word| known.contains(word)) {
        Some(word) => Ok(word),
        None => Err(source.error(name, value, known.join(" or "))),
    }
}

fn transformer(
    source: &mut Source,
    hidden_size: usize,
    num_attention_heads: usize,
    hidden_act: Activation,
) -> Result<TransformerConfig, ConfigError> {
    let ratio = match source.value("mlp_ratio") {
        None => 4.0,
        Some(value) => value
            .as_f64()
            .filter(|ratio| (0.01..=64.0).contains(ratio))
            .ok_or_else(|| source.error("mlp_ratio", value, "a number of 0.01 to 64"))?,
    };
    let norm = source.take("norm_kwargs")?;
    Ok(TransformerConfig {
        hidden_size,
        // Truncated, as int() does.
        intermediate_size: ((hidden_size as f64 * ratio) as usize).max(1),
        num_hidden_layers: source.layers("layers", 12)?,
        num_attention_heads,
        layer_norm_eps: norm.epsilon("eps", 1e-5)?,
        hidden_act,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(json: Value) -> Result<ProLipConfig, ConfigError> {
        ProLipConfig::read(Source::of(json))
    }

    /// `ViT-SO400M-14-ProLIP.json` of the authors.
    fn published() -> Value {
        json!({
            "embed_dim": 1152,
            "vision_cfg": {
                "image_size": 224, "layers": 27, "width": 1152, "head_width": 72, "patch_size": 14,
                "mlp_ratio": 3.7362, "embed_unc": true, "init_unc_bias": -10,
            },
            "text_cfg": {
                "context_length": 64, "vocab_size": 32100,
                "hf_tokenizer_name": "timm/ViT-SO400M-14-SigLIP",
                "tokenizer_kwargs": {"clean": "canonicalize"},
                "width": 1152, "heads": 16, "layers": 27, "mlp_ratio": 3.7362,
                "no_causal_mask": true, "proj_bias": true, "pool_type": "last",
                "embed_cls": true, "embed_unc": true, "norm_kwargs": {"eps": 1e-6},
                "init_unc_bias": -10,
            },
            "init_logit_bias": -10,
        })
    }

    #[test]
    fn a_published_config_is_read() {
        let config = read(published()).unwrap();
        assert_eq!((config.embed_dim, config.text.context_length), (1152, 64));
        let vision = &config.vision;
        assert_eq!((vision.transformer.num_attention_heads, vision.patches.count()), (16, 256));
        assert_eq!(vision.transformer.intermediate_size, 4304);
        assert_eq!(vision.transformer.layer_norm_eps, 1e-5);
        assert_eq!(config.text.transformer.layer_norm_eps, 1e-6);
        assert_eq!(config.text.cleaning, TextCleaning::Canonicalize);
        assert_eq!(vision.transformer.hidden_act, Activation::Gelu);
    }

    #[test]
    fn missing_keys_take_the_defaults_of_the_authors() {
        let config = read(json!({"embed_dim": 768, "vision_cfg": {"embed_unc": true}})).unwrap();
        assert_eq!((config.text.vocab_size, config.text.context_length), (32100, 64));
        assert_eq!(config.vision.transformer.num_attention_heads, 12);
        assert_eq!(config.text.transformer.intermediate_size, 3072);
        assert_eq!(config.text.cleaning, TextCleaning::Whitespace);
    }

    #[test]
    fn what_cannot_be_used_is_an_error_that_names_the_key() {
        for (part, key, value) in [
            ("vision_cfg", "embed_unc", json!(false)),
            ("vision_cfg", "timm_model_name", json!("vit_base")),
            ("vision_cfg", "ls_init_value", json!(1e-5)),
            ("vision_cfg", "pool_type", json!("avg")),
            ("vision_cfg", "head_width", json!(7)),
            ("vision_cfg", "mlp_ratio", json!(1e9)),
            ("text_cfg", "proj_bias", json!(false)),
            ("text_cfg", "width", json!(64)),
            ("text_cfg", "heads", json!(7)),
            ("text_cfg", "hf_model_name", json!("roberta")),
            ("text_cfg", "tokenizer_kwargs", json!({"clean": "all"})),
        ] {
            let mut json = published();
            json[part][key] = value;
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains("config.json"), "{error}");
        }
        assert!(read(json!({})).unwrap_err().to_string().contains("embed_dim"));
    }
}
