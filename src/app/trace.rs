//! A scripted user: drives the real window with pointer and wheel while every frame is timed.
//!
//! Wraps the app as eframe sees it, so that what is measured is what a user gets. Knows the window
//! by its actions and its state alone.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use egui::{Event, Modifiers, MouseWheelUnit, PointerButton, Pos2, RawInput, Rect, TouchPhase};

use super::HazeApp;
use super::action::Action;
use super::command::UiCommand;
use super::launch::{AppOptions, WindowError};
use super::layout::PaneKind;
use super::state::State;
use super::state::form::FormModality;
use super::state::history::DecodeState;
use super::state::jobs::JobKind;
use crate::session::recipe::RecipeQuery;

/// What the trace does.
pub struct TraceOptions {
    /// Length of each timed phase, after the warm-up.
    pub seconds: f64,
    /// Texts whose way from query to retrieval is timed; the first one warms the models up.
    pub queries: Vec<String>,
    /// Samples decoded during the second phase.
    pub samples: usize,
    /// Asked in every frame whether to stop.
    pub stop: Box<dyn Fn() -> bool>,
}

/// What was measured.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceReport {
    /// Name of the adapter that drew.
    pub adapter: String,
    /// Name of the device that computed.
    pub device: Option<String>,
    /// Milliseconds from the start to the first frame on screen.
    pub first_frame_ms: f64,
    /// Milliseconds from each query to the frame that knows its retrieval.
    pub query_ms: Vec<f64>,
    pub phases: Vec<PhaseTimes>,
}

/// Frames of one phase.
#[derive(Debug, Clone, PartialEq)]
pub struct PhaseTimes {
    pub name: &'static str,
    /// Milliseconds of CPU per frame: logic, layout, tessellation, submission, without waiting
    /// for the screen.
    pub cpu_ms: Vec<f64>,
    /// Milliseconds from frame to frame.
    pub interval_ms: Vec<f64>,
}

/// Why a trace gave no report.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    #[error(transparent)]
    Window(#[from] WindowError),
    #[error("the window was closed before the trace had ended")]
    Closed,
    #[error("{0}")]
    Failed(String),
}

/// A query or a decode that takes longer is given up.
const PATIENCE: Duration = Duration::from_secs(120);
/// A decode takes some frames to show up among the jobs.
const DECODE_PAUSE: Duration = Duration::from_secs(1);
/// Frames of a phase before this many seconds are not counted.
const WARM_UP: f64 = 2.0;
/// Seconds that each pane stays in front.
const PANE_SECONDS: f64 = 1.5;

/// Opens the window, runs the trace and closes it.
///
/// # Errors
/// When no window can be opened, the user closes it, or a query fails.
pub fn run(app: AppOptions, options: TraceOptions) -> Result<TraceReport, TraceError> {
    let start = Instant::now();
    let (sender, receiver) = std::sync::mpsc::channel();
    super::launch::open(app.window_size, |cc| {
        let adapter = cc.wgpu_render_state.as_ref().map_or_else(
            || "unknown".to_owned(),
            |render| {
                let info = render.adapter.get_info();
                format!("{} ({})", info.name, info.backend)
            },
        );
        Box::new(TraceApp {
            app: HazeApp::new(cc, app),
            options,
            start,
            first_frame: None,
            last_frame: None,
            step: Step::FirstFrame,
            decode_asked: None,
            saw_decode: false,
            report: TraceReport {
                adapter,
                device: None,
                first_frame_ms: 0.0,
                query_ms: Vec::new(),
                phases: Vec::new(),
            },
            sender,
        })
    })?;
    receiver.try_recv().unwrap_or(Err(TraceError::Closed))
}

/// Where the script stands.
#[derive(Debug, Clone)]
enum Step {
    /// Nothing was shown yet.
    FirstFrame,
    /// The query of that number was asked.
    Query { number: usize, asked: Instant },
    /// The pointer wanders.
    Phase { decoding: bool, since: Instant, shown: usize },
    /// The window is closing.
    Done,
}

struct TraceApp {
    app: HazeApp,
    options: TraceOptions,
    start: Instant,
    first_frame: Option<Instant>,
    /// When the frame before began.
    last_frame: Option<Instant>,
    step: Step,
    decode_asked: Option<Instant>,
    saw_decode: bool,
    report: TraceReport,
    sender: Sender<Result<TraceReport, TraceError>>,
}

impl eframe::App for TraceApp {
    fn raw_input_hook(&mut self, context: &egui::Context, input: &mut RawInput) {
        if let Step::Phase { since, .. } = self.step {
            // The real pointer would disturb the scripted one.
            input.events.retain(|event| !is_pointer(event));
            let area = input.screen_rect.unwrap_or_else(|| context.content_rect());
            input.events.extend(gestures(since.elapsed().as_secs_f64(), area));
        }
        self.app.raw_input_hook(context, input);
    }

    fn logic(&mut self, context: &egui::Context, frame: &mut eframe::Frame) {
        self.app.logic(context, frame);
    }

    fn ui(&mut self, ui: &mut egui::Ui, frame: &mut eframe::Frame) {
        let now = Instant::now();
        self.measure(now, frame.info().cpu_usage);
        self.app.ui(ui, frame);
        if let Err(error) = self.advance(now) {
            self.end(Err(error));
        }
        if matches!(self.step, Step::Done) {
            ui.ctx().send_viewport_cmd(egui::ViewportCommand::Close);
        }
        // Every frame counts, also those in which nothing changes.
        ui.ctx().request_repaint();
    }

    fn on_exit(&mut self) {
        self.app.on_exit();
    }
}

impl TraceApp {
    /// Notes the times of the frame before, which are known when the next one begins.
    fn measure(&mut self, now: Instant, cpu_seconds: Option<f32>) {
        if let (Step::Phase { since, .. }, Some(last), Some(phase)) =
            (&self.step, self.last_frame, self.report.phases.last_mut())
            && since.elapsed().as_secs_f64() > WARM_UP
        {
            phase.interval_ms.push((now - last).as_secs_f64() * 1e3);
            phase.cpu_ms.extend(cpu_seconds.map(|seconds| f64::from(seconds) * 1e3));
        }
        self.last_frame = Some(now);
    }

    fn advance(&mut self, now: Instant) -> Result<(), TraceError> {
        if (self.options.stop)() {
            return Err(TraceError::Closed);
        }
        match self.step.clone() {
            Step::FirstFrame => match self.first_frame {
                None => self.first_frame = Some(now),
                // The second frame begins when the first one is on screen.
                Some(_) => {
                    self.report.first_frame_ms = (now - self.start).as_secs_f64() * 1e3;
                    self.ask(0);
                }
            },
            Step::Query { number, asked } => {
                if has_retrieval(self.app.state(), &self.options.queries[number]) {
                    // The first one also loads the models.
                    if number > 0 {
                        self.report.query_ms.push(asked.elapsed().as_secs_f64() * 1e3);
                    }
                    if number + 1 < self.options.queries.len() {
                        self.ask(number + 1);
                    } else {
                        self.begin_phase(false);
                    }
                } else {
                    give_up(self.app.state(), asked, "the query")?;
                }
            }
            Step::Phase { decoding, since, shown } => {
                let elapsed = since.elapsed().as_secs_f64();
                let pane = (elapsed / PANE_SECONDS) as usize;
                if pane >= shown {
                    self.app.send(Action::ShowPane(PaneKind::ALL[pane % PaneKind::ALL.len()]));
                    self.step = Step::Phase { decoding, since, shown: pane + 1 };
                }
                if decoding {
                    self.keep_decoding(now)?;
                }
                if elapsed > WARM_UP + self.options.seconds {
                    if decoding && !self.saw_decode {
                        return Err(TraceError::Failed(
                            "no decoding began while the window was measured".to_owned(),
                        ));
                    } else if decoding {
                        self.app.send(Action::Command(UiCommand::StopAll));
                        self.report.device.clone_from(&self.app.state().device);
                        self.end(Ok(self.report.clone()));
                    } else {
                        self.begin_phase(true);
                    }
                }
            }
            Step::Done => {}
        }
        Ok(())
    }

    fn ask(&mut self, number: usize) {
        let mut form = self.app.state().form.clone();
        form.modality = FormModality::Text;
        form.text.clone_from(&self.options.queries[number]);
        self.app.send(Action::EditForm { form: Box::new(form), analyse: false });
        self.app.send(Action::Run { decode: Some(false) });
        self.step = Step::Query { number, asked: Instant::now() };
    }

    fn begin_phase(&mut self, decoding: bool) {
        let name = if decoding { "decoding" } else { "idle" };
        self.report.phases.push(PhaseTimes { name, cpu_ms: Vec::new(), interval_ms: Vec::new() });
        self.step = Step::Phase { decoding, since: Instant::now(), shown: 0 };
    }

    /// Asks for a decode whenever none runs, waits, or was asked for just now.
    fn keep_decoding(&mut self, now: Instant) -> Result<(), TraceError> {
        let state = self.app.state();
        self.saw_decode |= state.jobs.latest(JobKind::Decode).is_some();
        if let Some(DecodeState::Failed(failure)) = state.entry().map(|entry| &entry.decode) {
            return Err(TraceError::Failed(format!("decoding failed: {}", failure.what)));
        }
        let just_asked = self.decode_asked.is_some_and(|asked| now - asked < DECODE_PAUSE);
        if !is_decoding(state) && !just_asked {
            self.decode_asked = Some(now);
            self.decode();
        }
        Ok(())
    }

    /// Decodes once more, with another seed so that nothing is found to be done already.
    fn decode(&mut self) {
        let mut form = self.app.state().form.clone();
        form.sampling.samples = self.options.samples;
        form.sampling.seed = form.sampling.seed.wrapping_add(1);
        self.app.send(Action::EditForm { form: Box::new(form), analyse: false });
        self.app.send(Action::Run { decode: Some(true) });
    }

    fn end(&mut self, report: Result<TraceReport, TraceError>) {
        // `run` listens until the window is closed.
        let _ = self.sender.send(report);
        self.step = Step::Done;
    }
}

fn is_pointer(event: &Event) -> bool {
    matches!(
        event,
        Event::PointerMoved(_)
            | Event::MouseMoved(_)
            | Event::PointerButton { .. }
            | Event::PointerGone
            | Event::MouseWheel { .. }
    )
}

fn has_retrieval(state: &State, text: &str) -> bool {
    state.entry().is_some_and(|entry| {
        matches!(&entry.recipe.query, RecipeQuery::Text(asked) if asked == text)
            && entry.result.as_ref().is_some_and(|result| result.retrieval.is_some())
    })
}

/// Whether a decode runs, waits, or is about to: its analysis is still being made.
fn is_decoding(state: &State) -> bool {
    let busy = |kind| state.jobs.latest(kind).is_some();
    busy(JobKind::Decode)
        || busy(JobKind::Analyse)
        || state.entry().is_some_and(|entry| matches!(entry.decode, DecodeState::Running(_)))
}

fn give_up(state: &State, asked: Instant, what: &str) -> Result<(), TraceError> {
    if let Some(failure) = &state.query_failure {
        return Err(TraceError::Failed(format!("{what} failed: {}", failure.what)));
    }
    if asked.elapsed() > PATIENCE {
        let seconds = PATIENCE.as_secs();
        return Err(TraceError::Failed(format!("{what} gave no result within {seconds} s")));
    }
    Ok(())
}

/// Places inside the bodies of panes in the default layout, as shares of the window: where a drag
/// pans a plot or selects, and moves neither a tab nor a splitter.
const DRAGS: [[f32; 2]; 3] = [[0.42, 0.55], [0.82, 0.33], [0.82, 0.78]];
/// Seconds between two drags, and how long each is held.
const DRAG_EVERY: f64 = 2.0;
const DRAG_SECONDS: f64 = 0.5;

/// What pointer and wheel do at a time: the pointer sweeps the window in a figure that reaches
/// every pane, the wheel turns up and down and zooms in between, and every 2 seconds something is
/// dragged.
fn gestures(time: f64, area: Rect) -> Vec<Event> {
    let at = |[x, y]: [f32; 2]| area.min + egui::vec2(x * area.width(), y * area.height());
    let in_cycle = time % DRAG_EVERY;
    let drag = at(DRAGS[(time / DRAG_EVERY) as usize % DRAGS.len()]);
    // A drag begins and ends within the time of a frame or two; both ends are sent more than once,
    // since no frame can be counted on to fall into a given moment.
    if in_cycle < DRAG_SECONDS {
        let along = (in_cycle / DRAG_SECONDS) as f32 * 60.0;
        let mut events = vec![Event::PointerMoved(drag + egui::vec2(along, along / 2.0))];
        if in_cycle < 0.1 {
            events.insert(0, Event::PointerMoved(drag));
            events.insert(1, button(drag, true));
        }
        return events;
    }
    let wave = |period: f64| (time / period * std::f64::consts::TAU).sin() as f32;
    let place = at([0.5 + 0.48 * wave(3.1), 0.53 + 0.44 * wave(2.3)]);
    let mut events = vec![button(place, false), Event::PointerMoved(place)];
    if in_cycle > 1.0 {
        let zooms = in_cycle > 1.5;
        events.push(Event::MouseWheel {
            unit: MouseWheelUnit::Point,
            delta: egui::vec2(0.0, 12.0 * wave(1.7)),
            phase: TouchPhase::Move,
            source: egui::MouseWheelSource::Unknown,
            modifiers: if zooms { Modifiers::COMMAND } else { Modifiers::NONE },
        });
    }
    events
}

fn button(pos: Pos2, pressed: bool) -> Event {
    Event::PointerButton {
        pos,
        button: PointerButton::Primary,
        pressed,
        modifiers: Modifiers::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripted_pointer_stays_in_the_window_and_reaches_most_of_it() {
        let area = Rect::from_min_size(Pos2::ZERO, egui::vec2(1440.0, 900.0));
        let mut cells = std::collections::BTreeSet::new();
        for frame in 0..1200 {
            for event in gestures(f64::from(frame) / 60.0, area) {
                if let Event::PointerMoved(at) = event {
                    assert!(area.contains(at), "{at:?}");
                    cells.insert(((at.x / 180.0) as usize, (at.y / 180.0) as usize));
                }
            }
        }
        assert!(cells.len() > 30, "{} of 40 cells", cells.len());
    }

    #[test]
    fn every_drag_is_let_go() {
        let area = Rect::from_min_size(Pos2::ZERO, egui::vec2(1440.0, 900.0));
        let mut pressed = false;
        let mut drags = 0;
        for frame in 0..600 {
            for event in gestures(f64::from(frame) / 60.0, area) {
                if let Event::PointerButton { pressed: now, .. } = event {
                    drags += usize::from(now && !pressed);
                    pressed = now;
                }
            }
        }
        assert!(!pressed);
        assert_eq!(drags, 5);
    }
}
