//! The Map pane: the gallery in two dimensions, with the query, its samples and what they find.
//!
//! In: the gallery's map, the current entry (A) and the one beside it (B). Out: hovered and
//! selected items, queries by an item's image. It must not know how the map was computed.

mod camera;
mod card;
mod index;
mod legend;
mod marks;
mod thumbs;

use std::sync::Arc;

use egui::containers::PopupAnchor;
use egui::{Align, Align2, Color32, Key, Layout, PointerButton, Pos2, Rect, Response, RichText};
use egui::{Sense, Shape as Drawn, Stroke, StrokeKind, Ui, Vec2, pos2, vec2};

use self::camera::Camera;
use self::index::{Index, outline_contains};
use self::legend::Line;
use self::marks::{MOST_DRAWS, Marks};
use super::{Cx, axes};
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::gpu::points::{self, CPU_LIMIT, Layer, Shape, Transform};
use crate::app::icons;
use crate::app::layout::PaneKind;
use crate::app::state::jobs::JobKind;
use crate::app::state::selection::{Item, SelectMode};
use crate::app::textures::ThumbnailState;
use crate::app::widgets;
use crate::session::projection::GalleryMap;

/// Points around the pointer within which something is picked.
const PICK_RADIUS: f32 = 14.0;
/// Seconds between two searches for what is under the pointer, and between two counts.
const THROTTLE: f64 = 0.05;
/// Seconds that the pointer rests before the card opens.
const DWELL: f64 = 0.125;
/// Points that the pointer moves before a lasso gets another corner.
const LASSO_STEP: f32 = 3.0;

/// What a drag with the primary button does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Tool {
    #[default]
    Pan,
    Lasso,
    Box,
}

/// View state of the Map pane.
pub struct MapPane {
    tool: Tool,
    /// `None`: the whole map.
    camera: Option<Camera>,
    shown: Option<Shown>,
    a: Option<Marks>,
    b: Option<Marks>,
    selected: Option<Selected>,
    hovered: Option<Hovered>,
    /// When and where the last search under the pointer was, and with which view.
    tested: Option<(f64, Pos2, Camera)>,
    pinned: Option<Item>,
    /// The selection before the last click, which a double click brings back.
    before_click: Vec<Item>,
    outline: Option<Outline>,
    thumbnails: bool,
    thumbnail_size: f32,
    /// `None`: where there is room for it.
    legend: Option<bool>,
}

impl Default for MapPane {
    fn default() -> Self {
        Self {
            tool: Tool::Pan,
            camera: None,
            shown: None,
            a: None,
            b: None,
            selected: None,
            hovered: None,
            tested: None,
            pinned: None,
            before_click: Vec::new(),
            outline: None,
            thumbnails: false,
            thumbnail_size: 64.0,
            legend: None,
        }
    }
}

/// A map that is ready to be drawn and searched.
struct Shown {
    map: Arc<GalleryMap>,
    positions: Arc<[[f32; 2]]>,
    index: Index,
    bounds: [[f32; 2]; 2],
}

/// Selected gallery rows, and the selection they were taken from.
struct Selected {
    version: u64,
    count: usize,
    positions: Arc<[[f32; 2]]>,
}

#[derive(Clone, Copy)]
struct Hovered {
    item: Item,
    since: f64,
}

/// A lasso or a box while it is drawn.
struct Outline {
    /// Where the drag began, on the map.
    origin: [f32; 2],
    /// Corners on the map; the last follows the pointer.
    corners: Vec<[f32; 2]>,
    /// Items inside, and when they were counted; `stale` once it has grown since.
    count: usize,
    counted: f64,
    stale: bool,
}

impl MapPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let Some(map) = state.map.as_ref().filter(|map| !map.positions.is_empty()) else {
            self.shown = None;
            without_map(ui, cx);
            return;
        };
        self.take_in(cx, map);
        let Some(shown) = self.shown.take() else { return };
        if let Some(job) = state.jobs.latest(JobKind::Analyse) {
            widgets::busy(ui, cx, job);
        }
        self.toolbar(ui, cx);
        let whole = ui.available_rect_before_wrap();
        let foot = if whole.height() >= 90.0 { 18.0 } else { 0.0 };
        let rect = Rect::from_min_max(whole.min, pos2(whole.right(), whole.bottom() - foot));
        if rect.width() >= 40.0 && rect.height() >= 40.0 {
            self.map(ui, cx, &shown, rect);
            if foot > 0.0 {
                let below = Rect::from_min_max(pos2(whole.left(), rect.bottom()), whole.max);
                self.foot(ui, cx, &shown, below);
            }
        }
        ui.advance_cursor_after_rect(whole);
        self.shown = Some(shown);
    }

    /// Works out what changed since the frame before.
    fn take_in(&mut self, cx: &Cx<'_>, map: &Arc<GalleryMap>) {
        let same = self.shown.as_ref().is_some_and(|shown| Arc::ptr_eq(&shown.map, map));
        if !same {
            let Some(bounds) = camera::bounds(&map.positions) else {
                self.shown = None;
                return;
            };
            self.shown = Some(Shown {
                map: Arc::clone(map),
                positions: map.positions.clone().into(),
                index: Index::new(&map.positions),
                bounds,
            });
            (self.camera, self.hovered, self.tested) = (None, None, None);
            (self.pinned, self.outline, self.selected) = (None, None, None);
        }
        let entry = |entry: Option<&crate::app::state::history::Entry>| {
            entry.and_then(|entry| entry.result.clone())
        };
        for (marks, result) in
            [(&mut self.a, entry(cx.state.entry())), (&mut self.b, entry(cx.state.other()))]
        {
            *marks = match (marks.take(), result) {
                (_, None) => None,
                (Some(marks), Some(result)) if marks.is_of(&result, map) => Some(marks),
                (_, Some(result)) => Some(Marks::new(&result, map)),
            };
        }
        let version = cx.state.selection.version();
        if self.selected.as_ref().is_none_or(|selected| selected.version != version) {
            let positions: Arc<[[f32; 2]]> = cx
                .state
                .selection
                .rows()
                .filter_map(|row| map.positions.get(row).copied())
                .collect();
            self.selected = Some(Selected { version, count: positions.len(), positions });
        }
    }

    fn toolbar(&mut self, ui: &mut Ui, cx: &Cx<'_>) {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            for (tool, icon, tip) in [
                (Tool::Pan, icons::CROSSHAIR, "Move and pick: drag to move, click to select"),
                (
                    Tool::Lasso,
                    icons::LASSO,
                    "Lasso (L): draw around items; Shift adds, Alt removes",
                ),
                (Tool::Box, icons::BOUNDING_BOX, "Box: drag over items; Shift adds, Alt removes"),
            ] {
                let button = egui::Button::selectable(self.tool == tool, icon);
                if ui.add(button).on_hover_text(tip).clicked() {
                    self.tool = tool;
                }
            }
            ui.separator();
            let fit = ui.button(icons::ARROWS_OUT);
            if fit.on_hover_text("Show the whole map (double-click)").clicked() {
                self.camera = None;
            }
            let config = egui::containers::menu::MenuConfig::new()
                .close_behavior(egui::PopupCloseBehavior::CloseOnClickOutside);
            let menu = egui::containers::menu::MenuButton::new(icons::IMAGE).config(config);
            let (response, _) = menu.ui(ui, |ui| {
                ui.set_max_width(220.0);
                ui.checkbox(&mut self.thumbnails, "Pictures on the map").on_hover_text(
                    "Pictures of the items found, the best first, as far as there is room",
                );
                let size = egui::Slider::new(&mut self.thumbnail_size, 48.0..=96.0)
                    .suffix(" pt")
                    .fixed_decimals(0);
                ui.add_enabled(self.thumbnails, size).on_hover_text("Size of the pictures");
            });
            response.on_hover_text("Pictures on the map");
            let legend = self.legend.unwrap_or(true);
            let button = egui::Button::selectable(legend, icons::LIST_DASHES);
            if ui.add(button).on_hover_text("Legend").clicked() {
                self.legend = Some(!legend);
            }
            let remark = self.a.as_ref().and_then(|marks| marks.remark.as_ref());
            if let Some(remark) = remark {
                let text = format!("{} {remark}", icons::INFO);
                let text = RichText::new(text).small().color(cx.theme.warning);
                ui.add(egui::Label::new(text).truncate()).on_hover_text(remark);
            }
        });
    }

    fn map(&mut self, ui: &Ui, cx: &mut Cx<'_>, shown: &Shown, rect: Rect) {
        let response = ui.interact(rect, ui.scope_id().with("map"), Sense::click_and_drag());
        response.widget_info(|| {
            let label = format!("Map of {} gallery items", shown.positions.len());
            egui::WidgetInfo::labeled(egui::Role::Canvas, true, label)
        });
        let whole = Camera::fit(shown.bounds, rect.size());
        let camera = self.navigate(ui, &response, rect, whole);
        self.keys(ui, &response);
        self.draw_outline(ui, cx, shown, &response, rect, camera);
        self.hit_test(ui, cx, shown, &response, rect, camera);
        self.click(ui, cx, &response);
        let transform = camera.transform(rect);

        let painter = ui.painter_at(rect.intersect(ui.clip_rect()));
        painter.rect_filled(rect, 0.0, cx.theme.panel);
        marks::axes_of_map(&painter, cx, &camera, rect);
        let zoom = (camera.scale / whole.scale) as f32;
        self.clouds(ui, cx, shown, rect, transform, zoom);
        let of_row = |row: usize| shown.positions.get(row).map(|&at| transform.apply(at));
        if let Some(a) = &self.a {
            if self.thumbnails {
                self.thumbnails(&painter, cx, a, rect, &of_row);
            }
            marks::retrieved(&painter, cx, a, &of_row);
        }
        let comparing = self.b.is_some();
        if let Some(b) = &self.b {
            marks::result(&painter, cx, b, transform, true, Some("B"));
        }
        if let Some(a) = &self.a {
            marks::result(&painter, cx, a, transform, false, comparing.then_some("A"));
        }
        let target = self.hovered.map(|hovered| hovered.item).or(cx.state.selection.hovered);
        if let Some(at) = target.and_then(|item| self.place(shown, transform, item)) {
            marks::ring(&painter, cx, at);
        }
        self.paint_outline(&painter, cx, transform);
        let edge = if response.has_focus() {
            Stroke::new(2.0, cx.theme.accent)
        } else {
            Stroke::new(1.0, cx.theme.hairline)
        };
        painter.rect_stroke(rect, 0.0, edge, StrokeKind::Inside);
        let roomy = rect.width() >= 340.0 && rect.height() >= 240.0;
        if self.legend.unwrap_or(roomy) {
            legend::show(ui, cx, rect, &self.legend_lines(cx, shown));
        }
        self.cards(ui, cx, shown, rect, transform);
    }

    /// Wheel and drags; gives the view.
    fn navigate(&mut self, ui: &Ui, response: &Response, rect: Rect, whole: Camera) -> Camera {
        let mut camera = self.camera.unwrap_or(whole);
        if let Some(pointer) = response.hover_pos() {
            let (scroll, zoom) = ui.input(|i| (i.smooth_scroll_delta(), i.zoom_delta()));
            let factor = f64::from(zoom) * (f64::from(scroll.y) / 200.0).exp();
            if factor != 1.0 {
                camera = camera.zoomed(rect, pointer, factor, whole.scale);
            }
        }
        let pans = response.dragged_by(PointerButton::Middle)
            || response.dragged_by(PointerButton::Secondary)
            || (self.tool == Tool::Pan && response.dragged_by(PointerButton::Primary));
        if pans {
            camera = camera.dragged(response.drag_delta());
            ui.set_cursor_icon(egui::CursorIcon::Grabbing);
        } else if self.tool != Tool::Pan && response.hovered() {
            ui.set_cursor_icon(egui::CursorIcon::Crosshair);
        }
        let fits =
            response.double_clicked_by(PointerButton::Primary) && self.hovered_file().is_none();
        if fits {
            self.camera = None;
            return whole;
        }
        if camera != self.camera.unwrap_or(whole) {
            self.camera = Some(camera);
        }
        camera
    }

    fn keys(&mut self, ui: &Ui, response: &Response) {
        let listens = response.contains_pointer() || response.has_focus();
        if !listens || ui.text_edit_focused() {
            return;
        }
        let none = egui::Modifiers::NONE;
        if ui.input_mut(|i| i.consume_key(none, Key::L)) {
            self.tool = if self.tool == Tool::Lasso { Tool::Pan } else { Tool::Lasso };
        }
        if ui.input_mut(|i| i.consume_key(none, Key::P)) {
            let hovered = self.hovered.map(|hovered| hovered.item);
            self.pinned = if self.pinned.is_some() { None } else { hovered };
        }
    }

    /// Lets a lasso or a box grow, and selects what it holds when it is closed.
    fn draw_outline(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        shown: &Shown,
        response: &Response,
        rect: Rect,
        camera: Camera,
    ) {
        if self.tool == Tool::Pan {
            self.outline = None;
            return;
        }
        let at = |pointer: Pos2| camera.data_at(rect, pointer).map(|v| v as f32);
        let now = ui.input(|i| i.time);
        if response.drag_started_by(PointerButton::Primary)
            && let Some(origin) = ui.input(|i| i.pointer.press_origin())
        {
            let origin = at(origin);
            self.outline = Some(Outline {
                origin,
                corners: vec![origin],
                count: 0,
                counted: 0.0,
                stale: false,
            });
        }
        let Some(outline) = &mut self.outline else { return };
        if let Some(pointer) = ui.input(|i| i.pointer.latest_pos())
            && (response.dragged() || response.drag_stopped())
        {
            let last = outline.corners.last().map_or(outline.origin, |&last| last);
            if camera.transform(rect).apply(last).distance(pointer) >= LASSO_STEP {
                let corner = at(pointer);
                if self.tool == Tool::Box {
                    let [x, y] = outline.origin;
                    outline.corners = vec![[x, corner[1]], [x, y], [corner[0], y], corner];
                } else {
                    outline.corners.push(corner);
                }
                outline.stale = true;
            }
        }
        let corners = std::mem::take(&mut outline.corners);
        if response.drag_stopped() {
            self.outline = None;
            if corners.len() >= 3 {
                let items = self.inside(shown, &corners);
                cx.send(Action::Select {
                    items,
                    mode: SelectMode::of_keys(ui),
                    from: PaneKind::Map,
                });
            }
            return;
        }
        let left = THROTTLE - (now - outline.counted);
        let count = (outline.stale && left <= 0.0).then(|| self.inside(shown, &corners).len());
        let Some(outline) = &mut self.outline else { return };
        outline.corners = corners;
        if let Some(count) = count {
            (outline.count, outline.counted, outline.stale) = (count, now, false);
        } else if outline.stale {
            ui.request_repaint_after(std::time::Duration::from_secs_f64(left.max(0.0)));
        }
    }

    /// Gallery items and samples inside of an outline.
    fn inside(&self, shown: &Shown, corners: &[[f32; 2]]) -> Vec<Item> {
        let rows = shown.index.inside(&shown.positions, corners);
        let mut items: Vec<Item> = rows.into_iter().map(Item::Gallery).collect();
        if let Some(a) = &self.a {
            let within = a.targets().filter(|(_, at)| outline_contains(corners, *at));
            items.extend(within.map(|(item, _)| item));
        }
        items
    }

    fn paint_outline(&self, painter: &egui::Painter, cx: &Cx<'_>, transform: Transform) {
        let Some(outline) = &self.outline else { return };
        let mut line: Vec<Pos2> =
            outline.corners.iter().map(|&corner| transform.apply(corner)).collect();
        let (Some(&first), Some(&last)) = (line.first(), line.last()) else { return };
        let stroke = Stroke::new(1.5, cx.theme.accent);
        if self.tool == Tool::Box {
            line.push(first);
            painter.line(line, stroke);
        } else {
            painter.line(line, stroke);
            painter.extend(Drawn::dashed_line(&[last, first], stroke, 4.0, 3.0));
        }
        let text = format!("{} inside", axes::count(outline.count));
        let at = last + vec2(10.0, 10.0);
        axes::tag(painter, at, Align2::LEFT_TOP, &text, cx.theme.strong, cx.theme.raised);
    }

    /// Finds what is under the pointer, at most once per [`THROTTLE`].
    fn hit_test(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        shown: &Shown,
        response: &Response,
        rect: Rect,
        camera: Camera,
    ) {
        let now = ui.input(|i| i.time);
        let busy = self.outline.is_some() || response.dragged();
        let found = match response.hover_pos().filter(|_| !busy) {
            None => {
                self.tested = None;
                None
            }
            Some(pointer) => {
                if let Some((time, at, view)) = self.tested {
                    if at == pointer && view == camera {
                        return;
                    }
                    let left = THROTTLE - (now - time);
                    // A press acts on what is under it now.
                    if left > 0.0 && !ui.input(|i| i.pointer.any_pressed()) {
                        ui.request_repaint_after(std::time::Duration::from_secs_f64(left));
                        return;
                    }
                }
                self.tested = Some((now, pointer, camera));
                self.under(cx, shown, rect, camera, pointer)
            }
        };
        if found != self.hovered.map(|hovered| hovered.item) {
            self.hovered = found.map(|item| Hovered { item, since: now });
            cx.send(Action::Hover(found));
        }
    }

    fn under(
        &self,
        cx: &Cx<'_>,
        shown: &Shown,
        rect: Rect,
        camera: Camera,
        pointer: Pos2,
    ) -> Option<Item> {
        let transform = camera.transform(rect);
        let selection = &cx.state.selection;
        let mut best: Option<(Item, f32)> = None;
        let mut consider = |item: Item, distance: f32| {
            if distance <= PICK_RADIUS && best.is_none_or(|(_, least)| distance < least) {
                best = Some((item, distance));
            }
        };
        let at = camera.data_at(rect, pointer).map(|v| v as f32);
        let radius = (f64::from(PICK_RADIUS) / camera.scale) as f32;
        if let Some((row, distance)) = shown.index.nearest(&shown.positions, at, radius) {
            let item = Item::Gallery(row);
            let rows_chosen = self.selected.as_ref().is_some_and(|selected| selected.count > 0);
            let hidden = selection.isolated && rows_chosen && !selection.contains(item);
            if !hidden {
                consider(item, distance * camera.scale as f32);
            }
        }
        if let Some(a) = &self.a {
            for (item, place) in a.targets() {
                // Marks lie on top and are larger than gallery points.
                consider(item, (transform.apply(place).distance(pointer) - 4.0).max(0.0));
            }
        }
        best.map(|(item, _)| item)
    }

    /// The image of the gallery item under the pointer, where it is known.
    fn hovered_file(&self) -> Option<std::path::PathBuf> {
        match self.hovered?.item {
            Item::Gallery(row) => card::name(self.a.as_ref(), row)?.image_path.clone(),
            _ => None,
        }
    }

    fn click(&mut self, ui: &Ui, cx: &mut Cx<'_>, response: &Response) {
        let item = self.hovered.map(|hovered| hovered.item);
        if response.double_clicked_by(PointerButton::Primary) {
            let items = std::mem::take(&mut self.before_click);
            cx.send(Action::Select { items, mode: SelectMode::Replace, from: PaneKind::Map });
            if let Some(path) = self.hovered_file() {
                cx.send(Action::QueryImageFile(path));
            }
        } else if response.clicked_by(PointerButton::Primary) {
            response.request_focus();
            let is_dimension = |item: &Item| matches!(item, Item::Dimension(_));
            self.before_click =
                cx.state.selection.iter().filter(|item| !is_dimension(item)).collect();
            let mode = SelectMode::of_keys(ui);
            match item {
                Some(item) => {
                    cx.send(Action::Select { items: vec![item], mode, from: PaneKind::Map });
                }
                None if mode == SelectMode::Replace && !self.before_click.is_empty() => {
                    cx.send(Action::Select { items: Vec::new(), mode, from: PaneKind::Map });
                }
                None => {}
            }
        }
    }

    /// Gallery and draws, by the device where there is one.
    fn clouds(
        &self,
        ui: &Ui,
        cx: &Cx<'_>,
        shown: &Shown,
        rect: Rect,
        transform: Transform,
        zoom: f32,
    ) {
        let theme = cx.theme;
        let count = shown.positions.len();
        let (radius, opacity) = dots(count, rect.area() * zoom * zoom);
        let disc = |points: &Arc<[[f32; 2]]>, radius: f32, colour: Color32| Layer {
            points: Arc::clone(points),
            radius,
            colour,
            shape: Shape::Disc,
            outline: None,
        };
        let chosen = self.selected.as_ref().filter(|selected| selected.count > 0);
        let mut layers = Vec::new();
        if chosen.is_none() || !cx.state.selection.isolated {
            let faded = if chosen.is_some() { 0.35 } else { 1.0 };
            layers.push(disc(
                &shown.positions,
                radius,
                theme.gallery.gamma_multiply(opacity * faded),
            ));
        }
        if let Some(selected) = chosen {
            let (radius, opacity) = dots(selected.count, rect.area() * zoom * zoom);
            let colour = theme.accent.gamma_multiply(opacity.max(0.3));
            layers.push(disc(&selected.positions, radius + 0.5, colour));
        }
        let some_samples_chosen = cx.state.selection.samples().next().is_some();
        for (marks, share) in [(&self.b, 0.5), (&self.a, 1.0)] {
            if let Some(places) = marks.as_ref().and_then(|marks| marks.places.as_ref()) {
                let faded = if some_samples_chosen { 0.35 } else { 1.0 };
                let colour = theme.samples.gamma_multiply(0.45 * share * faded);
                layers.push(disc(&places.draws, 1.0, colour));
            }
        }
        let place = ui.scope_id().with("clouds");
        points::paint(ui.painter(), cx.gpu, place, rect, transform, layers);
    }

    /// Pictures of the items found, where there is room.
    fn thumbnails(
        &self,
        painter: &egui::Painter,
        cx: &mut Cx<'_>,
        marks: &Marks,
        rect: Rect,
        of_row: &dyn Fn(usize) -> Option<Pos2>,
    ) {
        let Some(retrieval) = &marks.result.retrieval else { return };
        // By rank first, then whatever else is known.
        let ranked = retrieval.items.iter().map(|item| item.row);
        let others = retrieval.names.keys().copied();
        let mut seen = std::collections::HashSet::new();
        let candidates: Vec<(usize, Pos2)> = ranked
            .chain(others)
            .filter(|&row| seen.insert(row))
            .filter(|&row| card::name(Some(marks), row).is_some_and(|n| n.image_path.is_some()))
            .filter_map(|row| Some((row, of_row(row)?)))
            .collect();
        let places = thumbs::place(candidates.iter().map(|c| c.1), self.thumbnail_size, rect);
        for (candidate, square) in places {
            let row = candidates[candidate].0;
            let path = card::name(Some(marks), row).and_then(|name| name.image_path.as_ref());
            let Some(path) = path else { continue };
            let ThumbnailState::Ready(texture) = cx.textures.thumbnail(path) else { continue };
            let size = texture.size_vec2();
            let scale = square.width() / size.x.max(size.y).max(1.0);
            let place = Rect::from_center_size(square.center(), size * scale);
            let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            let item = Item::Gallery(row);
            let selection = &cx.state.selection;
            let rows_chosen = self.selected.as_ref().is_some_and(|selected| selected.count > 0);
            let lit = !rows_chosen || selection.contains(item) || selection.hovered == Some(item);
            let tint = if lit { Color32::WHITE } else { Color32::WHITE.gamma_multiply(0.35) };
            painter.image(texture.id(), place, whole, tint);
            let edge = if selection.contains(item) {
                Stroke::new(2.0, cx.theme.accent)
            } else {
                Stroke::new(1.0, cx.theme.edge)
            };
            painter.rect_stroke(place, 0.0, edge, StrokeKind::Outside);
        }
    }

    /// Where an item is on screen.
    fn place(&self, shown: &Shown, transform: Transform, item: Item) -> Option<Pos2> {
        let at = match item {
            Item::Gallery(row) => shown.positions.get(row).copied(),
            _ => self.a.as_ref()?.targets().find(|(target, _)| *target == item).map(|(_, at)| at),
        };
        at.map(|at| transform.apply(at))
    }

    /// The pinned card and the one that follows the pointer.
    fn cards(&self, ui: &Ui, cx: &mut Cx<'_>, shown: &Shown, rect: Rect, transform: Transform) {
        let anchor = |item: Item| {
            let at = self.place(shown, transform, item)?;
            let around = Rect::from_center_size(at, Vec2::splat(20.0));
            rect.expand(10.0).contains(at).then_some(PopupAnchor::ParentRect(around))
        };
        if let Some(item) = self.pinned
            && let Some(anchor) = anchor(item)
        {
            let id = ui.scope_id().with("pinned card");
            card::show(ui, cx, self.a.as_ref(), item, id, anchor, true);
        }
        let Some(hovered) = self.hovered.filter(|hovered| Some(hovered.item) != self.pinned) else {
            return;
        };
        if ui.input(|i| i.pointer.any_down()) {
            return;
        }
        let left = DWELL - (ui.input(|i| i.time) - hovered.since);
        if left > 0.0 {
            ui.request_repaint_after(std::time::Duration::from_secs_f64(left));
        } else if let Some(anchor) = anchor(hovered.item) {
            let id = ui.scope_id().with("card");
            card::show(ui, cx, self.a.as_ref(), hovered.item, id, anchor, false);
        }
    }

    fn legend_lines(&self, cx: &Cx<'_>, shown: &Shown) -> Vec<Line> {
        let theme = cx.theme;
        let total = shown.positions.len();
        let gallery = if cx.gpu.is_none() && total > CPU_LIMIT {
            format!("gallery, {} of {} shown", axes::count(CPU_LIMIT), axes::count(total))
        } else {
            format!("gallery, {} items", axes::count(total))
        };
        let mut lines = vec![Line::new(Shape::Disc, 2.0, theme.gallery, gallery)];
        if let Some(a) = &self.a
            && let Some(places) = &a.places
        {
            if places.query.is_some() {
                lines.push(Line::new(Shape::Diamond, 5.5, theme.query, "query").outlined(1.5));
            }
            lines.push(Line::new(Shape::Diamond, 4.5, theme.query, "mean (not a typical draw)"));
            if !places.samples.is_empty() {
                let text = format!("samples, {}", places.samples.len());
                lines.push(Line::new(Shape::Disc, 3.0, theme.samples, text));
            }
            let all = a.result.draws.values.len();
            let text = if all > MOST_DRAWS {
                format!("first {} of {} draws", axes::count(MOST_DRAWS), axes::count(all))
            } else {
                format!("all {} draws", axes::count(all))
            };
            lines.push(Line::new(Shape::Disc, 1.2, theme.samples, text));
            if let Some(retrieval) = a.result.retrieval.as_ref().filter(|_| places.same_gallery) {
                let text = format!("first {} by the mean", retrieval.top_k);
                lines.push(Line::new(Shape::Disc, 5.5, theme.strong, text).outlined(1.0));
                if retrieval.items.iter().any(|item| item.relevant == Some(true)) {
                    let text = "belongs to the query";
                    lines.push(Line::new(Shape::Square, 3.5, theme.relevant, text));
                }
            }
        }
        if self.b.as_ref().is_some_and(|b| b.places.is_some()) {
            lines.push(Line::new(Shape::Diamond, 4.5, theme.query, "mean of B").outlined(1.5));
            lines.push(Line::new(Shape::Disc, 3.0, theme.samples, "samples of B").outlined(1.5));
        }
        if self.selected.as_ref().is_some_and(|selected| selected.count > 0) {
            lines.push(Line::new(Shape::Disc, 2.5, theme.accent, "selected"));
        }
        lines
    }

    /// What the axes are, what they are not, and how much is selected.
    fn foot(&self, ui: &mut Ui, cx: &Cx<'_>, shown: &Shown, rect: Rect) {
        let [first, second] = shown.map.explained.map(|share| 100.0 * share);
        let explained = format!("PCA: {first:.0} % + {second:.0} % of the gallery's variance");
        let note = format!(
            "{explained}. Axes: components of unit-length embeddings. 2-D distances are not \
             embedding distances"
        );
        let child =
            egui::UiBuilder::new().max_rect(rect).layout(Layout::right_to_left(Align::Center));
        ui.scope_builder(child, |ui| {
            let small = |text: String| RichText::new(text).small().color(cx.theme.muted);
            if let Some(selected) = self.selected.as_ref().filter(|selected| selected.count > 0) {
                let text = format!(
                    "{} of {} selected",
                    axes::count(selected.count),
                    axes::count(shown.positions.len())
                );
                ui.add(egui::Label::new(small(text).color(cx.theme.text)).truncate());
            }
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                ui.add(egui::Label::new(small(note.clone())).truncate())
                    .on_hover_text(format!("{note}: point at an item for its true cosine."));
            });
        });
    }
}

fn without_map(ui: &mut Ui, cx: &mut Cx<'_>) {
    let state = cx.state;
    if let Some(job) = state.jobs.latest(JobKind::Analyse) {
        widgets::busy(ui, cx, job);
    } else if let Some(failure) = &state.query_failure {
        widgets::failure(ui, cx, "The query could not be read", failure);
    } else if state.entry().is_some_and(|entry| entry.recipe.models.gallery.is_none()) {
        let prompt = state.entry().and_then(|entry| entry.recipe.models.bridge.note()).is_some();
        let sentence = if prompt {
            "Prompt embeddings have no place on the map of a gallery: they are not of the space \
             that texts and images share."
        } else {
            "This query was run without a gallery, so there is nothing to map. Choose one in Query."
        };
        widgets::empty(ui, cx, icons::CHART_SCATTER, sentence, Some(UiCommand::ShowQuery));
    } else if state.entry().is_some() {
        let sentence = "The gallery is mapped when it is searched. Run the query to see it.";
        widgets::empty(ui, cx, icons::CHART_SCATTER, sentence, Some(UiCommand::Run));
    } else {
        let sentence = "Here stands the gallery, with the query and its samples among its items.";
        widgets::empty(ui, cx, icons::CHART_SCATTER, sentence, Some(UiCommand::FocusQuery));
    }
}

/// Radius in points and opacity of gallery dots: few are large and solid, many are small and
/// faint, so that dense places differ instead of all being full. `area` is what the whole map
/// takes on screen, in points².
fn dots(count: usize, area: f32) -> (f32, f32) {
    let each = area / count.max(1) as f32;
    let radius = (each.sqrt() * 0.12).clamp(0.75, 1.5);
    let overlap = std::f32::consts::PI * radius * radius / each.max(1e-6);
    (radius, (0.95 / (1.0 + overlap)).max(0.07))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_million_dots_are_small_and_faint_and_grow_solid_when_zoomed_in() {
        let area = 400.0 * 400.0;
        let (few_radius, few_opacity) = dots(741, area);
        let (many_radius, many_opacity) = dots(1_000_000, area);
        let (near_radius, near_opacity) = dots(1_000_000, area * 1e4);
        assert!(few_radius > many_radius && few_opacity > 0.8);
        assert!(many_opacity < 0.15 && many_radius >= 0.75);
        assert!(near_opacity > 0.8 && near_radius > many_radius);
    }
}
