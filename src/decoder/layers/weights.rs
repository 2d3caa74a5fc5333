//! Reading the layers of a network from its weight file, each under the name that diffusers gives
//! it. Every tensor of the file must be used, and have the shape that the config implies.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Tensor};

use super::Engine;
use crate::decoder::model_error::ModelError;
use crate::model::checkpoint;
use crate::model::precision::Precision;
use crate::model::weights::{Weights, WeightsError};

/// How many names an error message lists.
const NAMES_SHOWN: usize = 5;

/// The weight file of a network and where its layers will run.
pub struct WeightFile {
    path: PathBuf,
    weights: Weights,
    device: Device,
    engine: Engine,
    precision: Precision,
    unused: RefCell<BTreeSet<String>>,
}

impl WeightFile {
    /// Opens the weights in `folder`, in the variant for `precision`, which is also what layers that
    /// burn runs compute in. `rename` brings older names up to date.
    ///
    /// # Errors
    /// When there is no weight file, or it is malformed.
    pub fn open(
        folder: &Path,
        device: &Device,
        engine: Engine,
        precision: Precision,
        rename: impl Fn(&str) -> String,
    ) -> Result<Self, ModelError> {
        let weights = checkpoint::open(folder, checkpoint::DIFFUSERS, precision)?;
        let path = weights.path().to_owned();
        // A 1x1 convolution is a linear map of the channels.
        let weights = weights.rename(|name| Some(rename(name))).reshape(|_, shape| match shape {
            [outputs, inputs, 1, 1] => Some(vec![*outputs, *inputs]),
            _ => None,
        });
        let unused = RefCell::new(weights.names().map(str::to_owned).collect());
        Ok(Self { path, weights, device: device.clone(), engine, precision, unused })
    }

    /// The whole network.
    pub fn root(&self) -> Scope<'_> {
        Scope { file: self, prefix: String::new(), dtype: self.precision.dtype() }
    }

    /// Checks that nothing in the file was left unread.
    ///
    /// # Errors
    /// When a tensor was.
    pub fn finish(self) -> Result<(), ModelError> {
        let unused = self.unused.into_inner();
        if unused.is_empty() {
            return Ok(());
        }
        let count = unused.len();
        let names: Vec<String> = unused.into_iter().take(NAMES_SHOWN).collect();
        let names = names.join(", ");
        Err(WeightsError::Unexpected { path: self.path, count, names }.into())
    }
}

/// A part of the network: all tensors below one name.
#[derive(Clone)]
pub struct Scope<'a> {
    file: &'a WeightFile,
    prefix: String,
    /// What tensors are read as.
    dtype: DType,
}

impl Scope<'_> {
    /// The part called `name`, which may have several levels.
    pub fn at(&self, name: impl Display) -> Self {
        Self { file: self.file, prefix: format!("{}{name}.", self.prefix), dtype: self.dtype }
    }

    /// The same part, whose tensors are read in float32 whatever the network computes in.
    pub fn in_f32(&self) -> Self {
        Self { dtype: DType::F32, ..self.clone() }
    }

    /// Where the layers will run.
    pub fn engine(&self) -> Engine {
        self.file.engine
    }

    /// The tensor called `name`, in the precision of the network or of [`Self::in_f32`].
    ///
    /// # Errors
    /// When it is missing, has another shape, or is not finite.
    pub fn tensor<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Tensor<D>, ModelError> {
        let name = self.checked(name, &shape)?;
        let tensor = self.file.weights.tensor_as(&name, &self.file.device, self.dtype)?;
        self.file.unused.borrow_mut().remove(&name);
        Ok(tensor)
    }

    /// The tensor called `name`, as numbers in row-major order.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn values<const D: usize>(
        &self,
        name: &str,
        shape: [usize; D],
    ) -> Result<Vec<f32>, ModelError> {
        let name = self.checked(name, &shape)?;
        let values = self.file.weights.values(&name)?;
        self.file.unused.borrow_mut().remove(&name);
        Ok(values)
    }

    /// The whole name of a tensor, which exists and has that shape.
    fn checked(&self, name: &str, shape: &[usize]) -> Result<String, WeightsError> {
        let name = format!("{}{name}", self.prefix);
        let path = &self.file.path;
        let found = self.file.weights.shape(&name).ok_or_else(|| WeightsError::Missing {
            path: path.clone(),
            count: 1,
            names: name.clone(),
        })?;
        if found == shape {
            return Ok(name);
        }
        Err(WeightsError::Tensor {
            path: path.clone(),
            reason: format!("tensor {name} has shape {found:?}, config.json calls for {shape:?}"),
        })
    }
}
