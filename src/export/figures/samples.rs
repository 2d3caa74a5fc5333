//! The samples among all draws: how likely each is, and how far from the mean.

use super::axis::AxisSpec;
use super::caption;
use super::drawing::{Align, Drawing, Point, Rect, text_width};
use super::page::{Mark, Page, SMALL, WIDTH};
use super::table::Table;
use crate::export::canvas::colour;
use crate::session::result::{QueryResult, SampleStatistics};

/// A rectangle by its middle and half its size.
fn around(x: f64, y: f64, half_width: f64, half_height: f64) -> Rect {
    Rect::new(x - half_width, y - half_height, x + half_width, y + half_height)
}

/// Distance from the mean and log-density of every draw.
fn draws(result: &QueryResult) -> Vec<[f64; 2]> {
    let mean = result.distribution.mean();
    let distance = |values: &Vec<f32>| {
        let squares =
            values.iter().zip(&mean).map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2));
        squares.sum::<f64>().sqrt()
    };
    result
        .draws
        .values
        .iter()
        .map(distance)
        .zip(result.draws.log_probs.iter().copied())
        .map(|(distance, log_prob)| [distance, log_prob])
        .collect()
}

pub fn draw(result: &QueryResult) -> Drawing {
    let draws = draws(result);
    let mut page = Page::new(
        &format!("Samples among all draws: {}", caption::query(&result.recipe.query)),
        "In many dimensions almost no draw is near the mean, although the mean is the likeliest \
         point: draws lie in a shell around it.",
    );
    page.legend(&[
        (Mark::Disc, FAINT, "all draws"),
        (Mark::Disc, colour::SAMPLES, "samples, numbered where there is room"),
    ]);
    let x = AxisSpec::around(
        "Euclidean distance from the mean, embedding units",
        draws.iter().map(|d| d[0]),
    );
    let y = AxisSpec::around("log-density, nats", draws.iter().map(|d| d[1]));
    let chart = page.chart(300.0, &x, &y);
    for [distance, log_prob] in &draws {
        let at = [chart.x.position(*distance), chart.y.position(*log_prob)];
        page.drawing.disc(at, 1.6, FAINT, 0.6);
    }
    let places: Vec<Point> = result
        .samples
        .iter()
        .map(|sample| &sample.statistics)
        .map(|s| [chart.x.position(s.distance_to_mean), chart.y.position(s.log_prob)])
        .collect();
    for &place in &places {
        page.drawing.disc(place, 4.0, colour::SAMPLES, 1.0);
    }
    let mut taken: Vec<Rect> = places.iter().map(|&[x, y]| around(x, y, 4.0, 4.0)).collect();
    for (sample, &[x, y]) in result.samples.iter().zip(&places) {
        let number = sample.statistics.index.to_string();
        let half = text_width(&number, SMALL) / 2.0;
        let aside = 7.0 + half;
        let spots = [[x + aside, y], [x - aside, y], [x, y - 11.0], [x, y + 11.0]];
        let free = spots.into_iter().map(|[x, y]| around(x, y, half, 5.0)).find(|spot| {
            let inside = spot.left >= chart.area.left && spot.right <= WIDTH - 2.0;
            inside && taken.iter().all(|other| !spot.overlaps(*other))
        });
        // In a crowd a number is left out: the data has it.
        if let Some(spot) = free {
            let at = [(spot.left + spot.right) / 2.0, spot.bottom - 1.0];
            page.drawing.text(&number, at, SMALL, Align::Centre);
            taken.push(spot);
        }
    }
    page.finish(&caption::lines(
        &result.recipe,
        &format!("{} samples of {} draws.", result.samples.len(), draws.len()),
    ))
}

const FAINT: image::Rgb<u8> = image::Rgb([0xa3, 0xab, 0xb6]);

/// One row per draw; the samples are the first of them and know more.
pub fn table(result: &QueryResult) -> Table {
    let draws = draws(result);
    let sample = |i: usize| result.samples.get(i).map(|s| &s.statistics);
    let known = |f: fn(&SampleStatistics) -> f64| -> Vec<f64> {
        (0..draws.len()).map(|i| sample(i).map_or(f64::NAN, f)).collect()
    };
    let nearest = |i: usize| sample(i).and_then(|s| s.nearest.as_ref()).map(|n| n.image.clone());
    Table::default()
        .whole("index", 0..draws.len())
        .whole("is_sample", (0..draws.len()).map(|i| usize::from(sample(i).is_some())))
        .numbers("distance_to_mean", draws.iter().map(|d| d[0]))
        .numbers("log_prob", draws.iter().map(|d| d[1]))
        .numbers("typicality", known(|s| s.typicality))
        .numbers("cosine_to_mean", known(|s| s.cosine_to_mean))
        .text("nearest", (0..draws.len()).map(|i| nearest(i).unwrap_or_default()))
        .numbers(
            "nearest_cosine",
            known(|s| s.nearest.as_ref().map_or(f64::NAN, |nearest| nearest.score)),
        )
        .numbers("decoded_cosine", known(|s| s.decoded_cosine.unwrap_or(f64::NAN)))
}
