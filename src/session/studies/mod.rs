//! Questions beyond a single query: what a dimension means, what the decoder's noise adds, how
//! uncertainty changes with specificity, how good a gallery's own captions retrieve, which route
//! takes a text to image space best.

pub mod degradation;
pub mod evaluation;
pub mod ladder;
pub mod noise_grid;
pub mod routes;
pub mod traverse;
