//! `config.json` of a `PriorTransformer`.

use std::path::Path;

use serde_json::Value;

use crate::decoder::diffusers_config::{CHANNELS, COUNT, DiffusersConfig};
use crate::model::config::ConfigError;

/// Tokens behind the text: its embedding, the time step, the noisy image embedding, the query.
pub const ADDED_TOKENS: usize = 4;
/// Longest text of any published model is 77 tokens.
const TEXT_LENGTH: std::ops::RangeInclusive<usize> = 1..=65_536;

/// Sizes of the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriorConfig {
    pub num_attention_heads: usize,
    /// Width of one head.
    pub attention_head_dim: usize,
    pub num_layers: usize,
    /// Dimension E of the image embeddings, and width of the text encoder's hidden states.
    pub embedding_dim: usize,
    /// Dimension of the text embeddings.
    pub embedding_proj_dim: usize,
    /// Width between the two layers of the time embedding.
    pub time_embed_dim: usize,
    /// Tokens L of a text.
    pub num_embeddings: usize,
}

impl PriorConfig {
    /// Reads `config.json` in `folder`; missing keys take diffusers' defaults.
    ///
    /// # Errors
    /// When the file is missing or malformed, a size is out of bounds, or it describes a variant
    /// that Haze does not have (Shap-E's).
    pub fn read(folder: &Path) -> Result<Self, ConfigError> {
        let config = DiffusersConfig::open(folder)?;
        for (key, supported) in [
            ("additional_embeddings", Value::from(ADDED_TOKENS)),
            ("time_embed_act_fn", "silu".into()),
            ("norm_in_type", Value::Null),
            ("embedding_proj_norm_type", Value::Null),
            ("encoder_hid_proj_type", "linear".into()),
            ("added_emb_type", "prd".into()),
        ] {
            config.require(key, &[supported])?;
        }
        let num_attention_heads = config.integer("num_attention_heads", 32, COUNT)?;
        let attention_head_dim = config.integer("attention_head_dim", 64, CHANNELS)?;
        let embedding_dim = config.integer("embedding_dim", 768, CHANNELS)?;
        let clip_embed_dim = config.optional_integer("clip_embed_dim", CHANNELS)?;
        if clip_embed_dim.is_some_and(|dim| dim != embedding_dim) {
            return Err(config.error("clip_embed_dim", format!("embedding_dim, {embedding_dim}")));
        }
        let or = |key, default| -> Result<usize, ConfigError> {
            Ok(config.optional_integer(key, CHANNELS)?.unwrap_or(default))
        };
        Ok(Self {
            num_attention_heads,
            attention_head_dim,
            num_layers: config.integer("num_layers", 20, COUNT)?,
            embedding_dim,
            embedding_proj_dim: or("embedding_proj_dim", embedding_dim)?,
            time_embed_dim: or("time_embed_dim", num_attention_heads * attention_head_dim)?,
            num_embeddings: config.integer("num_embeddings", 77, TEXT_LENGTH)?,
        })
    }

    /// Width of the residual stream.
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }
}
