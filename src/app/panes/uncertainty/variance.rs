//! Variance by dimension, in the order of the heat map: aleatoric and epistemic stacked, since
//! variances add; or standard deviations as lines, since those do not.

use egui::{Color32, FontId, Rect, Sense, Stroke, Ui, pos2, vec2};

use super::heat_map::{LEFT, RIGHT};
use super::prepared::Prepared;
use crate::app::panes::Cx;
use crate::app::state::selection::Item;

const TOP: f32 = 16.0;
const BOTTOM: f32 = 6.0;

pub fn ui(
    ui: &mut Ui,
    cx: &mut Cx<'_>,
    prepared: &Prepared,
    deviations: bool,
    [low, high]: [f32; 2],
    height: f32,
) {
    let (whole, response) =
        ui.allocate_exact_size(vec2(ui.available_width(), height), Sense::hover());
    let plot = Rect::from_min_max(whole.min + vec2(LEFT, TOP), whole.max - vec2(RIGHT, BOTTOM));
    if plot.width() < 20.0 || plot.height() < 20.0 {
        return;
    }
    let root = |v: f64| if deviations { v.sqrt() } else { v };
    let seen = (low.max(0.0) as usize)..(high.ceil().max(0.0) as usize).min(prepared.order.len());
    let top = seen
        .clone()
        .map(|place| root(prepared.total[prepared.order[place]]))
        .fold(f64::MIN_POSITIVE, f64::max);
    let x = |place: f32| plot.left() + (place - low) / (high - low) * plot.width();
    let y = |value: f64| plot.bottom() - (value / top) as f32 * plot.height();
    let painter = ui.painter().with_clip_rect(plot.expand(1.0));
    let selection = &cx.state.selection;
    let mut lines: [Vec<egui::Pos2>; 3] = Default::default();
    for place in seen {
        let d = prepared.order[place];
        let (left, right) = (x(place as f32), x(place as f32 + 1.0));
        let gap = if right - left > 4.0 { 0.5 } else { 0.0 };
        let opacity = selection.opacity(Item::Dimension(d));
        let (a, e) = (prepared.aleatoric[d], prepared.epistemic[d]);
        if deviations {
            for (line, value) in lines.iter_mut().zip([a, e, prepared.total[d]]) {
                line.push(pos2((left + right) / 2.0, y(value.sqrt())));
            }
            continue;
        }
        let bar = |from: f64, to: f64, colour: Color32| {
            let rect = Rect::from_min_max(pos2(left + gap, y(to)), pos2(right - gap, y(from)));
            painter.rect_filled(rect, 0.0, colour.gamma_multiply(opacity));
        };
        bar(0.0, a, cx.theme.aleatoric);
        bar(a, a + e, cx.theme.epistemic);
        if selection.hovered == Some(Item::Dimension(d)) {
            let rect = Rect::from_min_max(pos2(left, plot.top()), pos2(right, plot.bottom()));
            painter.rect_stroke(
                rect,
                0.0,
                Stroke::new(1.0, cx.theme.strong),
                egui::StrokeKind::Inside,
            );
        }
    }
    if deviations {
        let [aleatoric, epistemic, total] = lines;
        painter.add(egui::Shape::line(total, Stroke::new(2.0, cx.theme.total)));
        painter.add(egui::Shape::line(aleatoric, Stroke::new(1.5, cx.theme.aleatoric)));
        let dashes =
            egui::Shape::dashed_line(&epistemic, Stroke::new(1.5, cx.theme.epistemic), 4.0, 3.0);
        painter.extend(dashes);
    }
    legend(ui, cx, whole, plot, top, deviations);
    response.on_hover_text(
        "Aleatoric plus epistemic variance. Variances add; their square roots (\u{3c3}) do not.",
    );
}

fn legend(ui: &Ui, cx: &Cx<'_>, whole: Rect, plot: Rect, top: f64, deviations: bool) {
    let painter = ui.painter();
    let font = FontId::proportional(11.0);
    let axis = if deviations { "\u{3c3}, embedding units" } else { "variance, units\u{b2}" };
    painter.text(whole.left_top(), egui::Align2::LEFT_TOP, axis, font.clone(), cx.theme.muted);
    let text = if top < 0.01 { format!("{top:.1e}") } else { format!("{top:.2}") };
    painter.text(
        pos2(plot.left() - 5.0, plot.top()),
        egui::Align2::RIGHT_TOP,
        text,
        font.clone(),
        cx.theme.muted,
    );
    painter.text(
        pos2(plot.left() - 5.0, plot.bottom()),
        egui::Align2::RIGHT_BOTTOM,
        "0",
        font.clone(),
        cx.theme.muted,
    );
    painter.hline(plot.x_range(), plot.bottom(), Stroke::new(1.0, cx.theme.hairline));
    let mut right = whole.right() - RIGHT;
    let mut names = vec![("epistemic", cx.theme.epistemic), ("aleatoric", cx.theme.aleatoric)];
    if deviations {
        names.insert(0, ("total", cx.theme.total));
    }
    if whole.width() < 300.0 {
        return;
    }
    for (name, colour) in names {
        let place = pos2(right, whole.top());
        let text = painter.text(place, egui::Align2::RIGHT_TOP, name, font.clone(), cx.theme.text);
        let mark =
            Rect::from_min_size(pos2(text.left() - 12.0, text.center().y - 4.0), vec2(8.0, 8.0));
        painter.rect_filled(mark, 2.0, colour);
        right = mark.left() - 10.0;
    }
}
