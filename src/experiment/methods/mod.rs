//! Fits every method, and lets it score.
//!
//! In: a [`Method`], training and validation pairs, a budget and a seed. Out: a [`FittedMethod`]
//! and a record of how training went.

mod by_adapter;
mod frozen;
mod pairwise;
mod probvlm;
mod sampled_retrieval;
mod stacked;
mod training_free;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use burn::tensor::Device;

pub use by_adapter::AdapterPair;
pub use frozen::{BestMatch, FittedEntropy, GalleryEntropy, Noise};
pub use sampled_retrieval::SampledRetrieval;
pub use stacked::Stacked;
pub use training_free::{Augmentation, Density, Posterior};

use super::method::{FittedMethod, Method};
use super::report::{Budget, ProbVlmSettings, TrainingRecord};
use super::retrieval::FittedScales;
use super::{EmbeddedPairs, ExperimentError};
use crate::adapter::pairwise::PairwiseKind;
use crate::adapter::training::TrainingEvent;

/// What a method is fitted with.
pub struct Fit<'a> {
    pub training: &'a EmbeddedPairs,
    /// Decides when to stop; nothing else is chosen by it.
    pub validation: &'a EmbeddedPairs,
    pub budget: &'a Budget,
    pub probvlm: ProbVlmSettings,
    pub seed: u64,
    /// A plain (not autodiff) device.
    pub device: &'a Device,
    /// The logit scales that explain the validation pairs best.
    pub scales: &'a FittedScales,
    /// ProbVLM with this seed, where it was fitted before: methods that stand on it need not train
    /// it again.
    pub fitted_probvlm: Option<Arc<dyn FittedMethod>>,
}

/// Hears what a training run says about a side; `Break` cancels it.
pub type OnTraining<'a> = &'a mut dyn FnMut(&str, TrainingEvent) -> ControlFlow<()>;

/// A method ready to score, and how it got there.
pub struct Fitted {
    pub method: Arc<dyn FittedMethod>,
    pub records: Vec<TrainingRecord>,
}

impl Fitted {
    fn untrained(method: impl FittedMethod + 'static) -> Self {
        Self { method: Arc::new(method), records: Vec::new() }
    }
}

impl Fit<'_> {
    /// Fits a method.
    ///
    /// # Errors
    /// When the pairs do not hold what the method needs, training diverges, or it was cancelled.
    pub fn run(&self, method: Method, on_event: OnTraining<'_>) -> Result<Fitted, ExperimentError> {
        let started = Instant::now();
        let mut fitted = match method {
            Method::ProbVlm
            | Method::ProbVlmReleased
            | Method::ProbVlmCross
            | Method::Gaussian
            | Method::Laplace => probvlm::fit(self, method, on_event)?,
            Method::Pfe => pairwise::fit(self, method, PairwiseKind::Pfe, on_event)?,
            Method::Pcme => pairwise::fit(self, method, PairwiseKind::Pcme, on_event)?,
            Method::PcmePlusPlus => {
                pairwise::fit(self, method, PairwiseKind::PcmePlusPlus, on_event)?
            }
            Method::AsymVmf => pairwise::fit(self, method, PairwiseKind::AsymVmf, on_event)?,
            Method::AsymPowerSpherical => {
                pairwise::fit(self, method, PairwiseKind::AsymPowerSpherical, on_event)?
            }
            Method::CosineDistance => Fitted::untrained(BestMatch),
            Method::Entropy => Fitted::untrained(GalleryEntropy),
            Method::EntropyFitted => {
                Fitted::untrained(FittedEntropy { scales: self.scales.all()? })
            }
            Method::ProbVlmRetrieval => {
                let base = self.probvlm(on_event)?;
                let scales = self.scales.all()?;
                let method = SampledRetrieval { base: base.method, scales, seed: self.seed };
                Fitted { method: Arc::new(method), records: base.records }
            }
            Method::Knn => Fitted::untrained(Density::knn(self.training)?),
            Method::Mahalanobis => Fitted::untrained(Density::mahalanobis(self.training)?),
            Method::Ttda => Fitted::untrained(Augmentation),
            Method::BayesVlm => Fitted::untrained(Posterior::fit(self.training)?),
            Method::Stacked => {
                let base = self.probvlm(on_event)?;
                let method = Arc::new(Stacked::fit(base.method, self.validation)?);
                Fitted { method, records: base.records }
            }
            Method::Random => Fitted::untrained(Noise { seed: self.seed }),
        };
        let records = fitted.records.len().max(1) as f64;
        for record in &mut fitted.records {
            // A method that stands on another one's networks says so by its own name.
            record.method = method;
            record.seconds = started.elapsed().as_secs_f64() / records;
        }
        Ok(fitted)
    }

    fn probvlm(&self, on_event: OnTraining<'_>) -> Result<Fitted, ExperimentError> {
        match &self.fitted_probvlm {
            Some(method) => Ok(Fitted { method: Arc::clone(method), records: Vec::new() }),
            None => probvlm::fit(self, Method::ProbVlm, on_event),
        }
    }
}
