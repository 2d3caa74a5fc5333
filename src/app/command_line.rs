//! The command line that makes the same result without a window.

use crate::session::recipe::{Bridge, Decoding, Recipe, RecipeQuery, Retrieval, Sampling};
use crate::session::request::DEMO_BUNDLE;

/// `haze sample …` with everything that differs from its defaults.
pub fn cli_command(recipe: &Recipe) -> String {
    let mut words = vec!["haze".to_owned(), "sample".to_owned()];
    let mut option = |name: &str, value: String| {
        words.push(format!("--{name}"));
        words.push(quoted(&value));
    };
    match &recipe.query {
        RecipeQuery::Text(text) => option("text", text.clone()),
        RecipeQuery::Image { path, .. } => option("image", path.display().to_string()),
    }
    let models = &recipe.models;
    let demo = std::path::Path::new(DEMO_BUNDLE);
    let named = [
        ("encoder", Some(&models.encoder), "clip"),
        ("decoder", models.decoder.as_ref(), "unclip"),
        ("gallery", models.gallery.as_ref(), "gallery"),
    ];
    for (name, model, part) in named {
        if let Some(model) = model.filter(|model| model.path != demo.join(part)) {
            option(name, model.path.display().to_string());
        }
    }
    if !models.adapter.path.starts_with(demo) {
        option("adapter", models.adapter.path.display().to_string());
    }
    let usual = match recipe.query {
        RecipeQuery::Text(_) => Bridge::CrossModal,
        RecipeQuery::Image { .. } => Bridge::None,
    };
    if models.bridge != usual {
        option("bridge", models.bridge.to_string());
    }
    let (sampling, usual) = (&recipe.sampling, Sampling::default());
    let mut number = |name: &str, value: String, usual: String| {
        if value != usual {
            option(name, value);
        }
    };
    number("samples", sampling.samples.to_string(), usual.samples.to_string());
    number("draws", sampling.draws.to_string(), usual.draws.to_string());
    number("temperature", sampling.temperature.to_string(), usual.temperature.to_string());
    number("seed", sampling.seed.to_string(), usual.seed.to_string());
    number("dropout-passes", sampling.dropout_passes.to_string(), usual.dropout_passes.to_string());
    number("top-k", recipe.retrieval.top_k.to_string(), Retrieval::default().top_k.to_string());
    let (decoding, usual) = (&recipe.decoding, Decoding::default());
    number("steps", decoding.steps.to_string(), usual.steps.to_string());
    number("guidance", decoding.guidance_scale.to_string(), usual.guidance_scale.to_string());
    number("noise-level", decoding.noise_level.to_string(), usual.noise_level.to_string());
    number("prompt", decoding.prompt.clone(), usual.prompt);
    if let Some(scheduler) = decoding.scheduler {
        option("scheduler", scheduler.to_string());
    }
    if decoding.independent_noise {
        words.push("--independent-noise".to_owned());
    }
    words.join(" ")
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('-') {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::recipe::{ModelRef, Models};

    #[test]
    fn defaults_are_left_out_and_words_are_quoted() {
        let models = Models {
            encoder: ModelRef::new("demo/clip"),
            adapter: ModelRef::new("demo/adapters/cross-modal"),
            bridge: Bridge::CrossModal,
            bridge_model: None,
            decoder: Some(ModelRef::new("demo/unclip")),
            gallery: Some(ModelRef::new("my gallery")),
        };
        let mut recipe = Recipe::new(RecipeQuery::Text("it's a cake".to_owned()), models);
        recipe.sampling.seed = 7;
        assert_eq!(
            cli_command(&recipe),
            r"haze sample --text 'it'\''s a cake' --gallery 'my gallery' --seed 7"
        );
    }
}
