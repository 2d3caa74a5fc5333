//! The caption block: what has to be known to read a figure and to repeat it.

use crate::encoder::Modality;
use crate::session::recipe::{Bridge, Recipe, RecipeQuery};

/// Characters of a hash that are shown: enough to tell models apart.
const HASH_SHOWN: usize = 10;

/// Query, draws and seed; `intervals` says what level an interval has and over what, and is empty
/// where there is none; then the models by path and hash.
pub fn lines(recipe: &Recipe, intervals: &str) -> Vec<String> {
    let sampling = &recipe.sampling;
    let temperature = if sampling.temperature == 1.0 {
        String::new()
    } else {
        format!(", temperature {}", sampling.temperature)
    };
    let source = match recipe.models.bridge {
        Bridge::Prior => "all of the diffusion prior (statistics are empirical)".to_owned(),
        _ => format!("{} dropout passes", sampling.dropout_passes),
    };
    let mut lines = vec![format!(
        "Query: {}. {} draws, seed {}{temperature}, {source}.",
        query(&recipe.query),
        sampling.draws.max(sampling.samples),
        sampling.seed,
    )];
    if !intervals.is_empty() {
        lines.push(intervals.to_owned());
    }
    lines.push(models(recipe));
    lines
}

/// The query in quotes, or the file name of the image.
pub fn query(query: &RecipeQuery) -> String {
    match query.modality() {
        Modality::Text => format!("\u{201c}{}\u{201d}", query.title()),
        Modality::Image => query.title(),
    }
}

/// All models with the beginnings of their hashes, and the version of Haze.
pub fn models(recipe: &Recipe) -> String {
    let named = recipe.models.named().into_iter().map(|(role, model)| {
        let hash: String = model.hash.chars().take(HASH_SHOWN).collect();
        format!("{role} {} {hash}", model.path.display()).trim_end().to_owned()
    });
    let named = named.collect::<Vec<_>>().join(" \u{b7} ");
    format!("{named} \u{b7} bridge {} \u{b7} Haze {}", recipe.models.bridge, recipe.haze)
}
