//! Settings of the window: what changes how things look or where they run, never a result.

use serde::{Deserialize, Serialize};

use super::sample_order::SampleOrder;
use crate::model::device::DeviceChoice;

/// Edges of a sample tile in points.
pub const TILE_SIZES: [f32; 6] = [64.0, 96.0, 128.0, 192.0, 256.0, 384.0];

/// Kept in one JSON file, written atomically.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    pub theme: ThemeChoice,
    /// Text and layout scale, 0.8 to 2.
    pub scale: f32,
    pub colour_map: ColourMap,
    /// Decode after every query.
    pub decode_automatically: bool,
    /// Show unfinished pictures while decoding.
    pub previews: bool,
    pub reduce_motion: bool,
    pub compact: bool,
    /// Edge of a sample tile in points.
    pub tile_size: f32,
    pub sample_order: SampleOrder,
    /// `auto`, `cpu`, `remote:HOST`, …: as on the command line.
    pub device: String,
    /// A folder with bundles and models of the user's own.
    pub models_folder: Option<std::path::PathBuf>,
    /// Session files that were saved or opened, the last one first.
    pub recent_sessions: Vec<std::path::PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThemeChoice {
    System,
    Dark,
    Light,
}

/// Perceptually uniform maps, safe for colour blindness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColourMap {
    Viridis,
    Cividis,
    Grey,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            theme: ThemeChoice::System,
            scale: 1.0,
            colour_map: ColourMap::Viridis,
            decode_automatically: true,
            previews: true,
            reduce_motion: false,
            compact: false,
            tile_size: 128.0,
            sample_order: SampleOrder::default(),
            device: DeviceChoice::default().to_string(),
            models_folder: None,
            recent_sessions: Vec::new(),
        }
    }
}

/// Recent sessions that are kept.
const RECENT: usize = 8;

impl Settings {
    /// Puts a session file first among the recent ones.
    pub fn note_session(&mut self, path: std::path::PathBuf) {
        self.recent_sessions.retain(|other| *other != path);
        self.recent_sessions.insert(0, path);
        self.recent_sessions.truncate(RECENT);
    }

    /// The next larger or smaller tile size; the same one at the end.
    pub fn next_tile_size(&self, larger: bool) -> f32 {
        let now = self.tile_size;
        let next = if larger {
            TILE_SIZES.into_iter().find(|&size| size > now)
        } else {
            TILE_SIZES.into_iter().rev().find(|&size| size < now)
        };
        next.unwrap_or(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_is_opened_again_moves_to_the_front_of_the_recent_ones() {
        let mut settings = Settings::default();
        for i in [0, 1, 2, 1] {
            settings.note_session(format!("{i}.json").into());
        }
        let names: Vec<String> =
            settings.recent_sessions.iter().map(|path| path.display().to_string()).collect();
        assert_eq!(names, ["1.json", "2.json", "0.json"]);
        (0..20).for_each(|i| settings.note_session(format!("more {i}").into()));
        assert_eq!(settings.recent_sessions.len(), RECENT);
    }

    #[test]
    fn tile_sizes_step_along_the_list_and_stop_at_its_ends() {
        let at = |tile_size| Settings { tile_size, ..Settings::default() };
        assert_eq!(at(128.0).next_tile_size(true), 192.0);
        assert_eq!(at(128.0).next_tile_size(false), 96.0);
        assert_eq!(at(384.0).next_tile_size(true), 384.0);
        assert_eq!(at(64.0).next_tile_size(false), 64.0);
        // A size from an edited file finds its way back to the list.
        assert_eq!(at(100.0).next_tile_size(true), 128.0);
    }
}
