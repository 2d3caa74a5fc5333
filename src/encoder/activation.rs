//! Activations of the feed-forward layers.

use burn::tensor::{Tensor, activation};

/// The activation that a config names as `hidden_act`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// x sigmoid(1.702 x): OpenAI's models.
    QuickGelu,
    /// x/2 (1 + erf(x / sqrt 2)), exact: OpenCLIP, Stable Diffusion 2.
    Gelu,
    /// The tanh form with 0.044715.
    GeluTanh,
}

impl Activation {
    /// Names as transformers writes them, for error messages.
    pub const NAMES: &'static str = "quick_gelu, gelu or gelu_pytorch_tanh";

    /// The activation of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "quick_gelu" => Self::QuickGelu,
            "gelu" => Self::Gelu,
            "gelu_pytorch_tanh" => Self::GeluTanh,
            _ => return None,
        })
    }

    /// The name that [`Self::from_name`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::QuickGelu => "quick_gelu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_pytorch_tanh",
        }
    }

    /// Applies it to every element.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::QuickGelu => swish(x.clone(), x * 1.702),
            Self::Gelu => activation::gelu(x),
            Self::GeluTanh => {
                // x/2 (1 + tanh u) = x sigmoid(2 u), u = sqrt(2/pi) (x + 0.044715 x^3).
                let scale = 2.0 * std::f64::consts::FRAC_2_PI.sqrt();
                let square = x.clone() * x.clone();
                swish(x.clone(), (square * (0.044715 * scale) + scale) * x)
            }
        }
    }
}

/// x sigmoid(gate). The plain quotient is right at both ends, where the exponential is 0 or
/// infinite, and takes half the time of a sigmoid that guards against them.
fn swish<const D: usize>(x: Tensor<D>, gate: Tensor<D>) -> Tensor<D> {
    x / (gate.neg().exp() + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;

    #[test]
    fn each_activation_has_the_values_of_its_formula() {
        let device = ComputeDevice::cpu().device;
        // By Python's math module: x sigmoid(1.702 x), x/2 (1 + erf(x / sqrt 2)), the tanh form.
        let cases = [
            (Activation::QuickGelu, [-0.154_204_2, 0.0, 0.350_388_4, 1.935_658_6]),
            (Activation::Gelu, [-0.158_655_3, 0.0, 0.345_731_2, 1.954_499_7]),
            (Activation::GeluTanh, [-0.158_808, 0.0, 0.345_714, 1.954_597_7]),
        ];
        for (activation, expected) in cases {
            let x = Tensor::<1>::from_floats([-1.0, 0.0, 0.5, 2.0], &device);
            let got: Vec<f32> = activation.forward(x).into_data().iter().collect();
            for (got, expected) in got.iter().zip(expected) {
                assert!((got - expected).abs() < 2e-6, "{activation:?}: {got} {expected}");
            }
        }
    }

    #[test]
    fn far_from_zero_each_activation_is_the_identity_or_zero() {
        let device = ComputeDevice::cpu().device;
        for activation in [Activation::QuickGelu, Activation::Gelu, Activation::GeluTanh] {
            let x = Tensor::<1>::from_floats([-3e4, -200.0, 200.0, 3e4], &device);
            let got: Vec<f32> = activation.forward(x).into_data().iter().collect();
            assert_eq!(got, [0.0, 0.0, 200.0, 3e4], "{activation:?}");
        }
    }

    #[test]
    fn an_unknown_name_is_no_activation() {
        assert_eq!(Activation::from_name("relu"), None);
        for activation in [Activation::QuickGelu, Activation::Gelu, Activation::GeluTanh] {
            assert_eq!(Activation::from_name(activation.name()), Some(activation));
        }
    }
}
