//! The window: panes that read one shared state and send actions; jobs run behind an engine
//! handle, whose messages are taken in between frames.
//!
//! In come user input and the engine's messages, out go pictures and the engine's orders. What an
//! action or a message does to the state is in [`core`], which knows no window; this module is
//! the window around it: docking, overlays, files, clipboard.

pub mod action;
mod availability;
mod background;
mod chart;
mod chrome;
pub mod command;
pub mod command_line;
mod config_store;
pub mod core;
pub mod dialogs;
mod docking;
pub mod export;
mod exporting;
pub mod gpu;
mod icons;
pub mod intake;
mod key_sheet;
mod large_view;
pub mod launch;
pub mod layout;
mod notice_view;
pub mod notices;
mod palette;
pub mod panes;
pub mod recipe_card;
mod session_file;
mod settings_window;
pub mod state;
mod textures;
pub mod theme;
pub mod trace;
mod widgets;
mod window;

pub use launch::{AppOptions, WindowError, run};
pub use window::{HazeApp, StartEngine};
