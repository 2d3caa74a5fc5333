//! The Query pane.

use super::Cx;

/// View state of the Query pane.
#[derive(Default)]
pub struct QueryPane {}

impl QueryPane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Query");
    }
}
