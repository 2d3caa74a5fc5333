//! Learning curves of active learning: one panel per strategy, each beside random.

use image::Rgb;

use super::axis::AxisSpec;
use super::drawing::{Drawing, LINE_HEIGHT};
use super::page::{Chart, LABEL, MARGIN, Mark, Page, SMALL, WIDTH};
use super::table::Table;
use crate::evaluation::Estimate;
use crate::experiment::active::report::CurvePoint;
use crate::experiment::active::{ActiveReport, Measure, Strategy};
use crate::export::canvas::colour;

const COLUMNS: usize = 2;
const GAP: f64 = 28.0;
const HEIGHT: f64 = 130.0;
const BAND: f64 = 0.22;

/// One panel per strategy that was run; random is drawn in grey behind the others.
pub fn draw(report: &ActiveReport, measure: Measure) -> Drawing {
    let settings = &report.settings;
    let better = if measure.higher_is_better() { "Higher" } else { "Lower" };
    let mut page = Page::new(
        &format!("Active learning, {}: {}", measure.label(), report.pool.name),
        &format!(
            "{} over the number of labelled images, on {} ({} images, {} captions). {better} is \
             better.",
            measure.label(),
            report.test.name,
            report.test.images,
            report.test.captions
        ),
    );
    let with_random = settings.strategies.contains(&Strategy::Random);
    let mut legend = vec![(Mark::Line, colour::ACCENT, "mean of the strategy over seeds")];
    if with_random {
        legend.push((Mark::Line, colour::MUTED_TEXT, "random"));
    }
    let frozen = measure.of_frozen(&report.frozen);
    if frozen.is_some() {
        legend.push((Mark::Dashes, colour::MUTED_TEXT, "the frozen encoder without labels"));
    }
    page.legend(&legend);

    let curves: Vec<(Strategy, Vec<CurvePoint>)> =
        settings.strategies.iter().map(|&s| (s, report.mean_curve(s, measure))).collect();
    let random = curves.iter().find(|(s, _)| *s == Strategy::Random).map(|(_, curve)| curve);
    let points = || curves.iter().flat_map(|(_, curve)| curve);
    let budgets = points().map(|point| point.labelled as f64);
    let x = AxisSpec::around("labelled images", budgets).whole();
    let y = AxisSpec::around(measure.label(), points().flat_map(ends).chain(frozen));
    let width = (WIDTH - 2.0 * MARGIN - GAP * (COLUMNS - 1) as f64) / COLUMNS as f64;
    for row in curves.chunks(COLUMNS) {
        let (top, mut bottom) = (page.y, page.y);
        for (i, (strategy, curve)) in row.iter().enumerate() {
            page.y = top;
            let left = MARGIN + (width + GAP) * i as f64;
            // Two lines each, so that panels beside each other begin at one height.
            let (area, difference) = titles(report, *strategy, measure);
            for (text, style) in [(area, LABEL), (difference, SMALL)] {
                page.block(&text, [left, page.y], width, style);
                page.y += style.size * LINE_HEIGHT;
            }
            page.y += 6.0;
            let chart = page.chart_between(HEIGHT, &x, &y, left, left + width);
            if let Some(frozen) = frozen {
                let at = chart.y.position(frozen);
                let (from, to) = ([chart.area.left, at], [chart.area.right, at]);
                page.drawing.dashed(from, to, 1.0, colour::MUTED_TEXT);
            }
            if let Some(random) = random.filter(|_| *strategy != Strategy::Random) {
                curve_with_band(&mut page, &chart, random, colour::MUTED_TEXT);
            }
            curve_with_band(&mut page, &chart, curve, colour::ACCENT);
            bottom = bottom.max(page.y);
        }
        page.y = bottom;
    }
    let seeds = settings.seeds.len();
    let bands = match seeds {
        1 => "One seed, so there are no bands.".to_owned(),
        _ => format!("Bands: Student's 95 % interval of the mean over {seeds} seeds."),
    };
    page.finish(&[
        format!(
            "{bands} Area: under the curve, divided by the width of the budgets; the difference to \
             random is paired by seed."
        ),
        format!("Haze {}", report.haze),
    ])
}

/// The numbers behind the curves: one row per strategy and budget.
pub fn table(report: &ActiveReport, measure: Measure) -> Table {
    let rows: Vec<(Strategy, CurvePoint)> = report
        .settings
        .strategies
        .iter()
        .flat_map(|&s| report.mean_curve(s, measure).into_iter().map(move |point| (s, point)))
        .collect();
    let of = |f: &dyn Fn(&CurvePoint) -> Option<f64>| -> Vec<f64> {
        rows.iter().map(|(_, point)| f(point).unwrap_or(f64::NAN)).collect()
    };
    Table::default()
        .text("strategy", rows.iter().map(|(strategy, _)| strategy.name()))
        .text("measure", rows.iter().map(|_| measure.label()))
        .whole("labelled", rows.iter().map(|(_, point)| point.labelled))
        .whole("seeds", rows.iter().map(|(_, point)| point.seeds))
        .numbers("mean", of(&|point| Some(point.mean)))
        .numbers("low", of(&|point| Some(point.over_seeds?.low)))
        .numbers("high", of(&|point| Some(point.over_seeds?.high)))
}

fn ends(point: &CurvePoint) -> Vec<f64> {
    match point.over_seeds {
        Some(Estimate { value, low, high }) => vec![low, value, high],
        None => vec![point.mean],
    }
}

/// The strategy with its area, and how much that is above random's.
fn titles(report: &ActiveReport, strategy: Strategy, measure: Measure) -> (String, String) {
    let Some(area) = report.area(strategy, measure) else {
        return (strategy.to_string(), String::new());
    };
    let difference = area.against_random.map_or(String::new(), |e| {
        format!("less random {:+.4} [{:+.4}, {:+.4}]", e.value, e.low, e.high)
    });
    (format!("{strategy}: area {:.4}", area.mean), difference)
}

fn curve_with_band(page: &mut Page, chart: &Chart, curve: &[CurvePoint], paint: Rgb<u8>) {
    let at = |point: &CurvePoint, value: f64| {
        [chart.x.position(point.labelled as f64), chart.y.position(value)]
    };
    let interval = |point: &CurvePoint| Some((point.over_seeds?.low, point.over_seeds?.high));
    let banded: Vec<(&CurvePoint, (f64, f64))> =
        curve.iter().filter_map(|point| Some((point, interval(point)?))).collect();
    if banded.len() > 1 {
        let upper = banded.iter().map(|(point, (_, high))| at(point, *high));
        let lower = banded.iter().rev().map(|(point, (low, _))| at(point, *low));
        page.drawing.polygon(upper.chain(lower).collect(), paint, BAND);
    }
    page.drawing.path(curve.iter().map(|point| at(point, point.mean)).collect(), 1.5, paint);
    for point in curve {
        page.drawing.disc(at(point, point.mean), 2.5, paint, 1.0);
    }
}
