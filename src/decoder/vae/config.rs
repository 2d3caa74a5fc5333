//! Which VAE a folder holds.

use std::path::Path;

use serde_json::Value;

use crate::decoder::diffusers_config::{CHANNELS, COUNT, DiffusersConfig};
use crate::model::config::ConfigError;

/// Architecture of a VAE, from `config.json`.
#[derive(Debug, Clone)]
pub(super) struct VaeConfig {
    /// Channels of the images.
    pub in_channels: usize,
    pub out_channels: usize,
    pub latent_channels: usize,
    /// From full resolution down.
    pub channels: Vec<usize>,
    /// Resnets per level of the encoder; the decoder has one more.
    pub layers: usize,
    pub groups: usize,
    pub mid_attention: bool,
    pub quant_conv: bool,
    pub post_quant_conv: bool,
    /// Side in pixels of the images it was trained on.
    pub sample_size: usize,
    pub scaling_factor: f64,
    pub shift_factor: Option<f64>,
}

impl VaeConfig {
    /// Reads and checks the config in `folder`.
    pub fn open(folder: &Path) -> Result<Self, ConfigError> {
        let config = DiffusersConfig::open(folder)?;
        config.require("_class_name", &["AutoencoderKL".into()])?;
        let channels = config.level_channels(&[64])?;
        let levels = channels.len();
        for (key, name) in
            [("down_block_types", "DownEncoderBlock2D"), ("up_block_types", "UpDecoderBlock2D")]
        {
            config.name_per_level(key, &[0], levels, &[name])?;
        }
        config.require("act_fn", &["silu".into(), "swish".into()])?;
        for key in ["latents_mean", "latents_std"] {
            config.require(key, &[Value::Null])?;
        }
        let groups = config.integer("norm_num_groups", 32, COUNT)?;
        if channels.iter().any(|channels| channels % groups != 0) {
            return Err(config.error("norm_num_groups", "a divisor of all block_out_channels"));
        }
        let scaling_factor = config.number("scaling_factor", 0.18215, 0.0)?;
        if scaling_factor == 0.0 {
            return Err(config.error("scaling_factor", "a positive number"));
        }
        Ok(Self {
            in_channels: config.integer("in_channels", 3, CHANNELS)?,
            out_channels: config.integer("out_channels", 3, CHANNELS)?,
            latent_channels: config.integer("latent_channels", 4, CHANNELS)?,
            channels,
            layers: config.integer("layers_per_block", 1, COUNT)?,
            groups,
            mid_attention: config.boolean("mid_block_add_attention", true)?,
            quant_conv: config.boolean("use_quant_conv", true)?,
            post_quant_conv: config.boolean("use_post_quant_conv", true)?,
            sample_size: config.integer("sample_size", 32, CHANNELS)?,
            scaling_factor,
            shift_factor: config.optional_number("shift_factor")?,
        })
    }
}
