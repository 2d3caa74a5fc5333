//! Finding the weight file of a model folder, and the names in it.

use std::path::Path;

use burn::tensor::Device;

use super::{EncoderError, Logits};
use crate::model::checkpoint;
use crate::model::precision::Precision;
use crate::model::weights::Weights;

/// Opens the weights of a folder. An encoder computes in float32.
pub fn open(folder: &Path) -> Result<Weights, EncoderError> {
    Ok(checkpoint::open(folder, checkpoint::TRANSFORMERS, Precision::F32)?)
}

/// One learnt number, stored with or without a dimension.
///
/// # Errors
/// When it is missing, no single number, or not finite.
fn number(folder: &Path, name: &str) -> Result<f32, EncoderError> {
    let weights =
        open(folder)?.reshape(|found, shape| (found == name && shape.is_empty()).then(|| vec![1]));
    let values = weights.tensor::<1>(name, &Device::flex())?;
    let values = values
        .try_into_data()
        .map_err(|error| EncoderError::Device { count: 1, reason: error.to_string() })?;
    Ok(values.iter::<f32>().next().unwrap_or_default())
}

/// The learnt numbers `logit_scale`, which is a logarithm, and `logit_bias` where there is one.
///
/// # Errors
/// As [`number`].
pub fn logits(folder: &Path) -> Result<Logits, EncoderError> {
    let bias = open(folder)?.contains("logit_bias");
    Ok(Logits {
        scale: number(folder, "logit_scale")?.exp(),
        bias: bias.then(|| number(folder, "logit_bias")).transpose()?,
    })
}

/// The tensors of one tower of CLIP or SigLIP, with short names (see [`shorten`]); `others` are
/// the names, or their beginnings, that belong elsewhere.
///
/// Files carry the prefix of the tower, except those that transformers 5 writes for a tower alone.
pub fn tower(weights: Weights, prefix: &str, others: &[&str]) -> Weights {
    let prefixed = weights.names().any(|name| name.starts_with(prefix));
    weights.rename(|name| {
        // Files of 2023 store the numbers 0, 1, 2, ... beside the position embedding.
        if others.iter().any(|other| name.starts_with(other)) || name.ends_with("position_ids") {
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
pub fn shorten(name: &str) -> String {
    let name = name.strip_prefix("embeddings.").unwrap_or(name);
    let name = name.strip_prefix("encoder.").unwrap_or(name);
    name.replace(".self_attn.", ".").replace(".mlp.", ".")
}

#[cfg(test)]
mod tests {
    use super::*;

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
