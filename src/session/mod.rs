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
use crate::decoder::{DecodeOptions, DecodeProgress};
use crate::encoder::{ClipEncoder, Embedding, Modality};
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
                Some(mut model) => {
                    let decoder = loaded.decoder(&mut model, assets, device, &mut job)?;
                    let options = decode_options(recipe, batch_size);
                    Some(decoder.plan(recipe.sampling.samples + 1, &options)?)
                }
                None => None,
            };
            let draws = recipe.sampling.draws.max(recipe.sampling.samples);
            let passes = recipe.sampling.dropout_passes;
            Ok(Plan::new(device.label.clone(), draws, passes, decode))
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
            let route = self.route(&mut recipe, &mut job)?;
            if let Some(model) = &mut recipe.models.gallery {
                job.stage(Stage::IndexGallery)?;
                let Self { assets, loaded, .. } = self;
                let (encoder, models) = (&route.encoder, &recipe.models.encoder);
                let gallery = loaded.gallery(model, models, assets, encoder, &mut job)?;
                Variances::of(&gallery, encoder, &route.adapter, &recipe.models, &mut job)?;
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
                loaded.decoder(&mut model, assets, device, &mut job)?;
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

    /// Loads encoder, adapter and bridge, and checks that they fit.
    fn route(&self, recipe: &mut Recipe, job: &mut Job<'_>) -> Result<Route, SessionError> {
        let Self { assets, device, loaded } = self;
        job.stage(Stage::LoadEncoder)?;
        let encoder = loaded.encoder(&mut recipe.models.encoder, assets, device, job)?;
        job.stage(Stage::LoadAdapter)?;
        let adapter = loaded.adapter(&mut recipe.models.adapter, assets, device, job)?;
        let bridge = match &mut recipe.models.bridge_model {
            Some(model) => Some(loaded.bridge(model, assets, job)?),
            None => None,
        };
        loaded::check_route(recipe, &encoder, &adapter, bridge.as_deref())?;
        if adapter.encoder().is_some_and(|hash| hash != recipe.models.encoder.hash) {
            job.tell(Event::Warning(format!(
                "the adapter {} was trained on embeddings of another encoder than {}; its \
                 distribution means nothing unless both embed into the same space",
                recipe.models.adapter.path.display(),
                recipe.models.encoder.path.display()
            )))?;
        }
        Ok(Route { encoder, adapter })
    }

    fn analyse_stages(
        &self,
        mut recipe: Recipe,
        job: &mut Job<'_>,
    ) -> Result<QueryResult, SessionError> {
        let Self { assets, device, loaded } = self;
        let query = read_query(&mut recipe.query)?;
        let Route { encoder, adapter } = self.route(&mut recipe, job)?;

        job.stage(Stage::Embed)?;
        let query_embedding = embed_query(&encoder, &query)?;
        let tokens_cut = tokens_cut(&encoder, &query)?;
        if tokens_cut > 0 {
            job.tell(Event::Warning(format!(
                "the text is longer than the encoder reads: its last {tokens_cut} token(s) are \
                 ignored (limit {})",
                encoder.max_tokens()
            )))?;
        }

        job.stage(Stage::Predict)?;
        let sampling = recipe.sampling.clone();
        let distribution =
            adapter.predict(&query_embedding, sampling.dropout_passes, sampling.seed)?;
        job.tell(Event::Distribution(&distribution))?;
        let draws = Draws::new(&distribution, &sampling)?;

        let mut reference = None;
        let mut retrieved = None;
        if let Some(model) = &mut recipe.models.gallery {
            job.stage(Stage::IndexGallery)?;
            let gallery = loaded.gallery(model, &recipe.models.encoder, assets, &encoder, job)?;
            job.stage(Stage::Search)?;
            let mean = distribution.mean();
            let found = gallery.rank(&recipe, &query_embedding, &mean, &draws)?;
            job.tell(Event::Retrieved(&found.retrieved))?;
            retrieved = Some(found);
            let variances = Variances::of(&gallery, &encoder, &adapter, &recipe.models, job)?;
            reference = variances.place(distribution.mean_aleatoric());
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
            space: adapter.output_modality(),
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
        let mean = result.distribution.mean();
        let all =
            std::iter::once(mean).chain(result.samples.iter().map(|s| s.values.clone())).collect();
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
        let mut tiles = decoded.tiles.into_iter();
        result.mean_tile = tiles.next();
        result.tiles = tiles.collect();
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
        let Some(model) = &mut recipe.models.decoder else { return Ok(None) };
        job.stage(Stage::LoadDecoder)?;
        let decoder = loaded.decoder(model, assets, device, job)?;
        let encoder = loaded.encoder(&mut recipe.models.encoder, assets, device, job)?;
        let bridge = match &mut recipe.models.bridge_model {
            Some(model) => Some(loaded.bridge(model, assets, job)?),
            None => None,
        };
        let mut options = decode_options(recipe, batch_size);
        if let NoiseOf::Tile(index) = noise {
            options.independent_noise = false;
            options.common_noise = index;
        }
        let scheduler = decoder.scheduler(options.scheduler, options.steps)?;
        recipe.decoding.scheduler = Some(scheduler.kind());
        let inputs = decoder_inputs(embeddings, bridge.as_deref())?;
        job.stage(Stage::Decode)?;
        let images = decoder.decode(&inputs, &options, &mut |progress| {
            let DecodeProgress { step, steps, batch, batches, .. } = progress;
            let event = Event::Progress { done: batch * steps + step, total: batches * steps };
            on_tiles(&progress);
            (job.on_event)(event)
        })?;
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
    encoder: Arc<ClipEncoder>,
    adapter: Arc<Adapter>,
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
/// Those of `work`, and [`SessionError::Panic`].
pub fn guarded<T>(work: impl FnOnce() -> Result<T, SessionError>) -> Result<T, SessionError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = crate::panics::message(panic.as_ref());
        let text = text.unwrap_or_else(|| "unknown cause".to_owned());
        Err(SessionError::Panic(text))
    })
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
pub fn embed_query(encoder: &ClipEncoder, query: &Query) -> Result<Embedding, SessionError> {
    let mut embeddings = match query {
        Query::Text(text) => encoder.embed_texts(&[text])?,
        Query::Image(image) => encoder.embed_images(&[image.to_rgb(AlphaPolicy::default())])?,
    };
    Ok(embeddings.swap_remove(0))
}

/// How many tokens at the end of a query the encoder does not see.
fn tokens_cut(encoder: &ClipEncoder, query: &Query) -> Result<usize, SessionError> {
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
