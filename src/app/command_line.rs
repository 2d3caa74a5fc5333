//! The command line that makes the same result without a window.
//!
//! In goes a recipe, out comes one line for a shell. It names every option that differs from the
//! defaults of `haze sample`; what runs it is not known here.

use std::path::{Path, PathBuf};

use crate::encoder::Modality;
use crate::session::recipe::{
    Bridge, Decoding, ModelRef, Models, Recipe, RecipeQuery, Retrieval, Sampling,
};
use crate::session::request::DEMO_BUNDLE;

/// `haze sample …` for a recipe, quoted for the shell of this system.
pub fn cli_command(recipe: &Recipe) -> String {
    let words = arguments(recipe);
    let words = std::iter::once("haze".to_owned()).chain(words.iter().map(|word| quoted(word)));
    words.collect::<Vec<_>>().join(" ")
}

/// The words after `haze`, unquoted.
pub fn arguments(recipe: &Recipe) -> Vec<String> {
    let mut words = Words(vec!["sample".to_owned()]);
    match &recipe.query {
        RecipeQuery::Text(text) => words.option("--text", text),
        RecipeQuery::Image { path, .. } => words.option("--image", path.display()),
    }
    models(&mut words, &recipe.models, recipe.query.modality());

    let (sampling, plain) = (&recipe.sampling, Sampling::default());
    words.unless("--samples", &sampling.samples, &plain.samples);
    words.unless("--draws", &sampling.draws, &plain.draws);
    words.unless("--seed", &sampling.seed, &plain.seed);
    words.unless("--temperature", &sampling.temperature, &plain.temperature);
    words.unless("--dropout-passes", &sampling.dropout_passes, &plain.dropout_passes);
    if let Some(prior) = &sampling.prior {
        words.option("--prior-steps", prior.steps);
        words.option("--prior-guidance", prior.guidance_scale);
    }
    words.unless("--top-k", &recipe.retrieval.top_k, &Retrieval::default().top_k);

    let (decoding, plain) = (&recipe.decoding, Decoding::default());
    words.unless("--steps", &decoding.steps, &plain.steps);
    if let Some(scheduler) = decoding.scheduler {
        words.option("--scheduler", scheduler);
    }
    words.unless("--guidance", &decoding.guidance_scale, &plain.guidance_scale);
    words.unless("--noise-level", &decoding.noise_level, &plain.noise_level);
    if decoding.independent_noise {
        words.flag("--independent-noise");
    }
    words.unless("--prompt", &decoding.prompt, &plain.prompt);
    words.unless("--precision", &decoding.precision, &plain.precision);
    words.unless("--vae-tiling", &decoding.vae_tiling, &plain.vae_tiling);
    words.0
}

fn models(words: &mut Words, models: &Models, modality: Modality) {
    let bundle = bundle_of(models);
    if bundle != Path::new(DEMO_BUNDLE) {
        words.option("--bundle", bundle.display());
    }
    words.unless_path("--encoder", &models.encoder, &bundle.join("clip"));
    // Which adapter of a bundle is taken depends on its files; naming it is always right.
    if let Some(adapter) = &models.adapter {
        words.option("--adapter", adapter.path.display());
    }
    let usual = match modality {
        Modality::Text => Bridge::CrossModal,
        Modality::Image => Bridge::None,
    };
    words.unless("--bridge", &models.bridge, &usual);
    if let Some(prior) = models.bridge_model.as_ref().filter(|_| models.bridge == Bridge::Prior) {
        words.option("--prior", prior.path.display());
    }
    match &models.decoder {
        Some(decoder) => words.unless_path("--decoder", decoder, &bundle.join("unclip")),
        None => words.flag("--no-decode"),
    }
    match &models.gallery {
        Some(gallery) => words.unless_path("--gallery", gallery, &bundle.join("gallery")),
        None => words.flag("--no-search"),
    }
}

/// The bundle that the models come from: a bridge is only found through it, and what lies where a
/// bundle has it need not be named.
fn bundle_of(models: &Models) -> PathBuf {
    let fitted = models.bridge_model.as_ref().filter(|_| models.bridge != Bridge::Prior);
    let of_bridge = fitted.and_then(|m| m.path.parent()?.parent());
    let of_encoder = models
        .encoder
        .path
        .parent()
        .filter(|_| models.encoder.path.file_name() == Some("clip".as_ref()));
    match of_bridge.or(of_encoder) {
        Some(bundle) if !bundle.as_os_str().is_empty() => bundle.to_owned(),
        _ => PathBuf::from(DEMO_BUNDLE),
    }
}

struct Words(Vec<String>);

impl Words {
    fn flag(&mut self, name: &str) {
        self.0.push(name.to_owned());
    }

    fn option(&mut self, name: &str, value: impl std::fmt::Display) {
        let value = value.to_string();
        if value.starts_with('-') {
            // A value of its own would be taken for another option.
            self.0.push(format!("{name}={value}"));
        } else {
            self.0.extend([name.to_owned(), value]);
        }
    }

    fn unless<T: PartialEq + std::fmt::Display>(&mut self, name: &str, value: &T, usual: &T) {
        if value != usual {
            self.option(name, value);
        }
    }

    fn unless_path(&mut self, name: &str, model: &ModelRef, usual: &Path) {
        if model.path != usual {
            self.option(name, model.path.display());
        }
    }
}

fn quoted(word: &str) -> String {
    if cfg!(windows) { quoted_for_windows(word) } else { quoted_for_posix(word) }
}

fn is_plain(word: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=+,@%".contains(c);
    !word.is_empty() && word.chars().all(plain)
}

/// In single quotes nothing is special but the quote itself.
fn quoted_for_posix(word: &str) -> String {
    if is_plain(word) { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// By the rules of `CommandLineToArgvW`: a backslash is special only before a quote.
fn quoted_for_windows(word: &str) -> String {
    if is_plain(&word.replace('\\', "/")) {
        return word.to_owned();
    }
    let mut quoted = String::from('"');
    let mut backslashes = 0;
    for character in word.chars() {
        match character {
            '\\' => backslashes += 1,
            '"' => {
                quoted.push_str(&"\\".repeat(backslashes + 1));
                backslashes = 0;
            }
            _ => backslashes = 0,
        }
        quoted.push(character);
    }
    quoted.push_str(&"\\".repeat(backslashes));
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::SchedulerKind;
    use crate::session::recipe::PriorSampling;

    fn recipe(query: RecipeQuery) -> Recipe {
        let part = |name: &str| ModelRef::new(Path::new(DEMO_BUNDLE).join(name));
        let models = Models {
            encoder: part("clip"),
            adapter: Some(part("adapters/cross-modal")),
            bridge: Bridge::CrossModal,
            bridge_model: None,
            decoder: Some(part("unclip")),
            gallery: Some(part("gallery")),
        };
        Recipe::new(query, models)
    }

    #[test]
    fn defaults_are_not_named() {
        let words = arguments(&recipe(RecipeQuery::Text("a slice of cake".to_owned())));
        let adapter = Path::new(DEMO_BUNDLE).join("adapters/cross-modal").display().to_string();
        assert_eq!(words, ["sample", "--text", "a slice of cake", "--adapter", &adapter]);
    }

    #[test]
    fn everything_else_is_named() {
        let mut recipe = recipe(RecipeQuery::image(Path::new("/tmp/cat.png")));
        recipe.models.bridge = Bridge::None;
        recipe.models.decoder = Some(ModelRef::new("/models/karlo"));
        recipe.models.gallery = None;
        recipe.sampling.samples = 4;
        recipe.sampling.temperature = 0.5;
        recipe.decoding.scheduler = Some(SchedulerKind::DpmSolverPlusPlus);
        recipe.decoding.independent_noise = true;
        let words = arguments(&recipe).join(" ");
        for part in [
            "--image /tmp/cat.png",
            "--decoder /models/karlo",
            "--no-search",
            "--samples 4",
            "--temperature 0.5",
            "--scheduler dpmsolver++",
            "--independent-noise",
        ] {
            assert!(words.contains(part), "{part} is missing in {words}");
        }
        assert!(!words.contains("--bridge") && !words.contains("--seed"), "{words}");
    }

    #[test]
    fn a_fitted_bridge_is_found_through_its_bundle() {
        let mut recipe = recipe(RecipeQuery::Text("food".to_owned()));
        recipe.models.bridge = Bridge::LinearMap;
        recipe.models.bridge_model = Some(ModelRef::new("/my/bundle/adapters/linear-map"));
        let words = arguments(&recipe).join(" ");
        assert!(words.contains("--bundle /my/bundle --encoder "), "{words}");
        assert!(words.contains("--bridge linear-map"), "{words}");
    }

    #[test]
    fn a_prior_is_named_with_its_numbers_and_without_an_adapter() {
        let mut recipe = recipe(RecipeQuery::Text("food".to_owned()));
        recipe.models.adapter = None;
        recipe.models.bridge = Bridge::Prior;
        recipe.models.bridge_model = Some(ModelRef::new("/models/karlo/prior"));
        recipe.sampling.prior = Some(PriorSampling { steps: 9, guidance_scale: 2.0 });
        let words = arguments(&recipe).join(" ");
        assert!(words.contains("--bridge prior --prior /models/karlo/prior"), "{words}");
        assert!(words.contains("--prior-steps 9 --prior-guidance 2"), "{words}");
        assert!(!words.contains("--adapter") && !words.contains("--bundle"), "{words}");
    }

    #[test]
    fn a_value_that_looks_like_an_option_is_joined_to_its_name() {
        let words = arguments(&recipe(RecipeQuery::Text("-n 4".to_owned())));
        assert_eq!(words[1], "--text=-n 4");
    }

    #[test]
    fn a_shell_gets_back_the_very_words() {
        assert_eq!(quoted_for_posix("demo/clip"), "demo/clip");
        assert_eq!(quoted_for_posix(""), "''");
        assert_eq!(quoted_for_posix("it's $HOME `x` \"y\"\n"), "'it'\\''s $HOME `x` \"y\"\n'");
        assert_eq!(quoted_for_windows(r"C:\models\clip"), r"C:\models\clip");
        assert_eq!(quoted_for_windows(r"C:\my models\"), r#""C:\my models\\""#);
        assert_eq!(quoted_for_windows(r#"say "hi""#), r#""say \"hi\"""#);
    }
}
