//! One tile: picture, frame, badge, caption; and the card that tells more.

use egui::{Color32, FontId, Rect, RichText, Stroke, StrokeKind, Ui, pos2, vec2};

use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::history::{Entry, TileState};
use crate::app::state::selection::Item;
use crate::app::textures::ThumbnailState;
use crate::app::theme;
use crate::app::widgets;
use crate::session::recipe::RecipeQuery;
use crate::session::result::{QueryResult, SampleStatistics};

/// Tiles from this size on have a caption.
const CAPTION_FROM: f32 = 120.0;
pub const CAPTION_HEIGHT: f32 = 18.0;

/// Height of a tile with what stands below its picture.
pub fn height(side: f32) -> f32 {
    if side >= CAPTION_FROM { side + CAPTION_HEIGHT } else { side }
}

/// The place of an item among the pictures: 0 is the mean, i + 1 sample i.
pub fn place_of(item: Item) -> Option<usize> {
    match item {
        Item::Mean => Some(0),
        Item::Sample(sample) => Some(sample + 1),
        _ => None,
    }
}

/// What a tile is called.
pub fn name(item: Item) -> String {
    match item {
        Item::Query => "query".to_owned(),
        Item::Mean => "mean".to_owned(),
        Item::Sample(sample) => format!("sample {sample}"),
        other => format!("{other:?}"),
    }
}

/// Draws an item into `rect`, whose width is the side of the picture.
pub fn draw(ui: &Ui, cx: &mut Cx<'_>, entry: &Entry, item: Item, rect: Rect, cursor: bool) {
    let side = rect.width();
    let picture = Rect::from_min_size(rect.min, vec2(side, side));
    let opacity = cx.state.selection.opacity(item);
    let alpha = |colour: Color32| colour.gamma_multiply(opacity);
    let painter = ui.painter();
    painter.rect_filled(picture, 2.0, alpha(cx.theme.raised));
    let shown = match item {
        Item::Query => query(ui, cx, entry, picture, opacity),
        _ => picture_of(ui, cx, entry, item, picture, opacity),
    };
    let painter = ui.painter();
    if !shown && item != Item::Query {
        let size = (side / 5.0).clamp(11.0, 22.0);
        let text = match item {
            Item::Sample(sample) => format!("#{sample}"),
            _ => "\u{3bc}".to_owned(),
        };
        let colour = alpha(cx.theme.muted);
        painter.text(picture.center(), egui::Align2::CENTER_CENTER, text, FontId::proportional(size), colour);
    }
    if let Some(letter) = badge(item) {
        let badge = Rect::from_min_size(picture.min + vec2(4.0, 4.0), vec2(18.0, 18.0));
        painter.rect_filled(badge, 3.0, cx.theme.panel.gamma_multiply(0.85));
        let font = theme::strong(12.0);
        painter.text(badge.center(), egui::Align2::CENTER_CENTER, letter, font, cx.theme.strong);
    }
    if side >= CAPTION_FROM {
        let text = caption(entry, item);
        let mut job =
            egui::text::LayoutJob::simple_singleline(text, FontId::proportional(11.0), alpha(cx.theme.muted));
        job.wrap = egui::text::TextWrapping::truncate_at_width(side);
        let galley = painter.layout_job(job);
        painter.galley(pos2(rect.left(), picture.bottom() + 3.0), galley, cx.theme.muted);
    }
    let selection = &cx.state.selection;
    if selection.contains(item) {
        painter.rect_stroke(picture, 2.0, Stroke::new(2.0, cx.theme.accent), StrokeKind::Outside);
        let tick = Rect::from_min_size(picture.right_top() + vec2(-20.0, 4.0), vec2(16.0, 16.0));
        painter.rect_filled(tick, 8.0, cx.theme.primary);
        let font = FontId::proportional(11.0);
        painter.text(tick.center(), egui::Align2::CENTER_CENTER, icons::CHECK, font, Color32::WHITE);
    } else if selection.hovered == Some(item) {
        painter.rect_stroke(picture, 2.0, Stroke::new(1.0, cx.theme.strong), StrokeKind::Outside);
    }
    if cursor {
        let ring = picture.expand(2.0);
        painter.rect_stroke(ring, 3.0, Stroke::new(1.5, cx.theme.edge), StrokeKind::Outside);
    }
}

/// A letter in the corner of what is no sample.
fn badge(item: Item) -> Option<&'static str> {
    match item {
        Item::Query => Some("Q"),
        Item::Mean => Some("\u{3bc}"),
        _ => None,
    }
}

/// Draws the picture of the mean or a sample; false where there is none.
pub fn picture_of(
    ui: &Ui,
    cx: &mut Cx<'_>,
    entry: &Entry,
    item: Item,
    picture: Rect,
    opacity: f32,
) -> bool {
    let Some(place) = place_of(item) else { return false };
    let id = egui::Id::unique(("tile", entry.id.0, place));
    let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
    let white = Color32::WHITE.gamma_multiply(opacity);
    match entry.tiles.get(place) {
        Some(TileState::Done(tile)) => {
            let texture = cx.textures.picture(id, u64::MAX, &tile.image);
            ui.painter().image(texture.id(), picture, uv, white);
            true
        }
        Some(TileState::Preview { image, version }) => {
            let texture = cx.textures.picture(id, u64::from(*version), image);
            // Paler than a finished picture, with a dot, so that nobody takes it for one.
            ui.painter().image(texture.id(), picture, uv, white.gamma_multiply(0.85));
            let dot = picture.right_top() + vec2(-8.0, 8.0);
            ui.painter().circle_filled(dot, 4.0, cx.theme.warning);
            let progress = cx.state.jobs.iter().find(|job| job.entry == Some(entry.id));
            if let Some(fraction) = progress.and_then(|job| job.fraction()) {
                let bar = Rect::from_min_size(
                    pos2(picture.left(), picture.bottom() - 2.0),
                    vec2(picture.width() * fraction, 2.0),
                );
                ui.painter().rect_filled(bar, 0.0, cx.theme.accent);
            }
            true
        }
        _ => false,
    }
}

/// Draws the query: its image, or its text in quotes.
fn query(ui: &Ui, cx: &mut Cx<'_>, entry: &Entry, picture: Rect, opacity: f32) -> bool {
    match &entry.recipe.query {
        RecipeQuery::Image { path, .. } => {
            let ThumbnailState::Ready(texture) = cx.textures.thumbnail(path) else { return false };
            let size = texture.size_vec2();
            let fitted = size * (picture.width() / size.max_elem());
            let place = Rect::from_center_size(picture.center(), fitted);
            let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
            ui.painter().image(texture.id(), place, uv, Color32::WHITE.gamma_multiply(opacity));
            true
        }
        RecipeQuery::Text(text) => {
            let size = (picture.width() / 9.0).clamp(9.0, 15.0);
            let colour = cx.theme.text.gamma_multiply(opacity);
            let text = widgets::shorten(&text.replace('\n', " "), 90);
            let mut job = egui::text::LayoutJob::simple(
                format!("\u{201c}{text}\u{201d}"),
                FontId::proportional(size),
                colour,
                picture.width() - 16.0,
            );
            job.halign = egui::Align::Center;
            let galley = ui.painter().layout_job(job);
            let top = picture.center().y - galley.size().y / 2.0;
            ui.painter().with_clip_rect(picture.intersect(ui.clip_rect())).galley(
                pos2(picture.center().x, top),
                galley,
                colour,
            );
            true
        }
    }
}

fn caption(entry: &Entry, item: Item) -> String {
    match item {
        Item::Query => "query".to_owned(),
        Item::Mean => "mean (no typical draw)".to_owned(),
        Item::Sample(sample) => match statistics(entry, sample) {
            Some(s) => {
                let mut text = format!("#{sample} · {:.0} % typical", 100.0 * s.typicality);
                if let Some(nearest) = &s.nearest {
                    text += &format!(" · {}", nearest.caption.as_ref().unwrap_or(&nearest.image));
                }
                text
            }
            None => format!("#{sample}"),
        },
        _ => String::new(),
    }
}

fn statistics(entry: &Entry, sample: usize) -> Option<&SampleStatistics> {
    Some(&entry.result.as_ref()?.samples.get(sample)?.statistics)
}

/// Lines about an item, for the card and the large view.
pub fn lines(result: &QueryResult, item: Item) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    match item {
        Item::Sample(sample) => {
            let Some(sample) = result.samples.get(sample) else { return lines };
            let s = &sample.statistics;
            let seed = result.recipe.sampling.seed;
            lines.push(("Draw", format!("#{}, seed {seed}", s.index)));
            lines.push(("Typicality", format!("likelier than {:.0} % of draws", 100.0 * s.typicality)));
            let dim = result.distribution.dim() as f64;
            lines.push(("Log-density", format!("{:.3} nats per dimension", s.log_prob / dim)));
            lines.push(("Distance to mean", format!("{:.3} embedding units", s.distance_to_mean)));
            lines.push(("Cosine to mean", format!("{:.3}", s.cosine_to_mean)));
            if let Some(nearest) = &s.nearest {
                let name = nearest.caption.as_ref().unwrap_or(&nearest.image);
                lines.push(("Best match", format!("{name} ({:.3})", nearest.score)));
            }
            if let Some(cosine) = s.decoded_cosine {
                lines.push(("Re-embedded", format!("cosine {cosine:.3} with its draw")));
            }
        }
        Item::Mean => {
            lines.push(("Mean", "scores highest though almost no draw is near it".to_owned()));
        }
        Item::Query => lines.push(("Query", result.title())),
        _ => {}
    }
    lines
}

/// The card beside a hovered tile.
pub fn card(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry, item: Item) {
    ui.set_width(260.0);
    let title = widgets::capitalised(&name(item));
    ui.label(RichText::new(title).font(theme::strong(13.0)).color(cx.theme.strong));
    if item != Item::Query {
        let (rect, _) = ui.allocate_exact_size(vec2(128.0, 128.0), egui::Sense::hover());
        picture_of(ui, cx, entry, item, rect, 1.0);
    }
    let Some(result) = &entry.result else { return };
    for (label, value) in lines(result, item) {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(label).small().color(cx.theme.muted));
            ui.label(RichText::new(value).small());
        });
    }
}
