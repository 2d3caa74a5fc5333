//! The numbers of a query, with their ranges.

use egui::{DragValue, RichText, Ui};

use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::form::QueryForm;
use crate::decoder::SchedulerKind;
use crate::session::recipe::{
    Decoding, MAX_DRAWS, MAX_DROPOUT_PASSES, MAX_SAMPLES, MAX_TOP_K, Retrieval, Sampling,
};

/// Shows the numbers; true when one was changed that concerns statistics alone, which are then
/// followed at once.
pub fn ui(ui: &mut Ui, cx: &mut Cx<'_>, form: &mut QueryForm) -> bool {
    grid(ui, "sampling", |ui| {
        number(ui, "Samples", "Embeddings that are drawn and decoded to images", |ui| {
            ui.add(DragValue::new(&mut form.sampling.samples).range(1..=MAX_SAMPLES))
        });
        ui.label("Seed").on_hover_text(
            "Decides the draws and the decoder's noise; the same seed gives the same pictures",
        );
        ui.horizontal(|ui| {
            ui.add(DragValue::new(&mut form.sampling.seed)).on_hover_text("Seed");
            let text = UiCommand::NewSeed.text();
            if ui.add(egui::Button::new(icons::DICE_FIVE)).on_hover_text(text.name).clicked() {
                form.sampling.seed = crate::app::core::fresh_seed();
            }
            let (icon, tip) = if form.shuffle_seed {
                (icons::SHUFFLE, "Shuffled: every run has a new seed. Click to lock it.")
            } else {
                (icons::LOCK_SIMPLE, "Locked: every run has this seed. Click to shuffle.")
            };
            let toggle = egui::Button::selectable(form.shuffle_seed, icon);
            if ui.add(toggle).on_hover_text(tip).clicked() {
                form.shuffle_seed = !form.shuffle_seed;
            }
        });
        ui.end_row();
        let tip = "Scales the spread of the draws: 1 is what the model predicts. Other values are \
                   for exploring, not for reading probabilities.";
        number(ui, "Temperature", tip, |ui| {
            let value = DragValue::new(&mut form.sampling.temperature);
            ui.add(value.range(0.0..=100.0).speed(0.01).max_decimals(2))
        });
    });
    ui.collapsing("Decoder", |ui| decoder(ui, form));
    let before = (form.sampling.clone(), form.retrieval.clone());
    ui.collapsing("Statistics", |ui| {
        grid(ui, "statistics", |ui| {
            let tip = "Embeddings behind every probability and interval. Drawing is cheap next to \
                       decoding.";
            number(ui, "Draws", tip, |ui| {
                let value = DragValue::new(&mut form.sampling.draws);
                ui.add(value.range(1..=MAX_DRAWS).update_while_editing(false))
            });
            let tip = "Runs of the adapter with dropout behind the epistemic uncertainty; below 30 \
                       it is rough, 100 is advised.";
            number(ui, "Dropout passes", tip, |ui| {
                let value = DragValue::new(&mut form.sampling.dropout_passes);
                ui.add(value.range(0..=MAX_DROPOUT_PASSES).update_while_editing(false))
            });
            number(ui, "Top k", "k of P(in top k), and the number of items listed", |ui| {
                let value = DragValue::new(&mut form.retrieval.top_k);
                ui.add(value.range(1..=MAX_TOP_K).update_while_editing(false))
            });
        });
        ui.label(
            RichText::new("Followed at once; the pictures stay as they are.")
                .small()
                .color(cx.theme.muted),
        );
    });
    let statistic = (form.sampling.clone(), form.retrieval.clone()) != before;
    let usual = QueryForm {
        sampling: Sampling::default(),
        decoding: Decoding::default(),
        retrieval: Retrieval::default(),
        ..form.clone()
    };
    if *form != usual && ui.link("Reset numbers").clicked() {
        *form = usual;
    }
    statistic
}

fn decoder(ui: &mut Ui, form: &mut QueryForm) {
    let decoding = &mut form.decoding;
    grid(ui, "decoding", |ui| {
        number(ui, "Steps", "Denoising steps of every picture", |ui| {
            ui.add(DragValue::new(&mut decoding.steps).range(1..=1000))
        });
        ui.label("Scheduler").on_hover_text("How the decoder goes from noise to a picture");
        let own = "the decoder's own".to_owned();
        egui::ComboBox::from_id_salt("scheduler")
            .selected_text(decoding.scheduler.map_or(own.clone(), |kind| kind.to_string()))
            .width(110.0)
            .show_ui(ui, |ui| {
                ui.selectable_value(&mut decoding.scheduler, None, own);
                for kind in SchedulerKind::ALL {
                    ui.selectable_value(&mut decoding.scheduler, Some(kind), kind.to_string());
                }
            })
            .response
            .on_hover_text("Scheduler");
        ui.end_row();
        let tip = "How strictly the decoder follows the embedding. Higher looks alike and sharper; \
                   no uncertainty number changes.";
        number(ui, "Guidance", tip, |ui| {
            let value = DragValue::new(&mut decoding.guidance_scale);
            ui.add(value.range(0.0..=100.0).speed(0.1).max_decimals(1))
        });
        let tip = "Noise the decoder adds to the embedding before drawing (0-999). It adds variety \
                   of its own: keep 0 to see only the predicted spread.";
        number(ui, "Noise level", tip, |ui| {
            ui.add(DragValue::new(&mut decoding.noise_level).range(0..=999))
        });
        ui.label("Prompt").on_hover_text("Text given to the decoder beside the embedding");
        let edit = egui::TextEdit::singleline(&mut decoding.prompt).hint_text("none");
        ui.add(edit.desired_width(120.0)).widget_info(|| {
            egui::WidgetInfo::labeled(egui::Role::TextInput, true, "Decoder prompt")
        });
        ui.end_row();
    });
    let mut common = !decoding.independent_noise;
    let tip = "All tiles start from one noise image, so differences come from the embedding, not \
               from luck.";
    if ui.checkbox(&mut common, "Same noise for all tiles").on_hover_text(tip).changed() {
        decoding.independent_noise = !common;
    }
}

fn grid(ui: &mut Ui, id: &str, add: impl FnOnce(&mut Ui)) {
    egui::Grid::new(id).num_columns(2).spacing([12.0, 6.0]).min_col_width(90.0).show(ui, add);
}

/// A name with its field, both with the same explanation.
fn number(ui: &mut Ui, name: &str, tip: &str, add: impl FnOnce(&mut Ui) -> egui::Response) {
    let label = ui.label(name).on_hover_text(tip);
    add(ui).labelled_by(label.id).on_hover_text(tip);
    ui.end_row();
}
