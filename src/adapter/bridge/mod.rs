//! Deterministic maps from one modality's embeddings to the other's: how a text reaches the image
//! space where no cross-modal adapter or prior is at hand.
//!
//! A bridge is a folder like an adapter's: `adapter_config.json` with kind `linear-map` or
//! `mean-shift`, and `adapter.safetensors` with `weight` `[D_out, D_in]` and `bias`, or `shift`.

mod linear_algebra;
mod linear_map;
mod mean_shift;

use std::collections::HashMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

pub use linear_map::{FitSummary, LinearMap};
pub use mean_shift::MeanShift;

use crate::adapter::tensor_file::{NamedTensor, read_tensor, write_tensors};
use crate::adapter::{AdapterError, CONFIG_FILE, WEIGHTS_FILE, kind_of};
use crate::encoder::{Embedding, Modality};
use crate::files::{create_folder, write_atomic};
use crate::model::config::{ConfigError, read_json};
use crate::model::weights::Weights;

const LINEAR_MAP: &str = "linear-map";
const MEAN_SHIFT: &str = "mean-shift";

/// `adapter_config.json` of a bridge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BridgeConfig {
    /// `"linear-map"` or `"mean-shift"`.
    pub kind: String,
    pub input_modality: Modality,
    pub output_modality: Modality,
    pub input_dim: usize,
    pub output_dim: usize,
    /// Fingerprint of the encoder whose embeddings it was fitted to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<String>,
    /// How well it fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fit: Option<FitSummary>,
    /// Euclidean norm that mapped embeddings are scaled to. A fitted map shrinks towards the mean,
    /// while decoders expect the norm of real embeddings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_norm: Option<f64>,
}

/// The map itself.
#[derive(Debug, Clone, PartialEq)]
pub enum BridgeMap {
    Linear(LinearMap),
    MeanShift(MeanShift),
}

/// A map and what it is for.
#[derive(Debug, Clone, PartialEq)]
pub struct Bridge {
    config: BridgeConfig,
    map: BridgeMap,
}

impl Bridge {
    /// A bridge from a fitted map.
    pub fn new(
        map: BridgeMap,
        input_modality: Modality,
        output_modality: Modality,
        encoder: Option<String>,
        fit: Option<FitSummary>,
    ) -> Self {
        let (kind, input_dim, output_dim) = match &map {
            BridgeMap::Linear(map) => (LINEAR_MAP, map.input_dim(), map.output_dim()),
            BridgeMap::MeanShift(map) => (MEAN_SHIFT, map.dim(), map.dim()),
        };
        let kind = kind.to_owned();
        let config = BridgeConfig {
            kind,
            input_modality,
            output_modality,
            input_dim,
            output_dim,
            encoder,
            fit,
            output_norm: None,
        };
        Self { config, map }
    }

    /// The bridge with mapped embeddings scaled to this norm.
    pub fn with_output_norm(mut self, norm: f64) -> Self {
        self.config.output_norm = Some(norm);
        self
    }

    /// Reads a bridge folder.
    ///
    /// # Errors
    /// When its files are missing or malformed, do not match, or hold another kind of model.
    pub fn load(folder: &Path) -> Result<Self, AdapterError> {
        let path = folder.join(CONFIG_FILE);
        let kind = kind_of(folder)?;
        if ![LINEAR_MAP, MEAN_SHIFT].contains(&kind.as_str()) {
            return Err(AdapterError::Kind {
                path,
                found: kind,
                expected: "a bridge of kind linear-map or mean-shift",
                hint: "probabilistic adapters predict distributions and are loaded as such",
            });
        }
        let config: BridgeConfig = read_json(&path)?;
        let weights = Weights::open(&folder.join(WEIGHTS_FILE))?;
        let check = |name: &str, expected: Vec<usize>| {
            let found = weights.shape(name);
            if found.as_ref() == Some(&expected) && !expected.contains(&0) {
                return Ok(());
            }
            let found = found.map_or("missing".to_owned(), |shape| format!("of shape {shape:?}"));
            Err(ConfigError::value(&path, name, found, format!("a tensor of shape {expected:?}")))
        };
        let map = if kind == LINEAR_MAP {
            check("weight", vec![config.output_dim, config.input_dim])?;
            check("bias", vec![config.output_dim])?;
            BridgeMap::Linear(LinearMap {
                weight: read_tensor::<2>(&weights, "weight")?,
                bias: read_tensor::<1>(&weights, "bias")?,
            })
        } else {
            check("shift", vec![config.input_dim])?;
            check("shift", vec![config.output_dim])?;
            BridgeMap::MeanShift(MeanShift { shift: read_tensor::<1>(&weights, "shift")? })
        };
        Ok(Self { config, map })
    }

    /// Writes the bridge as a folder that [`load`](Self::load) reads; the config comes last.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), AdapterError> {
        create_folder(folder)?;
        let tensors = match &self.map {
            BridgeMap::Linear(map) => vec![
                NamedTensor {
                    name: "weight".to_owned(),
                    shape: vec![map.output_dim(), map.input_dim()],
                    values: map.weight.clone(),
                },
                NamedTensor::vector("bias", map.bias.clone()),
            ],
            BridgeMap::MeanShift(map) => vec![NamedTensor::vector("shift", map.shift.clone())],
        };
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        write_tensors(&folder.join(WEIGHTS_FILE), &tensors, metadata)?;
        write_atomic(&folder.join(CONFIG_FILE), |out| {
            serde_json::to_writer_pretty(out, &self.config).map_err(std::io::Error::other)
        })?;
        Ok(())
    }

    /// Its config.
    pub fn config(&self) -> &BridgeConfig {
        &self.config
    }

    /// The mapped embedding of a raw one.
    ///
    /// # Errors
    /// When the embedding has another dimension or modality.
    pub fn apply(&self, embedding: &Embedding) -> Result<Embedding, AdapterError> {
        let expected = self.config.input_modality;
        if embedding.modality != expected {
            return Err(AdapterError::Modality { found: embedding.modality, expected });
        }
        let mut values = match &self.map {
            BridgeMap::Linear(map) => map.apply(&embedding.values)?,
            BridgeMap::MeanShift(map) => map.apply(&embedding.values)?,
        };
        if let Some(norm) = self.config.output_norm {
            let scale = norm / crate::encoder::norm(&values).max(f64::MIN_POSITIVE);
            values.iter_mut().for_each(|value| *value = (f64::from(*value) * scale) as f32);
        }
        Ok(Embedding { values, modality: self.config.output_modality })
    }

    /// One line for people: kind, direction, size, and how much it explains.
    pub fn describe(&self) -> String {
        let c = &self.config;
        let fit = match &c.fit {
            Some(fit) => format!(
                ", fitted to {} pairs (explains {:.1} % of held-out variance)",
                fit.training_items,
                100.0 * fit.explained
            ),
            None => String::new(),
        };
        format!(
            "{} {} to {}, {} dimensions{fit}",
            c.kind, c.input_modality, c.output_modality, c.output_dim
        )
    }
}

#[cfg(test)]
mod tests;
