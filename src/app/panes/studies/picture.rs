//! One picture of a study: drawn in its place, large on hover, with what can be done with it.

use std::sync::Arc;

use egui::{
    Color32, Id, Rect, Response, RichText, Sense, Stroke, StrokeKind, Ui, WidgetInfo, vec2,
};

use crate::app::action::Action;
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::theme;
use crate::session::result::Tile;

/// Side of the picture in the card beside the pointer.
const LARGE: f32 = 192.0;

/// Where a picture stands and what is said of it.
pub struct Picture<'a> {
    /// Names the place among the textures.
    pub id: Id,
    pub tile: &'a Tile,
    /// One line: what it shows.
    pub name: &'a str,
    /// More lines, on hover.
    pub details: &'a str,
    /// Frame in the colour of the mean.
    pub is_mean: bool,
}

impl Picture<'_> {
    /// Draws into a square.
    pub fn draw(&self, ui: &mut Ui, cx: &mut Cx<'_>, rect: Rect) -> Response {
        let response = ui.interact(rect, self.id, Sense::click());
        response.widget_info(|| WidgetInfo::labeled(egui::Role::Image, true, self.name));
        if !ui.is_rect_visible(rect) {
            return response;
        }
        let texture = cx.textures.picture(self.id, version(self.tile), &self.tile.image);
        let uv = Rect::from_min_max(egui::Pos2::ZERO, egui::pos2(1.0, 1.0));
        let painter = ui.painter();
        painter.image(texture.id(), rect, uv, Color32::WHITE);
        let frame = if response.has_focus() {
            Some(Stroke::new(2.0, cx.theme.accent))
        } else if self.is_mean {
            Some(Stroke::new(2.0, cx.theme.query))
        } else if response.hovered() {
            Some(Stroke::new(1.0, cx.theme.strong))
        } else {
            None
        };
        if let Some(stroke) = frame {
            painter.rect_stroke(rect, 2.0, stroke, StrokeKind::Outside);
        }
        let take = || Action::QueryPixels {
            image: Arc::new(self.tile.image.clone()),
            name: self.name.to_owned(),
        };
        if response.double_clicked() {
            cx.send(take());
        }
        response.context_menu(|ui| {
            if ui.button(format!("{}  Copy image", icons::COPY)).clicked() {
                cx.send(Action::CopyImage(Arc::new(self.tile.image.clone())));
                ui.close();
            }
            if ui.button(format!("{}  Make it the query", icons::MAGNIFYING_GLASS)).clicked() {
                cx.send(take());
                ui.close();
            }
        });
        response.on_hover_ui(|ui| {
            ui.set_max_width(LARGE);
            let (large, _) = ui.allocate_exact_size(vec2(LARGE, LARGE), Sense::hover());
            ui.painter().image(texture.id(), large, uv, Color32::WHITE);
            ui.label(RichText::new(self.name).font(theme::strong(13.0)).color(cx.theme.strong));
            ui.label(RichText::new(self.details).small().color(cx.theme.muted));
        })
    }
}

/// A number that differs where the content does: the start of its hash.
fn version(tile: &Tile) -> u64 {
    tile.hash.bytes().take(16).fold(0, |all, byte| {
        let digit = (byte as char).to_digit(16).unwrap_or(0);
        all << 4 | u64::from(digit)
    })
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    #[test]
    fn pictures_with_other_hashes_have_other_versions() {
        let tile = |hash: &str| Tile { image: RgbImage::new(1, 1), hash: hash.to_owned() };
        assert_eq!(version(&tile("00ff00ff00ff00ff00aa")), 0x00ff_00ff_00ff_00ff);
        assert_ne!(version(&tile("0100000000000000")), version(&tile("0200000000000000")));
        assert_eq!(version(&tile("")), 0);
    }
}
