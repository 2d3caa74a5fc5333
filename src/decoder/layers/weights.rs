//! Weight files of diffusers models.

use std::path::Path;

use crate::decoder::model_error::ModelError;
use crate::model::weights::Weights;

/// Names a diffusers model's weights may have, the preferred one first.
const FILES: [&str; 3] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.fp16.safetensors",
    "diffusion_pytorch_model.bin",
];

/// Opens the weights in `folder`. Every 1x1 convolution comes out as the linear map it is.
///
/// # Errors
/// When there is no weight file, or it is malformed.
pub fn open_weights(folder: &Path) -> Result<Weights, ModelError> {
    let path = FILES
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| ModelError::NoWeights { folder: folder.to_owned() })?;
    Ok(Weights::open(&path)?.reshape(|_, shape| match shape {
        [outputs, inputs, 1, 1] => Some(vec![*outputs, *inputs]),
        _ => None,
    }))
}

/// diffusers wraps some layers in lists of one (or keeps unused slots in them); the modules here
/// do not, so these parts of a name are shortened.
pub fn join_names(name: &str) -> String {
    name.replace("to_out.0.", "to_out.")
        .replace("samplers.0.conv.", "sampler.conv.")
        .replace("ff.net.0.proj.", "ff.proj_in.")
        .replace("ff.net.2.", "ff.proj_out.")
}
