//! 3x3 convolutions, channels last.
//!
//! With stride 1 by the minimal filtering algorithm F(2x2, 3x3) of Winograd (Lavin & Gray, arXiv
//! 1509.09308 §4.1): 16 instead of 36 products per 2x2 outputs, by additions and halvings alone.
//! With stride 2 by gathering patches (im2col).

use rayon::prelude::*;

use super::gemm::{Output, PackedMatrix, ROW_BLOCK, Rows, multiply};
use super::simd::vectorised;

const KERNEL: usize = 3;
/// Side of the input patch that gives a 2x2 output tile.
const PATCH: usize = 4;
/// Products per tile and channel pair.
const FREQUENCIES: usize = PATCH * PATCH;
/// Side of an output tile.
const TILE: usize = 2;

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
        let frequencies = (0..FREQUENCIES)
            .into_par_iter()
            .map(|frequency| {
                let (row, column) = (frequency / PATCH, frequency % PATCH);
                let mut matrix = vec![0.0; inputs * outputs];
                for (i, kernel) in weight.as_chunks::<{ KERNEL * KERNEL }>().0.iter().enumerate() {
                    let (output, input) = (i / inputs, i % inputs);
                    let rows: [f64; KERNEL] = std::array::from_fn(|x| {
                        transform(std::array::from_fn(|y| f64::from(kernel[y * KERNEL + x])))[row]
                    });
                    matrix[input * outputs + output] = transform(rows)[column] as f32;
                }
                PackedMatrix::pack(&matrix, [inputs, outputs], [outputs, 1])
            })
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
        let mut strips: Vec<(usize, usize, &mut [f32])> = out[..batch * height * row]
            .chunks_exact_mut(height * row)
            .enumerate()
            .flat_map(|(image, out)| {
                out.chunks_mut(TILE * row).enumerate().map(move |(y, out)| (image, y, out))
            })
            .collect();
        let per_strip = width.div_ceil(TILE);
        let per_task = ROW_BLOCK.div_ceil(per_strip);
        strips.par_chunks_mut(per_task).for_each(|strips| {
            self.strips(x, per_strip, &biases, strips, mode);
        });
    }

    fn strips(
        &self,
        x: Image<'_>,
        per_strip: usize,
        biases: &[f32],
        strips: &mut [(usize, usize, &mut [f32])],
        mode: Output,
    ) {
        let [_, _, width, inputs] = x.dims;
        let tiles = strips.len() * per_strip;
        let mut patches = vec![0.0; FREQUENCIES * tiles * inputs];
        let mut scratch = vec![0.0; FREQUENCIES * inputs.max(self.outputs)];
        for (strip, &mut (image, y, _)) in strips.iter_mut().enumerate() {
            for tile in 0..per_strip {
                let pixels = patch(x, image, TILE * y, TILE * tile);
                let at = (strip * per_strip + tile) * inputs;
                to_frequencies(&mut patches, at, tiles * inputs, &pixels, &mut scratch, inputs);
            }
        }
        let mut products = vec![0.0; FREQUENCIES * tiles * self.outputs];
        for ((matrix, patches), products) in self
            .frequencies
            .iter()
            .zip(patches.chunks_exact(tiles * inputs))
            .zip(products.chunks_exact_mut(tiles * self.outputs))
        {
            let rows = Rows::dense(patches, inputs);
            multiply(rows, matrix, products, self.outputs, Output::Overwrite);
        }
        for (strip, (image, _, out)) in strips.iter_mut().enumerate() {
            let images = biases.len() / self.outputs;
            let bias = &biases[*image % images * self.outputs..][..self.outputs];
            for tile in 0..per_strip {
                let at = (strip * per_strip + tile) * self.outputs;
                let stride = tiles * self.outputs;
                let add = mode == Output::Add;
                from_frequencies(
                    &products,
                    at,
                    stride,
                    &mut scratch,
                    bias,
                    out,
                    TILE * tile,
                    width,
                    add,
                );
            }
        }
    }
}

/// The 4x4 pixels around a 2x2 tile; empty slices stand for the zeros outside the image.
fn patch<'a>(x: Image<'a>, image: usize, top: usize, left: usize) -> [&'a [f32]; FREQUENCIES] {
    let [_, height, width, channels] = x.dims;
    std::array::from_fn(|i| {
        let (y, x_) = (top + i / PATCH, left + i % PATCH);
        // One less, for the pixel of padding.
        if y == 0 || x_ == 0 || y > height || x_ > width {
            return &[][..];
        }
        let pixel = (image * height + y - 1) * width + x_ - 1;
        &x.values[pixel * channels..][..channels]
    })
}

#[inline(always)]
fn store(out: &mut [f32], a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) {
    for ((out, a), b) in out.iter_mut().zip(a).zip(b) {
        *out = f(*a, *b);
    }
}

vectorised! {
    /// B^T d B of one patch d, with B^T = [1 0 -1 0; 0 1 1 0; 0 -1 1 0; 0 1 0 -1]. Frequency f of
    /// the result goes to `out[f * stride + at..]`.
    fn to_frequencies(
        out: &mut [f32],
        at: usize,
        stride: usize,
        pixels: &[&[f32]; FREQUENCIES],
        scratch: &mut [f32],
        channels: usize,
    ) {
        const ROWS: [(usize, usize, f32); PATCH] =
            [(0, 2, -1.0), (1, 2, 1.0), (2, 1, -1.0), (1, 3, -1.0)];
        // Columns first; a missing pixel counts as zero.
        for column in 0..PATCH {
            for (row, (a, b, sign)) in ROWS.into_iter().enumerate() {
                let (a, b) = (pixels[a * PATCH + column], pixels[b * PATCH + column]);
                let out = &mut scratch[(row * PATCH + column) * channels..][..channels];
                match (a.is_empty(), b.is_empty()) {
                    (false, false) => store(out, a, b, |a, b| a + sign * b),
                    (false, true) => out.copy_from_slice(a),
                    (true, false) => store(out, b, b, |b, _| sign * b),
                    (true, true) => out.fill(0.0),
                }
            }
        }
        for row in 0..PATCH {
            let pixel = |column: usize| &scratch[(row * PATCH + column) * channels..][..channels];
            for (column, (a, b, sign)) in ROWS.into_iter().enumerate() {
                let out = &mut out[(row * PATCH + column) * stride + at..][..channels];
                store(out, pixel(a), pixel(b), |a, b| a + sign * b);
            }
        }
    }
}

vectorised! {
    /// A^T m A of one tile m plus the bias, with A^T = [1 1 1 0; 0 1 -1 -1], onto up to 2x2 pixels
    /// of the strip `out` of image rows. Frequency f of the tile is at `products[f * stride + at..]`.
    fn from_frequencies(
        products: &[f32],
        at: usize,
        stride: usize,
        scratch: &mut [f32],
        bias: &[f32],
        out: &mut [f32],
        left: usize,
        width: usize,
        add: bool,
    ) {
        let channels = bias.len();
        let product = |frequency: usize| &products[frequency * stride + at..][..channels];
        for column in 0..PATCH {
            let m: [&[f32]; PATCH] = [
                product(column),
                product(PATCH + column),
                product(2 * PATCH + column),
                product(3 * PATCH + column),
            ];
            let (first, second) = scratch.split_at_mut(PATCH * channels);
            let first = &mut first[column * channels..][..channels];
            for (((out, a), b), c) in first.iter_mut().zip(m[0]).zip(m[1]).zip(m[2]) {
                *out = a + b + c;
            }
            let second = &mut second[column * channels..][..channels];
            for (((out, a), b), c) in second.iter_mut().zip(m[1]).zip(m[2]).zip(m[3]) {
                *out = a - b - c;
            }
        }
        for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
            let part = |column: usize| &scratch[(y * PATCH + column) * channels..][..channels];
            for x in 0..TILE.min(width - left) {
                let out = &mut row[(left + x) * channels..][..channels];
                // The second pixel of a row: 1 -1 -1 on the last three.
                let sign = if x == 0 { 1.0 } else { -1.0 };
                let (a, b, c) = (part(x), part(x + 1), part(x + 2));
                let values = a.iter().zip(b).zip(c).zip(bias);
                if add {
                    for (out, (((a, b), c), bias)) in out.iter_mut().zip(values) {
                        *out += a + sign * b + sign * c + bias;
                    }
                } else {
                    for (out, (((a, b), c), bias)) in out.iter_mut().zip(values) {
                        *out = a + sign * b + sign * c + bias;
                    }
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
            let mut patches = vec![0.0; pixels * patch];
            for (i, patch) in patches.chunks_exact_mut(patch).enumerate() {
                let pixel = block * ROW_BLOCK + i;
                let (image, y) = (pixel / width / height, pixel / width % height);
                self.gather(x, image, 2 * y, 2 * (pixel % width), before, patch);
            }
            multiply(
                Rows::dense(&patches, patch),
                &self.matrix,
                out,
                self.outputs(),
                Output::Overwrite,
            );
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
        for dims @ [batch, height, width, inputs] in
            [[2, 4, 6, 5], [1, 1, 1, 3], [3, 5, 7, 17], [2, 2, 9, 1], [1, 40, 38, 2]]
        {
            let outputs = 7;
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
