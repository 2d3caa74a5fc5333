//! The Retrieval pane.

use super::Cx;

/// View state of the Retrieval pane.
#[derive(Default)]
pub struct RetrievalPane {}

impl RetrievalPane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Retrieval");
    }
}
