//! How uncertainty changes over a whole data set as something is taken away.

use super::axis::AxisSpec;
use super::caption;
use super::drawing::Drawing;
use super::page::Page;
use super::table::Table;
use crate::export::canvas::colour;
use crate::session::recipe::Recipe;
use crate::session::studies::degradation::{Degradation, DegradationLadder, DegradationStep};

pub fn draw(ladder: &DegradationLadder, recipe: Option<&Recipe>) -> Drawing {
    let (title, what) = match ladder.degradation {
        Degradation::MaskImage => ("masked images", "share of the image that is masked"),
        Degradation::CropImage => ("cropped images", "share of the image that is cut away"),
        Degradation::MaskWords => ("masked words", "share of the words that are taken away"),
        Degradation::CaptionLevel => ("coarser captions", "caption level, 0 is exact"),
    };
    let mut page = Page::new(
        &format!("Uncertainty over {title}: {}", ladder.dataset),
        &format!(
            "{} items. Kendall's tau of step and uncertainty, mean over items: {:.2}, 95 % interval \
             {:.2} to {:.2}. {:.0} % of the items are more uncertain at the last step than at the \
             first.",
            ladder.items,
            ladder.tau.value,
            ladder.tau.low,
            ladder.tau.high,
            100.0 * ladder.rising
        ),
    );
    let steps = &ladder.steps;
    let x = AxisSpec::around(what, steps.iter().map(|step| step.amount));
    let ends = steps.iter().flat_map(|s| [s.change.low, s.change.value, s.change.high]);
    let label = "change of the total variance against the first step, squared embedding units";
    let y = AxisSpec::around(label, ends.chain([0.0]));
    let chart = page.chart(260.0, &x, &y);
    let [left, right] = [x.low, x.high].map(|v| chart.x.position(v));
    let zero = chart.y.position(0.0);
    page.drawing.dashed([left, zero], [right, zero], 0.75, colour::MUTED_TEXT);
    let at = |step: &DegradationStep| {
        [chart.x.position(step.amount), chart.y.position(step.change.value)]
    };
    page.drawing.path(steps.iter().map(at).collect(), 1.0, colour::LINE);
    for step in steps {
        let [x, _] = at(step);
        let [low, high] = [step.change.low, step.change.high].map(|v| chart.y.position(v));
        page.drawing.line([x, low], [x, high], 1.5, colour::ALEATORIC);
        page.drawing.disc(at(step), 4.0, colour::ALEATORIC, 1.0);
    }
    let mut lines = vec![
        "Dot: mean over items of the change of each item; bar: 95 % bootstrap interval over items."
            .to_owned(),
    ];
    lines.extend(
        recipe.map(|recipe| format!("Seed {}. {}", recipe.sampling.seed, caption::models(recipe))),
    );
    page.finish(&lines)
}

pub fn table(ladder: &DegradationLadder) -> Table {
    let numbers =
        |f: &dyn Fn(&DegradationStep) -> f64| -> Vec<f64> { ladder.steps.iter().map(f).collect() };
    Table::default()
        .numbers("amount", numbers(&|s| s.amount))
        .numbers("uncertainty", numbers(&|s| s.uncertainty))
        .numbers("change", numbers(&|s| s.change.value))
        .numbers("change_low", numbers(&|s| s.change.low))
        .numbers("change_high", numbers(&|s| s.change.high))
        .numbers("cosine_to_first", numbers(&|s| s.cosine_to_first))
}
