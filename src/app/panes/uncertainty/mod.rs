//! The Uncertainty pane: key figures, the density of every dimension, the variance by dimension.

mod heat_map;
mod prepared;
mod summary;
mod variance;

use egui::{RichText, Ui};

use super::Cx;
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::layout::PaneKind;
use crate::app::state::jobs::JobKind;
use crate::app::state::selection::{Item, SelectMode};
use crate::app::widgets;
use prepared::{Prepared, Sort};

/// Dimensions that a button selects.
const MOST: usize = 8;

/// View state of the Uncertainty pane.
#[derive(Default)]
pub struct UncertaintyPane {
    sort: Sort,
    common_scale: bool,
    /// Whether the lower plot shows standard deviations instead of variances.
    deviations: bool,
    prepared: Option<Prepared>,
    heat_map: heat_map::HeatMap,
}

impl UncertaintyPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let Some(result) = state.entry().and_then(|entry| entry.result.as_ref()) else {
            match state.jobs.latest(JobKind::Analyse).or(state.jobs.latest(JobKind::Warm)) {
                Some(job) => widgets::centred(ui, |ui| widgets::busy(ui, cx, job)),
                None => widgets::empty(
                    ui,
                    cx,
                    icons::WAVE_SINE,
                    "Run a query to see what its embedding leaves open.",
                    Some(UiCommand::FocusQuery),
                ),
            }
            return;
        };
        let stale = self.prepared.as_ref().is_none_or(|prepared| !prepared.fits(result, self.sort));
        if stale {
            self.prepared = Some(Prepared::new(result, self.sort));
            self.heat_map.show_all();
        }
        let Some(prepared) = &self.prepared else { return };
        let height = ui.available_height();
        egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            ui.set_max_width(ui.available_width() - 8.0);
            summary::ui(ui, cx, result);
            ui.add_space(4.0);
            toolbar(ui, cx, prepared, &mut self.sort, &mut self.common_scale, &mut self.deviations);
            let used = ui.min_rect().height();
            let left = (height - used - 16.0).max(250.0);
            let heat_height = (left * 0.6).max(140.0);
            self.heat_map.ui(ui, cx, result, prepared, self.common_scale, heat_height);
            ui.add_space(4.0);
            let height = (left - heat_height - 8.0).max(90.0);
            let range = self.heat_map.dimensions();
            variance::ui(ui, cx, prepared, self.deviations, range, height);
        });
    }
}

fn toolbar(
    ui: &mut Ui,
    cx: &mut Cx<'_>,
    prepared: &Prepared,
    sort: &mut Sort,
    common_scale: &mut bool,
    deviations: &mut bool,
) {
    ui.horizontal_wrapped(|ui| {
        egui::ComboBox::from_id_salt("sort dimensions")
            .selected_text(format!("{} {}", icons::SORT_ASCENDING, sort.name()))
            .width(120.0)
            .show_ui(ui, |ui| {
                for choice in Sort::ALL {
                    ui.selectable_value(sort, choice, choice.name());
                }
            })
            .response
            .on_hover_text("Order of the dimensions");
        let tip = "One colour scale for all dimensions; off: each by its own peak";
        ui.toggle_value(common_scale, "Common scale").on_hover_text(tip);
        let tip = "Standard deviations (\u{3c3}) instead of variances. Variances add, their roots do not.";
        ui.toggle_value(deviations, "\u{3c3}").on_hover_text(tip);
        let text = format!("Select the {MOST} most uncertain");
        if ui.button(text).clicked() {
            let items = prepared.most_uncertain(MOST).into_iter().map(Item::Dimension).collect();
            let mode = SelectMode::Replace;
            cx.send(Action::Select { items, mode, from: PaneKind::Uncertainty });
        }
        let chosen: Vec<usize> = cx.state.selection.dimensions().collect();
        let walk = UiCommand::Traverse.text();
        let button = egui::Button::new(format!("{} Walk {}", walk.icon, counted(chosen.len())));
        let response = ui
            .add_enabled(!chosen.is_empty(), button)
            .on_hover_text(walk.tooltip)
            .on_disabled_hover_text("Select dimensions first: drag over the plot");
        if response.clicked() {
            cx.send(Action::Command(UiCommand::Traverse));
        }
        if !chosen.is_empty() {
            let mut text = chosen.iter().take(6).map(usize::to_string).collect::<Vec<_>>().join(", ");
            if chosen.len() > 6 {
                text += ", \u{2026}";
            }
            ui.label(RichText::new(text).small().color(cx.theme.accent));
        }
    });
}

fn counted(dimensions: usize) -> String {
    match dimensions {
        0 => "dimensions".to_owned(),
        1 => "1 dimension".to_owned(),
        n => format!("{n} dimensions"),
    }
}
