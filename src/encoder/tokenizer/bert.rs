//! BERT's WordPiece tokenizer (uncased), as BLIP has it.
//!
//! Published folders have a `tokenizer.json`, or a `vocab.txt` alone, one token a line. The second is
//! turned into the first here, so that one code path tokenizes.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::EncoderError;
use super::files::{optional_json, read, special};
use super::{Padding, Setup, TextTokenizer};

impl TextTokenizer {
    /// Reads the tokenizer of a BERT folder: `tokenizer.json` if there, else `vocab.txt`. Texts will
    /// be cut to `max_length` tokens, begin and end included, and padded to the longest of a batch.
    ///
    /// # Errors
    /// When files are missing or malformed, or `max_length` has no room for begin and end.
    pub fn bert(folder: &Path, max_length: usize) -> Result<Self, EncoderError> {
        let json = folder.join("tokenizer.json");
        let (path, bytes) = if json.is_file() {
            let bytes = read(&json, "a tokenizer")?;
            (json, bytes)
        } else {
            let path = folder.join("vocab.txt");
            if !path.is_file() {
                let reason = "neither tokenizer.json nor vocab.txt is there".to_owned();
                return Err(EncoderError::Tokenizer { path: folder.to_owned(), reason });
            }
            let document = from_vocabulary(folder, &path)?;
            (path, document.to_string().into_bytes())
        };
        let pad = special(folder, "pad_token")?.unwrap_or_else(|| "[PAD]".to_owned());
        let setup = Setup {
            pad: &pad,
            added: (2, "begin and end"),
            padding: Padding::Longest,
            clean: str::to_owned,
            max_length,
        };
        Self::from_document(&bytes, &path, &setup)
    }
}

/// The `tokenizer.json` that a `vocab.txt` stands for (`BertTokenizer` of transformers); the number
/// of a line is the id of its token.
fn from_vocabulary(folder: &Path, path: &Path) -> Result<Value, EncoderError> {
    let error = |reason: String| EncoderError::Tokenizer { path: path.to_owned(), reason };
    let bytes = read(path, "a vocabulary")?;
    let text = String::from_utf8(bytes).map_err(|e| error(e.to_string()))?;
    let mut vocab = Map::new();
    for (id, line) in text.lines().enumerate() {
        vocab.insert(line.trim_end_matches('\r').to_owned(), id.into());
    }
    let config = optional_json(folder, "tokenizer_config.json")?;
    let flag = |key: &str, default: bool| config[key].as_bool().unwrap_or(default);
    let mut added = Vec::new();
    let mut ids = Vec::new();
    for (role, default) in [
        ("pad_token", "[PAD]"),
        ("unk_token", "[UNK]"),
        ("cls_token", "[CLS]"),
        ("sep_token", "[SEP]"),
        ("mask_token", "[MASK]"),
    ] {
        let token = special(folder, role)?.unwrap_or_else(|| default.to_owned());
        let id = vocab
            .get(&token)
            .and_then(Value::as_u64)
            .ok_or_else(|| error(format!("special token {token:?} is not in it")))?;
        added.push((id, token.clone()));
        ids.push((token, id));
    }
    added.sort();
    added.dedup();
    let added: Vec<Value> = added
        .into_iter()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": false, "special": true,
            })
        })
        .collect();
    let [_, (unk, _), (cls, cls_id), (sep, sep_id), _] = &ids[..] else {
        return Err(error("five special tokens are expected".to_owned()));
    };
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true,
            "handle_chinese_chars": flag("tokenize_chinese_chars", true),
            "strip_accents": config["strip_accents"].as_bool(),
            "lowercase": flag("do_lower_case", true),
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {
            "type": "BertProcessing", "sep": [sep, sep_id], "cls": [cls, cls_id],
        },
        "decoder": null,
        "model": {
            "type": "WordPiece", "unk_token": unk, "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab,
        },
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blip/itc")
    }

    fn texts() -> Vec<String> {
        let json: Value = crate::model::config::read_json(&fixture().join("texts.json")).unwrap();
        serde_json::from_value(json["texts"].clone()).unwrap()
    }

    #[test]
    fn a_vocabulary_alone_gives_the_same_ids_as_the_tokenizer_file() {
        let texts = texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let whole = TextTokenizer::bert(&fixture(), 35).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(fixture().join("vocab.txt"), folder.path().join("vocab.txt")).unwrap();
        let alone = TextTokenizer::bert(folder.path(), 35).unwrap();
        assert_eq!(whole.encode(&texts).unwrap(), alone.encode(&texts).unwrap());
    }

    #[test]
    fn texts_are_padded_to_the_longest_and_cut_before_their_end_token() {
        let tokenizer = TextTokenizer::bert(&fixture(), 6).unwrap();
        let tokens = tokenizer.encode(&["a", "a photo"]).unwrap();
        assert_eq!(tokens.length(), 4);
        let rows: Vec<&[u32]> = tokens.rows().collect();
        assert_eq!((rows[0][2], rows[0][3]), (rows[1][3], tokenizer.pad_id()));
        assert_eq!(tokens.attention_mask(), [1, 1, 1, 0, 1, 1, 1, 1]);
        let tokens = tokenizer.encode(&["a photo of a cat and more"]).unwrap();
        assert_eq!((tokens.length(), tokens.ids()[5]), (6, rows[0][2]));
        assert!(tokens.cut_off(0) > 0);
    }

    #[test]
    fn broken_folders_are_errors_that_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let error = TextTokenizer::bert(folder.path(), 9).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("vocab.txt"), "{error}");
        std::fs::write(folder.path().join("vocab.txt"), "[PAD]\n[UNK]\na\n").unwrap();
        let error = TextTokenizer::bert(folder.path(), 9).unwrap_err().to_string();
        assert!(error.contains("[CLS]") && error.contains("vocab.txt"), "{error}");
    }
}
