//! What each kind of job does, on the session's models.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lanes::{Runner, Running};
use super::protocol::{DecodeRequest, JobEvent, JobFailure, Outcome, Work};
use crate::adapter::training::TrainingEvent;
use crate::decoder::{DecodeError, DecodeProgress};
use crate::export::report::write_report;
use crate::model::device::{ComputeDevice, DeviceChoice, DeviceError};
use crate::model::device_failure::DeviceFailure;
use crate::model::hub::HubName;
use crate::session::event::Event;
use crate::session::experiments::{self, ExperimentEvent, ExperimentRequest};
use crate::session::training::{self, TrainingJob, TrainingProgress};
use crate::session::{self, Assets, Session, SessionError, studies};

/// Unfinished pictures are made every so many steps,
const PREVIEW_STEPS: usize = 5;
/// but not more often than this,
const PREVIEW_PAUSE: Duration = Duration::from_millis(250);
/// not in the last steps, whose pictures nobody would see,
const LAST_STEPS: usize = 2;
/// and not while they have cost more than this share of the time.
const PREVIEW_BUDGET: f64 = 0.05;

/// What both lanes use: the device is opened by whoever needs it first.
pub(super) struct Shared {
    assets: Assets,
    device: DeviceChoice,
    session: Mutex<Option<Session>>,
    /// Hash of the gallery whose map was sent last.
    mapped: Mutex<Option<String>>,
}

impl Shared {
    pub fn new(assets: Assets, device: DeviceChoice) -> Self {
        Self { assets, device, session: Mutex::default(), mapped: Mutex::default() }
    }

    fn session(&self, job: &Running<'_>) -> Result<Session, SessionError> {
        let mut slot = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = &*slot {
            return Ok(session.clone());
        }
        let device = ComputeDevice::open(&self.device)?;
        job.say(JobEvent::Device(device.label.clone()));
        let session = Session::new(self.assets.clone(), device);
        *slot = Some(session.clone());
        Ok(session)
    }
}

/// Runs jobs.
pub(super) struct Worker {
    shared: Arc<Shared>,
}

impl Worker {
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Runner for Worker {
    fn run(&mut self, work: Work, job: &Running<'_>) -> Outcome {
        let batch_size = match &work {
            Work::Decode(request) => request.batch_size.or(Some(request.analysis.samples.len())),
            _ => None,
        };
        let mut on_gpu = false;
        let run = || -> Result<(), SessionError> {
            let session = self.shared.session(job)?;
            on_gpu = session.device().is_gpu;
            self.work(&session, work, job)
        };
        match run() {
            Ok(()) => Outcome::Finished,
            Err(error) if error.is_cancelled() => Outcome::Cancelled,
            Err(error) => {
                let gone = match error.device_failure() {
                    Some(DeviceFailure::LinkDropped | DeviceFailure::Lost) => true,
                    _ => on_gpu && matches!(error, SessionError::Panic(_)),
                };
                if gone {
                    // The device may be gone: whoever comes next opens it anew, and a remote one
                    // by a new session.
                    *self.shared.session.lock().unwrap_or_else(PoisonError::into_inner) = None;
                }
                Outcome::Failed(failure(&error, batch_size, on_gpu))
            }
        }
    }
}

impl Worker {
    fn work(&self, session: &Session, work: Work, job: &Running<'_>) -> Result<(), SessionError> {
        let mut forward = |event: Event<'_>| forward(event, job);
        match work {
            Work::Warm(recipe) => session.warm(&recipe, &mut forward),
            Work::WarmDecoder(recipe) => session.warm_decoder(&recipe, &mut forward),
            Work::Analyse(recipe) => {
                let result = Arc::new(session.analyse(&recipe, &mut forward)?);
                job.say(JobEvent::Analysed(Arc::clone(&result)));
                self.send_map(session, &result.recipe, job)
            }
            Work::Decode(request) => decode(session, &request, job),
            Work::Ladder(request) => {
                let ladder = studies::ladder::climb(session, &request, &mut forward)?;
                job.say(JobEvent::Laddered(Arc::new(ladder)));
                Ok(())
            }
            Work::Traverse(request) => {
                let walk = studies::traverse::walk(session, &request, &mut forward)?;
                job.say(JobEvent::Traversed(Arc::new(walk)));
                Ok(())
            }
            Work::NoiseGrid(request) => {
                let grid = studies::noise_grid::cross(session, &request, &mut forward)?;
                job.say(JobEvent::Crossed(Arc::new(grid)));
                Ok(())
            }
            Work::Train(request) => train(session, &self.shared.assets, &request, job),
            Work::Evaluate(recipe) => {
                let evaluation = studies::evaluation::evaluate(session, &recipe, &mut forward)?;
                job.say(JobEvent::Evaluated(Arc::new(evaluation)));
                Ok(())
            }
            Work::Routes(request) => {
                let routes = studies::routes::compare(session, &request, &mut forward)?;
                job.say(JobEvent::Routed(Arc::new(routes)));
                Ok(())
            }
            Work::Pull(name) => pull(&self.shared.assets, name, job),
            Work::Experiment(request) => experiment(session, &request, job),
            Work::WriteReport { report, folder } => {
                write_report(&report, &folder)?;
                job.say(JobEvent::Reported(folder));
                Ok(())
            }
        }
    }

    /// Sends the gallery's map where it is not the one that was sent last.
    fn send_map(
        &self,
        session: &Session,
        recipe: &crate::session::recipe::Recipe,
        job: &Running<'_>,
    ) -> Result<(), SessionError> {
        let mut sent = self.shared.mapped.lock().unwrap_or_else(PoisonError::into_inner);
        let hash = recipe.models.gallery.as_ref().map(|gallery| &gallery.hash);
        if hash.is_none() || hash == sent.as_ref() {
            return Ok(());
        }
        if let Some(map) = session.gallery_map(recipe)?
            && job.step().is_continue()
        {
            *sent = Some(map.gallery_hash.clone());
            job.say(JobEvent::Mapped(map));
        }
        Ok(())
    }
}

/// Passes on what a session says.
fn forward(event: Event<'_>, job: &Running<'_>) -> ControlFlow<()> {
    match event {
        Event::Stage(stage) => job.say(JobEvent::Stage(stage)),
        Event::Progress { done, total } => job.say(JobEvent::Progress { done, total }),
        Event::Warning(text) => job.say(JobEvent::Warning(text)),
        Event::Distribution(_) | Event::Retrieved(_) | Event::Finished(_) => {}
    }
    job.step()
}

fn decode(
    session: &Session,
    request: &DecodeRequest,
    job: &Running<'_>,
) -> Result<(), SessionError> {
    let mut previews = Previews::new(request.previews);
    let mut sent = BTreeSet::new();
    let mut on_tiles = |progress: &DecodeProgress<'_>| {
        let new = progress.finished.iter().enumerate().filter(|(i, _)| sent.insert(*i));
        let tiles: Vec<_> =
            new.map(|(i, image)| (i, crate::session::tile(image.clone()))).collect();
        if !tiles.is_empty() {
            job.say(JobEvent::Tiles(tiles));
        }
        if let Some(images) = previews.of(progress) {
            job.say(JobEvent::Preview(images));
        }
    };
    let result = session.decode(
        &request.analysis,
        request.batch_size,
        &mut |event| forward(event, job),
        &mut on_tiles,
    )?;
    if request.previews {
        job.say(JobEvent::PreviewCost { share: previews.share() });
    }
    job.say(JobEvent::Decoded(Arc::new(result)));
    Ok(())
}

/// Decides when unfinished pictures are worth their time, and takes that time.
struct Previews {
    wanted: bool,
    began: Instant,
    last: Option<Instant>,
    cost: Duration,
}

impl Previews {
    fn new(wanted: bool) -> Self {
        Self { wanted, began: Instant::now(), last: None, cost: Duration::ZERO }
    }

    /// Share of the time so far that went into previews.
    fn share(&self) -> f64 {
        self.cost.as_secs_f64() / self.began.elapsed().as_secs_f64().max(1e-9)
    }

    fn of(&mut self, progress: &DecodeProgress<'_>) -> Option<Vec<(usize, image::RgbImage)>> {
        let preview = progress.preview.as_ref().filter(|_| self.wanted)?;
        let due = progress.step.is_multiple_of(PREVIEW_STEPS)
            && progress.step + LAST_STEPS < progress.steps
            && self.last.is_none_or(|last| last.elapsed() >= PREVIEW_PAUSE)
            && (self.last.is_none() || self.share() < PREVIEW_BUDGET);
        if !due {
            return None;
        }
        let start = Instant::now();
        // A preview that cannot be made is no reason to end the job.
        let images = preview.rough_images().ok();
        self.last = Some(Instant::now());
        self.cost += start.elapsed();
        let first = progress.finished.len();
        images.map(|images| {
            images.into_iter().enumerate().map(|(i, image)| (first + i, image)).collect()
        })
    }
}

fn train(
    session: &Session,
    assets: &Assets,
    request: &TrainingJob,
    job: &Running<'_>,
) -> Result<(), SessionError> {
    training::train(request, assets, session.device(), &mut |progress| {
        match progress {
            TrainingProgress::Embedding { done, total } => {
                job.say(JobEvent::Progress { done, total });
            }
            TrainingProgress::Training(event) => job.say(JobEvent::Training(event)),
        }
        job.step()
    })?;
    job.say(JobEvent::Trained(request.out.clone()));
    Ok(())
}

fn pull(assets: &Assets, name: HubName, job: &Running<'_>) -> Result<(), SessionError> {
    session::pull::pull(assets, &name, &mut |progress| {
        if let Some((done, total)) = progress {
            job.say(JobEvent::Progress { done, total });
        }
        job.step()
    })?;
    job.say(JobEvent::Pulled(name));
    Ok(())
}

fn experiment(
    session: &Session,
    request: &ExperimentRequest,
    job: &Running<'_>,
) -> Result<(), SessionError> {
    let report = experiments::run(session, request, &mut |event| {
        match event {
            ExperimentEvent::Step { done, total, what } => {
                job.say(JobEvent::Progress { done, total });
                job.say(JobEvent::ExperimentStep(what));
            }
            ExperimentEvent::Training { method, seed, side, event } => {
                if let TrainingEvent::Epoch { record, epochs, .. } = event {
                    job.say(JobEvent::ExperimentStep(format!(
                        "{}, seed {seed}, {side}: epoch {} of {epochs}, held-out score {:.4}",
                        method.label(),
                        record.epoch,
                        record.validation_nll
                    )));
                }
            }
            ExperimentEvent::Partial(report) => {
                job.say(JobEvent::Experimented(Arc::from(report)));
            }
        }
        job.step()
    })?;
    job.say(JobEvent::Experimented(Arc::new(report)));
    Ok(())
}

/// An error in words for people.
fn failure(error: &SessionError, batch_size: Option<usize>, on_gpu: bool) -> JobFailure {
    let panicked = matches!(error, SessionError::Panic(_));
    let failure = error.device_failure();
    let may_be_memory = match failure {
        Some(failure) => failure == DeviceFailure::OutOfMemory,
        None => matches!(error, SessionError::Decode(DecodeError::Device { .. })) || panicked,
    };
    let smaller = batch_size.filter(|&size| may_be_memory && size > 1).map(|size| size / 2);
    let device_lost = matches!(error, SessionError::Device(_))
        || failure == Some(DeviceFailure::Lost)
        || (panicked && on_gpu);
    let hint = if matches!(error, SessionError::Device(DeviceError::Remote(_))) {
        "Restart the engine once the server can be reached, or choose another device in the \
         settings (cpu always works)."
    } else if matches!(error, SessionError::Device(_)) {
        "Choose another device in the settings (cpu always works), then restart the engine."
    } else if failure == Some(DeviceFailure::LinkDropped) {
        "Run it again: the server is asked anew. Everything on screen stays."
    } else if smaller.is_some() {
        "The device may be out of memory: decode fewer tiles at a time."
    } else if device_lost {
        "The device may be lost: restart the engine. Everything on screen stays."
    } else {
        match error {
            SessionError::Query(_) => "Change the query and run it again.",
            SessionError::OutOfRange { .. } => "Change that number in the Query pane.",
            SessionError::NoAdapter { .. } | SessionError::Mismatch(_) => {
                "Choose other models in the Query pane under Models."
            }
            SessionError::NotCached { .. } => {
                "Download it under Models in the Query pane, or choose another."
            }
            SessionError::NotFound { .. } | SessionError::NoAssets { .. } => {
                "Check the folder, or choose another under Models in the Query pane."
            }
            SessionError::Decode(DecodeError::NotFinite { .. }) => {
                "Lower the guidance or take more steps."
            }
            SessionError::Decode(DecodeError::PriorNotFinite { .. }) => {
                "Lower the prior's guidance, under Models in the Query pane."
            }
            _ => "Check the file that is named, then run the query again.",
        }
    };
    JobFailure {
        what: error.to_string(),
        hint: hint.to_owned(),
        smaller_batch: smaller,
        device_lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decoder_without_memory_is_offered_a_smaller_batch_and_the_device_stays() {
        let reason = "out of device memory allocating 9 bytes".to_owned();
        let told = DecodeError::Device { batch_size: 8, reason: reason.clone() };
        let known = DecodeError::OutOfMemory {
            stage: "denoising",
            batch_size: 8,
            reason,
            advice: "try --batch-size 4".to_owned(),
        };
        for error in [told, known] {
            let failure = failure(&SessionError::Decode(error), Some(8), true);
            assert_eq!(failure.smaller_batch, Some(4), "{}", failure.what);
            assert!(failure.hint.contains("fewer tiles") && !failure.device_lost);
        }
    }
}
