//! Named float32 tensors as a safetensors file, written whole or not at all.

use std::collections::HashMap;
use std::path::Path;

use safetensors::Dtype;
use safetensors::tensor::TensorView;

use burn::tensor::Device;

use crate::adapter::AdapterError;
use crate::files::{FileError, write_atomic};
use crate::model::weights::Weights;

/// A tensor with its name in the file.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedTensor {
    pub name: String,
    pub shape: Vec<usize>,
    /// Row-major.
    pub values: Vec<f32>,
}

impl NamedTensor {
    /// A vector.
    pub fn vector(name: &str, values: Vec<f32>) -> Self {
        Self { name: name.to_owned(), shape: vec![values.len()], values }
    }
}

/// The numbers of one tensor of rank `D`, row-major.
///
/// # Errors
/// When it is missing, has another rank, or is not finite.
pub fn read_tensor<const D: usize>(
    weights: &Weights,
    name: &str,
) -> Result<Vec<f32>, AdapterError> {
    let tensor = weights.tensor::<D>(name, &Device::flex())?;
    tensor.try_into_vec_as::<f32>().map_err(|e| AdapterError::Device(e.to_string()))
}

/// Writes the tensors as float32, little-endian, with `metadata` in the header.
///
/// # Errors
/// When the file cannot be written; an older one of that name is then untouched.
pub fn write_tensors(
    path: &Path,
    tensors: &[NamedTensor],
    metadata: HashMap<String, String>,
) -> Result<(), FileError> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    write_atomic(path, |out| {
        let views = tensors
            .iter()
            .zip(&bytes)
            .map(|(t, bytes)| {
                Ok((t.name.as_str(), TensorView::new(Dtype::F32, t.shape.clone(), bytes)?))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
            .map_err(std::io::Error::other)?;
        let file = safetensors::serialize(views, Some(metadata)).map_err(std::io::Error::other)?;
        std::io::Write::write_all(out, &file)
    })
}
