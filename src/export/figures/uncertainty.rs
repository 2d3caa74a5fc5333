//! Variance of every dimension, largest first: aleatoric, with epistemic stacked on top (variances
//! add, standard deviations do not).

use super::axis::AxisSpec;
use super::caption;
use super::drawing::Drawing;
use super::page::{Mark, Page};
use super::table::Table;
use crate::distribution::EmbeddingDistribution;
use crate::export::canvas::colour;
use crate::session::result::QueryResult;

/// Dimensions by total variance, largest first; ties by index.
pub fn by_total(distribution: &EmbeddingDistribution) -> Vec<usize> {
    let total = distribution.total();
    let mut order: Vec<usize> = (0..total.len()).collect();
    order.sort_by(|&a, &b| total[b].total_cmp(&total[a]).then(a.cmp(&b)));
    order
}

pub fn draw(result: &QueryResult) -> Drawing {
    let distribution = &result.distribution;
    let order = by_total(distribution);
    let (aleatoric, total) = (distribution.aleatoric(), distribution.total());
    let mut page = Page::new(
        &format!("Uncertainty by dimension: {}", caption::query(&result.recipe.query)),
        &format!(
            "Spread of the predicted embedding in each of its {} dimensions. Mean over dimensions: \
             aleatoric {:.4}, epistemic {:.4}.",
            order.len(),
            distribution.mean_aleatoric(),
            distribution.mean_epistemic()
        ),
    );
    page.legend(&[
        (Mark::Square, colour::ALEATORIC, "aleatoric: variance of the predicted density"),
        (
            Mark::Square,
            colour::EPISTEMIC,
            "epistemic: variance of the predicted mean over dropout passes, stacked on top",
        ),
    ]);
    let x = AxisSpec::between("dimension, by total variance", 0.0, order.len() as f64).whole();
    let y = AxisSpec::from_zero("variance, squared embedding units", total.iter().copied());
    let chart = page.chart(260.0, &x, &y);
    for (values, paint) in [(total.as_slice(), colour::EPISTEMIC), (aleatoric, colour::ALEATORIC)] {
        let base = chart.area.bottom;
        let mut outline = vec![[chart.area.left, base]];
        for (place, &dimension) in order.iter().enumerate() {
            let y = chart.y.position(values[dimension]);
            outline.push([chart.x.position(place as f64), y]);
            outline.push([chart.x.position((place + 1) as f64), y]);
        }
        outline.push([chart.area.right, base]);
        page.drawing.polygon(outline, paint, 1.0);
    }
    page.finish(&caption::lines(&result.recipe, ""))
}

pub fn table(result: &QueryResult) -> Table {
    let distribution = &result.distribution;
    let order = by_total(distribution);
    let total = distribution.total();
    let density = |d: usize| &distribution.dimensions()[d];
    let column =
        |values: &dyn Fn(usize) -> f64| -> Vec<f64> { order.iter().map(|&d| values(d)).collect() };
    Table::default()
        .whole("place", 1..=order.len())
        .whole("dimension", order.iter().copied())
        .numbers("mean", column(&|d| density(d).mu()))
        .numbers("alpha", column(&|d| density(d).alpha()))
        .numbers("beta", column(&|d| density(d).beta()))
        .numbers("aleatoric", column(&|d| distribution.aleatoric()[d]))
        .numbers("epistemic", column(&|d| distribution.epistemic()[d]))
        .numbers("total", column(&|d| total[d]))
}
