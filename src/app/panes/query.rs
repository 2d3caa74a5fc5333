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

/// Id of the text box, so that a command can put the cursor there.
pub fn text_id() -> egui::Id {
    egui::Id::unique("query text")
}
