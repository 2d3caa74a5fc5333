//! Element-wise functions, as approximations that are right to a few units in the last place of
//! float32 and have no branches, so that loops over them are vectorised.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use super::simd::vectorised;

/// Adding this rounds to an integer (half to even), which then stands in the low bits.
const ROUND: f32 = 12_582_912.0;
/// ln 2 in two parts: the product of the first with a small integer is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
const LN_2_LOW: f32 = -2.121_944_4e-4;
/// Beyond these e^x leaves the normal numbers.
const EXP_RANGE: (f32, f32) = (-87.3, 88.3);

/// e^x, clamped to the range of normal numbers: 2^n e^r with |r| <= ln 2 / 2 and the polynomial of
/// the Cephes library for e^r.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = if x < EXP_RANGE.0 { EXP_RANGE.0 } else { x };
    let x = if x > EXP_RANGE.1 { EXP_RANGE.1 } else { x };
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + c;
    }
    let mantissa = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits());
    mantissa * f32::from_bits(exponent.wrapping_add(127) << 23)
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `x P(N <= x)` for a standard normal N, which is `x / 2 (1 + erf(x / sqrt 2))`: the exact form,
/// not the one by tanh. By the Chebyshev fit of Numerical Recipes §6.2 (`erfcc`) to the upper
/// tail, whose relative error of 1.2e-7 also holds where the tail is small.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let z = x.abs() * FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.5 * z);
    let mut p = 0.170_872_77;
    for c in [
        -0.822_152_23,
        1.488_515_9,
        -1.135_204,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_7,
        -1.265_512_2,
    ] {
        p = p * t + c;
    }
    let tail = 0.5 * t * exp(p - z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

vectorised! {
    /// Rows `[a, b]` of two halves of `inner` values each: a becomes `a gelu(b)`.
    pub fn geglu(x: &mut [f32], inner: usize) {
        for row in x.chunks_exact_mut(2 * inner) {
            let (values, gates) = row.split_at_mut(inner);
            let gates = &gates[..inner];
            for i in 0..inner {
                values[i] *= gelu(gates[i]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(low: f32, high: f32) -> impl Iterator<Item = f32> {
        (0..=200_000).map(move |i| low + (high - low) * i as f32 / 200_000.0)
    }

    #[test]
    fn exp_is_right_to_float32_precision() {
        for x in inputs(-87.0, 88.0) {
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 2.5e-7, "{x}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1.3e-38 && exp(f32::NEG_INFINITY) < 1.3e-38);
        assert!(exp(1e9).is_finite() && exp(1e9) > 2e38);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn silu_is_right_to_float32_precision() {
        for x in inputs(-60.0, 60.0) {
            let exact = f64::from(x) / (1.0 + (-f64::from(x)).exp());
            let error = (f64::from(silu(x)) - exact).abs();
            assert!(error <= 4e-7 * exact.abs(), "{x}: {error:e}");
        }
    }

    #[test]
    fn gelu_is_right_to_float32_precision_and_keeps_its_small_negative_values() {
        for x in inputs(-8.0, 8.0) {
            let wide = f64::from(x);
            let exact = 0.5 * wide * statrs::function::erf::erfc(-wide / 2f64.sqrt());
            let error = (f64::from(gelu(x)) - exact).abs();
            assert!(error <= 1.5e-7 * wide.abs().max(1.0), "{x}: {error:e}");
            assert!(error <= 1e-5 * exact.abs(), "{x}: {error:e} of {exact:e}");
        }
        assert_eq!(gelu(0.0), 0.0);
        assert_eq!(gelu(30.0), 30.0);
        assert!(gelu(-30.0).abs() < 1e-30);
    }
}
