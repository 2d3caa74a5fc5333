//! A ladder: queries of growing specificity, or one image masked more and more, and how the
//! uncertainty changes from step to step.

use image::RgbImage;

use crate::session::recipe::RecipeQuery;

/// A finished ladder.
#[derive(Debug, Clone)]
pub struct Ladder {
    /// In the order given: from the first (least specific) step on.
    pub steps: Vec<LadderStep>,
    /// Kendall's tau-b between step number and mean aleatoric variance, -1 to 1.
    pub tau: f64,
    /// Two-sided permutation p-value of tau; exact up to 8 steps, else from 9,999 permutations.
    pub p_value: f64,
}

/// One step of a ladder.
#[derive(Debug, Clone)]
pub struct LadderStep {
    pub query: RecipeQuery,
    /// What is shown: the text, the file name, or the masked share.
    pub title: String,
    /// The (masked) image, where the step is one.
    pub image: Option<RgbImage>,
    /// Means over dimensions, squared embedding units.
    pub aleatoric: f64,
    pub epistemic: f64,
    /// Aleatoric variance at 5, 25, 50, 75 and 95 % of the dimensions.
    pub quantiles: [f64; 5],
    /// Share of the gallery's own captions or images that are less uncertain, 0 to 1.
    pub share_below: Option<f64>,
    /// Cosine between the embedding of this step and of the last one: the baseline without any
    /// adapter.
    pub cosine_to_last: f64,
}
