//! The controls above the grid, and the line that says where the decoding stands.

use egui::{Button, ComboBox, RichText, Ui};

use super::band;
use crate::app::action::Action;
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::history::{DecodeState, Entry, TileState};
use crate::app::state::sample_order::{SampleOrder, SortKey, TypicalityBand, sample_count};
use crate::app::widgets;
use crate::encoder::Modality;

/// Sorting, filter, tile size and play.
pub fn show(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, shown: usize, playing: &mut bool) {
    let old = cx.state.settings.sample_order;
    let mut order = old;
    ui.horizontal_wrapped(|ui| {
        if entry.result.is_some() {
            sorting(ui, &mut order);
            filter(ui, cx, entry, shown, &mut order);
        }
        tile_size(ui, cx);
        let (icon, tip) = if *playing {
            (icons::PAUSE, "Stop playing")
        } else {
            (icons::PLAY, "Play the samples: 400 ms each, in this order; retrieval and map follow")
        };
        let play = Button::new(icon).selected(*playing);
        if ui.add_enabled(shown > 1, play).on_hover_text(tip).clicked() {
            *playing = !*playing;
        }
        route(ui, cx, entry);
    });
    if order != old {
        cx.send(Action::OrderSamples(order));
    }
}

/// How a text reached image space.
fn route(ui: &mut Ui, cx: &Cx<'_>, entry: &Entry) {
    if entry.recipe.query.modality() == Modality::Text {
        let text = format!("by {}", entry.recipe.models.bridge.route());
        let tip = "The decoder makes pictures of image embeddings; this is how the text became \
                   some. Chosen in Query, under Models.";
        let text = RichText::new(text).small().color(cx.theme.muted);
        ui.label(text).on_hover_text(tip);
    }
}

fn sorting(ui: &mut Ui, order: &mut SampleOrder) {
    let label = ui.label("Sort by");
    ComboBox::from_id_salt("sort samples")
        .selected_text(order.key.label())
        .width(150.0)
        .truncate()
        .show_ui(ui, |ui| {
            for key in SortKey::ALL {
                ui.selectable_value(&mut order.key, key, key.label());
            }
        })
        .response
        .labelled_by(label.id);
    let tip = format!("{}; click to turn around", order.key.first(order.reversed));
    let direction = Button::new(icons::SORT_ASCENDING).selected(order.reversed);
    if ui.add(direction).on_hover_text(tip).clicked() {
        order.reversed = !order.reversed;
    }
}

fn filter(ui: &mut Ui, cx: &Cx<'_>, entry: &Entry, shown: usize, order: &mut SampleOrder) {
    let Some(result) = &entry.result else { return };
    let typicalities = result.samples.iter().map(|sample| sample.statistics.typicality);
    if let Some(band) = band::show(ui, cx.theme, order.band, typicalities) {
        order.band = band;
    }
    let count = format!("{shown} of {}", sample_count(entry));
    ui.label(RichText::new(count).color(cx.theme.muted)).on_hover_text("Samples shown");
    if !order.band.is_all() && ui.button("Show all").clicked() {
        order.band = TypicalityBand::default();
    }
}

fn tile_size(ui: &mut Ui, cx: &mut Cx<'_>) {
    let settings = &cx.state.settings;
    let now = settings.tile_size;
    for (icon, name, larger) in
        [(icons::MINUS, "Smaller tiles", false), (icons::PLUS, "Larger tiles", true)]
    {
        let next = settings.next_tile_size(larger);
        let tip = format!("{name} ({now:.0} points now; Ctrl and wheel over the grid)");
        let button = ui.add_enabled(next != now, Button::new(icon)).accessible_name(name);
        if button.on_hover_text(&tip).on_disabled_hover_text(&tip).clicked() {
            cx.send(Action::SetTileSize(next));
        }
    }
}

/// Where the decoding stands, with what to do about it.
pub fn decoding(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry) {
    let state = cx.state;
    let muted = cx.theme.muted;
    if let Some(note) = entry.recipe.models.bridge.note() {
        ui.label(RichText::new(widgets::capitalised(note)).color(cx.theme.warning)).on_hover_text(
            "Another experiment: Stable Diffusion is given samples of its text encoder's hidden \
             states. They cannot be searched with, or compared with images.",
        );
    }
    match &entry.decode {
        DecodeState::Finished => {}
        DecodeState::NotAsked => {
            ui.horizontal_wrapped(|ui| {
                let text = if entry.recipe.models.decoder.is_some() {
                    "Not decoded: the tiles show the numbers of their embeddings."
                } else {
                    "No decoder was chosen: the tiles show the numbers of their embeddings."
                };
                ui.label(RichText::new(text).color(muted));
                if entry.recipe.models.decoder.is_some() {
                    decode_button(ui, cx, entry, "Decode");
                }
            });
        }
        DecodeState::Running(job) => {
            if let Some(job) = state.jobs.get(*job) {
                widgets::busy(ui, cx, job);
            }
            if entry.tiles.iter().any(|tile| matches!(tile, TileState::Preview { .. })) {
                let note = "Previews: unfinished pictures, do not judge from them.";
                ui.label(RichText::new(note).color(cx.theme.warning).small()).on_hover_text(
                    "Rough colours of the unfinished picture. Do not judge from it.",
                );
            }
        }
        DecodeState::Stopped { finished } => {
            ui.horizontal_wrapped(|ui| {
                let all = sample_count(entry) + 1;
                ui.label(
                    RichText::new(format!("Stopped with {finished} of {all} tiles.")).color(muted),
                );
                decode_button(ui, cx, entry, "Decode again");
            });
        }
        DecodeState::Failed(failure) => {
            widgets::failure(ui, cx, "Decoding failed", failure);
            if !failure.device_lost {
                decode_button(ui, cx, entry, "Decode again");
            }
        }
    }
}

fn decode_button(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, text: &str) {
    let ready = entry.result.is_some();
    let button = Button::new(format!("{} {text}", icons::PLAY));
    let response = ui
        .add_enabled(ready, button)
        .on_hover_text("Decodes the mean and the samples to images")
        .on_disabled_hover_text("Run the query again first: its embeddings were not kept");
    if response.clicked() {
        cx.send(Action::Decode { entry: entry.id, batch_size: None });
    }
}
