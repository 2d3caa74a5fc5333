//! The route by prompt embeddings: a text's hidden states, their distribution, and what Stable
//! Diffusion makes of samples of it.
//!
//! This is the paper's own way to its pictures (see [`crate::decoder::prompt`]) and another
//! experiment than the rest of a session: the samples are no points of the space that texts and
//! images share, so nothing is searched and no picture is compared with its sample.

use std::sync::Arc;

use super::draws::Draws;
use super::event::{Event, Stage};
use super::recipe::{Bridge, ModelRef, Models, Recipe};
use super::result::QueryResult;
use super::{Job, Session, SessionError, decode_options, read_query, tile};
use crate::adapter::prompt::Layout;
use crate::decoder::{DecodePlan, DecodeProgress};
use crate::encoder::{Embedding, Modality};
use crate::query::Query;

/// Numbers that all draws of a result may have together: a prompt embedding has tens of thousands,
/// and a window keeps many results.
const DRAWN_NUMBERS: usize = 1 << 24;

/// True for a recipe of this route.
pub fn is_route_of(recipe: &Recipe) -> bool {
    recipe.models.bridge == Bridge::PromptEmbeddings
}

/// Refuses what needs samples of the shared space.
///
/// # Errors
/// For a recipe of this route.
pub fn refuse(recipe: &Recipe) -> Result<(), SessionError> {
    match recipe.models.bridge.note() {
        Some(note) => Err(SessionError::Mismatch(format!(
            "this study needs samples that can be compared with images, but the recipe draws \
             {note}; use an unCLIP decoder and an adapter of the shared space"
        ))),
        None => Ok(()),
    }
}

impl Session {
    /// Everything but the decoding, for a recipe of this route.
    pub(super) fn analyse_prompt(
        &self,
        mut recipe: Recipe,
        job: &mut Job<'_>,
    ) -> Result<QueryResult, SessionError> {
        let Self { assets, device, loaded } = self;
        check(&recipe)?;
        let query = read_query(&mut recipe.query)?;
        let Query::Text(text) = &query else { return Err(no_text()) };
        job.stage(Stage::LoadEncoder)?;
        let encoder = loaded.prompt_encoder(&mut recipe.models.encoder, assets, device, job)?;
        job.stage(Stage::LoadAdapter)?;
        let adapter = loaded.prompt_adapter(named(&mut recipe.models)?, assets, device, job)?;
        let layout = adapter.layout(encoder.length(), encoder.width())?;
        if let Some(note) = recipe.models.bridge.note() {
            let reads = match layout {
                Layout::Flattened => "all tokens at once",
                Layout::PerToken => "one token at a time",
            };
            job.tell(Event::Warning(format!(
                "another experiment: {note}; retrieval and the comparison of pictures with their \
                 samples are off (the adapter reads {} tokens of {} numbers, {reads})",
                encoder.length(),
                encoder.width()
            )))?;
        }

        job.stage(Stage::Embed)?;
        let states = encoder.prompt_embeds(text)?;
        let tokens_cut = encoder.tokens_cut(text)?;
        if tokens_cut > 0 {
            job.tell(Event::Warning(format!(
                "the text is longer than the encoder reads: its last {tokens_cut} token(s) are \
                 ignored (limit {})",
                encoder.length()
            )))?;
        }

        job.stage(Stage::Predict)?;
        let wanted = recipe.sampling.draws.max(recipe.sampling.samples);
        let most = (DRAWN_NUMBERS / states.len().max(1)).max(recipe.sampling.samples);
        if wanted > most {
            job.tell(Event::Warning(format!(
                "{most} draws stand behind the statistics in place of {wanted}: each has {} numbers",
                states.len()
            )))?;
            recipe.sampling.draws = most;
        }
        let sampling = recipe.sampling.clone();
        let distribution =
            adapter.predict(&states, encoder.width(), sampling.dropout_passes, sampling.seed)?;
        job.tell(Event::Distribution(&distribution))?;
        let draws = Draws::new(&distribution, &sampling)?;
        Ok(QueryResult {
            recipe,
            device: device.label.clone(),
            query_image: None,
            query_embedding: Embedding { values: states, modality: Modality::Text },
            tokens_cut,
            space: Modality::Text,
            distribution,
            reference: None,
            samples: draws.samples(sampling.samples, None),
            draws: Arc::new(draws),
            mean_tile: None,
            tiles: Vec::new(),
            retrieval: None,
            timings: Vec::new(),
        })
    }

    /// Fills in the tiles of a result of this route, where the recipe names a decoder.
    pub(super) fn decode_prompt(
        &self,
        result: &mut QueryResult,
        batch_size: Option<usize>,
        job: &mut Job<'_>,
        on_tiles: &mut dyn FnMut(&DecodeProgress<'_>),
    ) -> Result<(), SessionError> {
        let Self { assets, device, loaded } = self;
        let all = result.to_decode();
        let recipe = &mut result.recipe;
        if recipe.models.decoder.is_none() {
            return Ok(());
        }
        check(recipe)?;
        job.stage(Stage::LoadDecoder)?;
        let decoder =
            loaded.prompt_decoder(&mut recipe.models, &mut recipe.decoding, assets, device, job)?;
        let options = decode_options(recipe, batch_size);
        let scheduler = decoder.scheduler(options.scheduler, options.steps)?;
        recipe.decoding.scheduler = Some(scheduler.kind());
        job.stage(Stage::Decode)?;
        let images =
            decoder.decode(&all, &options, &mut |progress| job.decoding(&progress, on_tiles))?;
        result.set_tiles(images.into_iter().map(tile).collect());
        Ok(())
    }

    /// What decoding a recipe of this route would cost.
    pub(super) fn plan_prompt(
        &self,
        recipe: &Recipe,
        batch_size: Option<usize>,
        job: &mut Job<'_>,
    ) -> Result<Option<DecodePlan>, SessionError> {
        let Self { assets, device, loaded } = self;
        check(recipe)?;
        let mut models = recipe.models.clone();
        if models.decoder.is_none() {
            return Ok(None);
        }
        let decoder = loaded.prompt_decoder(
            &mut models,
            &mut recipe.decoding.clone(),
            assets,
            device,
            job,
        )?;
        let options = decode_options(recipe, batch_size);
        Ok(Some(decoder.plan(recipe.sampling.samples + 1, &options)?))
    }

    /// Loads what an analysis of a recipe of this route needs.
    pub(super) fn warm_prompt(
        &self,
        recipe: &Recipe,
        job: &mut Job<'_>,
    ) -> Result<(), SessionError> {
        let Self { assets, device, loaded } = self;
        check(recipe)?;
        let mut models = recipe.models.clone();
        job.stage(Stage::LoadEncoder)?;
        loaded.prompt_encoder(&mut models.encoder, assets, device, job)?;
        job.stage(Stage::LoadAdapter)?;
        loaded.prompt_adapter(named(&mut models)?, assets, device, job)?;
        Ok(())
    }
}

/// What a recipe written by hand can get wrong.
fn check(recipe: &Recipe) -> Result<(), SessionError> {
    let models = &recipe.models;
    if recipe.query.modality() != Modality::Text {
        return Err(no_text());
    }
    match &models.decoder {
        Some(decoder) if decoder.path != models.encoder.path => {
            return Err(SessionError::Mismatch(format!(
                "prompt embeddings come from the decoder's own text encoder, but the encoder is \
                 {} and the decoder {}; name the Stable Diffusion folder for both",
                models.encoder.path.display(),
                decoder.path.display()
            )));
        }
        _ => {}
    }
    if let Some(gallery) = &models.gallery {
        return Err(SessionError::Mismatch(format!(
            "the gallery {} cannot be searched with prompt embeddings: its items live in the space \
             that texts and images share; leave the gallery out",
            gallery.path.display()
        )));
    }
    Ok(())
}

/// The adapter, without which there is no distribution.
fn named(models: &mut Models) -> Result<&mut ModelRef, SessionError> {
    models.adapter.as_mut().ok_or_else(|| {
        SessionError::Mismatch("prompt embeddings need an adapter; name it by --adapter".to_owned())
    })
}

/// Only texts have prompt embeddings.
pub(super) fn no_text() -> SessionError {
    SessionError::Mismatch(
        "only a text has prompt embeddings, but the query is an image; query by a text, or use an \
         unCLIP decoder"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use super::*;
    use crate::model::device::ComputeDevice;
    use crate::session::Assets;
    use crate::session::recipe::RecipeQuery;

    fn fixture(name: &str) -> ModelRef {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/sd_prompt");
        ModelRef::new(root.join(name))
    }

    fn recipe() -> Recipe {
        let models = Models {
            encoder: fixture("sd15/pipeline"),
            adapter: Some(fixture("adapter/per_token.safetensors")),
            bridge: Bridge::PromptEmbeddings,
            bridge_model: None,
            decoder: Some(fixture("sd15/pipeline")),
            gallery: None,
        };
        let mut recipe = Recipe::new(RecipeQuery::Text("two dogs".to_owned()), models);
        recipe.sampling.samples = 2;
        recipe.sampling.draws = 20;
        recipe.sampling.dropout_passes = 3;
        recipe.decoding.steps = 2;
        recipe
    }

    fn session() -> Session {
        Session::new(Assets::find(None).unwrap(), ComputeDevice::cpu())
    }

    #[test]
    fn the_samples_are_decoded_and_the_warnings_say_what_they_are() {
        let mut warnings = Vec::new();
        let result = session().run(&recipe(), None, &mut |event| {
            if let Event::Warning(text) = event {
                warnings.push(text);
            }
            ControlFlow::Continue(())
        });
        let result = result.unwrap();
        assert!(warnings[0].contains("not of the shared space"), "{warnings:?}");
        assert_eq!((result.tiles.len(), result.distribution.dim()), (2, 77 * 16));
        assert!(result.mean_tile.is_some() && result.retrieval.is_none());
        assert!(result.tiles[0].hash != result.tiles[1].hash);
        assert!(result.samples.iter().all(|s| s.statistics.decoded_cosine.is_none()));
        let hashes = result.recipe.models.named();
        assert!(hashes.iter().all(|(_, model)| !model.hash.is_empty()), "{hashes:?}");
    }

    #[test]
    fn a_sample_is_the_same_with_and_without_a_decoder_and_draws_are_bounded() {
        let mut ignore = |_: Event<'_>| ControlFlow::Continue(());
        let session = session();
        let mut many = recipe();
        many.sampling.draws = 50_000;
        many.sampling.dropout_passes = 0;
        let many = session.analyse(&many, &mut ignore).unwrap();
        assert_eq!(many.draws.values.len(), DRAWN_NUMBERS / (77 * 16));
        assert_eq!(many.recipe.sampling.draws, many.draws.values.len());
        let mut few = recipe();
        few.models.decoder = None;
        few.sampling.dropout_passes = 0;
        let few = session.run(&few, None, &mut ignore).unwrap();
        assert_eq!(few.samples[1].values, many.samples[1].values);
        assert!(few.tiles.is_empty());
    }

    #[test]
    fn what_needs_the_shared_space_is_refused() {
        let mut ignore = |_: Event<'_>| ControlFlow::Continue(());
        let session = session();
        let error = session.route(&mut recipe(), &mut Job::new(&mut ignore)).err().unwrap();
        assert!(error.to_string().contains("not of the shared space"), "{error}");
        let mut elsewhere = recipe();
        elsewhere.models.encoder = fixture("sd21/pipeline");
        let mut searched = recipe();
        searched.models.gallery = Some(ModelRef::new("demo/gallery"));
        for (recipe, expected) in
            [(elsewhere, "own text encoder"), (searched, "cannot be searched")]
        {
            let error = session.analyse(&recipe, &mut ignore).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
