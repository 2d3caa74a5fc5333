//! Probabilistic adapters: an embedding of a frozen encoder in, the distribution of the embedding
//! it stands for out.
//!
//! An adapter is a folder with `adapter_config.json` and `adapter.safetensors`. It takes raw
//! embeddings of one modality and predicts raw embeddings of the same or the other one. Nothing
//! here knows of decoders, galleries or files of embeddings.
//!
//! | module | what |
//! | --- | --- |
//! | [`probvlm`] | the ProbVLM adapter |
//! | [`loss`] | the likelihood it is trained with, and its gradient |
//! | [`training`] | training on pairs of embeddings |
//! | [`bridge`] | deterministic maps from one modality's embeddings to the other's |

pub mod bridge;
mod error;
mod gamma;
mod header;
pub mod loss;
pub mod probvlm;
mod space;
mod tensor_file;
pub mod training;

use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;

pub use error::AdapterError;
pub use header::{AdapterHeader, AdapterKind};
pub use probvlm::ProbVlm;
pub use space::{Space, SpaceConfig, SpaceKind};

use crate::distribution::EmbeddingDistribution;
use crate::encoder::{Embedding, Modality};
use crate::model::config::read_json;

/// The config file of an adapter folder.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// The weight file of an adapter folder.
pub const WEIGHTS_FILE: &str = "adapter.safetensors";
/// `kind` of a ProbVLM adapter.
pub(crate) const PROBVLM: &str = "probvlm";

/// Any probabilistic adapter.
#[derive(Debug)]
pub enum Adapter {
    ProbVlm(ProbVlm),
}

impl Adapter {
    /// Reads an adapter folder.
    ///
    /// # Errors
    /// When its files are missing or malformed, or it holds another kind of model.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, AdapterError> {
        match kind_of(folder)?.as_str() {
            PROBVLM => Ok(Adapter::ProbVlm(ProbVlm::load(folder, device)?)),
            found => Err(AdapterError::Kind {
                path: folder.join(CONFIG_FILE),
                found: found.to_owned(),
                expected: "an adapter of kind probvlm",
                hint: "linear-map and mean-shift folders are bridges and predict no distribution",
            }),
        }
    }

    /// Reads one modality of a ProbVLM checkpoint of its authors; see
    /// [`ProbVlm::load_released`].
    ///
    /// # Errors
    /// When the file is unreadable, lacks that modality, or is no such network.
    pub fn load_released(
        path: &Path,
        modality: Modality,
        device: &Device,
    ) -> Result<Self, AdapterError> {
        Ok(Adapter::ProbVlm(ProbVlm::load_released(path, modality, device)?))
    }

    /// The distribution of the target embedding; see [`ProbVlm::predict`].
    ///
    /// # Errors
    /// When the embedding does not fit the adapter.
    pub fn predict(
        &self,
        embedding: &Embedding,
        passes: usize,
        seed: u64,
    ) -> Result<EmbeddingDistribution, AdapterError> {
        match self {
            Adapter::ProbVlm(adapter) => adapter.predict(embedding, passes, seed),
        }
    }

    /// Predictions for many embeddings, equal to those one by one.
    ///
    /// # Errors
    /// When an embedding does not fit the adapter.
    pub fn predict_batch(
        &self,
        embeddings: &[Embedding],
        passes: usize,
        seed: u64,
    ) -> Result<Vec<EmbeddingDistribution>, AdapterError> {
        match self {
            Adapter::ProbVlm(adapter) => adapter.predict_batch(embeddings, passes, seed),
        }
    }

    /// The modality of the embeddings it takes.
    pub fn input_modality(&self) -> Modality {
        match self {
            Adapter::ProbVlm(adapter) => adapter.config().input_modality,
        }
    }

    /// The modality of the embeddings it predicts.
    pub fn output_modality(&self) -> Modality {
        match self {
            Adapter::ProbVlm(adapter) => adapter.config().output_modality,
        }
    }

    /// Number of dimensions D.
    pub fn dim(&self) -> usize {
        match self {
            Adapter::ProbVlm(adapter) => adapter.dim(),
        }
    }

    /// Fingerprint of the encoder it belongs to, where known.
    pub fn encoder(&self) -> Option<&str> {
        match self {
            Adapter::ProbVlm(adapter) => adapter.config().encoder.as_deref(),
        }
    }

    /// One line for people: kind, direction, size, preset, and what it was trained on.
    pub fn describe(&self) -> String {
        match self {
            Adapter::ProbVlm(adapter) => {
                let c = adapter.config();
                let trained = match &c.training {
                    Some(t) => format!(
                        ", trained on {} pairs (held-out {:.4} nats/dim, one Gaussian {:.4})",
                        t.training_items, t.validation_nll, t.baselines.gaussian_nll
                    ),
                    None => String::new(),
                };
                format!(
                    "ProbVLM {} to {}, {} dimensions, {} hidden, dropout {}, preset {}{trained}",
                    c.input_modality,
                    c.output_modality,
                    c.input_dim,
                    c.hidden_dim,
                    c.dropout,
                    c.preset
                )
            }
        }
    }
}

#[derive(Deserialize)]
struct KindOnly {
    kind: String,
}

fn kind_of(folder: &Path) -> Result<String, AdapterError> {
    Ok(read_json::<KindOnly>(&folder.join(CONFIG_FILE))?.kind)
}
