//! The Map pane: gallery, query, mean and draws in the plane of the gallery's first two principal
//! components.

mod pick;
mod view;

use std::sync::Arc;
use std::time::{Duration, Instant};

use eframe::egui_wgpu::Callback;
use egui::{Color32, FontId, Pos2, Rect, RichText, Sense, Stroke, Ui, pos2, vec2};

use super::Cx;
use super::samples::statistics::{lines, name};
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::gpu::PointCloud;
use crate::app::icons;
use crate::app::layout::PaneKind;
use crate::app::state::jobs::JobKind;
use crate::app::state::selection::{Item, SelectMode};
use crate::app::textures::ThumbnailState;
use crate::app::widgets;
use crate::session::projection::GalleryMap;
use crate::session::result::{ItemName, QueryResult};
use pick::PointGrid;
use view::View;

/// Keys of the clouds on the device.
const GALLERY_KEY: u64 = 1;
const DRAWS_KEY: u64 = 2;
/// A point can be picked from this far, in points on screen.
const PICK_RADIUS: f32 = 14.0;
/// Time between two searches for what is under the pointer.
const PICK_PAUSE: Duration = Duration::from_millis(50);
/// Pictures shown on the map at most.
const MOST_PICTURES: usize = 60;
/// Points drawn where there is no device to draw with.
const FALLBACK_POINTS: usize = 20_000;

/// How dragging selects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Tool {
    #[default]
    Pan,
    Lasso,
    Box,
}

/// View state of the Map pane.
#[derive(Default)]
pub struct MapPane {
    view: View,
    tool: Tool,
    pictures: bool,
    picture_size: f32,
    /// The map that the grid, the points and the view were made for.
    prepared: Option<Prepared>,
    draws: Option<ProjectedDraws>,
    outline: Vec<Pos2>,
    picked_at: Option<Instant>,
}

/// A result and the positions of its draws.
type ProjectedDraws = (Arc<QueryResult>, Arc<Vec<[f32; 2]>>);

struct Prepared {
    map: Arc<GalleryMap>,
    points: Arc<Vec<[f32; 2]>>,
    grid: PointGrid,
}

impl MapPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let result = state.entry().and_then(|entry| entry.result.as_ref());
        let (Some(map), Some(result)) = (&state.map, result) else {
            match state.jobs.latest(JobKind::Analyse).or(state.jobs.latest(JobKind::Warm)) {
                Some(job) => widgets::centred(ui, |ui| widgets::busy(ui, cx, job)),
                None => widgets::empty(
                    ui,
                    cx,
                    icons::CHART_SCATTER,
                    "Run a query to see it among the gallery.",
                    Some(UiCommand::FocusQuery),
                ),
            }
            return;
        };
        if result.query_embedding.values.len() != map.centre.len() {
            let text = "This query's embeddings have other dimensions than the gallery's.";
            widgets::empty(ui, cx, icons::CHART_SCATTER, text, None);
            return;
        }
        self.prepare(map, result);
        self.toolbar(ui, cx);
        let size = vec2(ui.available_width(), (ui.available_height() - 34.0).max(80.0));
        let (plot, response) = ui.allocate_exact_size(size, Sense::click_and_drag());
        response.widget_info(|| {
            egui::WidgetInfo::labeled(egui::Role::Canvas, true, "Map of the gallery")
        });
        self.navigate(ui, &response, plot);
        ui.painter().rect_filled(plot, 2.0, cx.theme.window);
        self.clouds(ui, cx, plot);
        let marks = Marks::new(map, result);
        self.pictures(ui, cx, result, map, plot);
        self.marks(ui, cx, result, map, &marks, plot);
        self.select(ui, cx, &response, plot);
        self.hover(ui, cx, result, map, &marks, plot, &response);
        legend(ui, cx, plot);
        footer(ui, cx, map);
    }

    fn prepare(&mut self, map: &Arc<GalleryMap>, result: &Arc<QueryResult>) {
        if self.prepared.as_ref().is_none_or(|prepared| !Arc::ptr_eq(&prepared.map, map)) {
            let points = Arc::new(map.positions.clone());
            self.view = View::fitted(&points);
            let grid = PointGrid::new(&points);
            self.prepared = Some(Prepared { map: Arc::clone(map), points, grid });
            self.draws = None;
        }
        if self.draws.as_ref().is_none_or(|(of, _)| !Arc::ptr_eq(of, result)) {
            let points = result.draws.values.iter().map(|values| map.project(values)).collect();
            self.draws = Some((Arc::clone(result), Arc::new(points)));
        }
    }

    fn toolbar(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        ui.horizontal_wrapped(|ui| {
            for (tool, icon, tip) in [
                (Tool::Pan, icons::ARROWS_OUT, "Drag to move, wheel to zoom, double-click to fit"),
                (
                    Tool::Lasso,
                    icons::LASSO,
                    "Drag around items to select them (L); Shift adds, Alt removes",
                ),
                (
                    Tool::Box,
                    icons::BOUNDING_BOX,
                    "Drag a box to select items; Shift adds, Alt removes",
                ),
            ] {
                let button = egui::Button::selectable(self.tool == tool, icon);
                if ui.add(button).on_hover_text(tip).clicked() {
                    self.tool = tool;
                }
            }
            if !ui.ctx().text_edit_focused()
                && ui.input(|input| input.key_pressed(egui::Key::L) && input.modifiers.is_none())
            {
                self.tool = if self.tool == Tool::Lasso { Tool::Pan } else { Tool::Lasso };
            }
            if ui.button("Fit").on_hover_text("Show the whole gallery").clicked()
                && let Some(prepared) = &self.prepared
            {
                self.view = View::fitted(&prepared.points);
            }
            let tip = "Pictures of items that are known here, as many as fit without overlap";
            let toggle =
                egui::Button::selectable(self.pictures, format!("{} Pictures", icons::IMAGE));
            if ui.add(toggle).on_hover_text(tip).clicked() {
                self.pictures = !self.pictures;
                self.picture_size = self.picture_size.max(48.0);
            }
            if self.pictures {
                ui.spacing_mut().slider_width = 60.0;
                let slider =
                    egui::Slider::new(&mut self.picture_size, 32.0..=96.0).show_value(false);
                ui.add(slider).on_hover_text("Size of the pictures");
            }
            let selected = cx.state.selection.rows().count();
            if selected > 0
                && let Some(prepared) = &self.prepared
            {
                let text = format!("{selected} of {} selected", prepared.points.len());
                ui.label(RichText::new(text).small().color(cx.theme.accent));
            }
        });
    }

    fn navigate(&mut self, ui: &Ui, response: &egui::Response, plot: Rect) {
        if response.double_clicked()
            && let Some(prepared) = &self.prepared
        {
            self.view = View::fitted(&prepared.points);
        }
        let pans = response.dragged_by(egui::PointerButton::Secondary)
            || response.dragged_by(egui::PointerButton::Middle)
            || (self.tool == Tool::Pan && response.dragged());
        if pans {
            self.view.pan(response.drag_delta(), plot);
        }
        if let Some(at) = response.hover_pos() {
            let (scroll, zoom) =
                ui.input(|input| (input.smooth_scroll_delta().y, input.zoom_delta()));
            let factor = zoom * (scroll / 200.0).exp();
            if factor != 1.0 {
                self.view.zoom(factor, at, plot);
            }
        }
    }

    fn clouds(&self, ui: &Ui, cx: &Cx<'_>, plot: Rect) {
        let Some(prepared) = &self.prepared else { return };
        let count = prepared.points.len();
        let faded = cx.state.selection.rows().next().is_some();
        let hidden = faded && cx.state.selection.isolated;
        // The more points, the less each may cover.
        let alpha =
            (60.0 / (count as f32).sqrt()).clamp(0.04, 0.9) * if faded { 0.35 } else { 1.0 };
        let gallery = cx.theme.gallery.gamma_multiply(alpha.max(0.1));
        let radius = if count < 5000 { 1.8 } else { 1.1 };
        if !hidden {
            self.cloud(ui, cx, plot, GALLERY_KEY, &prepared.points, radius, gallery);
        }
        if let Some((_, draws)) = &self.draws {
            let colour = cx.theme.samples.gamma_multiply(0.25);
            self.cloud(ui, cx, plot, DRAWS_KEY, draws, 1.0, colour);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of them say what one cloud looks like")]
    fn cloud(
        &self,
        ui: &Ui,
        cx: &Cx<'_>,
        plot: Rect,
        key: u64,
        points: &Arc<Vec<[f32; 2]>>,
        radius: f32,
        colour: Color32,
    ) {
        if cx.gpu.is_none() {
            let painter = ui.painter().with_clip_rect(plot);
            let step = points.len().div_ceil(FALLBACK_POINTS).max(1);
            for &point in points.iter().step_by(step) {
                painter.circle_filled(self.view.screen(point, plot), radius, colour);
            }
            return;
        }
        let scale = ui.ctx().pixels_per_point();
        let per_unit = self.view.points_per_unit(plot) * scale;
        let cloud = PointCloud {
            key,
            points: Arc::clone(points),
            scale: [per_unit, per_unit],
            centre: self.view.centre,
            pixels: [plot.width() * scale, plot.height() * scale],
            radius: radius * scale,
            colour,
        };
        ui.painter().with_clip_rect(plot).add(Callback::new_paint_callback(plot, cloud));
    }

    /// Pictures of known items, best first, where there is room.
    fn pictures(
        &self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        result: &QueryResult,
        map: &GalleryMap,
        plot: Rect,
    ) {
        let Some(retrieval) = result.retrieval.as_ref().filter(|_| self.pictures) else { return };
        let mut taken: Vec<Rect> = Vec::new();
        let painter = ui.painter().with_clip_rect(plot);
        let best = retrieval.items.iter().map(|item| item.row);
        let rows: Vec<usize> = best.chain(retrieval.names.keys().copied()).collect();
        for row in rows {
            let (Some(name), Some(&position)) = (retrieval.names.get(&row), map.positions.get(row))
            else {
                continue;
            };
            let at = self.view.screen(position, plot);
            let place = Rect::from_center_size(at, vec2(self.picture_size, self.picture_size));
            if !plot.intersects(place) || taken.iter().any(|other| other.intersects(place)) {
                continue;
            }
            let Some(path) = &name.image_path else { continue };
            if let ThumbnailState::Ready(texture) = cx.textures.thumbnail(path) {
                let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
                let opacity = cx.state.selection.opacity(Item::Gallery(row));
                painter.image(texture.id(), place, uv, Color32::WHITE.gamma_multiply(opacity));
                taken.push(place);
            }
            if taken.len() >= MOST_PICTURES {
                return;
            }
        }
    }

    fn marks(
        &self,
        ui: &Ui,
        cx: &Cx<'_>,
        result: &QueryResult,
        map: &GalleryMap,
        marks: &Marks,
        plot: Rect,
    ) {
        let painter = ui.painter().with_clip_rect(plot);
        let selection = &cx.state.selection;
        let screen = |point: [f32; 2]| self.view.screen(point, plot);
        for item in result.retrieval.iter().flat_map(|retrieval| &retrieval.items) {
            let Some(&position) = map.positions.get(item.row) else { continue };
            let at = screen(position);
            if item.relevant == Some(true) {
                let rect = Rect::from_center_size(at, vec2(8.0, 8.0));
                painter.rect_filled(rect, 1.0, cx.theme.relevant);
            }
            if item.rank <= 10 {
                painter.circle_stroke(at, 5.0, Stroke::new(1.0, cx.theme.text));
                let font = FontId::proportional(10.0);
                painter.text(
                    at + vec2(6.0, -6.0),
                    egui::Align2::LEFT_BOTTOM,
                    item.rank,
                    font,
                    cx.theme.text,
                );
            }
        }
        for row in selection.rows() {
            if let Some(&position) = map.positions.get(row) {
                painter.circle_filled(screen(position), 3.5, cx.theme.accent);
            }
        }
        let other = cx.state.other().and_then(|entry| entry.result.as_ref());
        let same_space =
            |other: &&Arc<QueryResult>| other.query_embedding.values.len() == map.centre.len();
        if let Some(other) = other.filter(same_space) {
            for sample in &other.samples {
                let at = screen(map.project(&sample.values));
                painter.circle_stroke(at, 3.0, Stroke::new(1.0, cx.theme.samples));
            }
            let at = screen(map.project(&other.distribution.mean()));
            diamond(&painter, at, 6.0, None, Stroke::new(1.5, cx.theme.query));
            let (font, place) = (FontId::proportional(11.0), at + vec2(8.0, 0.0));
            painter.text(place, egui::Align2::LEFT_CENTER, "B", font, cx.theme.query);
        }
        for (i, &position) in marks.samples.iter().enumerate() {
            let item = Item::Sample(i);
            let opacity = selection.opacity(item);
            if selection.isolated && opacity < 1.0 {
                continue;
            }
            let colour = cx.theme.samples.gamma_multiply(opacity);
            painter.circle_filled(screen(position), 3.5, colour);
            if selection.contains(item) {
                painter.circle_stroke(screen(position), 6.0, Stroke::new(2.0, cx.theme.accent));
            }
        }
        diamond(&painter, screen(marks.mean), 5.5, Some(cx.theme.query), Stroke::NONE);
        diamond(&painter, screen(marks.query), 7.0, None, Stroke::new(1.5, cx.theme.query));
        let hovered = selection.hovered.and_then(|item| marks.position(map, item));
        if let Some(position) = hovered {
            painter.circle_stroke(screen(position), 8.0, Stroke::new(1.5, cx.theme.strong));
        }
    }

    /// Clicks, boxes and lassos.
    fn select(&mut self, ui: &Ui, cx: &mut Cx<'_>, response: &egui::Response, plot: Rect) {
        let Some(prepared) = &self.prepared else { return };
        let modifiers = ui.input(|input| input.modifiers);
        let mode = if modifiers.alt {
            SelectMode::Remove
        } else if modifiers.shift || modifiers.command {
            SelectMode::Add
        } else {
            SelectMode::Replace
        };
        if response.clicked() {
            let items: Vec<Item> = cx.state.selection.hovered.into_iter().collect();
            cx.send(Action::Select { items, mode, from: PaneKind::Map });
        }
        if self.tool == Tool::Pan {
            self.outline.clear();
            return;
        }
        if response.drag_started_by(egui::PointerButton::Primary) {
            self.outline.clear();
        }
        if response.dragged_by(egui::PointerButton::Primary)
            && let Some(at) = response.interact_pointer_pos()
        {
            match (self.tool, self.outline.as_slice()) {
                (Tool::Box, [from, ..]) => {
                    let from = *from;
                    self.outline = vec![from, pos2(at.x, from.y), at, pos2(from.x, at.y)];
                }
                (_, [.., last]) if last.distance(at) < 3.0 => {}
                _ => self.outline.push(at),
            }
        }
        if self.outline.len() < 2 {
            return;
        }
        let inside = || -> Vec<usize> {
            let outline: Vec<[f32; 2]> =
                self.outline.iter().map(|&at| self.view.data(at, plot)).collect();
            prepared.grid.inside(&prepared.points, &outline)
        };
        let painter = ui.painter().with_clip_rect(plot);
        let stroke = Stroke::new(1.5, cx.theme.accent);
        painter.add(egui::Shape::line(self.outline.clone(), stroke));
        if let [first, .., last] = self.outline[..] {
            // It closes by itself.
            painter.extend(egui::Shape::dashed_line(&[last, first], stroke, 4.0, 4.0));
            let text = format!("{}", inside().len());
            painter.text(
                last + vec2(10.0, 0.0),
                egui::Align2::LEFT_CENTER,
                text,
                FontId::proportional(12.0),
                cx.theme.strong,
            );
        }
        if response.drag_stopped() {
            let items = inside().into_iter().map(Item::Gallery).collect();
            cx.send(Action::Select { items, mode, from: PaneKind::Map });
            self.outline.clear();
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what is hovered depends on all that is shown")]
    fn hover(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        result: &QueryResult,
        map: &GalleryMap,
        marks: &Marks,
        plot: Rect,
        response: &egui::Response,
    ) {
        let Some(prepared) = &self.prepared else { return };
        let now = cx.state.selection.hovered;
        let Some(at) = response.hover_pos().filter(|at| plot.contains(*at)) else {
            self.picked_at = None;
            return;
        };
        if self.picked_at.is_some_and(|when| when.elapsed() < PICK_PAUSE) {
            ui.ctx().request_repaint_after(PICK_PAUSE);
        } else if !response.dragged() {
            self.picked_at = Some(Instant::now());
            let near = |position: [f32; 2]| self.view.screen(position, plot).distance(at);
            let special = marks.all().map(|(item, position)| (item, near(position)));
            let special = special.filter(|(_, distance)| *distance < PICK_RADIUS);
            let special = special.min_by(|a, b| a.1.total_cmp(&b.1)).map(|(item, _)| item);
            let picked = special.or_else(|| {
                let radius = PICK_RADIUS / self.view.points_per_unit(plot);
                let found =
                    prepared.grid.nearest(&prepared.points, self.view.data(at, plot), radius);
                found.map(Item::Gallery)
            });
            if picked != now {
                cx.send(Action::Hover(picked));
            }
        }
        let Some(item) = now.filter(|item| !matches!(item, Item::Dimension(_))) else { return };
        if response.double_clicked()
            && let Item::Gallery(row) = item
            && let Some(path) = name_of(result, row).and_then(|name| name.image_path.clone())
        {
            cx.send(Action::QueryImageFile(path));
        }
        let response = response.clone();
        if response.dragged() {
            return;
        }
        response.on_hover_ui_at_pointer(|ui| {
            ui.set_max_width(240.0);
            card(ui, cx, result, map, item);
        });
    }
}

/// What is known of a row.
fn name_of(result: &QueryResult, row: usize) -> Option<&ItemName> {
    result.retrieval.as_ref()?.names.get(&row)
}

fn card(ui: &mut Ui, cx: &mut Cx<'_>, result: &QueryResult, map: &GalleryMap, item: Item) {
    match item {
        Item::Gallery(row) => {
            let Some(name) = name_of(result, row) else {
                ui.label(format!("Item {row} of {}", map.positions.len()));
                ui.label(RichText::new("Not among the results of this query").small());
                return;
            };
            if let Some(path) = &name.image_path
                && let ThumbnailState::Ready(texture) = cx.textures.thumbnail(path)
            {
                let size = texture.size_vec2();
                ui.image((texture.id(), size * (128.0 / size.max_elem())));
            }
            ui.label(name.caption.as_ref().unwrap_or(&name.image));
            let items = result.retrieval.iter().flat_map(|retrieval| &retrieval.items);
            if let Some(item) = items.into_iter().find(|item| item.row == row) {
                let text = format!("rank {} by the mean, true cosine {:.3}", item.rank, item.score);
                ui.label(RichText::new(text).small());
            }
        }
        other => {
            let Some(entry) = cx.state.entry() else { return };
            ui.label(RichText::new(widgets::capitalised(&name(other))).strong());
            for line in lines(entry, other) {
                ui.horizontal_wrapped(|ui| {
                    ui.label(RichText::new(line.name).small().color(cx.theme.muted));
                    ui.label(RichText::new(line.value).small());
                });
            }
        }
    }
}

/// Positions of what belongs to the query.
struct Marks {
    query: [f32; 2],
    mean: [f32; 2],
    samples: Vec<[f32; 2]>,
}

impl Marks {
    fn new(map: &GalleryMap, result: &QueryResult) -> Self {
        Self {
            query: map.project(&result.query_embedding.values),
            mean: map.project(&result.distribution.mean()),
            samples: result.samples.iter().map(|sample| map.project(&sample.values)).collect(),
        }
    }

    fn all(&self) -> impl Iterator<Item = (Item, [f32; 2])> + '_ {
        let samples = self.samples.iter().enumerate().map(|(i, &p)| (Item::Sample(i), p));
        [(Item::Query, self.query), (Item::Mean, self.mean)].into_iter().chain(samples)
    }

    fn position(&self, map: &GalleryMap, item: Item) -> Option<[f32; 2]> {
        match item {
            Item::Gallery(row) => map.positions.get(row).copied(),
            _ => self.all().find(|(other, _)| *other == item).map(|(_, position)| position),
        }
    }
}

fn diamond(painter: &egui::Painter, at: Pos2, radius: f32, fill: Option<Color32>, stroke: Stroke) {
    let corners = vec![
        at + vec2(0.0, -radius),
        at + vec2(radius, 0.0),
        at + vec2(0.0, radius),
        at + vec2(-radius, 0.0),
    ];
    let fill = fill.unwrap_or(Color32::TRANSPARENT);
    painter.add(egui::Shape::convex_polygon(corners, fill, stroke));
}

fn legend(ui: &Ui, cx: &Cx<'_>, plot: Rect) {
    if plot.width() < 280.0 || plot.height() < 160.0 {
        return;
    }
    let painter = ui.painter().with_clip_rect(plot);
    let font = FontId::proportional(11.0);
    let rows = ["query", "mean", "samples", "gallery", "relevant"];
    let box_size = vec2(82.0, rows.len() as f32 * 15.0 + 8.0);
    let place = Rect::from_min_size(plot.left_top() + vec2(6.0, 6.0), box_size);
    painter.rect_filled(place, 4.0, cx.theme.panel.gamma_multiply(0.85));
    for (i, name) in rows.into_iter().enumerate() {
        let at = place.left_top() + vec2(12.0, 12.0 + i as f32 * 15.0);
        match name {
            "query" => diamond(&painter, at, 5.0, None, Stroke::new(1.5, cx.theme.query)),
            "mean" => diamond(&painter, at, 4.5, Some(cx.theme.query), Stroke::NONE),
            "samples" => {
                painter.circle_filled(at, 3.5, cx.theme.samples);
            }
            "gallery" => {
                painter.circle_filled(at, 2.0, cx.theme.gallery);
            }
            _ => {
                painter.rect_filled(
                    Rect::from_center_size(at, vec2(7.0, 7.0)),
                    1.0,
                    cx.theme.relevant,
                );
            }
        }
        painter.text(
            at + vec2(12.0, 0.0),
            egui::Align2::LEFT_CENTER,
            name,
            font.clone(),
            cx.theme.text,
        );
    }
}

fn footer(ui: &mut Ui, cx: &Cx<'_>, map: &GalleryMap) {
    let [first, second] = map.explained.map(|share| 100.0 * share);
    let text = format!(
        "PCA: {first:.0} % + {second:.0} % of the gallery's variance. 2-D distances are not \
         embedding distances."
    );
    ui.add(egui::Label::new(RichText::new(text).small().color(cx.theme.muted)).wrap());
}
