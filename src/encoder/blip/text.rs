//! The text tower: BERT (Devlin et al. 2018, arXiv 1810.04805) without token types.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::super::EncoderError;
use super::super::activation::Activation;
use super::super::attention::{CrossAttention, SelfAttention, padding_mask};
use super::super::config::TransformerConfig;
use super::super::tokenizer::TokenIds;
use super::super::tokens::token_ids;
use super::super::transformer::{Stream, layer_norm};
use super::model::open;
use super::{BlipConfig, BlipTextConfig};

/// `BlipTextModel` with `text_proj`: every token sees every token that is not padding; the first
/// one is the pooled one.
#[derive(Debug)]
pub struct BlipTextModel {
    config: BlipTextConfig,
    /// `[vocab_size, D]`
    word_embeddings: Embedding,
    /// `[max_position_embeddings, D]`
    position_embeddings: Tensor<2>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    text_proj: Linear,
    device: Device,
}

/// One post-norm layer: x = LN(x + attention(x)), then, where an image is read, the same with
/// attention to its tokens, then x = LN(x + fc2(act(fc1 x))).
#[derive(Debug)]
struct Layer {
    attention: SelfAttention,
    attention_norm: LayerNorm,
    cross: Option<(CrossAttention, LayerNorm)>,
    fc1: Linear,
    fc2: Linear,
    norm: LayerNorm,
    activation: Activation,
}

/// The tower as weight files store it.
#[derive(Module, Debug)]
struct Stored {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    norm: LayerNorm,
    layer: Vec<StoredLayer>,
    text_proj: Linear,
}

#[derive(Module, Debug)]
struct StoredLayer {
    attention: StoredAttention,
    crossattention: Option<StoredAttention>,
    fc1: Linear,
    fc2: Linear,
    norm: LayerNorm,
}

#[derive(Module, Debug)]
struct StoredAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: LayerNorm,
}

impl StoredAttention {
    fn init(config: &TransformerConfig, context: usize, device: &Device) -> Self {
        let width = config.hidden_size;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        Self {
            query: linear(width, width),
            key: linear(context, width),
            value: linear(context, width),
            out: linear(width, width),
            norm: layer_norm(config, device),
        }
    }
}

impl BlipTextModel {
    /// Loads the weights of a folder that holds a `BlipForImageTextRetrieval`; `with_images` those
    /// of the attention to images too.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(
        folder: &Path,
        config: &BlipConfig,
        with_images: bool,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let weights = open(folder, config)?.rename(|name| {
            let Some(own) = name.strip_prefix("text_encoder.") else {
                return name.starts_with("text_proj.").then(|| name.to_owned());
            };
            let other = own.contains(".crossattention.") && !with_images;
            (!other).then(|| short(own))
        });
        let text = &config.text;
        let transformer = &text.transformer;
        let (width, inner) = (transformer.hidden_size, transformer.intermediate_size);
        let image_width = config.vision.transformer.hidden_size;
        let linear = |from, to| LinearConfig::new(from, to).init(device);
        let stored = weights.load_into(Stored {
            word_embeddings: EmbeddingConfig::new(text.vocab_size, width).init(device),
            position_embeddings: EmbeddingConfig::new(text.max_position_embeddings, width)
                .init(device),
            norm: layer_norm(transformer, device),
            layer: (0..transformer.num_hidden_layers)
                .map(|_| StoredLayer {
                    attention: StoredAttention::init(transformer, width, device),
                    crossattention: with_images
                        .then(|| StoredAttention::init(transformer, image_width, device)),
                    fc1: linear(width, inner),
                    fc2: linear(inner, width),
                    norm: layer_norm(transformer, device),
                })
                .collect(),
            text_proj: linear(width, config.image_text_hidden_size),
        })?;
        Ok(Self {
            word_embeddings: stored.word_embeddings,
            position_embeddings: stored.position_embeddings.weight.val(),
            norm: stored.norm,
            layers: stored.layer.into_iter().map(|l| Layer::new(l, transformer)).collect(),
            text_proj: stored.text_proj,
            device: device.clone(),
            config: text.clone(),
        })
    }

    /// All tokens after the last layer, `[B, L, D]`; `image` `[B, T, C]` are the tokens of the image
    /// that each text is read with. What stands at padding means nothing.
    ///
    /// # Errors
    /// When there are no texts, an id is outside the vocabulary, or the texts are longer than the
    /// model reads.
    pub fn last_hidden_state(
        &self,
        tokens: &TokenIds,
        image: Option<&Tensor<3>>,
    ) -> Result<Tensor<3>, EncoderError> {
        let (limit, length) = (self.config.max_position_embeddings, tokens.length());
        let ids = token_ids(tokens, length, limit, self.config.vocab_size, &self.device)?;
        let positions = self.position_embeddings.clone().narrow(0, 0, length).unsqueeze();
        let embedded = self.word_embeddings.forward(ids) + positions;
        let mask = padding_mask(&tokens.attention_mask(), length, &self.device);
        let x = Stream::fold(embedded).map(|x| self.norm.forward(x));
        let run = |x: Stream, layer: &Layer| layer.forward(x, mask.as_ref(), image);
        Ok(self.layers.iter().fold(x, run).unfold())
    }

    /// The first token of each text, `[B, D]`: what [`Self::project`] takes.
    ///
    /// # Errors
    /// As [`Self::last_hidden_state`].
    pub fn pool(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError> {
        Ok(self.last_hidden_state(tokens, None)?.narrow(1, 0, 1).squeeze_dim(1))
    }

    /// Projects pooled features `[B, D]` into the shared space, not yet of unit length.
    pub fn project(&self, pooled: Tensor<2>) -> Tensor<2> {
        self.text_proj.forward(pooled)
    }
}

impl Layer {
    fn new(stored: StoredLayer, config: &TransformerConfig) -> Self {
        let heads = config.num_attention_heads;
        let StoredAttention { query, key, value, out, norm } = stored.attention;
        let cross = stored.crossattention.map(|cross| {
            let StoredAttention { query, key, value, out, norm } = cross;
            (CrossAttention::new(query, key, value, out, heads), norm)
        });
        Self {
            attention: SelfAttention::new(query, key, value, out, heads),
            attention_norm: norm,
            cross,
            fc1: stored.fc1,
            fc2: stored.fc2,
            norm: stored.norm,
            activation: config.hidden_act,
        }
    }

    fn forward(&self, x: Stream, mask: Option<&Tensor<4>>, image: Option<&Tensor<3>>) -> Stream {
        let shape = (x.batch, x.length);
        let x = x.map(|x| {
            self.attention_norm.forward(x.clone() + self.attention.forward(x, shape, mask))
        });
        let x = match (&self.cross, image) {
            (Some((attention, norm)), Some(image)) => {
                let x = x.unfold();
                Stream::fold(norm.forward(x.clone() + attention.forward(x, image.clone())))
            }
            _ => x,
        };
        x.map(|x| {
            let inner = self.activation.forward(self.fc1.forward(x.clone()));
            self.norm.forward(x + self.fc2.forward(inner))
        })
    }
}

/// The names of BERT without the levels of its module tree that hold one child each.
fn short(name: &str) -> String {
    let name = name.strip_prefix("embeddings.").unwrap_or(name);
    let name = name.strip_prefix("encoder.").unwrap_or(name);
    name.replace("attention.self.", "attention.")
        .replace("attention.output.dense.", "attention.out.")
        .replace("attention.output.LayerNorm.", "attention.norm.")
        .replace(".intermediate.dense.", ".fc1.")
        .replace(".output.dense.", ".fc2.")
        .replace(".output.LayerNorm.", ".norm.")
        .replace("LayerNorm.", "norm.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_the_levels_with_one_child() {
        for (long, expected) in [
            ("embeddings.LayerNorm.bias", "norm.bias"),
            ("embeddings.word_embeddings.weight", "word_embeddings.weight"),
            ("encoder.layer.3.attention.self.query.bias", "layer.3.attention.query.bias"),
            ("encoder.layer.3.attention.output.dense.weight", "layer.3.attention.out.weight"),
            (
                "encoder.layer.0.crossattention.output.LayerNorm.bias",
                "layer.0.crossattention.norm.bias",
            ),
            ("encoder.layer.0.intermediate.dense.bias", "layer.0.fc1.bias"),
            ("encoder.layer.0.output.dense.bias", "layer.0.fc2.bias"),
            ("encoder.layer.0.output.LayerNorm.weight", "layer.0.norm.weight"),
        ] {
            assert_eq!(short(long), expected);
        }
    }
}
