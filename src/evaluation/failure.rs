//! Uncertainty as a detector of wrong answers, and as a reason to abstain.

use serde::{Deserialize, Serialize};

use super::error::check_at_least;
use super::estimate::Estimate;
use super::ranked::{Harmonic, Ranked};
use super::resampling::{Queries, bootstrap, estimate};
use super::{EvaluationError, risk_coverage_curve, selective_risk};

/// Points of the thinned risk-coverage curve at most.
const CURVE_POINTS: usize = 200;

/// How well an uncertainty tells wrong answers from right ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureDetection {
    /// Area under the ROC curve of "wrong" by uncertainty: 0.5 is chance, 1 ideal. `None` when all
    /// queries are right, or all wrong.
    pub auroc: Option<Estimate>,
    /// Share of right answers that are flagged when 95 % of the wrong ones are, lower is better.
    pub fpr95: Option<Estimate>,
    /// Area under the risk-coverage curve, lower is better.
    pub aurc: Estimate,
    /// AURC above that of the best order, lower is better.
    pub excess_aurc: Estimate,
    /// Recall@1 of the most certain share of the queries, per coverage.
    pub selective_recall: Vec<SelectiveRecall>,
    /// The risk-coverage curve, thinned to at most 200 points `[coverage, risk]`.
    pub curve: Vec<[f64; 2]>,
}

/// Recall@1 when only the most certain queries are answered.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SelectiveRecall {
    /// Share of queries answered.
    pub coverage: f64,
    pub recall: Estimate,
}

/// How [`failure_detection`] resamples and where it reads selective recall.
#[derive(Debug, Clone, PartialEq)]
pub struct FailureOptions {
    /// Bootstrap replicates behind the intervals, at least 1.
    pub bootstrap: usize,
    pub seed: u64,
    /// Shares of queries answered, each above 0 and up to 1.
    pub coverages: Vec<f64>,
}

impl FailureOptions {
    /// Selective recall at 80 and 90 % coverage.
    pub fn new(bootstrap: usize, seed: u64) -> Self {
        Self { bootstrap, seed, coverages: vec![0.8, 0.9] }
    }
}

/// AUROC and FPR95 of "the best match is wrong" by uncertainty (Hendrycks and Gimpel, ICLR 2017,
/// arXiv 1610.02136), AURC, excess AURC, and selective recall, with 95 % bootstrap intervals over
/// queries.
///
/// AUROC and FPR95 treat equal uncertainties alike; AURC and selective recall answer them in the
/// order of the slice. Replicates that hold right answers only, or wrong ones only, say nothing
/// about AUROC and FPR95 and are left out of their intervals. Selective recall at coverage c is
/// that of the c·N least uncertain queries, rounded, at least one.
///
/// # Errors
/// When there is no query, the lengths differ, an uncertainty is not finite, a coverage is not
/// above 0 and up to 1, or there is no replicate.
pub fn failure_detection<'a>(
    uncertainty: &[f64],
    queries: impl Into<Queries<'a>>,
    options: &FailureOptions,
) -> Result<FailureDetection, EvaluationError> {
    let queries = queries.into();
    queries.check()?;
    let hits = queries.hits;
    check_at_least("the number of bootstrap replicates", options.bootstrap, 1)?;
    if let Some(&found) = options.coverages.iter().find(|&&c| !(c > 0.0 && c <= 1.0)) {
        let expected = "a share above 0 and up to 1";
        return Err(EvaluationError::Setting { what: "a coverage", found, expected });
    }
    let ranked = Ranked::new(uncertainty, hits)?;
    let count = hits.len();
    let answered: Vec<usize> = options
        .coverages
        .iter()
        .map(|coverage| ((coverage * count as f64).round() as usize).max(1))
        .collect();
    let harmonic = Harmonic::new(count);
    let measure = |weights: &[u32]| Replicate {
        auroc: ranked.auroc(weights),
        fpr95: ranked.fpr95(weights),
        aurc: ranked.aurc(weights, &harmonic),
        recall: answered.iter().map(|&n| ranked.recall_of_first(weights, n)).collect(),
    };
    let found = measure(&vec![1; count]);
    let risk = selective_risk(uncertainty, hits)?;
    let replicates =
        bootstrap(queries, options.bootstrap, options.seed, Vec::new, |drawn, _, in_order| {
            ranked.gather(drawn, in_order);
            measure(in_order)
        });
    let whole = |value: f64, of: &dyn Fn(&Replicate) -> f64| {
        estimate(value, replicates.iter().map(of).collect(), [value; 2])
    };
    let partial = |value: Option<f64>, of: &dyn Fn(&Replicate) -> Option<f64>| {
        value.map(|value| estimate(value, replicates.iter().filter_map(of).collect(), [0.0, 1.0]))
    };
    let selective_recall = options.coverages.iter().zip(&found.recall).enumerate();
    Ok(FailureDetection {
        auroc: partial(found.auroc, &|r| r.auroc),
        fpr95: partial(found.fpr95, &|r| r.fpr95),
        aurc: whole(risk.aurc, &|r| r.aurc[0]),
        excess_aurc: whole(risk.excess_aurc, &|r| r.aurc[1]),
        selective_recall: selective_recall
            .map(|(i, (&coverage, &recall))| SelectiveRecall {
                coverage,
                recall: whole(recall, &|r| r.recall[i]),
            })
            .collect(),
        curve: thinned(&risk_coverage_curve(uncertainty, hits)?),
    })
}

/// The statistics of one replicate.
struct Replicate {
    auroc: Option<f64>,
    fpr95: Option<f64>,
    /// AURC and excess AURC.
    aurc: [f64; 2],
    /// One per coverage.
    recall: Vec<f64>,
}

/// Evenly spaced points `[coverage, risk]`, the last at full coverage.
fn thinned(risk: &[f64]) -> Vec<[f64; 2]> {
    let (count, points) = (risk.len(), risk.len().min(CURVE_POINTS));
    (1..=points)
        .map(|point| {
            let answered = point * count / points;
            [answered as f64 / count as f64, risk[answered - 1]]
        })
        .collect()
}

/// Chance that a random item of the marked ones has a larger value than a random one of the
/// others, ties counted one half: the area under the ROC curve.
///
/// # Errors
/// When there is no item, the lengths differ, a value is not finite, or all items are marked or
/// none.
pub fn auroc(values: &[f64], marked: &[bool]) -> Result<f64, EvaluationError> {
    let others: Vec<bool> = marked.iter().map(|marked| !marked).collect();
    let ranked = Ranked::new(values, &others)?;
    let found = if marked[0] { "marked" } else { "not marked" };
    ranked.auroc(&vec![1; values.len()]).ok_or(EvaluationError::OneClass { found })
}

#[cfg(test)]
mod tests {
    use rand::RngExt;

    use super::super::ranked::tests::table;
    use super::*;
    use crate::random::{Stream, generator};

    #[test]
    fn auroc_and_fpr95_are_those_of_scikit_learn() {
        // sklearn 1.9: roc_auc_score(~hit, u); fpr[argmax(tpr >= .95)] of roc_curve(~hit, u)
        let (uncertainty, hits) = table();
        let found = failure_detection(&uncertainty, &hits, &FailureOptions::new(300, 1)).unwrap();
        let (auroc, fpr95) = (found.auroc.unwrap(), found.fpr95.unwrap());
        assert!((auroc.value - 0.926_556_991_774_383_1).abs() < 1e-14, "{auroc:?}");
        assert!((fpr95.value - 0.243_243_243_243_243_26).abs() < 1e-14, "{fpr95:?}");
        // Hanley and McNeil (1982): standard error 0.037 for 23 wrong and 37 right answers.
        assert!((auroc.low - 0.854).abs() < 0.04 && auroc.high < 1.0, "{auroc:?}");
        assert!(auroc.low < auroc.value && auroc.value < auroc.high);
    }

    #[test]
    fn areas_and_selective_recall_follow_their_definitions() {
        let (uncertainty, hits) = ([0.1, 0.2, 0.3, 0.4, 0.5], [true, true, false, true, false]);
        let options =
            FailureOptions { coverages: vec![0.6, 0.8, 1.0], ..FailureOptions::new(50, 0) };
        let found = failure_detection(&uncertainty, &hits, &options).unwrap();
        // Risks 0, 0, 1/3, 1/4, 2/5; of the best order 0, 0, 0, 1/4, 2/5.
        assert!((found.aurc.value - (1.0 / 3.0 + 0.25 + 0.4) / 5.0).abs() < 1e-15);
        assert!((found.excess_aurc.value - 1.0 / 15.0).abs() < 1e-15);
        let recall: Vec<f64> = found.selective_recall.iter().map(|s| s.recall.value).collect();
        assert_eq!(recall, [2.0 / 3.0, 0.75, 0.6]);
        assert_eq!(found.auroc.unwrap().value, 5.0 / 6.0);
        // Both wrong ones are flagged from 0.3 on, which flags one of three right ones.
        assert_eq!(found.fpr95.unwrap().value, 1.0 / 3.0);
        assert_eq!(found.curve.len(), 5);
        assert_eq!(found.curve[4], [1.0, 0.4]);
        assert_eq!(found.curve[2], [0.6, 1.0 / 3.0]);
    }

    #[test]
    fn the_interval_of_noise_holds_one_half_nineteen_times_in_twenty() {
        let held = (0..300u64).filter(|&seed| {
            let mut rng = generator(seed, Stream::TrainingOrder, 0);
            let (uncertainty, hits): (Vec<f64>, Vec<bool>) =
                (0..200).map(|_| (rng.random::<f64>(), rng.random::<f64>() < 0.6)).unzip();
            let options = FailureOptions::new(300, seed);
            let auroc = failure_detection(&uncertainty, &hits, &options).unwrap().auroc.unwrap();
            auroc.low <= 0.5 && 0.5 <= auroc.high
        });
        // 285 expected, standard deviation 3.8
        let held = held.count();
        assert!((270..=296).contains(&held), "{held}");
    }

    #[test]
    fn one_uncertainty_for_all_is_chance() {
        let hits: Vec<bool> = (0..10).map(|i| i % 2 == 0).collect();
        let found = failure_detection(&[1.0; 10], &hits, &FailureOptions::new(100, 0)).unwrap();
        let auroc = found.auroc.unwrap();
        assert_eq!((auroc.value, auroc.low, auroc.high), (0.5, 0.5, 0.5));
        assert_eq!(found.fpr95.unwrap().value, 1.0);
    }

    #[test]
    fn one_class_has_no_auroc_and_still_a_risk() {
        let uncertainty: Vec<f64> = (0..500).map(f64::from).collect();
        let right = failure_detection(&uncertainty, &[true; 500], &FailureOptions::new(20, 0));
        let right = right.unwrap();
        assert!(right.auroc.is_none() && right.fpr95.is_none());
        assert_eq!((right.aurc.value, right.aurc.high), (0.0, 0.0));
        assert_eq!(right.curve.len(), 200);
        assert_eq!(right.curve[199], [1.0, 0.0]);
        let wrong = failure_detection(&uncertainty, &[false; 500], &FailureOptions::new(20, 0));
        let wrong = wrong.unwrap();
        assert!((wrong.aurc.low - 1.0).abs() < 1e-12 && wrong.excess_aurc.high < 1e-12);
        assert_eq!(wrong.selective_recall[0].recall.value, 0.0);
    }

    #[test]
    fn bad_input_is_refused() {
        let run = |u: &[f64], h: &[bool], options| failure_detection(u, h, &options);
        assert!(run(&[], &[], FailureOptions::new(1, 0)).is_err());
        assert!(run(&[f64::INFINITY], &[true], FailureOptions::new(1, 0)).is_err());
        assert!(run(&[1.0], &[true], FailureOptions::new(0, 0)).is_err());
        for bad in [0.0, 1.1, f64::NAN] {
            let options = FailureOptions { coverages: vec![bad], ..FailureOptions::new(1, 0) };
            assert!(matches!(run(&[1.0], &[true], options), Err(EvaluationError::Setting { .. })));
        }
    }
}
