//! Which part of the plane is shown: one scale for both axes, so that the map is not distorted.

use egui::{Pos2, Rect, Vec2, pos2, vec2};

use crate::app::gpu::points::Transform;

/// Furthest that the map can be zoomed in, as a multiple of the whole map.
const CLOSEST: f64 = 5000.0;
/// Furthest that it can be zoomed out.
const FARTHEST: f64 = 0.2;

/// Centre of the view and points per unit of data.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Camera {
    pub centre: [f64; 2],
    pub scale: f64,
}

/// Smallest rectangle around finite positions, as low and high corner.
pub fn bounds<'a>(positions: impl IntoIterator<Item = &'a [f32; 2]>) -> Option<[[f32; 2]; 2]> {
    let mut bounds: Option<[[f32; 2]; 2]> = None;
    for &[x, y] in positions {
        if x.is_finite() && y.is_finite() {
            let [low, high] = bounds.get_or_insert([[x, y]; 2]);
            *low = [low[0].min(x), low[1].min(y)];
            *high = [high[0].max(x), high[1].max(y)];
        }
    }
    bounds
}

impl Camera {
    /// All of `bounds` in a rectangle of `size`, with a margin.
    pub fn fit([low, high]: [[f32; 2]; 2], size: Vec2) -> Self {
        let [low, high] = [low, high].map(|corner| corner.map(f64::from));
        let extent = |axis: usize| (high[axis] - low[axis]).max(1e-9);
        let scale = (f64::from(size.x) * 0.9 / extent(0)).min(f64::from(size.y) * 0.88 / extent(1));
        let centre = [0.5 * (low[0] + high[0]), 0.5 * (low[1] + high[1])];
        Self { centre, scale: scale.max(1e-9) }
    }

    /// How points of the data get on screen; y grows upward.
    pub fn transform(&self, rect: Rect) -> Transform {
        let scale = self.scale as f32;
        let centre = rect.center();
        let offset = pos2(
            centre.x - (self.centre[0] * self.scale) as f32,
            centre.y + (self.centre[1] * self.scale) as f32,
        );
        Transform { scale: vec2(scale, -scale), offset }
    }

    /// The point of the data at a place on screen.
    pub fn data_at(&self, rect: Rect, at: Pos2) -> [f64; 2] {
        let from_centre = at - rect.center();
        [
            self.centre[0] + f64::from(from_centre.x) / self.scale,
            self.centre[1] - f64::from(from_centre.y) / self.scale,
        ]
    }

    /// Moved with a drag on screen.
    pub fn dragged(&self, by: Vec2) -> Self {
        let [x, y] = self.centre;
        let centre = [x - f64::from(by.x) / self.scale, y + f64::from(by.y) / self.scale];
        Self { centre, ..*self }
    }

    /// Zoomed so that the point of the data at `at` stays there; `whole` is the scale at which
    /// the whole map fits.
    pub fn zoomed(&self, rect: Rect, at: Pos2, factor: f64, whole: f64) -> Self {
        let fixed = self.data_at(rect, at);
        let scale = (self.scale * factor).clamp(whole * FARTHEST, whole * CLOSEST);
        let shrink = self.scale / scale;
        let centre = [0, 1].map(|axis| fixed[axis] + (self.centre[axis] - fixed[axis]) * shrink);
        Self { centre, scale }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect() -> Rect {
        Rect::from_min_max(pos2(100.0, 50.0), pos2(500.0, 350.0))
    }

    #[test]
    fn screen_and_data_transforms_are_inverse() {
        let camera = Camera { centre: [0.3, -0.2], scale: 250.0 };
        for at in [pos2(100.0, 50.0), pos2(321.0, 123.0), pos2(500.0, 350.0)] {
            let data = camera.data_at(rect(), at).map(|v| v as f32);
            assert!(camera.transform(rect()).apply(data).distance(at) < 0.01);
        }
    }

    #[test]
    fn the_whole_map_fits_and_stands_in_the_middle() {
        let positions = [[-1.0, 0.0], [3.0, 1.0], [0.0, -1.0]];
        let camera = Camera::fit(bounds(&positions).unwrap(), rect().size());
        let transform = camera.transform(rect());
        for position in positions {
            assert!(rect().contains(transform.apply(position)));
        }
        assert!(transform.apply([1.0, 0.0]).distance(rect().center()) < 0.01);
        assert!(transform.apply([0.0, 1.0]).y < transform.apply([0.0, -1.0]).y);
    }

    #[test]
    fn zooming_keeps_the_point_under_the_pointer() {
        let camera = Camera { centre: [0.0, 0.0], scale: 100.0 };
        let at = pos2(130.0, 300.0);
        let before = camera.data_at(rect(), at);
        let after = camera.zoomed(rect(), at, 3.0, 100.0).data_at(rect(), at);
        assert!((before[0] - after[0]).abs() < 1e-9 && (before[1] - after[1]).abs() < 1e-9);
    }

    #[test]
    fn dragging_moves_the_map_with_the_pointer() {
        let camera = Camera { centre: [0.0, 0.0], scale: 100.0 };
        let moved = camera.dragged(vec2(20.0, -10.0));
        let there = |camera: Camera| camera.transform(rect()).apply([0.5, 0.5]);
        assert!((there(moved) - there(camera) - vec2(20.0, -10.0)).length() < 1e-3);
    }

    #[test]
    fn positions_that_are_not_numbers_have_no_part_in_the_bounds() {
        let positions = [[f32::NAN, 0.0], [1.0, 2.0], [3.0, f32::INFINITY]];
        assert_eq!(bounds(&positions), Some([[1.0, 2.0], [1.0, 2.0]]));
        assert_eq!(bounds(&[[f32::NAN, 1.0]]), None);
    }
}
