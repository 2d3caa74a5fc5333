//! A small drawing surface for sheets: text, rectangles, lines and pasted images on RGB pixels.

use ab_glyph::{Font, FontRef, Glyph, PxScale, ScaleFont, point};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

/// Colours of a sheet. Aleatoric and epistemic differ in lightness too, so that they survive grey
/// print and every kind of colour vision; text keeps a contrast of at least 4.5 on the paper.
pub mod colour {
    use image::Rgb;

    pub const PAPER: Rgb<u8> = Rgb([0xff, 0xff, 0xff]);
    pub const PANEL: Rgb<u8> = Rgb([0xf6, 0xf7, 0xf9]);
    pub const LINE: Rgb<u8> = Rgb([0xd5, 0xda, 0xe1]);
    pub const STRONG_TEXT: Rgb<u8> = Rgb([0x0f, 0x13, 0x18]);
    pub const TEXT: Rgb<u8> = Rgb([0x2b, 0x31, 0x3a]);
    pub const MUTED_TEXT: Rgb<u8> = Rgb([0x5d, 0x66, 0x73]);
    pub const ALEATORIC: Rgb<u8> = Rgb([0xd9, 0x8a, 0x1f]);
    pub const EPISTEMIC: Rgb<u8> = Rgb([0x0b, 0x4f, 0x9e]);
    pub const SAMPLES: Rgb<u8> = Rgb([0xb0, 0x31, 0x7a]);
    pub const SAMPLES_SOFT: Rgb<u8> = Rgb([0xe6, 0xbf, 0xd6]);
    pub const ACCENT: Rgb<u8> = Rgb([0x0b, 0x5f, 0xcc]);
}

/// RGB pixels with a font.
pub struct Canvas {
    pub pixels: RgbImage,
    font: FontRef<'static>,
}

/// Where a text is anchored horizontally.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Centre,
    Right,
}

/// A rectangle in pixels: left, top, width, height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

impl Area {
    pub fn new(x: u32, y: u32, width: u32, height: u32) -> Self {
        Self { x, y, width, height }
    }

    pub fn right(self) -> u32 {
        self.x + self.width
    }

    pub fn bottom(self) -> u32 {
        self.y + self.height
    }
}

impl Canvas {
    /// A canvas filled with the paper colour.
    pub fn new(width: u32, height: u32) -> Self {
        let font = FontRef::try_from_slice(epaint_default_fonts::UBUNTU_LIGHT)
            .expect("the built-in font is valid");
        Self { pixels: RgbImage::from_pixel(width, height, colour::PAPER), font }
    }

    /// Fills a rectangle, clipped to the canvas.
    pub fn fill(&mut self, area: Area, colour: Rgb<u8>) {
        let (width, height) = self.pixels.dimensions();
        for y in area.y..area.bottom().min(height) {
            for x in area.x..area.right().min(width) {
                self.pixels.put_pixel(x, y, colour);
            }
        }
    }

    /// Draws a one-pixel frame just inside the rectangle.
    pub fn frame(&mut self, area: Area, colour: Rgb<u8>) {
        self.fill(Area { height: 1, ..area }, colour);
        self.fill(Area { y: area.bottom() - 1, height: 1, ..area }, colour);
        self.fill(Area { width: 1, ..area }, colour);
        self.fill(Area { x: area.right() - 1, width: 1, ..area }, colour);
    }

    /// Pastes an image, scaled to fit the area with its aspect ratio kept and centred in it.
    pub fn paste(&mut self, image: &RgbImage, area: Area) {
        let (w, h) = image.dimensions();
        if w == 0 || h == 0 {
            return;
        }
        let scale =
            (f64::from(area.width) / f64::from(w)).min(f64::from(area.height) / f64::from(h));
        let width = ((f64::from(w) * scale).round() as u32).clamp(1, area.width);
        let height = ((f64::from(h) * scale).round() as u32).clamp(1, area.height);
        let x = i64::from(area.x + (area.width - width) / 2);
        let y = i64::from(area.y + (area.height - height) / 2);
        if (width, height) == (w, h) {
            imageops::replace(&mut self.pixels, image, x, y);
        } else {
            let scaled = imageops::resize(image, width, height, FilterType::CatmullRom);
            imageops::replace(&mut self.pixels, &scaled, x, y);
        }
    }

    /// Width in pixels of a text of that size.
    pub fn text_width(&self, text: &str, size: f32) -> u32 {
        self.layout(text, size).1.ceil() as u32
    }

    /// The longest beginning of `text` that fits `width` pixels, with an ellipsis if cut.
    pub fn fit(&self, text: &str, size: f32, width: u32) -> String {
        if self.text_width(text, size) <= width {
            return text.to_owned();
        }
        let mut kept: Vec<char> = text.chars().collect();
        while !kept.is_empty() {
            kept.pop();
            let candidate: String =
                kept.iter().collect::<String>().trim_end().to_owned() + "\u{2026}";
            if self.text_width(&candidate, size) <= width {
                return candidate;
            }
        }
        String::new()
    }

    /// Draws one line of text with its top at `y`; returns its width.
    pub fn text(
        &mut self,
        text: &str,
        (x, y): (u32, u32),
        size: f32,
        colour: Rgb<u8>,
        align: Align,
    ) -> u32 {
        let (glyphs, width) = self.layout(text, size);
        let left = x as f32
            - match align {
                Align::Left => 0.0,
                Align::Centre => width / 2.0,
                Align::Right => width,
            };
        let font = self.font.clone();
        let (canvas_width, canvas_height) = self.pixels.dimensions();
        for mut glyph in glyphs {
            glyph.position.x += left.round();
            glyph.position.y += y as f32;
            let Some(outline) = font.outline_glyph(glyph) else { continue };
            let bounds = outline.px_bounds();
            outline.draw(|dx, dy, coverage| {
                let px = bounds.min.x as i64 + i64::from(dx);
                let py = bounds.min.y as i64 + i64::from(dy);
                if (0..i64::from(canvas_width)).contains(&px)
                    && (0..i64::from(canvas_height)).contains(&py)
                {
                    let pixel = self.pixels.get_pixel_mut(px as u32, py as u32);
                    // Light fonts look thin at small sizes without a little extra coverage.
                    blend(pixel, colour, (coverage * 1.25).min(1.0));
                }
            });
        }
        width.ceil() as u32
    }

    fn layout(&self, text: &str, size: f32) -> (Vec<Glyph>, f32) {
        let font = self.font.as_scaled(PxScale::from(size));
        let mut caret = 0.0;
        let mut glyphs = Vec::new();
        let mut last = None;
        for character in text.chars().filter(|c| !c.is_control()) {
            let id = font.glyph_id(character);
            if let Some(last) = last {
                caret += font.kern(last, id);
            }
            glyphs.push(id.with_scale_and_position(size, point(caret, font.ascent())));
            caret += font.h_advance(id);
            last = Some(id);
        }
        (glyphs, caret)
    }
}

fn blend(pixel: &mut Rgb<u8>, colour: Rgb<u8>, coverage: f32) {
    for (below, above) in pixel.0.iter_mut().zip(colour.0) {
        *below = (f32::from(*below) * (1.0 - coverage) + f32::from(above) * coverage).round() as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fitted_text_is_no_wider_than_asked_and_says_that_it_was_cut() {
        let canvas = Canvas::new(10, 10);
        let fitted = canvas.fit("a rather long caption of a picture", 14.0, 90);
        assert!(fitted.ends_with('\u{2026}'));
        assert!(canvas.text_width(&fitted, 14.0) <= 90);
        assert_eq!(canvas.fit("short", 14.0, 90), "short");
    }

    #[test]
    fn text_and_fills_outside_the_canvas_are_clipped() {
        let mut canvas = Canvas::new(20, 10);
        canvas.fill(Area::new(15, 5, 100, 100), colour::ACCENT);
        canvas.text("outside", (15, 4), 30.0, colour::TEXT, Align::Left);
        assert_eq!(*canvas.pixels.get_pixel(0, 0), colour::PAPER);
        assert_ne!(*canvas.pixels.get_pixel(19, 9), colour::PAPER);
    }
}
