//! What the window shows, apart from how: one value that every pane reads and only actions change.

pub mod form;
pub mod history;
pub mod jobs;
pub mod sample_order;
pub mod selection;
pub mod settings;
pub mod undo;

use std::path::PathBuf;
use std::sync::Arc;

use form::QueryForm;
use history::{Entry, EntryId, History};
use jobs::Jobs;
use selection::{Item, Selection};
use settings::Settings;

use crate::app::action::BrowseFor;
use crate::experiment::Report;
use crate::session::Assets;
use crate::session::engine::JobFailure;
use crate::session::projection::GalleryMap;
use crate::session::recipe::Recipe;
use crate::session::studies::evaluation::Evaluation;
use crate::session::studies::ladder::Ladder;
use crate::session::studies::noise_grid::NoiseGrid;
use crate::session::studies::routes::Routes;
use crate::session::studies::traverse::Traverse;

/// Everything the panes read.
pub struct State {
    pub assets: Assets,
    pub settings: Settings,
    /// The query as it is being edited.
    pub form: QueryForm,
    pub history: History,
    /// The entry on screen (A).
    pub current: Option<EntryId>,
    /// The entry beside it (B).
    pub compared: Option<EntryId>,
    pub selection: Selection,
    pub jobs: Jobs,
    /// Why the last interactive job failed; cleared by the next success.
    pub query_failure: Option<JobFailure>,
    pub map: Option<Arc<GalleryMap>>,
    pub traverse: Study<Traverse>,
    pub noise_grid: Study<NoiseGrid>,
    pub ladder: Study<Ladder>,
    /// Routes from texts to image space, and the recipe they were compared with.
    pub routes: Study<Routes>,
    pub routes_recipe: Option<Recipe>,
    pub evaluation: Study<Evaluation>,
    /// The last experiment; while one runs, its report so far.
    pub experiment: Study<Report>,
    /// What the running experiment does now, in words.
    pub experiment_step: Option<String>,
    /// Models of the hub that were downloaded since the start.
    pub pulled_models: usize,
    pub training: TrainingState,
    /// Folders chosen by a dialog for a pane's own form, oldest first.
    pub picked: Vec<(BrowseFor, PathBuf)>,
    /// The tile in the large view.
    pub enlarged: Option<Item>,
    /// Name and kind of the device that computes, once it is open.
    pub device: Option<String>,
    /// Seconds that one tile took per denoising step when last decoded.
    pub pace: Option<f32>,
    /// Share of the last decode's time that its previews took, 0 to 1.
    pub preview_cost: Option<f64>,
    /// Name of the adapter that draws.
    pub drawing_on: Option<String>,
}

/// Outcome of a study, for the entry it was made with.
#[derive(Debug, Clone)]
pub enum Study<T> {
    None,
    Done { entry: Option<EntryId>, result: Arc<T> },
    Failed(JobFailure),
}

impl<T> Study<T> {
    /// The result, if there is one.
    pub fn result(&self) -> Option<&Arc<T>> {
        match self {
            Study::Done { result, .. } => Some(result),
            _ => None,
        }
    }
}

/// The last training run.
#[derive(Debug, Clone, Default)]
pub struct TrainingState {
    pub job: Option<crate::session::engine::JobId>,
    pub epochs: Vec<crate::adapter::training::EpochRecord>,
    /// Items, batches per epoch, epochs and baselines, once started.
    pub started: Option<crate::adapter::training::TrainingEvent>,
    /// The newest batch.
    pub batch: Option<crate::adapter::training::TrainingEvent>,
    /// Loss of every batch: fractional epoch and loss.
    pub losses: Vec<[f64; 2]>,
    pub written: Option<PathBuf>,
    pub failure: Option<JobFailure>,
}

impl State {
    /// Nothing asked yet.
    pub fn new(assets: Assets, settings: Settings) -> Self {
        Self {
            assets,
            settings,
            form: QueryForm::default(),
            history: History::default(),
            current: None,
            compared: None,
            selection: Selection::default(),
            jobs: Jobs::default(),
            query_failure: None,
            map: None,
            traverse: Study::None,
            noise_grid: Study::None,
            ladder: Study::None,
            routes: Study::None,
            routes_recipe: None,
            evaluation: Study::None,
            experiment: Study::None,
            experiment_step: None,
            pulled_models: 0,
            training: TrainingState::default(),
            picked: Vec::new(),
            enlarged: None,
            device: None,
            pace: None,
            preview_cost: None,
            drawing_on: None,
        }
    }

    /// The entry on screen.
    pub fn entry(&self) -> Option<&Entry> {
        self.current.and_then(|id| self.history.get(id))
    }

    /// The entry beside it.
    pub fn other(&self) -> Option<&Entry> {
        self.compared.and_then(|id| self.history.get(id))
    }
}
