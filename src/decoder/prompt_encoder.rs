//! The text half of a Stable Diffusion pipeline: texts in, the hidden states that the UNet attends
//! to out.

use std::path::Path;

use burn::tensor::{Device, Tensor};

use super::DecodeError;
use crate::encoder::clip::{ClipTextConfig, ClipTextModel};
use crate::encoder::tokenizer::TextTokenizer;

/// A pipeline's text encoder and its tokenizer.
#[derive(Debug)]
pub struct PromptEncoder {
    tokenizer: TextTokenizer,
    model: ClipTextModel,
}

impl PromptEncoder {
    /// Reads the folders `text_encoder` and `tokenizer` of a pipeline folder.
    ///
    /// # Errors
    /// When one is missing, damaged or unsupported, or the two do not fit each other.
    pub fn load(pipeline: &Path, device: &Device) -> Result<Self, DecodeError> {
        let model = ClipTextModel::load(&pipeline.join("text_encoder"), device)?;
        let config = model.config();
        let tokenizer =
            TextTokenizer::clip(&pipeline.join("tokenizer"), config.max_position_embeddings)?;
        tokenizer.check_vocab_size(config.vocab_size)?;
        Ok(Self { tokenizer, model })
    }

    /// What the text encoder was built from.
    pub fn config(&self) -> &ClipTextConfig {
        self.model.config()
    }

    /// Tokens L of every text, begin, end and padding included.
    pub fn length(&self) -> usize {
        self.tokenizer.max_length()
    }

    /// Width E of a hidden state.
    pub fn width(&self) -> usize {
        self.config().transformer.hidden_size
    }

    /// Hidden states of texts after the final norm, `[N, L, E]`.
    ///
    /// # Errors
    /// When there are no texts, or one cannot be tokenized.
    pub fn encode(&self, texts: &[&str]) -> Result<Tensor<3>, DecodeError> {
        let tokens = self.tokenizer.encode(texts)?;
        Ok(self.model.last_hidden_state(&tokens)?)
    }

    /// Hidden states of one text, `[L E]`: token after token.
    ///
    /// # Errors
    /// As [`Self::encode`], when the device fails, and when a state is not finite.
    pub fn prompt_embeds(&self, text: &str) -> Result<Vec<f32>, DecodeError> {
        let values = self
            .encode(&[text])?
            .try_into_vec_as::<f32>()
            .map_err(|error| DecodeError::Device { batch_size: 1, reason: error.to_string() })?;
        match values.iter().all(|v| v.is_finite()) {
            true => Ok(values),
            false => Err(DecodeError::EmbeddingNotFinite { tile: 0 }),
        }
    }

    /// Tokens at the end of a text that are beyond the limit and never seen.
    ///
    /// # Errors
    /// When the text cannot be tokenized.
    pub fn tokens_cut(&self, text: &str) -> Result<usize, DecodeError> {
        Ok(self.tokenizer.token_count(text)?.saturating_sub(self.length()))
    }
}
