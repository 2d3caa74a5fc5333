//! Reading image files that nobody has vouched for.
//!
//! The format is told by the content, never by the file name. Everything that a header can claim
//! is bounded before it is allocated.

use std::io::Cursor;
use std::path::Path;

use image::error::ImageError;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::{AlphaPolicy, QueryError, alpha};
use crate::archive;
use crate::files::read_bounded;
use crate::gallery::ImageLocation;

/// Largest image file, in bytes.
const FILE_LIMIT: u64 = 128 << 20;
/// Largest width and height, in pixels.
const SIDE_LIMIT: u32 = 20_000;
/// Largest decoded image, in bytes.
const PIXELS_LIMIT: u64 = 512 << 20;
/// Most that a decoder may allocate beside the decoded image, in bytes.
const DECODER_LIMIT: u64 = 512 << 20;

/// A decoded image, upright, with its transparency.
#[derive(Debug, Clone)]
pub struct QueryImage {
    /// What to call it: the path it came from, or where else it was taken from.
    pub name: String,
    /// The pixels as decoded, after the EXIF orientation.
    pub pixels: DynamicImage,
}

impl QueryImage {
    /// The pixels as 8-bit RGB.
    pub fn to_rgb(&self, policy: AlphaPolicy) -> RgbImage {
        alpha::to_rgb(&self.pixels, policy)
    }

    /// [`pixels_hash`](super::pixels_hash) of the RGB pixels.
    pub fn pixels_hash(&self, policy: AlphaPolicy) -> String {
        super::pixels_hash(&self.to_rgb(policy))
    }
}

/// Reads a PNG, JPEG, WebP, GIF (first frame) or BMP file and turns it upright. A path may lead
/// through a tar archive: `test/0.tar/s0001.jpg`.
///
/// # Errors
/// When the file is missing, empty, larger than 128 MiB, not an image, of another format, has a
/// side above 20000 pixels or more than 512 MiB of pixels, or is corrupt or cut short.
pub fn read_image(path: &Path) -> Result<QueryImage, QueryError> {
    let bytes = match archive::read_path(path, FILE_LIMIT, "an image") {
        Some(member) => member?,
        None => read_bounded(path, FILE_LIMIT, "an image")?,
    };
    decode_image(&bytes, &path.display().to_string())
}

/// Reads the image of a dataset's item.
///
/// # Errors
/// As [`read_image`].
pub fn read_located_image(location: &ImageLocation) -> Result<QueryImage, QueryError> {
    decode_image(&location.read(FILE_LIMIT)?, &location.to_string())
}

/// Decodes an image that is already in memory (pasted, or out of an archive). `name` is what
/// error messages call it.
///
/// # Errors
/// As [`read_image`].
pub fn decode_image(bytes: &[u8], name: &str) -> Result<QueryImage, QueryError> {
    let name = name.to_owned();
    if bytes.is_empty() {
        return Err(QueryError::EmptyImage { name });
    }
    let Ok(format) = image::guess_format(bytes) else {
        return Err(QueryError::NotAnImage { name });
    };
    let label = match format {
        ImageFormat::Png => "PNG",
        ImageFormat::Jpeg => "JPEG",
        ImageFormat::WebP => "WebP",
        ImageFormat::Gif => "GIF",
        ImageFormat::Bmp => "BMP",
        other => {
            let format = format!("{other:?}").to_uppercase();
            return Err(QueryError::UnsupportedImage { name, format });
        }
    };
    let decode = Decode { name: &name, format: label };
    let pixels = decode.run(bytes, format)?;
    Ok(QueryImage { name, pixels })
}

/// One decoding, with what its error messages need.
struct Decode<'a> {
    name: &'a str,
    format: &'static str,
}

impl Decode<'_> {
    fn run(&self, bytes: &[u8], format: ImageFormat) -> Result<DynamicImage, QueryError> {
        // The decoder fills what is missing with gray, which would be embedded like any image.
        if format == ImageFormat::Jpeg && !jpeg_is_complete(bytes) {
            return Err(self.corrupt("it has no end marker"));
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(DECODER_LIMIT);
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| self.error(e))?;

        let (width, height) = decoder.dimensions();
        if width.max(height) > SIDE_LIMIT {
            return Err(self.too_large(width, height, format!("{SIDE_LIMIT} for a side")));
        }
        if decoder.total_bytes() > PIXELS_LIMIT {
            let limit = format!("{} MiB of pixels", PIXELS_LIMIT >> 20);
            return Err(self.too_large(width, height, limit));
        }
        if width == 0 || height == 0 {
            return Err(self.corrupt("it has no pixels"));
        }
        let orientation = decoder.orientation().map_err(|e| self.error(e))?;
        let mut pixels = DynamicImage::from_decoder(decoder).map_err(|e| self.error(e))?;
        pixels.apply_orientation(orientation);
        Ok(pixels)
    }

    fn error(&self, error: ImageError) -> QueryError {
        self.corrupt(&error.to_string())
    }

    fn corrupt(&self, reason: &str) -> QueryError {
        QueryError::CorruptImage {
            name: self.name.to_owned(),
            format: self.format.to_owned(),
            reason: reason.to_owned(),
        }
    }

    fn too_large(&self, width: u32, height: u32, limit: String) -> QueryError {
        let (name, format) = (self.name.to_owned(), self.format.to_owned());
        QueryError::ImageTooLarge { name, format, width, height, limit }
    }
}

/// True when the segments and scans of a JPEG lead up to an end-of-image marker. What follows it
/// (the video of a motion photo, for instance) does not matter, nor does an embedded thumbnail.
fn jpeg_is_complete(bytes: &[u8]) -> bool {
    const START: u8 = 0xd8;
    const END: u8 = 0xd9;
    let mut rest = bytes;
    // In compressed data every 0xFF is followed by 0x00 or a restart marker (0xD0 to 0xD7).
    while let Some(at) = rest.windows(2).position(|p| p[0] == 0xff && is_jpeg_marker(p[1])) {
        let marker = rest[at + 1];
        rest = &rest[at + 2..];
        match marker {
            END => return true,
            START => {}
            _ => match rest.first_chunk() {
                Some(&length) => {
                    rest = rest.get(u16::from_be_bytes(length).into()..).unwrap_or_default();
                }
                None => return false,
            },
        }
    }
    false
}

fn is_jpeg_marker(byte: u8) -> bool {
    byte > 0x01 && byte != 0xff && !(0xd0..=0xd7).contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::codecs::jpeg::JpegEncoder;
    use image::{ImageEncoder, Rgb};

    fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn gradient(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, y| Rgb([(x * 9) as u8, (y * 7) as u8, 60]))
    }

    #[test]
    fn the_format_is_told_by_the_content_whatever_the_name_says() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo.jpg");
        std::fs::write(&path, encoded(&gradient(5, 4), ImageFormat::Png)).unwrap();
        let image = read_image(&path).unwrap();
        assert_eq!(image.to_rgb(AlphaPolicy::Drop), gradient(5, 4));
        assert_eq!(image.name, path.display().to_string());
    }

    #[test]
    fn every_supported_format_is_decoded() {
        let source = gradient(12, 9);
        for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::WebP] {
            let image = decode_image(&encoded(&source, format), "test").unwrap();
            assert_eq!(image.to_rgb(AlphaPolicy::Drop), source, "{format:?}");
        }
        for format in [ImageFormat::Gif, ImageFormat::Jpeg] {
            let image = decode_image(&encoded(&source, format), "test").unwrap();
            assert_eq!(image.to_rgb(AlphaPolicy::Drop).dimensions(), (12, 9), "{format:?}");
        }
    }

    #[test]
    fn a_file_that_is_no_image_names_itself_and_the_formats() {
        let error = decode_image(b"hello, this is a text", "notes.txt").unwrap_err();
        assert!(matches!(error, QueryError::NotAnImage { .. }));
        assert!(error.to_string().contains("notes.txt") && error.to_string().contains("PNG"));
        assert!(matches!(decode_image(b"", "x").unwrap_err(), QueryError::EmptyImage { .. }));
        let tiff = decode_image(b"II*\0\x08\0\0\0", "x").unwrap_err();
        assert!(matches!(tiff, QueryError::UnsupportedImage { .. }), "{tiff}");
    }

    #[test]
    fn an_image_cut_short_is_an_error_in_every_format() {
        for format in [
            ImageFormat::Png,
            ImageFormat::Jpeg,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
        ] {
            let whole = encoded(&gradient(40, 40), format);
            let error = decode_image(&whole[..whole.len() * 2 / 3], "cut").unwrap_err();
            assert!(matches!(error, QueryError::CorruptImage { .. }), "{format:?}: {error}");
        }
    }

    #[test]
    fn a_jpeg_is_whole_whatever_follows_its_end() {
        let mut bytes = encoded(&gradient(40, 40), ImageFormat::Jpeg);
        bytes.extend([1, 2, 0xff, 0xda, 3, 4]);
        assert!(decode_image(&bytes, "motion.jpg").is_ok());
    }

    #[test]
    fn a_header_that_claims_a_giant_image_is_refused_before_allocation() {
        let mut bmp = encoded(&gradient(2, 2), ImageFormat::Bmp);
        bmp[18..22].copy_from_slice(&15_000_i32.to_le_bytes());
        bmp[22..26].copy_from_slice(&15_000_i32.to_le_bytes());
        let error = decode_image(&bmp, "bomb.bmp").unwrap_err();
        assert!(matches!(error, QueryError::ImageTooLarge { width: 15_000, .. }), "{error}");

        bmp[18..22].copy_from_slice(&30_000_i32.to_le_bytes());
        bmp[22..26].copy_from_slice(&1_i32.to_le_bytes());
        let error = decode_image(&bmp, "bomb.bmp").unwrap_err();
        assert!(matches!(error, QueryError::ImageTooLarge { width: 30_000, .. }), "{error}");
    }

    #[test]
    fn a_jpeg_with_an_exif_orientation_is_turned_upright() {
        // Dark above bright, stored lying on its side: EXIF 6 = rotate by 90 degrees clockwise.
        let stored = RgbImage::from_fn(16, 8, |x, _| Rgb(if x < 8 { [10; 3] } else { [240; 3] }));
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        let exif = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0".to_vec();
        encoder.set_exif_metadata(exif).unwrap();
        encoder.write_image(&stored, 16, 8, image::ExtendedColorType::Rgb8).unwrap();

        let upright = decode_image(&bytes, "phone.jpg").unwrap().to_rgb(AlphaPolicy::Drop);
        assert_eq!(upright.dimensions(), (8, 16));
        assert!(upright.get_pixel(4, 2).0[0] < 60 && upright.get_pixel(4, 13).0[0] > 200);
    }
}
