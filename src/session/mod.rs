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
pub mod engine;
mod error;
pub mod event;
pub mod fingerprint;
pub mod galleries;
mod loaded;
pub mod plan;
pub mod projection;
pub mod recipe;
mod reference;
pub mod request;
pub mod result;
pub mod studies;
pub mod training;

use std::ops::ControlFlow;
use std::time::Instant;

use image::RgbImage;

pub use assets::Assets;
pub use error::SessionError;

use crate::adapter::bridge::Bridge;
use crate::decoder::{DecodeOptions, DecodeProgress};
use crate::distribution::EmbeddingDistribution;
use crate::encoder::{ClipEncoder, Embedding, Modality};
use crate::model::device::ComputeDevice;
use crate::query::{AlphaPolicy, Query, pixels_hash};
use draws::Draws;
use event::{Event, Stage};
use loaded::Loaded;
use plan::Plan;
use recipe::{Recipe, RecipeQuery};
use reference::Variances;
use result::{QueryResult, Sample, StageTime, Tile};

/// Hears the events of a job; `Break` cancels it at the next step.
pub type OnEvent<'a> = &'a mut dyn FnMut(Event<'_>) -> ControlFlow<()>;

/// Loaded models and the device they live on.
pub struct Session {
    assets: Assets,
    device: ComputeDevice,
    loaded: Loaded,
}

impl Session {
    /// A session without any model loaded yet.
    pub fn new(assets: Assets, device: ComputeDevice) -> Self {
        Self { assets, device, loaded: Loaded::default() }
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
        &mut self,
        recipe: &Recipe,
        batch_size: Option<usize>,
        on_event: OnEvent<'_>,
    ) -> Result<QueryResult, SessionError> {
        guarded(|| {
            recipe.validate()?;
            let mut job = Job::new(on_event);
            let result = self.run_stages(recipe.clone(), batch_size, &mut job)?;
            job.tell(Event::Finished(&result))?;
            Ok(result)
        })
    }

    /// What running a recipe would take, without running it.
    ///
    /// # Errors
    /// As [`Session::run`], as far as it is known beforehand.
    pub fn plan(
        &mut self,
        recipe: &Recipe,
        batch_size: Option<usize>,
    ) -> Result<Plan, SessionError> {
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

    fn run_stages(
        &mut self,
        mut recipe: Recipe,
        batch_size: Option<usize>,
        job: &mut Job<'_>,
    ) -> Result<QueryResult, SessionError> {
        let Self { assets, device, loaded } = self;
        let query = read_query(&mut recipe.query)?;

        job.stage(Stage::LoadEncoder)?;
        let encoder = loaded.encoder(&mut recipe.models.encoder, assets, device, job)?;
        job.stage(Stage::LoadAdapter)?;
        let adapter = loaded.adapter(&mut recipe.models.adapter, assets, device, job)?;
        let bridge = match &mut recipe.models.bridge_model {
            Some(model) => Some(loaded.bridge(model, assets, job)?),
            None => None,
        };
        loaded::check_route(&recipe, &encoder, &adapter, bridge.as_deref())?;
        if adapter.encoder().is_some_and(|hash| hash != recipe.models.encoder.hash) {
            job.tell(Event::Warning(format!(
                "the adapter {} was trained on embeddings of another encoder than {}; its \
                 distribution means nothing unless both embed into the same space",
                recipe.models.adapter.path.display(),
                recipe.models.encoder.path.display()
            )))?;
        }

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

        let mut samples = draws.samples(sampling.samples, retrieved.as_ref().map(|r| &r.nearest));
        let mut mean_tile = None;
        let mut tiles = Vec::new();
        if let Some(model) = &mut recipe.models.decoder {
            job.stage(Stage::LoadDecoder)?;
            let decoder = loaded.decoder(model, assets, device, job)?;
            let options = decode_options(&recipe, batch_size);
            let scheduler = decoder.scheduler(options.scheduler, options.steps)?;
            recipe.decoding.scheduler = Some(scheduler.kind());
            let inputs = decoder_inputs(&distribution, &samples, bridge.as_deref())?;
            job.stage(Stage::Decode)?;
            let images = decoder.decode(&inputs, &options, &mut |progress| {
                let DecodeProgress { step, steps, batch, batches, .. } = progress;
                let event = Event::Progress { done: batch * steps + step, total: batches * steps };
                (job.on_event)(event)
            })?;
            job.stage(Stage::Reencode)?;
            reencode(&encoder, &inputs, &images, &mut samples)?;
            let mut all = images.into_iter().map(tile);
            mean_tile = all.next();
            tiles = all.collect();
        }
        let times = job.finish();
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
            draws: std::sync::Arc::new(draws),
            mean_tile,
            tiles,
            retrieval: retrieved.map(|found| found.retrieved),
            timings: times,
        })
    }
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

/// What the decoder is given: the mean first, then every sample, carried to image space.
fn decoder_inputs(
    distribution: &EmbeddingDistribution,
    samples: &[Sample],
    bridge: Option<&Bridge>,
) -> Result<Vec<Vec<f32>>, SessionError> {
    let mean = distribution.mean();
    let all = std::iter::once(mean.as_slice()).chain(samples.iter().map(|s| s.values.as_slice()));
    all.map(|values| match bridge {
        Some(bridge) => {
            let embedding = Embedding { values: values.to_vec(), modality: Modality::Text };
            Ok(bridge.apply(&embedding)?.values)
        }
        None => Ok(values.to_vec()),
    })
    .collect()
}

/// Embeds the decoded images and notes how close each is to what the decoder was given.
fn reencode(
    encoder: &ClipEncoder,
    inputs: &[Vec<f32>],
    images: &[RgbImage],
    samples: &mut [Sample],
) -> Result<(), SessionError> {
    let embedded = encoder.embed_images(images)?;
    // The first is the mean.
    for ((sample, input), seen) in samples.iter_mut().zip(&inputs[1..]).zip(&embedded[1..]) {
        let given = Embedding { values: input.clone(), modality: Modality::Image };
        sample.statistics.decoded_cosine = Some(given.cosine(seen));
    }
    Ok(())
}

fn tile(image: RgbImage) -> Tile {
    Tile { hash: pixels_hash(&image), image }
}
