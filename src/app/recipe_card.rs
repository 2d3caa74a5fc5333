//! A recipe to look at: what it would change, field by field, before anything is changed.

use std::collections::BTreeSet;

use egui::{Context, RichText};

use super::action::Action;
use super::panes::Cx;
use super::state::form::QueryForm;
use crate::session::recipe::{Bridge, Recipe};

/// The parts of a recipe that can be taken over on their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Query,
    Encoder,
    Adapter,
    Bridge,
    Decoder,
    Gallery,
    Samples,
    Draws,
    Temperature,
    Seed,
    DropoutPasses,
    Steps,
    Scheduler,
    Guidance,
    NoiseLevel,
    CommonNoise,
    Prompt,
    TopK,
}

impl Field {
    pub const ALL: [Field; 18] = [
        Field::Query,
        Field::Encoder,
        Field::Adapter,
        Field::Bridge,
        Field::Decoder,
        Field::Gallery,
        Field::Samples,
        Field::Draws,
        Field::Temperature,
        Field::Seed,
        Field::DropoutPasses,
        Field::Steps,
        Field::Scheduler,
        Field::Guidance,
        Field::NoiseLevel,
        Field::CommonNoise,
        Field::Prompt,
        Field::TopK,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Field::Query => "Query",
            Field::Encoder => "Encoder",
            Field::Adapter => "Adapter",
            Field::Bridge => "Bridge",
            Field::Decoder => "Decoder",
            Field::Gallery => "Gallery",
            Field::Samples => "Samples",
            Field::Draws => "Draws",
            Field::Temperature => "Temperature",
            Field::Seed => "Seed",
            Field::DropoutPasses => "Dropout passes",
            Field::Steps => "Steps",
            Field::Scheduler => "Scheduler",
            Field::Guidance => "Guidance",
            Field::NoiseLevel => "Noise level",
            Field::CommonNoise => "Same noise",
            Field::Prompt => "Decoder prompt",
            Field::TopK => "Top k",
        }
    }

    /// The value in a recipe, for people.
    pub fn value(self, recipe: &Recipe) -> String {
        let Recipe { models, sampling, decoding, retrieval, .. } = recipe;
        let path = |model: Option<&crate::session::recipe::ModelRef>| {
            model.map_or("none".to_owned(), |model| model.path.display().to_string())
        };
        match self {
            Field::Query => recipe.query.title(),
            Field::Encoder => path(Some(&models.encoder)),
            Field::Adapter => path(models.adapter.as_ref()),
            Field::Bridge => match &models.bridge_model {
                Some(model) if models.bridge == Bridge::Prior => {
                    format!("{}: {}", models.bridge, model.path.display())
                }
                _ => models.bridge.to_string(),
            },
            Field::Decoder => path(models.decoder.as_ref()),
            Field::Gallery => path(models.gallery.as_ref()),
            Field::Samples => sampling.samples.to_string(),
            Field::Draws => sampling.draws.to_string(),
            Field::Temperature => sampling.temperature.to_string(),
            Field::Seed => sampling.seed.to_string(),
            Field::DropoutPasses => sampling.dropout_passes.to_string(),
            Field::Steps => decoding.steps.to_string(),
            Field::Scheduler => {
                decoding.scheduler.map_or("the decoder's own".to_owned(), |s| s.to_string())
            }
            Field::Guidance => decoding.guidance_scale.to_string(),
            Field::NoiseLevel => decoding.noise_level.to_string(),
            Field::CommonNoise => if decoding.independent_noise { "no" } else { "yes" }.to_owned(),
            Field::Prompt if decoding.prompt.is_empty() => "none".to_owned(),
            Field::Prompt => decoding.prompt.clone(),
            Field::TopK => retrieval.top_k.to_string(),
        }
    }
}

/// The form with some fields of a recipe taken over.
pub fn merge(form: &QueryForm, recipe: &Recipe, fields: &BTreeSet<Field>) -> QueryForm {
    let from = QueryForm::of(recipe);
    let mut form = form.clone();
    for field in fields {
        match field {
            Field::Query => {
                form.modality = from.modality;
                if from.image.is_some() {
                    form.image.clone_from(&from.image);
                } else {
                    form.text.clone_from(&from.text);
                }
            }
            Field::Encoder => form.encoder.clone_from(&from.encoder),
            Field::Adapter => form.adapter.clone_from(&from.adapter),
            Field::Bridge => {
                form.bridge = from.bridge;
                form.prior.clone_from(&from.prior);
            }
            Field::Decoder => form.decoder.clone_from(&from.decoder),
            Field::Gallery => form.gallery.clone_from(&from.gallery),
            Field::Samples => form.sampling.samples = from.sampling.samples,
            Field::Draws => form.sampling.draws = from.sampling.draws,
            Field::Temperature => form.sampling.temperature = from.sampling.temperature,
            Field::Seed => form.sampling.seed = from.sampling.seed,
            Field::DropoutPasses => form.sampling.dropout_passes = from.sampling.dropout_passes,
            Field::Steps => form.decoding.steps = from.decoding.steps,
            Field::Scheduler => form.decoding.scheduler = from.decoding.scheduler,
            Field::Guidance => form.decoding.guidance_scale = from.decoding.guidance_scale,
            Field::NoiseLevel => form.decoding.noise_level = from.decoding.noise_level,
            Field::CommonNoise => form.decoding.independent_noise = from.decoding.independent_noise,
            Field::Prompt => form.decoding.prompt.clone_from(&from.decoding.prompt),
            Field::TopK => form.retrieval.top_k = from.retrieval.top_k,
        }
    }
    form
}

/// An open card.
#[derive(Debug, Clone)]
pub struct RecipeCard {
    recipe: Recipe,
    ticked: BTreeSet<Field>,
}

impl RecipeCard {
    /// A card with every field ticked.
    pub fn new(recipe: Recipe) -> Self {
        Self { recipe, ticked: Field::ALL.into() }
    }

    /// Shows the card; true when it is to close.
    pub fn ui(&mut self, context: &Context, cx: &mut Cx<'_>) -> bool {
        let now = cx
            .state
            .form
            .query()
            .and_then(|query| cx.state.form.recipe_for(query, &cx.state.assets).ok());
        let mut fields = None;
        let modal = egui::Modal::new(egui::Id::unique("recipe card")).show(context, |ui| {
            let screen = context.content_rect().size();
            ui.set_width((screen.x - 64.0).min(620.0));
            ui.heading("A recipe");
            ui.label(
                RichText::new(format!(
                    "Written by Haze {}. Nothing is changed yet.",
                    self.recipe.haze
                ))
                .color(cx.theme.muted),
            );
            ui.add_space(8.0);
            egui::ScrollArea::vertical().max_height((screen.y - 200.0).min(440.0)).show(ui, |ui| {
                egui::Grid::new("recipe fields").num_columns(3).spacing([16.0, 4.0]).show(
                    ui,
                    |ui| {
                        ui.label(RichText::new("Take over").color(cx.theme.muted));
                        ui.label(RichText::new("In the recipe").color(cx.theme.muted));
                        ui.label(RichText::new("Now").color(cx.theme.muted));
                        ui.end_row();
                        for field in Field::ALL {
                            let theirs = field.value(&self.recipe);
                            let ours = now.as_ref().map(|recipe| field.value(recipe));
                            let differs = ours.as_ref() != Some(&theirs);
                            let mut on = self.ticked.contains(&field);
                            if ui.checkbox(&mut on, field.name()).changed() {
                                if on {
                                    self.ticked.insert(field);
                                } else {
                                    self.ticked.remove(&field);
                                }
                            }
                            let text = super::widgets::shorten(&theirs, 40);
                            let mut shown = RichText::new(text);
                            if differs {
                                shown = shown.color(cx.theme.accent).strong();
                            }
                            ui.label(shown).on_hover_text(theirs);
                            let ours = ours.unwrap_or_else(|| "-".to_owned());
                            let text = super::widgets::shorten(&ours, 40);
                            ui.label(RichText::new(text).color(cx.theme.muted)).on_hover_text(ours);
                            ui.end_row();
                        }
                    },
                );
            });
            ui.add_space(8.0);
            ui.horizontal_wrapped(|ui| {
                if super::widgets::primary_button(ui, cx.theme, "Use all and run").clicked() {
                    fields = Some(Field::ALL.into());
                }
                if ui.button("Use ticked").clicked() {
                    fields = Some(self.ticked.clone());
                }
                ui.button("Just look").clicked()
            })
            .inner
        });
        if let Some(fields) = fields {
            let all = fields.len() == Field::ALL.len();
            let form = Box::new(merge(&cx.state.form, &self.recipe, &fields));
            cx.send(Action::EditForm { form, analyse: false });
            if all {
                cx.send(Action::Run { decode: Some(true) });
            }
            return true;
        }
        modal.inner || modal.should_close()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::recipe::{ModelRef, Models, RecipeQuery};

    fn recipe() -> Recipe {
        let models = Models {
            encoder: ModelRef::new("other/clip"),
            adapter: Some(ModelRef::new("other/adapter")),
            bridge: Bridge::LinearMap,
            bridge_model: None,
            decoder: None,
            gallery: None,
        };
        let mut recipe = Recipe::new(RecipeQuery::Text("theirs".to_owned()), models);
        recipe.sampling.seed = 99;
        recipe.decoding.steps = 7;
        recipe
    }

    #[test]
    fn only_ticked_fields_are_taken_over() {
        let form = QueryForm { text: "mine".to_owned(), ..QueryForm::default() };
        let merged = merge(&form, &recipe(), &[Field::Seed].into());
        assert_eq!(merged.sampling.seed, 99);
        assert_eq!(merged, QueryForm { sampling: merged.sampling.clone(), ..form });
    }

    #[test]
    fn all_fields_together_make_the_recipe_s_own_form() {
        let form = QueryForm { text: "mine".to_owned(), ..QueryForm::default() };
        assert_eq!(merge(&form, &recipe(), &Field::ALL.into()), QueryForm::of(&recipe()));
    }
}
