//! Runs a recipe: the one place where all stages meet.
//!
//! In goes a [`Recipe`], out come typed [`Event`]s and a [`QueryResult`]. Models stay loaded between
//! jobs. The window and the command line speak to this module alone.
//!
//! [`Recipe`]: recipe::Recipe
//! [`Event`]: event::Event
//! [`QueryResult`]: result::QueryResult

pub mod assets;
pub mod cache;
pub mod card;
pub mod draws;
pub mod embedding;
pub mod engine;
mod error;
pub mod event;
pub mod experiments;
pub mod fingerprint;
pub mod galleries;
pub mod labelling;
mod loaded;
pub mod pairs;
pub mod plan;
pub mod projection;
mod prompt_route;
pub mod pull;
pub mod recipe;
mod reference;
pub mod request;
pub mod result;
pub mod selection;
pub mod studies;
pub mod training;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use image::RgbImage;

pub use assets::Assets;
pub use error::SessionError;

use crate::adapter::Adapter;
use crate::adapter::bridge::Bridge;
use crate::decoder::prior::{Prior, PriorOptions, PriorProgress};
use crate::decoder::{DecodeOptions, DecodeProgress};
use crate::distribution::EmbeddingDistribution;
use crate::encoder::{Embedding, Encoder, Gaussian, Modality};
use crate::model::device::ComputeDevice;
use crate::query::{AlphaPolicy, Query, pixels_hash};
use draws::Draws;
use event::{Event, Stage};
use loaded::Loaded;
use plan::Plan;
use projection::GalleryMap;
use recipe::{Recipe, RecipeQuery};
use reference::Variances;
use result::{QueryResult, StageTime, Tile};

/// Text embeddings of one encoder, computed twice, agree better than this.
const SAME_SPACE_COSINE: f64 = 0.999;

/// Hears the events of a job; `Break` cancels it at the next step.
pub type OnEvent<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Loaded models and the device they live on. Clones share the models, so that two lanes of jobs
/// can run side by side.
#[derive(Clone)]
pub struct Session {
    assets: Assets,
    device: ComputeDevice,
    loaded: Arc<Loaded>,
}

impl Session {
    /// A session without any model loaded yet.
    pub fn new(assets: Assets, device: ComputeDevice) -> Self {
        Self { assets, device, loaded: Arc::default() }
    }

    /// The device everything runs on.
    pub fn device(&self) -> &ComputeDevice {
        &self.device
    }

    /// Runs a recipe. `batch_size` bounds the tiles decoded at once (`None`: as memory allows); it
    /// has no influence on the result.
    ///
    /// # Errors
    /// When the recipe is out of range, a file is unusable, the models do not fit each other, the
    /// device fails, or the job was cancelled. A panic below becomes [`SessionError::Panic`].
    pub fn run(
        &self,
        recipe: &Recipe,
        batch_size: Option<usize>,
        on_event: OnEvent<'_>,
    ) -> Result<QueryResult, SessionError> {
        guarded(|| {
            recipe.validate()?;
            let mut job = Job::new(on_event);
            let mut result = self.analyse_stages(recipe.clone(), &mut job)?;
            self.decode_stages(&mut result, batch_size, &mut job, &mut |_| {})?;
            result.timings = job.finish();
            job.tell(Event::Finished(&result))?;
            Ok(result)
        })
    }

    /// Everything of a recipe but the decoding: no tiles are made, and the decoder is not loaded.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn analyse(
        &self,
        recipe: &Recipe,
        on_event: OnEvent<'_>,
    ) -> Result<QueryResult, SessionError> {
        guarded(|| {
            recipe.validate()?;
            let mut job = Job::new(on_event);
            let mut result = self.analyse_stages(recipe.clone(), &mut job)?;
            result.timings = job.finish();
            Ok(result)
        })
    }

    /// Decodes the mean and the samples of an analysis. `on_tiles` sees every denoising step and
    /// every finished batch.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn decode(
        &self,
        analysis: &QueryResult,
        batch_size: Option<usize>,
        on_event: OnEvent<'_>,
        on_tiles: &mut dyn FnMut(&DecodeProgress<'_>),
    ) -> Result<QueryResult, SessionError> {
        guarded(|| {
            let mut job = Job::new(on_event);
            let mut result = analysis.clone();
            self.decode_stages(&mut result, batch_size, &mut job, on_tiles)?;
            result.timings.extend(job.finish());
            Ok(result)
        })
    }

    /// What running a recipe would take, without running it.
    ///
    /// # Errors
    /// As [`Session::run`], as far as it is known beforehand.
    pub fn plan(&self, recipe: &Recipe, batch_size: Option<usize>) -> Result<Plan, SessionError> {
        guarded(|| {
            recipe.validate()?;
            let Self { assets, device, loaded } = self;
            let mut ignore = |_: Event<'_>| ControlFlow::Continue(());
            let mut job = Job::new(&mut ignore);
            let decode = match recipe.models.decoder.clone() {
                _ if prompt_route::is_route_of(recipe) => {
                    self.plan_prompt(recipe, batch_size, &mut job)?
                }
                Some(mut model) => {
                    let mut decoding = recipe.decoding.clone();
                    let decoder =
                        loaded.decoder(&mut model, &mut decoding, assets, device, &mut job)?;
                    let options = decode_options(recipe, batch_size);
                    Some(decoder.plan(recipe.sampling.samples + 1, &options)?)
                }
                None => None,
            };
            let draws = recipe.sampling.draws.max(recipe.sampling.samples);
            let passes = recipe.sampling.dropout_passes;
            let prior = (recipe.models.bridge == recipe::Bridge::Prior)
                .then(|| recipe.sampling.prior.unwrap_or_default().steps);
            Ok(Plan::new(device.label.clone(), draws, passes, prior, decode))
        })
    }

    /// Loads what an analysis of that recipe needs, so that the first one need not wait.
    ///
    /// # Errors
    /// As [`Session::run`], as far as loading goes.
    pub fn warm(&self, recipe: &Recipe, on_event: OnEvent<'_>) -> Result<(), SessionError> {
        guarded(|| {
            let mut recipe = recipe.clone();
            let mut job = Job::new(on_event);
            if prompt_route::is_route_of(&recipe) {
                return self.warm_prompt(&recipe, &mut job);
            }
            let route = self.route(&mut recipe, &mut job)?;
            if let Some(model) = &mut recipe.models.gallery {
                job.stage(Stage::IndexGallery)?;
                let Self { assets, loaded, .. } = self;
                let (encoder, models) = (&route.encoder, &recipe.models.encoder);
                let gallery = loaded.gallery(model, models, assets, encoder, &mut job)?;
                if let Predicting::Adapter(adapter) = &route.predicting {
                    Variances::of(&gallery, encoder, adapter, &recipe.models, &mut job)?;
                }
            }
            Ok(())
        })
    }

    /// Loads the decoder of a recipe.
    ///
    /// # Errors
    /// As [`Session::run`], as far as loading goes.
    pub fn warm_decoder(&self, recipe: &Recipe, on_event: OnEvent<'_>) -> Result<(), SessionError> {
        guarded(|| {
            let Self { assets, device, loaded } = self;
            let mut job = Job::new(on_event);
            if let Some(mut model) = recipe.models.decoder.clone() {
                job.stage(Stage::LoadDecoder)?;
                let mut decoding = recipe.decoding.clone();
                if prompt_route::is_route_of(recipe) {
                    let mut models = recipe.models.clone();
                    loaded.prompt_decoder(&mut models, &mut decoding, assets, device, &mut job)?;
                } else {
                    loaded.decoder(&mut model, &mut decoding, assets, device, &mut job)?;
                }
            }
            Ok(())
        })
    }

    /// The map of the gallery of a recipe, which must have been analysed with this session.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn gallery_map(&self, recipe: &Recipe) -> Result<Option<Arc<GalleryMap>>, SessionError> {
        guarded(|| {
            let Self { assets, device, loaded } = self;
            let mut models = recipe.models.clone();
            let Some(model) = &mut models.gallery else { return Ok(None) };
            let mut ignore = |_: Event<'_>| ControlFlow::Continue(());
            let mut job = Job::new(&mut ignore);
            let encoder = loaded.encoder(&mut models.encoder, assets, device, &mut job)?;
            let gallery = loaded.gallery(model, &models.encoder, assets, &encoder, &mut job)?;
            Ok(Some(gallery.map()?))
        })
    }

    /// Loads the encoder, and the adapter with its bridge or the prior, and checks that they fit.
    fn route(&self, recipe: &mut Recipe, job: &mut Job<'_>) -> Result<Route, SessionError> {
        let Self { assets, device, loaded } = self;
        prompt_route::refuse(recipe)?;
        job.stage(Stage::LoadEncoder)?;
        let encoder = loaded.encoder(&mut recipe.models.encoder, assets, device, job)?;
        recipe.validate()?;
        let models = &mut recipe.models;
        let Some(model) = &mut models.adapter else {
            job.stage(Stage::LoadPrior)?;
            let model = models.bridge_model.as_mut().ok_or_else(no_prior)?;
            let prior = loaded.prior(model, assets, device, job)?;
            loaded::check_prior(recipe, assets, &encoder, &prior)?;
            self.check_spaces(recipe, job)?;
            recipe.sampling.prior.get_or_insert_default();
            // One set of weights: there is no epistemic part to estimate.
            recipe.sampling.dropout_passes = 0;
            return Ok(Route { encoder, predicting: Predicting::Prior(prior) });
        };
        job.stage(Stage::LoadAdapter)?;
        let adapter = loaded.adapter(model, assets, device, job)?;
        let named = model.path.clone();
        let bridge = self.bridge(recipe, job)?;
        loaded::check_route(recipe, &encoder, &adapter, bridge.as_deref())?;
        self.check_spaces(recipe, job)?;
        if adapter.encoder().is_some_and(|hash| hash != recipe.models.encoder.hash) {
            job.tell(Event::Warning(format!(
                "the adapter {} was trained on embeddings of another encoder than {}; its \
                 distribution means nothing unless both embed into the same space",
                named.display(),
                recipe.models.encoder.path.display()
            )))?;
        }
        Ok(Route { encoder, predicting: Predicting::Adapter(adapter) })
    }

    /// Refuses a decoder of another image space than the encoder's; warns of one that may be.
    fn check_spaces(&self, recipe: &Recipe, job: &mut Job<'_>) -> Result<(), SessionError> {
        match self.loaded.check_spaces(recipe, &self.assets)? {
            Some(warning) => job.tell(Event::Warning(warning)),
            None => Ok(()),
        }
    }

    /// The map that samples go through on their way to the decoder, where the route has one.
    fn bridge(
        &self,
        recipe: &mut Recipe,
        job: &mut Job<'_>,
    ) -> Result<Option<Arc<Bridge>>, SessionError> {
        match &mut recipe.models.bridge_model {
            Some(model) if recipe.models.bridge != recipe::Bridge::Prior => {
                Ok(Some(self.loaded.bridge(model, &self.assets, job)?))
            }
            _ => Ok(None),
        }
    }

    /// The distribution of a query and draws from it. A prior can only be sampled: its distribution
    /// is estimated from the draws.
    fn distribution(
        &self,
        recipe: &Recipe,
        route: &Route,
        query: &Embedding,
        job: &mut Job<'_>,
    ) -> Result<(EmbeddingDistribution, Draws), SessionError> {
        let sampling = &recipe.sampling;
        let prior = match &route.predicting {
            Predicting::Adapter(adapter) => {
                job.stage(Stage::Predict)?;
                let passes = sampling.dropout_passes;
                let distribution = adapter.predict(query, passes, sampling.seed)?;
                let draws = Draws::new(&distribution, sampling)?;
                return Ok((distribution, draws));
            }
            Predicting::Prior(prior) => prior,
        };
        let RecipeQuery::Text(text) = &recipe.query else { return Err(no_prior()) };
        job.stage(Stage::SamplePrior)?;
        let same = prior.text_embedding(text)?;
        let agreement = crate::encoder::cosine(&same, &query.values);
        if same.len() != query.dim() || agreement < SAME_SPACE_COSINE {
            job.tell(Event::Warning(format!(
                "the prior's own text encoder is another one than {} (cosine {agreement:.2} between \
                 what they make of the query); its samples mean something only if both belong to \
                 the same image space",
                recipe.models.encoder.path.display()
            )))?;
        }
        let values = self.sample_prior(recipe, prior, text, job)?;
        let distribution = EmbeddingDistribution::from_samples(&values)?;
        let draws = Draws::from_values(values, &distribution)?;
        Ok((distribution, draws))
    }

    /// As many samples of the prior for a text as the recipe has draws.
    fn sample_prior(
        &self,
        recipe: &Recipe,
        prior: &Prior,
        text: &str,
        job: &mut Job<'_>,
    ) -> Result<Vec<Vec<f32>>, SessionError> {
        let sampling = &recipe.sampling;
        let numbers = sampling.prior.unwrap_or_default();
        let options = PriorOptions {
            steps: numbers.steps,
            guidance_scale: numbers.guidance_scale,
            seed: sampling.seed,
            count: sampling.draws.max(sampling.samples),
            ..PriorOptions::default()
        };
        let hash = recipe.models.bridge_model.as_ref().map(|model| model.hash.as_str());
        let key = format!("{hash:?} {options:?} {text}");
        self.loaded.prior_draws(key, || {
            Ok(prior.sample(text, &options, &mut |progress| {
                let PriorProgress { done, total } = progress;
                (job.on_event)(Event::Progress { done, total })
            })?)
        })
    }

    fn analyse_stages(
        &self,
        mut recipe: Recipe,
        job: &mut Job<'_>,
    ) -> Result<QueryResult, SessionError> {
        if prompt_route::is_route_of(&recipe) {
            return self.analyse_prompt(recipe, job);
        }
        let Self { assets, device, loaded } = self;
        let query = read_query(&mut recipe.query)?;
        let route = self.route(&mut recipe, job)?;
        let encoder = &route.encoder;

        job.stage(Stage::Embed)?;
        let query_embedding = embed_query(encoder, &query)?;
        let tokens_cut = tokens_cut(encoder, &query)?;
        if tokens_cut > 0 {
            job.tell(Event::Warning(format!(
                "the text is longer than the encoder reads: its last {tokens_cut} token(s) are \
                 ignored (limit {})",
                encoder.max_tokens()
            )))?;
        }

        let sampling = recipe.sampling.clone();
        let (distribution, draws) = self.distribution(&recipe, &route, &query_embedding, job)?;
        job.tell(Event::Distribution(&distribution))?;

        let mut reference = None;
        let mut retrieved = None;
        if let Some(model) = &mut recipe.models.gallery {
            job.stage(Stage::IndexGallery)?;
            let gallery = loaded.gallery(model, &recipe.models.encoder, assets, encoder, job)?;
            job.stage(Stage::Search)?;
            let mean = distribution.mean();
            let found = gallery.rank(&recipe, &query_embedding, &mean, &draws)?;
            job.tell(Event::Retrieved(&found.retrieved))?;
            retrieved = Some(found);
            if let Predicting::Adapter(adapter) = &route.predicting {
                let variances = Variances::of(&gallery, encoder, adapter, &recipe.models, job)?;
                reference = variances.place(distribution.mean_aleatoric());
            }
        }

        let samples = draws.samples(sampling.samples, retrieved.as_ref().map(|r| &r.nearest));
        Ok(QueryResult {
            recipe,
            device: device.label.clone(),
            query_image: match &query {
                Query::Image(image) => Some(image.to_rgb(AlphaPolicy::default())),
                Query::Text(_) => None,
            },
            query_embedding,
            tokens_cut,
            space: route.space(),
            distribution,
            reference,
            samples,
            draws: Arc::new(draws),
            mean_tile: None,
            tiles: Vec::new(),
            retrieval: retrieved.map(|found| found.retrieved),
            timings: Vec::new(),
        })
    }

    /// Fills in the tiles, where the recipe names a decoder.
    fn decode_stages(
        &self,
        result: &mut QueryResult,
        batch_size: Option<usize>,
        job: &mut Job<'_>,
        on_tiles: &mut dyn FnMut(&DecodeProgress<'_>),
    ) -> Result<(), SessionError> {
        if prompt_route::is_route_of(&result.recipe) {
            return self.decode_prompt(result, batch_size, job, on_tiles);
        }
        let all = result.to_decode();
        let recipe = &mut result.recipe;
        let Some(decoded) =
            self.decode_embeddings(recipe, all, NoiseOf::Recipe, batch_size, job, on_tiles)?
        else {
            return Ok(());
        };
        // The first is the mean.
        for (sample, cosine) in result.samples.iter_mut().zip(&decoded.cosines[1..]) {
            sample.statistics.decoded_cosine = Some(*cosine);
        }
        result.set_tiles(decoded.tiles);
        Ok(())
    }

    /// Decodes embeddings of the adapter's output space with the models and numbers of a recipe,
    /// and embeds the pictures. `None` where the recipe names no decoder.
    fn decode_embeddings(
        &self,
        recipe: &mut Recipe,
        embeddings: Vec<Vec<f32>>,
        noise: NoiseOf,
        batch_size: Option<usize>,
        job: &mut Job<'_>,
        on_tiles: &mut dyn FnMut(&DecodeProgress<'_>),
    ) -> Result<Option<Decoded>, SessionError> {
        let Self { assets, device, loaded } = self;
        prompt_route::refuse(recipe)?;
        let Some(model) = &mut recipe.models.decoder else { return Ok(None) };
        job.stage(Stage::LoadDecoder)?;
        let decoder = loaded.decoder(model, &mut recipe.decoding, assets, device, job)?;
        let encoder = loaded.encoder(&mut recipe.models.encoder, assets, device, job)?;
        let bridge = self.bridge(recipe, job)?;
        let mut options = decode_options(recipe, batch_size);
        if let NoiseOf::Tile(index) = noise {
            options.independent_noise = false;
            options.common_noise = index;
        }
        let scheduler = decoder.scheduler(options.scheduler, options.steps)?;
        recipe.decoding.scheduler = Some(scheduler.kind());
        let inputs = decoder_inputs(embeddings, bridge.as_deref())?;
        job.stage(Stage::Decode)?;
        let images =
            decoder.decode(&inputs, &options, &mut |progress| job.decoding(&progress, on_tiles))?;
        job.stage(Stage::Reencode)?;
        let seen = encoder.embed_images(&images)?;
        let cosines = inputs
            .into_iter()
            .zip(&seen)
            .map(|(values, seen)| Embedding { values, modality: Modality::Image }.cosine(seen))
            .collect();
        Ok(Some(Decoded { tiles: images.into_iter().map(tile).collect(), cosines, seen }))
    }
}

/// The models between a query and its distribution, which fit each other.
struct Route {
    encoder: Arc<Encoder>,
    predicting: Predicting,
}

/// What gives a query its distribution.
enum Predicting {
    Adapter(Arc<Adapter>),
    Prior(Arc<Prior>),
}

impl Route {
    /// The space that the distribution lives in.
    fn space(&self) -> Modality {
        match &self.predicting {
            Predicting::Adapter(adapter) => adapter.output_modality(),
            Predicting::Prior(_) => Modality::Image,
        }
    }

    /// The adapter, for what a prior cannot do.
    fn adapter(&self) -> Result<&Arc<Adapter>, SessionError> {
        match &self.predicting {
            Predicting::Adapter(adapter) => Ok(adapter),
            Predicting::Prior(_) => Err(SessionError::Mismatch(
                "this study predicts many variances at once, which takes an adapter; choose \
                 another --bridge than prior"
                    .to_owned(),
            )),
        }
    }
}

/// Recipes are validated before they run; this is for those that were not.
fn no_prior() -> SessionError {
    SessionError::Mismatch("a prior needs its folder (--prior) and a text".to_owned())
}

/// Decoded embeddings.
struct Decoded {
    tiles: Vec<Tile>,
    /// Cosine between what the decoder was given and the embedding of its picture.
    cosines: Vec<f64>,
    /// Embeddings of the pictures.
    seen: Vec<Embedding>,
}

/// Which noise pictures are decoded from.
#[derive(Debug, Clone, Copy)]
enum NoiseOf {
    /// As the recipe says.
    Recipe,
    /// That of one tile, for all.
    Tile(u64),
}

/// The running job: who listens, and when each stage began.
pub struct Job<'a> {
    on_event: OnEvent<'a>,
    times: Vec<(Stage, Instant)>,
}

impl<'a> Job<'a> {
    /// A job without any stage yet.
    pub fn new(on_event: OnEvent<'a>) -> Self {
        Self { on_event, times: Vec::new() }
    }

    fn tell(&mut self, event: Event<'_>) -> Result<(), SessionError> {
        match (self.on_event)(event) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(SessionError::Cancelled),
        }
    }

    fn stage(&mut self, stage: Stage) -> Result<(), SessionError> {
        tracing::debug!(stage = stage.name());
        self.times.push((stage, Instant::now()));
        self.tell(Event::Stage(stage))
    }

    /// Passes on how far the decoder is.
    fn decoding(
        &mut self,
        progress: &DecodeProgress<'_>,
        on_tiles: &mut dyn FnMut(&DecodeProgress<'_>),
    ) -> ControlFlow<()> {
        let &DecodeProgress { step, steps, batch, batches, .. } = progress;
        on_tiles(progress);
        (self.on_event)(Event::Progress { done: batch * steps + step, total: batches * steps })
    }

    fn finish(&mut self) -> Vec<StageTime> {
        let ends = self.times.iter().skip(1).map(|(_, start)| *start).chain([Instant::now()]);
        let time = |((stage, start), end): (&(Stage, Instant), Instant)| StageTime {
            stage: stage.name().to_owned(),
            seconds: (end - *start).as_secs_f64(),
        };
        self.times.iter().zip(ends).map(time).collect()
    }
}

/// Turns a panic below into an error: kernels of a device panic where they cannot return one.
///
/// # Errors
/// Those of `work`, [`SessionError::DeviceFailed`] and [`SessionError::Panic`].
pub fn guarded<T>(work: impl FnOnce() -> Result<T, SessionError>) -> Result<T, SessionError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(SessionError::of_panic(crate::panics::message(panic.as_ref()))))
}

/// Reads the query and fills in, or checks, the hash of an image's pixels.
fn read_query(query: &mut RecipeQuery) -> Result<Query, SessionError> {
    match query {
        RecipeQuery::Text(text) => Ok(Query::text(text.clone())?),
        RecipeQuery::Image { path, pixels } => {
            let query = Query::image(path)?;
            if let Query::Image(image) = &query {
                let found = image.pixels_hash(AlphaPolicy::default());
                if !pixels.is_empty() && *pixels != found {
                    return Err(SessionError::Mismatch(format!(
                        "{}: the image is not the one the recipe was made with (its pixels hash \
                         to {found}, expected {pixels}); give the original image, or make a new \
                         result with haze sample",
                        path.display()
                    )));
                }
                *pixels = found;
            }
            Ok(query)
        }
    }
}

/// The frozen embedding of a query.
///
/// # Errors
/// When the encoder fails.
pub fn embed_query(encoder: &Encoder, query: &Query) -> Result<Embedding, SessionError> {
    let mut embeddings = match query {
        Query::Text(text) => encoder.embed_texts(&[text])?,
        Query::Image(image) => encoder.embed_images(&[image.to_rgb(AlphaPolicy::default())])?,
    };
    Ok(embeddings.swap_remove(0))
}

/// The distribution that the encoder itself predicts for a query; `None` for one that predicts points.
///
/// # Errors
/// When the encoder fails.
pub fn predict_query(encoder: &Encoder, query: &Query) -> Result<Option<Gaussian>, SessionError> {
    let predicted = match query {
        Query::Text(text) => encoder.predict_texts(&[text])?,
        Query::Image(image) => encoder.predict_images(&[image.to_rgb(AlphaPolicy::default())])?,
    };
    Ok(predicted.and_then(|mut predicted| predicted.pop()))
}

/// How many tokens at the end of a query the encoder does not see.
fn tokens_cut(encoder: &Encoder, query: &Query) -> Result<usize, SessionError> {
    match query {
        Query::Text(text) => Ok(encoder.token_count(text)?.saturating_sub(encoder.max_tokens())),
        Query::Image(_) => Ok(0),
    }
}

fn decode_options(recipe: &Recipe, batch_size: Option<usize>) -> DecodeOptions {
    let decoding = &recipe.decoding;
    DecodeOptions {
        scheduler: decoding.scheduler,
        steps: decoding.steps,
        guidance_scale: decoding.guidance_scale,
        noise_level: decoding.noise_level,
        prompt: decoding.prompt.clone(),
        seed: recipe.sampling.seed,
        independent_noise: decoding.independent_noise,
        batch_size,
        vae_tiling: decoding.vae_tiling,
        ..DecodeOptions::default()
    }
}

/// What the decoder is given: embeddings carried to image space.
fn decoder_inputs(
    embeddings: Vec<Vec<f32>>,
    bridge: Option<&Bridge>,
) -> Result<Vec<Vec<f32>>, SessionError> {
    let Some(bridge) = bridge else { return Ok(embeddings) };
    embeddings
        .into_iter()
        .map(|values| Ok(bridge.apply(&Embedding { values, modality: Modality::Text })?.values))
        .collect()
}

fn tile(image: RgbImage) -> Tile {
    Tile { hash: pixels_hash(&image), image }
}
