//! How raw embeddings enter the space an adapter works in, and how predictions come back.
//!
//! Encoders give embeddings that are not normalised, and decoders need them that way. An adapter
//! works on unit vectors (as ProbVLM's authors do) or on standardised dimensions; its predictions
//! are mapped back, so that nothing outside ever sees the working space.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::adapter::AdapterError;
use crate::adapter::tensor_file::{NamedTensor, read_tensor};
use crate::encoder::norm;
use crate::model::config::ConfigError;
use crate::model::weights::Weights;

/// A dimension that hardly varies in training is not blown up beyond this share of the widest.
const SMALLEST_DEVIATION: f64 = 1e-4;

/// The kind of a working space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SpaceKind {
    /// Unit vectors.
    Unit,
    /// Every dimension with mean 0 and standard deviation 1 over the training data.
    Standardised,
}

impl std::fmt::Display for SpaceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            SpaceKind::Unit => "unit",
            SpaceKind::Standardised => "standardised",
        })
    }
}

/// One side of an adapter's working space.
#[derive(Debug, Clone, PartialEq)]
pub enum Space {
    /// `factor * x / |x|`.
    Unit {
        /// 1, or the logit scale that the authors' code multiplies image features with.
        factor: f32,
        /// The norm that predictions get. Without one they get the norm of the query, as they
        /// should when an adapter predicts the modality it is given.
        norm: Option<f64>,
    },
    /// `(x - mean) / deviation` per dimension.
    Standardised { mean: Vec<f32>, deviation: Vec<f32> },
}

/// The part of a [`Space`] that stands in `adapter_config.json`; vectors are in the weight file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpaceConfig {
    pub kind: SpaceKind,
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub factor: f32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<f64>,
}

fn one() -> f32 {
    1.0
}

fn is_one(factor: &f32) -> bool {
    *factor == 1.0
}

/// `raw = offset + scale * working`, for one dimension.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ToRaw {
    pub offset: f64,
    pub scale: f64,
}

impl Space {
    /// The standardised space of these rows, each of `dim` numbers. A row counts as often as it
    /// comes.
    pub fn standardised<R: AsRef<[f32]>>(
        rows: impl Iterator<Item = R> + Clone,
        dim: usize,
    ) -> Self {
        let mut count = 0f64;
        let mut mean = vec![0f64; dim];
        for row in rows.clone() {
            count += 1.0;
            for (m, &x) in mean.iter_mut().zip(row.as_ref()) {
                *m += f64::from(x);
            }
        }
        let count = count.max(1.0);
        mean.iter_mut().for_each(|m| *m /= count);
        let mut variance = vec![0f64; dim];
        for row in rows {
            for ((v, m), &x) in variance.iter_mut().zip(&mean).zip(row.as_ref()) {
                *v += (f64::from(x) - m).powi(2);
            }
        }
        let deviation: Vec<f64> = variance.into_iter().map(|v| (v / count).sqrt()).collect();
        let widest = deviation.iter().copied().fold(0.0, f64::max);
        let floor = if widest > 0.0 { widest * SMALLEST_DEVIATION } else { 1.0 };
        Space::Standardised {
            mean: mean.into_iter().map(|m| m as f32).collect(),
            deviation: deviation.into_iter().map(|d| d.max(floor) as f32).collect(),
        }
    }

    /// Appends the row in the working space to `out`.
    ///
    /// # Errors
    /// When a unit vector is asked of a row of zeros.
    pub fn push_working(&self, row: &[f32], out: &mut Vec<f32>) -> Result<(), AdapterError> {
        match self {
            Space::Unit { factor, .. } => {
                let length = norm(row);
                if length == 0.0 {
                    return Err(AdapterError::Zero);
                }
                let scale = f64::from(*factor) / length;
                out.extend(row.iter().map(|&x| (f64::from(x) * scale) as f32));
            }
            Space::Standardised { mean, deviation } => {
                out.extend(row.iter().zip(mean).zip(deviation).map(|((&x, m), d)| (x - m) / d));
            }
        }
        Ok(())
    }

    /// The way back for one dimension of a prediction about a query of norm `query_norm`.
    pub fn to_raw(&self, dimension: usize, query_norm: f64) -> ToRaw {
        match self {
            Space::Unit { factor, norm } => {
                ToRaw { offset: 0.0, scale: norm.unwrap_or(query_norm) / f64::from(*factor) }
            }
            Space::Standardised { mean, deviation } => {
                ToRaw { offset: f64::from(mean[dimension]), scale: f64::from(deviation[dimension]) }
            }
        }
    }

    /// Mean of `ln scale` over the dimensions: what a density per dimension loses in nats when it
    /// is mapped to the raw space of a query of norm `query_norm`.
    pub fn mean_ln_scale(&self, dim: usize, query_norm: f64) -> f64 {
        (0..dim).map(|d| self.to_raw(d, query_norm).scale.ln()).sum::<f64>() / dim as f64
    }

    /// Which kind it is.
    pub fn kind(&self) -> SpaceKind {
        match self {
            Space::Unit { .. } => SpaceKind::Unit,
            Space::Standardised { .. } => SpaceKind::Standardised,
        }
    }

    /// Its part in the config file.
    pub fn config(&self) -> SpaceConfig {
        let (factor, norm) = match self {
            Space::Unit { factor, norm } => (*factor, *norm),
            Space::Standardised { .. } => (1.0, None),
        };
        SpaceConfig { kind: self.kind(), factor, norm }
    }

    /// Its part in the weight file, under names that start with `prefix`.
    pub fn tensors(&self, prefix: &str) -> Vec<NamedTensor> {
        match self {
            Space::Unit { .. } => Vec::new(),
            Space::Standardised { mean, deviation } => vec![
                NamedTensor::vector(&format!("{prefix}.mean"), mean.clone()),
                NamedTensor::vector(&format!("{prefix}.deviation"), deviation.clone()),
            ],
        }
    }

    /// Puts config and weight file together again.
    ///
    /// # Errors
    /// When a vector is missing or has another length than `dim`, or a scale is not positive.
    pub fn load(
        config: &SpaceConfig,
        weights: &Weights,
        prefix: &str,
        dim: usize,
        config_path: &Path,
    ) -> Result<Self, AdapterError> {
        match config.kind {
            SpaceKind::Unit => {
                let positive = |x: f64| x.is_finite() && x > 0.0;
                if !positive(f64::from(config.factor)) || !config.norm.is_none_or(positive) {
                    return Err(ConfigError::value(
                        config_path,
                        prefix,
                        format!("factor {}, norm {:?}", config.factor, config.norm),
                        "positive numbers",
                    )
                    .into());
                }
                Ok(Space::Unit { factor: config.factor, norm: config.norm })
            }
            SpaceKind::Standardised => {
                let vector = |name: &str| read_tensor::<1>(weights, &format!("{prefix}.{name}"));
                let (mean, deviation) = (vector("mean")?, vector("deviation")?);
                if mean.len() != dim
                    || deviation.len() != dim
                    || deviation.iter().any(|&d| d <= 0.0)
                {
                    return Err(ConfigError::value(
                        config_path,
                        &format!("{prefix} (in the weight file)"),
                        format!("of {} and {} numbers", mean.len(), deviation.len()),
                        format!("{dim} means and {dim} positive deviations"),
                    )
                    .into());
                }
                Ok(Space::Standardised { mean, deviation })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: [[f32; 3]; 4] =
        [[1.0, 10.0, 5.0], [3.0, 30.0, 5.0], [-1.0, 20.0, 5.0], [1.0, 40.0, 5.0]];

    #[test]
    fn standardised_rows_have_mean_0_and_deviation_1_where_they_vary() {
        let space = Space::standardised(ROWS.iter().map(|r| &r[..]), 3);
        let mut working = Vec::new();
        for row in &ROWS {
            space.push_working(row, &mut working).unwrap();
        }
        for d in 0..3 {
            let column: Vec<f32> = working.iter().skip(d).step_by(3).copied().collect();
            let mean = column.iter().sum::<f32>() / 4.0;
            let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 4.0;
            assert!(mean.abs() < 1e-6);
            assert!((variance - if d == 2 { 0.0 } else { 1.0 }).abs() < 1e-5);
        }
    }

    #[test]
    fn both_spaces_bring_a_row_back_to_where_it_was() {
        let unit = Space::Unit { factor: 100.0, norm: None };
        let standardised = Space::standardised(ROWS.iter().map(|r| &r[..]), 3);
        for space in [unit, standardised] {
            let mut working = Vec::new();
            space.push_working(&ROWS[1], &mut working).unwrap();
            for (d, (&w, &raw)) in working.iter().zip(&ROWS[1]).enumerate() {
                let ToRaw { offset, scale } = space.to_raw(d, norm(&ROWS[1]));
                assert!((offset + scale * f64::from(w) - f64::from(raw)).abs() < 1e-4);
            }
        }
    }

    #[test]
    fn a_row_of_zeros_has_no_unit_vector() {
        let space = Space::Unit { factor: 1.0, norm: None };
        assert!(matches!(space.push_working(&[0.0; 3], &mut Vec::new()), Err(AdapterError::Zero)));
    }
}
