//! Choosers of the models, each with a line that says what it is.

use std::path::{Path, PathBuf};

use egui::{RichText, Ui};

use crate::app::action::{Action, BrowseFor};
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::form::QueryForm;
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

/// What the bundle and the models folder hold; read once for each pair of folders.
#[derive(Default)]
pub struct ModelLists {
    read_for: Option<(PathBuf, Option<PathBuf>)>,
    adapters: Vec<Choice>,
    encoders: Vec<Choice>,
    decoders: Vec<Choice>,
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
            if *form != form.clone().without_models()
                && ui.link("Use the bundle's models").clicked()
            {
                *form = form.clone().without_models();
            }
        });
    }

    fn refresh(&mut self, cx: &Cx<'_>, form: &QueryForm) {
        let bundle = form.bundle.clone().unwrap_or_else(|| PathBuf::from(DEMO_BUNDLE));
        let key = (bundle.clone(), cx.state.settings.models_folder.clone());
        if self.read_for.as_ref() == Some(&key) {
            return;
        }
        self.adapters = adapters(&bundle, &cx.state.assets);
        let folder = key.1.as_deref();
        self.encoders = folders_with(folder, "preprocessor_config.json", "CLIP encoder");
        self.decoders = folders_with(folder, "model_index.json", "unCLIP decoder");
        self.read_for = Some(key);
    }
}

fn bridge_name(bridge: Option<Bridge>) -> &'static str {
    match bridge {
        None => "as the adapter needs",
        Some(Bridge::CrossModal) => "cross-modal",
        Some(Bridge::LinearMap) => "linear-map",
        Some(Bridge::MeanShift) => "mean-shift",
        Some(Bridge::None) => "none",
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

/// Folders right inside `folder` that hold a file of that name.
fn folders_with(folder: Option<&Path>, file: &str, what: &str) -> Vec<Choice> {
    let Some(Ok(entries)) = folder.map(std::fs::read_dir) else { return Vec::new() };
    let mut found: Vec<Choice> = entries
        .flatten()
        .take(1000)
        .map(|entry| entry.path())
        .filter(|path| path.join(file).is_file())
        .map(|path| Choice { name: name_of(&path), what: what.to_owned(), path })
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
