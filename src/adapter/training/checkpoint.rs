//! The state of an interrupted run in one file, from which it goes on as if nothing had happened.

use std::collections::HashMap;
use std::path::Path;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::adapter::AdapterError;
use crate::adapter::probvlm::{Network, from_pytorch_name};
use crate::adapter::tensor_file::{NamedTensor, read_tensor, write_tensors};
use crate::adapter::training::optimizer::Moments;
use crate::adapter::training::{EpochRecord, TrainingError, TrainingOptions};
use crate::files::map_readonly;
use crate::model::weights::Weights;

/// The one key of the file's metadata.
const KEY: &str = "haze-training";
const NETWORK: &str = "network.";
const BEST: &str = "best.";

/// Where a run stands, apart from its tensors. All randomness is a function of the seed and these
/// positions, so no generator has a state of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Standard deviation of the input noise, found or given at the start.
    pub input_noise: f64,
    /// Epoch that is under way, from 0.
    pub epoch: usize,
    /// Batches of it that are done.
    pub batch: usize,
    /// Sum of the losses of these batches, each times its items.
    pub loss_sum: f64,
    /// Steps of the optimiser.
    pub steps: usize,
    pub best: Option<BestEpoch>,
    pub history: Vec<EpochRecord>,
}

/// The epoch whose weights are kept.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct BestEpoch {
    /// From 1.
    pub epoch: usize,
    pub score: f64,
    pub validation_nll: f64,
}

/// What makes a checkpoint belong to a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub options: TrainingOptions,
    pub training_data: String,
    pub validation_data: String,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    identity: Identity,
    position: Position,
}

/// A state that was read back.
pub(super) struct Restored {
    pub position: Position,
    pub network: Network,
    pub best: Option<Network>,
    pub moments: Vec<Moments>,
}

/// Writes a checkpoint over the previous one.
pub(super) fn write(
    path: &Path,
    identity: &Identity,
    position: &Position,
    network: &Network,
    best: Option<&Network>,
    moments: &[Moments],
) -> Result<(), TrainingError> {
    let mut tensors = Vec::new();
    let mut add = |prefix: &str, network: &Network| -> Result<(), AdapterError> {
        tensors.extend(
            network
                .to_pytorch()?
                .into_iter()
                .map(|t| NamedTensor { name: format!("{prefix}{}", t.name), ..t }),
        );
        Ok(())
    };
    add(NETWORK, network)?;
    if let Some(best) = best {
        add(BEST, best)?;
    }
    for (i, moment) in moments.iter().enumerate() {
        tensors.push(NamedTensor::vector(&first_name(i), moment.first.clone()));
        tensors.push(NamedTensor::vector(&second_name(i), moment.second.clone()));
    }
    let metadata = Metadata { identity: identity.clone(), position: position.clone() };
    let json = serde_json::to_string(&metadata).map_err(|e| invalid(path, e))?;
    write_tensors(path, &tensors, HashMap::from([(KEY.to_owned(), json)]))?;
    Ok(())
}

/// Reads the checkpoint of this very run; `None` when there is no file.
///
/// # Errors
/// When the file is damaged, or belongs to a run with other options or data.
pub(super) fn read(
    path: &Path,
    identity: &Identity,
    dim: usize,
    device: &Device,
) -> Result<Option<Restored>, TrainingError> {
    if !path.exists() {
        return Ok(None);
    }
    let Metadata { identity: theirs, position } = read_metadata(path)?;
    let other = |what| TrainingError::OtherRun { path: path.to_owned(), what };
    if theirs.options != identity.options {
        return Err(other("an option"));
    }
    if theirs.training_data != identity.training_data {
        return Err(other("the training data"));
    }
    if theirs.validation_data != identity.validation_data {
        return Err(other("the validation data"));
    }
    let open = || Weights::open(path).map_err(AdapterError::from);
    let hidden_dim = identity.options.hidden_dim;
    let network = |prefix: &str| -> Result<Network, TrainingError> {
        let network = Network::uninitialised(dim, hidden_dim, device);
        let weights = open()?.rename(|name| from_pytorch_name(name.strip_prefix(prefix)?));
        Ok(weights.load_into(network).map_err(AdapterError::from)?)
    };
    let weights = open()?;
    let mut moments = Vec::new();
    while weights.contains(&first_name(moments.len())) {
        let i = moments.len();
        moments.push(Moments {
            first: read_tensor::<1>(&weights, &first_name(i))?,
            second: read_tensor::<1>(&weights, &second_name(i))?,
        });
    }
    if position.steps > 0 && moments.is_empty() {
        return Err(invalid(path, "it lacks the state of the optimiser"));
    }
    let best = position.best.map(|_| network(BEST)).transpose()?;
    Ok(Some(Restored { network: network(NETWORK)?, best, moments, position }))
}

fn read_metadata(path: &Path) -> Result<Metadata, TrainingError> {
    let map = map_readonly(path, "a checkpoint")?;
    let (_, header) =
        safetensors::SafeTensors::read_metadata(&map).map_err(|e| invalid(path, e))?;
    let json = header.metadata().as_ref().and_then(|m| m.get(KEY));
    let json = json.ok_or_else(|| invalid(path, "no training state in its header"))?;
    serde_json::from_str(json).map_err(|e| invalid(path, e))
}

fn invalid(path: &Path, reason: impl std::fmt::Display) -> TrainingError {
    TrainingError::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
}

fn first_name(index: usize) -> String {
    format!("adam.{index}.first")
}

fn second_name(index: usize) -> String {
    format!("adam.{index}.second")
}
