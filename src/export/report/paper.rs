//! Our figures beside those that papers print.

use super::summary::SummaryTable;
use crate::experiment::report::{MethodReport, Report, TestReport};
use crate::experiment::{Direction, Method};

/// The test sets of the papers' tables, in the order of [`Printed::scores`].
const SETS: [&str; 4] = ["coco", "flickr", "flo", "cub"];

/// A row of a paper: -S·R² with CLIP ViT-B/32, trained on COCO, per test set.
struct Printed {
    method: Method,
    direction: Direction,
    source: &'static str,
    scores: [f64; 4],
}

const PROBVLM: &str = "ProbVLM, table 1";
const GROVE: &str = "GroVE's re-run";

/// ProbVLM (arXiv 2307.00398), table 1, CLIP rows; and the re-runs of GroVE (arXiv 2505.05163),
/// with five levels.
const PRINTED: [Printed; 10] = [
    row(Method::ProbVlm, Direction::ImageToText, PROBVLM, [0.93, 0.49, 0.56, 0.40]),
    row(Method::Pfe, Direction::ImageToText, PROBVLM, [0.47, 0.00, -0.18, 0.17]),
    row(Method::Pcme, Direction::ImageToText, PROBVLM, [0.68, 0.02, 0.02, 0.12]),
    row(Method::Ttda, Direction::ImageToText, PROBVLM, [0.55, 0.03, 0.00, 0.24]),
    row(Method::ProbVlm, Direction::TextToImage, PROBVLM, [0.10, 0.35, 0.99, 0.63]),
    row(Method::Pfe, Direction::TextToImage, PROBVLM, [-0.59, -0.13, 0.47, 0.00]),
    row(Method::Pcme, Direction::TextToImage, PROBVLM, [-0.05, 0.00, 0.40, 0.00]),
    row(Method::Ttda, Direction::TextToImage, PROBVLM, [0.00, 0.01, 0.73, 0.07]),
    row(Method::ProbVlm, Direction::ImageToText, GROVE, [0.14, 0.38, 0.36, 0.15]),
    row(Method::ProbVlm, Direction::TextToImage, GROVE, [-0.01, 0.34, 0.10, 0.48]),
];

const fn row(
    method: Method,
    direction: Direction,
    source: &'static str,
    scores: [f64; 4],
) -> Printed {
    Printed { method, direction, source, scores }
}

/// Which of [`SETS`] a test set's name says it is; "flo" is also in "flowers".
fn set_of(name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    SETS.iter().position(|set| name.contains(set))
}

/// Both side by side, a table per test set. Every row says whether ours is of a test set with the
/// paper's name; whether encoder and protocol are the same no report can know.
pub fn paper_tables(report: &Report) -> Vec<SummaryTable> {
    report.tests.iter().map(|test| of_test(report, test)).collect()
}

fn of_test(report: &Report, test: &TestReport) -> SummaryTable {
    let levels = report.settings.levels.first().copied().unwrap_or(0);
    let set = set_of(&test.split.name);
    let mut rows = Vec::new();
    for printed in &PRINTED {
        let ours = test
            .directions
            .iter()
            .filter(|direction| direction.direction == printed.direction)
            .find_map(|direction| direction.method(printed.method));
        let Some(ours) = ours else { continue };
        rows.push(vec![
            format!("{}, {}", printed.method.label(), printed.direction.short()),
            our_figure(ours),
            match set {
                Some(set) => format!("{:.2}", printed.scores[set]),
                None => printed.scores.map(|score| format!("{score:.2}")).join(" / "),
            },
            printed.source.to_owned(),
            match set {
                Some(set) => format!("data named {}", SETS[set]),
                None => "other data".to_owned(),
            },
        ]);
    }
    SummaryTable {
        title: format!(
            "{}: -S·R² beside the papers' (CLIP ViT-B/32, trained on COCO)",
            test.split.name
        ),
        columns: vec![
            "method".to_owned(),
            format!("ours, {levels} levels [95 %]"),
            match set {
                Some(_) => "printed".to_owned(),
                None => "printed: COCO / Flickr / FLO / CUB".to_owned(),
            },
            "source".to_owned(),
            "ours is on".to_owned(),
        ],
        note: match (rows.is_empty(), set) {
            (true, _) => "None of the papers' methods was run.".to_owned(),
            (_, None) => "Other data: the test set is none of the papers', so the figures do not \
                          answer the same question."
                .to_owned(),
            (_, Some(_)) => "The names agree; encoder, split and training data may still differ: \
                             they are in the report's settings."
                .to_owned(),
        },
        rows,
    }
}

fn our_figure(method: &MethodReport) -> String {
    let estimate = method.minus_s_r2;
    format!("{:+.2} [{:+.2}, {:+.2}]", estimate.value, estimate.low, estimate.high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_sets_are_known_by_name_and_everything_else_is_other_data() {
        assert_eq!(set_of("COCO test"), Some(0));
        assert_eq!(set_of("flickr30k test"), Some(1));
        assert_eq!(set_of("Oxford-Flowers"), Some(2));
        assert_eq!(set_of("CUB_200 test"), Some(3));
        assert_eq!(set_of("demo gallery"), None);
    }
}
