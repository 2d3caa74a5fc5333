//! Methods whose loss looks at the pairs of a batch: PFE, PCME, PCME++ and AsymVLM.

use std::sync::Arc;

use super::{AdapterPair, Fit, Fitted, OnTraining};
use crate::adapter::Adapter;
use crate::adapter::pairwise::{
    PairRows, PairwiseKind, PairwiseOptions, PairwiseOutcome, PairwiseRun,
};
use crate::adapter::training::{Rows, TrainingError};
use crate::encoder::Modality;
use crate::experiment::method::Method;
use crate::experiment::report::TrainingRecord;
use crate::experiment::{EmbeddedPairs, ExperimentError};

/// Trains both sides together. The epochs and patience are the budget's; batch size and learning
/// rate the method's own, because the size of a batch is how many wrong pairs the loss sees.
pub fn fit(
    fit: &Fit<'_>,
    method: Method,
    kind: PairwiseKind,
    on_event: OnTraining<'_>,
) -> Result<Fitted, ExperimentError> {
    let options = PairwiseOptions {
        epochs: fit.budget.epochs,
        patience: fit.budget.patience,
        image_side: true,
        seed: fit.seed,
        ..PairwiseOptions::new(kind)
    };
    let run = PairwiseRun {
        kind,
        options: &options,
        training: &rows(fit.training)?,
        validation: &rows(fit.validation)?,
        device: fit.device,
    };
    match run.run(|event| on_event("both", event))? {
        PairwiseOutcome::Finished { text: Some(text), image: Some(image), history } => {
            let record = TrainingRecord {
                method,
                seed: fit.seed,
                side: "both".to_owned(),
                epochs: history,
                seconds: 0.0,
            };
            let (image, text) = (Adapter::from(*image), Adapter::from(*text));
            let pair = AdapterPair { image, text, passes: 0, seed: fit.seed };
            Ok(Fitted { method: Arc::new(pair), records: vec![record] })
        }
        PairwiseOutcome::Finished { .. } => Err(ExperimentError::Training(TrainingError::Data(
            format!("{} was trained without one of its sides", method.label()),
        ))),
        PairwiseOutcome::Interrupted { .. } => Err(ExperimentError::Cancelled),
    }
}

fn rows(pairs: &EmbeddedPairs) -> Result<PairRows<'_>, TrainingError> {
    let all = |modality| Rows::checked(pairs.rows(modality));
    let links = (0..pairs.caption_count()).map(|caption| {
        let image = pairs.captions()[caption].image as usize;
        (pairs.row_of(Modality::Text, caption), pairs.row_of(Modality::Image, image))
    });
    PairRows::new(all(Modality::Image), all(Modality::Text), links.collect())
}
