//! The window: panes that read one shared state and send actions; jobs run behind an engine
//! handle, whose messages are taken in between frames.

pub mod action;
pub mod command;
pub mod export;
pub mod gpu;
mod icons;
pub mod large_view;
pub mod layout;
pub mod notices;
pub mod panes;
pub mod state;
mod textures;
pub mod theme;
mod widgets;
