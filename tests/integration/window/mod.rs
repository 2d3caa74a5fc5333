//! The window, through its accessible labels.

mod display;
mod drops;
mod fake_engine;
mod flow;
mod random;
mod snapshots;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egui_kittest::Harness;
use haze::app::action::Action;
use haze::app::dialogs::Dialogs;
use haze::app::{AppOptions, HazeApp, StartEngine};
use haze::session::Assets;
use haze::session::engine;

/// Options of a window that keeps nothing on disk.
pub fn options() -> AppOptions {
    AppOptions { keep_settings: false, ..AppOptions::new(Assets::find(None).unwrap()) }
}

/// The real engine, on the CPU.
pub fn real_engine() -> StartEngine {
    Box::new(|first, _device, wake| {
        let (handle, end) = engine::channel(first, move || wake());
        let assets = Assets::find(None).unwrap();
        engine::start(assets, haze::model::device::DeviceChoice::Cpu, end);
        handle
    })
}

/// A window without any renderer.
pub fn window(size: [f32; 2], engine: StartEngine, dialogs: Dialogs) -> Harness<'static, HazeApp> {
    Harness::builder()
        .with_size(egui::Vec2::from(size))
        .with_theme(egui::Theme::Dark)
        .with_max_steps(64)
        .build_eframe(|creation| HazeApp::with_engine(creation, options(), engine, dialogs))
}

/// Steps the window until something is so.
pub fn wait(
    harness: &mut Harness<'_, HazeApp>,
    what: &str,
    seconds: u64,
    is_so: impl Fn(&HazeApp) -> bool,
) {
    let start = Instant::now();
    while !is_so(harness.state()) {
        if start.elapsed() > Duration::from_secs(seconds) {
            let app = harness.state();
            let said = app.core().notices.shown.iter().map(|shown| &shown.notice);
            let said: Vec<String> = said.map(|n| format!("{}: {}", n.title, n.detail)).collect();
            let jobs: Vec<_> = app.state().jobs.iter().map(|job| (job.kind, job.stage)).collect();
            let failure = &app.state().query_failure;
            panic!("not in time: {what}; said {said:?}, jobs {jobs:?}, failure {failure:?}");
        }
        harness.step();
        std::thread::sleep(Duration::from_millis(4));
    }
    harness.step();
}

/// Sends an action and steps.
pub fn send(harness: &mut Harness<'_, HazeApp>, action: Action) {
    harness.state_mut().send(action);
    harness.step();
}

/// Whether the query on screen has all its pictures.
pub fn decoded(app: &HazeApp) -> bool {
    app.state().entry().is_some_and(|entry| {
        matches!(entry.decode, haze::app::state::history::DecodeState::Finished)
    })
}

/// A dropped file.
#[derive(Debug)]
pub struct File(pub PathBuf);

impl egui::DroppedFile for File {
    fn path(&self) -> &std::path::Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        std::fs::read(&self.0).map_err(|error| error.to_string())
    }
}

/// Drops files on the window.
pub fn drop_files(harness: &mut Harness<'_, HazeApp>, paths: &[PathBuf]) {
    for path in paths {
        harness.input_mut().dropped_files.push(Arc::new(File(path.clone())));
    }
    harness.step();
    harness.input_mut().dropped_files.clear();
}
