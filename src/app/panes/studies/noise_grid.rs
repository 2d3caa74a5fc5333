//! K embeddings crossed with M decoder noises: the pictures, and what their difference comes from.

use egui::{
    Align2, Color32, DragValue, FontId, Id, Rect, RichText, Sense, Stroke, StrokeKind, Ui,
    WidgetInfo, pos2, vec2,
};

use super::picture::Picture;
use super::{job_state, made_with, note, plan};
use crate::app::action::Action;
use crate::app::chart::diamond;
use crate::app::icons;
use crate::app::layout::PaneKind;
use crate::app::panes::Cx;
use crate::app::panes::hover::HoverTeller;
use crate::app::state::Study;
use crate::app::state::history::{Entry, EntryId};
use crate::app::state::jobs::JobKind;
use crate::app::state::selection::{Item, SelectMode};
use crate::app::theme;
use crate::app::widgets;
use crate::session::studies::noise_grid::{NoiseGrid, Share};

const GAP: f32 = 4.0;
/// Names of the rows stand in this width, names of the columns in this height.
const ROW_NAME: f32 = 76.0;
const COLUMN_NAME: f32 = 18.0;
const SMALLEST: f32 = 40.0;
const LARGEST: f32 = 128.0;
/// Embeddings and noises at most: larger grids take long and tell little more.
const MOST: usize = 16;

/// Size of the next grid.
pub struct NoiseGridView {
    embeddings: usize,
    noises: usize,
    hover: HoverTeller,
}

impl Default for NoiseGridView {
    fn default() -> Self {
        Self { embeddings: 4, noises: 4, hover: HoverTeller::default() }
    }
}

impl NoiseGridView {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry) {
        let state = cx.state;
        let samples = entry.result.as_ref().map_or(0, |result| result.samples.len());
        if samples < 2 {
            let text = "This query has one sample; a grid needs two. Raise the number of samples \
                        in the Query pane and run it again.";
            ui.add(egui::Label::new(text).wrap());
            return;
        }
        let most = samples.min(MOST);
        self.embeddings = self.embeddings.clamp(2, most);
        let job = state.jobs.latest(JobKind::NoiseGrid);
        ui.horizontal_wrapped(|ui| {
            let tip = "K: how many samples of the distribution are decoded, the first ones";
            let label = ui.label("Embeddings").on_hover_text(tip);
            ui.add(DragValue::new(&mut self.embeddings).range(2..=most))
                .labelled_by(label.id)
                .on_hover_text(tip);
            let tip = "M: how many noises of the decoder each of them is decoded with";
            let label = ui.label("x noises").on_hover_text(tip);
            ui.add(DragValue::new(&mut self.noises).range(2..=MOST))
                .labelled_by(label.id)
                .on_hover_text(tip);
            ui.add_enabled_ui(job.is_none(), |ui| {
                let text = format!("{} Decode grid", icons::PLAY);
                let response = widgets::primary_button(ui, cx.theme, &text)
                    .on_hover_text("Decodes every embedding with every noise")
                    .on_disabled_hover_text("A grid is being decoded");
                if response.clicked() {
                    let (embeddings, noises) = (self.embeddings, self.noises);
                    cx.send(Action::NoiseGrid { embeddings, noises });
                }
            });
            let images = self.embeddings * self.noises;
            let text = plan(images, entry.recipe.decoding.steps, state.pace);
            ui.label(RichText::new(text).small().color(cx.theme.muted));
        });
        note(
            ui,
            cx,
            "Sample tiles that share one noise say nothing about the decoder: only embeddings and \
             noises crossed tell the two apart.",
        );
        if job_state(ui, cx, job, &state.noise_grid, "The grid failed") {
            return;
        }
        if let Study::Done { entry, result } = &state.noise_grid {
            ui.add_space(8.0);
            made_with(ui, cx, *entry);
            shares(ui, cx, result);
            ui.add_space(12.0);
            self.pictures(ui, cx, *entry, result);
        }
    }

    /// The pictures: one row per embedding, one column per noise.
    fn pictures(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, entry: Option<EntryId>, grid: &NoiseGrid) {
        let (rows, columns) = (grid.embeddings, grid.noises);
        let side = side(ui.available_width(), columns);
        let wanted = vec2(
            ROW_NAME + columns as f32 * (side + GAP),
            COLUMN_NAME + rows as f32 * (side + GAP),
        );
        // Samples of another query are other samples.
        let linked = entry == cx.state.current;
        let mut hovered = None;
        egui::ScrollArea::horizontal().id_salt("grid").show(ui, |ui| {
            let (place, _) = ui.allocate_exact_size(wanted, Sense::hover());
            let origin = place.min + vec2(ROW_NAME, COLUMN_NAME);
            let small = FontId::proportional(11.0);
            for column in 0..columns {
                let middle = origin.x + column as f32 * (side + GAP) + side / 2.0;
                let text =
                    if side < 56.0 { format!("{column}") } else { format!("noise {column}") };
                let at = pos2(middle, place.top());
                ui.painter().text(at, Align2::CENTER_TOP, text, small.clone(), cx.theme.muted);
            }
            for row in 0..rows {
                let top = origin.y + row as f32 * (side + GAP);
                let name_rect =
                    Rect::from_min_size(pos2(place.left(), top), vec2(ROW_NAME - 6.0, side));
                if row_name(ui, cx, name_rect, row, linked) {
                    hovered = Some(row);
                }
                for column in 0..columns {
                    let left = origin.x + column as f32 * (side + GAP);
                    let rect = Rect::from_min_size(pos2(left, top), vec2(side, side));
                    let Some(tile) = grid.tiles.get(row * columns + column) else { continue };
                    let id = Id::unique(("grid", entry.map(|entry| entry.0), row, column));
                    let name = format!("sample {row}, noise {column}");
                    let details = "Along a row the embedding stays and the noise changes, along a \
                                   column the other way round.";
                    let picture = Picture { id, tile, name: &name, details, is_mean: false };
                    if picture.draw(ui, cx, rect).contains_pointer() {
                        hovered = Some(row);
                    }
                }
                if linked && cx.state.selection.hovered == Some(Item::Sample(row)) {
                    let size = vec2(columns as f32 * (side + GAP) - GAP, side);
                    let whole = Rect::from_min_size(pos2(origin.x, top), size).expand(1.5);
                    let stroke = Stroke::new(1.0, cx.theme.samples);
                    ui.painter().rect_stroke(whole, 2.0, stroke, StrokeKind::Outside);
                }
            }
        });
        self.hover.tell(cx, hovered.filter(|_| linked).map(Item::Sample));
    }
}

/// The name of a row, which selects its sample; true where the pointer is over it.
fn row_name(ui: &Ui, cx: &mut Cx<'_>, rect: Rect, row: usize, linked: bool) -> bool {
    let sense = if linked { Sense::click() } else { Sense::hover() };
    let response = ui.interact(rect, ui.scope_id().with(("row", row)), sense);
    let name = format!("sample {row}");
    let selected = linked && cx.state.selection.contains(Item::Sample(row));
    response.widget_info(|| WidgetInfo::selected(egui::Role::Button, linked, selected, &name));
    let colour = if selected {
        cx.theme.accent
    } else if response.hovered() {
        cx.theme.strong
    } else {
        cx.theme.text
    };
    let font = FontId::proportional(12.0);
    ui.painter().text(rect.left_center(), Align2::LEFT_CENTER, name, font, colour);
    if response.clicked() {
        let mode = match ui.input(|input| input.modifiers.command || input.modifiers.shift) {
            true => SelectMode::Toggle,
            false => SelectMode::Replace,
        };
        let items = vec![Item::Sample(row)];
        cx.send(Action::Select { items, mode, from: PaneKind::Studies });
    }
    let over = response.contains_pointer();
    if linked {
        response.on_hover_text("Select this sample in all panes");
    }
    over
}

/// Three shares on one axis from 0 to 100 %.
fn shares(ui: &mut Ui, cx: &Cx<'_>, grid: &NoiseGrid) {
    let text = "Where the difference between pictures comes from";
    ui.add(
        egui::Label::new(RichText::new(text).font(theme::strong(12.0)).color(cx.theme.strong))
            .truncate(),
    );
    ui.add_space(4.0);
    let embedding = &grid.embedding_share;
    let tip = format!(
        "Part of the difference between pictures that comes from the embedding (here {}, {}); the \
         rest is the decoder's noise.",
        percent(embedding.value),
        range(embedding)
    );
    let rows = [
        ("Embedding share", Mark::Circle, cx.theme.samples, embedding, tip.as_str()),
        (
            "Noise share",
            Mark::Square,
            cx.theme.muted,
            &grid.noise_share,
            "Part that comes from the decoder's noise alone, whatever the embedding.",
        ),
        (
            "Interaction",
            Mark::Diamond,
            cx.theme.accent,
            &grid.interaction_share,
            "What one noise makes of one embedding alone, and of no other.",
        ),
    ];
    for (name, mark, colour, share, tip) in rows {
        share_row(ui, cx, name, mark, colour, share, tip);
    }
    let (track, _) = ui.allocate_exact_size(vec2(ui.available_width(), 18.0), Sense::hover());
    let track = track.shrink2(vec2(14.0, 0.0));
    for part in 0..=4 {
        let at = track.left() + track.width() * part as f32 / 4.0;
        let text = format!("{} %", 25 * part);
        let font = FontId::proportional(11.0);
        let place = pos2(at, track.top() + 2.0);
        ui.painter().text(place, Align2::CENTER_TOP, text, font, cx.theme.muted);
    }
    let text = format!(
        "Share of the variance of the re-embedded pictures: dot with its 90 % jackknife interval \
         over {} embeddings and {} noises (n = {} pictures).",
        grid.embeddings,
        grid.noises,
        grid.embeddings * grid.noises
    );
    note(ui, cx, &text);
}

#[derive(Clone, Copy)]
enum Mark {
    Circle,
    Square,
    Diamond,
}

fn share_row(
    ui: &mut Ui,
    cx: &Cx<'_>,
    name: &str,
    mark: Mark,
    colour: Color32,
    share: &Share,
    tip: &str,
) {
    let words = in_words(share);
    let response = ui
        .scope(|ui| {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(name).color(cx.theme.text));
                ui.label(RichText::new(&words).color(cx.theme.strong));
            });
            let size = vec2(ui.available_width(), 14.0);
            let (rect, _) = ui.allocate_exact_size(size, Sense::hover());
            let track = rect.shrink2(vec2(14.0, 0.0));
            let at = |value: f64| {
                let x = track.left() + track.width() * value.clamp(0.0, 1.0) as f32;
                pos2(x, track.center().y)
            };
            let painter = ui.painter();
            let grid = Stroke::new(1.0, cx.theme.text.gamma_multiply(0.12));
            for part in 0..=4 {
                painter.vline(at(f64::from(part) / 4.0).x, rect.y_range(), grid);
            }
            painter.line_segment([at(0.0), at(1.0)], grid);
            painter.line_segment([at(share.low), at(share.high)], Stroke::new(2.5, colour));
            let centre = at(share.value);
            match mark {
                Mark::Circle => {
                    painter.circle_filled(centre, 5.0, colour);
                }
                Mark::Square => {
                    let square = Rect::from_center_size(centre, vec2(9.0, 9.0));
                    painter.rect_filled(square, 0.0, colour);
                }
                Mark::Diamond => diamond(painter, centre, 6.0, colour),
            }
        })
        .response;
    response
        .widget_info(|| WidgetInfo::labeled(egui::Role::Figure, true, format!("{name}: {words}")));
    response.on_hover_text(tip);
}

/// "62 % (48-74 %, 90 % jackknife)".
fn in_words(share: &Share) -> String {
    if share.negative {
        return "0 (interval reaches below 0)".to_owned();
    }
    format!("{} ({}, 90 % jackknife)", percent(share.value), range(share))
}

fn percent(value: f64) -> String {
    format!("{:.0} %", 100.0 * value)
}

fn range(share: &Share) -> String {
    format!("{:.0}-{:.0} %", 100.0 * share.low, 100.0 * share.high)
}

/// Side of a picture.
fn side(width: f32, columns: usize) -> f32 {
    ((width - ROW_NAME) / columns as f32 - GAP).clamp(SMALLEST, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_prints_its_interval_and_a_negative_one_prints_as_none() {
        let share = Share { value: 0.62, low: 0.48, high: 0.744, negative: false };
        assert_eq!(in_words(&share), "62 % (48-74 %, 90 % jackknife)");
        let none = Share { value: 0.0, low: 0.0, high: 0.1, negative: true };
        assert_eq!(in_words(&none), "0 (interval reaches below 0)");
    }

    #[test]
    fn pictures_fill_the_width_within_limits() {
        assert_eq!(side(ROW_NAME + 4.0 * 104.0, 4), 100.0);
        assert_eq!(side(240.0, 16), SMALLEST);
        assert_eq!(side(4000.0, 4), LARGEST);
    }
}
