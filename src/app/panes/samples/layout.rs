//! Where the tiles of the grid stand: arithmetic on rectangles, without drawing.

use std::ops::Range;

use egui::{Pos2, Rect, Vec2, vec2};

use super::tile::{CAPTION_FROM, CAPTION_HEIGHT};

/// Room around the grid, for focus rings.
const MARGIN: f32 = 5.0;

/// Equal cells in rows from the left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GridLayout {
    columns: usize,
    count: usize,
    /// Edge of a tile in points.
    tile: f32,
    gap: f32,
    caption: f32,
}

/// A move of the keyboard's cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    Left,
    Right,
    Up,
    Down,
    Home,
    End,
}

impl GridLayout {
    /// `count` tiles of the edge `tile` in a pane of `width` points; a tile is never wider than
    /// the pane.
    pub fn new(width: f32, count: usize, tile: f32) -> Self {
        let room = (width - 2.0 * MARGIN).max(16.0);
        let tile = tile.min(room);
        let gap = if tile <= 96.0 { 2.0 } else { 4.0 };
        let columns = (((room + gap) / (tile + gap)).floor() as usize).max(1);
        let caption = if tile >= CAPTION_FROM { CAPTION_HEIGHT } else { 0.0 };
        Self { columns, count, tile, gap, caption }
    }

    fn pitch(&self) -> Vec2 {
        vec2(self.tile + self.gap, self.tile + self.caption + self.gap)
    }

    /// Height of all rows.
    pub fn height(&self) -> f32 {
        let rows = self.count.div_ceil(self.columns);
        rows as f32 * self.pitch().y - self.gap + 2.0 * MARGIN
    }

    /// The square of a tile, relative to the grid's corner.
    pub fn tile(&self, position: usize) -> Rect {
        let cell = vec2((position % self.columns) as f32, (position / self.columns) as f32);
        let corner = Pos2::ZERO + Vec2::splat(MARGIN) + cell * self.pitch();
        Rect::from_min_size(corner, Vec2::splat(self.tile))
    }

    /// A tile with its caption.
    pub fn cell(&self, position: usize) -> Rect {
        let mut cell = self.tile(position);
        cell.max.y += self.caption;
        cell
    }

    /// Positions of the tiles that a part of the grid shows.
    pub fn visible(&self, top: f32, bottom: f32) -> Range<usize> {
        let row = |y: f32| ((y - MARGIN) / self.pitch().y).max(0.0);
        let first = row(top).floor() as usize * self.columns;
        let last = row(bottom).ceil() as usize * self.columns;
        first.min(self.count)..last.min(self.count)
    }

    /// Positions of the tiles that a rectangle touches.
    pub fn touched(&self, area: Rect) -> impl Iterator<Item = usize> + '_ {
        self.visible(area.top(), area.bottom())
            .filter(move |&position| self.tile(position).intersects(area))
    }

    /// Where a move leads from a position.
    pub fn moved(&self, from: usize, step: Move) -> usize {
        let last = self.count.saturating_sub(1);
        let to = match step {
            Move::Left => from.saturating_sub(1),
            Move::Right => from + 1,
            Move::Up if from < self.columns => from,
            Move::Up => from - self.columns,
            // From above a short last row to its end.
            Move::Down if from / self.columns == last / self.columns => from,
            Move::Down => from + self.columns,
            Move::Home => 0,
            Move::End => last,
        };
        to.min(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 4 columns of 128 points, 10 tiles.
    fn grid() -> GridLayout {
        GridLayout::new(540.0, 10, 128.0)
    }

    #[test]
    fn sixteen_tiles_of_128_points_need_540_points() {
        assert_eq!(grid().columns, 4);
        assert_eq!(GridLayout::new(530.0, 10, 128.0).columns, 3);
    }

    #[test]
    fn a_tile_is_never_wider_than_its_pane() {
        let narrow = GridLayout::new(240.0, 10, 384.0);
        assert_eq!(narrow.columns, 1);
        assert!(narrow.tile(0).right() <= 240.0);
    }

    #[test]
    fn only_rows_within_the_view_are_visible() {
        let grid = GridLayout::new(540.0, 4000, 128.0);
        let pitch = grid.pitch().y;
        assert_eq!(grid.visible(0.0, pitch), 0..4);
        let shown = grid.visible(100.0 * pitch, 103.0 * pitch);
        assert!(shown.len() <= 16, "{shown:?}");
        assert!(shown.contains(&400));
        assert_eq!(grid.visible(1e6, 1e6 + 500.0), 4000..4000);
    }

    #[test]
    fn tiles_of_a_grid_do_not_overlap() {
        let grid = grid();
        for a in 0..10 {
            for b in 0..a {
                assert!(!grid.cell(a).intersects(grid.cell(b)), "{a} {b}");
            }
        }
        assert!(grid.cell(9).bottom() <= grid.height());
    }

    #[test]
    fn moves_stay_inside_the_grid() {
        let grid = grid();
        assert_eq!(grid.moved(0, Move::Left), 0);
        assert_eq!(grid.moved(9, Move::Right), 9);
        assert_eq!(grid.moved(2, Move::Up), 2);
        assert_eq!(grid.moved(5, Move::Up), 1);
        assert_eq!(grid.moved(5, Move::Down), 9);
        assert_eq!(grid.moved(7, Move::Down), 9);
        assert_eq!(grid.moved(8, Move::Down), 8);
        assert_eq!(grid.moved(4, Move::Home), 0);
        assert_eq!(grid.moved(4, Move::End), 9);
    }

    #[test]
    fn a_rectangle_touches_the_tiles_it_meets_and_no_others() {
        let grid = grid();
        let area = Rect::from_two_pos(grid.tile(0).center(), grid.tile(5).center());
        assert_eq!(grid.touched(area).collect::<Vec<_>>(), [0, 1, 4, 5]);
    }
}
