//! The Samples pane.

use super::Cx;

/// View state of the Samples pane.
#[derive(Default)]
pub struct SamplesPane {}

impl SamplesPane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Samples");
    }
}
