//! Elementary functions in f32 without branches or table look-ups, so that loops over them become
//! vector instructions. No operation is fused or reordered: every machine gives the same bits.
//!
//! Polynomials of Cephes (S. L. Moshier, `expf.c` and `logf.c`); errors are a few units in the
//! last place.

const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `e^x`; below -87.3 and above 88.7 it stays at the ends of the range of normal numbers.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.336_54, 88.722_83);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5.000_000_3e-1;
    let mantissa = p * r * r + r + 1.0;
    // 2^n in two halves: the first may leave the range where the product does not.
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).cast_signed();
    let half = exponent >> 1;
    let power = |k: i32| f32::from_bits(((k + 127) << 23).cast_unsigned());
    mantissa * power(half) * power(exponent - half)
}

/// `ln x` for positive normal `x`; smaller numbers count as the smallest of these.
#[inline(always)]
pub fn ln(x: f32) -> f32 {
    // The bits of sqrt(1/2): the mantissa is taken between it and its double.
    const SQRT_HALF: i32 = 0x3f35_04f3;
    const ONE: i32 = 0x3f80_0000;
    let bits = x.max(f32::MIN_POSITIVE).to_bits().cast_signed() - SQRT_HALF;
    let exponent = (bits >> 23) as f32;
    let f = f32::from_bits(((bits & 0x007f_ffff) + SQRT_HALF).cast_unsigned())
        - f32::from_bits(ONE.cast_unsigned());
    let mut p = 7.037_683_6e-2;
    p = p * f - 1.151_461e-1;
    p = p * f + 1.167_699_9e-1;
    p = p * f - 1.242_014_1e-1;
    p = p * f + 1.424_932_3e-1;
    p = p * f - 1.666_805_8e-1;
    p = p * f + 2.000_071_5e-1;
    p = p * f - 2.499_999_4e-1;
    p = p * f + 3.333_333e-1;
    let square = f * f;
    let tail = p * f * square + exponent * LN_2_LOW - 0.5 * square;
    f + tail + exponent * LN_2_HIGH
}

/// `(ln Γ(1 + x), ψ(1 + x))` for `0 <= x <= 1e4`, as
/// [`ln_gamma_and_digamma_1p`](crate::adapter::gamma::ln_gamma_and_digamma_1p) in f32; the error
/// is a few 1e-6 relative to `1 + |value|`.
#[inline(always)]
pub fn ln_gamma_and_digamma_1p(x: f32) -> (f32, f32) {
    const HALF_LN_TAU: f32 = 0.918_938_5;
    let s = x * (x + 7.0);
    let (p, q, r) = (s + 6.0, s + 10.0, s + 12.0);
    let product = p * q * r;
    let slope = (2.0 * x + 7.0) * (q * r + p * r + p * q);
    let w = x + 7.0;
    let ln_w = ln(w);
    let y = 1.0 / w;
    let y2 = y * y;
    let tail = y * (1.0 / 12.0 - y2 * (1.0 / 360.0 - y2 * (1.0 / 1260.0)));
    let ln_gamma = (w - 0.5) * ln_w - w + HALF_LN_TAU + tail;
    let digamma = ln_w - 0.5 * y - y2 * (1.0 / 12.0 - y2 * (1.0 / 120.0 - y2 * (1.0 / 252.0)));
    (ln_gamma - ln(product), digamma - slope / product)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::gamma;

    #[test]
    fn exp_and_ln_are_accurate_over_their_ranges() {
        for i in -87_000..=88_700 {
            let x = i as f32 * 1e-3;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 3e-7, "exp {x}");
        }
        let mut x = f32::MIN_POSITIVE;
        while x < 1e38 {
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() < 1.5e-7 * (1.0 + exact.abs()), "ln {x}");
            x *= 1.0009;
        }
    }

    #[test]
    fn numbers_out_of_range_give_the_ends_of_the_range() {
        assert!(exp(-1e9) > 0.0 && exp(-1e9) < 1.2e-38);
        assert!(exp(1e9) > 3.4e38 && exp(1e9).is_finite());
        assert_eq!(ln(0.0), ln(f32::MIN_POSITIVE));
        assert_eq!((exp(0.0), ln(1.0)), (1.0, 0.0));
    }

    #[test]
    fn the_gamma_functions_agree_with_those_in_f64() {
        for x in (0..20_000).map(|i| i as f32 * 1e-3).chain([50.0, 1e3, 1e4]) {
            let (g, d) = ln_gamma_and_digamma_1p(x);
            let (g_ref, d_ref) = gamma::ln_gamma_and_digamma_1p(f64::from(x));
            assert!((f64::from(g) - g_ref).abs() < 3e-6 * (1.0 + g_ref.abs()), "{x}: {g} {g_ref}");
            assert!((f64::from(d) - d_ref).abs() < 2e-6 * (1.0 + d_ref.abs()), "{x}: {d} {d_ref}");
        }
    }
}
