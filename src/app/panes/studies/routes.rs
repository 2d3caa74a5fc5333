//! The routes from a text to image space: how near each comes to the true images.

use egui::{DragValue, Grid, Label, RichText, Ui};

use super::{job_state, note, plan};
use crate::app::action::Action;
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::Study;
use crate::app::state::jobs::JobKind;
use crate::app::{theme, widgets};
use crate::session::recipe::Bridge;
use crate::session::studies::routes::{MAX_ITEMS, MAX_SAMPLES, Routes, Scores, TOP_K};

/// Size of the next comparison.
pub struct RoutesView {
    items: usize,
    samples: usize,
}

impl Default for RoutesView {
    fn default() -> Self {
        Self { items: 32, samples: 4 }
    }
}

impl RoutesView {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let job = state.jobs.latest(JobKind::Routes);
        ui.horizontal_wrapped(|ui| {
            let tip = "Captions of the gallery, one per image, evenly spread";
            let label = ui.label("Captions").on_hover_text(tip);
            ui.add(DragValue::new(&mut self.items).range(2..=MAX_ITEMS))
                .labelled_by(label.id)
                .on_hover_text(tip);
            let tip = "Samples of every caption that are decoded";
            let label = ui.label("x samples").on_hover_text(tip);
            ui.add(DragValue::new(&mut self.samples).range(2..=MAX_SAMPLES))
                .labelled_by(label.id)
                .on_hover_text(tip);
            ui.add_enabled_ui(job.is_none(), |ui| {
                let text = format!("{} Compare routes", icons::PLAY);
                let response = widgets::primary_button(ui, cx.theme, &text)
                    .on_hover_text("Decodes the captions by every route that there are models for")
                    .on_disabled_hover_text("The routes are being compared");
                if response.clicked() {
                    let (items, samples) = (self.items, self.samples);
                    cx.send(Action::Routes { items, samples });
                }
            });
            // A prior is only there where one was chosen.
            let routes = Bridge::ALL.len() - usize::from(state.form.prior.is_none());
            let images = self.items * (self.samples * routes + 1);
            let text = plan(images, state.form.decoding.steps, state.pace);
            ui.label(RichText::new(text).small().color(cx.theme.muted));
        });
        note(
            ui,
            cx,
            "Captions of the gallery are carried to image space, decoded and embedded again, and \
             compared with the images they belong to. All routes have the same captions and noise.",
        );
        if job_state(ui, cx, job, &state.routes, "The routes could not be compared") {
            return;
        }
        if let Study::Done { result, .. } = &state.routes {
            ui.add_space(8.0);
            result_ui(ui, cx, result);
        }
    }
}

fn result_ui(ui: &mut Ui, cx: &Cx<'_>, routes: &Routes) {
    let title = format!(
        "{} captions of {} ({} images), {} samples each",
        routes.items, routes.gallery, routes.gallery_size, routes.samples
    );
    let title = RichText::new(title).font(theme::strong(12.0)).color(cx.theme.strong);
    ui.add(Label::new(title).truncate());
    ui.add_space(4.0);
    egui::ScrollArea::horizontal().id_salt("routes table").show(ui, |ui| {
        Grid::new("routes").num_columns(7).striped(true).spacing([18.0, 4.0]).show(ui, |ui| {
            for (name, tip) in HEADINGS {
                let heading = RichText::new(name).small().color(cx.theme.muted);
                ui.label(heading).on_hover_text(tip);
            }
            ui.end_row();
            for route in &routes.routes {
                row(ui, cx, route.route.route(), &route.scores);
            }
            if let Some(scores) = &routes.ceiling {
                row(ui, cx, "the image itself", scores);
            }
        });
    });
    note(
        ui,
        cx,
        "In brackets: 95 % bootstrap intervals over captions. The image itself: its own embedding \
         decoded, which is what the decoder loses.",
    );
    for left_out in &routes.left_out {
        note(ui, cx, &format!("Left out: {}: {}.", left_out.route.route(), left_out.reason));
    }
}

const HEADINGS: [(&str, &str); 7] = [
    ("route", "The way from a text to image space"),
    ("similarity", "Cosine between a picture, embedded again, and the true image; mean"),
    ("before decoding", "Cosine between what the decoder was given and the true image; mean"),
    (
        "of the mean",
        "Cosine between the distribution's mean and the true image; where a route with a wide \
         distribution aims",
    ),
    ("rank", "Rank of the true image when the gallery is searched by the picture; median"),
    ("in top 10", "Pictures whose true image is among the first 10"),
    ("diversity", "Cosine distance between two pictures of one caption, embedded again; mean"),
];

fn row(ui: &mut Ui, cx: &Cx<'_>, name: &str, scores: &Scores) {
    debug_assert_eq!(TOP_K, 10, "the headings name it");
    ui.label(RichText::new(name).color(cx.theme.strong));
    for text in scores.in_words() {
        ui.label(RichText::new(text).color(cx.theme.text));
    }
    ui.end_row();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluation::Estimate;

    #[test]
    fn a_row_has_every_score_and_a_dash_for_one_picture_per_caption() {
        let estimate = |value| Estimate { value, low: value / 2.0, high: value * 2.0 };
        let scores = Scores {
            similarity: estimate(0.4),
            given_similarity: estimate(0.5),
            mean_similarity: estimate(0.6),
            rank: estimate(3.0),
            top_k: estimate(0.25),
            diversity: None,
            each: Vec::new(),
        };
        let expected =
            ["0.400 (0.200 to 0.800)", "0.500", "0.600", "3.0 (1.5 to 6.0)", "25 %", "-"];
        assert_eq!(scores.in_words(), expected);
        assert_eq!(scores.in_words().len() + 1, HEADINGS.len());
    }
}
