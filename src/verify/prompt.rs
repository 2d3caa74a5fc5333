//! Cases of the route by prompt embeddings: a whole text to image pipeline with all noise given,
//! and the adapters over its text encoder's hidden states.

use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;

use super::decoding::{Trace, check_levels, denoise};
use super::{Case, CaseError};
use crate::adapter::PromptAdapter;
use crate::decoder::latent_diffusion::unit_range;
use crate::decoder::{PromptPipeline, SchedulerKind};

/// Files that an adapter may be stored in.
const ENDINGS: [&str; 2] = ["safetensors", "pth"];

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let pipeline = PromptPipeline::load(&case.folder().join("pipeline"), device)?;
    let texts = case.json()["texts"].clone();
    let texts: Vec<&str> =
        texts.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    case.check("prompt_embeds", pipeline.text().encode(&texts)?)?;
    let runs = case.json()["runs"].as_object().cloned().unwrap_or_default();
    for (name, run) in &runs {
        text_to_image(case, name, run, &pipeline, device)?;
    }
    Ok(())
}

fn text_to_image(
    case: &mut Case,
    name: &str,
    run: &Value,
    pipeline: &PromptPipeline,
    device: &Device,
) -> Result<(), CaseError> {
    let text = |key: &str| run[key].as_str().unwrap_or_default();
    let prompt_embeds = match run["prompt_embeds"].as_str() {
        Some(input) => case.float::<3>(input, device)?,
        None => pipeline.text().encode(&[text("prompt")])?,
    };
    let negative = pipeline.text().encode(&[text("negative_prompt")])?;
    let guidance_scale = run["guidance_scale"].as_f64().unwrap_or_default();
    let condition = pipeline.condition(prompt_embeds, negative, guidance_scale)?;
    case.check(&format!("{name}/prompt_embeds_fed"), condition.hidden_states().clone())?;

    let kind: SchedulerKind = text("scheduler").parse()?;
    let steps = run["num_inference_steps"].as_u64().unwrap_or_default() as usize;
    let scheduler = pipeline.scheduler(Some(kind), steps)?;
    let timesteps = scheduler.timesteps().to_vec();
    case.check_values(&format!("{name}/timesteps"), &[timesteps.len()], timesteps)?;

    let latents = case.float::<4>(text("latents"), device)?;
    let latents = latents.mul_scalar(scheduler.init_noise_sigma());
    let Trace { latents, steps, first: (input, output) } =
        denoise(pipeline, latents, &condition, scheduler)?;
    case.check(&format!("{name}/first_unet_input"), input)?;
    case.check(&format!("{name}/first_unet_output"), output)?;
    case.check(&format!("{name}/latents"), steps)?;
    let decoded = pipeline.decode_latents(latents.clone())?;
    case.check(&format!("{name}/decoded"), decoded.clone())?;
    case.check(&format!("{name}/image"), unit_range(decoded))?;
    check_levels(case, name, pipeline, latents)
}

/// Adapters: the expected tensors of `NAME/...` are those of the files `NAME.*`.
pub fn run_adapter(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let states = case.input("hidden_states")?;
    let &[_, width] = states.shape.as_slice() else {
        return Err(CaseError(format!(
            "hidden_states has shape {:?}, expected [L, E]",
            states.shape
        )));
    };
    let (shape, states) = (states.shape.clone(), states.values.clone());
    let states: Vec<f32> = states.into_iter().map(|v| v as f32).collect();
    let mut names: Vec<String> = case
        .expected_names()
        .iter()
        .filter_map(|name| Some(name.split_once('/')?.0.to_owned()))
        .collect();
    names.dedup();
    for name in names {
        for file in ENDINGS.map(|ending| case.folder().join(format!("{name}.{ending}"))) {
            if file.is_file() {
                check_adapter(case, &name, &file, (&shape, &states), width, device)?;
            }
        }
    }
    Ok(())
}

fn check_adapter(
    case: &mut Case,
    name: &str,
    file: &Path,
    (shape, states): (&[usize], &[f32]),
    width: usize,
    device: &Device,
) -> Result<(), CaseError> {
    let adapter = PromptAdapter::load(file, device)?;
    let distribution = adapter.predict(states, width, 0, 0)?;
    let densities = distribution.dimensions();
    let parts: [(&str, Vec<f64>); 3] = [
        ("mu", densities.iter().map(|d| d.mu()).collect()),
        ("alpha", densities.iter().map(|d| d.alpha()).collect()),
        ("beta", densities.iter().map(|d| d.beta()).collect()),
    ];
    for (part, values) in parts {
        case.check_values(&format!("{name}/{part}"), shape, values)?;
    }
    Ok(())
}
