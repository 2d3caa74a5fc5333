//! BLIP against `BlipForImageTextRetrieval` and `BertTokenizer` of transformers.

use burn::tensor::{Device, Tensor};

use super::clip::token_ids;
use super::tokenizer::check_texts;
use super::{Case, CaseError};
use crate::encoder::Towers;
use crate::encoder::blip::{BlipMatchingModel, BlipModel};
use crate::encoder::tokenizer::TextTokenizer;

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let model = BlipModel::load(&case.model_folder(), device)?;
    let pixel_values = case.float::<4>("pixel_values", device)?;
    let mask = case.input("attention_mask")?.values.clone();
    let tokens = token_ids(case)?;
    let length = tokens.length();
    let counts: Vec<usize> =
        mask.chunks_exact(length).map(|row| row.iter().sum::<f64>() as usize).collect();
    let tokens = tokens.with_counts(counts);

    let image_embeds = model.embed_images(pixel_values.clone())?;
    let text_embeds = model.embed_texts(&tokens)?;
    case.check("image_embeds", image_embeds.clone())?;
    case.check("image_embeds", model.pool_images(pixel_values.clone())?.embeddings)?;
    case.check("text_embeds", text_embeds.clone())?;
    case.check("itc_scores", image_embeds.matmul(text_embeds.transpose()))?;

    let hidden = model.vision.last_hidden_state(pixel_values.clone())?;
    case.check("vision_last_hidden_state", hidden)?;
    // What stands at padding means nothing; the case has zeros there.
    let kept = case.float::<2>("attention_mask", device)?.unsqueeze_dim::<3>(2);
    let hidden = model.text.last_hidden_state(&tokens, None)?;
    case.check("text_last_hidden_state", hidden * kept)?;

    let matching = BlipMatchingModel::load(&case.model_folder(), device)?;
    let first = pixel_values.narrow(0, 0, 1);
    let pairs = Tensor::cat(vec![first; tokens.batch()], 0);
    case.check("itm_logits", matching.forward(&tokens, pairs)?)?;

    check_texts(case, TextTokenizer::bert)
}
