//! Likelihood checks of an adapter's densities on held-out pairs.

use super::method::Method;
use super::{EmbeddedPairs, ExperimentError};
use crate::adapter::Adapter;
use crate::encoder::{Embedding, Modality};
use crate::evaluation::{
    ConstantDensity, LikelihoodAccumulator, LikelihoodChecks, LikelihoodOptions,
};

/// Pairs that the checks look at, evenly spread: they cost an incomplete gamma function per
/// dimension.
const MOST_PAIRS: usize = 2000;
/// Training targets behind the constant density.
const CONSTANT_PAIRS: usize = 1 << 15;
/// Pairs predicted at a time.
const BATCH: usize = 256;

/// Checks the densities against what the adapter was trained to predict: the input itself within
/// one modality, the paired embedding of the other modality for a cross-modal adapter. `None` for
/// methods whose variances are not those of a predicted density.
///
/// # Errors
/// When the adapter fails.
pub fn of_adapter(
    method: Method,
    adapter: &Adapter,
    training: &EmbeddedPairs,
    test: &EmbeddedPairs,
    seed: u64,
) -> Result<Option<LikelihoodChecks>, ExperimentError> {
    if !matches!(
        method,
        Method::ProbVlm
            | Method::ProbVlmReleased
            | Method::ProbVlmCross
            | Method::Gaussian
            | Method::Laplace
    ) {
        return Ok(None);
    }
    let (input, output) = (adapter.input_modality(), adapter.output_modality());
    let targets = items(training, output, output, CONSTANT_PAIRS).map(|(_, target)| target);
    let constant = ConstantDensity::fit(targets)?;
    let pairs: Vec<(Embedding, Vec<f32>)> = items(test, input, output, MOST_PAIRS).collect();
    let options = LikelihoodOptions { seed, ..LikelihoodOptions::default() };
    let mut checks = LikelihoodAccumulator::new(constant, pairs.len(), options)?;
    for batch in pairs.chunks(BATCH) {
        let inputs: Vec<Embedding> = batch.iter().map(|(input, _)| input.clone()).collect();
        // Densities alone: epistemic variance is no part of them.
        let predicted = adapter.predict_batch(&inputs, 0, seed)?;
        let targets: Vec<&[f32]> = batch.iter().map(|(_, target)| target.as_slice()).collect();
        checks.push_batch(&predicted, &targets)?;
    }
    Ok(Some(checks.finish()?))
}

/// Inputs and targets of at most `most` items, evenly spread: images where both are images, else
/// one item per caption.
fn items(
    pairs: &EmbeddedPairs,
    input: Modality,
    output: Modality,
    most: usize,
) -> impl Iterator<Item = (Embedding, Vec<f32>)> + '_ {
    let by_image = input == Modality::Image && output == Modality::Image;
    let count = if by_image { pairs.image_count() } else { pairs.caption_count() };
    let step = count.div_ceil(most).max(1);
    (0..count).step_by(step).map(move |at| {
        let position = |modality| match (by_image, modality) {
            (false, Modality::Image) => pairs.captions()[at].image as usize,
            _ => at,
        };
        (pairs.embedding(input, position(input)), pairs.row(output, position(output)))
    })
}
