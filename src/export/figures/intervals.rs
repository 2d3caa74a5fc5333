//! Rows of intervals: a wrapped name, the middle 90 % thin, the middle 50 % thick, a dot at the
//! median, and columns of text at the right.

use image::Rgb;

use super::axis::{Axis, AxisSpec};
use super::drawing::{Align, LINE_HEIGHT, text_width, wrap};
use super::page::{BODY, LABEL, MARGIN, Page, SMALL, WIDTH};
use crate::export::canvas::colour;

/// One row.
pub struct Row {
    pub name: String,
    /// 5, 25, 50, 75 and 95 % quantiles.
    pub quantiles: [f64; 5],
    /// Texts of the right columns, as many as there are headings.
    pub cells: Vec<String>,
}

const NAME_WIDTH: f64 = 230.0;
const GAP: f64 = 16.0;

/// Draws rows below each other on one axis; `headings` name the right columns.
pub fn draw(page: &mut Page, axis: &AxisSpec, headings: &[String], rows: &[Row], paint: Rgb<u8>) {
    let widths: Vec<f64> = headings
        .iter()
        .enumerate()
        .map(|(i, heading)| {
            let cells = rows.iter().filter_map(|row| row.cells.get(i));
            let cells = cells.map(|cell| text_width(cell, BODY));
            cells.fold(text_width(heading, SMALL), f64::max)
        })
        .collect();
    let columns: f64 = widths.iter().map(|width| width + GAP).sum();
    let (left, right) = (MARGIN + NAME_WIDTH + GAP, WIDTH - MARGIN - columns);
    let mut x = right;
    for (heading, width) in headings.iter().zip(&widths) {
        x += GAP + width;
        page.drawing.text(heading, [x, page.y + SMALL.size], SMALL, Align::Right);
    }
    page.y += SMALL.size * LINE_HEIGHT + 4.0;
    let scale = Axis::new(axis, left, right);
    let top = page.y;
    // The grid is painted below the rows, so their heights are needed first.
    let names: Vec<Vec<String>> =
        rows.iter().map(|row| wrap(&row.name, LABEL, NAME_WIDTH)).collect();
    let line = LABEL.size * LINE_HEIGHT;
    let height = |lines: &Vec<String>| (lines.len().max(1) as f64 * line + 6.0).max(24.0);
    let bottom = top + names.iter().map(height).sum::<f64>();
    page.x_axis(&scale, axis, top, bottom);
    let mut y = top;
    for (row, name) in rows.iter().zip(&names) {
        let middle = y + height(name) / 2.0;
        let first = middle - (name.len() as f64 - 1.0) / 2.0 * line + 0.36 * LABEL.size;
        for (i, text) in name.iter().enumerate() {
            page.drawing.text(text, [MARGIN, first + i as f64 * line], LABEL, Align::Left);
        }
        let [low, q25, median, q75, high] = row.quantiles.map(|value| scale.position(value));
        page.drawing.line([low, middle], [high, middle], 1.5, paint);
        page.drawing.line([q25, middle], [q75, middle], 5.0, paint);
        page.drawing.disc([median, middle], 4.5, paint, 1.0);
        page.drawing.disc([median, middle], 2.5, colour::PAPER, 1.0);
        let mut x = right;
        for (cell, width) in row.cells.iter().zip(&widths) {
            x += GAP + width;
            let baseline = middle + 0.36 * BODY.size;
            page.drawing.text(cell, [x, baseline], BODY, Align::Right);
        }
        y += height(name);
    }
}
