//! The card of one dimension.

use egui::containers::PopupAnchor;
use egui::{RichText, Tooltip, Ui};

use super::Plot;
use crate::app::panes::{Cx, axes};
use crate::app::state::selection::Item;
use crate::app::theme;

/// Tooltip of the shape parameter.
const SHAPE: &str = "Tail weight of this dimension: 2 is Gaussian, 1 Laplace; smaller means more \
                     far-off values.";

/// Shows it beside `anchor`.
pub fn show(ui: &Ui, cx: &Cx<'_>, plot: &Plot<'_>, dimension: usize, anchor: PopupAnchor) {
    let prepared = plot.prepared;
    let distribution = &prepared.result.distribution;
    let Some(density) = distribution.dimensions().get(dimension) else { return };
    let id = ui.scope_id().with("dimension card");
    let theme = cx.theme;
    Tooltip::always_open(ui.ctx().clone(), ui.layer_id(), id, anchor)
        .gap(14.0)
        .width(260.0)
        .accessible_name(format!("Dimension {dimension}"))
        .show(|ui| {
            ui.label(RichText::new(format!("Dimension {dimension}")).font(theme::strong(13.0)));
            let row = |ui: &mut Ui, colour, name: &str, value: f64, note: &str| {
                ui.label(RichText::new(name).color(colour));
                ui.label(RichText::new(axes::number(value)).monospace());
                ui.label(RichText::new(note).small().color(theme.muted));
                ui.end_row();
            };
            let sigma = |variance: f64| variance.max(0.0).sqrt();
            let units = "embedding units";
            egui::Grid::new("dimension card values").num_columns(3).spacing([10.0, 2.0]).show(
                ui,
                |ui| {
                    row(ui, theme.text, "mean μ", density.mu(), units);
                    let aleatoric = sigma(distribution.aleatoric()[dimension]);
                    row(ui, theme.aleatoric, "aleatoric σ", aleatoric, units);
                    let epistemic = sigma(distribution.epistemic()[dimension]);
                    row(ui, theme.epistemic, "epistemic σ", epistemic, units);
                    row(ui, theme.total, "total σ", sigma(prepared.total[dimension]), units);
                    row(ui, theme.text, "shape β", density.beta(), "");
                    if let Some(query) = &prepared.query {
                        row(ui, theme.query, "query", f64::from(query[dimension]), units);
                    }
                    if let Some(Item::Sample(index)) = cx.state.selection.hovered
                        && let Some(sample) = prepared.result.samples.get(index)
                    {
                        let name = format!("sample #{index}");
                        row(ui, theme.samples, &name, f64::from(sample.values[dimension]), units);
                    }
                    for index in cx.state.selection.samples().take(3) {
                        if let Some(sample) = prepared.result.samples.get(index) {
                            let name = format!("sample #{index}");
                            let value = f64::from(sample.values[dimension]);
                            row(ui, theme.samples, &name, value, units);
                        }
                    }
                    if let Some(other) = &prepared.other {
                        let b = &other.result.distribution;
                        row(ui, theme.text, "B mean μ", b.dimensions()[dimension].mu(), units);
                        row(ui, theme.total, "B total σ", sigma(other.total[dimension]), units);
                    }
                },
            );
            ui.label(RichText::new(SHAPE).small().color(theme.muted));
        });
}
