//! The numbers of a report as tables for programs, one row per measurement.

use super::summary::binning;
use crate::evaluation::Estimate;
use crate::experiment::report::{
    DirectionReport, MethodReport, PlausibleMatches, Report, SeedReport, TestReport,
};
use crate::export::figures::Table;

/// One row of something, with what it belongs to.
struct In<'a, T> {
    test: &'a TestReport,
    direction: &'a DirectionReport,
    item: T,
}

/// All tables with their file names.
pub fn tables(report: &Report) -> Vec<(&'static str, Table)> {
    vec![
        ("recall", recall(report)),
        ("plausible", plausible(report)),
        ("methods", methods(report)),
        ("levels", levels(report)),
        ("risk_coverage", risk_coverage(report)),
        ("reliability", reliability(report)),
        ("likelihood", likelihood(report)),
        ("training", training(report)),
    ]
}

fn directions(report: &Report) -> Vec<In<'_, ()>> {
    let mut rows = Vec::new();
    for test in &report.tests {
        rows.extend(test.directions.iter().map(|direction| In { test, direction, item: () }));
    }
    rows
}

fn each_method(report: &Report) -> Vec<In<'_, &MethodReport>> {
    directions(report)
        .into_iter()
        .flat_map(|In { test, direction, .. }| {
            direction.methods.iter().map(move |item| In { test, direction, item })
        })
        .collect()
}

fn each_seed(report: &Report) -> Vec<In<'_, (&MethodReport, &SeedReport)>> {
    each_method(report)
        .into_iter()
        .flat_map(|In { test, direction, item }| {
            item.seeds.iter().map(move |seed| In { test, direction, item: (item, seed) })
        })
        .collect()
}

/// Columns that say what a row belongs to.
fn keyed<T>(rows: &[In<'_, T>]) -> Table {
    Table::default()
        .text("test", rows.iter().map(|row| row.test.split.name.clone()))
        .text("direction", rows.iter().map(|row| row.direction.direction.short()))
}

fn estimates<T>(
    table: Table,
    name: &str,
    rows: &[In<'_, T>],
    of: impl Fn(&T) -> Option<Estimate>,
) -> Table {
    let part = |f: fn(Estimate) -> f64| -> Vec<f64> {
        rows.iter().map(|row| of(&row.item).map_or(f64::NAN, f)).collect()
    };
    table
        .numbers(name, part(|e| e.value))
        .numbers(&format!("{name}_low"), part(|e| e.low))
        .numbers(&format!("{name}_high"), part(|e| e.high))
}

fn recall(report: &Report) -> Table {
    let rows: Vec<In<'_, [(usize, Estimate, f64); 1]>> = directions(report)
        .into_iter()
        .flat_map(|In { test, direction, .. }| {
            let at = [1, 5, 10].into_iter().zip(direction.recall).zip(direction.chance);
            at.map(move |((k, recall), chance)| In { test, direction, item: [(k, recall, chance)] })
        })
        .collect();
    let table = keyed(&rows)
        .whole("queries", rows.iter().map(|row| row.direction.queries))
        .whole("k", rows.iter().map(|row| row.item[0].0));
    estimates(table, "recall", &rows, |item| Some(item[0].1))
        .numbers("chance", rows.iter().map(|row| row.item[0].2))
}

fn plausible(report: &Report) -> Table {
    let rows: Vec<In<'_, &PlausibleMatches>> = directions(report)
        .into_iter()
        .flat_map(|In { test, direction, .. }| {
            direction.plausible.iter().map(move |item| In { test, direction, item })
        })
        .collect();
    let whole =
        |f: &dyn Fn(&PlausibleMatches) -> usize| rows.iter().map(|r| f(r.item)).collect::<Vec<_>>();
    let mut table = keyed(&rows)
        .text("truth", rows.iter().map(|row| row.item.truth.clone()))
        .whole("queries", whole(&|found| found.queries))
        .whole("judged", whole(&|found| found.judged))
        .whole("matches", whole(&|found| found.matches))
        .whole("listed", whole(&|found| found.listed));
    for (i, k) in [1, 5, 10].into_iter().enumerate() {
        table = estimates(table, &format!("recall_{k}"), &rows, |item| Some(item.recall[i]));
    }
    table = estimates(table, "r_precision", &rows, |item| Some(item.r_precision));
    estimates(table, "map_at_r", &rows, |item| Some(item.map_at_r))
}

fn methods(report: &Report) -> Table {
    let rows = each_seed(report);
    let numbers = |f: &dyn Fn(&SeedReport) -> f64| -> Vec<f64> {
        rows.iter().map(|row| f(row.item.1)).collect()
    };
    let mut table = keyed(&rows)
        .text("method", rows.iter().map(|row| row.item.0.method.name()))
        .whole("seed", rows.iter().map(|row| row.item.1.seed as usize))
        .numbers("mean_uncertainty", numbers(&|s| s.mean_uncertainty))
        .numbers("mean_aleatoric", numbers(&|s| s.mean_aleatoric.unwrap_or(f64::NAN)))
        .numbers("mean_epistemic", numbers(&|s| s.mean_epistemic.unwrap_or(f64::NAN)))
        .numbers("rho_aleatoric_epistemic", numbers(&|s| s.aleatoric_epistemic.unwrap_or(f64::NAN)))
        .numbers("rho_cosine_distance", numbers(&|s| s.against_cosine));
    table = estimates(table, "auroc", &rows, |item| item.1.failure.auroc);
    table = estimates(table, "fpr95", &rows, |item| item.1.failure.fpr95);
    table = estimates(table, "aurc", &rows, |item| Some(item.1.failure.aurc));
    table = estimates(table, "excess_aurc", &rows, |item| Some(item.1.failure.excess_aurc));
    table = estimates(table, "aurc_over_seeds", &rows, |item| Some(item.0.aurc));
    table = estimates(table, "minus_s_r2_over_seeds", &rows, |item| Some(item.0.minus_s_r2));
    table = estimates(table, "aurc_against_cosine", &rows, |item| item.0.aurc_against_cosine);
    estimates(table, "probvlm_aurc_against", &rows, |item| item.0.probvlm_aurc_against)
}

fn levels(report: &Report) -> Table {
    let rows: Vec<In<'_, _>> = each_seed(report)
        .into_iter()
        .flat_map(|In { test, direction, item: (method, seed) }| {
            seed.trends.iter().flat_map(move |trend| {
                let level = move |level| In { test, direction, item: (method, seed, trend, level) };
                trend.levels.iter().map(level)
            })
        })
        .collect();
    keyed(&rows)
        .text("method", rows.iter().map(|row| row.item.0.method.name()))
        .whole("seed", rows.iter().map(|row| row.item.1.seed as usize))
        .whole("levels", rows.iter().map(|row| row.item.2.requested))
        .text("binning", rows.iter().map(|row| binning(row.item.2.binning)))
        .whole("level", rows.iter().map(|row| row.item.3.index + 1))
        .whole("queries", rows.iter().map(|row| row.item.3.count))
        .numbers("mean_uncertainty", rows.iter().map(|row| row.item.3.mean_uncertainty))
        .numbers("recall_at_1", rows.iter().map(|row| row.item.3.recall))
        .numbers("spearman", rows.iter().map(|row| row.item.2.spearman))
        .numbers("r_squared", rows.iter().map(|row| row.item.2.r_squared))
        .numbers("minus_s_r2", rows.iter().map(|row| row.item.2.minus_s_r2))
        .numbers("minus_s_r2_low", rows.iter().map(|row| row.item.2.interval[0]))
        .numbers("minus_s_r2_high", rows.iter().map(|row| row.item.2.interval[1]))
        .numbers("p_value", rows.iter().map(|row| row.item.2.p_value))
        .numbers("null_95", rows.iter().map(|row| row.item.2.null_95))
}

fn risk_coverage(report: &Report) -> Table {
    let rows: Vec<In<'_, _>> = each_seed(report)
        .into_iter()
        .flat_map(|In { test, direction, item: (method, seed) }| {
            let point =
                move |point: &[f64; 2]| In { test, direction, item: (method, seed, *point) };
            seed.failure.curve.iter().map(point)
        })
        .collect();
    keyed(&rows)
        .text("method", rows.iter().map(|row| row.item.0.method.name()))
        .whole("seed", rows.iter().map(|row| row.item.1.seed as usize))
        .numbers("coverage", rows.iter().map(|row| row.item.2[0]))
        .numbers("risk", rows.iter().map(|row| row.item.2[1]))
}

fn reliability(report: &Report) -> Table {
    let rows: Vec<In<'_, _>> = directions(report)
        .into_iter()
        .flat_map(|In { test, direction, .. }| {
            let kinds =
                [("encoder", &direction.confidence), ("fitted", &direction.scaled_confidence)];
            kinds.into_iter().filter_map(|(kind, found)| Some((kind, found.as_ref()?))).flat_map(
                move |(kind, found)| {
                    let row = move |bin| In { test, direction, item: (kind, found, bin) };
                    found.bins.iter().map(row)
                },
            )
        })
        .collect();
    keyed(&rows)
        .text("scale_of", rows.iter().map(|row| row.item.0))
        .numbers("scale", rows.iter().map(|row| row.item.1.scale))
        .whole("bin", rows.iter().map(|row| row.item.2.index + 1))
        .whole("queries", rows.iter().map(|row| row.item.2.count))
        .numbers("mean_confidence", rows.iter().map(|row| row.item.2.mean_confidence))
        .numbers("accuracy", rows.iter().map(|row| row.item.2.accuracy))
}

fn likelihood(report: &Report) -> Table {
    let rows: Vec<In<'_, _>> = each_method(report)
        .into_iter()
        .filter_map(|In { test, direction, item }| {
            Some(In { test, direction, item: (item, item.likelihood.as_ref()?) })
        })
        .collect();
    let mut table = keyed(&rows)
        .text("method", rows.iter().map(|row| row.item.0.method.name()))
        .whole("items", rows.iter().map(|row| row.item.1.items))
        .numbers("nll", rows.iter().map(|row| row.item.1.nll))
        .numbers("nll_one_gaussian", rows.iter().map(|row| row.item.1.nll_constant))
        .numbers("pit_ks", rows.iter().map(|row| row.item.1.pit_ks));
    for (i, name) in ["coverage_50", "coverage_80", "coverage_95"].into_iter().enumerate() {
        let of = |row: &In<'_, (_, &crate::evaluation::LikelihoodChecks)>| {
            row.item.1.coverage.get(i).map_or(f64::NAN, |coverage| coverage.observed)
        };
        table = table.numbers(name, rows.iter().map(of));
    }
    table
        .numbers("crps", rows.iter().map(|row| row.item.1.crps))
        .numbers("crps_one_gaussian", rows.iter().map(|row| row.item.1.crps_constant))
        .numbers("energy_score", rows.iter().map(|row| row.item.1.energy_score))
        .numbers(
            "energy_score_one_gaussian",
            rows.iter().map(|row| row.item.1.energy_score_constant),
        )
}

fn training(report: &Report) -> Table {
    let rows: Vec<_> =
        report.runs.iter().flat_map(|run| run.epochs.iter().map(move |e| (run, e))).collect();
    Table::default()
        .text("method", rows.iter().map(|(run, _)| run.method.name()))
        .whole("seed", rows.iter().map(|(run, _)| run.seed as usize))
        .text("side", rows.iter().map(|(run, _)| run.side.clone()))
        .whole("epoch", rows.iter().map(|(_, epoch)| epoch.epoch))
        .numbers("training_loss", rows.iter().map(|(_, epoch)| epoch.training_loss))
        .numbers("held_out_score", rows.iter().map(|(_, epoch)| epoch.validation_nll))
        .numbers("learning_rate", rows.iter().map(|(_, epoch)| epoch.learning_rate))
}
