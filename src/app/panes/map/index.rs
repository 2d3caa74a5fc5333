//! A uniform grid over the map's points: which point is nearest, and which lie inside an outline,
//! without looking at all of them.

use super::camera;

/// Points per cell, on average.
const PER_CELL: usize = 4;
/// Cells per side, at most.
const MOST_CELLS: usize = 1024;

/// Points in cells, row by row of the grid.
#[derive(Debug, Clone)]
pub struct Index {
    low: [f32; 2],
    /// Cells per unit, by axis.
    per_unit: [f32; 2],
    side: usize,
    /// `[side * side + 1]` where each cell's points begin in `rows`.
    starts: Vec<u32>,
    /// Gallery rows, sorted by cell.
    rows: Vec<u32>,
}

impl Index {
    /// Positions that are not finite are left out.
    pub fn new(positions: &[[f32; 2]]) -> Self {
        let cells = (positions.len() / PER_CELL).max(1);
        let side = ((cells as f64).sqrt().ceil() as usize).clamp(1, MOST_CELLS);
        let [low, high] = camera::bounds(positions).unwrap_or([[0.0; 2]; 2]);
        let per_unit = [0, 1].map(|axis| {
            let extent = high[axis] - low[axis];
            if extent > 0.0 { side as f32 / extent } else { 0.0 }
        });
        let mut index =
            Self { low, per_unit, side, starts: vec![0; side * side + 1], rows: Vec::new() };
        let finite = |&(_, p): &(usize, &[f32; 2])| p[0].is_finite() && p[1].is_finite();
        let mut count = 0;
        for (_, position) in positions.iter().enumerate().filter(finite) {
            let cell = index.cell_of(*position);
            index.starts[cell + 1] += 1;
            count += 1;
        }
        for cell in 0..side * side {
            index.starts[cell + 1] += index.starts[cell];
        }
        let mut next = index.starts.clone();
        index.rows = vec![0; count];
        for (row, position) in positions.iter().enumerate().filter(finite) {
            let cell = index.cell_of(*position);
            index.rows[next[cell] as usize] = row as u32;
            next[cell] += 1;
        }
        index
    }

    /// Column or line of the grid that a coordinate falls into, kept inside of the grid.
    fn along(&self, axis: usize, value: f32) -> usize {
        let at = (value - self.low[axis]) * self.per_unit[axis];
        // The cast takes what is below 0 to 0.
        (at as usize).min(self.side - 1)
    }

    fn cell_of(&self, position: [f32; 2]) -> usize {
        self.along(1, position[1]) * self.side + self.along(0, position[0])
    }

    fn in_cells(&self, line: usize, columns: std::ops::RangeInclusive<usize>) -> &[u32] {
        let start = self.starts[line * self.side + columns.start()];
        let end = self.starts[line * self.side + columns.end() + 1];
        &self.rows[start as usize..end as usize]
    }

    /// The point nearest to `at` within `radius` (in data), and its distance; the lower row where
    /// two are equally near.
    pub fn nearest(
        &self,
        positions: &[[f32; 2]],
        at: [f32; 2],
        radius: f32,
    ) -> Option<(usize, f32)> {
        let columns = self.along(0, at[0] - radius)..=self.along(0, at[0] + radius);
        let mut best: Option<(usize, f32)> = None;
        for line in self.along(1, at[1] - radius)..=self.along(1, at[1] + radius) {
            for &row in self.in_cells(line, columns.clone()) {
                let [x, y] = positions[row as usize];
                let distance = (x - at[0]).hypot(y - at[1]);
                let nearer = best.is_none_or(|(best_row, best)| {
                    distance < best || (distance == best && (row as usize) < best_row)
                });
                if distance <= radius && nearer {
                    best = Some((row as usize, distance));
                }
            }
        }
        best
    }

    /// Rows inside a closed outline (even-odd rule), in no particular order.
    ///
    /// Cells that no edge of the outline passes lie inside or outside as a whole; only points of
    /// the others are looked at, each against the edges that pass its line of cells.
    pub fn inside(&self, positions: &[[f32; 2]], outline: &[[f32; 2]]) -> Vec<usize> {
        let Some([low, high]) = camera::bounds(outline) else { return Vec::new() };
        let edges = || outline.iter().zip(outline.iter().cycle().skip(1));
        let mut found = Vec::new();
        let columns = self.along(0, low[0])..=self.along(0, high[0]);
        let mut passed = vec![false; self.side];
        for line in self.along(1, low[1])..=self.along(1, high[1]) {
            let (bottom, top) = self.span(line);
            let near: Vec<([f32; 2], [f32; 2])> = edges()
                .filter(|(a, b)| a[1].min(b[1]) <= top && a[1].max(b[1]) >= bottom)
                .map(|(&a, &b)| (a, b))
                .collect();
            passed[columns.clone()].fill(false);
            for &(a, b) in &near {
                let (left, right) = x_within(a, b, bottom, top);
                passed[self.along(0, left)..=self.along(0, right)].fill(true);
            }
            // Outermost cells also hold what rounding put there.
            let mut column = *columns.start();
            while column <= *columns.end() {
                if passed[column] {
                    let rows = self.in_cells(line, column..=column).iter();
                    found.extend(
                        rows.map(|&row| row as usize)
                            .filter(|&row| contains(&near, positions[row])),
                    );
                    column += 1;
                    continue;
                }
                let mut end = column;
                while end < *columns.end() && !passed[end + 1] {
                    end += 1;
                }
                let rows = self.in_cells(line, column..=end);
                // No edge passes these cells: one point stands for all.
                if let Some(&first) = rows.first()
                    && contains(&near, positions[first as usize])
                {
                    found.extend(rows.iter().map(|&row| row as usize));
                }
                column = end + 1;
            }
        }
        found
    }

    /// Lowest and highest y of a line of cells, widened by what rounding may shift.
    fn span(&self, line: usize) -> (f32, f32) {
        if self.per_unit[1] == 0.0 {
            return (f32::NEG_INFINITY, f32::INFINITY);
        }
        let height = 1.0 / self.per_unit[1];
        let bottom = self.low[1] + line as f32 * height;
        let slack = height * 1e-2;
        let outermost = |outer: bool, value: f32, beyond: f32| if outer { beyond } else { value };
        (
            outermost(line == 0, bottom - slack, f32::NEG_INFINITY),
            outermost(line + 1 == self.side, bottom + height + slack, f32::INFINITY),
        )
    }
}

/// Leftmost and rightmost x of the part of an edge between two heights.
fn x_within(a: [f32; 2], b: [f32; 2], bottom: f32, top: f32) -> (f32, f32) {
    let x_at = |y: f32| a[0] + (b[0] - a[0]) * ((y - a[1]) / (b[1] - a[1])).clamp(0.0, 1.0);
    if a[1] == b[1] {
        return (a[0].min(b[0]), a[0].max(b[0]));
    }
    let (low, high) = (a[1].min(b[1]).max(bottom), a[1].max(b[1]).min(top));
    let (from, to) = (x_at(low), x_at(high));
    // What rounding may shift.
    let slack = (b[0] - a[0]).abs() * 1e-4;
    (from.min(to) - slack, from.max(to) + slack)
}

/// Whether a point is inside of the outline that `edges` are part of, by the even-odd rule; edges
/// that do not pass its height may be missing.
fn contains(edges: &[([f32; 2], [f32; 2])], [x, y]: [f32; 2]) -> bool {
    let mut inside = false;
    for &(a, b) in edges {
        if (a[1] > y) != (b[1] > y) && x < a[0] + (y - a[1]) / (b[1] - a[1]) * (b[0] - a[0]) {
            inside = !inside;
        }
    }
    inside
}

/// Whether a single point is inside of a closed outline.
pub fn outline_contains(outline: &[[f32; 2]], point: [f32; 2]) -> bool {
    let edges: Vec<_> =
        outline.iter().zip(outline.iter().cycle().skip(1)).map(|(&a, &b)| (a, b)).collect();
    contains(&edges, point)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};

    use super::*;

    fn cloud(count: usize) -> Vec<[f32; 2]> {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut coordinate = || rng.random_range(-1.0f32..1.0);
        (0..count).map(|_| [coordinate(), 0.3 * coordinate()]).collect()
    }

    #[test]
    fn the_grids_pick_is_that_of_looking_at_every_point() {
        let positions = cloud(2000);
        let index = Index::new(&positions);
        for at in cloud(300).into_iter().map(|[x, y]| [x * 1.3, y * 1.3]) {
            for radius in [0.01, 0.1, 3.0] {
                let brute = positions
                    .iter()
                    .enumerate()
                    .map(|(row, p)| (row, (p[0] - at[0]).hypot(p[1] - at[1])))
                    .filter(|&(_, distance)| distance <= radius)
                    .min_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
                assert_eq!(index.nearest(&positions, at, radius), brute);
            }
        }
    }

    #[test]
    fn a_lasso_holds_the_points_that_the_even_odd_rule_says() {
        let positions = cloud(3000);
        let index = Index::new(&positions);
        // A star that crosses itself, a triangle that leaves the map, a box, a sliver.
        let star: Vec<[f32; 2]> = (0..5)
            .map(|i| {
                let angle = std::f32::consts::TAU * (i * 2) as f32 / 5.0 + 0.1;
                [0.6 * angle.cos(), 0.25 * angle.sin()]
            })
            .collect();
        let outlines = [
            star,
            vec![[-3.0, -2.0], [0.2, 0.1], [0.5, -4.0]],
            vec![[-0.5, -0.1], [0.5, -0.1], [0.5, 0.1], [-0.5, 0.1]],
            vec![[-0.9, 0.0], [0.9, 0.001], [0.9, 0.002]],
        ];
        for outline in outlines {
            let mut found = index.inside(&positions, &outline);
            found.sort_unstable();
            let expected: Vec<usize> = (0..positions.len())
                .filter(|&row| outline_contains(&outline, positions[row]))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_lasso_around_everything_takes_everything() {
        let positions = cloud(500);
        let index = Index::new(&positions);
        let around = [[-9.0, -9.0], [9.0, -9.0], [9.0, 9.0], [-9.0, 9.0]];
        assert_eq!(index.inside(&positions, &around).len(), 500);
        assert!(index.inside(&positions, &[]).is_empty());
        assert!(index.inside(&positions, &around[..1]).is_empty());
    }

    #[test]
    fn points_at_one_place_and_points_that_are_not_numbers_do_no_harm() {
        let positions = [[1.0, 1.0], [1.0, 1.0], [f32::NAN, 0.0]];
        let index = Index::new(&positions);
        assert_eq!(index.nearest(&positions, [1.0, 1.1], 0.5).map(|hit| hit.0), Some(0));
        let around = [[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]];
        assert_eq!(index.inside(&positions, &around).len(), 2);
        assert!(Index::new(&[]).nearest(&[], [0.0, 0.0], 1.0).is_none());
    }
}
