//! The symmetric positive definite systems of ridge regression, in f64.

use rayon::prelude::*;

/// Columns of the right-hand side that one task solves for: a cache line of them at a time.
const COLUMNS: usize = 64;

/// The lower triangle L of `A = L Lᵀ`, rows of `n` numbers; `a` is `[n, n]`, of which the lower
/// triangle is read. `None` when `a` is not positive definite.
pub fn cholesky(a: &[f64], n: usize) -> Option<Vec<f64>> {
    let mut l = a.to_vec();
    for i in 0..n {
        let (above, rest) = l.split_at_mut(i * n);
        let row = &mut rest[..n];
        for j in 0..i {
            let other = &above[j * n..j * n + n];
            row[j] = (row[j] - dot(&row[..j], &other[..j])) / other[j];
        }
        let pivot = row[i] - dot(&row[..i], &row[..i]);
        if !(pivot.is_finite() && pivot > 0.0) {
            return None;
        }
        row[i] = pivot.sqrt();
    }
    Some(l)
}

/// The solution X `[n, m]` of `L Lᵀ X = B` for B `[n, m]`, row by row.
pub fn solve(l: &[f64], n: usize, b: &[f64], m: usize) -> Vec<f64> {
    let blocks: Vec<(usize, Vec<f64>)> = (0..m)
        .step_by(COLUMNS)
        .collect::<Vec<_>>()
        .into_par_iter()
        .map(|start| {
            let width = COLUMNS.min(m - start);
            let columns = |i: usize| &b[i * m + start..i * m + start + width];
            let mut x: Vec<f64> = (0..n).flat_map(|i| columns(i).iter().copied()).collect();
            solve_block(l, n, &mut x, width);
            (start, x)
        })
        .collect();
    let mut x = vec![0.0; n * m];
    for (start, block) in blocks {
        let width = COLUMNS.min(m - start);
        for (i, row) in block.chunks_exact(width).enumerate() {
            x[i * m + start..i * m + start + width].copy_from_slice(row);
        }
    }
    x
}

fn solve_block(l: &[f64], n: usize, x: &mut [f64], width: usize) {
    for i in 0..n {
        let (done, rest) = x.split_at_mut(i * width);
        let row = &mut rest[..width];
        for (k, other) in done.chunks_exact(width).enumerate() {
            subtract(row, l[i * n + k], other);
        }
        row.iter_mut().for_each(|v| *v /= l[i * n + i]);
    }
    for i in (0..n).rev() {
        let (head, done) = x.split_at_mut((i + 1) * width);
        let row = &mut head[i * width..];
        for (k, other) in done.chunks_exact(width).enumerate() {
            subtract(row, l[(i + 1 + k) * n + i], other);
        }
        row.iter_mut().for_each(|v| *v /= l[i * n + i]);
    }
}

fn subtract(row: &mut [f64], factor: f64, other: &[f64]) {
    row.iter_mut().zip(other).for_each(|(r, o)| *r -= factor * o);
}

/// Four running sums, so that the additions do not wait for each other.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a4, a_rest), (b4, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [0f64; 4];
    for (x, y) in a4.iter().zip(b4) {
        for k in 0..4 {
            sums[k] += x[k] * y[k];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, standard_normal};

    #[test]
    fn the_solution_gives_back_the_right_hand_side() {
        let (n, m) = (37, 70);
        let g: Vec<f64> =
            standard_normal(1, Stream::Resampling, 0, n * n).into_iter().map(f64::from).collect();
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..n {
                let product: f64 = (0..n).map(|k| g[i * n + k] * g[j * n + k]).sum();
                a[i * n + j] = product + if i == j { 0.5 } else { 0.0 };
            }
        }
        let b: Vec<f64> =
            standard_normal(2, Stream::Resampling, 0, n * m).into_iter().map(f64::from).collect();
        let x = solve(&cholesky(&a, n).unwrap(), n, &b, m);
        for i in 0..n {
            for j in 0..m {
                let product: f64 = (0..n).map(|k| a[i * n + k] * x[k * m + j]).sum();
                assert!((product - b[i * m + j]).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn an_indefinite_matrix_has_no_factor() {
        assert!(cholesky(&[1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(cholesky(&[f64::NAN], 1).is_none());
    }
}
