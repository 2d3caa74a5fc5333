//! The Train pane: a form for an adapter or a bridge, and how its training goes.
//!
//! In come the state of the last training run and the models of the query form, out go training
//! jobs. How an adapter is trained is not known here.

mod plots;

use std::path::{Path, PathBuf};

use self::plots::{LossLine, coverage_plot, held_out_plot, loss_plot};
use super::Cx;
use crate::adapter::probvlm::Preset;
use crate::adapter::training::{TrainingEvent, TrainingOptions};
use crate::app::action::{Action, BrowseFor};
use crate::app::icons;
use crate::app::state::form::FormModality;
use crate::app::state::jobs::JobKind;
use crate::app::state::settings::Settings;
use crate::app::state::{State, TrainingState};
use crate::app::theme;
use crate::app::widgets;
use crate::session::request::DEMO_BUNDLE;
use crate::session::training::{HeldOut, Target, TrainingJob, is_finished};
use egui::{DragValue, RichText, ScrollArea, TextEdit, Ui, WidgetInfo};

/// View state of the Train pane.
pub struct TrainPane {
    form: Form,
    /// Folders of the state's list that were taken into the form.
    taken: usize,
    /// A folder that holds an adapter, which the user has not yet agreed to replace.
    occupied: Option<PathBuf>,
    /// What was started last.
    started: Option<(Target, PathBuf)>,
    loss: LossLine,
}

/// The job as it is being edited.
struct Form {
    target: Target,
    /// Empty: those of the bundle.
    pairs: String,
    /// Empty: a folder named after the target.
    out: String,
    preset: Preset,
    options: TrainingOptions,
    /// Share of the images held out; `None`: the split `val`.
    hold_out: Option<f64>,
}

impl Default for TrainPane {
    fn default() -> Self {
        let preset = Preset::default();
        Self {
            form: Form {
                target: Target::CrossModal,
                pairs: String::new(),
                out: String::new(),
                preset,
                options: TrainingOptions::new(preset),
                hold_out: None,
            },
            taken: 0,
            occupied: None,
            started: None,
            loss: LossLine::default(),
        }
    }
}

impl TrainPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        self.take_picked(cx.state);
        ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
            let job = cx.state.jobs.latest(JobKind::Train);
            ui.add_enabled_ui(job.is_none(), |ui| self.form.ui(ui, cx));
            ui.add_space(4.0);
            self.start_row(ui, cx, job.is_some());
            if let Some(job) = job {
                ui.add_space(8.0);
                widgets::busy(ui, cx, job);
                let text = if is_adapter(self.target()) {
                    "Stopping writes a checkpoint; the same form goes on from there."
                } else {
                    "A bridge is fitted in one go; stopping writes nothing."
                };
                ui.label(RichText::new(text).small().color(cx.theme.muted));
            }
            ui.add_space(8.0);
            self.outcome(ui, cx, job.is_some());
            self.plots(ui, cx);
        });
    }

    fn target(&self) -> Target {
        self.started.as_ref().map_or(self.form.target, |(target, _)| *target)
    }

    fn take_picked(&mut self, state: &State) {
        for (what, path) in state.picked.iter().skip(self.taken) {
            let text = path.display().to_string();
            match what {
                BrowseFor::Pairs => self.form.pairs = text,
                BrowseFor::TrainingOutput => self.form.out = text,
                _ => {}
            }
        }
        self.taken = state.picked.len();
    }

    fn start_row(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, running: bool) {
        let job = self.form.job(cx.state);
        if self.occupied.as_ref().is_some_and(|folder| *folder != job.out || running) {
            self.occupied = None;
        }
        if let Some(folder) = self.occupied.clone() {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(icons::WARNING).color(cx.theme.warning));
                let text = format!("{} holds an adapter already.", folder.display());
                ui.add(egui::Label::new(text).wrap());
                if ui.button("Replace it").clicked() {
                    self.start(cx, job.clone());
                }
                if ui.button("Choose another folder").clicked() {
                    self.occupied = None;
                    cx.send(Action::Browse(BrowseFor::TrainingOutput));
                }
            });
            return;
        }
        ui.horizontal_wrapped(|ui| {
            ui.add_enabled_ui(!running, |ui| {
                let text = format!("{} Start training", icons::BARBELL);
                let response = widgets::primary_button(ui, cx.theme, &text)
                    .on_hover_text("Trains on this machine; queries go on meanwhile")
                    .on_disabled_hover_text("A training is running");
                if response.clicked() {
                    // One look at the disk, on a click: nothing may be overwritten unasked.
                    if is_finished(&job.out) {
                        self.occupied = Some(job.out.clone());
                    } else {
                        self.start(cx, job.clone());
                    }
                }
            });
        });
    }

    fn start(&mut self, cx: &mut Cx<'_>, job: TrainingJob) {
        self.occupied = None;
        self.started = Some((job.target, job.out.clone()));
        cx.send(Action::Train(Box::new(job)));
    }

    /// What became of the last run.
    fn outcome(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, running: bool) {
        let state = cx.state;
        let training = &state.training;
        if running || training.job.is_none() {
            return;
        }
        if let Some(failure) = &training.failure {
            widgets::failure(ui, cx, "The training failed", failure);
        } else if let Some(folder) = &training.written {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(icons::CHECK_CIRCLE).color(cx.theme.success));
                let text = format!("Written to {}", folder.display());
                ui.add(egui::Label::new(text).wrap());
            });
            if let Some(text) = verdict(training) {
                ui.add(egui::Label::new(text).wrap());
            }
            ui.horizontal_wrapped(|ui| {
                let target = self.target();
                if is_adapter(target) {
                    let text = format!("{} Use this adapter", icons::CHECK);
                    let tip = "Makes it the adapter of the query form and asks the query again";
                    if widgets::primary_button(ui, cx.theme, &text).on_hover_text(tip).clicked() {
                        use_adapter(cx, target, folder);
                    }
                } else {
                    let text = "A bridge serves the adapters of a bundle: move its folder into \
                                the bundle's adapters.";
                    ui.add(egui::Label::new(RichText::new(text).color(cx.theme.muted)).wrap());
                }
                if ui.button(format!("{} Copy path", icons::COPY)).clicked() {
                    cx.send(Action::CopyText(folder.display().to_string()));
                }
            });
        } else {
            ui.horizontal_wrapped(|ui| {
                ui.label(RichText::new(icons::INFO).color(cx.theme.accent));
                let folder = self.started.as_ref().map(|(_, out)| out.display().to_string());
                let text = match (&training.started, folder) {
                    (Some(_), Some(folder)) => format!(
                        "Stopped. A checkpoint is in {folder}; the same form goes on from there."
                    ),
                    _ => "Stopped before training began; nothing was written.".to_owned(),
                };
                ui.add(egui::Label::new(text).wrap());
            });
        }
    }

    fn plots(&mut self, ui: &mut Ui, cx: &Cx<'_>) {
        let training = &cx.state.training;
        let Some(TrainingEvent::Started {
            training_items,
            validation_items,
            epochs,
            resumed,
            baselines,
            ..
        }) = &training.started
        else {
            return;
        };
        let mut text = format!("{training_items} pairs to learn from, {validation_items} held out");
        if *resumed != (0, 0) {
            text += &format!("; resumed after {} epochs and {} batches", resumed.0, resumed.1);
        }
        ui.label(RichText::new(text).small().color(cx.theme.muted));
        if let Some(text) = training.batch.as_ref().and_then(|batch| batch_line(batch, *epochs)) {
            ui.add(egui::Label::new(text).wrap());
        }
        ui.add_space(4.0);
        heading(ui, cx, "Training loss of every batch");
        self.loss.update(&training.losses);
        loss_plot(ui, cx, &self.loss.points);
        if !training.epochs.is_empty() {
            ui.add_space(8.0);
            heading(ui, cx, "Held-out negative log-likelihood (lower is better)");
            held_out_plot(ui, cx, &training.epochs, baselines);
            coverage_plot(ui, cx, &training.epochs);
        }
    }
}

impl Form {
    fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let field = (ui.available_width() - 140.0).clamp(90.0, 420.0);
        egui::Grid::new("training").num_columns(2).spacing([12.0, 6.0]).show(ui, |ui| {
            let label = ui.label("Target");
            egui::ComboBox::from_id_salt("training target")
                .selected_text(target_name(self.target))
                .width(field.min(220.0))
                .show_ui(ui, |ui| {
                    for target in Target::ALL {
                        ui.selectable_value(&mut self.target, target, target_name(target))
                            .on_hover_text(target_tooltip(target));
                    }
                })
                .response
                .labelled_by(label.id)
                .on_hover_text(target_tooltip(self.target));
            ui.end_row();
            let pairs = Folder {
                name: "Pairs",
                tip: "Raw image embeddings with captions, in clip-retrieval's layout",
                default: &bundle(cx.state).join("pairs"),
                what: BrowseFor::Pairs,
            };
            pairs.ui(ui, cx, &mut self.pairs, field);
            let encoder = encoder(cx.state).display().to_string();
            let tip = "The encoder of the query form, which must be the one that embedded the \
                       images of the pairs";
            ui.label("Encoder").on_hover_text(tip);
            ui.add(egui::Label::new(widgets::shorten(&encoder, 40)).truncate())
                .on_hover_text(&encoder);
            ui.end_row();
            let out = Folder {
                name: "Output",
                tip: "Folder for the adapter",
                default: &default_out(&cx.state.settings, self.target),
                what: BrowseFor::TrainingOutput,
            };
            out.ui(ui, cx, &mut self.out, field);
            self.held_out(ui);
            if is_adapter(self.target) {
                self.numbers(ui);
            }
        });
        if !is_adapter(self.target) {
            let text = "A bridge is fitted in closed form: there are no epochs to set.";
            ui.label(RichText::new(text).small().color(cx.theme.muted));
        }
    }

    fn held_out(&mut self, ui: &mut Ui) {
        let tip = "Pairs that are not learned from decide when to stop: those of the split named \
                   val, or all pairs of a share of the images";
        let label = ui.label("Held out").on_hover_text(tip);
        ui.vertical(|ui| {
            let mut by_share = self.hold_out.is_some();
            if ui.radio(!by_share, "the split val").on_hover_text(tip).clicked() {
                by_share = false;
            }
            ui.horizontal(|ui| {
                if ui.radio(by_share, "a share").on_hover_text(tip).clicked() {
                    by_share = true;
                }
                self.hold_out = by_share.then(|| self.hold_out.unwrap_or(0.1));
                if let Some(share) = &mut self.hold_out {
                    let mut percent = *share * 100.0;
                    let value = DragValue::new(&mut percent).range(1.0..=50.0).max_decimals(0);
                    ui.add(value.suffix(" %")).labelled_by(label.id).on_hover_text(tip);
                    *share = percent / 100.0;
                }
            });
        });
        ui.end_row();
    }

    fn numbers(&mut self, ui: &mut Ui) {
        let tip = "Paper: as its text says. Released: as the authors' code does. Changing it sets \
                   the numbers below.";
        let label = ui.label("Preset").on_hover_text(tip);
        let before = self.preset;
        egui::ComboBox::from_id_salt("preset")
            .selected_text(widgets::capitalised(&self.preset.to_string()))
            .width(110.0)
            .show_ui(ui, |ui| {
                for preset in [Preset::Paper, Preset::Released] {
                    let name = widgets::capitalised(&preset.to_string());
                    ui.selectable_value(&mut self.preset, preset, name);
                }
            })
            .response
            .labelled_by(label.id)
            .on_hover_text(tip);
        ui.end_row();
        if self.preset != before {
            let seed = self.options.seed;
            self.options = TrainingOptions { seed, ..TrainingOptions::new(self.preset) };
        }
        let options = &mut self.options;
        number(
            ui,
            "Epochs",
            "Passes over all pairs at most; early stopping may end before",
            |ui| ui.add(DragValue::new(&mut options.epochs).range(1..=10_000)),
        );
        number(ui, "Batch size", "Pairs per step", |ui| {
            ui.add(DragValue::new(&mut options.batch_size).range(1..=65_536))
        });
        number(ui, "Learning rate", "Adam's learning rate at the first step", |ui| {
            let value = DragValue::new(&mut options.learning_rate).range(1e-7..=1.0).speed(1e-5);
            ui.add(value.custom_formatter(|value, _| format!("{value:.2e}")))
        });
        number(ui, "Seed", "Decides initial weights, order and dropout", |ui| {
            ui.add(DragValue::new(&mut options.seed))
        });
    }

    /// The job with every default filled in.
    fn job(&self, state: &State) -> TrainingJob {
        let or = |text: &str, default: PathBuf| match text.trim() {
            "" => default,
            text => PathBuf::from(text),
        };
        TrainingJob {
            pairs: or(&self.pairs, bundle(state).join("pairs")),
            encoder: encoder(state),
            target: self.target,
            options: self.options.clone(),
            training_split: "train".to_owned(),
            validation: match self.hold_out {
                Some(share) => HeldOut::Share(share),
                None => HeldOut::Split("val".to_owned()),
            },
            out: or(&self.out, default_out(&state.settings, self.target)),
        }
    }
}

/// A folder of the form: what stands there while it is empty, and the dialog that chooses it.
struct Folder<'a> {
    name: &'static str,
    tip: &'static str,
    default: &'a Path,
    what: BrowseFor,
}

impl Folder<'_> {
    /// A folder by its path, or by a dialog.
    fn ui(&self, ui: &mut Ui, cx: &mut Cx<'_>, text: &mut String, width: f32) {
        ui.label(self.name).on_hover_text(self.tip);
        ui.horizontal(|ui| {
            let default = self.default.display().to_string();
            let edit = TextEdit::singleline(text).hint_text(widgets::shorten(&default, 60));
            let response = ui.add(edit.desired_width(width - 36.0));
            response.widget_info(|| WidgetInfo::labeled(egui::Role::TextInput, true, self.name));
            response.on_hover_text(if text.is_empty() { &default } else { text.as_str() });
            let browse = egui::Button::new(icons::FOLDER_OPEN);
            if ui.add(browse).on_hover_text(self.what.title()).clicked() {
                cx.send(Action::Browse(self.what));
            }
        });
        ui.end_row();
    }
}

/// A name with its field, both with the same explanation.
fn number(ui: &mut Ui, name: &str, tip: &str, add: impl FnOnce(&mut Ui) -> egui::Response) {
    let label = ui.label(name).on_hover_text(tip);
    add(ui).labelled_by(label.id).on_hover_text(tip);
    ui.end_row();
}

fn heading(ui: &mut Ui, cx: &Cx<'_>, text: &str) {
    let text = RichText::new(text).font(theme::strong(12.0)).color(cx.theme.strong);
    ui.add(egui::Label::new(text).truncate());
}

fn bundle(state: &State) -> PathBuf {
    state.form.bundle.clone().unwrap_or_else(|| PathBuf::from(DEMO_BUNDLE))
}

fn encoder(state: &State) -> PathBuf {
    state.form.encoder.clone().unwrap_or_else(|| bundle(state).join("clip"))
}

/// Among the user's own models where such a folder is set, else below the working folder, as on
/// the command line.
fn default_out(settings: &Settings, target: Target) -> PathBuf {
    let adapters = match &settings.models_folder {
        Some(folder) => folder.join("adapters"),
        None => Path::new("haze-out").join("adapters"),
    };
    adapters.join(target.to_string())
}

/// Whether a target is an adapter, and not a bridge.
fn is_adapter(target: Target) -> bool {
    matches!(target, Target::CrossModal | Target::Text | Target::Image)
}

fn target_name(target: Target) -> &'static str {
    match target {
        Target::CrossModal => "Text to image",
        Target::Text => "Text",
        Target::Image => "Image",
        Target::LinearMap => "Bridge: linear map",
        Target::MeanShift => "Bridge: mean shift",
    }
}

fn target_tooltip(target: Target) -> &'static str {
    match target {
        Target::CrossModal => "p(image embedding | text): which images a text could mean",
        Target::Text => "p(text embedding | text), as in the paper; decoding needs a bridge",
        Target::Image => "p(image embedding | image), as in the paper; for image queries",
        Target::LinearMap => "Carries text embeddings to image embeddings by ridge regression",
        Target::MeanShift => "Carries text embeddings over by the mean difference to images",
    }
}

/// Makes an adapter the one of the query form, for the kind of query that it reads.
fn use_adapter(cx: &mut Cx<'_>, target: Target, folder: &Path) {
    let mut form = cx.state.form.clone();
    form.adapter = Some(folder.to_owned());
    // How texts reach the decoder follows from the adapter.
    form.bridge = None;
    form.modality = match target {
        Target::Image => FormModality::Image,
        _ => FormModality::Text,
    };
    cx.send(Action::EditForm { form: Box::new(form), analyse: true });
}

/// Where the run is.
fn batch_line(event: &TrainingEvent, epochs: usize) -> Option<String> {
    let TrainingEvent::Batch {
        epoch,
        batch,
        batches_per_epoch,
        loss,
        learning_rate,
        remaining,
        ..
    } = event
    else {
        return None;
    };
    Some(format!(
        "Epoch {epoch} of {epochs}, batch {batch} of {batches_per_epoch} · loss {loss:.4} · \
         learning rate {learning_rate:.2e} · at most {} left",
        widgets::seconds(remaining.as_secs_f32())
    ))
}

/// What the held-out figure means next to a constant.
fn verdict(training: &TrainingState) -> Option<String> {
    let Some(TrainingEvent::Started { baselines, .. }) = &training.started else { return None };
    let best = training.epochs.iter().map(|epoch| epoch.validation_nll).min_by(f64::total_cmp)?;
    let constant = baselines.gaussian_nll.min(baselines.generalized_gaussian_nll);
    Some(if best < constant {
        format!(
            "Held out: {best:.4} nats per dimension, {:.4} below one density for all queries.",
            constant - best
        )
    } else {
        format!(
            "Held out: {best:.4} nats per dimension, not below one density for all queries \
             ({constant:.4}): this adapter tells no query from another."
        )
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::adapter::training::{Baselines, EpochRecord};

    #[test]
    fn the_default_folder_is_among_the_users_models_and_named_after_the_target() {
        let mut settings = Settings::default();
        let out = default_out(&settings, Target::CrossModal);
        assert_eq!(out, Path::new("haze-out/adapters/cross-modal"));
        settings.models_folder = Some(PathBuf::from("/models"));
        assert_eq!(default_out(&settings, Target::Text), Path::new("/models/adapters/text"));
    }

    fn trained(validation_nll: f64) -> TrainingState {
        TrainingState {
            started: Some(TrainingEvent::Started {
                training_items: 10,
                validation_items: 2,
                batches_per_epoch: 1,
                epochs: 3,
                resumed: (0, 0),
                baselines: Baselines { gaussian_nll: -1.0, generalized_gaussian_nll: -1.2 },
            }),
            epochs: vec![EpochRecord {
                epoch: 1,
                training_loss: 0.0,
                validation_nll,
                validation_l1: 0.0,
                learning_rate: 1e-4,
                best: true,
                ..EpochRecord::default()
            }],
            ..TrainingState::default()
        }
    }

    #[test]
    fn the_verdict_compares_with_the_better_constant() {
        assert!(verdict(&trained(-1.5)).unwrap().contains("0.3000 below"));
        assert!(verdict(&trained(-1.1)).unwrap().contains("not below"));
        assert_eq!(verdict(&TrainingState::default()), None);
    }

    #[test]
    fn the_line_of_a_batch_names_epoch_loss_rate_and_time() {
        let event = TrainingEvent::Batch {
            epoch: 2,
            batch: 7,
            batches_per_epoch: 9,
            loss: 0.5,
            learning_rate: 3e-4,
            elapsed: Duration::from_secs(10),
            remaining: Duration::from_secs(65),
        };
        let line = batch_line(&event, 30).unwrap();
        assert!(line.contains("Epoch 2 of 30, batch 7 of 9"), "{line}");
        assert!(line.contains("3.00e-4") && line.contains("65 s left"), "{line}");
    }
}
