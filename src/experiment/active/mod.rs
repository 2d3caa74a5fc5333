//! Pool-based active learning on cached embeddings: which images are worth a label?
//!
//! In: a pool of images whose captions stand for the labels, a validation and a test split, budgets,
//! seeds and strategies. Out: curves of recall and of the adapter's AURC over the number of
//! labelled images, the areas under them, and each strategy against random over the same seeds.
//!
//! The unit is an image with its captions: to label it is to say which captions belong to it. Each
//! round trains a light projection head on the frozen encoder by the contrastive loss, and the
//! ProbVLM adapters, whose uncertainty of the unlabelled images picks the next ones. What a pick
//! may look at is said in [`pick`].
//!
//! | module | what |
//! | --- | --- |
//! | [`strategy`] | the strategies |
//! | [`pick`] | the next images by a strategy |
//! | [`projection_head`] | the head that is fine-tuned |
//! | [`rounds`] | the loop |
//! | [`report`] | what comes out |

pub mod pick;
pub mod projection_head;
pub mod report;
pub mod rounds;
pub mod strategy;

use serde::{Deserialize, Serialize};

use super::ExperimentError;
use crate::adapter::probvlm::Preset;
use crate::adapter::training::TrainingOptions;

pub use projection_head::{HeadOptions, ProjectionHead};
pub use report::{ActiveReport, Measure};
pub use rounds::{ActiveData, ActiveEvent, RoundModels, run};
pub use strategy::Strategy;

/// What an experiment is asked to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActiveSettings {
    pub strategies: Vec<Strategy>,
    pub seeds: Vec<u64>,
    /// Labelled images in each round, ascending; the first is the start.
    pub budgets: Vec<usize>,
    pub head: HeadOptions,
    /// Of both adapters; the seed is that of the run.
    pub adapter: TrainingOptions,
    /// Dropout passes behind epistemic uncertainty and BALD.
    pub passes: usize,
}

impl ActiveSettings {
    /// The recommended settings for these budgets: all strategies and three seeds.
    pub fn new(budgets: Vec<usize>) -> Self {
        Self {
            strategies: Strategy::ALL.to_vec(),
            seeds: vec![0, 1, 2],
            budgets,
            head: HeadOptions::default(),
            // A few hundred labelled images make few batches of the usual size.
            adapter: TrainingOptions { batch_size: 128, ..TrainingOptions::new(Preset::Paper) },
            passes: 10,
        }
    }

    /// Five budgets for a pool: start at a twentieth, end at half of it, each 1.8 times the last.
    pub fn default_budgets(pool: usize) -> Vec<usize> {
        let share = |s: f64| ((pool as f64 * s).round() as usize).max(2);
        let mut budgets: Vec<usize> = [0.05, 0.09, 0.16, 0.28, 0.5].map(share).to_vec();
        budgets.dedup();
        budgets
    }

    fn check(&self, data: &ActiveData<'_>) -> Result<(), ExperimentError> {
        let bad = |what, found: String, expected: String| {
            Err(ExperimentError::Setting { what, found, expected })
        };
        self.head.check()?;
        if self.strategies.is_empty() {
            return bad("the number of strategies", "0".into(), "at least one".into());
        }
        if self.seeds.is_empty() {
            return bad("the number of seeds", "0".into(), "at least one".into());
        }
        for (what, twice) in [
            ("the list of strategies", comes_twice(&self.strategies).map(|s| s.to_string())),
            ("the list of seeds", comes_twice(&self.seeds).map(|s| s.to_string())),
        ] {
            if let Some(twice) = twice {
                return bad(what, format!("a list with {twice} twice"), "each once".into());
            }
        }
        let images = data.pool.image_count();
        let list = || self.budgets.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let ascending = self.budgets.windows(2).all(|w| w[0] < w[1]);
        let fits = self.budgets.len() >= 2
            && self.budgets.first().is_some_and(|&first| first >= 2)
            && self.budgets.last().is_some_and(|&last| last <= images);
        if !ascending || !fits {
            let expected =
                format!("at least two growing numbers, from 2 to the {images} images of the pool");
            return bad("the list of budgets", format!("[{}]", list()), expected);
        }
        if let Some(labelled) = data.labelled {
            let mut sorted = labelled.to_vec();
            sorted.sort_unstable();
            sorted.dedup();
            if sorted.len() != labelled.len() || sorted.last().is_some_and(|&i| i >= images) {
                return bad(
                    "the list of labelled images",
                    format!("{} positions, some twice or out of range", labelled.len()),
                    format!("different positions below {images}"),
                );
            }
            if self.budgets[0] != labelled.len() {
                return bad(
                    "the first budget",
                    self.budgets[0].to_string(),
                    format!("{}, the number of images labelled already", labelled.len()),
                );
            }
        }
        for (what, dim) in [("validation", data.validation.dim()), ("test", data.test.dim())] {
            if dim != data.pool.dim() {
                return Err(data.pool.unusable(format!(
                    "its embeddings have {} dimensions, those of the {what} pairs {dim}; all must \
                     come from one encoder",
                    data.pool.dim()
                )));
            }
        }
        Ok(())
    }
}

fn comes_twice<T: PartialEq + Copy>(items: &[T]) -> Option<T> {
    items.iter().enumerate().find(|(i, item)| items[..*i].contains(item)).map(|(_, &item)| item)
}

#[cfg(test)]
mod tests;
