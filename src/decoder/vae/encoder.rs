//! Image to the moments of its latent.

use super::config::VaeConfig;
use super::{MidBlock, NORM_EPS};
use crate::decoder::layers::{Conv, Downsample, FeatureMap, GroupNorm, Padding, Resnet, Scope};
use crate::decoder::model_error::ModelError;

#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

#[derive(Debug)]
struct DownBlock {
    resnets: Vec<Resnet>,
    downsampler: Option<Downsample>,
}

impl Encoder {
    /// Reads the encoder.
    pub fn load(scope: &Scope<'_>, config: &VaeConfig) -> Result<Self, ModelError> {
        let levels = config.channels.len();
        let (first, last) = (config.channels[0], config.channels[levels - 1]);
        let down = scope.at("down_blocks");
        Ok(Self {
            conv_in: Conv::load(&scope.at("conv_in"), config.in_channels, first)?,
            down_blocks: (0..levels)
                .map(|i| DownBlock::load(&down.at(i), config, i))
                .collect::<Result<_, _>>()?,
            mid_block: MidBlock::load(&scope.at("mid_block"), config)?,
            conv_norm_out: GroupNorm::load(
                &scope.at("conv_norm_out"),
                config.groups,
                last,
                NORM_EPS,
            )?,
            conv_out: Conv::load(&scope.at("conv_out"), last, 2 * config.latent_channels)?,
        })
    }

    /// Images to `[mean, logvar]` before `quant_conv`; `after_mid` sees the map in between.
    pub fn forward(&self, x: FeatureMap, after_mid: impl FnOnce(&FeatureMap)) -> FeatureMap {
        let mut x = self.conv_in.forward(x);
        for block in &self.down_blocks {
            for resnet in &block.resnets {
                x = resnet.forward(x, None);
            }
            if let Some(downsampler) = &block.downsampler {
                x = downsampler.forward(x);
            }
        }
        let x = self.mid_block.forward(x);
        after_mid(&x);
        self.conv_out.forward(self.conv_norm_out.forward_silu(&x))
    }
}

impl DownBlock {
    fn load(scope: &Scope<'_>, config: &VaeConfig, index: usize) -> Result<Self, ModelError> {
        let channels = config.channels[index];
        let before = config.channels[index.saturating_sub(1)];
        let last = index + 1 == config.channels.len();
        Ok(Self {
            resnets: super::resnets(scope, config, config.layers, before, channels)?,
            downsampler: (!last)
                .then(|| Downsample::load(&scope.at("downsamplers.0"), channels, Padding::End))
                .transpose()?,
        })
    }
}
