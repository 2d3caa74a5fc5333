//! Cases of the diffusion prior: its network, Karlo's whole way from text to image, and
//! Kandinsky's prior. All noise is given.

use std::ops::ControlFlow;

use burn::tensor::{Device, Tensor};
use serde_json::Value;

use super::{Case, CaseError, decoding};
use crate::decoder::latent_diffusion::unit_range;
use crate::decoder::prior::{Guided, Prior, PriorTransformer};
use crate::decoder::scheduler::Scheduler;
use crate::decoder::{SchedulerKind, UnClipPipeline};
use crate::encoder::clip::ClipVisionModel;

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    match case.kind() {
        "prior" => network(case, device),
        "unclip_text" => {
            let folder = case.folder().join("pipeline");
            let prior = Prior::load(&folder, device)?;
            let decoder = UnClipPipeline::load(&folder, device)?;
            each_run(case, |case, name, run| {
                text_to_image(case, name, run, &prior, &decoder, device)
            })
        }
        _ => {
            let prior = Prior::load(&case.folder().join("pipeline"), device)?;
            each_run(case, |case, name, run| kandinsky(case, name, run, &prior, device))
        }
    }
}

fn each_run(
    case: &mut Case,
    mut work: impl FnMut(&mut Case, &str, &Value) -> Result<(), CaseError>,
) -> Result<(), CaseError> {
    let runs = case.json()["runs"].as_object().cloned().unwrap_or_default();
    runs.iter().try_for_each(|(name, run)| work(case, name, run))
}

fn network(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let prior = PriorTransformer::load(&case.model_folder(), device)?;
    let noisy = case.float::<2>("hidden_states", device)?;
    let condition = prior.prepare(
        case.float::<2>("proj_embedding", device)?,
        case.float::<3>("encoder_hidden_states", device)?,
        case.float::<2>("attention_mask", device)?,
    )?;
    let timestep = case.input("timestep")?.values.first().copied();
    let timestep = timestep.ok_or_else(|| CaseError("timestep is empty".to_owned()))?;
    case.check("predicted", prior.forward(noisy.clone(), timestep, &condition)?)?;
    case.check("post_processed", prior.post_process(noisy))
}

/// One run of `StableUnCLIPPipeline`.
fn text_to_image(
    case: &mut Case,
    name: &str,
    run: &Value,
    prior: &Prior,
    decoder: &UnClipPipeline,
    device: &Device,
) -> Result<(), CaseError> {
    let prompt = run["prompt"].as_str().unwrap_or_default();
    let number = |key: &str| run[key].as_f64().unwrap_or_default();
    let guidance_scale = number("prior_guidance_scale");
    let texts = if guidance_scale > 1.0 { vec!["", prompt] } else { vec![prompt] };
    let encoded = prior.encode(&texts)?;
    check(case, &format!("{name}/prior_text_embeds"), &encoded.text_embeds)?;
    check(case, &format!("{name}/prior_hidden_states"), &encoded.hidden_states)?;
    check(case, &format!("{name}/prior_mask"), &encoded.mask)?;

    // The pipeline hands its scheduler no previous time step, so UnCLIPScheduler takes t - 1.
    let kind: SchedulerKind = run["prior_scheduler"].as_str().unwrap_or_default().parse()?;
    let steps = number("prior_num_inference_steps") as usize;
    let scheduler = prior.scheduler(Some(kind), steps)?.with_unit_stride();
    let timesteps = scheduler.timesteps().to_vec();
    case.check_values(&format!("{name}/prior_timesteps"), &[steps], timesteps)?;
    let guided = prior.condition(&[prompt], &[""], guidance_scale)?;
    let latents = case.float::<2>("prior_latents", device)?;
    let noise = case.float::<3>("prior_step_noise", device)?;
    let (embedding, trace, first) = denoise(prior, latents, &guided, scheduler, noise)?;
    check(case, &format!("{name}/prior_first_output"), &first)?;
    check(case, &format!("{name}/prior_latents"), &trace)?;
    check(case, &format!("{name}/image_embeds"), &embedding)?;

    let embed_noise = case.float::<2>("embed_noise", device)?;
    let noise_level = number("noise_level") as usize;
    let class_vectors =
        decoder.noiser().noise_image_embeddings(embedding, noise_level, embed_noise)?;
    check(case, &format!("{name}/noised_class_embedding"), &class_vectors)?;
    let prompts = decoder.prompts(&[prompt], &[""])?;
    let condition = decoder.condition(class_vectors, &prompts, number("guidance_scale"))?;
    let scheduler = decoder.scheduler(None, number("num_inference_steps") as usize)?;
    let latents = case.float::<4>("latents", device)?.mul_scalar(scheduler.init_noise_sigma());
    let decoded = decoding::denoise(decoder, latents, &condition, scheduler)?;
    check(case, &format!("{name}/latents"), &decoded.steps)?;
    check(case, &format!("{name}/image"), &unit_range(decoder.decode_latents(decoded.latents)?))
}

/// One run of `KandinskyV22PriorPipeline`.
fn kandinsky(
    case: &mut Case,
    name: &str,
    run: &Value,
    prior: &Prior,
    device: &Device,
) -> Result<(), CaseError> {
    let text = |key: &str| run[key].as_str();
    let prompt = text("prompt").unwrap_or_default();
    let negative = text("negative_prompt");
    // With a negative prompt the pipeline makes an embedding of that too, in the same batch.
    let (texts, negatives) = match negative {
        Some(negative) => (vec![prompt, negative], vec![negative; 2]),
        None => (vec![prompt], vec![""]),
    };
    let guidance_scale = run["guidance_scale"].as_f64().unwrap_or_default();
    let guided = prior.condition(&texts, &negatives, guidance_scale)?;
    let steps = run["num_inference_steps"].as_u64().unwrap_or_default() as usize;
    let scheduler = prior.scheduler(None, steps)?;
    let timesteps = scheduler.timesteps().to_vec();
    case.check_values(&format!("{name}/timesteps"), &[steps], timesteps)?;
    let latents = case.float::<2>(text("latents").unwrap_or_default(), device)?;
    let noise = case.float::<3>(text("step_noise").unwrap_or_default(), device)?;
    let (embeddings, trace, _) = denoise(prior, latents, &guided, scheduler, noise)?;
    check(case, &format!("{name}/latents"), &trace)?;
    let row = |i| embeddings.clone().narrow(0, i, 1);
    check(case, &format!("{name}/image_embeds"), &row(0))?;
    let negative = match negative {
        Some(_) => row(1),
        None => {
            let folder = case.folder().join("pipeline/image_encoder");
            let encoder = ClipVisionModel::load(&folder, device)?;
            let side = encoder.config().patches.image_size;
            encoder.embed(Tensor::zeros([1, 3, side, side], device))?
        }
    };
    check(case, &format!("{name}/negative_image_embeds"), &negative)
}

/// The image embeddings `[B, E]`, the latents of all steps `[S, B, E]`, and what the network gave
/// first.
fn denoise(
    prior: &Prior,
    latents: Tensor<2>,
    guided: &Guided,
    scheduler: Scheduler<2>,
    noise: Tensor<3>,
) -> Result<(Tensor<2>, Tensor<3>, Tensor<2>), CaseError> {
    let mut trace = Vec::new();
    let mut first = None;
    let embeddings = prior.denoise(
        latents,
        guided,
        scheduler,
        &mut |step| noise.clone().narrow(0, step, 1).squeeze_dim::<2>(0),
        &mut |step| {
            first.get_or_insert_with(|| step.network_output.clone());
            trace.push(step.latents.clone());
            ControlFlow::Continue(())
        },
    )?;
    let first = first.ok_or_else(|| CaseError("the prior took no step".to_owned()))?;
    Ok((embeddings, Tensor::stack::<3>(trace, 0), first))
}

fn check<const D: usize>(case: &mut Case, name: &str, tensor: &Tensor<D>) -> Result<(), CaseError> {
    if case.expects(name) { case.check(name, tensor.clone()) } else { Ok(()) }
}
