//! Key figures of A and B: both values on one axis, and their difference in words.

use egui::{Align, Align2, Color32, FontId, Layout, Rect, RichText, Sense, Stroke, Ui, pos2, vec2};

use super::comparison::{Comparison, Pair};
use super::letter;
use crate::app::panes::samples::statistics::{number, percentile};
use crate::app::theme::Theme;

const ALEATORIC: &str = "Spread the model expects because this text or image fits many meanings. \
                         More training data would not remove it.";
const TOTAL: &str = "Aleatoric plus epistemic variance. Variances add; their square roots (σ) do \
                     not.";
const STRIP: f32 = 40.0;
const SMALL: f32 = 11.0;

/// One figure.
struct Figure<'a> {
    name: &'a str,
    meaning: &'a str,
    colour: Color32,
    values: Pair<f64>,
    /// What a value reads as.
    text: Pair<String>,
    difference: String,
    /// The right end of the axis.
    end: f64,
}

/// Shows variances and percentiles.
pub fn show(ui: &mut Ui, theme: &Theme, comparison: &Comparison, passes: Pair<usize>) {
    if let Some(figures) = &comparison.figures {
        let epistemic = format!(
            "Disagreement between runs of the same adapter with dropout (A: {} runs, B: {}). It \
             should shrink with more data like this query.",
            passes.a, passes.b
        );
        // Room behind the larger value, so that its mark and the axis label do not meet.
        let end = 1.15 * figures.total.a.max(figures.total.b);
        for (name, meaning, colour, values) in [
            ("aleatoric", ALEATORIC, theme.aleatoric, figures.aleatoric),
            ("epistemic", epistemic.as_str(), theme.epistemic, figures.epistemic),
            ("total", TOTAL, theme.total, figures.total),
        ] {
            let text = Pair { a: number(values.a), b: number(values.b) };
            let difference = difference(values);
            let figure = Figure { name, meaning, colour, values, text, difference, end };
            strip(ui, theme, &figure);
        }
        let unit = "variance, mean over dimensions, squared embedding units; one axis for all";
        ui.label(RichText::new(unit).small().color(theme.muted));
    }
    if let Some(percentiles) = &comparison.percentiles {
        ui.add_space(4.0);
        let values = Pair { a: percentiles.a.share_below, b: percentiles.b.share_below };
        let meaning = format!(
            "More uncertain than {} (A) and {} (B) of the gallery's own captions or images. A \
             comparison, not a probability of being wrong.",
            percentile(values.a),
            percentile(values.b)
        );
        let figure = Figure {
            name: "percentile",
            meaning: &meaning,
            colour: theme.gallery,
            values,
            text: Pair { a: percentile(values.a), b: percentile(values.b) },
            difference: format!("{:+.0} points", 100.0 * (values.a - values.b)),
            end: 1.0,
        };
        strip(ui, theme, &figure);
        let (a, b) = (percentiles.a.count, percentiles.b.count);
        let unit = format!("aleatoric variance among the gallery's own, of {a} (A) and {b} (B)");
        ui.label(RichText::new(unit).small().color(theme.muted));
    }
}

/// A - B, and how many times B is in A.
fn difference(values: Pair<f64>) -> String {
    let Pair { a, b } = values;
    let sign = if a >= b { "+" } else { "−" };
    let mut text = format!("{sign}{}", number((a - b).abs()));
    if b > 0.0 && a > 0.0 {
        text += &format!(" ({:.2}×)", a / b);
    }
    text
}

/// A line of words and, below, an axis from 0 with A above it and B under it.
fn strip(ui: &mut Ui, theme: &Theme, figure: &Figure<'_>) {
    let words = ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 6.0;
        let (dot, _) = ui.allocate_exact_size(vec2(10.0, 16.0), Sense::hover());
        ui.painter().circle_filled(dot.center(), 4.0, figure.colour);
        ui.label(RichText::new(figure.name).color(theme.strong));
        letter(ui, theme, "A");
        ui.monospace(&figure.text.a);
        letter(ui, theme, "B");
        ui.monospace(&figure.text.b);
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            ui.label(RichText::new("A − B").color(theme.muted));
            ui.monospace(&figure.difference);
        });
    });
    words.response.on_hover_text(figure.meaning);

    let (rect, response) =
        ui.allocate_exact_size(vec2(ui.available_width(), STRIP), Sense::hover());
    let axis = Rect::from_min_max(
        pos2(rect.left() + 8.0, rect.center().y),
        pos2(rect.right() - 8.0, rect.center().y),
    );
    let painter = ui.painter();
    let x = |value: f64| {
        let share = if figure.end > 0.0 { (value / figure.end).clamp(0.0, 1.0) } else { 0.0 };
        egui::lerp(axis.x_range(), share as f32)
    };
    painter.hline(axis.x_range(), axis.top(), Stroke::new(1.0, theme.edge));
    let (a, b) = (x(figure.values.a), x(figure.values.b));
    painter.hline(a.min(b)..=a.max(b), axis.top(), Stroke::new(4.0, figure.colour));
    let font = || FontId::proportional(SMALL);
    // A stands above the axis and is filled, B below it and is hollow.
    let above = pos2(a, axis.top() - 7.0);
    painter.line_segment([pos2(a, axis.top()), above], Stroke::new(1.0, theme.strong));
    painter.circle_filled(above, 4.0, theme.strong);
    painter.text(above + vec2(6.0, -2.0), anchor(a, axis), "A", font(), theme.strong);
    let below = pos2(b, axis.top() + 7.0);
    painter.line_segment([pos2(b, axis.top()), below], Stroke::new(1.0, theme.strong));
    painter.circle(below, 4.0, theme.panel, Stroke::new(1.5, theme.strong));
    painter.text(below + vec2(6.0, 2.0), anchor(b, axis), "B", font(), theme.strong);
    let end = if figure.end == 1.0 { "100 %".to_owned() } else { number(figure.end) };
    let at = pos2(rect.left(), rect.bottom());
    painter.text(at, Align2::LEFT_BOTTOM, "0", font(), theme.muted);
    painter.text(rect.right_bottom(), Align2::RIGHT_BOTTOM, end, font(), theme.muted);
    response.on_hover_text(figure.meaning);
}

/// Letters stand right of their mark, or left of it at the right end.
fn anchor(x: f32, axis: Rect) -> Align2 {
    if x > axis.right() - 12.0 { Align2([Align::Max, Align::Center]) } else { Align2::LEFT_CENTER }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_has_a_sign_and_a_ratio_where_there_is_one() {
        assert_eq!(difference(Pair { a: 0.4, b: 0.2 }), "+0.200 (2.00×)");
        assert_eq!(difference(Pair { a: 0.2, b: 0.4 }), "−0.200 (0.50×)");
        assert_eq!(difference(Pair { a: 0.2, b: 0.0 }), "+0.200");
        assert_eq!(difference(Pair { a: 0.0, b: 0.0 }), "+0.000");
    }
}
