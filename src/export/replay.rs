//! The metadata of a sheet, and how far a repeated result agrees with it.

use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::folder::tile_name;
use super::metadata::{SheetError, read_sheet};
use crate::query::{AlphaPolicy, read_image};
use crate::session::recipe::{ModelRef, Recipe};
use crate::session::result::{QueryResult, SampleStatistics, Tile};

/// What a sheet carries inside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SheetMetadata {
    pub recipe: Recipe,
    /// The device it ran on.
    pub device: String,
    /// `[D]` the frozen embedding of the query.
    pub query_embedding: Vec<f32>,
    /// `[D]` the mean of the distribution.
    pub mean: Vec<f32>,
    /// Mean over dimensions of the aleatoric variance.
    pub aleatoric: f64,
    /// Mean over dimensions of the epistemic variance.
    pub epistemic: f64,
    /// Hash of the decoded mean, where it was decoded.
    pub mean_tile: Option<String>,
    /// One entry per sample, in order of the index.
    pub tiles: Vec<TileMetadata>,
}

/// What a sheet says of one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TileMetadata {
    /// Hash of the decoded image, where it was decoded.
    pub hash: Option<String>,
    #[serde(flatten)]
    pub statistics: SampleStatistics,
}

impl SheetMetadata {
    pub fn of(result: &QueryResult) -> Self {
        let tiles = result.samples.iter().enumerate().map(|(i, sample)| TileMetadata {
            hash: result.tiles.get(i).map(|tile| tile.hash.clone()),
            statistics: sample.statistics.clone(),
        });
        Self {
            recipe: result.recipe.clone(),
            device: result.device.clone(),
            query_embedding: result.query_embedding.values.clone(),
            mean: result.distribution.mean(),
            aleatoric: result.distribution.mean_aleatoric(),
            epistemic: result.distribution.mean_epistemic(),
            mean_tile: result.mean_tile.as_ref().map(|tile| tile.hash.clone()),
            tiles: tiles.collect(),
        }
    }

    /// Reads the metadata of a sheet. The recipe's ranges are checked.
    ///
    /// # Errors
    /// When the file is no sheet, or what it carries is damaged or of another version.
    pub fn read(path: &Path) -> Result<Self, SheetError> {
        let (_, json) = read_sheet(path)?;
        let damaged = |reason: String| SheetError::Damaged { path: path.to_owned(), reason };
        let recipe = json.get("recipe").cloned().unwrap_or_default();
        Recipe::from_json(recipe, "its recipe").map_err(|e| damaged(e.to_string()))?;
        serde_json::from_value(json).map_err(|e| damaged(e.to_string()))
    }
}

/// How a repeated result compares with the sheet it repeats.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Every tile has the same pixels and every statistic the same value.
    pub equal: bool,
    pub tiles: usize,
    pub tiles_equal: usize,
    /// Largest difference of a colour value, 0 to 255; known only where the tiles lie beside the
    /// sheet.
    pub largest_pixel_difference: Option<u8>,
    /// Largest difference of a component of the mean embedding.
    pub largest_mean_difference: f64,
    /// Largest difference of a sample's log-density in nats.
    pub largest_log_prob_difference: f64,
    /// Models whose files are not those the sheet was made with.
    pub changed_models: Vec<String>,
}

/// Compares a repeated result with the sheet's metadata; `sheet` is the path of the sheet, beside
/// which the original tiles are looked for.
pub fn compare(original: &SheetMetadata, repeated: &QueryResult, sheet: &Path) -> ReplayReport {
    let now = SheetMetadata::of(repeated);
    let hashes = |of: &SheetMetadata| -> Vec<Option<String>> {
        let samples = of.tiles.iter().map(|tile| tile.hash.clone());
        std::iter::once(of.mean_tile.clone()).chain(samples).collect()
    };
    let (before, after) = (hashes(original), hashes(&now));
    let tiles = before.iter().flatten().count();
    let tiles_equal = before.iter().zip(&after).filter(|(b, a)| b.is_some() && b == a).count();
    let largest_mean_difference =
        largest(original.mean.iter().zip(&now.mean).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    let log_prob = |tile: &TileMetadata| tile.statistics.log_prob;
    let largest_log_prob_difference =
        largest(original.tiles.iter().zip(&now.tiles).map(|(a, b)| log_prob(a) - log_prob(b)));
    let same_size = before.len() == after.len() && original.mean.len() == now.mean.len();
    ReplayReport {
        equal: same_size
            && tiles_equal == tiles
            && original.mean == now.mean
            && original.tiles == now.tiles,
        tiles,
        tiles_equal,
        largest_pixel_difference: pixel_difference(repeated, sheet),
        largest_mean_difference,
        largest_log_prob_difference,
        changed_models: changed_models(&original.recipe, &now.recipe),
    }
}

fn largest(differences: impl Iterator<Item = f64>) -> f64 {
    differences.map(f64::abs).fold(0.0, f64::max)
}

fn changed_models(before: &Recipe, after: &Recipe) -> Vec<String> {
    let after = after.models.named();
    let changed = |name: &str, model: &ModelRef| {
        after.iter().any(|(other, new)| *other == name && model.hash != new.hash)
    };
    let before = before.models.named().into_iter();
    before.filter(|(name, m)| changed(name, m)).map(|(name, _)| name.to_owned()).collect()
}

fn pixel_difference(repeated: &QueryResult, sheet: &Path) -> Option<u8> {
    let folder = sheet.parent()?.join("tiles");
    let named = repeated.tiles.iter().enumerate().map(|(i, tile)| (tile_name(i), tile));
    let mean = repeated.mean_tile.iter().map(|tile| ("mean.png".to_owned(), tile));
    let mut worst = None;
    for (name, tile) in mean.chain(named) {
        let before = read_image(&folder.join(name)).ok()?.to_rgb(AlphaPolicy::Drop);
        worst = worst.max(Some(largest_difference(&before, tile)?));
    }
    worst
}

fn largest_difference(before: &RgbImage, tile: &Tile) -> Option<u8> {
    if before.dimensions() != tile.image.dimensions() {
        return None;
    }
    let pairs = before.as_raw().iter().zip(tile.image.as_raw());
    pairs.map(|(a, b)| a.abs_diff(*b)).max()
}
