//! The sheet of keys: every command that has one, by its menu, and what the mouse does.

use egui::{Context, Frame, Margin, RichText, Stroke, Ui};

use super::chrome::MENUS;
use super::panes::Cx;
use super::theme;

/// Keys of the text box of the query, which are no commands.
const TEXT_BOX: [(&str, &str); 3] = [
    ("Enter", "Run the query"),
    ("Shift+Enter", "New line"),
    ("Alt+\u{2191} \u{2193}", "Earlier and later texts"),
];

/// What the mouse does.
const MOUSE: [(&str, &str); 8] = [
    ("Click", "Select a tile, item, dimension or point"),
    ("Shift, Ctrl + click", "Extend the selection, or toggle one"),
    ("Double-click", "Large view of a tile; an item becomes the query"),
    ("Drag over dimensions", "Select them (Shift adds, Alt removes)"),
    ("Ctrl + wheel", "Size of the tiles; zoom of plots"),
    ("Right click", "What else can be done with a picture"),
    ("Drop", "An image becomes the query, a sheet brings its recipe"),
    ("Drag a tab", "Move a pane"),
];

/// Closed at first.
#[derive(Default)]
pub struct KeySheet {
    open: bool,
}

/// A heading with its keys and what they do.
struct Group {
    name: &'static str,
    rows: Vec<(String, &'static str)>,
}

impl KeySheet {
    pub fn open(&mut self) {
        self.open = true;
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn ui(&mut self, context: &Context, cx: &mut Cx<'_>) {
        if !self.open {
            return;
        }
        let modal = egui::Modal::new(egui::Id::unique("keys")).show(context, |ui| {
            let screen = context.content_rect().size();
            ui.set_width((screen.x - 64.0).min(960.0));
            ui.heading("Keyboard and mouse");
            ui.add_space(8.0);
            let height = (screen.y - 140.0).clamp(80.0, 640.0);
            let scroll = egui::ScrollArea::vertical().max_height(height);
            scroll.auto_shrink([false, true]).show(ui, |ui| {
                let groups = groups(context);
                let columns = ((ui.available_width() / 290.0) as usize).clamp(1, 3);
                let sizes: Vec<usize> = groups.iter().map(|group| group.rows.len() + 2).collect();
                let column_of = spread(&sizes, columns);
                ui.columns(columns, |parts| {
                    for (group, &column) in groups.iter().zip(&column_of) {
                        show(&mut parts[column], cx, group);
                    }
                });
            });
            ui.add_space(8.0);
            ui.button("Close").clicked()
        });
        if modal.inner || modal.should_close() {
            self.open = false;
        }
    }
}

fn groups(context: &Context) -> Vec<Group> {
    let menus = MENUS.iter().map(|&(name, commands)| Group {
        name,
        rows: commands
            .iter()
            .flatten()
            .filter_map(|command| {
                let text = command.text();
                Some((crate::app::command::key_text(context, &text.key?), text.name))
            })
            .collect(),
    });
    let fixed = |name, rows: &[(&str, &'static str)]| Group {
        name,
        rows: rows.iter().map(|&(keys, what)| (keys.to_owned(), what)).collect(),
    };
    let mut all: Vec<Group> = menus.collect();
    all.push(fixed("In the text box", &TEXT_BOX));
    all.push(fixed("Mouse", &MOUSE));
    all
}

fn show(ui: &mut Ui, cx: &Cx<'_>, group: &Group) {
    ui.label(RichText::new(group.name).font(theme::strong(13.0)).color(cx.theme.strong));
    egui::Grid::new(group.name).num_columns(2).spacing([10.0, 5.0]).show(ui, |ui| {
        for (keys, what) in &group.rows {
            Frame::NONE
                .fill(cx.theme.window)
                .stroke(Stroke::new(1.0, cx.theme.hairline))
                .corner_radius(3)
                .inner_margin(Margin::symmetric(5, 1))
                .show(ui, |ui| {
                    let keys = RichText::new(keys).size(12.0).color(cx.theme.accent);
                    ui.add(egui::Label::new(keys).extend());
                });
            ui.add(egui::Label::new(*what).wrap());
            ui.end_row();
        }
    });
    ui.add_space(12.0);
}

/// The column of every group: in turn the one that is shortest so far.
fn spread(sizes: &[usize], columns: usize) -> Vec<usize> {
    let mut filled = vec![0; columns];
    sizes
        .iter()
        .map(|size| {
            let shortest = (0..columns).min_by_key(|&column| filled[column]).unwrap_or(0);
            filled[shortest] += size;
            shortest
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::command::UiCommand;

    #[test]
    fn every_command_with_a_key_is_on_the_sheet() {
        let rows: usize = groups(&Context::default()).iter().map(|group| group.rows.len()).sum();
        let keyed = UiCommand::ALL.into_iter().filter(|command| command.text().key.is_some());
        assert_eq!(rows, keyed.count() + TEXT_BOX.len() + MOUSE.len());
    }

    #[test]
    fn groups_go_where_there_is_most_room() {
        assert_eq!(spread(&[5, 3, 4, 2], 2), [0, 1, 1, 0]);
        assert_eq!(spread(&[5, 3], 1), [0, 0]);
    }
}
