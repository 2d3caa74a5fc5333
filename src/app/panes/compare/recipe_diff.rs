//! What differs between two recipes, field by field, and between two texts, word by word.
//!
//! In come recipes, out go rows of text. Nothing here draws.

use std::collections::HashMap;

use crate::session::recipe::{ModelRef, Recipe};

/// A field in which two recipes differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDiff {
    pub name: &'static str,
    pub a: Vec<Word>,
    pub b: Vec<Word>,
}

/// A word of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// The other value does not have it at this place.
    pub differs: bool,
}

/// Texts of more words than this are marked as a whole.
const WORDS: usize = 256;

/// The fields in which two recipes differ, in the order of the recipe.
pub fn fields(a: &Recipe, b: &Recipe) -> Vec<FieldDiff> {
    let (values_a, values_b) = (values(a), values(b));
    values_a
        .into_iter()
        .zip(values_b)
        .filter(|((_, a), (_, b))| a != b)
        .map(|((name, a), (_, b))| {
            let (a, b) = words(&a, &b);
            FieldDiff { name, a, b }
        })
        .collect()
}

/// Whether two references name the same model: by content where both hashes are known.
pub fn same_model(a: &ModelRef, b: &ModelRef) -> bool {
    if a.hash.is_empty() || b.hash.is_empty() { a.path == b.path } else { a.hash == b.hash }
}

/// Every field of a recipe in words.
fn values(recipe: &Recipe) -> Vec<(&'static str, String)> {
    let Recipe { haze, query, models, sampling, decoding, retrieval, .. } = recipe;
    let optional = |model: &Option<ModelRef>| model.as_ref().map_or("none".to_owned(), model_name);
    let scheduler = match decoding.scheduler {
        Some(scheduler) => scheduler.class_name().to_owned(),
        None => "the decoder's own".to_owned(),
    };
    let noise = if decoding.independent_noise { "one per tile" } else { "the same for all" };
    vec![
        ("query", query.title()),
        ("query kind", query.modality().to_string()),
        ("encoder", model_name(&models.encoder)),
        ("adapter", optional(&models.adapter)),
        ("bridge", models.bridge.to_string()),
        ("bridge model", optional(&models.bridge_model)),
        ("decoder", optional(&models.decoder)),
        ("gallery", optional(&models.gallery)),
        ("samples", sampling.samples.to_string()),
        ("draws", sampling.draws.to_string()),
        ("temperature", sampling.temperature.to_string()),
        ("seed", sampling.seed.to_string()),
        ("dropout passes", sampling.dropout_passes.to_string()),
        ("scheduler", scheduler),
        ("steps", decoding.steps.to_string()),
        ("guidance", decoding.guidance_scale.to_string()),
        ("noise level", decoding.noise_level.to_string()),
        ("noise", noise.to_owned()),
        ("decoder prompt", decoding.prompt.clone()),
        ("precision", decoding.precision.to_string()),
        ("VAE tiling", decoding.vae_tiling.to_string()),
        ("top k", retrieval.top_k.to_string()),
        ("made with Haze", haze.clone()),
    ]
}

/// Path and the beginning of the hash.
fn model_name(model: &ModelRef) -> String {
    let path = model.path.display();
    match model.hash.get(..8) {
        Some(hash) => format!("{path} ({hash})"),
        None => path.to_string(),
    }
}

/// The words of two texts; those outside their longest common subsequence differ.
pub fn words(a: &str, b: &str) -> (Vec<Word>, Vec<Word>) {
    let (a, b): (Vec<&str>, Vec<&str>) =
        (a.split_whitespace().collect(), b.split_whitespace().collect());
    let common = if a.len().max(b.len()) > WORDS {
        HashMap::new()
    } else {
        common_subsequence(&a, &b).into_iter().collect()
    };
    let shared_b: std::collections::HashSet<usize> = common.values().copied().collect();
    let word = |text: &&str, differs| Word { text: (*text).to_owned(), differs };
    let marked_a = a.iter().enumerate().map(|(i, t)| word(t, !common.contains_key(&i))).collect();
    let marked_b = b.iter().enumerate().map(|(j, t)| word(t, !shared_b.contains(&j))).collect();
    (marked_a, marked_b)
}

/// Positions of a longest common subsequence, in both.
fn common_subsequence(a: &[&str], b: &[&str]) -> Vec<(usize, usize)> {
    // longest[i][j]: its length in a[i..] and b[j..].
    let mut longest = vec![vec![0u32; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i][j] = if a[i] == b[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < a.len() && j < b.len() {
        if a[i] == b[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if longest[i + 1][j] >= longest[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::panes::samples::fixture;

    fn differing(words: &[Word]) -> Vec<&str> {
        words.iter().filter(|w| w.differs).map(|w| w.text.as_str()).collect()
    }

    #[test]
    fn only_changed_fields_are_listed() {
        let a = fixture::recipe("a red apple", 4);
        assert_eq!(fields(&a, &a), []);
        let mut b = a.clone();
        b.sampling.seed = 9;
        b.decoding.independent_noise = true;
        let names: Vec<_> = fields(&a, &b).into_iter().map(|field| field.name).collect();
        assert_eq!(names, ["seed", "noise"]);
    }

    #[test]
    fn only_words_that_the_other_text_lacks_are_marked() {
        let (a, b) = words("a red apple on a table", "a green apple on the table");
        assert_eq!(differing(&a), ["red", "a"]);
        assert_eq!(differing(&b), ["green", "the"]);
        let (a, b) = words("apple", "an apple pie");
        assert_eq!(differing(&a), [""; 0]);
        assert_eq!(differing(&b), ["an", "pie"]);
    }

    #[test]
    fn a_model_is_the_same_by_content_where_that_is_known() {
        let model = |path: &str, hash: &str| ModelRef { path: path.into(), hash: hash.into() };
        assert!(same_model(&model("a", "12"), &model("b", "12")));
        assert!(!same_model(&model("a", "12"), &model("a", "34")));
        assert!(same_model(&model("a", ""), &model("a", "34")));
        assert!(!same_model(&model("a", ""), &model("b", "34")));
    }
}
