//! Densities over embeddings, in closed form and in f64.
//!
//! In: the parameters that an adapter predicts. Out: samples, per-dimension statistics and
//! distances between distributions. Nothing here knows of networks, tensors or galleries.

mod crps;
mod diagonal_gaussian;
mod distances;
mod embedding;
mod error;
mod generalized_gaussian;
mod incomplete_gamma;
mod match_probability;
mod score;

pub use diagonal_gaussian::DiagonalGaussian;
pub use distances::{
    closed_form_sampled_distance, mutual_likelihood_score, mutual_likelihood_score_released,
    squared_wasserstein2,
};
pub use embedding::EmbeddingDistribution;
pub use error::DistributionError;
pub use generalized_gaussian::GeneralizedGaussian;
pub use match_probability::{MatchProbability, sampled_match_probability};
pub use score::Score;
