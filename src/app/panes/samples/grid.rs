//! The grid of tiles: only what is seen is built; one cursor moves by the keyboard.

use egui::{EventFilter, Key, Rect, Sense, Ui, pos2, vec2};

use super::tile;
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::export::ExportRequest;
use crate::app::icons;
use crate::app::layout::PaneKind;
use crate::app::panes::Cx;
use crate::app::state::history::{Entry, TileState};
use crate::app::state::selection::{Item, SelectMode};

/// View state of the grid.
#[derive(Default)]
pub struct Grid {
    cursor: Option<Item>,
    /// Where a range that is extended with Shift begins.
    anchor: Option<Item>,
    /// Where a rubber band began, in the coordinates of the content.
    band: Option<egui::Pos2>,
}

/// Where tiles are: `columns` in a row, each `side` wide, `gap` apart.
#[derive(Debug, Clone, Copy)]
struct Places {
    columns: usize,
    side: f32,
    gap: f32,
}

impl Places {
    fn new(width: f32, side: f32) -> Self {
        let gap = if side <= 96.0 { 4.0 } else { 8.0 };
        let side = side.min(width.max(32.0));
        let columns = (((width + gap) / (side + gap)).floor() as usize).max(1);
        Self { columns, side, gap }
    }

    fn row_height(self) -> f32 {
        tile::height(self.side) + self.gap
    }

    fn rect(self, origin: egui::Pos2, index: usize) -> Rect {
        let (row, column) = (index / self.columns, index % self.columns);
        let corner = vec2(column as f32 * (self.side + self.gap), row as f32 * self.row_height());
        Rect::from_min_size(origin + corner, vec2(self.side, tile::height(self.side)))
    }
}

impl Grid {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, shown: &[Item]) {
        zoom(ui, cx);
        let id = ui.scope_id().with("tiles");
        egui::ScrollArea::vertical().auto_shrink(false).show_viewport(ui, |ui, viewport| {
            let places = Places::new(ui.available_width() - 10.0, cx.state.settings.tile_size);
            let rows = shown.len().div_ceil(places.columns);
            let origin = ui.min_rect().min + vec2(3.0, 3.0);
            ui.set_height(rows as f32 * places.row_height() + 6.0);
            let whole = Rect::from_min_size(
                ui.min_rect().min,
                vec2(ui.available_width(), (rows as f32 * places.row_height()).max(viewport.height())),
            );
            let background = ui.interact(whole, id, Sense::click_and_drag());
            background.widget_info(|| {
                egui::WidgetInfo::labeled(egui::Role::List, true, "Sample tiles")
            });
            self.keys(ui, cx, id, shown, places, origin);
            let row_of = |y: f32| (y / places.row_height()).max(0.0) as usize;
            let first = row_of(viewport.min.y) * places.columns;
            let last = ((row_of(viewport.max.y) + 1) * places.columns).min(shown.len());
            let mut hovered = None;
            for (index, &item) in shown.iter().enumerate().take(last).skip(first) {
                let rect = places.rect(origin, index);
                let response = ui.interact(rect, id.with(item), Sense::click());
                let focused = ui.memory(|memory| memory.has_focus(id));
                tile::draw(ui, cx, entry, item, rect, focused && self.cursor == Some(item));
                let selected = cx.state.selection.contains(item);
                response.widget_info(|| {
                    egui::WidgetInfo::selected(egui::Role::Button, true, selected, tile::name(item))
                });
                if response.contains_pointer() {
                    hovered = Some(item);
                }
                if response.double_clicked() {
                    cx.send(Action::Enlarge(Some(item)));
                } else if response.clicked() {
                    ui.memory_mut(|memory| memory.request_focus(id));
                    self.click(ui, cx, shown, item);
                }
                response.context_menu(|ui| menu(ui, cx, entry, item));
                response.on_hover_ui(|ui| tile::card(ui, cx, entry, item));
            }
            self.hover(cx, hovered, ui.rect_contains_pointer(ui.clip_rect()));
            self.rubber_band(ui, cx, &background, shown, places, origin);
            if background.clicked() {
                ui.memory_mut(|memory| memory.request_focus(id));
                select(cx, Vec::new(), SelectMode::Replace);
            }
        });
    }

    /// Tells others what is under the pointer, when it changes.
    fn hover(&self, cx: &mut Cx<'_>, hovered: Option<Item>, inside: bool) {
        let now = cx.state.selection.hovered;
        let ours = matches!(now, Some(Item::Sample(_) | Item::Mean | Item::Query));
        if hovered != now && (hovered.is_some() || (ours && inside)) {
            cx.send(Action::Hover(hovered));
        }
    }

    fn click(&mut self, ui: &Ui, cx: &mut Cx<'_>, shown: &[Item], item: Item) {
        let modifiers = ui.input(|input| input.modifiers);
        self.cursor = Some(item);
        if modifiers.shift
            && let Some(range) = range(shown, self.anchor.unwrap_or(item), item)
        {
            select(cx, range, SelectMode::Replace);
            return;
        }
        self.anchor = Some(item);
        let mode = if modifiers.command { SelectMode::Toggle } else { SelectMode::Replace };
        select(cx, vec![item], mode);
    }

    fn keys(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        id: egui::Id,
        shown: &[Item],
        places: Places,
        origin: egui::Pos2,
    ) {
        if !ui.memory(|memory| memory.has_focus(id)) || shown.is_empty() {
            return;
        }
        let filter =
            EventFilter { horizontal_arrows: true, vertical_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));
        let at = self.cursor.and_then(|item| shown.iter().position(|&other| other == item));
        let pressed = |key| ui.input(|input| input.key_pressed(key));
        let columns = places.columns as isize;
        let step = [
            (Key::ArrowLeft, -1),
            (Key::ArrowRight, 1),
            (Key::ArrowUp, -columns),
            (Key::ArrowDown, columns),
            (Key::Home, isize::MIN / 2),
            (Key::End, isize::MAX / 2),
        ]
        .into_iter()
        .find(|(key, _)| pressed(*key));
        if let Some((_, step)) = step {
            let last = shown.len() as isize - 1;
            let next = at.map_or(0, |at| (at as isize + step).clamp(0, last)) as usize;
            let item = shown[next];
            self.cursor = Some(item);
            ui.scroll_to_rect(places.rect(origin, next), None);
            if ui.input(|input| input.modifiers.shift) {
                if let Some(range) = range(shown, self.anchor.unwrap_or(item), item) {
                    select(cx, range, SelectMode::Replace);
                }
            } else {
                self.anchor = Some(item);
                select(cx, vec![item], SelectMode::Replace);
            }
        }
        if let Some(item) = self.cursor {
            if pressed(Key::Space) || pressed(Key::X) {
                select(cx, vec![item], SelectMode::Toggle);
            }
            if pressed(Key::Enter) {
                cx.send(Action::Enlarge(Some(item)));
            }
        }
    }

    fn rubber_band(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        background: &egui::Response,
        shown: &[Item],
        places: Places,
        origin: egui::Pos2,
    ) {
        if background.drag_started()
            && let Some(at) = background.interact_pointer_pos()
        {
            self.band = Some(pos2(0.0, 0.0) + (at - origin));
        }
        let (Some(from), Some(to)) = (self.band, background.interact_pointer_pos()) else {
            self.band = None;
            return;
        };
        let band = Rect::from_two_pos(origin + from.to_vec2(), to);
        if band.size().max_elem() > 6.0 {
            ui.painter().rect_filled(band, 2.0, cx.theme.accent.gamma_multiply(0.15));
            let stroke = egui::Stroke::new(1.0, cx.theme.accent);
            ui.painter().rect_stroke(band, 2.0, stroke, egui::StrokeKind::Inside);
        }
        if background.drag_stopped() {
            self.band = None;
            let inside = shown.iter().enumerate().filter(|(index, item)| {
                matches!(item, Item::Sample(_)) && places.rect(origin, *index).intersects(band)
            });
            let items: Vec<Item> = inside.map(|(_, &item)| item).collect();
            let extend = ui.input(|input| input.modifiers.shift);
            select(cx, items, if extend { SelectMode::Add } else { SelectMode::Replace });
        }
    }
}

fn select(cx: &mut Cx<'_>, items: Vec<Item>, mode: SelectMode) {
    cx.send(Action::Select { items, mode, from: PaneKind::Samples });
}

/// All items from one to another, in the order on screen.
fn range(shown: &[Item], from: Item, to: Item) -> Option<Vec<Item>> {
    let at = |item| shown.iter().position(|&other| other == item);
    let (a, b) = (at(from)?, at(to)?);
    Some(shown[a.min(b)..=a.max(b)].to_vec())
}

/// Ctrl and the wheel change the size of the tiles.
fn zoom(ui: &Ui, cx: &mut Cx<'_>) {
    if !ui.rect_contains_pointer(ui.available_rect_before_wrap()) {
        return;
    }
    let zoom = ui.input(|input| input.zoom_delta());
    if zoom > 1.01 {
        cx.send(Action::Command(UiCommand::LargerTiles));
    } else if zoom < 0.99 {
        cx.send(Action::Command(UiCommand::SmallerTiles));
    }
}

fn menu(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, item: Item) {
    let place = tile::place_of(item);
    let picture = place.and_then(|place| match entry.tiles.get(place) {
        Some(TileState::Done(tile)) => Some(std::sync::Arc::new(tile.image.clone())),
        _ => None,
    });
    let mut choose = |ui: &mut Ui, text: String, action: Action| {
        if ui.button(text).clicked() {
            cx.send(action);
            ui.close();
        }
    };
    choose(ui, format!("{} Large view", icons::ARROWS_OUT), Action::Enlarge(Some(item)));
    if let (Some(image), Some(place)) = (picture, place) {
        let name = format!("{} {}", entry.title(), tile::name(item));
        let action = Action::QueryPixels { image: image.clone(), name };
        choose(ui, format!("{} Use as query", icons::MAGNIFYING_GLASS), action);
        choose(ui, format!("{} Copy image", icons::COPY), Action::CopyImage(image));
        let action = Action::Export(ExportRequest::Tile(place));
        choose(ui, format!("{} Save image\u{2026}", icons::FLOPPY_DISK), action);
    }
    let action = Action::Command(UiCommand::CopyRecipe);
    choose(ui, format!("{} Copy recipe", icons::COPY), action);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_stand_in_rows_and_never_overlap() {
        let places = Places::new(556.0, 128.0);
        assert_eq!(places.columns, 4);
        let rects: Vec<Rect> = (0..12).map(|i| places.rect(pos2(0.0, 0.0), i)).collect();
        for (i, a) in rects.iter().enumerate() {
            assert!(a.right() <= 556.0);
            for b in &rects[i + 1..] {
                assert!(!a.shrink(0.1).intersects(*b));
            }
        }
    }

    #[test]
    fn a_window_narrower_than_a_tile_still_has_one_column() {
        let places = Places::new(80.0, 384.0);
        assert_eq!((places.columns, places.side), (1, 80.0));
    }

    #[test]
    fn a_range_follows_the_order_on_screen() {
        let shown = [Item::Mean, Item::Sample(4), Item::Sample(1), Item::Sample(7)];
        let found = range(&shown, Item::Sample(7), Item::Sample(4)).unwrap();
        assert_eq!(found, [Item::Sample(4), Item::Sample(1), Item::Sample(7)]);
        assert_eq!(range(&shown, Item::Sample(99), Item::Mean), None);
    }
}
