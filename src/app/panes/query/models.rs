//! Choosers of the models, each with a line that says what it is.

use std::path::{Path, PathBuf};

use egui::{DragValue, RichText, Ui};

use crate::app::action::{Action, BrowseFor};
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::form::QueryForm;
use crate::app::state::jobs::JobKind;
use crate::decoder::PipelineKind;
use crate::encoder::EncoderKind;
use crate::model::hub::contents::{Role, ability, missing_weights};
use crate::model::hub::{HubCache, HubName};
use crate::session::Assets;
use crate::session::recipe::Bridge;
use crate::session::request::{DEMO_BUNDLE, list_adapters};

/// An adapter that can be chosen.
#[derive(Debug, Clone)]
struct Choice {
    path: PathBuf,
    name: String,
    what: String,
}

/// What the choosers were read for: bundle, models folder, and number of models pulled since.
type ReadFor = (PathBuf, Option<PathBuf>, usize);

/// What the bundle, the models folder and the hub's cache hold; read again when one of them changes.
#[derive(Default)]
pub struct ModelLists {
    read_for: Option<ReadFor>,
    /// Name of a model of the hub as it is typed.
    hub_name: String,
    adapters: Vec<Choice>,
    encoders: Vec<Choice>,
    decoders: Vec<Choice>,
    priors: Vec<Choice>,
}

impl ModelLists {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, form: &mut QueryForm) {
        ui.collapsing("Models", |ui| {
            self.refresh(cx, form);
            let bundle = form.bundle.as_ref();
            let bundle = bundle.map_or("demo".to_owned(), |path| path.display().to_string());
            row(
                ui,
                cx,
                "Bundle",
                &bundle,
                "Folder that models not named below come from",
                |ui, cx| {
                    browse(ui, cx, BrowseFor::Bundle);
                },
            );
            choose(ui, cx, "Encoder", &self.encoders, &mut form.encoder, BrowseFor::Encoder);
            choose(ui, cx, "Adapter", &self.adapters, &mut form.adapter, BrowseFor::Adapter);
            choose(ui, cx, "Decoder", &self.decoders, &mut form.decoder, BrowseFor::Decoder);
            self.hub(ui, cx);
            choose(ui, cx, "Gallery", &[], &mut form.gallery, BrowseFor::Gallery);
            let tip = "A text embedding lives apart from image embeddings; this maps it across. \
                       The mapping's own error is not in the spread.";
            row(ui, cx, "Bridge for texts", bridge_name(form.bridge), tip, |ui, _| {
                egui::ComboBox::from_id_salt("bridge")
                    .selected_text(bridge_name(form.bridge))
                    .show_ui(ui, |ui| {
                        ui.selectable_value(&mut form.bridge, None, bridge_name(None));
                        for bridge in Bridge::ALL {
                            let name = bridge_name(Some(bridge));
                            ui.selectable_value(&mut form.bridge, Some(bridge), name);
                        }
                    })
                    .response
                    .on_hover_text("Bridge for texts");
            });
            if form.bridge == Some(Bridge::Prior) {
                choose(ui, cx, "Prior", &self.priors, &mut form.prior, BrowseFor::Prior);
                let text = "Samples are drawn from the prior; the adapter is not used.";
                ui.label(RichText::new(text).small().color(cx.theme.muted));
                prior_numbers(ui, form);
            }
            if *form != form.clone().without_models()
                && ui.link("Use the bundle's models").clicked()
            {
                *form = form.clone().without_models();
            }
        });
    }

    /// A model of the hub by its name: downloaded, or chosen above once it is here.
    fn hub(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let running = cx.state.jobs.latest(JobKind::Pull).map(|job| job.id);
        let label = ui.label(RichText::new("From the hub").small().color(cx.theme.muted));
        ui.horizontal(|ui| {
            let edit = egui::TextEdit::singleline(&mut self.hub_name).hint_text("owner/name");
            ui.add(edit.desired_width(120.0))
                .labelled_by(label.id)
                .on_hover_text("A model on huggingface.co, such as openai/clip-vit-large-patch14");
            if let Some(job) = running {
                if ui.small_button("Stop").on_hover_text("What is here stays").clicked() {
                    cx.send(Action::Cancel(job));
                }
                return;
            }
            let name = HubName::parse(self.hub_name.trim());
            let button = egui::Button::new("Download").small();
            let tip = "Safetensors, configs and tokenizer, into the cache that transformers uses";
            let mut response = ui.add_enabled(name.is_ok(), button).on_hover_text(tip);
            if let Err(error) = &name {
                response = response.on_disabled_hover_text(error.to_string());
            }
            if let (true, Ok(name)) = (response.clicked(), name) {
                cx.send(Action::Pull(name));
            }
        });
    }

    fn refresh(&mut self, cx: &Cx<'_>, form: &QueryForm) {
        let bundle = form.bundle.clone().unwrap_or_else(|| PathBuf::from(DEMO_BUNDLE));
        let settings = &cx.state.settings;
        let key = (bundle.clone(), settings.models_folder.clone(), cx.state.pulled_models);
        if self.read_for.as_ref() == Some(&key) {
            return;
        }
        self.adapters = adapters(&bundle, &cx.state.assets);
        let folder = key.1.as_deref();
        self.encoders = folders_that(folder, |path| {
            Some(format!("{} encoder", EncoderKind::of_folder(path).ok()?.name()))
        });
        self.decoders = folders_that(folder, |path| {
            let what = match PipelineKind::of(path).ok()? {
                PipelineKind::UnClip => "unCLIP decoder",
                PipelineKind::StableDiffusion => "Stable Diffusion, by prompt embeddings of a text",
            };
            Some(what.to_owned())
        });
        self.priors = folders_that(folder, |path| {
            path.join("prior/config.json").is_file().then(|| "diffusion prior".to_owned())
        });
        let cache = &cx.state.assets.hub().cache;
        self.encoders.extend(of_hub(cache, Role::Encoder));
        self.adapters.extend(of_hub(cache, Role::Adapter));
        self.decoders.extend(of_hub(cache, Role::Decoder));
        self.read_for = Some(key);
    }
}

/// Steps and guidance of the prior.
fn prior_numbers(ui: &mut Ui, form: &mut QueryForm) {
    let mut numbers = form.sampling.prior.unwrap_or_default();
    ui.horizontal(|ui| {
        let steps = ui.label("Prior steps").on_hover_text("Denoising steps of every embedding");
        ui.add(DragValue::new(&mut numbers.steps).range(1..=1000)).labelled_by(steps.id);
        let tip = "How strictly the prior follows the text. Higher makes its samples more alike: \
                   the spread shrinks with it.";
        let guidance = ui.label("Prior guidance").on_hover_text(tip);
        let value = DragValue::new(&mut numbers.guidance_scale).range(0.0..=100.0).speed(0.1);
        ui.add(value).labelled_by(guidance.id);
    });
    if numbers != form.sampling.prior.unwrap_or_default() {
        form.sampling.prior = Some(numbers);
    }
}

fn bridge_name(bridge: Option<Bridge>) -> &'static str {
    match bridge {
        None => "as the adapter needs",
        Some(Bridge::CrossModal) => "cross-modal",
        Some(Bridge::Prior) => "prior",
        Some(Bridge::LinearMap) => "linear-map",
        Some(Bridge::MeanShift) => "mean-shift",
        Some(Bridge::None) => "none",
        Some(Bridge::PromptEmbeddings) => "prompt-embeddings",
    }
}

fn adapters(bundle: &Path, assets: &Assets) -> Vec<Choice> {
    // A bundle without adapters has nothing to choose from; running a query says so.
    let found = list_adapters(bundle, assets).unwrap_or_default();
    found
        .into_iter()
        .filter_map(|(path, header)| {
            let kind = header.kind.probabilistic()?;
            Some(Choice {
                name: name_of(&path),
                what: format!("{kind}, {} to {}", header.input_modality, header.output_modality),
                path,
            })
        })
        .collect()
}

/// Models in the hub's cache that have that role, by the name that finds them again.
fn of_hub(cache: &HubCache, role: Role) -> Vec<Choice> {
    // A cache that cannot be read offers nothing; haze models list says why.
    let repos = cache.repos().unwrap_or_default();
    let revisions = repos.iter().flat_map(|repo| {
        repo.revisions.iter().map(move |revision| (revision.name(&repo.repo), revision))
    });
    revisions
        .filter(|(_, revision)| missing_weights(&revision.folder).is_empty())
        .filter_map(|(name, revision)| {
            let ability = ability(&revision.folder).filter(|ability| ability.role == role)?;
            let what = ability.to_string();
            Some(Choice { path: PathBuf::from(&name), name, what })
        })
        .collect()
}

/// Folders right inside `folder` that are something, with what they are.
fn folders_that(folder: Option<&Path>, what: impl Fn(&Path) -> Option<String>) -> Vec<Choice> {
    let Some(Ok(entries)) = folder.map(std::fs::read_dir) else { return Vec::new() };
    let mut found: Vec<Choice> = entries
        .flatten()
        .take(1000)
        .map(|entry| entry.path())
        .filter_map(|path| Some(Choice { name: name_of(&path), what: what(&path)?, path }))
        .collect();
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned())
}

fn choose(
    ui: &mut Ui,
    cx: &mut Cx<'_>,
    name: &str,
    choices: &[Choice],
    chosen: &mut Option<PathBuf>,
    browse_for: BrowseFor,
) {
    let shown = chosen.as_deref().map_or("from the bundle".to_owned(), name_of);
    let what = choices.iter().find(|choice| Some(&choice.path) == chosen.as_ref());
    let tip = match (what, chosen.as_ref()) {
        (Some(choice), _) => format!("{}: {}", choice.path.display(), choice.what),
        (None, Some(path)) => path.display().to_string(),
        (None, None) => format!("The {} that fits the query", name.to_lowercase()),
    };
    row(ui, cx, name, &shown, &tip, |ui, cx| {
        egui::ComboBox::from_id_salt(name)
            .selected_text(&shown)
            .width(120.0)
            .truncate()
            .show_ui(ui, |ui| {
                ui.selectable_value(chosen, None, "from the bundle");
                for choice in choices {
                    let path = Some(choice.path.clone());
                    ui.selectable_value(chosen, path, format!("{} ({})", choice.name, choice.what));
                }
            })
            .response
            .on_hover_text(format!("{name}: {tip}"));
        browse(ui, cx, browse_for);
    });
    if let Some(choice) = what {
        ui.label(RichText::new(&choice.what).small().color(cx.theme.muted));
    }
}

fn browse(ui: &mut Ui, cx: &mut Cx<'_>, what: BrowseFor) {
    let button = egui::Button::new(icons::FOLDER_OPEN).small();
    if ui.add(button).on_hover_text(what.title()).clicked() {
        cx.send(Action::Browse(what));
    }
}

fn row(
    ui: &mut Ui,
    cx: &mut Cx<'_>,
    name: &str,
    _shown: &str,
    tip: &str,
    add: impl FnOnce(&mut Ui, &mut Cx<'_>),
) {
    ui.label(RichText::new(name).small().color(cx.theme.muted)).on_hover_text(tip);
    ui.horizontal(|ui| add(ui, cx));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_models_of_the_hub_are_offered_by_name_in_their_role() {
        let folder = tempfile::tempdir().unwrap();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let write = |repo: &str, file: &str, content: &str| {
            let path = folder.path().join(format!("models--{repo}"));
            let path = match file {
                "main" => path.join("refs/main"),
                file => path.join("snapshots").join(commit).join(file),
            };
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        for repo in ["openai--clip", "openai--config-alone"] {
            write(repo, "main", commit);
            write(repo, "config.json", r#"{"model_type":"clip","projection_dim":768}"#);
        }
        write("openai--clip", "model.safetensors", "");
        let cache = HubCache::new(folder.path().to_owned());
        let names = |role| -> Vec<String> {
            of_hub(&cache, role).into_iter().map(|choice| choice.name).collect()
        };
        assert_eq!(names(Role::Encoder), ["openai/clip"]);
        assert!(names(Role::Decoder).is_empty());
    }
}
