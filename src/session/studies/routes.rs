//! How well each route from a text reaches image space: captions of a gallery are carried there,
//! decoded and embedded again, and compared with the images that they belong to.
//!
//! All routes see the same captions and the same decoder noise, so their differences are theirs.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::decoder::prior::PriorOptions;
use crate::distribution::EmbeddingDistribution;
use crate::encoder::{Encoder, cosine};
use crate::evaluation::{Estimate, mean_estimate, median_estimate, quantiles};
use crate::query::{AlphaPolicy, read_image};
use crate::session::engine::RoutesRequest;
use crate::session::event::{Event, Stage};
use crate::session::galleries::Gallery;
use crate::session::recipe::{Bridge, ModelRef, Recipe, RecipeQuery};
use crate::session::reference::spread;
use crate::session::request::RouteModels;
use crate::session::{
    Decoded, Job, NoiseOf, OnEvent, Predicting, Route, Session, SessionError, guarded,
};

/// Most captions of one study.
pub const MAX_ITEMS: usize = 2000;
/// Most samples of one caption.
pub const MAX_SAMPLES: usize = 64;
/// k of the share of pictures that find their image among the first k.
pub const TOP_K: usize = 10;
const BOOTSTRAP: usize = 2000;

/// A finished comparison.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Routes {
    pub gallery: String,
    /// Images searched.
    pub gallery_size: usize,
    /// Captions, one per image, evenly spread over the gallery.
    pub items: usize,
    /// Samples per caption.
    pub samples: usize,
    /// In the order of [`Bridge::ALL`].
    pub routes: Vec<RouteScores>,
    /// The images' own embeddings decoded and embedded again: what the decoder itself loses.
    /// `None` where no image file of the gallery can be read.
    pub ceiling: Option<Scores>,
    /// Routes that were not compared, and why.
    pub left_out: Vec<LeftOut>,
}

/// A route that was not compared.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LeftOut {
    pub route: Bridge,
    pub reason: String,
}

/// What one route reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteScores {
    pub route: Bridge,
    /// None for a prior.
    pub adapter: Option<PathBuf>,
    /// The fitted map, or the prior.
    pub model: Option<PathBuf>,
    #[serde(flatten)]
    pub scores: Scores,
}

/// Means or medians over captions, with 95 % bootstrap intervals over captions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scores {
    /// Cosine between the picture, embedded again, and the true image; mean.
    pub similarity: Estimate,
    /// Cosine between what the decoder was given and the true image; mean.
    pub given_similarity: Estimate,
    /// Cosine between the mean of the distribution, carried to image space, and the true image;
    /// mean. A route with a wide distribution has samples far from the truth and may yet aim best.
    pub mean_similarity: Estimate,
    /// Rank of the true image when the gallery is searched by the picture, from 1; median of the
    /// captions' median ranks.
    pub rank: Estimate,
    /// Share of pictures whose true image is among the first [`TOP_K`].
    pub top_k: Estimate,
    /// Mean cosine distance between two pictures of one caption, embedded again; `None` for one
    /// picture per caption.
    pub diversity: Option<Estimate>,
    /// `[items]`
    #[serde(skip)]
    pub each: Vec<ItemScores>,
}

impl Scores {
    /// All scores for a table, "0.712 (0.680 to 0.741)" where there is an interval; "-" for a
    /// diversity that does not exist.
    pub fn in_words(&self) -> [String; 6] {
        let with_interval = |estimate: &Estimate, digits: usize| {
            let Estimate { value, low, high } = estimate;
            format!("{value:.digits$} ({low:.digits$} to {high:.digits$})")
        };
        [
            with_interval(&self.similarity, 3),
            format!("{:.3}", self.given_similarity.value),
            format!("{:.3}", self.mean_similarity.value),
            with_interval(&self.rank, 1),
            format!("{:.0} %", 100.0 * self.top_k.value),
            self.diversity.as_ref().map_or("-".to_owned(), |d| with_interval(d, 3)),
        ]
    }
}

/// The scores of one caption: means over its samples, and the median of its ranks.
#[derive(Debug, Clone, PartialEq)]
pub struct ItemScores {
    /// Row of the true image.
    pub row: usize,
    pub similarity: f64,
    pub given_similarity: f64,
    pub mean_similarity: f64,
    pub rank: f64,
    pub top_k: f64,
    pub diversity: Option<f64>,
}

/// A caption and its image.
struct Item {
    row: usize,
    caption: String,
    file: Option<PathBuf>,
}

/// Compares the routes.
///
/// # Errors
/// When no route is named, a number is out of range, no gallery or decoder is named, the gallery
/// has no captions, a route's models do not fit, or the job was cancelled.
pub fn compare(
    session: &Session,
    request: &RoutesRequest,
    on_event: OnEvent<'_>,
) -> Result<Routes, SessionError> {
    guarded(|| {
        for (what, found, least, most) in [
            ("the number of routes", request.routes.len(), 1, Bridge::ALL.len()),
            ("the number of captions", request.items, 2, MAX_ITEMS),
            ("the number of samples", request.samples, 2, MAX_SAMPLES),
        ] {
            if !(least..=most).contains(&found) {
                let (found, expected) = (found.to_string(), format!("{least} to {most}"));
                return Err(SessionError::OutOfRange { what, found, expected });
            }
        }
        let mut recipe = Recipe::clone(&request.recipe);
        if recipe.models.decoder.is_none() {
            return Err(SessionError::Mismatch("the recipe names no decoder".to_owned()));
        }
        let mut job = Job::new(on_event);
        let (encoder, gallery) = open(session, &mut recipe, &mut job)?;
        let items = items(&gallery, request.items)?;
        let mut comparison = Comparison {
            session,
            encoder,
            gallery,
            samples: request.samples,
            done: 0,
            total: items.len() * (request.routes.len() + 1),
            items,
        };
        job.stage(Stage::CompareRoutes)?;
        let mut routes = Vec::with_capacity(request.routes.len());
        for models in &request.routes {
            routes.push(comparison.route(&recipe, models, &mut job)?);
        }
        let ceiling = comparison.ceiling(&recipe, &mut job)?;
        Ok(Routes {
            gallery: comparison.gallery.path.display().to_string(),
            gallery_size: comparison.gallery.store.len(),
            items: comparison.items.len(),
            samples: request.samples,
            routes,
            ceiling,
            left_out: request.left_out.clone(),
        })
    })
}

fn open(
    session: &Session,
    recipe: &mut Recipe,
    job: &mut Job<'_>,
) -> Result<(Arc<Encoder>, Arc<Gallery>), SessionError> {
    let Session { assets, device, loaded } = session;
    job.stage(Stage::LoadEncoder)?;
    let encoder = loaded.encoder(&mut recipe.models.encoder, assets, device, job)?;
    let Some(model) = &mut recipe.models.gallery else {
        return Err(SessionError::Mismatch("the recipe names no gallery".to_owned()));
    };
    job.stage(Stage::IndexGallery)?;
    let gallery = loaded.gallery(model, &recipe.models.encoder, assets, &encoder, job)?;
    Ok((encoder, gallery))
}

/// At most `limit` captioned images, evenly spread, each with a different one of its captions.
fn items(gallery: &Gallery, limit: usize) -> Result<Vec<Item>, SessionError> {
    let mut items = Vec::new();
    let mut row = 0;
    gallery.store.for_each_metadata(|item| {
        let captions: Vec<&str> = item.captions.iter().map(|c| c.text.trim()).collect();
        let captions: Vec<&str> = captions.into_iter().filter(|text| !text.is_empty()).collect();
        if !captions.is_empty() {
            let caption = captions[row % captions.len()].to_owned();
            items.push(Item { row, caption, file: gallery.store.image_file(&item) });
        }
        row += 1;
        Ok(())
    })?;
    if items.len() < 2 {
        return Err(SessionError::Mismatch(format!(
            "the gallery {} has {} captioned image(s), routes are compared over at least 2; index \
             it from a dataset file that has captions",
            gallery.path.display(),
            items.len()
        )));
    }
    let chosen = spread(items.len(), limit);
    let mut items: Vec<Option<Item>> = items.into_iter().map(Some).collect();
    Ok(chosen.into_iter().filter_map(|at| items[at].take()).collect())
}

/// What all routes have in common, and how far the study is.
struct Comparison<'a> {
    session: &'a Session,
    encoder: Arc<Encoder>,
    gallery: Arc<Gallery>,
    items: Vec<Item>,
    samples: usize,
    done: usize,
    total: usize,
}

impl Comparison<'_> {
    fn route(
        &mut self,
        recipe: &Recipe,
        models: &RouteModels,
        job: &mut Job<'_>,
    ) -> Result<RouteScores, SessionError> {
        let mut recipe = recipe.clone();
        recipe.query = RecipeQuery::Text(self.items[0].caption.clone());
        recipe.models.bridge = models.bridge;
        recipe.models.adapter.clone_from(&models.adapter);
        recipe.models.bridge_model.clone_from(&models.bridge_model);
        let route = self.session.route(&mut recipe, job)?;
        let bridge = self.session.bridge(&mut recipe, job)?;
        let mut each = Vec::with_capacity(self.items.len());
        for at in 0..self.items.len() {
            self.tell(job)?;
            let mut samples = self.embeddings(at, &recipe, &route, job)?;
            let mut given = crate::session::decoder_inputs(samples.clone(), bridge.as_deref())?;
            // The mean stands last and is not decoded.
            samples.pop();
            let mean = given.pop().unwrap_or_default();
            let seen = self.pictures(at, &mut recipe, samples, job)?;
            each.push(self.scores(at, &mean, &given, &seen)?);
            self.done += 1;
        }
        let path = |model: &Option<ModelRef>| model.as_ref().map(|model| model.path.clone());
        Ok(RouteScores {
            route: models.bridge,
            adapter: path(&models.adapter),
            model: path(&models.bridge_model),
            scores: Scores::of(each)?,
        })
    }

    /// The images' own embeddings, as far as their files can be read.
    fn ceiling(
        &mut self,
        recipe: &Recipe,
        job: &mut Job<'_>,
    ) -> Result<Option<Scores>, SessionError> {
        let mut recipe = recipe.clone();
        recipe.models.bridge = Bridge::None;
        recipe.models.bridge_model = None;
        let mut each = Vec::new();
        for at in 0..self.items.len() {
            self.tell(job)?;
            let image = self.items[at].file.as_deref().and_then(|file| read_image(file).ok());
            if let Some(image) = image {
                let image = image.to_rgb(AlphaPolicy::default());
                let own = self.encoder.embed_images(&[image])?.swap_remove(0).values;
                let seen = self.pictures(at, &mut recipe, vec![own.clone()], job)?;
                each.push(self.scores(at, &own, std::slice::from_ref(&own), &seen)?);
            }
            self.done += 1;
        }
        if each.is_empty() { Ok(None) } else { Scores::of(each).map(Some) }
    }

    /// Samples for one caption and, last, the mean, before a map carries them over. Every caption
    /// has random numbers of its own.
    fn embeddings(
        &self,
        at: usize,
        recipe: &Recipe,
        route: &Route,
        job: &mut Job<'_>,
    ) -> Result<Vec<Vec<f32>>, SessionError> {
        let caption = &self.items[at].caption;
        let sampling = &recipe.sampling;
        let first = (at * self.samples) as u64;
        match &route.predicting {
            Predicting::Adapter(adapter) => {
                let embedding = route.encoder.embed_texts(&[caption])?.swap_remove(0);
                let distribution = adapter.predict(&embedding, 0, sampling.seed)?;
                let sample =
                    |index| distribution.sample(sampling.seed, index, sampling.temperature);
                let samples = (first..first + self.samples as u64).map(sample);
                Ok(samples.chain([distribution.mean()]).collect())
            }
            Predicting::Prior(prior) => {
                let numbers = sampling.prior.unwrap_or_default();
                let options = PriorOptions {
                    steps: numbers.steps,
                    guidance_scale: numbers.guidance_scale,
                    seed: sampling.seed,
                    first,
                    count: self.samples,
                    batch_size: None,
                };
                let mut samples = prior.sample(caption, &options, &mut |_| self.heartbeat(job))?;
                samples.push(EmbeddingDistribution::from_samples(&samples)?.mean());
                Ok(samples)
            }
        }
    }

    /// Decodes the samples of one caption from one noise, which is that caption's on every route,
    /// and embeds the pictures.
    fn pictures(
        &self,
        at: usize,
        recipe: &mut Recipe,
        samples: Vec<Vec<f32>>,
        job: &mut Job<'_>,
    ) -> Result<Vec<Vec<f32>>, SessionError> {
        // The study has one progress bar: what the parts say of theirs is left out.
        let mut inner = |event: Event<'_>| match event {
            Event::Warning(text) => (job.on_event)(Event::Warning(text)),
            _ => self.heartbeat(job),
        };
        let mut quiet = Job::new(&mut inner);
        let noise = NoiseOf::Tile(at as u64);
        let decoded = self.session.decode_embeddings(
            recipe,
            samples,
            noise,
            None,
            &mut quiet,
            &mut |_| {},
        )?;
        let Decoded { seen, .. } = decoded
            .ok_or_else(|| SessionError::Mismatch("the recipe names no decoder".to_owned()))?;
        Ok(seen.into_iter().map(|embedding| embedding.values).collect())
    }

    fn scores(
        &self,
        at: usize,
        mean_embedding: &[f32],
        given: &[Vec<f32>],
        seen: &[Vec<f32>],
    ) -> Result<ItemScores, SessionError> {
        let row = self.items[at].row;
        let truth = self.gallery.store.image_rows().row(row);
        let similarity =
            |of: &[Vec<f32>]| mean(&of.iter().map(|v| cosine(v, &truth)).collect::<Vec<_>>());
        let ranks = self.gallery.ranks_of(seen, &[row])?;
        let mut ranks: Vec<f64> = ranks.iter().map(|of| of[0] as f64).collect();
        ranks.sort_by(f64::total_cmp);
        let found: Vec<f64> =
            ranks.iter().map(|&r| f64::from(u8::from(r <= TOP_K as f64))).collect();
        Ok(ItemScores {
            row,
            similarity: similarity(seen),
            given_similarity: similarity(given),
            mean_similarity: cosine(mean_embedding, &truth),
            rank: quantiles(&ranks, [0.5])[0],
            top_k: mean(&found),
            diversity: diversity(seen),
        })
    }

    fn tell(&self, job: &mut Job<'_>) -> Result<(), SessionError> {
        job.tell(Event::Progress { done: self.done, total: self.total })
    }

    /// Says again how far the study is, which is where a cancel is heard.
    fn heartbeat(&self, job: &mut Job<'_>) -> ControlFlow<()> {
        (job.on_event)(Event::Progress { done: self.done, total: self.total })
    }
}

impl Scores {
    fn of(each: Vec<ItemScores>) -> Result<Self, SessionError> {
        let all = |f: fn(&ItemScores) -> f64| -> Vec<f64> { each.iter().map(f).collect() };
        let mean = |values: &[f64]| mean_estimate(values, BOOTSTRAP, 0);
        let diversities: Option<Vec<f64>> = each.iter().map(|item| item.diversity).collect();
        Ok(Self {
            similarity: mean(&all(|item| item.similarity))?,
            given_similarity: mean(&all(|item| item.given_similarity))?,
            mean_similarity: mean(&all(|item| item.mean_similarity))?,
            rank: median_estimate(&all(|item| item.rank), BOOTSTRAP, 0)?,
            top_k: mean(&all(|item| item.top_k))?,
            diversity: diversities.map(|values| mean(&values)).transpose()?,
            each,
        })
    }

    /// The 5, 25, 50, 75 and 95 % quantiles over captions.
    pub fn quantiles(&self, value: impl Fn(&ItemScores) -> Option<f64>) -> Option<[f64; 5]> {
        let mut values: Vec<f64> = self.each.iter().filter_map(value).collect();
        values.sort_by(f64::total_cmp);
        (!values.is_empty()).then(|| quantiles(&values, [0.05, 0.25, 0.5, 0.75, 0.95]))
    }
}

/// Mean of 1 - cosine over all pairs; `None` where there is no pair.
fn diversity(pictures: &[Vec<f32>]) -> Option<f64> {
    let pairs = (0..pictures.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
    let distances: Vec<f64> =
        pairs.map(|(i, j)| 1.0 - cosine(&pictures[i], &pictures[j])).collect();
    (!distances.is_empty()).then(|| mean(&distances))
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::decoder::prior::testing::write_random_prior;
    use crate::model::device::ComputeDevice;
    use crate::session::Assets;
    use crate::session::request::{self, ModelChoice, Parts};

    fn request(choice: &ModelChoice, assets: &Assets, items: usize) -> RoutesRequest {
        let query = RecipeQuery::Text("captions".to_owned());
        let parts = Parts { decode: true, search: true };
        let base = ModelChoice { prior: None, ..choice.clone() };
        let mut recipe = request::new(query, &base, parts, assets).unwrap();
        recipe.decoding.steps = 4;
        let (routes, left_out) = request::routes(choice, assets).unwrap();
        RoutesRequest { recipe: Box::new(recipe), routes, left_out, items, samples: 2 }
    }

    #[test]
    fn the_routes_of_the_demo_and_a_prior_that_has_learnt_nothing_are_told_apart() {
        let assets = Assets::find(None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/clip");
        write_random_prior(folder.path(), &clip);
        let choice =
            ModelChoice { prior: Some(folder.path().to_owned()), ..ModelChoice::default() };
        let mut request = request(&choice, &assets, 8);
        request.recipe.sampling.prior =
            Some(crate::session::recipe::PriorSampling { steps: 3, guidance_scale: 1.0 });
        let session = Session::new(assets, ComputeDevice::cpu());
        let mut last = (0, 0);
        let mut run = |request: &RoutesRequest| {
            compare(&session, request, &mut |event| {
                if let Event::Progress { done, total } = event {
                    assert!(done >= last.0 || total != last.1, "progress went back");
                    last = (done, total);
                }
                ControlFlow::Continue(())
            })
            .unwrap()
        };
        let found = run(&request);
        let names: Vec<Bridge> = found.routes.iter().map(|r| r.route).collect();
        assert_eq!(names, Bridge::ALL);
        assert!(found.left_out.is_empty());
        assert_eq!((found.items, found.samples), (8, 2));
        let of = |bridge| {
            let route = found.routes.iter().find(|r| r.route == bridge).unwrap();
            assert_eq!(route.scores.each.len(), 8);
            let Estimate { value, low, high } = route.scores.similarity;
            assert!(low <= value && value <= high);
            assert!(route.scores.diversity.is_some_and(|d| d.value > 0.0), "{bridge}");
            (route.scores.mean_similarity.value, value)
        };
        // Text embeddings are no image embeddings, and a random prior knows nothing of the text.
        // A few steps make poor pictures, so what the routes aim at is compared.
        assert!(of(Bridge::CrossModal).0 > of(Bridge::None).0 + 0.05, "{found:?}");
        assert!(of(Bridge::CrossModal).0 > of(Bridge::Prior).0 + 0.1, "{found:?}");
        let ceiling = found.ceiling.clone().unwrap();
        assert!(ceiling.similarity.value > of(Bridge::Prior).1, "{found:?}");
        assert!(ceiling.given_similarity.value > 0.999 && ceiling.diversity.is_none());

        // A route alone has the numbers that it has among others.
        request.routes.retain(|r| r.bridge == Bridge::LinearMap);
        let alone = run(&request);
        let among = found.routes.iter().find(|r| r.route == Bridge::LinearMap).unwrap();
        for (a, b) in alone.routes[0].scores.each.iter().zip(&among.scores.each) {
            assert!((a.similarity - b.similarity).abs() < 1e-4, "{a:?} {b:?}");
        }
    }

    #[test]
    fn a_cancel_ends_the_study_and_numbers_out_of_range_are_named() {
        let assets = Assets::find(None).unwrap();
        let choice = ModelChoice::default();
        let mut request = request(&choice, &assets, 4);
        assert_eq!(request.left_out.len(), 1);
        assert!(request.left_out[0].reason.contains("--prior"), "{:?}", request.left_out);
        let session = Session::new(assets, ComputeDevice::cpu());
        let mut heard = 0;
        let result = compare(&session, &request, &mut |event| match event {
            Event::Progress { .. } => {
                heard += 1;
                if heard == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            }
            _ => ControlFlow::Continue(()),
        });
        assert!(result.unwrap_err().is_cancelled());
        request.samples = 1;
        let error = compare(&session, &request, &mut |_| ControlFlow::Continue(())).unwrap_err();
        assert!(error.to_string().contains("the number of samples is 1"), "{error}");
    }

    #[test]
    fn diversity_is_the_mean_distance_of_all_pairs() {
        let found = diversity(&[vec![1.0, 0.0], vec![0.0, 2.0], vec![3.0, 0.0]]).unwrap();
        assert!((found - 2.0 / 3.0).abs() < 1e-9);
        assert_eq!(diversity(&[vec![1.0]]), None);
    }
}
