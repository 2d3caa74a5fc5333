//! Pillow's antialiased resize of 8-bit images, bit exact.
//!
//! Encoders were trained on images that Pillow scaled, so a different filter, a different order of
//! the passes or a different rounding moves every embedding. Two passes, horizontal first (Pillow
//! before version 13), each in fixed point with 22 fractional bits and rounded to 8 bits
//! (`src/libImaging/Resample.c`).

use std::ops::Range;

use image::RgbImage;
use rayon::prelude::*;

const CHANNELS: usize = 3;
const PRECISION_BITS: u32 = 22;
const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// A resampling filter of Pillow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Cubic convolution with a = -1/2.
    Bicubic,
}

impl Filter {
    /// Half the width of the filter, in pixels of the larger grid.
    fn support(self) -> f64 {
        match self {
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Filter::Bilinear => (1.0 - x).max(0.0),
            Filter::Bicubic => {
                const A: f64 = -0.5;
                if x < 1.0 {
                    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
                } else if x < 2.0 {
                    (((x - 5.0) * x + 8.0) * x - 4.0) * A
                } else {
                    0.0
                }
            }
        }
    }
}

/// Resizes to `width` x `height` and returns the part in columns `x` and rows `y` of the result,
/// which is all that is computed: cropping first costs nothing and keeps a very long image from
/// growing.
///
/// # Panics
/// When a range is empty or reaches beyond the new size.
pub fn resize_window(
    image: &RgbImage,
    (width, height): (u32, u32),
    filter: Filter,
    x: Range<u32>,
    y: Range<u32>,
) -> RgbImage {
    assert!(!x.is_empty() && x.end <= width && !y.is_empty() && y.end <= height);
    let columns = Axis::new(image.width(), width, x, filter);
    let rows = Axis::new(image.height(), height, y, filter);
    let needed = rows.inputs();
    let across = columns.across(image, needed.clone());
    rows.down(&across, needed.start)
}

/// Where one output pixel takes its value from along one axis.
struct Taps {
    first: usize,
    /// Fixed-point weights of the input pixels from `first` on; they sum to about 2^22.
    weights: Vec<i32>,
}

/// The taps of a range of output pixels along one axis.
struct Axis {
    taps: Vec<Taps>,
}

impl Axis {
    fn new(inputs: u32, outputs: u32, range: Range<u32>, filter: Filter) -> Self {
        let taps = if inputs == outputs {
            // Pillow skips a pass that changes nothing.
            range.map(|i| Taps { first: i as usize, weights: vec![1 << PRECISION_BITS] }).collect()
        } else {
            range.map(|i| Taps::new(inputs, outputs, i, filter)).collect()
        };
        Self { taps }
    }

    /// The input pixels that any output needs.
    fn inputs(&self) -> Range<usize> {
        let first = self.taps.iter().map(|t| t.first).min().unwrap_or(0);
        let end = self.taps.iter().map(|t| t.first + t.weights.len()).max().unwrap_or(0);
        first..end
    }

    /// Horizontal pass over the rows `rows` of the image.
    fn across(&self, image: &RgbImage, rows: Range<usize>) -> RgbImage {
        let mut result = RgbImage::new(self.taps.len() as u32, rows.len() as u32);
        let in_stride = image.width() as usize * CHANNELS;
        let source = image.as_raw()[rows.start * in_stride..].par_chunks(in_stride);
        result.par_chunks_mut(self.taps.len() * CHANNELS).zip(source).for_each(|(row, source)| {
            let pixels = source.as_chunks::<CHANNELS>().0;
            for (pixel, taps) in row.as_chunks_mut::<CHANNELS>().0.iter_mut().zip(&self.taps) {
                let mut sum = [HALF; CHANNELS];
                for (input, &weight) in pixels[taps.first..].iter().zip(&taps.weights) {
                    for (sum, &value) in sum.iter_mut().zip(input) {
                        *sum += i32::from(value) * weight;
                    }
                }
                *pixel = sum.map(to_byte);
            }
        });
        result
    }

    /// Vertical pass over an image whose first row counts as row `offset`.
    fn down(&self, image: &RgbImage, offset: usize) -> RgbImage {
        let mut result = RgbImage::new(image.width(), self.taps.len() as u32);
        let stride = image.width() as usize * CHANNELS;
        result.par_chunks_mut(stride).zip(&self.taps).for_each(|(row, taps)| {
            let mut sums = vec![HALF; stride];
            let inputs = image.as_raw()[(taps.first - offset) * stride..].chunks_exact(stride);
            for (input, &weight) in inputs.zip(&taps.weights) {
                for (sum, &value) in sums.iter_mut().zip(input) {
                    *sum += i32::from(value) * weight;
                }
            }
            for (value, sum) in row.iter_mut().zip(sums) {
                *value = to_byte(sum);
            }
        });
        result
    }
}

impl Taps {
    /// `precompute_coeffs` and `normalize_coeffs_8bpc` of Pillow.
    fn new(inputs: u32, outputs: u32, output: u32, filter: Filter) -> Self {
        let scale = f64::from(inputs) / f64::from(outputs);
        let stretch = scale.max(1.0);
        let support = filter.support() * stretch;
        let centre = (f64::from(output) + 0.5) * scale;
        let first = ((centre - support + 0.5) as i64).max(0);
        let end = ((centre + support + 0.5) as i64).min(i64::from(inputs));
        let shrink = 1.0 / stretch;
        let mut weights: Vec<f64> =
            (first..end).map(|x| filter.weight((x as f64 - centre + 0.5) * shrink)).collect();
        let total: f64 = weights.iter().sum();
        if total != 0.0 {
            weights.iter_mut().for_each(|w| *w /= total);
        }
        let fixed = |w: f64| (w * f64::from(1 << PRECISION_BITS) + 0.5_f64.copysign(w)) as i32;
        Self { first: first as usize, weights: weights.into_iter().map(fixed).collect() }
    }
}

fn to_byte(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn noise(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| {
            let hash = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761);
            Rgb([(hash >> 24) as u8, (hash >> 16) as u8, (hash >> 8) as u8])
        })
    }

    fn resize(image: &RgbImage, width: u32, height: u32, filter: Filter) -> RgbImage {
        resize_window(image, (width, height), filter, 0..width, 0..height)
    }

    #[test]
    fn a_window_equals_the_crop_of_the_whole() {
        let image = noise(53, 37);
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            let whole = resize(&image, 31, 22, filter);
            let window = resize_window(&image, (31, 22), filter, 4..28, 5..9);
            let crop = image::imageops::crop_imm(&whole, 4, 5, 24, 4).to_image();
            assert_eq!(window, crop, "{filter:?}");
        }
    }

    #[test]
    fn equal_size_changes_nothing_and_flat_colour_stays_flat() {
        let image = noise(9, 11);
        assert_eq!(resize(&image, 9, 11, Filter::Bicubic), image);
        let flat = RgbImage::from_pixel(40, 30, Rgb([255, 3, 128]));
        for (width, height) in [(7, 5), (90, 61)] {
            let scaled = resize(&flat, width, height, Filter::Bicubic);
            assert!(scaled.pixels().all(|p| p.0 == [255, 3, 128]));
        }
    }

    #[test]
    fn a_hard_edge_overshoots_under_bicubic_only_and_is_clamped() {
        let edge = RgbImage::from_fn(8, 1, |x, _| Rgb([if x < 4 { 40 } else { 200 }; 3]));
        let values =
            |filter| -> Vec<u8> { resize(&edge, 16, 1, filter).pixels().map(|p| p.0[0]).collect() };
        assert!(values(Filter::Bicubic).iter().any(|&v| v < 40));
        assert!(values(Filter::Bilinear).iter().all(|&v| (40..=200).contains(&v)));
        let clamped = RgbImage::from_fn(8, 1, |x, _| Rgb([if x < 4 { 0 } else { 255 }; 3]));
        let scaled = resize(&clamped, 16, 1, Filter::Bicubic);
        assert_eq!((scaled.get_pixel(6, 0).0[0], scaled.get_pixel(9, 0).0[0]), (0, 255));
    }
}
