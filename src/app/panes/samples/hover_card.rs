//! The card beside a tile that the pointer rests on.

use egui::{Rect, RichText, Sense, Tooltip, Ui, vec2};

use super::picture::{self, fitted, whole};
use super::statistics::{self, MEAN_NAME};
use super::tile::CORNER;
use crate::app::panes::Cx;
use crate::app::state::history::Entry;
use crate::app::state::selection::Item;
use crate::app::theme;

/// Seconds that the pointer rests on a tile before its card is shown.
pub const DWELL: f64 = 0.125;
const WIDTH: f32 = 260.0;
const THUMBNAIL: f32 = 128.0;
const PREVIEW: &str = "Rough colours of the unfinished picture. Do not judge from it.";

/// Shows the card beside `anchor`.
pub fn show(ui: &Ui, cx: &mut Cx<'_>, anchor: Rect, entry: &Entry, item: Item) {
    let id = ui.scope_id().with("hover card");
    Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), id, anchor).width(WIDTH).show(|ui| {
        ui.set_width(WIDTH);
        let found = picture::picture(cx, entry, item, THUMBNAIL, ui.pixels_per_point(), false);
        if let Some(picture) = &found {
            let (rect, _) = ui.allocate_exact_size(vec2(WIDTH, THUMBNAIL), Sense::hover());
            let place = fitted(picture.size, Rect::from_min_size(rect.min, vec2(WIDTH, THUMBNAIL)));
            let shape = egui::epaint::RectShape::filled(place, CORNER, egui::Color32::WHITE);
            ui.painter().add(shape.with_texture(picture.texture.id(), whole()));
        }
        let title = match item {
            Item::Mean => MEAN_NAME.to_owned(),
            Item::Query => format!("“{}”", entry.title()),
            other => statistics::name(other),
        };
        ui.label(RichText::new(title).font(theme::strong(13.0)).color(cx.theme.strong));
        if found.is_some_and(|picture| picture.unfinished) {
            ui.label(RichText::new(PREVIEW).color(cx.theme.warning).small());
        }
        for line in statistics::lines(entry, item) {
            ui.horizontal_wrapped(|ui| {
                ui.spacing_mut().item_spacing.x = 4.0;
                ui.label(RichText::new(line.name).color(cx.theme.muted).small());
                ui.label(RichText::new(&line.value).small());
            });
            if line.name == "typicality" {
                ui.label(RichText::new(&line.meaning).color(cx.theme.muted).small());
            }
        }
    });
}
