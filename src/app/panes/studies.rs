//! The Studies pane: what dimensions mean (walk), what the decoder's noise adds (noise grid), how
//! uncertainty changes with specificity (ladder), and which way texts reach image space best
//! (routes).
//!
//! In comes the query on screen with the last result of each study, out go orders to run one.
//! How a study is computed is not known here.

mod ladder;
mod noise_grid;
mod picture;
mod routes;
mod walk;

use egui::{RichText, ScrollArea, Ui};

use super::Cx;
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::state::Study;
use crate::app::state::history::{Entry, EntryId};
use crate::app::state::jobs::{Job, JobKind};
use crate::app::widgets;
use crate::session::engine::{JobFailure, JobId};

/// The parts of the pane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Section {
    #[default]
    Walk,
    NoiseGrid,
    Ladder,
    Routes,
}

/// View state of the Studies pane.
#[derive(Default)]
pub struct StudiesPane {
    section: Section,
    walk: walk::WalkView,
    noise_grid: noise_grid::NoiseGridView,
    ladder: ladder::LadderView,
    routes: routes::RoutesView,
    /// The walk that was last brought to the front.
    seen_walk: Option<JobId>,
}

impl StudiesPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        // A walk can be started from other panes: then it is what the user wants to see.
        let walk = cx.state.jobs.latest(JobKind::Traverse).map(|job| job.id);
        if walk.is_some() && walk != self.seen_walk {
            self.seen_walk = walk;
            self.section = Section::Walk;
        }
        segments(
            ui,
            &mut self.section,
            &[
                (Section::Walk, icons::WAVE_SINE, "Walk", "What does a dimension mean?"),
                (
                    Section::NoiseGrid,
                    icons::GRID_FOUR,
                    "Noise grid",
                    "Do pictures differ by the embedding, or by the decoder's noise?",
                ),
                (
                    Section::Ladder,
                    icons::STAIRS,
                    "Ladder",
                    "Does uncertainty fall as the query becomes more specific?",
                ),
                (
                    Section::Routes,
                    icons::ARROW_RIGHT,
                    "Routes",
                    "Which way from a text to image space meets the true image best?",
                ),
            ],
        );
        ui.add_space(4.0);
        match self.section {
            Section::Walk => {
                if let Some(entry) = analysed(ui, cx, "to walk from its mean") {
                    scrolled(ui, "walk", |ui| self.walk.ui(ui, cx, entry));
                }
            }
            Section::NoiseGrid => {
                if let Some(entry) = analysed(ui, cx, "to cross its samples with noises") {
                    scrolled(ui, "noise grid", |ui| self.noise_grid.ui(ui, cx, entry));
                }
            }
            Section::Ladder => scrolled(ui, "ladder", |ui| self.ladder.ui(ui, cx)),
            Section::Routes => scrolled(ui, "routes", |ui| self.routes.ui(ui, cx)),
        }
    }
}

/// The query on screen once its distribution is known; else says what to do.
fn analysed<'a>(ui: &mut Ui, cx: &mut Cx<'a>, purpose: &str) -> Option<&'a Entry> {
    let state = cx.state;
    let entry = state.entry().filter(|entry| entry.result.is_some());
    if entry.is_none() {
        match state.jobs.latest(JobKind::Analyse) {
            Some(job) => widgets::centred(ui, |ui| widgets::busy(ui, cx, job)),
            None => {
                let sentence = format!("Run a query first {purpose}.");
                widgets::empty(ui, cx, icons::STAIRS, &sentence, Some(UiCommand::FocusQuery));
            }
        }
    }
    entry
}

fn scrolled(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui)) {
    ScrollArea::vertical().id_salt(name).auto_shrink(false).show(ui, add);
}

/// A switch between a few things, one of which is on.
fn segments<T: Copy + PartialEq>(ui: &mut Ui, value: &mut T, choices: &[(T, &str, &str, &str)]) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 2.0;
        for &(choice, icon, name, tip) in choices {
            let button = egui::Button::selectable(*value == choice, format!("{icon} {name}"));
            if ui.add(button).on_hover_text(tip).clicked() {
                *value = choice;
            }
        }
    });
}

/// A study that runs or failed; true where one of them is shown.
fn job_state<T>(
    ui: &mut Ui,
    cx: &mut Cx<'_>,
    job: Option<&Job>,
    study: &Study<T>,
    failed: &str,
) -> bool {
    if let Some(job) = job {
        ui.add_space(8.0);
        widgets::busy(ui, cx, job);
        return true;
    }
    if let Study::Failed(failure) = study {
        ui.add_space(8.0);
        // The batch of a study cannot be chosen; its button above tries again.
        let failure = JobFailure { smaller_batch: None, ..failure.clone() };
        widgets::failure(ui, cx, failed, &failure);
        return true;
    }
    false
}

/// Says so where a result belongs to another query than the one on screen.
fn made_with(ui: &mut Ui, cx: &mut Cx<'_>, entry: Option<EntryId>) {
    let state = cx.state;
    let Some(other) = entry.filter(|_| entry != state.current) else { return };
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new(icons::INFO).color(cx.theme.accent));
        match state.history.get(other) {
            Some(entry) => {
                let title = widgets::shorten(&entry.title(), 40);
                let text = format!("Made with \u{201c}{title}\u{201d}, not the query on screen.");
                ui.label(RichText::new(text).color(cx.theme.muted));
                if ui.link("Show that query").clicked() {
                    cx.send(Action::OpenEntry(other));
                }
            }
            None => {
                let text = "Made with a query that was deleted since.";
                ui.label(RichText::new(text).color(cx.theme.muted));
            }
        }
    });
}

/// Number of pictures and the time they would take, from the pace of the last decode.
fn plan(images: usize, steps: usize, pace: Option<f32>) -> String {
    let mut text = format!("{images} images");
    if let Some(pace) = pace {
        text += &format!(", about {}", widgets::seconds(pace * (images * steps) as f32));
    }
    text
}

/// A muted sentence that wraps.
fn note(ui: &mut Ui, cx: &Cx<'_>, text: &str) {
    ui.add(egui::Label::new(RichText::new(text).small().color(cx.theme.muted)).wrap());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_a_time_only_where_the_pace_is_known() {
        assert_eq!(plan(16, 20, None), "16 images");
        assert_eq!(plan(16, 20, Some(0.01)), "16 images, about 3.2 s");
    }
}
