//! What the network predicts, and how that relates to the clean sample and to the noise.

use burn::tensor::Tensor;

/// The quantity a diffusion network was trained to predict, for a noisy sample
/// x = sqrt(a) x0 + sqrt(1 - a) epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictionType {
    /// The noise epsilon (arXiv 2006.11239).
    Epsilon,
    /// The velocity v = sqrt(a) epsilon - sqrt(1 - a) x0 (arXiv 2202.00512).
    Velocity,
    /// The clean sample x0.
    Sample,
}

impl PredictionType {
    /// The clean sample x0. `signal` = sqrt(a) and `noise` = sqrt(1 - a) of the sample.
    pub(super) fn original<const D: usize>(
        self,
        output: &Tensor<D>,
        sample: &Tensor<D>,
        signal: f64,
        noise: f64,
    ) -> Tensor<D> {
        let (output, sample) = (output.clone(), sample.clone());
        match self {
            Self::Epsilon => (sample - output.mul_scalar(noise)).div_scalar(signal),
            Self::Velocity => sample.mul_scalar(signal) - output.mul_scalar(noise),
            Self::Sample => output,
        }
    }

    /// The noise epsilon, with the arguments of [`Self::original`].
    pub(super) fn epsilon<const D: usize>(
        self,
        output: &Tensor<D>,
        sample: &Tensor<D>,
        signal: f64,
        noise: f64,
    ) -> Tensor<D> {
        let (output, sample) = (output.clone(), sample.clone());
        match self {
            Self::Epsilon => output,
            Self::Velocity => output.mul_scalar(signal) + sample.mul_scalar(noise),
            Self::Sample => (sample - output.mul_scalar(signal)).div_scalar(noise),
        }
    }
}
