//! Which UNet a folder holds.

use std::path::Path;

use serde_json::Value;

use crate::decoder::diffusers_config::{CHANNELS, COUNT, DiffusersConfig};
use crate::decoder::layers::Padding;
use crate::model::config::ConfigError;

/// Longest image side, in latent pixels, that a config may ask for by default.
const SIDE_LIMIT: usize = 65_536;

/// Architecture of a UNet, from `config.json`.
#[derive(Debug, Clone)]
pub(super) struct UNetConfig {
    pub in_channels: usize,
    pub out_channels: usize,
    /// Height and width of the latents the model was trained on.
    pub sample_size: Option<[usize; 2]>,
    /// From full resolution down; each level has half the resolution of the one before it.
    pub levels: Vec<Level>,
    pub groups: usize,
    pub norm_eps: f64,
    pub downsample_padding: Padding,
    /// Width E of the text states.
    pub cross_attention_dim: usize,
    /// Length P of the class vector, for a model that takes one.
    pub class_vector: Option<usize>,
    /// Cosines before sines in the timestep encoding.
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    /// Size of the time embedding.
    pub time_embedding: usize,
}

/// One resolution of a UNet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Level {
    pub channels: usize,
    /// Resnets on the way down; there is one more on the way up.
    pub layers: usize,
    pub heads: usize,
    /// Transformer blocks in a row, where there is attention.
    pub transformers: usize,
    pub attention_down: bool,
    pub attention_up: bool,
}

impl UNetConfig {
    /// Reads and checks the config in `folder`.
    pub fn open(folder: &Path) -> Result<Self, ConfigError> {
        let config = DiffusersConfig::open(folder)?;
        refuse_unsupported(&config)?;
        let levels = levels(&config)?;
        let groups = config.integer("norm_num_groups", 32, COUNT)?;
        let widths = levels.iter().map(|level| level.channels);
        if widths.clone().any(|channels| channels % groups != 0) {
            return Err(config.error("norm_num_groups", "a divisor of all block_out_channels"));
        }
        let first = levels[0].channels;
        let freq_shift = config.number("freq_shift", 0.0, 0.0)?;
        if first % 2 != 0 || freq_shift >= (first / 2) as f64 {
            return Err(config.error(
                "block_out_channels",
                "an even first entry, more than twice freq_shift (it sizes the timestep encoding)",
            ));
        }
        let class_vector = match config.optional_name("class_embed_type")? {
            None => None,
            Some("projection") => Some(
                config
                    .optional_integer("projection_class_embeddings_input_dim", CHANNELS)?
                    .ok_or_else(|| {
                        config.error(
                            "projection_class_embeddings_input_dim",
                            "the length of the class vector",
                        )
                    })?,
            ),
            Some(_) => {
                return Err(config.error("class_embed_type", "null or \"projection\""));
            }
        };
        Ok(Self {
            in_channels: config.integer("in_channels", 4, CHANNELS)?,
            out_channels: config.integer("out_channels", 4, CHANNELS)?,
            sample_size: sample_size(&config)?,
            groups,
            norm_eps: config.number("norm_eps", 1e-5, 0.0)?,
            downsample_padding: match config.integer("downsample_padding", 1, 0..=1)? {
                0 => Padding::End,
                _ => Padding::Symmetric,
            },
            cross_attention_dim: config.integer("cross_attention_dim", 1280, CHANNELS)?,
            class_vector,
            flip_sin_to_cos: config.boolean("flip_sin_to_cos", true)?,
            freq_shift,
            time_embedding: config
                .optional_integer("time_embedding_dim", CHANNELS)?
                .unwrap_or(4 * first),
            levels,
        })
    }
}

fn levels(config: &DiffusersConfig) -> Result<Vec<Level>, ConfigError> {
    let channels = config.level_channels(&[320, 640, 1280, 1280])?;
    let n = channels.len();
    let down = config.name_per_level(
        "down_block_types",
        &[1, 1, 1, 0],
        n,
        &["DownBlock2D", "CrossAttnDownBlock2D"],
    )?;
    let up = config.name_per_level(
        "up_block_types",
        &[0, 1, 1, 1],
        n,
        &["UpBlock2D", "CrossAttnUpBlock2D"],
    )?;
    let layers = config.integer_per_level("layers_per_block", 2, n, COUNT)?;
    // Named for the size of a head, this key has always held the number of heads.
    let heads = config.integer_per_level("attention_head_dim", 8, n, CHANNELS)?;
    let transformers = config.integer_per_level("transformer_layers_per_block", 1, n, COUNT)?;
    let levels: Vec<Level> = (0..n)
        .map(|i| Level {
            channels: channels[i],
            layers: layers[i],
            heads: heads[i],
            transformers: transformers[i],
            attention_down: down[i] == 1,
            attention_up: up[n - 1 - i] == 1,
        })
        .collect();
    let attends = |i: usize| levels[i].attention_down || levels[i].attention_up || i == n - 1;
    if (0..n).any(|i| attends(i) && channels[i] % heads[i] != 0) {
        return Err(config.error(
            "attention_head_dim",
            format!("a number of heads that divides the channels {channels:?} of its level"),
        ));
    }
    Ok(levels)
}

fn sample_size(config: &DiffusersConfig) -> Result<Option<[usize; 2]>, ConfigError> {
    match config.optional_integer("sample_size", 1..=SIDE_LIMIT) {
        Ok(side) => Ok(side.map(|side| [side; 2])),
        Err(_) => {
            let pair = config.integer_per_level("sample_size", 0, 2, 1..=SIDE_LIMIT)?;
            Ok(Some([pair[0], pair[1]]))
        }
    }
}

/// Options of other models than the Stable Diffusion 1 and 2 families. Dropout and
/// `upcast_attention` are no options here: nothing is dropped at inference, and the softmax of
/// attention is always float32.
fn refuse_unsupported(config: &DiffusersConfig) -> Result<(), ConfigError> {
    config.require("_class_name", &["UNet2DConditionModel".into()])?;
    let silu = [Value::from("silu"), Value::from("swish")];
    config.require("act_fn", &silu)?;
    config.require("mid_block_type", &["UNetMidBlock2DCrossAttn".into()])?;
    config.require("time_embedding_type", &["positional".into()])?;
    config.require("resnet_time_scale_shift", &["default".into()])?;
    config.require("attention_type", &["default".into()])?;
    for key in ["conv_in_kernel", "conv_out_kernel"] {
        config.require(key, &[3.into()])?;
    }
    for key in ["mid_block_scale_factor", "resnet_out_scale_factor"] {
        config.require(key, &[1.into()])?;
    }
    for key in [
        "center_input_sample",
        "only_cross_attention",
        "dual_cross_attention",
        "class_embeddings_concat",
        "resnet_skip_time_act",
    ] {
        config.require(key, &[false.into()])?;
    }
    config.require("mid_block_only_cross_attention", &[Value::Null, false.into()])?;
    for key in [
        "num_attention_heads",
        "num_class_embeds",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "addition_embed_type",
        "time_embedding_act_fn",
        "timestep_post_act",
        "time_cond_proj_dim",
        "cross_attention_norm",
        "reverse_transformer_layers_per_block",
    ] {
        config.require(key, &[Value::Null])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(json: &str) -> Result<UNetConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), json).unwrap();
        UNetConfig::open(folder.path())
    }

    #[test]
    fn an_empty_config_is_stable_diffusion_1() {
        let config = open("{}").unwrap();
        let channels: Vec<usize> = config.levels.iter().map(|level| level.channels).collect();
        assert_eq!(channels, [320, 640, 1280, 1280]);
        assert_eq!(config.cross_attention_dim, 1280);
        assert_eq!(config.time_embedding, 1280);
        assert!(config.levels.iter().all(|level| level.heads == 8 && level.layers == 2));
        let attention: Vec<(bool, bool)> =
            config.levels.iter().map(|level| (level.attention_down, level.attention_up)).collect();
        assert_eq!(attention, [(true, true), (true, true), (true, true), (false, false)]);
    }

    #[test]
    fn up_blocks_are_listed_from_the_lowest_resolution() {
        let config = open(
            r#"{"block_out_channels": [32, 64], "down_block_types": ["DownBlock2D", "DownBlock2D"],
                "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"], "sample_size": [8, 16]}"#,
        )
        .unwrap();
        assert!(config.levels[0].attention_up && !config.levels[1].attention_up);
        assert_eq!(config.sample_size, Some([8, 16]));
    }

    #[test]
    fn what_is_not_supported_is_refused_by_name() {
        for (json, key) in [
            (r#"{"only_cross_attention": true}"#, "only_cross_attention"),
            (r#"{"only_cross_attention": [true, false, false, false]}"#, "only_cross_attention"),
            (r#"{"addition_embed_type": "text_time"}"#, "addition_embed_type"),
            (r#"{"class_embed_type": "timestep"}"#, "class_embed_type"),
            (r#"{"class_embed_type": "projection"}"#, "projection_class_embeddings_input_dim"),
            (r#"{"num_class_embeds": 10}"#, "num_class_embeds"),
            (r#"{"mid_block_type": null}"#, "mid_block_type"),
            (r#"{"down_block_types": ["AttnDownBlock2D"]}"#, "down_block_types"),
            (r#"{"transformer_layers_per_block": [[1], 1, 1, 1]}"#, "transformer_layers_per_block"),
            (r#"{"norm_num_groups": 48}"#, "norm_num_groups"),
            (r#"{"attention_head_dim": 7}"#, "attention_head_dim"),
            (r#"{"norm_num_groups": null}"#, "norm_num_groups"),
            (r#"{"cross_attention_dim": [768, 768, 768, 768]}"#, "cross_attention_dim"),
            (r#"{"sample_size": [8, 8, 8]}"#, "sample_size"),
        ] {
            let error = open(json).expect_err(json).to_string();
            assert!(error.contains(&format!("{key} is ")), "{json}: {error}");
        }
    }
}
