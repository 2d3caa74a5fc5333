//! 3x3 convolutions, channels last.
//!
//! With stride 1 by the minimal filtering algorithm F(2x2, 3x3) of Winograd (Lavin & Gray, arXiv
//! 1509.09308 §4.1): 16 instead of 36 products per 2x2 outputs, by additions and halvings alone.
//! With stride 2 by gathering patches (im2col).

use rayon::prelude::*;

use super::gemm::{Output, PackedMatrix, ROW_BLOCK, Rows, multiply};
use super::per_task;
use super::scratch::with_scratch;
use super::simd::{Vector, vectorised};

const KERNEL: usize = 3;
/// Side of the input patch that gives a 2x2 output tile.
const PATCH: usize = 4;
/// Products per tile and channel pair.
const FREQUENCIES: usize = PATCH * PATCH;
/// Side of an output tile.
const TILE: usize = 2;
/// Numbers in the frequency domain that one task holds at a time, so that they stay in the cache
/// between the transforms and the products.
const WORKING_SET: usize = 3 << 18;
/// Bounds on the tiles per task: enough rows for the products, enough tasks for the threads.
const TILES: std::ops::RangeInclusive<usize> = 24..=192;

/// A map `[B, H, W, C]`.
#[derive(Clone, Copy)]
pub struct Image<'a> {
    pub values: &'a [f32],
    pub dims: [usize; 4],
}

/// A 3x3 convolution with stride 1 and one pixel of zeros on every side, its weights in the
/// frequency domain.
#[derive(Debug, Clone)]
pub struct Winograd {
    outputs: usize,
    /// One matrix `[in, out]` per frequency.
    frequencies: Vec<PackedMatrix>,
    bias: Vec<f32>,
}

impl Winograd {
    /// From weights `[out, in, 3, 3]` and a bias `[out]`.
    pub fn new(weight: &[f32], [outputs, inputs]: [usize; 2], bias: &[f32]) -> Self {
        // G = [1 0 0; 1/2 1/2 1/2; 1/2 -1/2 1/2; 0 0 1]; the transformed kernel is G g G^T.
        let transform = |g: [f64; KERNEL]| {
            let (even, odd) = ((g[0] + g[2]) / 2.0, g[1] / 2.0);
            [g[0], even + odd, even - odd, g[2]]
        };
        let mut transformed = vec![0.0; outputs * inputs * FREQUENCIES];
        let kernels = weight.par_chunks_exact(KERNEL * KERNEL);
        transformed.par_chunks_exact_mut(FREQUENCIES).zip(kernels).for_each(|(out, kernel)| {
            let columns: [[f64; PATCH]; KERNEL] = std::array::from_fn(|x| {
                transform(std::array::from_fn(|y| f64::from(kernel[y * KERNEL + x])))
            });
            for row in 0..PATCH {
                let values = transform(columns.map(|column| column[row]));
                for column in 0..PATCH {
                    out[row * PATCH + column] = values[column] as f32;
                }
            }
        });
        let strides = [FREQUENCIES, inputs * FREQUENCIES];
        let frequencies = (0..FREQUENCIES)
            .into_par_iter()
            .map(|f| PackedMatrix::pack(&transformed[f..], [inputs, outputs], strides))
            .collect();
        Self { outputs, frequencies, bias: bias.to_vec() }
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// The convolution of `x` `[B, H, W, in]`, plus the bias, plus `offset` (`[B, out]` or
    /// `[1, out]`) on all pixels of an image, written or added to `out` `[B, H, W, out]`.
    pub fn forward(&self, x: Image<'_>, offset: Option<&[f32]>, out: &mut [f32], mode: Output) {
        let [batch, height, width, _] = x.dims;
        let biases: Vec<f32> = match offset {
            None => self.bias.clone(),
            Some(offset) => offset
                .chunks_exact(self.outputs)
                .flat_map(|row| row.iter().zip(&self.bias).map(|(a, b)| a + b))
                .collect(),
        };
        let row = width * self.outputs;
        // Rows of tiles: each owns up to two rows of output pixels.
        let mut strips: Vec<Strip<'_>> = out[..batch * height * row]
            .chunks_exact_mut(height * row)
            .enumerate()
            .flat_map(|(image, out)| {
                let rows = out.chunks_mut(TILE * row).enumerate();
                rows.map(move |(y, out)| Strip { image, y, out })
            })
            .collect();
        let per_strip = width.div_ceil(TILE);
        let per_tile = FREQUENCIES * (self.inputs() + self.outputs);
        let tiles = (WORKING_SET / per_tile).clamp(*TILES.start(), *TILES.end());
        let [target, least] = [tiles, *TILES.start()].map(|tiles| tiles.div_ceil(per_strip));
        let per_task = per_task(strips.len(), target, least);
        strips.par_chunks_mut(per_task).for_each(|strips| {
            let tiles = strips.len() * per_strip;
            let size = |channels| FREQUENCIES * frequency_stride(tiles, channels);
            let (patches, products) = (size(self.inputs()), size(self.outputs));
            with_scratch(patches + products, |scratch| {
                let (patches, products) = scratch.split_at_mut(patches);
                self.strips(x, tiles, &biases, strips, mode, patches, products);
            });
        });
    }

    fn inputs(&self) -> usize {
        self.frequencies[0].inner()
    }

    #[allow(clippy::too_many_arguments)]
    fn strips(
        &self,
        x: Image<'_>,
        tiles: usize,
        biases: &[f32],
        strips: &mut [Strip<'_>],
        mode: Output,
        patches: &mut [f32],
        products: &mut [f32],
    ) {
        let [_, _, width, inputs] = x.dims;
        let padding = vec![0.0; inputs];
        let per_strip = tiles / strips.len();
        let [stride_in, stride_out] =
            [inputs, self.outputs].map(|channels| frequency_stride(tiles, channels));
        for (i, strip) in strips.iter().enumerate() {
            let position = [strip.image, TILE * strip.y];
            let at = i * per_strip * inputs;
            to_frequencies(patches, at, stride_in, x, position, &padding);
        }
        for ((matrix, patches), products) in self
            .frequencies
            .iter()
            .zip(patches.chunks_exact(stride_in))
            .zip(products.chunks_exact_mut(stride_out))
        {
            let rows = Rows { values: patches, stride: inputs, count: tiles };
            multiply(rows, matrix, products, self.outputs, Output::Overwrite);
        }
        let images = biases.len() / self.outputs;
        for (i, strip) in strips.iter_mut().enumerate() {
            let bias = &biases[strip.image % images * self.outputs..][..self.outputs];
            let at = i * per_strip * self.outputs;
            from_frequencies(products, at, stride_out, bias, strip.out, width, mode);
        }
    }
}

/// Distance between the frequencies of a block of tiles: a cache line more than they take, since
/// lines at a distance of a power of two push each other out of the cache.
fn frequency_stride(tiles: usize, channels: usize) -> usize {
    const CACHE_LINE: usize = 64 / size_of::<f32>();
    (tiles * channels).next_multiple_of(CACHE_LINE) + CACHE_LINE
}

/// A row of tiles, and the one or two rows of output pixels that it covers.
struct Strip<'a> {
    image: usize,
    /// Counted in tiles.
    y: usize,
    out: &'a mut [f32],
}

vectorised! {
    /// Transforms a strip of 4x4 patches d to B^T d B, with
    /// B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]. The strip belongs to the output row `top` of
    /// an image. Frequency f of its first tile goes to `out[f * stride + at..]`, the next tiles
    /// follow. `padding` is a pixel of zeros.
    fn to_frequencies<V>(
        out: &mut [f32],
        at: usize,
        stride: usize,
        x: Image<'_>,
        position: [usize; 2],
        padding: &[f32],
    ) {
        let [_, height, width, channels] = x.dims;
        let [image, top] = position;
        for tile in 0..width.div_ceil(TILE) {
            let mut patch = [padding; FREQUENCIES];
            for (i, pixel) in patch.iter_mut().enumerate() {
                // Counted from the row and column of padding before the image.
                let (row, column) = (top + i / PATCH, TILE * tile + i % PATCH);
                if row >= 1 && row <= height && column >= 1 && column <= width {
                    let index = (image * height + row - 1) * width + column - 1;
                    *pixel = &x.values[index * channels..][..channels];
                }
            }
            let at = at + tile * channels;
            assert!(padding.len() >= channels);
            assert!(out.len() >= (FREQUENCIES - 1) * stride + at + channels);
            // SAFETY: all pixels have `channels` numbers, and `out` has as many from `at` on in
            // every frequency.
            unsafe {
                let out = out.as_mut_ptr().add(at);
                let mut c = 0;
                while c + V::LANES <= channels {
                    transform_patch::<V>(&patch, c, out.add(c), stride);
                    c += V::LANES;
                }
                while c + V::Half::LANES <= channels {
                    transform_patch::<V::Half>(&patch, c, out.add(c), stride);
                    c += V::Half::LANES;
                }
                while c < channels {
                    transform_patch::<f32>(&patch, c, out.add(c), stride);
                    c += 1;
                }
            }
        }
    }
}

/// B^T times a column of a patch.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn patch_column<V: Vector>(d: [V; PATCH]) -> [V; PATCH] {
    // SAFETY: the caller promises it.
    unsafe { [d[0].sub(d[2]), d[1].add(d[2]), d[2].sub(d[1]), d[1].sub(d[3])] }
}

/// B^T d B for the channels from `c` on.
///
/// # Safety
/// As [`Vector`]; the pixels and every frequency of `out` have `V::LANES` numbers from there on.
#[inline(always)]
unsafe fn transform_patch<V: Vector>(
    patch: &[&[f32]; FREQUENCIES],
    c: usize,
    out: *mut f32,
    stride: usize,
) {
    // SAFETY: the caller promises it.
    unsafe {
        let mut columns = [[V::splat(0.0); PATCH]; PATCH];
        for column in 0..PATCH {
            let mut pixels = [V::splat(0.0); PATCH];
            for row in 0..PATCH {
                pixels[row] = V::load(patch[row * PATCH + column].as_ptr().add(c));
            }
            columns[column] = patch_column(pixels);
        }
        for row in 0..PATCH {
            let [a, b, c, d] = columns;
            let values = patch_column([a[row], b[row], c[row], d[row]]);
            for column in 0..PATCH {
                values[column].store(out.add((row * PATCH + column) * stride));
            }
        }
    }
}

vectorised! {
    /// Transforms a strip of tiles m to A^T m A plus the bias, with A^T = [1 1 1 0; 0 1 -1 -1]: up
    /// to 2x2 pixels each of the rows `out`. Frequency f of the first tile is at
    /// `products[f * stride + at..]`, the next tiles follow.
    fn from_frequencies<V>(
        products: &[f32],
        at: usize,
        stride: usize,
        bias: &[f32],
        out: &mut [f32],
        width: usize,
        mode: Output,
    ) {
        let channels = bias.len();
        let row = width * channels;
        let rows = TILE.min(out.len() / row);
        for tile in 0..width.div_ceil(TILE) {
            let at = at + tile * channels;
            let size = [rows, TILE.min(width - TILE * tile)];
            assert!(products.len() >= (FREQUENCIES - 1) * stride + at + channels);
            // SAFETY: every frequency has `channels` numbers from `at` on, and so has every pixel
            // of the tile that lies in `out`, `size` of them.
            unsafe {
                let from = products.as_ptr().add(at);
                let to = out.as_mut_ptr().add(TILE * tile * channels);
                let bias = bias.as_ptr();
                let strides = [row, channels];
                let mut c = 0;
                while c + V::LANES <= channels {
                    let pixels = transform_tile(from.add(c), stride, V::load(bias.add(c)));
                    store_tile(pixels, to.add(c), strides, size, mode);
                    c += V::LANES;
                }
                while c + V::Half::LANES <= channels {
                    let pixels = transform_tile(from.add(c), stride, V::Half::load(bias.add(c)));
                    store_tile(pixels, to.add(c), strides, size, mode);
                    c += V::Half::LANES;
                }
                while c < channels {
                    let pixels = transform_tile(from.add(c), stride, f32::load(bias.add(c)));
                    store_tile(pixels, to.add(c), strides, size, mode);
                    c += 1;
                }
            }
        }
    }
}

/// A^T times a column of a tile.
///
/// # Safety
/// As [`Vector`].
#[inline(always)]
unsafe fn tile_column<V: Vector>(m: [V; PATCH]) -> [V; TILE] {
    // SAFETY: the caller promises it.
    unsafe { [m[0].add(m[1]).add(m[2]), m[1].sub(m[2]).sub(m[3])] }
}

/// A^T m A plus the bias, of the channels from `from` on.
///
/// # Safety
/// As [`Vector`]; every frequency has `V::LANES` numbers from there on.
#[inline(always)]
unsafe fn transform_tile<V: Vector>(from: *const f32, stride: usize, bias: V) -> [[V; TILE]; TILE] {
    // SAFETY: the caller promises it.
    unsafe {
        let mut columns = [[bias; TILE]; PATCH];
        for column in 0..PATCH {
            let mut products = [bias; PATCH];
            for row in 0..PATCH {
                products[row] = V::load(from.add((row * PATCH + column) * stride));
            }
            columns[column] = tile_column(products);
        }
        let mut tile = [[bias; TILE]; TILE];
        for row in 0..TILE {
            let [a, b, c, d] = columns;
            let values = tile_column([a[row], b[row], c[row], d[row]]);
            tile[row] = [values[0].add(bias), values[1].add(bias)];
        }
        tile
    }
}

/// Writes the part of a tile that lies in the image, `rows` times `columns` pixels.
///
/// # Safety
/// As [`Vector`]; `to` has `V::LANES` numbers at every pixel of that part, pixels and rows being
/// as far apart as the strides say.
#[inline(always)]
unsafe fn store_tile<V: Vector>(
    pixels: [[V; TILE]; TILE],
    to: *mut f32,
    [row_stride, pixel_stride]: [usize; 2],
    [rows, columns]: [usize; 2],
    mode: Output,
) {
    for row in 0..rows {
        for column in 0..columns {
            // SAFETY: the caller promises it.
            unsafe {
                let to = to.add(row * row_stride + column * pixel_stride);
                match mode {
                    Output::Overwrite => pixels[row][column].store(to),
                    Output::Add => pixels[row][column].add(V::load(to)).store(to),
                }
            }
        }
    }
}

/// A 3x3 convolution with stride 2.
#[derive(Debug, Clone)]
pub struct Strided {
    inputs: usize,
    /// `[9 in, out]`, pixels of the kernel in row-major order.
    matrix: PackedMatrix,
}

impl Strided {
    /// From weights `[out, in, 3, 3]` and a bias `[out]`.
    pub fn new(weight: &[f32], [outputs, inputs]: [usize; 2], bias: &[f32]) -> Self {
        const PIXELS: usize = KERNEL * KERNEL;
        let mut matrix = vec![0.0; PIXELS * inputs * outputs];
        for (i, kernel) in weight.as_chunks::<PIXELS>().0.iter().enumerate() {
            let (output, input) = (i / inputs, i % inputs);
            for (pixel, value) in kernel.iter().enumerate() {
                matrix[(pixel * inputs + input) * outputs + output] = *value;
            }
        }
        let shape = [PIXELS * inputs, outputs];
        Self { inputs, matrix: PackedMatrix::pack(&matrix, shape, [outputs, 1]).with_bias(bias) }
    }

    /// Channels of the output.
    pub fn outputs(&self) -> usize {
        self.matrix.columns()
    }

    /// The convolution of `x` `[B, H, W, in]` to `[B, height, width, out]`; `before` rows and
    /// columns of zeros precede the image, and as many as needed follow it.
    pub fn forward(&self, x: Image<'_>, [height, width]: [usize; 2], before: usize) -> Vec<f32> {
        let [batch, ..] = x.dims;
        let patch = self.matrix.inner();
        let mut out = vec![0.0; batch * height * width * self.outputs()];
        let task = ROW_BLOCK * self.outputs();
        out.par_chunks_mut(task).enumerate().for_each(|(block, out)| {
            let pixels = out.len() / self.outputs();
            with_scratch(pixels * patch, |patches| {
                for (i, patch) in patches.chunks_exact_mut(patch).enumerate() {
                    let pixel = block * ROW_BLOCK + i;
                    let (image, y) = (pixel / width / height, pixel / width % height);
                    self.gather(x, image, 2 * y, 2 * (pixel % width), before, patch);
                }
                multiply(
                    Rows::dense(patches, patch),
                    &self.matrix,
                    out,
                    self.outputs(),
                    Output::Overwrite,
                );
            });
        });
        out
    }

    /// Copies the 3x3 pixels whose first is (top, left) of the padded image.
    fn gather(
        &self,
        x: Image<'_>,
        image: usize,
        top: usize,
        left: usize,
        before: usize,
        patch: &mut [f32],
    ) {
        let [_, height, width, channels] = x.dims;
        for (i, out) in patch.chunks_exact_mut(self.inputs).enumerate() {
            let (y, x_) = (top + i / KERNEL, left + i % KERNEL);
            let inside =
                (before..height + before).contains(&y) && (before..width + before).contains(&x_);
            if inside {
                let pixel = (image * height + y - before) * width + x_ - before;
                out.copy_from_slice(&x.values[pixel * channels..][..channels]);
            } else {
                out.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        crate::random::standard_normal(seed, crate::random::Stream::Initialisation, 0, count)
    }

    /// The definition, in f64.
    #[allow(clippy::too_many_arguments)]
    fn reference(
        x: &[f32],
        [batch, height, width, inputs]: [usize; 4],
        weight: &[f32],
        bias: &[f32],
        stride: usize,
        before: usize,
        [out_height, out_width]: [usize; 2],
    ) -> Vec<f64> {
        let outputs = bias.len();
        let mut out = Vec::new();
        for image in 0..batch {
            for y in 0..out_height {
                for x_ in 0..out_width {
                    for o in 0..outputs {
                        let mut sum = f64::from(bias[o]);
                        for (ky, kx) in (0..9).map(|k| (k / 3, k % 3)) {
                            let (py, px) = (stride * y + ky, stride * x_ + kx);
                            if py < before
                                || px < before
                                || py - before >= height
                                || px - before >= width
                            {
                                continue;
                            }
                            let pixel = (image * height + py - before) * width + px - before;
                            for c in 0..inputs {
                                sum += f64::from(x[pixel * inputs + c])
                                    * f64::from(weight[(o * inputs + c) * 9 + ky * 3 + kx]);
                            }
                        }
                        out.push(sum);
                    }
                }
            }
        }
        out
    }

    #[test]
    fn winograd_is_the_convolution_for_even_and_odd_sizes() {
        // Channels in whole vectors, halves and single numbers.
        for (dims @ [batch, height, width, inputs], outputs) in [
            ([2, 4, 6, 28], 29),
            ([1, 1, 1, 3], 8),
            ([3, 5, 7, 17], 7),
            ([2, 2, 9, 1], 16),
            ([1, 40, 38, 2], 3),
        ] {
            let x = numbers(dims.iter().product(), 1);
            let weight = numbers(outputs * inputs * 9, 2);
            let (bias, offset) = (numbers(outputs, 3), numbers(batch * outputs, 4));
            let before = numbers(batch * height * width * outputs, 5);
            let expected = reference(&x, dims, &weight, &bias, 1, 1, [height, width]);

            let conv = Winograd::new(&weight, [outputs, inputs], &bias);
            let image = Image { values: &x, dims };
            let mut plain = vec![f32::NAN; before.len()];
            conv.forward(image, None, &mut plain, Output::Overwrite);
            let mut added = before.clone();
            conv.forward(image, Some(&offset), &mut added, Output::Add);
            for (i, expected) in expected.iter().enumerate() {
                let tolerance = 2e-6 * (9.0 * inputs as f64).sqrt() * 4.0;
                assert!((f64::from(plain[i]) - expected).abs() < tolerance, "{dims:?} at {i}");
                let image = i / (height * width * outputs);
                let more = f64::from(before[i]) + f64::from(offset[image * outputs + i % outputs]);
                assert!(
                    (f64::from(added[i]) - expected - more).abs() < tolerance,
                    "{dims:?} at {i}"
                );
            }
        }
    }

    #[test]
    fn a_strided_convolution_pads_where_it_is_told() {
        for (before, [height, width]) in [(1, [3, 4]), (0, [2, 3]), (0, [3, 3])] {
            let dims = [2, 5, 7, 3];
            let (x, weight, bias) =
                (numbers(2 * 5 * 7 * 3, 1), numbers(4 * 3 * 9, 2), numbers(4, 3));
            let expected = reference(&x, dims, &weight, &bias, 2, before, [height, width]);
            let conv = Strided::new(&weight, [4, 3], &bias);
            let got = conv.forward(Image { values: &x, dims }, [height, width], before);
            assert_eq!(got.len(), expected.len());
            for (got, expected) in got.iter().zip(&expected) {
                assert!((f64::from(*got) - expected).abs() < 1e-5);
            }
        }
    }
}
