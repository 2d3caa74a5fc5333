//! The command palette: every command by its name.
//!
//! In come typed letters, out goes the chosen command. What a command does is not known here.

use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{
    Align2, Color32, Context, FontId, Key, Modal, Modifiers, Rect, RichText, Sense, Ui, WidgetInfo,
    pos2, vec2,
};
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use super::availability::{UndoState, availability};
use super::command::UiCommand;
use super::panes::Cx;
use super::theme;

const ROW: f32 = 28.0;
/// Rows that Page Up and Page Down go by.
const PAGE: isize = 8;
/// An explanation is shown beside a name where it has this width at least.
const EXPLANATION: f32 = 90.0;

/// The palette; closed at first.
#[derive(Default)]
pub struct Palette {
    open: bool,
    text: String,
    found: Vec<Found>,
    /// Index among the found.
    chosen: usize,
    /// The text box is to be focused.
    focus: bool,
    /// The chosen row is to be brought in sight.
    reveal: bool,
}

/// A command that fits what was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    command: UiCommand,
    /// Which characters of its name were typed, ascending.
    letters: Vec<u32>,
}

impl Palette {
    pub fn open(&mut self) {
        *self = Self { open: true, focus: true, found: matching(""), ..Self::default() };
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Shows the palette, if it is open; the command that was chosen.
    pub fn ui(&mut self, context: &Context, cx: &mut Cx<'_>, undo: UndoState) -> Option<UiCommand> {
        if !self.open {
            return None;
        }
        let mut chosen = None;
        let usable = |command, cx: &Cx<'_>| availability(command, cx.state, undo);
        // Taken before the text box sees them.
        let pressed = |key| context.input_mut(|input| input.consume_key(Modifiers::NONE, key));
        for (key, step) in
            [(Key::ArrowDown, 1), (Key::ArrowUp, -1), (Key::PageDown, PAGE), (Key::PageUp, -PAGE)]
        {
            if pressed(key) {
                self.step(step);
            }
        }
        if pressed(Key::Enter)
            && let Some(found) = self.found.get(self.chosen)
            && usable(found.command, cx).is_ok()
        {
            chosen = Some(found.command);
        }
        let screen = context.content_rect().size();
        let id = egui::Id::unique("palette");
        let area = Modal::default_area(id).anchor(Align2::CENTER_TOP, vec2(0.0, 40.0));
        let modal = Modal::new(id).area(area).show(context, |ui| {
            ui.set_width((screen.x - 48.0).min(560.0));
            let edit = egui::TextEdit::singleline(&mut self.text)
                .hint_text("Type a part of a command's name")
                .desired_width(f32::INFINITY);
            let response = ui.add(edit);
            response
                .widget_info(|| WidgetInfo::labeled(egui::Role::TextInput, true, "Command name"));
            if std::mem::take(&mut self.focus) {
                response.request_focus();
            }
            if response.changed() {
                self.found = matching(&self.text);
                self.chosen = 0;
                self.reveal = true;
            }
            ui.add_space(6.0);
            let height = (screen.y - 140.0).clamp(2.0 * ROW, 15.0 * ROW);
            let scroll = egui::ScrollArea::vertical().max_height(height).auto_shrink([false, true]);
            scroll.show(ui, |ui| {
                ui.spacing_mut().item_spacing.y = 0.0;
                if self.found.is_empty() {
                    let text = "No command has a name like this; type less of it.";
                    ui.label(RichText::new(text).color(cx.theme.muted));
                }
                for (i, found) in self.found.iter().enumerate() {
                    let usable = usable(found.command, cx);
                    let response = row(ui, cx, found, i == self.chosen, usable);
                    if i == self.chosen && self.reveal {
                        response.scroll_to_me(None);
                    }
                    if response.clicked() && usable.is_ok() {
                        chosen = Some(found.command);
                    }
                }
                self.reveal = false;
            });
            ui.add_space(4.0);
            let text = "\u{2191}\u{2193} choose · Enter run · Esc close";
            ui.label(RichText::new(text).small().color(cx.theme.muted));
        });
        if modal.should_close() || chosen.is_some() {
            self.open = false;
        }
        chosen
    }

    fn step(&mut self, by: isize) {
        let last = self.found.len().saturating_sub(1);
        self.chosen = self.chosen.saturating_add_signed(by).min(last);
        self.reveal = true;
    }
}

/// One command: icon, name, explanation, and at the right its key or why it cannot be used.
fn row(
    ui: &mut Ui,
    cx: &Cx<'_>,
    found: &Found,
    chosen: bool,
    usable: Result<(), &'static str>,
) -> egui::Response {
    let text = found.command.text();
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::click());
    response.widget_info(|| {
        WidgetInfo::selected(egui::Role::Button, usable.is_ok(), chosen, text.name)
    });
    if ui.is_rect_visible(rect) {
        let theme = cx.theme;
        let painter = ui.painter();
        if chosen {
            painter.rect_filled(rect, 4.0, theme.selection);
        } else if response.hovered() {
            painter.rect_filled(rect, 4.0, theme.hover);
        }
        let strong = if usable.is_ok() { theme.strong } else { theme.muted };
        let middle = rect.center().y;
        let at = |x: f32| pos2(x, middle);
        let body = FontId::proportional(13.0);
        painter.text(at(rect.left() + 8.0), Align2::LEFT_CENTER, text.icon, body, strong);
        let right = match usable {
            Err(reason) => Some(reason.to_owned()),
            Ok(()) => text.key.map(|key| crate::app::command::key_text(ui.ctx(), &key)),
        };
        let mut free =
            Rect::from_x_y_ranges((rect.left() + 32.0)..=(rect.right() - 8.0), rect.y_range());
        if let Some(right) = right {
            // A reason may be long: the name keeps half of the row.
            let galley = line(painter, &right, 12.0, theme.muted, free.width() / 2.0);
            let left = free.right() - galley.size().x;
            painter.galley(at(left) - vec2(0.0, galley.size().y / 2.0), galley, theme.muted);
            free.set_right(left - 12.0);
        }
        let mut job = name_job(text.name, &found.letters, strong, theme.accent);
        job.wrap = TextWrapping::truncate_at_width(free.width());
        let galley = painter.layout_job(job);
        let end = free.left() + galley.size().x + 12.0;
        painter.galley(at(free.left()) - vec2(0.0, galley.size().y / 2.0), galley, strong);
        let room = free.right() - end;
        if room >= EXPLANATION {
            let galley = line(painter, text.tooltip, 12.0, theme.muted, room);
            painter.galley(at(end) - vec2(0.0, galley.size().y / 2.0), galley, theme.muted);
        }
    }
    match usable {
        Ok(()) => response.on_hover_text(text.tooltip),
        Err(reason) => response.on_hover_text(format!("{}\n{reason}", text.tooltip)),
    }
}

/// One line that ends in an ellipsis where it is too long.
fn line(
    painter: &egui::Painter,
    text: &str,
    size: f32,
    colour: Color32,
    width: f32,
) -> std::sync::Arc<egui::Galley> {
    let font = FontId::proportional(size);
    let mut job = LayoutJob::simple_singleline(text.to_owned(), font, colour);
    job.wrap = TextWrapping::truncate_at_width(width);
    painter.layout_job(job)
}

/// A name with the typed letters set off.
fn name_job(name: &str, letters: &[u32], colour: Color32, accent: Color32) -> LayoutJob {
    let mut job = LayoutJob::default();
    for (i, letter) in name.chars().enumerate() {
        let typed = letters.binary_search(&(i as u32)).is_ok();
        let (font, colour) = match typed {
            true => (theme::strong(13.0), accent),
            false => (FontId::proportional(13.0), colour),
        };
        let mut buffer = [0; 4];
        let text: &str = letter.encode_utf8(&mut buffer);
        job.append(text, 0.0, TextFormat::simple(font, colour));
    }
    job
}

/// Commands whose name or explanation matches, best first; all, in their order, for no text.
fn matching(text: &str) -> Vec<Found> {
    let plain = |command| Found { command, letters: Vec::new() };
    if text.trim().is_empty() {
        return UiCommand::ALL.into_iter().map(plain).collect();
    }
    let mut matcher = Matcher::new(Config::DEFAULT);
    let pattern = Pattern::parse(text, CaseMatching::Ignore, Normalization::Smart);
    let mut buffer = Vec::new();
    let mut find = |command: UiCommand| {
        let text = command.text();
        let mut letters = Vec::new();
        let name = Utf32Str::new(text.name, &mut buffer);
        if let Some(score) = pattern.indices(name, &mut matcher, &mut letters) {
            letters.sort_unstable();
            letters.dedup();
            // A name counts more than its explanation.
            return Some((score * 2, Found { command, letters }));
        }
        let score = pattern.score(Utf32Str::new(text.tooltip, &mut buffer), &mut matcher)?;
        Some((score, plain(command)))
    };
    let mut found: Vec<(u32, Found)> = UiCommand::ALL.into_iter().filter_map(&mut find).collect();
    found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    found.into_iter().map(|(_, found)| found).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commands(text: &str) -> Vec<UiCommand> {
        matching(text).into_iter().map(|found| found.command).collect()
    }

    #[test]
    fn a_part_of_a_name_finds_its_command_first() {
        assert_eq!(commands("export sh").first(), Some(&UiCommand::ExportSheet));
        assert_eq!(commands("light").first(), Some(&UiCommand::ToggleTheme));
        assert!(commands("zzzz").is_empty());
    }

    #[test]
    fn without_text_all_commands_stand_in_their_order() {
        assert_eq!(commands(" "), UiCommand::ALL);
    }

    #[test]
    fn the_typed_letters_of_a_name_are_known() {
        let found = matching("undo");
        assert_eq!(found[0], Found { command: UiCommand::Undo, letters: vec![0, 1, 2, 3] });
        let job = name_job("Undo", &[0, 1], Color32::WHITE, Color32::RED);
        assert_eq!(job.text, "Undo");
    }

    #[test]
    fn steps_stay_among_the_found_commands() {
        let mut palette = Palette::default();
        palette.open();
        palette.step(-1);
        assert_eq!(palette.chosen, 0);
        palette.step(1000);
        assert_eq!(palette.chosen, UiCommand::ALL.len() - 1);
        palette.found.clear();
        palette.step(1);
        assert_eq!(palette.chosen, 0);
    }
}
