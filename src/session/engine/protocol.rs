//! What goes into the engine and what comes out of it.

use std::path::PathBuf;
use std::sync::Arc;

use image::RgbImage;

use crate::adapter::training::TrainingEvent;
use crate::experiment::Report;
use crate::model::hub::HubName;
use crate::session::event::Stage;
use crate::session::experiments::ExperimentRequest;
use crate::session::projection::GalleryMap;
use crate::session::recipe::{Recipe, RecipeQuery};
use crate::session::request::RouteModels;
use crate::session::result::{QueryResult, Tile};
use crate::session::studies::evaluation::Evaluation;
use crate::session::studies::ladder::Ladder;
use crate::session::studies::noise_grid::NoiseGrid;
use crate::session::studies::routes::{LeftOut, Routes};
use crate::session::studies::traverse::Traverse;
use crate::session::training::TrainingJob;

/// Names one job; never used twice by one engine handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// What the engine is told.
#[derive(Debug)]
pub enum Order {
    Submit {
        job: JobId,
        work: Work,
    },
    /// Ends that job at its next step, or before it began. Nothing happens to any other job.
    Cancel(JobId),
    /// Holds that job before its next step, or lets it go on.
    Pause {
        job: JobId,
        paused: bool,
    },
}

/// What a job does.
#[derive(Debug)]
pub enum Work {
    /// Loads the models of a recipe, so that the first query need not wait. Interactive.
    Warm(Box<Recipe>),
    /// Loads the decoder of a recipe. Long.
    WarmDecoder(Box<Recipe>),
    /// Everything but decoding. Interactive: a newer one replaces one that waits, and ends one
    /// that runs.
    Analyse(Box<Recipe>),
    /// Uncertainty over queries of growing specificity. Interactive.
    Ladder(LadderRequest),
    /// Decodes the mean and the samples of an analysis. Long.
    Decode(DecodeRequest),
    /// Decodes mean ± k σ along dimensions. Long.
    Traverse(TraverseRequest),
    /// Decodes K embeddings with M noises each. Long.
    NoiseGrid(NoiseGridRequest),
    /// Trains an adapter or fits a bridge. Long.
    Train(Box<TrainingJob>),
    /// Recall and uncertainty over a gallery's own captions, with the models of a recipe. Long.
    Evaluate(Box<Recipe>),
    /// Compares the routes from texts to image space over a gallery's captions. Long.
    Routes(RoutesRequest),
    /// Trains and scores methods on embedded pairs. Long.
    Experiment(Box<ExperimentRequest>),
    /// Downloads a model of the hub into its cache. Long.
    Pull(HubName),
    /// Writes an experiment's report into a folder. Long.
    WriteReport { report: Arc<Report>, folder: PathBuf },
}

impl Work {
    /// Whether it runs in the interactive lane.
    pub fn is_interactive(&self) -> bool {
        matches!(self, Work::Warm(_) | Work::Analyse(_) | Work::Ladder(_))
    }
}

/// A decoding job.
#[derive(Debug, Clone)]
pub struct DecodeRequest {
    pub analysis: Arc<QueryResult>,
    /// Whether unfinished pictures are sent.
    pub previews: bool,
    /// Tiles denoised together; `None`: as memory allows.
    pub batch_size: Option<usize>,
}

/// A walk along dimensions from the mean.
#[derive(Debug, Clone)]
pub struct TraverseRequest {
    pub analysis: Arc<QueryResult>,
    /// Dimensions that are moved together; not empty.
    pub dimensions: Vec<usize>,
    /// Offsets k in units of each dimension's total standard deviation.
    pub offsets: Vec<f64>,
}

/// K embeddings crossed with M noises.
#[derive(Debug, Clone)]
pub struct NoiseGridRequest {
    pub analysis: Arc<QueryResult>,
    /// K, at least 2: the first samples of the analysis.
    pub embeddings: usize,
    /// M, at least 2.
    pub noises: usize,
}

/// Queries of growing specificity.
#[derive(Debug, Clone)]
pub struct LadderRequest {
    /// Models and numbers; its query is replaced by each step's.
    pub recipe: Box<Recipe>,
    pub steps: LadderSteps,
}

/// A comparison of the routes from texts to image space.
#[derive(Debug, Clone)]
pub struct RoutesRequest {
    /// Encoder, decoder, gallery and numbers; its query, adapter and bridge are replaced.
    pub recipe: Box<Recipe>,
    /// The models of each route.
    pub routes: Vec<RouteModels>,
    /// Routes that there are no models for.
    pub left_out: Vec<LeftOut>,
    /// Captions at most, one per image of the gallery; at least 2.
    pub items: usize,
    /// Samples per caption, at least 2.
    pub samples: usize,
}

/// Where the steps of a ladder come from.
#[derive(Debug, Clone)]
pub enum LadderSteps {
    /// Texts or images, as given.
    Queries(Vec<RecipeQuery>),
    /// One image, masked more and more: shares of its area that are hidden, 0 to 1.
    Masks { image: PathBuf, shares: Vec<f64> },
}

/// One thing a job says.
#[derive(Debug, Clone)]
pub struct Message {
    pub job: JobId,
    pub event: JobEvent,
}

/// What a job says. `Ended` is its last word, said exactly once.
#[derive(Debug, Clone)]
pub enum JobEvent {
    /// It left the queue.
    Started,
    /// The device was opened; its label for people.
    Device(String),
    Stage(Stage),
    /// Progress inside the current stage.
    Progress {
        done: usize,
        total: usize,
    },
    Warning(String),
    Analysed(Arc<QueryResult>),
    /// The gallery of the job's recipe in two dimensions; sent when it is not the one of the job
    /// before.
    Mapped(Arc<GalleryMap>),
    /// Unfinished pictures by tile: 0 is the mean, i + 1 sample i (for a strip or a grid: the
    /// tile itself).
    Preview(Vec<(usize, RgbImage)>),
    /// Finished pictures, by the same numbers.
    Tiles(Vec<(usize, Tile)>),
    /// The whole result, with all tiles.
    Decoded(Arc<QueryResult>),
    /// Share of a decode's time that its previews took, 0 to 1.
    PreviewCost {
        share: f64,
    },
    Laddered(Arc<Ladder>),
    Traversed(Arc<Traverse>),
    Crossed(Arc<NoiseGrid>),
    Training(TrainingEvent),
    /// An adapter was written to that folder.
    Trained(PathBuf),
    Evaluated(Arc<Evaluation>),
    Routed(Arc<Routes>),
    /// What an experiment does now, in words.
    ExperimentStep(String),
    /// The report so far, or at the end.
    Experimented(Arc<Report>),
    /// A model of the hub is in its cache.
    Pulled(HubName),
    /// A report was written to that folder.
    Reported(PathBuf),
    Ended(Outcome),
}

/// How a job ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    Finished,
    /// On request, or because a newer job took its place.
    Cancelled,
    Failed(JobFailure),
}

/// Why a job failed, in words for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobFailure {
    /// What happened: the error's text.
    pub what: String,
    /// What to try next.
    pub hint: String,
    /// The next smaller batch, where memory may have been the reason.
    pub smaller_batch: Option<usize>,
    /// The device may be lost: the engine should be started anew.
    pub device_lost: bool,
}
