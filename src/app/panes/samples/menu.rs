//! What can be done with one tile.

use egui::{Button, Ui};

use super::picture;
use super::statistics;
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::export::ExportRequest;
use crate::app::icons;
use crate::app::layout::PaneKind;
use crate::app::panes::Cx;
use crate::app::state::history::Entry;
use crate::app::state::selection::{Item, SelectMode};

/// The context menu of a tile.
pub fn show(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, item: Item) {
    picture_actions(ui, cx, entry, item);
    let recipe = UiCommand::CopyRecipe.text();
    if ui.button(format!("{} {}", recipe.icon, recipe.name)).clicked() {
        cx.send(Action::Command(UiCommand::CopyRecipe));
        ui.close();
    }
    ui.separator();
    let selected = cx.state.selection.contains(item);
    let select = if selected { "Unselect" } else { "Select" };
    if ui.button(format!("{} {select}", icons::CHECK)).clicked() {
        let mode = SelectMode::Toggle;
        cx.send(Action::Select { items: vec![item], mode, from: PaneKind::Samples });
        ui.close();
    }
    if ui.button(format!("{} Large view", icons::ARROWS_OUT)).clicked() {
        cx.send(Action::Enlarge(Some(item)));
        ui.close();
    }
}

/// Buttons for a finished picture; greyed while there is none.
pub fn picture_actions(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, item: Item) {
    let finished = picture::pixels(entry, item).is_some();
    let why = "This tile has no finished picture yet";
    let use_as_query = Button::new(format!("{} Use as query", icons::UPLOAD_SIMPLE));
    if item != Item::Query
        && ui.add_enabled(finished, use_as_query).on_disabled_hover_text(why).clicked()
        && let Some(image) = picture::shared_pixels(entry, item)
    {
        let name = format!("{} of {}", statistics::name(item), entry.title());
        cx.send(Action::QueryPixels { image, name });
        ui.close();
    }
    let copy = Button::new(format!("{} Copy image", icons::COPY));
    if ui.add_enabled(finished, copy).on_disabled_hover_text(why).clicked()
        && let Some(image) = picture::shared_pixels(entry, item)
    {
        cx.send(Action::CopyImage(image));
        ui.close();
    }
    let save = Button::new(format!("{} Save image…", icons::FLOPPY_DISK));
    if let Some(number) = picture::tile_number(item)
        && ui.add_enabled(finished, save).on_disabled_hover_text(why).clicked()
    {
        cx.send(Action::Export(ExportRequest::Tile(number)));
        ui.close();
    }
}
