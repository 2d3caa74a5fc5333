//! A tile as large as the window.

use egui::Context;

use super::panes::Cx;

/// View state of the large view.
#[derive(Default)]
pub struct LargeView {}

impl LargeView {
    pub fn ui(&mut self, context: &Context, cx: &mut Cx<'_>) {
        let _ = (context, cx);
    }
}
