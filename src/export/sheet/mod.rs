//! The sheet: one image that shows a whole result, and carries the recipe that repeats it.
//!
//! Left the decoded mean and the draws, likeliest first; right the retrieval with the possible
//! ranks of every item, and the variance of every dimension.

mod grid;
mod ranking;
mod summary;
mod variance;

use image::RgbImage;

pub use summary::items;

use super::canvas::{Align, Area, Canvas, colour};
use crate::session::result::QueryResult;

const MARGIN: u32 = 32;
const COLUMN_GAP: u32 = 40;
const SECTION_GAP: u32 = 28;
const RIGHT_WIDTH: u32 = 660;
const TITLE_SIZE: f32 = 30.0;
const HEADING_SIZE: f32 = 19.0;
const BODY_SIZE: f32 = 15.0;
const SMALL_SIZE: f32 = 13.0;

/// Draws the sheet. `thumbnails` are the gallery images of the retrieved items in their order;
/// `None` where one could not be read.
pub fn draw(result: &QueryResult, thumbnails: &[Option<RgbImage>]) -> RgbImage {
    let grid = grid::Layout::of(result);
    let left_width = grid.width().max(summary::WIDTH);
    let ranking = ranking::height(result);
    let left_height = summary::height(result) + SECTION_GAP + grid.height();
    let right_height = if ranking == 0 { 0 } else { ranking + SECTION_GAP } + variance::HEIGHT;
    let header = 92;
    let footer = 64;
    let width = MARGIN + left_width + COLUMN_GAP + RIGHT_WIDTH + MARGIN;
    let height = MARGIN + header + left_height.max(right_height) + SECTION_GAP + footer;
    let mut canvas = Canvas::new(width, height);

    draw_header(&mut canvas, result, Area::new(MARGIN, MARGIN, width - 2 * MARGIN, header));
    let top = MARGIN + header;
    let left = Area::new(MARGIN, top, left_width, summary::height(result));
    summary::draw(&mut canvas, result, left);
    grid.draw(&mut canvas, result, (MARGIN, left.bottom() + SECTION_GAP));

    let right = MARGIN + left_width + COLUMN_GAP;
    let mut y = top;
    if ranking > 0 {
        ranking::draw(&mut canvas, result, thumbnails, Area::new(right, y, RIGHT_WIDTH, ranking));
        y += ranking + SECTION_GAP;
    }
    variance::draw(&mut canvas, result, Area::new(right, y, RIGHT_WIDTH, variance::HEIGHT));

    draw_footer(
        &mut canvas,
        result,
        Area::new(MARGIN, height - footer, width - 2 * MARGIN, footer),
    );
    canvas.pixels
}

fn draw_header(canvas: &mut Canvas, result: &QueryResult, area: Area) {
    let title = match &result.query_image {
        Some(_) => result.title(),
        None => format!("\u{201c}{}\u{201d}", result.title()),
    };
    let title = canvas.fit(&title, TITLE_SIZE, area.width);
    canvas.text(&title, (area.x, area.y), TITLE_SIZE, colour::STRONG_TEXT, Align::Left);
    let line = canvas.fit(&summary::route(result), BODY_SIZE, area.width);
    canvas.text(&line, (area.x, area.y + 42), BODY_SIZE, colour::MUTED_TEXT, Align::Left);
    canvas.fill(Area::new(area.x, area.y + 72, area.width, 1), colour::LINE);
}

fn draw_footer(canvas: &mut Canvas, result: &QueryResult, area: Area) {
    canvas.fill(Area { height: 1, ..area }, colour::LINE);
    let text = format!(
        "Haze {}  \u{00b7}  {}  \u{00b7}  repeat with: haze replay sheet.png",
        result.recipe.haze, result.device
    );
    let text = canvas.fit(&text, SMALL_SIZE, area.width);
    canvas.text(&text, (area.x, area.y + 20), SMALL_SIZE, colour::MUTED_TEXT, Align::Left);
}

fn heading(canvas: &mut Canvas, text: &str, note: &str, area: Area) {
    let width = canvas.text(text, (area.x, area.y), HEADING_SIZE, colour::STRONG_TEXT, Align::Left);
    let left = area.x + width + 12;
    let note = canvas.fit(note, SMALL_SIZE, area.right().saturating_sub(left));
    canvas.text(&note, (left, area.y + 5), SMALL_SIZE, colour::MUTED_TEXT, Align::Left);
}

/// Height of a heading with the space below it.
const HEADING_HEIGHT: u32 = 34;

/// A share of draws as text. None and all are given as counts: a finite number of draws proves
/// neither 0 % nor 100 %.
pub fn share(count: usize, draws: usize) -> String {
    if count == 0 || count == draws {
        return format!("{count} of {draws}");
    }
    let percent = 100.0 * count as f64 / draws as f64;
    if (1.0..99.0).contains(&percent) {
        format!("{percent:.0} %")
    } else {
        format!("{percent:.1} %")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_at_the_ends_are_given_as_counts() {
        assert_eq!(share(0, 64), "0 of 64");
        assert_eq!(share(64, 64), "64 of 64");
        assert_eq!(share(32, 64), "50 %");
        assert_eq!(share(1, 1000), "0.1 %");
        assert_eq!(share(999, 1000), "99.9 %");
    }
}
