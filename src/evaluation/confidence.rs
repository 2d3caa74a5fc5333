//! Calibration of a retrieval's confidence, and what temperature scaling makes of it.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::EvaluationError;
use super::calibration::{
    ReliabilityBin, expected_calibration_error, reliability_bins, upper_edges,
};
use super::error::{check_at_least, check_finite, check_pair};
use super::estimate::Estimate;
use super::resampling::{Queries, bootstrap, estimate};

/// Scales that [`fit_logit_scale`] looks at.
pub const LOGIT_SCALES: std::ops::RangeInclusive<f64> = 1e-2..=1e4;

/// Half a unit in ln scale: the first step of the search.
const FIRST_STEP: f64 = 0.5;
/// The search ends when ln scale is known to this.
const TOLERANCE: f64 = 1e-4;

/// How far confidences are from the share of right answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfidenceCalibration {
    /// What the logits are multiplied with before the softmax over the gallery.
    pub scale: f64,
    /// Expected calibration error, in `0..=1`.
    pub ece: Estimate,
    /// Mean squared difference of confidence and hit, in `0..=1`.
    pub brier: f64,
    /// Mean negative log of the probability given to the true item (or items), nats.
    pub nlpd: f64,
    pub bins: Vec<ReliabilityBin>,
}

/// What the softmax over a gallery says of one query.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GalleryProbability {
    /// Probability of the best match, in `0..=1`.
    pub confidence: f64,
    /// Summed probability of the relevant items, in `0..=1`.
    pub relevant: f64,
    /// Natural logarithm of that, also where the probability itself underflows.
    pub ln_relevant: f64,
}

/// Softmax of `scale` times the cosines of one query with the whole gallery.
///
/// `relevant` holds positions in the gallery, each once.
///
/// # Errors
/// When there is no gallery item or no relevant one, or a position lies outside of the gallery.
pub fn gallery_probability(
    cosines: &[f64],
    relevant: &[usize],
    scale: f64,
) -> Result<GalleryProbability, EvaluationError> {
    check_at_least("the number of gallery items", cosines.len(), 1)?;
    check_at_least("the number of relevant items", relevant.len(), 1)?;
    check_positions(relevant, cosines.len())?;
    Ok(softmax(cosines, relevant, scale))
}

fn check_positions(relevant: &[usize], count: usize) -> Result<(), EvaluationError> {
    match relevant.iter().find(|&&item| item >= count) {
        Some(&found) => Err(EvaluationError::UnknownId { what: "the relevant item", found, count }),
        None => Ok(()),
    }
}

/// Both sums are taken relative to their own largest term, so that none underflows as a whole.
fn softmax(cosines: &[f64], relevant: &[usize], scale: f64) -> GalleryProbability {
    let largest = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
    let best = largest(&mut cosines.iter().copied());
    let best_relevant = largest(&mut relevant.iter().map(|&item| cosines[item]));
    let total: f64 = cosines.iter().map(|cosine| (scale * (cosine - best)).exp()).sum();
    let own: f64 =
        relevant.iter().map(|&item| (scale * (cosines[item] - best_relevant)).exp()).sum();
    let ln_relevant = (scale * (best_relevant - best) + own.ln() - total.ln()).min(0.0);
    GalleryProbability { confidence: 1.0 / total, relevant: ln_relevant.exp(), ln_relevant }
}

/// Expected calibration error with a 95 % bootstrap interval over queries, Brier score and
/// negative log predictive density of a retrieval's confidence.
///
/// `confidence[i]` is the probability of query `i`'s best match, `hits[i]` whether that is right,
/// `true_probability[i]` the summed probability of its relevant items; `scale` is noted down as it
/// is. A true probability below the smallest normal f64 counts as that, 708 nats, so that one
/// query cannot make the mean infinite.
///
/// # Errors
/// When there is no query, the lengths differ, a confidence or probability is not in `0..=1`, or
/// there is no bin or replicate.
pub fn confidence_calibration<'a>(
    confidence: &[f64],
    queries: impl Into<Queries<'a>>,
    true_probability: &[f64],
    scale: f64,
    bins: usize,
    replicates: usize,
    seed: u64,
) -> Result<ConfidenceCalibration, EvaluationError> {
    let queries = queries.into();
    queries.check()?;
    let hits = queries.hits;
    check_at_least("the number of bootstrap replicates", replicates, 1)?;
    check_pair("the true probability", true_probability.len(), hits.len())?;
    if let Some(index) = true_probability.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(EvaluationError::Value {
            what: "the true probability",
            index,
            found: true_probability[index],
            expected: "a number from 0 to 1",
        });
    }
    let ece = expected_calibration_error(confidence, hits, bins)?;
    let count = hits.len() as f64;
    let edges = upper_edges(bins);
    let bin_of: Vec<usize> =
        confidence.iter().map(|&c| edges.partition_point(|&edge| edge < c)).collect();
    // Of each query confidence - hit: the error of a bin is the size of their sum.
    let excess: Vec<f64> =
        confidence.iter().zip(hits).map(|(c, &hit)| c - f64::from(u8::from(hit))).collect();
    let values = bootstrap(
        queries,
        replicates,
        seed,
        || vec![0.0; bins],
        |drawn, _, sums| {
            sums.fill(0.0);
            for ((&weight, &bin), &excess) in drawn.iter().zip(&bin_of).zip(&excess) {
                sums[bin] += f64::from(weight) * excess;
            }
            sums.iter().map(|sum| sum.abs()).sum::<f64>() / count
        },
    );
    let nlpd = true_probability.iter().map(|p| -p.max(f64::MIN_POSITIVE).ln()).sum::<f64>();
    Ok(ConfidenceCalibration {
        scale,
        ece: estimate(ece, values, [0.0, 1.0]),
        brier: excess.iter().map(|e| e * e).sum::<f64>() / count,
        nlpd: nlpd / count,
        bins: reliability_bins(confidence, hits, bins)?,
    })
}

/// Temperature scaling (Guo et al., arXiv 1706.04599, section 4.2): the logit scale with the
/// smallest negative log predictive density, the mean over queries of -ln of the summed
/// probability of their relevant items.
///
/// `cosines[i]` are those of query `i` with the whole gallery, `relevant[i]` the positions of its
/// relevant items. The search is over ln scale: steps of growing size from `start` until the
/// density no longer improves, then golden-section search to 1e-4. It ends at a bound of
/// [`LOGIT_SCALES`] where the density improves up to there, and where all queries are right
/// anywhere that they are so with probability 1 in f64.
///
/// # Errors
/// When there is no query, the lengths differ, a query has no relevant item or one outside of the
/// gallery, a cosine is not finite, or `start` is not in [`LOGIT_SCALES`].
pub fn fit_logit_scale(
    cosines: &[Vec<f64>],
    relevant: &[Vec<usize>],
    start: f64,
) -> Result<f64, EvaluationError> {
    check_pair("the list of relevant items", relevant.len(), cosines.len())?;
    if !LOGIT_SCALES.contains(&start) {
        let expected = "a number from 0.01 to 10000";
        return Err(EvaluationError::Setting { what: "the logit scale", found: start, expected });
    }
    for (query, (cosines, relevant)) in cosines.iter().zip(relevant).enumerate() {
        check_finite("the cosines", cosines)?;
        check_positions(relevant, cosines.len())?;
        if relevant.is_empty() {
            return Err(EvaluationError::NoRelevant { query });
        }
    }
    let nlpd = |ln_scale: f64| {
        let scale = ln_scale.exp();
        let terms: Vec<f64> = cosines
            .par_iter()
            .zip(relevant)
            .map(|(cosines, relevant)| -softmax(cosines, relevant, scale).ln_relevant)
            .collect();
        terms.iter().sum::<f64>() / terms.len() as f64
    };
    let bounds = [LOGIT_SCALES.start().ln(), LOGIT_SCALES.end().ln()];
    Ok(minimise(nlpd, start.ln(), bounds).exp())
}

/// The place of a minimum of `f` within `bounds`: bracketed by steps that double from `start`,
/// then golden-section search (Kiefer, 1953).
fn minimise(f: impl Fn(f64) -> f64, start: f64, [low, high]: [f64; 2]) -> f64 {
    let at_start = f(start);
    let up = (start + FIRST_STEP).min(high);
    let at_up = f(up);
    let (direction, bound) = if at_up < at_start { (1.0, high) } else { (-1.0, low) };
    // `best` is the lowest point so far, `behind` one that is not lower on its other side.
    let (mut behind, mut best, mut at_best) =
        if direction > 0.0 { (start, up, at_up) } else { (up, start, at_start) };
    let mut step = FIRST_STEP;
    let mut ahead = best;
    while ahead != bound {
        ahead = (best + direction * step).clamp(low, high);
        let at_ahead = f(ahead);
        if at_ahead >= at_best {
            break;
        }
        (behind, best, at_best) = (best, ahead, at_ahead);
        step *= 2.0;
    }
    golden_section(f, behind.min(ahead), behind.max(ahead))
}

/// Narrows an interval that holds a minimum to [`TOLERANCE`].
fn golden_section(f: impl Fn(f64) -> f64, mut low: f64, mut high: f64) -> f64 {
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut left, mut right) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_left, mut at_right) = (f(left), f(right));
    while high - low > TOLERANCE {
        if at_left <= at_right {
            (high, right, at_right) = (right, left, at_left);
            left = high - ratio * (high - low);
            at_left = f(left);
        } else {
            (low, left, at_left) = (left, right, at_right);
            right = low + ratio * (high - low);
            at_right = f(right);
        }
    }
    (low + high) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> (Vec<Vec<f64>>, Vec<Vec<usize>>) {
        let cosines = [[0.9, 0.5, 0.2], [0.3, 0.4, 0.35], [0.1, 0.6, 0.7], [0.55, 0.5, 0.6]];
        let relevant = vec![vec![0], vec![0, 2], vec![2], vec![1]];
        (cosines.map(|row| row.to_vec()).to_vec(), relevant)
    }

    #[test]
    fn the_fitted_scale_is_that_of_scipy_from_any_start() {
        // scipy.optimize.minimize_scalar(bounded, xatol=1e-10) of the mean of
        // -ln(softmax(exp(s) C)[relevant].sum()): exp(s) = 5.880503843, 0.63942103 nats
        let (cosines, relevant) = small();
        for start in [0.01, 1.0, 5.0, 100.0, 1e4] {
            let scale = fit_logit_scale(&cosines, &relevant, start).unwrap();
            assert!((scale / 5.880_503_843 - 1.0).abs() < 2e-4, "{start}: {scale}");
        }
        let nlpd = cosines
            .iter()
            .zip(&relevant)
            .map(|(c, r)| -gallery_probability(c, r, 5.880_503_842_946_338).unwrap().relevant.ln());
        assert!((nlpd.sum::<f64>() / 4.0 - 0.639_421_027_999_904).abs() < 1e-12);
    }

    #[test]
    fn where_all_queries_are_right_or_wrong_the_search_still_ends() {
        let (cosines, relevant) = ([vec![0.9, 0.1], vec![0.2, 0.3]], [vec![0], vec![1]]);
        let scale = fit_logit_scale(&cosines, &relevant, 10.0).unwrap();
        let own = gallery_probability(&cosines[1], &relevant[1], scale).unwrap();
        assert!(own.relevant > 1.0 - 1e-12 && LOGIT_SCALES.contains(&scale), "{scale}");
        let close = [vec![0.5, 0.5001]];
        assert!(fit_logit_scale(&close, &[vec![1]], 10.0).unwrap() > 0.999e4);
        let always_wrong =
            fit_logit_scale(&[vec![0.9, 0.1], vec![0.2, 0.3]], &[vec![1], vec![0]], 10.0);
        assert!(always_wrong.unwrap() < 0.01001);
    }

    #[test]
    fn probabilities_beyond_the_range_of_f64_keep_their_logarithm() {
        let found = gallery_probability(&[1.0, -1.0], &[1], 1e3).unwrap();
        assert_eq!((found.confidence, found.relevant), (1.0, 0.0));
        assert_eq!(found.ln_relevant, -2000.0);
        let all = gallery_probability(&[0.3, 0.3], &[0, 1], 50.0).unwrap();
        assert_eq!((all.confidence, all.relevant), (0.5, 1.0));
    }

    #[test]
    fn scores_follow_their_definitions() {
        let (confidence, hits) = ([0.9, 0.8, 0.6, 0.2], [true, true, false, false]);
        let own = [0.9, 0.8, 0.3, 0.0];
        let found = confidence_calibration(&confidence, &hits, &own, 100.0, 2, 500, 1).unwrap();
        // Bins (0, .5] and (.5, 1]: (.2 + |2.3 - 2|) / 4
        assert!((found.ece.value - 0.5 / 4.0).abs() < 1e-15);
        assert!((found.brier - (0.01 + 0.04 + 0.36 + 0.04) / 4.0).abs() < 1e-15);
        let tiny = f64::MIN_POSITIVE.ln();
        let expected = -(0.9f64.ln() + 0.8f64.ln() + 0.3f64.ln() + tiny) / 4.0;
        assert!((found.nlpd - expected).abs() < 1e-12);
        assert!(found.ece.low <= found.ece.value && found.ece.value <= found.ece.high);
        assert_eq!((found.scale, found.bins.len()), (100.0, 2));
    }

    #[test]
    fn bad_input_is_refused() {
        let run = |c: &[f64], h: &[bool], p: &[f64], bins, n| {
            confidence_calibration(c, h, p, 1.0, bins, n, 0)
        };
        assert!(run(&[], &[], &[], 5, 5).is_err());
        assert!(run(&[0.5], &[true], &[], 5, 5).is_err());
        assert!(run(&[0.5], &[true], &[1.5], 5, 5).is_err());
        assert!(run(&[f64::NAN], &[true], &[0.5], 5, 5).is_err());
        assert!(run(&[0.5], &[true], &[0.5], 0, 5).is_err());
        assert!(run(&[0.5], &[true], &[0.5], 5, 0).is_err());
        let (cosines, relevant) = small();
        assert!(fit_logit_scale(&cosines, &relevant, 0.0).is_err());
        assert!(fit_logit_scale(&cosines, &relevant[1..], 1.0).is_err());
        assert!(fit_logit_scale(&[], &[], 1.0).is_err());
        let none = fit_logit_scale(&cosines[..1], &[vec![]], 1.0);
        assert_eq!(none, Err(EvaluationError::NoRelevant { query: 0 }));
        assert!(fit_logit_scale(&cosines[..1], &[vec![3]], 1.0).is_err());
        assert!(fit_logit_scale(&[vec![f64::NAN]], &[vec![0]], 1.0).is_err());
        assert!(gallery_probability(&[], &[], 1.0).is_err());
    }
}
