//! The headings above the rows: what the columns are, and the axis of ranks.

use egui::{FontId, Pos2, Rangef, Rect, Sense, Stroke, TextStyle, Ui, pos2, vec2};

use super::columns::Columns;
use super::rank_axis::{RankAxis, label};
use super::row::{self, elided};
use super::{Listed, words};
use crate::app::theme::Theme;

/// Height of one line of headings.
const LINE: f32 = 15.0;
/// Room for the axis: its labels, then its marks.
const AXIS: f32 = 18.0;

/// Draws the headings over the full width.
pub fn ui(ui: &mut Ui, theme: &Theme, listed: &Listed<'_>) {
    let columns = row::columns(ui, listed);
    let Some(bar) = columns.bar else { return };
    let legend_lines = if columns.bar_below() { 2 } else { 1 };
    let size = vec2(ui.available_width(), LINE * legend_lines as f32 + AXIS);
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let at = |range: Rangef| Rangef::new(rect.left() + range.min, rect.left() + range.max);
    let font = TextStyle::Small.resolve(ui.style());

    // The legend starts above the bars, or further left where they are too narrow for it.
    let retrieved = listed.retrieved;
    let legend = words::legend(retrieved.draws, listed.view.sample, listed.other.is_some());
    let end = columns.top_1.or(columns.top_k).map_or(bar.max, |shares| shares.min - 12.0);
    let end = end.max(bar.max);
    let wanted = ui.painter().layout_no_wrap(legend.clone(), font.clone(), theme.muted).size().x;
    let start = if columns.bar_below() { 0.0 } else { bar.min.min(end - wanted).max(0.0) };
    let galley = elided(ui.painter(), &legend, &font, theme.muted, end - start, legend_lines);
    ui.painter().galley(pos2(rect.left() + start, rect.top()), galley, theme.muted);

    let k = retrieved.top_k;
    let right_aligned = |text: String, range: Rangef, line: usize| {
        let galley = elided(ui.painter(), &text, &font, theme.muted, range.span(), 1);
        let x = rect.left() + range.max - galley.size().x;
        ui.painter().galley(pos2(x, rect.top() + LINE * line as f32), galley, theme.muted);
    };
    let stacked = columns.shares_stacked();
    if let Some(range) = columns.top_1 {
        right_aligned("P(top 1)".to_owned(), range, 0);
    }
    if let Some(range) = columns.top_k {
        right_aligned(format!("P(top {k})"), range, usize::from(stacked));
    }
    let axis = RankAxis { range: at(bar), items: retrieved.gallery_size };
    paint_axis(ui, theme, axis, &font, rect);
    explain(ui, listed, &response, &columns, rect);
}

fn paint_axis(ui: &Ui, theme: &Theme, axis: RankAxis, font: &FontId, rect: Rect) {
    let painter = ui.painter();
    let line = Stroke::new(1.0, theme.edge);
    let bottom = rect.bottom();
    painter.hline(axis.range, bottom - 0.5, line);
    for rank in axis.decades() {
        painter.vline(axis.x(rank), Rangef::new(bottom - 4.0, bottom), line);
    }
    let galley = |rank| painter.layout_no_wrap(label(rank), font.clone(), theme.muted);
    for rank in axis.labels(|rank| galley(rank).size().x) {
        let galley = galley(rank);
        let x = axis.label_range(rank, galley.size().x).min;
        painter.galley(Pos2::new(x, bottom - AXIS), galley, theme.muted);
    }
}

/// Tooltips of the parts.
fn explain(ui: &Ui, listed: &Listed<'_>, response: &egui::Response, columns: &Columns, rect: Rect) {
    let retrieved = listed.retrieved;
    let first = listed.lines.iter().find_map(|line| Some((line, listed.item(line)?)));
    let id = response.id;
    let part = |name: &str, range: Rangef, y: Rangef, text: String| {
        let x = Rangef::new(rect.left() + range.min, rect.left() + range.max);
        let rect = Rect::from_x_y_ranges(x, y);
        ui.interact(rect, id.with(name), Sense::hover()).on_hover_text(text);
    };
    let whole = rect.y_range();
    let stacked = columns.shares_stacked();
    let middle = rect.top() + LINE;
    let shares_start = columns.top_1.or(columns.top_k).map_or(rect.width(), |range| range.min);
    let legend = words::legend(retrieved.draws, listed.view.sample, listed.other.is_some());
    let legend = format!("{legend}.\n{} Ranks of {}, log scale.", words::RANK_INTERVAL, {
        words::grouped(retrieved.gallery_size)
    });
    part("legend", Rangef::new(0.0, shares_start), whole, legend);
    let Some((line, item)) = first else { return };
    let example = |text: String| format!("Here for rank {}. {text}", line.place);
    if let Some(range) = columns.top_1 {
        let y = if stacked { Rangef::new(rect.top(), middle) } else { whole };
        part("top 1", range, y, example(words::top_1(item, retrieved.draws)));
    }
    if let Some(range) = columns.top_k {
        let y = if stacked { Rangef::new(middle, rect.bottom()) } else { whole };
        part("top k", range, y, example(words::top_k(item, retrieved.top_k, retrieved.draws)));
    }
}
