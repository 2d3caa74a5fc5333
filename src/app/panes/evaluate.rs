//! The Evaluate pane.

use super::Cx;

/// View state of the Evaluate pane.
#[derive(Default)]
pub struct EvaluatePane {}

impl EvaluatePane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Evaluate");
    }
}
