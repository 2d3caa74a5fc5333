//! The card of what is pointed at on the map.

use egui::containers::PopupAnchor;
use egui::{Id, Image, RichText, Tooltip, Ui, vec2};

use super::marks::Marks;
use crate::app::panes::{Cx, axes};
use crate::app::state::history::TileState;
use crate::app::state::selection::Item;
use crate::app::textures::ThumbnailState;
use crate::app::theme;
use crate::session::result::ItemName;

/// Edge of the picture in points.
const PICTURE: f32 = 128.0;

/// What the current result knows of a gallery row.
pub fn name(marks: Option<&Marks>, row: usize) -> Option<&ItemName> {
    let marks = marks?;
    if !marks.places.as_ref()?.same_gallery {
        return None;
    }
    marks.result.retrieval.as_ref()?.names.get(&row)
}

/// Shows it beside `anchor`; `id` tells a pinned card from the one that follows the pointer.
pub fn show(
    ui: &Ui,
    cx: &mut Cx<'_>,
    marks: Option<&Marks>,
    item: Item,
    id: Id,
    anchor: PopupAnchor,
    pinned: bool,
) {
    let muted = cx.theme.muted;
    Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), id, anchor)
        .gap(10.0)
        .width(260.0)
        .accessible_name(title(marks, item))
        .show(|ui| {
            ui.label(RichText::new(title(marks, item)).font(theme::strong(13.0)));
            match item {
                Item::Gallery(row) => gallery(ui, cx, marks, row),
                Item::Sample(index) => sample(ui, cx, marks, index),
                Item::Mean => {
                    ui.label("Mean of the predicted distribution (not a typical draw)");
                }
                Item::Query => {
                    ui.label("The frozen encoder's embedding of the query");
                }
                Item::Dimension(_) => {}
            }
            let hint = if pinned { "P lets this card go" } else { "P pins this card" };
            ui.label(RichText::new(hint).small().color(muted));
        });
}

fn title(marks: Option<&Marks>, item: Item) -> String {
    match item {
        Item::Query => "Query".to_owned(),
        Item::Mean => "Mean".to_owned(),
        Item::Sample(index) => format!("Sample #{index}"),
        Item::Dimension(dimension) => format!("Dimension {dimension}"),
        Item::Gallery(row) => {
            name(marks, row).map_or(format!("Row {row}"), |name| name.image.clone())
        }
    }
}

fn gallery(ui: &mut Ui, cx: &mut Cx<'_>, marks: Option<&Marks>, row: usize) {
    let muted = cx.theme.muted;
    let known = name(marks, row);
    if let Some(path) = known.and_then(|name| name.image_path.as_ref()) {
        match cx.textures.thumbnail(path) {
            ThumbnailState::Ready(texture) => {
                let alt = path.display().to_string();
                let image = Image::new((texture.id(), texture.size_vec2()));
                ui.add(image.max_size(vec2(PICTURE, PICTURE)).alt_text(alt));
            }
            ThumbnailState::Loading => {
                ui.allocate_space(vec2(PICTURE, PICTURE));
            }
            ThumbnailState::Failed(reason) => {
                ui.label(RichText::new(reason).small().color(muted));
            }
        }
    }
    if let Some(caption) = known.and_then(|name| name.caption.as_ref()) {
        ui.label(caption);
    }
    let ranked = marks
        .and_then(|marks| marks.result.retrieval.as_ref())
        .filter(|_| known.is_some())
        .and_then(|retrieval| retrieval.items.iter().find(|item| item.row == row));
    match ranked {
        Some(item) => {
            ui.label(format!("cosine to the mean {:.3}", item.score));
            ui.label(format!(
                "rank {}; likely {} to {} (90 % of draws)",
                axes::count(item.rank),
                axes::count(item.rank_low),
                axes::count(item.rank_high)
            ));
            match item.relevant {
                Some(true) => {
                    ui.label(RichText::new("belongs to the query").color(cx.theme.relevant));
                }
                Some(false) => {
                    ui.label(RichText::new("does not belong to the query").color(muted));
                }
                None => {}
            }
        }
        None => {
            let text = "not among the items found: its cosine is not known here";
            ui.label(RichText::new(text).small().color(muted));
        }
    }
    if known.is_some() {
        ui.label(RichText::new(format!("row {row}")).small().color(muted));
    }
}

fn sample(ui: &mut Ui, cx: &mut Cx<'_>, marks: Option<&Marks>, index: usize) {
    // Tile 0 is the mean.
    let entry = cx.state.entry();
    if let Some(entry) = entry
        && let Some(TileState::Done(tile)) = entry.tiles.get(index + 1)
    {
        let id = ui.scope_id().with("tile");
        let texture = cx.textures.picture(id, index as u64, &tile.image);
        let image = Image::new((texture.id(), texture.size_vec2()));
        let alt = format!("Decoded sample #{index}");
        ui.add(image.max_size(vec2(PICTURE, PICTURE)).alt_text(alt));
    }
    let Some(sample) = marks.and_then(|marks| marks.result.samples.get(index)) else { return };
    let statistics = &sample.statistics;
    ui.label(format!("cosine to the mean {:.3}", statistics.cosine_to_mean));
    ui.label(format!("typicality {}", axes::percent(statistics.typicality)));
    if let Some(nearest) = &statistics.nearest {
        ui.label(format!("nearest {} ({:.3})", nearest.image, nearest.score));
    }
}
