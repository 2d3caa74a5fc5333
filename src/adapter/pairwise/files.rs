//! Reading and writing pairwise adapters.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;

use super::network::Mlp;
use super::{PairwiseAdapter, PairwiseConfig};
use crate::adapter::tensor_file::write_tensors;
use crate::adapter::{AdapterError, CONFIG_FILE, WEIGHTS_FILE};
use crate::files::{create_folder, write_atomic};
use crate::model::config::read_json;
use crate::model::weights::Weights;

impl PairwiseAdapter {
    /// Reads a folder with `adapter_config.json` and `adapter.safetensors`. Weights have PyTorch's
    /// layout (`layers.0.weight` is `[hidden, D]`).
    ///
    /// # Errors
    /// When a file is missing or malformed, or the two do not match.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, AdapterError> {
        let path = folder.join(CONFIG_FILE);
        let config: PairwiseConfig = read_json(&path)?;
        config.check(&path)?;
        let widths = config.kind.widths(config.input_dim, config.hidden_dim);
        let weights = Weights::open(&folder.join(WEIGHTS_FILE))?;
        let network = weights.load_into(Mlp::uninitialised(&widths, device))?;
        Ok(Self::from_parts(config, network))
    }

    /// Writes the adapter as a folder that [`load`](Self::load) reads. The config comes last, so
    /// a folder with a config is complete.
    ///
    /// # Errors
    /// When the folder or a file cannot be written, or the weights cannot be read back.
    pub fn save(&self, folder: &Path) -> Result<(), AdapterError> {
        create_folder(folder)?;
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        write_tensors(&folder.join(WEIGHTS_FILE), &self.network.to_pytorch()?, metadata)?;
        write_atomic(&folder.join(CONFIG_FILE), |out| {
            serde_json::to_writer_pretty(out, &self.config).map_err(std::io::Error::other)
        })?;
        Ok(())
    }
}
