//! The control "from the mean to the tails": a band of typicality with two handles, over a tick
//! for every sample.

use egui::{
    Align2, EventFilter, FontId, Key, Modifiers, Rect, Response, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, pos2, vec2,
};

use crate::app::state::sample_order::TypicalityBand;
use crate::app::theme::Theme;

const WIDTH: f32 = 216.0;
const HEIGHT: f32 = 24.0;
const TRACK: f32 = 6.0;
const HANDLE: f32 = 10.0;
/// Room for the words at both ends.
const WORDS: f32 = 34.0;
/// More ticks than this would be one bar.
const TICKS: usize = 256;
/// Step of the arrow keys.
const STEP: f64 = 0.01;

const MEANING: &str = "Shows only samples of this typicality. 83 %: this draw is likelier than \
                       83 % of draws. Low means from the tail; the mean scores highest though \
                       almost no draw is near it.";

/// Shows the control; the band as changed by the user.
pub fn show(
    ui: &mut Ui,
    theme: &Theme,
    band: TypicalityBand,
    typicalities: impl ExactSizeIterator<Item = f64>,
) -> Option<TypicalityBand> {
    // Of a whole row: a wrapping one has little left at its end.
    let width = WIDTH.min(ui.max_rect().width());
    let (rect, whole) = ui.allocate_exact_size(vec2(width, HEIGHT), Sense::hover());
    let track = Rect::from_min_max(
        pos2(rect.left() + WORDS, rect.center().y - TRACK / 2.0),
        pos2(rect.right() - WORDS, rect.center().y + TRACK / 2.0),
    );
    let scale = Scale { left: track.left(), right: track.right() };

    let painter = ui.painter();
    let small = FontId::proportional(11.0);
    let left = pos2(rect.left(), rect.center().y);
    painter.text(left, Align2::LEFT_CENTER, "mean", small.clone(), theme.muted);
    let right = pos2(rect.right(), rect.center().y);
    painter.text(right, Align2::RIGHT_CENTER, "tails", small, theme.muted);
    painter.rect(track, 3, theme.window, Stroke::new(1.0, theme.hairline), StrokeKind::Inside);
    let inside = Rect::from_x_y_ranges(scale.x(band.high)..=scale.x(band.low), track.y_range());
    painter.rect_filled(inside, 3, theme.samples.gamma_multiply(0.35));
    let stride = typicalities.len().div_ceil(TICKS).max(1);
    for typicality in typicalities.step_by(stride) {
        let colour = if band.contains(typicality) { theme.samples } else { theme.edge };
        let x = scale.x(typicality);
        painter.vline(x, track.top() - 3.0..=track.bottom() + 3.0, Stroke::new(1.0, colour));
    }

    let mut changed = None;
    let mut handle = |name: &str, value: f64, set: &dyn Fn(f64) -> TypicalityBand| {
        let place =
            Rect::from_center_size(pos2(scale.x(value), rect.center().y), vec2(HANDLE, 18.0));
        let id = whole.id.with(name);
        // A little wider than it looks, for the pointer.
        let response = ui.interact(place.expand2(vec2(3.0, 3.0)), id, Sense::click_and_drag());
        let percent = 100.0 * value;
        response.widget_info(|| WidgetInfo::slider(ui.is_enabled(), percent, name));
        if let Some(value) = moved(ui, &response, &scale, value) {
            changed = Some(set(value));
        }
        let visuals = ui.style().interact(&response);
        let edge = Stroke::new(if response.has_focus() { 2.0 } else { 1.0 }, theme.accent);
        ui.painter().rect(
            Rect::from_center_size(place.center(), vec2(HANDLE - 2.0, 16.0)),
            4,
            visuals.bg_fill,
            if response.has_focus() { edge } else { Stroke::new(1.0, theme.edge) },
            StrokeKind::Inside,
        );
        response.on_hover_text(format!("{name}: {percent:.0} %\n{MEANING}"));
    };
    handle("most typical sample shown", band.high, &|value| TypicalityBand {
        high: value.max(band.low),
        ..band
    });
    handle("least typical sample shown", band.low, &|value| TypicalityBand {
        low: value.min(band.high),
        ..band
    });
    whole.on_hover_text(MEANING);
    changed.filter(|changed| *changed != band)
}

/// Where a typicality stands on the track: 1 (the mean) at the left, 0 (the tails) at the right.
struct Scale {
    left: f32,
    right: f32,
}

impl Scale {
    fn x(&self, typicality: f64) -> f32 {
        egui::lerp(self.right..=self.left, typicality as f32)
    }

    /// Rounded to whole percents.
    fn typicality(&self, x: f32) -> f64 {
        let share = (self.right - x) / (self.right - self.left).max(1.0);
        (f64::from(share.clamp(0.0, 1.0)) * 100.0).round() / 100.0
    }
}

/// The new value of a handle that was dragged, or moved by arrow keys.
fn moved(ui: &Ui, response: &Response, scale: &Scale, value: f64) -> Option<f64> {
    if response.clicked() {
        response.request_focus();
    }
    if response.dragged()
        && let Some(pointer) = response.interact_pointer_pos()
    {
        return Some(scale.typicality(pointer.x));
    }
    if !response.has_focus() {
        return None;
    }
    let filter = EventFilter { horizontal_arrows: true, ..EventFilter::default() };
    ui.memory_mut(|memory| memory.set_focus_lock_filter(response.id, filter));
    ui.input_mut(|input| {
        // To the right is towards the tails.
        let right = input.count_and_consume_key(Modifiers::NONE, Key::ArrowRight) as f64;
        let left = input.count_and_consume_key(Modifiers::NONE, Key::ArrowLeft) as f64;
        (right != left).then(|| (value + STEP * (left - right)).clamp(0.0, 1.0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_is_at_the_left_and_positions_beyond_the_track_count_as_its_ends() {
        let scale = Scale { left: 100.0, right: 200.0 };
        assert_eq!(scale.x(1.0), 100.0);
        assert_eq!(scale.x(0.0), 200.0);
        assert_eq!(scale.typicality(100.0), 1.0);
        assert_eq!(scale.typicality(175.4), 0.25);
        assert_eq!(scale.typicality(0.0), 1.0);
        assert_eq!(scale.typicality(900.0), 0.0);
    }
}
