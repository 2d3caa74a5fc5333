//! The Compare pane.

use super::Cx;

/// View state of the Compare pane.
#[derive(Default)]
pub struct ComparePane {}

impl ComparePane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Compare");
    }
}
