//! Jobs that wait or run, as the window sees them.

use std::collections::BTreeMap;
use std::time::Instant;

use super::history::EntryId;
use crate::session::engine::JobId;
use crate::session::event::Stage;

/// What a job is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobKind {
    Warm,
    Analyse,
    Ladder,
    Decode,
    Traverse,
    NoiseGrid,
    Routes,
    Train,
    Evaluate,
    Experiment,
    Pull,
    WriteReport,
}

impl JobKind {
    /// What is shown while it runs.
    pub fn label(self) -> &'static str {
        match self {
            JobKind::Warm => "Loading models",
            JobKind::Analyse => "Reading the query",
            JobKind::Ladder => "Climbing the ladder",
            JobKind::Decode => "Decoding samples",
            JobKind::Traverse => "Decoding the walk",
            JobKind::NoiseGrid => "Decoding embeddings x noises",
            JobKind::Routes => "Comparing the routes to image space",
            JobKind::Train => "Training",
            JobKind::Evaluate => "Evaluating on the gallery",
            JobKind::Experiment => "Comparing methods",
            JobKind::Pull => "Downloading a model (MiB)",
            JobKind::WriteReport => "Writing the report",
        }
    }
}

/// A job that has not ended.
#[derive(Debug, Clone)]
pub struct Job {
    pub id: JobId,
    pub kind: JobKind,
    /// The query it is about.
    pub entry: Option<EntryId>,
    /// One line: the query's title.
    pub title: String,
    pub started: Option<Instant>,
    pub stage: Option<Stage>,
    /// Done and total of the current stage, and when that stage began.
    pub progress: Option<Progress>,
    pub paused: bool,
    /// A cancel was sent; it ends at its next step.
    pub cancelling: bool,
}

/// Progress within a stage.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    pub done: usize,
    pub total: usize,
    pub since: Instant,
}

impl Job {
    /// Share done of the current stage, 0 to 1.
    pub fn fraction(&self) -> Option<f32> {
        let progress = self.progress?;
        (progress.total > 0).then(|| progress.done as f32 / progress.total as f32)
    }

    /// Seconds left of the current stage, from its pace so far.
    pub fn eta(&self) -> Option<f32> {
        let progress = self.progress?;
        if progress.done == 0 || self.paused {
            return None;
        }
        let each = progress.since.elapsed().as_secs_f32() / progress.done as f32;
        Some(each * progress.total.saturating_sub(progress.done) as f32)
    }

    /// Seconds that one unit of progress takes.
    pub fn step_seconds(&self) -> Option<f32> {
        let progress = self.progress?;
        (progress.done > 0).then(|| progress.since.elapsed().as_secs_f32() / progress.done as f32)
    }
}

/// All jobs that have not ended, in the order they were submitted.
#[derive(Debug, Clone, Default)]
pub struct Jobs(BTreeMap<JobId, Job>);

impl Jobs {
    pub fn add(&mut self, job: Job) {
        self.0.insert(job.id, job);
    }

    pub fn get(&self, id: JobId) -> Option<&Job> {
        self.0.get(&id)
    }

    pub fn get_mut(&mut self, id: JobId) -> Option<&mut Job> {
        self.0.get_mut(&id)
    }

    pub fn remove(&mut self, id: JobId) -> Option<Job> {
        self.0.remove(&id)
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.0.values()
    }

    /// The job of a kind that was submitted last.
    pub fn latest(&self, kind: JobKind) -> Option<&Job> {
        self.iter().rev().find(|job| job.kind == kind)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}
