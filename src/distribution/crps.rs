//! The continuous ranked probability score of a generalised Gaussian, in closed form.

use statrs::function::beta::beta_reg;
use statrs::function::gamma::ln_gamma;

use super::GeneralizedGaussian;
use super::incomplete_gamma::log_tails;

impl GeneralizedGaussian {
    /// Continuous ranked probability score of this density when `y` came true, at least 0, lower
    /// is better, in units of x:
    ///
    /// ```text
    /// CRPS(F, y) = E|X - y| - 1/2 E|X - X'| = integral of (F(x) - [x >= y])^2 dx
    /// ```
    ///
    /// (Gneiting and Raftery, "Strictly Proper Scoring Rules, Prediction, and Estimation", JASA
    /// 102, 2007, equations 20 and 21.)
    ///
    /// With a = 1/beta, u = |y - mu|, t = (u/alpha)^beta and the mean absolute deviation
    /// m = alpha Gamma(2a)/Gamma(a), both parts follow from (|X - mu|/alpha)^beta being a
    /// Gamma(a, 1) variable G:
    ///
    /// - E|X - y| = u P(|X - mu| <= u) + E[|X - mu|; |X - mu| > u] = u P(a, t) + m Q(2a, t), since
    ///   G^a weighs a Gamma(a, 1) density into that of Gamma(2a, 1).
    /// - E|X - X'| = E max(|X - mu|, |X' - mu|) for a symmetric density, which is
    ///   2 m P(G_a <= G_2a) = 2 m I_1/2(a, 2a) by the same weighing, as G_a / (G_a + G_2a) has the
    ///   Beta(a, 2a) distribution.
    ///
    /// For beta = 2 this is sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1/sqrt(pi)), for beta = 1
    /// u + b exp(-u/b) - 3b/4.
    pub fn crps(&self, y: f64) -> f64 {
        let shape = 1.0 / self.beta();
        let distance = (y - self.mu()).abs();
        let ln_power = self.beta() * (distance / self.alpha()).ln();
        let inside = log_tails(shape, ln_power).ln_lower.exp();
        let beyond = log_tails(2.0 * shape, ln_power).ln_upper.exp();
        let deviation = (self.alpha().ln() + ln_gamma(2.0 * shape) - ln_gamma(shape)).exp();
        (distance * inside + deviation * (beyond - beta_reg(shape, 2.0 * shape, 0.5))).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use std::f64::consts::PI;

    use super::*;

    #[test]
    fn shapes_two_and_one_are_the_known_scores_of_gaussian_and_laplace() {
        let (mu, sigma) = (0.4, 0.7);
        let gaussian = GeneralizedGaussian::gaussian(mu, sigma).unwrap();
        let laplace = GeneralizedGaussian::laplace(mu, sigma).unwrap();
        for y in [-3.0f64, 0.1, 0.4, 0.400001, 2.5, 40.0] {
            let z = (y - mu) / sigma;
            let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
            let cdf = gaussian.cdf(y);
            let expected = sigma * (z * (2.0 * cdf - 1.0) + 2.0 * density - PI.sqrt().recip());
            assert!((gaussian.crps(y) - expected).abs() < 1e-12, "{y}");
            let u = (y - mu).abs();
            let expected = u + sigma * (-u / sigma).exp() - 0.75 * sigma;
            assert!((laplace.crps(y) - expected).abs() < 1e-12, "{y}");
        }
    }

    #[test]
    fn other_shapes_agree_with_quadrature() {
        // scipy.integrate.quad of gennorm(beta, mu, alpha).cdf² up to y and .sf² beyond
        for ([beta, alpha, mu, y], expected) in [
            ([0.7, 0.3, 0.1, 0.5], 0.259_856_934_363_474_35),
            ([3.5, 1.2, -0.4, -1.9], 1.094_477_894_765_579_3),
            ([1.3, 0.05, 0.0, 0.0], 0.009_935_724_834_372_09),
            ([8.0, 2.0, 1.0, 6.0], 4.352_896_613_159_237_5),
            ([0.3, 0.01, 0.0, 1.0], 0.690_521_593_188_745_7),
        ] {
            let got = GeneralizedGaussian::new(mu, alpha, beta).unwrap().crps(y);
            assert!((got - expected).abs() < 1e-8 * expected.max(1.0), "{beta}: {got} {expected}");
        }
    }

    #[test]
    fn the_score_is_finite_and_positive_over_the_shapes_that_networks_predict() {
        for beta in [0.1, 0.15, 0.5, 5.0, 100.0] {
            let density = GeneralizedGaussian::new(0.0, 1e-3, beta).unwrap();
            for y in [0.0, 1e-12, 1e-3, 1.0, 1e6] {
                let score = density.crps(y);
                assert!(score.is_finite() && score >= 0.0, "{beta} {y} {score}");
            }
        }
    }
}
