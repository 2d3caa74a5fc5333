//! Latent to image.

use burn::module::Module;
use burn::tensor::Device;

use super::config::VaeConfig;
use super::{MidBlock, NORM_EPS};
use crate::decoder::layers::{Conv, FeatureMap, GroupNorm, Resnet, Upsample};

/// Names as in the weight files.
#[derive(Module, Debug)]
pub(super) struct Decoder {
    conv_in: Conv,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

#[derive(Module, Debug)]
struct UpBlock {
    resnets: Vec<Resnet>,
    upsampler: Option<Upsample>,
}

impl Decoder {
    /// A decoder whose weights are still to be loaded.
    pub fn new(config: &VaeConfig, device: &Device) -> Self {
        let levels = config.channels.len();
        let (first, last) = (config.channels[0], config.channels[levels - 1]);
        Self {
            conv_in: Conv::new(config.latent_channels, last, device),
            mid_block: MidBlock::new(config, device),
            up_blocks: (0..levels).rev().map(|i| UpBlock::new(config, i, device)).collect(),
            conv_norm_out: GroupNorm::new(config.groups, first, NORM_EPS, device),
            conv_out: Conv::new(first, config.out_channels, device),
        }
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
    /// The block that goes up from level `index`.
    fn new(config: &VaeConfig, index: usize, device: &Device) -> Self {
        let channels = config.channels[index];
        let below = *config.channels.get(index + 1).unwrap_or(&channels);
        Self {
            resnets: super::resnets(config, config.layers + 1, below, channels, device),
            upsampler: (index > 0).then(|| Upsample::new(channels, device)),
        }
    }
}
