//! The two densities on the unit sphere that AsymVLM predicts, in f64 on the host: normalisers
//! with their derivatives, and moments.
//!
//! Both have a mean direction μ `[D]` and a concentration κ >= 0; κ = 0 is the uniform density.

use crate::adapter::gamma::ln_gamma_and_digamma_1p;

/// Steps of the downward recurrence for a ratio of Bessel functions: at least, and at most.
const RECURRENCE_STEPS: [usize; 2] = [64, 1 << 14];

/// A family of densities on the sphere in R^D.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spherical {
    /// `C(κ) exp(κ μ·x)`.
    VonMisesFisher,
    /// `C(κ) (1 + μ·x)^κ` (De Cao and Aziz, arXiv 2006.04437).
    Power,
}

/// Moments of `t = μ·x`, the part of a draw along the mean direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// E t: the length of the mean of x.
    pub mean: f64,
    /// Var t.
    pub along: f64,
    /// Variance of x in any direction across μ.
    pub across: f64,
}

impl Moments {
    /// Variance of one coordinate of x, for the mean direction's coordinate `mu` there.
    pub fn variance(&self, mu: f64) -> f64 {
        self.across + (self.along - self.across) * mu * mu
    }
}

impl Spherical {
    /// `ln C(κ) - ln C(0)` in nats and its derivative, for D >= 3. The constant that is left out
    /// cancels in every comparison of densities in one dimension.
    ///
    /// von Mises-Fisher: `v ln κ - ln I_v(κ)` with v = D/2 - 1 by the uniform expansion of the
    /// Bessel function for large orders (NIST DLMF 10.41.3) up to the fourth term: its error is
    /// below 1e-4 nats for D = 8, 2e-6 for 16 and 1e-9 from 64 on. The difference to κ = 0 is
    /// formed term by term, so nothing cancels. Power spherical: ln Γ in closed form.
    pub fn log_normaliser(self, dim: usize, kappa: f64) -> (f64, f64) {
        match self {
            Spherical::VonMisesFisher => {
                let v = order(dim);
                let s = v.hypot(kappa);
                // s - v, without cancellation.
                let rise = kappa * kappa / (s + v);
                let value = v * (rise / (2.0 * v)).ln_1p() - rise + 0.5 * (rise / v).ln_1p()
                    - (expansion(v, v / s) / expansion(v, 1.0)).ln();
                (value, -bessel_ratio(v, kappa))
            }
            Spherical::Power => {
                let beta = (dim as f64 - 1.0) / 2.0;
                let terms = |kappa: f64| {
                    let alpha = beta + kappa;
                    let (lower, slope_lower) = ln_gamma_and_digamma(alpha);
                    let (upper, slope_upper) = ln_gamma_and_digamma(alpha + beta);
                    (upper - lower - kappa * std::f64::consts::LN_2, slope_upper - slope_lower)
                };
                let ((value, slope), (uniform, _)) = (terms(kappa), terms(0.0));
                (value - uniform, slope - std::f64::consts::LN_2)
            }
        }
    }

    /// The moments of a draw.
    ///
    /// von Mises-Fisher: `E t = A(κ) = I_{D/2}(κ) / I_{D/2 - 1}(κ)` and
    /// `Var t = 1 - A² - (D - 1) A / κ` (Mardia and Jupp, Directional Statistics, section 9.3).
    /// Power spherical: `t = 2 z - 1` with z from `Beta((D - 1)/2 + κ, (D - 1)/2)`.
    pub fn moments(self, dim: usize, kappa: f64) -> Moments {
        let across_dims = dim as f64 - 1.0;
        let (mean, along) = match self {
            Spherical::VonMisesFisher => {
                let mean = bessel_ratio(order(dim), kappa);
                // A / κ tends to 1 / D.
                let ratio = if kappa > 0.0 { mean / kappa } else { 1.0 / dim as f64 };
                (mean, 1.0 - mean * mean - across_dims * ratio)
            }
            Spherical::Power => {
                let (alpha, beta) = (across_dims / 2.0 + kappa, across_dims / 2.0);
                let sum = alpha + beta;
                let along = 4.0 * alpha * beta / (sum * sum * (sum + 1.0));
                (kappa / sum, along)
            }
        };
        let along = along.max(0.0);
        // E |x|² = 1.
        let across = ((1.0 - mean * mean - along) / across_dims).max(0.0);
        Moments { mean, along, across }
    }
}

/// v = D/2 - 1.
fn order(dim: usize) -> f64 {
    dim as f64 / 2.0 - 1.0
}

/// `1 + u1(t)/v + u2(t)/v² + u3(t)/v³ + u4(t)/v⁴` with the polynomials of NIST DLMF 10.41.10.
fn expansion(v: f64, t: f64) -> f64 {
    let t2 = t * t;
    let u1 = t * (3.0 - 5.0 * t2) / 24.0;
    let u2 = t2 * (81.0 - t2 * (462.0 - 385.0 * t2)) / 1152.0;
    let u3 = t * t2 * (30375.0 - t2 * (369_603.0 - t2 * (765_765.0 - 425_425.0 * t2))) / 414_720.0;
    let u4 = t2
        * t2
        * (4_465_125.0
            - t2 * (94_121_676.0
                - t2 * (349_922_430.0 - t2 * (446_185_740.0 - 185_910_725.0 * t2))))
        / 39_813_120.0;
    1.0 + (u1 + (u2 + (u3 + u4 / v) / v) / v) / v
}

/// `I_{v+1}(κ) / I_v(κ)` by the downward recurrence `1 / r_v = 2 (v + 1) / κ + r_{v+1}`, begun
/// with Amos' bound (Mathematics of Computation 28, 1974, equation 11). Errors shrink in every
/// step by r².
fn bessel_ratio(v: f64, kappa: f64) -> f64 {
    if kappa == 0.0 {
        return 0.0;
    }
    // The ratio is about 1 - v / κ for a large κ, where errors shrink slowly.
    let [least, most] = RECURRENCE_STEPS;
    let steps = (least + (kappa / 8.0) as usize).min(most);
    let last = v + steps as f64;
    let mut ratio = kappa / (last + 0.5 + (last + 1.5).hypot(kappa));
    for step in (0..steps).rev() {
        ratio = kappa / (2.0 * (v + step as f64 + 1.0) + kappa * ratio);
    }
    ratio
}

/// `(ln Γ(x), ψ(x))` for x >= 1.
fn ln_gamma_and_digamma(x: f64) -> (f64, f64) {
    ln_gamma_and_digamma_1p(x - 1.0)
}

#[cfg(test)]
mod tests {
    use rand_distr::{Beta, Distribution};
    use statrs::function::gamma::{digamma, ln_gamma};

    use super::*;
    use crate::random::{Stream, generator, standard_normal};

    /// (D, κ, ln C(κ) - ln C(0), I_{D/2}(κ) / I_{D/2-1}(κ)) by mpmath with 40 digits.
    const VON_MISES_FISHER: [(usize, f64, f64, f64); 8] = [
        (16, 0.5, -0.007_809_112_685_312_426, 0.031_222_915_572_631_05),
        (16, 20.0, -8.753_322_199_611_745, 0.687_092_208_944_936_3),
        (64, 5.0, -0.194_738_896_496_537_22, 0.077_667_851_380_100_67),
        (64, 400.0, -308.727_876_323_476_55, 0.924_255_339_149_789_5),
        (512, 1.0, -0.000_976_560_644_611_861_1, 0.001_953_117_578_466_171_8),
        (512, 50.0, -2.429_953_791_647_818_7, 0.096_745_705_070_352_11),
        (512, 900.0, -463.625_693_413_797_8, 0.755_516_431_088_006_8),
        (1024, 20000.0, -17960.939707762343, 0.974_751_363_996_716_2),
    ];

    #[test]
    fn the_von_mises_fisher_normaliser_agrees_with_high_precision_bessel_functions() {
        for (dim, kappa, expected, ratio) in VON_MISES_FISHER {
            let (value, slope) = Spherical::VonMisesFisher.log_normaliser(dim, kappa);
            let tolerance = if dim == 16 { 2e-6 } else { 1e-9 };
            assert!((value - expected).abs() < tolerance * (1.0 + expected.abs()), "{dim} {kappa}");
            assert!((slope + ratio).abs() < 1e-10, "{dim} {kappa}: {slope} {ratio}");
        }
    }

    #[test]
    fn the_power_spherical_normaliser_agrees_with_its_definition() {
        for (dim, kappa) in [(3, 0.2), (16, 7.0), (512, 1.0), (512, 300.0), (1024, 5000.0)] {
            let log_c = |kappa: f64| {
                let beta = (dim as f64 - 1.0) / 2.0;
                let alpha = beta + kappa;
                -((alpha + beta) * 2f64.ln() + ln_gamma(alpha) - ln_gamma(alpha + beta)
                    + beta * std::f64::consts::PI.ln())
            };
            let (value, slope) = Spherical::Power.log_normaliser(dim, kappa);
            let expected = log_c(kappa) - log_c(0.0);
            assert!((value - expected).abs() < 1e-10 * (1.0 + log_c(kappa).abs()));
            let (alpha, sum) = ((dim as f64 - 1.0) / 2.0 + kappa, dim as f64 - 1.0 + kappa);
            let expected = digamma(sum) - digamma(alpha) - 2f64.ln();
            assert!((slope - expected).abs() < 1e-10);
        }
    }

    #[test]
    fn slopes_are_the_slopes_of_the_values() {
        for family in [Spherical::VonMisesFisher, Spherical::Power] {
            for (dim, kappa) in [(16, 3.0), (64, 0.5), (512, 120.0), (768, 2000.0)] {
                let h = 1e-4 * kappa;
                let at = |kappa| family.log_normaliser(dim, kappa).0;
                let slope = (at(kappa + h) - at(kappa - h)) / (2.0 * h);
                let got = family.log_normaliser(dim, kappa).1;
                assert!((got - slope).abs() < 1e-6, "{family:?} {dim} {kappa}: {got} {slope}");
            }
        }
    }

    /// Draws of t: power spherical by its Beta variable, von Mises-Fisher by Wood's rejection
    /// (Communications in Statistics 23(1), 1994).
    fn draws(family: Spherical, dim: usize, kappa: f64, count: usize) -> Vec<f64> {
        let mut rng = generator(5, Stream::Resampling, 0);
        let m = dim as f64 - 1.0;
        match family {
            Spherical::Power => {
                let beta = Beta::new(m / 2.0 + kappa, m / 2.0).unwrap();
                (0..count).map(|_| 2.0 * beta.sample(&mut rng) - 1.0).collect()
            }
            Spherical::VonMisesFisher => {
                let b = m / (2.0 * kappa + (4.0 * kappa * kappa + m * m).sqrt());
                let x0 = (1.0 - b) / (1.0 + b);
                let c = kappa * x0 + m * (1.0 - x0 * x0).ln();
                let beta = Beta::new(m / 2.0, m / 2.0).unwrap();
                let uniform = rand_distr::Uniform::new(0.0f64, 1.0).unwrap();
                let mut out = Vec::with_capacity(count);
                while out.len() < count {
                    let z: f64 = beta.sample(&mut rng);
                    let t = (1.0 - (1.0 + b) * z) / (1.0 - (1.0 - b) * z);
                    if kappa * t + m * (1.0 - x0 * t).ln() - c >= uniform.sample(&mut rng).ln() {
                        out.push(t);
                    }
                }
                out
            }
        }
    }

    #[test]
    fn moments_per_dimension_are_those_of_samples() {
        let (dim, kappa, count) = (12, 9.0, 40_000);
        let mut mu: Vec<f64> = (0..dim).map(|d| 1.0 + d as f64).collect();
        let length = mu.iter().map(|m| m * m).sum::<f64>().sqrt();
        mu.iter_mut().for_each(|m| *m /= length);
        for family in [Spherical::VonMisesFisher, Spherical::Power] {
            let moments = family.moments(dim, kappa);
            let noise = standard_normal(6, Stream::Resampling, 1, count * dim);
            let samples: Vec<Vec<f64>> = draws(family, dim, kappa, count)
                .into_iter()
                .zip(noise.chunks(dim))
                .map(|(t, noise)| {
                    let along: f64 = noise.iter().zip(&mu).map(|(&n, m)| f64::from(n) * m).sum();
                    let mut x: Vec<f64> =
                        noise.iter().zip(&mu).map(|(&n, m)| f64::from(n) - along * m).collect();
                    let length = x.iter().map(|x| x * x).sum::<f64>().sqrt();
                    for (x, m) in x.iter_mut().zip(&mu) {
                        *x = t * m + (1.0 - t * t).sqrt() * *x / length;
                    }
                    x
                })
                .collect();
            for d in 0..dim {
                let mean = samples.iter().map(|x| x[d]).sum::<f64>() / count as f64;
                let squares = samples.iter().map(|x| (x[d] - mean).powi(2));
                let variance = squares.sum::<f64>() / count as f64;
                let expected = moments.variance(mu[d]);
                assert!(
                    (mean - moments.mean * mu[d]).abs() < 5.0 * (expected / count as f64).sqrt()
                );
                assert!(
                    (variance / expected - 1.0).abs() < 0.05,
                    "{family:?} {variance} {expected}"
                );
            }
        }
    }

    #[test]
    fn no_concentration_is_the_uniform_density() {
        for family in [Spherical::VonMisesFisher, Spherical::Power] {
            let moments = family.moments(10, 0.0);
            assert_eq!(moments.mean, 0.0);
            assert!((moments.along - 0.1).abs() < 1e-12 && (moments.across - 0.1).abs() < 1e-12);
            assert_eq!(family.log_normaliser(10, 0.0).0, 0.0);
        }
    }
}
