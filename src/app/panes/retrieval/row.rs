//! One row of the list, painted.

use std::sync::Arc;

use egui::text::{LayoutJob, TextFormat, TextWrapping};
use egui::{
    Color32, FontId, Galley, Painter, Pos2, Rangef, Rect, Shape, Stroke, TextStyle, Ui, pos2, vec2,
};

use super::columns::{Columns, DOTS_WIDTH, GUTTER, THUMBNAIL};
use super::rank_axis::RankAxis;
use super::{Line, Listed, listing};
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::textures::ThumbnailState;
use crate::app::theme::Theme;
use crate::export::sheet::share;
use crate::session::result::RankedItem;

/// Dots that stand for all draws.
const DOTS: usize = 20;
/// Distance between a dot's centre and the next.
const DOT_PITCH: f32 = 6.0;
const DOT_RADIUS: f32 = 2.2;
/// Baselines of a row's lines, from its top.
const FIRST_LINE: f32 = 8.0;
const LINE: f32 = 17.0;

/// The columns for the width that `ui` has.
pub fn columns(ui: &Ui, listed: &Listed<'_>) -> Columns {
    let retrieved = listed.retrieved;
    let width_of = |text: String, font: FontId| {
        ui.painter().layout_no_wrap(text, font, Color32::PLACEHOLDER).size().x
    };
    // Of the whole list, so that a look at a sample moves no column.
    let last = retrieved.items.last().map_or(1, |item| item.rank).max(listed.lines.len());
    let rank = width_of(last.to_string(), TextStyle::Monospace.resolve(ui.style()));
    let all = share(retrieved.draws, retrieved.draws);
    let share = width_of(all, TextStyle::Body.resolve(ui.style()));
    Columns::new(ui.available_width(), rank.max(16.0), share)
}

/// Text in at most `rows` rows of `width` points; what does not fit ends in an ellipsis.
pub fn elided(
    painter: &Painter,
    text: &str,
    font: &FontId,
    colour: Color32,
    width: f32,
    rows: usize,
) -> Arc<Galley> {
    let format = TextFormat::simple(font.clone(), colour);
    let mut job = LayoutJob::single_section(text.replace('\n', " "), format);
    job.wrap = TextWrapping {
        max_width: width.max(0.0),
        max_rows: rows,
        break_anywhere: rows == 1,
        ..TextWrapping::default()
    };
    painter.layout_job(job)
}

/// How a row stands out.
#[derive(Clone, Copy)]
pub struct Emphasis {
    pub selected: bool,
    pub hovered: bool,
    /// The keyboard's cursor is here.
    pub focused: bool,
}

/// Paints one row.
pub struct Row<'a> {
    pub listed: &'a Listed<'a>,
    pub line: &'a Line,
    pub columns: &'a Columns,
    pub rect: Rect,
}

impl Row<'_> {
    pub fn paint(&self, ui: &Ui, cx: &mut Cx<'_>, emphasis: Emphasis, opacity: f32) {
        let theme = cx.theme;
        let mut painter = ui.painter().clone();
        let body = self.rect.with_min_x(self.rect.left() + GUTTER - 2.0).shrink2(vec2(0.0, 1.0));
        if emphasis.selected || emphasis.hovered {
            let fill = if emphasis.selected { theme.selection } else { theme.hover };
            painter.rect_filled(body, 4.0, fill);
        }
        if emphasis.focused {
            let ring = Stroke::new(2.0, theme.accent);
            painter.rect_stroke(body.shrink(1.0), 4.0, ring, egui::StrokeKind::Inside);
        }
        painter.multiply_opacity(opacity);
        self.paint_rank(ui, &painter, theme);
        self.paint_thumbnail(ui, &painter, cx);
        self.paint_text(ui, &painter, theme);
        self.paint_bars(&painter, theme, ui);
        self.paint_shares(ui, &painter, theme);
    }

    fn x(&self, range: Rangef) -> Rangef {
        Rangef::new(self.rect.left() + range.min, self.rect.left() + range.max)
    }

    fn item(&self) -> Option<&RankedItem> {
        self.listed.item(self.line)
    }

    fn paint_rank(&self, ui: &Ui, painter: &Painter, theme: &Theme) {
        let font = TextStyle::Monospace.resolve(ui.style());
        let at = pos2(self.x(self.columns.rank).max, self.rect.center().y);
        let text = self.line.place.to_string();
        painter.text(at, egui::Align2::RIGHT_CENTER, text, font, theme.strong);
    }

    fn paint_thumbnail(&self, ui: &Ui, painter: &Painter, cx: &mut Cx<'_>) {
        let left = self.x(self.columns.thumbnail).min;
        let frame = Rect::from_min_size(
            pos2(left, self.rect.center().y - THUMBNAIL / 2.0),
            vec2(THUMBNAIL, THUMBNAIL),
        );
        let font = TextStyle::Small.resolve(ui.style());
        paint_picture(painter, cx, self.picture(), frame, &font);
    }

    fn picture(&self) -> Option<&std::path::Path> {
        self.listed.retrieved.names.get(&self.line.row)?.image_path.as_deref()
    }

    /// Caption, cosine and remarks.
    fn paint_text(&self, ui: &Ui, painter: &Painter, theme: &Theme) {
        let x = self.x(self.columns.text);
        let own_bar = self.columns.bar.is_some() && !self.columns.bar_below();
        let rows = if own_bar { 2 } else { 1 };
        let body = TextStyle::Body.resolve(ui.style());
        let name = listing::name(self.listed.retrieved, self.line.row);
        let caption = elided(painter, name, &body, theme.strong, x.span(), rows);
        let mut at = pos2(x.min, self.rect.top() + FIRST_LINE);
        let bottom = at.y + caption.size().y;
        painter.galley(at, caption, theme.strong);
        at.y = bottom + 2.0;

        let mono = TextStyle::Monospace.resolve(ui.style());
        let cosine = painter.layout_no_wrap(format!("{:.3}", self.line.score), mono, theme.text);
        let middle = at.y + cosine.size().y / 2.0;
        let mut flow = Flow { painter, at: pos2(at.x, middle), end: x.max };
        flow.put(cosine, theme.text);
        let small = TextStyle::Small.resolve(ui.style());
        let Some(item) = self.item() else { return };
        if item.relevant == Some(true) {
            flow.put_relevant(&small, theme);
        }
        if item.frozen_rank != self.line.place {
            let text = format!("frozen {}", super::words::grouped(item.frozen_rank));
            flow.put(painter.layout_no_wrap(text, small, theme.muted), theme.muted);
        }
    }

    fn paint_bars(&self, painter: &Painter, theme: &Theme, ui: &Ui) {
        let Some(range) = self.columns.bar else { return };
        let axis = RankAxis { range: self.x(range), items: self.listed.retrieved.gallery_size };
        let (y, span) = if self.columns.bar_below() {
            let top = self.rect.top() + FIRST_LINE + 2.0 * LINE + 4.0;
            (top + 6.0, Rangef::new(top - 2.0, self.rect.bottom() - 4.0))
        } else {
            (self.rect.center().y, self.rect.y_range())
        };
        let grid = Stroke::new(1.0, theme.text.gamma_multiply(0.12));
        for rank in axis.decades() {
            painter.vline(axis.x(rank), span, grid);
        }
        let other = self.listed.in_other(self.line.row);
        match self.item() {
            Some(item) => paint_interval(painter, theme, axis, item, y),
            None => {
                let font = TextStyle::Small.resolve(ui.style());
                let text = "not among the items with intervals";
                let galley = elided(painter, text, &font, theme.muted, axis.range.span(), 1);
                painter.galley(pos2(axis.range.min, y - 7.0), galley, theme.muted);
            }
        }
        if let Some(other) = other {
            paint_other(painter, theme, axis, other, y + 10.0);
        }
        if self.listed.view.sample.is_some() && self.item().is_some() {
            // Where this one sample puts the item.
            let x = axis.x(self.line.place);
            painter.vline(x, Rangef::new(y - 8.0, y + 8.0), Stroke::new(2.0, theme.strong));
        }
    }

    fn paint_shares(&self, ui: &Ui, painter: &Painter, theme: &Theme) {
        let Some(item) = self.item() else { return };
        let draws = self.listed.retrieved.draws;
        let font = TextStyle::Body.resolve(ui.style());
        let stacked = self.columns.shares_stacked();
        let top = self.rect.top() + FIRST_LINE;
        let write = |count: usize, range: Rangef, y: f32, colour: Color32| {
            let at = pos2(self.x(range).max, y);
            painter.text(at, egui::Align2::RIGHT_TOP, share(count, draws), font.clone(), colour);
        };
        let first = if stacked { top } else { self.rect.center().y - LINE };
        if let Some(range) = self.columns.top_1 {
            write(item.top_1_count, range, first, theme.text);
        }
        if let Some(range) = self.columns.top_k {
            let y = if stacked { first + LINE } else { first };
            write(item.top_k_count, range, y, theme.strong);
            if self.columns.dots {
                let corner = pos2(self.x(range).max - DOTS_WIDTH, y + LINE + 3.0);
                paint_dots(painter, theme, item.p_top_k, corner);
            }
        }
    }
}

/// Puts things side by side as long as there is room.
struct Flow<'a> {
    painter: &'a Painter,
    /// Middle of the left edge of what comes next.
    at: Pos2,
    end: f32,
}

impl Flow<'_> {
    fn put(&mut self, galley: Arc<Galley>, colour: Color32) -> bool {
        let size = galley.size();
        if self.at.x + size.x > self.end {
            return false;
        }
        self.painter.galley(pos2(self.at.x, self.at.y - size.y / 2.0), galley, colour);
        self.at.x += size.x + 8.0;
        true
    }

    /// A square with a tick, and the word where it fits.
    fn put_relevant(&mut self, font: &FontId, theme: &Theme) {
        const SIDE: f32 = 11.0;
        if self.at.x + SIDE > self.end {
            return;
        }
        let centre = pos2(self.at.x + SIDE / 2.0, self.at.y);
        paint_relevant_mark(self.painter, theme, centre, SIDE);
        self.at.x += SIDE + 3.0;
        let word = self.painter.layout_no_wrap("relevant".to_owned(), font.clone(), theme.relevant);
        if !self.put(word, theme.relevant) {
            self.at.x += 5.0;
        }
    }
}

fn paint_relevant_mark(painter: &Painter, theme: &Theme, centre: Pos2, side: f32) {
    let square = Rect::from_center_size(centre, vec2(side, side));
    painter.rect_filled(square, 2.0, theme.relevant);
    let unit = side / 11.0;
    let tick = [vec2(-3.0, 0.0), vec2(-1.0, 2.2), vec2(3.0, -2.4)];
    let points = tick.iter().map(|&offset| centre + offset * unit).collect();
    painter.line(points, Stroke::new(1.5, theme.panel));
}

/// A gallery picture inside `frame`, or what stands in for it.
pub fn paint_picture(
    painter: &Painter,
    cx: &mut Cx<'_>,
    path: Option<&std::path::Path>,
    frame: Rect,
    font: &FontId,
) {
    let theme = cx.theme;
    let edge = Stroke::new(1.0, theme.hairline);
    let instead = |text: &str| {
        painter.rect(frame, 2.0, theme.raised, edge, egui::StrokeKind::Inside);
        let galley = elided(painter, text, font, theme.muted, frame.width() - 8.0, 3);
        let at = frame.center() - galley.size() / 2.0;
        painter.galley(at, galley, theme.muted);
    };
    match path.map(|path| cx.textures.thumbnail(path)) {
        None => instead("no picture"),
        Some(ThumbnailState::Loading) => {
            painter.rect(frame, 2.0, theme.raised, edge, egui::StrokeKind::Inside);
        }
        Some(ThumbnailState::Failed(_)) => {
            instead(&format!("{} cannot be read", icons::FILE_IMAGE));
        }
        Some(ThumbnailState::Ready(texture)) => {
            let size = texture.size_vec2();
            let scale = (frame.width() / size.x).min(frame.height() / size.y);
            let rect = Rect::from_center_size(frame.center(), size * scale);
            let whole = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            painter.image(texture.id(), rect, whole, Color32::WHITE);
        }
    }
}

/// The middle half of the draws thick, the middle nine tenths thin, the median a dot.
fn paint_interval(painter: &Painter, theme: &Theme, axis: RankAxis, item: &RankedItem, y: f32) {
    let colour = theme.samples;
    let points = |low, high| {
        let (low, high) = (axis.x(low), axis.x(high));
        [pos2(low, y), pos2(high.max(low + 1.0), y)]
    };
    painter.line_segment(points(item.rank_low, item.rank_high), Stroke::new(1.5, colour));
    painter.line_segment(points(item.rank_q25, item.rank_q75), Stroke::new(5.0, colour));
    let median = pos2(axis.x(item.rank_median), y);
    painter.circle(median, 4.0, colour, Stroke::new(1.5, theme.panel));
}

/// The compared entry's middle nine tenths, dashed, and its median.
fn paint_other(painter: &Painter, theme: &Theme, axis: RankAxis, item: &RankedItem, y: f32) {
    let ends = [pos2(axis.x(item.rank_low), y), pos2(axis.x(item.rank_high), y)];
    let stroke = Stroke::new(1.5, theme.text);
    painter.extend(Shape::dashed_line(&ends, stroke, 4.0, 3.0));
    painter.circle(pos2(axis.x(item.rank_median), y), 2.5, theme.panel, stroke);
}

/// A share as filled dots out of twenty, in two rows.
fn paint_dots(painter: &Painter, theme: &Theme, share: f64, corner: Pos2) {
    let filled = (share * DOTS as f64).round() as usize;
    for dot in 0..DOTS {
        let (column, row) = (dot % (DOTS / 2), dot / (DOTS / 2));
        let centre = corner + DOT_PITCH * vec2(column as f32, row as f32) + vec2(2.0, 2.5);
        if dot < filled {
            painter.circle_filled(centre, DOT_RADIUS, theme.samples);
        } else {
            painter.circle_stroke(centre, DOT_RADIUS - 0.5, Stroke::new(1.0, theme.edge));
        }
    }
}
