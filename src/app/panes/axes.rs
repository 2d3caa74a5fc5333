//! Axes of plots: a shown range that zooms and pans, round tick values, numbers in words, and text
//! that is cut with an ellipsis and shown whole when pointed at.

use std::sync::Arc;

use egui::text::{LayoutJob, TextWrapping};
use egui::{Align2, Color32, FontId, Galley, Painter, Pos2, Rect, Sense, Ui};

/// Text size of ticks and axis labels.
pub const AXIS_TEXT: f32 = 11.0;

/// A shown range of one axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range {
    pub low: f64,
    pub high: f64,
}

impl Range {
    pub fn new(low: f64, high: f64) -> Self {
        Self { low, high }
    }

    pub fn width(&self) -> f64 {
        self.high - self.low
    }

    /// Where a value lies between the ends: 0 at the low one, 1 at the high one.
    pub fn share(&self, value: f64) -> f64 {
        (value - self.low) / self.width()
    }

    /// The value at a share; the inverse of [`Self::share`].
    pub fn at(&self, share: f64) -> f64 {
        self.low + share * self.width()
    }

    /// Grown (`factor` > 1) or shrunk around the value that stays where it is.
    pub fn zoomed(&self, factor: f64, around: f64) -> Self {
        Self::new(around + (self.low - around) * factor, around + (self.high - around) * factor)
    }

    pub fn moved(&self, by: f64) -> Self {
        Self::new(self.low + by, self.high + by)
    }

    /// Not narrower than `narrowest`, not wider than `bounds`, and inside of them.
    pub fn limited(&self, narrowest: f64, bounds: &Range) -> Self {
        let width = self.width().clamp(narrowest.min(bounds.width()), bounds.width());
        let centre = 0.5 * (self.low + self.high);
        let low = (centre - 0.5 * width).clamp(bounds.low, bounds.high - width);
        Self::new(low, low + width)
    }
}

/// The step 1, 2 or 5 times a power of ten that gives at most `most` ticks over `width`.
pub fn step(width: f64, most: usize) -> f64 {
    if !(width > 0.0 && width.is_finite()) {
        return 1.0;
    }
    let rough = width / most.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|&step| step >= rough * (1.0 - 1e-9))
        .unwrap_or(10.0 * power)
}

/// Round values within a range, at most `most` or so, ascending.
pub fn ticks(range: &Range, most: usize) -> Vec<f64> {
    let step = step(range.width(), most);
    let first = (range.low / step - 1e-9).ceil();
    let last = (range.high / step + 1e-9).floor();
    if !(last - first).is_finite() || last - first > 1000.0 {
        return Vec::new();
    }
    (0..=(last - first).max(-1.0) as i64).map(|i| (first + i as f64) * step).collect()
}

/// A tick's value, with as many decimals as its step needs.
pub fn tick_label(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    if value != 0.0 && !(1e-4..1e6).contains(&step.abs()) {
        return scientific(value, 1);
    }
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    format!("{value:.decimals$}")
}

/// A number with three significant digits, in scientific notation where it is very small or large.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-3..1e5).contains(&size) {
        scientific(value, 2)
    } else {
        let decimals = (2.0 - size.log10().floor()).clamp(0.0, 6.0) as usize;
        format!("{value:.decimals$}")
    }
}

fn scientific(value: f64, decimals: usize) -> String {
    format!("{value:.decimals$e}")
}

/// A share as a whole percentage that never claims 0 or 100 where it is neither.
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if share > 0.0 && percent < 1.0 {
        "below 1 %".to_owned()
    } else if share < 1.0 && percent > 99.0 {
        "above 99 %".to_owned()
    } else {
        format!("{percent:.0} %")
    }
}

/// A count with thousands set apart.
pub fn count(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// One line of text that is at most `width` points wide.
pub fn line(
    painter: &Painter,
    text: &str,
    font: FontId,
    colour: Color32,
    width: f32,
) -> Arc<Galley> {
    let mut job = LayoutJob::simple_singleline(text.to_owned(), font, colour);
    job.wrap = TextWrapping::truncate_at_width(width.max(0.0));
    painter.layout_job(job)
}

/// Small text in a rectangle, cut with an ellipsis where it does not fit and then shown whole when
/// pointed at. Returns the space it took.
pub fn caption(ui: &Ui, rect: Rect, align: Align2, text: &str, colour: Color32) -> Rect {
    let font = FontId::proportional(AXIS_TEXT);
    let galley = line(ui.painter(), text, font, colour, rect.width());
    let space = align.align_size_within_rect(galley.size(), rect);
    if galley.elided {
        let id = ui.scope_id().with(("caption", rect.min.x as i32, rect.min.y as i32));
        ui.interact(space, id, Sense::hover()).on_hover_text(text);
    }
    ui.painter().galley(space.min, galley, colour);
    space
}

/// Text on the side of a point, on a faint ground so that it stays readable over a picture.
pub fn tag(
    painter: &Painter,
    at: Pos2,
    align: Align2,
    text: &str,
    colour: Color32,
    ground: Color32,
) {
    let galley = painter.layout_no_wrap(text.to_owned(), FontId::proportional(AXIS_TEXT), colour);
    let rect = align.anchor_size(at, galley.size());
    painter.rect_filled(rect.expand2(egui::vec2(3.0, 1.0)), 3.0, ground.gamma_multiply(0.8));
    painter.galley(rect.min, galley, colour);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zooming_keeps_the_value_under_the_pointer_where_it_is() {
        let range = Range::new(-2.0, 6.0);
        let zoomed = range.zoomed(0.25, 1.0);
        assert!((zoomed.share(1.0) - range.share(1.0)).abs() < 1e-12);
        assert!((zoomed.width() - 2.0).abs() < 1e-12);
    }

    #[test]
    fn share_and_value_are_inverse() {
        let range = Range::new(3.0, 11.0);
        for value in [3.0, 5.5, 11.0, 20.0] {
            assert!((range.at(range.share(value)) - value).abs() < 1e-12);
        }
    }

    #[test]
    fn a_limited_range_stays_inside_of_its_bounds() {
        let bounds = Range::new(0.0, 100.0);
        assert_eq!(Range::new(-20.0, 10.0).limited(4.0, &bounds), Range::new(0.0, 30.0));
        assert_eq!(Range::new(-50.0, 500.0).limited(4.0, &bounds), bounds);
        assert_eq!(Range::new(99.0, 99.5).limited(4.0, &bounds), Range::new(96.0, 100.0));
        let narrow = Range::new(0.0, 2.0);
        assert_eq!(Range::new(0.5, 1.0).limited(4.0, &narrow), narrow);
    }

    #[test]
    fn ticks_are_round_and_not_too_many() {
        assert_eq!(ticks(&Range::new(0.0, 1.0), 5), [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]);
        assert_eq!(ticks(&Range::new(-3.0, 3.0), 3), [-2.0, 0.0, 2.0]);
        assert_eq!(ticks(&Range::new(7.0, 768.0), 8), [100., 200., 300., 400., 500., 600., 700.]);
        assert!(ticks(&Range::new(0.0, f64::NAN), 5).len() < 1002);
    }

    #[test]
    fn numbers_are_short_and_keep_three_digits() {
        assert_eq!(number(0.0), "0");
        assert_eq!(number(0.012345), "0.0123");
        assert_eq!(number(-12.345), "-12.3");
        assert_eq!(number(0.00012345), "1.23e-4");
        assert_eq!(tick_label(0.30000000000000004, 0.1), "0.3");
        assert_eq!(tick_label(200.0, 100.0), "200");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
    }

    #[test]
    fn a_share_is_never_rounded_to_none_or_all() {
        assert_eq!(percent(0.002), "below 1 %");
        assert_eq!(percent(0.998), "above 99 %");
        assert_eq!(percent(0.834), "83 %");
        assert_eq!(percent(1.0), "100 %");
        assert_eq!(percent(0.0), "0 %");
    }
}
