//! Finding points: the nearest one, and those inside an outline, by a grid of cells.

/// Points in cells of equal size, as one list ordered by cell.
pub struct PointGrid {
    low: [f32; 2],
    cell: f32,
    columns: usize,
    rows: usize,
    /// Where each cell's points begin in `members`; one more than there are cells.
    starts: Vec<u32>,
    members: Vec<u32>,
}

impl PointGrid {
    /// A grid with a few points in every cell on average.
    pub fn new(points: &[[f32; 2]]) -> Self {
        let mut low = [f32::INFINITY; 2];
        let mut high = [f32::NEG_INFINITY; 2];
        for point in points {
            for axis in 0..2 {
                low[axis] = low[axis].min(point[axis]);
                high[axis] = high[axis].max(point[axis]);
            }
        }
        let span = (high[0] - low[0]).max(high[1] - low[1]);
        if !span.is_finite() || points.is_empty() {
            low = [0.0; 2];
            high = [0.0; 2];
        }
        let side = ((points.len() as f32 / 4.0).sqrt().ceil()).clamp(1.0, 1024.0);
        let cell = (span / side).max(f32::MIN_POSITIVE * 1e6);
        let cells = |axis: usize| (((high[axis] - low[axis]) / cell) as usize + 1).min(2048);
        let (columns, rows) = (cells(0), cells(1));
        let mut grid = Self { low, cell, columns, rows, starts: Vec::new(), members: Vec::new() };
        let mut counts = vec![0u32; columns * rows + 1];
        for &point in points {
            counts[grid.cell_of(point) + 1] += 1;
        }
        for i in 1..counts.len() {
            counts[i] += counts[i - 1];
        }
        grid.members = vec![0; points.len()];
        let mut next = counts.clone();
        for (i, &point) in points.iter().enumerate() {
            let cell = grid.cell_of(point);
            grid.members[next[cell] as usize] = i as u32;
            next[cell] += 1;
        }
        grid.starts = counts;
        grid
    }

    fn place(&self, value: f32, axis: usize) -> usize {
        let most = if axis == 0 { self.columns } else { self.rows } - 1;
        (((value - self.low[axis]) / self.cell).max(0.0) as usize).min(most)
    }

    fn cell_of(&self, [x, y]: [f32; 2]) -> usize {
        self.place(y, 1) * self.columns + self.place(x, 0)
    }

    /// Points in the cells that a rectangle touches.
    fn around(&self, low: [f32; 2], high: [f32; 2]) -> impl Iterator<Item = usize> + '_ {
        let columns = self.place(low[0], 0)..=self.place(high[0], 0);
        let rows = self.place(low[1], 1)..=self.place(high[1], 1);
        rows.flat_map(move |row| {
            let first = row * self.columns + columns.start();
            let last = row * self.columns + columns.end();
            let range = self.starts[first] as usize..self.starts[last + 1] as usize;
            self.members[range].iter().map(|&member| member as usize)
        })
    }

    /// The nearest point within `radius`; ties go to the lower index.
    pub fn nearest(&self, points: &[[f32; 2]], at: [f32; 2], radius: f32) -> Option<usize> {
        let distance = |i: usize| {
            let [x, y] = points[i];
            (x - at[0]).powi(2) + (y - at[1]).powi(2)
        };
        self.around([at[0] - radius, at[1] - radius], [at[0] + radius, at[1] + radius])
            .map(|i| (distance(i), i))
            .filter(|(distance, _)| *distance <= radius * radius)
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)))
            .map(|(_, i)| i)
    }

    /// Points inside a closed outline (even-odd rule), by index.
    pub fn inside(&self, points: &[[f32; 2]], outline: &[[f32; 2]]) -> Vec<usize> {
        if outline.len() < 3 {
            return Vec::new();
        }
        let bound = |axis: usize, pick: fn(f32, f32) -> f32| {
            outline.iter().map(|p| p[axis]).fold(outline[0][axis], pick)
        };
        let low = [bound(0, f32::min), bound(1, f32::min)];
        let high = [bound(0, f32::max), bound(1, f32::max)];
        let mut found: Vec<usize> =
            self.around(low, high).filter(|&i| is_inside(points[i], outline)).collect();
        found.sort_unstable();
        found
    }
}

fn is_inside([x, y]: [f32; 2], outline: &[[f32; 2]]) -> bool {
    let edges = outline.iter().zip(outline.iter().cycle().skip(1));
    edges
        .filter(|([x0, y0], [x1, y1])| {
            (*y0 > y) != (*y1 > y) && x < (x1 - x0) * (y - y0) / (y1 - y0) + x0
        })
        .count()
        % 2
        == 1
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::*;
    use crate::random::{Stream, generator};

    fn cloud(count: usize) -> Vec<[f32; 2]> {
        let mut rng = generator(3, Stream::Resampling, 0);
        (0..count).map(|_| [rng.random_range(-1.0..1.0), rng.random_range(-0.5..2.0)]).collect()
    }

    #[test]
    fn the_nearest_point_is_the_one_that_a_full_search_finds() {
        let points = cloud(500);
        let grid = PointGrid::new(&points);
        for at in cloud(40) {
            for radius in [0.02f32, 0.2, 3.0] {
                let distance = |p: [f32; 2]| (p[0] - at[0]).powi(2) + (p[1] - at[1]).powi(2);
                let all = (0..points.len()).filter(|&i| distance(points[i]) <= radius * radius);
                let best = all.min_by(|&a, &b| {
                    distance(points[a]).total_cmp(&distance(points[b])).then(a.cmp(&b))
                });
                assert_eq!(grid.nearest(&points, at, radius), best);
            }
        }
    }

    #[test]
    fn an_outline_holds_the_points_that_a_full_test_finds() {
        let points = cloud(800);
        let grid = PointGrid::new(&points);
        let outline = [[-0.5, 0.0], [0.6, -0.2], [0.2, 1.0], [-0.1, 0.4], [-0.7, 1.4]];
        let expected: Vec<usize> =
            (0..points.len()).filter(|&i| is_inside(points[i], &outline)).collect();
        assert!(expected.len() > 20);
        assert_eq!(grid.inside(&points, &outline), expected);
        assert!(grid.inside(&points, &outline[..2]).is_empty());
    }

    #[test]
    fn points_in_one_place_and_no_points_are_fine() {
        let same = vec![[0.5, 0.5]; 10];
        assert_eq!(PointGrid::new(&same).nearest(&same, [0.5, 0.5], 0.1), Some(0));
        assert_eq!(PointGrid::new(&[]).nearest(&[], [0.0, 0.0], 1.0), None);
    }
}
