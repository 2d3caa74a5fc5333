//! Finding the weight file of a model folder, and the names in it.

use std::path::{Path, PathBuf};

use super::super::EncoderError;
use crate::model::weights::Weights;

/// In the order in which they are preferred.
const FILE_NAMES: [&str; 3] = ["model.safetensors", "model.fp16.safetensors", "pytorch_model.bin"];
const INDEX_NAMES: [&str; 2] = ["model.safetensors.index.json", "pytorch_model.bin.index.json"];

/// Names that a whole `CLIPModel` has beside the tower that is being loaded.
const TEXT_ONLY: [&str; 2] = ["text_model.", "text_projection."];
const VISION_ONLY: [&str; 2] = ["vision_model.", "visual_projection."];
pub const LOGIT_SCALE: &str = "logit_scale";

/// Opens the weight file of a folder.
pub fn open(folder: &Path) -> Result<Weights, EncoderError> {
    Ok(Weights::open(&find(folder)?)?)
}

fn find(folder: &Path) -> Result<PathBuf, EncoderError> {
    let existing = |names: &[&str]| names.iter().map(|n| folder.join(n)).find(|p| p.is_file());
    if let Some(path) = existing(&FILE_NAMES) {
        return Ok(path);
    }
    Err(match existing(&INDEX_NAMES) {
        Some(index) => EncoderError::ShardedWeights { index },
        None => EncoderError::NoWeights { folder: folder.to_owned() },
    })
}

/// The tensors of the text tower, with short names (see [`shorten`]).
pub fn text_tower(weights: Weights) -> Weights {
    tower(weights, "text_model.", &VISION_ONLY)
}

/// The tensors of the vision tower, with short names (see [`shorten`]).
pub fn vision_tower(weights: Weights) -> Weights {
    tower(weights, "vision_model.", &TEXT_ONLY)
}

/// Files carry the prefix of the tower, except those that transformers 5 writes for a tower alone.
fn tower(weights: Weights, prefix: &str, other: &[&str]) -> Weights {
    let prefixed = weights.names().any(|name| name.starts_with(prefix));
    weights.rename(|name| {
        let foreign = name == LOGIT_SCALE || other.iter().any(|p| name.starts_with(p));
        // Files of 2023 store the numbers 0, 1, 2, ... beside the position embedding.
        if foreign || name.ends_with("position_ids") {
            return None;
        }
        Some(match name.strip_prefix(prefix) {
            Some(own) => shorten(own),
            None if prefixed => name.to_owned(),
            None => shorten(name),
        })
    })
}

/// Leaves out the levels of the module tree that hold one child each.
fn shorten(name: &str) -> String {
    let name = name.strip_prefix("embeddings.").unwrap_or(name);
    let name = name.strip_prefix("encoder.").unwrap_or(name);
    name.replace(".self_attn.", ".").replace(".mlp.", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_precision_is_preferred_and_split_weights_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let touch = |name: &str| std::fs::write(folder.path().join(name), b"").unwrap();
        let error = find(folder.path()).unwrap_err();
        assert!(matches!(error, EncoderError::NoWeights { .. }), "{error}");
        touch("model.safetensors.index.json");
        let error = find(folder.path()).unwrap_err();
        assert!(error.to_string().contains("model.safetensors.index.json"), "{error}");
        for name in FILE_NAMES.into_iter().rev() {
            touch(name);
            assert_eq!(find(folder.path()).unwrap(), folder.path().join(name));
        }
    }

    #[test]
    fn names_lose_the_levels_with_one_child() {
        for (long, short) in [
            ("embeddings.token_embedding.weight", "token_embedding.weight"),
            ("encoder.layers.11.self_attn.q_proj.bias", "layers.11.q_proj.bias"),
            ("encoder.layers.0.mlp.fc1.weight", "layers.0.fc1.weight"),
            ("final_layer_norm.weight", "final_layer_norm.weight"),
        ] {
            assert_eq!(shorten(long), short);
        }
    }
}
