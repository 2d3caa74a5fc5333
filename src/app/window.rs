//! The window itself: frames, keys, overlays, and everything an [`Effect`] asks for.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use egui::{Context, Event, Ui};
use egui_tiles::Tree;

use super::action::Action;
use super::availability::UndoState;
use super::background::{Answer, Background};
use super::chrome;
use super::command::UiCommand;
use super::config_store::ConfigStore;
use super::core::{Core, Effect};
use super::dialogs::{DialogAnswer, Dialogs, Filter};
use super::docking::Docking;
use super::exporting::{self, ExportPlan, Place};
use super::gpu::Gpu;
use super::intake;
use super::key_sheet::KeySheet;
use super::large_view::LargeView;
use super::launch::AppOptions;
use super::layout::{PaneKind, SavedLayout, default_tree};
use super::notice_view;
use super::notices::Severity;
use super::palette::Palette;
use super::panes::{Cx, Panes};
use super::recipe_card::RecipeCard;
use super::session_file::SavedSession;
use super::settings_window::SettingsWindow;
use super::state::State;
use super::state::settings::ThemeChoice;
use super::textures::Textures;
use super::theme::{self, Theme};
use crate::model::device::DeviceChoice;
use crate::session::engine::{self, EngineHandle};

/// Time per frame for taking in messages.
const DRAIN: Duration = Duration::from_millis(4);
/// Changes are kept on disk at most this long after they were made.
const AUTOSAVE: Duration = Duration::from_secs(2);
/// Files of one drop may arrive over several frames.
const DROP_GATHERING: Duration = Duration::from_millis(120);

/// What can be opened.
const OPENED: [Filter; 2] = [
    Filter {
        name: "Images, sheets, recipes, sessions",
        extensions: &[
            "png", "jpg", "jpeg", "webp", "gif", "bmp", "json", "txt", "PNG", "JPG", "JPEG",
            "WEBP", "GIF", "BMP",
        ],
    },
    Filter { name: "All files", extensions: &["*"] },
];
const SESSION: Filter = Filter { name: "Haze session", extensions: &["json"] };

/// Makes an engine whose first job has that id; the callback wakes the window.
pub type StartEngine = Box<dyn Fn(u64, DeviceChoice, Arc<dyn Fn() + Send + Sync>) -> EngineHandle>;

/// The window.
pub struct HazeApp {
    core: Core,
    panes: Panes,
    tree: Tree<PaneKind>,
    /// Follows the window's width until the user moves something.
    tree_is_default: bool,
    /// Width in points that the default layout was made for.
    layout_width: f32,
    theme: Theme,
    textures: Textures,
    gpu: Option<Gpu>,
    actions: Vec<Action>,
    start_engine: StartEngine,
    background: Background,
    dialogs: Dialogs,
    asked: Option<Asked>,
    store: Option<ConfigStore>,
    palette: Palette,
    keys: KeySheet,
    settings: SettingsWindow,
    large: LargeView,
    card: Option<RecipeCard>,
    dropped: Vec<PathBuf>,
    dropped_at: Option<Instant>,
    changed_at: Option<Instant>,
    focus_query: bool,
    screenshot: Option<Screenshot>,
    context: Context,
}

/// A picture of the window, asked for by the command line.
struct Screenshot {
    path: PathBuf,
    /// When everything that was to be shown was there.
    ready: Option<Instant>,
    asked: bool,
    began: Instant,
}

impl Screenshot {
    /// Pictures of tiles and thumbnails get this long to arrive.
    const SETTLE: Duration = Duration::from_millis(1500);
    /// A query that takes longer is shown as far as it is.
    const PATIENCE: Duration = Duration::from_secs(120);

    fn new(path: PathBuf) -> Self {
        Self { path, ready: None, asked: false, began: Instant::now() }
    }
}

/// What the open file dialog is for.
enum Asked {
    Open,
    Export(Box<ExportPlan>),
    SaveSession,
    Browse(super::action::BrowseFor),
}

impl HazeApp {
    /// The window on the real engine.
    pub fn new(creation: &eframe::CreationContext<'_>, options: AppOptions) -> Self {
        let assets = options.assets.clone();
        let start: StartEngine = Box::new(move |first, device, wake| {
            let (handle, end) = engine::channel(first, move || wake());
            engine::start(assets.clone(), device, end);
            handle
        });
        let dialogs = Dialogs::native(&creation.egui_ctx);
        Self::with_engine(creation, options, start, dialogs)
    }

    /// The window on any engine and with any dialogs.
    pub fn with_engine(
        creation: &eframe::CreationContext<'_>,
        options: AppOptions,
        start_engine: StartEngine,
        dialogs: Dialogs,
    ) -> Self {
        let context = creation.egui_ctx.clone();
        let (store, store_problem) = match options.keep_settings {
            true => match ConfigStore::open() {
                Ok(store) => (Some(store), None),
                Err(error) => (None, Some(error.to_string())),
            },
            false => (None, None),
        };
        let (mut settings, damaged) = store.as_ref().map(ConfigStore::settings).unwrap_or_default();
        if let Some(device) = options.device {
            settings.device = device.to_string();
        }
        theme::install(&context, settings.compact);
        // Quitting goes through the command, so that the session is kept first.
        context.options_mut(|options| options.quit_shortcuts.clear());
        let gpu = creation.wgpu_render_state.as_ref().map(Gpu::new);
        let wake = waker(&context);
        let (device, unknown_device) = match settings.device.parse::<DeviceChoice>() {
            Ok(device) => (device, None),
            Err(error) => (DeviceChoice::Auto, Some(format!("{error}; auto is used"))),
        };
        let engine = start_engine(1, device, Arc::clone(&wake));
        let mut core = Core::new(options.assets.clone(), settings, engine);
        core.state.drawing_on = creation.wgpu_render_state.as_ref().map(|render| {
            let info = render.adapter.get_info();
            format!("{} ({})", info.name, info.backend)
        });
        for problem in [store_problem, damaged, unknown_device].into_iter().flatten() {
            core.say(Severity::Warning, "Settings", problem);
        }
        let kept = store.as_ref().and_then(ConfigStore::autosave);
        let mut app = Self {
            core,
            panes: Panes::default(),
            tree: default_tree(context.content_rect().width()),
            tree_is_default: true,
            layout_width: 0.0,
            theme: Theme::dark(),
            textures: Textures::new(&context),
            gpu,
            actions: Vec::new(),
            start_engine,
            background: Background::new(move || wake()),
            dialogs,
            asked: None,
            store,
            palette: Palette::default(),
            keys: KeySheet::default(),
            settings: SettingsWindow::default(),
            large: LargeView::default(),
            card: None,
            dropped: Vec::new(),
            dropped_at: None,
            changed_at: None,
            focus_query: false,
            screenshot: options.screenshot_to.map(Screenshot::new),
            context,
        };
        app.apply_settings();
        if let Some(session) = kept {
            app.open_session(session, true);
        }
        app.core.warm();
        if let Some(query) = options.query {
            app.core.apply(Action::QueryText(query));
        }
        if !options.open.is_empty() {
            app.core.apply(Action::TakeIn(options.open));
        }
        app
    }

    /// What the window shows.
    pub fn state(&self) -> &State {
        &self.core.state
    }

    /// State and notices, for tests and measurements.
    pub fn core(&self) -> &Core {
        &self.core
    }

    /// Asks for something as a pane would.
    pub fn send(&mut self, action: Action) {
        self.actions.push(action);
    }

    fn apply_settings(&mut self) {
        let settings = &self.core.state.settings;
        let preference = match settings.theme {
            ThemeChoice::System => egui::ThemePreference::System,
            ThemeChoice::Dark => egui::ThemePreference::Dark,
            ThemeChoice::Light => egui::ThemePreference::Light,
        };
        self.context.set_theme(preference);
        self.context.set_zoom_factor(settings.scale.clamp(0.5, 3.0));
        theme::set_style(&self.context, settings.compact);
        let motion = if settings.reduce_motion { 0.0 } else { 0.12 };
        self.context.all_styles_mut(|style| style.animation_time = motion);
        self.changed_at.get_or_insert_with(Instant::now);
    }

    /// Everything that has to happen whether or not the window is seen.
    fn advance(&mut self) {
        if self.core.drain_engine(Instant::now() + DRAIN) {
            self.context.request_repaint();
        }
        self.apply_actions();
        while let Some(answer) = self.background.poll() {
            self.answered(answer);
        }
        if let Some(answer) = self.dialogs.poll() {
            self.dialog_answered(answer);
        }
        for effect in self.core.take_effects() {
            self.perform(effect);
        }
        self.take_screenshot();
        if self.changed_at.is_some_and(|at| at.elapsed() >= AUTOSAVE) {
            self.autosave();
        } else if self.changed_at.is_some() {
            self.context.request_repaint_after(AUTOSAVE);
        }
    }

    fn apply_actions(&mut self) {
        for action in std::mem::take(&mut self.actions) {
            self.core.apply(action);
        }
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::CopyText(text) => self.context.copy_text(text),
            Effect::CopyImage(image) => {
                self.context.copy_image(super::textures::colour_image(&image));
            }
            Effect::FocusQuery => self.focus_query = true,
            Effect::AskOpen => {
                self.asked = Some(Asked::Open);
                self.dialogs.open_files(&OPENED);
            }
            Effect::AskSave(request) => match exporting::plan(&self.core.state, request) {
                Ok(plan) => {
                    match plan.place {
                        Place::File(filter) => self.dialogs.save_file(&plan.suggested, &[filter]),
                        Place::Folder => self.dialogs.open_folder("Folder for the result"),
                    }
                    self.asked = Some(Asked::Export(Box::new(plan)));
                }
                Err(reason) => self.core.say(Severity::Warning, "Nothing to export yet", reason),
            },
            Effect::AskSaveSession => {
                self.asked = Some(Asked::SaveSession);
                self.dialogs.save_file("session.haze.json", &[SESSION]);
            }
            Effect::Browse(what) => {
                self.asked = Some(Asked::Browse(what));
                self.dialogs.open_folder(what.title());
            }
            Effect::TakeIn(paths) => {
                self.background.run(move || Answer::TakenIn(intake::take_in_many(&paths)));
            }
            Effect::SavePixels { image, name } => {
                self.background.run(move || match intake::keep_pixels(&image, &name) {
                    Ok(path) => Answer::QueryImage(path),
                    Err(error) => Answer::Failed {
                        title: "The image cannot be kept".to_owned(),
                        detail: error.to_string(),
                    },
                });
            }
            Effect::Paste => self.context.send_viewport_cmd(egui::ViewportCommand::RequestPaste),
            Effect::ShowPane(pane) => self.show_pane(pane),
            Effect::ResetLayout => {
                self.tree_is_default = true;
                self.layout_width = 0.0;
                self.changed_at.get_or_insert_with(Instant::now);
            }
            Effect::ShowSettings => self.settings.open(),
            Effect::ShowPalette => self.palette.open(),
            Effect::ShowKeys => self.keys.open(),
            Effect::ShowCard(card) => self.card = Some(*card),
            Effect::OpenSession(session) => self.open_session(*session, false),
            Effect::ApplySettings(_) => self.apply_settings(),
            Effect::RestartEngine => self.restart_engine(),
            Effect::SaveLater => {
                self.changed_at.get_or_insert_with(Instant::now);
            }
            Effect::Quit => {
                self.autosave();
                self.context.send_viewport_cmd(egui::ViewportCommand::Close);
            }
        }
    }

    fn restart_engine(&mut self) {
        let device = match self.core.state.settings.device.parse::<DeviceChoice>() {
            Ok(device) => device,
            Err(error) => {
                self.core.say(Severity::Error, "The engine goes on as it was", error.to_string());
                return;
            }
        };
        let engine = (self.start_engine)(self.core.next_job(), device, waker(&self.context));
        self.core.replace_engine(engine);
        self.core.say(Severity::Info, "The engine starts anew", "Models are loaded again");
    }

    /// The default layout has one shape for narrow, usual and wide windows.
    fn fit_layout(&mut self, width: f32) {
        let shape = |width: f32| (width >= 900.0, width >= 1700.0);
        if self.tree_is_default && shape(width) != shape(self.layout_width)
            || self.layout_width == 0.0
        {
            if self.tree_is_default {
                self.tree = default_tree(width);
            }
            self.layout_width = width;
        }
    }

    fn show_pane(&mut self, pane: PaneKind) {
        // What was under the pointer may be hidden now, and would then stay hovered.
        self.core.state.selection.hovered = None;
        let shown = self
            .tree
            .make_active(|_, tile| matches!(tile, egui_tiles::Tile::Pane(kind) if *kind == pane));
        if !shown {
            self.tree = default_tree(self.context.content_rect().width());
            self.tree.make_active(
                |_, tile| matches!(tile, egui_tiles::Tile::Pane(kind) if *kind == pane),
            );
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::TakenIn(taken) => self.core.taken_in(taken),
            Answer::QueryImage(path) => self.core.apply(Action::QueryImageFile(path)),
            Answer::Exported(path) => {
                self.core.say(Severity::Success, "Exported", path.display().to_string());
            }
            Answer::Quiet => {}
            Answer::Failed { title, detail } => self.core.say(Severity::Error, title, detail),
        }
    }

    fn dialog_answered(&mut self, answer: DialogAnswer) {
        let Some(asked) = self.asked.take() else { return };
        let paths = match answer {
            DialogAnswer::Files(paths) => paths,
            DialogAnswer::Folder(path) | DialogAnswer::Save(path) => vec![path],
            DialogAnswer::Cancelled => return,
        };
        let Some(first) = paths.first().cloned() else { return };
        match asked {
            Asked::Open => self.core.apply(Action::TakeIn(paths)),
            Asked::Export(plan) => {
                let work = plan.to(first);
                self.background.run(move || match work() {
                    Ok(path) => Answer::Exported(path),
                    Err(detail) => Answer::Failed { title: "The export failed".to_owned(), detail },
                });
            }
            Asked::SaveSession => {
                let session = self.session();
                self.core.state.settings.note_session(first.clone());
                self.background.run(move || match session.save(&first) {
                    Ok(()) => Answer::Exported(first),
                    Err(error) => Answer::Failed {
                        title: "The session cannot be saved".to_owned(),
                        detail: error.to_string(),
                    },
                });
            }
            Asked::Browse(what) => self.core.browsed(what, first),
        }
    }

    fn session(&self) -> SavedSession {
        SavedSession::of(&self.core.state, SavedLayout::of(&self.tree))
    }

    fn open_session(&mut self, session: SavedSession, quiet: bool) {
        let entries = session.entries.len();
        if let Some(tree) = self.core.open_session(session) {
            self.tree = tree;
            self.tree_is_default = false;
        }
        if !quiet {
            let detail = format!("{entries} queries; a click runs one again");
            self.core.say(Severity::Success, "The session is open", detail);
        }
    }

    fn autosave(&mut self) {
        self.changed_at = None;
        let Some(store) = self.store.clone() else { return };
        let settings = self.core.state.settings.clone();
        let session = self.session();
        self.background.run(move || match store.keep(&settings, &session) {
            Ok(()) => Answer::Quiet,
            Err(error) => Answer::Failed {
                title: "The session cannot be kept".to_owned(),
                detail: error.to_string(),
            },
        });
    }

    /// Takes the picture once nothing more is to come, then closes the window.
    fn take_screenshot(&mut self) {
        let Some(screenshot) = &mut self.screenshot else { return };
        self.context.request_repaint_after(Duration::from_millis(50));
        let state = &self.core.state;
        let idle = state.jobs.is_empty() && state.device.is_some();
        if idle || screenshot.began.elapsed() > Screenshot::PATIENCE {
            screenshot.ready.get_or_insert_with(Instant::now);
        } else {
            screenshot.ready = None;
        }
        if screenshot.asked || screenshot.ready.is_none_or(|at| at.elapsed() < Screenshot::SETTLE) {
            return;
        }
        screenshot.asked = true;
        let (path, context) = (screenshot.path.clone(), self.context.clone());
        self.context.request_screenshot(move |image| {
            let [width, height] = image.size;
            let pixels = image.pixels.iter().flat_map(|p| [p.r(), p.g(), p.b()]).collect();
            if let Some(image) = image::RgbImage::from_raw(width as u32, height as u32, pixels)
                && let Err(error) = crate::export::metadata::write_png(&path, &image)
            {
                tracing::error!("{error}");
            }
            context.send_viewport_cmd(egui::ViewportCommand::Close);
        });
    }

    /// Keys that are commands, files that were dropped, and what was pasted outside a text box.
    fn take_input(&mut self, ui: &mut Ui) {
        let typing = ui.ctx().text_edit_focused();
        let modal = self.palette.is_open()
            || self.keys.is_open()
            || self.settings.is_open()
            || self.card.is_some();
        if !modal {
            for command in by_specificity() {
                let Some(key) = command.text().key else { continue };
                let plain = !key.modifiers.command && !key.modifiers.alt;
                // Escape leaves the text box first; clipboard and undo belong to it.
                let of_text = plain
                    || matches!(
                        command,
                        UiCommand::Undo | UiCommand::Redo | UiCommand::SelectAll | UiCommand::Paste
                    );
                if (typing && of_text)
                    || (plain
                        && ui.ctx().memory(|m| m.focused().is_some())
                        && is_widget_key(key.logical_key))
                {
                    continue;
                }
                if ui.input_mut(|input| input.consume_shortcut(&key)) {
                    self.actions.push(Action::Command(command));
                }
            }
            // A second key for the palette, as in browsers and editors.
            let also = egui::KeyboardShortcut::new(egui::Modifiers::COMMAND, egui::Key::K);
            if ui.input_mut(|input| input.consume_shortcut(&also)) {
                self.actions.push(Action::Command(UiCommand::Palette));
            }
        }
        let (files, pasted) = ui.input(|input| {
            let files: Vec<PathBuf> =
                input.raw.dropped_files.iter().map(|file| file.path().to_owned()).collect();
            let pasted: Vec<Event> = input
                .events
                .iter()
                .filter(|event| matches!(event, Event::Paste(_) | Event::PasteImage(_)))
                .cloned()
                .collect();
            (files, pasted)
        });
        if !files.is_empty() {
            self.dropped.extend(files);
            self.dropped_at = Some(Instant::now());
        }
        if self.dropped_at.is_some_and(|at| at.elapsed() >= DROP_GATHERING) {
            self.dropped_at = None;
            self.core.apply(Action::TakeIn(std::mem::take(&mut self.dropped)));
        } else if self.dropped_at.is_some() {
            ui.ctx().request_repaint_after(DROP_GATHERING);
        }
        if !typing {
            for event in pasted {
                self.pasted(event);
            }
        }
    }

    fn pasted(&mut self, event: Event) {
        match event {
            Event::PasteImage(image) => {
                let pixels = image.pixels.iter().flat_map(|p| [p.r(), p.g(), p.b()]).collect();
                let [width, height] = image.size;
                if let Some(image) = image::RgbImage::from_raw(width as u32, height as u32, pixels)
                {
                    let name = "pasted image".to_owned();
                    self.actions.push(Action::QueryPixels { image: Arc::new(image), name });
                }
            }
            Event::Paste(text) => match intake::pasted_paths(&text) {
                Some(paths) => self.actions.push(Action::TakeIn(paths)),
                None => self.actions.push(Action::QueryText(text)),
            },
            _ => {}
        }
    }

    fn drop_overlay(&self, ui: &Ui) {
        if ui.input(|input| input.raw.hovered_files.is_empty()) {
            return;
        }
        let rect = ui.ctx().content_rect();
        let layer = egui::LayerId::new(egui::Order::Foreground, egui::Id::unique("drop overlay"));
        let painter = ui.ctx().layer_painter(layer);
        painter.rect_filled(rect, 0.0, self.theme.window.gamma_multiply(0.85));
        let inner = rect.shrink(24.0);
        painter.rect_stroke(
            inner,
            8.0,
            egui::Stroke::new(2.0, self.theme.accent),
            egui::StrokeKind::Inside,
        );
        painter.text(
            inner.center(),
            egui::Align2::CENTER_CENTER,
            "Drop an image to make it the query, or a sheet to restore its recipe",
            theme::strong(20.0),
            self.theme.strong,
        );
    }
}

/// Keys that a focused widget wants for itself.
fn is_widget_key(key: egui::Key) -> bool {
    matches!(key, egui::Key::Enter | egui::Key::Escape | egui::Key::Space)
}

/// Commands with the most modifiers first, since a shortcut also matches with extra ones.
fn by_specificity() -> Vec<UiCommand> {
    let mut commands = UiCommand::ALL.to_vec();
    commands.sort_by_key(|command| {
        let modifiers = command.text().key.map_or(egui::Modifiers::NONE, |key| key.modifiers);
        let count = usize::from(modifiers.command)
            + usize::from(modifiers.shift)
            + usize::from(modifiers.alt);
        std::cmp::Reverse(count)
    });
    commands
}

fn waker(context: &Context) -> Arc<dyn Fn() + Send + Sync> {
    let context = context.clone();
    Arc::new(move || {
        context.request_repaint_after_for(Duration::from_millis(8), egui::ViewportId::ROOT);
    })
}

impl eframe::App for HazeApp {
    fn logic(&mut self, _context: &Context, _frame: &mut eframe::Frame) {
        self.advance();
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        self.theme = Theme::of(ui.ctx());
        self.textures.begin_frame();
        self.take_input(ui);
        if std::mem::take(&mut self.focus_query) {
            ui.ctx().memory_mut(|memory| memory.request_focus(super::panes::query::text_id()));
        }
        self.fit_layout(ui.ctx().content_rect().width());
        let undo = UndoState { can_undo: self.core.can_undo(), can_redo: self.core.can_redo() };
        let deleted = self.core.deleted();
        let mut cx = Cx::new(
            &self.core.state,
            &self.theme,
            &mut self.textures,
            self.gpu.as_ref(),
            &mut self.actions,
        );
        chrome::top_bar(ui, &mut cx, undo);
        chrome::status_bar(ui, &mut cx);
        let changed = egui::CentralPanel::no_frame().show(ui, |ui| {
            let mut docking = Docking { panes: &mut self.panes, cx: &mut cx, changed: false };
            self.tree.ui(&mut docking, ui);
            docking.changed
        });
        if changed.inner {
            self.tree_is_default = false;
            self.changed_at.get_or_insert_with(Instant::now);
        }
        let context = ui.ctx().clone();
        self.large.ui(&context, &mut cx);
        if let Some(command) = self.palette.ui(&context, &mut cx, undo) {
            cx.send(Action::Command(command));
        }
        self.keys.ui(&context, &mut cx);
        self.settings.ui(&context, &mut cx);
        if let Some(card) = &mut self.card
            && card.ui(&context, &mut cx)
        {
            self.card = None;
        }
        notice_view::show(&context, &mut cx, &mut self.core.notices, deleted);
        if let Some(next) = self.core.notices.expire() {
            context.request_repaint_after(next);
        }
        self.drop_overlay(ui);
        // At once, so that a job does not wait for the next frame to begin.
        if !self.actions.is_empty() {
            self.apply_actions();
            self.context.request_repaint();
        }
    }

    fn on_exit(&mut self) {
        if let Some(store) = &self.store {
            // The window is gone: nobody is left to be told of a failure.
            let _ = store.keep(&self.core.state.settings, &self.session());
        }
    }

    fn clear_color(&self, _visuals: &egui::Visuals) -> [f32; 4] {
        self.theme.window.to_normalized_gamma_f32()
    }
}
