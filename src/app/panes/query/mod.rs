//! The Query pane: what is asked, with which numbers and models, and what was asked before.
//!
//! Edits are made on a copy of the form, which goes out once a frame where it was changed.

mod history;
mod models;
mod numbers;
mod well;

use egui::{Key, Modifiers, RichText, Ui};

use super::Cx;
use crate::app::action::Action;
use crate::app::icons;
use crate::app::state::form::{FormModality, QueryForm};
use crate::app::state::jobs::JobKind;
use crate::app::widgets;
use crate::session::recipe::RecipeQuery;

/// Texts to try on an empty window.
const EXAMPLES: [&str; 3] = ["a slice of cake", "a glossy drawing of a red apple", "food"];

/// Id of the text box, so that a command can put the cursor there.
pub fn text_id() -> egui::Id {
    egui::Id::unique("query text")
}

/// View state of the Query pane.
#[derive(Default)]
pub struct QueryPane {
    models: models::ModelLists,
    history: history::HistoryList,
    /// Place in the list of earlier texts while going through them with Alt and the arrows.
    recalled: Option<usize>,
}

impl QueryPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let mut form = cx.state.form.clone();
        let mut statistic = false;
        egui::ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            // The scroll bar floats over the right edge.
            ui.set_max_width(ui.available_width() - 8.0);
            self.input(ui, cx, &mut form);
            ui.add_space(6.0);
            run_row(ui, cx, &form);
            ui.add_space(4.0);
            queue(ui, cx);
            problems(ui, cx);
            ui.add_space(4.0);
            statistic |= numbers::ui(ui, cx, &mut form);
            self.models.ui(ui, cx, &mut form);
            self.history.ui(ui, cx);
        });
        if form != cx.state.form {
            cx.send(Action::EditForm { form: Box::new(form), analyse: statistic });
        }
    }

    fn input(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, form: &mut QueryForm) {
        ui.horizontal(|ui| {
            let modality = &mut form.modality;
            let text = format!("{} Text", icons::TEXT_AA);
            ui.selectable_value(modality, FormModality::Text, text);
            let image = format!("{} Image", icons::IMAGE);
            ui.selectable_value(modality, FormModality::Image, image);
        });
        ui.add_space(2.0);
        match form.modality {
            FormModality::Text => self.text_box(ui, cx, form),
            FormModality::Image => well::ui(ui, cx, form),
        }
    }

    fn text_box(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, form: &mut QueryForm) {
        let focused = ui.ctx().memory(|memory| memory.has_focus(text_id()));
        let pressed = |modifiers, key| ui.input_mut(|input| input.consume_key(modifiers, key));
        // Taken before the text box sees them; Shift+Enter is left to it.
        let run = focused && pressed(Modifiers::NONE, Key::Enter);
        if focused {
            let step = isize::from(pressed(Modifiers::ALT, Key::ArrowUp))
                - isize::from(pressed(Modifiers::ALT, Key::ArrowDown));
            if step != 0 {
                self.recall(cx, form, step);
            }
        }
        let edit = egui::TextEdit::multiline(&mut form.text)
            .id(text_id())
            .hint_text("Describe what you are looking for")
            .desired_rows(3)
            .desired_width(f32::INFINITY)
            .return_key(egui::KeyboardShortcut::new(Modifiers::SHIFT, Key::Enter));
        let response = ui.add(edit);
        response.widget_info(|| {
            let mut info = egui::WidgetInfo::labeled(egui::Role::TextInput, true, "Query text");
            info.current_text_value = Some(form.text.clone());
            info
        });
        if run {
            cx.send(Action::EditForm { form: Box::new(form.clone()), analyse: false });
            cx.send(Action::Run { decode: None });
        }
        if form.text.trim().is_empty() {
            ui.horizontal_wrapped(|ui| {
                for example in EXAMPLES {
                    let chip = egui::Button::new(RichText::new(example).small());
                    if ui.add(chip).on_hover_text("Run this example").clicked() {
                        cx.send(Action::QueryText(example.to_owned()));
                    }
                }
            });
        }
    }

    /// Goes back or forward in the texts that were asked.
    fn recall(&mut self, cx: &Cx<'_>, form: &mut QueryForm, step: isize) {
        let mut texts: Vec<&str> = Vec::new();
        for entry in cx.state.history.iter().rev() {
            if let RecipeQuery::Text(text) = &entry.recipe.query
                && !texts.contains(&text.as_str())
            {
                texts.push(text);
            }
        }
        let next = match self.recalled {
            None => Some(0),
            Some(at) => at.checked_add_signed(step),
        };
        if let Some((at, text)) = next.and_then(|at| Some((at, *texts.get(at)?))) {
            self.recalled = Some(at);
            text.clone_into(&mut form.text);
        }
    }
}

/// The button, and what it will take.
fn run_row(ui: &mut Ui, cx: &mut Cx<'_>, form: &QueryForm) {
    let there = form.query().is_some();
    ui.horizontal_wrapped(|ui| {
        let decode = cx.state.settings.decode_automatically;
        let text = format!("{} Run", icons::PLAY);
        let tip = if decode {
            "Shows uncertainty and retrieval, then decodes the samples (Enter)"
        } else {
            "Shows uncertainty and retrieval; Ctrl+Enter also decodes (Enter)"
        };
        ui.add_enabled_ui(there, |ui| {
            if widgets::primary_button(ui, cx.theme, &text).on_hover_text(tip).clicked() {
                cx.send(Action::Run { decode: None });
            }
        });
        let shown = egui::Label::new(RichText::new(plan(cx, form)).small().color(cx.theme.muted));
        ui.add(shown.wrap()).on_hover_text(
            "Pictures to decode (the mean and every sample) and the time they would take, from the \
             pace of the last decode",
        );
    });
}

/// Pictures, steps and time.
fn plan(cx: &Cx<'_>, form: &QueryForm) -> String {
    let images = form.sampling.samples + 1;
    let steps = form.decoding.steps;
    let mut text = format!("{images} images, {steps} steps");
    if let Some(pace) = cx.state.pace {
        text += &format!(", about {}", widgets::seconds(pace * (images * steps) as f32));
    }
    text
}

/// Jobs that wait or run, each with its own pause and stop.
fn queue(ui: &mut Ui, cx: &mut Cx<'_>) {
    let state = cx.state;
    let shown = state.jobs.iter().filter(|job| job.kind != JobKind::Analyse);
    for job in shown {
        widgets::busy(ui, cx, job);
        if job.kind != JobKind::Warm {
            let title = widgets::shorten(&job.title, 40);
            ui.label(RichText::new(title).small().color(cx.theme.muted));
        }
    }
}

/// Why the last query failed, and what the present one warns of.
fn problems(ui: &mut Ui, cx: &mut Cx<'_>) {
    let state = cx.state;
    if let Some(failure) = &state.query_failure {
        widgets::failure(ui, cx, "The query failed", failure);
    }
    for warning in state.entry().into_iter().flat_map(|entry| &entry.warnings) {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(icons::WARNING).color(cx.theme.warning));
            ui.label(RichText::new(widgets::capitalised(warning)).small());
        });
    }
}
