//! How a training run goes, drawn: the loss of every batch, held-out likelihood, coverage.

use egui::{RichText, Stroke, Ui, WidgetInfo};
use egui_plot::{
    HLine, HoverPosition, Legend, Line, LineStyle, MarkerShape, Plot, PlotPoint, PlotPoints, Points,
};

use super::heading;
use crate::adapter::training::calibration::COVERAGES;
use crate::adapter::training::{Baselines, EpochRecord};
use crate::app::chart::{AxisSpec, Chart};
use crate::app::panes::Cx;

/// Points drawn of the loss at most.
const DRAWN: usize = 2000;

/// The loss as it is drawn.
#[derive(Default)]
pub(super) struct LossLine {
    /// Length and last point of the series behind `points`.
    of: (usize, Option<[f64; 2]>),
    pub(super) points: Vec<PlotPoint>,
}

impl LossLine {
    pub(super) fn update(&mut self, losses: &[[f64; 2]]) {
        let of = (losses.len(), losses.last().copied());
        if self.of != of {
            self.of = of;
            self.points = thinned(losses, DRAWN);
        }
    }
}

/// At most `limit` points that keep every stretch's lowest and highest value.
fn thinned(points: &[[f64; 2]], limit: usize) -> Vec<PlotPoint> {
    let point = |&[x, y]: &[f64; 2]| PlotPoint::new(x, y);
    if points.len() <= limit {
        return points.iter().map(point).collect();
    }
    let stretch = points.len().div_ceil((limit / 2).max(1));
    let mut kept = Vec::with_capacity(limit);
    for part in points.chunks(stretch) {
        let by_value = |a: &&[f64; 2], b: &&[f64; 2]| a[1].total_cmp(&b[1]);
        let (low, high) = (part.iter().min_by(by_value), part.iter().max_by(by_value));
        let mut pair: Vec<&[f64; 2]> = low.into_iter().chain(high).collect();
        pair.sort_by(|a, b| a[0].total_cmp(&b[0]));
        pair.dedup();
        kept.extend(pair.into_iter().map(point));
    }
    kept
}

fn plot<'a>(name: &str, x: &'static str, y: &'static str) -> Plot<'a> {
    Plot::new(name.to_owned())
        .height(170.0)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .show_background(false)
        .x_axis_label(RichText::new(x).size(11.0))
        .y_axis_label(RichText::new(y).size(11.0))
        .y_axis_min_width(56.0)
}

pub(super) fn loss_plot(ui: &mut Ui, cx: &Cx<'_>, points: &[PlotPoint]) {
    let colour = cx.theme.accent;
    let response = plot("training loss", "epoch", "loss")
        .label_formatter(|hover| match hover {
            HoverPosition::NearDataPoint { position, .. } => {
                Some(format!("epoch {:.2}\nloss {:.4}", position.x, position.y))
            }
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            plot.line(Line::new("loss", PlotPoints::Borrowed(points)).color(colour).width(1.5));
        });
    response.response.widget_info(|| {
        WidgetInfo::labeled(egui::Role::Figure, true, "Training loss of every batch")
    });
}

pub(super) fn held_out_plot(
    ui: &mut Ui,
    cx: &Cx<'_>,
    epochs: &[EpochRecord],
    baselines: &Baselines,
) {
    let theme = cx.theme;
    let at = |epoch: &EpochRecord| [epoch.epoch as f64, epoch.validation_nll];
    let all: Vec<[f64; 2]> = epochs.iter().map(at).collect();
    let best: Vec<[f64; 2]> = epochs.iter().rfind(|epoch| epoch.best).map(at).into_iter().collect();
    let response = plot("held-out likelihood", "epoch", "nats per dimension")
        .legend(Legend::default().background_alpha(0.8))
        .label_formatter(|hover| match hover {
            HoverPosition::NearDataPoint { plot_name, position, .. } => Some(format!(
                "{plot_name}\nepoch {:.0}: {:.4} nats per dimension",
                position.x, position.y
            )),
            HoverPosition::Elsewhere { .. } => None,
        })
        .show(ui, |plot| {
            plot.line(Line::new("this adapter", all.clone()).color(theme.accent).width(1.5));
            plot.points(Points::new("this adapter", all).color(theme.accent).radius(3.0));
            plot.points(
                Points::new("best so far", best)
                    .color(theme.query)
                    .shape(MarkerShape::Diamond)
                    .radius(5.0),
            );
            for (name, value, style) in [
                ("one Gaussian for all", baselines.gaussian_nll, LineStyle::dashed_loose()),
                (
                    "one generalised Gaussian for all",
                    baselines.generalized_gaussian_nll,
                    LineStyle::dotted_dense(),
                ),
            ] {
                plot.hline(HLine::new(name, value).color(theme.muted).width(1.5).style(style));
            }
        });
    response.response.widget_info(|| {
        WidgetInfo::labeled(
            egui::Role::Figure,
            true,
            "Held-out negative log-likelihood of every epoch, with baselines",
        )
    });
}

/// How often held-out targets are in the central 50, 80 and 95 % of their densities, by epoch.
pub(super) fn coverage_plot(ui: &mut Ui, cx: &Cx<'_>, epochs: &[EpochRecord]) {
    let known: Vec<(f64, [f64; 3])> =
        epochs.iter().filter_map(|e| Some((e.epoch as f64, e.coverage?))).collect();
    let (Some((first, _)), Some((last, newest))) = (known.first(), known.last()) else { return };
    ui.add_space(8.0);
    heading(ui, cx, "Held-out targets inside the central intervals");
    let x = AxisSpec::between("epoch", *first, last.max(first + 1.0)).whole();
    let y = AxisSpec::between("share of targets, per dimension", 0.0, 1.0);
    let chart = Chart::new(ui, cx.theme, "Coverage of central intervals by epoch", 160.0, &x, &y);
    for (i, nominal) in COVERAGES.into_iter().enumerate() {
        let ideal = [chart.at(*first, nominal), chart.at(last.max(first + 1.0), nominal)];
        chart.painter.line_segment(ideal, Stroke::new(1.0, cx.theme.muted));
        let points: Vec<_> = known.iter().map(|(x, c)| chart.at(*x, c[i])).collect();
        for point in &points {
            chart.painter.circle_filled(*point, 2.5, cx.theme.aleatoric);
        }
        chart.painter.line(points, Stroke::new(1.5, cx.theme.aleatoric));
    }
    let [half, most, nearly_all] = newest.map(|share| 100.0 * share);
    let text = format!(
        "Now {half:.0} % in the central 50 %, {most:.0} % in the central 80 %, {nearly_all:.0} % in \
         the central 95 %. Grey: what right densities give; below it they are too narrow."
    );
    ui.add(egui::Label::new(RichText::new(text).small().color(cx.theme.muted)).wrap());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_keeps_its_extremes_and_stays_short() {
        let mut series: Vec<[f64; 2]> = (0..50_000).map(|i| [f64::from(i), 1.0]).collect();
        series[12_345][1] = 9.0;
        series[40_001][1] = -9.0;
        let kept = thinned(&series, DRAWN);
        assert!(kept.len() <= DRAWN);
        assert!(kept.iter().any(|p| p.y == 9.0) && kept.iter().any(|p| p.y == -9.0));
        assert!(kept.windows(2).all(|pair| pair[0].x < pair[1].x));
        assert_eq!(thinned(&series[..10], DRAWN).len(), 10);
    }
}
