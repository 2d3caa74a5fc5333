//! What the user wants.

use std::path::PathBuf;
use std::time::Instant;

use super::{Core, Effect, UNDO_PAUSE, card, fresh_seed};
use crate::app::action::{Action, BrowseFor};
use crate::app::availability::{UndoState, availability};
use crate::app::command::UiCommand;
use crate::app::intake::{Intake, TakenIn};
use crate::app::layout::PaneKind;
use crate::app::notices::Severity;
use crate::app::session_file::SavedSession;
use crate::app::state::form::{FormModality, QueryForm};
use crate::app::state::history::{DecodeState, Entry, EntryId, History, TileState};
use crate::app::state::jobs::JobKind;
use crate::app::state::selection::{Item, SelectMode};
use crate::app::state::settings::{Settings, ThemeChoice};
use crate::app::state::{Study, TrainingState};
use crate::session::engine::{NoiseGridRequest, RoutesRequest, TraverseRequest, Work};
use crate::session::recipe::Bridge;
use crate::session::request::{self, ModelChoice};

impl Core {
    /// Applies one wish.
    pub fn apply(&mut self, action: Action) {
        match action {
            Action::Command(command) => self.command(command),
            Action::EditForm { form, analyse } => self.edit_form(*form, analyse),
            Action::Run { decode } => {
                let automatic = decode.is_none();
                let decode = decode.unwrap_or(self.state.settings.decode_automatically);
                self.run(decode, automatic);
            }
            Action::QueryImageFile(path) => {
                self.record();
                self.state.form.modality = FormModality::Image;
                self.state.form.image = Some(path);
                self.run(self.state.settings.decode_automatically, true);
            }
            Action::QueryPixels { image, name } => {
                self.effects.push(Effect::SavePixels { image, name });
            }
            Action::QueryText(text) => {
                self.record();
                self.state.form.modality = FormModality::Text;
                self.state.form.text = text;
                self.run(self.state.settings.decode_automatically, true);
            }
            Action::TakeIn(paths) => self.effects.push(Effect::TakeIn(paths)),
            Action::Hover(item) => self.state.selection.hovered = item,
            Action::Select { items, mode, from } => {
                self.state.selection.apply(&items, mode, from);
            }
            Action::OpenEntry(id) => self.open_entry(id),
            Action::PinEntry(id, pinned) => {
                if let Some(entry) = self.state.history.get_mut(id) {
                    entry.pinned = pinned;
                    self.effects.push(Effect::SaveLater);
                }
            }
            Action::DeleteEntry(id) => self.delete_entry(id),
            Action::Undelete => self.undelete(),
            Action::CompareWith(other) => self.compare_with(other),
            Action::Cancel(job) => self.cancel(job),
            Action::Pause(id, paused) => {
                if let Some(job) = self.state.jobs.get_mut(id) {
                    job.paused = paused;
                    self.engine.pause(id, paused);
                }
            }
            Action::Decode { entry, batch_size } => self.decode(entry, batch_size, false),
            Action::Traverse { dimensions, offsets } => self.traverse(dimensions, offsets),
            Action::NoiseGrid { embeddings, noises } => self.noise_grid(embeddings, noises),
            Action::Routes { items, samples } => self.routes(items, samples),
            Action::Ladder(request) => {
                self.state.ladder = Study::None;
                let entry = self.state.current;
                self.submit(Work::Ladder(request), JobKind::Ladder, entry, "ladder", false);
            }
            Action::Train(job) => {
                let title = job.target.to_string();
                let id = self.submit(Work::Train(job), JobKind::Train, None, &title, false);
                self.state.training = TrainingState { job: Some(id), ..Default::default() };
            }
            Action::Evaluate => self.evaluate(),
            Action::Experiment(request) => {
                self.state.experiment = Study::None;
                self.state.experiment_step = None;
                let work = Work::Experiment(request);
                self.submit(work, JobKind::Experiment, None, "experiment", false);
            }
            Action::Pull(name) => {
                let title = name.to_string();
                self.submit(Work::Pull(name), JobKind::Pull, None, &title, false);
            }
            Action::WriteReport(folder) => {
                if let Some(report) = self.state.experiment.result().cloned() {
                    let work = Work::WriteReport { report, folder };
                    self.submit(work, JobKind::WriteReport, None, "report", false);
                }
            }
            Action::Export(request) => self.effects.push(Effect::AskSave(request)),
            Action::CopyText(text) => self.effects.push(Effect::CopyText(text)),
            Action::CopyImage(image) => self.effects.push(Effect::CopyImage(image)),
            Action::ShowPane(pane) => self.effects.push(Effect::ShowPane(pane)),
            Action::Enlarge(item) => self.state.enlarged = item,
            Action::OrderSamples(order) => {
                self.state.settings.sample_order = order;
                self.effects.push(Effect::SaveLater);
            }
            Action::SetTileSize(size) => {
                self.state.settings.tile_size = size;
                self.effects.push(Effect::SaveLater);
            }
            Action::Browse(what) => self.effects.push(Effect::Browse(what)),
            Action::EditSettings(settings) => {
                self.state.settings = (*settings).clone();
                self.effects.push(Effect::ApplySettings(settings));
            }
            Action::Notify(notice) => self.notices.push(notice),
            Action::RestartEngine => self.effects.push(Effect::RestartEngine),
        }
    }

    fn edit_form(&mut self, form: QueryForm, analyse: bool) {
        if form == self.state.form {
            return;
        }
        if self.last_edit.is_none_or(|edit| edit.elapsed() > UNDO_PAUSE) {
            self.record();
        }
        self.last_edit = Some(Instant::now());
        let models_changed = form.choice() != self.state.form.choice();
        self.state.form = form;
        if models_changed {
            self.warm();
        }
        if analyse && self.state.entry().is_some() && self.state.form.query().is_some() {
            self.run(false, true);
        }
    }

    fn open_entry(&mut self, id: EntryId) {
        let Some(entry) = self.state.history.get(id) else { return };
        let form = QueryForm {
            shuffle_seed: self.state.form.shuffle_seed,
            ..QueryForm::of(&entry.recipe)
        };
        let recipe = entry.result.is_none().then(|| entry.recipe.clone());
        self.record();
        self.state.form = form;
        self.state.current = Some(id);
        if self.state.compared == Some(id) {
            self.state.compared = None;
        }
        self.state.selection.clear();
        self.state.enlarged = None;
        if let Some(recipe) = recipe {
            self.run_recipe(recipe, false, true);
        }
    }

    fn delete_entry(&mut self, id: EntryId) {
        if let Some(DecodeState::Running(job)) =
            self.state.history.get(id).map(|entry| entry.decode.clone())
        {
            self.cancel(job);
        }
        let next = self.neighbour(-1).or_else(|| self.neighbour(1));
        let Some(entry) = self.state.history.remove(id) else { return };
        if self.state.current == Some(id) {
            self.state.current = next.filter(|&next| next != id);
            self.state.selection.clear();
            self.state.enlarged = None;
        }
        if self.state.compared == Some(id) {
            self.state.compared = None;
        }
        self.deleted.push((Instant::now(), entry));
        self.effects.push(Effect::SaveLater);
    }

    fn undelete(&mut self) {
        if let Some((_, entry)) = self.deleted.pop() {
            self.state.history.insert(entry);
            self.effects.push(Effect::SaveLater);
        }
    }

    /// The query that can be brought back, and when it was deleted.
    pub fn deleted(&self) -> Option<(String, Instant)> {
        let (when, entry) = self.deleted.last()?;
        (when.elapsed() < super::UNDELETE_TIME).then(|| (entry.title(), *when))
    }

    fn compare_with(&mut self, other: Option<EntryId>) {
        let other = other.filter(|&id| Some(id) != self.state.current);
        let other = other.filter(|&id| self.state.history.get(id).is_some());
        if other == self.state.compared {
            return;
        }
        self.record();
        self.state.compared = other;
        if let Some(id) = other {
            let missing = self.state.history.get(id).filter(|entry| entry.result.is_none());
            if let Some(recipe) = missing.map(|entry| entry.recipe.clone()) {
                let title = recipe.query.title();
                let work = Work::Analyse(Box::new(recipe));
                let current = self.state.current;
                self.submit(work, JobKind::Analyse, Some(id), &title, false);
                self.state.current = current;
            }
            self.effects.push(Effect::ShowPane(PaneKind::Compare));
        }
    }

    fn traverse(&mut self, dimensions: Vec<usize>, offsets: Vec<f64>) {
        let Some(entry) = self.state.entry() else { return };
        let (id, title) = (entry.id, entry.title());
        let Some(analysis) = entry.result.clone() else { return };
        self.state.traverse = Study::None;
        let request = TraverseRequest { analysis, dimensions, offsets };
        self.submit(Work::Traverse(request), JobKind::Traverse, Some(id), &title, false);
        self.effects.push(Effect::ShowPane(PaneKind::Studies));
    }

    fn noise_grid(&mut self, embeddings: usize, noises: usize) {
        let Some(entry) = self.state.entry() else { return };
        let (id, title) = (entry.id, entry.title());
        let Some(analysis) = entry.result.clone() else { return };
        self.state.noise_grid = Study::None;
        let request = NoiseGridRequest { analysis, embeddings, noises };
        self.submit(Work::NoiseGrid(request), JobKind::NoiseGrid, Some(id), &title, false);
    }

    /// Compares the routes with the models and numbers of the form.
    fn routes(&mut self, items: usize, samples: usize) {
        let query = crate::session::recipe::RecipeQuery::Text("captions".to_owned());
        // A route's own adapter and prior come from the bundle unless they are named.
        let form = QueryForm { bridge: None, adapter: None, ..self.state.form.clone() };
        let choice = ModelChoice { bridge: None, ..self.state.form.choice() };
        let choice = ModelChoice { prior: self.state.form.prior.clone(), ..choice };
        let assets = &self.state.assets;
        let planned = form
            .recipe_for(query, assets)
            .and_then(|recipe| Ok((recipe, request::routes(&choice, assets)?)));
        match planned {
            Ok((recipe, (routes, left_out))) => {
                self.state.routes = Study::None;
                self.state.routes_recipe = Some(recipe.clone());
                let recipe = Box::new(recipe);
                let request = RoutesRequest { recipe, routes, left_out, items, samples };
                self.submit(Work::Routes(request), JobKind::Routes, None, "routes", false);
            }
            Err(error) => {
                self.say(Severity::Error, "The routes cannot be compared", error.to_string());
            }
        }
    }

    fn evaluate(&mut self) {
        let query = crate::session::recipe::RecipeQuery::Text("evaluate".to_owned());
        match self.state.form.recipe_for(query, &self.state.assets) {
            Ok(recipe) => {
                self.state.evaluation = Study::None;
                let work = Work::Evaluate(Box::new(recipe));
                self.submit(work, JobKind::Evaluate, None, "evaluation", false);
            }
            Err(error) => {
                self.say(Severity::Error, "The evaluation cannot be run", error.to_string());
            }
        }
    }

    fn command(&mut self, command: UiCommand) {
        let undo = UndoState { can_undo: self.can_undo(), can_redo: self.can_redo() };
        if let Err(reason) = availability(command, &self.state, undo) {
            self.say(Severity::Info, format!("{}: not now", command.text().name), reason);
            return;
        }
        if let Some(pane) = command.pane() {
            self.effects.push(Effect::ShowPane(pane));
            return;
        }
        match command {
            UiCommand::FocusQuery => {
                self.effects.push(Effect::ShowPane(PaneKind::Query));
                self.effects.push(Effect::FocusQuery);
            }
            UiCommand::Run => self.run(false, false),
            UiCommand::RunAndDecode => self.run(true, false),
            UiCommand::Stop => self.stop(),
            UiCommand::StopAll => {
                let ids: Vec<_> = self.state.jobs.iter().map(|job| job.id).collect();
                for id in ids {
                    self.cancel(id);
                }
            }
            UiCommand::OpenFile | UiCommand::OpenSession => self.effects.push(Effect::AskOpen),
            UiCommand::Paste => self.effects.push(Effect::Paste),
            UiCommand::NewSeed => {
                self.record();
                self.state.form.sampling.seed = fresh_seed();
                self.run(self.state.settings.decode_automatically, true);
            }
            UiCommand::PreviousQuery | UiCommand::NextQuery => {
                let step = if command == UiCommand::NextQuery { 1 } else { -1 };
                if let Some(id) = self.neighbour(step) {
                    self.open_entry(id);
                }
            }
            UiCommand::Undo => {
                let now = self.snapshot();
                if let Some(before) = self.undo.undo(now) {
                    self.restore(before);
                }
            }
            UiCommand::Redo => {
                let now = self.snapshot();
                if let Some(after) = self.undo.redo(now) {
                    self.restore(after);
                }
            }
            UiCommand::Compare => match self.state.compared {
                Some(_) => self.compare_with(None),
                None => {
                    let other = self.neighbour(-1).or_else(|| self.neighbour(1));
                    self.compare_with(other);
                }
            },
            UiCommand::SwapCompared => {
                if let (Some(a), Some(b)) = (self.state.current, self.state.compared) {
                    self.open_entry(b);
                    self.state.compared = Some(a);
                }
            }
            UiCommand::EnlargeTile => {
                let first = self
                    .state
                    .selection
                    .iter()
                    .find(|item| matches!(item, Item::Query | Item::Mean | Item::Sample(_)));
                self.state.enlarged = Some(first.unwrap_or(Item::Mean));
            }
            UiCommand::LargerTiles | UiCommand::SmallerTiles => {
                let size = self.state.settings.next_tile_size(command == UiCommand::LargerTiles);
                self.apply(Action::SetTileSize(size));
            }
            UiCommand::ClearSelection => self.state.selection.clear(),
            UiCommand::Isolate => {
                self.state.selection.isolated = !self.state.selection.isolated;
            }
            UiCommand::SelectAll => {
                let count = self.state.entry().map_or(0, |entry| entry.tiles.len() - 1);
                let items: Vec<Item> = (0..count).map(Item::Sample).collect();
                self.state.selection.apply(&items, SelectMode::Replace, PaneKind::Samples);
            }
            UiCommand::Traverse => {
                let dimensions: Vec<usize> = self.state.selection.dimensions().collect();
                self.traverse(dimensions, (-3..=3).map(f64::from).collect());
            }
            UiCommand::ExportSheet => {
                self.effects.push(Effect::AskSave(crate::app::export::ExportRequest::Sheet));
            }
            UiCommand::ExportFolder => {
                self.effects.push(Effect::AskSave(crate::app::export::ExportRequest::Folder));
            }
            UiCommand::CopyCommand => {
                if let Some(entry) = self.state.entry() {
                    let text = crate::app::command_line::cli_command(&entry.recipe);
                    self.effects.push(Effect::CopyText(text));
                    self.say(Severity::Success, "The command line is copied", "");
                }
            }
            UiCommand::CopyRecipe => {
                let recipe = self.state.entry().map(|entry| match &entry.result {
                    Some(result) => serde_json::to_string_pretty(&result.recipe),
                    None => serde_json::to_string_pretty(&entry.recipe),
                });
                if let Some(Ok(text)) = recipe {
                    self.effects.push(Effect::CopyText(text));
                    self.say(Severity::Success, "The recipe is copied", "");
                }
            }
            UiCommand::CopyImage => self.copy_image(),
            UiCommand::SaveSession => self.effects.push(Effect::AskSaveSession),
            UiCommand::ResetLayout => self.effects.push(Effect::ResetLayout),
            UiCommand::ToggleTheme => {
                let mut settings = self.state.settings.clone();
                settings.theme = match settings.theme {
                    ThemeChoice::Light => ThemeChoice::Dark,
                    ThemeChoice::Dark | ThemeChoice::System => ThemeChoice::Light,
                };
                self.apply(Action::EditSettings(Box::new(settings)));
            }
            UiCommand::Settings => self.effects.push(Effect::ShowSettings),
            UiCommand::Palette => self.effects.push(Effect::ShowPalette),
            UiCommand::Keys => self.effects.push(Effect::ShowKeys),
            UiCommand::RestartEngine => self.effects.push(Effect::RestartEngine),
            UiCommand::Quit => self.effects.push(Effect::Quit),
            UiCommand::ShowQuery
            | UiCommand::ShowSamples
            | UiCommand::ShowRetrieval
            | UiCommand::ShowUncertainty
            | UiCommand::ShowMap
            | UiCommand::ShowStudies
            | UiCommand::ShowCompare
            | UiCommand::ShowTrain
            | UiCommand::ShowEvaluate => {}
        }
    }

    /// Esc: closes the large view, else ends the running job, else the one that waits.
    fn stop(&mut self) {
        if self.state.enlarged.take().is_some() {
            return;
        }
        let running = self.state.jobs.iter().filter(|job| job.kind != JobKind::Warm);
        let mut jobs: Vec<_> = running.filter(|job| !job.cancelling).collect();
        jobs.sort_by_key(|job| job.started.is_none());
        if let Some(id) = jobs.first().map(|job| job.id) {
            self.cancel(id);
        }
    }

    fn copy_image(&mut self) {
        let Some(entry) = self.state.entry() else { return };
        let sample = self.state.selection.samples().next();
        let picture = match entry.tiles.get(sample.map_or(0, |sample| sample + 1)) {
            Some(TileState::Done(tile)) => Some(std::sync::Arc::new(tile.image.clone())),
            Some(TileState::Preview { image, .. }) => Some(image.clone()),
            _ => None,
        };
        match picture {
            Some(image) => {
                self.effects.push(Effect::CopyImage(image));
                self.say(Severity::Success, "The image is copied", "");
            }
            None => self.say(
                Severity::Info,
                "There is no image to copy yet",
                "Decode the samples first (Ctrl+Enter)",
            ),
        }
    }

    /// Acts on what was dropped, pasted or opened.
    pub fn taken_in(&mut self, taken: TakenIn) {
        for (title, detail) in taken.errors {
            self.say(Severity::Error, title, detail);
        }
        if let Some(note) = taken.note {
            self.say(Severity::Info, "Several files", note);
        }
        let Some(intake) = taken.act else { return };
        match intake {
            Intake::QueryImage(path) => self.apply(Action::QueryImageFile(path)),
            Intake::Text(text) => self.apply(Action::QueryText(text)),
            Intake::Sheet(metadata) => self.effects.push(card(metadata.recipe)),
            Intake::Recipe(recipe) => self.effects.push(card(*recipe)),
            Intake::Session { path, session } => {
                self.state.settings.note_session(path);
                self.effects.push(Effect::OpenSession(session));
            }
            Intake::Gallery(path) => self.browsed(BrowseFor::Gallery, path),
            Intake::Bundle(path) => self.browsed(BrowseFor::Bundle, path),
            Intake::Encoder(path) => self.browsed(BrowseFor::Encoder, path),
            Intake::Decoder(path) => self.browsed(BrowseFor::Decoder, path),
            Intake::Prior(path) => self.browsed(BrowseFor::Prior, path),
            Intake::Adapter { path, .. } => self.browsed(BrowseFor::Adapter, path),
        }
    }

    /// Takes a folder for what it was chosen for.
    pub fn browsed(&mut self, what: BrowseFor, path: PathBuf) {
        let shown = path.display().to_string();
        if what == BrowseFor::ModelsFolder {
            let settings = Settings { models_folder: Some(path), ..self.state.settings.clone() };
            self.apply(Action::EditSettings(Box::new(settings)));
            return;
        }
        if what == BrowseFor::Report {
            self.apply(Action::WriteReport(path));
            return;
        }
        if matches!(what, BrowseFor::Pairs | BrowseFor::TrainingOutput) {
            self.state.picked.push((what, path));
            return;
        }
        let mut form = self.state.form.clone();
        let name = match what {
            BrowseFor::Bundle => {
                form = QueryForm { bundle: Some(path), ..form.without_models() };
                "bundle"
            }
            BrowseFor::Encoder => {
                form.encoder = Some(path);
                "encoder"
            }
            BrowseFor::Adapter => {
                form.adapter = Some(path);
                "adapter"
            }
            BrowseFor::Prior => {
                form.prior = Some(path);
                form.bridge = Some(Bridge::Prior);
                "prior"
            }
            BrowseFor::Decoder => {
                form.decoder = Some(path);
                "decoder"
            }
            BrowseFor::Gallery
            | BrowseFor::ModelsFolder
            | BrowseFor::Pairs
            | BrowseFor::TrainingOutput
            | BrowseFor::Report => {
                form.gallery = Some(path);
                "gallery"
            }
        };
        self.say(Severity::Info, format!("This is the {name} now"), shown);
        self.edit_form(form, false);
        if self.state.entry().is_some() && self.state.form.query().is_some() {
            self.run(false, true);
        }
    }

    /// Brings a saved session on screen; the tree of panes it was saved with, where it fits this
    /// version. Queries wait as recipes; what was queued waits for a click.
    pub fn open_session(&mut self, session: SavedSession) -> Option<egui_tiles::Tree<PaneKind>> {
        for job in self.state.jobs.iter().map(|job| job.id).collect::<Vec<_>>() {
            self.cancel(job);
        }
        self.record();
        self.state.form = session.form;
        self.state.history = History::default();
        self.state.current = None;
        self.state.compared = None;
        self.state.selection.clear();
        for saved in session.entries {
            let queued = session.queue.contains(&saved.id);
            self.state.history.insert(Entry {
                id: saved.id,
                tiles: vec![TileState::Empty; saved.recipe.sampling.samples + 1],
                recipe: saved.recipe,
                result: None,
                // What was being decoded shows as stopped, ready to go on.
                decode: match queued {
                    true => DecodeState::Stopped { finished: 0 },
                    false => DecodeState::NotAsked,
                },
                pinned: saved.pinned,
                asked: saved.asked,
                warnings: Vec::new(),
            });
        }
        if let Some(id) = session.current.filter(|&id| self.state.history.get(id).is_some()) {
            self.open_entry(id);
        }
        session.layout.into_tree()
    }
}
