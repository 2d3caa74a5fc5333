//! The Map pane.

use super::Cx;

/// View state of the Map pane.
#[derive(Default)]
pub struct MapPane {}

impl MapPane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Map");
    }
}
