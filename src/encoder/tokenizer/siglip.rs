//! The tokenizers of SigLIP (a unigram model of T5's kind) and SigLIP 2 (Gemma's BPE), and the same
//! before ProLIP.
//!
//! Both are read from `tokenizer.json`. `spiece.model`, the protocol buffer that it was made from, is
//! not read; published folders have both.

use std::path::Path;

use serde_json::Value;

use super::super::EncoderError;
use super::files::{read, special};
use super::{Padding, Setup, TextTokenizer};

/// What ProLIP's code does to a text before its tokenizer (`tokenizer_kwargs.clean`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextCleaning {
    /// Lower case, no punctuation, single spaces; underscores are spaces.
    Canonicalize,
    /// Lower case and single spaces.
    Lower,
    /// Single spaces.
    Whitespace,
}

impl TextTokenizer {
    /// Reads the tokenizer of a SigLIP folder. Texts will be canonicalised and then cut and padded to
    /// `max_length` tokens, the end token included, as the model was trained.
    ///
    /// A unigram model is that of SigLIP: lower case and no punctuation (`SiglipTokenizer`). A BPE is
    /// that of SigLIP 2: lower case alone (`Siglip2Tokenizer`).
    ///
    /// # Errors
    /// When the file is missing or malformed, or `max_length` has no room for the end token.
    pub fn siglip(folder: &Path, max_length: usize) -> Result<Self, EncoderError> {
        let (path, bytes) = document(folder)?;
        let (clean, pad): (fn(&str) -> String, _) = match is_bpe(&bytes) {
            true => (str::to_lowercase, "<pad>"),
            false => (canonicalize, "</s>"),
        };
        Self::sentencepiece(folder, &path, &bytes, clean, pad, max_length)
    }

    /// Reads the tokenizer of a ProLIP folder, which is SigLIP's; the authors' code cleans the text
    /// in another way. Texts will be cut and padded to `max_length` tokens, the end token included.
    ///
    /// Of the authors' cleaning the repair of wrongly decoded characters (ftfy) and of HTML entities
    /// is left out.
    ///
    /// # Errors
    /// As [`Self::siglip`].
    pub fn prolip(
        folder: &Path,
        cleaning: TextCleaning,
        max_length: usize,
    ) -> Result<Self, EncoderError> {
        let (path, bytes) = document(folder)?;
        let clean: fn(&str) -> String = match cleaning {
            TextCleaning::Canonicalize => |text| canonicalize(&text.replace('_', " ")),
            TextCleaning::Lower => |text| single_spaces(&text.to_lowercase()),
            TextCleaning::Whitespace => single_spaces,
        };
        Self::sentencepiece(folder, &path, &bytes, clean, "</s>", max_length)
    }

    fn sentencepiece(
        folder: &Path,
        path: &Path,
        bytes: &[u8],
        clean: fn(&str) -> String,
        pad: &str,
        max_length: usize,
    ) -> Result<Self, EncoderError> {
        let pad = special(folder, "pad_token")?.unwrap_or_else(|| pad.to_owned());
        let setup =
            Setup { pad: &pad, added: (1, "the end"), padding: Padding::Full, clean, max_length };
        Self::from_document(bytes, path, &setup)
    }
}

fn document(folder: &Path) -> Result<(std::path::PathBuf, Vec<u8>), EncoderError> {
    let path = folder.join("tokenizer.json");
    if path.is_file() {
        let bytes = read(&path, "a tokenizer")?;
        return Ok((path, bytes));
    }
    let reason = if folder.join("spiece.model").is_file() {
        "only spiece.model is there, which is not read; add tokenizer.json, which \
         AutoTokenizer.from_pretrained(..., use_fast=True).save_pretrained(...) of transformers makes"
    } else {
        "tokenizer.json is not there; SigLIP's is in google/siglip-base-patch16-224, ProLIP's in \
         timm/ViT-B-16-SigLIP: put it, with tokenizer_config.json, into this folder"
    };
    Err(EncoderError::Tokenizer { path: folder.to_owned(), reason: reason.to_owned() })
}

/// True for a byte-pair model, false for a unigram one or what is no tokenizer.
fn is_bpe(bytes: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Document {
        model: Value,
    }
    serde_json::from_slice::<Document>(bytes).is_ok_and(|document| {
        document.model["type"] == "BPE" || document.model["merges"].is_array()
    })
}

/// Lower case, ASCII punctuation deleted, white space collapsed and stripped (`canonicalize_text`
/// of big_vision).
fn canonicalize(text: &str) -> String {
    let text: String = text.to_lowercase().chars().filter(|c| !c.is_ascii_punctuation()).collect();
    single_spaces(&text)
}

fn single_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/siglip/model")
    }

    fn copy(name: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(fixture().join(name), folder.path().join(name)).unwrap();
        folder
    }

    #[test]
    fn case_punctuation_and_white_space_make_no_difference() {
        let tokenizer = TextTokenizer::siglip(&fixture(), 16).unwrap();
        let tokens =
            tokenizer.encode(&["a photo of a cat", " A PHOTO_,\tof\u{3000}a <CAT>/!! "]).unwrap();
        let rows: Vec<&[u32]> = tokens.rows().collect();
        assert_eq!(rows[0], rows[1]);
        assert_eq!(rows[0][15], tokenizer.pad_id());
        assert_eq!(tokenizer.token_count("").unwrap(), 1);
    }

    #[test]
    fn before_prolip_an_underscore_is_a_space() {
        let clean = |cleaning, text| {
            let tokenizer = TextTokenizer::prolip(&fixture(), cleaning, 16).unwrap();
            (tokenizer.clean)(text)
        };
        assert_eq!(clean(TextCleaning::Canonicalize, "A_red  Cat!"), "a red cat");
        assert_eq!(clean(TextCleaning::Lower, "A_red  Cat!"), "a_red cat!");
        assert_eq!(clean(TextCleaning::Whitespace, "A_red  Cat!"), "A_red Cat!");
        assert_eq!(canonicalize("A_red  Cat!"), "ared cat");
    }

    #[test]
    fn the_byte_pair_model_of_siglip_2_keeps_punctuation_and_pads_with_its_own_token() {
        let folder = tempfile::tempdir().unwrap();
        let document = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"},
            "pre_tokenizer": null, "decoder": null,
            "post_processor": {
                "type": "TemplateProcessing",
                "single": [
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": "<eos>", "type_id": 0}},
                ],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"<eos>": {"id": "<eos>", "ids": [1], "tokens": ["<eos>"]}},
            },
            "model": {
                "type": "BPE", "dropout": null, "unk_token": "<unk>",
                "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                "byte_fallback": false, "ignore_merges": false,
                "vocab": {"<pad>": 0, "<eos>": 1, "<bos>": 2, "<unk>": 3, "a": 4, "!": 5, "\u{2581}": 6},
                "merges": [],
            },
        });
        std::fs::write(folder.path().join("tokenizer.json"), document.to_string()).unwrap();
        let tokenizer = TextTokenizer::siglip(folder.path(), 6).unwrap();
        assert_eq!(tokenizer.encode(&["A a!"]).unwrap().ids(), [4, 6, 4, 5, 1, 0]);
    }

    #[test]
    fn what_is_missing_is_said_with_where_to_get_it() {
        let empty = tempfile::tempdir().unwrap();
        let error = TextTokenizer::siglip(empty.path(), 9).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("google/siglip"), "{error}");
        std::fs::write(empty.path().join("spiece.model"), b"\x0a").unwrap();
        let error = TextTokenizer::siglip(empty.path(), 9).unwrap_err().to_string();
        assert!(error.contains("spiece.model") && error.contains("save_pretrained"), "{error}");
        let folder = copy("tokenizer.json");
        assert!(TextTokenizer::siglip(folder.path(), 9).is_ok());
        assert!(TextTokenizer::siglip(folder.path(), 0).is_err());
    }
}
