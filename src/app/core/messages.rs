//! Messages of the engine. Those of a job that was cancelled or has ended never reach the state.

use std::sync::Arc;
use std::time::Instant;

use super::{Core, Effect};
use crate::adapter::training::TrainingEvent;
use crate::app::notices::Severity;
use crate::app::state::history::{DecodeState, EntryId, TileState};
use crate::app::state::jobs::{JobKind, Progress};
use crate::app::state::{Study, TrainingState};
use crate::session::engine::{EngineDied, JobEvent, JobFailure, JobId, Message, Outcome};
use crate::session::result::QueryResult;

impl Core {
    /// Takes in what the engine said, until `deadline`. True when some may be left.
    pub fn drain_engine(&mut self, deadline: Instant) -> bool {
        loop {
            match self.engine.poll() {
                Ok(Some(message)) => self.take_message(message),
                Ok(None) => return false,
                Err(EngineDied) => {
                    self.engine_died();
                    return false;
                }
            }
            if Instant::now() >= deadline {
                return true;
            }
        }
    }

    fn engine_died(&mut self) {
        if self.state.jobs.is_empty() && self.state.query_failure.is_some() {
            return;
        }
        let ids: Vec<JobId> = self.state.jobs.iter().map(|job| job.id).collect();
        for id in ids {
            self.forget_job(id);
        }
        self.state.query_failure = Some(JobFailure {
            what: "The engine that computes has stopped.".to_owned(),
            hint: "Restart it; everything on screen stays.".to_owned(),
            smaller_batch: None,
            device_lost: true,
        });
    }

    /// Takes in one message.
    pub fn take_message(&mut self, message: Message) {
        let Message { job: id, event } = message;
        if let JobEvent::Device(label) = event {
            self.state.device = Some(label);
            return;
        }
        if let JobEvent::Ended(outcome) = event {
            self.ended(id, outcome);
            return;
        }
        let Some(job) = self.state.jobs.get_mut(id).filter(|job| !job.cancelling) else {
            self.dropped_messages += 1;
            return;
        };
        let entry = job.entry;
        match event {
            JobEvent::Started => job.started = Some(Instant::now()),
            JobEvent::Stage(stage) => {
                job.stage = Some(stage);
                job.progress = None;
            }
            JobEvent::Progress { done, total } => {
                let now = Instant::now();
                // Time is counted from the first report, so that loading before it is left out.
                let since = match job.progress {
                    Some(progress) if progress.total == total => progress.since,
                    _ => now,
                };
                job.progress = Some(Progress { done, total, since });
            }
            JobEvent::Warning(text) => self.warn(entry, text),
            JobEvent::Analysed(result) => self.analysed(id, result),
            JobEvent::Mapped(map) => self.state.map = Some(map),
            JobEvent::Preview(tiles) => self.each_tile(id, entry, tiles, |tile, image| {
                if let TileState::Done(_) = tile {
                    return;
                }
                let version = match tile {
                    TileState::Preview { version, .. } => *version + 1,
                    _ => 1,
                };
                *tile = TileState::Preview { image: Arc::new(image), version };
            }),
            JobEvent::Tiles(tiles) => self.each_tile(id, entry, tiles, |slot, tile| {
                *slot = TileState::Done(Arc::new(tile));
            }),
            JobEvent::PreviewCost { share } => self.state.preview_cost = Some(share),
            JobEvent::Decoded(result) => {
                self.note_pace(id, &result);
                if let Some(entry) = entry.and_then(|entry| self.state.history.get_mut(entry)) {
                    let tiles = result.mean_tile.iter().chain(&result.tiles);
                    entry.tiles =
                        tiles.map(|tile| TileState::Done(Arc::new(tile.clone()))).collect();
                    entry.decode = DecodeState::Finished;
                    entry.result = Some(keep_newer_statistics(entry.result.take(), result));
                }
                self.effects.push(Effect::SaveLater);
            }
            JobEvent::Laddered(result) => self.state.ladder = Study::Done { entry, result },
            JobEvent::Traversed(result) => self.state.traverse = Study::Done { entry, result },
            JobEvent::Crossed(result) => self.state.noise_grid = Study::Done { entry, result },
            JobEvent::Routed(result) => self.state.routes = Study::Done { entry, result },
            JobEvent::Evaluated(result) => self.state.evaluation = Study::Done { entry, result },
            JobEvent::ExperimentStep(what) => self.state.experiment_step = Some(what),
            JobEvent::Experimented(result) => {
                self.state.experiment = Study::Done { entry, result };
            }
            JobEvent::Pulled(name) => {
                self.state.pulled_models += 1;
                let what = format!("{name} can be chosen under Models in the Query pane");
                self.say(Severity::Success, "The model is downloaded", what);
            }
            JobEvent::Reported(folder) => {
                let what = folder.display().to_string();
                self.say(Severity::Success, "The report is written", what);
            }
            JobEvent::Training(event) => {
                if let TrainingEvent::Batch { epoch, batch, batches_per_epoch, .. } = &event
                    && let Some(TrainingEvent::Started { epochs, .. }) =
                        &self.state.training.started
                {
                    let (done, total) =
                        ((epoch - 1) * batches_per_epoch + batch, epochs * batches_per_epoch);
                    let since = match job.progress {
                        Some(progress) if progress.total == total => progress.since,
                        _ => Instant::now(),
                    };
                    job.progress = Some(Progress { done, total, since });
                }
                self.training(event);
            }
            JobEvent::Trained(folder) => {
                self.say(
                    Severity::Success,
                    "The adapter is trained",
                    format!("It is in {}", folder.display()),
                );
                self.state.training.written = Some(folder);
            }
            JobEvent::Device(_) | JobEvent::Ended(_) => {}
        }
    }

    fn warn(&mut self, entry: Option<EntryId>, text: String) {
        match entry.and_then(|entry| self.state.history.get_mut(entry)) {
            Some(entry) => {
                if !entry.warnings.contains(&text) {
                    entry.warnings.push(text);
                }
            }
            None => self.say(Severity::Warning, "Please note", text),
        }
    }

    /// The statistics are there: they come on screen, and decoding follows where it was asked for.
    fn analysed(&mut self, id: JobId, result: Arc<QueryResult>) {
        let Some(pending) = self.pending.get(&id).cloned() else { return };
        let Some(entry_id) = pending.entry else { return };
        let Some(entry) = self.state.history.get_mut(entry_id) else { return };
        let tiles = result.samples.len() + 1;
        if entry.tiles.len() != tiles {
            entry.tiles = vec![TileState::Empty; tiles];
        }
        let asked = entry.recipe.clone();
        let before = entry.result.take();
        let mut result = result;
        if let Some(before) = before.filter(|_| matches!(entry.decode, DecodeState::Finished)) {
            // The pictures stay: only statistics were asked for anew.
            result = with_pictures_of(&before, result);
        }
        entry.recipe.retrieval = result.recipe.retrieval.clone();
        entry.recipe.sampling = result.recipe.sampling.clone();
        if asked.query != entry.recipe.query {
            entry.recipe.query = asked.query;
        }
        entry.result = Some(result);
        let decoded = matches!(entry.decode, DecodeState::Finished | DecodeState::Running(_));
        let changed = self.state.current != Some(entry_id);
        if changed {
            self.undo.record(self.snapshot());
            self.state.selection.clear();
            self.state.enlarged = None;
        }
        self.state.current = Some(entry_id);
        if self.state.compared == Some(entry_id) {
            self.state.compared = None;
        }
        self.state.query_failure = None;
        if pending.decode && !decoded {
            self.decode(entry_id, None, pending.automatic);
        }
        self.effects.push(Effect::SaveLater);
    }

    fn each_tile<T>(
        &mut self,
        id: JobId,
        entry: Option<EntryId>,
        tiles: Vec<(usize, T)>,
        put: impl Fn(&mut TileState, T),
    ) {
        let Some(job) = self.state.jobs.get(id) else { return };
        // Strips and grids arrive whole at their end.
        if job.kind != JobKind::Decode {
            return;
        }
        let Some(entry) = entry.and_then(|entry| self.state.history.get_mut(entry)) else { return };
        for (index, content) in tiles {
            if let Some(tile) = entry.tiles.get_mut(index) {
                put(tile, content);
            }
        }
    }

    fn note_pace(&mut self, id: JobId, result: &QueryResult) {
        let seconds = result
            .timings
            .iter()
            .find(|time| time.stage == crate::session::event::Stage::Decode.name());
        let work = (result.samples.len() + 1) * result.recipe.decoding.steps;
        let held = self.state.jobs.get(id).is_some_and(|job| job.paused);
        if let Some(time) = seconds.filter(|_| !held && work > 0) {
            self.state.pace = Some(time.seconds as f32 / work as f32);
        }
    }

    fn training(&mut self, event: TrainingEvent) {
        let training = &mut self.state.training;
        match &event {
            TrainingEvent::Started { .. } => {
                *training = TrainingState { job: training.job, ..TrainingState::default() };
                training.started = Some(event);
            }
            TrainingEvent::Batch { epoch, batch, batches_per_epoch, loss, .. } => {
                let at = (*epoch as f64 - 1.0) + *batch as f64 / (*batches_per_epoch).max(1) as f64;
                training.losses.push([at, *loss]);
                thin_out(&mut training.losses);
                training.batch = Some(event);
            }
            TrainingEvent::Epoch { record, .. } => training.epochs.push(record.clone()),
            TrainingEvent::Checkpoint { .. } => {}
        }
    }

    fn ended(&mut self, id: JobId, outcome: Outcome) {
        let Some(job) = self.state.jobs.get(id).cloned() else {
            self.dropped_messages += 1;
            return;
        };
        self.forget_job(id);
        let entry = job.entry;
        if let Outcome::Failed(failure) = outcome {
            match job.kind {
                JobKind::Warm | JobKind::Analyse => self.state.query_failure = Some(failure),
                JobKind::Decode => {
                    if let Some(entry) = entry.and_then(|entry| self.state.history.get_mut(entry)) {
                        entry.decode = DecodeState::Failed(failure);
                    }
                }
                JobKind::Ladder => self.state.ladder = Study::Failed(failure),
                JobKind::Traverse => self.state.traverse = Study::Failed(failure),
                JobKind::NoiseGrid => self.state.noise_grid = Study::Failed(failure),
                JobKind::Routes => self.state.routes = Study::Failed(failure),
                JobKind::Evaluate => self.state.evaluation = Study::Failed(failure),
                JobKind::Experiment => self.state.experiment = Study::Failed(failure),
                JobKind::Pull => {
                    self.say(Severity::Error, "The model was not downloaded", failure.what);
                }
                JobKind::WriteReport => {
                    self.say(Severity::Error, "The report cannot be written", failure.what);
                }
                JobKind::Train => self.state.training.failure = Some(failure),
            }
        }
        // A query that never came to a result is no history.
        if job.kind == JobKind::Analyse
            && let Some(entry) = entry
            && self.state.current != Some(entry)
            && self.state.compared != Some(entry)
            && self.state.history.get(entry).is_some_and(|entry| entry.result.is_none())
            && !self.pending.values().any(|pending| pending.entry == Some(entry))
        {
            self.state.history.remove(entry);
        }
    }
}

/// Halves the resolution of a long series.
fn thin_out(points: &mut Vec<[f64; 2]>) {
    const LIMIT: usize = 20_000;
    if points.len() > LIMIT {
        let mut index = 0;
        points.retain(|_| {
            index += 1;
            index % 2 == 0
        });
    }
}

/// `result` with the pictures of `before`, which was decoded from the same samples.
fn with_pictures_of(before: &QueryResult, result: Arc<QueryResult>) -> Arc<QueryResult> {
    if before.samples.len() != result.samples.len() {
        return result;
    }
    let mut result = Arc::unwrap_or_clone(result);
    result.mean_tile = before.mean_tile.clone();
    result.tiles = before.tiles.clone();
    result.recipe.decoding.scheduler = before.recipe.decoding.scheduler;
    result.recipe.models.decoder = before.recipe.models.decoder.clone();
    for (sample, before) in result.samples.iter_mut().zip(&before.samples) {
        sample.statistics.decoded_cosine = before.statistics.decoded_cosine;
    }
    Arc::new(result)
}

/// The decoded result, unless statistics were asked for anew while it was being decoded.
fn keep_newer_statistics(
    now: Option<Arc<QueryResult>>,
    decoded: Arc<QueryResult>,
) -> Arc<QueryResult> {
    match now {
        Some(now)
            if now.recipe.retrieval != decoded.recipe.retrieval
                || now.recipe.sampling != decoded.recipe.sampling =>
        {
            with_pictures_of(&decoded, now)
        }
        _ => decoded,
    }
}
