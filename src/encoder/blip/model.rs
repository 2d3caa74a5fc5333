//! Both towers of one model folder.

use std::path::Path;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};

use super::super::dual_encoder::{PooledBatch, Towers, unit};
use super::super::tokenizer::TokenIds;
use super::super::{EncoderError, Logits, Modality, weights};
use super::{BlipConfig, BlipTextModel, BlipVisionModel};
use crate::model::weights::Weights;

/// What retrieval checkpoints hold beside the two towers and their projections: a pooling layer,
/// the language modelling head and decoder of other tasks, and position numbers.
const UNUSED: [&str; 4] =
    ["text_decoder.", "text_encoder.pooler.", "text_encoder.cls.", "logit_scale"];
const MATCHING_HEAD: &str = "itm_head.";

/// `BlipForImageTextRetrieval` with its contrastive heads.
#[derive(Debug)]
pub struct BlipModel {
    pub text: BlipTextModel,
    pub vision: BlipVisionModel,
    logits: Logits,
}

impl BlipModel {
    /// Loads `config.json` and the weights of a folder that holds a `BlipForImageTextRetrieval`.
    /// Attention to images and the matching head are left out.
    ///
    /// # Errors
    /// When files are missing or malformed, config and weights do not fit together, or the
    /// checkpoint is of another task and has no contrastive heads.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let config = BlipConfig::load(folder)?;
        Ok(Self {
            text: BlipTextModel::load(folder, &config, false, device)?,
            vision: BlipVisionModel::load(folder, &config, device)?,
            logits: config.logits(),
        })
    }
}

impl Towers for BlipModel {
    fn embed_texts(&self, tokens: &TokenIds) -> Result<Tensor<2>, EncoderError> {
        Ok(unit(self.text.project(self.text.pool(tokens)?)))
    }

    fn embed_images(&self, pixel_values: Tensor<4>) -> Result<Tensor<2>, EncoderError> {
        Ok(unit(self.vision.project(self.vision.pool(pixel_values)?)))
    }

    fn pool_texts(&self, tokens: &TokenIds) -> Result<PooledBatch, EncoderError> {
        let features = self.text.pool(tokens)?;
        Ok(PooledBatch { embeddings: unit(self.text.project(features.clone())), features })
    }

    fn pool_images(&self, pixel_values: Tensor<4>) -> Result<PooledBatch, EncoderError> {
        let features = self.vision.pool(pixel_values)?;
        Ok(PooledBatch { embeddings: unit(self.vision.project(features.clone())), features })
    }

    /// The projections have a bias and their result is scaled: not the weights alone.
    fn projection(&self, _modality: Modality) -> Option<Tensor<2>> {
        None
    }

    fn logits(&self) -> Logits {
        self.logits
    }
}

/// `BlipForImageTextRetrieval` with its matching head: reads a text together with an image and
/// says whether they match.
#[derive(Debug)]
pub struct BlipMatchingModel {
    text: BlipTextModel,
    vision: BlipVisionModel,
    itm_head: Linear,
}

#[derive(Module, Debug)]
struct StoredHead {
    itm_head: Linear,
}

impl BlipMatchingModel {
    /// As [`BlipModel::load`], with attention to images and the matching head.
    ///
    /// # Errors
    /// As [`BlipModel::load`].
    pub fn load(folder: &Path, device: &Device) -> Result<Self, EncoderError> {
        let config = BlipConfig::load(folder)?;
        let head = weights::open(folder)?
            .rename(|name| name.starts_with(MATCHING_HEAD).then(|| name.to_owned()));
        let width = config.text.transformer.hidden_size;
        let head =
            head.load_into(StoredHead { itm_head: LinearConfig::new(width, 2).init(device) })?;
        Ok(Self {
            text: BlipTextModel::load(folder, &config, true, device)?,
            vision: BlipVisionModel::load(folder, &config, device)?,
            itm_head: head.itm_head,
        })
    }

    /// Logits of "no match" and "match" of each text with the image in the same row, `[B, 2]`.
    ///
    /// # Errors
    /// As [`BlipTextModel::last_hidden_state`] and [`BlipVisionModel::last_hidden_state`].
    pub fn forward(
        &self,
        tokens: &TokenIds,
        pixel_values: Tensor<4>,
    ) -> Result<Tensor<2>, EncoderError> {
        let image = self.vision.last_hidden_state(pixel_values)?;
        let text = self.text.last_hidden_state(tokens, Some(&image))?;
        Ok(self.itm_head.forward(text.narrow(1, 0, 1).squeeze_dim(1)))
    }
}

/// The tensors of a retrieval checkpoint without those that the two towers do not use.
///
/// # Errors
/// When there are no weights, none of the contrastive heads, or tensors of unknown names.
pub fn open(folder: &Path, config: &BlipConfig) -> Result<Weights, EncoderError> {
    let weights = weights::open(folder)?;
    if !weights.contains("vision_proj.weight") || !weights.contains("text_proj.weight") {
        return Err(EncoderError::NoContrastiveHeads {
            folder: folder.to_owned(),
            found: config.architecture.clone().unwrap_or_else(|| "a BLIP model".to_owned()),
        });
    }
    let known = ["vision_model.", "vision_proj.", "text_encoder.", "text_proj.", MATCHING_HEAD];
    let mut strangers: Vec<String> = weights
        .names()
        .filter(|name| !known.iter().chain(&UNUSED).any(|known| name.starts_with(known)))
        .map(str::to_owned)
        .collect();
    if !strangers.is_empty() {
        strangers.sort();
        return Err(weights.unexpected(strangers).into());
    }
    Ok(weights.rename(|name| {
        let unused = UNUSED.iter().any(|unused| name.starts_with(unused))
            || name.ends_with("position_ids")
            || name.starts_with(MATCHING_HEAD);
        (!unused).then(|| name.to_owned())
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;
    use safetensors::SafeTensors;
    use safetensors::tensor::TensorView;

    /// A copy of the golden model whose tensors get other names; none leaves one out, two double it.
    fn load(rename: impl Fn(&str) -> Vec<String>) -> Result<BlipModel, EncoderError> {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blip/itc");
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(fixture.join("config.json"), folder.path().join("config.json")).unwrap();
        let bytes = std::fs::read(fixture.join("model.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors: Vec<(String, TensorView<'_>)> = file
            .iter()
            .flat_map(|(name, view)| rename(name).into_iter().map(move |new| (new, view.clone())))
            .collect();
        let bytes = safetensors::serialize(tensors, None).unwrap();
        std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
        BlipModel::load(folder.path(), &ComputeDevice::cpu().device)
    }

    #[test]
    fn what_other_tasks_add_to_a_checkpoint_is_left_out_by_name() {
        let with_decoder = |name: &str| {
            let own = name.strip_prefix("text_encoder.encoder.");
            let decoder = own.map(|own| format!("text_decoder.bert.encoder.{own}"));
            decoder.into_iter().chain([name.to_owned()]).collect()
        };
        assert!(load(with_decoder).is_ok());
        // The weights of image attention and matching need not be there.
        let bare = |name: &str| match name.contains("crossattention") || name.starts_with("itm") {
            true => Vec::new(),
            false => vec![name.to_owned()],
        };
        assert!(load(bare).is_ok());
    }

    #[test]
    fn tensors_of_unknown_names_are_listed() {
        for stranger in ["queue.weight", "text_encoder.adapter.weight", "vision_model.extra.bias"] {
            let add = |name: &str| match name {
                "itm_head.bias" => vec![name.to_owned(), stranger.to_owned()],
                _ => vec![name.to_owned()],
            };
            let error = load(add).unwrap_err().to_string();
            let own = stranger.rsplit_once("model.").map_or(stranger, |(_, own)| own);
            let own = own.strip_prefix("text_encoder.").unwrap_or(own);
            assert!(error.contains(own) && error.contains("1 tensor(s)"), "{error}");
        }
    }

    #[test]
    fn a_captioning_checkpoint_is_refused_with_the_one_to_take() {
        let captioning = |name: &str| match name {
            "vision_proj.weight" | "vision_proj.bias" | "text_proj.weight" | "text_proj.bias" => {
                Vec::new()
            }
            _ => vec![name.to_owned()],
        };
        let error = load(captioning).unwrap_err().to_string();
        assert!(error.contains("vision_proj") && error.contains("blip-itm-base-coco"), "{error}");
    }
}
