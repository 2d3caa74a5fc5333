//! The text tower.

use std::path::Path;

use burn::module::{Module, Param};
use burn::nn::{Embedding, EmbeddingConfig, Initializer, LayerNorm, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::super::EncoderError;
use super::super::dual_encoder::unit;
use super::super::tokenizer::TokenIds;
use super::super::tokens::token_ids;
use super::super::transformer::{FusedLayer, Stream, Transformer, layer_norm};
use super::super::weights::open;
use super::model::{block_name, is_known};
use super::{ProLipConfig, ProLipOutput, ProLipTextConfig};

/// A transformer over the tokens, `[UNC]` and `[CLS]`, in this order, without any mask.
#[derive(Debug)]
pub struct TextTower {
    config: ProLipTextConfig,
    /// `[vocab_size, D]`
    token_embedding: Embedding,
    /// Of the tokens, `[context_length, D]`.
    positions: Tensor<2>,
    /// `[UNC]` and `[CLS]` with their position embeddings, `[1, 2, D]`.
    extra_tokens: Tensor<3>,
    transformer: Transformer,
    ln_final: LayerNorm,
    text_projection: Linear,
    text_uncertainty_projection: Linear,
    device: Device,
}

/// The tower as weight files store it.
#[derive(Module, Debug)]
struct Stored {
    token_embedding: Embedding,
    positional_embedding: Param<Tensor<2>>,
    cls_emb: Param<Tensor<1>>,
    unc_emb: Param<Tensor<1>>,
    layers: Vec<FusedLayer>,
    ln_final: LayerNorm,
    text_projection: Linear,
    text_uncertainty_projection: Linear,
}

impl TextTower {
    /// Loads the weights of the tower.
    ///
    /// # Errors
    /// When files are missing or malformed, or config and weights do not fit together.
    pub fn load(
        folder: &Path,
        config: &ProLipConfig,
        device: &Device,
    ) -> Result<Self, EncoderError> {
        let weights = open(folder)?.rename(|name| match name.strip_prefix("text.") {
            Some(own) => Some(block_name(own)),
            None => (!is_known(name)).then(|| name.to_owned()),
        });
        let text = &config.text;
        let (width, length) = (text.transformer.hidden_size, text.context_length);
        let linear = || LinearConfig::new(width, config.embed_dim).init(device);
        let stored = weights.load_into(Stored {
            token_embedding: EmbeddingConfig::new(text.vocab_size, width).init(device),
            positional_embedding: Initializer::Zeros.init([length + 2, width], device),
            cls_emb: Initializer::Zeros.init([width], device),
            unc_emb: Initializer::Zeros.init([width], device),
            layers: FusedLayer::init_all(&text.transformer, device),
            ln_final: layer_norm(&text.transformer, device),
            text_projection: linear(),
            text_uncertainty_projection: linear(),
        })?;
        let positions = stored.positional_embedding.val();
        let extra = Tensor::stack::<2>(vec![stored.unc_emb.val(), stored.cls_emb.val()], 0);
        Ok(Self {
            token_embedding: stored.token_embedding,
            positions: positions.clone().narrow(0, 0, length),
            extra_tokens: (extra + positions.narrow(0, length, 2)).unsqueeze(),
            transformer: Transformer::fused(stored.layers, &text.transformer),
            ln_final: stored.ln_final,
            text_projection: stored.text_projection,
            text_uncertainty_projection: stored.text_uncertainty_projection,
            device: device.clone(),
            config: text.clone(),
        })
    }

    /// Gaussians of padded texts.
    ///
    /// # Errors
    /// When there are no texts, an id is outside the vocabulary, or the texts are not padded to the
    /// context length.
    pub fn forward(&self, tokens: &TokenIds) -> Result<ProLipOutput, EncoderError> {
        let length = self.config.context_length;
        if tokens.length() != length {
            return Err(EncoderError::TextLength { found: tokens.length(), limit: length });
        }
        let ids = token_ids(tokens, length, length, self.config.vocab_size, &self.device)?;
        let embedded = self.token_embedding.forward(ids) + self.positions.clone().unsqueeze();
        let [batch, _, width] = embedded.dims();
        let extra = self.extra_tokens.clone().expand([batch, 2, width]);
        let x = Stream::fold(Tensor::cat(vec![embedded, extra], 1));
        let last = vec![x.length - 1; batch];
        let features = self.ln_final.forward(self.transformer.forward_to(x, &last));
        let mean = self.text_projection.forward(features.clone());
        Ok(ProLipOutput {
            features,
            log_variance: self.text_uncertainty_projection.forward(mean.clone()),
            mean: unit(mean),
        })
    }
}
