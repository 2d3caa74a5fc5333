//! The denoising network: `UNet2DConditionModel` of diffusers in the shapes of Stable Diffusion
//! 1.5, 2.1 and 2.1 unCLIP.
//!
//! Noisy latents, a timestep, text states and (unCLIP) a class vector come in; the predicted noise
//! or velocity goes out. It knows nothing of schedules and guidance.

mod blocks;
mod config;
pub(super) mod timestep;
mod transformer;

use std::path::Path;

use burn::tensor::{DType, Device, Tensor};

use crate::decoder::layers::{Conv, Engine, FeatureMap, GroupNorm, KeyValue, Scope, WeightFile};
use crate::decoder::model_error::ModelError;
use crate::model::precision::Precision;
use blocks::{DownBlock, MidBlock, UpBlock};
use config::UNetConfig;
use timestep::{Embedding, Sinusoids};

pub use timestep::Timestep;

/// A UNet with its weights on a device.
#[derive(Debug)]
pub struct UNet {
    config: UNetConfig,
    network: Network,
    device: Device,
    engine: Engine,
    /// What the layers compute in, but for the embeddings of time and class, the norms and the
    /// softmax of attention, which are float32.
    precision: Precision,
}

#[derive(Debug)]
struct Network {
    time_embedding: Embedding,
    class_embedding: Option<Embedding>,
    conv_in: Conv,
    down_blocks: Vec<DownBlock>,
    mid_block: MidBlock,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv,
}

/// What the text and the class vector contribute, the same at every denoising step.
#[derive(Debug, Clone)]
pub struct Conditioning {
    /// One vector, or one per image.
    class_embedding: Option<FeatureMap>,
    /// Rows R of the text.
    text_rows: usize,
    /// Keys and values of every attention to the text, in the order of evaluation.
    text: Vec<KeyValue>,
}

impl Conditioning {
    /// The embedded class vector `[K, T]`, for a model that takes one.
    pub fn class_embedding(&self) -> Option<Tensor<2>> {
        self.class_embedding.clone().map(FeatureMap::into_vectors)
    }
}

/// A tensor from inside the network.
#[derive(Debug, Clone)]
pub enum Intermediate {
    /// `[N, size]`: an embedding.
    Vector(Tensor<2>),
    /// `[B, C, H, W]`: activations.
    Map(Tensor<4>),
}

/// Receives intermediate tensors by name.
type Observer<'a> = &'a mut dyn FnMut(&str, Intermediate);

/// Hands intermediate tensors to whoever asked for them.
struct Probe<'a> {
    observer: Option<Observer<'a>>,
    block: String,
}

impl Probe<'_> {
    fn enter(&mut self, block: impl FnOnce() -> String) {
        if self.observer.is_some() {
            self.block = block();
        }
    }

    fn vector(&mut self, name: &str, value: &FeatureMap) {
        if let Some(observer) = &mut self.observer {
            observer(name, Intermediate::Vector(value.clone().into_vectors()));
        }
    }

    fn map(&mut self, name: impl FnOnce(&str) -> String, value: &FeatureMap) {
        if let Some(observer) = &mut self.observer {
            observer(&name(&self.block), Intermediate::Map(value.clone().into_nchw()));
        }
    }
}

impl UNet {
    /// Reads `config.json` and the weights ([`crate::model::checkpoint`]) in `folder`, to compute
    /// in float32.
    ///
    /// # Errors
    /// When a file is missing or damaged, the config asks for something unsupported, or the
    /// weights do not fit the config.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, ModelError> {
        Self::load_in(folder, device, Precision::F32)
    }

    /// As [`Self::load`], to compute in `precision`; the kernels of the CPU stay in float32. Latents,
    /// conditions and predictions are float32 in every precision.
    ///
    /// # Errors
    /// As [`Self::load`], and when a weight is beyond the range of the precision.
    pub fn load_in(
        folder: &Path,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, ModelError> {
        Self::load_for(folder, device, Engine::for_device(device), precision)
    }

    fn load_for(
        folder: &Path,
        device: &Device,
        engine: Engine,
        precision: Precision,
    ) -> Result<Self, ModelError> {
        let precision = engine.precision(precision);
        let config = UNetConfig::open(folder)?;
        let file = WeightFile::open(folder, device, engine, precision, str::to_owned)?;
        let network = Network::load(&file.root(), &config)?;
        file.finish()?;
        Ok(Self { config, network, device: device.clone(), engine, precision })
    }

    /// What the layers compute in.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Channels of the latents that come in.
    pub fn in_channels(&self) -> usize {
        self.config.in_channels
    }

    /// Channels of the prediction.
    pub fn out_channels(&self) -> usize {
        self.config.out_channels
    }

    /// Height and width, in latent pixels, the model was trained on.
    pub fn sample_size(&self) -> Option<[usize; 2]> {
        self.config.sample_size
    }

    /// Width E of the text states.
    pub fn text_dim(&self) -> usize {
        self.config.cross_attention_dim
    }

    /// Length P of the class vector, for a model that takes one.
    pub fn class_vector_len(&self) -> Option<usize> {
        self.config.class_vector
    }

    /// Computes what stays the same over all denoising steps: the embedded class vector and, for
    /// every attention to the text, keys and values.
    ///
    /// `encoder_hidden_states`: `[R, L, E]`. Row r serves the images `r B / R .. (r + 1) B / R` of
    /// a batch of B: one row for all images, one each, or one per guidance half.
    /// `class_labels`: `[B, P]`, or `[1, P]` for all images alike.
    ///
    /// # Errors
    /// When a shape does not fit the model, or the class vector is missing or not wanted.
    pub fn prepare(
        &self,
        encoder_hidden_states: Tensor<3>,
        class_labels: Option<Tensor<2>>,
    ) -> Result<Conditioning, ModelError> {
        let [text_rows, length, width] = encoder_hidden_states.dims();
        if width != self.text_dim() || text_rows == 0 || length == 0 {
            return Err(ModelError::shape(
                "encoder_hidden_states",
                &encoder_hidden_states.dims(),
                format!("[rows, length, {}]", self.text_dim()),
            ));
        }
        let class_embedding = match (&self.network.class_embedding, class_labels) {
            (None, None) => None,
            (Some(embedding), Some(labels)) => {
                let expected = self.config.class_vector.unwrap_or_default();
                if labels.dims()[1] != expected {
                    return Err(ModelError::shape(
                        "class_labels",
                        &labels.dims(),
                        format!("[batch, {expected}]"),
                    ));
                }
                Some(embedding.forward(FeatureMap::from_vectors(labels, self.engine)))
            }
            (Some(_), None) => {
                return Err(ModelError::Input(
                    "this UNet needs a class vector (class_embed_type is \"projection\")".into(),
                ));
            }
            (None, Some(_)) => {
                return Err(ModelError::Input(
                    "this UNet takes no class vector (class_embed_type is null); \
                     an unCLIP UNet does"
                        .into(),
                ));
            }
        };
        let text = encoder_hidden_states.reshape([text_rows, 1, length, width]);
        let text = FeatureMap::new(text, self.engine).cast(self.precision.dtype());
        let text = self
            .network
            .transformers()
            .flat_map(|transformer| transformer.key_values(&text))
            .collect();
        Ok(Conditioning { class_embedding, text_rows, text })
    }

    /// One evaluation with the conditioning computed on the way; see [`Self::prepare`] and
    /// [`Self::forward_prepared`].
    ///
    /// # Errors
    /// When a shape does not fit the model.
    pub fn forward(
        &self,
        sample: Tensor<4>,
        timestep: impl Into<Timestep>,
        encoder_hidden_states: Tensor<3>,
        class_labels: Option<Tensor<2>>,
    ) -> Result<Tensor<4>, ModelError> {
        let conditioning = self.prepare(encoder_hidden_states, class_labels)?;
        self.forward_prepared(sample, timestep, &conditioning)
    }

    /// One evaluation: `sample` `[B, C, H, W]` of any height and width to the prediction of the
    /// same height and width.
    ///
    /// # Errors
    /// When a shape does not fit the model or the conditioning.
    pub fn forward_prepared(
        &self,
        sample: Tensor<4>,
        timestep: impl Into<Timestep>,
        conditioning: &Conditioning,
    ) -> Result<Tensor<4>, ModelError> {
        let mut probe = Probe { observer: None, block: String::new() };
        self.run(sample, &timestep.into(), conditioning, &mut probe)
    }

    /// As [`Self::forward_prepared`], and hands every intermediate tensor to `observer`:
    /// `time_proj`, `time_embedding`, `conv_in`, `down_{i}_resnet_{j}`, `down_{i}_attention_{j}`,
    /// `down_{i}`, `mid`, `up_{i}`.
    ///
    /// # Errors
    /// When a shape does not fit the model or the conditioning.
    pub fn forward_observed(
        &self,
        sample: Tensor<4>,
        timestep: impl Into<Timestep>,
        conditioning: &Conditioning,
        observer: &mut dyn FnMut(&str, Intermediate),
    ) -> Result<Tensor<4>, ModelError> {
        let mut probe = Probe { observer: Some(observer), block: String::new() };
        self.run(sample, &timestep.into(), conditioning, &mut probe)
    }

    fn run(
        &self,
        sample: Tensor<4>,
        timestep: &Timestep,
        conditioning: &Conditioning,
        probe: &mut Probe<'_>,
    ) -> Result<Tensor<4>, ModelError> {
        self.check(&sample, timestep, conditioning)?;
        let network = &self.network;
        let encoded = self.sinusoids().encode(timestep.values(), &self.device);
        let encoded = FeatureMap::from_vectors(encoded, self.engine);
        probe.vector("time_proj", &encoded);
        let mut embedding = network.time_embedding.forward(encoded);
        probe.vector("time_embedding", &embedding);
        if let Some(class) = &conditioning.class_embedding {
            embedding = embedding.add(class.clone());
        }
        // Every resnet starts with SiLU of the embedding.
        let dtype = self.precision.dtype();
        let time = embedding.silu().cast(dtype);

        let mut text = conditioning.text.iter();
        let sample = FeatureMap::from_nchw(sample, self.engine).cast(dtype);
        let mut x = network.conv_in.forward(sample);
        probe.map(|_| "conv_in".into(), &x);
        let mut skips = vec![x.clone()];
        for (i, block) in network.down_blocks.iter().enumerate() {
            probe.enter(|| format!("down_{i}"));
            x = block.forward(x, &time, &mut text, &mut skips, probe);
            probe.map(str::to_owned, &x);
        }
        x = network.mid_block.forward(x, &time, &mut text);
        probe.map(|_| "mid".into(), &x);
        for (i, block) in network.up_blocks.iter().enumerate() {
            x = block.forward(x, &time, &mut text, &mut skips);
            probe.map(|_| format!("up_{i}"), &x);
        }
        let x = network.conv_out.forward(network.conv_norm_out.forward_silu(&x));
        Ok(x.cast(DType::F32).into_nchw())
    }

    fn sinusoids(&self) -> Sinusoids {
        Sinusoids {
            size: self.config.levels[0].channels,
            cosines_first: self.config.flip_sin_to_cos,
            freq_shift: self.config.freq_shift,
        }
    }

    fn check(
        &self,
        sample: &Tensor<4>,
        timestep: &Timestep,
        conditioning: &Conditioning,
    ) -> Result<(), ModelError> {
        let [batch, channels, height, width] = sample.dims();
        if channels != self.in_channels() || [batch, height, width].contains(&0) {
            return Err(ModelError::shape(
                "sample",
                &sample.dims(),
                format!("[batch, {}, height, width]", self.in_channels()),
            ));
        }
        let rows = timestep.values().len();
        if rows != 1 && rows != batch {
            return Err(ModelError::Input(format!(
                "{rows} timesteps for {batch} images, expected one, or one per image"
            )));
        }
        let rows = conditioning.text_rows;
        if rows == 0 || batch % rows != 0 {
            return Err(ModelError::Input(format!(
                "{rows} rows of text for {batch} images, expected a divisor of that"
            )));
        }
        if let Some(class) = &conditioning.class_embedding {
            let [rows, ..] = class.dims();
            if rows != 1 && rows != batch {
                return Err(ModelError::Input(format!(
                    "{rows} class vectors for {batch} images, expected one, or one per image"
                )));
            }
        }
        Ok(())
    }
}

impl Network {
    fn load(scope: &Scope<'_>, config: &UNetConfig) -> Result<Self, ModelError> {
        let levels = config.levels.len();
        let first = config.levels[0].channels;
        let embedding =
            |name, inputs| Embedding::load(&scope.in_f32().at(name), inputs, config.time_embedding);
        let (down, up) = (scope.at("down_blocks"), scope.at("up_blocks"));
        Ok(Self {
            time_embedding: embedding("time_embedding", first)?,
            class_embedding: config
                .class_vector
                .map(|inputs| embedding("class_embedding", inputs))
                .transpose()?,
            conv_in: Conv::load(&scope.at("conv_in"), config.in_channels, first)?,
            down_blocks: (0..levels)
                .map(|i| DownBlock::load(&down.at(i), config, i))
                .collect::<Result<_, _>>()?,
            mid_block: MidBlock::load(&scope.at("mid_block"), config)?,
            up_blocks: (0..levels)
                .map(|i| UpBlock::load(&up.at(i), config, levels - 1 - i))
                .collect::<Result<_, _>>()?,
            conv_norm_out: GroupNorm::load(
                &scope.at("conv_norm_out"),
                config.groups,
                first,
                config.norm_eps,
            )?,
            conv_out: Conv::load(&scope.at("conv_out"), first, config.out_channels)?,
        })
    }

    /// All transformers in the order of evaluation.
    fn transformers(&self) -> impl Iterator<Item = &transformer::Transformer> {
        let down = self.down_blocks.iter().flat_map(DownBlock::transformers);
        let up = self.up_blocks.iter().flat_map(UpBlock::transformers);
        down.chain(self.mid_block.transformers()).chain(up)
    }
}

#[cfg(test)]
mod tests;
