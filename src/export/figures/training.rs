//! Loss and held-out likelihood of a training run.

use super::axis::AxisSpec;
use super::drawing::Drawing;
use super::page::{LABEL, Mark, Page};
use super::table::Table;
use crate::adapter::training::{Baselines, EpochRecord};
use crate::export::canvas::colour;

/// Batches that are drawn as they are; of more, every pixel column shows its range.
const COLUMNS: usize = 600;

/// What a run has said so far.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    pub epochs: &'a [EpochRecord],
    /// Fractional epoch and loss of every batch.
    pub losses: &'a [[f64; 2]],
    pub baselines: Option<Baselines>,
}

pub fn draw(training: Training<'_>) -> Drawing {
    let Training { epochs, losses, baselines } = training;
    let best = epochs.iter().rfind(|epoch| epoch.best);
    let kept = best.map_or(String::new(), |best| {
        format!(" Kept: epoch {}, {:.4} nats per dimension.", best.epoch, best.validation_nll)
    });
    let mut page =
        Page::new("Training", &format!("{} epochs, {} batches.{kept}", epochs.len(), losses.len()));
    let last = epochs.last().map_or(0.0, |epoch| epoch.epoch as f64);
    let last = losses.last().map_or(last, |loss| loss[0].max(last)).max(1.0);
    let x = AxisSpec::between("epoch", 0.0, last).whole();
    let y = AxisSpec::around("loss of each batch, with dropout", losses.iter().map(|l| l[1]));
    let chart = page.chart(180.0, &x, &y);
    let place = |l: &[f64; 2]| [chart.x.position(l[0]), chart.y.position(l[1])];
    let step = losses.len().div_ceil(COLUMNS).max(1);
    let path = losses
        .chunks(step)
        .flat_map(|chunk| {
            let by = |a: &&[f64; 2], b: &&[f64; 2]| a[1].total_cmp(&b[1]);
            let mut ends: Vec<&[f64; 2]> =
                chunk.iter().min_by(by).into_iter().chain(chunk.iter().max_by(by)).collect();
            ends.sort_by(|a, b| a[0].total_cmp(&b[0]));
            ends
        })
        .filter(|l| l[1].is_finite())
        .map(place)
        .collect();
    page.drawing.path(path, 1.0, colour::ALEATORIC);

    page.paragraph("Held out", LABEL);
    page.y += 2.0;
    let nll = "negative log likelihood";
    let mut legend = vec![(Mark::Disc, colour::EPISTEMIC, nll)];
    if baselines.is_some() {
        legend.push((Mark::Dashes, colour::MUTED_TEXT, "one Gaussian for all inputs"));
        legend.push((Mark::Line, colour::MUTED_TEXT, "one generalised Gaussian for all inputs"));
    }
    page.legend(&legend);
    let constants = baselines.map(|b| [b.gaussian_nll, b.generalized_gaussian_nll]);
    let y = AxisSpec::around(
        "nats per dimension of the raw targets",
        epochs.iter().map(|e| e.validation_nll).chain(constants.into_iter().flatten()),
    );
    let chart = page.chart(180.0, &x, &y);
    if let Some([gaussian, generalized]) = constants {
        let ends = |value: f64| {
            let y = chart.y.position(value);
            ([chart.area.left, y], [chart.area.right, y])
        };
        let (from, to) = ends(gaussian);
        page.drawing.dashed(from, to, 1.0, colour::MUTED_TEXT);
        let (from, to) = ends(generalized);
        page.drawing.line(from, to, 1.0, colour::MUTED_TEXT);
    }
    let points: Vec<[f64; 2]> = epochs
        .iter()
        .filter(|e| e.validation_nll.is_finite())
        .map(|e| [chart.x.position(e.epoch as f64), chart.y.position(e.validation_nll)])
        .collect();
    page.drawing.path(points.clone(), 1.5, colour::EPISTEMIC);
    for point in points {
        page.drawing.disc(point, 2.5, colour::EPISTEMIC, 1.0);
    }
    let mut lines = vec![
        "An adapter is worth something where its held-out likelihood is below that of constant \
         densities."
            .to_owned(),
    ];
    if losses.len() > COLUMNS {
        lines.push(format!(
            "Of every {step} batches the lowest and the highest loss are drawn; the exported data \
             holds the epochs and all batches."
        ));
    }
    lines.push(format!("Haze {}", env!("CARGO_PKG_VERSION")));
    page.finish(&lines)
}

/// One row per batch and one per epoch, told apart by `kind`.
pub fn table(training: Training<'_>) -> Table {
    let Training { epochs, losses, .. } = training;
    let batches = losses.len();
    let column = |of_batch: &dyn Fn(&[f64; 2]) -> f64, of_epoch: &dyn Fn(&EpochRecord) -> f64| {
        let values = losses.iter().map(of_batch).chain(epochs.iter().map(of_epoch));
        values.collect::<Vec<f64>>()
    };
    let unknown = |_: &[f64; 2]| f64::NAN;
    Table::default()
        .text(
            "kind",
            (0..batches + epochs.len()).map(|i| if i < batches { "batch" } else { "epoch" }),
        )
        .numbers("epoch", column(&|l| l[0], &|e| e.epoch as f64))
        .numbers("training_loss", column(&|l| l[1], &|e| e.training_loss))
        .numbers("validation_nll", column(&unknown, &|e| e.validation_nll))
        .numbers("validation_l1", column(&unknown, &|e| e.validation_l1))
        .numbers("learning_rate", column(&unknown, &|e| e.learning_rate))
        .numbers("best", column(&unknown, &|e| f64::from(u8::from(e.best))))
}
