//! Whether the densities of an epoch hold the share of the targets that they should.
//!
//! In: raw head outputs and targets in the working space. Out: a histogram of probability integral
//! transforms and the coverage of central intervals. Both are the same in the raw space, since the
//! way there is monotone in every dimension.

use rayon::prelude::*;

use crate::adapter::loss::{HeadValues, Loss, SMALLEST_INVERSE_ALPHA};
use crate::distribution::GeneralizedGaussian;

/// Nominal shares of the central intervals.
pub const COVERAGES: [f64; 3] = [0.5, 0.8, 0.95];
/// Bins of the histogram.
pub const PIT_BINS: usize = 20;
/// Held-out items, evenly spread, that are looked at.
pub(super) const CALIBRATION_ITEMS: usize = 2000;
/// Transforms that are evaluated: with more dimensions than this leaves for every item, the items
/// take turns in the dimensions they are looked at in. Their shares are then known to about half a
/// percent, which is what a plot shows.
const CALIBRATION_POINTS: usize = 1 << 17;
/// Elements of a parallel task.
const CHUNK: usize = 4096;

/// Counts of probability integral transforms.
#[derive(Debug, Clone)]
pub(super) struct Calibration {
    bins: [u64; PIT_BINS],
    inside: [u64; COVERAGES.len()],
    count: u64,
    /// Every how many elements one is looked at.
    stride: usize,
}

impl Calibration {
    /// For at most this many elements (items times dimensions).
    pub fn new(elements: usize) -> Self {
        let mut stride = elements.div_ceil(CALIBRATION_POINTS).max(1);
        // An odd stride visits all dimensions where their number is a power of two.
        stride += usize::from(stride.is_multiple_of(2));
        Self { bins: [0; PIT_BINS], inside: [0; COVERAGES.len()], count: 0, stride }
    }

    /// Adds held-out targets, `[N, D]` as the head outputs. Densities that are no densities
    /// (outputs that are not finite) are left out.
    pub fn add(&mut self, heads: &HeadValues, targets: &[f32], loss: &Loss) {
        let indices: Vec<usize> = (0..targets.len()).step_by(self.stride).collect();
        let parts: Vec<Vec<f64>> = indices
            .par_chunks(CHUNK)
            .map(|chunk| {
                let transform = |&i: &usize| {
                    let link = |x: f32| f64::from(loss.link.apply(x));
                    let alpha = (link(heads.inverse_alpha[i]) + SMALLEST_INVERSE_ALPHA).recip();
                    let beta =
                        loss.fixed_beta.unwrap_or_else(|| link(heads.beta[i]) + loss.smallest_beta);
                    let mu = f64::from(heads.mu[i]);
                    let density = GeneralizedGaussian::new(mu, alpha, beta).ok()?;
                    Some(density.cdf(f64::from(targets[i]))).filter(|u| u.is_finite())
                };
                chunk.iter().filter_map(transform).collect()
            })
            .collect();
        for u in parts.into_iter().flatten() {
            let bin = (u * PIT_BINS as f64) as usize;
            self.bins[bin.min(PIT_BINS - 1)] += 1;
            self.count += 1;
            for (inside, coverage) in self.inside.iter_mut().zip(COVERAGES) {
                *inside += u64::from((2.0 * u - 1.0).abs() <= coverage);
            }
        }
    }

    /// The coverage of each of [`COVERAGES`] and the share of each bin; `None` without a transform.
    pub fn shares(&self) -> Option<([f64; COVERAGES.len()], Vec<f64>)> {
        if self.count == 0 {
            return None;
        }
        let share = |n: u64| n as f64 / self.count as f64;
        Some((self.inside.map(share), self.bins.iter().map(|&n| share(n)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::loss::Link;
    use crate::random::{Stream, standard_normal};

    /// Heads that say N(0, σ²) for every element.
    fn gaussian_heads(sigma: f32, len: usize) -> HeadValues {
        let inverse_alpha = Link::Softplus.inverse(1.0 / (std::f32::consts::SQRT_2 * sigma));
        HeadValues {
            mu: vec![0.0; len],
            inverse_alpha: vec![inverse_alpha; len],
            beta: vec![Link::Softplus.inverse(1.5); len],
        }
    }

    #[test]
    fn right_densities_cover_their_share_and_narrow_ones_less() {
        let targets = standard_normal(1, Stream::Resampling, 0, 40_000);
        let coverage = |sigma| {
            let mut calibration = Calibration::new(targets.len());
            calibration.add(&gaussian_heads(sigma, targets.len()), &targets, &Loss::PAPER);
            calibration.shares().unwrap()
        };
        let (right, pit) = coverage(1.0);
        for (found, expected) in right.iter().zip(COVERAGES) {
            // Five standard errors of a share of 40,000.
            assert!((found - expected).abs() < 0.0125, "{right:?}");
        }
        assert!(pit.iter().all(|p| (p - 0.05).abs() < 0.0055), "{pit:?}");
        assert!((pit.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        // A central interval of N(0, 1/4) of 50 % ends at 0.337: 26.4 % of N(0, 1).
        let (narrow, pit) = coverage(0.5);
        assert!((narrow[0] - 0.264).abs() < 0.0125, "{narrow:?}");
        assert!(pit[0] > 0.1 && pit[19] > 0.1, "{pit:?}");
    }

    #[test]
    fn a_fixed_shape_counts_in_place_of_the_head() {
        let targets = standard_normal(1, Stream::Resampling, 0, 20_000);
        let mut calibration = Calibration::new(targets.len());
        let mut heads = gaussian_heads(1.0, targets.len());
        heads.beta.fill(40.0);
        let loss = Loss { fixed_beta: Some(2.0), ..Loss::PAPER };
        calibration.add(&heads, &targets, &loss);
        assert!((calibration.shares().unwrap().0[1] - 0.8).abs() < 0.0125);
        heads.mu.fill(f32::NAN);
        let mut nothing = Calibration::new(targets.len());
        nothing.add(&heads, &targets, &loss);
        assert!(nothing.shares().is_none());
    }

    #[test]
    fn a_large_set_is_thinned_to_a_bounded_number_in_all_dimensions() {
        let (items, dim) = (2000, 512);
        let mut calibration = Calibration::new(items * dim);
        assert!(calibration.stride % 2 == 1);
        calibration.add(&gaussian_heads(1.0, items * dim), &vec![0.1; items * dim], &Loss::PAPER);
        assert!((1..=CALIBRATION_POINTS as u64).contains(&calibration.count));
    }
}
