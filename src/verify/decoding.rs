//! What the cases of all decoders check alike: the way of the latents, and the pixels.

use std::ops::ControlFlow;

use burn::tensor::Tensor;

use super::{Case, CaseError};
use crate::decoder::{Condition, LatentDiffusion, Scheduler, VaeTiling};

/// A denoising run.
pub struct Trace {
    /// Latents after the last step, `[B, C, h, w]`.
    pub latents: Tensor<4>,
    /// Latents after every step, `[S, B, C, h, w]`.
    pub steps: Tensor<5>,
    /// Input and output of the first call of the network.
    pub first: (Tensor<4>, Tensor<4>),
}

/// Denoises `latents`, which are used as they are, by a scheduler that needs no noise.
pub fn denoise(
    pipeline: &LatentDiffusion,
    latents: Tensor<4>,
    condition: &Condition,
    scheduler: Scheduler<4>,
) -> Result<Trace, CaseError> {
    let mut steps = Vec::new();
    let mut first = None;
    let latents = pipeline.denoise_latents(
        latents,
        condition,
        scheduler,
        &mut |call| unreachable!("call {call} of a deterministic scheduler asked for noise"),
        &mut |step| {
            first.get_or_insert((step.network_input.clone(), step.network_output.clone()));
            steps.push(step.latents.clone());
            ControlFlow::Continue(())
        },
    )?;
    let first = first.ok_or_else(|| CaseError("the run has no step".to_owned()))?;
    Ok(Trace { latents, steps: Tensor::stack::<5>(steps, 0), first })
}

/// The 8-bit images of `latents`, where the case has them.
pub fn check_levels(
    case: &mut Case,
    name: &str,
    pipeline: &LatentDiffusion,
    latents: Tensor<4>,
) -> Result<(), CaseError> {
    let levels = format!("{name}/image_u8");
    if case.expects(&levels) {
        let images = pipeline.images(latents, VaeTiling::Off)?;
        let (width, height) = images[0].dimensions();
        let shape = [images.len(), height as usize, width as usize, 3];
        let values = images.iter().flat_map(|image| image.as_raw()).map(|&v| f64::from(v));
        case.check_values(&levels, &shape, values.collect())?;
    }
    Ok(())
}
