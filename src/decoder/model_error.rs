//! Why a network of the decoder could not be loaded or run.

use crate::model::config::ConfigError;
use crate::model::weights::WeightsError;

/// What can go wrong with the UNet and the VAE.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{input} has shape {found:?}, expected {expected}")]
    Shape { input: &'static str, found: Vec<usize>, expected: String },
    #[error("{0}")]
    Input(String),
}

impl ModelError {
    /// An input tensor that does not fit the model.
    pub(super) fn shape(
        input: &'static str,
        found: &[usize],
        expected: impl Into<String>,
    ) -> ModelError {
        ModelError::Shape { input, found: found.to_vec(), expected: expected.into() }
    }
}
