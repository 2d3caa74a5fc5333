//! The window: panes that read one shared state and send actions; jobs run behind an engine
//! handle, whose messages are taken in between frames.

pub mod action;
pub mod command;
pub mod dialogs;
pub mod export;
pub mod exporting;
pub mod gpu;
mod icons;
pub mod launch;
pub mod layout;
pub mod notices;
pub mod panes;
pub mod state;
mod textures;
pub mod theme;
pub mod trace;
mod widgets;

// REPLACED BY THE MERGE: stands here so that `launch` and `trace` compile.
pub struct HazeApp(state::State);

impl HazeApp {
    pub fn new(_cc: &eframe::CreationContext<'_>, _options: launch::AppOptions) -> Self {
        unreachable!("replaced by the merge")
    }

    pub fn state(&self) -> &state::State {
        &self.0
    }

    pub fn send(&mut self, _action: action::Action) {}
}

impl eframe::App for HazeApp {
    fn ui(&mut self, _ui: &mut egui::Ui, _frame: &mut eframe::Frame) {}
}
