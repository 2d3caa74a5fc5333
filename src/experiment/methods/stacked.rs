//! Several signals in one: the chance of a wrong answer by logistic regression on the validation
//! pairs, where the right answers are known.
//!
//! It is the upper anchor of what the signals say together (failure heads such as ViLU, arXiv
//! 2507.07620, learn the same with networks). The only method here that has seen which answers were
//! right, on pairs that are no part of any test set.

use std::sync::Arc;

use faer::Mat;
use faer::linalg::solvers::Solve;

use crate::encoder::Modality;
use crate::experiment::method::{FittedMethod, Scores};
use crate::experiment::retrieval::{Retrieval, RetrievalPair};
use crate::experiment::{EmbeddedPairs, ExperimentError};

/// Cosine distance, margin to the second best, gallery entropy, and the logarithm of ProbVLM's
/// uncertainty.
const SIGNALS: usize = 4;
/// Ridge penalty on standardised coefficients, in observations: validation sets can be small.
const PENALTY: f64 = 5.0;
/// Newton steps; a penalised logistic regression needs fewer.
const STEPS: usize = 50;

/// A regression per direction over the signals of `base`.
pub struct Stacked {
    base: Arc<dyn FittedMethod>,
    image: Logistic,
    text: Logistic,
}

impl Stacked {
    /// Fits both directions on the validation pairs.
    ///
    /// # Errors
    /// When the base method fails, or all validation queries are right, or all wrong.
    pub fn fit(
        base: Arc<dyn FittedMethod>,
        validation: &EmbeddedPairs,
    ) -> Result<Self, ExperimentError> {
        let retrieval = RetrievalPair::of(validation)?;
        let side = |modality| {
            let found = retrieval.asking(modality);
            let uncertainty = base.score(validation, &retrieval, modality)?.total;
            let wrong: Vec<bool> = found.hits().into_iter().map(|hit| !hit).collect();
            Logistic::fit(&signals(found, &uncertainty), &wrong).ok_or_else(|| {
                validation.unusable(format!(
                    "all {} {modality} queries of the validation pairs have the same outcome, so \
                     nothing tells right answers from wrong ones",
                    wrong.len()
                ))
            })
        };
        let (image, text) = (side(Modality::Image)?, side(Modality::Text)?);
        Ok(Self { base, image, text })
    }
}

impl FittedMethod for Stacked {
    fn score(
        &self,
        pairs: &EmbeddedPairs,
        retrieval: &RetrievalPair,
        modality: Modality,
    ) -> Result<Scores, ExperimentError> {
        let uncertainty = self.base.score(pairs, retrieval, modality)?.total;
        let regression = match modality {
            Modality::Image => &self.image,
            Modality::Text => &self.text,
        };
        let signals = signals(retrieval.asking(modality), &uncertainty);
        Ok(Scores::whole(signals.iter().map(|row| regression.probability(row)).collect()))
    }
}

fn signals(found: &Retrieval, uncertainty: &[f64]) -> Vec<[f64; SIGNALS]> {
    let row = |i: usize| {
        let hits = &found.best[i];
        let (first, second) = (hits[0].score, hits.get(1).map_or(-1.0, |hit| hit.score));
        let smallest = f64::MIN_POSITIVE;
        [1.0 - first, second - first, found.softmax.entropy[i], uncertainty[i].max(smallest).ln()]
    };
    (0..found.len()).map(row).collect()
}

/// Ridge logistic regression on standardised signals.
#[derive(Debug, Clone)]
struct Logistic {
    mean: [f64; SIGNALS],
    deviation: [f64; SIGNALS],
    /// The intercept first.
    coefficients: [f64; SIGNALS + 1],
}

impl Logistic {
    /// `None` when all outcomes are the same.
    fn fit(rows: &[[f64; SIGNALS]], wrong: &[bool]) -> Option<Self> {
        if !(wrong.contains(&true) && wrong.contains(&false)) {
            return None;
        }
        let count = rows.len() as f64;
        let mean: [f64; SIGNALS] =
            std::array::from_fn(|s| rows.iter().map(|row| row[s]).sum::<f64>() / count);
        let deviation = std::array::from_fn(|s| {
            let variance = rows.iter().map(|row| (row[s] - mean[s]).powi(2)).sum::<f64>() / count;
            // A signal that never varies says nothing, whatever its coefficient.
            if variance > 0.0 { variance.sqrt() } else { 1.0 }
        });
        let mut regression = Self { mean, deviation, coefficients: [0.0; SIGNALS + 1] };
        for _ in 0..STEPS {
            let mut gradient = Mat::<f64>::zeros(SIGNALS + 1, 1);
            let mut hessian = Mat::<f64>::zeros(SIGNALS + 1, SIGNALS + 1);
            for (row, &wrong) in rows.iter().zip(wrong) {
                let x = regression.standardised(row);
                let p = regression.probability(row);
                for i in 0..=SIGNALS {
                    gradient[(i, 0)] += (p - f64::from(u8::from(wrong))) * x[i];
                    for j in 0..=SIGNALS {
                        hessian[(i, j)] += p * (1.0 - p) * x[i] * x[j];
                    }
                }
            }
            for i in 1..=SIGNALS {
                gradient[(i, 0)] += PENALTY * regression.coefficients[i];
                hessian[(i, i)] += PENALTY;
            }
            // The intercept alone could be flat where every answer is certain.
            hessian[(0, 0)] += 1e-9;
            let step = hessian.partial_piv_lu().solve(&gradient);
            let mut longest = 0f64;
            for (i, coefficient) in regression.coefficients.iter_mut().enumerate() {
                *coefficient -= step[(i, 0)];
                longest = longest.max(step[(i, 0)].abs());
            }
            if longest < 1e-10 {
                break;
            }
        }
        Some(regression)
    }

    fn standardised(&self, row: &[f64; SIGNALS]) -> [f64; SIGNALS + 1] {
        std::array::from_fn(|i| match i {
            0 => 1.0,
            _ => (row[i - 1] - self.mean[i - 1]) / self.deviation[i - 1],
        })
    }

    /// Chance that the answer is wrong.
    fn probability(&self, row: &[f64; SIGNALS]) -> f64 {
        let x = self.standardised(row);
        let logit: f64 = x.iter().zip(&self.coefficients).map(|(x, c)| x * c).sum();
        1.0 / (1.0 + (-logit).exp())
    }
}

#[cfg(test)]
mod tests {
    use rand::RngExt;
    use rand_distr::{Distribution, StandardNormal};

    use super::*;
    use crate::random::{Stream, generator};

    #[test]
    fn the_regression_finds_the_coefficients_that_drew_the_outcomes() {
        let mut rng = generator(5, Stream::Resampling, 0);
        let truth = [1.0, 0.0, -0.5, 0.0];
        let (mut rows, mut wrong) = (Vec::new(), Vec::new());
        for _ in 0..20_000 {
            let row: [f64; SIGNALS] = std::array::from_fn(|s| {
                let x: f64 = StandardNormal.sample(&mut rng);
                3.0 + x * (s + 1) as f64
            });
            let standardised = |s: usize| (row[s] - 3.0) / (s + 1) as f64;
            let logit: f64 = -1.0 + (0..SIGNALS).map(|s| truth[s] * standardised(s)).sum::<f64>();
            wrong.push(rng.random::<f64>() < 1.0 / (1.0 + (-logit).exp()));
            rows.push(row);
        }
        let found = Logistic::fit(&rows, &wrong).unwrap();
        assert!((found.coefficients[0] + 1.0).abs() < 0.08, "{found:?}");
        for (found, truth) in found.coefficients[1..].iter().zip(truth) {
            assert!((found - truth).abs() < 0.08, "{found} {truth}");
        }
        let mean = rows.iter().map(|row| found.probability(row)).sum::<f64>() / 20_000.0;
        let share = wrong.iter().filter(|&&w| w).count() as f64 / 20_000.0;
        assert!((mean - share).abs() < 1e-6, "{mean} {share}");
    }

    #[test]
    fn a_constant_signal_and_separable_outcomes_stay_finite_and_one_outcome_is_refused() {
        let rows: Vec<[f64; SIGNALS]> = (0..10).map(|i| [f64::from(i), 1.0, 1.0, 1.0]).collect();
        let wrong: Vec<bool> = (0..10).map(|i| i >= 5).collect();
        let found = Logistic::fit(&rows, &wrong).unwrap();
        assert!(found.coefficients.iter().all(|c| c.is_finite()));
        assert!(found.probability(&rows[9]) > 0.7 && found.probability(&rows[0]) < 0.3);
        assert!(Logistic::fit(&rows, &[true; 10]).is_none());
    }
}
