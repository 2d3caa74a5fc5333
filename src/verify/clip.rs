//! CLIP towers against `CLIPModel`, `CLIPTextModel(WithProjection)` and
//! `CLIPVisionModelWithProjection` of transformers.

use burn::tensor::{Device, Tensor};

use super::{Case, CaseError};
use crate::encoder::clip::{ClipModel, ClipTextModel, ClipTextOutput, ClipVisionModel};
use crate::encoder::tokenizer::TokenIds;

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    match case.kind() {
        "clip_model" => two_towers(case, device),
        "clip_text_sd2" => stable_diffusion_text(case, device),
        "clip_text_proj" => projected_text(case, device),
        _ => vision(case, device),
    }
}

fn two_towers(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let model = ClipModel::load(&case.model_folder(), device)?;
    let pixel_values = case.float::<4>("pixel_values", device)?;
    let tokens = token_ids(case)?;

    let vision = model.vision.forward(pixel_values.clone())?;
    case.check("vision_last_hidden_state", vision.last_hidden_state)?;
    case.check("vision_pooler_output", vision.pooled)?;
    case.check("vision_hidden_states", Tensor::stack::<4>(vision.hidden_states, 0))?;
    let image_embeds = unit(vision.image_embeds.clone());
    case.check("image_features", vision.image_embeds)?;
    case.check("image_features", model.vision.embed(pixel_values)?)?;
    case.check("image_embeds", image_embeds.clone())?;

    let text = model.text.forward(&tokens)?;
    let features = projected(&text)?;
    case.check("text_last_hidden_state", text.last_hidden_state)?;
    case.check("text_last_hidden_state", model.text.last_hidden_state(&tokens)?)?;
    case.check("text_pooler_output", text.pooled)?;
    case.check("text_hidden_states", Tensor::stack::<4>(text.hidden_states, 0))?;
    let text_embeds = unit(features.clone());
    case.check("text_features", features)?;
    case.check("text_features", model.text.embed(&tokens)?)?;
    case.check("text_embeds", text_embeds.clone())?;

    let logits = image_embeds.matmul(text_embeds.transpose()) * model.logits.scale;
    case.check("logits_per_image", logits)
}

fn stable_diffusion_text(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let tokens = token_ids(case)?;
    let cut = ClipTextModel::load(&case.model_folder(), device)?;
    case.check("last_hidden_state", cut.last_hidden_state(&tokens)?)?;
    let skipped = |model: &ClipTextModel, output: &ClipTextOutput| {
        let states = &output.hidden_states;
        states.len().checked_sub(2).map(|i| model.final_layer_norm(states[i].clone()))
    };
    if case.expects("clip_skip_1")
        && let Some(state) = skipped(&cut, &cut.forward(&tokens)?)
    {
        case.check("clip_skip_1", state)?;
    }
    if !case.expects("full_last_hidden_state") {
        return Ok(());
    }
    let full = ClipTextModel::load(&case.folder().join("full"), device)?;
    let output = full.forward(&tokens)?;
    // The uncut model, conditioned on its last layer but one, is the cut model.
    if let Some(state) = skipped(&full, &output) {
        case.check("last_hidden_state", state)?;
    }
    case.check("full_last_hidden_state", output.last_hidden_state)
}

fn projected_text(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let model = ClipTextModel::load(&case.model_folder(), device)?;
    let tokens = token_ids(case)?;
    let output = model.forward(&tokens)?;
    case.check("text_embeds", projected(&output)?)?;
    case.check("text_embeds", model.embed(&tokens)?)?;
    case.check("last_hidden_state", output.last_hidden_state)?;
    case.check("pooler_output", output.pooled)
}

fn vision(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let model = ClipVisionModel::load(&case.model_folder(), device)?;
    let pixel_values = case.float::<4>("pixel_values", device)?;
    let output = model.forward(pixel_values.clone())?;
    case.check("image_embeds", output.image_embeds)?;
    case.check("image_embeds", model.embed(pixel_values)?)?;
    case.check("last_hidden_state", output.last_hidden_state)?;
    case.check("pooler_output", output.pooled)
}

/// The input of that name.
pub fn token_ids(case: &Case) -> Result<TokenIds, CaseError> {
    let input = case.input("input_ids")?;
    match input.shape[..] {
        [_, length] if length > 0 => {
            Ok(TokenIds::from_ids(input.values.iter().map(|&id| id as u32).collect(), length))
        }
        _ => Err(CaseError(format!("input_ids has shape {:?}, expected [B, L]", input.shape))),
    }
}

fn projected(output: &ClipTextOutput) -> Result<Tensor<2>, CaseError> {
    output
        .text_embeds
        .clone()
        .ok_or_else(|| CaseError("the model has no text projection".to_owned()))
}

/// Rows scaled to unit length, as `CLIPModel.forward` does.
pub fn unit(x: Tensor<2>) -> Tensor<2> {
    let norm = x.clone().powi_scalar(2).sum_dim(1).sqrt();
    x / norm
}
