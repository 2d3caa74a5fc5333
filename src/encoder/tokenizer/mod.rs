//! Tokenizers: texts in, token ids out, padded to one length.
//!
//! One type, [`TextTokenizer`], is set up in the ways of CLIP ([`TextTokenizer::clip`]), BERT
//! ([`TextTokenizer::bert`]) and SigLIP ([`TextTokenizer::siglip`], [`TextTokenizer::prolip`]) from
//! the files that their published folders have.

mod bert;
mod clip;
mod files;
mod siglip;

use std::path::{Path, PathBuf};

pub use siglip::TextCleaning;
use tokenizers::{AddedToken, Encoding, Tokenizer, TruncationDirection};

use super::EncoderError;

/// Token ids of a batch of texts, padded to one length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenIds {
    /// `[B, L]`, row-major.
    ids: Vec<u32>,
    length: usize,
    /// Tokens of each text with its begin and end token, before truncation.
    counts: Vec<usize>,
}

impl TokenIds {
    /// Takes ids as they are, `[B, L]` row-major; none of them counts as padding.
    ///
    /// # Panics
    /// When `length` is zero or does not divide the number of ids.
    pub fn from_ids(ids: Vec<u32>, length: usize) -> Self {
        assert!(length > 0 && ids.len().is_multiple_of(length), "{} ids by {length}", ids.len());
        let counts = vec![length; ids.len() / length];
        Self { ids, length, counts }
    }

    /// The same ids of which the first `counts[b]` of text b are tokens and the rest is padding.
    ///
    /// # Panics
    /// When there is not one count for each text.
    pub fn with_counts(self, counts: Vec<usize>) -> Self {
        assert_eq!(counts.len(), self.batch(), "one count for each text");
        Self { counts, ..self }
    }

    /// Number of texts B.
    pub fn batch(&self) -> usize {
        self.counts.len()
    }

    /// Padded length L.
    pub fn length(&self) -> usize {
        self.length
    }

    /// All ids, `[B, L]` row-major.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// The `L` ids of each text.
    pub fn rows(&self) -> impl Iterator<Item = &[u32]> {
        self.ids.chunks_exact(self.length)
    }

    /// Tokens of text `index` before truncation, with its begin and end token.
    pub fn count(&self, index: usize) -> usize {
        self.counts[index]
    }

    /// How many tokens of text `index` did not fit and are not seen by the model.
    pub fn cut_off(&self, index: usize) -> usize {
        self.counts[index].saturating_sub(self.length)
    }

    /// 1 where a token is, 0 where padding is; `[B, L]` row-major.
    pub fn attention_mask(&self) -> Vec<u8> {
        let row = |&count: &usize| (0..self.length).map(move |i| u8::from(i < count));
        self.counts.iter().flat_map(row).collect()
    }
}

/// How far texts are padded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Padding {
    /// To the length the model reads, which it was trained with.
    Full,
    /// To the longest of a batch: the model does not see padding.
    Longest,
}

/// A tokenizer with the length its model reads.
#[derive(Debug, Clone)]
pub struct TextTokenizer {
    tokenizer: Tokenizer,
    max_length: usize,
    padding: Padding,
    /// How many tokens the post-processor adds (begin and end, or end alone).
    added: usize,
    pad_id: u32,
    /// What happens to a text before anything else.
    clean: fn(&str) -> String,
    path: PathBuf,
}

/// What a kind of model expects of its tokenizer.
struct Setup<'a> {
    /// The padding token.
    pad: &'a str,
    /// Tokens that a text gets beside its own, and what they are.
    added: (usize, &'static str),
    padding: Padding,
    clean: fn(&str) -> String,
    max_length: usize,
}

impl TextTokenizer {
    /// From the bytes of a `tokenizer.json`, which come from the file at `path`.
    fn from_document(bytes: &[u8], path: &Path, setup: &Setup<'_>) -> Result<Self, EncoderError> {
        let error = |reason: String| EncoderError::Tokenizer { path: path.to_owned(), reason };
        // The parser panics on merges that lead outside the vocabulary.
        let parsed = std::panic::catch_unwind(|| Tokenizer::from_bytes(bytes));
        let mut tokenizer = parsed
            .map_err(|_| error("its merges and vocabulary do not fit together".to_owned()))?
            .map_err(|e| error(format!("not a tokenizer: {e}")))?;
        let unusable = |e: tokenizers::Error| error(e.to_string());
        tokenizer.with_truncation(None).map_err(unusable)?;
        tokenizer.with_padding(None);

        let Setup { pad, added: (expected, what), padding, clean, max_length } = *setup;
        // A padding token that only the companion files name is a special token all the same.
        if !tokenizer.get_added_vocabulary().get_vocab().contains_key(pad) {
            let token = AddedToken::from(pad, true).normalized(false);
            tokenizer.add_special_tokens([token]).map_err(unusable)?;
        }
        let pad_id = tokenizer
            .token_to_id(pad)
            .ok_or_else(|| error(format!("padding token {pad:?} is not in the vocabulary")))?;
        let added = tokenizer.encode_fast("", true).map_err(unusable)?.len();
        if added != expected {
            return Err(error(format!(
                "it adds {added} special token(s) to a text, expected {expected} ({what})"
            )));
        }
        if max_length < added {
            return Err(error(format!("a length of {max_length} leaves no room for {what}")));
        }
        let path = path.to_owned();
        Ok(Self { tokenizer, max_length, padding, added, pad_id, clean, path })
    }

    /// Tokenizes, cuts what is beyond the maximal length (the end token stays) and pads.
    ///
    /// # Errors
    /// When the tokenizer fails on a text.
    pub fn encode(&self, texts: &[&str]) -> Result<TokenIds, EncoderError> {
        let mut rows = Vec::with_capacity(texts.len());
        let mut counts = Vec::with_capacity(texts.len());
        for text in texts {
            let mut body = self.body(text)?;
            counts.push(body.len() + self.added);
            body.truncate(self.max_length - self.added, 0, TruncationDirection::Right);
            let whole = self.tokenizer.post_process(body, None, true).map_err(|e| self.error(e))?;
            rows.push(whole.get_ids().to_vec());
        }
        let length = match self.padding {
            Padding::Full => self.max_length,
            Padding::Longest => rows.iter().map(Vec::len).max().unwrap_or(self.max_length),
        };
        let mut ids = Vec::with_capacity(rows.len() * length);
        for (i, row) in rows.iter().enumerate() {
            ids.extend_from_slice(row);
            ids.resize((i + 1) * length, self.pad_id);
        }
        Ok(TokenIds { ids, length, counts })
    }

    /// Number of tokens of a text with its begin and end token, before truncation.
    ///
    /// # Errors
    /// When the tokenizer fails on the text.
    pub fn token_count(&self, text: &str) -> Result<usize, EncoderError> {
        Ok(self.body(text)?.len() + self.added)
    }

    /// Tokens that the model reads at most, begin and end included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Id of the padding token.
    pub fn pad_id(&self) -> u32 {
        self.pad_id
    }

    /// Checks that no token lies outside a model's embedding table.
    ///
    /// # Errors
    /// When the largest id is `vocab_size` or more.
    pub fn check_vocab_size(&self, vocab_size: usize) -> Result<(), EncoderError> {
        match self.tokenizer.get_vocab(true).into_iter().max_by_key(|&(_, id)| id) {
            Some((token, id)) if id as usize >= vocab_size => Err(EncoderError::Tokenizer {
                path: self.path.clone(),
                reason: format!(
                    "token {token:?} has id {id}, but the model knows {vocab_size} tokens; \
                     tokenizer and model are not of one kind"
                ),
            }),
            _ => Ok(()),
        }
    }

    fn body(&self, text: &str) -> Result<Encoding, EncoderError> {
        self.tokenizer.encode_fast((self.clean)(text), false).map_err(|e| self.error(e))
    }

    fn error(&self, error: tokenizers::Error) -> EncoderError {
        EncoderError::Tokenizer { path: self.path.clone(), reason: error.to_string() }
    }
}
