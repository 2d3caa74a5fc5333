//! Loading weights in PyTorch layout (safetensors, or `.pth` without executing pickle) into burn
//! modules, strictly: every parameter must be there, have the right shape and be finite, and the
//! file may hold nothing the module does not know.
//!
//! ```text
//! Weights::open(path)?.rename(..).load_into(module)?
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::store::bridge::{self};
use burn::store::burn_pack::{Error as PackError, Tensor as PackTensor};
use burn::store::pytorch::PytorchReader;
use burn::store::{FloatCastAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter};
use burn::tensor::{DType, Device, Shape, Tensor, TensorData};

use super::bare_tensor;
use crate::files::{FileError, map_readonly};

/// More tensors than any supported model has.
const TENSOR_COUNT_LIMIT: usize = 100_000;
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
}

/// The tensors of one file, not yet read.
pub struct Weights {
    path: PathBuf,
    tensors: Vec<PackTensor>,
}

impl Weights {
    /// Opens a `.safetensors` file, or a `.pth` / `.pt` / `.bin` state dict. A file that holds one
    /// tensor alone is a state dict with one entry, [`bare_tensor::NAME`].
    ///
    /// # Errors
    /// When the file is missing, truncated, malformed, or holds a dtype that is no plain number.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let tensors = match path.extension().and_then(|e| e.to_str()) {
            Some("pth" | "pt" | "bin") => open_pytorch(path)?,
            _ => open_safetensors(path)?,
        };
        Ok(Self { path: path.to_owned(), tensors })
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
        let found = self
            .tensors
            .iter()
            .find(|t| t.name == name)
            .ok_or_else(|| self.missing(vec![name.to_owned()]))?;
        if found.shape.to_vec().len() != D {
            return Err(self.tensor_error(format!(
                "tensor {name} has shape {:?}, expected {D} dimension(s)",
                found.shape.to_vec()
            )));
        }
        let data = bridge::to_data(found).map_err(|e| self.tensor_error(e.to_string()))?;
        Ok(Tensor::from_data(data.convert_dtype(DType::F32), (device, DType::F32)))
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

    fn tensor_error(&self, reason: String) -> WeightsError {
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

fn open_safetensors(path: &Path) -> Result<Vec<PackTensor>, WeightsError> {
    let format = |reason: String| WeightsError::Format { path: path.to_owned(), reason };
    let map = Arc::new(map_readonly(path, "a safetensors file")?);
    let (header, metadata) = safetensors::SafeTensors::read_metadata(&map)
        .map_err(|error| format(format!("{error} (file of {} bytes)", map.len())))?;
    let start = header + size_of::<u64>();
    let infos = metadata.tensors();
    if infos.len() > TENSOR_COUNT_LIMIT {
        return Err(format(format!("{} tensors, at most {TENSOR_COUNT_LIMIT}", infos.len())));
    }
    let mut tensors = Vec::with_capacity(infos.len());
    for (name, info) in infos {
        let dtype = dtype_of(info.dtype)
            .ok_or_else(|| format(format!("tensor {name} has dtype {:?}", info.dtype)))?;
        let shape = Shape::from(info.shape.clone());
        let (from, to) = (start + info.data_offsets.0, start + info.data_offsets.1);
        let map = Arc::clone(&map);
        let (label, inner) = (name.clone(), shape.clone());
        tensors.push(bridge::deferred(name, dtype, shape, None, move || {
            let data = TensorData::from_bytes_vec(map[from..to].to_vec(), inner.clone(), dtype);
            check_finite(&label, &data)?;
            Ok(data)
        }));
    }
    Ok(tensors)
}

fn open_pytorch(path: &Path) -> Result<Vec<PackTensor>, WeightsError> {
    let format = |reason: String| WeightsError::Format { path: path.to_owned(), reason };
    // The reader reports a missing file less clearly than the system does.
    drop(map_readonly(path, "a PyTorch state dict")?);
    let (reader, copy) = match PytorchReader::new(path) {
        Ok(reader) => (reader, None),
        Err(error) => {
            let error = format(error.to_string());
            let Some(copy) = bare_tensor::as_state_dict(path) else { return Err(error) };
            // Both the file and what was made of it are unreadable: the first error is about the
            // file.
            let Ok(reader) = PytorchReader::new(copy.path()) else { return Err(error) };
            (reader, Some(Arc::new(copy)))
        }
    };
    let mut tensors = Vec::new();
    for key in reader.keys() {
        let Some(tensor) = reader.get(&key) else { continue };
        let lazy = bridge::from_pytorch(tensor.clone());
        let (name, dtype, shape) = (key.clone(), lazy.dtype, lazy.shape.clone());
        let copy = copy.clone();
        tensors.push(bridge::deferred(name, dtype, shape, None, move || {
            let data = bridge::to_data(&lazy)?;
            // The temporary file lives until its last tensor is gone.
            let _ = &copy;
            check_finite(&key, &data)?;
            Ok(data)
        }));
    }
    if tensors.is_empty() {
        return Err(format("it holds no tensors".to_owned()));
    }
    Ok(tensors)
}

fn dtype_of(dtype: safetensors::Dtype) -> Option<DType> {
    use safetensors::Dtype;
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U8 => DType::U8,
        _ => return None,
    })
}

fn check_finite(name: &str, data: &TensorData) -> Result<(), PackError> {
    if !data.dtype().is_float() {
        return Ok(());
    }
    match data.iter::<f32>().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(PackError::ValidationError(format!(
            "tensor {name} holds a value that is not finite (element {at}); the file is damaged \
             or comes from a failed training run"
        ))),
    }
}
