//! How the uncertainty changes over queries of growing specificity.

use super::axis::AxisSpec;
use super::caption;
use super::drawing::Drawing;
use super::intervals::{self, Row};
use super::page::Page;
use super::table::Table;
use crate::export::canvas::colour;
use crate::session::recipe::Recipe;
use crate::session::studies::ladder::{Ladder, LadderStep};

pub fn draw(ladder: &Ladder, recipe: Option<&Recipe>) -> Drawing {
    let mut page = Page::new(
        "Uncertainty over growing specificity",
        &format!(
            "{} steps, from the first on. Kendall's tau between step and mean aleatoric variance \
             {:.2}, permutation p {:.3}.",
            ladder.steps.len(),
            ladder.tau,
            ladder.p_value
        ),
    );
    let axis = AxisSpec::from_zero(
        "aleatoric variance, squared embedding units",
        ladder.steps.iter().map(|step| step.quantiles[4]),
    );
    let headings = ["mean", "epistemic", "cosine to last"].map(str::to_owned);
    let row = |(i, step): (usize, &LadderStep)| Row {
        name: format!("{}. {}", i + 1, step.title),
        quantiles: step.quantiles,
        cells: vec![
            format!("{:.4}", step.aleatoric),
            format!("{:.4}", step.epistemic),
            format!("{:.3}", step.cosine_to_last),
        ],
    };
    let rows: Vec<Row> = ladder.steps.iter().enumerate().map(row).collect();
    intervals::draw(&mut page, &axis, &headings, &rows, colour::ALEATORIC);
    let mut lines = vec![
        "Dot: median; thick: middle 50 %; thin: middle 90 % of the dimensions. Mean and epistemic: \
         means over dimensions. Cosine to last: between the frozen embeddings of a step and of the \
         last one, the baseline without an adapter. p is two-sided; with few steps chance alone \
         gives large values of tau."
            .to_owned(),
    ];
    lines.extend(
        recipe.map(|recipe| format!("Seed {}. {}", recipe.sampling.seed, caption::models(recipe))),
    );
    page.finish(&lines)
}

pub fn table(ladder: &Ladder) -> Table {
    let steps = &ladder.steps;
    let numbers = |f: &dyn Fn(&LadderStep) -> f64| -> Vec<f64> { steps.iter().map(f).collect() };
    let mut table = Table::default()
        .whole("step", 1..=steps.len())
        .text("title", steps.iter().map(|step| step.title.clone()))
        .numbers("aleatoric", numbers(&|s| s.aleatoric))
        .numbers("epistemic", numbers(&|s| s.epistemic));
    for (i, name) in ["q05", "q25", "median", "q75", "q95"].into_iter().enumerate() {
        table = table.numbers(&format!("aleatoric_{name}"), numbers(&|s| s.quantiles[i]));
    }
    table
        .numbers("share_below", numbers(&|s| s.share_below.unwrap_or(f64::NAN)))
        .numbers("cosine_to_last", numbers(&|s| s.cosine_to_last))
}
