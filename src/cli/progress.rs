//! Progress on stderr: a spinner per stage, a bar where the number of steps is known.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::session::event::Event;

/// Shows the stages of one job. Draws nothing when stderr is no terminal or when asked to be quiet.
pub struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        let target =
            if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// Shows what a job says.
    pub fn show(&self, event: &Event<'_>) {
        match event {
            Event::Stage(stage) => self.start(stage.name()),
            Event::Progress { done, total } => self.advance(*done, *total),
            Event::Warning(text) => self.note(&format!("warning: {text}")),
            Event::Distribution(_) | Event::Retrieved(_) | Event::Finished(_) => {}
        }
    }

    /// Something without a stage of its own begins.
    pub fn start(&self, what: &str) {
        self.bar.reset();
        self.bar.unset_length();
        self.bar.set_style(style("{spinner} {msg}"));
        self.bar.set_message(what.to_owned());
    }

    /// `done` of `total` units.
    pub fn advance(&self, done: usize, total: usize) {
        if self.bar.length() != Some(total as u64) {
            self.bar.set_length(total as u64);
            self.bar.set_style(style("{spinner} {msg}  {wide_bar}  {pos}/{len}, {eta} left"));
        }
        self.bar.set_position(done as u64);
    }

    /// `done` of `total` bytes.
    pub fn advance_bytes(&self, done: u64, total: u64) {
        if self.bar.length() != Some(total) {
            self.bar.set_length(total);
            self.bar.set_style(style(
                "{spinner} {msg}  {wide_bar}  {binary_bytes}/{binary_total_bytes}, \
                 {binary_bytes_per_sec}, {eta} left",
            ));
        }
        self.bar.set_position(done);
    }

    /// Replaces the text beside the bar.
    pub fn message(&self, text: String) {
        self.bar.set_message(text);
    }

    /// Prints a line above the bar.
    pub fn note(&self, line: &str) {
        self.bar.suspend(|| eprintln!("{line}"));
    }

    /// Clears the bar.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
