//! Latent to image.

use super::config::VaeConfig;
use super::{MidBlock, NORM_EPS};
use crate::decoder::layers::{Conv, FeatureMap, GroupNorm, Resnet, Scope, Upsample};
use crate::decoder::model_error::ModelError;

#[derive(Debug)]
pub(super) struct Decoder {
    conv_in: Conv,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

#[derive(Debug)]
struct UpBlock {
    resnets: Vec<Resnet>,
    upsampler: Option<Upsample>,
}

impl Decoder {
    /// Reads the decoder.
    pub fn load(scope: &Scope<'_>, config: &VaeConfig) -> Result<Self, ModelError> {
        let levels = config.channels.len();
        let (first, last) = (config.channels[0], config.channels[levels - 1]);
        let up = scope.at("up_blocks");
        Ok(Self {
            conv_in: Conv::load(&scope.at("conv_in"), config.latent_channels, last)?,
            mid_block: MidBlock::load(&scope.at("mid_block"), config)?,
            up_blocks: (0..levels)
                .map(|i| UpBlock::load(&up.at(i), config, levels - 1 - i))
                .collect::<Result<_, _>>()?,
            conv_norm_out: GroupNorm::load(
                &scope.at("conv_norm_out"),
                config.groups,
                first,
                NORM_EPS,
            )?,
            conv_out: Conv::load(&scope.at("conv_out"), first, config.out_channels)?,
        })
    }

    /// Latents after `post_quant_conv` to images; `after_mid` sees the map in between.
    pub fn forward(&self, x: FeatureMap, after_mid: impl FnOnce(&FeatureMap)) -> FeatureMap {
        let mut x = self.mid_block.forward(self.conv_in.forward(x));
        after_mid(&x);
        for block in &self.up_blocks {
            for resnet in &block.resnets {
                x = resnet.forward(x, None);
            }
            if let Some(upsampler) = &block.upsampler {
                let [_, height, width, _] = x.dims();
                x = upsampler.forward(x, 2 * height, 2 * width);
            }
        }
        self.conv_out.forward(self.conv_norm_out.forward_silu(&x))
    }
}

impl UpBlock {
    /// Reads the block that goes up from level `index`.
    fn load(scope: &Scope<'_>, config: &VaeConfig, index: usize) -> Result<Self, ModelError> {
        let channels = config.channels[index];
        let below = *config.channels.get(index + 1).unwrap_or(&channels);
        Ok(Self {
            resnets: super::resnets(scope, config, config.layers + 1, below, channels)?,
            upsampler: (index > 0)
                .then(|| Upsample::load(&scope.at("upsamplers.0"), channels))
                .transpose()?,
        })
    }
}
