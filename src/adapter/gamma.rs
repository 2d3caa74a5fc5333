//! The log-gamma function and its derivative together, as the likelihood of the generalised
//! Gaussian and its gradient need them: once per dimension of every training item.

/// `(ln Γ(1 + x), ψ(1 + x))` for `x >= 0`, ψ being the derivative of ln Γ.
///
/// Both share one upward shift by six and one Stirling series (Abramowitz & Stegun 6.1.40 and
/// 6.3.18); the error is below 1e-12 relative to `1 + |value|`. A negative or non-finite `x`
/// gives a non-finite result.
pub fn ln_gamma_and_digamma_1p(x: f64) -> (f64, f64) {
    if x > LARGE {
        let (ln_gamma, digamma) = stirling(x + 1.0);
        return (ln_gamma, digamma);
    }
    // Γ(x + 7) = (x + 1)(x + 2)...(x + 6) Γ(x + 1); factors in pairs with the same sum.
    let s = x * (x + 7.0);
    let (p, q, r) = (s + 6.0, s + 10.0, s + 12.0);
    let product = p * q * r;
    let slope = (2.0 * x + 7.0) * (q * r + p * r + p * q);
    let (ln_gamma, digamma) = stirling(x + 7.0);
    (ln_gamma - product.ln(), digamma - slope / product)
}

/// Beyond this the shift is not needed, and its product would lose to rounding.
const LARGE: f64 = 1e6;

/// Stirling's series of ln Γ(w) and ψ(w) for `w >= 7`.
fn stirling(w: f64) -> (f64, f64) {
    const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;
    let ln_w = w.ln();
    let y = w.recip();
    let y2 = y * y;
    let tail = y
        * (1.0 / 12.0
            - y2 * (1.0 / 360.0
                - y2 * (1.0 / 1260.0
                    - y2 * (1.0 / 1680.0 - y2 * (1.0 / 1188.0 - y2 * (691.0 / 360_360.0))))));
    let ln_gamma = (w - 0.5) * ln_w - w + HALF_LN_TAU + tail;
    let digamma = ln_w
        - 0.5 * y
        - y2 * (1.0 / 12.0
            - y2 * (1.0 / 120.0
                - y2 * (1.0 / 252.0
                    - y2 * (1.0 / 240.0 - y2 * (1.0 / 132.0 - y2 * (691.0 / 32_760.0))))));
    (ln_gamma, digamma)
}

#[cfg(test)]
mod tests {
    use statrs::function::gamma::{digamma, ln_gamma};

    use super::*;

    #[test]
    fn both_functions_agree_with_statrs_from_tiny_to_large_arguments() {
        let grid = (0..2000).map(|i| f64::from(i) * 0.01 + 1e-9);
        for x in grid.chain([0.0, 50.0, 1e3, 1e4, 9.9e5, 1.1e6, 1e8]) {
            let (g, d) = ln_gamma_and_digamma_1p(x);
            let (g_ref, d_ref) = (ln_gamma(1.0 + x), digamma(1.0 + x));
            assert!((g - g_ref).abs() <= 1e-12 * (1.0 + g_ref.abs()), "lnΓ(1+{x}): {g} {g_ref}");
            assert!((d - d_ref).abs() <= 1e-11 * (1.0 + d_ref.abs()), "ψ(1+{x}): {d} {d_ref}");
        }
    }

    #[test]
    fn the_second_result_is_the_slope_of_the_first() {
        for x in [0.05, 0.5, 1.0, 2.5, 9.0, 1e6 - 0.5] {
            let h = 1e-5 * (1.0 + x);
            let slope =
                (ln_gamma_and_digamma_1p(x + h).0 - ln_gamma_and_digamma_1p(x - h).0) / (2.0 * h);
            let digamma = ln_gamma_and_digamma_1p(x).1;
            assert!((slope - digamma).abs() < 1e-7 * (1.0 + digamma.abs()), "{x}");
        }
    }
}
