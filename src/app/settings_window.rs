//! Settings: what changes how things look or where they run, never a result.

use egui::{Context, RichText, Ui};

use super::action::{Action, BrowseFor};
use super::command::UiCommand;
use super::icons;
use super::panes::Cx;
use super::state::settings::{ColourMap, Settings, ThemeChoice};
use super::widgets;
use crate::model::device::{DeviceChoice, REMOTE};

/// Longest host name, brackets and a port.
const SERVER_LIMIT: usize = 264;

/// Closed at first.
#[derive(Default)]
pub struct SettingsWindow {
    open: bool,
    search: String,
}

impl SettingsWindow {
    pub fn open(&mut self) {
        *self = Self { open: true, search: String::new() };
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn ui(&mut self, context: &Context, cx: &mut Cx<'_>) {
        if !self.open {
            return;
        }
        let mut settings = cx.state.settings.clone();
        let modal = egui::Modal::new(egui::Id::unique("settings")).show(context, |ui| {
            let screen = context.content_rect().size();
            ui.set_width((screen.x - 64.0).min(520.0));
            ui.heading("Settings");
            let search = egui::TextEdit::singleline(&mut self.search)
                .hint_text("Find a setting")
                .desired_width(f32::INFINITY);
            ui.add(search).widget_info(|| {
                egui::WidgetInfo::labeled(egui::Role::TextInput, true, "Find a setting")
            });
            ui.add_space(8.0);
            let wanted = self.search.to_lowercase();
            egui::ScrollArea::vertical().max_height((screen.y - 180.0).min(480.0)).show(ui, |ui| {
                lines(ui, cx, &mut settings, &wanted);
            });
            ui.add_space(8.0);
            ui.button("Close").clicked()
        });
        if settings != cx.state.settings {
            cx.send(Action::EditSettings(Box::new(settings)));
        }
        if modal.inner || modal.should_close() {
            self.open = false;
        }
    }
}

fn lines(ui: &mut Ui, cx: &mut Cx<'_>, settings: &mut Settings, wanted: &str) {
    let usual = Settings::default();
    let line = |ui: &mut Ui, name: &str, what: &str, add: &mut dyn FnMut(&mut Ui) -> bool| {
        let text = format!("{name} {what}").to_lowercase();
        if !wanted.split_whitespace().all(|word| text.contains(word)) {
            return false;
        }
        let mut reset = false;
        ui.horizontal(|ui| {
            ui.vertical(|ui| {
                ui.set_width(ui.available_width() * 0.5);
                ui.label(RichText::new(name).strong());
                ui.label(RichText::new(what).small().color(cx.theme.muted));
            });
            ui.with_layout(egui::Layout::right_to_left(egui::Align::Center), |ui| {
                let tip = format!("Reset {}", name.to_lowercase());
                let back = egui::Button::new(icons::ARROW_COUNTER_CLOCKWISE).small();
                reset = ui.add(back).on_hover_text(tip).clicked();
                add(ui);
            });
        });
        ui.separator();
        reset
    };
    if line(ui, "Theme", "Light, dark, or as the system", &mut |ui| {
        let theme = &mut settings.theme;
        ui.selectable_value(theme, ThemeChoice::Light, "Light");
        ui.selectable_value(theme, ThemeChoice::Dark, "Dark");
        ui.selectable_value(theme, ThemeChoice::System, "System").changed()
    }) {
        settings.theme = usual.theme;
    }
    if line(ui, "Scale", "Size of text and everything else", &mut |ui| {
        let value = egui::DragValue::new(&mut settings.scale).range(0.8..=2.0).speed(0.01);
        ui.add(value).on_hover_text("Scale").changed()
    }) {
        settings.scale = usual.scale;
    }
    if line(ui, "Compact", "Less space between rows", &mut |ui| {
        ui.checkbox(&mut settings.compact, "").on_hover_text("Compact").changed()
    }) {
        settings.compact = usual.compact;
    }
    if line(ui, "Reduce motion", "No animations", &mut |ui| {
        ui.checkbox(&mut settings.reduce_motion, "").on_hover_text("Reduce motion").changed()
    }) {
        settings.reduce_motion = usual.reduce_motion;
    }
    if line(
        ui,
        "Colour map",
        "Of densities; all are uniform and safe for colour blindness",
        &mut |ui| {
            let map = &mut settings.colour_map;
            ui.selectable_value(map, ColourMap::Grey, "Grey");
            ui.selectable_value(map, ColourMap::Cividis, "Cividis");
            ui.selectable_value(map, ColourMap::Viridis, "Viridis").changed()
        },
    ) {
        settings.colour_map = usual.colour_map;
    }
    if line(ui, "Decode automatically", "After every query, without Ctrl+Enter", &mut |ui| {
        let on = &mut settings.decode_automatically;
        ui.checkbox(on, "").on_hover_text("Decode automatically").changed()
    }) {
        settings.decode_automatically = usual.decode_automatically;
    }
    let cost = match cx.state.preview_cost {
        Some(share) => format!("Unfinished pictures; last time {:.1} % of the time", 100.0 * share),
        None => "Unfinished pictures while decoding, at most 5 % of the time".to_owned(),
    };
    if line(ui, "Previews", &cost, &mut |ui| {
        ui.checkbox(&mut settings.previews, "").on_hover_text("Previews").changed()
    }) {
        settings.previews = usual.previews;
    }
    if line(
        ui,
        "Device",
        "Where models run; takes effect with a restart of the engine",
        &mut |ui| {
            let remote = settings.device.starts_with(REMOTE);
            let shown = if remote { "remote".to_owned() } else { settings.device.clone() };
            egui::ComboBox::from_id_salt("device")
                .selected_text(shown)
                .show_ui(ui, |ui| {
                    for choice in DeviceChoice::LOCAL.iter().filter(|choice| choice.is_built()) {
                        let name = choice.to_string();
                        ui.selectable_value(&mut settings.device, name.clone(), name);
                    }
                    if ui.selectable_label(remote, "remote").clicked() && !remote {
                        settings.device = format!("{REMOTE}localhost");
                    }
                })
                .response
                .on_hover_text("Device")
                .changed()
        },
    ) {
        settings.device = usual.device.clone();
    }
    if let Some(server) = settings.device.strip_prefix(REMOTE) {
        let mut server = server.to_owned();
        let problem = settings.device.parse::<DeviceChoice>().err().map(|error| error.to_string());
        let what = problem.as_deref().unwrap_or(
            "HOST or HOST:PORT of a machine that runs haze serve; the token is taken from \
             HAZE_TOKEN, else from the file remote_token beside the settings",
        );
        let reset = line(ui, "Remote server", what, &mut |ui| {
            let field = egui::TextEdit::singleline(&mut server)
                .hint_text("HOST:PORT")
                .char_limit(SERVER_LIMIT)
                .desired_width(180.0);
            let response = ui.add(field);
            response.widget_info(|| {
                egui::WidgetInfo::labeled(egui::Role::TextInput, true, "Remote server")
            });
            response.changed()
        });
        settings.device = match reset {
            true => usual.device.clone(),
            false => format!("{REMOTE}{server}"),
        };
    }
    if settings.device != cx.state.settings.device || wanted.contains("engine") {
        widgets::command_button(ui, cx, UiCommand::RestartEngine);
    }
    ui.horizontal_wrapped(|ui| {
        ui.label(RichText::new("Models folder").strong());
        let shown = cx.state.settings.models_folder.as_ref();
        let shown = shown.map_or("the demo bundle alone".to_owned(), |p| p.display().to_string());
        ui.label(RichText::new(widgets::shorten(&shown, 40)).color(cx.theme.muted));
        if ui.button("Browse\u{2026}").clicked() {
            cx.send(Action::Browse(BrowseFor::ModelsFolder));
        }
    });
}
