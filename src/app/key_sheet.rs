//! The sheet of keys.

use egui::{Context, RichText};

use super::command::UiCommand;
use super::panes::Cx;

/// What the mouse does.
const GESTURES: [(&str, &str); 7] = [
    ("Click", "Select a tile, item, dimension or point"),
    ("Shift, Ctrl + click", "Extend the selection, or toggle one"),
    ("Double-click", "Large view of a tile; an item becomes the query"),
    ("Drag over dimensions", "Select them (Shift adds, Alt removes)"),
    ("Ctrl + wheel", "Size of the tiles; zoom of plots"),
    ("Drop", "An image becomes the query, a sheet brings its recipe"),
    ("Drag a tab", "Move a pane"),
];

/// Closed at first.
#[derive(Default)]
pub struct KeySheet {
    open: bool,
}

impl KeySheet {
    pub fn open(&mut self) {
        self.open = true;
    }

    pub fn ui(&mut self, context: &Context, cx: &mut Cx<'_>) {
        if !self.open {
            return;
        }
        let modal = egui::Modal::new(egui::Id::unique("keys")).show(context, |ui| {
            let screen = context.content_rect().size();
            ui.set_width((screen.x - 64.0).min(760.0));
            ui.heading("Keyboard and mouse");
            ui.add_space(8.0);
            let height = (screen.y - 140.0).min(560.0);
            egui::ScrollArea::vertical().max_height(height).auto_shrink([false, true]).show(
                ui,
                |ui| {
                    let columns = if ui.available_width() > 560.0 { 2 } else { 1 };
                    let keyed: Vec<_> = UiCommand::ALL
                        .into_iter()
                        .filter_map(|command| Some((command.text(), command.text().key?)))
                        .collect();
                    let mut rows: Vec<(String, &str)> = keyed
                        .iter()
                        .map(|(text, key)| (context.format_shortcut(key), text.name))
                        .collect();
                    rows.extend(GESTURES.iter().map(|&(keys, what)| (keys.to_owned(), what)));
                    let each = rows.len().div_ceil(columns);
                    ui.columns(columns, |parts| {
                        for (ui, rows) in parts.iter_mut().zip(rows.chunks(each)) {
                            egui::Grid::new("keys").num_columns(2).spacing([12.0, 6.0]).show(
                                ui,
                                |ui| {
                                    for (keys, what) in rows {
                                        ui.label(RichText::new(keys).color(cx.theme.accent));
                                        ui.label(*what);
                                        ui.end_row();
                                    }
                                },
                            );
                        }
                    });
                },
            );
            ui.add_space(8.0);
            ui.button("Close").clicked()
        });
        if modal.inner || modal.should_close() {
            self.open = false;
        }
    }
}
