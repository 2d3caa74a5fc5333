//! Figures of an experiment's report.

use image::Rgb;

use super::axis::{Axis, AxisSpec};
use super::drawing::{Align, Drawing, text_width};
use super::page::{LABEL, MARGIN, Mark, Page, WIDTH};
use super::table::Table;
use crate::evaluation::{Estimate, LevelTrend};
use crate::experiment::report::{DirectionReport, MethodReport, Report, TestReport};
use crate::experiment::{Direction, Method};
use crate::export::canvas::colour;

/// Okabe and Ito's colours that stand apart on white, also for colour-blind readers.
const SERIES: [Rgb<u8>; 6] = [
    Rgb([0x00, 0x72, 0xb2]),
    Rgb([0xd5, 0x5e, 0x00]),
    Rgb([0x00, 0x9e, 0x73]),
    Rgb([0xcc, 0x79, 0xa7]),
    Rgb([0xe6, 0x9f, 0x00]),
    Rgb([0x56, 0xb4, 0xe9]),
];
const ROW: f64 = 20.0;

/// What of a report is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportPart {
    /// AURC of every method minus that of cosine distance.
    Differences,
    /// Recall@1 over uncertainty levels.
    Levels(Direction),
    /// Error of the answered queries over the share that is answered.
    RiskCoverage(Direction),
    /// Confidence against accuracy, before and after temperature scaling.
    Reliability(Direction),
    /// Probability integral transforms of predicted densities.
    Transforms,
    /// Held-out scores over epochs.
    Training,
}

impl ReportPart {
    /// Name of its file.
    pub fn name(self) -> String {
        match self {
            ReportPart::Differences => "differences".to_owned(),
            ReportPart::Levels(direction) => format!("levels-{}", direction.short()),
            ReportPart::RiskCoverage(direction) => format!("risk-coverage-{}", direction.short()),
            ReportPart::Reliability(direction) => format!("reliability-{}", direction.short()),
            ReportPart::Transforms => "transforms".to_owned(),
            ReportPart::Training => "training".to_owned(),
        }
    }

    /// Those that one test set of a report has something for.
    pub fn of(report: &Report, test: &TestReport) -> Vec<ReportPart> {
        let mut parts = Vec::new();
        if test.directions.iter().any(|d| d.methods.len() > 1) {
            parts.push(ReportPart::Differences);
        }
        for direction in &test.directions {
            if !direction.methods.is_empty() {
                parts.push(ReportPart::Levels(direction.direction));
                parts.push(ReportPart::RiskCoverage(direction.direction));
            }
            if direction.confidence.is_some() {
                parts.push(ReportPart::Reliability(direction.direction));
            }
        }
        if test.directions.iter().any(|d| d.methods.iter().any(|m| m.likelihood.is_some())) {
            parts.push(ReportPart::Transforms);
        }
        if report.runs.iter().any(|run| !run.epochs.is_empty()) {
            parts.push(ReportPart::Training);
        }
        parts
    }
}

/// Draws a part of the report of a test set.
pub fn draw(report: &Report, test: &TestReport, part: ReportPart) -> Drawing {
    let find = |wanted| test.directions.iter().find(|d| d.direction == wanted);
    match part {
        ReportPart::Differences => differences(test),
        ReportPart::Levels(wanted) => match find(wanted) {
            Some(direction) => levels(report, test, direction),
            None => nothing(),
        },
        ReportPart::RiskCoverage(wanted) => match find(wanted) {
            Some(direction) => risk_coverage(test, direction),
            None => nothing(),
        },
        ReportPart::Reliability(wanted) => match find(wanted) {
            Some(direction) => reliability(test, direction),
            None => nothing(),
        },
        ReportPart::Transforms => transforms(test),
        ReportPart::Training => training(report),
    }
}

/// The numbers behind the differences; the other parts have tables of their own in a report's
/// folder.
pub fn table(test: &TestReport) -> Table {
    let rows: Vec<(&DirectionReport, &MethodReport)> =
        test.directions.iter().flat_map(|d| d.methods.iter().map(move |m| (d, m))).collect();
    let of = |f: &dyn Fn(&MethodReport) -> Option<f64>| -> Vec<f64> {
        rows.iter().map(|(_, m)| f(m).unwrap_or(f64::NAN)).collect()
    };
    Table::default()
        .text("direction", rows.iter().map(|(d, _)| d.direction.short()))
        .text("method", rows.iter().map(|(_, m)| m.method.name()))
        .numbers("aurc", of(&|m| Some(m.aurc.value)))
        .numbers("auroc", of(&|m| Some(m.auroc?.value)))
        .numbers("minus_s_r2", of(&|m| Some(m.minus_s_r2.value)))
        .numbers("aurc_against_cosine", of(&|m| Some(m.aurc_against_cosine?.value)))
        .numbers("aurc_against_cosine_low", of(&|m| Some(m.aurc_against_cosine?.low)))
        .numbers("aurc_against_cosine_high", of(&|m| Some(m.aurc_against_cosine?.high)))
}

fn nothing() -> Drawing {
    Page::new("Nothing to draw", "The report does not hold this direction.").finish(&[])
}

/// One row per method with the interval of its difference to cosine distance.
fn differences(test: &TestReport) -> Drawing {
    let mut page = Page::new(
        &format!("Selective risk against plain cosine distance: {}", test.split.name),
        "Area under the risk-coverage curve of each method minus that of 1 - cosine of the best \
         match, over the same queries. Left of 0 is better than cosine distance.",
    );
    for direction in &test.directions {
        let rows: Vec<(&MethodReport, Estimate)> = direction
            .methods
            .iter()
            .filter_map(|method| Some((method, method.aurc_against_cosine?)))
            .collect();
        if rows.is_empty() {
            continue;
        }
        page.paragraph(
            &format!("{}, R@1 {:.3}", direction.direction, direction.recall[0].value),
            LABEL,
        );
        page.y += 4.0;
        let names = rows.iter().map(|(m, _)| text_width(m.method.label(), LABEL));
        let left = MARGIN + names.fold(0.0, f64::max) + 12.0;
        let ends = rows.iter().flat_map(|(_, e)| [e.low, e.high]).chain([0.0]);
        let spec = AxisSpec::around("difference of AURC", ends);
        let axis = Axis::new(&spec, left, WIDTH - MARGIN);
        let top = page.y;
        let bottom = top + ROW * rows.len() as f64;
        let zero = axis.position(0.0);
        page.drawing.line([zero, top], [zero, bottom], 1.0, colour::MUTED_TEXT);
        for (i, (method, estimate)) in rows.iter().enumerate() {
            let y = top + ROW * (i as f64 + 0.5);
            page.drawing.text(
                method.method.label(),
                [MARGIN, y + 0.36 * LABEL.size],
                LABEL,
                Align::Left,
            );
            let clear = estimate.low > 0.0 || estimate.high < 0.0;
            let paint = match (clear, estimate.value < 0.0) {
                (false, _) => colour::MUTED_TEXT,
                (true, true) => SERIES[0],
                (true, false) => SERIES[1],
            };
            let [low, high] = [estimate.low, estimate.high].map(|v| axis.position(v));
            page.drawing.line([low, y], [high, y], 2.0, paint);
            page.drawing.disc([axis.position(estimate.value), y], 4.0, paint, 1.0);
        }
        page.x_axis(&axis, &spec, top, bottom);
    }
    page.finish(&[
        "Dot: mean over seeds; bar: 95 % bootstrap interval over queries and seeds, captions of one \
         image drawn together. Blue: clearly better than cosine distance; orange: clearly worse; grey: \
         the interval holds 0."
            .to_owned(),
    ])
}

/// The methods that a chart of lines shows in colour: cosine distance, and the best others by
/// AURC.
fn shown(direction: &DirectionReport) -> Vec<&MethodReport> {
    let mut sorted: Vec<&MethodReport> = direction.methods.iter().collect();
    sorted.sort_by(|a, b| a.aurc.value.total_cmp(&b.aurc.value));
    let keep = |method: &&MethodReport| {
        matches!(method.method, Method::CosineDistance | Method::ProbVlm | Method::Random)
    };
    let mut shown: Vec<&MethodReport> = sorted.iter().copied().filter(keep).collect();
    for method in sorted {
        if shown.len() < SERIES.len() && !shown.iter().any(|m| m.method == method.method) {
            shown.push(method);
        }
    }
    shown.sort_by(|a, b| a.aurc.value.total_cmp(&b.aurc.value));
    shown
}

fn legend(page: &mut Page, shown: &[&MethodReport], describe: impl Fn(&MethodReport) -> String) {
    let names: Vec<String> = shown.iter().map(|method| describe(method)).collect();
    let entries: Vec<(Mark, Rgb<u8>, &str)> =
        names.iter().zip(SERIES).map(|(name, paint)| (Mark::Line, paint, name.as_str())).collect();
    page.legend(&entries);
}

fn levels(report: &Report, test: &TestReport, direction: &DirectionReport) -> Drawing {
    // The most levels that were asked for show the shape best.
    let most = report.settings.levels.iter().copied().max().unwrap_or(5).min(10);
    let trend = |method: &MethodReport| -> Option<LevelTrend> {
        let trends = &method.seeds.first()?.trends;
        trends.iter().find(|t| t.requested == most).or(trends.first()).cloned()
    };
    let mut page = Page::new(
        &format!("Recall over uncertainty levels: {}, {}", test.split.name, direction.direction),
        "Queries in levels of growing uncertainty, equally many in each. Falling to the right is \
         the right way round.",
    );
    let shown = shown(direction);
    legend(&mut page, &shown, |method| {
        let score = trend(method).map_or(0.0, |t| t.minus_s_r2);
        format!("{}, -S·R² {score:+.2}", method.method.label())
    });
    let trends: Vec<Option<LevelTrend>> = shown.iter().map(|method| trend(method)).collect();
    let count = trends.iter().flatten().map(|t| t.levels.len()).max().unwrap_or(1);
    let x = AxisSpec::between("level of uncertainty", 0.5, count as f64 + 0.5).whole();
    let recalls = trends.iter().flatten().flat_map(|t| t.levels.iter().map(|l| l.recall));
    let y = AxisSpec::from_zero("recall@1, share of the level's queries", recalls);
    let chart = page.chart(260.0, &x, &y);
    for (trend, paint) in trends.iter().zip(SERIES) {
        let Some(trend) = trend else { continue };
        let points: Vec<[f64; 2]> = trend
            .levels
            .iter()
            .map(|l| [chart.x.position(l.index as f64 + 1.0), chart.y.position(l.recall)])
            .collect();
        page.drawing.path(points.clone(), 1.5, paint);
        for point in points {
            page.drawing.disc(point, 3.0, paint, 1.0);
        }
    }
    page.finish(&["First seed. Cosine distance, ProbVLM, noise and the best others by AURC; \
                   levels.csv has all methods and seeds."
        .to_owned()])
}

fn risk_coverage(test: &TestReport, direction: &DirectionReport) -> Drawing {
    let mut page = Page::new(
        &format!("Risk and coverage: {}, {}", test.split.name, direction.direction),
        "Share of wrong best matches among the answered queries, when the most uncertain are left \
         out. Lower is better; at full coverage all methods are equal.",
    );
    let shown = shown(direction);
    legend(&mut page, &shown, |method| {
        format!("{}, AURC {:.3}", method.method.label(), method.aurc.value)
    });
    let x = AxisSpec::between("share of the queries that are answered", 0.0, 1.0);
    let curves: Vec<&[[f64; 2]]> = shown
        .iter()
        .map(|method| method.seeds.first().map_or(&[][..], |seed| &seed.failure.curve))
        .collect();
    let risks = curves.iter().flat_map(|curve| curve.iter().map(|point| point[1]));
    let y = AxisSpec::from_zero("share of wrong answers", risks);
    let chart = page.chart(260.0, &x, &y);
    for (curve, paint) in curves.into_iter().zip(SERIES) {
        let place = |p: &[f64; 2]| [chart.x.position(p[0]), chart.y.position(p[1])];
        page.drawing.path(curve.iter().map(place).collect(), 1.5, paint);
    }
    page.finish(&[
        "First seed. Cosine distance, ProbVLM, noise and the best others by AURC.".to_owned()
    ])
}

fn reliability(test: &TestReport, direction: &DirectionReport) -> Drawing {
    let mut page = Page::new(
        &format!("Reliability: {}, {}", test.split.name, direction.direction),
        "Share of right best matches by the confidence of the softmax over the gallery. On the \
         diagonal a confidence means what it says.",
    );
    let kinds = [
        ("the encoder's logit scale", &direction.confidence, SERIES[1]),
        ("temperature scaled on the validation pairs", &direction.scaled_confidence, SERIES[0]),
    ];
    let names: Vec<(String, Rgb<u8>)> = kinds
        .iter()
        .filter_map(|(name, found, paint)| {
            let found = found.as_ref()?;
            let Estimate { value, low, high } = found.ece;
            Some((
                format!("{name} ({:.1}): ECE {value:.3} [{low:.3}, {high:.3}]", found.scale),
                *paint,
            ))
        })
        .collect();
    let entries: Vec<(Mark, Rgb<u8>, &str)> =
        names.iter().map(|(name, paint)| (Mark::Disc, *paint, name.as_str())).collect();
    page.legend(&entries);
    let x = AxisSpec::between("mean confidence of the bin", 0.0, 1.0);
    let y = AxisSpec::between("share of right answers in the bin", 0.0, 1.0);
    let chart = page.chart(300.0, &x, &y);
    let at = |x: f64, y: f64| [chart.x.position(x), chart.y.position(y)];
    page.drawing.dashed(at(0.0, 0.0), at(1.0, 1.0), 0.75, colour::MUTED_TEXT);
    for (_, found, paint) in kinds {
        let Some(found) = found else { continue };
        let points: Vec<[f64; 2]> =
            found.bins.iter().map(|bin| at(bin.mean_confidence, bin.accuracy)).collect();
        page.drawing.path(points.clone(), 1.0, paint);
        for (point, bin) in points.into_iter().zip(&found.bins) {
            // The area of a disc goes with the number of its queries.
            let share = bin.count as f64 / direction.queries.max(1) as f64;
            page.drawing.disc(point, 2.0 + 10.0 * share.sqrt(), paint, 0.8);
        }
    }
    page.finish(&[
        "20 bins of equal width, empty ones left out. The area of a disc grows with the \
                   number of queries in the bin."
            .to_owned(),
    ])
}

fn transforms(test: &TestReport) -> Drawing {
    let mut page = Page::new(
        &format!("Probability integral transforms: {}", test.split.name),
        "Where held-out targets fall in the predicted densities, per dimension. Flat is right; high \
         ends: densities too narrow; a hump: too wide.",
    );
    let all = test.directions.iter().flat_map(|direction| {
        let found = |method: &MethodReport| {
            let name =
                format!("{}, {} queries", method.method.label(), direction.direction.query());
            Some((name, method.likelihood.clone()?))
        };
        direction.methods.iter().filter_map(found)
    });
    for (name, checks) in all {
        let observed: Vec<String> = checks
            .coverage
            .iter()
            .map(|c| {
                format!("{:.0} % in the central {:.0} %", 100.0 * c.observed, 100.0 * c.nominal)
            })
            .collect();
        page.paragraph(
            &format!(
                "{name}: {:.3} nats per dimension (one Gaussian {:.3}); {}",
                checks.nll,
                checks.nll_constant,
                observed.join(", ")
            ),
            LABEL,
        );
        page.y += 2.0;
        let x = AxisSpec::between("transform", 0.0, 1.0);
        let y = AxisSpec::from_zero("share of targets", checks.pit.iter().copied());
        let chart = page.chart(70.0, &x, &y);
        let bins = checks.pit.len() as f64;
        let floor = chart.y.position(0.0);
        for (bin, share) in checks.pit.iter().enumerate() {
            let [left, right] = [bin as f64, bin as f64 + 1.0].map(|b| chart.x.position(b / bins));
            let top = chart.y.position(*share);
            let rect = super::drawing::Rect::new(left + 0.5, top, right - 0.5, floor);
            page.drawing.rect(rect, SERIES[0]);
        }
        let even = chart.y.position(1.0 / bins);
        page.drawing.dashed(
            [chart.x.position(0.0), even],
            [chart.x.position(1.0), even],
            1.0,
            SERIES[1],
        );
    }
    page.finish(&[
        "Dashes: what right densities give. Within one modality the target is the input \
                   itself. First seed."
            .to_owned(),
    ])
}

fn training(report: &Report) -> Drawing {
    let mut page = Page::new(
        "Held-out scores over epochs",
        "Of each trained method and side, the first seed. Lower is better; units differ between \
         methods.",
    );
    let first = report.settings.seeds.first().copied().unwrap_or(0);
    for run in report.runs.iter().filter(|run| run.seed == first && !run.epochs.is_empty()) {
        page.paragraph(&format!("{}, {}", run.method.label(), run.side), LABEL);
        let last = run.epochs.last().map_or(1.0, |epoch| epoch.epoch as f64).max(2.0);
        let x = AxisSpec::between("epoch", 1.0, last).whole();
        let scores = run.epochs.iter().map(|epoch| epoch.validation_nll);
        let y = AxisSpec::around("held-out score", scores.clone());
        let chart = page.chart(60.0, &x, &y);
        let points = run.epochs.iter().zip(scores).filter(|(_, score)| score.is_finite());
        let points: Vec<[f64; 2]> = points
            .map(|(epoch, score)| [chart.x.position(epoch.epoch as f64), chart.y.position(score)])
            .collect();
        page.drawing.path(points.clone(), 1.5, SERIES[0]);
        for (point, epoch) in points.into_iter().zip(&run.epochs) {
            if epoch.best {
                page.drawing.disc(point, 2.5, SERIES[0], 1.0);
            }
        }
    }
    page.finish(&["Dots: epochs that were the best so far; the last of them is kept.".to_owned()])
}
