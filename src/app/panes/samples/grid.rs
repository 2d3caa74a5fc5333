//! The grid of tiles: only what is visible is drawn, and the whole grid has one keyboard focus
//! with a cursor of its own, so that the focus is not lost when a tile scrolls away.

use egui::{
    EventFilter, Key, Margin, PointerButton, Pos2, Rect, Response, Role, ScrollArea, Sense, Ui,
    WidgetInfo,
};

use super::layout::{GridLayout, Move};
use super::tile::{self, Marks};
use super::{hover_card, menu, statistics};
use crate::app::action::Action;
use crate::app::layout::PaneKind;
use crate::app::panes::Cx;
use crate::app::panes::hover::HoverTeller;
use crate::app::state::history::Entry;
use crate::app::state::selection::{Item, SelectMode};

/// Change of scale that one step of the tile size takes.
const ZOOM_STEP: f32 = 1.15;

/// What the grid shows.
pub struct Content<'a> {
    pub entry: &'a Entry,
    /// The tiles in order.
    pub items: &'a [Item],
    /// Share done of the pictures being decoded, 0 to 1.
    pub step: Option<f32>,
    /// The item on show while samples are played.
    pub playing: Option<Item>,
}

/// View state of the grid. Positions are kept as items, which sorting does not change.
#[derive(Default)]
pub struct Grid {
    cursor: Option<Item>,
    /// Where a range began.
    anchor: Option<Item>,
    /// Where a rubber band began, in points from the grid's corner.
    band_start: Option<Pos2>,
    /// The item under the pointer, and since when.
    hovered: Option<(Item, f64)>,
    teller: HoverTeller,
    /// Change of scale by the wheel that has not made a step yet.
    zoom: f32,
    keep: Option<Keep>,
    /// Size of a tile and width of the grid in the last frame.
    last: (f32, f32),
    /// Scrolled to in the next frame.
    reveal: Option<Item>,
}

/// A tile that stays under the pointer when the tile size changes.
struct Keep {
    item: Item,
    /// Height of the pointer within the tile, 0 to 1.
    within: f32,
    /// Height of the pointer below the top of the view, in points.
    below_top: f32,
}

impl Grid {
    /// Scrolls to an item in the next frame.
    pub fn reveal(&mut self, item: Item) {
        self.reveal = Some(item);
    }

    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, content: &Content<'_>) {
        let size = cx.state.settings.tile_size;
        let mut area = ScrollArea::vertical()
            .id_salt("samples")
            .auto_shrink(false)
            .content_margin(Margin::ZERO);
        if size != self.last.0
            && let Some(keep) = self.keep.take()
            && let Some(position) = content.items.iter().position(|&item| item == keep.item)
        {
            let tile = GridLayout::new(self.last.1, content.items.len(), size).tile(position);
            let offset = tile.top() + keep.within * tile.height() - keep.below_top;
            area = area.vertical_scroll_offset(offset.max(0.0));
        }
        area.show_viewport(ui, |ui, view| {
            self.last = (size, ui.available_width());
            self.contents(ui, cx, content, view);
        });
    }

    fn contents(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, content: &Content<'_>, view: Rect) {
        let (entry, items) = (content.entry, content.items);
        let layout =
            GridLayout::new(ui.available_width(), items.len(), cx.state.settings.tile_size);
        let height = layout.height().max(view.height());
        let (_, whole) = ui.allocate_space(egui::vec2(ui.available_width(), height));
        let corner = whole.min.to_vec2();
        let id = ui.scope_id().with("grid");
        // Below the tiles: takes the focus, empty clicks, and every drag, for tiles only click.
        let background = ui.interact(whole, id, Sense::click_and_drag());
        let label = format!("{} tiles", items.len());
        background.widget_info(|| WidgetInfo::labeled(Role::Grid, ui.is_enabled(), &label));

        let band = self.rubber_band(ui, cx, &background, &layout, items, corner);
        // Where the cursor is not shown, the first key leads to the first tile.
        let find = |cursor: Item| items.iter().position(|&item| item == cursor);
        let cursor = self.cursor.and_then(find).unwrap_or(0);
        let mut under_pointer = None;
        for position in layout.visible(view.top(), view.bottom()) {
            let item = items[position];
            let square = layout.tile(position).translate(corner);
            let response =
                ui.interact(layout.cell(position).translate(corner), id.with(item), Sense::CLICK);
            let selection = &cx.state.selection;
            let in_band = band.is_some_and(|band| band.intersects(layout.tile(position)));
            let marks = Marks {
                selected: selection.contains(item) || in_band,
                hovered: selection.hovered == Some(item) || response.hovered(),
                focused: background.has_focus() && cursor == position,
                opacity: if in_band { 1.0 } else { selection.opacity(item) },
                step: content.step,
            };
            response.widget_info(|| {
                let name = statistics::name(item);
                WidgetInfo::selected(Role::Button, ui.is_enabled(), marks.selected, name)
            });
            tile::paint(ui, cx, square, entry, item, &marks);
            if response.hovered() && band.is_none() {
                under_pointer = Some((item, square));
            }
            self.clicks(ui, cx, &response, &background, items, item);
            response.context_menu(|ui| menu::show(ui, cx, entry, item));
        }
        if let Some(band) = band {
            let count = layout.touched(band).count();
            tile::paint_rubber_band(ui.painter(), cx.theme, band.translate(corner), count);
        }
        if background.clicked_by(PointerButton::Primary) {
            background.request_focus();
            if !ui.input(|input| input.modifiers.any()) {
                select(cx, Vec::new(), SelectMode::Replace);
            }
        }
        // Keys of a grid below the large view are the large view's.
        if background.has_focus() && cx.state.enlarged.is_none() {
            self.keys(ui, cx, id, &layout, items);
        }
        self.wheel(ui, cx, &layout, items, whole, view);
        self.hover(ui, cx, content, under_pointer);
        if let Some(item) = self.reveal.take()
            && let Some(position) = items.iter().position(|&other| other == item)
        {
            let cell = layout.cell(position).translate(corner).expand(4.0);
            ui.scroll_to_rect(cell, None);
        }
    }

    fn clicks(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        response: &Response,
        background: &Response,
        items: &[Item],
        item: Item,
    ) {
        if response.double_clicked() {
            cx.send(Action::Enlarge(Some(item)));
        } else if response.clicked() {
            let modifiers = ui.input(|input| input.modifiers);
            background.request_focus();
            self.cursor = Some(item);
            if modifiers.shift {
                let mode = if modifiers.command { SelectMode::Add } else { SelectMode::Replace };
                select(cx, range(items, self.anchor, item), mode);
            } else {
                self.anchor = Some(item);
                let mode = if modifiers.command { SelectMode::Toggle } else { SelectMode::Replace };
                select(cx, vec![item], mode);
            }
        }
    }

    /// The rubber band while one is drawn, in points from the grid's corner. Selects once, when
    /// it is let go.
    fn rubber_band(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        background: &Response,
        layout: &GridLayout,
        items: &[Item],
        corner: egui::Vec2,
    ) -> Option<Rect> {
        if background.drag_started_by(PointerButton::Primary) {
            background.request_focus();
            let start = ui.input(|input| input.pointer.press_origin());
            self.band_start = start.map(|start| start - corner);
        }
        let start = self.band_start?;
        let Some(pointer) = background.interact_pointer_pos() else {
            self.band_start = None;
            return None;
        };
        let band = Rect::from_two_pos(start, pointer - corner);
        if background.drag_stopped() {
            self.band_start = None;
            let touched: Vec<Item> = layout.touched(band).map(|position| items[position]).collect();
            self.anchor = touched.first().copied();
            self.cursor = touched.last().copied();
            let mode = ui.input(|input| match input.modifiers {
                m if m.alt => SelectMode::Remove,
                m if m.shift || m.command => SelectMode::Add,
                _ => SelectMode::Replace,
            });
            select(cx, touched, mode);
            return None;
        }
        if !ui.clip_rect().y_range().contains(pointer.y) {
            ui.scroll_to_rect(Rect::from_center_size(pointer, egui::vec2(1.0, 16.0)), None);
        }
        Some(band)
    }

    fn keys(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        id: egui::Id,
        layout: &GridLayout,
        items: &[Item],
    ) {
        let filter = EventFilter {
            horizontal_arrows: true,
            vertical_arrows: true,
            ..EventFilter::default()
        };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(id, filter));
        if items.is_empty() {
            return;
        }
        let modifiers = ui.input(|input| input.modifiers);
        // With any modifiers: they decide what a move does to the selection.
        let pressed = |key| ui.input_mut(|input| input.consume_key(modifiers, key));
        let moves = [
            (Key::ArrowLeft, Move::Left),
            (Key::ArrowRight, Move::Right),
            (Key::ArrowUp, Move::Up),
            (Key::ArrowDown, Move::Down),
            (Key::Home, Move::Home),
            (Key::End, Move::End),
        ];
        let step = moves.into_iter().find(|&(key, _)| pressed(key)).map(|(_, step)| step);
        let toggle = !modifiers.any() && (pressed(Key::Space) || pressed(Key::X));
        let enlarge = !modifiers.any() && pressed(Key::Enter);
        let at = self.cursor.and_then(|cursor| items.iter().position(|&item| item == cursor));
        if let Some(step) = step {
            // The first key only shows where the cursor is.
            let to = items[at.map_or(0, |at| layout.moved(at, step))];
            self.cursor = Some(to);
            self.reveal = Some(to);
            ui.ctx().request_repaint();
            if modifiers.shift {
                select(cx, range(items, self.anchor, to), SelectMode::Replace);
            } else {
                self.anchor = Some(to);
                if !modifiers.command {
                    select(cx, vec![to], SelectMode::Replace);
                }
            }
        }
        let Some(at) = at else { return };
        if toggle {
            self.anchor = Some(items[at]);
            select(cx, vec![items[at]], SelectMode::Toggle);
        }
        if enlarge {
            cx.send(Action::Enlarge(Some(items[at])));
        }
    }

    /// Steps the tile size by Ctrl and wheel, or by a pinch; what is under the pointer stays.
    fn wheel(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        layout: &GridLayout,
        items: &[Item],
        whole: Rect,
        view: Rect,
    ) {
        let factor = ui.input(|input| input.zoom_delta());
        let Some(pointer) = ui.input(|input| input.pointer.hover_pos()) else { return };
        if factor == 1.0 || !ui.rect_contains_pointer(ui.clip_rect()) {
            return;
        }
        self.zoom = if self.zoom > 0.0 { self.zoom * factor } else { factor };
        if (1.0 / ZOOM_STEP..=ZOOM_STEP).contains(&self.zoom) {
            return;
        }
        let size = cx.state.settings.next_tile_size(self.zoom > 1.0);
        self.zoom = 1.0;
        if size == cx.state.settings.tile_size {
            return;
        }
        let place = pointer - whole.min.to_vec2();
        let near = Rect::from_center_size(place, egui::vec2(8.0, 24.0));
        self.keep = layout.touched(near).next().map(|position| Keep {
            item: items[position],
            within: (place.y - layout.tile(position).top()) / layout.tile(position).height(),
            below_top: place.y - view.top(),
        });
        cx.send(Action::SetTileSize(size));
    }

    /// Tells which item is hovered when that changes, and shows the card of one the pointer rests
    /// on. While samples are played, the one on show counts as hovered.
    fn hover(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        content: &Content<'_>,
        under_pointer: Option<(Item, Rect)>,
    ) {
        let hovered = content.playing.or(under_pointer.map(|(item, _)| item));
        self.teller.tell(cx, hovered);
        let now = ui.input(|input| input.time);
        let Some((item, square)) = under_pointer.filter(|_| content.playing.is_none()) else {
            self.hovered = None;
            return;
        };
        let since = match self.hovered {
            Some((last, since)) if last == item => since,
            _ => now,
        };
        self.hovered = Some((item, since));
        let busy = egui::Popup::is_any_open(ui.ctx()) || ui.input(|input| input.pointer.any_down());
        if busy || cx.state.enlarged.is_some() {
            return;
        }
        if now - since >= hover_card::DWELL {
            hover_card::show(ui, cx, square, content.entry, item);
        } else {
            let left = hover_card::DWELL - (now - since);
            ui.ctx().request_repaint_after(std::time::Duration::from_secs_f64(left));
        }
    }
}

fn select(cx: &mut Cx<'_>, items: Vec<Item>, mode: SelectMode) {
    cx.send(Action::Select { items, mode, from: PaneKind::Samples });
}

/// The items from the anchor to another, in the shown order; that one alone when the anchor is
/// not shown.
fn range(items: &[Item], anchor: Option<Item>, to: Item) -> Vec<Item> {
    let find = |item: Item| items.iter().position(|&other| other == item);
    match (anchor.and_then(find), find(to)) {
        (Some(a), Some(b)) => items[a.min(b)..=a.max(b)].to_vec(),
        _ => vec![to],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_follows_the_shown_order_in_both_directions() {
        let items = [Item::Mean, Item::Sample(5), Item::Sample(1), Item::Sample(3)];
        let shown = items[1..].to_vec();
        assert_eq!(range(&items, Some(Item::Sample(5)), Item::Sample(3)), shown);
        assert_eq!(range(&items, Some(Item::Sample(3)), Item::Sample(5)), shown);
    }

    #[test]
    fn a_range_from_a_hidden_anchor_is_its_end_alone() {
        let items = [Item::Sample(1), Item::Sample(2)];
        assert_eq!(range(&items, Some(Item::Sample(9)), Item::Sample(2)), [Item::Sample(2)]);
        assert_eq!(range(&items, None, Item::Sample(2)), [Item::Sample(2)]);
    }
}
