//! The density heat map with its header, marks and the strip of deviations below it.

use std::sync::Arc;

use egui::{Align2, Color32, FontId, Mesh, Painter, Pos2, Rect, Response, Shape as Drawn, Stroke};
use egui::{StrokeKind, TextureHandle, TextureOptions, Ui, pos2, vec2};

use super::{Plot, UncertaintyPane, runs};
use crate::app::gpu::colour_map::{self, Colours};
use crate::app::gpu::density::{self, Column, View};
use crate::app::gpu::points::{self, Layer, Shape, Transform};
use crate::app::panes::{Cx, axes};
use crate::app::state::selection::Item;

/// Samples drawn as lines, at most.
const LINES: usize = 8;
/// Limits of the strip of deviations, in standard deviations.
const DEVIATION_LIMIT: f64 = 3.0;
/// Pixels of the picture that is made where no device draws.
const PICTURE: [usize; 2] = [384, 192];

/// The heat map as a texture, and what it shows.
pub struct Picture {
    columns: Arc<[Column]>,
    view: View,
    colours: Colours,
    texture: TextureHandle,
}

/// Caption, legend of the marks and colour bar.
pub fn header(ui: &Ui, cx: &Cx<'_>, pane: &UncertaintyPane, plot: &Plot<'_>, rect: Rect) {
    let theme = cx.theme;
    let prepared = plot.prepared;
    let colours = Colours::of(cx.state.settings.colour_map, theme);
    let (caption, highest) = if pane.common_scale {
        ("density, common scale, per unit", axes::number(prepared.highest_peak))
    } else {
        ("density, each dimension to its own peak", "peak".to_owned())
    };
    // The colour bar is at the right, with its limits.
    let painter = ui.painter();
    let font = FontId::proportional(axes::AXIS_TEXT);
    let high = painter.layout_no_wrap(highest, font.clone(), theme.muted);
    let low = painter.layout_no_wrap("0".to_owned(), font, theme.muted);
    let y = rect.center().y;
    let bar_width = (rect.width() * 0.22).clamp(32.0, 110.0);
    let mut x = rect.right() - high.size().x;
    painter.galley(pos2(x, y - high.size().y * 0.5), high, theme.muted);
    let bar = Rect::from_min_max(pos2(x - 4.0 - bar_width, y - 4.0), pos2(x - 4.0, y + 4.0));
    let mut mesh = Mesh::default();
    let steps = 48;
    for step in 0..steps {
        let part = |i: usize| bar.left() + bar.width() * i as f32 / steps as f32;
        let level = (step as f32 + 0.5) / steps as f32;
        let cell = Rect::from_x_y_ranges(part(step)..=part(step + 1), bar.y_range());
        mesh.add_colored_rect(cell, colour_map::faded(colours, level, theme.panel));
    }
    painter.add(mesh);
    painter.rect_stroke(bar, 0.0, Stroke::new(1.0, theme.hairline), StrokeKind::Outside);
    x = bar.left() - 4.0 - low.size().x;
    painter.galley(pos2(x, y - low.size().y * 0.5), low, theme.muted);

    let mut room = Rect::from_min_max(rect.min, pos2(x - 10.0, rect.bottom()));
    let taken = axes::caption(ui, room, Align2::LEFT_CENTER, caption, theme.muted);
    room.min.x = taken.right() + 14.0;
    for (name, shape, outline, colour) in marks(pane, plot, cx) {
        let galley = painter.layout_no_wrap(
            name.to_owned(),
            FontId::proportional(axes::AXIS_TEXT),
            theme.muted,
        );
        if galley.size().x + 14.0 > room.width() {
            break;
        }
        let centre = pos2(room.left() + 4.0, y);
        points::mark(painter, centre, 3.5, shape, colour, outline);
        painter.galley(pos2(room.left() + 11.0, y - galley.size().y * 0.5), galley.clone(), colour);
        room.min.x += galley.size().x + 22.0;
    }
}

/// The marks that are drawn at the present zoom.
fn marks(
    pane: &UncertaintyPane,
    plot: &Plot<'_>,
    cx: &Cx<'_>,
) -> Vec<(&'static str, Shape, Option<f32>, Color32)> {
    let theme = cx.theme;
    let mut marks = Vec::new();
    if pane.show_samples && !plot.prepared.samples.is_empty() {
        marks.push(("samples", Shape::Disc, None, theme.samples));
    }
    if plot.prepared.query.is_some() && plot.column_width() >= QUERY_WIDTH {
        marks.push(("query", Shape::Diamond, Some(1.5), theme.query));
    }
    if plot.column_width() >= MEAN_WIDTH {
        marks.push(("mean", Shape::Diamond, None, theme.query));
        if plot.prepared.other.is_some() {
            marks.push(("B mean", Shape::Diamond, Some(1.0), theme.total));
        }
    }
    marks
}

/// Narrowest dimensions, in points, whose query and mean are marked one by one.
const QUERY_WIDTH: f32 = 4.0;
const MEAN_WIDTH: f32 = 6.0;

/// The heat map and everything on it.
pub fn show(
    ui: &Ui,
    cx: &Cx<'_>,
    pane: &mut UncertaintyPane,
    plot: &Plot<'_>,
    response: &Response,
) {
    let theme = cx.theme;
    let prepared = plot.prepared;
    let rect = plot.rect;
    let painter = ui.painter_at(rect.intersect(ui.clip_rect()));
    let colours = Colours::of(cx.state.settings.colour_map, theme);
    let columns = if pane.common_scale { &prepared.common_scale } else { &prepared.own_scale };
    let view = View {
        first: plot.x.low as f32,
        positions: plot.x.width() as f32,
        low: plot.y.low as f32,
        values: plot.y.width() as f32,
    };
    if cx.gpu.is_some() {
        let place = ui.scope_id().with("density");
        density::paint(&painter, place, rect, columns, view, colours);
    } else {
        let texture = picture(ui, pane, columns, view, colours, theme.panel);
        let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
        painter.image(texture.id(), rect, whole, Color32::WHITE);
    }
    fade(&painter, cx, plot, rect);
    samples(ui, cx, pane, plot);
    one_by_one(&painter, cx, plot);
    if plot.any_selected {
        for (start, end) in runs(&plot.selected, plot.visible()) {
            let x =
                plot.x_of(start as f64)..=plot.x_of(end as f64).max(plot.x_of(start as f64) + 1.0);
            let edge = Stroke::new(2.0, theme.accent);
            painter.hline(x.clone(), rect.top() + 1.0, edge);
            painter.hline(x, rect.bottom() - 1.0, edge);
        }
    }
    value_axis(ui, cx, plot);
    if prepared.outside > 0 && plot.y == prepared.first_view && rect.width() > 260.0 {
        let reach = if prepared.outside == 1 { "dimension reaches" } else { "dimensions reach" };
        let text = format!("{} {reach} beyond these values; Ctrl+wheel", prepared.outside);
        let at = rect.left_top() + vec2(6.0, 4.0);
        axes::tag(&painter, at, Align2::LEFT_TOP, &text, theme.muted, theme.panel);
    }
    let edge = if response.has_focus() {
        Stroke::new(2.0, theme.accent)
    } else {
        Stroke::new(1.0, theme.hairline)
    };
    ui.painter().rect_stroke(rect, 0.0, edge, StrokeKind::Outside);
}

/// The picture for a window without a device, made anew when the view changes.
fn picture(
    ui: &Ui,
    pane: &mut UncertaintyPane,
    columns: &Arc<[Column]>,
    view: View,
    colours: Colours,
    panel: Color32,
) -> TextureHandle {
    if let Some(picture) = &pane.picture
        && Arc::ptr_eq(&picture.columns, columns)
        && (picture.view, picture.colours) == (view, colours)
    {
        return picture.texture.clone();
    }
    let image = density::image(columns, view, PICTURE, colours, panel);
    let texture = match pane.picture.take() {
        Some(mut picture) => {
            picture.texture.set_partial([0, 0], image, TextureOptions::NEAREST);
            picture.texture
        }
        None => ui.load_texture("density", image, TextureOptions::NEAREST),
    };
    let columns = Arc::clone(columns);
    pane.picture = Some(Picture { columns, view, colours, texture: texture.clone() });
    texture
}

/// Lays the panel over dimensions that are not selected, when some are.
pub fn fade(painter: &Painter, cx: &Cx<'_>, plot: &Plot<'_>, rect: Rect) {
    if !plot.any_selected {
        return;
    }
    let veil = if cx.state.selection.isolated { 1.0 } else { 0.65 };
    let colour = cx.theme.panel.gamma_multiply(veil);
    let visible = plot.visible();
    let mut from = visible.start;
    let end = visible.end;
    let cover = |from: usize, to: usize| {
        if to > from {
            let x = plot.x_of(from as f64)..=plot.x_of(to as f64);
            painter.rect_filled(Rect::from_x_y_ranges(x, rect.y_range()), 0.0, colour);
        }
    };
    for (start, stop) in runs(&plot.selected, visible) {
        cover(from, start);
        from = stop;
    }
    cover(from, end);
}

/// Samples as dots, and as lines over the dimensions those hovered or selected.
fn samples(ui: &Ui, cx: &Cx<'_>, pane: &UncertaintyPane, plot: &Plot<'_>) {
    let theme = cx.theme;
    let selection = &cx.state.selection;
    let results = &plot.prepared.result.samples;
    let chosen: Vec<usize> = selection.samples().filter(|&s| s < results.len()).collect();
    let hovered = match selection.hovered {
        Some(Item::Sample(sample)) if sample < results.len() => Some(sample),
        _ => None,
    };
    let hidden = selection.isolated && !chosen.is_empty();
    if pane.show_samples && !hidden {
        let width = plot.column_width();
        let scale = vec2(width, -(f64::from(plot.rect.height()) / plot.y.width()) as f32);
        let offset = pos2(plot.x_of(0.0), plot.y_of(0.0));
        let opacity = if width < 3.0 { 0.4 } else { 0.85 };
        let faded = if chosen.is_empty() { 1.0 } else { 0.35 };
        let layer = Layer {
            points: Arc::clone(&plot.prepared.samples),
            radius: (width * 0.25).clamp(0.9, 3.0),
            colour: theme.samples.gamma_multiply(opacity * faded),
            shape: Shape::Disc,
            outline: None,
        };
        let place = ui.scope_id().with("samples");
        let transform = Transform { scale, offset };
        points::paint(ui.painter(), cx.gpu, place, plot.rect, transform, vec![layer]);
    }
    let painter = ui.painter_at(plot.rect.intersect(ui.clip_rect()));
    for sample in hovered.into_iter().chain(chosen).take(LINES) {
        let values = &results[sample].values;
        let line: Vec<Pos2> = plot
            .visible()
            .filter_map(|position| {
                let value = values.get(plot.prepared.arrangement.dimensions[position])?;
                Some(pos2(plot.x_of(position as f64 + 0.5), plot.y_of(f64::from(*value))))
            })
            .collect();
        let width = if hovered == Some(sample) { 1.5 } else { 1.0 };
        painter.line(line, Stroke::new(width, theme.samples));
    }
}

/// Query and mean of every dimension, where dimensions are wide enough.
fn one_by_one(painter: &Painter, cx: &Cx<'_>, plot: &Plot<'_>) {
    let width = plot.column_width();
    if width < QUERY_WIDTH {
        return;
    }
    for position in plot.visible() {
        dimension_marks(painter, cx, plot, position, width);
    }
}

fn dimension_marks(painter: &Painter, cx: &Cx<'_>, plot: &Plot<'_>, position: usize, width: f32) {
    let theme = cx.theme;
    let prepared = plot.prepared;
    let dimension = prepared.arrangement.dimensions[position];
    let x = plot.x_of(position as f64 + 0.5);
    let place = |value: f64, radius: f32, colour, outline| {
        let centre = pos2(x, plot.y_of(value));
        // A ground of the opposite lightness keeps the mark visible on every colour of the map.
        if radius >= 3.0 {
            let ground = theme.panel.gamma_multiply(0.75);
            points::mark(painter, centre, radius + 1.5, Shape::Diamond, ground, None);
        }
        points::mark(painter, centre, radius, Shape::Diamond, colour, outline);
    };
    if let Some(other) = &prepared.other
        && width >= MEAN_WIDTH
    {
        let mu = other.result.distribution.dimensions()[dimension].mu();
        place(mu, (width * 0.4).min(4.5), theme.total, Some(1.0));
    }
    if width >= MEAN_WIDTH {
        let mu = prepared.result.distribution.dimensions()[dimension].mu();
        place(mu, (width * 0.35).min(4.5), theme.query, None);
    }
    if let Some(query) = &prepared.query {
        place(f64::from(query[dimension]), (width * 0.45).min(6.0), theme.query, Some(1.5));
    }
}

/// The dimension that is pointed at: a line through all plots, and its marks at full size.
pub fn column_marks(ui: &Ui, cx: &Cx<'_>, plot: &Plot<'_>, area: Rect, position: usize) {
    let x = plot.x_of(position as f64 + 0.5);
    if !plot.rect.x_range().contains(x) {
        return;
    }
    let painter = ui.painter_at(area.expand(6.0).intersect(ui.clip_rect()));
    painter.vline(x, area.y_range(), Stroke::new(1.0, cx.theme.strong.gamma_multiply(0.6)));
    let painter = ui.painter_at(plot.rect.intersect(ui.clip_rect()));
    let dimension = plot.prepared.arrangement.dimensions[position];
    for sample in plot.prepared.result.samples.iter().take(512) {
        if let Some(&value) = sample.values.get(dimension) {
            painter.circle_filled(pos2(x, plot.y_of(f64::from(value))), 3.0, cx.theme.samples);
        }
    }
    dimension_marks(&painter, cx, plot, position, 14.0);
}

/// Value ticks and the axis label at the left.
fn value_axis(ui: &Ui, cx: &Cx<'_>, plot: &Plot<'_>) {
    let most = (plot.rect.height() / 36.0).max(2.0) as usize;
    let step = axes::step(plot.y.width(), most);
    for value in axes::ticks(&plot.y, most) {
        let at = pos2(plot.rect.left() - 4.0, plot.y_of(value));
        value_tick(ui, cx, plot.rect, at, &axes::tick_label(value, step));
    }
    let text = if plot.rect.height() >= 150.0 { "value, embedding units" } else { "value" };
    axis_name(ui, cx, plot.rect, text);
}

/// A number left of a plot, kept within its height.
pub fn value_tick(ui: &Ui, cx: &Cx<'_>, rect: Rect, at: Pos2, text: &str) {
    let at = pos2(at.x, at.y.clamp(rect.top() + 5.0, (rect.bottom() - 5.0).max(rect.top() + 5.0)));
    let font = FontId::proportional(axes::AXIS_TEXT);
    ui.painter().text(at, Align2::RIGHT_CENTER, text, font, cx.theme.muted);
}

/// An axis label that reads upward, left of a plot; left out where it would not fit.
pub fn axis_name(ui: &Ui, cx: &Cx<'_>, rect: Rect, text: &str) {
    let painter = ui.painter();
    let font = FontId::proportional(axes::AXIS_TEXT);
    let galley = painter.layout_no_wrap(text.to_owned(), font, cx.theme.muted);
    if galley.size().x > rect.height() {
        return;
    }
    let at = pos2(rect.left() - super::LEFT + 1.0, rect.center().y + galley.size().x * 0.5);
    let mut shape = egui::epaint::TextShape::new(at, galley, cx.theme.muted);
    shape.angle = -std::f32::consts::FRAC_PI_2;
    painter.add(Drawn::Text(shape));
}

/// How far the hovered or first selected sample is from the mean, dimension by dimension.
pub fn deviation(ui: &Ui, cx: &Cx<'_>, plot: &Plot<'_>, rect: Rect) {
    let theme = cx.theme;
    let prepared = plot.prepared;
    let samples = &prepared.result.samples;
    let shown = match cx.state.selection.hovered {
        Some(Item::Sample(sample)) => Some(sample),
        _ => cx.state.selection.samples().next(),
    };
    let Some((index, sample)) = shown.and_then(|index| Some((index, samples.get(index)?))) else {
        let hint = "point at a sample to see its distance from the mean here, in σ";
        axes::caption(ui, rect, Align2::CENTER_CENTER, hint, theme.muted);
        return;
    };
    let painter = ui.painter_at(rect.intersect(ui.clip_rect()));
    let mut mesh = Mesh::default();
    // Where several dimensions share a pixel, the one that is farthest off is shown.
    let stride = (0.75 / plot.column_width()).ceil().max(1.0) as usize;
    let visible = plot.visible();
    for start in visible.clone().step_by(stride) {
        let end = (start + stride).min(visible.end);
        let off = (start..end).map(|position| {
            let dimension = prepared.arrangement.dimensions[position];
            let density = &prepared.result.distribution.dimensions()[dimension];
            let sigma = prepared.total[dimension].sqrt().max(f64::MIN_POSITIVE);
            let value = sample.values.get(dimension).map_or(0.0, |&value| f64::from(value));
            (value - density.mu()) / sigma
        });
        let most = off.fold(0.0, |most: f64, off| if off.abs() > most.abs() { off } else { most });
        let x = plot.x_of(start as f64)..=plot.x_of(end as f64);
        let colour = colour_map::diverging((most / DEVIATION_LIMIT) as f32, theme);
        mesh.add_colored_rect(Rect::from_x_y_ranges(x, rect.y_range()), colour);
    }
    painter.add(mesh);
    let left = Rect::from_min_max(
        pos2(rect.left() - super::LEFT, rect.top()),
        pos2(rect.left() - 4.0, rect.bottom()),
    );
    axes::caption(ui, left, Align2::RIGHT_CENTER, &format!("#{index} - μ"), theme.samples);
    let id = ui.scope_id().with("deviation");
    ui.interact(rect, id, egui::Sense::hover()).on_hover_text(format!(
        "Sample #{index} minus the mean, in σ of each dimension: blue below, brown above, limits \
         -{DEVIATION_LIMIT} to {DEVIATION_LIMIT}"
    ));
}
