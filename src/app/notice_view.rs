//! Notices at the lower right.

use std::time::Instant;

use egui::{Context, RichText};

use super::action::Action;
use super::icons;
use super::notices::{Notices, Severity};
use super::panes::Cx;
use super::theme;

/// Shows the notices, and the offer to bring a deleted query back.
pub fn show(
    context: &Context,
    cx: &mut Cx<'_>,
    notices: &mut Notices,
    deleted: Option<(String, Instant)>,
) {
    if notices.shown.is_empty() && deleted.is_none() {
        return;
    }
    let width = (context.content_rect().width() - 48.0).min(360.0);
    egui::Area::new(egui::Id::unique("notices"))
        .order(egui::Order::Foreground)
        .anchor(egui::Align2::RIGHT_BOTTOM, [-16.0, -40.0])
        .show(context, |ui| {
            ui.set_width(width);
            let mut closed = None;
            for (i, shown) in notices.shown.iter().enumerate() {
                let notice = &shown.notice;
                let (icon, colour) = match notice.severity {
                    Severity::Info => (icons::INFO, cx.theme.accent),
                    Severity::Success => (icons::CHECK_CIRCLE, cx.theme.success),
                    Severity::Warning => (icons::WARNING, cx.theme.warning),
                    Severity::Error => (icons::WARNING_CIRCLE, cx.theme.error),
                };
                card(ui, cx, |ui, cx| {
                    let response = ui
                        .horizontal(|ui| {
                            ui.label(RichText::new(icon).size(16.0).color(colour));
                            let mut title = notice.title.clone();
                            if shown.count > 1 {
                                title += &format!(" (x{})", shown.count);
                            }
                            let strong = RichText::new(title)
                                .font(theme::strong(13.0))
                                .color(cx.theme.strong);
                            ui.add(egui::Label::new(strong).truncate());
                        })
                        .response;
                    let text = format!("{}: {}", notice.title, notice.detail);
                    context.accesskit_node_builder(response.id, |node| {
                        node.set_role(egui::accesskit::Role::Alert);
                        node.set_label(text.clone());
                    });
                    if !notice.detail.is_empty() {
                        ui.label(&notice.detail);
                    }
                    ui.horizontal(|ui| {
                        if ui.small_button("Close").clicked() {
                            closed = Some(i);
                        }
                        if notice.severity == Severity::Error && ui.small_button("Copy").clicked() {
                            cx.send(Action::CopyText(text));
                        }
                    });
                });
            }
            if let Some(i) = closed {
                notices.shown.remove(i);
            }
            if let Some((title, when)) = deleted {
                let left = super::core::UNDELETE_TIME.saturating_sub(when.elapsed());
                context.request_repaint_after(left);
                card(ui, cx, |ui, cx| {
                    ui.horizontal_wrapped(|ui| {
                        ui.label(format!(
                            "Deleted \u{201c}{}\u{201d}",
                            super::widgets::shorten(&title, 30)
                        ));
                        if ui.small_button("Undo the deletion").clicked() {
                            cx.send(Action::Undelete);
                        }
                    });
                });
            }
        });
}

fn card<'a>(ui: &mut egui::Ui, cx: &mut Cx<'a>, add: impl FnOnce(&mut egui::Ui, &mut Cx<'a>)) {
    egui::Frame::window(ui.style()).fill(cx.theme.raised).inner_margin(10).show(ui, |ui| {
        ui.set_width(ui.available_width());
        add(ui, cx);
    });
    ui.add_space(6.0);
}
