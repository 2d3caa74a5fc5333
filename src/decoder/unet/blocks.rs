//! The levels of the UNet: down, middle, up.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::Probe;
use super::config::{Level, UNetConfig};
use super::transformer::Transformer;
use crate::decoder::layers::{Downsample, FeatureMap, KeyValue, Resnet, Upsample};

fn resnet(config: &UNetConfig, inputs: usize, outputs: usize, device: &Device) -> Resnet {
    let time = Some(config.time_embedding);
    Resnet::new(inputs, outputs, time, config.groups, config.norm_eps, device)
}

fn transformers(
    config: &UNetConfig,
    level: &Level,
    count: usize,
    device: &Device,
) -> Vec<Transformer> {
    (0..count)
        .map(|_| {
            Transformer::new(
                level.channels,
                config.cross_attention_dim,
                level.heads,
                level.transformers,
                config.groups,
                device,
            )
        })
        .collect()
}

/// Resnets at one resolution, each followed by a transformer where the level has attention, then
/// the way to half the resolution.
#[derive(Module, Debug)]
pub(super) struct DownBlock {
    resnets: Vec<Resnet>,
    /// One per resnet, or none.
    attentions: Vec<Transformer>,
    downsampler: Option<Downsample>,
}

impl DownBlock {
    /// Level `index` of the config; weights are still to be loaded.
    pub fn new(config: &UNetConfig, index: usize, device: &Device) -> Self {
        let level = &config.levels[index];
        let before = config.levels[index.saturating_sub(1)].channels;
        let resnets = (0..level.layers)
            .map(|i| {
                let inputs = if i == 0 { before } else { level.channels };
                resnet(config, inputs, level.channels, device)
            })
            .collect();
        let attentions = if level.attention_down { level.layers } else { 0 };
        let last = index + 1 == config.levels.len();
        Self {
            resnets,
            attentions: transformers(config, level, attentions, device),
            downsampler: (!last)
                .then(|| Downsample::new(level.channels, config.downsample_padding, device)),
        }
    }

    /// Returns the map for the next block; every map that the way up needs goes onto `skips`.
    pub fn forward<'a>(
        &self,
        mut x: FeatureMap,
        time: &Tensor<2>,
        text: &mut impl Iterator<Item = &'a KeyValue>,
        skips: &mut Vec<FeatureMap>,
        probe: &mut Probe<'_>,
    ) -> FeatureMap {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, Some(time));
            probe.map(|block| format!("{block}_resnet_{i}"), &x);
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x, text);
                probe.map(|block| format!("{block}_attention_{i}"), &x);
            }
            skips.push(x.clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(x);
            skips.push(x.clone());
        }
        x
    }

    pub fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.attentions.iter()
    }
}

/// Resnet, transformer, resnet at the lowest resolution.
#[derive(Module, Debug)]
pub(super) struct MidBlock {
    resnets: Vec<Resnet>,
    attentions: Vec<Transformer>,
}

impl MidBlock {
    /// A block whose weights are still to be loaded.
    pub fn new(config: &UNetConfig, device: &Device) -> Self {
        let level = &config.levels[config.levels.len() - 1];
        let resnet = || resnet(config, level.channels, level.channels, device);
        Self {
            resnets: vec![resnet(), resnet()],
            attentions: transformers(config, level, 1, device),
        }
    }

    pub fn forward<'a>(
        &self,
        mut x: FeatureMap,
        time: &Tensor<2>,
        text: &mut impl Iterator<Item = &'a KeyValue>,
    ) -> FeatureMap {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, Some(time));
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x, text);
            }
        }
        x
    }

    pub fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.attentions.iter()
    }
}

/// Resnets at one resolution, each on the map joined with one from the way down and followed by a
/// transformer where the level has attention, then the way to twice the resolution.
#[derive(Module, Debug)]
pub(super) struct UpBlock {
    resnets: Vec<Resnet>,
    /// One per resnet, or none.
    attentions: Vec<Transformer>,
    upsampler: Option<Upsample>,
}

impl UpBlock {
    /// The block that goes up from level `index` of the config; weights are still to be loaded.
    pub fn new(config: &UNetConfig, index: usize, device: &Device) -> Self {
        let level = &config.levels[index];
        let below = config.levels.get(index + 1).unwrap_or(level).channels;
        let above = config.levels[index.saturating_sub(1)].channels;
        let layers = level.layers + 1;
        let resnets = (0..layers)
            .map(|i| {
                let inputs = if i == 0 { below } else { level.channels };
                // The last map popped is the one that came into this level on the way down.
                let skip = if i + 1 == layers { above } else { level.channels };
                resnet(config, inputs + skip, level.channels, device)
            })
            .collect();
        let attentions = if level.attention_up { layers } else { 0 };
        Self {
            resnets,
            attentions: transformers(config, level, attentions, device),
            upsampler: (index > 0).then(|| Upsample::new(level.channels, device)),
        }
    }

    pub fn forward<'a>(
        &self,
        mut x: FeatureMap,
        time: &Tensor<2>,
        text: &mut impl Iterator<Item = &'a KeyValue>,
        skips: &mut Vec<FeatureMap>,
    ) -> FeatureMap {
        for (i, resnet) in self.resnets.iter().enumerate() {
            if let Some(skip) = skips.pop() {
                x = x.concat(skip);
            }
            x = resnet.forward(x, Some(time));
            if let Some(attention) = self.attentions.get(i) {
                x = attention.forward(x, text);
            }
        }
        if let (Some(upsampler), Some(next)) = (&self.upsampler, skips.last()) {
            // The size of the next skip, since an odd side is not twice its half.
            let [_, height, width, _] = next.dims();
            x = upsampler.forward(x, height, width);
        }
        x
    }

    pub fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.attentions.iter()
    }
}
