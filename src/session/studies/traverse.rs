//! Mean ± k σ along chosen dimensions, decoded: what those dimensions mean.

use crate::session::result::Tile;

/// A finished walk.
#[derive(Debug, Clone)]
pub struct Traverse {
    pub dimensions: Vec<usize>,
    /// k of every tile.
    pub offsets: Vec<f64>,
    pub tiles: Vec<Tile>,
    /// Cosine between the moved embedding and the mean, per tile.
    pub cosine_to_mean: Vec<f64>,
}
