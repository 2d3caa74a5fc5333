//! What the user asks about: a text or an image, read from untrusted sources and validated.
//!
//! In come strings and files; out go a [`Query`] and, for images, plain RGB pixels. Nothing here
//! knows of models: how an image is resized for an encoder is the encoder's business.

mod alpha;
mod image_file;

use image::RgbImage;

pub use alpha::AlphaPolicy;
pub use image_file::{QueryImage, decode_image, read_image, read_located_image};

use crate::files::FileError;

/// Longest text that is accepted, in bytes. Encoders read some dozens of words; anything much
/// longer is a file dropped by mistake.
pub const TEXT_LIMIT: usize = 16 << 10;

/// A validated query.
#[derive(Debug, Clone)]
pub enum Query {
    /// Not empty, at most [`TEXT_LIMIT`] bytes.
    Text(String),
    Image(QueryImage),
}

impl Query {
    /// A text query.
    ///
    /// # Errors
    /// When the text is empty, only white space, or longer than [`TEXT_LIMIT`] bytes.
    pub fn text(text: impl Into<String>) -> Result<Self, QueryError> {
        let text = text.into();
        if text.trim().is_empty() {
            return Err(QueryError::EmptyText);
        }
        if text.len() > TEXT_LIMIT {
            return Err(QueryError::TextTooLong { found: text.len() });
        }
        Ok(Query::Text(text))
    }

    /// An image query read from a file.
    ///
    /// # Errors
    /// As [`read_image`].
    pub fn image(path: &std::path::Path) -> Result<Self, QueryError> {
        Ok(Query::Image(read_image(path)?))
    }
}

/// Why a text or an image cannot be a query.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    #[error("the text is empty; type at least one word")]
    EmptyText,
    #[error("the text has {found} bytes, at most {TEXT_LIMIT} are accepted; shorten it")]
    TextTooLong { found: usize },
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{name}: the file is empty, expected an image")]
    EmptyImage { name: String },
    #[error("{name}: not an image; expected PNG, JPEG, WebP, GIF or BMP")]
    NotAnImage { name: String },
    #[error(
        "{name}: {format} images are not read; convert it to PNG, JPEG, WebP, GIF or BMP first"
    )]
    UnsupportedImage { name: String, format: String },
    #[error(
        "{name}: the {format} image has {width} x {height} pixels, more than the limit of \
         {limit}; scale it down first"
    )]
    ImageTooLarge { name: String, format: String, width: u32, height: u32, limit: String },
    #[error("{name}: the {format} image cannot be decoded: {reason}; the file may be incomplete")]
    CorruptImage { name: String, format: String, reason: String },
}

/// Identity of an image by its pixels: blake3 over width and height (u32, little endian) and the
/// RGB bytes, as hexadecimal digits. Two files with the same pixels have the same hash.
pub fn pixels_hash(pixels: &RgbImage) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&pixels.width().to_le_bytes());
    hasher.update(&pixels.height().to_le_bytes());
    hasher.update(pixels.as_raw());
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_without_a_visible_character_is_refused() {
        for text in ["", " ", "\t\n \u{2003}"] {
            assert!(matches!(Query::text(text), Err(QueryError::EmptyText)), "{text:?}");
        }
        assert!(matches!(Query::text(" a "), Ok(Query::Text(t)) if t == " a "));
    }

    #[test]
    fn a_text_is_accepted_up_to_the_byte_limit_and_not_beyond() {
        assert!(Query::text("x".repeat(TEXT_LIMIT)).is_ok());
        let error = Query::text("é".repeat(TEXT_LIMIT / 2) + "x").unwrap_err();
        assert!(matches!(error, QueryError::TextTooLong { found } if found == TEXT_LIMIT + 1));
    }

    #[test]
    fn the_hash_tells_apart_images_with_equal_bytes_but_other_shapes() {
        let pixels: Vec<u8> = (0..24).collect();
        let wide = RgbImage::from_raw(4, 2, pixels.clone()).unwrap();
        let tall = RgbImage::from_raw(2, 4, pixels.clone()).unwrap();
        assert_ne!(pixels_hash(&wide), pixels_hash(&tall));

        let mut message = vec![4, 0, 0, 0, 2, 0, 0, 0];
        message.extend(&pixels);
        assert_eq!(pixels_hash(&wide), blake3::hash(&message).to_hex().to_string());
    }
}
