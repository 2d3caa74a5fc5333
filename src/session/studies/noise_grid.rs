//! K embeddings crossed with M decoder noises: how much of the difference between pictures comes
//! from the embedding, and how much from the decoder's noise.

use crate::session::result::Tile;

/// A finished grid.
#[derive(Debug, Clone)]
pub struct NoiseGrid {
    /// K: rows.
    pub embeddings: usize,
    /// M: columns.
    pub noises: usize,
    /// `[K * M]` row by row.
    pub tiles: Vec<Tile>,
    /// Shares of the variance of the re-embedded pictures (two-way ANOVA over unit embeddings,
    /// components of variance by expected mean squares, negative ones set to 0).
    pub embedding_share: Share,
    pub noise_share: Share,
    /// Interaction of the two: what one noise makes of one embedding alone.
    pub interaction_share: Share,
}

/// A share of variance, 0 to 1, with its 90 % bootstrap interval over rows and columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// The component's estimate was negative; the share is then 0.
    pub negative: bool,
}
