//! One array of embeddings `[N, D]` in any of the formats that are read.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use burn::tensor::Device;
use zip::ZipArchive;

use crate::experiment::ExperimentError;
use crate::experiment::cache::unusable;
use crate::files::FileError;
use crate::gallery::EmbeddingRows;
use crate::model::bare_tensor;
use crate::model::weights::Weights;

/// Bytes of an array that is unpacked from an `.npz` file at most: 4 million rows of 1024 float16.
const UNPACKED_LIMIT: u64 = 8 << 30;
/// What tools call an array that has no better name.
const COMMON_NAMES: [&str; 4] = [bare_tensor::NAME, "embeddings", "features", "arr_0"];

/// Reads the array of a file: the only one, else the one with a name of `names`.
pub fn read(path: &Path, names: &[&str]) -> Result<EmbeddingRows, ExperimentError> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Ok(EmbeddingRows::map(&[path.to_owned()])?),
        Some("npz") => read_npz(path, names),
        _ => read_tensors(path, names),
    }
}

fn read_npz(path: &Path, names: &[&str]) -> Result<EmbeddingRows, ExperimentError> {
    let broken = |error: zip::result::ZipError| unusable(path, format!("not an npz file: {error}"));
    let file = File::open(path).map_err(FileError::read(path))?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let present: Vec<String> = archive
        .file_names()
        .filter_map(|name| Some(name.ok()?.strip_suffix(".npy")?.to_owned()))
        .collect();
    let name = choose(path, &present, names)?;
    let member = archive.by_name(&format!("{name}.npy")).map_err(broken)?;
    if member.size() > UNPACKED_LIMIT {
        let reason = format!(
            "its array {name} has {} bytes, more than the {UNPACKED_LIMIT} that are read into \
             memory; save it as npy, which is not",
            member.size()
        );
        return Err(unusable(path, reason));
    }
    let mut bytes = Vec::new();
    // A member may hold more than its header says.
    member.take(UNPACKED_LIMIT).read_to_end(&mut bytes).map_err(FileError::read(path))?;
    Ok(EmbeddingRows::from_npy(&bytes, path)?)
}

fn read_tensors(path: &Path, names: &[&str]) -> Result<EmbeddingRows, ExperimentError> {
    let weights = Weights::open(path)?;
    let present: Vec<String> = weights.names().map(str::to_owned).collect();
    let name = choose(path, &present, names)?;
    let shape = weights.shape(&name).unwrap_or_default();
    let &[rows, dim] = &shape[..] else {
        let reason = format!("its tensor {name} has shape {shape:?}, expected two axes [N, D]");
        return Err(unusable(path, reason));
    };
    if rows == 0 || dim == 0 {
        return Err(unusable(path, format!("its tensor {name} is empty, of shape {shape:?}")));
    }
    let tensor = weights.tensor::<2>(&name, &Device::flex())?;
    let values = tensor
        .try_into_data()
        .map_err(|error| unusable(path, format!("its tensor {name} cannot be read: {error}")))?;
    Ok(EmbeddingRows::from_values(values.iter::<f32>().collect(), dim)?)
}

fn choose(path: &Path, present: &[String], names: &[&str]) -> Result<String, ExperimentError> {
    if let [only] = present {
        return Ok(only.clone());
    }
    let wanted = || names.iter().chain(&COMMON_NAMES);
    let found = wanted().find(|&&name| present.iter().any(|present| present == name));
    found.map(|name| (*name).to_owned()).ok_or_else(|| {
        let list: Vec<&str> = present.iter().take(8).map(String::as_str).collect();
        unusable(
            path,
            format!(
                "it holds {} arrays ({}), none with a name that is looked for: {}",
                present.len(),
                list.join(", "),
                wanted().copied().collect::<Vec<_>>().join(", ")
            ),
        )
    })
}
