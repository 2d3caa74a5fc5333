//! Image to the moments of its latent.

use burn::module::Module;
use burn::tensor::Device;

use super::config::VaeConfig;
use super::{MidBlock, NORM_EPS};
use crate::decoder::layers::{Conv, Downsample, FeatureMap, GroupNorm, Padding, Resnet};

/// Names as in the weight files.
#[derive(Module, Debug)]
pub(super) struct Encoder {
    conv_in: Conv,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

#[derive(Module, Debug)]
struct DownBlock {
    resnets: Vec<Resnet>,
    downsampler: Option<Downsample>,
}

impl Encoder {
    /// An encoder whose weights are still to be loaded.
    pub fn new(config: &VaeConfig, device: &Device) -> Self {
        let levels = config.channels.len();
        let (first, last) = (config.channels[0], config.channels[levels - 1]);
        Self {
            conv_in: Conv::new(config.in_channels, first, device),
            down_blocks: (0..levels).map(|i| DownBlock::new(config, i, device)).collect(),
            mid_block: MidBlock::new(config, device),
            conv_norm_out: GroupNorm::new(config.groups, last, NORM_EPS, device),
            conv_out: Conv::new(last, 2 * config.latent_channels, device),
        }
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
    fn new(config: &VaeConfig, index: usize, device: &Device) -> Self {
        let channels = config.channels[index];
        let before = config.channels[index.saturating_sub(1)];
        let last = index + 1 == config.channels.len();
        Self {
            resnets: super::resnets(config, config.layers, before, channels, device),
            downsampler: (!last).then(|| Downsample::new(channels, Padding::End, device)),
        }
    }
}
