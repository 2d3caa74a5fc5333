//! The autoencoder between images and latents: `AutoencoderKL` of diffusers.
//!
//! Images in `[-1, 1]` become the moments of a Gaussian over latents, and latents become images.
//! Latents here are in the VAE's own scale; diffusion runs on `scaling_factor` times that.

mod config;
mod decoder;
mod encoder;
mod tiling;

use std::path::Path;

use burn::tensor::{Device, Tensor};
use rayon::prelude::*;

use crate::decoder::layers::{
    Engine, FeatureMap, GroupNorm, Linear, Resnet, ResnetOptions, Scope, SelfAttention, WeightFile,
};
use crate::decoder::model_error::ModelError;
use crate::model::precision::Precision;
use config::VaeConfig;
use decoder::Decoder;
use encoder::Encoder;
use tiling::Tiles;

pub use tiling::{TILE_STEP, VaeTiling};

/// Of every group norm, whatever the config says.
const NORM_EPS: f64 = 1e-6;
/// Bounds on the predicted log variance, so that its exponential stays finite.
const LOGVAR: (f64, f64) = (-30.0, 20.0);

/// Pixels of an image that is decoded alone on the CPU.
const LARGE_IMAGE: usize = 1 << 16;

/// An autoencoder with its weights on a device.
#[derive(Debug)]
pub struct Vae {
    config: VaeConfig,
    network: Network,
    engine: Engine,
}

#[derive(Debug)]
struct Network {
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Linear>,
    post_quant_conv: Option<Linear>,
}

/// The Gaussian over latents that an image is encoded to, in the VAE's own scale.
#[derive(Debug, Clone)]
pub struct Moments {
    /// `[B, C, h, w]`.
    pub mean: Tensor<4>,
    /// `[B, C, h, w]`, within [-30, 20].
    pub logvar: Tensor<4>,
}

impl Moments {
    /// Standard deviation `[B, C, h, w]`.
    pub fn std(&self) -> Tensor<4> {
        (self.logvar.clone() * 0.5).exp()
    }

    /// `mean + std noise`, with standard normal noise `[B, C, h, w]`.
    pub fn sample(&self, noise: Tensor<4>) -> Tensor<4> {
        self.mean.clone() + self.std() * noise
    }
}

/// What [`Vae::encode_observed`] saw on the way.
#[derive(Debug, Clone)]
pub struct EncoderTrace {
    /// After the middle block, `[B, C', h, w]`.
    pub mid: Tensor<4>,
    /// `[mean, logvar]` before clamping, `[B, 2 C, h, w]`.
    pub raw_moments: Tensor<4>,
}

impl Vae {
    /// Reads `config.json` and the weights ([`crate::model::checkpoint`]) in `folder`. They are
    /// computed with in float32 whatever the file holds: those of Stable Diffusion 1 and 2 overflow
    /// half precision.
    ///
    /// # Errors
    /// When a file is missing or damaged, the config asks for something unsupported, or the
    /// weights do not fit the config.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        Self::load_for(folder, device, Engine::for_device(device))
    }

    fn load_for(folder: &Path, device: &Device, engine: Engine) -> Result<Self, ModelError> {
        let config = VaeConfig::open(folder)?;
        let file = WeightFile::open(folder, device, engine, Precision::F32, rename)?;
        let network = Network::load(&file.root(), &config)?;
        file.finish()?;
        Ok(Self { config, network, engine })
    }

    /// Latents for diffusion are this factor times [`Moments::mean`] (or a sample).
    pub fn scaling_factor(&self) -> f64 {
        self.config.scaling_factor
    }

    /// Where a config has it, subtracted from latents before scaling and added after unscaling.
    pub fn shift_factor(&self) -> Option<f64> {
        self.config.shift_factor
    }

    /// Side of a tile in latent pixels, where images are decoded in tiles and memory asks for none
    /// smaller: that of the images the VAE was trained on.
    pub fn tile_side(&self) -> usize {
        (self.config.sample_size / self.spatial_factor()).max(1).next_multiple_of(TILE_STEP)
    }

    /// Channels C of the latents.
    pub fn latent_channels(&self) -> usize {
        self.config.latent_channels
    }

    /// Image pixels per latent pixel, along each side.
    pub fn spatial_factor(&self) -> usize {
        1 << (self.config.channels.len() - 1)
    }

    /// Images `[B, 3, H, W]` in `[-1, 1]` to the moments of their latents `[B, C, h, w]`, with h
    /// and w smaller by [`Self::spatial_factor`].
    ///
    /// # Errors
    /// When the images have other channels, or a side that the factor does not divide.
    pub fn encode(&self, images: Tensor<4>) -> Result<Moments, ModelError> {
        Ok(self.encode_observed(images)?.0)
    }

    /// As [`Self::encode`], with intermediate tensors.
    ///
    /// # Errors
    /// As [`Self::encode`].
    pub fn encode_observed(
        &self,
        images: Tensor<4>,
    ) -> Result<(Moments, EncoderTrace), ModelError> {
        let [batch, channels, height, width] = images.dims();
        let factor = self.spatial_factor();
        let fits = |side: usize| side > 0 && side.is_multiple_of(factor);
        if batch == 0 || channels != self.config.in_channels || !fits(height) || !fits(width) {
            return Err(ModelError::shape(
                "images",
                &images.dims(),
                format!(
                    "[batch, {}, height, width] with sides that are multiples of {factor}",
                    self.config.in_channels
                ),
            ));
        }
        let mut mid = None;
        let hidden =
            self.network.encoder.forward(FeatureMap::from_nchw(images, self.engine), |x| {
                mid = Some(x.clone().into_nchw())
            });
        let raw = project(self.network.quant_conv.as_ref(), hidden).into_nchw();
        let c = self.config.latent_channels;
        let mean = raw.clone().narrow(1, 0, c);
        let logvar = raw.clone().narrow(1, c, c).clamp(LOGVAR.0, LOGVAR.1);
        let trace = EncoderTrace { mid: mid.unwrap_or_else(|| raw.clone()), raw_moments: raw };
        Ok((Moments { mean, logvar }, trace))
    }

    /// Latents `[B, C, h, w]`, already divided by [`Self::scaling_factor`], to images
    /// `[B, 3, H, W]`: roughly in `[-1, 1]`, not clamped.
    ///
    /// # Errors
    /// When the latents have other channels.
    pub fn decode(&self, latents: Tensor<4>) -> Result<Tensor<4>, ModelError> {
        let [batch, _, height, width] = latents.dims();
        if self.engine == Engine::Burn || batch < 2 {
            return self.decode_with(latents, |_| {});
        }
        // On the CPU image by image: the activations of one stay in the cache, those of a batch
        // would not. A large image keeps all threads busy alone, and takes the memory it takes.
        let images = latents.split(1, 0);
        let decode = |latents| self.decode_with(latents, |_| {});
        let large = height * width * self.spatial_factor().pow(2) >= LARGE_IMAGE;
        let images: Vec<Tensor<4>> = if large {
            images.into_iter().map(decode).collect::<Result<_, _>>()?
        } else {
            images.into_par_iter().map(decode).collect::<Result<_, _>>()?
        };
        Ok(Tensor::cat(images, 0))
    }

    /// As [`Self::decode`], in overlapping tiles of `side` latent pixels (a multiple of
    /// [`TILE_STEP`], else rounded up), which takes the memory of one tile. An image that fits into
    /// one is decoded whole.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_tiled(&self, latents: Tensor<4>, side: usize) -> Result<Tensor<4>, ModelError> {
        let [_, _, height, width] = latents.dims();
        if height.max(width) <= side {
            return self.decode(latents);
        }
        Tiles::new(side, self.spatial_factor()).decode(&latents, |tile| self.decode(tile))
    }

    /// As [`Self::decode`], with the activations after the middle block, `[B, C', h, w]`.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_observed(
        &self,
        latents: Tensor<4>,
    ) -> Result<(Tensor<4>, Tensor<4>), ModelError> {
        let mut mid = None;
        let images = self.decode_with(latents, |x| mid = Some(x.clone().into_nchw()))?;
        Ok((images.clone(), mid.unwrap_or(images)))
    }

    fn decode_with(
        &self,
        latents: Tensor<4>,
        after_mid: impl FnOnce(&FeatureMap),
    ) -> Result<Tensor<4>, ModelError> {
        let dims = latents.dims();
        if dims[1] != self.config.latent_channels || dims.contains(&0) {
            return Err(ModelError::shape(
                "latents",
                &dims,
                format!("[batch, {}, height, width]", self.config.latent_channels),
            ));
        }
        let hidden = project(
            self.network.post_quant_conv.as_ref(),
            FeatureMap::from_nchw(latents, self.engine),
        );
        Ok(self.network.decoder.forward(hidden, after_mid).into_nchw())
    }
}

fn project(projection: Option<&Linear>, x: FeatureMap) -> FeatureMap {
    match projection {
        Some(projection) => projection.forward(x),
        None => x,
    }
}

/// Attention parameters had other names before diffusers 0.17.
fn rename(name: &str) -> String {
    if !name.contains(".attentions.") {
        return name.to_owned();
    }
    name.replace(".query.", ".to_q.")
        .replace(".key.", ".to_k.")
        .replace(".value.", ".to_v.")
        .replace(".proj_attn.", ".to_out.0.")
}

impl Network {
    fn load(scope: &Scope<'_>, config: &VaeConfig) -> Result<Self, ModelError> {
        let c = config.latent_channels;
        let linear = |name, size| Linear::load(&scope.at(name), size, size);
        Ok(Self {
            encoder: Encoder::load(&scope.at("encoder"), config)?,
            decoder: Decoder::load(&scope.at("decoder"), config)?,
            quant_conv: config.quant_conv.then(|| linear("quant_conv", 2 * c)).transpose()?,
            post_quant_conv: config
                .post_quant_conv
                .then(|| linear("post_quant_conv", c))
                .transpose()?,
        })
    }
}

/// `count` resnets in a row.
fn resnets(
    scope: &Scope<'_>,
    config: &VaeConfig,
    count: usize,
    inputs: usize,
    outputs: usize,
) -> Result<Vec<Resnet>, ModelError> {
    let options = ResnetOptions { time: None, groups: config.groups, epsilon: NORM_EPS };
    (0..count)
        .map(|i| {
            let inputs = if i == 0 { inputs } else { outputs };
            Resnet::load(&scope.at("resnets").at(i), inputs, outputs, options)
        })
        .collect()
}

/// Resnet, attention over all pixels, resnet at the lowest resolution.
#[derive(Debug)]
struct MidBlock {
    resnets: Vec<Resnet>,
    attention: Option<PixelAttention>,
}

impl MidBlock {
    fn load(scope: &Scope<'_>, config: &VaeConfig) -> Result<Self, ModelError> {
        let channels = config.channels[config.channels.len() - 1];
        let attention = scope.at("attentions.0");
        Ok(Self {
            resnets: resnets(scope, config, 2, channels, channels)?,
            attention: config
                .mid_attention
                .then(|| PixelAttention::load(&attention, config.groups, channels))
                .transpose()?,
        })
    }

    fn forward(&self, mut x: FeatureMap) -> FeatureMap {
        for (i, resnet) in self.resnets.iter().enumerate() {
            x = resnet.forward(x, None);
            if let Some(attention) = self.attention.as_ref().filter(|_| i == 0) {
                x = attention.forward(x);
            }
        }
        x
    }
}

/// `x + attention(norm x)` with one head.
#[derive(Debug)]
struct PixelAttention {
    group_norm: GroupNorm,
    attention: SelfAttention,
}

impl PixelAttention {
    fn load(scope: &Scope<'_>, groups: usize, channels: usize) -> Result<Self, ModelError> {
        Ok(Self {
            group_norm: GroupNorm::load(&scope.at("group_norm"), groups, channels, NORM_EPS)?,
            attention: SelfAttention::load(scope, channels, 1, true)?,
        })
    }

    fn forward(&self, x: FeatureMap) -> FeatureMap {
        self.attention.forward_add(self.group_norm.forward(&x), x)
    }
}

#[cfg(test)]
mod tests;
