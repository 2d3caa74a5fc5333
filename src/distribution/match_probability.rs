//! Probability that two embeddings match, from their distance.

use super::DistributionError;
use super::error::check_length;

/// The learned map from a distance to the probability of a match, sigmoid(-scale d + shift):
/// PCME (arXiv 2101.05068) applies it to the distance of two samples, PCME++
/// (arXiv 2305.18171) to the closed-form sampled distance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MatchProbability {
    /// a of the papers; positive for a match probability that falls with the distance.
    pub scale: f64,
    /// b of the papers.
    pub shift: f64,
}

impl MatchProbability {
    /// Probability in `0..=1` at one distance. Small probabilities keep their relative accuracy.
    pub fn at(&self, distance: f64) -> f64 {
        1.0 / (1.0 + (self.scale * distance - self.shift).exp())
    }
}

/// PCME's soft match probability: the mean over all pairs of a sample of each side, with the
/// Euclidean distance of the pair. Samples are `[J, D]`; the counts of both sides may differ.
///
/// # Errors
/// When a side has no sample, or a sample has another number of dimensions than the first.
pub fn sampled_match_probability(
    samples: &[Vec<f64>],
    others: &[Vec<f64>],
    probability: MatchProbability,
) -> Result<f64, DistributionError> {
    let (Some(first), Some(_)) = (samples.first(), others.first()) else {
        return Err(DistributionError::Empty { name: "one side of the match", of: "sample" });
    };
    for sample in samples.iter().chain(others) {
        check_length("a sample", sample.len(), first.len())?;
    }
    let distance =
        |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
    let pairs = samples.iter().flat_map(|a| others.iter().map(move |b| distance(a, b)));
    let sum: f64 = pairs.map(|d| probability.at(d)).sum();
    Ok(sum / (samples.len() * others.len()) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sigmoid_neither_overflows_nor_loses_small_probabilities() {
        let p = MatchProbability { scale: 2.0, shift: 1.0 };
        assert_eq!(p.at(0.5), 0.5);
        assert!((p.at(100.0) / (-199f64).exp() - 1.0).abs() < 1e-14);
        assert_eq!(p.at(1e300), 0.0);
        assert_eq!(p.at(-1e300), 1.0);
        assert!((p.at(0.0) + p.at(1.0) - 1.0).abs() < 1e-15);
    }

    #[test]
    fn every_pair_of_samples_counts_once() {
        let p = MatchProbability { scale: 1.0, shift: 3.0 };
        let (a, b) = (vec![vec![0.0, 0.0], vec![3.0, 4.0]], vec![vec![0.0, 0.0]]);
        let expected = (p.at(0.0) + p.at(5.0)) / 2.0;
        assert!((sampled_match_probability(&a, &b, p).unwrap() - expected).abs() < 1e-15);
        assert!((sampled_match_probability(&b, &a, p).unwrap() - expected).abs() < 1e-15);
    }

    #[test]
    fn missing_or_misshapen_samples_are_refused() {
        let p = MatchProbability { scale: 1.0, shift: 0.0 };
        let (one, two) = (vec![vec![0.0]], vec![vec![0.0, 1.0]]);
        assert!(matches!(
            sampled_match_probability(&[], &one, p),
            Err(DistributionError::Empty { .. })
        ));
        assert!(matches!(
            sampled_match_probability(&one, &two, p),
            Err(DistributionError::Length { .. })
        ));
    }
}
