//! Whether all numbers of a tensor are finite, told from their bits.

use burn::store::burn_pack::Error as PackError;
use burn::tensor::{DType, TensorData};
use rayon::prelude::*;

/// Numbers that one task looks at.
const BLOCK: usize = 1 << 20;

/// Refuses a tensor with an infinite number or a NaN. Integers always pass.
///
/// # Errors
/// Names the tensor and the first such element.
pub fn check(name: &str, data: &TensorData) -> Result<(), PackError> {
    match first_not_finite(data.as_bytes(), data.dtype()) {
        None => Ok(()),
        Some(at) => Err(PackError::ValidationError(format!(
            "tensor {name} holds a value that is not finite (element {at}); the file is damaged \
             or comes from a failed training run"
        ))),
    }
}

/// Index of the first number that is infinite or NaN: all bits of its exponent are set.
pub fn first_not_finite(bytes: &[u8], dtype: DType) -> Option<usize> {
    match dtype {
        DType::F16 => find(bytes, |b| u16::from_le_bytes(b) & 0x7c00 == 0x7c00),
        DType::BF16 => find(bytes, |b| u16::from_le_bytes(b) & 0x7f80 == 0x7f80),
        DType::F32 => find(bytes, |b| u32::from_le_bytes(b) & 0x7f80_0000 == 0x7f80_0000),
        DType::F64 => find(bytes, |b| !f64::from_le_bytes(b).is_finite()),
        _ => None,
    }
}

fn find<const N: usize>(bytes: &[u8], bad: impl Fn([u8; N]) -> bool + Sync) -> Option<usize> {
    let numbers = bytes.as_chunks::<N>().0;
    // A whole block without a way out in the middle is what the compiler makes wide instructions of.
    let any = |block: &[[u8; N]]| block.iter().fold(false, |any, &number| any | bad(number));
    let block = numbers.par_chunks(BLOCK).position_first(any)?;
    let within = numbers[block * BLOCK..].iter().position(|&number| bad(number))?;
    Some(block * BLOCK + within)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    #[test]
    fn the_first_number_that_is_not_finite_is_found_in_every_format() {
        for bad in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for at in [0, 5, BLOCK, BLOCK + 7] {
                let values = |count: usize| {
                    (0..count).map(move |i| if i >= at { bad } else { 6e4 * (i % 3) as f64 })
                };
                let count = BLOCK + 9;
                let f16s: Vec<u8> =
                    values(count).flat_map(|v| f16::from_f64(v).to_le_bytes()).collect();
                let bf16s: Vec<u8> =
                    values(count).flat_map(|v| bf16::from_f64(v).to_le_bytes()).collect();
                let f32s: Vec<u8> = values(count).flat_map(|v| (v as f32).to_le_bytes()).collect();
                let f64s: Vec<u8> = values(count).flat_map(f64::to_le_bytes).collect();
                // 6e4 times 2 is beyond float16.
                let expected_f16 = at.min(2);
                assert_eq!(first_not_finite(&f16s, DType::F16), Some(expected_f16));
                assert_eq!(first_not_finite(&bf16s, DType::BF16), Some(at));
                assert_eq!(first_not_finite(&f32s, DType::F32), Some(at));
                assert_eq!(first_not_finite(&f64s, DType::F64), Some(at));
            }
        }
        assert_eq!(first_not_finite(&[0xff; 16], DType::U8), None);
        assert_eq!(first_not_finite(&f32::MAX.to_le_bytes(), DType::F32), None);
    }
}
