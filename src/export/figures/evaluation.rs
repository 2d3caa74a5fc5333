//! Recall in bins of growing uncertainty, over a gallery's own captions.

use super::axis::AxisSpec;
use super::caption;
use super::drawing::Drawing;
use super::page::Page;
use super::table::Table;
use crate::export::canvas::colour;
use crate::gallery::{Interval, wilson};
use crate::session::engine::{Evaluation, EvaluationBin};
use crate::session::recipe::Recipe;

/// Wilson's 95 % interval of the recall of `count` captions; of none, all that a share can be.
fn interval(recall: f64, count: usize) -> [f64; 2] {
    if count == 0 {
        return [0.0, 1.0];
    }
    let Interval { low, high } = wilson((recall * count as f64).round() as usize, count);
    [low, high]
}

pub fn draw(evaluation: &Evaluation, recipe: Option<&Recipe>) -> Drawing {
    let [one, five, ten] = evaluation.recall;
    let mut page = Page::new(
        &format!("Recall and uncertainty: {}", evaluation.gallery),
        &format!(
            "{} captions, {} items. Recall of the frozen embedding at 1, 5 and 10: {one:.3}, \
             {five:.3}, {ten:.3}. Spearman's rank correlation of uncertainty and rank: {:.2}.",
            evaluation.captions, evaluation.items, evaluation.spearman
        ),
    );
    let bins = &evaluation.bins;
    let x = AxisSpec::around(
        "mean aleatoric variance of the bin, squared embedding units",
        bins.iter().map(|bin| bin.aleatoric),
    );
    let y = AxisSpec::between("recall at 10, share of the bin's captions", 0.0, 1.0);
    let chart = page.chart(260.0, &x, &y);
    let at =
        |bin: &EvaluationBin| [chart.x.position(bin.aleatoric), chart.y.position(bin.recall_at_10)];
    for bin in bins {
        let [x, _] = at(bin);
        let [low, high] =
            interval(bin.recall_at_10, bin.count).map(|share| chart.y.position(share));
        page.drawing.line([x, low], [x, high], 1.5, colour::ALEATORIC);
    }
    page.drawing.path(bins.iter().map(at).collect(), 1.0, colour::LINE);
    for bin in bins {
        page.drawing.disc(at(bin), 4.0, colour::ALEATORIC, 1.0);
    }
    let mut lines = vec![format!(
        "{} bins of equally many captions, by growing uncertainty. Bars: Wilson 95 % intervals of a \
         share, given the number of captions in the bin.",
        bins.len()
    )];
    lines.extend(recipe.map(caption::models));
    page.finish(&lines)
}

pub fn table(evaluation: &Evaluation) -> Table {
    let bins = &evaluation.bins;
    let intervals: Vec<[f64; 2]> =
        bins.iter().map(|bin| interval(bin.recall_at_10, bin.count)).collect();
    Table::default()
        .whole("bin", 1..=bins.len())
        .whole("captions", bins.iter().map(|bin| bin.count))
        .numbers("aleatoric", bins.iter().map(|bin| bin.aleatoric))
        .numbers("recall_at_10", bins.iter().map(|bin| bin.recall_at_10))
        .numbers("recall_at_10_low", intervals.iter().map(|i| i[0]))
        .numbers("recall_at_10_high", intervals.iter().map(|i| i[1]))
}

#[cfg(test)]
mod tests {
    use super::interval;

    #[test]
    fn a_share_of_few_has_a_wide_interval_inside_0_to_1() {
        let rounded = |share, count| interval(share, count).map(|v| (v * 100.0).round() / 100.0);
        assert_eq!(rounded(0.5, 64), [0.38, 0.62]);
        assert_eq!(rounded(0.0, 64), [0.0, 0.06]);
        assert_eq!(rounded(1.0, 64), [0.94, 1.0]);
        assert_eq!(interval(0.5, 0), [0.0, 1.0]);
    }
}
