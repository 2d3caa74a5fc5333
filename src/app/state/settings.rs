//! Settings of the window: what changes how things look or where they run, never a result.

use serde::{Deserialize, Serialize};

use crate::model::device::DeviceChoice;

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
    /// `auto`, `cpu`, …: as on the command line.
    pub device: String,
    /// A folder with bundles and models of the user's own.
    pub models_folder: Option<std::path::PathBuf>,
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
            device: DeviceChoice::ALL[0].to_string(),
            models_folder: None,
        }
    }
}
