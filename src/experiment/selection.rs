//! Model selection without labels: which of several models fits a new set of images or texts?
//!
//! In: candidates, each with the embeddings of the same target items, and an adapter of its own.
//! Out: the candidates in the order of every signal, the least uncertain first (ProbVLM, arXiv
//! 2307.00398, table 2), and where the pairing is known, recall beside it: Kendall's tau and what
//! the first pick costs.
//!
//! Variances are those of unit space (see [`UnitUncertainty`](super::uncertainty::UnitUncertainty)):
//! raw ones would rank encoders by the length of their embeddings.

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::active::pick::doubts;
use super::retrieval::{RetrievalPair, unit_rows};
use super::uncertainty::UnitUncertainty;
use super::{EmbeddedPairs, ExperimentError, Retrieval};
use crate::adapter::Predictor;
use crate::encoder::{Embedding, Modality};
use crate::evaluation::{kendall_tau_b, recall_at_k, top1_regret};
use crate::gallery::{EmbeddingRows, ExactSearch};

/// Version of the written form; raised when a field changes its meaning.
pub const SCHEMA: u32 = 1;
/// Neighbour whose distance says how familiar an item is.
const NEIGHBOUR: usize = 10;
/// Items searched at a time.
const BATCH: usize = 256;

/// One model that could be used.
pub struct Candidate<'a> {
    pub name: String,
    /// Raw embeddings of the target items `[N, D]`, the same items in the same order for all
    /// candidates.
    pub items: Vec<f32>,
    /// Raw embeddings of target items of the other modality `[M, D]`, in any order: which belong
    /// together need not be known.
    pub others: Option<Vec<f32>>,
    /// Number of dimensions D.
    pub dim: usize,
    /// The encoder's logit scale.
    pub logit_scale: f64,
    /// Takes embeddings of the items' modality.
    pub adapter: Option<&'a dyn Predictor>,
    /// Embeddings of the items' modality that the model knows from training.
    pub reference: Option<&'a EmbeddingRows>,
    /// The target items as pairs, where the pairing is known: only for the truth.
    pub pairs: Option<&'a EmbeddedPairs>,
}

/// What candidates are ranked by; smaller is better for all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// Mean total variance in unit space.
    Total,
    /// Mean aleatoric variance in unit space.
    Aleatoric,
    /// Mean epistemic variance in unit space.
    Epistemic,
    /// Mean of 1 - cosine of an item and its best match.
    MatchDistance,
    /// Mean entropy in nats of the retrieval softmax.
    Entropy,
    /// Mean of 1 - cosine of an item and its tenth-nearest training embedding.
    KnnDistance,
}

impl Signal {
    pub const ALL: [Signal; 6] = [
        Signal::Total,
        Signal::Aleatoric,
        Signal::Epistemic,
        Signal::MatchDistance,
        Signal::Entropy,
        Signal::KnnDistance,
    ];

    /// Its name in tables and files.
    pub fn name(self) -> &'static str {
        match self {
            Signal::Total => "total",
            Signal::Aleatoric => "aleatoric",
            Signal::Epistemic => "epistemic",
            Signal::MatchDistance => "match-distance",
            Signal::Entropy => "entropy",
            Signal::KnnDistance => "knn-distance",
        }
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SelectionReport {
    pub schema: u32,
    /// Version of Haze that made it.
    pub haze: String,
    /// Modality of the target items.
    pub modality: Modality,
    /// Number of target items.
    pub items: usize,
    /// In the order given.
    pub candidates: Vec<CandidateReport>,
    /// One per signal that all candidates have.
    pub rankings: Vec<SignalRanking>,
    /// What a reader should know: signals that are left out, and why.
    pub notes: Vec<String>,
}

/// One candidate in numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateReport {
    pub name: String,
    pub dim: usize,
    pub signals: BTreeMap<Signal, f64>,
    /// Where the pairing is known.
    pub recall: Option<TargetRecall>,
}

/// Recall at 1, 5 and 10 on the target pairs by the candidate's embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TargetRecall {
    pub image_to_text: [f64; 3],
    pub text_to_image: [f64; 3],
}

impl TargetRecall {
    /// Recall in the direction in which items of `modality` ask.
    pub fn asking(&self, modality: Modality) -> [f64; 3] {
        match modality {
            Modality::Image => self.image_to_text,
            Modality::Text => self.text_to_image,
        }
    }
}

/// The candidates by one signal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalRanking {
    pub signal: Signal,
    /// Names, the least uncertain first; ties in the order given.
    pub order: Vec<String>,
    /// Kendall's tau-b of less uncertainty and recall@1 of the target items: 1 where the order is
    /// that of recall. `None` without the truth, or where one side is constant.
    pub kendall_tau: Option<f64>,
    /// Recall@1 of the best candidate less that of the first in this order, from 0 on.
    pub top_1_regret: Option<f64>,
}

/// Ranks candidates for target items of `modality`.
///
/// # Errors
/// When there are fewer than two candidates, two share a name, their items do not correspond, an
/// adapter takes something else, or a search or prediction fails.
pub fn select(
    candidates: &[Candidate<'_>],
    modality: Modality,
    passes: usize,
    seed: u64,
    device: &Device,
) -> Result<SelectionReport, ExperimentError> {
    let items = check(candidates, modality)?;
    let reports = candidates
        .iter()
        .map(|candidate| candidate.report(modality, passes, seed, device))
        .collect::<Result<Vec<_>, _>>()?;
    let mut notes = Vec::new();
    let mut rankings = Vec::new();
    for signal in Signal::ALL {
        let without: Vec<&str> = reports
            .iter()
            .filter(|report| !report.signals.contains_key(&signal))
            .map(|report| report.name.as_str())
            .collect();
        match without.len() {
            0 => rankings.push(rank(&reports, signal, modality)?),
            n if n == reports.len() => {}
            _ => notes.push(format!(
                "no ranking by {}: {} cannot be scored by it",
                signal.name(),
                without.join(", ")
            )),
        }
    }
    Ok(SelectionReport {
        schema: SCHEMA,
        haze: env!("CARGO_PKG_VERSION").to_owned(),
        modality,
        items,
        candidates: reports,
        rankings,
        notes,
    })
}

impl Candidate<'_> {
    fn report(
        &self,
        modality: Modality,
        passes: usize,
        seed: u64,
        device: &Device,
    ) -> Result<CandidateReport, ExperimentError> {
        let mut signals = BTreeMap::new();
        let rows = self.items.chunks_exact(self.dim);
        if let Some(adapter) = self.adapter {
            let embeddings = rows.map(|row| Embedding { values: row.to_vec(), modality });
            let found = UnitUncertainty::of(adapter, embeddings, passes, seed)?;
            signals.insert(Signal::Total, mean(&found.total));
            signals.insert(Signal::Aleatoric, mean(&found.aleatoric));
            if passes > 0 {
                signals.insert(Signal::Epistemic, mean(&found.epistemic));
            }
        }
        if let Some(others) = &self.others {
            let gallery = EmbeddingRows::from_values(others.clone(), self.dim)?;
            signals.insert(Signal::MatchDistance, self.neighbour_distance(gallery, 1)?);
            let unit = |rows: &[f32]| unit_rows(rows.to_vec(), self.dim);
            let network = [unit(&self.items), unit(others)];
            let doubts = doubts(&[network], self.dim, self.logit_scale, device)?;
            let entropy: Vec<f64> = doubts.iter().map(|doubt| doubt.entropy).collect();
            signals.insert(Signal::Entropy, mean(&entropy));
        }
        if let Some(reference) = self.reference {
            let distance = self.neighbour_distance(reference.clone(), NEIGHBOUR)?;
            signals.insert(Signal::KnnDistance, distance);
        }
        let recall = match self.pairs {
            Some(pairs) => {
                let found = RetrievalPair::of(pairs)?;
                Some(TargetRecall {
                    image_to_text: recalls(&found.image_to_text)?,
                    text_to_image: recalls(&found.text_to_image)?,
                })
            }
            None => None,
        };
        Ok(CandidateReport { name: self.name.clone(), dim: self.dim, signals, recall })
    }

    /// Mean of 1 - cosine of an item and its `k`-th nearest row, or the farthest of fewer.
    fn neighbour_distance(&self, rows: EmbeddingRows, k: usize) -> Result<f64, ExperimentError> {
        let search = ExactSearch::new(rows)?;
        let mut distances = Vec::with_capacity(self.items.len() / self.dim);
        for chunk in self.items.chunks(BATCH * self.dim) {
            let queries: Vec<Vec<f32>> =
                chunk.chunks_exact(self.dim).map(<[f32]>::to_vec).collect();
            let hits = search.search(&queries, k.min(search.len()))?;
            distances.extend(hits.iter().filter_map(|hits| hits.last()).map(|hit| 1.0 - hit.score));
        }
        Ok(mean(&distances))
    }
}

/// The number of target items, the same for all candidates.
fn check(candidates: &[Candidate<'_>], modality: Modality) -> Result<usize, ExperimentError> {
    let bad = |what, found: String, expected: String| {
        Err(ExperimentError::Setting { what, found, expected })
    };
    let [first, rest @ ..] = candidates else {
        return bad("the number of candidates", "0".into(), "at least two".into());
    };
    if rest.is_empty() {
        return bad("the number of candidates", "1".into(), "at least two to choose from".into());
    }
    let count = |values: &[f32], dim: usize| values.len().checked_div(dim).unwrap_or(0);
    let items = count(&first.items, first.dim);
    let others = first.others.as_ref().map(|others| count(others, first.dim));
    let mut names: Vec<&str> = Vec::new();
    for candidate in candidates {
        if names.contains(&candidate.name.as_str()) {
            let found = format!("{} twice", candidate.name);
            return bad("the list of candidates", found, "different names".into());
        }
        names.push(&candidate.name);
        let found = count(&candidate.items, candidate.dim);
        if found == 0 || found != items {
            return bad(
                "the number of target items",
                format!("{found} for {}", candidate.name),
                format!(
                    "{} as for {}: embed the same items with every encoder",
                    items.max(1),
                    first.name
                ),
            );
        }
        let found = candidate.others.as_ref().map(|others| count(others, candidate.dim));
        if found != others {
            return bad(
                "the number of items to find",
                format!("{} for {}", found.unwrap_or(0), candidate.name),
                format!("{} as for {}", others.unwrap_or(0), first.name),
            );
        }
        if let Some(adapter) = candidate.adapter {
            let found = (adapter.input_modality(), adapter.dim());
            if found != (modality, candidate.dim) {
                return bad(
                    "the adapter of a candidate",
                    format!("one for {} of {} dimensions ({})", found.0, found.1, candidate.name),
                    format!("one for {modality} of {} dimensions", candidate.dim),
                );
            }
        }
    }
    Ok(items)
}

fn rank(
    reports: &[CandidateReport],
    signal: Signal,
    modality: Modality,
) -> Result<SignalRanking, ExperimentError> {
    let values: Vec<f64> = reports.iter().map(|report| report.signals[&signal]).collect();
    let mut order: Vec<usize> = (0..reports.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let recall: Option<Vec<f64>> =
        reports.iter().map(|report| Some(report.recall?.asking(modality)[0])).collect();
    let is_constant = |values: &[f64]| values.iter().all(|v| *v == values[0]);
    let certainty: Vec<f64> = values.iter().map(|v| -v).collect();
    let (mut tau, mut regret) = (None, None);
    if let Some(recall) = &recall {
        if !is_constant(recall) && !is_constant(&values) {
            tau = Some(kendall_tau_b(&certainty, recall)?);
        }
        regret = Some(top1_regret(&values, recall)?);
    }
    Ok(SignalRanking {
        signal,
        order: order.iter().map(|&i| reports[i].name.clone()).collect(),
        kendall_tau: tau,
        top_1_regret: regret,
    })
}

/// Recall at 1, 5 and 10.
fn recalls(retrieval: &Retrieval) -> Result<[f64; 3], ExperimentError> {
    let at = |k| recall_at_k(&retrieval.ranks, k);
    Ok([at(1)?, at(5)?, at(10)?])
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::PairStore;
    use crate::experiment::pairs::{CaptionLink, ImageFacts};
    use crate::experiment::uncertainty::tests::FirstNumber;
    use crate::model::device::ComputeDevice;
    use crate::random::{Stream, standard_normal};

    const IMAGES: usize = 60;
    const DIM: usize = 8;

    /// Images that are noise, and captions that are the images plus noise of this deviation.
    fn pairs(noise: f32, scale: f32) -> EmbeddedPairs {
        let images = standard_normal(1, Stream::EmbeddingSamples, 0, IMAGES * DIM);
        let error = standard_normal(1, Stream::EmbeddingSamples, 1, IMAGES * DIM);
        let texts = images.iter().zip(error).map(|(v, e)| scale * (v + noise * e)).collect();
        let images = images.iter().map(|v| scale * v).collect();
        let facts =
            |i: usize| ImageFacts { id: i.to_string(), split: None, class: None, coco_id: None };
        let link =
            |i: usize| CaptionLink { text: i as u32, image: i as u32, level: None, id: None };
        EmbeddedPairs::new(PairStore {
            logit_scale: Some(20.0),
            ..PairStore::new(
                "synthetic".to_owned(),
                EmbeddingRows::from_values(images, DIM).unwrap(),
                EmbeddingRows::from_values(texts, DIM).unwrap(),
                (0..IMAGES).map(facts).collect(),
                (0..IMAGES).map(link).collect(),
            )
        })
        .unwrap()
    }

    fn candidate<'a>(
        name: &str,
        pairs: &'a EmbeddedPairs,
        adapter: &'a FirstNumber,
    ) -> Candidate<'a> {
        Candidate {
            name: name.to_owned(),
            items: pairs.matrix(Modality::Image),
            others: Some(pairs.matrix(Modality::Text)),
            dim: DIM,
            logit_scale: 20.0,
            adapter: Some(adapter),
            reference: Some(&pairs.store().images),
            pairs: Some(pairs),
        }
    }

    #[test]
    fn the_least_uncertain_candidate_comes_first_whatever_its_scale() {
        let device = ComputeDevice::cpu().device;
        // The best encoder has the longest embeddings, so raw variances would put it last.
        let sources = [pairs(1.2, 1.0), pairs(0.1, 50.0), pairs(0.6, 7.0)];
        let spreads = [0.9, 0.1, 0.5].map(|spread| FirstNumber { spread, dim: DIM });
        let candidates: Vec<Candidate<'_>> = ["poor", "good", "fair"]
            .into_iter()
            .zip(sources.iter().zip(&spreads))
            .map(|(name, (pairs, adapter))| candidate(name, pairs, adapter))
            .collect();
        let report = select(&candidates, Modality::Image, 1, 0, &device).unwrap();
        assert_eq!(report.items, IMAGES);
        for signal in [
            Signal::Total,
            Signal::Aleatoric,
            Signal::Epistemic,
            Signal::MatchDistance,
            Signal::Entropy,
        ] {
            let ranking = report.rankings.iter().find(|r| r.signal == signal).unwrap();
            assert_eq!(ranking.order, ["good", "fair", "poor"], "{}", signal.name());
            assert_eq!(ranking.kendall_tau, Some(1.0));
            assert_eq!(ranking.top_1_regret, Some(0.0));
        }
        // The images are the same but for their scale, so no candidate knows them better.
        let knn = report.rankings.iter().find(|r| r.signal == Signal::KnnDistance).unwrap();
        assert_eq!(knn.order.len(), 3);
    }

    #[test]
    fn a_wrong_first_pick_costs_its_regret() {
        let report = |name: &str, total: f64, recall: f64| CandidateReport {
            name: name.to_owned(),
            dim: 1,
            signals: BTreeMap::from([(Signal::Total, total)]),
            recall: Some(TargetRecall { image_to_text: [recall; 3], text_to_image: [0.0; 3] }),
        };
        // Table 2 of the paper, Flowers: Flickr is best, COCO is picked.
        let reports = [
            report("coco", 11.83, 47.9),
            report("flickr", 13.55, 49.5),
            report("cub", 18.39, 37.7),
        ];
        let ranking = rank(&reports, Signal::Total, Modality::Image).unwrap();
        assert_eq!(ranking.order, ["coco", "flickr", "cub"]);
        assert!((ranking.top_1_regret.unwrap() - 1.6).abs() < 1e-9);
        assert!((ranking.kendall_tau.unwrap() - 1.0 / 3.0).abs() < 1e-9);
        // In the other direction all are equal: no order to agree with.
        assert_eq!(rank(&reports, Signal::Total, Modality::Text).unwrap().kendall_tau, None);
    }

    #[test]
    fn candidates_that_do_not_correspond_are_refused() {
        let device = ComputeDevice::cpu().device;
        let pairs = pairs(0.5, 1.0);
        let adapter = FirstNumber { spread: 0.1, dim: DIM };
        let refused = |change: &dyn Fn(&mut Candidate<'_>), word: &str| {
            let mut second = candidate("b", &pairs, &adapter);
            change(&mut second);
            let both = [candidate("a", &pairs, &adapter), second];
            let error = select(&both, Modality::Image, 1, 0, &device).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        refused(&|c| c.name = "a".to_owned(), "a twice");
        refused(&|c| c.items.truncate(DIM * 3), "3 for b");
        refused(&|c| c.others = None, "items to find");
        let alone = [candidate("a", &pairs, &adapter)];
        assert!(select(&alone, Modality::Image, 1, 0, &device).is_err());
        let wrong = select(
            &[candidate("a", &pairs, &adapter), candidate("b", &pairs, &adapter)],
            Modality::Text,
            1,
            0,
            &device,
        );
        assert!(wrong.unwrap_err().to_string().contains("expected one for text"));
    }
}
