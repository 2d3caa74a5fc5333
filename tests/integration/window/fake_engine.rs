//! An engine that computes nothing, slowly: results are recognisable by their query alone.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use haze::app::StartEngine;
use haze::distribution::{EmbeddingDistribution, GeneralizedGaussian};
use haze::encoder::{Embedding, Modality};
use haze::query::pixels_hash;
use haze::session::draws::Draws;
use haze::session::engine::{
    EngineEnd, JobEvent, JobFailure, JobId, Message, Order, Outcome, Work, channel,
};
use haze::session::event::Stage;
use haze::session::recipe::Recipe;
use haze::session::result::{QueryResult, Tile};
use image::RgbImage;

const DIM: usize = 8;

/// Starts the fake engine; `seed` decides which jobs fail.
pub fn fake_engine(seed: u64) -> StartEngine {
    Box::new(move |first, _device, wake| {
        let (handle, end) = channel(first, move || wake());
        std::thread::spawn(move || run(&end, seed));
        handle
    })
}

/// One job and how far it is.
struct Running {
    job: JobId,
    work: Work,
    step: usize,
}

fn run(end: &EngineEnd, seed: u64) {
    let mut queue: VecDeque<(JobId, Work)> = VecDeque::new();
    let mut running: Option<Running> = None;
    let mut paused: HashMap<JobId, bool> = HashMap::new();
    let say = |job, event| end.messages.send(Message { job, event });
    loop {
        match end.orders.recv_timeout(Duration::from_micros(300)) {
            Ok(Order::Submit { job, work }) => queue.push_back((job, work)),
            Ok(Order::Cancel(job)) => {
                let before = queue.len();
                queue.retain(|(other, _)| *other != job);
                let was_running = running.as_ref().is_some_and(|r| r.job == job);
                if was_running {
                    running = None;
                }
                if was_running || queue.len() < before {
                    // Late words of a cancelled job, which must not be heard.
                    say(job, JobEvent::Progress { done: 1, total: 2 });
                    say(job, JobEvent::Tiles(vec![(0, tile("late"))]));
                    say(job, JobEvent::Ended(Outcome::Cancelled));
                }
            }
            Ok(Order::Pause { job, paused: hold }) => {
                paused.insert(job, hold);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if running.is_none() {
            running = queue.pop_front().map(|(job, work)| Running { job, work, step: 0 });
        }
        if let Some(current) = &mut running {
            if paused.get(&current.job).copied().unwrap_or(false) {
                continue;
            }
            if advance(current, seed, &say) {
                running = None;
            }
        }
    }
}

/// One step of a job; true when it has ended.
fn advance(running: &mut Running, seed: u64, say: &dyn Fn(JobId, JobEvent) -> bool) -> bool {
    let Running { job, work, step } = running;
    let job = *job;
    *step += 1;
    if *step == 1 {
        say(job, JobEvent::Started);
    }
    if (job.0 ^ seed) % 13 == 5 {
        let failure = JobFailure {
            what: "the fake device failed".to_owned(),
            hint: "Try again".to_owned(),
            smaller_batch: Some(4),
            device_lost: job.0 % 2 == 0,
        };
        say(job, JobEvent::Ended(Outcome::Failed(failure)));
        return true;
    }
    match work {
        Work::Analyse(recipe) => {
            say(job, JobEvent::Stage(Stage::Embed));
            if *step < 3 {
                return false;
            }
            say(job, JobEvent::Analysed(Arc::new(result(recipe))));
        }
        Work::Decode(request) => {
            let total = request.analysis.samples.len() + 1;
            let title = request.analysis.title();
            say(job, JobEvent::Stage(Stage::Decode));
            say(job, JobEvent::Progress { done: *step, total: 6 });
            if *step < 6 {
                let image = tile(&title).image;
                say(job, JobEvent::Preview((0..total).map(|i| (i, image.clone())).collect()));
                return false;
            }
            let tiles: Vec<Tile> = (0..total).map(|_| tile(&title)).collect();
            say(job, JobEvent::Tiles(tiles.iter().cloned().enumerate().collect()));
            let mut decoded = QueryResult::clone(&request.analysis);
            decoded.mean_tile = tiles.first().cloned();
            decoded.tiles = tiles[1..].to_vec();
            say(job, JobEvent::Decoded(Arc::new(decoded)));
        }
        _ => {
            if *step < 3 {
                return false;
            }
        }
    }
    say(job, JobEvent::Ended(Outcome::Finished));
    true
}

/// The picture that stands for a query: its colour is its title's hash.
pub fn tile(title: &str) -> Tile {
    let hash = blake3::hash(title.as_bytes());
    let [r, g, b, ..] = *hash.as_bytes();
    let image = RgbImage::from_pixel(8, 8, image::Rgb([r, g, b]));
    Tile { hash: pixels_hash(&image), image }
}

fn result(recipe: &Recipe) -> QueryResult {
    let title = recipe.query.title();
    let spread = 0.1 + f64::from(blake3::hash(title.as_bytes()).as_bytes()[0]) / 256.0;
    let densities =
        (0..DIM).map(|d| GeneralizedGaussian::new(d as f64, spread, 1.5).unwrap()).collect();
    let distribution = EmbeddingDistribution::new(densities, vec![0.01; DIM]).unwrap();
    let draws = Draws::new(&distribution, &recipe.sampling).unwrap();
    QueryResult {
        recipe: recipe.clone(),
        device: "fake".to_owned(),
        query_image: None,
        query_embedding: Embedding { values: vec![1.0; DIM], modality: recipe.query.modality() },
        tokens_cut: 0,
        space: Modality::Image,
        samples: draws.samples(recipe.sampling.samples, None),
        draws: Arc::new(draws),
        distribution,
        reference: None,
        mean_tile: None,
        tiles: Vec::new(),
        retrieval: None,
        timings: Vec::new(),
    }
}
