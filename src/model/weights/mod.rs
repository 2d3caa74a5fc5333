//! Loading weights in PyTorch layout (safetensors, whole or in shards, or `.pth` without executing
//! pickle) into burn modules, strictly: every parameter must be there, have the right shape and be
//! finite, and the file may hold nothing the module does not know.
//!
//! Tensors are read one at a time, when they are wanted, and go to the device in the type that is
//! wanted there: the host never holds a second copy of a whole file.
//!
//! ```text
//! Weights::open(path)?.rename(..).load_into(module)?
//! ```

mod finite;
mod pytorch;
mod recognise;
mod safetensors;
mod shards;

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::store::bridge;
use burn::store::burn_pack::Tensor as PackTensor;
use burn::store::{FloatCastAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

use crate::files::FileError;

/// More tensors than any supported model has.
pub const TENSOR_COUNT_LIMIT: usize = 100_000;
/// How many names an error message lists.
const NAMES_SHOWN: usize = 5;

/// Why weights could not be loaded. Always names the file and, where there is one, the tensor.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(
        "{}: not a usable weight file: {reason}; expected safetensors or a PyTorch state dict, \
         download it again if it may be incomplete",
        path.display()
    )]
    Format { path: PathBuf, reason: String },
    #[error(
        "{}: {count} tensor(s) missing, for example {names}; the file does not match its config",
        path.display()
    )]
    Missing { path: PathBuf, count: usize, names: String },
    #[error(
        "{}: {count} tensor(s) the config does not call for, for example {names}; \
         the file does not match its config",
        path.display()
    )]
    Unexpected { path: PathBuf, count: usize, names: String },
    #[error("{}: {reason}", path.display())]
    Tensor { path: PathBuf, reason: String },
    #[error("{}: {what}; {advice}", path.display())]
    Foreign { path: PathBuf, what: String, advice: String },
    #[error("{}: no weights that can be read: {reason}; expected {expected}", folder.display())]
    NoWeights { folder: PathBuf, reason: String, expected: String },
    #[error("{}: not a usable index of shards: {reason}", path.display())]
    Index { path: PathBuf, reason: String },
}

/// The tensors of one file, or of all shards of a model, not yet read.
pub struct Weights {
    /// The file, or the index of the shards.
    path: PathBuf,
    tensors: Vec<PackTensor>,
}

impl Weights {
    /// Opens a `.safetensors` file, the index (`.json`) of its shards, or a `.pth` / `.pt` / `.bin`
    /// state dict. A file that holds one tensor alone is a state dict with one entry,
    /// [`super::bare_tensor::NAME`].
    ///
    /// # Errors
    /// When a file is missing, truncated, malformed, or holds a dtype that is no plain number.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let tensors = match path.extension().and_then(|e| e.to_str()) {
            Some("pth" | "pt" | "bin") => pytorch::open(path)?,
            Some("json") => shards::open(path)?,
            _ => safetensors::open(path)?,
        };
        Ok(Self { path: path.to_owned(), tensors })
    }

    /// Refuses tensors that are known to be no model of their own: LoRA, moving averages, quantised
    /// weights, checkpoints of another layout. Adapters of Haze are none of these.
    ///
    /// # Errors
    /// Says what the file is and what to do.
    pub fn refuse_foreign(self) -> Result<Self, WeightsError> {
        match recognise::foreign_tensors(self.tensors.iter().map(|t| t.name.as_str())) {
            None => Ok(self),
            Some((what, advice)) => Err(WeightsError::Foreign {
                path: self.path,
                what: format!("holds {what}"),
                advice: advice.to_owned(),
            }),
        }
    }

    /// The file the tensors come from, or the index of its shards.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names of all tensors, after renaming.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|t| t.name.as_str())
    }

    /// Name, dtype and shape of all tensors, after renaming.
    pub fn entries(&self) -> impl Iterator<Item = (&str, DType, Vec<usize>)> {
        self.tensors.iter().map(|t| (t.name.as_str(), t.dtype, t.shape.to_vec()))
    }

    /// True when a tensor of that name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.names().any(|n| n == name)
    }

    /// Shape of one tensor.
    pub fn shape(&self, name: &str) -> Option<Vec<usize>> {
        self.tensors.iter().find(|t| t.name == name).map(|t| t.shape.to_vec())
    }

    /// Renames every tensor; `None` drops it (buffers that are no weights, for instance).
    pub fn rename(mut self, name: impl Fn(&str) -> Option<String>) -> Self {
        self.tensors.retain_mut(|tensor| match name(&tensor.name) {
            Some(new) => {
                tensor.name = new;
                true
            }
            None => false,
        });
        self
    }

    /// Reshapes tensors whose number of elements stays the same; `None` leaves one as it is.
    pub fn reshape(mut self, shape: impl Fn(&str, &[usize]) -> Option<Vec<usize>>) -> Self {
        self.tensors = self
            .tensors
            .into_iter()
            .map(|tensor| match shape(&tensor.name, &tensor.shape.to_vec()) {
                Some(new) => {
                    let (name, dtype) = (tensor.name.clone(), tensor.dtype);
                    let target = Shape::from(new);
                    let inner = target.clone();
                    bridge::map_data(tensor, name, dtype, target, move |data| {
                        let (bytes, _, dtype) = data.into_parts();
                        TensorData::from_bytes(bytes, inner.clone(), dtype)
                    })
                }
                None => tensor,
            })
            .collect();
        self
    }

    /// Reads one tensor as float32.
    ///
    /// # Errors
    /// When it is missing, not finite, or has another rank than `D`.
    pub fn tensor<const D: usize>(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<Tensor<D>, WeightsError> {
        self.tensor_as(name, device, DType::F32)
    }

    /// Reads one tensor in a float type, in which it also lies on the way to the device.
    ///
    /// # Errors
    /// As [`Self::tensor`], and when a value is beyond the range of the type.
    pub fn tensor_as<const D: usize>(
        &self,
        name: &str,
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor<D>, WeightsError> {
        match self.shape(name) {
            Some(shape) if shape.len() != D => Err(self.tensor_error(format!(
                "tensor {name} has shape {shape:?}, expected {D} dimension(s)"
            ))),
            _ => Ok(Tensor::from_data(self.read(name, dtype)?, (device, dtype))),
        }
    }

    /// Reads one tensor as float32 numbers in row-major order.
    ///
    /// # Errors
    /// When it is missing or not finite.
    pub fn values(&self, name: &str) -> Result<Vec<f32>, WeightsError> {
        let data = self.read(name, DType::F32)?;
        data.try_into_vec_as().map_err(|error| self.tensor_error(error.to_string()))
    }

    fn read(&self, name: &str, dtype: DType) -> Result<TensorData, WeightsError> {
        let found = self
            .tensors
            .iter()
            .find(|t| t.name == name)
            .ok_or_else(|| self.missing(vec![name.to_owned()]))?;
        let data = bridge::to_data(found).map_err(|e| self.tensor_error(e.to_string()))?;
        if data.dtype() == dtype {
            return Ok(data);
        }
        let data = data.convert_dtype(dtype);
        match finite::first_not_finite(data.as_bytes(), dtype) {
            None => Ok(data),
            Some(at) => Err(self.tensor_error(format!(
                "element {at} of tensor {name} is beyond the range of {dtype:?}; compute in bf16 \
                 or f32 (--precision)"
            ))),
        }
    }

    /// Fills `module` with these tensors as float32. Linear weights are transposed and norm
    /// parameters renamed from the PyTorch convention.
    ///
    /// # Errors
    /// When a parameter is missing, a tensor is left over, a shape differs or a value is not
    /// finite. The module is consumed, so a half-loaded one cannot be used by mistake.
    pub fn load_into<M: Module>(self, mut module: M) -> Result<M, WeightsError> {
        let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32));
        let (path, tensors) = (self.path, self.tensors);
        let result = module.apply(tensors, None, Some(Box::new(adapter)), true);
        if let Some(error) = result.errors.first() {
            return Err(WeightsError::Tensor { path, reason: error.to_string() });
        }
        if !result.missing.is_empty() {
            let names = result.missing.into_iter().map(|(name, _)| name).collect();
            return Err(missing(path, names));
        }
        if !result.unused.is_empty() {
            let count = result.unused.len();
            return Err(WeightsError::Unexpected { path, count, names: some_of(result.unused) });
        }
        Ok(module)
    }

    fn missing(&self, names: Vec<String>) -> WeightsError {
        missing(self.path.clone(), names)
    }

    /// The error that the file holds tensors which nothing is known of.
    pub fn unexpected(&self, names: Vec<String>) -> WeightsError {
        let count = names.len();
        WeightsError::Unexpected { path: self.path.clone(), count, names: some_of(names) }
    }

    /// What is wrong with one of these tensors, with the name of the file.
    pub fn tensor_error(&self, reason: String) -> WeightsError {
        WeightsError::Tensor { path: self.path.clone(), reason }
    }
}

fn missing(path: PathBuf, names: Vec<String>) -> WeightsError {
    WeightsError::Missing { path, count: names.len(), names: some_of(names) }
}

fn some_of(mut names: Vec<String>) -> String {
    names.sort();
    names.truncate(NAMES_SHOWN);
    names.join(", ")
}
