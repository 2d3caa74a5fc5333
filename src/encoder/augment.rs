//! Random copies of images and texts for test-time data augmentation (TTDA).
//!
//! The spread of the embeddings of such copies is the uncertainty of the TTDA baseline. Images are
//! cropped, stretched and mirrored, words are masked, as GroVE does it (arXiv 2505.05163): ten
//! copies, mirrored with probability 0.3, words masked with probability 0.3. A copy is a pure
//! function of (input, seed, index).

use image::{RgbImage, imageops};
use rand::{Rng, RngExt};

use super::resample::{Filter, resize_window};
use crate::random::{Stream, generator};

/// Copies of an item that GroVE takes.
pub const PASSES: usize = 10;
/// Share of words that GroVE masks.
pub const MASKED_SHARE: f64 = 0.3;
/// What stands for a masked word. CLIP has no mask token: it reads the characters, as in GroVE's
/// code.
pub const MASK: &str = "[MASK]";

/// Share of the image's area that a crop covers, the default of torchvision's
/// `RandomResizedCrop`.
const SCALE: std::ops::Range<f64> = 0.08..1.0;
/// Width over height of a crop, likewise.
const RATIO: std::ops::Range<f64> = 3.0 / 4.0..4.0 / 3.0;
/// Attempts at a crop that fits, likewise.
const ATTEMPTS: usize = 10;
const MIRROR_PROBABILITY: f64 = 0.3;

/// A rectangle of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Crop {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

/// A random part of an image, stretched to a square and sometimes mirrored: torchvision's
/// `RandomResizedCrop` and `RandomHorizontalFlip`. The square has the longer side of the crop, so
/// that the encoder's own preprocessing is what scales it down. An image without pixels is
/// returned as it is.
pub fn augment_image(image: &RgbImage, seed: u64, index: u64) -> RgbImage {
    if image.width() == 0 || image.height() == 0 {
        return image.clone();
    }
    let mut rng = generator(seed, Stream::Augmentation, index);
    let Crop { left, top, width, height } = random_crop((image.width(), image.height()), &mut rng);
    let part = imageops::crop_imm(image, left, top, width, height).to_image();
    let side = width.max(height);
    let mut square = resize_window(&part, (side, side), Filter::Bilinear, 0..side, 0..side);
    if rng.random_bool(MIRROR_PROBABILITY) {
        imageops::flip_horizontal_in_place(&mut square);
    }
    square
}

/// `RandomResizedCrop.get_params` of torchvision: area uniform in [`SCALE`], logarithm of the
/// ratio uniform in [`RATIO`]; after ten crops that do not fit, the largest central one within
/// [`RATIO`].
fn random_crop((width, height): (u32, u32), rng: &mut impl Rng) -> Crop {
    let area = f64::from(width) * f64::from(height);
    for _ in 0..ATTEMPTS {
        let target = area * rng.random_range(SCALE);
        let ratio = rng.random_range(RATIO.start.ln()..RATIO.end.ln()).exp();
        let w = (target * ratio).sqrt().round() as u32;
        let h = (target / ratio).sqrt().round() as u32;
        if (1..=width).contains(&w) && (1..=height).contains(&h) {
            let left = rng.random_range(0..=width - w);
            let top = rng.random_range(0..=height - h);
            return Crop { left, top, width: w, height: h };
        }
    }
    let ratio = f64::from(width) / f64::from(height);
    let (w, h) = if ratio < RATIO.start {
        (width, (f64::from(width) / RATIO.start).round() as u32)
    } else if ratio > RATIO.end {
        ((f64::from(height) * RATIO.end).round() as u32, height)
    } else {
        (width, height)
    };
    let (w, h) = (w.clamp(1, width), h.clamp(1, height));
    Crop { left: (width - w) / 2, top: (height - h) / 2, width: w, height: h }
}

/// The text with each word replaced by [`MASK`] with probability `share` (0 to 1), words joined by
/// single spaces.
pub fn mask_words(text: &str, share: f64, seed: u64, index: u64) -> String {
    let mut rng = generator(seed, Stream::Augmentation, index);
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| if rng.random_bool(share.clamp(0.0, 1.0)) { MASK } else { word })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn crops_lie_within_the_image_and_have_the_areas_and_ratios_of_torchvision() {
        let (width, height) = (200, 160);
        let crops: Vec<Crop> = (0..4000)
            .map(|i| random_crop((width, height), &mut generator(3, Stream::Augmentation, i)))
            .collect();
        let mut areas = Vec::new();
        for crop in &crops {
            assert!(crop.left + crop.width <= width && crop.top + crop.height <= height);
            let ratio = f64::from(crop.width) / f64::from(crop.height);
            assert!((0.73..1.36).contains(&ratio), "{crop:?}");
            areas.push(f64::from(crop.width * crop.height) / f64::from(width * height));
        }
        let (least, most) = areas.iter().fold((1f64, 0f64), |(a, b), &x| (a.min(x), b.max(x)));
        assert!((0.07..0.1).contains(&least) && (0.9..=1.0).contains(&most), "{least} {most}");
        // Of crops up to a quarter of the image, all of which fit, areas are uniform.
        let small: Vec<f64> = areas.into_iter().filter(|a| (0.08..0.25).contains(a)).collect();
        let mean = small.iter().sum::<f64>() / small.len() as f64;
        let standard_error = 0.17 / 12f64.sqrt() / (small.len() as f64).sqrt();
        assert!((mean - 0.165).abs() < 4.0 * standard_error + 1e-3, "{mean}");
        let centred = crops.iter().filter(|c| c.left < width - c.width - c.left).count();
        assert!((1600..2400).contains(&centred), "{centred} of 4000 lie left");
    }

    #[test]
    fn a_very_long_image_gets_a_central_crop_of_the_largest_ratio() {
        let crop = random_crop((4000, 6), &mut generator(0, Stream::Augmentation, 0));
        assert_eq!(crop, Crop { left: 1996, top: 0, width: 8, height: 6 });
        let crop = random_crop((6, 4000), &mut generator(0, Stream::Augmentation, 0));
        assert_eq!(crop, Crop { left: 0, top: 1996, width: 6, height: 8 });
        for size in [(1, 1), (1, 9), (0, 4)] {
            let copy = augment_image(&RgbImage::new(size.0, size.1), 0, 0);
            assert_eq!(copy.width() == 0, size.0 == 0);
        }
    }

    #[test]
    fn copies_are_squares_that_repeat_by_seed_and_index_and_three_in_ten_are_mirrored() {
        let ramp = RgbImage::from_fn(120, 90, |x, y| Rgb([2 * x as u8, y as u8, 0]));
        let mut mirrored = 0;
        for index in 0..600 {
            let copy = augment_image(&ramp, 5, index);
            assert_eq!(copy.width(), copy.height());
            let last = copy.get_pixel(copy.width() - 1, 0).0[0];
            mirrored += usize::from(copy.get_pixel(0, 0).0[0] > last);
        }
        // 4 standard deviations of a binomial.
        assert!((180 - 45..180 + 45).contains(&mirrored), "{mirrored} of 600");
        assert_eq!(augment_image(&ramp, 5, 1), augment_image(&ramp, 5, 1));
        assert_ne!(augment_image(&ramp, 5, 1), augment_image(&ramp, 5, 2));
        assert_ne!(augment_image(&ramp, 5, 1), augment_image(&ramp, 6, 1));
    }

    #[test]
    fn words_are_masked_one_by_one_with_the_given_probability() {
        let text = "a  red cat\nsits on a mat";
        assert_eq!(mask_words(text, 0.0, 0, 0), "a red cat sits on a mat");
        assert_eq!(mask_words("two dogs", 1.0, 0, 0), "[MASK] [MASK]");
        assert_eq!(mask_words(text, 0.3, 1, 2), mask_words(text, 0.3, 1, 2));
        let long = "word ".repeat(7);
        let masked: usize =
            (0..2000).map(|i| mask_words(&long, 0.3, 9, i).matches(MASK).count()).sum();
        let (mean, deviation) = (14_000.0 * 0.3, (14_000f64 * 0.21).sqrt());
        assert!((masked as f64 - mean).abs() < 4.0 * deviation, "{masked}");
        assert_eq!(mask_words("", 0.5, 0, 0), "");
    }
}
