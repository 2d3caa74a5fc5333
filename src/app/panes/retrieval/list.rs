//! The list: rows in view, the pointer and the keyboard on them, brackets, and the line of k.

use std::time::Duration;

use egui::{
    CursorIcon, EventFilter, Key, Modifiers, Popup, Rangef, Rect, Response, Role, Sense, Stroke,
    TextStyle, Ui, WidgetInfo, pos2, vec2,
};

use super::columns::{GUTTER, ROW_HEIGHT};
use super::row::{self, Emphasis, Row};
use super::{Line, Listed, Pointed, RetrievalPane, card, listing, words};
use crate::app::action::Action;
use crate::app::layout::PaneKind;
use crate::app::panes::Cx;
use crate::app::state::selection::{Item, SelectMode};
use crate::app::{icons, widgets};

/// Height of the strip in which the line of k can be taken.
const HANDLE: f32 = 9.0;
/// Room below the last row for the line of k.
const FOOT: f32 = 16.0;

impl RetrievalPane {
    pub(super) fn list(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, listed: &Listed<'_>) {
        if listed.lines.is_empty() {
            self.follow_pointer(ui, cx, None);
            self.nothing_listed(ui, cx, listed);
            return;
        }
        // As high as the longest list, so that the scroll position outlives a look at a sample.
        let most = listed.lines.len().max(listed.retrieved.items.len());
        let most = if listed.view.sample.is_some() { most } else { listed.lines.len() };
        let columns = row::columns(ui, listed);
        let size = vec2(ui.available_width(), most as f32 * ROW_HEIGHT + FOOT);
        let (_, rect) = ui.allocate_space(size);
        let list_id = ui.scope_id().with("list");
        let visible = rect.intersect(ui.clip_rect());
        let list = ui.interact(visible, list_id, Sense::focusable_noninteractive());
        list.widget_info(|| WidgetInfo::labeled(Role::ListBox, true, "Retrieved items"));
        if list.has_focus() {
            let arrows = EventFilter { vertical_arrows: true, ..EventFilter::default() };
            ui.memory_mut(|memory| memory.set_focus_lock_filter(list_id, arrows));
            self.keys(ui, cx, listed, rect);
        }

        let row_rect = |i: usize| {
            let top = rect.top() + i as f32 * ROW_HEIGHT;
            Rect::from_x_y_ranges(rect.x_range(), Rangef::new(top, top + ROW_HEIGHT))
        };
        let first = ((visible.top() - rect.top()) / ROW_HEIGHT).floor().max(0.0) as usize;
        let end = ((visible.bottom() - rect.top()) / ROW_HEIGHT).ceil().max(0.0) as usize;
        let shown = first..end.min(listed.lines.len());
        let mut under_pointer = None;
        for i in shown.clone() {
            let line = &listed.lines[i];
            let response = ui.interact(row_rect(i), list_id.with(line.row), Sense::CLICK);
            let item = Item::Gallery(line.row);
            let selection = &cx.state.selection;
            let selected = selection.contains(item);
            response.widget_info(|| {
                let name = listing::name(listed.retrieved, line.row);
                let name = format!("rank {}: {name}", line.place);
                WidgetInfo::selected(Role::ListBoxOption, true, selected, name)
            });
            let emphasis = Emphasis {
                selected,
                hovered: response.hovered() || selection.hovered == Some(item),
                focused: list.has_focus() && self.cursor == Some(line.row),
            };
            let opacity = selection.opacity(item);
            let row = Row { listed, line, columns: &columns, rect: row_rect(i) };
            row.paint(ui, cx, emphasis, opacity);
            if response.contains_pointer() {
                under_pointer = Some(i);
            }
            self.row_clicks(ui, cx, listed, i, &response, &list);
        }
        // That of the row above the view reaches into it.
        for i in shown.start.saturating_sub(1)..shown.end {
            bracket(ui, cx, listed, i, row_rect(i), list_id);
        }
        self.line_of_k(ui, cx, listed, rect, list_id);
        self.follow_pointer(ui, cx, under_pointer.map(|i| listed.lines[i].row));
        if let Some(i) = under_pointer {
            self.card(ui, cx, listed, &listed.lines[i], row_rect(i).intersect(visible));
        }
    }

    /// Why no line is left, and the way back.
    fn nothing_listed(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, listed: &Listed<'_>) {
        widgets::centred(ui, |ui| {
            let muted = |text: &str| egui::RichText::new(text).color(cx.theme.muted);
            if cx.state.selection.isolated {
                ui.label(muted("None of the selected items is listed here."));
                widgets::command_button(ui, cx, crate::app::command::UiCommand::Isolate);
            } else if listed.view.relevant_only {
                ui.label(muted("None of the listed items belongs to the query."));
                if ui.button(format!("{} Show all items", icons::FUNNEL)).clicked() {
                    self.relevant_only = false;
                }
            } else {
                ui.label(muted("The gallery holds no item that could be ranked."));
            }
        });
    }

    fn row_clicks(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        listed: &Listed<'_>,
        i: usize,
        response: &Response,
        list: &Response,
    ) {
        let row = listed.lines[i].row;
        if response.clicked() {
            list.request_focus();
            self.cursor = Some(row);
            let modifiers = ui.input(|input| input.modifiers);
            let (items, mode) = if modifiers.command {
                (vec![Item::Gallery(row)], SelectMode::Toggle)
            } else if modifiers.shift {
                (self.range_to(listed, i), SelectMode::Add)
            } else {
                (vec![Item::Gallery(row)], SelectMode::Replace)
            };
            if !modifiers.shift {
                self.anchor = Some(row);
            }
            cx.send(Action::Select { items, mode, from: PaneKind::Retrieval });
        }
        if response.double_clicked() {
            use_as_query(cx, listed, row);
        }
        response.context_menu(|ui| row_menu(ui, cx, listed, row));
    }

    /// The items from the anchor to line `i`.
    fn range_to(&self, listed: &Listed<'_>, i: usize) -> Vec<Item> {
        let position = |row| listed.lines.iter().position(|line| line.row == row);
        let from = self.anchor.and_then(position).unwrap_or(i);
        let range = from.min(i)..=from.max(i);
        listed.lines[range].iter().map(|line| Item::Gallery(line.row)).collect()
    }

    fn keys(&mut self, ui: &Ui, cx: &mut Cx<'_>, listed: &Listed<'_>, rect: Rect) {
        let position = self.cursor.and_then(|row| listed.lines.iter().position(|l| l.row == row));
        let last = listed.lines.len() - 1;
        let page = (ui.clip_rect().height() / ROW_HEIGHT).floor().max(1.0) as usize;
        let shift = ui.input(|input| input.modifiers.shift);
        let pressed = |key| ui.input_mut(|input| input.consume_key(Modifiers::NONE, key));
        let here = position.unwrap_or(0);
        let to = if pressed(Key::ArrowDown) {
            Some(position.map_or(0, |at| at + 1))
        } else if pressed(Key::ArrowUp) {
            Some(here.saturating_sub(1))
        } else if pressed(Key::PageDown) {
            Some(here + page)
        } else if pressed(Key::PageUp) {
            Some(here.saturating_sub(page))
        } else if pressed(Key::Home) {
            Some(0)
        } else if pressed(Key::End) {
            Some(last)
        } else {
            None
        };
        if let Some(to) = to.map(|to| to.min(last)) {
            let row = listed.lines[to].row;
            self.cursor = Some(row);
            let (items, mode) = if shift {
                (self.range_to(listed, to), SelectMode::Add)
            } else {
                self.anchor = Some(row);
                (vec![Item::Gallery(row)], SelectMode::Replace)
            };
            cx.send(Action::Select { items, mode, from: PaneKind::Retrieval });
            let top = rect.top() + to as f32 * ROW_HEIGHT;
            let target = Rect::from_x_y_ranges(rect.x_range(), Rangef::new(top, top + ROW_HEIGHT));
            ui.scroll_to_rect(target, None);
        }
        if let Some(at) = position
            && pressed(Key::Enter)
        {
            use_as_query(cx, listed, listed.lines[at].row);
        }
    }

    /// Tells the other panes which item is pointed at, when that changes.
    fn follow_pointer(&mut self, ui: &Ui, cx: &mut Cx<'_>, row: Option<usize>) {
        let before = self.pointed.map(|pointed| pointed.row);
        if before == row {
            return;
        }
        let since = ui.input(|input| input.time);
        self.pointed = row.map(|row| Pointed { row, since });
        let hovered = cx.state.selection.hovered;
        match (before, row) {
            (_, Some(row)) if hovered != Some(Item::Gallery(row)) => {
                cx.send(Action::Hover(Some(Item::Gallery(row))));
            }
            (Some(before), None) if hovered == Some(Item::Gallery(before)) => {
                cx.send(Action::Hover(None));
            }
            _ => {}
        }
    }

    /// The card of the row under the pointer, once the pointer has rested on it.
    fn card(&self, ui: &Ui, cx: &mut Cx<'_>, listed: &Listed<'_>, line: &Line, anchor: Rect) {
        let Some(pointed) = self.pointed else { return };
        let (now, busy) = ui.input(|input| (input.time, input.pointer.any_down()));
        if busy || Popup::is_any_open(ui.ctx()) {
            return;
        }
        let left = pointed.since + card::DWELL - now;
        if left > 0.0 {
            ui.request_repaint_after(Duration::from_secs_f64(left));
        } else {
            card::show(ui, cx, listed, line, anchor);
        }
    }

    /// The line below the first k items; dragging it asks for another k.
    fn line_of_k(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        listed: &Listed<'_>,
        rect: Rect,
        list_id: egui::Id,
    ) {
        let lines = &listed.lines;
        let k = self.k(listed.retrieved);
        let y_of = |above: usize| rect.top() + above as f32 * ROW_HEIGHT;
        // Lines that a filter or a sample leaves out cannot be counted by the mouse.
        let whole = listed.view.sample.is_none()
            && !listed.view.relevant_only
            && lines.len() == listed.retrieved.items.len();
        let mut y = y_of(listing::within(lines, k));
        let strip =
            Rect::from_x_y_ranges(rect.x_range(), Rangef::new(y - HANDLE / 2.0, y + HANDLE / 2.0));
        let mut stroke = Stroke::new(1.0, cx.theme.edge);
        if whole {
            let handle = ui.interact(strip, list_id.with("line of k"), Sense::DRAG);
            handle.widget_info(|| WidgetInfo::slider(true, k as f64, "line below the first k"));
            if handle.hovered() || handle.dragged() {
                stroke = Stroke::new(2.0, cx.theme.accent);
            }
            if handle.dragged()
                && let Some(pointer) = handle.interact_pointer_pos()
            {
                let above = ((pointer.y - rect.top()) / ROW_HEIGHT).round().max(1.0) as usize;
                let above = above.min(lines.len());
                self.new_k = Some(listing::k_below(lines, above));
                y = y_of(above);
                // Near the edge of the view the list follows.
                let near = Rect::from_center_size(pointer, vec2(1.0, ROW_HEIGHT));
                ui.scroll_to_rect(near, None);
            }
            if handle.drag_stopped() {
                self.ask_for_k(ui, cx, listed.retrieved);
            }
            handle
                .on_hover_cursor(CursorIcon::ResizeVertical)
                .on_hover_text("Drag to change k. Nothing is decoded again.");
        }
        let k = self.k(listed.retrieved);
        let painter = ui.painter();
        painter.hline(rect.x_range(), y, stroke);
        let font = TextStyle::Small.resolve(ui.style());
        let label = painter.layout_no_wrap(format!("k = {k}"), font, cx.theme.text);
        let size = label.size() + vec2(8.0, 0.0);
        let chip = Rect::from_min_size(pos2(rect.left(), y - size.y / 2.0), size);
        painter.rect(chip, 3.0, cx.theme.panel, stroke, egui::StrokeKind::Inside);
        painter.galley(chip.min + vec2(4.0, 0.0), label, cx.theme.text);
    }
}

/// Joins line `i` to the next where the draws leave their order open.
fn bracket(ui: &Ui, cx: &Cx<'_>, listed: &Listed<'_>, i: usize, rect: Rect, list_id: egui::Id) {
    let lines = &listed.lines;
    let pair = |i: usize| listing::undecided(listed.retrieved, lines.get(i)?, lines.get(i + 1)?);
    let Some(above) = pair(i) else { return };
    let (top, bottom) = (rect.center().y, rect.center().y + ROW_HEIGHT);
    let x = rect.left() + 5.0;
    let hovered = {
        let strip = Rect::from_x_y_ranges(
            Rangef::new(rect.left(), rect.left() + GUTTER),
            Rangef::new(top, bottom),
        );
        let id = list_id.with(("bracket", lines[i].row));
        let response = ui.interact(strip, id, Sense::hover());
        let hovered = response.hovered();
        let name = |i: usize| listing::name(listed.retrieved, lines[i].row);
        if hovered {
            let draws = listed.retrieved.draws;
            response.on_hover_text(words::undecided(above, draws, name(i), name(i + 1)));
        }
        hovered
    };
    let colour = if hovered { cx.theme.strong } else { cx.theme.muted };
    let stroke = Stroke::new(1.5, colour);
    let painter = ui.painter();
    painter.vline(x, Rangef::new(top, bottom), stroke);
    let tick = Rangef::new(x, x + 5.0);
    if i == 0 || pair(i - 1).is_none() {
        painter.hline(tick, top, stroke);
    }
    if pair(i + 1).is_none() {
        painter.hline(tick, bottom, stroke);
    }
}

fn use_as_query(cx: &mut Cx<'_>, listed: &Listed<'_>, row: usize) {
    let name = listed.retrieved.names.get(&row);
    if let Some(path) = name.and_then(|name| name.image_path.clone()) {
        cx.send(Action::QueryImageFile(path));
    }
}

fn row_menu(ui: &mut Ui, cx: &mut Cx<'_>, listed: &Listed<'_>, row: usize) {
    let name = listed.retrieved.names.get(&row);
    let path = name.and_then(|name| name.image_path.as_ref());
    let caption = name.and_then(|name| name.caption.as_ref());
    let entry = |ui: &mut Ui, icon: &str, text: &str, missing: Option<&str>| {
        let button = egui::Button::new(format!("{icon} {text}"));
        let response = ui.add_enabled(missing.is_none(), button);
        match missing {
            Some(reason) => response.on_disabled_hover_text(reason).clicked(),
            None => response.clicked(),
        }
    };
    let no_path = path.is_none().then_some("The gallery does not say where its pictures are");
    let no_caption = caption.is_none().then_some("The gallery has no caption for this item");
    if entry(ui, icons::MAGNIFYING_GLASS, "Use as query", no_path) {
        use_as_query(cx, listed, row);
    }
    if entry(ui, icons::TEXT_AA, "Query by this caption", no_caption)
        && let Some(caption) = caption
    {
        cx.send(Action::QueryText(caption.clone()));
    }
    ui.separator();
    if entry(ui, icons::COPY, "Copy caption", no_caption)
        && let Some(caption) = caption
    {
        cx.send(Action::CopyText(caption.clone()));
    }
    if entry(ui, icons::COPY, "Copy path", no_path)
        && let Some(path) = path
    {
        cx.send(Action::CopyText(path.display().to_string()));
    }
}
