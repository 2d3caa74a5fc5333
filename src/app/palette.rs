//! The command palette: every command by its name.

use egui::{Context, Key, Modifiers, RichText};
use nucleo_matcher::pattern::{CaseMatching, Normalization, Pattern};
use nucleo_matcher::{Config, Matcher, Utf32Str};

use super::availability::{UndoState, availability};
use super::command::UiCommand;
use super::panes::Cx;

/// The palette; closed at first.
#[derive(Default)]
pub struct Palette {
    open: bool,
    text: String,
    chosen: usize,
    focus: bool,
}

impl Palette {
    pub fn open(&mut self) {
        *self = Self { open: true, focus: true, ..Self::default() };
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
        let found = matching(&self.text);
        let pressed = |key| context.input_mut(|input| input.consume_key(Modifiers::NONE, key));
        // Taken before the text box sees them.
        if pressed(Key::ArrowDown) {
            self.chosen = (self.chosen + 1).min(found.len().saturating_sub(1));
        }
        if pressed(Key::ArrowUp) {
            self.chosen = self.chosen.saturating_sub(1);
        }
        if pressed(Key::Enter)
            && let Some(&command) = found.get(self.chosen)
            && availability(command, cx.state, undo).is_ok()
        {
            chosen = Some(command);
        }
        let modal = egui::Modal::new(egui::Id::unique("palette")).show(context, |ui| {
            ui.set_width(440.0_f32.min(context.content_rect().width() - 48.0));
            let edit = egui::TextEdit::singleline(&mut self.text)
                .hint_text("Type a part of a command's name")
                .desired_width(f32::INFINITY);
            let response = ui.add(edit);
            response.widget_info(|| {
                egui::WidgetInfo::labeled(egui::Role::TextInput, true, "Command name")
            });
            if std::mem::take(&mut self.focus) {
                response.request_focus();
            }
            if response.changed() {
                self.chosen = 0;
            }
            ui.add_space(4.0);
            let height = (context.content_rect().height() * 0.5).min(420.0);
            egui::ScrollArea::vertical().max_height(height).show(ui, |ui| {
                if found.is_empty() {
                    ui.label(
                        RichText::new("No command has a name like this").color(cx.theme.muted),
                    );
                }
                for (i, &command) in found.iter().enumerate() {
                    let text = command.text();
                    let usable = availability(command, cx.state, undo);
                    let mut button = egui::Button::selectable(
                        i == self.chosen,
                        format!("{}  {}", text.icon, text.name),
                    )
                    .min_size(egui::vec2(ui.available_width(), 26.0));
                    if let Some(key) = text.key {
                        button = button.shortcut_text(context.format_shortcut(&key));
                    }
                    let response =
                        ui.add_enabled(usable.is_ok(), button).on_hover_text(text.tooltip);
                    let response = match usable {
                        Err(reason) => response.on_disabled_hover_text(reason),
                        Ok(()) => response,
                    };
                    if i == self.chosen {
                        response.scroll_to_me(None);
                    }
                    if response.clicked() {
                        chosen = Some(command);
                    }
                }
            });
        });
        if modal.should_close() || chosen.is_some() {
            self.open = false;
        }
        chosen
    }
}

/// Commands whose name or explanation matches, best first; all, in their order, for no text.
fn matching(text: &str) -> Vec<UiCommand> {
    if text.trim().is_empty() {
        return UiCommand::ALL.to_vec();
    }
    let mut matcher = Matcher::new(Config::DEFAULT);
    let pattern = Pattern::parse(text, CaseMatching::Ignore, Normalization::Smart);
    let mut buffer = Vec::new();
    let mut score = |hay: &str| pattern.score(Utf32Str::new(hay, &mut buffer), &mut matcher);
    let mut found: Vec<(u32, UiCommand)> = UiCommand::ALL
        .into_iter()
        .filter_map(|command| {
            let text = command.text();
            // A name counts more than its explanation.
            let name = score(text.name).map(|score| score * 2);
            Some((name.or_else(|| score(text.tooltip))?, command))
        })
        .collect();
    found.sort_by_key(|(score, _)| std::cmp::Reverse(*score));
    found.into_iter().map(|(_, command)| command).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_finds_its_command_first() {
        assert_eq!(matching("export sh").first(), Some(&UiCommand::ExportSheet));
        assert_eq!(matching("light").first(), Some(&UiCommand::ToggleTheme));
        assert!(matching("zzzz").is_empty());
    }

    #[test]
    fn without_text_all_commands_stand_in_their_order() {
        assert_eq!(matching(" "), UiCommand::ALL);
    }
}
