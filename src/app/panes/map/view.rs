//! From the plane of the map to the screen and back.

use egui::{Pos2, Rect, Vec2, pos2};

/// What of the plane is seen: the middle, and how many units fit into the smaller side.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    pub centre: [f32; 2],
    span: f32,
}

impl Default for View {
    fn default() -> Self {
        Self { centre: [0.0; 2], span: 2.0 }
    }
}

impl View {
    /// Shows all points with some room around them.
    pub fn fitted(points: &[[f32; 2]]) -> Self {
        let mut low = [f32::INFINITY; 2];
        let mut high = [f32::NEG_INFINITY; 2];
        for point in points {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        let span = (high[0] - low[0]).max(high[1] - low[1]) * 1.15;
        if !span.is_finite() || span <= 0.0 {
            return Self::default();
        }
        Self { centre: [(low[0] + high[0]) / 2.0, (low[1] + high[1]) / 2.0], span }
    }

    pub fn points_per_unit(self, plot: Rect) -> f32 {
        plot.size().min_elem() / self.span
    }

    pub fn screen(self, [x, y]: [f32; 2], plot: Rect) -> Pos2 {
        let scale = self.points_per_unit(plot);
        let middle = plot.center();
        pos2(middle.x + (x - self.centre[0]) * scale, middle.y - (y - self.centre[1]) * scale)
    }

    pub fn data(self, at: Pos2, plot: Rect) -> [f32; 2] {
        let scale = self.points_per_unit(plot);
        let middle = plot.center();
        [self.centre[0] + (at.x - middle.x) / scale, self.centre[1] - (at.y - middle.y) / scale]
    }

    pub fn pan(&mut self, by: Vec2, plot: Rect) {
        let scale = self.points_per_unit(plot);
        self.centre[0] -= by.x / scale;
        self.centre[1] += by.y / scale;
    }

    /// Zooms by `factor` (above 1: closer); what is at `at` stays there.
    pub fn zoom(&mut self, factor: f32, at: Pos2, plot: Rect) {
        let before = self.data(at, plot);
        self.span = (self.span / factor).clamp(1e-5, 1e5);
        let after = self.data(at, plot);
        for axis in 0..2 {
            self.centre[axis] += before[axis] - after[axis];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot() -> Rect {
        Rect::from_min_size(pos2(40.0, 20.0), egui::vec2(500.0, 300.0))
    }

    #[test]
    fn screen_and_data_are_inverse() {
        let view = View::fitted(&[[-1.0, 0.5], [2.0, 1.5], [0.0, -3.0]]);
        for point in [[0.0, 0.0], [1.5, -2.0], [-0.3, 1.1]] {
            let back = view.data(view.screen(point, plot()), plot());
            assert!((back[0] - point[0]).abs() < 1e-4 && (back[1] - point[1]).abs() < 1e-4);
        }
    }

    #[test]
    fn zooming_keeps_what_is_under_the_pointer() {
        let mut view = View::default();
        let at = pos2(111.0, 222.0);
        let before = view.data(at, plot());
        view.zoom(3.0, at, plot());
        let after = view.data(at, plot());
        assert!((before[0] - after[0]).abs() < 1e-5 && (before[1] - after[1]).abs() < 1e-5);
    }

    #[test]
    fn a_map_of_one_point_can_be_shown() {
        assert_eq!(View::fitted(&[[3.0, 3.0]]), View::default());
        assert_eq!(View::fitted(&[]), View::default());
    }
}
