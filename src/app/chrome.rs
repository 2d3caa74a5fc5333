//! The bars at the top and the bottom of the window.
//!
//! Both are built from the list of commands and the shared state. Where there is little room,
//! items drop out by their importance; none is ever drawn over another.

use egui::{Align, Color32, FontId, Layout, RichText, Ui};

use super::action::Action;
use super::availability::{UndoState, availability};
use super::chart::short_number;
use super::command::UiCommand;
use super::icons;
use super::panes::Cx;
use super::state::State;
use super::state::jobs::{Job, JobKind};
use super::state::selection::Item;
use super::theme;
use super::widgets;

/// Every command under the menu it stands in; `None` draws a line.
pub(super) const MENUS: [(&str, &[Option<UiCommand>]); 5] = {
    use UiCommand as C;
    const LINE: Option<UiCommand> = None;
    [
        (
            "File",
            &[
                Some(C::OpenFile),
                Some(C::Paste),
                LINE,
                Some(C::OpenSession),
                Some(C::SaveSession),
                LINE,
                Some(C::ExportSheet),
                Some(C::ExportFolder),
                Some(C::CopyCommand),
                Some(C::CopyRecipe),
                LINE,
                Some(C::Settings),
                Some(C::Quit),
            ],
        ),
        (
            "Edit",
            &[
                Some(C::FocusQuery),
                LINE,
                Some(C::Undo),
                Some(C::Redo),
                LINE,
                Some(C::SelectAll),
                Some(C::ClearSelection),
                Some(C::Isolate),
                LINE,
                Some(C::CopyImage),
            ],
        ),
        (
            "View",
            &[
                Some(C::ShowQuery),
                Some(C::ShowSamples),
                Some(C::ShowRetrieval),
                Some(C::ShowUncertainty),
                Some(C::ShowMap),
                Some(C::ShowStudies),
                Some(C::ShowCompare),
                Some(C::ShowTrain),
                Some(C::ShowEvaluate),
                LINE,
                Some(C::LargerTiles),
                Some(C::SmallerTiles),
                Some(C::EnlargeTile),
                LINE,
                Some(C::ToggleTheme),
                Some(C::ResetLayout),
            ],
        ),
        (
            "Run",
            &[
                Some(C::Run),
                Some(C::RunAndDecode),
                Some(C::NewSeed),
                LINE,
                Some(C::Stop),
                Some(C::StopAll),
                LINE,
                Some(C::Compare),
                Some(C::SwapCompared),
                Some(C::Traverse),
                LINE,
                Some(C::PreviousQuery),
                Some(C::NextQuery),
                LINE,
                Some(C::RestartEngine),
            ],
        ),
        ("Help", &[Some(C::Keys), Some(C::Palette)]),
    ]
};

/// Space between items of a bar.
const GAP: f32 = 12.0;

/// Menus, the way to the palette, and the device.
pub fn top_bar(ui: &mut Ui, cx: &mut Cx<'_>, undo: UndoState) {
    let frame = egui::Frame::NONE.fill(cx.theme.window).inner_margin(egui::Margin {
        left: 10,
        right: 10,
        top: 4,
        bottom: 4,
    });
    egui::Panel::top("top bar").exact_size(32.0).frame(frame).show(ui, |ui| {
        egui::MenuBar::new().ui(ui, |ui| {
            ui.label(RichText::new("Haze").font(theme::strong(14.0)).color(cx.theme.strong));
            ui.add_space(8.0);
            for (name, commands) in MENUS {
                ui.menu_button(name, |ui| {
                    ui.set_min_width(230.0);
                    let room = ui.ctx().content_rect().height() - 60.0;
                    let row = ui.spacing().interact_size.y + ui.spacing().item_spacing.y;
                    if commands.len() as f32 * row <= room {
                        menu(ui, cx, commands, undo);
                    } else {
                        let scroll = egui::ScrollArea::vertical().max_height(room.max(120.0));
                        scroll.show(ui, |ui| menu(ui, cx, commands, undo));
                    }
                    if name == "File" {
                        recent_sessions(ui, cx);
                    }
                });
            }
            right_side(ui, cx);
        });
    });
}

/// The palette's button and the device, as far as they fit.
fn right_side(ui: &mut Ui, cx: &mut Cx<'_>) {
    let text = UiCommand::Palette.text();
    let keys =
        text.key.map(|key| crate::app::command::key_text(ui.ctx(), &key)).unwrap_or_default();
    let commands = format!("{} Commands", icons::COMMAND);
    let device = device_text(cx.state);
    let body = FontId::proportional(13.0);
    // A button has padding on both sides and a gap before its key.
    let button = width(ui, &commands, &body) + width(ui, &keys, &body) + 32.0;
    let label = device.as_deref().map_or(f32::INFINITY, |text| width(ui, text, &body));
    let fits = fitting(&[button, label], ui.available_width() - GAP);
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        ui.spacing_mut().item_spacing.x = GAP;
        if let (Some(text), true) = (&device, fits[1]) {
            let drawing = cx.state.drawing_on.as_deref().unwrap_or("an unknown adapter");
            let computing = cx.state.device.as_deref().unwrap_or("not open yet");
            ui.label(RichText::new(text).color(cx.theme.muted))
                .on_hover_text(format!("Computes on: {computing}\nDraws on: {drawing}"));
        }
        if fits[0] {
            let button = egui::Button::new(commands).shortcut_text(keys);
            if ui.add(button).on_hover_text(text.tooltip).clicked() {
                cx.send(Action::Command(UiCommand::Palette));
            }
        }
    });
}

/// The device that computes, with its icon.
fn device_text(state: &State) -> Option<String> {
    let device = state.device.as_ref()?;
    let cpu = device.to_lowercase().contains("cpu");
    let icon = if cpu { icons::CPU } else { icons::GRAPHICS_CARD };
    Some(format!("{icon} {}", widgets::shorten(device, 36)))
}

fn menu(ui: &mut Ui, cx: &mut Cx<'_>, commands: &[Option<UiCommand>], undo: UndoState) {
    for command in commands {
        match command {
            Some(command) => menu_item(ui, cx, *command, undo),
            None => {
                ui.separator();
            }
        }
    }
}

/// Sessions that were saved or opened, the last one first.
fn recent_sessions(ui: &mut Ui, cx: &mut Cx<'_>) {
    let recent = &cx.state.settings.recent_sessions;
    if recent.is_empty() {
        return;
    }
    ui.separator();
    ui.menu_button(format!("{}  Recent sessions", icons::FOLDER_OPEN), |ui| {
        for path in recent {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            let name = widgets::shorten(&name.unwrap_or_default(), 40);
            if ui.button(name).on_hover_text(path.display().to_string()).clicked() {
                cx.send(Action::TakeIn(vec![path.clone()]));
                ui.close();
            }
        }
    });
}

fn menu_item(ui: &mut Ui, cx: &mut Cx<'_>, command: UiCommand, undo: UndoState) {
    let text = command.text();
    let usable = availability(command, cx.state, undo);
    let mut button = egui::Button::new(format!("{}  {}", text.icon, text.name));
    if let Some(key) = text.key {
        button = button.shortcut_text(crate::app::command::key_text(ui.ctx(), &key));
    }
    let response = ui.add_enabled(usable.is_ok(), button);
    let response = response.on_hover_text(text.tooltip);
    let response = match usable {
        Err(reason) => response.on_disabled_hover_text(format!("{}\n{reason}", text.tooltip)),
        Ok(()) => response,
    };
    if response.clicked() {
        cx.send(Action::Command(command));
        ui.close();
    }
}

/// What runs, what is selected, and what to press.
pub fn status_bar(ui: &mut Ui, cx: &mut Cx<'_>) {
    let frame = egui::Frame::NONE.fill(cx.theme.window).inner_margin(egui::Margin {
        left: 10,
        right: 10,
        top: 0,
        bottom: 0,
    });
    egui::Panel::bottom("status bar").exact_size(24.0).frame(frame).show(ui, |ui| {
        ui.horizontal_centered(|ui| {
            ui.spacing_mut().item_spacing.x = GAP;
            let state = cx.state;
            let body = FontId::proportional(13.0);
            let available = ui.available_width();
            let job = Shown::of(state);
            let selection = selection_line(state);
            let uncertainty = uncertainty_line(state);
            let warnings = warnings_line(state);
            let hint = state.jobs.is_empty().then(|| hint(ui));
            let of = |text: &Option<String>| {
                text.as_deref().map_or(f32::INFINITY, |text| width(ui, text, &body))
            };
            let widths =
                [job.width(ui, &body), of(&warnings), of(&selection), of(&uncertainty), of(&hint)];
            let fits = fitting(&widths, available);
            let kept = |text: Option<String>, i: usize| text.filter(|_| fits[i]);
            job.ui(ui, cx, if fits[0] { f32::INFINITY } else { available - 32.0 });
            if let Some(text) = kept(selection, 2) {
                ui.label(RichText::new(text).color(cx.theme.text)).on_hover_text(
                    "The selection is the same in all panes; what is not selected fades",
                );
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.spacing_mut().item_spacing.x = GAP;
                if let Some(text) = kept(uncertainty, 3) {
                    ui.label(RichText::new(text).color(cx.theme.text))
                        .on_hover_text(uncertainty_tooltip(state));
                }
                if let Some(text) = kept(warnings, 1) {
                    let lines =
                        state.entry().map(|entry| entry.warnings.join("\n")).unwrap_or_default();
                    ui.label(RichText::new(text).color(cx.theme.warning)).on_hover_text(lines);
                }
                if let Some(text) = kept(hint, 4) {
                    ui.label(RichText::new(text).color(cx.theme.muted));
                }
            });
        });
    });
}

/// The left end of the status bar: the job that matters most, or that there is none.
struct Shown<'a> {
    job: Option<&'a Job>,
    text: String,
    /// Jobs behind it.
    waiting: Option<String>,
}

impl<'a> Shown<'a> {
    const BAR: f32 = 72.0;
    const STOP: f32 = 24.0;

    fn of(state: &'a State) -> Self {
        let running = state.jobs.iter().filter(|job| job.started.is_some());
        let job = running
            .min_by_key(|job| matches!(job.kind, JobKind::Warm | JobKind::Analyse))
            .or_else(|| state.jobs.iter().next());
        let text = match job {
            Some(job) => widgets::job_line(job),
            None if state.device.is_some() => "Ready".to_owned(),
            None => "Opening the device".to_owned(),
        };
        let others = state
            .jobs
            .iter()
            .filter(|other| other.started.is_none() && job.is_some_and(|job| job.id != other.id));
        let waiting = others.count();
        let waiting = (waiting > 0).then(|| format!("{waiting} waiting"));
        Self { job, text, waiting }
    }

    fn width(&self, ui: &Ui, font: &FontId) -> f32 {
        let mut all = width(ui, &self.text, font);
        if let Some(job) = self.job {
            all += Self::STOP + GAP;
            if job.fraction().is_some() {
                all += Self::BAR + GAP;
            }
        }
        if let Some(text) = &self.waiting {
            all += width(ui, text, font) + GAP;
        }
        all
    }

    /// Draws into at most `room` points.
    fn ui(&self, ui: &mut Ui, cx: &mut Cx<'_>, room: f32) {
        let Some(job) = self.job else {
            ui.label(RichText::new(&self.text).color(cx.theme.muted));
            return;
        };
        let narrow = room.is_finite();
        if let Some(fraction) = job.fraction().filter(|_| !narrow) {
            ui.add(
                egui::ProgressBar::new(fraction)
                    .desired_width(Self::BAR)
                    .desired_height(6.0)
                    .fill(cx.theme.primary),
            );
        }
        let label = RichText::new(&self.text).color(cx.theme.text);
        if narrow {
            ui.scope(|ui| {
                ui.set_max_width(room.max(60.0));
                ui.add(egui::Label::new(label).truncate());
            });
        } else {
            ui.label(label).on_hover_text(&job.title);
        }
        let stop = egui::Button::new(icons::X).small().frame(false);
        let tip = "Stop this job after its current step";
        if ui.add_enabled(!job.cancelling, stop).on_hover_text(tip).clicked() {
            cx.send(Action::Cancel(job.id));
        }
        if let Some(text) = self.waiting.as_ref().filter(|_| !narrow) {
            ui.label(RichText::new(text).color(cx.theme.muted));
        }
    }
}

/// "12 of 741 items selected · from Map".
fn selection_line(state: &State) -> Option<String> {
    let selection = &state.selection;
    if selection.is_empty() {
        return None;
    }
    let result = state.entry().and_then(|entry| entry.result.as_ref());
    let retrieval = result.and_then(|result| result.retrieval.as_ref());
    let counted = |count: usize, all: Option<usize>, what: &str| {
        (count > 0).then(|| match all {
            Some(all) => format!("{count} of {all} {what}"),
            None => format!("{count} {what}"),
        })
    };
    let parts: Vec<String> = [
        selection.contains(Item::Query).then(|| "the query".to_owned()),
        selection.contains(Item::Mean).then(|| "the mean".to_owned()),
        counted(selection.samples().count(), result.map(|result| result.samples.len()), "samples"),
        counted(
            selection.rows().count(),
            retrieval.map(|retrieval| retrieval.gallery_size),
            "items",
        ),
        counted(
            selection.dimensions().count(),
            result.map(|result| result.distribution.dim()),
            "dimensions",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    let mut text = format!("{} selected", parts.join(", "));
    if selection.isolated {
        text += ", the rest hidden";
    }
    if let Some(from) = selection.from {
        text += &format!(" · from {}", from.title());
    }
    Some(text)
}

/// The uncertainty of the query on screen.
fn uncertainty_line(state: &State) -> Option<String> {
    let result = state.entry()?.result.as_ref()?;
    let mut text = format!("u {}", short_number(result.distribution.mean_total()));
    if let Some(reference) = &result.reference {
        text += &format!(" · more uncertain than {}", reference.placed());
    }
    Some(text)
}

fn uncertainty_tooltip(state: &State) -> String {
    let mut text =
        "u: mean total variance per dimension of this query, squared embedding units.".to_owned();
    let reference = state.entry().and_then(|entry| entry.result.as_ref()?.reference.as_ref());
    if let Some(reference) = reference {
        text += &format!(
            "\nMore uncertain than {} of this gallery's own captions. A comparison, not a \
             probability of being wrong. (By aleatoric variance, n = {}.)",
            reference.placed(),
            reference.count
        );
    }
    text
}

fn warnings_line(state: &State) -> Option<String> {
    let count = state.entry()?.warnings.len();
    let word = if count == 1 { "warning" } else { "warnings" };
    (count > 0).then(|| format!("{} {count} {word}", icons::WARNING))
}

/// The keys that matter most.
fn hint(ui: &Ui) -> String {
    let key = |command: UiCommand| {
        command
            .text()
            .key
            .map(|key| crate::app::command::key_text(ui.ctx(), &key))
            .unwrap_or_default()
    };
    format!(
        "Enter run · {} decode · / query · {} commands",
        key(UiCommand::RunAndDecode),
        key(UiCommand::Palette)
    )
}

/// Width of a line of text in points.
fn width(ui: &Ui, text: &str, font: &FontId) -> f32 {
    let galley = ui.painter().layout_no_wrap(text.to_owned(), font.clone(), Color32::PLACEHOLDER);
    galley.size().x
}

/// Which items fit beside each other, the most important first. An infinite width is no item.
fn fitting<const N: usize>(widths: &[f32; N], available: f32) -> [bool; N] {
    let mut left = available;
    widths.map(|width| {
        let fits = width <= left;
        if fits {
            left -= width + GAP;
        }
        fits
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::layout::PaneKind;
    use crate::app::state::selection::SelectMode;

    #[test]
    fn every_command_stands_in_exactly_one_menu() {
        let all: Vec<UiCommand> =
            MENUS.iter().flat_map(|(_, commands)| commands.iter().flatten()).copied().collect();
        for command in UiCommand::ALL {
            let count = all.iter().filter(|&&other| other == command).count();
            assert_eq!(count, 1, "{command:?}");
        }
        assert_eq!(all.len(), UiCommand::ALL.len());
    }

    #[test]
    fn the_selection_is_counted_by_kind_and_says_where_it_came_from() {
        let mut core = crate::app::availability::tests::core_with_a_result();
        assert_eq!(selection_line(&core.state), None);
        let select = |items: Vec<Item>, mode, from| Action::Select { items, mode, from };
        core.apply(select(vec![Item::Gallery(3)], SelectMode::Replace, PaneKind::Map));
        let line = selection_line(&core.state).unwrap();
        assert!(line.starts_with("1 of ") && line.ends_with("items selected · from Map"), "{line}");
        core.apply(select(vec![Item::Mean], SelectMode::Add, PaneKind::Samples));
        let line = selection_line(&core.state).unwrap();
        assert!(line.starts_with("the mean, 1 of ") && line.ends_with("from Samples"), "{line}");
    }

    #[test]
    fn less_important_items_drop_out_first() {
        assert_eq!(fitting(&[100.0, 50.0, 40.0], 220.0), [true, true, true]);
        assert_eq!(fitting(&[100.0, 50.0, 40.0], 170.0), [true, true, false]);
        // A small item may still fit where a larger one before it does not.
        assert_eq!(fitting(&[100.0, 90.0, 20.0], 150.0), [true, false, true]);
        assert_eq!(fitting(&[100.0, f32::INFINITY, 20.0], 150.0), [true, false, true]);
    }
}
