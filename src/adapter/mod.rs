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
//! | [`pairwise`] | PFE, PCME, PCME++ and AsymVLM, and their training on pairs |
//! | [`loss`] | the likelihood it is trained with, and its gradient |
//! | [`training`] | training on pairs of embeddings |
//! | [`bayesvlm`] | variances from a posterior over the encoder's projections; not trained |
//! | [`prompt`] | ProbVLM over the hidden states of a text encoder: another space, another decoder |
//! | [`bridge`] | deterministic maps from one modality's embeddings to the other's |

pub mod bayesvlm;
pub mod bridge;
mod error;
mod gamma;
mod header;
mod initial_layer;
pub mod loss;
pub mod pairwise;
pub mod probvlm;
pub mod prompt;
mod space;
mod tensor_file;
pub mod training;

use std::path::Path;

use burn::tensor::Device;
use serde::Deserialize;

pub use bayesvlm::BayesVlm;
pub use error::AdapterError;
pub use header::{AdapterHeader, AdapterKind};
pub use pairwise::PairwiseAdapter;
pub use probvlm::ProbVlm;
pub use prompt::PromptAdapter;
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
/// `kind` of an adapter of prompt embeddings.
pub(crate) const PROMPT_PROBVLM: &str = "prompt-probvlm";

/// What every probabilistic adapter does: raw embeddings of one modality in, densities over raw
/// embeddings out.
pub trait Predictor: std::fmt::Debug + Send + Sync {
    /// Densities of the target embeddings, with `passes` passes (or posterior draws) for their
    /// epistemic part. Equal to predictions one by one.
    ///
    /// # Errors
    /// When an embedding does not fit the adapter.
    fn predict_batch(
        &self,
        embeddings: &[Embedding],
        passes: usize,
        seed: u64,
    ) -> Result<Vec<EmbeddingDistribution>, AdapterError>;

    /// The modality of the embeddings it takes.
    fn input_modality(&self) -> Modality;

    /// The modality of the embeddings it predicts.
    fn output_modality(&self) -> Modality;

    /// Number of dimensions D.
    fn dim(&self) -> usize;

    /// Fingerprint of the encoder it belongs to, where known.
    fn encoder(&self) -> Option<&str>;

    /// Notes which encoder's embeddings the adapter belongs to.
    fn set_encoder(&mut self, fingerprint: String);

    /// One line for people: kind, direction, size, and what it was trained on.
    fn describe(&self) -> String;

    /// Writes the adapter as a folder that [`Adapter::load`] reads. The config comes last, so a
    /// folder with a config is complete.
    ///
    /// # Errors
    /// When the folder or a file cannot be written, or the weights cannot be read back.
    fn save(&self, folder: &Path) -> Result<(), AdapterError>;

    /// [`save`](Self::save) for an adapter that was trained on embeddings of unit length, so that
    /// it can be used on raw ones: `target_norm` is the mean norm of the raw targets. Adapters that
    /// look at directions alone are saved as they are.
    ///
    /// # Errors
    /// As [`save`](Self::save).
    fn save_trained_on_unit(&self, folder: &Path, _target_norm: f64) -> Result<(), AdapterError> {
        self.save(folder)
    }

    /// The scalar uncertainty that the adapter's own paper uses, one number per embedding, where
    /// that is not the mean variance over dimensions.
    ///
    /// # Errors
    /// When an embedding does not fit the adapter.
    fn own_scores(&self, _embeddings: &[Embedding]) -> Result<Option<Vec<f64>>, AdapterError> {
        Ok(None)
    }
}

/// Checks that an embedding is what an adapter of this modality and dimension takes.
fn check_input(embedding: &Embedding, modality: Modality, dim: usize) -> Result<(), AdapterError> {
    if embedding.modality != modality {
        return Err(AdapterError::Modality { found: embedding.modality, expected: modality });
    }
    if embedding.dim() != dim {
        return Err(AdapterError::Dimension { found: embedding.dim(), expected: dim });
    }
    match embedding.values.iter().position(|v| !v.is_finite()) {
        Some(dimension) => {
            Err(AdapterError::NotFinite { dimension, found: embedding.values[dimension] })
        }
        None => Ok(()),
    }
}

/// Any probabilistic adapter.
#[derive(Debug)]
pub struct Adapter(Box<dyn Predictor>);

impl<P: Predictor + 'static> From<P> for Adapter {
    fn from(predictor: P) -> Self {
        Adapter(Box::new(predictor))
    }
}

impl std::ops::Deref for Adapter {
    type Target = dyn Predictor;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl std::ops::DerefMut for Adapter {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.0
    }
}

impl Adapter {
    /// Reads an adapter folder.
    ///
    /// # Errors
    /// When its files are missing or malformed, or it holds another kind of model.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, AdapterError> {
        match kind_of(folder)?.as_str() {
            PROBVLM => Ok(ProbVlm::load(folder, device)?.into()),
            kind if kind.parse::<pairwise::PairwiseKind>().is_ok() => {
                Ok(PairwiseAdapter::load(folder, device)?.into())
            }
            found @ PROMPT_PROBVLM => Err(AdapterError::Kind {
                path: folder.join(CONFIG_FILE),
                found: found.to_owned(),
                expected: "an adapter of the space that texts and images share",
                hint: "one of prompt embeddings goes with a Stable Diffusion folder (--decoder)",
            }),
            found => Err(AdapterError::Kind {
                path: folder.join(CONFIG_FILE),
                found: found.to_owned(),
                expected: "an adapter of kind probvlm, pfe, pcme, pcme++, asym-vmf or \
                           asym-power-spherical",
                hint: "linear-map and mean-shift folders are bridges and predict no distribution",
            }),
        }
    }

    /// The weighted mean of ProbVLM adapters in folders; see [`ProbVlm::weighted_mean`].
    ///
    /// # Errors
    /// When one cannot be read or is no ProbVLM adapter, or they have no mean.
    pub fn weighted_mean<P: AsRef<Path>>(
        parts: &[(P, f64)],
        device: &Device,
    ) -> Result<Self, AdapterError> {
        let mut loaded = Vec::with_capacity(parts.len());
        for (folder, share) in parts {
            let folder = folder.as_ref();
            let found = kind_of(folder)?;
            if found != PROBVLM {
                return Err(AdapterError::Kind {
                    path: folder.join(CONFIG_FILE),
                    found,
                    expected: "an adapter of kind probvlm",
                    hint: "the weights of other kinds have no mean",
                });
            }
            loaded.push((ProbVlm::load(folder, device)?, *share));
        }
        let parts: Vec<(&ProbVlm, f64)> =
            loaded.iter().map(|(part, share)| (part, *share)).collect();
        Ok(ProbVlm::weighted_mean(&parts)?.into())
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
        Ok(ProbVlm::load_released(path, modality, device)?.into())
    }

    /// The distribution of the target of one embedding; see [`Predictor::predict_batch`].
    ///
    /// # Errors
    /// When the embedding does not fit the adapter.
    pub fn predict(
        &self,
        embedding: &Embedding,
        passes: usize,
        seed: u64,
    ) -> Result<EmbeddingDistribution, AdapterError> {
        let mut all = self.predict_batch(std::slice::from_ref(embedding), passes, seed)?;
        all.pop().ok_or_else(|| AdapterError::Device("the prediction was lost".into()))
    }
}

#[derive(Deserialize)]
struct KindOnly {
    kind: String,
}

fn kind_of(folder: &Path) -> Result<String, AdapterError> {
    Ok(read_json::<KindOnly>(&folder.join(CONFIG_FILE))?.kind)
}
