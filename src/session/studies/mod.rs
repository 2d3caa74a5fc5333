//! Questions beyond a single query: what a dimension means, what the decoder's noise adds, how
//! uncertainty changes with specificity.

pub mod ladder;
pub mod noise_grid;
pub mod traverse;
