//! ProbVLM and the heteroscedastic densities that share its network.

use std::sync::Arc;

use super::{AdapterPair, Fit, Fitted, OnTraining};
use crate::adapter::Adapter;
use crate::adapter::loss::Family;
use crate::adapter::probvlm::Preset;
use crate::adapter::training::{EpochRecord, TrainingOptions, TrainingOutcome, TrainingRun};
use crate::encoder::Modality;
use crate::experiment::ExperimentError;
use crate::experiment::method::Method;
use crate::experiment::report::{Budget, ProbVlmSettings, TrainingRecord};

/// Trains an adapter for images and one for texts.
pub fn fit(
    fit: &Fit<'_>,
    method: Method,
    on_event: OnTraining<'_>,
) -> Result<Fitted, ExperimentError> {
    let options = options(method, fit.budget, fit.probvlm, fit.seed);
    let mut records = Vec::new();
    let mut side = |input: Modality| {
        let output = match (method, input) {
            (Method::ProbVlmCross, Modality::Image) => Modality::Text,
            (Method::ProbVlmCross, Modality::Text) => Modality::Image,
            _ => input,
        };
        let (adapter, epochs) = train(fit, &options, input, output, on_event)?;
        let (seed, side) = (fit.seed, input.to_string());
        records.push(TrainingRecord { method, seed, side, epochs, seconds: 0.0 });
        Ok::<_, ExperimentError>(adapter)
    };
    let (image, text) = (side(Modality::Image)?, side(Modality::Text)?);
    let pair = AdapterPair { image, text, passes: fit.budget.passes, seed: fit.seed };
    Ok(Fitted { method: Arc::new(pair), records })
}

/// The recommended options of a method, within the budget.
pub fn options(
    method: Method,
    budget: &Budget,
    probvlm: ProbVlmSettings,
    seed: u64,
) -> TrainingOptions {
    let options = match method {
        Method::ProbVlmReleased => TrainingOptions::new(Preset::Released),
        // Across modalities the noise is found by ridge regression, and nothing is crossed.
        Method::ProbVlmCross => TrainingOptions::new(Preset::Paper),
        _ => TrainingOptions {
            cross_weight: probvlm.cross_weight,
            input_noise: Some(probvlm.input_noise),
            family: match method {
                Method::Gaussian => Family::Gaussian,
                Method::Laplace => Family::Laplace,
                _ => Family::GeneralizedGaussian,
            },
            ..TrainingOptions::new(Preset::Paper)
        },
    };
    TrainingOptions {
        epochs: budget.epochs,
        batch_size: budget.batch_size,
        learning_rate: budget.learning_rate,
        patience: budget.patience,
        seed,
        ..options
    }
}

fn train(
    fit: &Fit<'_>,
    options: &TrainingOptions,
    input: Modality,
    output: Modality,
    on_event: OnTraining<'_>,
) -> Result<(Adapter, Vec<EpochRecord>), ExperimentError> {
    let run = TrainingRun {
        options,
        input_modality: input,
        output_modality: output,
        training: &fit.training.training_data(input, output)?,
        validation: &fit.validation.training_data(input, output)?,
        checkpoint: None,
        device: fit.device,
    };
    let side = input.to_string();
    match run.run(|event| on_event(&side, event))? {
        TrainingOutcome::Finished { adapter, history } => Ok((Adapter::from(*adapter), history)),
        TrainingOutcome::Interrupted { .. } => Err(ExperimentError::Cancelled),
    }
}
