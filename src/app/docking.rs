//! How the tree of panes looks and behaves.

use egui::{RichText, Ui, WidgetText};
use egui_tiles::{Behavior, SimplificationOptions, TabState, TileId, Tiles, UiResponse};

use super::action::Action;
use super::export::{ExportFormat, ExportRequest};
use super::icons;
use super::layout::PaneKind;
use super::panes::{Cx, Panes};

/// Formats of a pane's figure and of the data behind it.
const FORMATS: [(&str, ExportFormat); 5] = [
    ("Figure as PNG\u{2026}", ExportFormat::Png),
    ("Figure as SVG\u{2026}", ExportFormat::Svg),
    ("Data as CSV\u{2026}", ExportFormat::Csv),
    ("Data as Parquet\u{2026}", ExportFormat::Parquet),
    ("Data as NPZ\u{2026}", ExportFormat::Npz),
];

/// What a pane shows, as a figure or as the data behind it.
fn export_menu(ui: &mut Ui, cx: &mut Cx<'_>, pane: PaneKind) {
    let menu = ui.menu_button(icons::EXPORT, |ui| {
        for (text, format) in FORMATS {
            if ui.button(text).clicked() {
                cx.send(Action::Export(ExportRequest::Pane { pane, format }));
                ui.close();
            }
        }
    });
    menu.response.on_hover_text(format!("Export {}", pane.title()));
}

/// Shows panes inside the tree.
pub struct Docking<'a, 'b> {
    pub panes: &'a mut Panes,
    pub cx: &'a mut Cx<'b>,
    /// Set when the user moved, resized or closed something.
    pub changed: bool,
}

impl Behavior<PaneKind> for Docking<'_, '_> {
    fn pane_ui(&mut self, ui: &mut Ui, _tile: TileId, pane: &mut PaneKind) -> UiResponse {
        let margin = egui::Margin::symmetric(10, 8);
        egui::Frame::NONE.fill(self.cx.theme.panel).inner_margin(margin).show(ui, |ui| {
            // A pane fills its place, whatever it shows.
            ui.set_min_size(ui.available_size());
            let (panes, cx) = (&mut *self.panes, &mut *self.cx);
            match pane {
                PaneKind::Query => panes.query.ui(ui, cx),
                PaneKind::Samples => panes.samples.ui(ui, cx),
                PaneKind::Retrieval => panes.retrieval.ui(ui, cx),
                PaneKind::Uncertainty => panes.uncertainty.ui(ui, cx),
                PaneKind::Map => panes.map.ui(ui, cx),
                PaneKind::Studies => panes.studies.ui(ui, cx),
                PaneKind::Compare => panes.compare.ui(ui, cx),
                PaneKind::Train => panes.train.ui(ui, cx),
                PaneKind::Evaluate => panes.evaluate.ui(ui, cx),
            }
        });
        UiResponse::None
    }

    fn tab_title_for_pane(&mut self, pane: &PaneKind) -> WidgetText {
        RichText::new(pane.title()).size(13.0).into()
    }

    fn is_tab_closable(&self, _tiles: &Tiles<PaneKind>, _tile: TileId) -> bool {
        false
    }

    fn tab_bar_height(&self, _style: &egui::Style) -> f32 {
        26.0
    }

    fn gap_width(&self, _style: &egui::Style) -> f32 {
        4.0
    }

    fn min_size(&self) -> f32 {
        160.0
    }

    fn tab_bar_color(&self, _visuals: &egui::Visuals) -> egui::Color32 {
        self.cx.theme.window
    }

    fn tab_bg_color(
        &self,
        _visuals: &egui::Visuals,
        _tiles: &Tiles<PaneKind>,
        _tile: TileId,
        state: &TabState,
    ) -> egui::Color32 {
        if state.active { self.cx.theme.panel } else { self.cx.theme.window }
    }

    fn tab_text_color(
        &self,
        _visuals: &egui::Visuals,
        _tiles: &Tiles<PaneKind>,
        _tile: TileId,
        state: &TabState,
    ) -> egui::Color32 {
        if state.active { self.cx.theme.strong } else { self.cx.theme.muted }
    }

    fn top_bar_right_ui(
        &mut self,
        tiles: &Tiles<PaneKind>,
        ui: &mut Ui,
        _tile: TileId,
        tabs: &egui_tiles::Tabs,
        _scroll: &mut f32,
    ) {
        let active = tabs.active.and_then(|tile| tiles.get(tile));
        let Some(egui_tiles::Tile::Pane(pane)) = active else { return };
        if *pane != PaneKind::Query {
            export_menu(ui, self.cx, *pane);
        }
    }

    fn simplification_options(&self) -> SimplificationOptions {
        SimplificationOptions { all_panes_must_have_tabs: true, ..Default::default() }
    }

    fn on_edit(&mut self, _edit: egui_tiles::EditAction) {
        self.changed = true;
    }
}
