//! Variance of every dimension, below the heat map on the same axis.
//!
//! Variances add up, so aleatoric and epistemic are stacked; standard deviations do not, so as σ
//! they are drawn as lines.

use egui::{Align2, Color32, ColorImage, FontId, Mesh, Painter, Pos2, Rect, Shape, Stroke};
use egui::{TextureHandle, TextureOptions, Ui, pos2, vec2};

use super::{Plot, UncertaintyPane, heat_map};
use crate::app::panes::Cx;
use crate::app::panes::axes::{self, Range};

/// Points between two lines of the hatching.
const PITCH: f32 = 4.0;

/// One step of the plot: some neighbouring dimensions and the largest values among them.
struct Step {
    start: usize,
    end: usize,
    aleatoric: f64,
    epistemic: f64,
    total: f64,
    other: Option<f64>,
}

/// Draws header and plot.
pub fn show(
    ui: &Ui,
    cx: &Cx<'_>,
    pane: &mut UncertaintyPane,
    plot: &Plot<'_>,
    header: Rect,
    rect: Rect,
) {
    let sigma = pane.as_sigma;
    let steps = steps(plot, sigma);
    let highest = steps
        .iter()
        .map(|step| step.total.max(step.other.unwrap_or(0.0)))
        .fold(0.0, f64::max)
        .max(f64::MIN_POSITIVE);
    let y = Range::new(0.0, highest * 1.06);
    let y_of = |value: f64| rect.bottom() - (y.share(value) * f64::from(rect.height())) as f32;
    legend(ui, cx, plot, header, sigma);

    let painter = ui.painter_at(rect.intersect(ui.clip_rect()));
    let most = (rect.height() / 32.0).clamp(2.0, 5.0) as usize;
    let step = axes::step(y.width(), most);
    for value in axes::ticks(&y, most) {
        let at = pos2(rect.left() - 4.0, y_of(value));
        let text = if value == 0.0 { "0".to_owned() } else { axes::number(value) };
        let text = if step >= 1e-3 { axes::tick_label(value, step) } else { text };
        heat_map::value_tick(ui, cx, rect, at, &text);
        painter.hline(rect.x_range(), at.y, Stroke::new(1.0, cx.theme.text.gamma_multiply(0.12)));
    }
    heat_map::axis_name(ui, cx, rect, if sigma { "σ" } else { "variance" });

    let theme = cx.theme;
    if sigma {
        stairs(&painter, plot, &steps, &y_of, |s| s.aleatoric, Stroke::new(1.5, theme.aleatoric));
        let line = staircase(plot, &steps, &y_of, |s| s.epistemic);
        painter.extend(Shape::dashed_line(&line, Stroke::new(1.5, theme.epistemic), 4.0, 3.0));
    } else {
        let mut solid = Mesh::default();
        let mut light = Mesh::default();
        let hatch = hatch(ui, pane);
        let mut lines = Mesh::with_texture(hatch.id());
        for step in &steps {
            let (left, right) = (plot.x_of(step.start as f64), plot.x_of(step.end as f64));
            let middle = y_of(step.aleatoric);
            let area =
                |top: f32, bottom: f32| Rect::from_min_max(pos2(left, top), pos2(right, bottom));
            solid.add_colored_rect(area(middle, rect.bottom()), theme.aleatoric);
            let upper = area(y_of(step.aleatoric + step.epistemic), middle);
            light.add_colored_rect(upper, theme.epistemic.gamma_multiply(0.35));
            let uv = Rect::from_min_max(tile(upper.min), tile(upper.max));
            lines.add_rect_with_uv(upper, uv, theme.epistemic);
        }
        painter.add(solid);
        painter.add(light);
        painter.add(lines);
    }
    stairs(&painter, plot, &steps, &y_of, |s| s.total, Stroke::new(2.0, theme.total));
    if plot.prepared.other.is_some() {
        let line = staircase(plot, &steps, &y_of, |s| s.other.unwrap_or(0.0));
        painter.extend(Shape::dashed_line(&line, Stroke::new(1.5, theme.total), 6.0, 4.0));
        if let Some(&end) = line.last() {
            let at = pos2(rect.right() - 4.0, (end.y - 2.0).max(rect.top() + 14.0));
            axes::tag(&painter, at, Align2::RIGHT_BOTTOM, "B", theme.total, theme.panel);
        }
    }
    heat_map::fade(&painter, cx, plot, rect);
    ui.painter().hline(rect.x_range(), rect.bottom(), Stroke::new(1.0, theme.edge));
}

/// The visible dimensions; where several share a pixel, the one of largest total stands for them,
/// so that spikes stay visible.
fn steps(plot: &Plot<'_>, sigma: bool) -> Vec<Step> {
    let prepared = plot.prepared;
    let distribution = &prepared.result.distribution;
    let stride = (0.75 / plot.column_width()).ceil().max(1.0) as usize;
    let visible = plot.visible();
    let shown = |variance: f64| if sigma { variance.max(0.0).sqrt() } else { variance };
    visible
        .clone()
        .step_by(stride)
        .filter_map(|start| {
            let end = (start + stride).min(visible.end);
            let dimensions = &prepared.arrangement.dimensions[start..end];
            let largest =
                |of: &[f64]| dimensions.iter().copied().max_by(|&a, &b| of[a].total_cmp(&of[b]));
            let dimension = largest(&prepared.total)?;
            let other = prepared.other.as_ref().and_then(|other| {
                largest(&other.total).map(|dimension| shown(other.total[dimension]))
            });
            Some(Step {
                start,
                end,
                aleatoric: shown(distribution.aleatoric()[dimension]),
                epistemic: shown(distribution.epistemic()[dimension]),
                total: shown(prepared.total[dimension]),
                other,
            })
        })
        .collect()
}

fn staircase(
    plot: &Plot<'_>,
    steps: &[Step],
    y_of: &impl Fn(f64) -> f32,
    value: impl Fn(&Step) -> f64,
) -> Vec<Pos2> {
    steps
        .iter()
        .flat_map(|step| {
            let y = y_of(value(step));
            [pos2(plot.x_of(step.start as f64), y), pos2(plot.x_of(step.end as f64), y)]
        })
        .collect()
}

fn stairs(
    painter: &Painter,
    plot: &Plot<'_>,
    steps: &[Step],
    y_of: &impl Fn(f64) -> f32,
    value: impl Fn(&Step) -> f64,
    stroke: Stroke,
) {
    painter.line(staircase(plot, steps, y_of, value), stroke);
}

/// What the plot shows, in its own colours and patterns.
fn legend(ui: &Ui, cx: &Cx<'_>, plot: &Plot<'_>, rect: Rect, sigma: bool) {
    let theme = cx.theme;
    let painter = ui.painter();
    let caption = if sigma { "σ, embedding units" } else { "variance, units²" };
    let taken = axes::caption(ui, rect, Align2::LEFT_CENTER, caption, theme.muted);
    let mut x = taken.right() + 14.0;
    let y = rect.center().y;
    let mut entries = vec![
        ("aleatoric", theme.aleatoric),
        ("epistemic", theme.epistemic),
        (if sigma { "total" } else { "total = sum" }, theme.total),
    ];
    if plot.prepared.other.is_some() {
        entries.push(("total of B", theme.total));
    }
    for (name, colour) in entries {
        let font = FontId::proportional(axes::AXIS_TEXT);
        let galley = painter.layout_no_wrap(name.to_owned(), font, theme.muted);
        if x + 18.0 + galley.size().x > rect.right() {
            break;
        }
        let swatch = Rect::from_min_max(pos2(x, y - 4.0), pos2(x + 14.0, y + 4.0));
        swatch_of(painter, swatch, name, colour, sigma);
        let width = galley.size().x;
        painter.galley(pos2(x + 18.0, y - galley.size().y * 0.5), galley, theme.muted);
        x += 18.0 + width + 12.0;
    }
}

fn swatch_of(painter: &Painter, swatch: Rect, name: &str, colour: Color32, sigma: bool) {
    let line = [swatch.left_center(), swatch.right_center()];
    match name {
        "aleatoric" if !sigma => {
            painter.rect_filled(swatch, 0.0, colour);
        }
        "epistemic" if !sigma => {
            painter.rect_filled(swatch, 0.0, colour.gamma_multiply(0.35));
            let painter = painter.with_clip_rect(swatch.intersect(painter.clip_rect()));
            for i in -2..4 {
                let from = swatch.left_bottom() + vec2(i as f32 * PITCH, 0.0);
                painter.line_segment([from, from + vec2(8.0, -8.0)], Stroke::new(1.0, colour));
            }
        }
        "epistemic" => {
            painter.extend(Shape::dashed_line(&line, Stroke::new(1.5, colour), 4.0, 3.0));
        }
        "total of B" => {
            painter.extend(Shape::dashed_line(&line, Stroke::new(1.5, colour), 6.0, 4.0));
        }
        _ => {
            let width = if name == "aleatoric" { 1.5 } else { 2.0 };
            painter.line_segment(line, Stroke::new(width, colour));
        }
    }
}

/// Place of a point in the repeated hatching.
fn tile(at: Pos2) -> Pos2 {
    pos2(at.x / PITCH, at.y / PITCH)
}

/// A tile of 45° lines, white, to be coloured by the mesh.
fn hatch(ui: &Ui, pane: &mut UncertaintyPane) -> TextureHandle {
    const SIDE: usize = 16;
    let make = || {
        let mut pixels = Vec::with_capacity(SIDE * SIDE);
        for y in 0..SIDE {
            for x in 0..SIDE {
                // Distance across the diagonal to the nearest line, in pixels of the tile.
                let along = (x + y) % SIDE;
                let off = along.min(SIDE - along) as f32 * std::f32::consts::FRAC_1_SQRT_2;
                let cover = (2.5 - off).clamp(0.0, 1.0);
                pixels.push(Color32::WHITE.gamma_multiply(cover));
            }
        }
        ui.load_texture(
            "hatching",
            ColorImage::new([SIDE, SIDE], pixels),
            TextureOptions::LINEAR_REPEAT,
        )
    };
    pane.hatch.get_or_insert_with(make).clone()
}
