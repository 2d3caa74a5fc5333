//! Two queries: the difference itself, dimension by dimension.

use super::axis::AxisSpec;
use super::caption;
use super::drawing::{Drawing, Rect};
use super::page::{Mark, Page};
use super::table::Table;
use crate::export::canvas::colour;
use crate::session::result::QueryResult;

/// Dimensions that both have, with the total variance of A and of B, by A minus B, largest first.
fn totals(a: &QueryResult, b: &QueryResult) -> Vec<(usize, [f64; 2])> {
    let (a, b) = (a.distribution.total(), b.distribution.total());
    let mut both: Vec<(usize, [f64; 2])> =
        a.into_iter().zip(b).map(|(a, b)| [a, b]).enumerate().collect();
    let difference = |v: &[f64; 2]| v[0] - v[1];
    both.sort_by(|x, y| difference(&y.1).total_cmp(&difference(&x.1)).then(x.0.cmp(&y.0)));
    both
}

pub fn draw(a: &QueryResult, b: &QueryResult) -> Drawing {
    let both = totals(a, b);
    let more = both.iter().filter(|(_, [a, b])| a > b).count();
    let mut page = Page::new(
        "Difference of two queries, A \u{2212} B",
        &format!(
            "A: {}. B: {}. A has the larger spread in {more} of {} dimensions; mean total variance \
             {:.4} and {:.4}.",
            caption::query(&a.recipe.query),
            caption::query(&b.recipe.query),
            both.len(),
            a.distribution.mean_total(),
            b.distribution.mean_total()
        ),
    );
    page.legend(&[
        (Mark::Square, colour::SAMPLES, "A has the larger spread"),
        (Mark::Square, colour::ACCENT, "B has the larger spread"),
    ]);
    let x = AxisSpec::between("dimension, by A \u{2212} B", 0.0, both.len() as f64).whole();
    let y = AxisSpec::around(
        "difference of total variance, squared embedding units",
        both.iter().map(|(_, [a, b])| a - b).chain([0.0]),
    );
    let chart = page.chart(260.0, &x, &y);
    let zero = chart.y.position(0.0);
    for (place, (_, [a, b])) in both.iter().enumerate() {
        let (left, right) = (chart.x.position(place as f64), chart.x.position((place + 1) as f64));
        let y = chart.y.position(a - b);
        let paint = if a > b { colour::SAMPLES } else { colour::ACCENT };
        page.drawing.rect(Rect::new(left, y.min(zero), right, y.max(zero)), paint);
    }
    page.drawing.line([chart.area.left, zero], [chart.area.right, zero], 0.75, colour::TEXT);
    let mut lines = caption::lines(&a.recipe, "");
    lines[0].insert_str(0, "A. ");
    let mut of_b = caption::lines(&b.recipe, "");
    of_b[0].insert_str(0, "B. ");
    // The same models are named once.
    if of_b.last() == lines.last() {
        lines.pop();
    }
    lines.extend(of_b);
    page.finish(&lines)
}

pub fn table(a: &QueryResult, b: &QueryResult) -> Table {
    let both = totals(a, b);
    Table::default()
        .whole("place", 1..=both.len())
        .whole("dimension", both.iter().map(|(d, _)| *d))
        .numbers("total_a", both.iter().map(|(_, [a, _])| *a))
        .numbers("total_b", both.iter().map(|(_, [_, b])| *b))
        .numbers("difference", both.iter().map(|(_, [a, b])| a - b))
}
