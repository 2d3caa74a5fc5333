//! The float format that a network's weights are read in and its layers compute in.

use std::fmt;
use std::str::FromStr;

use burn::tensor::DType;
use serde::{Deserialize, Serialize};

/// A float format of weights and activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// float32: 24 significant bits, up to 3.4e38.
    #[default]
    F32,
    /// float16: 11 significant bits, up to 65504.
    F16,
    /// bfloat16: 8 significant bits, the range of float32.
    Bf16,
}

impl Precision {
    /// As a type of tensors.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }

    /// Bytes of one number.
    pub fn bytes(self) -> u64 {
        self.dtype().size() as u64
    }

    /// True for the two formats of 16 bits.
    pub fn is_half(self) -> bool {
        self != Self::F32
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// The precision that the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// float16 on a GPU that has matrix units for it, else float32.
    #[default]
    Auto,
    F32,
    F16,
    Bf16,
}

impl PrecisionChoice {
    /// All choices, in the order shown to the user.
    pub const ALL: [PrecisionChoice; 4] = [Self::Auto, Self::F32, Self::F16, Self::Bf16];

    /// What was asked for, where it is one format.
    pub fn named(self) -> Option<Precision> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(Precision::F32),
            Self::F16 => Some(Precision::F16),
            Self::Bf16 => Some(Precision::Bf16),
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::F16 => Self::F16,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl fmt::Display for PrecisionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.named() {
            None => f.write_str("auto"),
            Some(precision) => precision.fmt(f),
        }
    }
}

impl FromStr for PrecisionChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|choice| choice.to_string() == text)
            .ok_or_else(|| format!("unknown precision {text:?}; expected auto, f32, f16 or bf16"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_read_back_from_its_name_and_its_json() {
        for choice in PrecisionChoice::ALL {
            assert_eq!(choice.to_string().parse::<PrecisionChoice>().unwrap(), choice);
            let json = serde_json::to_value(choice).unwrap();
            assert_eq!(json, choice.to_string());
            assert_eq!(serde_json::from_value::<PrecisionChoice>(json).unwrap(), choice);
        }
        let error = "half".parse::<PrecisionChoice>().unwrap_err();
        assert!(error.contains("\"half\"") && error.contains("bf16"), "{error}");
    }

    #[test]
    fn a_choice_of_one_format_names_it() {
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            assert_eq!(PrecisionChoice::from(precision).named(), Some(precision));
            assert_eq!(precision.bytes(), if precision.is_half() { 2 } else { 4 });
        }
        assert_eq!(PrecisionChoice::Auto.named(), None);
    }
}
