//! What actions and engine messages do to the state. Knows nothing of egui: what needs a window
//! (clipboard, dialogs, focus) goes out as [`Effect`]s.

mod actions;
mod messages;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use image::RgbImage;

use super::action::BrowseFor;
use super::export::ExportRequest;
use super::layout::PaneKind;
use super::notices::{Notice, Notices, Severity};
use super::recipe_card::RecipeCard;
use super::session_file::SavedSession;
use super::state::State;
use super::state::history::{DecodeState, Entry, EntryId, TileState};
use super::state::jobs::{Job, JobKind};
use super::state::settings::Settings;
use super::state::undo::{Snapshot, UndoStack};
use crate::session::Assets;
use crate::session::engine::{DecodeRequest, EngineHandle, JobId, Work};
use crate::session::recipe::{Recipe, RecipeQuery};

/// Edits of the form within this time are one step of undo.
const UNDO_PAUSE: Duration = Duration::from_millis(800);
/// Unpinned queries whose pictures and draws stay in memory.
const KEPT_RESULTS: usize = 48;
/// Queries that stay in the history.
const KEPT_ENTRIES: usize = 1000;
/// How long a deleted entry can be brought back.
pub const UNDELETE_TIME: Duration = Duration::from_secs(8);

/// What the window has to do for the core.
#[derive(Debug)]
pub enum Effect {
    CopyText(String),
    CopyImage(Arc<RgbImage>),
    FocusQuery,
    AskOpen,
    AskSave(ExportRequest),
    AskSaveSession,
    Browse(BrowseFor),
    TakeIn(Vec<PathBuf>),
    SavePixels { image: Arc<RgbImage>, name: String },
    Paste,
    ShowPane(PaneKind),
    ResetLayout,
    ShowSettings,
    ShowPalette,
    ShowKeys,
    ShowCard(Box<RecipeCard>),
    OpenSession(Box<SavedSession>),
    ApplySettings(Box<Settings>),
    RestartEngine,
    SaveLater,
    Quit,
}

/// What a submitted job is for.
#[derive(Debug, Clone)]
struct Pending {
    entry: Option<EntryId>,
    /// Decode once the analysis is there.
    decode: bool,
    /// Chosen by Haze rather than by a click: gives way to a newer query while it waits.
    automatic: bool,
}

/// State, and everything that changes it.
pub struct Core {
    pub state: State,
    pub notices: Notices,
    engine: EngineHandle,
    pending: std::collections::HashMap<JobId, Pending>,
    undo: UndoStack,
    last_edit: Option<Instant>,
    deleted: Vec<(Instant, Entry)>,
    effects: Vec<Effect>,
    /// Messages that came for jobs that had ended or were being cancelled, and were dropped.
    pub dropped_messages: usize,
}

impl Core {
    pub fn new(assets: Assets, settings: Settings, engine: EngineHandle) -> Self {
        let state = State::new(assets, settings);
        Self {
            state,
            notices: Notices::default(),
            engine,
            pending: Default::default(),
            undo: UndoStack::default(),
            last_edit: None,
            deleted: Vec::new(),
            effects: Vec::new(),
            dropped_messages: 0,
        }
    }

    /// What the window has to do since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub fn can_undo(&self) -> bool {
        self.undo.can_undo()
    }

    pub fn can_redo(&self) -> bool {
        self.undo.can_redo()
    }

    /// The id that a restarted engine has to begin with.
    pub fn next_job(&self) -> u64 {
        self.engine.next_job()
    }

    /// Takes a fresh engine in place of one that died or whose device was changed. What ran is
    /// marked as stopped; nothing on screen is lost.
    pub fn replace_engine(&mut self, engine: EngineHandle) {
        self.engine = engine;
        self.pending.clear();
        let ids: Vec<JobId> = self.state.jobs.iter().map(|job| job.id).collect();
        for id in ids {
            self.forget_job(id);
        }
        self.state.device = None;
        self.warm();
    }

    /// Loads the form's models in the background.
    pub fn warm(&mut self) {
        let query = RecipeQuery::Text("warm".to_owned());
        match self.state.form.recipe_for(query, &self.state.assets) {
            Ok(recipe) => {
                let work = Work::WarmDecoder(Box::new(recipe.clone()));
                self.submit(work, JobKind::Warm, None, "decoder", false);
                self.submit(Work::Warm(Box::new(recipe)), JobKind::Warm, None, "models", false);
            }
            Err(error) => self.say(Severity::Error, "The models cannot be used", error.to_string()),
        }
    }

    /// Shows a notice.
    pub fn say(&mut self, severity: Severity, title: impl Into<String>, detail: impl Into<String>) {
        self.notices.push(Notice::new(severity, title, detail));
    }

    fn submit(
        &mut self,
        work: Work,
        kind: JobKind,
        entry: Option<EntryId>,
        title: &str,
        decode: bool,
    ) -> JobId {
        let id = self.engine.submit(work);
        self.pending.insert(id, Pending { entry, decode, automatic: false });
        self.state.jobs.add(Job {
            id,
            kind,
            entry,
            title: title.to_owned(),
            started: None,
            stage: None,
            progress: None,
            paused: false,
            cancelling: false,
        });
        id
    }

    fn snapshot(&self) -> Snapshot {
        Snapshot {
            form: self.state.form.clone(),
            current: self.state.current,
            compared: self.state.compared,
        }
    }

    /// Remembers the present for undo, before something changes.
    fn record(&mut self) {
        self.undo.record(self.snapshot());
        self.last_edit = None;
    }

    fn restore(&mut self, snapshot: Snapshot) {
        let alive = |id: &EntryId| self.state.history.get(*id).is_some();
        let (current, compared) = (snapshot.current.filter(alive), snapshot.compared.filter(alive));
        self.state.form = snapshot.form;
        self.state.current = current;
        self.state.compared = compared;
        self.last_edit = None;
    }

    /// Runs the query of the form. A recipe that was run already is shown again.
    fn run(&mut self, decode: bool, automatic: bool) {
        if self.state.form.shuffle_seed {
            self.state.form.sampling.seed = fresh_seed();
        }
        let Some(query) = self.state.form.query() else {
            self.effects.push(Effect::FocusQuery);
            self.say(
                Severity::Info,
                "There is no query yet",
                "Type a text, or drop, paste or open an image",
            );
            return;
        };
        let recipe = match self.state.form.recipe_for(query, &self.state.assets) {
            Ok(recipe) => recipe,
            Err(error) => {
                self.say(Severity::Error, "The query cannot be run", error.to_string());
                return;
            }
        };
        self.run_recipe(recipe, decode, automatic);
    }

    fn run_recipe(&mut self, recipe: Recipe, decode: bool, automatic: bool) {
        // The entry on screen is reused where its pictures stay valid.
        let same = self
            .state
            .entry()
            .filter(|entry| decode_key(&entry.recipe) == decode_key(&recipe))
            .map(|entry| entry.id);
        let entry = same.unwrap_or_else(|| {
            let id = self.state.history.next_id();
            self.state.history.insert(Entry {
                id,
                tiles: vec![TileState::Empty; recipe.sampling.samples + 1],
                recipe: recipe.clone(),
                result: None,
                decode: DecodeState::NotAsked,
                pinned: false,
                asked: SystemTime::now(),
                warnings: Vec::new(),
            });
            id
        });
        let title = recipe.query.title();
        let work = Work::Analyse(Box::new(recipe));
        let job = self.submit(work, JobKind::Analyse, Some(entry), &title, decode);
        if let Some(pending) = self.pending.get_mut(&job) {
            pending.automatic = automatic;
        }
        self.state.query_failure = None;
        self.trim_history();
    }

    /// Queues the decoding of an analysed entry. Automatic decodings of other entries that have
    /// not begun give way.
    fn decode(&mut self, id: EntryId, batch_size: Option<usize>, automatic: bool) {
        let Some(entry) = self.state.history.get(id) else { return };
        let Some(analysis) = entry.result.clone() else {
            let recipe = entry.recipe.clone();
            self.state.current = Some(id);
            self.run_recipe(recipe, true, automatic);
            return;
        };
        if matches!(entry.decode, DecodeState::Running(_)) {
            return;
        }
        let title = entry.title();
        let waiting: Vec<JobId> = self
            .state
            .jobs
            .iter()
            .filter(|job| job.kind == JobKind::Decode && job.started.is_none() && !job.cancelling)
            .filter(|job| self.pending.get(&job.id).is_some_and(|p| p.automatic))
            .map(|job| job.id)
            .collect();
        for job in waiting {
            self.cancel(job);
        }
        let request =
            DecodeRequest { analysis, previews: self.state.settings.previews, batch_size };
        let job = self.submit(Work::Decode(request), JobKind::Decode, Some(id), &title, false);
        if let Some(pending) = self.pending.get_mut(&job) {
            pending.automatic = automatic;
        }
        if let Some(entry) = self.state.history.get_mut(id) {
            entry.decode = DecodeState::Running(job);
            for tile in &mut entry.tiles {
                *tile = TileState::Empty;
            }
        }
    }

    fn cancel(&mut self, id: JobId) {
        if let Some(job) = self.state.jobs.get_mut(id)
            && !job.cancelling
        {
            job.cancelling = true;
            self.engine.cancel(id);
        }
    }

    /// Takes a job off the list; what it was decoding is left as it stands.
    fn forget_job(&mut self, id: JobId) -> Option<Job> {
        self.pending.remove(&id);
        let job = self.state.jobs.remove(id)?;
        if let Some(entry) = job.entry.and_then(|entry| self.state.history.get_mut(entry))
            && matches!(entry.decode, DecodeState::Running(running) if running == id)
        {
            entry.decode = DecodeState::Stopped { finished: entry.finished_tiles() };
        }
        Some(job)
    }

    /// Keeps memory bounded: old unpinned queries keep their recipe alone, very old ones go.
    fn trim_history(&mut self) {
        let (current, compared) = (self.state.current, self.state.compared);
        let busy = |entry: &Entry| {
            entry.pinned
                || Some(entry.id) == current
                || Some(entry.id) == compared
                || matches!(entry.decode, DecodeState::Running(_))
        };
        let mut kept = 0;
        let mut count = 0;
        let mut gone = Vec::new();
        for entry in self.state.history.iter_mut().rev() {
            count += 1;
            if busy(entry) {
                continue;
            }
            if count > KEPT_ENTRIES {
                gone.push(entry.id);
            } else if entry.result.is_some() {
                kept += 1;
                if kept > KEPT_RESULTS {
                    entry.result = None;
                    entry.tiles = vec![TileState::Empty; entry.tiles.len()];
                    entry.decode = DecodeState::NotAsked;
                }
            }
        }
        for id in gone {
            self.state.history.remove(id);
        }
        self.deleted.retain(|(when, _)| when.elapsed() < UNDELETE_TIME);
    }

    /// The query before or after the one on screen.
    fn neighbour(&self, step: isize) -> Option<EntryId> {
        let ids: Vec<EntryId> = self.state.history.iter().map(|entry| entry.id).collect();
        let at = self.state.current.and_then(|id| ids.iter().position(|&other| other == id))?;
        ids.get(at.checked_add_signed(step)?).copied()
    }
}

/// What decides the pictures of a result: two recipes with equal keys have equal pictures.
pub fn decode_key(recipe: &Recipe) -> String {
    let models = &recipe.models;
    let paths = [Some(&models.encoder), models.adapter.as_ref()].map(|m| m.map(|m| &m.path));
    let decoder = models.decoder.as_ref().map(|m| &m.path);
    let bridge = models.bridge_model.as_ref().map(|m| &m.path);
    let query = match &recipe.query {
        RecipeQuery::Text(text) => format!("text {text}"),
        RecipeQuery::Image { path, .. } => format!("image {}", path.display()),
    };
    let sampling = &recipe.sampling;
    format!(
        "{query}|{paths:?}|{decoder:?}|{bridge:?}|{}|{}|{}|{}|{:?}|{:?}",
        models.bridge,
        sampling.samples,
        sampling.temperature,
        sampling.seed,
        sampling.prior,
        recipe.decoding
    )
}

/// A seed that was not used before, short enough to be read aloud.
pub fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % 1_000_000
}

/// The recipe of a sheet as a card to look at.
fn card(recipe: Recipe) -> Effect {
    Effect::ShowCard(Box::new(RecipeCard::new(recipe)))
}
