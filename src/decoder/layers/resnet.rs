//! The residual block of both networks.

use super::{Conv, FeatureMap, GroupNorm, Linear, Scope};
use crate::decoder::model_error::ModelError;

/// `x + conv2(silu(norm2(conv1(silu(norm1 x)) + time_emb_proj(silu(time)))))`, as `ResnetBlock2D`
/// of diffusers. The input goes through a 1x1 convolution when the number of channels changes.
#[derive(Debug)]
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv,
    /// Absent in the VAE, which knows no time.
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv,
    conv_shortcut: Option<Linear>,
}

/// What all resnets of a network have in common.
#[derive(Debug, Clone, Copy)]
pub struct ResnetOptions {
    /// Size of the time embedding, where there is one.
    pub time: Option<usize>,
    /// Groups and epsilon of the norms.
    pub groups: usize,
    pub epsilon: f64,
}

impl Resnet {
    /// Reads the block.
    pub fn load(
        scope: &Scope<'_>,
        inputs: usize,
        outputs: usize,
        options: ResnetOptions,
    ) -> Result<Self, ModelError> {
        let ResnetOptions { time, groups, epsilon } = options;
        let linear = |name, inputs| Linear::load(&scope.at(name), inputs, outputs);
        Ok(Self {
            norm1: GroupNorm::load(&scope.at("norm1"), groups, inputs, epsilon)?,
            conv1: Conv::load(&scope.at("conv1"), inputs, outputs)?,
            time_emb_proj: time.map(|size| linear("time_emb_proj", size)).transpose()?,
            norm2: GroupNorm::load(&scope.at("norm2"), groups, outputs, epsilon)?,
            conv2: Conv::load(&scope.at("conv2"), outputs, outputs)?,
            conv_shortcut: (inputs != outputs)
                .then(|| linear("conv_shortcut", inputs))
                .transpose()?,
        })
    }

    /// `[B, H, W, in]` to `[B, H, W, out]`. `activated_time` is SiLU of the time embedding, one
    /// vector per image or one for all.
    pub fn forward(&self, x: FeatureMap, activated_time: Option<&FeatureMap>) -> FeatureMap {
        let hidden = self.norm1.forward_silu(&x);
        let hidden = match (&self.time_emb_proj, activated_time) {
            (Some(projection), Some(time)) => {
                self.conv1.forward_offset(hidden, projection.forward(time.clone()))
            }
            _ => self.conv1.forward(hidden),
        };
        let hidden = self.norm2.forward_silu(&hidden);
        let shortcut = match &self.conv_shortcut {
            Some(projection) => projection.forward(x),
            None => x,
        };
        self.conv2.forward_add(hidden, shortcut)
    }
}
