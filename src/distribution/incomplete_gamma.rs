//! The regularised incomplete gamma functions and their inverses, in log space.
//!
//! P(a, x) is the probability that a Gamma(a, 1) variable is at most x, and Q = 1 - P. The
//! functions of statrs return probabilities, which underflow in the tails, refuse x = 0, and take
//! x itself where a generalised Gaussian needs |u/alpha|^beta, which underflows too. Here x goes
//! in as its logarithm and probabilities come out as theirs. Series and continued fraction:
//! NIST DLMF 8.7.1, and 8.9.2 in its contracted form.
//!
//! Shapes `a` from 1e-5 to 1e5 are supported; the number of terms grows with sqrt(a).

use statrs::function::gamma::ln_gamma;

/// Far more terms than any supported shape needs.
const MAX_TERMS: usize = 100_000;

/// Logarithms of P and Q at one point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LogTails {
    pub ln_lower: f64,
    pub ln_upper: f64,
}

/// ln P(a, x) and ln Q(a, x) at `ln_x`, which may be infinite.
pub(super) fn log_tails(a: f64, ln_x: f64) -> LogTails {
    let x = ln_x.exp();
    if x == f64::INFINITY {
        return LogTails { ln_lower: 0.0, ln_upper: f64::NEG_INFINITY };
    }
    // The series converges fast below the mean and the fraction above it, and the tail that
    // each of them gives is the one that is not close to 1.
    if x < a + 1.0 {
        let ln_lower = (a * ln_x - x - ln_gamma(a + 1.0) + ln_lower_series(a, x)).min(0.0);
        LogTails { ln_lower, ln_upper: ln_complement(ln_lower) }
    } else {
        let ln_upper = (a * ln_x - x - ln_gamma(a) + upper_fraction(a, x).ln()).min(0.0);
        LogTails { ln_lower: ln_complement(ln_upper), ln_upper }
    }
}

/// ln x with P(a, x) = `p`, for 0 < p < 1; best for p up to 1/2.
pub(super) fn ln_inverse_lower(a: f64, p: f64) -> f64 {
    // P(a, x) <= x^a / Gamma(a + 1), so this start lies below the solution.
    let start = (p.ln() + ln_gamma(a + 1.0)) / a;
    newton_from_outside(a, start, p.ln(), |tails| tails.ln_lower, 1.0)
}

/// ln x with Q(a, x) = `q`, for 0 < q < 1; best for q up to 1/2.
pub(super) fn ln_inverse_upper(a: f64, q: f64) -> f64 {
    // Q(a, a + sqrt(2 a t) + t) <= exp(-t) (Boucheron, Lugosi, Massart, "Concentration
    // Inequalities", 2013, section 2.4), so this start lies above the solution.
    let t = -q.ln();
    let start = (a + (2.0 * a * t).sqrt() + t).ln();
    newton_from_outside(a, start, q.ln(), |tails| tails.ln_upper, -1.0)
}

/// Newton's method for `ln_tail(ln x) = target`.
///
/// Both log tails are concave functions of ln x (the density of the logarithm of a gamma
/// variable is log-concave). So a tangent lies above its function, and from a start where the
/// tail is too small every step falls short of the solution: the iterates approach it from one
/// side, and no bracket is needed. The first step that does not go on marks the end of f64.
fn newton_from_outside(
    a: f64,
    start: f64,
    target: f64,
    ln_tail: impl Fn(LogTails) -> f64,
    direction: f64,
) -> f64 {
    let mut ln_x = start;
    for _ in 0..200 {
        let tail = ln_tail(log_tails(a, ln_x));
        let slope = direction * (a * ln_x - ln_x.exp() - ln_gamma(a) - tail).exp();
        let step = (target - tail) / slope;
        if step.is_nan() || step * direction <= 0.0 {
            break;
        }
        ln_x += step;
        if step.abs() <= f64::EPSILON * ln_x.abs() {
            break;
        }
    }
    ln_x
}

/// ln of 1 + x/(a+1) + x²/((a+1)(a+2)) + ...
fn ln_lower_series(a: f64, x: f64) -> f64 {
    let (mut term, mut rest) = (1.0, 0.0);
    for n in 1..MAX_TERMS {
        term *= x / (a + n as f64);
        rest += term;
        if term <= rest * (f64::EPSILON / 4.0) {
            break;
        }
    }
    rest.ln_1p()
}

/// Gamma(a, x) e^x x^-a as 1/(x+1-a - 1(1-a)/(x+3-a - 2(2-a)/(x+5-a - ...))), by Lentz's method
/// (Press et al., "Numerical Recipes", 3rd edition, section 6.2).
fn upper_fraction(a: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away_from_zero = |v: f64| if v.abs() < TINY { TINY } else { v };
    let mut b = x + 1.0 - a;
    let mut c = 1.0 / TINY;
    let mut d = 1.0 / away_from_zero(b);
    let mut fraction = d;
    for n in 1..MAX_TERMS {
        let n = n as f64;
        let numerator = n * (a - n);
        b += 2.0;
        d = 1.0 / away_from_zero(numerator * d + b);
        c = away_from_zero(b + numerator / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() <= f64::EPSILON {
            break;
        }
    }
    fraction
}

/// ln(1 - e^v) for v <= 0 (Mächler, "Accurately Computing log(1 - exp(-|a|))", 2012).
fn ln_complement(v: f64) -> f64 {
    if v > -std::f64::consts::LN_2 { (-v.exp_m1()).ln() } else { (-v.exp()).ln_1p() }
}

#[cfg(test)]
mod tests {
    use statrs::function::gamma::{gamma_lr, gamma_ur};

    use super::*;

    const SHAPES: [f64; 10] = [1e-3, 0.125, 0.2, 0.5, 1.0, 2.0, 3.7, 10.0, 100.0, 1e4];

    fn close(got: f64, expected: f64, relative: f64) -> bool {
        got == expected || (got - expected).abs() <= relative * expected.abs()
    }

    #[test]
    fn whole_shapes_follow_the_poisson_sum() {
        for shape in [1usize, 2, 5, 10] {
            for x in [1e-3f64, 0.1, 1.0, 3.0, 9.0, 20.0, 100.0, 700.0] {
                let mut term = 1.0;
                let mut sum = 0.0;
                for k in 0..shape {
                    sum += term;
                    term *= x / (k + 1) as f64;
                }
                let got = log_tails(shape as f64, x.ln()).ln_upper;
                assert!((got - (sum.ln() - x)).abs() < 1e-12 * x.max(1.0), "{shape} {x}");
            }
        }
    }

    #[test]
    fn both_tails_agree_with_statrs_where_it_can_follow() {
        for a in SHAPES {
            for factor in [1e-8, 1e-3, 0.1, 0.5, 0.9, 1.0, 1.1, 2.0, 5.0] {
                let x: f64 = a * factor + if factor > 1.0 { 1.0 } else { 0.0 };
                let tails = log_tails(a, x.ln());
                let (p, q) = (gamma_lr(a, x), gamma_ur(a, x));
                let text = format!("a {a} x {x}: {tails:?} {p} {q}");
                // the term a ln x - x - ln Gamma(a) cancels for large shapes
                let tolerance = 1e-12 * a.max(1.0);
                assert!(close(tails.ln_lower.exp(), p, tolerance) || p < 1e-300, "{text}");
                assert!((tails.ln_upper.exp() - q).abs() < tolerance, "{text}");
            }
        }
    }

    #[test]
    fn tails_beyond_the_range_of_f64_keep_their_logarithm() {
        // Q(2, x) = (1 + x) exp(-x), P(a, x) -> x^a / Gamma(a + 1)
        let far = log_tails(2.0, 1e6f64.ln());
        assert!(close(far.ln_upper, 1_000_001f64.ln() - 1e6, 1e-12));
        assert_eq!(far.ln_lower, 0.0);
        let near = log_tails(0.5, -5000.0);
        assert!(close(near.ln_lower, -2500.0 - ln_gamma(1.5), 1e-14));
        assert_eq!(log_tails(3.0, f64::NEG_INFINITY).ln_lower, f64::NEG_INFINITY);
        assert_eq!(log_tails(3.0, f64::INFINITY).ln_upper, f64::NEG_INFINITY);
    }

    #[test]
    fn the_complement_of_a_logarithm_is_accurate_at_both_ends() {
        assert!(close(ln_complement(-1e-20), 1e-20f64.ln(), 1e-15));
        assert!(close(ln_complement(-50.0), -(-50f64).exp(), 1e-15));
        assert!(close(ln_complement(0.25f64.ln()), 0.75f64.ln(), 1e-15));
        assert_eq!(ln_complement(0.0), f64::NEG_INFINITY);
        assert_eq!(ln_complement(f64::NEG_INFINITY), 0.0);
    }

    #[test]
    fn inverses_return_the_probability_they_were_given() {
        for a in SHAPES {
            for p in [1e-300, 1e-100, 1e-16, 1e-9, 1e-3, 0.1, 0.3, 0.5] {
                let lower = log_tails(a, ln_inverse_lower(a, p)).ln_lower;
                let upper = log_tails(a, ln_inverse_upper(a, p)).ln_upper;
                let tolerance = 1e-13 * a.max(1.0) * p.ln().abs().max(1.0);
                assert!((lower - p.ln()).abs() < tolerance, "P {a} {p}: {lower} {}", p.ln());
                assert!((upper - p.ln()).abs() < tolerance, "Q {a} {p}: {upper} {}", p.ln());
            }
        }
    }
}
