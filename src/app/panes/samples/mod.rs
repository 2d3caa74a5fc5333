//! The Samples pane: the query, the mean and every sample as tiles, in an order of choice.

mod grid;
pub mod order;
mod tile;

use egui::{RichText, Ui};

use super::Cx;
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::state::history::{DecodeState, Entry, TileState};
use crate::app::state::jobs::JobKind;
use crate::app::state::selection::Item;
use crate::app::widgets;
use order::{Order, SortKey};
pub use tile::lines;

/// Time that each sample stands while they are played.
const PLAY_SECONDS: f64 = 0.4;

/// View state of the Samples pane.
#[derive(Default)]
pub struct SamplesPane {
    pub order: Order,
    grid: grid::Grid,
    /// When the samples began to be played one after another.
    playing_since: Option<f64>,
}

impl SamplesPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let Some(entry) = state.entry() else {
            match state.jobs.latest(JobKind::Analyse).or(state.jobs.latest(JobKind::Warm)) {
                Some(job) => widgets::centred(ui, |ui| widgets::busy(ui, cx, job)),
                None => widgets::empty(
                    ui,
                    cx,
                    icons::GRID_FOUR,
                    "Run a query to see the images it could mean.",
                    Some(UiCommand::FocusQuery),
                ),
            }
            return;
        };
        self.toolbar(ui, cx, entry);
        decode_state(ui, cx, entry);
        ui.add_space(4.0);
        let shown = self.order.items(entry, &state.selection);
        self.play(ui, cx, &shown);
        self.grid.ui(ui, cx, entry, &shown);
    }

    fn toolbar(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry) {
        ui.horizontal_wrapped(|ui| {
            egui::ComboBox::from_id_salt("sort samples")
                .selected_text(format!("{} {}", icons::SORT_ASCENDING, self.order.key.name()))
                .width(150.0)
                .show_ui(ui, |ui| {
                    for key in SortKey::ALL {
                        ui.selectable_value(&mut self.order.key, key, key.name());
                    }
                })
                .response
                .on_hover_text("Order of the samples");
            let reverse = egui::Button::selectable(self.order.reversed, icons::ARROWS_CLOCKWISE);
            if ui.add(reverse).on_hover_text("Reverse the order").clicked() {
                self.order.reversed = !self.order.reversed;
            }
            for command in [UiCommand::SmallerTiles, UiCommand::LargerTiles] {
                let text = command.text();
                if ui.add(egui::Button::new(text.icon)).on_hover_text(text.name).clicked() {
                    cx.send(Action::Command(command));
                }
            }
            let (icon, tip) = match self.playing_since {
                Some(_) => (icons::PAUSE, "Stop playing"),
                None => (
                    icons::PLAY,
                    "Play the samples one after another: retrieval and map follow each",
                ),
            };
            if ui.add(egui::Button::new(icon)).on_hover_text(tip).clicked() {
                self.playing_since = match self.playing_since {
                    Some(_) => None,
                    None => Some(ui.input(|input| input.time)),
                };
                cx.send(Action::Hover(None));
            }
            if entry.result.is_some() && entry.tiles.len() > 2 {
                ui.label(RichText::new("mean").small().color(cx.theme.muted));
                let (shown, all) = (self.order.count(entry), entry.tiles.len() - 1);
                let slider = egui::Slider::new(&mut self.order.least_typical, 1.0..=0.0);
                ui.spacing_mut().slider_width = 90.0;
                ui.add(slider.show_value(false)).on_hover_text(
                    "From the mean to the tails: how unlikely a draw may be to be shown. 83 %: \
                     this draw is likelier than 83 % of draws.",
                );
                ui.label(RichText::new("tails").small().color(cx.theme.muted));
                if shown < all {
                    let text = format!("{shown} of {all}");
                    ui.label(RichText::new(text).small().color(cx.theme.text));
                }
            }
        });
    }

    fn play(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, shown: &[Item]) {
        let Some(since) = self.playing_since else { return };
        let samples: Vec<Item> =
            shown.iter().copied().filter(|item| matches!(item, Item::Sample(_))).collect();
        if samples.is_empty() {
            self.playing_since = None;
            return;
        }
        let time = ui.input(|input| input.time) - since;
        let item = samples[(time / PLAY_SECONDS) as usize % samples.len()];
        if cx.state.selection.hovered != Some(item) {
            cx.send(Action::Hover(Some(item)));
        }
        let next = PLAY_SECONDS - time % PLAY_SECONDS;
        ui.ctx().request_repaint_after_secs(next as f32);
    }
}

/// Where the pictures stand, in words, with what can be done about it.
fn decode_state(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry) {
    let all = entry.tiles.len();
    let again = |ui: &mut Ui, cx: &mut Cx<'_>, text: &str| {
        if ui.button(format!("{} {text}", icons::PLAY)).clicked() {
            cx.send(Action::Decode { entry: entry.id, batch_size: None });
        }
    };
    match &entry.decode {
        DecodeState::NotAsked if entry.result.is_some() => {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new("Nothing is decoded yet.").color(cx.theme.muted));
                again(ui, cx, "Decode");
            });
        }
        DecodeState::Running(job) => {
            if let Some(job) = cx.state.jobs.get(*job) {
                widgets::busy(ui, cx, job);
            }
            if entry.tiles.iter().any(|tile| matches!(tile, TileState::Preview { .. })) {
                let text = "Rough colours of the unfinished pictures. Do not judge from them.";
                ui.label(RichText::new(text).small().color(cx.theme.muted));
            }
        }
        DecodeState::Stopped { finished } => {
            ui.horizontal_wrapped(|ui| {
                let text = format!("Stopped with {finished} of {all} pictures finished.");
                ui.label(RichText::new(text).color(cx.theme.warning));
                again(ui, cx, "Decode again");
            });
        }
        DecodeState::Failed(failure) => {
            widgets::failure(ui, cx, "The decoding failed", failure);
            again(ui, cx, "Decode again");
        }
        DecodeState::NotAsked | DecodeState::Finished => {}
    }
}
