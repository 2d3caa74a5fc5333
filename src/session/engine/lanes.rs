//! The threads that run jobs: a dispatcher that hears orders, and the two lanes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::handle::{EngineEnd, MessageSender};
use super::protocol::{JobEvent, JobFailure, JobId, Message, Order, Outcome, Work};
use super::work::Worker;
use crate::model::device::DeviceChoice;
use crate::session::{Assets, SessionError};

/// Runs one job to its end. The lanes know nothing else of what jobs do.
pub(super) trait Runner: Send {
    fn run(&mut self, work: Work, job: &Running<'_>) -> Outcome;
}

/// Starts the lanes. They end when the handle of `end` is dropped. The device is opened in the
/// background, so that a window need not wait for it.
pub fn start(assets: Assets, device: DeviceChoice, end: EngineEnd) {
    let shared = Arc::new(super::work::Shared::new(assets, device));
    let interactive = Worker::new(Arc::clone(&shared));
    let long = Worker::new(shared);
    start_lanes(end, interactive, long);
}

/// Which of the two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Interactive,
    Long,
}

/// What the dispatcher and the lanes share.
#[derive(Default)]
struct Board {
    interactive: VecDeque<(JobId, Work)>,
    long: VecDeque<(JobId, Work)>,
    /// The job in each lane, with its kind.
    running: BTreeMap<JobId, &'static str>,
    cancelled: BTreeSet<JobId>,
    paused: BTreeSet<JobId>,
    closed: bool,
}

struct Lanes {
    board: Mutex<Board>,
    changed: Condvar,
    messages: MessageSender,
}

impl Lanes {
    /// The board holds plain lists that are whole between statements, so a panic elsewhere leaves
    /// nothing half-done.
    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, job: JobId, event: JobEvent) -> bool {
        self.messages.send(Message { job, event })
    }
}

/// A job while it runs.
pub(super) struct Running<'a> {
    pub job: JobId,
    lanes: &'a Lanes,
}

impl Running<'_> {
    /// Says something, unless the job was cancelled meanwhile.
    pub fn say(&self, event: JobEvent) {
        if !self.lanes.lock().cancelled.contains(&self.job) {
            self.lanes.say(self.job, event);
        }
    }

    /// Called between steps: waits while the job is paused; `Break` when it is to end.
    pub fn step(&self) -> ControlFlow<()> {
        let mut board = self.lanes.lock();
        loop {
            if board.closed || board.cancelled.contains(&self.job) {
                return ControlFlow::Break(());
            }
            if !board.paused.contains(&self.job) {
                return ControlFlow::Continue(());
            }
            board = self.lanes.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn start_lanes(end: EngineEnd, interactive: impl Runner + 'static, long: impl Runner + 'static) {
    let lanes = Arc::new(Lanes {
        board: Mutex::default(),
        changed: Condvar::new(),
        messages: end.messages.clone(),
    });
    let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
        if let Err(error) = std::thread::Builder::new().name(name.to_owned()).spawn(work) {
            tracing::error!("no thread for the {name} lane: {error}");
        }
    };
    let shared = Arc::clone(&lanes);
    spawn("interactive", Box::new(move || run_lane(&shared, Lane::Interactive, interactive)));
    let shared = Arc::clone(&lanes);
    spawn("long", Box::new(move || run_lane(&shared, Lane::Long, long)));
    spawn("orders", Box::new(move || dispatch(&lanes, &end)));
}

/// Hears orders until the handle is gone.
fn dispatch(lanes: &Lanes, end: &EngineEnd) {
    while let Ok(order) = end.orders.recv() {
        match order {
            Order::Submit { job, work } => submit(lanes, job, work),
            Order::Cancel(job) => cancel(lanes, job),
            Order::Pause { job, paused } => {
                let mut board = lanes.lock();
                if paused {
                    board.paused.insert(job);
                } else {
                    board.paused.remove(&job);
                }
            }
        }
        lanes.changed.notify_all();
    }
    lanes.lock().closed = true;
    lanes.changed.notify_all();
}

/// Kinds of which only the newest is wanted.
fn kind_of(work: &Work) -> &'static str {
    match work {
        Work::Warm(_) => "warm",
        Work::Analyse(_) => "analyse",
        Work::Ladder(_) => "ladder",
        _ => "long",
    }
}

fn submit(lanes: &Lanes, job: JobId, work: Work) {
    let mut board = lanes.lock();
    if !work.is_interactive() {
        board.long.push_back((job, work));
        return;
    }
    let kind = kind_of(&work);
    // The latest of a kind is the one that is wanted.
    let waiting = std::mem::take(&mut board.interactive);
    let (replaced, kept): (VecDeque<_>, VecDeque<_>) =
        waiting.into_iter().partition(|(_, other)| kind_of(other) == kind);
    board.interactive = kept;
    let running: Vec<JobId> =
        board.running.iter().filter(|(_, other)| **other == kind).map(|(job, _)| *job).collect();
    board.cancelled.extend(running);
    // A query goes before a ladder.
    if kind == "ladder" {
        board.interactive.push_back((job, work));
    } else {
        let at = board.interactive.iter().position(|(_, w)| kind_of(w) == "ladder");
        let at = at.unwrap_or(board.interactive.len());
        board.interactive.insert(at, (job, work));
    }
    drop(board);
    for (job, _) in replaced {
        lanes.say(job, JobEvent::Ended(Outcome::Cancelled));
    }
}

fn cancel(lanes: &Lanes, job: JobId) {
    let mut board = lanes.lock();
    if board.running.contains_key(&job) {
        board.cancelled.insert(job);
        return;
    }
    let before = board.interactive.len() + board.long.len();
    board.interactive.retain(|(other, _)| *other != job);
    board.long.retain(|(other, _)| *other != job);
    board.paused.remove(&job);
    let found = board.interactive.len() + board.long.len() < before;
    drop(board);
    // A job that has ended meanwhile has said its last word already.
    if found {
        lanes.say(job, JobEvent::Ended(Outcome::Cancelled));
    }
}

/// Takes the next job that is not paused; `None` when the handle is gone.
fn next(lanes: &Lanes, lane: Lane) -> Option<(JobId, Work)> {
    let mut board = lanes.lock();
    loop {
        if board.closed {
            return None;
        }
        let Board { interactive, long, paused, .. } = &mut *board;
        let queue = if lane == Lane::Interactive { interactive } else { long };
        let at = queue.iter().position(|(job, _)| !paused.contains(job));
        if let Some((job, work)) = at.and_then(|at| queue.remove(at)) {
            board.running.insert(job, kind_of(&work));
            return Some((job, work));
        }
        board = lanes.changed.wait(board).unwrap_or_else(PoisonError::into_inner);
    }
}

fn run_lane(lanes: &Lanes, lane: Lane, mut runner: impl Runner) {
    while let Some((job, work)) = next(lanes, lane) {
        lanes.say(job, JobEvent::Started);
        let running = Running { job, lanes };
        let run = std::panic::AssertUnwindSafe(|| runner.run(work, &running));
        let outcome = std::panic::catch_unwind(run).unwrap_or_else(|panic| {
            let error = SessionError::of_panic(crate::panics::message(panic.as_ref()));
            let failure = error.device_failure();
            Outcome::Failed(JobFailure {
                what: error.to_string(),
                hint: match failure {
                    Some(_) => "Restart the engine. Everything on screen stays.".to_owned(),
                    None => "Try again; if it comes back, please report it.".to_owned(),
                },
                smaller_batch: None,
                device_lost: failure.is_some(),
            })
        });
        let mut board = lanes.lock();
        board.running.remove(&job);
        board.paused.remove(&job);
        let cancelled = board.cancelled.remove(&job);
        let closed = board.closed;
        drop(board);
        let outcome = if cancelled { Outcome::Cancelled } else { outcome };
        lanes.say(job, JobEvent::Ended(outcome));
        if closed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender};
    use std::time::Duration;

    use super::*;
    use crate::session::engine::{EngineHandle, channel};
    use crate::session::recipe::{Bridge, ModelRef, Models, Recipe, RecipeQuery};

    /// Takes one step for every token it is given; the word "panic" makes it panic.
    struct Stepper {
        tokens: Receiver<()>,
        steps: usize,
    }

    impl Runner for Stepper {
        fn run(&mut self, work: Work, job: &Running<'_>) -> Outcome {
            let (Work::Analyse(recipe) | Work::Evaluate(recipe)) = work else { unreachable!() };
            assert_ne!(recipe.query.title(), "panic");
            for done in 0..self.steps {
                if job.step().is_break() {
                    return Outcome::Cancelled;
                }
                self.tokens.recv().unwrap();
                job.say(JobEvent::Progress { done, total: self.steps });
            }
            Outcome::Finished
        }
    }

    fn engine(steps: usize) -> (EngineHandle, Sender<()>, Sender<()>) {
        let (handle, end) = channel(1, || {});
        let (interactive, tokens) = std::sync::mpsc::channel();
        let (long, long_tokens) = std::sync::mpsc::channel();
        start_lanes(end, Stepper { tokens, steps }, Stepper { tokens: long_tokens, steps });
        (handle, interactive, long)
    }

    fn recipe(text: &str) -> Box<Recipe> {
        let model = ModelRef::new("none");
        let models = Models {
            encoder: model.clone(),
            adapter: Some(model),
            bridge: Bridge::None,
            bridge_model: None,
            decoder: None,
            gallery: None,
        };
        Box::new(Recipe::new(RecipeQuery::Text(text.to_owned()), models))
    }

    /// All messages until that many jobs have ended.
    fn until_ended(handle: &EngineHandle, jobs: usize) -> Vec<Message> {
        let mut heard = Vec::new();
        let mut ended = 0;
        for _ in 0..5000 {
            while let Ok(Some(message)) = handle.poll() {
                ended += usize::from(matches!(message.event, JobEvent::Ended(_)));
                heard.push(message);
            }
            if ended == jobs {
                return heard;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("{ended} of {jobs} jobs ended: {heard:?}");
    }

    fn outcome(heard: &[Message], job: JobId) -> &Outcome {
        let of_job: Vec<_> = heard.iter().filter(|m| m.job == job).collect();
        let ends = of_job.iter().filter(|m| matches!(m.event, JobEvent::Ended(_))).count();
        assert_eq!(ends, 1, "a job ends once");
        match &of_job.last().unwrap().event {
            JobEvent::Ended(outcome) => outcome,
            other => panic!("{other:?} after the end"),
        }
    }

    #[test]
    fn the_latest_query_wins_over_those_that_wait_and_the_one_that_runs() {
        let (mut handle, tokens, _long) = engine(3);
        let first = handle.submit(Work::Analyse(recipe("first")));
        tokens.send(()).unwrap();
        // The first runs once it has spoken.
        while !matches!(handle.poll(), Ok(Some(Message { event: JobEvent::Progress { .. }, .. }))) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let second = handle.submit(Work::Analyse(recipe("second")));
        let third = handle.submit(Work::Analyse(recipe("third")));
        // The orders are heard before the first job takes another step.
        std::thread::sleep(Duration::from_millis(100));
        for _ in 0..12 {
            let _ = tokens.send(());
        }
        let heard = until_ended(&handle, 3);
        assert!(matches!(outcome(&heard, first), Outcome::Cancelled));
        assert!(matches!(outcome(&heard, second), Outcome::Cancelled));
        assert!(matches!(outcome(&heard, third), Outcome::Finished));
    }

    #[test]
    fn a_cancel_hits_the_job_it_names_and_no_other() {
        let (mut handle, _interactive, tokens) = engine(2);
        let jobs: Vec<JobId> =
            (0..4).map(|i| handle.submit(Work::Evaluate(recipe(&i.to_string())))).collect();
        handle.cancel(jobs[2]);
        handle.cancel(JobId(99));
        std::thread::sleep(Duration::from_millis(20));
        for _ in 0..6 {
            tokens.send(()).unwrap();
        }
        let heard = until_ended(&handle, 4);
        for (i, job) in jobs.iter().enumerate() {
            let cancelled = matches!(outcome(&heard, *job), Outcome::Cancelled);
            assert_eq!(cancelled, i == 2, "job {i}");
        }
    }

    #[test]
    fn a_paused_job_that_waits_lets_others_pass_and_goes_on_later() {
        let (mut handle, _interactive, tokens) = engine(1);
        let held = JobId(handle.next_job());
        handle.pause(held, true);
        assert_eq!(handle.submit(Work::Evaluate(recipe("held"))), held);
        let other = handle.submit(Work::Evaluate(recipe("other")));
        tokens.send(()).unwrap();
        let heard = until_ended(&handle, 1);
        assert!(matches!(outcome(&heard, other), Outcome::Finished));
        handle.pause(held, false);
        tokens.send(()).unwrap();
        let heard = until_ended(&handle, 1);
        assert!(matches!(outcome(&heard, held), Outcome::Finished));
    }

    #[test]
    fn a_paused_running_job_can_be_cancelled() {
        let (mut handle, _interactive, tokens) = engine(5);
        let job = handle.submit(Work::Evaluate(recipe("a")));
        tokens.send(()).unwrap();
        handle.pause(job, true);
        std::thread::sleep(Duration::from_millis(20));
        let _ = tokens.send(());
        handle.cancel(job);
        let heard = until_ended(&handle, 1);
        assert!(matches!(outcome(&heard, job), Outcome::Cancelled));
    }

    #[test]
    fn a_panic_fails_its_job_and_the_lane_lives_on() {
        let (mut handle, _interactive, tokens) = engine(1);
        let broken = handle.submit(Work::Evaluate(recipe("panic")));
        let next = handle.submit(Work::Evaluate(recipe("fine")));
        tokens.send(()).unwrap();
        let heard = until_ended(&handle, 2);
        assert!(matches!(outcome(&heard, broken), Outcome::Failed(_)));
        assert!(matches!(outcome(&heard, next), Outcome::Finished));
    }
}
