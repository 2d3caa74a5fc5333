//! The JSON that travels inside a sheet, in a PNG iTXt chunk.

use std::io::{BufReader, Cursor, Write};
use std::path::{Path, PathBuf};

use image::RgbImage;
use serde_json::Value;

use crate::files::{FileError, read_bounded, write_atomic};

/// Keyword of the iTXt chunk that holds the recipe and the statistics of every tile.
pub const KEYWORD: &str = "haze_metadata";

/// A sheet larger than this is refused before it is read.
const SHEET_FILE_LIMIT: u64 = 512 << 20;
/// Bound on the decompressed text of a sheet.
const TEXT_LIMIT: usize = 64 << 20;
/// Bound on the decoded pixels of a sheet in bytes.
const PIXEL_LIMIT: usize = 1 << 30;

/// Why a sheet could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SheetError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: not a readable PNG: {source}", path.display())]
    Png { path: PathBuf, source: png::DecodingError },
    #[error(
        "{}: this PNG carries no Haze recipe; expected a sheet.png written by haze sample \
         (some programs and websites strip it)",
        path.display()
    )]
    NoRecipe { path: PathBuf },
    #[error("{}: the recipe inside is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
}

/// Writes `image` as PNG with `metadata` inside, atomically. Other tools' keys are not touched.
///
/// # Errors
/// When the file cannot be written.
pub fn write_sheet(path: &Path, image: &RgbImage, metadata: &Value) -> Result<(), FileError> {
    write_atomic(path, |file| {
        let mut encoder = png::Encoder::new(file, image.width(), image.height());
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder
            .add_text_chunk("Software".to_owned(), format!("Haze {}", env!("CARGO_PKG_VERSION")))?;
        encoder.add_itxt_chunk(KEYWORD.to_owned(), metadata.to_string())?;
        let mut writer = encoder.write_header()?;
        writer.write_image_data(image.as_raw())?;
        writer.finish()?;
        Ok(())
    })
}

/// Writes a plain PNG, atomically.
///
/// # Errors
/// When the file cannot be written.
pub fn write_png(path: &Path, image: &RgbImage) -> Result<(), FileError> {
    write_atomic(path, |file| {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, image::ImageFormat::Png).map_err(std::io::Error::other)?;
        file.write_all(bytes.get_ref())
    })
}

/// Reads a sheet: its pixels and the JSON inside.
///
/// # Errors
/// When the file is no PNG, is too large, or carries no (or a damaged) recipe.
pub fn read_sheet(path: &Path) -> Result<(RgbImage, Value), SheetError> {
    let bytes = read_bounded(path, SHEET_FILE_LIMIT, "a PNG sheet")?;
    let png_error = |source| SheetError::Png { path: path.to_owned(), source };
    let damaged = |reason: String| SheetError::Damaged { path: path.to_owned(), reason };
    let mut decoder = png::Decoder::new_with_limits(
        BufReader::new(Cursor::new(&bytes)),
        png::Limits { bytes: PIXEL_LIMIT },
    );
    decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::STRIP_16);
    let mut reader = decoder.read_info().map_err(png_error)?;
    let size = reader.output_buffer_size().filter(|&size| size <= PIXEL_LIMIT).ok_or_else(
        || match reader.info().utf8_text.iter().any(|chunk| chunk.keyword == KEYWORD) {
            true => damaged("its dimensions are too large".to_owned()),
            false => SheetError::NoRecipe { path: path.to_owned() },
        },
    )?;
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(png_error)?;
    reader.finish().map_err(png_error)?;
    let info = reader.info();
    let mut chunk = info
        .utf8_text
        .iter()
        .find(|chunk| chunk.keyword == KEYWORD)
        .cloned()
        .ok_or_else(|| SheetError::NoRecipe { path: path.to_owned() })?;
    chunk.decompress_text_with_limit(TEXT_LIMIT).map_err(|e| damaged(e.to_string()))?;
    let text = chunk.get_text().map_err(|e| damaged(e.to_string()))?;
    let metadata = serde_json::from_str(&text).map_err(|e| damaged(e.to_string()))?;
    if frame.color_type != png::ColorType::Rgb {
        return Err(damaged("its pixels are not RGB".to_owned()));
    }
    pixels.truncate(frame.buffer_size());
    let image = RgbImage::from_raw(frame.width, frame.height, pixels)
        .ok_or_else(|| damaged("its pixels are incomplete".to_owned()))?;
    Ok((image, metadata))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> RgbImage {
        RgbImage::from_fn(7, 5, |x, y| image::Rgb([x as u8, y as u8, 200]))
    }

    #[test]
    fn a_sheet_gives_back_its_pixels_and_its_metadata() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sheet.png");
        let metadata = serde_json::json!({"query": "a caf\u{e9} \u{1F600}", "n": 3});
        write_sheet(&path, &image(), &metadata).unwrap();
        let (pixels, read) = read_sheet(&path).unwrap();
        assert_eq!(pixels, image());
        assert_eq!(read, metadata);
    }

    #[test]
    fn an_ordinary_png_is_told_apart_from_a_damaged_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plain.png");
        write_png(&path, &image()).unwrap();
        assert!(matches!(read_sheet(&path), Err(SheetError::NoRecipe { .. })));
        std::fs::write(&path, b"\x89PNG\r\n\x1a\nrubbish").unwrap();
        assert!(matches!(read_sheet(&path), Err(SheetError::Png { .. })));
    }
}
