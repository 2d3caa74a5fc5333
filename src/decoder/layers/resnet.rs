//! The residual block of both networks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};

use super::{Conv, FeatureMap, GroupNorm, Linear};

/// `x + conv2(silu(norm2(conv1(silu(norm1 x)) + time_emb_proj(silu(time)))))`, as `ResnetBlock2D`
/// of diffusers. The input goes through a 1x1 convolution when the number of channels changes.
#[derive(Module, Debug)]
pub struct Resnet {
    norm1: GroupNorm,
    conv1: Conv,
    /// Absent in the VAE, which knows no time.
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv,
    conv_shortcut: Option<Linear>,
}

impl Resnet {
    /// A block whose weights are still to be loaded. `time` is the size of the time embedding,
    /// where there is one.
    pub fn new(
        inputs: usize,
        outputs: usize,
        time: Option<usize>,
        groups: usize,
        epsilon: f64,
        device: &Device,
    ) -> Self {
        Self {
            norm1: GroupNorm::new(groups, inputs, epsilon, device),
            conv1: Conv::new(inputs, outputs, device),
            time_emb_proj: time.map(|size| Linear::new(size, outputs, device)),
            norm2: GroupNorm::new(groups, outputs, epsilon, device),
            conv2: Conv::new(outputs, outputs, device),
            conv_shortcut: (inputs != outputs).then(|| Linear::new(inputs, outputs, device)),
        }
    }

    /// `[B, H, W, in]` to `[B, H, W, out]`. `activated_time` is SiLU of the time embedding,
    /// `[B, time]` or `[1, time]`.
    pub fn forward(&self, x: FeatureMap, activated_time: Option<&Tensor<2>>) -> FeatureMap {
        let mut hidden = self.conv1.forward(self.norm1.forward_silu(&x));
        if let (Some(projection), Some(time)) = (&self.time_emb_proj, activated_time) {
            hidden = hidden.add_to_pixels(projection.forward(time.clone()));
        }
        let hidden = self.conv2.forward(self.norm2.forward_silu(&hidden));
        let shortcut = match &self.conv_shortcut {
            Some(projection) => projection.forward_map(x),
            None => x,
        };
        hidden.add(shortcut)
    }
}
