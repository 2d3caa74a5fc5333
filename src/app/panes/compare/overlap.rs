//! What A and B find in the gallery: how much they share, and where each ranks it.

use egui::{Align2, FontId, Painter, Pos2, Rect, Role, Sense, Shape, Stroke, Ui, WidgetInfo};
use egui::{RichText, pos2, vec2};

use super::comparison::{Overlap, Ranks};
use crate::app::action::Action;
use crate::app::layout::PaneKind;
use crate::app::panes::Cx;
use crate::app::panes::samples::tile::elided;
use crate::app::state::selection::{Item, SelectMode};
use crate::app::theme::Theme;

const ROW: f32 = 36.0;
const AXIS: f32 = 18.0;
const SMALL: f32 = 11.0;
const INTERVAL: &str = "This item's rank in the middle 90 % of samples. Each item by itself; two \
                        overlapping bars may still have a clear order.";

/// Shows the shared items and every item's possible ranks; the item under the pointer.
pub fn show(ui: &mut Ui, cx: &mut Cx<'_>, overlap: &Overlap) -> Option<Item> {
    let Overlap { k, shared, gallery_size, draws, .. } = overlap;
    ui.label(format!("{shared} of the first {k} are shared (searched with the mean)."));
    let legend = format!(
        "Possible ranks of {gallery_size}: dot median, thick middle 50 %, thin middle 90 % of \
         draws (A above, solid, n = {}; B below, dashed, n = {}). Each item by itself.",
        draws.a, draws.b
    );
    ui.label(RichText::new(legend).small().color(cx.theme.muted)).on_hover_text(INTERVAL);

    let width = ui.available_width();
    let names = (0.36 * width).clamp(72.0, 220.0);
    let (_, axis) = ui.allocate_space(vec2(width, AXIS));
    let lane = |rect: Rect| {
        Rect::from_min_max(pos2(rect.left() + names + 8.0, rect.top()), rect.max - vec2(8.0, 0.0))
    };
    let scale = RankScale {
        left: lane(axis).left(),
        right: lane(axis).right(),
        gallery_size: *gallery_size,
    };
    paint_axis(ui.painter(), cx.theme, axis, &scale);

    let height = ROW * overlap.rows.len() as f32;
    let (_, all) = ui.allocate_space(vec2(width, height));
    let clip = ui.clip_rect();
    let row_at = |y: f32| ((y - all.top()) / ROW).max(0.0);
    let first = row_at(clip.top()).floor() as usize;
    let last = (row_at(clip.bottom()).ceil() as usize).min(overlap.rows.len());
    let id = ui.scope_id().with("overlap");
    let mut hovered = None;
    for index in first..last {
        let row = &overlap.rows[index];
        let item = Item::Gallery(row.row);
        let top = all.top() + ROW * index as f32;
        let rect = Rect::from_min_size(pos2(all.left(), top), vec2(width, ROW));
        let response = ui.interact(rect, id.with(row.row), Sense::CLICK);
        let selection = &cx.state.selection;
        let selected = selection.contains(item);
        response.widget_info(|| {
            WidgetInfo::selected(Role::Button, ui.is_enabled(), selected, &row.name)
        });
        let mut painter = ui.painter().clone();
        if selected {
            painter.rect_filled(rect, 3, cx.theme.selection);
        } else if response.hovered() || selection.hovered == Some(item) {
            painter.rect_filled(rect, 3, cx.theme.hover);
        }
        painter.multiply_opacity(selection.opacity(item));
        let galley = elided(&painter, row.name.as_str(), 13.0, cx.theme.text, names - 4.0);
        let whole = galley.elided;
        let corner = pos2(rect.left() + 4.0, rect.center().y - galley.size().y / 2.0);
        painter.galley(corner, galley, cx.theme.text);
        let middle = rect.center().y;
        paint_ranks(&painter, cx.theme, &scale, middle - 7.0, row.a.as_ref(), false);
        paint_ranks(&painter, cx.theme, &scale, middle + 7.0, row.b.as_ref(), true);
        if response.hovered() {
            hovered = Some(item);
        }
        if response.clicked() {
            let toggle = ui.input(|input| input.modifiers.command);
            let mode = if toggle { SelectMode::Toggle } else { SelectMode::Replace };
            cx.send(Action::Select { items: vec![item], mode, from: PaneKind::Compare });
        }
        response.on_hover_ui(|ui| {
            if whole {
                ui.label(&row.name);
            }
            ui.label(format!("A: {}", in_words(row.a.as_ref(), *k)));
            ui.label(format!("B: {}", in_words(row.b.as_ref(), *k)));
        });
    }
    hovered
}

fn in_words(ranks: Option<&Ranks>, k: usize) -> String {
    match ranks {
        None => format!("not listed (beyond the first {k}, and rarely among them)"),
        Some(ranks) => format!(
            "rank {} by the mean; median {}, 50 % within {} to {}, 90 % within {} to {}",
            ranks.mean, ranks.median, ranks.q25, ranks.q75, ranks.low, ranks.high
        ),
    }
}

/// Ranks on a log axis.
struct RankScale {
    left: f32,
    right: f32,
    gallery_size: usize,
}

impl RankScale {
    fn x(&self, rank: usize) -> f32 {
        let end = (self.gallery_size.max(2) as f32).ln();
        let share = (rank.max(1) as f32).ln() / end;
        egui::lerp(self.left..=self.right, share.min(1.0))
    }

    /// 1, 10, 100, ... as far as there are items.
    fn ticks(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(Some(1usize), |tick| tick.checked_mul(10))
            .take_while(|&tick| tick <= self.gallery_size.max(1))
    }
}

fn paint_axis(painter: &Painter, theme: &Theme, rect: Rect, scale: &RankScale) {
    let font = || FontId::proportional(SMALL);
    painter.text(rect.left_center(), Align2::LEFT_CENTER, "rank (log)", font(), theme.muted);
    let mut free_from = f32::NEG_INFINITY;
    for tick in scale.ticks() {
        let x = scale.x(tick);
        painter.vline(x, rect.bottom() - 3.0..=rect.bottom(), Stroke::new(1.0, theme.edge));
        let galley = painter.layout_no_wrap(tick.to_string(), font(), theme.muted);
        let left = (x - galley.size().x / 2.0).min(rect.right() - galley.size().x);
        if left > free_from {
            free_from = left + galley.size().x + 4.0;
            painter.galley(pos2(left, rect.top()), galley, theme.muted);
        }
    }
    painter.hline(scale.left..=scale.right, rect.bottom(), Stroke::new(1.0, theme.edge));
}

/// One interval: A solid and filled, B dashed and hollow.
fn paint_ranks(
    painter: &Painter,
    theme: &Theme,
    scale: &RankScale,
    y: f32,
    ranks: Option<&Ranks>,
    dashed: bool,
) {
    let letter = if dashed { "B" } else { "A" };
    let Some(ranks) = ranks else {
        let at = pos2(scale.right, y);
        let text = format!("{letter} not listed");
        let font = FontId::proportional(SMALL);
        painter.text(at, Align2::RIGHT_CENTER, text, font, theme.muted);
        return;
    };
    let at = |rank: usize| pos2(scale.x(rank), y);
    let line = |from: Pos2, to: Pos2, width: f32| {
        let stroke = Stroke::new(width, theme.total);
        if dashed {
            painter.extend(Shape::dashed_line(&[from, to], stroke, 4.0, 3.0));
        } else {
            painter.line_segment([from, to], stroke);
        }
    };
    line(at(ranks.low), at(ranks.high), 1.0);
    line(at(ranks.q25), at(ranks.q75), 4.0);
    let fill = if dashed { theme.panel } else { theme.strong };
    painter.circle(at(ranks.median), 3.5, fill, Stroke::new(1.5, theme.strong));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_stand_on_a_log_axis_from_the_first_to_the_last_item() {
        let scale = RankScale { left: 0.0, right: 300.0, gallery_size: 1000 };
        assert_eq!(scale.x(1), 0.0);
        assert!((scale.x(10) - 100.0).abs() < 1e-3);
        assert!((scale.x(1000) - 300.0).abs() < 1e-3);
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [1, 10, 100, 1000]);
    }

    #[test]
    fn a_gallery_of_one_item_still_has_an_axis() {
        let scale = RankScale { left: 0.0, right: 300.0, gallery_size: 1 };
        assert_eq!(scale.x(1), 0.0);
        assert_eq!(scale.ticks().collect::<Vec<_>>(), [1]);
    }
}
