//! The place for an image: shows it, or how to bring one.

use egui::{RichText, Sense, Ui, vec2};

use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::form::QueryForm;
use crate::app::textures::ThumbnailState;
use crate::app::widgets;

const HEIGHT: f32 = 132.0;

/// Whether the window system can drop files here: winit has no file drop on Wayland.
fn can_drop() -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !(cfg!(target_os = "linux") && is_set("WAYLAND_DISPLAY") && !is_set("DISPLAY"))
}

/// Shows the image of the form.
pub fn ui(ui: &mut Ui, cx: &mut Cx<'_>, form: &mut QueryForm) {
    let hovered = ui.input(|input| !input.raw.hovered_files.is_empty());
    let size = vec2(ui.available_width(), HEIGHT);
    let (rect, response) = ui.allocate_exact_size(size, Sense::click());
    let colour = if hovered { cx.theme.accent } else { cx.theme.edge };
    let stroke = egui::Stroke::new(if hovered { 2.0 } else { 1.0 }, colour);
    ui.painter().rect_filled(rect, 4.0, cx.theme.window);
    let inner = rect.shrink(1.0);
    let corners = [
        inner.left_top(),
        inner.right_top(),
        inner.right_bottom(),
        inner.left_bottom(),
        inner.left_top(),
    ];
    ui.painter().extend(egui::Shape::dashed_line(&corners, stroke, 6.0, 4.0));
    let message = match &form.image {
        None => {
            let verb = if can_drop() { "Drop, paste" } else { "Paste" };
            Some(format!("{}\n{verb} or open an image", icons::IMAGE))
        }
        Some(path) => match cx.textures.thumbnail(path) {
            ThumbnailState::Loading => Some("Reading the image".to_owned()),
            ThumbnailState::Failed(reason) => Some(reason),
            ThumbnailState::Ready(texture) => {
                let scale =
                    (rect.width() - 12.0).min(HEIGHT - 12.0) / texture.size_vec2().max_elem();
                let size = texture.size_vec2() * scale;
                let place = egui::Rect::from_center_size(rect.center(), size);
                let uv = egui::Rect::from_min_max(egui::pos2(0.0, 0.0), egui::pos2(1.0, 1.0));
                ui.painter().image(texture.id(), place, uv, egui::Color32::WHITE);
                None
            }
        },
    };
    if let Some(message) = message {
        let mut job = egui::text::LayoutJob::simple(
            message,
            egui::FontId::proportional(13.0),
            cx.theme.muted,
            rect.width() - 16.0,
        );
        job.halign = egui::Align::Center;
        let text = ui.painter().layout_job(job);
        let top = rect.center().y - text.size().y / 2.0;
        ui.painter().galley(egui::pos2(rect.center().x, top), text, cx.theme.muted);
    }
    response.widget_info(|| {
        egui::WidgetInfo::labeled(egui::Role::Button, true, "Query image: open another")
    });
    if response.clicked() {
        cx.send(Action::Command(UiCommand::OpenFile));
    }
    if let Some(path) = &form.image {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        ui.label(RichText::new(widgets::shorten(&name, 40)).small().color(cx.theme.muted))
            .on_hover_text(path.display().to_string());
    }
    ui.horizontal_wrapped(|ui| {
        widgets::command_button(ui, cx, UiCommand::OpenFile);
        if ui.button(format!("{} Paste", icons::CLIPBOARD)).on_hover_text("Ctrl+V").clicked() {
            cx.send(Action::Command(UiCommand::Paste));
        }
    });
}
