//! Weights that are split over several safetensors files, by the index that Hugging Face libraries
//! write beside them: `{"weight_map": {"tensor": "file"}}`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use burn::store::burn_pack::Tensor as PackTensor;
use serde::Deserialize;

use super::{TENSOR_COUNT_LIMIT, WeightsError, safetensors, some_of};
use crate::files::read_bounded;

/// More files than any model is split into.
const SHARD_LIMIT: usize = 1000;
/// An index has a line of some hundred bytes per tensor.
const INDEX_LIMIT: u64 = 64 << 20;

#[derive(Deserialize)]
struct Index {
    /// Tensor to the file that holds it.
    weight_map: BTreeMap<String, String>,
}

/// Opens all shards of an index.
///
/// # Errors
/// When the index is malformed or names files outside its folder, a shard is missing or damaged,
/// two shards hold the same tensor, or a shard lacks a tensor that the index promises.
pub fn open(index: &Path) -> Result<Vec<PackTensor>, WeightsError> {
    let error = |reason: String| WeightsError::Index { path: index.to_owned(), reason };
    let bytes = read_bounded(index, INDEX_LIMIT, "an index of shards")?;
    let Index { weight_map } = serde_json::from_slice(&bytes).map_err(|e| error(e.to_string()))?;
    if weight_map.is_empty() || weight_map.len() > TENSOR_COUNT_LIMIT {
        return Err(error(format!(
            "weight_map names {} tensors, expected 1 to {TENSOR_COUNT_LIMIT}",
            weight_map.len()
        )));
    }
    let files: BTreeSet<&String> = weight_map.values().collect();
    if let Some(file) = files.iter().find(|file| !is_shard_name(file)) {
        return Err(error(format!(
            "it names the file {file:?}, expected the names of .safetensors files beside it"
        )));
    }
    if files.len() > SHARD_LIMIT {
        return Err(error(format!("it names {} files, at most {SHARD_LIMIT}", files.len())));
    }
    let folder = index.parent().unwrap_or(Path::new(""));
    let absent: Vec<String> =
        files.iter().filter(|f| !folder.join(f).is_file()).map(|f| (*f).clone()).collect();
    if !absent.is_empty() {
        return Err(error(format!(
            "{} of its {} shards are missing ({}); download them into the same folder",
            absent.len(),
            files.len(),
            some_of(absent)
        )));
    }
    let mut holders: BTreeMap<String, &str> = BTreeMap::new();
    let mut tensors = Vec::new();
    for file in files {
        for tensor in safetensors::open(&folder.join(file))? {
            if let Some(other) = holders.insert(tensor.name.clone(), file) {
                return Err(error(format!(
                    "the shards {other} and {file} both hold the tensor {}; download the model \
                     again",
                    tensor.name
                )));
            }
            tensors.push(tensor);
        }
        if tensors.len() > TENSOR_COUNT_LIMIT {
            return Err(error(format!("its shards hold more than {TENSOR_COUNT_LIMIT} tensors")));
        }
    }
    let wrong: Vec<String> = weight_map
        .iter()
        .filter(|(name, file)| holders.get(*name) != Some(&file.as_str()))
        .map(|(name, file)| format!("{name} in {file}"))
        .collect();
    if !wrong.is_empty() {
        return Err(error(format!(
            "{} tensor(s) are not in the shard it names, for example {}; index and shards are of \
             different models, download them again",
            wrong.len(),
            some_of(wrong)
        )));
    }
    Ok(tensors)
}

/// True for the plain name of a safetensors file: no folder, no way out of this one.
fn is_shard_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    // A backslash is a separator on some systems only; no shard has one in its name.
    plain && !name.contains(['/', '\\', ':']) && name.ends_with(".safetensors")
}

#[cfg(test)]
mod tests {
    use ::safetensors::tensor::{Dtype, TensorView};
    use serde_json::{Value, json};

    use super::*;
    use crate::model::device::ComputeDevice;
    use crate::model::weights::Weights;

    struct Folder(tempfile::TempDir);

    impl Folder {
        /// Two shards, `a` with the tensors 1 and 2, `b` with 3.
        fn new() -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            folder.shard("a.safetensors", &["1", "2"]);
            folder.shard("b.safetensors", &["3"]);
            folder
        }

        /// A shard whose tensors hold their own name as a number.
        fn shard(&self, file: &str, names: &[&str]) {
            let bytes: Vec<Vec<u8>> =
                names.iter().map(|n| n.parse::<f32>().unwrap().to_le_bytes().to_vec()).collect();
            let views = names.iter().zip(&bytes).map(|(name, bytes)| {
                (name.to_string(), TensorView::new(Dtype::F32, vec![1], bytes).unwrap())
            });
            ::safetensors::serialize_to_file(views, None, &self.0.path().join(file)).unwrap();
        }

        fn open(&self, weight_map: Value) -> Result<Weights, WeightsError> {
            let path = self.0.path().join("model.safetensors.index.json");
            let index = json!({"metadata": {"total_size": 12}, "weight_map": weight_map});
            std::fs::write(&path, index.to_string()).unwrap();
            Weights::open(&path)
        }

        fn error(&self, weight_map: Value) -> String {
            let error = self.open(weight_map).err().unwrap().to_string();
            assert!(error.contains("model.safetensors.index.json"), "{error}");
            error
        }
    }

    fn whole() -> Value {
        json!({"1": "a.safetensors", "2": "a.safetensors", "3": "b.safetensors"})
    }

    #[test]
    fn the_tensors_of_all_shards_are_one_model() {
        let weights = Folder::new().open(whole()).unwrap();
        let device = ComputeDevice::cpu().device;
        for name in ["1", "2", "3"] {
            let tensor = weights.tensor::<1>(name, &device).unwrap();
            assert_eq!(tensor.into_scalar::<f32>(), name.parse::<f32>().unwrap());
        }
        assert_eq!(weights.names().count(), 3);
    }

    #[test]
    fn missing_shards_are_counted_and_named() {
        let folder = Folder::new();
        std::fs::remove_file(folder.0.path().join("b.safetensors")).unwrap();
        let text = folder.error(whole());
        assert!(text.contains("1 of its 2 shards") && text.contains("b.safetensors"), "{text}");
    }

    #[test]
    fn a_tensor_in_two_shards_is_refused_with_both() {
        let folder = Folder::new();
        folder.shard("b.safetensors", &["2", "3"]);
        let text = folder.error(whole());
        assert!(text.contains("a.safetensors and b.safetensors both hold the tensor 2"), "{text}");
    }

    #[test]
    fn a_tensor_that_is_not_where_the_index_says_is_named() {
        let mut map = whole();
        map["3"] = "a.safetensors".into();
        map["4"] = "b.safetensors".into();
        let text = Folder::new().error(map);
        assert!(text.contains("2 tensor(s)") && text.contains("4 in b.safetensors"), "{text}");
    }

    #[test]
    fn files_outside_the_folder_or_of_another_kind_are_refused_unread() {
        for name in [
            "../a.safetensors",
            "/etc/a.safetensors",
            "sub/a.safetensors",
            r"..\a.safetensors",
            "C:a.safetensors",
            "..",
            "",
            "a.bin",
        ] {
            let text = Folder::new().error(json!({"1": name}));
            assert!(text.contains(&format!("{name:?}")), "{text}");
        }
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let folder = Folder::new();
        for map in [json!({}), json!([]), json!({"1": 7}), Value::Null] {
            folder.error(map);
        }
        let many: serde_json::Map<String, Value> =
            (0..=SHARD_LIMIT).map(|i| (i.to_string(), format!("{i}.safetensors").into())).collect();
        let text = folder.error(many.into());
        assert!(text.contains("at most 1000"), "{text}");
    }
}
