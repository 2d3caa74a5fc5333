//! Tokenizers against those of transformers.

use std::path::Path;

use burn::tensor::Device;

use super::{Case, CaseError, Comparison};
use crate::encoder::EncoderError;
use crate::encoder::tokenizer::{TextTokenizer, TokenIds};
use crate::model::config::read_json;

#[derive(serde::Deserialize)]
struct Texts {
    texts: Vec<String>,
    /// In the file of the texts, or in `ids.json`.
    ids: Option<Vec<Vec<u32>>>,
    max_length: Option<usize>,
}

#[derive(serde::Deserialize)]
struct Ids {
    ids: Vec<Vec<u32>>,
}

/// CLIP's.
pub fn run(case: &mut Case, _device: &Device) -> Result<(), CaseError> {
    let texts: Texts = read_json(&case.folder().join("texts.json"))?;
    let whole: Ids = read_json(&case.folder().join("ids.json"))?;
    let shape = case.expected("input_ids")?.shape.clone();
    let length = shape.last().copied().unwrap_or(0);
    let folder = case.model_folder();
    let tokenizer = TextTokenizer::clip(&folder, length)?;

    let texts: Vec<&str> = texts.texts.iter().map(String::as_str).collect();
    let tokens = tokenizer.encode(&texts)?;
    check_ids(case, "input_ids", &tokens)?;
    let shape = [tokens.batch(), tokens.length()];
    let mask = tokens.attention_mask().into_iter().map(f64::from).collect();
    case.check_values("attention_mask", &shape, mask)?;

    let longest = whole.ids.iter().map(Vec::len).max().unwrap_or(0);
    let unpadded = TextTokenizer::clip(&folder, longest)?;
    check_whole(case, "ids.json", &unpadded, &texts, &whole.ids)?;
    let wrong = whole
        .ids
        .iter()
        .enumerate()
        .find(|&(i, ids)| tokens.cut_off(i) != ids.len().saturating_sub(length));
    record(case, "tokens cut off", wrong.map(|(i, _)| format!("text {i} differs")));
    Ok(())
}

/// `texts.json` with the ids of each text before it is cut, and the expected `token_ids`; `load`
/// reads a tokenizer of that length.
pub fn check_texts(
    case: &mut Case,
    load: impl Fn(&Path, usize) -> Result<TextTokenizer, EncoderError>,
) -> Result<(), CaseError> {
    let file: Texts = read_json(&case.folder().join("texts.json"))?;
    let (Some(ids), Some(length)) = (file.ids, file.max_length) else {
        return Err(CaseError("texts.json has no ids or no max_length".to_owned()));
    };
    let texts: Vec<&str> = file.texts.iter().map(String::as_str).collect();
    let folder = case.model_folder();
    let tokens = load(&folder, length)?.encode(&texts)?;
    check_ids(case, "token_ids", &tokens)?;
    let longest = ids.iter().map(Vec::len).max().unwrap_or(0);
    let whole = load(&folder, longest)?;
    check_whole(case, "texts.json", &whole, &texts, &ids)
}

fn check_ids(case: &mut Case, name: &str, tokens: &TokenIds) -> Result<(), CaseError> {
    let ids = tokens.ids().iter().map(|&id| f64::from(id)).collect();
    case.check_values(name, &[tokens.batch(), tokens.length()], ids)
}

/// Compares texts with their ids before they are cut; `tokenizer` has room for all of them.
fn check_whole(
    case: &mut Case,
    name: &str,
    tokenizer: &TextTokenizer,
    texts: &[&str],
    ids: &[Vec<u32>],
) -> Result<(), CaseError> {
    let tokens = tokenizer.encode(texts)?;
    let wrong =
        texts.iter().zip(ids).zip(tokens.rows()).enumerate().find(|(i, ((text, ids), row))| {
            !row.starts_with(ids)
                || tokens.count(*i) != ids.len()
                || tokens.cut_off(*i) != 0
                || tokenizer.token_count(text).ok() != Some(ids.len())
        });
    let note = match wrong {
        Some((i, ((text, _), _))) => Some(format!("text {i}, {text:?}, differs")),
        None if texts.len() != ids.len() => Some("not one list of ids for each text".to_owned()),
        None => None,
    };
    record(case, name, note);
    Ok(())
}

fn record(case: &mut Case, name: &str, note: Option<String>) {
    case.record(Comparison {
        name: name.to_owned(),
        passed: note.is_none(),
        worst_error: 0.0,
        ratio: if note.is_none() { 0.0 } else { f64::INFINITY },
        note,
    });
}
