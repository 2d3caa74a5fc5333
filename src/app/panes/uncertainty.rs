//! The Uncertainty pane.

use super::Cx;

/// View state of the Uncertainty pane.
#[derive(Default)]
pub struct UncertaintyPane {}

impl UncertaintyPane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Uncertainty");
    }
}
