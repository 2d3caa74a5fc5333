//! The levels of the UNet: down, middle, up.

use super::Probe;
use super::config::{Level, UNetConfig};
use super::transformer::{Transformer, TransformerOptions};
use crate::decoder::layers::{
    Downsample, FeatureMap, KeyValue, Resnet, ResnetOptions, Scope, Upsample,
};
use crate::decoder::model_error::ModelError;

/// Resnet number `index` of a block.
fn resnet(
    scope: &Scope<'_>,
    config: &UNetConfig,
    index: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Resnet, ModelError> {
    let options = ResnetOptions {
        time: Some(config.time_embedding),
        groups: config.groups,
        epsilon: config.norm_eps,
    };
    Resnet::load(&scope.at("resnets").at(index), inputs, outputs, options)
}

/// The `count` transformers of a block.
fn transformers(
    scope: &Scope<'_>,
    config: &UNetConfig,
    level: &Level,
    count: usize,
) -> Result<Vec<Transformer>, ModelError> {
    let options = TransformerOptions {
        channels: level.channels,
        context: config.cross_attention_dim,
        heads: level.heads,
        blocks: level.transformers,
        groups: config.groups,
    };
    (0..count).map(|i| Transformer::load(&scope.at("attentions").at(i), options)).collect()
}

/// Resnets at one resolution, each followed by a transformer where the level has attention, then
/// the way to half the resolution.
#[derive(Debug)]
pub(super) struct DownBlock {
    resnets: Vec<Resnet>,
    /// One per resnet, or none.
    attentions: Vec<Transformer>,
    downsampler: Option<Downsample>,
}

impl DownBlock {
    /// Reads the block of level `index`.
    pub fn load(scope: &Scope<'_>, config: &UNetConfig, index: usize) -> Result<Self, ModelError> {
        let level = &config.levels[index];
        let before = config.levels[index.saturating_sub(1)].channels;
        let resnets = (0..level.layers).map(|i| {
            let inputs = if i == 0 { before } else { level.channels };
            resnet(scope, config, i, inputs, level.channels)
        });
        let attentions = if level.attention_down { level.layers } else { 0 };
        let last = index + 1 == config.levels.len();
        let padding = config.downsample_padding;
        Ok(Self {
            resnets: resnets.collect::<Result<_, _>>()?,
            attentions: transformers(scope, config, level, attentions)?,
            downsampler: (!last)
                .then(|| Downsample::load(&scope.at("downsamplers.0"), level.channels, padding))
                .transpose()?,
        })
    }

    /// Returns the map for the next block; every map that the way up needs goes onto `skips`.
    pub fn forward<'a>(
        &self,
        mut x: FeatureMap,
        time: &FeatureMap,
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
#[derive(Debug)]
pub(super) struct MidBlock {
    resnets: [Resnet; 2],
    attentions: Vec<Transformer>,
}

impl MidBlock {
    /// Reads the block.
    pub fn load(scope: &Scope<'_>, config: &UNetConfig) -> Result<Self, ModelError> {
        let level = &config.levels[config.levels.len() - 1];
        let resnet = |index| resnet(scope, config, index, level.channels, level.channels);
        Ok(Self {
            resnets: [resnet(0)?, resnet(1)?],
            attentions: transformers(scope, config, level, 1)?,
        })
    }

    pub fn forward<'a>(
        &self,
        x: FeatureMap,
        time: &FeatureMap,
        text: &mut impl Iterator<Item = &'a KeyValue>,
    ) -> FeatureMap {
        let [before, after] = &self.resnets;
        let mut x = before.forward(x, Some(time));
        for attention in &self.attentions {
            x = attention.forward(x, text);
        }
        after.forward(x, Some(time))
    }

    pub fn transformers(&self) -> impl Iterator<Item = &Transformer> {
        self.attentions.iter()
    }
}

/// Resnets at one resolution, each on the map joined with one from the way down and followed by a
/// transformer where the level has attention, then the way to twice the resolution.
#[derive(Debug)]
pub(super) struct UpBlock {
    resnets: Vec<Resnet>,
    /// One per resnet, or none.
    attentions: Vec<Transformer>,
    upsampler: Option<Upsample>,
}

impl UpBlock {
    /// Reads the block that goes up from level `index`.
    pub fn load(scope: &Scope<'_>, config: &UNetConfig, index: usize) -> Result<Self, ModelError> {
        let level = &config.levels[index];
        let below = config.levels.get(index + 1).unwrap_or(level).channels;
        let above = config.levels[index.saturating_sub(1)].channels;
        let layers = level.layers + 1;
        let resnets = (0..layers).map(|i| {
            let inputs = if i == 0 { below } else { level.channels };
            // The last map popped is the one that came into this level on the way down.
            let skip = if i + 1 == layers { above } else { level.channels };
            resnet(scope, config, i, inputs + skip, level.channels)
        });
        let attentions = if level.attention_up { layers } else { 0 };
        Ok(Self {
            resnets: resnets.collect::<Result<_, _>>()?,
            attentions: transformers(scope, config, level, attentions)?,
            upsampler: (index > 0)
                .then(|| Upsample::load(&scope.at("upsamplers.0"), level.channels))
                .transpose()?,
        })
    }

    pub fn forward<'a>(
        &self,
        mut x: FeatureMap,
        time: &FeatureMap,
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
