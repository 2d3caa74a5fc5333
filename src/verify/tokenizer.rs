//! CLIP's tokenizer against `CLIPTokenizer` of transformers.

use burn::tensor::Device;

use super::{Case, CaseError, Comparison};
use crate::encoder::tokenizer::ClipTokenizer;
use crate::model::config::read_json;

#[derive(serde::Deserialize)]
struct Texts {
    texts: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Ids {
    ids: Vec<Vec<u32>>,
}

pub fn run(case: &mut Case, _device: &Device) -> Result<(), CaseError> {
    let texts: Texts = read_json(&case.folder().join("texts.json"))?;
    let whole: Ids = read_json(&case.folder().join("ids.json"))?;
    let shape = case.expected("input_ids")?.shape.clone();
    let length = shape.last().copied().unwrap_or(0);
    let tokenizer = ClipTokenizer::load(case.folder(), length)?;

    let texts: Vec<&str> = texts.texts.iter().map(String::as_str).collect();
    let tokens = tokenizer.encode(&texts)?;
    let got = [tokens.batch(), tokens.length()];
    let ids = tokens.ids().iter().map(|&id| f64::from(id)).collect();
    case.check_values("input_ids", &got, ids)?;
    let mask = tokens.attention_mask().into_iter().map(f64::from).collect();
    case.check_values("attention_mask", &got, mask)?;

    let longest = whole.ids.iter().map(Vec::len).max().unwrap_or(0);
    let unpadded = ClipTokenizer::load(case.folder(), longest)?.encode(&texts)?;
    let wrong = texts.iter().zip(&whole.ids).zip(unpadded.rows()).enumerate().find(
        |(i, ((text, ids), row))| {
            !row.starts_with(ids)
                || unpadded.count(*i) != ids.len()
                || unpadded.cut_off(*i) != 0
                || tokens.cut_off(*i) != ids.len().saturating_sub(length)
                || tokenizer.token_count(text).ok() != Some(ids.len())
        },
    );
    case.record(Comparison {
        name: "ids.json".to_owned(),
        passed: wrong.is_none() && texts.len() == whole.ids.len(),
        worst_error: 0.0,
        ratio: if wrong.is_none() { 0.0 } else { f64::INFINITY },
        note: wrong.map(|(i, ((text, _), _))| format!("text {i}, {text:?}, differs")),
    });
    Ok(())
}
