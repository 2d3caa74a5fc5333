//! What a model folder or weight file holds, without loading it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::config::{ConfigError, read_json};
use super::weights::{Weights, WeightsError};
use crate::files::FileError;

/// Config files that say what a folder is, in the order they are looked for.
const CONFIG_FILES: [&str; 5] = [
    "model_index.json",
    "adapter_config.json",
    "scheduler_config.json",
    "config.json",
    "preprocessor_config.json",
];

/// Why a folder could not be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error(
        "{}: no model here; expected a weight file (.safetensors, .pth, .pt, .bin) or a folder with \
         one of {}",
        path.display(), CONFIG_FILES.join(", ")
    )]
    NoModel { path: PathBuf },
}

/// One folder of a model, with its parts below it.
#[derive(Debug, Serialize)]
pub struct ModelFolder {
    /// Path relative to the inspected folder; "." for itself.
    pub name: String,
    /// The class the config names, for instance "UNet2DConditionModel" or "clip".
    pub class: Option<String>,
    /// Top-level numbers and words of the config.
    pub config: BTreeMap<String, Value>,
    pub weights: Vec<WeightFile>,
}

/// One weight file.
#[derive(Debug, Serialize)]
pub struct WeightFile {
    pub name: String,
    pub bytes: u64,
    pub parameters: u64,
    /// Number of tensors by dtype.
    pub dtypes: BTreeMap<String, usize>,
    pub tensors: Vec<TensorEntry>,
}

/// One tensor of a weight file.
#[derive(Debug, Serialize)]
pub struct TensorEntry {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// Inspects a weight file, or a folder and the model folders directly below it.
///
/// # Errors
/// When nothing there is a model, or a file of it is damaged.
pub fn inspect(path: &Path) -> Result<Vec<ModelFolder>, InspectError> {
    if path.is_file() {
        let weights = vec![weight_file(path)?];
        let config = BTreeMap::new();
        return Ok(vec![ModelFolder { name: ".".to_owned(), class: None, config, weights }]);
    }
    let entries = std::fs::read_dir(path).map_err(FileError::read(path))?;
    let mut folders: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    let mut found = Vec::new();
    for folder in std::iter::once(path.to_owned()).chain(folders) {
        found.extend(model_folder(path, &folder)?);
    }
    if found.is_empty() {
        return Err(InspectError::NoModel { path: path.to_owned() });
    }
    Ok(found)
}

fn model_folder(root: &Path, folder: &Path) -> Result<Option<ModelFolder>, InspectError> {
    let config = CONFIG_FILES.iter().map(|name| folder.join(name)).find(|path| path.is_file());
    let entries = std::fs::read_dir(folder).map_err(FileError::read(folder))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| is_weight_file(p)).collect();
    files.sort();
    if config.is_none() && files.is_empty() {
        return Ok(None);
    }
    let json: Value = config.map(|path| read_json(&path)).transpose()?.unwrap_or_default();
    let text = |key: &str| json.get(key).and_then(Value::as_str).map(str::to_owned);
    let name = folder.strip_prefix(root).unwrap_or(folder).display().to_string();
    Ok(Some(ModelFolder {
        name: if name.is_empty() { ".".to_owned() } else { name },
        class: text("_class_name").or_else(|| text("model_type")).or_else(|| text("kind")),
        config: json
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| !key.starts_with('_') && !value.is_object() && !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        weights: files.iter().map(|path| weight_file(path)).collect::<Result<_, _>>()?,
    }))
}

fn is_weight_file(path: &Path) -> bool {
    let known = ["safetensors", "pth", "pt", "bin"];
    path.is_file() && path.extension().and_then(|e| e.to_str()).is_some_and(|e| known.contains(&e))
}

fn weight_file(path: &Path) -> Result<WeightFile, InspectError> {
    let bytes = std::fs::metadata(path).map_err(FileError::read(path))?.len();
    let weights = Weights::open(path)?;
    let mut tensors: Vec<TensorEntry> = weights
        .entries()
        .map(|(name, dtype, shape)| TensorEntry {
            name: name.to_owned(),
            dtype: format!("{dtype:?}").to_lowercase(),
            shape,
        })
        .collect();
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut dtypes = BTreeMap::new();
    for tensor in &tensors {
        *dtypes.entry(tensor.dtype.clone()).or_insert(0) += 1;
    }
    Ok(WeightFile {
        name: path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        bytes,
        parameters: tensors.iter().map(|t| t.shape.iter().product::<usize>() as u64).sum(),
        dtypes,
        tensors,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_part_is_told_by_its_config_and_its_tensors() {
        let unclip = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/unclip");
        let folders = inspect(&unclip).unwrap();
        let unet = folders.iter().find(|folder| folder.name == "unet").unwrap();
        assert_eq!(unet.class.as_deref(), Some("UNet2DConditionModel"));
        assert_eq!(unet.weights.len(), 1);
        assert!(unet.weights[0].parameters > 1000);
    }

    #[test]
    fn a_folder_without_a_model_is_an_error_that_says_what_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        let error = inspect(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{error}");
    }
}
