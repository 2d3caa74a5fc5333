//! The tiles of A and B, paired by their index.

use egui::{Rect, RichText, Role, Sense, Ui, WidgetInfo, pos2, vec2};

use crate::app::action::Action;
use crate::app::layout::PaneKind;
use crate::app::panes::Cx;
use crate::app::panes::samples::statistics;
use crate::app::panes::samples::tile::{self, Marks};
use crate::app::state::history::Entry;
use crate::app::state::sample_order::sample_count;
use crate::app::state::selection::{Item, SelectMode};

const TILE: f32 = 96.0;
const GAP: f32 = 2.0;
/// Between two pairs.
const SPACE: f32 = 16.0;
/// Height of the index above a pair.
const TITLE: f32 = 18.0;

/// Shows the pairs; the item under the pointer.
pub fn show(ui: &mut Ui, cx: &mut Cx<'_>, a: &Entry, b: &Entry) -> Option<Item> {
    let count = 1 + sample_count(a).max(sample_count(b));
    let same_seed = a.recipe.sampling.seed == b.recipe.sampling.seed;
    let note = if same_seed {
        "A left, B right, paired by index: the same random numbers behind both."
    } else {
        "A left, B right, by index. The seeds differ, so part of the difference is luck."
    };
    ui.label(RichText::new(note).small().color(cx.theme.muted));

    let width = ui.available_width();
    let tile = TILE.min((width - GAP) / 2.0).max(16.0);
    let pair = vec2(2.0 * tile + GAP, tile + TITLE);
    let columns = (((width + SPACE) / (pair.x + SPACE)).floor() as usize).max(1);
    let pitch = pair.y + 6.0;
    let rows = count.div_ceil(columns);
    let (_, all) = ui.allocate_space(vec2(width, pitch * rows as f32));
    let clip = ui.clip_rect();
    let row_at = |y: f32| ((y - all.top()) / pitch).max(0.0);
    let first = row_at(clip.top()).floor() as usize * columns;
    let last = (row_at(clip.bottom()).ceil() as usize * columns).min(count);
    let id = ui.scope_id().with("pairs");
    let mut hovered = None;
    for index in first..last {
        let item = if index == 0 { Item::Mean } else { Item::Sample(index - 1) };
        let corner = all.min
            + vec2((index % columns) as f32 * (pair.x + SPACE), (index / columns) as f32 * pitch);
        let rect = Rect::from_min_size(corner, pair);
        let response = ui.interact(rect, id.with(index), Sense::CLICK);
        let selection = &cx.state.selection;
        let marks = Marks {
            selected: selection.contains(item),
            hovered: response.hovered() || selection.hovered == Some(item),
            focused: false,
            opacity: selection.opacity(item),
            step: None,
        };
        let name = statistics::name(item);
        response.widget_info(|| {
            let name = format!("{name}, A and B");
            WidgetInfo::selected(Role::Button, ui.is_enabled(), marks.selected, name)
        });
        let galley = tile::elided(ui.painter(), name, 11.0, cx.theme.muted, pair.x);
        ui.painter().galley(corner, galley, cx.theme.muted);
        for (place, entry) in [(0.0, a), (tile + GAP, b)] {
            let at = pos2(corner.x + place, corner.y + TITLE);
            let square = Rect::from_min_size(at, vec2(tile, tile));
            tile::paint(ui, cx, square, entry, item, &marks);
        }
        if response.hovered() {
            hovered = Some(item);
        }
        if response.double_clicked() {
            cx.send(Action::Enlarge(Some(item)));
        } else if response.clicked() {
            let toggle = ui.input(|input| input.modifiers.command);
            let mode = if toggle { SelectMode::Toggle } else { SelectMode::Replace };
            cx.send(Action::Select { items: vec![item], mode, from: PaneKind::Compare });
        }
    }
    hovered
}
