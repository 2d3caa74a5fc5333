//! ProbVLM over prompt embeddings: the hidden states of a text encoder in, a generalised Gaussian
//! per token and dimension out (`BayesCap_for_HF_CLIP` of the authors' code).
//!
//! The network is that of [`ProbVlm`] on states as they are, neither scaled nor normalised, and
//! comes in two forms: one that sees all tokens at once as a vector of `L E` numbers (as the
//! authors train it), and one that sees a token at a time, `E` numbers. What it predicts is no
//! point of the space that texts and images share, so it is no [`Predictor`](super::Predictor):
//! neither galleries nor image decoders have a use for it.

use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::probvlm::{Network, Preset, ProbVlm, RELEASED_DROPOUT, load_network};
use super::{AdapterError, CONFIG_FILE, PROMPT_PROBVLM, Space, WEIGHTS_FILE};
use crate::distribution::EmbeddingDistribution;
use crate::encoder::{Embedding, Modality};
use crate::model::config::{ConfigError, read_json};
use crate::model::weights::Weights;

/// What the authors' module calls its one network.
const PREFIX: &str = "txt_BayesCap.";
/// The network that only adapters of the shared space have.
const IMAGE_PREFIX: &str = "img_BayesCap.";
/// Far more numbers than any text encoder's states have; bounds what a file can ask for.
const DIM_LIMIT: usize = 1 << 20;

/// `adapter_config.json` of an adapter of prompt embeddings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PromptAdapterConfig {
    /// Always `"prompt-probvlm"`.
    pub kind: String,
    pub preset: Preset,
    /// Always text.
    pub input_modality: Modality,
    /// Always text.
    pub output_modality: Modality,
    /// Dropout probability in training, which epistemic variances of the preset `paper` use.
    pub dropout: f64,
}

/// How a network reads the `L` states of `E` numbers of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All tokens at once, as one vector.
    Flattened,
    /// Token by token, with the same network.
    PerToken,
}

/// An adapter of prompt embeddings.
#[derive(Debug)]
pub struct PromptAdapter {
    network: ProbVlm,
}

impl PromptAdapter {
    /// Reads an adapter: a folder with `adapter_config.json` and `adapter.safetensors`, or a state
    /// dict of the authors' module alone (`.pth` or safetensors), whose preset is
    /// [`Preset::Released`].
    ///
    /// The sizes come from the tensors: `mod.0.weight` is `[H, D]` and `block_mu.0.weight`
    /// `[W, D]`, where W is 128 in the authors' `BayesCap_HF_MLP` and D in their `BayesCap_MLP`.
    /// Names may have the prefix `txt_BayesCap.`.
    ///
    /// # Errors
    /// When a file is missing or malformed, or holds something else.
    pub fn load(path: &Path, device: &Device) -> Result<Self, AdapterError> {
        if !path.is_dir() {
            return Self::from_weights(path, Preset::Released, RELEASED_DROPOUT, device);
        }
        let file = path.join(CONFIG_FILE);
        let config: PromptAdapterConfig = read_json(&file)?;
        let texts = [config.input_modality, config.output_modality] == [Modality::Text; 2];
        if config.kind != PROMPT_PROBVLM || !texts {
            return Err(AdapterError::Kind {
                path: file,
                found: format!(
                    "{} from {} to {}",
                    config.kind, config.input_modality, config.output_modality
                ),
                expected: "a prompt-probvlm from text to text",
                hint: "adapters of the shared space go with an unCLIP decoder",
            });
        }
        if !(0.0..1.0).contains(&config.dropout) {
            let found = config.dropout;
            return Err(ConfigError::value(&file, "dropout", found, "0 <= dropout < 1").into());
        }
        Self::from_weights(&path.join(WEIGHTS_FILE), config.preset, config.dropout, device)
    }

    fn from_weights(
        path: &Path,
        preset: Preset,
        dropout: f64,
        device: &Device,
    ) -> Result<Self, AdapterError> {
        let weights = Weights::open(path)?;
        let error = |reason: String| AdapterError::checkpoint(path, reason);
        if weights.names().any(|name| name.starts_with(IMAGE_PREFIX)) {
            return Err(error(format!(
                "it holds tensors under {IMAGE_PREFIX}: an adapter of the space that texts and \
                 images share, not of prompt embeddings; use it with an unCLIP decoder"
            )));
        }
        let prefixed = weights.names().any(|name| name.starts_with(PREFIX));
        let prefix = if prefixed { PREFIX } else { "" };
        let matrix = |name: &str| {
            let name = format!("{prefix}{name}");
            match weights.shape(&name).as_deref() {
                Some(&[rows, columns]) if rows.max(columns) <= DIM_LIMIT => Ok([rows, columns]),
                found => Err(error(format!(
                    "tensor {name} has shape {}, expected a matrix of up to {DIM_LIMIT} rows and \
                     columns; a state dict of ProbVLM's BayesCap_for_HF_CLIP is needed",
                    found.map_or("missing".to_owned(), |shape| format!("{shape:?}"))
                ))),
            }
        };
        let [hidden_dim, dim] = matrix("mod.0.weight")?;
        let [head_dim, head_input] = matrix("block_mu.0.weight")?;
        if head_input != dim {
            return Err(error(format!(
                "block_mu.0.weight reads {head_input} numbers, mod.0.weight {dim}; both must be \
                 those of the hidden states"
            )));
        }
        let network = Network::uninitialised_with_heads(dim, hidden_dim, head_dim, device);
        let network = load_network(weights, prefix, network)?;
        let space = Space::Standardised { mean: vec![0.0; dim], deviation: vec![1.0; dim] };
        let network = ProbVlm::of_state_dict(network, Modality::Text, space, preset, dropout);
        Ok(Self { network })
    }

    /// Numbers D that the network reads at once.
    pub fn dim(&self) -> usize {
        self.network.dim()
    }

    /// How the network reads a text encoder's `length` states of `width` numbers.
    ///
    /// # Errors
    /// When it reads neither one state nor all of them.
    pub fn layout(&self, length: usize, width: usize) -> Result<Layout, AdapterError> {
        match self.dim() {
            dim if dim == width => Ok(Layout::PerToken),
            dim if dim == length * width => Ok(Layout::Flattened),
            found => Err(AdapterError::PromptDimension { found, length, width }),
        }
    }

    /// The distribution of the hidden states `[L E]` of one text, token after token, with `passes`
    /// dropout passes for its epistemic part; see [`ProbVlm::predict_batch`].
    ///
    /// # Errors
    /// When the states do not fit the adapter, are not finite, or the weights give no usable
    /// density for them.
    pub fn predict(
        &self,
        states: &[f32],
        width: usize,
        passes: usize,
        seed: u64,
    ) -> Result<EmbeddingDistribution, AdapterError> {
        self.layout(states.len() / width.max(1), width)?;
        let rows: Vec<Embedding> = states
            .chunks(self.dim())
            .map(|row| Embedding { values: row.to_vec(), modality: Modality::Text })
            .collect();
        let predicted = self.network.predict_batch(&rows, passes, seed)?;
        let dimensions = predicted.iter().flat_map(|row| row.dimensions().iter().copied());
        let epistemic = predicted.iter().flat_map(|row| row.epistemic().iter().copied());
        Ok(EmbeddingDistribution::new(dimensions.collect(), epistemic.collect())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;

    fn fixture(name: &str) -> std::path::PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        root.join("sd_prompt/adapter").join(name)
    }

    fn load(path: &Path) -> Result<PromptAdapter, AdapterError> {
        PromptAdapter::load(path, &ComputeDevice::cpu().device)
    }

    fn states() -> Vec<f32> {
        (0..77 * 16).map(|i| (i as f32 * 0.37).sin()).collect()
    }

    #[test]
    fn the_size_tells_whether_a_network_reads_one_token_or_all() {
        let per_token = load(&fixture("per_token.safetensors")).unwrap();
        assert_eq!(per_token.layout(77, 16).unwrap(), Layout::PerToken);
        let flattened = load(&fixture("flattened.safetensors")).unwrap();
        assert_eq!(flattened.layout(77, 16).unwrap(), Layout::Flattened);
        let error = flattened.layout(77, 768).unwrap_err().to_string();
        assert!(error.contains("1232") && error.contains("59136"), "{error}");
    }

    #[test]
    fn a_token_is_read_alone_and_all_tokens_together_as_the_layout_says() {
        let mut changed = states();
        changed[5 * 16] += 1.0;
        for (name, elsewhere) in [("per_token.safetensors", false), ("flattened.safetensors", true)]
        {
            let adapter = load(&fixture(name)).unwrap();
            let mean = |states: &[f32]| adapter.predict(states, 16, 0, 0).unwrap().mean();
            let (before, after) = (mean(&states()), mean(&changed));
            let moved = |token: usize| {
                let range = token * 16..(token + 1) * 16;
                before[range.clone()] != after[range]
            };
            assert!(moved(5), "{name}");
            assert_eq!((0..77).any(|t| t != 5 && moved(t)), elsewhere, "{name}");
        }
    }

    #[test]
    fn pth_and_safetensors_hold_the_same_adapter() {
        let of = |name| load(&fixture(name)).unwrap().predict(&states(), 16, 3, 1).unwrap();
        assert_eq!(of("per_token.pth"), of("per_token.safetensors"));
        assert!(of("per_token.pth").mean_epistemic() > 0.0);
    }

    #[test]
    fn a_folder_names_its_preset_and_another_kind_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::copy(fixture("per_token.safetensors"), path.join(WEIGHTS_FILE)).unwrap();
        let write = |kind: &str, preset: &str| {
            let json = serde_json::json!({"kind": kind, "preset": preset, "dropout": 0.1,
                "input_modality": "text", "output_modality": "text"});
            std::fs::write(path.join(CONFIG_FILE), json.to_string()).unwrap();
        };
        write(PROMPT_PROBVLM, "released");
        let released = load(path).unwrap().predict(&states(), 16, 0, 0).unwrap();
        write(PROMPT_PROBVLM, "paper");
        let paper = load(path).unwrap().predict(&states(), 16, 0, 0).unwrap();
        assert_eq!(released.mean(), paper.mean());
        assert_ne!(released.aleatoric(), paper.aleatoric());
        write("probvlm", "paper");
        let error = load(path).unwrap_err().to_string();
        assert!(error.contains("unCLIP decoder"), "{error}");
        write(PROMPT_PROBVLM, "paper");
        let error = crate::adapter::Adapter::load(path, &Device::flex()).unwrap_err().to_string();
        assert!(error.contains("--decoder"), "{error}");
    }

    #[test]
    fn an_adapter_of_the_shared_space_is_told_apart() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/probvlm/adapter");
        let error = load(&root.join("model.safetensors")).unwrap_err().to_string();
        assert!(error.contains("img_BayesCap"), "{error}");
    }
}
