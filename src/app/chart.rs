//! Small charts with two axes, painted by hand.
//!
//! In come two axes and a size, out goes a [`Chart`] that knows where a value stands; what is
//! drawn into it is up to the pane. Ticks and limits are those of the exported figures, so that
//! the screen and the paper agree. Nothing here knows what the values mean.

use egui::{
    Align2, Color32, FontId, Painter, Pos2, Rect, Response, Sense, Stroke, Ui, WidgetInfo, pos2,
    vec2,
};

use super::theme::Theme;
use crate::export::figures::axis::Axis;
pub use crate::export::figures::axis::AxisSpec;

const TICK_FONT: f32 = 11.0;
/// Between ticks' labels.
const LABEL_GAP: f32 = 8.0;

/// A framed area with axes.
pub struct Chart {
    /// Where values are drawn.
    pub area: Rect,
    pub response: Response,
    /// Clipped to the area, with room for marks on its edge.
    pub painter: Painter,
    x: Axis,
    y: Axis,
}

impl Chart {
    /// Draws the axes over the whole width. `name` says what the chart shows, for screen readers.
    pub fn new(
        ui: &mut Ui,
        theme: &Theme,
        name: &str,
        height: f32,
        x: &AxisSpec,
        y: &AxisSpec,
    ) -> Self {
        let width = ui.available_width().max(80.0);
        let (rect, response) = ui.allocate_exact_size(vec2(width, height), Sense::hover());
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Figure, true, name));
        let painter = ui.painter().with_clip_rect(rect.intersect(ui.clip_rect()));
        let font = FontId::proportional(TICK_FONT);
        let line = ui.ctx().fonts_mut(|fonts| fonts.row_height(&font));
        let text_width = |text: &str| {
            let galley = painter.layout_no_wrap(text.to_owned(), font.clone(), theme.muted);
            galley.size().x
        };
        let y_ticks = Axis::new(y, 1.0, 0.0).ticks();
        let left = y_ticks.iter().map(|(_, text)| text_width(text)).fold(0.0, f32::max) + 8.0;
        let area = Rect::from_min_max(
            pos2(rect.left() + left, rect.top() + line + 4.0),
            pos2(rect.right() - 8.0, rect.bottom() - 2.0 * line - 6.0),
        );
        let x_axis = Axis::new(x, area.left().into(), area.right().into());
        let y_axis = Axis::new(y, area.bottom().into(), area.top().into());
        let grid = Stroke::new(1.0, theme.text.gamma_multiply(0.12));
        let axis = Stroke::new(1.0, theme.edge);
        for (value, text) in y_ticks {
            let at = y_axis.position(value) as f32;
            painter.hline(area.x_range(), at, grid);
            let place = pos2(area.left() - 6.0, at);
            painter.text(place, Align2::RIGHT_CENTER, text, font.clone(), theme.muted);
        }
        let mut free_from = f32::NEG_INFINITY;
        for (value, text) in x_axis.ticks() {
            let at = x_axis.position(value) as f32;
            let half = text_width(&text) / 2.0;
            painter.vline(at, egui::Rangef::new(area.bottom(), area.bottom() + 3.0), axis);
            // Labels that would run into the one before are left out; their ticks stay.
            if at - half >= free_from {
                let place = pos2(at.min(rect.right() - half), area.bottom() + 4.0);
                painter.text(place, Align2::CENTER_TOP, text, font.clone(), theme.muted);
                free_from = at + half + LABEL_GAP;
            }
        }
        painter.hline(area.x_range(), area.bottom(), axis);
        let label = |text: &str, place: Pos2| {
            let mut job =
                egui::text::LayoutJob::simple_singleline(text.to_owned(), font.clone(), theme.text);
            job.wrap = egui::text::TextWrapping::truncate_at_width(rect.width() - 4.0);
            painter.galley(place, painter.layout_job(job), theme.text);
        };
        label(&y.label, rect.left_top());
        label(&x.label, pos2(area.left(), rect.bottom() - line));
        let painter = painter.with_clip_rect(area.expand(8.0).intersect(painter.clip_rect()));
        Self { area, response, painter, x: x_axis, y: y_axis }
    }

    /// Where a pair of values stands; beyond an axis: at its end.
    pub fn at(&self, x: f64, y: f64) -> Pos2 {
        pos2(self.x.position(x) as f32, self.y.position(y) as f32)
    }

    /// A vertical interval.
    pub fn interval(&self, x: f64, [low, high]: [f64; 2], width: f32, colour: Color32) {
        let ends = [self.at(x, low), self.at(x, high)];
        self.painter.line_segment(ends, Stroke::new(width, colour));
    }

    /// Which of `values` on the x axis the pointer is nearest to, if it is over the chart.
    pub fn nearest(&self, values: impl Iterator<Item = f64>) -> Option<usize> {
        let pointer = self.response.hover_pos()?;
        let distance = |x: f64| (self.at(x, 0.0).x - pointer.x).abs();
        let nearest = values.map(distance).enumerate().min_by(|a, b| a.1.total_cmp(&b.1))?;
        Some(nearest.0)
    }

    /// A band behind one value, to point it out.
    pub fn highlight(&self, x: f64, theme: &Theme) {
        let at = self.at(x, 0.0).x;
        let band = Rect::from_x_y_ranges((at - 9.0)..=(at + 9.0), self.area.y_range());
        self.painter.rect_filled(band, 2.0, theme.hover);
    }
}

/// A filled diamond: the mark of means.
pub fn diamond(painter: &Painter, centre: Pos2, radius: f32, colour: Color32) {
    let corner = |x: f32, y: f32| centre + radius * vec2(x, y);
    let corners = vec![corner(0.0, -1.0), corner(1.0, 0.0), corner(0.0, 1.0), corner(-1.0, 0.0)];
    painter.add(egui::Shape::convex_polygon(corners, colour, Stroke::NONE));
}

/// A number with three digits that count, for values of any size.
pub fn short_number(value: f64) -> String {
    let size = value.abs();
    if value == 0.0 {
        "0".to_owned()
    } else if !(1e-4..1e5).contains(&size) {
        format!("{value:.2e}")
    } else {
        let decimals = (2 - size.log10().floor() as i32).clamp(0, 6) as usize;
        format!("{value:.decimals$}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_three_digits_whatever_their_size() {
        assert_eq!(short_number(0.0123456), "0.0123");
        assert_eq!(short_number(12.3456), "12.3");
        assert_eq!(short_number(-1234.2), "-1234");
        assert_eq!(short_number(0.00001234), "1.23e-5");
        assert_eq!(short_number(0.0), "0");
    }
}
