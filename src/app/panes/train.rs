//! The Train pane.

use super::Cx;

/// View state of the Train pane.
#[derive(Default)]
pub struct TrainPane {}

impl TrainPane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Train");
    }
}
