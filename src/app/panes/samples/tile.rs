//! One tile: a picture, or what stands in its place, with its marks and its caption.

use std::sync::Arc;

use egui::text::LayoutJob;
use egui::{
    Align2, Color32, FontId, Galley, Painter, Pos2, Rect, Shape, Stroke, StrokeKind, Ui, pos2, vec2,
};

use super::picture::{self, Picture, fitted, whole};
use super::statistics::{self, number};
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::history::Entry;
use crate::app::state::selection::Item;
use crate::app::theme::{self, Theme};

/// Tiles from this edge on have a caption.
pub const CAPTION_FROM: f32 = 128.0;
/// Height of a caption.
pub const CAPTION_HEIGHT: f32 = 18.0;
/// Corner radius of a tile.
pub const CORNER: u8 = 2;
/// Tiles from this edge on show numbers in place of a missing picture.
const NUMBERS_FROM: f32 = 96.0;
const SMALL: f32 = 11.0;

/// How a tile stands among the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Marks {
    pub selected: bool,
    pub hovered: bool,
    /// The keyboard is here.
    pub focused: bool,
    /// 0 to 1: what is not selected fades.
    pub opacity: f32,
    /// Share done of the picture that is being decoded, 0 to 1.
    pub step: Option<f32>,
}

/// Paints a tile into a square, with the caption below where there is room for one.
pub fn paint(ui: &Ui, cx: &mut Cx<'_>, rect: Rect, entry: &Entry, item: Item, marks: &Marks) {
    let found = picture::picture(cx, entry, item, rect.width(), ui.pixels_per_point(), false);
    let theme = cx.theme;
    let mut painter = ui.painter().clone();
    painter.multiply_opacity(marks.opacity);
    match &found {
        Some(picture) => paint_picture(&painter, theme, rect, picture, marks),
        None => match item {
            Item::Query => paint_text(&painter, theme, rect, &entry.title()),
            _ => paint_skeleton(&painter, theme, rect, entry, item),
        },
    }
    match item {
        Item::Query => badge(&painter, theme, rect.left_top(), "Q"),
        Item::Mean => badge(&painter, theme, rect.left_top(), "μ"),
        _ => {}
    }
    if rect.width() >= CAPTION_FROM {
        let text = statistics::caption(entry, item);
        let galley = elided(&painter, text, SMALL, theme.muted, rect.width());
        painter.galley(pos2(rect.left(), rect.bottom() + 2.0), galley, theme.muted);
    }
    paint_marks(ui.painter(), theme, rect, marks);
}

fn paint_picture(painter: &Painter, theme: &Theme, rect: Rect, picture: &Picture, marks: &Marks) {
    let place = fitted(picture.size, rect);
    if place != rect {
        painter.rect_filled(rect, CORNER, theme.raised);
    }
    let shape = egui::epaint::RectShape::filled(place, CORNER, Color32::WHITE);
    painter.add(shape.with_texture(picture.texture.id(), whole()));
    if picture.unfinished {
        let dot = rect.left_top() + vec2(9.0, 9.0);
        painter.circle(dot, 4.0, theme.warning, Stroke::new(1.5, theme.panel));
        if let Some(step) = marks.step {
            let bar = Rect::from_min_max(pos2(rect.left(), rect.bottom() - 2.0), rect.max);
            painter.rect_filled(bar, 0, theme.panel);
            let done = Rect::from_min_size(bar.min, vec2(bar.width() * step, bar.height()));
            painter.rect_filled(done, 0, theme.accent);
        }
    }
}

/// A query without a picture: its text in quotes.
fn paint_text(painter: &Painter, theme: &Theme, rect: Rect, text: &str) {
    painter.rect(rect, CORNER, theme.raised, Stroke::new(1.0, theme.hairline), StrokeKind::Inside);
    let inside = rect.shrink(6.0);
    // The badge keeps its corner.
    let inside = Rect::from_min_max(inside.min + vec2(0.0, 16.0), inside.max);
    let size = if rect.width() >= CAPTION_FROM { 13.0 } else { SMALL };
    let font = FontId::proportional(size);
    let mut job =
        LayoutJob::simple(format!("“{text}”"), font, theme.strong, inside.width().max(1.0));
    job.wrap.max_rows = (inside.height() / (size * 1.3)).floor().max(1.0) as usize;
    let galley = painter.layout_job(job);
    let top = inside.center().y - galley.size().y / 2.0;
    painter.galley(pos2(inside.left(), top.max(inside.top())), galley, theme.strong);
}

/// A tile without a picture: its index, and its numbers where they fit.
fn paint_skeleton(painter: &Painter, theme: &Theme, rect: Rect, entry: &Entry, item: Item) {
    painter.rect(rect, CORNER, theme.raised, Stroke::new(1.0, theme.hairline), StrokeKind::Inside);
    let title = match item {
        Item::Sample(index) => format!("#{index}"),
        Item::Mean => "mean".to_owned(),
        other => statistics::name(other),
    };
    let mut lines = Vec::new();
    if rect.width() >= NUMBERS_FROM
        && let Item::Sample(index) = item
        && let Some(sample) = statistics::of_sample(entry, index)
    {
        lines.push(format!("{} typical", statistics::percentile(sample.typicality)));
        lines.push(format!("distance {}", number(sample.distance_to_mean)));
        lines.push(format!("cosine {}", number(sample.cosine_to_mean)));
    }
    let pitch = SMALL + 4.0;
    let mut y = rect.center().y - pitch * lines.len() as f32 / 2.0;
    let centre = |y: f32| pos2(rect.center().x, y);
    painter.text(centre(y), Align2::CENTER_CENTER, title, theme::strong(13.0), theme.text);
    for line in lines {
        y += pitch;
        let galley = elided(painter, line, SMALL, theme.muted, rect.width() - 8.0);
        let corner = centre(y) - galley.size() / 2.0;
        painter.galley(corner, galley, theme.muted);
    }
}

/// A letter in a corner.
pub fn badge(painter: &Painter, theme: &Theme, corner: Pos2, letter: &str) {
    let place = Rect::from_min_size(corner + vec2(4.0, 4.0), vec2(16.0, 16.0));
    painter.rect(place, 3, theme.panel, Stroke::new(1.0, theme.edge), StrokeKind::Inside);
    painter.text(place.center(), Align2::CENTER_CENTER, letter, theme::strong(SMALL), theme.strong);
}

fn paint_marks(painter: &Painter, theme: &Theme, rect: Rect, marks: &Marks) {
    if marks.selected {
        let stroke = Stroke::new(2.0, theme.accent);
        painter.rect_stroke(rect, CORNER, stroke, StrokeKind::Inside);
        let tick = rect.right_top() + vec2(-12.0, 12.0);
        painter.circle(tick, 8.0, theme.primary, Stroke::new(1.0, theme.panel));
        let font = FontId::proportional(SMALL);
        painter.text(tick, Align2::CENTER_CENTER, icons::CHECK, font, Color32::WHITE);
    } else if marks.hovered {
        let stroke = Stroke::new(1.0, theme.strong);
        painter.rect_stroke(rect, CORNER, stroke, StrokeKind::Inside);
    }
    if marks.focused {
        let ring = rect.expand(2.0);
        painter.rect_stroke(ring, CORNER + 2, Stroke::new(2.0, theme.accent), StrokeKind::Outside);
    }
}

/// The rubber band, with how many tiles it holds.
pub fn paint_rubber_band(painter: &Painter, theme: &Theme, band: Rect, count: usize) {
    painter.rect_filled(band, 0, theme.selection.gamma_multiply(0.4));
    let corners = [
        band.left_top(),
        band.right_top(),
        band.right_bottom(),
        band.left_bottom(),
        band.left_top(),
    ];
    painter.extend(Shape::dashed_line(&corners, Stroke::new(1.0, theme.accent), 4.0, 3.0));
    let text = if count == 1 { "1 tile".to_owned() } else { format!("{count} tiles") };
    let galley = painter.layout_no_wrap(text, FontId::proportional(SMALL), theme.strong);
    let at = band.right_bottom() + vec2(-galley.size().x - 4.0, -galley.size().y - 2.0);
    let label = Rect::from_min_size(at, galley.size()).expand2(vec2(3.0, 1.0));
    painter.rect_filled(label, 3, theme.panel);
    painter.galley(at, galley, theme.strong);
}

/// One line of text that ends in "…" where it is wider than `width` points.
pub fn elided(
    painter: &Painter,
    text: impl Into<String>,
    size: f32,
    colour: Color32,
    width: f32,
) -> Arc<Galley> {
    let mut job = LayoutJob::simple_singleline(text.into(), FontId::proportional(size), colour);
    job.wrap.max_width = width.max(1.0);
    job.wrap.max_rows = 1;
    job.wrap.break_anywhere = true;
    painter.layout_job(job)
}
