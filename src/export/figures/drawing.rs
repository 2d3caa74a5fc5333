//! What a figure is made of: shapes in points, in the order they are painted. PNG and SVG are
//! written from the same list, so both show the same; tests can ask where every text stands.

use std::sync::LazyLock;

use ab_glyph::{Font, FontRef, PxScale, ScaleFont};
use image::{Rgb, RgbImage};

pub use crate::export::canvas::Align;

pub static REGULAR: &[u8] = include_bytes!("../../../assets/fonts/Inter-Regular.otf");
pub static SEMIBOLD: &[u8] = include_bytes!("../../../assets/fonts/Inter-SemiBold.otf");

/// Line height in units of the font size.
pub const LINE_HEIGHT: f64 = 1.4;

/// A place in points, from the upper left corner.
pub type Point = [f64; 2];

/// A rectangle in points.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Rect {
    pub fn new(left: f64, top: f64, right: f64, bottom: f64) -> Self {
        Self { left, top, right, bottom }
    }

    pub fn width(self) -> f64 {
        self.right - self.left
    }

    pub fn height(self) -> f64 {
        self.bottom - self.top
    }

    /// Whether the two share some area.
    pub fn overlaps(self, other: Self) -> bool {
        self.left < other.right
            && other.left < self.right
            && self.top < other.bottom
            && other.top < self.bottom
    }
}

/// Font size in points (of the em square), weight and colour of a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextStyle {
    pub size: f64,
    pub strong: bool,
    pub colour: Rgb<u8>,
}

/// One shape. Opacities are 0 to 1.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    Rect {
        rect: Rect,
        colour: Rgb<u8>,
        opacity: f64,
    },
    Path {
        points: Vec<Point>,
        width: f64,
        colour: Rgb<u8>,
        opacity: f64,
    },
    Polygon {
        points: Vec<Point>,
        colour: Rgb<u8>,
        opacity: f64,
    },
    Disc {
        centre: Point,
        radius: f64,
        colour: Rgb<u8>,
        opacity: f64,
    },
    /// A single line; `at` is the anchor on the baseline.
    Text {
        text: String,
        at: Point,
        style: TextStyle,
        align: Align,
    },
    /// Scaled to fill the rectangle.
    Picture {
        image: RgbImage,
        rect: Rect,
    },
}

/// A list of shapes on paper of a size in points.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Drawing {
    pub width: f64,
    pub height: f64,
    pub shapes: Vec<Shape>,
}

impl Drawing {
    pub fn rect(&mut self, rect: Rect, colour: Rgb<u8>) {
        self.shapes.push(Shape::Rect { rect, colour, opacity: 1.0 });
    }

    pub fn line(&mut self, from: Point, to: Point, width: f64, colour: Rgb<u8>) {
        self.path(vec![from, to], width, colour);
    }

    pub fn path(&mut self, points: Vec<Point>, width: f64, colour: Rgb<u8>) {
        self.shapes.push(Shape::Path { points, width, colour, opacity: 1.0 });
    }

    /// A straight line of dashes, 4 points long with gaps of 3.
    pub fn dashed(&mut self, from: Point, to: Point, width: f64, colour: Rgb<u8>) {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = dx.hypot(dy);
        let place = |along: f64| [from[0] + dx * along / length, from[1] + dy * along / length];
        let mut along = 0.0;
        while along < length {
            self.line(place(along), place((along + 4.0).min(length)), width, colour);
            along += 7.0;
        }
    }

    pub fn polygon(&mut self, points: Vec<Point>, colour: Rgb<u8>, opacity: f64) {
        self.shapes.push(Shape::Polygon { points, colour, opacity });
    }

    pub fn disc(&mut self, centre: Point, radius: f64, colour: Rgb<u8>, opacity: f64) {
        self.shapes.push(Shape::Disc { centre, radius, colour, opacity });
    }

    /// A square on its tip.
    pub fn diamond(&mut self, [x, y]: Point, radius: f64, colour: Rgb<u8>) {
        let points = vec![[x, y - radius], [x + radius, y], [x, y + radius], [x - radius, y]];
        self.polygon(points, colour, 1.0);
    }

    /// One line of text with its baseline at `at`. Control characters, which SVG cannot hold, are
    /// left out.
    pub fn text(&mut self, text: &str, at: Point, style: TextStyle, align: Align) {
        let text = text.chars().filter(|c| !c.is_control()).collect();
        self.shapes.push(Shape::Text { text, at, style, align });
    }

    pub fn picture(&mut self, image: RgbImage, rect: Rect) {
        self.shapes.push(Shape::Picture { image, rect });
    }
}

/// Width in points of a line of text.
pub fn text_width(text: &str, style: TextStyle) -> f64 {
    static FONTS: LazyLock<[FontRef<'static>; 2]> = LazyLock::new(|| {
        [REGULAR, SEMIBOLD]
            .map(|bytes| FontRef::try_from_slice(bytes).expect("the bundled font is valid"))
    });
    let font = &FONTS[usize::from(style.strong)];
    // Measured at the size of the raster, which is never narrower than that of the SVG.
    let font = font.as_scaled(PxScale::from((style.size * super::render::PX_PER_EM) as f32));
    let advances = text.chars().map(|c| f64::from(font.h_advance(font.glyph_id(c))));
    advances.sum()
}

/// Breaks a text into lines no wider than `width`: between words, and inside a word only where it
/// alone is too wide. Nothing is left out.
pub fn wrap(text: &str, style: TextStyle, width: f64) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let longer = if line.is_empty() { word.to_owned() } else { format!("{line} {word}") };
        if text_width(&longer, style) <= width {
            line = longer;
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        for character in word.chars() {
            line.push(character);
            if line.chars().count() > 1 && text_width(&line, style) > width {
                line.pop();
                lines.push(std::mem::replace(&mut line, character.to_string()));
            }
        }
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: TextStyle = TextStyle { size: 12.0, strong: false, colour: Rgb([0; 3]) };

    #[test]
    fn wrapped_lines_hold_every_word_and_are_no_wider_than_asked() {
        let text = "a rather long caption with anunbreakablywideword123456789 in the middle of it";
        let lines = wrap(text, STYLE, 90.0);
        assert!(lines.len() > 3);
        assert!(lines.iter().all(|line| text_width(line, STYLE) <= 90.0), "{lines:?}");
        let joined: String = lines.concat().replace(' ', "");
        assert_eq!(joined, text.replace(' ', ""));
    }

    #[test]
    fn the_bundled_font_has_outlines() {
        assert!(text_width("Haze", STYLE) > 20.0);
        let strong = TextStyle { strong: true, ..STYLE };
        assert!(text_width("Haze", strong) > text_width("Haze", STYLE));
    }
}
