//! The tables that people read, as text: what stands in each is decided here, once.

use crate::evaluation::{Binning, Estimate, LevelTrend};
use crate::experiment::report::{DirectionReport, Report, SeedReport, TestReport};

/// A table of words and numbers for people; the first column holds words.
pub struct SummaryTable {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<String>>,
    /// How to read it.
    pub note: String,
}

/// Data, sizes and time in a few lines.
pub fn heading(report: &Report) -> String {
    let split = |s: &crate::experiment::report::SplitFacts| {
        format!("{} ({} images, {} captions)", s.name, s.images, s.captions)
    };
    let tests: Vec<String> = report.tests.iter().map(|test| split(&test.split)).collect();
    format!(
        "Learned from {}, stopped by {}, tested on {}. {} dimensions, {} seed(s), uncertainty of the \
         {}; {:.0} s.\n",
        split(&report.training),
        split(&report.validation),
        tests.join(", "),
        report.dim,
        report.settings.seeds.len(),
        report.settings.whose,
        report.seconds
    )
}

/// What a terminal shows.
pub fn short(report: &Report) -> Vec<SummaryTable> {
    let mut tables = Vec::new();
    for test in &report.tests {
        tables.push(recall(test));
        tables.extend(plausible(test));
        for direction in &test.directions {
            tables.push(methods(test, direction, &report.settings.levels));
        }
    }
    tables
}

/// Everything, for the written report.
pub fn long(report: &Report) -> Vec<SummaryTable> {
    let mut tables = Vec::new();
    for test in &report.tests {
        tables.push(recall(test));
        tables.extend(plausible(test));
        for direction in &test.directions {
            tables.push(methods(test, direction, &report.settings.levels));
            tables.push(failure(test, direction));
            tables.push(levels(test, direction));
        }
        tables.push(confidence(test));
        tables.extend(likelihood(test));
    }
    tables
}

fn titles(titles: &[&str]) -> Vec<String> {
    titles.iter().map(|&title| title.to_owned()).collect()
}

fn recall(test: &TestReport) -> SummaryTable {
    let rows = test.directions.iter().map(|direction| {
        let cells = direction.recall.iter().map(interval);
        std::iter::once(direction.direction.to_string())
            .chain([direction.queries.to_string()])
            .chain(cells)
            .chain([format!("{:.4}", direction.chance[0])])
            .collect()
    });
    SummaryTable {
        title: format!(
            "Recall on {} by the frozen embeddings, {} relevance",
            test.split.name,
            if test.by_class { "class-level" } else { "instance-level" }
        ),
        columns: titles(&["direction", "queries", "R@1", "R@5", "R@10", "R@1 by chance"]),
        rows: rows.collect(),
        note: "In brackets 95 % bootstrap intervals; captions of one image are drawn together."
            .to_owned(),
    }
}

fn methods(test: &TestReport, direction: &DirectionReport, levels: &[usize]) -> SummaryTable {
    let rows = direction.methods.iter().map(|method| {
        vec![
            method.method.label().to_owned(),
            interval(&method.minus_s_r2),
            method.seeds.first().and_then(first_trend).map_or("-".to_owned(), |trend| {
                let p = mean(method.seeds.iter().filter_map(first_trend).map(|t| t.p_value));
                format!("{p:.3} (S {:+.1})", trend.spearman)
            }),
            maybe(method.auroc.as_ref()),
            interval(&method.aurc),
            difference(method.aurc_against_cosine.as_ref()),
            difference(method.probvlm_aurc_against.as_ref()),
        ]
    });
    SummaryTable {
        title: format!(
            "{}, {}: uncertainty against recall@1",
            test.split.name, direction.direction
        ),
        columns: titles(&[
            "method",
            "-S·R² [95 %]",
            "p, S",
            "AUROC [95 %]",
            "AURC [95 %]",
            "AURC - cosine's",
            "ProbVLM's AURC - its",
        ]),
        rows: rows.collect(),
        note: format!(
            "-S·R² over {} levels of equal count; p: share of random orders that do as well, mean \
             over seeds; S < 0 is the right way round. AUROC of a wrong best match, 0.5 is chance. \
             AURC: lower is better; differences below 0 favour the first named, * where the \
             interval is clear of 0.",
            levels.first().copied().unwrap_or(0)
        ),
    }
}

fn failure(test: &TestReport, direction: &DirectionReport) -> SummaryTable {
    let rows = direction.methods.iter().map(|method| {
        let over = |f: &dyn Fn(&SeedReport) -> Option<f64>| {
            let values: Vec<f64> = method.seeds.iter().filter_map(f).collect();
            match values.is_empty() {
                true => "-".to_owned(),
                false => format!("{:.4}", mean(values.into_iter())),
            }
        };
        let recall =
            |i: usize| move |s: &SeedReport| Some(s.failure.selective_recall.get(i)?.recall.value);
        vec![
            method.method.label().to_owned(),
            over(&|s| Some(s.failure.fpr95?.value)),
            over(&|s| Some(s.failure.excess_aurc.value)),
            over(&recall(0)),
            over(&recall(1)),
            over(&|s| Some(s.against_cosine)),
            over(&|s| s.aleatoric_epistemic),
            over(&|s| Some(s.mean_uncertainty)),
        ]
    });
    SummaryTable {
        title: format!(
            "{}, {}: failure detection and abstaining",
            test.split.name, direction.direction
        ),
        columns: titles(&[
            "method",
            "FPR95",
            "E-AURC",
            "R@1 of the surest 80 %",
            "R@1 of the surest 90 %",
            "ρ with cosine distance",
            "ρ of aleatoric and epistemic",
            "mean uncertainty",
        ]),
        rows: rows.collect(),
        note: "Means over seeds; `methods.csv` has the intervals of each seed.".to_owned(),
    }
}

fn levels(test: &TestReport, direction: &DirectionReport) -> SummaryTable {
    let mut rows = Vec::new();
    for method in &direction.methods {
        let Some(first) = method.seeds.first() else { continue };
        for (i, trend) in first.trends.iter().enumerate() {
            let over = |f: &dyn Fn(&LevelTrend) -> f64| {
                mean(method.seeds.iter().filter_map(|seed| seed.trends.get(i)).map(f))
            };
            rows.push(vec![
                method.method.label().to_owned(),
                trend.requested.to_string(),
                binning(trend.binning).to_owned(),
                format!("{:+.2}", over(&|t| t.spearman)),
                format!("{:.2}", over(&|t| t.r_squared)),
                format!("{:+.2}", over(&|t| t.minus_s_r2)),
                format!("[{:+.2}, {:+.2}]", over(&|t| t.interval[0]), over(&|t| t.interval[1])),
                format!("{:.3}", over(&|t| t.p_value)),
                format!("{:.2}", over(&|t| t.null_95)),
            ]);
        }
    }
    SummaryTable {
        title: format!("{}, {}: uncertainty levels", test.split.name, direction.direction),
        columns: titles(&[
            "method",
            "levels",
            "binning",
            "S",
            "R²",
            "-S·R²",
            "95 %",
            "p",
            "null 95 %",
        ]),
        rows,
        note:
            "Means over seeds. With the uncertainty negated S and -S·R² change their signs. Null: \
               what one random order in twenty exceeds."
                .to_owned(),
    }
}

fn confidence(test: &TestReport) -> SummaryTable {
    let mut rows = Vec::new();
    for direction in &test.directions {
        let kinds = [
            ("the encoder's scale", &direction.confidence),
            ("temperature scaled", &direction.scaled_confidence),
        ];
        for (kind, found) in kinds {
            let Some(found) = found else { continue };
            rows.push(vec![
                format!("{}, {kind}", direction.direction),
                format!("{:.1}", found.scale),
                interval(&found.ece),
                format!("{:.4}", found.brier),
                format!("{:.3}", found.nlpd),
            ]);
        }
    }
    SummaryTable {
        title: format!("{}: confidence of the softmax over the gallery", test.split.name),
        columns: titles(&["confidence", "logit scale", "ECE [95 %]", "Brier", "NLPD"]),
        rows,
        note: "20 bins. The scale is fitted on the validation pairs.".to_owned(),
    }
}

fn plausible(test: &TestReport) -> Option<SummaryTable> {
    let rows: Vec<Vec<String>> = test
        .directions
        .iter()
        .flat_map(|direction| {
            direction.plausible.iter().map(|found| {
                let mut row = vec![
                    format!("{}, {}", direction.direction, found.truth),
                    format!("{} of {}", found.queries, found.judged),
                    format!("{} of {}", found.matches, found.listed),
                ];
                row.extend(found.recall.iter().map(interval));
                row.extend([&found.r_precision, &found.map_at_r].map(interval));
                row
            })
        })
        .collect();
    (!rows.is_empty()).then(|| SummaryTable {
        title: format!("{}: plausible matches", test.split.name),
        columns: titles(&[
            "direction, truth",
            "queries",
            "matches",
            "R@1",
            "R@5",
            "R@10",
            "R-Precision",
            "mAP@R",
        ]),
        rows,
        note:
            "Relevance as people judged it, beyond the own pair: ECCV Caption goes by mAP@R, CxC \
               by recall. In brackets 95 % bootstrap intervals."
                .to_owned(),
    })
}

fn likelihood(test: &TestReport) -> Option<SummaryTable> {
    let mut rows = Vec::new();
    for direction in &test.directions {
        for method in &direction.methods {
            let Some(found) = &method.likelihood else { continue };
            let mut row = vec![
                format!("{}, {} queries", method.method.label(), direction.direction.query()),
                format!("{:.4}", found.nll),
                format!("{:.4}", found.nll_constant),
                format!("{:.3}", found.pit_ks),
            ];
            row.extend(found.coverage.iter().map(|c| format!("{:.3}", c.observed)));
            row.push(format!("{:.5}", found.crps));
            row.push(format!("{:.5}", found.crps_constant));
            row.push(format!("{:.4}", found.energy_score));
            row.push(format!("{:.4}", found.energy_score_constant));
            rows.push(row);
        }
    }
    (!rows.is_empty()).then(|| SummaryTable {
        title: format!("{}: likelihood of the predicted densities", test.split.name),
        columns: titles(&[
            "densities", "NLL", "NLL, one Gaussian", "KS of the PIT", "in 50 %", "in 80 %", "in 95 %",
            "CRPS", "CRPS, one Gaussian", "energy", "energy, one Gaussian",
        ]),
        rows,
        note: "NLL in nats per dimension of unit embeddings. Within one modality the target is the \
               input itself: such figures say how well it is reproduced. One Gaussian per dimension \
               for all queries is what can be said without looking at the query. First seed."
            .to_owned(),
    })
}

pub(super) fn binning(binning: Binning) -> &'static str {
    match binning {
        Binning::Quantile => "equal count",
        Binning::Width => "equal width",
        Binning::CumulativeWidth => "cumulative width",
    }
}

/// The trend that the summary is about.
pub(super) fn first_trend(seed: &SeedReport) -> Option<&LevelTrend> {
    seed.trends.first()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), v| (sum + v, count + 1));
    sum / count.max(1) as f64
}

fn interval(estimate: &Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", estimate.value, estimate.low, estimate.high)
}

fn maybe(estimate: Option<&Estimate>) -> String {
    estimate.map_or("-".to_owned(), interval)
}

fn difference(estimate: Option<&Estimate>) -> String {
    estimate.map_or("-".to_owned(), |e| {
        let clear = if e.low > 0.0 || e.high < 0.0 { "*" } else { "" };
        format!("{:+.3} [{:+.3}, {:+.3}]{clear}", e.value, e.low, e.high)
    })
}
