//! Gradient of the log density: what a training step of a predicted density follows.

use statrs::function::gamma::digamma;

use super::GeneralizedGaussian;

/// Partial derivatives of `log_prob` at one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    pub d_mu: f64,
    pub d_alpha: f64,
    pub d_beta: f64,
    pub d_x: f64,
}

impl GeneralizedGaussian {
    /// Gradient of [`log_prob`](Self::log_prob) at `x` with respect to the parameters and `x`.
    ///
    /// With r = |x - mu| / alpha:
    /// d/dmu = sign(x - mu) beta r^beta / |x - mu| = -d/dx, d/dalpha = (beta r^beta - 1) / alpha,
    /// d/dbeta = 1/beta + digamma(1/beta) / beta² - r^beta ln r.
    /// At x = mu the density has a corner or cusp for beta up to 1; d/dmu and d/dx are 0 there by
    /// convention.
    pub fn score(&self, x: f64) -> Score {
        let (alpha, beta) = (self.alpha(), self.beta());
        let u = x - self.mu();
        let r = u.abs() / alpha;
        let power = r.powf(beta);
        let (d_mu, power_ln_r) = if r == 0.0 {
            (0.0, 0.0)
        } else {
            (u.signum() * beta * power / u.abs(), power * r.ln())
        };
        let shape = 1.0 / beta;
        Score {
            d_mu,
            d_alpha: (beta * power - 1.0) / alpha,
            d_beta: shape + digamma(shape) * shape * shape - power_ln_r,
            d_x: -d_mu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_is_the_slope_of_the_log_density() {
        for beta in [0.1, 0.5, 1.0, 2.0, 8.0] {
            for (mu, alpha, x) in [(0.3, 0.8, -0.2), (0.0, 2.0, 1.1), (-1.0, 0.05, -0.97)] {
                let log_prob = |mu: f64, alpha: f64, beta: f64, x: f64| {
                    GeneralizedGaussian::new(mu, alpha, beta).unwrap().log_prob(x)
                };
                let h = 1e-6;
                let slope = |f: &dyn Fn(f64) -> f64| (f(h) - f(-h)) / (2.0 * h);
                let score = GeneralizedGaussian::new(mu, alpha, beta).unwrap().score(x);
                for (got, expected) in [
                    (score.d_mu, slope(&|h| log_prob(mu + h, alpha, beta, x))),
                    (score.d_alpha, slope(&|h| log_prob(mu, alpha + h, beta, x))),
                    (score.d_beta, slope(&|h| log_prob(mu, alpha, beta + h, x))),
                    (score.d_x, slope(&|h| log_prob(mu, alpha, beta, x + h))),
                ] {
                    let error = (got - expected).abs();
                    assert!(error < 1e-5 * expected.abs().max(1.0), "{beta}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn the_score_is_finite_at_the_centre_of_a_cusp() {
        let score = GeneralizedGaussian::new(0.5, 2.0, 0.4).unwrap().score(0.5);
        assert_eq!((score.d_mu, score.d_x), (0.0, 0.0));
        assert_eq!(score.d_alpha, -0.5);
        assert!(score.d_beta.is_finite());
    }
}
