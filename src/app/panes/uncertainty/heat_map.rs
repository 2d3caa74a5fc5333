//! The density of every dimension as a heat map, with the draws on top.

use std::sync::Arc;

use eframe::egui_wgpu::Callback;
use egui::{Color32, FontId, Key, Rect, RichText, Sense, Stroke, Ui, pos2, vec2};

use super::prepared::Prepared;
use crate::app::action::Action;
use crate::app::gpu::{DensityPlot, colour_map};
use crate::app::layout::PaneKind;
use crate::app::panes::Cx;
use crate::app::state::selection::{Item, SelectMode};
use crate::session::result::QueryResult;

/// Key of the plot on the device.
const KEY: u64 = 1;
pub const LEFT: f32 = 46.0;
pub const RIGHT: f32 = 8.0;
const BOTTOM: f32 = 32.0;
const TOP: f32 = 18.0;
/// Draws are shown as dots up to this many dimensions on screen.
const DOTS: f32 = 160.0;
/// Resolution of the picture where there is no device to draw with.
const FALLBACK: [usize; 2] = [256, 128];

/// What of the plot is seen.
#[derive(Debug, Default)]
pub struct HeatMap {
    /// First and last dimension seen; `None`: all.
    range: Option<[f32; 2]>,
    /// Lowest and highest value seen; `None`: as the densities need.
    values: Option<[f32; 2]>,
    /// Where a brush began, in dimensions.
    brush: Option<f32>,
    count: usize,
    fallback: Option<(Arc<Vec<crate::app::gpu::DensityRow>>, image::RgbImage, u64)>,
}

impl HeatMap {
    pub fn show_all(&mut self) {
        self.range = None;
        self.values = None;
    }

    /// First and last dimension seen.
    pub fn dimensions(&self) -> [f32; 2] {
        self.range.unwrap_or([0.0, self.count as f32])
    }

    pub fn ui(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        result: &QueryResult,
        prepared: &Prepared,
        common_scale: bool,
        height: f32,
    ) {
        self.count = prepared.order.len();
        let (whole, response) =
            ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::click_and_drag());
        response.widget_info(|| {
            egui::WidgetInfo::labeled(egui::Role::Canvas, true, "Density of every dimension")
        });
        let plot = Rect::from_min_max(whole.min + vec2(LEFT, TOP), whole.max - vec2(RIGHT, BOTTOM));
        if plot.width() < 20.0 || plot.height() < 20.0 {
            return;
        }
        self.navigate(ui, &response, plot, prepared);
        let frame = Frame {
            plot,
            dimensions: self.dimensions(),
            values: self.values.unwrap_or(prepared.values),
        };
        self.densities(ui, cx, prepared, frame, common_scale);
        fade(ui, cx, prepared, frame);
        overlays(ui, cx, result, prepared, frame);
        axes(ui, cx, prepared, frame, whole);
        colour_bar(ui, cx, whole, common_scale);
        self.brush(ui, cx, &response, prepared, frame);
        self.keyboard(ui, cx, &response, prepared);
        hover(ui, cx, result, prepared, frame, &response);
    }

    /// The wheel zooms dimensions, with Ctrl values; the secondary button pans; a double-click
    /// shows all.
    fn navigate(&mut self, ui: &Ui, response: &egui::Response, plot: Rect, prepared: &Prepared) {
        if response.double_clicked() {
            self.show_all();
        }
        let count = self.count as f32;
        let [low, high] = self.dimensions();
        if let Some(at) = response.hover_pos().filter(|at| plot.contains(*at)) {
            let (scroll, zoom) =
                ui.input(|input| (input.smooth_scroll_delta().y, input.zoom_delta()));
            if zoom != 1.0 {
                let [bottom, top] = self.values.unwrap_or(prepared.values);
                let middle = bottom + (plot.bottom() - at.y) / plot.height() * (top - bottom);
                self.values =
                    Some([middle + (bottom - middle) / zoom, middle + (top - middle) / zoom]);
            } else if scroll != 0.0 && ui.input(|input| input.modifiers.shift) {
                let factor = (-scroll / 200.0).exp();
                let middle = low + (at.x - plot.left()) / plot.width() * (high - low);
                let span = ((high - low) * factor).clamp(4.0_f32.min(count), count);
                let share = (middle - low) / (high - low);
                let start = (middle - share * span).clamp(0.0, count - span);
                self.range = (span < count).then_some([start, start + span]);
            }
        }
        if response.dragged_by(egui::PointerButton::Secondary) {
            let step = -response.drag_delta().x / plot.width() * (high - low);
            let start = (low + step).clamp(0.0, count - (high - low));
            self.range = Some([start, start + high - low]);
        }
    }

    fn densities(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        prepared: &Prepared,
        frame: Frame,
        common_scale: bool,
    ) {
        let Frame { plot, dimensions, values } = frame;
        let map = cx.state.settings.colour_map;
        if cx.gpu.is_some() {
            let scale = ui.ctx().pixels_per_point();
            let density = DensityPlot {
                key: KEY,
                rows: Arc::clone(&prepared.rows),
                dimensions,
                values,
                panel: cx.theme.panel,
                colour_map: map,
                dark: cx.theme.dark,
                pixels: [plot.width() * scale, plot.height() * scale],
                common_scale,
            };
            ui.painter().add(Callback::new_paint_callback(plot, density));
            return;
        }
        // Without a device the whole plot is a picture, made once for each result.
        let fits =
            self.fallback.as_ref().is_some_and(|(rows, ..)| Arc::ptr_eq(rows, &prepared.rows));
        if !fits {
            let [width, height] = FALLBACK;
            let image = image::RgbImage::from_fn(width as u32, height as u32, |x, y| {
                let row = &prepared.rows[x as usize * prepared.rows.len() / width];
                let share = 1.0 - (y as f32 + 0.5) / height as f32;
                let value = prepared.values[0] + share * (prepared.values[1] - prepared.values[0]);
                let distance = ((value - row.mu).abs() / row.alpha).powf(row.beta);
                let [r, g, b, _] =
                    colour_map::colour(map, cx.theme.dark, f64::from((-distance).exp())).to_array();
                image::Rgb([r, g, b])
            });
            let version = self.fallback.as_ref().map_or(0, |(_, _, version)| version + 1);
            self.fallback = Some((Arc::clone(&prepared.rows), image, version));
        }
        if let Some((_, image, version)) = &self.fallback {
            let id = egui::Id::unique("density picture");
            let texture = cx.textures.picture(id, *version, image);
            let count = self.count as f32;
            let [bottom, top] = prepared.values;
            let uv = Rect::from_min_max(
                pos2(dimensions[0] / count, (top - values[1]) / (top - bottom)),
                pos2(dimensions[1] / count, (top - values[0]) / (top - bottom)),
            );
            ui.painter().image(texture.id(), plot, uv, Color32::WHITE);
        }
    }

    /// Dragging selects dimensions: Shift adds, Alt removes.
    fn brush(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        response: &egui::Response,
        prepared: &Prepared,
        frame: Frame,
    ) {
        let Some(at) = response.interact_pointer_pos() else {
            self.brush = None;
            return;
        };
        if response.drag_started_by(egui::PointerButton::Primary) {
            // Where the button went down, not where the drag was noticed.
            let start = ui.input(|input| input.pointer.press_origin()).unwrap_or(at);
            self.brush = Some(frame.dimension(start.x));
        }
        let modifiers = ui.input(|input| input.modifiers);
        let mode = if modifiers.alt {
            SelectMode::Remove
        } else if modifiers.shift || modifiers.command {
            SelectMode::Add
        } else {
            SelectMode::Replace
        };
        let range = if let Some(from) = self.brush {
            let to = frame.dimension(at.x);
            let band = Rect::from_x_y_ranges(
                frame.x(from.min(to))..=frame.x(from.max(to)),
                frame.plot.y_range(),
            );
            let band = band.intersect(frame.plot);
            ui.painter().rect_filled(band, 0.0, cx.theme.accent.gamma_multiply(0.25));
            let dimensions = from.min(to).floor()..=from.max(to).floor();
            let text =
                format!("{} dimensions", (dimensions.end() - dimensions.start()) as usize + 1);
            let place = band.center_top() + vec2(0.0, 2.0);
            ui.painter().text(
                place,
                egui::Align2::CENTER_TOP,
                text,
                FontId::proportional(11.0),
                cx.theme.strong,
            );
            response.drag_stopped().then_some((from.min(to), from.max(to)))
        } else if response.clicked() {
            let d = frame.dimension(at.x);
            Some((d, d))
        } else {
            None
        };
        let Some((low, high)) = range else { return };
        self.brush = None;
        let last = prepared.order.len().saturating_sub(1);
        let places = (low.max(0.0) as usize).min(last)..=(high.max(0.0) as usize).min(last);
        let items = prepared.order[places].iter().map(|&d| Item::Dimension(d)).collect();
        cx.send(Action::Select { items, mode, from: PaneKind::Uncertainty });
    }

    /// Left and right move over dimensions, Space selects.
    fn keyboard(
        &mut self,
        ui: &Ui,
        cx: &mut Cx<'_>,
        response: &egui::Response,
        prepared: &Prepared,
    ) {
        if response.clicked() {
            response.request_focus();
        }
        if !response.has_focus() {
            return;
        }
        let filter = egui::EventFilter { horizontal_arrows: true, ..Default::default() };
        ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
        let now = match cx.state.selection.hovered {
            Some(Item::Dimension(d)) => prepared.place.get(d).copied(),
            _ => None,
        };
        let pressed = |key| ui.input(|input| input.key_pressed(key));
        let step = isize::from(pressed(Key::ArrowRight)) - isize::from(pressed(Key::ArrowLeft));
        if step != 0 {
            let last = prepared.order.len() as isize - 1;
            let next = now.map_or(0, |now| (now as isize + step).clamp(0, last)) as usize;
            cx.send(Action::Hover(Some(Item::Dimension(prepared.order[next]))));
        }
        if pressed(Key::Space)
            && let Some(now) = now
        {
            let items = vec![Item::Dimension(prepared.order[now])];
            let mode = SelectMode::Toggle;
            cx.send(Action::Select { items, mode, from: PaneKind::Uncertainty });
        }
    }
}

/// The plot on screen and what it shows.
#[derive(Debug, Clone, Copy)]
struct Frame {
    plot: Rect,
    dimensions: [f32; 2],
    values: [f32; 2],
}

impl Frame {
    /// Where a place in the order of dimensions is on screen.
    fn x(self, dimension: f32) -> f32 {
        let [low, high] = self.dimensions;
        self.plot.left() + (dimension - low) / (high - low) * self.plot.width()
    }

    fn dimension(self, x: f32) -> f32 {
        let [low, high] = self.dimensions;
        low + (x - self.plot.left()) / self.plot.width() * (high - low)
    }

    fn y(self, value: f32) -> f32 {
        let [low, high] = self.values;
        self.plot.bottom() - (value - low) / (high - low) * self.plot.height()
    }
}

/// Dims what is not selected, where something is.
fn fade(ui: &Ui, cx: &Cx<'_>, prepared: &Prepared, frame: Frame) {
    let selection = &cx.state.selection;
    if selection.dimensions().next().is_none() {
        return;
    }
    let painter = ui.painter().with_clip_rect(frame.plot);
    let cover = cx.theme.panel.gamma_multiply(if selection.isolated { 1.0 } else { 0.65 });
    let selected: Vec<bool> =
        prepared.order.iter().map(|&d| selection.contains(Item::Dimension(d))).collect();
    let mut at = 0;
    for run in selected.chunk_by(|a, b| a == b) {
        let range = frame.x(at as f32)..=frame.x((at + run.len()) as f32);
        let rect = Rect::from_x_y_ranges(range, frame.plot.y_range());
        if run[0] {
            let stroke = Stroke::new(1.0, cx.theme.accent);
            painter.rect_stroke(rect, 0.0, stroke, egui::StrokeKind::Inside);
        } else {
            painter.rect_filled(rect, 0.0, cover);
        }
        at += run.len();
    }
}

/// Draws as dots, the mean and the query; a hovered or selected sample as a line.
fn overlays(ui: &Ui, cx: &Cx<'_>, result: &QueryResult, prepared: &Prepared, frame: Frame) {
    let painter = ui.painter().with_clip_rect(frame.plot);
    let [low, high] = frame.dimensions;
    let seen = (low.max(0.0) as usize)..(high.ceil().max(0.0) as usize).min(prepared.order.len());
    let point = |place: usize, values: &[f32]| {
        let value = values.get(prepared.order[place]).copied().unwrap_or(f32::NAN);
        pos2(frame.x(place as f32 + 0.5), frame.y(value))
    };
    let line = |values: &[f32], colour: Color32, width: f32| {
        let points: Vec<egui::Pos2> = seen.clone().map(|place| point(place, values)).collect();
        painter.add(egui::Shape::line(points, Stroke::new(width, colour)));
    };
    let selection = &cx.state.selection;
    let marked = |i: usize| {
        selection.hovered == Some(Item::Sample(i)) || selection.contains(Item::Sample(i))
    };
    if high - low <= DOTS {
        for sample in &result.samples {
            for place in seen.clone() {
                let at = point(place, &sample.values);
                painter.circle_filled(at, 1.2, cx.theme.samples.gamma_multiply(0.6));
            }
        }
    }
    let same_space = result.query_embedding.modality == result.space;
    if same_space && selection.hovered == Some(Item::Query) {
        line(&result.query_embedding.values, cx.theme.query, 1.0);
    }
    if selection.hovered == Some(Item::Mean) || selection.contains(Item::Mean) {
        line(&result.distribution.mean(), cx.theme.query, 1.5);
    }
    for (i, sample) in result.samples.iter().enumerate().filter(|(i, _)| marked(*i)) {
        let hovered = selection.hovered == Some(Item::Sample(i));
        line(&sample.values, cx.theme.samples, if hovered { 1.8 } else { 1.2 });
    }
}

fn axes(ui: &Ui, cx: &Cx<'_>, prepared: &Prepared, frame: Frame, whole: Rect) {
    let painter = ui.painter();
    let font = FontId::proportional(11.0);
    let muted = cx.theme.muted;
    let plot = frame.plot;
    painter.rect_stroke(plot, 0.0, Stroke::new(1.0, cx.theme.hairline), egui::StrokeKind::Outside);
    for value in ticks(frame.values, (plot.height() / 32.0) as usize) {
        let y = frame.y(value);
        let text = format!("{value:.2}");
        let text = text.trim_end_matches('0').trim_end_matches('.');
        painter.text(
            pos2(plot.left() - 5.0, y),
            egui::Align2::RIGHT_CENTER,
            text,
            font.clone(),
            muted,
        );
        painter.hline(plot.left() - 3.0..=plot.left(), y, Stroke::new(1.0, muted));
    }
    for place in ticks(frame.dimensions, (plot.width() / 70.0) as usize) {
        let x = frame.x(place);
        painter.text(
            pos2(x, plot.bottom() + 3.0),
            egui::Align2::CENTER_TOP,
            format!("{place:.0}"),
            font.clone(),
            muted,
        );
    }
    let label = format!("dimension, {}", prepared.sort().name());
    painter.text(
        pos2(plot.center().x, whole.bottom()),
        egui::Align2::CENTER_BOTTOM,
        label,
        font.clone(),
        muted,
    );
    let label = "value, embedding units";
    painter.text(whole.left_top(), egui::Align2::LEFT_TOP, label, font, muted);
}

/// Round numbers within a range.
fn ticks([low, high]: [f32; 2], wanted: usize) -> Vec<f32> {
    let span = high - low;
    if !span.is_finite() || span <= 0.0 {
        return Vec::new();
    }
    let raw = span / wanted.clamp(2, 12) as f32;
    let power = 10f32.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|s| s * power).into_iter().find(|&s| s >= raw);
    let step = step.unwrap_or(raw);
    let first = (low / step).ceil() as i64;
    (first..).map(|i| i as f32 * step).take_while(|&v| v <= high).take(64).collect()
}

fn colour_bar(ui: &Ui, cx: &Cx<'_>, whole: Rect, common_scale: bool) {
    let painter = ui.painter();
    let font = FontId::proportional(11.0);
    let label = if common_scale { "density, one scale" } else { "density, each by its own peak" };
    let width = 64.0;
    if whole.width() < 330.0 {
        return;
    }
    let bar = Rect::from_min_size(
        pos2(whole.right() - RIGHT - width - 24.0, whole.top() + 2.0),
        vec2(width, 9.0),
    );
    for i in 0..32 {
        let share = (f64::from(i) + 0.5) / 32.0;
        let colour = colour_map::colour(cx.state.settings.colour_map, cx.theme.dark, share);
        let left = bar.left() + i as f32 * width / 32.0;
        painter.rect_filled(
            Rect::from_min_size(pos2(left, bar.top()), vec2(width / 32.0 + 0.5, 9.0)),
            0.0,
            colour,
        );
    }
    let middle = bar.center().y;
    painter.text(
        pos2(bar.left() - 4.0, middle),
        egui::Align2::RIGHT_CENTER,
        format!("{label}   0"),
        font.clone(),
        cx.theme.muted,
    );
    painter.text(
        pos2(bar.right() + 4.0, middle),
        egui::Align2::LEFT_CENTER,
        "max",
        font,
        cx.theme.muted,
    );
}

fn hover(
    ui: &Ui,
    cx: &mut Cx<'_>,
    result: &QueryResult,
    prepared: &Prepared,
    frame: Frame,
    response: &egui::Response,
) {
    let under = response.hover_pos().filter(|at| frame.plot.contains(*at)).and_then(|at| {
        let place = frame.dimension(at.x);
        (place >= 0.0).then(|| prepared.order.get(place as usize).copied()).flatten()
    });
    let now = cx.state.selection.hovered;
    match under {
        Some(d) if now != Some(Item::Dimension(d)) => {
            cx.send(Action::Hover(Some(Item::Dimension(d))));
        }
        None if matches!(now, Some(Item::Dimension(_))) && !response.has_focus() => {
            cx.send(Action::Hover(None));
        }
        _ => {}
    }
    let hovered = match now {
        Some(Item::Dimension(d)) => Some(d),
        _ => None,
    };
    if let Some(d) = hovered.filter(|&d| d < prepared.place.len()) {
        let x = frame.x(prepared.place[d] as f32 + 0.5);
        let stroke = Stroke::new(1.0, cx.theme.strong.gamma_multiply(0.7));
        ui.painter().with_clip_rect(frame.plot).vline(x, frame.plot.y_range(), stroke);
    }
    let Some(d) = under else { return };
    let text = card(result, prepared, d);
    response.clone().on_hover_ui_at_pointer(|ui| {
        ui.set_max_width(260.0);
        for (label, value) in text {
            ui.horizontal(|ui| {
                ui.label(RichText::new(label).small().color(cx.theme.muted));
                ui.label(RichText::new(value).small());
            });
        }
    });
}

fn card(result: &QueryResult, prepared: &Prepared, d: usize) -> Vec<(&'static str, String)> {
    let density = &result.distribution.dimensions()[d];
    let sigma = |variance: f64| format!("{:.4}", variance.sqrt());
    vec![
        ("Dimension", d.to_string()),
        ("Mean", format!("{:.4}", density.mu())),
        ("Aleatoric \u{3c3}", sigma(prepared.aleatoric[d])),
        ("Epistemic \u{3c3}", sigma(prepared.epistemic[d])),
        ("Total \u{3c3}", sigma(prepared.total[d])),
        (
            "Shape \u{3b2}",
            format!(
                "{:.2} (2 is Gaussian, 1 Laplace; smaller: more far-off values)",
                density.beta()
            ),
        ),
        (
            "Query",
            format!("{:.4}", result.query_embedding.values.get(d).copied().unwrap_or(f32::NAN)),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_range() {
        assert_eq!(ticks([0.0, 64.0], 6), [0.0, 20.0, 40.0, 60.0]);
        assert_eq!(ticks([-1.0, 1.0], 4), [-1.0, -0.5, 0.0, 0.5, 1.0]);
        assert!(ticks([1.0, 1.0], 4).is_empty());
    }

    #[test]
    fn screen_and_dimension_are_inverse() {
        let plot = Rect::from_min_size(pos2(30.0, 10.0), vec2(400.0, 200.0));
        let frame = Frame { plot, dimensions: [3.0, 60.0], values: [-2.0, 2.0] };
        for d in [3.0, 17.5, 59.0] {
            assert!((frame.dimension(frame.x(d)) - d).abs() < 1e-3);
        }
    }
}
