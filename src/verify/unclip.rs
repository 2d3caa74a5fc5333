//! Cases of the whole image-variation pipeline, with all noise given.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde_json::Value;

use super::decoding::{Trace, check_levels, denoise};
use super::{Case, CaseError};
use crate::decoder::latent_diffusion::unit_range;
use crate::decoder::{SchedulerKind, UnClipPipeline};
use crate::encoder::clip::ClipVisionModel;
use crate::encoder::preprocess::ImagePreprocessor;

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let folder = case.folder().join("pipeline");
    let pipeline = UnClipPipeline::load(&folder, device)?;
    let runs = case.json()["runs"].as_object().cloned().unwrap_or_default();
    for (name, run) in &runs {
        variation(case, name, run, &pipeline, &folder, device)?;
    }
    Ok(())
}

fn variation(
    case: &mut Case,
    name: &str,
    run: &Value,
    pipeline: &UnClipPipeline,
    folder: &Path,
    device: &Device,
) -> Result<(), CaseError> {
    let text = |key: &str| run[key].as_str().unwrap_or_default();
    let number = |key: &str| run[key].as_u64().unwrap_or_default() as usize;
    let embeddings = match run["image"].as_str() {
        Some(image) => image_embeds(case, name, image, folder, device)?,
        None => case.float::<2>(text("image_embeds"), device)?,
    };
    let embed_noise = case.float::<2>(text("embed_noise"), device)?;
    let noise_level = number("noise_level");
    let class_vectors =
        pipeline.noiser().noise_image_embeddings(embeddings, noise_level, embed_noise)?;
    check(case, &format!("{name}/noised_class_embedding"), &class_vectors)?;

    let positive = texts(&run["prompt"]);
    let mut negative = texts(&run["negative_prompt"]);
    negative.resize(positive.len(), "");
    let prompts = pipeline.prompts(&positive, &negative)?;
    let guidance_scale = run["guidance_scale"].as_f64().unwrap_or_default();
    let condition = pipeline.condition(class_vectors, &prompts, guidance_scale)?;
    if let Some(labels) = condition.class_labels() {
        check(case, &format!("{name}/class_labels_fed"), labels)?;
    }
    // All runs with an empty prompt share one expectation.
    let half = if guidance_scale > 1.0 { "cfg" } else { "nocfg" };
    let fed = match positive.as_slice() {
        [""] => format!("prompt_embeds_fed/{half}"),
        _ => format!("{name}/prompt_embeds_fed"),
    };
    check(case, &fed, condition.hidden_states())?;

    let kind: SchedulerKind = text("scheduler").parse()?;
    let scheduler = pipeline.scheduler(Some(kind), number("num_inference_steps"))?;
    let timesteps = scheduler.timesteps().to_vec();
    case.check_values(&format!("{name}/timesteps"), &[timesteps.len()], timesteps)?;

    // Latents handed in are used as they are, whatever the scheduler starts from.
    let latents = case.float::<4>(text("latents"), device)?;
    let Trace { latents, steps, first: (input, output) } =
        denoise(pipeline, latents, &condition, scheduler)?;
    check(case, &format!("{name}/first_unet_input"), &input)?;
    check(case, &format!("{name}/first_unet_output"), &output)?;
    check(case, &format!("{name}/latents"), &steps)?;
    let decoded = pipeline.decode_latents(latents.clone())?;
    check(case, &format!("{name}/decoded"), &decoded)?;
    check(case, &format!("{name}/image"), &unit_range(decoded))?;
    check_levels(case, name, pipeline, latents)
}

/// Embeds the run's image by the pipeline's own encoder. What follows is compared from the
/// reference's pixel values, since its resizing differs by a level.
fn image_embeds(
    case: &mut Case,
    name: &str,
    file: &str,
    folder: &Path,
    device: &Device,
) -> Result<Tensor<2>, CaseError> {
    let image = image::open(case.folder().join(file))?.to_rgb8();
    let preprocessor = ImagePreprocessor::load(&folder.join("feature_extractor"))?;
    check(case, &format!("{name}/pixel_values"), &preprocessor.batch(&[image], device)?)?;
    let pixel_values = case.float::<4>("from_png_pixel_values", device)?;
    let encoder = ClipVisionModel::load(&folder.join("image_encoder"), device)?;
    let embeds = encoder.embed(pixel_values)?;
    check(case, &format!("{name}/image_embeds"), &embeds)?;
    Ok(embeds)
}

/// A text, a list of texts, or none.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn check<const D: usize>(case: &mut Case, name: &str, tensor: &Tensor<D>) -> Result<(), CaseError> {
    if case.expects(name) { case.check(name, tensor.clone()) } else { Ok(()) }
}
