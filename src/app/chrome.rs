//! The bars at the top and the bottom of the window.

use egui::{Align, Layout, RichText, Ui};

use super::action::Action;
use super::availability::{UndoState, availability};
use super::command::UiCommand;
use super::icons;
use super::panes::Cx;
use super::state::jobs::JobKind;
use super::theme;
use super::widgets;

const MENUS: [(&str, &[UiCommand]); 5] = {
    use UiCommand as C;
    [
        (
            "File",
            &[
                C::OpenFile,
                C::Paste,
                C::OpenSession,
                C::SaveSession,
                C::ExportSheet,
                C::ExportFolder,
                C::CopyCommand,
                C::CopyRecipe,
                C::Settings,
                C::Quit,
            ],
        ),
        ("Edit", &[C::Undo, C::Redo, C::SelectAll, C::ClearSelection, C::Isolate, C::CopyImage]),
        (
            "View",
            &[
                C::ShowQuery,
                C::ShowSamples,
                C::ShowRetrieval,
                C::ShowUncertainty,
                C::ShowMap,
                C::ShowStudies,
                C::ShowCompare,
                C::ShowTrain,
                C::ShowEvaluate,
                C::LargerTiles,
                C::SmallerTiles,
                C::EnlargeTile,
                C::ToggleTheme,
                C::ResetLayout,
            ],
        ),
        (
            "Run",
            &[
                C::Run,
                C::RunAndDecode,
                C::NewSeed,
                C::Stop,
                C::StopAll,
                C::Compare,
                C::SwapCompared,
                C::Traverse,
                C::PreviousQuery,
                C::NextQuery,
                C::RestartEngine,
            ],
        ),
        ("Help", &[C::Keys, C::Palette]),
    ]
};

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
                    for &command in commands {
                        menu_item(ui, cx, command, undo);
                    }
                });
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                if let Some(device) = &cx.state.device
                    && ui.available_width() > 300.0
                {
                    let icon = if device.to_lowercase().contains("cpu") {
                        icons::CPU
                    } else {
                        icons::GRAPHICS_CARD
                    };
                    let label = ui.label(
                        RichText::new(format!("{icon} {}", widgets::shorten(device, 32)))
                            .color(cx.theme.muted),
                    );
                    let drawing = cx.state.drawing_on.as_deref().unwrap_or("unknown");
                    label.on_hover_text(format!("Computes on {device}\nDraws on {drawing}"));
                    ui.add_space(8.0);
                }
                let text = UiCommand::Palette.text();
                let keys = text.key.map(|key| ui.ctx().format_shortcut(&key)).unwrap_or_default();
                if ui.available_width() > 150.0
                    && ui
                        .add(
                            egui::Button::new(format!("{} Commands", icons::COMMAND))
                                .shortcut_text(keys),
                        )
                        .on_hover_text(text.tooltip)
                        .clicked()
                {
                    cx.send(Action::Command(UiCommand::Palette));
                }
            });
        });
    });
}

fn menu_item(ui: &mut Ui, cx: &mut Cx<'_>, command: UiCommand, undo: UndoState) {
    let text = command.text();
    let usable = availability(command, cx.state, undo);
    let mut button = egui::Button::new(format!("{}  {}", text.icon, text.name));
    if let Some(key) = text.key {
        button = button.shortcut_text(ui.ctx().format_shortcut(&key));
    }
    let response = ui.add_enabled(usable.is_ok(), button);
    let response = response.on_hover_text(text.tooltip);
    let response = match usable {
        Err(reason) => response.on_disabled_hover_text(reason),
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
        top: 2,
        bottom: 2,
    });
    egui::Panel::bottom("status bar").exact_size(26.0).frame(frame).show(ui, |ui| {
        ui.horizontal_centered(|ui| {
            let width = ui.available_width();
            job(ui, cx);
            let state = cx.state;
            let things = state.selection.iter().count();
            if things > 0 && width > 560.0 {
                let from = state.selection.from.map_or("", |pane| pane.title());
                let text = format!("{things} selected · from {from}");
                ui.separator();
                ui.label(RichText::new(text).color(cx.theme.text));
            }
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let result = state.entry().and_then(|entry| entry.result.as_ref());
                if let Some(result) = result {
                    let mut text = format!("u {:.3}", result.distribution.mean_total());
                    if let Some(reference) = &result.reference {
                        text += &format!(" · above {}", reference.placed());
                    }
                    ui.label(RichText::new(text).color(cx.theme.text)).on_hover_text(
                        "Mean total variance of this query, and the share of this gallery's own \
                         captions or images that are less uncertain",
                    );
                }
                let warnings = state.entry().map_or(0, |entry| entry.warnings.len());
                if warnings > 0 {
                    let text = format!("{} {warnings}", icons::WARNING);
                    let lines = state.entry().map(|e| e.warnings.join("\n")).unwrap_or_default();
                    ui.label(RichText::new(text).color(cx.theme.warning)).on_hover_text(lines);
                }
                if state.jobs.is_empty() && width > 1000.0 {
                    let hint = "Enter run  ·  Ctrl+Enter decode  ·  / query  ·  Ctrl+P commands  ·  ? keys";
                    ui.label(RichText::new(hint).small().color(cx.theme.muted));
                }
            });
        });
    });
}

/// The job that runs, with a bar and a stop.
fn job(ui: &mut Ui, cx: &mut Cx<'_>) {
    let state = cx.state;
    let running = state.jobs.iter().filter(|job| job.started.is_some());
    let shown = running
        .min_by_key(|job| matches!(job.kind, JobKind::Warm | JobKind::Analyse))
        .or_else(|| state.jobs.iter().next());
    let Some(job) = shown else {
        let text = if state.device.is_some() { "Ready" } else { "Opening the device" };
        ui.label(RichText::new(text).color(cx.theme.muted));
        return;
    };
    if let Some(fraction) = job.fraction() {
        ui.add(
            egui::ProgressBar::new(fraction)
                .desired_width(80.0)
                .desired_height(6.0)
                .fill(cx.theme.primary),
        );
    }
    ui.label(RichText::new(widgets::job_line(job)).color(cx.theme.text));
    let stop = egui::Button::new(icons::X).small().frame(false);
    if ui.add_enabled(!job.cancelling, stop).on_hover_text("Stop this job").clicked() {
        cx.send(Action::Cancel(job.id));
    }
    let waiting = state.jobs.iter().filter(|job| job.started.is_none()).count();
    if waiting > 0 {
        ui.label(RichText::new(format!("{waiting} waiting")).color(cx.theme.muted));
    }
}
