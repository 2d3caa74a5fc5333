//! The query as it is being edited, before it becomes a recipe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::encoder::Modality;
use crate::session::recipe::{Bridge, Decoding, Recipe, RecipeQuery, Retrieval, Sampling};
use crate::session::request::{self, ModelChoice, Parts};
use crate::session::{Assets, SessionError};

/// What the Query pane edits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryForm {
    /// Which of text and image is the query; the other is kept for switching back.
    pub modality: FormModality,
    pub text: String,
    pub image: Option<PathBuf>,
    /// Folder that models not named below come from; `None`: the demo bundle.
    pub bundle: Option<PathBuf>,
    pub encoder: Option<PathBuf>,
    pub adapter: Option<PathBuf>,
    pub decoder: Option<PathBuf>,
    pub gallery: Option<PathBuf>,
    pub bridge: Option<Bridge>,
    /// Folder of the prior, where the bridge is one.
    #[serde(default)]
    pub prior: Option<PathBuf>,
    pub sampling: Sampling,
    pub decoding: Decoding,
    pub retrieval: Retrieval,
    /// A new seed with every run.
    pub shuffle_seed: bool,
}

/// Kind of query in the form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormModality {
    Text,
    Image,
}

impl Default for QueryForm {
    fn default() -> Self {
        Self {
            modality: FormModality::Text,
            text: String::new(),
            image: None,
            bundle: None,
            encoder: None,
            adapter: None,
            decoder: None,
            gallery: None,
            bridge: None,
            prior: None,
            sampling: Sampling::default(),
            decoding: Decoding::default(),
            retrieval: Retrieval::default(),
            shuffle_seed: false,
        }
    }
}

impl QueryForm {
    /// The query, when there is one.
    pub fn query(&self) -> Option<RecipeQuery> {
        match self.modality {
            FormModality::Text if self.text.trim().is_empty() => None,
            FormModality::Text => Some(RecipeQuery::Text(self.text.clone())),
            FormModality::Image => self.image.as_deref().map(RecipeQuery::image),
        }
    }

    /// The models as named.
    pub fn choice(&self) -> ModelChoice {
        ModelChoice {
            bundle: self.bundle.clone(),
            encoder: self.encoder.clone(),
            adapter: self.adapter.clone(),
            bridge: self.bridge,
            prior: self.prior.clone().filter(|_| self.bridge == Some(Bridge::Prior)),
            decoder: self.decoder.clone(),
            gallery: self.gallery.clone(),
        }
    }

    /// A recipe for `query` with everything else as in the form.
    ///
    /// # Errors
    /// When a model is not in the bundle, its config cannot be read, or a number is out of range.
    pub fn recipe_for(&self, query: RecipeQuery, assets: &Assets) -> Result<Recipe, SessionError> {
        let parts = Parts { decode: true, search: true };
        let mut choice = self.choice();
        if query.modality() == Modality::Image {
            // A bridge is for texts; an image query is in image space already.
            choice.bridge = None;
            choice.prior = None;
        }
        if choice.bridge == Some(Bridge::Prior) {
            // It takes the adapter's place; the choice of one is kept for switching back.
            choice.adapter = None;
        }
        let mut recipe = request::new(query, &choice, parts, assets)?;
        recipe.sampling = self.sampling.clone();
        recipe.decoding = self.decoding.clone();
        recipe.retrieval = self.retrieval.clone();
        recipe.validate()?;
        Ok(recipe)
    }

    /// The form with all models of the bundle.
    pub fn without_models(self) -> Self {
        Self {
            encoder: None,
            adapter: None,
            decoder: None,
            gallery: None,
            bridge: None,
            prior: None,
            ..self
        }
    }

    /// The form that would make a recipe.
    pub fn of(recipe: &Recipe) -> Self {
        let models = &recipe.models;
        let mut form = Self {
            encoder: Some(models.encoder.path.clone()),
            adapter: models.adapter.as_ref().map(|m| m.path.clone()),
            decoder: models.decoder.as_ref().map(|m| m.path.clone()),
            gallery: models.gallery.as_ref().map(|m| m.path.clone()),
            bridge: Some(models.bridge),
            prior: models
                .bridge_model
                .as_ref()
                .filter(|_| models.bridge == Bridge::Prior)
                .map(|m| m.path.clone()),
            sampling: recipe.sampling.clone(),
            decoding: recipe.decoding.clone(),
            retrieval: recipe.retrieval.clone(),
            ..Self::default()
        };
        match &recipe.query {
            RecipeQuery::Text(text) => text.clone_into(&mut form.text),
            RecipeQuery::Image { path, .. } => {
                form.modality = FormModality::Image;
                form.image = Some(path.clone());
            }
        }
        form
    }
}
