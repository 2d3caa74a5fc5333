//! From decoded pixels of any kind to the 8-bit RGB that encoders take.

use image::{DynamicImage, Rgb, RgbImage, Rgba, RgbaImage};

/// What becomes of transparency.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Default, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum AlphaPolicy {
    /// The colour below transparent pixels shows, as in the published CLIP code
    /// (Pillow's `convert("RGB")`).
    #[default]
    Drop,
    /// The image is laid over white, as transformers does since version 5.
    White,
}

/// Converts to 8-bit RGB as Pillow does: gray is repeated, palettes are looked up, 16-bit samples
/// keep their high byte, and transparency follows `policy`.
pub fn to_rgb(image: &DynamicImage, policy: AlphaPolicy) -> RgbImage {
    let high = |sample: u16| (sample >> 8) as u8;
    match image {
        DynamicImage::ImageRgb8(pixels) => pixels.clone(),
        DynamicImage::ImageLuma8(pixels) => convert(pixels, |p| Rgb([p.0[0]; 3])),
        DynamicImage::ImageLuma16(pixels) => convert(pixels, |p| Rgb([high(p.0[0]); 3])),
        DynamicImage::ImageRgb16(pixels) => convert(pixels, |p| Rgb(p.0.map(high))),
        DynamicImage::ImageLumaA8(pixels) => {
            convert(pixels, |p| flatten([p.0[0]; 3], p.0[1], policy))
        }
        DynamicImage::ImageLumaA16(pixels) => {
            convert(pixels, |p| flatten([high(p.0[0]); 3], high(p.0[1]), policy))
        }
        DynamicImage::ImageRgba8(pixels) => flatten_rgba(pixels, policy),
        DynamicImage::ImageRgba16(pixels) => convert(pixels, |p| {
            let Rgba([r, g, b, a]) = Rgba(p.0.map(high));
            flatten([r, g, b], a, policy)
        }),
        other => flatten_rgba(&other.to_rgba8(), policy),
    }
}

fn flatten_rgba(pixels: &RgbaImage, policy: AlphaPolicy) -> RgbImage {
    convert(pixels, |&Rgba([r, g, b, a])| flatten([r, g, b], a, policy))
}

fn flatten(colour: [u8; 3], alpha: u8, policy: AlphaPolicy) -> Rgb<u8> {
    match policy {
        AlphaPolicy::Drop => Rgb(colour),
        AlphaPolicy::White => Rgb(colour.map(|c| over_white(c, alpha))),
    }
}

/// `Image.alpha_composite` of Pillow over opaque white, with its rounding.
fn over_white(colour: u8, alpha: u8) -> u8 {
    let (colour, alpha) = (u32::from(colour), u32::from(alpha));
    let sum = colour * alpha + 255 * (255 - alpha) + 0x80;
    // Pillow carries seven more bits here, which are all zero for an opaque background.
    (((sum >> 8) + sum) >> 8) as u8
}

fn convert<P: image::Pixel>(
    pixels: &image::ImageBuffer<P, Vec<P::Subpixel>>,
    pixel: impl Fn(&P) -> Rgb<u8>,
) -> RgbImage {
    let mut rgb = RgbImage::new(pixels.width(), pixels.height());
    for (target, source) in rgb.pixels_mut().zip(pixels.pixels()) {
        *target = pixel(source);
    }
    rgb
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::{ImageBuffer, LumaA};

    #[test]
    fn dropping_alpha_shows_the_hidden_colour_and_white_covers_it() {
        let image = DynamicImage::ImageRgba8(
            RgbaImage::from_raw(3, 1, vec![10, 20, 30, 0, 10, 20, 30, 255, 10, 20, 30, 128])
                .unwrap(),
        );
        assert_eq!(to_rgb(&image, AlphaPolicy::Drop).as_raw(), &[10, 20, 30].repeat(3));
        // Pillow 13: Image.alpha_composite(white, image).
        let white = [255, 255, 255, 10, 20, 30, 132, 137, 142];
        assert_eq!(to_rgb(&image, AlphaPolicy::White).as_raw(), &white);
    }

    #[test]
    fn sixteen_bit_samples_keep_their_high_byte() {
        let samples = vec![0x12ff, 0xffff, 0x00ff, 0x80ff];
        let image = DynamicImage::ImageLumaA16(
            ImageBuffer::<LumaA<u16>, _>::from_raw(2, 1, samples).unwrap(),
        );
        assert_eq!(to_rgb(&image, AlphaPolicy::Drop).as_raw(), &[0x12, 0x12, 0x12, 0, 0, 0]);
    }
}
