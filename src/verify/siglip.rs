//! SigLIP against `SiglipModel` of transformers.

use burn::tensor::Device;

use super::clip::{token_ids, unit};
use super::tokenizer::check_texts;
use super::{Case, CaseError};
use crate::encoder::Towers;
use crate::encoder::siglip::SiglipModel;
use crate::encoder::tokenizer::TextTokenizer;

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let model = SiglipModel::load(&case.model_folder(), device)?;
    let pixel_values = case.float::<4>("pixel_values", device)?;
    let tokens = token_ids(case)?;

    let hidden = model.vision.last_hidden_state(pixel_values.clone())?;
    case.check("vision_last_hidden_state", hidden)?;
    let image_features = model.embed_images(pixel_values)?;
    let image_embeds = unit(image_features.clone());
    case.check("image_features", image_features)?;
    case.check("image_embeds", image_embeds.clone())?;

    case.check("text_last_hidden_state", model.text.last_hidden_state(&tokens)?)?;
    let text_features = model.embed_texts(&tokens)?;
    let text_embeds = unit(text_features.clone());
    case.check("text_features", text_features)?;
    case.check("text_embeds", text_embeds.clone())?;

    let cosines = image_embeds.matmul(text_embeds.transpose());
    let bias = model.logits.bias.unwrap_or_default();
    case.check("logits_per_image", cosines * model.logits.scale + bias)?;

    check_texts(case, TextTokenizer::siglip)
}
