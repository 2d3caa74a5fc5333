//! What kind of adapter a folder holds, read without its weights.

use std::path::Path;

use serde::Deserialize;

use super::{AdapterError, CONFIG_FILE};
use crate::encoder::Modality;
use crate::model::config::read_json;

/// The kinds of adapters and bridges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdapterKind {
    #[serde(rename = "probvlm")]
    ProbVlm,
    Pfe,
    Pcme,
    #[serde(rename = "pcme++")]
    PcmePlusPlus,
    AsymVmf,
    AsymPowerSpherical,
    LinearMap,
    MeanShift,
    /// [`PromptAdapter`](super::PromptAdapter).
    #[serde(rename = "prompt-probvlm")]
    PromptProbVlm,
}

impl AdapterKind {
    /// Its name for people, where it predicts distributions; bridges predict none.
    pub fn probabilistic(self) -> Option<&'static str> {
        match self {
            AdapterKind::ProbVlm => Some("ProbVLM"),
            AdapterKind::Pfe => Some("PFE"),
            AdapterKind::Pcme => Some("PCME"),
            AdapterKind::PcmePlusPlus => Some("PCME++"),
            AdapterKind::AsymVmf => Some("AsymVLM (vMF)"),
            AdapterKind::AsymPowerSpherical => Some("AsymVLM (power spherical)"),
            AdapterKind::PromptProbVlm => Some("ProbVLM of prompt embeddings"),
            AdapterKind::LinearMap | AdapterKind::MeanShift => None,
        }
    }
}

/// The part that every `adapter_config.json` has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct AdapterHeader {
    pub kind: AdapterKind,
    pub input_modality: Modality,
    pub output_modality: Modality,
}

impl AdapterHeader {
    /// Reads the header of an adapter folder.
    ///
    /// # Errors
    /// When the folder has no `adapter_config.json`, or it names a kind that Haze does not know.
    pub fn read(folder: &Path) -> Result<Self, AdapterError> {
        Ok(read_json(&folder.join(CONFIG_FILE))?)
    }
}
