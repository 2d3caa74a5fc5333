//! Mean ± k σ along the selected dimensions, decoded.

use egui::{DragValue, FontId, Id, Rect, RichText, Ui, pos2, vec2};

use super::picture::Picture;
use super::{job_state, made_with, note, plan};
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::Study;
use crate::app::state::history::{Entry, EntryId};
use crate::app::state::jobs::JobKind;
use crate::app::theme;
use crate::app::widgets;
use crate::session::studies::traverse::Traverse;

const GAP: f32 = 4.0;
const CAPTION: f32 = 34.0;
const SMALLEST: f32 = 64.0;
const LARGEST: f32 = 192.0;
/// Pictures on one side of the mean at most.
const LIMIT: f64 = 16.0;

/// How far and how finely to walk.
pub struct WalkView {
    reach: f64,
    step: f64,
}

impl Default for WalkView {
    fn default() -> Self {
        Self { reach: 3.0, step: 1.0 }
    }
}

impl WalkView {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry) {
        let state = cx.state;
        let dimensions: Vec<usize> = state.selection.dimensions().collect();
        let job = state.jobs.latest(JobKind::Traverse);
        if dimensions.is_empty() {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(icons::INFO).color(cx.theme.accent));
                ui.label(
                    "Select dimensions in the Uncertainty pane: click one, or drag over several.",
                );
                widgets::command_button(ui, cx, UiCommand::ShowUncertainty);
            });
        } else {
            ui.horizontal_wrapped(|ui| {
                let text = widgets::capitalised(&in_words(&dimensions));
                ui.label(RichText::new(text).font(theme::strong(13.0)).color(cx.theme.strong))
                    .on_hover_text(
                        "The dimensions that are selected in the Uncertainty pane; several move \
                         at the same time, each by k times its own σ",
                    );
            });
        }
        let offsets = offsets(self.reach, self.step);
        ui.horizontal_wrapped(|ui| {
            let tip = "How far to walk from the mean on either side, in standard deviations (σ) \
                       of each dimension";
            let label = ui.label("k up to ±").on_hover_text(tip);
            let reach = DragValue::new(&mut self.reach).range(0.5..=10.0).speed(0.05);
            ui.add(reach.max_decimals(2).suffix(" σ")).labelled_by(label.id).on_hover_text(tip);
            let tip = "Distance from one picture to the next";
            let label = ui.label("every").on_hover_text(tip);
            let step = DragValue::new(&mut self.step).range(0.1..=5.0).speed(0.02);
            ui.add(step.max_decimals(2).suffix(" σ")).labelled_by(label.id).on_hover_text(tip);
            let why = if dimensions.is_empty() {
                "Select dimensions in the Uncertainty pane first"
            } else {
                "A walk is running"
            };
            ui.add_enabled_ui(!dimensions.is_empty() && job.is_none(), |ui| {
                let text = format!("{} Decode walk", icons::PLAY);
                let response = widgets::primary_button(ui, cx.theme, &text)
                    .on_hover_text("Decodes the mean moved along the selected dimensions")
                    .on_disabled_hover_text(why);
                if response.clicked() {
                    let offsets = offsets.clone();
                    cx.send(Action::Traverse { dimensions: dimensions.clone(), offsets });
                }
            });
            let steps = entry.recipe.decoding.steps;
            let text = plan(offsets.len(), steps, state.pace);
            ui.label(RichText::new(text).small().color(cx.theme.muted));
        });
        if job_state(ui, cx, job, &state.traverse, "The walk failed") {
            return;
        }
        match &state.traverse {
            Study::Done { entry, result } => {
                ui.add_space(8.0);
                made_with(ui, cx, *entry);
                strip(ui, cx, *entry, result);
            }
            _ if !dimensions.is_empty() => {
                ui.add_space(8.0);
                note(
                    ui,
                    cx,
                    "The pictures show what changes when these dimensions do, and nothing else: \
                     all start from the same noise.",
                );
            }
            _ => {}
        }
    }
}

/// The pictures in order, with k and the cosine below each.
fn strip(ui: &mut Ui, cx: &mut Cx<'_>, entry: Option<EntryId>, walk: &Traverse) {
    let text = format!("Walk along {}", in_words(&walk.dimensions));
    ui.label(RichText::new(text).font(theme::strong(12.0)).color(cx.theme.strong));
    let count = walk.tiles.len().max(1);
    let (side, columns) = fit(ui.available_width(), count);
    let rows = count.div_ceil(columns);
    let height = rows as f32 * (side + CAPTION + GAP);
    let (place, _) =
        ui.allocate_exact_size(vec2(ui.available_width(), height), egui::Sense::hover());
    let small = FontId::proportional(11.0);
    let parts = walk.tiles.iter().zip(&walk.offsets).zip(&walk.cosine_to_mean).enumerate();
    for (i, ((tile, &offset), &cosine)) in parts {
        let (row, column) = (i / columns, i % columns);
        let corner = vec2(column as f32 * (side + GAP), row as f32 * (side + CAPTION + GAP));
        let rect = Rect::from_min_size(place.min + corner, vec2(side, side));
        let is_mean = offset == 0.0;
        let name = if is_mean {
            "mean (not a typical draw)".to_owned()
        } else {
            format!("mean {} σ", signed(offset))
        };
        let details = format!(
            "Cosine to the mean {cosine:.4}. Moved along {}, in units of each dimension's total \
             standard deviation.",
            in_words(&walk.dimensions)
        );
        let id = Id::unique(("walk", entry.map(|entry| entry.0), i));
        let picture = Picture { id, tile, name: &name, details: &details, is_mean };
        picture.draw(ui, cx, rect);
        let painter = ui.painter();
        let (top, middle) = (egui::Align2::CENTER_TOP, rect.center().x);
        let (text, font) = if is_mean {
            ("mean".to_owned(), theme::strong(11.0))
        } else {
            (format!("{} σ", signed(offset)), small.clone())
        };
        painter.text(pos2(middle, rect.bottom() + 4.0), top, text, font, cx.theme.text);
        let text = format!("cos {cosine:.3}");
        let below = pos2(middle, rect.bottom() + 18.0);
        painter.text(below, top, text, small.clone(), cx.theme.muted);
    }
    let together = if walk.dimensions.len() > 1 {
        "The dimensions move together, each by k times its own σ; a picture shows their joint \
         effect. "
    } else {
        ""
    };
    let text = format!(
        "{together}σ: total standard deviation of a dimension; cos: cosine between the moved \
         embedding and the mean. All pictures start from the same noise."
    );
    note(ui, cx, &text);
}

/// Side of a picture, and how many stand in a row.
fn fit(width: f32, count: usize) -> (f32, usize) {
    let side = (width + GAP) / count as f32 - GAP;
    if side >= SMALLEST {
        return (side.min(LARGEST), count);
    }
    let columns = ((width + GAP) / (SMALLEST + GAP)).floor().max(1.0);
    ((width + GAP) / columns - GAP, columns as usize)
}

/// From minus to plus, as many on either side of 0. Where there would be too many the step grows.
fn offsets(reach: f64, step: f64) -> Vec<f64> {
    let step = step.min(reach).max(reach / LIMIT);
    let side = (reach / step + 1e-9).floor() as i32;
    (-side..=side).map(|i| f64::from(i) * step).collect()
}

/// "dimension 12", "dimensions 12, 40, 41 together".
fn in_words(dimensions: &[usize]) -> String {
    const NAMED: usize = 6;
    let named: Vec<String> = dimensions.iter().take(NAMED).map(usize::to_string).collect();
    let named = named.join(", ");
    match dimensions.len() {
        1 => format!("dimension {named}"),
        2..=NAMED => format!("dimensions {named} together"),
        all => format!("dimensions {named} and {} more together", all - NAMED),
    }
}

/// With a sign and no more digits than needed.
fn signed(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    if rounded > 0.0 { format!("+{rounded}") } else { format!("{rounded}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_has_the_mean_in_its_middle() {
        assert_eq!(offsets(3.0, 1.0), [-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(offsets(0.5, 5.0), [-0.5, 0.0, 0.5]);
        let fine = offsets(10.0, 0.1);
        assert_eq!((fine.len(), fine[0], fine[16]), (33, -10.0, 0.0));
        // 0.3 / 0.1 is a little below 3.
        assert_eq!(offsets(0.3, 0.1).len(), 7);
    }

    #[test]
    fn dimensions_are_named_until_they_are_many() {
        assert_eq!(in_words(&[12]), "dimension 12");
        assert_eq!(in_words(&[12, 40, 41]), "dimensions 12, 40, 41 together");
        let many: Vec<usize> = (0..36).collect();
        assert_eq!(in_words(&many), "dimensions 0, 1, 2, 3, 4, 5 and 30 more together");
    }

    #[test]
    fn a_strip_wraps_before_its_pictures_become_too_small() {
        let (side, columns) = fit(700.0, 7);
        assert!((side - (704.0 / 7.0 - 4.0)).abs() < 1e-3 && columns == 7);
        let (side, columns) = fit(220.0, 7);
        assert!(side >= SMALLEST && columns == 3);
        assert_eq!(fit(4000.0, 7).0, LARGEST);
    }

    #[test]
    fn offsets_carry_their_sign() {
        assert_eq!(signed(1.5), "+1.5");
        assert_eq!(signed(-2.0), "-2");
        assert_eq!(signed(0.30000000000000004), "+0.3");
    }
}
