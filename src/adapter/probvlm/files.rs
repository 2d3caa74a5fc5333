//! Reading and writing ProbVLM adapters: the folder Haze writes, and the authors' checkpoints.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;

use super::ProbVlm;
use super::config::{Preset, ProbVlmConfig, RELEASED_DROPOUT, UnitRows, released_space};
use super::network::{Network, from_pytorch_name};
use crate::adapter::loss::Family;
use crate::adapter::space::Space;
use crate::adapter::tensor_file::write_tensors;
use crate::adapter::{AdapterError, CONFIG_FILE, WEIGHTS_FILE};
use crate::encoder::Modality;
use crate::files::{create_folder, write_atomic};
use crate::model::config::{ConfigError, read_json};
use crate::model::weights::Weights;

/// Wider layers than any embedding model has; bounds what a config can make the loader allocate.
const WIDTH_LIMIT: usize = 1 << 16;
/// Prefix of the tensors that are no network parameters.
const INPUT_SPACE: &str = "input_space";
const OUTPUT_SPACE: &str = "output_space";

impl ProbVlm {
    /// Reads a folder with `adapter_config.json` and `adapter.safetensors`.
    ///
    /// The weight file holds PyTorch names and layouts (`mod.0.weight` is `[hidden, D]`), so that
    /// the authors' `BayesCap_MLP` can load it, and the vectors of the working spaces.
    ///
    /// # Errors
    /// When a file is missing or malformed, or the two do not match.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, AdapterError> {
        let path = folder.join(CONFIG_FILE);
        let config: ProbVlmConfig = read_json(&path)?;
        check_config(&config, &path)?;
        let weights = Weights::open(&folder.join(WEIGHTS_FILE))?;
        let space = |config: &_, prefix, dim| Space::load(config, &weights, prefix, dim, &path);
        let input_space = space(&config.input_space, INPUT_SPACE, config.input_dim)?;
        let output_space = space(&config.output_space, OUTPUT_SPACE, config.output_dim)?;
        let network = Network::uninitialised(config.input_dim, config.hidden_dim, device);
        let network = load_network(weights, "", network)?;
        Ok(Self { config, input_space, output_space, network })
    }

    /// Reads one modality of a checkpoint of the authors' code: a `.pth` state dict, or the same
    /// as safetensors, with names like `txt_BayesCap.mod.0.weight`.
    ///
    /// The sizes come from the tensors. A checkpoint holds neither dropout nor preprocessing; the
    /// released code's are assumed ([`Preset::Released`]).
    ///
    /// # Errors
    /// When the file is unreadable, lacks that modality, or is no such network.
    pub fn load_released(
        path: &Path,
        modality: Modality,
        device: &Device,
    ) -> Result<Self, AdapterError> {
        let weights = Weights::open(path)?;
        let prefix = match modality {
            Modality::Text => "txt_BayesCap.",
            Modality::Image => "img_BayesCap.",
        };
        let first = format!("{prefix}mod.0.weight");
        let Some(&[hidden_dim, dim]) = weights.shape(&first).as_deref() else {
            let mut found: Vec<&str> =
                weights.names().map(|n| n.split('.').next().unwrap_or(n)).collect();
            found.sort_unstable();
            found.dedup();
            return Err(AdapterError::checkpoint(
                path,
                format!(
                    "no matrix {first}; found tensors under {}; expected a ProbVLM state dict \
                     that holds the {modality} adapter",
                    found.iter().take(5).copied().collect::<Vec<_>>().join(", ")
                ),
            ));
        };
        if dim > WIDTH_LIMIT || hidden_dim > WIDTH_LIMIT {
            return Err(AdapterError::checkpoint(
                path,
                format!("{first} has shape [{hidden_dim}, {dim}], at most {WIDTH_LIMIT} expected"),
            ));
        }
        let network = Network::uninitialised(dim, hidden_dim, device);
        let network = load_network(weights, prefix, network)?;
        let space = released_space(modality);
        Ok(Self::of_state_dict(network, modality, space, Preset::Released, RELEASED_DROPOUT))
    }

    /// An adapter within one modality of which only the network was stored.
    pub(in crate::adapter) fn of_state_dict(
        network: Network,
        modality: Modality,
        space: Space,
        preset: Preset,
        dropout: f64,
    ) -> Self {
        let config = ProbVlmConfig {
            kind: crate::adapter::PROBVLM.to_owned(),
            preset,
            family: Family::GeneralizedGaussian,
            input_modality: modality,
            output_modality: modality,
            input_dim: network.dim(),
            output_dim: network.dim(),
            hidden_dim: network.hidden_dim(),
            dropout,
            input_space: space.config(),
            output_space: space.config(),
            unit_rows: None,
            encoder: None,
            training: None,
        };
        Self { config, input_space: space.clone(), output_space: space, network }
    }

    /// Writes the adapter as a folder that [`load`](Self::load) reads. The config comes last, so
    /// a folder with a config is complete.
    ///
    /// # Errors
    /// When the folder or a file cannot be written, or the weights cannot be read back.
    pub fn save(&self, folder: &Path) -> Result<(), AdapterError> {
        self.save_as(folder, &self.config)
    }

    /// [`save`](Self::save) with another config.
    pub(super) fn save_as(
        &self,
        folder: &Path,
        config: &ProbVlmConfig,
    ) -> Result<(), AdapterError> {
        create_folder(folder)?;
        let mut tensors = self.network.to_pytorch()?;
        tensors.extend(self.input_space.tensors(INPUT_SPACE));
        tensors.extend(self.output_space.tensors(OUTPUT_SPACE));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        write_tensors(&folder.join(WEIGHTS_FILE), &tensors, metadata)?;
        write_atomic(&folder.join(CONFIG_FILE), |out| {
            serde_json::to_writer_pretty(out, config).map_err(std::io::Error::other)
        })?;
        Ok(())
    }
}

/// Fills a network from tensors with PyTorch names below `prefix`.
pub fn load_network(
    weights: Weights,
    prefix: &str,
    network: Network,
) -> Result<Network, AdapterError> {
    let ours = |name: &str| {
        let name = name.strip_prefix(prefix)?;
        let space = |s: &str| name.strip_prefix(s).is_some_and(|rest| rest.starts_with('.'));
        if space(INPUT_SPACE) || space(OUTPUT_SPACE) {
            return None;
        }
        // Unknown names stay, so that the loader can complain about them.
        Some(from_pytorch_name(name).unwrap_or_else(|| name.to_owned()))
    };
    Ok(weights.rename(ours).load_into(network)?)
}

fn check_config(config: &ProbVlmConfig, path: &Path) -> Result<(), ConfigError> {
    if config.input_dim != config.output_dim {
        return Err(ConfigError::value(
            path,
            "output_dim",
            config.output_dim,
            format!("{} like input_dim: the network adds its input", config.input_dim),
        ));
    }
    for (key, width) in [("input_dim", config.input_dim), ("hidden_dim", config.hidden_dim)] {
        if !(1..=WIDTH_LIMIT).contains(&width) {
            return Err(ConfigError::value(path, key, width, format!("1 to {WIDTH_LIMIT}")));
        }
    }
    if let Some(UnitRows { target_norm: Some(norm) }) = config.unit_rows
        && !(norm.is_finite() && norm > 0.0)
    {
        return Err(ConfigError::value(path, "unit_rows.target_norm", norm, "a positive number"));
    }
    if !(0.0..1.0).contains(&config.dropout) {
        return Err(ConfigError::value(path, "dropout", config.dropout, "0 <= dropout < 1"));
    }
    Ok(())
}
