//! Small pieces that several panes show: empty, busy and error states, and numbers in words.

use egui::{Align, Layout, RichText, Ui};

use super::action::Action;
use super::command::UiCommand;
use super::icons;
use super::panes::Cx;
use super::state::jobs::Job;
use super::theme;
use crate::session::engine::JobFailure;

/// A pane without anything to show: what it will show, and the one thing to do about it.
pub fn empty(ui: &mut Ui, cx: &mut Cx<'_>, icon: &str, sentence: &str, command: Option<UiCommand>) {
    centred(ui, |ui| {
        ui.label(RichText::new(icon).size(32.0).color(cx.theme.muted));
        ui.add_space(4.0);
        ui.label(RichText::new(sentence).color(cx.theme.muted));
        if let Some(command) = command {
            ui.add_space(8.0);
            command_button(ui, cx, command);
        }
    });
}

/// A button for a command, with its key.
pub fn command_button(ui: &mut Ui, cx: &mut Cx<'_>, command: UiCommand) {
    let text = command.text();
    let mut button = egui::Button::new(format!("{} {}", text.icon, text.name));
    if let Some(key) = text.key {
        button = button.shortcut_text(crate::app::command::key_text(ui.ctx(), &key));
    }
    if ui.add(button).on_hover_text(text.tooltip).clicked() {
        cx.send(Action::Command(command));
    }
}

/// What went wrong, why, and what to try, with buttons that do it.
pub fn failure(ui: &mut Ui, cx: &mut Cx<'_>, title: &str, failure: &JobFailure) {
    egui::Frame::group(ui.style()).fill(cx.theme.raised).inner_margin(12).show(ui, |ui| {
        ui.set_width(ui.available_width());
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(icons::WARNING_CIRCLE).color(cx.theme.error).size(16.0));
            ui.label(RichText::new(title).color(cx.theme.error).font(theme::strong(13.0)));
        });
        ui.label(&failure.what);
        if !failure.hint.is_empty() {
            ui.label(RichText::new(&failure.hint).color(cx.theme.muted));
        }
        ui.horizontal_wrapped(|ui| {
            if let (Some(batch_size), Some(entry)) = (failure.smaller_batch, cx.state.current)
                && ui.button(format!("Retry {batch_size} at a time")).clicked()
            {
                cx.send(Action::Decode { entry, batch_size: Some(batch_size) });
            }
            if failure.device_lost {
                command_button(ui, cx, UiCommand::RestartEngine);
            }
            let details = format!("{title}: {}\n{}", failure.what, failure.hint);
            if ui.button(format!("{} Copy details", icons::COPY)).clicked() {
                cx.send(Action::CopyText(details));
            }
        });
    });
}

/// A running job: stage, bar, time left, pause and cancel.
pub fn busy(ui: &mut Ui, cx: &mut Cx<'_>, job: &Job) {
    ui.horizontal(|ui| {
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let cancel = ui
                .add_enabled(!job.cancelling, egui::Button::new(icons::X).small())
                .on_hover_text("Stop this job after its current step");
            if cancel.clicked() {
                cx.send(Action::Cancel(job.id));
            }
            let (icon, tip) = if job.paused {
                (icons::PLAY, "Go on")
            } else {
                (icons::PAUSE, "Hold this job before its next step")
            };
            if ui.add(egui::Button::new(icon).small()).on_hover_text(tip).clicked() {
                cx.send(Action::Pause(job.id, !job.paused));
            }
            ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                let line = RichText::new(job_line(job)).color(cx.theme.muted);
                ui.add(egui::Label::new(line).truncate());
            });
        });
    });
    let bar = egui::ProgressBar::new(job.fraction().unwrap_or(0.0)).desired_height(4.0);
    ui.add(bar.fill(cx.theme.primary).desired_width(ui.available_width()));
}

/// The stage of a job in words, with steps and time left.
pub fn job_line(job: &Job) -> String {
    if job.cancelling {
        return match job.step_seconds() {
            Some(step) => format!("Stopping, at most {}", seconds(step)),
            None => "Stopping".to_owned(),
        };
    }
    let what = match job.stage {
        Some(stage) => stage.name().to_owned(),
        None if job.started.is_some() => job.kind.label().to_owned(),
        None => format!("{} (waiting)", job.kind.label()),
    };
    let mut line = capitalised(&what);
    if let Some(progress) = job.progress {
        line += &format!(" {}/{}", progress.done, progress.total);
    }
    if job.paused {
        line += ", paused";
    } else if let Some(eta) = job.eta() {
        line += &format!(", {} left", seconds(eta));
    }
    line
}

/// Seconds for people: "0.4 s", "12 s", "3 min 5 s".
pub fn seconds(value: f32) -> String {
    if value < 10.0 {
        format!("{value:.1} s")
    } else if value < 120.0 {
        format!("{value:.0} s")
    } else {
        format!("{} min {} s", (value / 60.0) as u32, (value % 60.0) as u32)
    }
}

/// With a capital first letter.
pub fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => String::new(),
    }
}

/// Centres what is added, in both directions.
pub fn centred(ui: &mut Ui, add: impl FnOnce(&mut Ui)) {
    let height = ui.available_height();
    ui.vertical_centered(|ui| {
        ui.add_space((height * 0.3).max(8.0));
        ui.set_max_width(ui.available_width().min(320.0));
        add(ui);
    });
}

/// At most `limit` characters, with an ellipsis where something was cut.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let kept: String = text.chars().take(limit.saturating_sub(1)).collect();
    format!("{}\u{2026}", kept.trim_end())
}

/// The one button of a pane that is meant to be pressed.
pub fn primary_button(ui: &mut Ui, theme: &theme::Theme, text: &str) -> egui::Response {
    let text = RichText::new(text).color(egui::Color32::WHITE).font(theme::strong(13.0));
    ui.add(egui::Button::new(text).fill(theme.primary))
}
