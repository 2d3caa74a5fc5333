//! The timestep as the network sees it.

use burn::tensor::{DType, Device, Tensor, TensorData};

use crate::decoder::layers::{FeatureMap, Linear, Scope};
use crate::decoder::model_error::ModelError;

/// Longest wavelength of the encoding, as in "Attention Is All You Need" (arXiv 1706.03762 §3.5).
const MAX_PERIOD: f64 = 10_000.0;

/// Where on the noise schedule each image of a batch is. Fractions are allowed.
#[derive(Debug, Clone, PartialEq)]
pub enum Timestep {
    /// One timestep for the whole batch.
    Same(f64),
    /// One timestep per image.
    Each(Vec<f64>),
}

impl Timestep {
    pub(super) fn values(&self) -> &[f64] {
        match self {
            Timestep::Same(t) => std::slice::from_ref(t),
            Timestep::Each(list) => list,
        }
    }
}

impl From<f64> for Timestep {
    fn from(t: f64) -> Self {
        Timestep::Same(t)
    }
}

impl From<Vec<f64>> for Timestep {
    fn from(list: Vec<f64>) -> Self {
        Timestep::Each(list)
    }
}

/// Sinusoids of a timestep, `e_k = t 10000^(-k / (half - freq_shift))`: `[cos e, sin e]`, or sines
/// first.
#[derive(Debug, Clone, Copy)]
pub(in crate::decoder) struct Sinusoids {
    pub size: usize,
    pub cosines_first: bool,
    pub freq_shift: f64,
}

impl Sinusoids {
    /// `[T, size]` for T timesteps, computed in f64.
    pub fn encode(&self, timesteps: &[f64], device: &Device) -> Tensor<2> {
        let half = self.size / 2;
        let mut values = Vec::with_capacity(timesteps.len() * self.size);
        for &t in timesteps {
            let angles = (0..half)
                .map(|k| t * (-MAX_PERIOD.ln() * k as f64 / (half as f64 - self.freq_shift)).exp());
            let cosines = angles.clone().map(|angle| angle.cos() as f32);
            let sines = angles.map(|angle| angle.sin() as f32);
            if self.cosines_first {
                values.extend(cosines.chain(sines));
            } else {
                values.extend(sines.chain(cosines));
            }
        }
        let data = TensorData::new(values, [timesteps.len(), self.size]);
        Tensor::from_data(data, (device, DType::F32))
    }
}

/// Linear, SiLU, linear: of the timestep encoding, and of the class vector.
#[derive(Debug)]
pub(super) struct Embedding {
    linear_1: Linear,
    linear_2: Linear,
}

impl Embedding {
    /// Reads `linear_1` and `linear_2`.
    pub fn load(scope: &Scope<'_>, inputs: usize, size: usize) -> Result<Self, ModelError> {
        Ok(Self {
            linear_1: Linear::load(&scope.at("linear_1"), inputs, size)?,
            linear_2: Linear::load(&scope.at("linear_2"), size, size)?,
        })
    }

    /// Vectors of length `inputs` to vectors of length `size`.
    pub fn forward(&self, vectors: FeatureMap) -> FeatureMap {
        self.linear_2.forward(self.linear_1.forward(vectors).silu())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_follows_its_formula_and_order() {
        let device = crate::model::device::ComputeDevice::cpu().device;
        let sinusoids = Sinusoids { size: 4, cosines_first: true, freq_shift: 0.0 };
        let got: Vec<f32> = sinusoids.encode(&[0.0, 2.5], &device).try_into_vec_as().unwrap();
        let slow = 2.5f64 / 100.0;
        let expected = [1.0, 1.0, 0.0, 0.0, 2.5f64.cos(), slow.cos(), 2.5f64.sin(), slow.sin()];
        for (got, expected) in got.iter().zip(expected) {
            assert!((f64::from(*got) - expected).abs() < 1e-7);
        }
        let sines_first = Sinusoids { cosines_first: false, freq_shift: 1.0, ..sinusoids };
        let got: Vec<f32> = sines_first.encode(&[2.5], &device).try_into_vec_as().unwrap();
        // A shift of one makes the last frequency exactly 1 / 10000.
        assert!((f64::from(got[1]) - 2.5e-4f64.sin()).abs() < 1e-9);
        assert!((f64::from(got[0]) - 2.5f64.sin()).abs() < 1e-7);
    }
}
