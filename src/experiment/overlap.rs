//! How one item's predicted density sees two sets of items: the view of figure 4 of the ProbVLM
//! paper (arXiv 2307.00398), where a CUB bird's density scores the birds of CUB and all of COCO.
//!
//! In: an adapter, an item, its own set and another one. Out: log likelihoods per dimension of all
//! items of both, and how far the two overlap.

use serde::{Deserialize, Serialize};

use super::{EmbeddedPairs, ExperimentError};
use crate::adapter::Adapter;
use crate::encoder::Modality;
use crate::evaluation::auroc;

/// Rows scored at a time.
const BATCH: usize = 1024;

/// Log likelihoods of the items of two sets under one item's density.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LikelihoodOverlap {
    /// Id of the item whose density it is, or the words of a caption.
    pub item: String,
    /// Modality of the scored items: what the adapter predicts.
    pub scored: Modality,
    pub own: ScoredSet,
    pub other: ScoredSet,
    /// Chance that a random item of the own set is more likely than one of the other: 0.5 where
    /// the density cannot tell the sets apart.
    pub auroc: f64,
    /// Share of the other set that is more likely than the median of the own set.
    pub above_own_median: f64,
}

/// The items of one set, most likely first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredSet {
    pub name: String,
    pub items: Vec<ScoredItem>,
}

/// One scored item.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredItem {
    /// Position in its set.
    pub position: usize,
    pub id: String,
    /// Nats per dimension.
    pub log_likelihood: f64,
}

/// Scores every item of both sets by the density that `adapter` predicts for item `position` of
/// `own`. The item itself is left out.
///
/// # Errors
/// When there is no such item, the sets have another dimension than the adapter, or a set would
/// be empty.
pub fn likelihood_overlap(
    adapter: &Adapter,
    own: &EmbeddedPairs,
    position: usize,
    other: &EmbeddedPairs,
) -> Result<LikelihoodOverlap, ExperimentError> {
    let (input, scored) = (adapter.input_modality(), adapter.output_modality());
    if position >= own.count(input) {
        return Err(ExperimentError::Setting {
            what: "the item",
            found: position.to_string(),
            expected: format!("a position below {} ({input}s of {})", own.count(input), own.name()),
        });
    }
    let density = adapter.predict(&own.embedding(input, position), 0, 0)?;
    let itself = |candidate: usize| input == scored && candidate == position;
    let score = |pairs: &EmbeddedPairs, skip: &dyn Fn(usize) -> bool| {
        let wanted: Vec<usize> = (0..pairs.count(scored)).filter(|&c| !skip(c)).collect();
        let mut items = Vec::with_capacity(wanted.len());
        for batch in wanted.chunks(BATCH) {
            let rows: Vec<Vec<f32>> = batch.iter().map(|&c| pairs.row(scored, c)).collect();
            let logs = density.log_probs(&rows)?;
            items.extend(batch.iter().zip(logs).map(|(&position, log)| ScoredItem {
                position,
                id: id(pairs, scored, position),
                log_likelihood: log / density.dim() as f64,
            }));
        }
        if items.is_empty() {
            return Err(pairs.unusable(format!("there is no {scored} to score")));
        }
        items.sort_by(|a, b| {
            b.log_likelihood.total_cmp(&a.log_likelihood).then(a.position.cmp(&b.position))
        });
        Ok::<_, ExperimentError>(ScoredSet { name: pairs.name().to_owned(), items })
    };
    let (own_set, other_set) = (score(own, &itself)?, score(other, &|_| false)?);
    let logs = |set: &ScoredSet| set.items.iter().map(|i| i.log_likelihood).collect::<Vec<_>>();
    let (ours, theirs) = (logs(&own_set), logs(&other_set));
    let median = ours[ours.len() / 2];
    let values: Vec<f64> = ours.iter().chain(&theirs).copied().collect();
    let is_own: Vec<bool> = (0..values.len()).map(|i| i < ours.len()).collect();
    Ok(LikelihoodOverlap {
        item: id(own, input, position),
        scored,
        auroc: auroc(&values, &is_own)?,
        above_own_median: theirs.iter().filter(|&&l| l > median).count() as f64
            / theirs.len() as f64,
        own: own_set,
        other: other_set,
    })
}

fn id(pairs: &EmbeddedPairs, modality: Modality, position: usize) -> String {
    match modality {
        Modality::Image => pairs.facts(position).id.clone(),
        Modality::Text => match pairs.words(position) {
            Some(words) => words.to_owned(),
            None => format!("caption {position}"),
        },
    }
}
