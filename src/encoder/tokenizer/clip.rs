//! CLIP's byte-level BPE tokenizer.
//!
//! Published folders come in two layouts: with a `tokenizer.json`, or (all Stable Diffusion 2
//! repositories) with `vocab.json`, `merges.txt` and two files that name the special tokens. The
//! second is turned into the first here, so that one code path tokenizes.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::super::EncoderError;
use super::files::{optional_json, read};
use super::{Padding, Setup, TextTokenizer};
use crate::model::config::read_json;

impl TextTokenizer {
    /// Reads the tokenizer of a CLIP folder: `tokenizer.json` if there, else `vocab.json` and
    /// `merges.txt`. Texts will be cut and padded to `max_length` tokens, begin and end included.
    ///
    /// # Errors
    /// When files are missing or malformed, or `max_length` has no room for begin and end.
    pub fn clip(folder: &Path, max_length: usize) -> Result<Self, EncoderError> {
        let specials = Specials::read(folder)?;
        let json = folder.join("tokenizer.json");
        let (path, bytes) = if json.is_file() {
            let bytes = read(&json, "a tokenizer")?;
            (json, bytes)
        } else {
            let document = from_vocabulary(folder, &specials)?;
            (folder.join("vocab.json"), document.to_string().into_bytes())
        };
        let setup = Setup {
            pad: &specials.pad.content,
            added: (2, "begin and end"),
            padding: Padding::Full,
            clean: str::to_owned,
            max_length,
        };
        Self::from_document(&bytes, &path, &setup)
    }
}

/// One special token: its text, and whether it is looked for in the text after lower-casing.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Special {
    content: String,
    normalized: bool,
}

/// The special tokens by role.
struct Specials {
    bos: Special,
    eos: Special,
    unk: Special,
    pad: Special,
}

impl Specials {
    /// As `special_tokens_map.json` (which wins) and `tokenizer_config.json` name them, else as
    /// `CLIPTokenizer` does.
    fn read(folder: &Path) -> Result<Self, EncoderError> {
        let map = optional_json(folder, "special_tokens_map.json")?;
        let config = optional_json(folder, "tokenizer_config.json")?;
        let token = |role: &str, default: &str| {
            let named = special(&map[role]).or_else(|| special(&config[role]));
            named.unwrap_or_else(|| Special { content: default.to_owned(), normalized: false })
        };
        let mut specials = Self {
            bos: token("bos_token", "<|startoftext|>"),
            eos: token("eos_token", "<|endoftext|>"),
            unk: token("unk_token", "<|endoftext|>"),
            pad: token("pad_token", "<|endoftext|>"),
        };
        specials.settle_flags(&config["added_tokens_decoder"]);
        Ok(specials)
    }

    /// One token can have several roles that describe it differently. Newer configs settle it in
    /// `added_tokens_decoder`; else a role that gives plain text wins, which is looked for
    /// literally (as transformers does).
    fn settle_flags(&mut self, decoder: &Value) {
        let listed: Vec<Special> =
            decoder.as_object().into_iter().flatten().filter_map(|(_, v)| special(v)).collect();
        let literal: Vec<String> = self
            .all()
            .into_iter()
            .filter(|token| !token.normalized)
            .map(|token| token.content.clone())
            .collect();
        for token in [&mut self.bos, &mut self.eos, &mut self.unk, &mut self.pad] {
            token.normalized = match listed.iter().find(|l| l.content == token.content) {
                Some(listed) => listed.normalized,
                None => !literal.contains(&token.content),
            };
        }
    }

    fn all(&self) -> [&Special; 4] {
        [&self.bos, &self.eos, &self.unk, &self.pad]
    }
}

/// A special token as files write it: plain text, or an object with flags.
fn special(value: &Value) -> Option<Special> {
    match value {
        Value::String(content) => Some(Special { content: content.clone(), normalized: false }),
        Value::Object(token) => Some(Special {
            content: token.get("content")?.as_str()?.to_owned(),
            normalized: token.get("normalized").and_then(Value::as_bool).unwrap_or(false),
        }),
        _ => None,
    }
}

/// Builds the `tokenizer.json` that a folder with `vocab.json` and `merges.txt` stands for
/// (`CLIPTokenizer` of transformers).
fn from_vocabulary(folder: &Path, specials: &Specials) -> Result<Value, EncoderError> {
    let vocab_path = folder.join("vocab.json");
    if !vocab_path.is_file() {
        let reason = "neither tokenizer.json nor vocab.json is there".to_owned();
        return Err(EncoderError::Tokenizer { path: folder.to_owned(), reason });
    }
    let vocab: Map<String, Value> = read_json(&vocab_path)?;
    let id = |token: &str| {
        vocab.get(token).and_then(Value::as_u64).ok_or_else(|| EncoderError::Tokenizer {
            path: vocab_path.clone(),
            reason: format!("special token {token:?} is not in it"),
        })
    };
    let mut added: Vec<(u64, Value)> = Vec::new();
    for token in specials.all() {
        let id = id(&token.content)?;
        if !added.iter().any(|(known, _)| *known == id) {
            let entry = json!({
                "id": id, "content": token.content, "single_word": false, "lstrip": false,
                "rstrip": false, "normalized": token.normalized, "special": true,
            });
            added.push((id, entry));
        }
    }
    added.sort_by_key(|(id, _)| *id);
    let added: Vec<Value> = added.into_iter().map(|(_, entry)| entry).collect();
    let [bos, eos, unk] =
        [&specials.bos, &specials.eos, &specials.unk].map(|token| token.content.as_str());
    let words = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "post_processor": {
            "type": "RobertaProcessing", "sep": [eos, id(eos)?], "cls": [bos, id(bos)?],
            "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": null,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unk, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "merges": read_merges(&folder.join("merges.txt"))?,
            "vocab": vocab,
        },
    }))
}

/// One merge a line, two symbols apart by a space; the first line is a comment.
fn read_merges(path: &Path) -> Result<Vec<[String; 2]>, EncoderError> {
    let error = |reason: String| EncoderError::Tokenizer { path: path.to_owned(), reason };
    let bytes = read(path, "a list of merges")?;
    let text = String::from_utf8(bytes).map_err(|e| error(e.to_string()))?;
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with("#version"))
        .map(|(number, line)| match line.split_once(' ') {
            Some((left, right)) => Ok([left.to_owned(), right.to_owned()]),
            None => Err(error(format!("line {} is {line:?}, expected two symbols", number + 1))),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/clip").join(name)
    }

    /// A copy of a tokenizer folder that leaves out some of its files.
    fn copy(name: &str, without: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(fixture(name)).unwrap() {
            let entry = entry.unwrap();
            let file_name = entry.file_name().into_string().unwrap();
            if !without.contains(&file_name.as_str()) {
                std::fs::copy(entry.path(), folder.path().join(file_name)).unwrap();
            }
        }
        folder
    }

    fn texts() -> Vec<String> {
        let json: Value = read_json(&fixture("tokenizer").join("texts.json")).unwrap();
        serde_json::from_value(json["texts"].clone()).unwrap()
    }

    #[test]
    fn vocabulary_and_merges_give_the_same_ids_as_the_tokenizer_file() {
        let texts = texts();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let whole = TextTokenizer::clip(&fixture("tokenizer"), 30).unwrap();
        let folder = copy("tokenizer", &["tokenizer.json"]);
        let built = TextTokenizer::clip(folder.path(), 30).unwrap();
        assert_eq!(whole.encode(&texts).unwrap(), built.encode(&texts).unwrap());
    }

    #[test]
    fn the_special_tokens_map_wins_over_the_tokenizer_config() {
        let pad = |folder: &Path| TextTokenizer::clip(folder, 9).unwrap().pad_id();
        assert_eq!(pad(&fixture("tokenizer_sd2")), 0);
        let folder = copy("tokenizer_sd2", &["special_tokens_map.json"]);
        assert_ne!(pad(folder.path()), 0);
    }

    #[test]
    fn a_padding_token_is_special_inside_texts_also_beside_a_tokenizer_file() {
        let folder = copy("tokenizer", &["special_tokens_map.json"]);
        let config = r#"{"pad_token": "!"}"#;
        std::fs::write(folder.path().join("special_tokens_map.json"), config).unwrap();
        let tokenizer = TextTokenizer::clip(folder.path(), 9).unwrap();
        let reference = TextTokenizer::clip(&fixture("tokenizer_sd2"), 9).unwrap();
        let texts = ["wow!!!", "a!b"];
        assert_eq!(tokenizer.encode(&texts).unwrap(), reference.encode(&texts).unwrap());
    }

    #[test]
    fn flags_listed_in_the_tokenizer_config_settle_how_a_token_is_matched() {
        let folder = copy("tokenizer_sd2", &[]);
        let shouted = |folder: &Path| {
            TextTokenizer::clip(folder, 9).unwrap().token_count("<|ENDOFTEXT|>").unwrap()
        };
        assert_eq!(shouted(folder.path()), 3);
        let path = folder.path().join("tokenizer_config.json");
        let mut config: Value = read_json(&path).unwrap();
        let token = json!({"content": "<|endoftext|>", "normalized": false, "special": true});
        config["added_tokens_decoder"] = json!({"713": token});
        std::fs::write(&path, config.to_string()).unwrap();
        assert!(shouted(folder.path()) > 3);
    }

    #[test]
    fn what_is_cut_off_is_counted_and_the_end_token_stays() {
        let tokenizer = TextTokenizer::clip(&fixture("tokenizer_sd2"), 6).unwrap();
        let tokens = tokenizer.encode(&["cat", "0 1 2 3 4 5 6 7 8"]).unwrap();
        assert_eq!((tokens.batch(), tokens.length()), (2, 6));
        assert_eq!((tokens.cut_off(0), tokens.count(1), tokens.cut_off(1)), (0, 11, 5));
        let rows: Vec<&[u32]> = tokens.rows().collect();
        let end = rows[1][5];
        assert_eq!(rows[0].iter().position(|&id| id == end), Some(tokens.count(0) - 1));
        assert_eq!(tokens.attention_mask()[6..], [1; 6]);
        assert_eq!(rows[0][tokens.count(0)..], vec![0; 6 - tokens.count(0)]);
    }

    #[test]
    fn a_model_with_fewer_tokens_than_the_tokenizer_is_refused() {
        let tokenizer = TextTokenizer::clip(&fixture("tokenizer"), 9).unwrap();
        assert!(tokenizer.check_vocab_size(714).is_ok());
        let error = tokenizer.check_vocab_size(713).unwrap_err().to_string();
        assert!(error.contains("713") && error.contains("tokenizer.json"), "{error}");
    }

    #[test]
    fn broken_tokenizer_files_are_errors_that_name_the_file() {
        let empty = tempfile::tempdir().unwrap();
        let error = TextTokenizer::clip(empty.path(), 9).unwrap_err().to_string();
        assert!(error.contains("tokenizer.json") && error.contains("vocab.json"), "{error}");

        for (name, content, file) in [
            ("merges.txt", "#version: 0.2\nab\n", "merges.txt"),
            ("merges.txt", "#version: 0.2\nzz qq\n", "vocab.json"),
            ("vocab.json", "{\"a\": 0}", "vocab.json"),
            ("tokenizer.json", "{}", "tokenizer.json"),
        ] {
            let folder = copy("tokenizer_sd2", &[]);
            std::fs::write(folder.path().join(name), content).unwrap();
            let error = TextTokenizer::clip(folder.path(), 9).unwrap_err().to_string();
            assert!(error.contains(file), "{error}");
        }
        assert!(TextTokenizer::clip(&fixture("tokenizer"), 1).is_err());
    }
}
