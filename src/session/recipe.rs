//! The recipe: everything needed to repeat a result, as JSON.
//!
//! A recipe names the query, the models by path and content hash, and every number that has an
//! influence on the result. What has none (device, batch size, output folder) is not part of it.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::error::SessionError;
use crate::decoder::prior::PriorOptions;
use crate::decoder::{SchedulerKind, VaeTiling};
use crate::encoder::Modality;
use crate::model::config::read_json;
use crate::model::precision::PrecisionChoice;

/// Version of the recipe format; raised when a field changes its meaning.
pub const RECIPE_SCHEMA: u32 = 1;

/// Upper bound on samples per query, far above what a person can look at.
pub const MAX_SAMPLES: usize = 4096;
/// Upper bound on draws behind the statistics.
pub const MAX_DRAWS: usize = 100_000;
/// Upper bound on dropout passes.
pub const MAX_DROPOUT_PASSES: usize = 1000;
/// Upper bound on listed retrieval results.
pub const MAX_TOP_K: usize = 10_000;

/// Everything needed to repeat a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Format version, [`RECIPE_SCHEMA`].
    pub schema: u32,
    /// Version of Haze that wrote the recipe.
    pub haze: String,
    pub query: RecipeQuery,
    pub models: Models,
    pub sampling: Sampling,
    pub decoding: Decoding,
    pub retrieval: Retrieval,
}

/// The query as the user gave it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum RecipeQuery {
    /// The text itself.
    Text(String),
    /// An image file and the BLAKE3 hash of its decoded RGB pixels.
    Image { path: PathBuf, pixels: String },
}

/// Which models made the result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Models {
    pub encoder: ModelRef,
    /// What predicts the distribution. None with a `prior` bridge, which is asked instead.
    pub adapter: Option<ModelRef>,
    /// Carries samples from the adapter's space to the decoder's image space, when they differ.
    pub bridge: Bridge,
    /// The fitted map of a `linear-map` or `mean-shift` bridge; the folder of a `prior`.
    pub bridge_model: Option<ModelRef>,
    /// None: nothing was decoded.
    pub decoder: Option<ModelRef>,
    /// None: nothing was searched.
    pub gallery: Option<ModelRef>,
}

impl Models {
    /// The models that are used, by their role.
    pub fn named(&self) -> Vec<(&'static str, &ModelRef)> {
        let decoder = self.decoder.iter().map(|m| ("decoder", m));
        let gallery = self.gallery.iter().map(|m| ("gallery", m));
        let adapter = self.adapter.iter().map(|m| ("adapter", m));
        let role = if self.bridge == Bridge::Prior { "prior" } else { "bridge" };
        let bridge = self.bridge_model.iter().map(move |m| (role, m));
        std::iter::once(("encoder", &self.encoder))
            .chain(adapter)
            .chain(bridge)
            .chain(decoder)
            .chain(gallery)
            .collect()
    }
}

/// A model or gallery folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelRef {
    /// As given by the user; relative paths are looked up in the working folder and the assets. A
    /// model of the hub is `owner/name@commit`, whatever branch the user named.
    pub path: PathBuf,
    /// BLAKE3 hash over its files, empty in a recipe written by hand.
    #[serde(default)]
    pub hash: String,
}

impl ModelRef {
    /// A reference by path, whose hash is not known yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), hash: String::new() }
    }
}

impl RecipeQuery {
    /// An image file whose pixels are not known yet.
    pub fn image(path: &Path) -> Self {
        RecipeQuery::Image { path: path.to_owned(), pixels: String::new() }
    }

    /// One line for people: the text itself, or the file name of the image.
    pub fn title(&self) -> String {
        match self {
            RecipeQuery::Text(text) => text.clone(),
            RecipeQuery::Image { path, .. } => match path.file_name() {
                Some(name) => name.to_string_lossy().into_owned(),
                None => path.display().to_string(),
            },
        }
    }

    /// Which tower of the encoder the query goes through.
    pub fn modality(&self) -> Modality {
        match self {
            RecipeQuery::Text(_) => Modality::Text,
            RecipeQuery::Image { .. } => Modality::Image,
        }
    }
}

/// How a text query reaches the image space that the decoder works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bridge {
    /// The adapter predicts p(image embedding | text) itself.
    CrossModal,
    /// Samples of p(image embedding | text) are drawn from a diffusion prior; no adapter is used.
    Prior,
    /// Samples of the text embedding go through a linear map fitted on pairs.
    LinearMap,
    /// The mean difference between image and text embeddings is added.
    MeanShift,
    /// Text samples are decoded as if they were image embeddings; also for image queries.
    None,
    /// No image space at all: Stable Diffusion is given samples of its text encoder's hidden
    /// states. Another experiment, see [`Bridge::note`].
    PromptEmbeddings,
}

impl Bridge {
    /// The ways from a text to image space; prompt embeddings are another experiment.
    pub const ALL: [Bridge; 5] =
        [Bridge::CrossModal, Bridge::Prior, Bridge::LinearMap, Bridge::MeanShift, Bridge::None];

    /// What has to be said wherever a result of another experiment is shown: what its samples are.
    pub fn note(self) -> Option<&'static str> {
        (self == Bridge::PromptEmbeddings)
            .then_some("samples of prompt embeddings, not of the shared space")
    }

    /// The route from a text to image space in words.
    pub fn route(self) -> &'static str {
        match self {
            Bridge::CrossModal => "cross-modal adapter",
            Bridge::Prior => "diffusion prior",
            Bridge::LinearMap => "linear map",
            Bridge::MeanShift => "mean shift",
            Bridge::None => "nothing (text samples taken as they are)",
            Bridge::PromptEmbeddings => "prompt embeddings (not by image space)",
        }
    }
}

impl std::fmt::Display for Bridge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Bridge::CrossModal => "cross-modal",
            Bridge::Prior => "prior",
            Bridge::LinearMap => "linear-map",
            Bridge::MeanShift => "mean-shift",
            Bridge::None => "none",
            Bridge::PromptEmbeddings => "prompt-embeddings",
        })
    }
}

impl std::str::FromStr for Bridge {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Bridge::ALL.into_iter().chain([Bridge::PromptEmbeddings]);
        known.into_iter().find(|b| b.to_string() == text).ok_or_else(|| {
            format!(
                "unknown bridge {text:?}; expected cross-modal, prior, linear-map, mean-shift, none \
                 or prompt-embeddings"
            )
        })
    }
}

/// How the distribution is sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Number of embeddings that are decoded and written out.
    pub samples: usize,
    /// Number of embeddings behind every probability, rank interval and typicality; the decoded
    /// samples are the first of them. Drawing is cheap next to decoding.
    pub draws: usize,
    /// Scales the deviation of every sample from the mean; 1 draws from the distribution itself.
    pub temperature: f64,
    pub seed: u64,
    /// Dropout passes behind the epistemic uncertainty.
    pub dropout_passes: usize,
    /// How a `prior` bridge is sampled; None: its defaults.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<PriorSampling>,
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            samples: 16,
            draws: 1000,
            temperature: 1.0,
            seed: 0,
            dropout_passes: 100,
            prior: None,
        }
    }
}

/// How a diffusion prior draws image embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriorSampling {
    pub steps: usize,
    /// Strength of guidance towards the text; 1 or less samples p(image embedding | text) as it is.
    pub guidance_scale: f64,
}

impl Default for PriorSampling {
    fn default() -> Self {
        let PriorOptions { steps, guidance_scale, .. } = PriorOptions::default();
        Self { steps, guidance_scale }
    }
}

/// How samples are decoded to images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoding {
    /// None: the scheduler of the decoder folder.
    pub scheduler: Option<SchedulerKind>,
    pub steps: usize,
    pub guidance_scale: f64,
    pub noise_level: usize,
    /// False: every tile starts from the same latent noise, so tiles differ by embedding alone.
    pub independent_noise: bool,
    /// Text given to the decoder beside the embedding.
    pub prompt: String,
    /// What the decoder computes in; a result names the one that was used. Recipes from before
    /// there was a choice were made in float32.
    #[serde(default = "full_precision")]
    pub precision: PrecisionChoice,
    /// Whether images are decoded in tiles, which changes them a little.
    #[serde(default)]
    pub vae_tiling: VaeTiling,
}

fn full_precision() -> PrecisionChoice {
    PrecisionChoice::F32
}

impl Default for Decoding {
    fn default() -> Self {
        Self {
            scheduler: None,
            steps: 20,
            guidance_scale: 5.0,
            noise_level: 0,
            independent_noise: false,
            prompt: String::new(),
            precision: PrecisionChoice::Auto,
            vae_tiling: VaeTiling::Auto,
        }
    }
}

/// What is listed of the retrieval.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retrieval {
    /// k of P(in top k), and the number of items listed.
    pub top_k: usize,
}

impl Default for Retrieval {
    fn default() -> Self {
        Self { top_k: 10 }
    }
}

impl Recipe {
    /// A recipe with default numbers.
    pub fn new(query: RecipeQuery, models: Models) -> Self {
        Self {
            schema: RECIPE_SCHEMA,
            haze: env!("CARGO_PKG_VERSION").to_owned(),
            query,
            models,
            sampling: Sampling::default(),
            decoding: Decoding::default(),
            retrieval: Retrieval::default(),
        }
    }

    /// Reads a recipe file.
    ///
    /// # Errors
    /// When it is missing, not JSON, of another schema, or has unknown or out-of-range fields.
    pub fn read(path: &Path) -> Result<Self, SessionError> {
        let json: serde_json::Value = read_json(path)?;
        Self::from_json(json, &path.display().to_string())
    }

    /// Parses a recipe; `origin` names where it came from in errors.
    ///
    /// # Errors
    /// When it is of another schema, or has unknown or out-of-range fields.
    pub fn from_json(json: serde_json::Value, origin: &str) -> Result<Self, SessionError> {
        let schema = json.get("schema").and_then(serde_json::Value::as_u64);
        if schema != Some(u64::from(RECIPE_SCHEMA)) {
            return Err(SessionError::Recipe {
                origin: origin.to_owned(),
                reason: format!(
                    "its schema is {}, this version of Haze reads schema {RECIPE_SCHEMA}",
                    schema.map_or("missing".to_owned(), |s| s.to_string())
                ),
            });
        }
        let recipe: Self = serde_json::from_value(json).map_err(|e| SessionError::Recipe {
            origin: origin.to_owned(),
            reason: e.to_string(),
        })?;
        recipe.validate()?;
        Ok(recipe)
    }

    /// Checks every number against its range.
    ///
    /// # Errors
    /// Names the first option out of range, its value and the range.
    pub fn validate(&self) -> Result<(), SessionError> {
        let Sampling { samples, draws, temperature, dropout_passes, .. } = self.sampling;
        within("samples", samples, 1..=MAX_SAMPLES)?;
        within("draws", draws, 1..=MAX_DRAWS)?;
        within("dropout passes", dropout_passes, 0..=MAX_DROPOUT_PASSES)?;
        within("top k", self.retrieval.top_k, 1..=MAX_TOP_K)?;
        within("steps", self.decoding.steps, 1..=1000)?;
        within("noise level", self.decoding.noise_level, 0..=999)?;
        within_f64("temperature", temperature, 0.0, 100.0)?;
        if let Some(prior) = &self.sampling.prior {
            within("prior steps", prior.steps, 1..=1000)?;
            within_f64("the prior's guidance scale", prior.guidance_scale, 0.0, 100.0)?;
        }
        self.validate_route()?;
        within_f64("guidance scale", self.decoding.guidance_scale, 0.0, 100.0)
    }

    /// What a prior and an adapter each need.
    fn validate_route(&self) -> Result<(), SessionError> {
        let Sampling { samples, draws, temperature, .. } = self.sampling;
        let Models { adapter, bridge, bridge_model, .. } = &self.models;
        let mismatch = |text: &str| Err(SessionError::Mismatch(text.to_owned()));
        if *bridge != Bridge::Prior {
            return match adapter {
                Some(_) => Ok(()),
                None => mismatch("no adapter is named; only a prior does without one"),
            };
        }
        if self.query.modality() == Modality::Image {
            return mismatch(
                "a prior reads texts, but the query is an image, which is in image space already; \
                 use --bridge none",
            );
        }
        if adapter.is_some() {
            return mismatch(
                "a prior draws image embeddings by itself; name no adapter with --bridge prior",
            );
        }
        if bridge_model.is_none() {
            return mismatch("the bridge is a prior, but its folder is not named; use --prior");
        }
        let out_of_range = |what, found: String, expected: &str| {
            Err(SessionError::OutOfRange { what, found, expected: expected.to_owned() })
        };
        if temperature != 1.0 {
            let expected = "1: samples of a prior are used as they are";
            return out_of_range("the temperature", temperature.to_string(), expected);
        }
        if draws.max(samples) < 2 {
            let expected = "at least 2 with a prior, whose statistics are estimated from them";
            return out_of_range("the number of draws", draws.to_string(), expected);
        }
        Ok(())
    }
}

fn within(
    what: &'static str,
    found: usize,
    range: std::ops::RangeInclusive<usize>,
) -> Result<(), SessionError> {
    if range.contains(&found) {
        return Ok(());
    }
    Err(SessionError::OutOfRange {
        what,
        found: found.to_string(),
        expected: format!("{} to {}", range.start(), range.end()),
    })
}

fn within_f64(what: &'static str, found: f64, low: f64, high: f64) -> Result<(), SessionError> {
    if (low..=high).contains(&found) {
        return Ok(());
    }
    Err(SessionError::OutOfRange {
        what,
        found: found.to_string(),
        expected: format!("{low} to {high}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::precision::PrecisionChoice;

    fn json() -> serde_json::Value {
        let model = || ModelRef::new("model");
        let models = Models {
            encoder: model(),
            adapter: Some(model()),
            bridge: Bridge::None,
            bridge_model: None,
            decoder: Some(model()),
            gallery: None,
        };
        serde_json::to_value(Recipe::new(RecipeQuery::Text("food".into()), models)).unwrap()
    }

    #[test]
    fn precision_and_tiling_are_part_of_it() {
        let mut json = json();
        assert_eq!(json["decoding"]["precision"], "auto");
        json["decoding"]["precision"] = "bf16".into();
        json["decoding"]["vae_tiling"] = "on".into();
        let recipe = Recipe::from_json(json, "test").unwrap();
        assert_eq!(recipe.decoding.precision, PrecisionChoice::Bf16);
        assert_eq!(recipe.decoding.vae_tiling, VaeTiling::On);
    }

    #[test]
    fn recipes_from_before_there_was_a_choice_were_made_in_full_precision() {
        let mut json = json();
        let decoding = json["decoding"].as_object_mut().unwrap();
        decoding.remove("precision");
        decoding.remove("vae_tiling");
        let recipe = Recipe::from_json(json, "test").unwrap();
        assert_eq!(recipe.decoding.precision, PrecisionChoice::F32);
        assert_eq!(recipe.decoding.vae_tiling, VaeTiling::Auto);
    }
}
