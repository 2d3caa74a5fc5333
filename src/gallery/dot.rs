//! Inner products: fast ones in f32 that find candidates, exact ones in f64 that decide.
//!
//! The f32 products of one row and query differ between CPUs and are good to [`error_bound`]; the
//! f64 ones are sums in one fixed order everywhere, so equal rows have equal scores.

/// Numbers that the f32 sums take side by side; rows are padded with zeros to a multiple of it.
pub(super) const LANES: usize = 8;

/// Numbers that the f64 sums take side by side, on every CPU.
const SUMS: usize = 8;

/// Queries that share one load of a row.
const QUERY_BLOCK: usize = 4;

/// Rows that share one load of a query. With AVX2 all sums of a block stay in its 16 registers.
const ROW_BLOCK: usize = 2;

/// Length of a padded row of `dim` numbers.
pub(super) fn padded(dim: usize) -> usize {
    dim.next_multiple_of(LANES)
}

/// Largest error of an f32 product of a unit query and a row, as a share of the row's norm.
///
/// Higham, *Accuracy and Stability of Numerical Algorithms* (2002), eq. 3.5: a sum of n products
/// has error at most n u / (1 - n u) times the sum of their absolute values, which for a row x and
/// a unit query is at most |x|. Here n is padded / LANES + log2(LANES), for the sum in a lane and
/// that of the lanes. Rounding the query to f32, scaling by the row's inverse norm and rounding
/// that add a few u. The bound is doubled.
pub(super) fn error_bound(padded: usize) -> f64 {
    const UNIT_ROUNDOFF: f64 = f32::EPSILON as f64 / 2.0;
    2.0 * (padded / LANES + 16) as f64 * UNIT_ROUNDOFF
}

/// Products of `queries` `[Q, P]` and `rows` `[R, P]`, P a multiple of [`LANES`]; `out` is
/// `[Q, R]`.
pub(super) fn products(queries: &[f32], rows: &[f32], padded: usize, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        // SAFETY: the CPU has both features.
        return unsafe { products_avx2(queries, rows, padded, out) };
    }
    all_products::<{ cfg!(target_arch = "aarch64") }>(queries, rows, padded, out);
}

/// The same source, compiled for wider registers. AVX-512 was measured to gain nothing more.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn products_avx2(queries: &[f32], rows: &[f32], padded: usize, out: &mut [f32]) {
    all_products::<true>(queries, rows, padded, out);
}

/// [`products`] with fused multiply-add or without.
#[inline(always)]
fn all_products<const FMA: bool>(queries: &[f32], rows: &[f32], padded: usize, out: &mut [f32]) {
    let row_count = rows.len() / padded;
    let blocks = queries.chunks(QUERY_BLOCK * padded).zip(out.chunks_mut(QUERY_BLOCK * row_count));
    for (queries, out) in blocks {
        if queries.len() == QUERY_BLOCK * padded {
            products_of_queries::<FMA, QUERY_BLOCK>(queries, rows, padded, out);
        } else {
            for (query, out) in queries.chunks(padded).zip(out.chunks_mut(row_count)) {
                products_of_queries::<FMA, 1>(query, rows, padded, out);
            }
        }
    }
}

#[inline(always)]
fn products_of_queries<const FMA: bool, const Q: usize>(
    queries: &[f32],
    rows: &[f32],
    padded: usize,
    out: &mut [f32],
) {
    let row_count = rows.len() / padded;
    for (i, rows) in rows.chunks(ROW_BLOCK * padded).enumerate() {
        let first = i * ROW_BLOCK;
        if rows.len() == ROW_BLOCK * padded {
            let sums = block::<FMA, Q, ROW_BLOCK>(queries, rows, padded);
            for q in 0..Q {
                out[q * row_count + first..][..ROW_BLOCK].copy_from_slice(&sums[q]);
            }
        } else {
            for (r, row) in rows.chunks(padded).enumerate() {
                let sums = block::<FMA, Q, 1>(queries, row, padded);
                for q in 0..Q {
                    out[q * row_count + first + r] = sums[q][0];
                }
            }
        }
    }
}

/// Products of `Q` queries and `R` rows. Plain loops and one length for all, because closures are
/// compiled without the CPU features and lengths that may differ are checked at every step.
#[inline(always)]
#[allow(clippy::needless_range_loop)]
fn block<const FMA: bool, const Q: usize, const R: usize>(
    queries: &[f32],
    rows: &[f32],
    padded: usize,
) -> [[f32; R]; Q] {
    let steps = padded / LANES;
    let queries = split::<Q>(queries, padded);
    let rows = split::<R>(rows, padded);
    for q in 0..Q {
        assert!(queries[q].len() == steps);
    }
    for r in 0..R {
        assert!(rows[r].len() == steps);
    }
    let mut sums = [[[0f32; LANES]; R]; Q];
    for step in 0..steps {
        for q in 0..Q {
            let a = queries[q][step];
            for r in 0..R {
                let b = rows[r][step];
                let sum = &mut sums[q][r];
                for lane in 0..LANES {
                    sum[lane] = if FMA {
                        a[lane].mul_add(b[lane], sum[lane])
                    } else {
                        a[lane] * b[lane] + sum[lane]
                    };
                }
            }
        }
    }
    let mut totals = [[0f32; R]; Q];
    for q in 0..Q {
        for r in 0..R {
            totals[q][r] = fold(sums[q][r]);
        }
    }
    totals
}

/// The lanes of each of `N` consecutive rows.
#[inline(always)]
fn split<const N: usize>(rows: &[f32], padded: usize) -> [&[[f32; LANES]]; N] {
    let mut parts: [&[[f32; LANES]]; N] = [&[]; N];
    for (i, part) in parts.iter_mut().enumerate() {
        *part = rows[i * padded..(i + 1) * padded].as_chunks().0;
    }
    parts
}

/// Sums lanes pairwise.
#[inline(always)]
fn fold(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// Sum of products in f64, in one order on every CPU.
fn exact_product(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0f64; SUMS];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    for (a, b) in a.iter().zip(b) {
        for lane in 0..SUMS {
            sums[lane] += f64::from(a[lane]) * f64::from(b[lane]);
        }
    }
    for (lane, (&a, &b)) in a_rest.iter().zip(b_rest).enumerate() {
        sums[lane] += f64::from(a) * f64::from(b);
    }
    sums.iter().sum()
}

/// Euclidean norm in f64, the one that [`cosine`] divides by.
pub(super) fn exact_norm(row: &[f32]) -> f64 {
    exact_product(row, row).sqrt()
}

/// Cosine of a query of norm `query_norm` and a row, in f64 on the f32 numbers. With a zero vector
/// it is 0 by convention. Rounding may carry it past 1 by an ulp or two, which is left: clamping
/// would tie rows that differ.
pub(super) fn cosine(query: &[f32], query_norm: f64, row: &[f32]) -> f64 {
    let norm = query_norm * exact_norm(row);
    if norm == 0.0 { 0.0 } else { exact_product(query, row) / norm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoder::norm;
    use crate::random::{Stream, standard_normal};

    #[test]
    fn products_stay_within_the_error_bound_for_every_block_remainder() {
        for (dim, queries, rows) in [(1, 1, 1), (16, 4, 2), (37, 5, 3), (192, 9, 7), (770, 3, 5)] {
            let padded = padded(dim);
            let matrix = |index, count: usize| {
                let mut values = vec![0f32; count * padded];
                for (i, row) in values.chunks_mut(padded).enumerate() {
                    let normal =
                        standard_normal(3, Stream::EmbeddingSamples, index + i as u64, dim);
                    row[..dim].copy_from_slice(&normal);
                }
                values
            };
            let (mut a, b) = (matrix(0, queries), matrix(100, rows));
            for query in a.chunks_mut(padded) {
                let length = norm(query);
                query.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
            }
            type Products = fn(&[f32], &[f32], usize, &mut [f32]);
            let variants: [Products; 3] = [products, all_products::<false>, all_products::<true>];
            for variant in variants {
                let mut out = vec![f32::NAN; queries * rows];
                variant(&a, &b, padded, &mut out);
                for (i, &got) in out.iter().enumerate() {
                    let query = &a[i / rows * padded..][..padded];
                    let row = &b[i % rows * padded..][..padded];
                    let exact = cosine(query, norm(query), row) * norm(row);
                    let error = (f64::from(got) - exact).abs() / norm(row);
                    assert!(error <= error_bound(padded), "{dim} {i}: {error:e}");
                }
            }
        }
    }

    #[test]
    fn the_cosine_is_the_same_for_every_power_of_two_and_correct() {
        let query = standard_normal(1, Stream::EmbeddingSamples, 0, 19);
        let row = standard_normal(1, Stream::EmbeddingSamples, 1, 19);
        let exact = cosine(&query, norm(&query), &row);
        let plain: f64 = query.iter().zip(&row).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert!((exact - plain / norm(&query) / norm(&row)).abs() < 1e-15);
        for exponent in [-100, -1, 1, 90] {
            let scaled: Vec<f32> = row.iter().map(|&v| v * 2f32.powi(exponent)).collect();
            assert_eq!(cosine(&query, norm(&query), &scaled), exact);
        }
        assert_eq!(cosine(&query, norm(&query), &[0.0; 19]), 0.0);
    }
}
