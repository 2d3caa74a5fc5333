//! The predicted density of every dimension as a heat map: where its values are likely to be.

use image::Rgb;

use super::axis::{Axis, AxisSpec};
use super::caption;
use super::drawing::{Align, Drawing, Rect, text_width};
use super::page::{MARGIN, Page, SMALL, WIDTH};
use super::table::Table;
use super::uncertainty::by_total;
use crate::session::result::QueryResult;

/// Cells along the value axis.
const ROWS: usize = 100;
/// Columns at most: more dimensions share one, which then shows the mean of their densities.
const COLUMNS: usize = 256;
/// Colours that are told apart: equal neighbours become one rectangle.
const LEVELS: usize = 64;

/// The heat map: columns of dimensions by rows of deviations from the mean.
struct Cells {
    /// Dimensions of every column.
    columns: Vec<Vec<usize>>,
    /// Largest deviation shown, embedding units.
    reach: f64,
    /// `[columns][ROWS]` density as a share of the dimension's peak, from `-reach` up.
    shares: Vec<Vec<f64>>,
}

impl Cells {
    fn of(result: &QueryResult) -> Self {
        let distribution = &result.distribution;
        let order = by_total(distribution);
        let count = order.len().clamp(1, COLUMNS);
        let columns: Vec<Vec<usize>> = (0..count)
            .map(|c| order[c * order.len() / count..(c + 1) * order.len() / count].to_vec())
            .collect();
        let widest = order.first().map_or(1.0, |&d| distribution.dimensions()[d].std_dev());
        let reach = if widest > 0.0 { 3.0 * widest } else { 1.0 };
        let share = |dimension: usize, deviation: f64| {
            let density = &distribution.dimensions()[dimension];
            (density.log_prob(density.mu() + deviation) - density.log_prob(density.mu())).exp()
        };
        let column = |dimensions: &Vec<usize>| {
            (0..ROWS)
                .map(|row| {
                    let deviation = Self::deviation(reach, row);
                    let sum: f64 = dimensions.iter().map(|&d| share(d, deviation)).sum();
                    sum / dimensions.len().max(1) as f64
                })
                .collect()
        };
        let shares = columns.iter().map(column).collect();
        Self { columns, reach, shares }
    }

    /// Middle of a row.
    fn deviation(reach: f64, row: usize) -> f64 {
        reach * (2.0 * (row as f64 + 0.5) / ROWS as f64 - 1.0)
    }
}

pub fn draw(result: &QueryResult) -> Drawing {
    let cells = Cells::of(result);
    let dimensions = result.distribution.dim();
    let shared = if dimensions > cells.columns.len() {
        format!(
            " {dimensions} dimensions share {} columns; each shows the mean of its dimensions.",
            cells.columns.len()
        )
    } else {
        String::new()
    };
    let mut page = Page::new(
        &format!("Likely values by dimension: {}", caption::query(&result.recipe.query)),
        &format!(
            "Predicted density around each dimension's mean, each scaled to its own peak. \
             Aleatoric part only.{shared}"
        ),
    );
    let x = AxisSpec::between("dimension, by total variance", 0.0, dimensions as f64).whole();
    let y = AxisSpec::between(
        "value minus the dimension's mean, embedding units",
        -cells.reach,
        cells.reach,
    );
    let top = page.y;
    let chart = page.chart_in(280.0, &x, &y, WIDTH - MARGIN - 62.0);
    let width = chart.area.width() / cells.columns.len() as f64;
    let height = chart.area.height() / ROWS as f64;
    for (c, column) in cells.shares.iter().enumerate() {
        let left = chart.area.left + c as f64 * width;
        // Neighbours overlap a little, or viewers show the paper between them.
        let right = (left + width + 0.2).min(chart.area.right);
        let mut row = 0;
        while row < ROWS {
            let level = level_of(column[row]);
            let end = (row..ROWS).find(|&r| level_of(column[r]) != level).unwrap_or(ROWS);
            let upper = chart.area.bottom - end as f64 * height;
            let lower = chart.area.bottom - row as f64 * height;
            let upper = (upper - 0.2).max(chart.area.top);
            page.drawing.rect(Rect::new(left, upper, right, lower), colour_of(level));
            row = end;
        }
    }
    colour_bar(&mut page, chart.area, top);
    page.finish(&caption::lines(&result.recipe, ""))
}

fn colour_bar(page: &mut Page, area: Rect, top: f64) {
    let left = area.right + 18.0;
    let step = area.height() / LEVELS as f64;
    for level in 0..LEVELS {
        let bottom = area.bottom - level as f64 * step;
        let rect = Rect::new(left, (bottom - step - 0.2).max(area.top), left + 12.0, bottom);
        page.drawing.rect(rect, colour_of(level));
    }
    let axis = Axis::new(&AxisSpec::between("", 0.0, 1.0), area.bottom, area.top);
    for (value, label) in [(0.0, "0"), (0.5, "0.5"), (1.0, "peak")] {
        let baseline = axis.position(value) + 0.36 * SMALL.size;
        page.drawing.text(label, [left + 17.0, baseline], SMALL, Align::Left);
    }
    let name = "density";
    let right = WIDTH - MARGIN;
    debug_assert!(text_width(name, SMALL) < 62.0);
    page.drawing.text(name, [right, top + SMALL.size], SMALL, Align::Right);
}

fn level_of(share: f64) -> usize {
    ((share * LEVELS as f64) as usize).min(LEVELS - 1)
}

/// viridis, from its nine anchors (van der Walt and Smith, 2015), reversed: on paper the likely is
/// dark.
fn colour_of(level: usize) -> Rgb<u8> {
    const STOPS: [[u8; 3]; 9] = [
        [0xfd, 0xe7, 0x25],
        [0xad, 0xdc, 0x30],
        [0x5e, 0xc9, 0x62],
        [0x28, 0xae, 0x80],
        [0x21, 0x91, 0x8c],
        [0x2c, 0x72, 0x8e],
        [0x3b, 0x52, 0x8b],
        [0x47, 0x2d, 0x7b],
        [0x44, 0x01, 0x54],
    ];
    let place = level as f64 / (LEVELS - 1) as f64 * (STOPS.len() - 1) as f64;
    let below = (place as usize).min(STOPS.len() - 2);
    let part = place - below as f64;
    let mix = |i: usize| {
        let (a, b) = (f64::from(STOPS[below][i]), f64::from(STOPS[below + 1][i]));
        (a + (b - a) * part).round() as u8
    };
    // The unlikeliest fades into the paper, so that the picture has no hard lower edge.
    let fade = (level as f64 / 4.0).min(1.0);
    let faded = |i: usize| (255.0 + (f64::from(mix(i)) - 255.0) * fade).round() as u8;
    Rgb([faded(0), faded(1), faded(2)])
}

/// One row per cell: the dimensions of its column, the deviation from the mean, the density.
pub fn table(result: &QueryResult) -> Table {
    let cells = Cells::of(result);
    let each = || (0..cells.columns.len()).flat_map(|c| (0..ROWS).map(move |row| (c, row)));
    let names: Vec<String> = cells
        .columns
        .iter()
        .map(|column| column.iter().map(usize::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    Table::default()
        .whole("column", each().map(|(c, _)| c))
        .text("dimensions", each().map(|(c, _)| names[c].clone()))
        .numbers("deviation", each().map(|(_, row)| Cells::deviation(cells.reach, row)))
        .numbers("density", each().map(|(c, row)| cells.shares[c][row]))
}
