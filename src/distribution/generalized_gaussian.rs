//! The generalised Gaussian density of one dimension.

use std::f64::consts::{LN_2, SQRT_2};

use rand::{Rng, RngExt};
use rand_distr::{Distribution, Gamma};
use statrs::function::gamma::ln_gamma;

use super::DistributionError;
use super::incomplete_gamma::{LogTails, ln_inverse_lower, ln_inverse_upper, log_tails};

/// Location `mu`, scale `alpha` and shape `beta` of the density
///
/// ```text
/// p(x) = beta / (2 alpha Gamma(1/beta)) exp(-(|x - mu| / alpha)^beta)
/// ```
///
/// (ProbVLM, arXiv 2307.00398, section 3; Nadarajah, "A generalized normal distribution",
/// Journal of Applied Statistics 32(7), 2005.) `beta` = 1 is the Laplace density, 2 the Gaussian;
/// smaller shapes have heavier tails, and large ones approach the uniform density on
/// `mu - alpha ..= mu + alpha`.
///
/// With u = x - mu and a = 1/beta, (|u|/alpha)^beta has the Gamma(a, 1) distribution; every
/// method below follows from that. All of them work in log space, since Gamma(1/beta) overflows
/// for small shapes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GeneralizedGaussian {
    mu: f64,
    alpha: f64,
    beta: f64,
}

impl GeneralizedGaussian {
    /// Shapes outside of this range are refused: the incomplete gamma function is not computed
    /// reliably for them. Networks that predict shapes stay well inside of it.
    pub const BETA_RANGE: std::ops::RangeInclusive<f64> = 1e-5..=1e5;

    /// The density with these parameters.
    ///
    /// # Errors
    /// When `mu` is not finite, `alpha` not finite and positive, or `beta` not in
    /// [`BETA_RANGE`](Self::BETA_RANGE).
    pub fn new(mu: f64, alpha: f64, beta: f64) -> Result<Self, DistributionError> {
        let refuse =
            |name, found, expected| Err(DistributionError::Parameter { name, found, expected });
        if !mu.is_finite() {
            return refuse("mu", mu, "a finite number");
        }
        if !(alpha.is_finite() && alpha > 0.0) {
            return refuse("alpha", alpha, "a finite number above 0");
        }
        if !Self::BETA_RANGE.contains(&beta) {
            return refuse("beta", beta, "a number from 1e-5 to 1e5");
        }
        Ok(Self { mu, alpha, beta })
    }

    /// The Gaussian with mean `mu` and standard deviation `sigma`: alpha = sqrt(2) sigma, beta = 2.
    ///
    /// # Errors
    /// When `mu` is not finite, or `sigma` not finite and positive.
    pub fn gaussian(mu: f64, sigma: f64) -> Result<Self, DistributionError> {
        Self::new(mu, SQRT_2 * sigma, 2.0)
    }

    /// The Laplace density exp(-|x - mu|/b) / (2 b).
    ///
    /// # Errors
    /// When `mu` is not finite, or `b` not finite and positive.
    pub fn laplace(mu: f64, b: f64) -> Result<Self, DistributionError> {
        Self::new(mu, b, 1.0)
    }

    /// Location: mean, median and mode.
    pub fn mu(&self) -> f64 {
        self.mu
    }

    /// Scale, in units of x.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Shape.
    pub fn beta(&self) -> f64 {
        self.beta
    }

    /// Log density at `x` in nats: ln(beta / (2 alpha)) - ln Gamma(1/beta) - (|x - mu|/alpha)^beta.
    pub fn log_prob(&self, x: f64) -> f64 {
        self.log_peak() - self.power(x)
    }

    /// Log density at `mu` in nats, the largest there is.
    pub fn log_peak(&self) -> f64 {
        self.beta.ln() - self.alpha.ln() - LN_2 - ln_gamma(1.0 / self.beta)
    }

    /// (|x - mu|/alpha)^beta: how far the log density at `x` lies below that at `mu`.
    pub(super) fn power(&self, x: f64) -> f64 {
        ((x - self.mu).abs() / self.alpha).powf(self.beta)
    }

    /// Probability of a value up to `x`. Lower tails keep their relative accuracy.
    pub fn cdf(&self, x: f64) -> f64 {
        self.probability_below(x - self.mu)
    }

    /// Probability of a value above `x`. Upper tails keep their relative accuracy.
    pub fn sf(&self, x: f64) -> f64 {
        self.probability_below(self.mu - x)
    }

    /// Cumulative probability at the distance `u` from the centre:
    /// 1/2 + sign(u)/2 P(1/beta, (|u|/alpha)^beta), with Q in place of 1 - P below the centre.
    fn probability_below(&self, u: f64) -> f64 {
        if u.is_nan() {
            return f64::NAN;
        }
        let ln_power = self.beta * (u.abs() / self.alpha).ln();
        let LogTails { ln_lower, ln_upper } = log_tails(1.0 / self.beta, ln_power);
        if u <= 0.0 { 0.5 * ln_upper.exp() } else { 0.5 + 0.5 * ln_lower.exp() }
    }

    /// The value with cumulative probability `q`: infinite at 0 and 1, NaN outside of `0..=1`.
    ///
    /// An f64 cannot tell probabilities close to 1 apart; for upper tails
    /// [`upper_quantile`](Self::upper_quantile) is exact.
    pub fn quantile(&self, q: f64) -> f64 {
        self.mu + self.deviation_at(q)
    }

    /// The value that is exceeded with probability `p`, `quantile(1 - p)` without the rounding of
    /// 1 - p: infinite at 0 and 1, NaN outside of `0..=1`.
    pub fn upper_quantile(&self, p: f64) -> f64 {
        self.mu - self.deviation_at(p)
    }

    /// Quantile relative to the centre:
    /// sign(q - 1/2) alpha x^(1/beta) with P(1/beta, x) = |2q - 1|, or from the tail with
    /// Q(1/beta, x) = 2 min(q, 1-q), whichever of the two is the smaller probability.
    fn deviation_at(&self, q: f64) -> f64 {
        if !(0.0..=1.0).contains(&q) {
            return f64::NAN;
        }
        let side = (q - 0.5).signum();
        let tail = 2.0 * q.min(1.0 - q);
        let centre = 2.0 * (q - 0.5).abs();
        if centre == 0.0 {
            return 0.0;
        }
        if tail == 0.0 {
            return side * f64::INFINITY;
        }
        let shape = 1.0 / self.beta;
        let ln_power = if tail < 0.5 {
            ln_inverse_upper(shape, tail)
        } else {
            ln_inverse_lower(shape, centre)
        };
        side * self.alpha * (ln_power / self.beta).exp()
    }

    /// Log of the variance: 2 ln alpha + ln Gamma(3/beta) - ln Gamma(1/beta). Finite for every
    /// shape, also where the variance itself overflows.
    pub fn log_variance(&self) -> f64 {
        self.log_absolute_moment(2)
    }

    /// Variance alpha² Gamma(3/beta) / Gamma(1/beta), what ProbVLM calls the aleatoric
    /// uncertainty. Infinite beyond the range of f64.
    pub fn variance(&self) -> f64 {
        self.log_variance().exp()
    }

    /// Square root of the variance.
    pub fn std_dev(&self) -> f64 {
        (0.5 * self.log_variance()).exp()
    }

    /// E|x - mu|^order = alpha^order Gamma((order + 1)/beta) / Gamma(1/beta): the mean absolute
    /// deviation for order 1, the variance for order 2.
    pub fn absolute_moment(&self, order: u32) -> f64 {
        self.log_absolute_moment(order).exp()
    }

    fn log_absolute_moment(&self, order: u32) -> f64 {
        let order = f64::from(order);
        order * self.alpha.ln() + ln_gamma((order + 1.0) / self.beta) - ln_gamma(1.0 / self.beta)
    }

    /// Excess kurtosis Gamma(5/beta) Gamma(1/beta) / Gamma(3/beta)² - 3: 0 for the Gaussian, 3
    /// for Laplace, towards -1.2 for large shapes.
    pub fn excess_kurtosis(&self) -> f64 {
        let shape = 1.0 / self.beta;
        let log_ratio = ln_gamma(5.0 * shape) + ln_gamma(shape) - 2.0 * ln_gamma(3.0 * shape);
        log_ratio.exp() - 3.0
    }

    /// Differential entropy in nats: 1/beta - ln(beta / (2 alpha)) + ln Gamma(1/beta). Negative
    /// for narrow densities.
    pub fn entropy(&self) -> f64 {
        1.0 / self.beta - self.beta.ln() + LN_2 + self.alpha.ln() + ln_gamma(1.0 / self.beta)
    }

    /// Draws one value: mu + alpha V G^(1/beta), with V uniform on -1..1 and G from
    /// Gamma(1 + 1/beta, 1).
    ///
    /// A gamma variable of shape a is one of shape a + 1 times U^(1/a) (Marsaglia and Tsang,
    /// ACM Transactions on Mathematical Software 26(3), 2000), so G^(1/beta) U has the distribution of |x - mu| / alpha.
    /// Drawn like this nothing underflows for large shapes, where Gamma(1/beta)^(1/beta) would.
    pub fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> f64 {
        self.mu + self.sample_deviation(rng)
    }

    /// Draws x - mu, which x would have rounded.
    pub(super) fn sample_deviation<R: Rng + ?Sized>(&self, rng: &mut R) -> f64 {
        let uniform = 2.0 * rng.random::<f64>() - 1.0;
        let gamma = Gamma::new(1.0 + 1.0 / self.beta, 1.0)
            .expect("the shape is positive: beta was checked on construction");
        self.alpha * uniform * gamma.sample(rng).powf(1.0 / self.beta)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, generator};

    const BETAS: [f64; 12] = [0.1, 0.15, 0.25, 0.5, 0.8, 1.0, 1.3, 2.0, 2.7, 4.0, 6.0, 8.0];

    fn close(got: f64, expected: f64, relative: f64) -> bool {
        got == expected || (got - expected).abs() <= relative * expected.abs()
    }

    #[test]
    fn beta_two_is_the_gaussian() {
        let (mu, sigma) = (0.7, 0.3);
        let d = GeneralizedGaussian::gaussian(mu, sigma).unwrap();
        for x in [-1.0f64, 0.0, 0.69, 0.7, 1.3, 4.0] {
            let z = (x - mu) / sigma;
            let expected = -0.5 * z * z - sigma.ln() - 0.5 * (2.0 * std::f64::consts::PI).ln();
            assert!((d.log_prob(x) - expected).abs() < 1e-12, "{x}");
            let upper = 0.5 * statrs::function::erf::erfc(z / SQRT_2);
            assert!(close(d.sf(x), upper, 1e-10), "{x}: {} {upper}", d.sf(x));
        }
        assert!(close(d.variance(), sigma * sigma, 1e-13));
        assert!(close(d.std_dev(), sigma, 1e-13));
        assert!(d.excess_kurtosis().abs() < 1e-12);
        let entropy = 0.5 * (2.0 * std::f64::consts::PI * std::f64::consts::E).ln() + sigma.ln();
        assert!((d.entropy() - entropy).abs() < 1e-12);
        // 97.5 % point of the normal table
        assert!(close((d.quantile(0.975) - mu) / sigma, 1.959_963_984_540_054, 1e-12));
    }

    #[test]
    fn beta_one_is_laplace() {
        let (mu, b) = (-2.0f64, 0.4f64);
        let d = GeneralizedGaussian::laplace(mu, b).unwrap();
        for x in [-9.0f64, -2.3, -2.0, -1.0, 20.0] {
            assert!((d.log_prob(x) - (-(x - mu).abs() / b - (2.0 * b).ln())).abs() < 1e-12);
            let tail = 0.5 * (-(x - mu).abs() / b).exp();
            let (lower, upper) = if x <= mu { (tail, 1.0 - tail) } else { (1.0 - tail, tail) };
            assert!(close(d.cdf(x), lower, 1e-12) && close(d.sf(x), upper, 1e-12), "{x}");
        }
        assert!(close(d.variance(), 2.0 * b * b, 1e-13));
        assert!((d.excess_kurtosis() - 3.0).abs() < 1e-12);
        assert!((d.entropy() - (1.0 + (2.0 * b).ln())).abs() < 1e-12);
        assert!(close(d.quantile(1e-9), mu + b * 2e-9f64.ln(), 1e-14));
    }

    #[test]
    fn large_shapes_approach_the_uniform_density() {
        let d = GeneralizedGaussian::new(0.0, 3.0, 1e4).unwrap();
        assert!((d.cdf(1.0) - 2.0 / 3.0).abs() < 1e-4);
        assert!((d.quantile(0.25) + 1.5).abs() < 1e-3);
        assert!((d.excess_kurtosis() + 1.2).abs() < 1e-3);
        let mut rng = generator(5, Stream::EmbeddingSamples, 0);
        let draws: Vec<f64> = (0..1000).map(|_| d.sample(&mut rng)).collect();
        assert!(draws.iter().all(|x| x.abs() < 3.01));
        // a sampler that underflows would pile its draws up in the centre
        assert!(draws.iter().filter(|x| x.abs() < 0.3).count() < 150);
    }

    #[test]
    fn the_density_integrates_to_one_with_the_stated_moments_and_entropy() {
        // u = alpha e^t: the integrand falls off doubly exponentially above and exponentially
        // below, and the trapezoidal rule is then exact to rounding.
        for beta in BETAS {
            let d = GeneralizedGaussian::new(0.0, 0.37, beta).unwrap();
            let (step, mut sums) = (1e-2, [0.0; 4]);
            for i in -4000..7000i32 {
                let u = d.alpha() * (f64::from(i) * step).exp();
                let log_p = d.log_prob(u);
                let mass = 2.0 * log_p.exp() * u * step;
                if mass > 0.0 {
                    sums[0] += mass;
                    sums[1] += mass * u * u;
                    sums[2] += mass * u.powi(4);
                    sums[3] -= mass * log_p;
                }
            }
            let kurtosis = sums[2] / (sums[1] * sums[1]) - 3.0;
            assert!((sums[0] - 1.0).abs() < 1e-10, "beta {beta}: {}", sums[0]);
            assert!(close(sums[1], d.variance(), 1e-10), "beta {beta}");
            assert!(close(kurtosis + 3.0, d.excess_kurtosis() + 3.0, 1e-10), "beta {beta}");
            assert!((sums[3] - d.entropy()).abs() < 1e-9, "beta {beta}");
        }
    }

    #[test]
    fn cdf_is_the_integral_of_the_density() {
        for beta in BETAS {
            let d = GeneralizedGaussian::new(0.0, 1.4, beta).unwrap();
            for (from, to) in [(-2.0, -1.1), (0.2, 1.9)] {
                // Simpson's rule; the density is smooth away from mu
                let n = 400;
                let width = (to - from) / f64::from(n);
                let weight = |i| match i {
                    0 => 1.0,
                    i if i == n => 1.0,
                    i if i % 2 == 1 => 4.0,
                    _ => 2.0,
                };
                let area: f64 = (0..=n)
                    .map(|i| weight(i) * d.log_prob(from + f64::from(i) * width).exp())
                    .sum::<f64>()
                    * width
                    / 3.0;
                assert!((d.cdf(to) - d.cdf(from) - area).abs() < 1e-9, "{beta} {from}");
            }
        }
    }

    #[test]
    fn quantile_inverts_cdf_in_both_tails_and_in_the_centre() {
        let probabilities =
            [1e-300, 1e-100, 1e-12, 1e-9, 1e-6, 1e-3, 0.05, 0.25, 0.4, 0.499, 0.499_999_999, 0.5];
        for beta in BETAS {
            for alpha in [1e-6, 0.3, 1e3] {
                let d = GeneralizedGaussian::new(0.0, alpha, beta).unwrap();
                for q in probabilities {
                    let lower = d.quantile(q);
                    assert!(close(d.cdf(lower), q, 1e-11), "{beta} {q}: {}", d.cdf(lower));
                    let upper = d.upper_quantile(q);
                    assert!(close(d.sf(upper), q, 1e-11), "{beta} {q}: {}", d.sf(upper));
                    assert_eq!(lower, -upper);
                    let mirrored = d.quantile(1.0 - q);
                    assert!(close(d.cdf(mirrored), 1.0 - q, 1e-11), "{beta} 1 - {q}");
                }
                assert!(close(d.sf(d.quantile(1.0 - 1e-12)), 1.0 - (1.0 - 1e-12), 1e-11));
            }
        }
    }

    #[test]
    fn quantiles_near_the_median_keep_their_relative_accuracy() {
        // |x - mu| ~ alpha Gamma(1 + 1/beta) |2q - 1| near the centre, where that has no cusp
        for beta in BETAS.into_iter().filter(|&beta| beta >= 1.0) {
            let d = GeneralizedGaussian::new(0.0, 1.0, beta).unwrap();
            let q = 0.5 + f64::EPSILON * 8.0;
            let expected = ln_gamma(1.0 + 1.0 / beta).exp() * 2.0 * (q - 0.5);
            assert!(close(d.quantile(q), expected, 1e-12), "{beta}");
        }
    }

    #[test]
    fn the_ends_are_infinite_and_the_outside_is_not_a_number() {
        let d = GeneralizedGaussian::new(1.0, 2.0, 1.5).unwrap();
        assert_eq!(d.quantile(0.0), f64::NEG_INFINITY);
        assert_eq!(d.quantile(1.0), f64::INFINITY);
        assert_eq!(d.upper_quantile(0.0), f64::INFINITY);
        assert_eq!(d.quantile(0.5), 1.0);
        assert!(d.quantile(-0.1).is_nan() && d.quantile(1.1).is_nan());
        assert!(d.quantile(f64::NAN).is_nan() && d.cdf(f64::NAN).is_nan());
        assert_eq!((d.cdf(f64::NEG_INFINITY), d.cdf(f64::INFINITY)), (0.0, 1.0));
        assert_eq!((d.cdf(1.0), d.sf(1.0)), (0.5, 0.5));
        assert_eq!(d.log_prob(f64::INFINITY), f64::NEG_INFINITY);
    }

    #[test]
    fn draws_follow_the_density() {
        // quantiles within 5 standard errors, for shapes whose moments do not converge too
        let n = 20_000;
        for (index, beta) in BETAS.into_iter().enumerate() {
            let d = GeneralizedGaussian::new(-0.4, 0.6, beta).unwrap();
            let mut rng = generator(11, Stream::EmbeddingSamples, index as u64);
            let draws: Vec<f64> = (0..n).map(|_| d.sample(&mut rng)).collect();
            for q in [0.001, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999] {
                let at = d.quantile(q);
                let share = draws.iter().filter(|&&x| x <= at).count() as f64 / f64::from(n);
                let error = (q * (1.0 - q) / f64::from(n)).sqrt();
                assert!((share - q).abs() < 5.0 * error, "beta {beta} q {q}: {share}");
            }
            let variance_error =
                ((d.absolute_moment(4) - d.variance().powi(2)) / f64::from(n)).sqrt();
            let variance = draws.iter().map(|x| (x + 0.4).powi(2)).sum::<f64>() / f64::from(n);
            if beta >= 0.5 {
                assert!((variance - d.variance()).abs() < 5.0 * variance_error, "beta {beta}");
            }
        }
    }

    #[test]
    fn small_shapes_have_a_finite_log_variance_where_the_variance_overflows() {
        let d = GeneralizedGaussian::new(0.0, 1.0, 1e-3).unwrap();
        assert!(d.log_variance().is_finite() && d.log_variance() > 710.0);
        assert_eq!(d.variance(), f64::INFINITY);
        assert!(d.entropy().is_finite() && d.log_prob(3.0).is_finite());
    }

    #[test]
    fn parameters_that_make_no_density_are_refused() {
        let new = GeneralizedGaussian::new;
        for (mu, alpha, beta) in [
            (f64::NAN, 1.0, 1.0),
            (f64::INFINITY, 1.0, 1.0),
            (0.0, 0.0, 1.0),
            (0.0, -1.0, 1.0),
            (0.0, f64::INFINITY, 1.0),
            (0.0, f64::NAN, 1.0),
            (0.0, 1.0, 0.0),
            (0.0, 1.0, -2.0),
            (0.0, 1.0, f64::NAN),
            (0.0, 1.0, 1e6),
        ] {
            assert!(new(mu, alpha, beta).is_err(), "{mu} {alpha} {beta}");
        }
        assert!(GeneralizedGaussian::gaussian(0.0, 0.0).is_err());
        assert!(GeneralizedGaussian::laplace(0.0, -1.0).is_err());
    }
}
