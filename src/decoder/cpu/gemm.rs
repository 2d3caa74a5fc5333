//! Matrix products with a matrix that is packed once and used many times.
//!
//! The right-hand matrix (weights, or keys and values) is cut into panels of [`PANEL`] columns, so
//! that the inner loop reads it in order. Results do not depend on the number of threads: every
//! element is one sum in the order of the inner dimension.

use rayon::prelude::*;

use super::simd::{Isa, Vector};

/// Columns per panel: two AVX-512 vectors.
const PANEL: usize = 32;
/// Rows computed at once by each kernel; as many accumulators as the registers hold.
const ROWS_AVX512: usize = 12;
const ROWS_AVX2: usize = 6;
const ROWS_PORTABLE: usize = 4;
/// Rows that go through all panels together, so that they are still in the cache for the last
/// one. A multiple of all the above.
pub const ROW_BLOCK: usize = 96;

/// A matrix `[K, N]` and a bias `[N]`, cut into panels: `[panels, K, PANEL]`, padded with zeros.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    inner: usize,
    columns: usize,
    panels: Vec<f32>,
    bias: Vec<f32>,
}

impl PackedMatrix {
    /// Packs the matrix with element (k, n) at `values[k * row_stride + n * column_stride]`.
    ///
    /// # Panics
    /// When `values` is shorter than that.
    pub fn pack(
        values: &[f32],
        [inner, columns]: [usize; 2],
        [row_stride, column_stride]: [usize; 2],
    ) -> Self {
        let count = columns.div_ceil(PANEL);
        let mut panels = vec![0.0; count * inner * PANEL];
        for panel in 0..count {
            let first = panel * PANEL;
            let width = PANEL.min(columns - first);
            let packed = &mut panels[panel * inner * PANEL..][..inner * PANEL];
            if column_stride == 1 {
                for (k, row) in packed.chunks_exact_mut(PANEL).enumerate() {
                    row[..width].copy_from_slice(&values[k * row_stride + first..][..width]);
                }
            } else {
                for n in 0..width {
                    for (k, row) in packed.chunks_exact_mut(PANEL).enumerate() {
                        row[n] = values[k * row_stride + (first + n) * column_stride];
                    }
                }
            }
        }
        Self { inner, columns, panels, bias: vec![0.0; count * PANEL] }
    }

    /// Adds a bias `[N]` to every row of a product.
    pub fn with_bias(mut self, bias: &[f32]) -> Self {
        self.bias[..self.columns].copy_from_slice(bias);
        self
    }

    /// K.
    pub fn inner(&self) -> usize {
        self.inner
    }

    /// N.
    pub fn columns(&self) -> usize {
        self.columns
    }
}

/// Rows of a left-hand matrix: row i starts at `values[i * stride]`.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub count: usize,
}

impl<'a> Rows<'a> {
    /// Rows without gaps.
    pub fn dense(values: &'a [f32], width: usize) -> Self {
        Self { values, stride: width, count: values.len() / width.max(1) }
    }

    fn skip(self, rows: usize, count: usize) -> Self {
        Self { values: &self.values[rows * self.stride..], stride: self.stride, count }
    }
}

/// What becomes of the old content of the output.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// `out = A B + bias`.
    Overwrite,
    /// `out += A B + bias`.
    Add,
}

/// The product `A B + bias` of `a` `[M, K]` and `b` `[K, N]`, on this thread. Row i of the result
/// goes to `out[i * out_stride..][..N]`.
///
/// # Panics
/// When a slice is shorter than its shape.
pub fn multiply(a: Rows<'_>, b: &PackedMatrix, out: &mut [f32], out_stride: usize, mode: Output) {
    if a.count == 0 || b.columns == 0 {
        return;
    }
    assert!(a.values.len() >= (a.count - 1) * a.stride + b.inner, "left-hand rows are short");
    assert!(out.len() >= (a.count - 1) * out_stride + b.columns, "output rows are short");
    assert!(out_stride >= b.columns || a.count == 1, "output rows overlap");
    let isa = Isa::detect();
    for block in (0..a.count).step_by(ROW_BLOCK) {
        let count = ROW_BLOCK.min(a.count - block);
        let a = a.skip(block, count);
        let out = &mut out[block * out_stride..];
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                let kernels = [x86::avx512_half, x86::avx512];
                block_product::<ROWS_AVX512>(kernels, a, b, out, out_stride, mode);
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => {
                let kernels = [x86::avx2_half, x86::avx2];
                block_product::<ROWS_AVX2>(kernels, a, b, out, out_stride, mode);
            }
            _ => {
                let kernels = [portable_half, portable];
                block_product::<ROWS_PORTABLE>(kernels, a, b, out, out_stride, mode);
            }
        }
    }
}

/// As [`multiply`] for a dense output `[M, N]`, on all threads.
pub fn multiply_parallel(a: Rows<'_>, b: &PackedMatrix, out: &mut [f32], mode: Output) {
    let columns = b.columns.max(1);
    out[..a.count * b.columns].par_chunks_mut(ROW_BLOCK * columns).enumerate().for_each(
        |(block, out)| {
            let rows = a.skip(block * ROW_BLOCK, out.len() / columns);
            multiply(rows, b, out, columns, mode);
        },
    );
}

/// Computes a tile of R rows and a panel, or half a panel, of columns:
/// `c[i][j] (+)= bias[j] + sum_k a[i][k] b[k][j]`.
///
/// # Safety
/// `a` are R pointers to K floats, `b` points to K rows of [`PANEL`] floats of which the tile's
/// columns are read, `bias` to one such row, `c` to R rows at a distance of `stride`; the machine
/// has the kernel's instructions.
type Kernel<const R: usize> = unsafe fn(
    inner: usize,
    a: &[*const f32; R],
    b: *const f32,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
    add: bool,
);

/// `kernels` are those for half a panel and for a whole one.
fn block_product<const R: usize>(
    kernels: [Kernel<R>; 2],
    a: Rows<'_>,
    b: &PackedMatrix,
    out: &mut [f32],
    out_stride: usize,
    mode: Output,
) {
    let mut edge = [[0f32; PANEL]; R];
    for (panel, first) in (0..b.columns).step_by(PANEL).enumerate() {
        let columns = PANEL.min(b.columns - first);
        let whole = columns > PANEL / 2;
        let (kernel, width) = if whole { (kernels[1], PANEL) } else { (kernels[0], PANEL / 2) };
        let values = b.panels[panel * b.inner * PANEL..].as_ptr();
        let bias = b.bias[first..].as_ptr();
        for row in (0..a.count).step_by(R) {
            let rows = R.min(a.count - row);
            // SAFETY: `multiply` checked that all rows are as long as their shape says and
            // detected the instructions. Rows past the end repeat the last one and are not stored.
            // A tile that is not whole goes to `edge`, any other to rows `row..row + R` and
            // columns `first..first + width` of the output.
            unsafe {
                let start = a.values.as_ptr().add(row * a.stride);
                let mut pointers = [start; R];
                for (i, pointer) in pointers.iter_mut().enumerate() {
                    *pointer = start.add(i.min(rows - 1) * a.stride);
                }
                if rows == R && columns == width {
                    let c = out.as_mut_ptr().add(row * out_stride + first);
                    kernel(b.inner, &pointers, values, bias, c, out_stride, mode == Output::Add);
                    continue;
                }
                kernel(b.inner, &pointers, values, bias, edge.as_mut_ptr().cast(), PANEL, false);
            }
            for (i, tile) in edge[..rows].iter().enumerate() {
                let out = &mut out[(row + i) * out_stride + first..][..columns];
                match mode {
                    Output::Overwrite => out.copy_from_slice(&tile[..columns]),
                    Output::Add => out.iter_mut().zip(tile).for_each(|(out, value)| *out += value),
                }
            }
        }
    }
}

/// [`Kernel`] over `parts` times N vectors of columns.
///
/// # Safety
/// As for [`Kernel`], and inlined into a function that enables the instructions of `V`.
#[allow(clippy::too_many_arguments, clippy::needless_range_loop)]
#[inline(always)]
unsafe fn tile<V: Vector, const R: usize, const N: usize>(
    parts: usize,
    inner: usize,
    a: &[*const f32; R],
    b: *const f32,
    bias: *const f32,
    c: *mut f32,
    stride: usize,
    add: bool,
) {
    for part in 0..parts {
        let first = part * N * V::LANES;
        // SAFETY: all accesses are within what the caller promises.
        unsafe {
            let mut start = [V::splat(0.0); N];
            for n in 0..N {
                start[n] = V::load(bias.add(first + n * V::LANES));
            }
            let mut sums = [start; R];
            for k in 0..inner {
                let mut row = [V::splat(0.0); N];
                for n in 0..N {
                    row[n] = V::load(b.add(k * PANEL + first + n * V::LANES));
                }
                for i in 0..R {
                    let x = V::splat(*a[i].add(k));
                    for n in 0..N {
                        sums[i][n] = x.mul_add(row[n], sums[i][n]);
                    }
                }
            }
            for i in 0..R {
                for n in 0..N {
                    let out = c.add(i * stride + first + n * V::LANES);
                    let sum = if add { sums[i][n].add(V::load(out)) } else { sums[i][n] };
                    sum.store(out);
                }
            }
        }
    }
}

/// Defines [`Kernel`]s as tiles: `name: vector, rows, vectors, parts`.
macro_rules! kernels {
    ($($(#[$feature:meta])? $vis:vis $name:ident: $vector:ty, $rows:expr, $vectors:literal, $parts:literal;)*) => {$(
        $(#[$feature])?
        $vis unsafe fn $name(
            inner: usize,
            a: &[*const f32; $rows],
            b: *const f32,
            bias: *const f32,
            c: *mut f32,
            stride: usize,
            add: bool,
        ) {
            // SAFETY: the caller promises what a `Kernel` needs.
            unsafe {
                $crate::decoder::cpu::gemm::tile::<$vector, { $rows }, $vectors>(
                    $parts, inner, a, b, bias, c, stride, add,
                );
            }
        }
    )*};
}

kernels! {
    portable: f32, ROWS_PORTABLE, 8, 4;
    portable_half: f32, ROWS_PORTABLE, 8, 2;
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{__m256, __m512};

    use super::{ROWS_AVX2, ROWS_AVX512};

    kernels! {
        #[target_feature(enable = "avx512f")]
        pub avx512: __m512, ROWS_AVX512, 2, 1;
        #[target_feature(enable = "avx512f")]
        pub avx512_half: __m512, ROWS_AVX512, 1, 1;
        #[target_feature(enable = "avx2,fma")]
        pub avx2: __m256, ROWS_AVX2, 2, 2;
        #[target_feature(enable = "avx2,fma")]
        pub avx2_half: __m256, ROWS_AVX2, 2, 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        crate::random::standard_normal(seed, crate::random::Stream::Initialisation, 0, count)
    }

    /// Largest difference from sums in f64.
    fn check(m: usize, k: usize, n: usize, mode: Output) {
        let (a, b, bias) = (numbers(m * k, 1), numbers(k * n, 2), numbers(n, 3));
        let before = numbers(m * n, 4);
        let packed = PackedMatrix::pack(&b, [k, n], [n, 1]).with_bias(&bias);
        let mut out = before.clone();
        multiply_parallel(Rows { values: &a, stride: k, count: m }, &packed, &mut out, mode);
        for i in 0..m {
            for j in 0..n {
                let old = if mode == Output::Add { f64::from(before[i * n + j]) } else { 0.0 };
                let sum: f64 =
                    (0..k).map(|x| f64::from(a[i * k + x]) * f64::from(b[x * n + j])).sum();
                let expected = old + sum + f64::from(bias[j]);
                let error = (f64::from(out[i * n + j]) - expected).abs();
                assert!(
                    error < 1e-5 * (1.0 + k as f64).sqrt(),
                    "[{m},{k}]x[{k},{n}] at {i},{j}: {error}"
                );
            }
        }
    }

    #[test]
    fn products_agree_with_double_precision_for_all_edge_sizes() {
        for m in [1, 5, 12, 13, 97] {
            for n in [1, 16, 31, 32, 33, 70] {
                check(m, 19, n, Output::Overwrite);
                check(m, 1, n, Output::Add);
            }
        }
        check(200, 300, 40, Output::Add);
    }

    #[test]
    fn a_transposed_source_packs_to_the_same_matrix() {
        let values = numbers(7 * 45, 5);
        let transposed: Vec<f32> = (0..7 * 45).map(|i| values[(i % 7) * 45 + i / 7]).collect();
        let direct = PackedMatrix::pack(&values, [7, 45], [45, 1]);
        let swapped = PackedMatrix::pack(&transposed, [7, 45], [1, 7]);
        assert_eq!(direct.panels, swapped.panels);
    }

    #[test]
    fn rows_outside_the_product_stay_untouched() {
        let packed = PackedMatrix::pack(&[1.0; 6], [2, 3], [3, 1]);
        let mut out = [9.0; 10];
        multiply(
            Rows { values: &[1.0; 8], stride: 4, count: 2 },
            &packed,
            &mut out,
            5,
            Output::Overwrite,
        );
        assert_eq!(out, [2.0, 2.0, 2.0, 9.0, 9.0, 2.0, 2.0, 2.0, 9.0, 9.0]);
    }

    /// The instructions of this machine may be any of the three; the others are checked where
    /// they exist.
    #[test]
    fn every_kernel_of_this_machine_computes_the_same_tile() {
        let (k, stride) = (33, 40);
        let a = numbers(ROWS_AVX512 * k, 6);
        let (b, bias) = (numbers(k * PANEL, 7), numbers(PANEL, 8));
        let mut expected = vec![0.0; ROWS_AVX512 * stride];
        for block in 0..ROWS_AVX512 / ROWS_PORTABLE {
            let rows = std::array::from_fn(|i| a[(block * ROWS_PORTABLE + i) * k..].as_ptr());
            let c = expected[block * ROWS_PORTABLE * stride..].as_mut_ptr();
            // SAFETY: all slices are as long as the kernel reads and writes.
            unsafe { portable(k, &rows, b.as_ptr(), bias.as_ptr(), c, stride, false) };
        }
        #[cfg(target_arch = "x86_64")]
        {
            let close = |got: &[f32], rows: usize, columns: usize| {
                for i in 0..rows {
                    for j in 0..columns {
                        let at = i * stride + j;
                        assert!((got[at] - expected[at]).abs() < 1e-4, "{i},{j}");
                    }
                }
            };
            let mut got = vec![0.0; ROWS_AVX512 * stride];
            if is_x86_feature_detected!("avx512f") {
                let rows = std::array::from_fn(|i| a[i * k..].as_ptr());
                // SAFETY: as above, and the instructions were detected.
                unsafe {
                    x86::avx512(
                        k,
                        &rows,
                        b.as_ptr(),
                        bias.as_ptr(),
                        got.as_mut_ptr(),
                        stride,
                        false,
                    );
                }
                close(&got, ROWS_AVX512, PANEL);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                let rows = std::array::from_fn(|i| a[i * k..].as_ptr());
                // SAFETY: as above.
                unsafe {
                    x86::avx2(k, &rows, b.as_ptr(), bias.as_ptr(), got.as_mut_ptr(), stride, false);
                }
                close(&got, ROWS_AVX2, PANEL);
            }
        }
    }
}
