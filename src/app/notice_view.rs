//! Notices at the lower right.

use std::time::Instant;

use egui::{Align, Color32, Context, Label, Layout, RichText, Ui};

use super::action::Action;
use super::icons;
use super::notices::{Notices, Severity, Shown};
use super::panes::Cx;
use super::theme::{self, Theme};

/// Distance from the edges of the window; the status bar stays free.
const MARGIN: [f32; 2] = [-16.0, -36.0];

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
    let screen = context.content_rect().size();
    let width = (screen.x - 48.0).min(360.0);
    egui::Area::new(egui::Id::unique("notices"))
        .order(egui::Order::Foreground)
        .anchor(egui::Align2::RIGHT_BOTTOM, MARGIN)
        .show(context, |ui| {
            ui.set_width(width);
            let height = (screen.y - 100.0).max(80.0);
            let scroll = egui::ScrollArea::vertical().max_height(height).stick_to_bottom(true);
            scroll.show(ui, |ui| {
                let mut closed = None;
                for (i, shown) in notices.shown.iter().enumerate() {
                    if card(ui, cx.theme, |ui| notice(ui, cx, shown)) {
                        closed = Some(i);
                    }
                }
                if let Some(i) = closed {
                    notices.shown.remove(i);
                }
                if let Some((title, when)) = deleted {
                    let left = super::core::UNDELETE_TIME.saturating_sub(when.elapsed());
                    context.request_repaint_after(left);
                    card(ui, cx.theme, |ui| {
                        ui.horizontal_wrapped(|ui| {
                            let title = super::widgets::shorten(&title, 30);
                            ui.label(format!("Deleted \u{201c}{title}\u{201d}"));
                            if ui.button("Undo the deletion").clicked() {
                                cx.send(Action::Undelete);
                            }
                        });
                    });
                }
            });
        });
}

/// Icon and word of a severity: colour alone tells too few people anything.
fn looks(severity: Severity, theme: &Theme) -> (&'static str, &'static str, Color32) {
    match severity {
        Severity::Info => (icons::INFO, "Note", theme.accent),
        Severity::Success => (icons::CHECK_CIRCLE, "Done", theme.success),
        Severity::Warning => (icons::WARNING, "Warning", theme.warning),
        Severity::Error => (icons::WARNING_CIRCLE, "Error", theme.error),
    }
}

/// One notice; true when it was closed.
fn notice(ui: &mut Ui, cx: &mut Cx<'_>, shown: &Shown) -> bool {
    let notice = &shown.notice;
    let (icon, word, colour) = looks(notice.severity, cx.theme);
    let text = in_full(word, &notice.title, &notice.detail);
    let head = ui.horizontal(|ui| {
        ui.label(RichText::new(icon).size(16.0).color(colour));
        ui.label(RichText::new(word).font(theme::strong(12.0)).color(colour));
        if shown.count > 1 {
            let count = RichText::new(format!("x{}", shown.count)).small().color(cx.theme.muted);
            ui.label(count).on_hover_text(format!("This was said {} times", shown.count));
        }
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            let close = egui::Button::new(icons::X).frame(false);
            let closed = ui.add(close).on_hover_text("Close this notice").clicked();
            if notice.severity == Severity::Error {
                let copy = egui::Button::new(icons::COPY).frame(false);
                if ui.add(copy).on_hover_text("Copy the error").clicked() {
                    cx.send(Action::CopyText(text.clone()));
                }
            }
            closed
        })
        .inner
    });
    ui.ctx().accesskit_node_builder(head.response.id, |node| {
        node.set_role(egui::accesskit::Role::Alert);
        node.set_label(text.clone());
    });
    let title = RichText::new(&notice.title).font(theme::strong(13.0)).color(cx.theme.strong);
    ui.add(Label::new(title).wrap());
    if !notice.detail.is_empty() {
        ui.add(Label::new(&notice.detail).wrap());
    }
    head.inner
}

/// The whole notice as text, for screen readers and the clipboard.
fn in_full(word: &str, title: &str, detail: &str) -> String {
    if detail.is_empty() {
        format!("{word}: {title}")
    } else {
        format!("{word}: {title}. {detail}")
    }
}

fn card<R>(ui: &mut Ui, theme: &Theme, add: impl FnOnce(&mut Ui) -> R) -> R {
    let frame = egui::Frame::window(ui.style()).fill(theme.raised).inner_margin(10);
    let shown = frame.show(ui, |ui| {
        ui.set_width(ui.available_width());
        add(ui)
    });
    ui.add_space(6.0);
    shown.inner
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_out_with_its_severity_first() {
        assert_eq!(in_full("Error", "It failed", ""), "Error: It failed");
        assert_eq!(in_full("Note", "Copied", "As text"), "Note: Copied. As text");
    }

    #[test]
    fn no_two_severities_look_alike() {
        for theme in [Theme::dark(), Theme::light()] {
            let all = [Severity::Info, Severity::Success, Severity::Warning, Severity::Error]
                .map(|severity| looks(severity, &theme));
            for (i, a) in all.iter().enumerate() {
                for b in &all[i + 1..] {
                    assert!(a.0 != b.0 && a.1 != b.1 && a.2 != b.2);
                }
            }
        }
    }
}
