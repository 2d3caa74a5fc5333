//! A linear map from one modality's embeddings to the other's, fitted by ridge regression.

use burn::tensor::{DType, Device, Tensor, TensorData};

use super::linear_algebra::{cholesky, solve};
use crate::adapter::AdapterError;
use crate::adapter::space::Space;
use crate::adapter::training::TrainingData;

/// Rows that one matrix product takes; sums over products are kept in f64.
const ROWS: usize = 4096;

/// Ridge penalties per item that are tried, on standardised inputs and targets. A penalty of ρ
/// shrinks a direction with variance v by v / (v + ρ).
const PENALTIES: [f64; 16] =
    [1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 16.0, 32.0];

/// `y = W x + b` on raw embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearMap {
    /// `[D_out, D_in]`, row-major.
    pub(super) weight: Vec<f32>,
    /// `[D_out]`.
    pub(super) bias: Vec<f32>,
}

/// How well a bridge explains held-out targets.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FitSummary {
    pub training_items: usize,
    pub validation_items: usize,
    /// Share of the variance of held-out targets that is explained: mean over dimensions of
    /// `1 - mean squared error / training variance`. Negative when worse than a constant.
    pub explained: f64,
    /// The ridge penalty per item that was chosen, on standardised inputs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub penalty: Option<f64>,
}

/// Sums over items of products of standardised inputs and targets.
struct Moments {
    /// `Σ x xᵀ`, `[D, D]`.
    inputs: Vec<f64>,
    /// `Σ x yᵀ`, `[D, D]`.
    crossed: Vec<f64>,
}

impl LinearMap {
    /// Fits the map to `training`, with the penalty that explains `validation` best.
    ///
    /// The normal equations are summed on `device` in f32 products of some thousand rows, added
    /// and solved in f64.
    ///
    /// # Errors
    /// When the device fails or the data holds no variation at all.
    pub fn fit(
        training: &TrainingData<'_>,
        validation: &TrainingData<'_>,
        device: &Device,
    ) -> Result<(Self, FitSummary), AdapterError> {
        let dim = training.dim();
        if validation.dim() != dim {
            return Err(AdapterError::Dimension { found: validation.dim(), expected: dim });
        }
        let input_space =
            Space::standardised(training.items.iter().map(|i| training.inputs.row(i.input)), dim);
        let output_space =
            Space::standardised(training.items.iter().map(|i| training.targets.row(i.target)), dim);
        let moments = moments(training, &input_space, &output_space, device)?;
        let (held_inputs, held_targets) =
            standardised(validation, 0..validation.len(), &input_space, &output_space)?;
        let mut best: Option<(f64, f64, Vec<f64>)> = None;
        for penalty in PENALTIES {
            let Some(weights) = ridge(&moments, dim, penalty * training.len() as f64) else {
                continue;
            };
            let error = mean_squared_error(&held_inputs, &held_targets, &weights, dim, device)?;
            if error.is_finite() && best.as_ref().is_none_or(|(least, ..)| error < *least) {
                best = Some((error, penalty, weights));
            }
        }
        let (error, penalty, weights) = best.ok_or_else(|| AdapterError::Fit {
            what: "linear map",
            reason: "the normal equations have no solution; are the embeddings all alike?".into(),
        })?;
        let summary = FitSummary {
            training_items: training.len(),
            validation_items: validation.len(),
            explained: 1.0 - error,
            penalty: Some(penalty),
        };
        Ok((Self::from_standardised(&weights, &input_space, &output_space, dim), summary))
    }

    /// Standardised weights `[D_in, D_out]` as a map of raw embeddings.
    fn from_standardised(weights: &[f64], input: &Space, output: &Space, dim: usize) -> Self {
        let mut weight = vec![0f32; dim * dim];
        let mut bias = vec![0f32; dim];
        for o in 0..dim {
            let to = output.to_raw(o, 1.0);
            let mut offset = to.offset;
            for i in 0..dim {
                let from = input.to_raw(i, 1.0);
                let slope = weights[i * dim + o] * to.scale / from.scale;
                weight[o * dim + i] = slope as f32;
                offset -= slope * from.offset;
            }
            bias[o] = offset as f32;
        }
        Self { weight, bias }
    }

    /// Number of input dimensions.
    pub fn input_dim(&self) -> usize {
        self.weight.len() / self.bias.len()
    }

    /// Number of output dimensions.
    pub fn output_dim(&self) -> usize {
        self.bias.len()
    }

    /// The mapped embedding `[D_out]` of a raw one `[D_in]`.
    ///
    /// # Errors
    /// When the embedding has another dimension.
    pub fn apply(&self, embedding: &[f32]) -> Result<Vec<f32>, AdapterError> {
        let expected = self.input_dim();
        if embedding.len() != expected {
            return Err(AdapterError::Dimension { found: embedding.len(), expected });
        }
        let product = |row: &[f32]| -> f64 {
            row.iter().zip(embedding).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum()
        };
        let rows = self.weight.chunks_exact(expected);
        Ok(rows.zip(&self.bias).map(|(row, &b)| (product(row) + f64::from(b)) as f32).collect())
    }
}

/// Items as standardised rows of inputs and of targets.
fn standardised(
    data: &TrainingData<'_>,
    range: std::ops::Range<usize>,
    input: &Space,
    output: &Space,
) -> Result<(Vec<f32>, Vec<f32>), AdapterError> {
    let mut rows = (Vec::new(), Vec::new());
    for item in &data.items[range] {
        input.push_working(&data.inputs.row(item.input), &mut rows.0)?;
        output.push_working(&data.targets.row(item.target), &mut rows.1)?;
    }
    Ok(rows)
}

fn tensor(rows: Vec<f32>, dim: usize, device: &Device) -> Tensor<2> {
    let shape = [rows.len() / dim, dim];
    Tensor::from_data(TensorData::new(rows, shape), (device, DType::F32))
}

fn moments(
    data: &TrainingData<'_>,
    input: &Space,
    output: &Space,
    device: &Device,
) -> Result<Moments, AdapterError> {
    let dim = data.dim();
    let mut sums = Moments { inputs: vec![0.0; dim * dim], crossed: vec![0.0; dim * dim] };
    for start in (0..data.len()).step_by(ROWS) {
        let range = start..(start + ROWS).min(data.len());
        let (x, y) = standardised(data, range, input, output)?;
        let (x, y) = (tensor(x, dim, device), tensor(y, dim, device));
        let transposed = x.clone().transpose();
        add(&mut sums.inputs, transposed.clone().matmul(x))?;
        add(&mut sums.crossed, transposed.matmul(y))?;
    }
    Ok(sums)
}

fn add(sum: &mut [f64], product: Tensor<2>) -> Result<(), AdapterError> {
    let values =
        product.try_into_vec_as::<f32>().map_err(|e| AdapterError::Device(e.to_string()))?;
    sum.iter_mut().zip(values).for_each(|(s, v)| *s += f64::from(v));
    Ok(())
}

/// Weights `[D_in, D_out]` of `(Σ x xᵀ + penalty I) W = Σ x yᵀ`.
fn ridge(moments: &Moments, dim: usize, penalty: f64) -> Option<Vec<f64>> {
    let mut a = moments.inputs.clone();
    for i in 0..dim {
        a[i * dim + i] += penalty;
    }
    Some(solve(&cholesky(&a, dim)?, dim, &moments.crossed, dim))
}

fn mean_squared_error(
    inputs: &[f32],
    targets: &[f32],
    weights: &[f64],
    dim: usize,
    device: &Device,
) -> Result<f64, AdapterError> {
    let weights = tensor(weights.iter().map(|&w| w as f32).collect(), dim, device);
    let mut sum = 0.0;
    for (x, y) in inputs.chunks(ROWS * dim).zip(targets.chunks(ROWS * dim)) {
        let predicted = tensor(x.to_vec(), dim, device).matmul(weights.clone());
        let predicted =
            predicted.try_into_vec_as::<f32>().map_err(|e| AdapterError::Device(e.to_string()))?;
        sum += predicted.iter().zip(y).map(|(p, t)| f64::from(p - t).powi(2)).sum::<f64>();
    }
    Ok(sum / targets.len() as f64)
}
