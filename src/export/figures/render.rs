//! A drawing as PNG at two pixels per point, or as SVG, both through plotters' backends.

use std::fmt::Write as _;
use std::io::{self, Cursor, Write};
use std::sync::Once;

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{
    Color, FontDesc, FontFamily, FontStyle, RGBAColor, RGBColor, ShapeStyle, TextStyle,
    register_font,
};

use super::drawing::{Align, Drawing, Point, REGULAR, Rect, SEMIBOLD, Shape};
use crate::export::canvas::colour;

/// Pixels of a PNG per point.
const PIXELS_PER_POINT: u32 = 2;
/// Samples per pixel along each axis: the backends draw at whole numbers with hard edges.
const OVERSAMPLING: u32 = 3;
/// Units of an SVG per point, for the same reason.
const SVG_UNITS: u32 = 10;
/// plotters' font size per em: what its SVG backend divides by.
pub const PX_PER_EM: f64 = 1.24;
/// The first is bundled; the others are for readers of an SVG who do not have it.
const FAMILY: &str = "Inter, Helvetica, Arial, sans-serif";

/// What differs between the backends.
struct Target {
    /// Backend units per point.
    scale: f64,
    /// From the position that a text of size 1 is given to its baseline.
    ascent: f64,
    /// Whether the lower right corner of a rectangle belongs to it.
    inclusive: i32,
}

const PNG: Target = Target {
    scale: (PIXELS_PER_POINT * OVERSAMPLING) as f64,
    ascent: 0.5, // plotters' ab_glyph module: half the size
    inclusive: 1,
};
const SVG: Target = Target {
    scale: SVG_UNITS as f64,
    ascent: 0.76 / PX_PER_EM, // plotters-svg: `dy="0.76em"` for an anchor at the top
    inclusive: 0,
};

/// Writes a drawing as PNG, with `recipe` (JSON) in an iTXt chunk `haze_recipe`.
pub fn write_png(drawing: &Drawing, recipe: Option<&str>, to: &mut dyn Write) -> io::Result<()> {
    let image = raster(drawing)?;
    let mut encoder = png::Encoder::new(to, image.width(), image.height());
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    // A point of a drawing is 1/96 inch, as in SVG and CSS.
    let per_metre = (f64::from(PIXELS_PER_POINT) * 96.0 / 0.0254).round() as u32;
    encoder.set_pixel_dims(Some(png::PixelDimensions {
        xppu: per_metre,
        yppu: per_metre,
        unit: png::Unit::Meter,
    }));
    if let Some(recipe) = recipe {
        encoder.add_itxt_chunk("haze_recipe".to_owned(), recipe.to_owned())?;
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(image.as_raw())?;
    writer.finish()?;
    Ok(())
}

/// Draws the pixels.
pub fn raster(drawing: &Drawing) -> io::Result<RgbImage> {
    let pixels = |points: f64| (points * f64::from(PIXELS_PER_POINT)).ceil().max(1.0) as u32;
    let (width, height) = (pixels(drawing.width), pixels(drawing.height));
    let (fine_width, fine_height) = (width * OVERSAMPLING, height * OVERSAMPLING);
    let mut fine = RgbImage::from_pixel(fine_width, fine_height, colour::PAPER);
    {
        let mut backend = BitMapBackend::<plotters::backend::RGBPixel>::with_buffer_and_format(
            &mut fine,
            (fine_width, fine_height),
        )
        .map_err(io::Error::other)?;
        for shape in &drawing.shapes {
            match shape {
                Shape::Picture { image, rect } => paste(&mut backend, image, *rect)?,
                shape => paint(&mut backend, shape, &PNG)?,
            }
        }
        backend.present().map_err(failed)?;
    }
    Ok(imageops::resize(&fine, width, height, FilterType::Triangle))
}

/// Pictures go in at the final resolution: nearest neighbours survive the way down unchanged.
fn paste<B: DrawingBackend>(backend: &mut B, image: &RgbImage, rect: Rect) -> io::Result<()> {
    let unit = |points: f64| (points * PNG.scale).round() as i32;
    let (left, top) = (unit(rect.left), unit(rect.top));
    let width = (unit(rect.right) - left).max(1) as u32;
    let height = (unit(rect.bottom) - top).max(1) as u32;
    let filter = if image.width() < width { FilterType::Nearest } else { FilterType::Triangle };
    let scaled = imageops::resize(image, width, height, filter);
    backend.blit_bitmap((left, top), (width, height), scaled.as_raw()).map_err(failed)
}

/// Writes a drawing as SVG, with `recipe` (JSON) as its metadata.
pub fn write_svg(drawing: &Drawing, recipe: Option<&str>, to: &mut dyn Write) -> io::Result<()> {
    let units = |points: f64| (points * SVG.scale).ceil() as u32;
    let size = (units(drawing.width), units(drawing.height));
    writeln!(to, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(
        to,
        r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{}" height="{}" viewBox="0 0 {} {}">"#,
        drawing.width, drawing.height, size.0, size.1
    )?;
    if let Some(recipe) = recipe {
        writeln!(to, r#"<metadata id="haze_recipe">{}</metadata>"#, escaped(recipe))?;
    }
    let Rgb([r, g, b]) = colour::PAPER;
    writeln!(to, r##"<rect width="100%" height="100%" fill="#{r:02x}{g:02x}{b:02x}"/>"##)?;
    // plotters cannot embed pictures without an older image crate, so it draws what is between.
    for run in drawing.shapes.chunk_by(|a, b| is_picture(a) == is_picture(b)) {
        if is_picture(&run[0]) {
            for shape in run {
                if let Shape::Picture { image, rect } = shape {
                    write_picture(image, *rect, to)?;
                }
            }
        } else {
            to.write_all(fragment(run, size)?.as_bytes())?;
        }
    }
    writeln!(to, "</svg>")
}

fn is_picture(shape: &Shape) -> bool {
    matches!(shape, Shape::Picture { .. })
}

/// The elements of some shapes, without the document around them.
fn fragment(shapes: &[Shape], size: (u32, u32)) -> io::Result<String> {
    let mut document = String::new();
    {
        let mut backend = SVGBackend::with_string(&mut document, size);
        for shape in shapes {
            paint(&mut backend, shape, &SVG)?;
        }
        backend.present().map_err(failed)?;
    }
    let inner = document.split_once("<svg").and_then(|(_, rest)| rest.split_once(">\n"));
    let inner = inner.and_then(|(_, rest)| rest.rsplit_once("</svg>"));
    match inner {
        Some((elements, _)) => Ok(elements.to_owned()),
        None => Err(io::Error::other("the SVG backend wrote no document")),
    }
}

fn write_picture(image: &RgbImage, rect: Rect, to: &mut dyn Write) -> io::Result<()> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).map_err(io::Error::other)?;
    writeln!(
        to,
        r#"<image x="{}" y="{}" width="{}" height="{}" preserveAspectRatio="none" xlink:href="data:image/png;base64,{}"/>"#,
        rect.left * SVG.scale,
        rect.top * SVG.scale,
        rect.width() * SVG.scale,
        rect.height() * SVG.scale,
        base64(bytes.get_ref())
    )
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        let _ = match character {
            '&' => out.write_str("&amp;"),
            '<' => out.write_str("&lt;"),
            '>' => out.write_str("&gt;"),
            other => out.write_char(other),
        };
    }
    out
}

fn paint<B: DrawingBackend>(backend: &mut B, shape: &Shape, target: &Target) -> io::Result<()> {
    let unit = |points: f64| (points * target.scale).round() as i32;
    let place = |[x, y]: Point| (unit(x), unit(y));
    match shape {
        Shape::Rect { rect, colour, opacity } => {
            let (left, top) = (unit(rect.left), unit(rect.top));
            let (right, bottom) = (unit(rect.right), unit(rect.bottom));
            if right <= left || bottom <= top {
                return Ok(());
            }
            let corner = (right - target.inclusive, bottom - target.inclusive);
            backend.draw_rect((left, top), corner, &rgba(*colour, *opacity), true)
        }
        Shape::Path { points, width, colour, opacity } => {
            let style = ShapeStyle {
                color: rgba(*colour, *opacity),
                filled: false,
                stroke_width: unit(*width).max(1) as u32,
            };
            // Equal neighbours would give a stroke without a direction.
            let mut points: Vec<_> = points.iter().map(|&point| place(point)).collect();
            points.dedup();
            match points[..] {
                [] | [_] => Ok(()),
                [from, to] => backend.draw_line(from, to, &style),
                _ => backend.draw_path(points, &style),
            }
        }
        Shape::Polygon { points, colour, opacity } => {
            let points: Vec<_> = points.iter().map(|&point| place(point)).collect();
            backend.fill_polygon(points, &rgba(*colour, *opacity))
        }
        Shape::Disc { centre, radius, colour, opacity } => {
            let radius = unit(*radius).max(1) as u32;
            backend.draw_circle(place(*centre), radius, &rgba(*colour, *opacity), true)
        }
        Shape::Text { text, at, style, align } => {
            let size = style.size * PX_PER_EM * target.scale;
            let font = font(size, style.strong);
            let horizontal = match align {
                Align::Left => HPos::Left,
                Align::Centre => HPos::Center,
                Align::Right => HPos::Right,
            };
            let [r, g, b] = style.colour.0;
            let paint = RGBColor(r, g, b);
            let style = TextStyle::from(font).color(&paint).pos(Pos::new(horizontal, VPos::Top));
            let top = at[1] * target.scale - size * target.ascent;
            backend.draw_text(text, &style, (unit(at[0]), top.round() as i32))
        }
        Shape::Picture { .. } => Ok(()),
    }
    .map_err(failed)
}

fn rgba(Rgb([r, g, b]): Rgb<u8>, opacity: f64) -> RGBAColor {
    RGBColor(r, g, b).mix(opacity)
}

fn font(size: f64, strong: bool) -> FontDesc<'static> {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        for (style, bytes) in [(FontStyle::Normal, REGULAR), (FontStyle::Bold, SEMIBOLD)] {
            assert!(register_font(FAMILY, style, bytes).is_ok(), "the bundled font is valid");
        }
    });
    let style = if strong { FontStyle::Bold } else { FontStyle::Normal };
    FontDesc::new(FontFamily::Name(FAMILY), size, style)
}

fn failed(error: impl std::fmt::Display) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::drawing::TextStyle;
    use super::*;

    fn drawing() -> Drawing {
        let mut drawing = Drawing { width: 60.0, height: 40.0, ..Drawing::default() };
        let style = TextStyle { size: 12.0, strong: true, colour: colour::TEXT };
        drawing.rect(Rect::new(10.0, 10.0, 20.0, 20.0), colour::ALEATORIC);
        drawing.text("a < b & c", [2.0, 34.0], style, Align::Left);
        let picture = RgbImage::from_pixel(4, 4, Rgb([200, 10, 10]));
        drawing.picture(picture, Rect::new(40.0, 10.0, 50.0, 20.0));
        drawing.line([0.0, 5.0], [60.0, 5.0], 1.0, colour::EPISTEMIC);
        drawing
    }

    #[test]
    fn pixels_stand_where_the_points_say() {
        let image = raster(&drawing()).unwrap();
        assert_eq!(image.dimensions(), (120, 80));
        assert_eq!(*image.get_pixel(30, 30), colour::ALEATORIC);
        assert_eq!(*image.get_pixel(90, 30), Rgb([200, 10, 10]));
        assert_eq!(*image.get_pixel(60, 30), colour::PAPER);
        let text = (4..100).flat_map(|x| (50..70).map(move |y| (x, y)));
        assert!(text.into_iter().any(|(x, y)| image.get_pixel(x, y).0[0] < 0x60));
    }

    #[test]
    fn an_svg_is_one_document_with_its_text_escaped_and_its_pictures_inside() {
        let mut bytes = Vec::new();
        write_svg(&drawing(), Some(r#"{"query":"<&>"}"#), &mut bytes).unwrap();
        let svg = String::from_utf8(bytes).unwrap();
        assert_eq!(svg.matches("<svg").count(), 1);
        assert_eq!(svg.matches("</svg>").count(), 1);
        assert!(svg.contains("a &lt; b &amp; c"));
        assert!(svg.contains("data:image/png;base64,iVBORw0KGgo"));
        assert!(svg.contains(r#"{"query":"&lt;&amp;&gt;"}"#));
    }

    #[test]
    fn base64_pads_its_last_group() {
        assert_eq!(base64(b"Man"), "TWFu");
        assert_eq!(base64(b"Ma"), "TWE=");
        assert_eq!(base64(b"M"), "TQ==");
    }
}
