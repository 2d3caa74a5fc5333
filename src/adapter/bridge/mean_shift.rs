//! The shift between the means of two modalities: the plainest way over the modality gap.

use crate::adapter::AdapterError;
use crate::adapter::bridge::FitSummary;
use crate::adapter::training::TrainingData;

/// `y = x + shift` on raw embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanShift {
    /// `[D]`.
    pub(super) shift: Vec<f32>,
}

impl MeanShift {
    /// The difference of the mean target and the mean input of `training`; `validation` only
    /// tells how good it is.
    ///
    /// # Errors
    /// When the two have different dimensions.
    pub fn fit(
        training: &TrainingData<'_>,
        validation: &TrainingData<'_>,
    ) -> Result<(Self, FitSummary), AdapterError> {
        let dim = training.dim();
        if validation.dim() != dim {
            return Err(AdapterError::Dimension { found: validation.dim(), expected: dim });
        }
        let count = training.len() as f64;
        let mut shift = vec![0f64; dim];
        let mut mean = vec![0f64; dim];
        for item in &training.items {
            let (x, y) = (training.inputs.row(item.input), training.targets.row(item.target));
            for d in 0..dim {
                shift[d] += (f64::from(y[d]) - f64::from(x[d])) / count;
                mean[d] += f64::from(y[d]) / count;
            }
        }
        let mut variance = vec![0f64; dim];
        for item in &training.items {
            let y = training.targets.row(item.target);
            for d in 0..dim {
                variance[d] += (f64::from(y[d]) - mean[d]).powi(2) / count;
            }
        }
        let mut error = vec![0f64; dim];
        for item in &validation.items {
            let (x, y) = (validation.inputs.row(item.input), validation.targets.row(item.target));
            for d in 0..dim {
                let difference = f64::from(y[d]) - f64::from(x[d]) - shift[d];
                error[d] += difference.powi(2) / validation.len() as f64;
            }
        }
        let varying = || error.iter().zip(&variance).filter(|(_, v)| **v > 0.0);
        let shares: f64 = varying().map(|(e, v)| 1.0 - e / v).sum();
        let summary = FitSummary {
            training_items: training.len(),
            validation_items: validation.len(),
            explained: shares / varying().count().max(1) as f64,
            penalty: None,
        };
        Ok((Self { shift: shift.into_iter().map(|s| s as f32).collect() }, summary))
    }

    /// Number of dimensions D.
    pub fn dim(&self) -> usize {
        self.shift.len()
    }

    /// The shifted embedding `[D]` of a raw one `[D]`.
    ///
    /// # Errors
    /// When the embedding has another dimension.
    pub fn apply(&self, embedding: &[f32]) -> Result<Vec<f32>, AdapterError> {
        if embedding.len() != self.dim() {
            return Err(AdapterError::Dimension { found: embedding.len(), expected: self.dim() });
        }
        Ok(embedding.iter().zip(&self.shift).map(|(x, s)| x + s).collect())
    }
}
