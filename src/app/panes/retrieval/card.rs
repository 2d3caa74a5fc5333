//! The card of one item: its picture, its whole caption, and its numbers in words.

use egui::{Popup, PopupKind, Rect, RectAlign, RichText, Sense, TextStyle, Ui, vec2};

use super::{Line, Listed, row, words};
use crate::app::panes::Cx;
use crate::app::theme;

/// Time in seconds for which the pointer rests on a row before its card opens.
pub const DWELL: f64 = 0.125;
const WIDTH: f32 = 260.0;
const PICTURE: f32 = 128.0;

/// Shows the card of a line beside `anchor`, its row on screen.
pub fn show(ui: &Ui, cx: &mut Cx<'_>, listed: &Listed<'_>, line: &Line, anchor: Rect) {
    let elsewhere = [
        RectAlign::RIGHT_START,
        RectAlign::LEFT_END,
        RectAlign::RIGHT_END,
        RectAlign::BOTTOM,
        RectAlign::TOP,
    ];
    let card = Popup::new(ui.scope_id().with("card"), ui.ctx().clone(), anchor, ui.layer_id())
        .kind(PopupKind::Tooltip)
        .align(RectAlign::LEFT_START)
        .align_alternatives(&elsewhere)
        .gap(8.0)
        .width(WIDTH)
        .sense(Sense::hover())
        .interactable(false);
    card.show(|ui| {
        ui.set_max_width(WIDTH);
        content(ui, cx, listed, line);
    });
}

fn content(ui: &mut Ui, cx: &mut Cx<'_>, listed: &Listed<'_>, line: &Line) {
    let theme = cx.theme;
    let retrieved = listed.retrieved;
    let name = retrieved.names.get(&line.row);
    let (frame, _) = ui.allocate_exact_size(vec2(PICTURE, PICTURE), Sense::hover());
    let font = TextStyle::Small.resolve(ui.style());
    let path = name.and_then(|name| name.image_path.as_deref());
    row::paint_picture(ui.painter(), cx, path, frame, &font);
    if let Some(name) = name {
        if let Some(caption) = &name.caption {
            let caption = RichText::new(caption).color(theme.strong).font(theme::strong(13.0));
            ui.label(caption);
        }
        ui.label(RichText::new(&name.image).small().color(theme.muted));
    }
    let with = match listed.view.sample {
        Some(sample) => format!("sample #{sample}"),
        None => "the mean".to_owned(),
    };
    ui.label(format!("Rank {}, cosine {:.3} with {with}", line.place, line.score));
    let Some(item) = listed.item(line) else {
        ui.label(
            RichText::new("Only this sample ranks it high: its possible ranks were not computed.")
                .color(theme.muted),
        );
        return;
    };
    ui.label(words::ranks(item));
    ui.label(words::top_1(item, retrieved.draws));
    ui.label(words::top_k(item, retrieved.top_k, retrieved.draws));
    let frozen = format!("Rank {} by the frozen embedding", words::grouped(item.frozen_rank));
    ui.label(RichText::new(frozen).color(theme.muted));
    if item.relevant == Some(true) {
        ui.label(RichText::new(words::relevant()).color(theme.relevant));
    }
    if let Some(other) = listed.in_other(line.row) {
        let text = format!("B: cosine {:.3}. {}", other.score, words::ranks(other));
        ui.label(RichText::new(text).color(theme.muted));
    }
}
