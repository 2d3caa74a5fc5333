//! The gallery in two dimensions, with the query, the mean and the samples on it.

use super::axis::AxisSpec;
use super::caption;
use super::drawing::{Drawing, Rect};
use super::page::{Chart, MARGIN, Mark, Page, WIDTH, draw_mark};
use super::table::Table;
use crate::export::canvas::colour;
use crate::session::projection::GalleryMap;
use crate::session::result::QueryResult;

/// More items than this are drawn as a grid of counts, so that an SVG stays of a size that can be
/// opened.
const POINTS_DRAWN: usize = 20_000;
/// Cells of that grid along the wider side.
const CELLS: usize = 160;

/// Places of what is drawn over the gallery.
struct Places {
    query: [f32; 2],
    mean: [f32; 2],
    samples: Vec<[f32; 2]>,
}

impl Places {
    fn of(result: &QueryResult, map: &GalleryMap) -> Self {
        Self {
            query: map.project(&result.query_embedding.values),
            mean: map.project(&result.distribution.mean()),
            samples: result.samples.iter().map(|s| map.project(&s.values)).collect(),
        }
    }
}

pub fn draw(result: &QueryResult, map: &GalleryMap) -> Drawing {
    let places = Places::of(result, map);
    let grid = map.positions.len() > POINTS_DRAWN;
    let mut page = Page::new(
        &format!("Map of the gallery: {}", caption::query(&result.recipe.query)),
        &format!(
            "{} items by the two largest principal components of their unit embeddings. Distances \
             on a map are not distances between embeddings.",
            map.positions.len()
        ),
    );
    let gallery = if grid { "gallery, darker where more items are" } else { "gallery" };
    page.legend(&[
        (Mark::Disc, GALLERY, gallery),
        (Mark::Ring, colour::STRONG_TEXT, "query, frozen embedding"),
        (Mark::Diamond, colour::STRONG_TEXT, "mean (not a typical draw)"),
        (Mark::Disc, colour::SAMPLES, "samples"),
    ]);
    let all = || {
        let over = [places.query, places.mean].into_iter().chain(places.samples.iter().copied());
        map.positions.iter().copied().chain(over)
    };
    let explained = map.explained.map(|share| format!("{:.1} %", 100.0 * share));
    let label = |i: usize| {
        format!("principal component {}, {} of the gallery's variance", i + 1, explained[i])
    };
    let x = AxisSpec::around(label(0), all().map(|p| f64::from(p[0])));
    let y = AxisSpec::around(label(1), all().map(|p| f64::from(p[1])));
    // One unit is as long along both axes, up to a page that is still of use.
    let ratio = (y.high - y.low) / (x.high - x.low);
    let height = ((WIDTH - 2.0 * MARGIN - 40.0) * ratio).clamp(160.0, 900.0);
    let chart = page.chart(height, &x, &y);
    let at =
        |[px, py]: [f32; 2]| [chart.x.position(f64::from(px)), chart.y.position(f64::from(py))];
    if grid {
        counts(&mut page, &chart, map);
    } else {
        for &place in &map.positions {
            page.drawing.disc(at(place), 1.5, GALLERY, 0.6);
        }
    }
    for &place in &places.samples {
        page.drawing.disc(at(place), 3.5, colour::SAMPLES, 0.85);
    }
    draw_mark(&mut page.drawing, Mark::Diamond, at(places.mean), colour::STRONG_TEXT);
    draw_mark(&mut page.drawing, Mark::Ring, at(places.query), colour::STRONG_TEXT);
    page.finish(&caption::lines(
        &result.recipe,
        &format!("{} samples are shown as points.", places.samples.len()),
    ))
}

const GALLERY: image::Rgb<u8> = image::Rgb([0xa3, 0xab, 0xb6]);

fn counts(page: &mut Page, chart: &Chart, map: &GalleryMap) {
    let area = chart.area;
    let cell = area.width().max(area.height()) / CELLS as f64;
    let (columns, rows) =
        ((area.width() / cell).ceil() as usize, (area.height() / cell).ceil() as usize);
    let mut counts = vec![0u32; columns * rows];
    for &[px, py] in &map.positions {
        let x = (chart.x.position(f64::from(px)) - area.left) / cell;
        let y = (chart.y.position(f64::from(py)) - area.top) / cell;
        let (column, row) = ((x as usize).min(columns - 1), (y as usize).min(rows - 1));
        counts[row * columns + column] += 1;
    }
    let most = f64::from(counts.iter().copied().max().unwrap_or(1).max(1));
    for (i, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (left, top) =
            (area.left + (i % columns) as f64 * cell, area.top + (i / columns) as f64 * cell);
        let rect =
            Rect::new(left, top, (left + cell).min(area.right), (top + cell).min(area.bottom));
        // Log counts: a dense core would otherwise hide the edge of the cloud.
        let opacity = 0.15 + 0.85 * (f64::from(count) + 1.0).ln() / (most + 1.0).ln();
        page.drawing.shapes.push(super::drawing::Shape::Rect { rect, colour: GALLERY, opacity });
    }
}

/// One row per point: every gallery item, the query, the mean, the samples.
pub fn table(result: &QueryResult, map: &GalleryMap) -> Table {
    let places = Places::of(result, map);
    let points: Vec<(&str, Option<usize>, [f32; 2])> = map
        .positions
        .iter()
        .enumerate()
        .map(|(row, &place)| ("gallery", Some(row), place))
        .chain([("query", None, places.query), ("mean", None, places.mean)])
        .chain(places.samples.iter().enumerate().map(|(i, &place)| ("sample", Some(i), place)))
        .collect();
    Table::default()
        .text("kind", points.iter().map(|p| p.0))
        .maybe_whole("index", points.iter().map(|p| p.1))
        .numbers("component_1", points.iter().map(|p| f64::from(p.2[0])))
        .numbers("component_2", points.iter().map(|p| f64::from(p.2[1])))
}
