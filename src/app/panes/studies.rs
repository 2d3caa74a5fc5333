//! The Studies pane.

use super::Cx;

/// View state of the Studies pane.
#[derive(Default)]
pub struct StudiesPane {}

impl StudiesPane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let _ = cx;
        ui.label("Studies");
    }
}
