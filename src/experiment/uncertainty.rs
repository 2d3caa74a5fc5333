//! What an adapter says about many embeddings, in a unit that embedding spaces share.

use crate::adapter::{AdapterError, Predictor};
use crate::encoder::{Embedding, norm};

/// Embeddings predicted at a time: bounds the memory of their densities.
const CHUNK: usize = 512;

/// Variances in unit space, one entry per embedding.
///
/// A raw variance has the unit of its encoder: doubling all embeddings makes it four times as
/// large. Here the variance, summed over dimensions, is divided by the squared length of the
/// predicted mean: the expected squared distance on the scale where embeddings have length 1. That
/// depends neither on an encoder's norms nor on its number of dimensions, so it is what may be
/// compared between encoders, and between items of different norms.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct UnitUncertainty {
    /// Aleatoric plus epistemic.
    pub total: Vec<f64>,
    pub aleatoric: Vec<f64>,
    pub epistemic: Vec<f64>,
}

impl UnitUncertainty {
    /// Predicts for every embedding, with `passes` passes for the epistemic part.
    ///
    /// # Errors
    /// When an embedding does not fit the adapter.
    pub fn of(
        adapter: &dyn Predictor,
        embeddings: impl Iterator<Item = Embedding>,
        passes: usize,
        seed: u64,
    ) -> Result<Self, AdapterError> {
        let mut found = Self::default();
        let mut embeddings = embeddings.peekable();
        while embeddings.peek().is_some() {
            let chunk: Vec<Embedding> = embeddings.by_ref().take(CHUNK).collect();
            for density in adapter.predict_batch(&chunk, passes, seed)? {
                let length = norm(&density.mean()).powi(2).max(f64::MIN_POSITIVE);
                let aleatoric = density.aleatoric().iter().sum::<f64>() / length;
                let epistemic = density.epistemic().iter().sum::<f64>() / length;
                found.total.push(aleatoric + epistemic);
                found.aleatoric.push(aleatoric);
                found.epistemic.push(epistemic);
            }
        }
        Ok(found)
    }

    /// Number of embeddings.
    pub fn len(&self) -> usize {
        self.total.len()
    }

    pub fn is_empty(&self) -> bool {
        self.total.is_empty()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::Path;

    use super::*;
    use crate::distribution::{EmbeddingDistribution, GeneralizedGaussian};
    use crate::encoder::Modality;

    /// Predicts the input itself, with a standard deviation of `spread` times its first number.
    #[derive(Debug)]
    pub(crate) struct FirstNumber {
        pub spread: f64,
        pub dim: usize,
    }

    impl Predictor for FirstNumber {
        fn predict_batch(
            &self,
            embeddings: &[Embedding],
            passes: usize,
            _seed: u64,
        ) -> Result<Vec<EmbeddingDistribution>, AdapterError> {
            let predict = |embedding: &Embedding| {
                let deviation = self.spread * f64::from(embedding.values[0]).abs() + 1e-6;
                let density =
                    |&v: &f32| GeneralizedGaussian::new(f64::from(v), deviation * 2f64.sqrt(), 2.0);
                let dimensions: Result<Vec<_>, _> = embedding.values.iter().map(density).collect();
                let epistemic = vec![passes as f64 * deviation.powi(2); embedding.dim()];
                Ok(EmbeddingDistribution::new(dimensions?, epistemic)?)
            };
            embeddings.iter().map(predict).collect()
        }

        fn input_modality(&self) -> Modality {
            Modality::Image
        }

        fn output_modality(&self) -> Modality {
            Modality::Image
        }

        fn dim(&self) -> usize {
            self.dim
        }

        fn encoder(&self) -> Option<&str> {
            None
        }

        fn set_encoder(&mut self, _fingerprint: String) {}

        fn describe(&self) -> String {
            "first number".to_owned()
        }

        fn save(&self, _folder: &Path) -> Result<(), AdapterError> {
            Ok(())
        }
    }

    #[test]
    fn the_scale_of_a_space_does_not_change_its_unit_uncertainty() {
        let adapter = FirstNumber { spread: 0.5, dim: 2 };
        let of = |scale: f32| {
            let rows = [[3.0, 4.0], [0.6, 0.8], [0.0, 1.0]];
            let embeddings = rows.into_iter().map(move |row| Embedding {
                values: row.map(|v: f32| v * scale).to_vec(),
                modality: Modality::Image,
            });
            UnitUncertainty::of(&adapter, embeddings, 1, 0).unwrap()
        };
        let (one, hundred) = (of(1.0), of(100.0));
        // Two dimensions with a deviation of half the first number each: 2 · 0.25 · 0.36.
        assert!((one.aleatoric[0] - 0.18).abs() < 1e-4);
        assert!((one.aleatoric[0] - one.aleatoric[1]).abs() < 1e-4);
        for (a, b) in one.total.iter().zip(&hundred.total) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
        for ((total, a), e) in one.total.iter().zip(&one.aleatoric).zip(&one.epistemic) {
            assert_eq!(*total, a + e);
        }
    }
}
