//! PyTorch state dicts. Their pickle is interpreted as data and never executed.

use std::path::Path;
use std::sync::Arc;

use burn::store::bridge;
use burn::store::burn_pack::Tensor as PackTensor;
use burn::store::pytorch::PytorchReader;

use super::{WeightsError, finite, recognise};
use crate::files::map_readonly;
use crate::model::bare_tensor;

/// Opens a state dict; its tensors are read when they are wanted.
///
/// # Errors
/// When it is missing, malformed or holds no tensors.
pub fn open(path: &Path) -> Result<Vec<PackTensor>, WeightsError> {
    let format = |reason: String| WeightsError::Format { path: path.to_owned(), reason };
    recognise::refuse_foreign_file(path)?;
    // The reader reports an unreadable file less clearly than the system does.
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
            finite::check(&key, &data)?;
            Ok(data)
        }));
    }
    if tensors.is_empty() {
        return Err(format("it holds no tensors".to_owned()));
    }
    Ok(tensors)
}
