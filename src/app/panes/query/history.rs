//! Earlier queries, newest first.

use std::time::SystemTime;

use egui::{RichText, Sense, Ui, pos2, vec2};

use crate::app::action::Action;
use crate::app::command_line::cli_command;
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::form::QueryForm;
use crate::app::state::history::{DecodeState, Entry, TileState};
use crate::app::textures::ThumbnailState;
use crate::app::theme;
use crate::session::recipe::RecipeQuery;

const ROW: f32 = 40.0;
const THUMBNAIL: f32 = 32.0;

/// View state of the list.
#[derive(Default)]
pub struct HistoryList {
    filter: String,
}

impl HistoryList {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let title = format!("History ({})", state.history.len());
        let header = egui::CollapsingHeader::new(title).id_salt("history").default_open(true);
        header.show(ui, |ui| {
            if state.history.is_empty() {
                ui.label(
                    RichText::new("Queries you run are kept here.").small().color(cx.theme.muted),
                );
                return;
            }
            if state.history.len() > 6 {
                let edit =
                    egui::TextEdit::singleline(&mut self.filter).hint_text("Filter by words");
                ui.add(edit.desired_width(f32::INFINITY)).widget_info(|| {
                    egui::WidgetInfo::labeled(egui::Role::TextInput, true, "Filter the history")
                });
            }
            let words = self.filter.to_lowercase();
            let matches = |entry: &&Entry| {
                let text =
                    format!("{} {}", entry.title(), entry.recipe.sampling.seed).to_lowercase();
                words.split_whitespace().all(|word| text.contains(word))
            };
            let mut entries: Vec<&Entry> = state.history.iter().rev().filter(matches).collect();
            entries.sort_by_key(|entry| !entry.pinned);
            let height = (entries.len() as f32 * (ROW + 4.0)).min(320.0);
            egui::ScrollArea::vertical().id_salt("history rows").max_height(height).show_rows(
                ui,
                ROW,
                entries.len(),
                |ui, range| {
                    for entry in &entries[range] {
                        row(ui, cx, entry);
                    }
                },
            );
        });
    }
}

fn row(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry) {
    let (rect, response) = ui.allocate_exact_size(vec2(ui.available_width(), ROW), Sense::click());
    let shown = cx.state.current == Some(entry.id);
    let compared = cx.state.compared == Some(entry.id);
    let fill = if shown {
        cx.theme.selection
    } else if response.hovered() {
        cx.theme.hover
    } else {
        egui::Color32::TRANSPARENT
    };
    let painter = ui.painter().clone();
    painter.rect_filled(rect, 4.0, fill);
    let place = egui::Rect::from_min_size(rect.min + vec2(4.0, 4.0), vec2(THUMBNAIL, THUMBNAIL));
    thumbnail(ui, cx, entry, place);

    let left = place.right() + 8.0;
    let width = rect.right() - left - 6.0;
    let letter = if compared { "B  " } else { "" };
    let pin = if entry.pinned { format!("{} ", icons::PUSH_PIN) } else { String::new() };
    let title = format!("{letter}{pin}{}", entry.title().replace('\n', " "));
    let line = |text: String, size: f32, colour, y: f32| {
        let mut job = egui::text::LayoutJob::simple_singleline(
            text,
            egui::FontId::proportional(size),
            colour,
        );
        job.wrap = egui::text::TextWrapping::truncate_at_width(width.max(10.0));
        let galley = painter.layout_job(job);
        painter.galley(pos2(left, y), galley, colour);
    };
    line(title, 13.0, cx.theme.strong, rect.top() + 4.0);
    line(details(entry), 11.0, cx.theme.muted, rect.top() + 22.0);

    let name = format!("history: {}", entry.title());
    response.widget_info(|| egui::WidgetInfo::selected(egui::Role::Button, true, shown, &name));
    if response.clicked() {
        cx.send(Action::OpenEntry(entry.id));
    }
    let response = response.on_hover_ui(|ui| {
        ui.label(RichText::new(entry.title()).font(theme::strong(13.0)));
        ui.label(details(entry));
        let sampling = &entry.recipe.sampling;
        ui.label(format!("{} samples, seed {}", sampling.samples, sampling.seed));
    });
    response.context_menu(|ui| {
        let mut item = |ui: &mut Ui, text: String, action: Action| {
            if ui.button(text).clicked() {
                cx.send(action);
                ui.close();
            }
        };
        if !shown {
            let text = format!("{} Compare with this", icons::SQUARE_SPLIT_HORIZONTAL);
            item(ui, text, Action::CompareWith(Some(entry.id)));
        }
        let pin = if entry.pinned { "Unpin" } else { "Pin" };
        let action = Action::PinEntry(entry.id, !entry.pinned);
        item(ui, format!("{} {pin}", icons::PUSH_PIN), action);
        let form = Box::new(QueryForm::of(&entry.recipe));
        let action = Action::EditForm { form, analyse: false };
        item(ui, format!("{} Use its query and numbers", icons::ARROW_LEFT), action);
        let action = Action::CopyText(cli_command(&entry.recipe));
        item(ui, format!("{} Copy command line", icons::COMMAND), action);
        item(ui, format!("{} Delete", icons::TRASH), Action::DeleteEntry(entry.id));
    });
}

fn thumbnail(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, place: egui::Rect) {
    let uv = egui::Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    let texture = match (&entry.recipe.query, entry.tiles.first()) {
        (RecipeQuery::Image { path, .. }, _) => match cx.textures.thumbnail(path) {
            ThumbnailState::Ready(texture) => Some(texture),
            _ => None,
        },
        (_, Some(TileState::Done(tile))) => {
            let id = egui::Id::unique(("tile", entry.id.0, 0));
            Some(cx.textures.picture(id, u64::MAX, &tile.image))
        }
        _ => None,
    };
    match texture {
        Some(texture) => {
            ui.painter().image(texture.id(), place, uv, egui::Color32::WHITE);
        }
        None => {
            ui.painter().rect_filled(place, 2.0, cx.theme.raised);
            ui.painter().text(
                place.center(),
                egui::Align2::CENTER_CENTER,
                icons::TEXT_AA,
                egui::FontId::proportional(14.0),
                cx.theme.muted,
            );
        }
    }
}

/// Uncertainty, percentile, how far its pictures are, and how long ago it was asked.
fn details(entry: &Entry) -> String {
    let mut parts = Vec::new();
    if let Some(result) = &entry.result {
        let mut text = format!("u {:.3}", result.distribution.mean_total());
        if let Some(reference) = &result.reference {
            text += &format!(", above {}", reference.placed());
        }
        parts.push(text);
    }
    match &entry.decode {
        DecodeState::Stopped { finished } => {
            parts.push(format!("{finished}/{}", entry.tiles.len()));
        }
        DecodeState::Running(_) => parts.push("decoding".to_owned()),
        DecodeState::Failed(_) => parts.push("failed".to_owned()),
        DecodeState::NotAsked | DecodeState::Finished => {}
    }
    parts.push(ago(entry.asked));
    parts.join("  ·  ")
}

fn ago(when: SystemTime) -> String {
    let seconds = when.elapsed().map_or(0, |time| time.as_secs());
    match seconds {
        0..60 => "now".to_owned(),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ages_are_told_in_the_largest_unit_that_fits() {
        let before = |seconds| ago(SystemTime::now() - Duration::from_secs(seconds));
        assert_eq!(before(5), "now");
        assert_eq!(before(120), "2 min ago");
        assert_eq!(before(7200), "2 h ago");
        assert_eq!(before(200_000), "2 d ago");
        // A clock that was set back is no reason to fail.
        assert_eq!(ago(SystemTime::now() + Duration::from_secs(60)), "now");
    }
}
