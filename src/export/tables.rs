//! The tables of a result: per-dimension uncertainty as CSV, retrieval as JSON lines, samples and
//! density parameters as NPZ.

use std::io::Write;
use std::path::Path;

use super::arrays::{Array, write_npz};
use crate::distribution::GeneralizedGaussian;
use crate::files::{FileError, write_atomic};
use crate::session::result::QueryResult;

/// Columns of `uncertainty.csv`. `aleatoric`, `epistemic` and `total` are variances.
pub const UNCERTAINTY_COLUMNS: [&str; 7] =
    ["dimension", "mean", "alpha", "beta", "aleatoric", "epistemic", "total"];

/// Writes one row per embedding dimension: the mean, scale alpha and shape beta of its density,
/// and its variances in squared embedding units.
///
/// # Errors
/// When the file cannot be written.
pub fn write_uncertainty(path: &Path, result: &QueryResult) -> Result<(), FileError> {
    let distribution = &result.distribution;
    let (aleatoric, epistemic) = (distribution.aleatoric(), distribution.epistemic());
    let total = distribution.total();
    write_atomic(path, |file| {
        let mut csv = csv::Writer::from_writer(file);
        csv.write_record(UNCERTAINTY_COLUMNS)?;
        for (i, density) in distribution.dimensions().iter().enumerate() {
            csv.write_record(&[
                i.to_string(),
                density.mu().to_string(),
                density.alpha().to_string(),
                density.beta().to_string(),
                aleatoric[i].to_string(),
                epistemic[i].to_string(),
                total[i].to_string(),
            ])?;
        }
        csv.flush()
    })
}

/// Writes one row per sample: how likely it is, how far from the mean, what it retrieves first.
///
/// # Errors
/// When the file cannot be written.
pub fn write_sample_statistics(path: &Path, result: &QueryResult) -> Result<(), FileError> {
    write_atomic(path, |file| {
        let mut csv = csv::Writer::from_writer(file);
        csv.write_record([
            "index",
            "log_prob",
            "typicality",
            "distance_to_mean",
            "cosine_to_mean",
            "nearest",
            "nearest_score",
            "decoded_cosine",
        ])?;
        for sample in &result.samples {
            let s = &sample.statistics;
            let nearest = s.nearest.as_ref();
            csv.write_record([
                s.index.to_string(),
                s.log_prob.to_string(),
                s.typicality.to_string(),
                s.distance_to_mean.to_string(),
                s.cosine_to_mean.to_string(),
                nearest.map(|n| n.image.clone()).unwrap_or_default(),
                nearest.map(|n| n.score.to_string()).unwrap_or_default(),
                s.decoded_cosine.map(|c| c.to_string()).unwrap_or_default(),
            ])?;
        }
        csv.flush()
    })
}

/// Writes one JSON object per retrieved item, best first.
///
/// # Errors
/// When the file cannot be written.
pub fn write_retrieval(path: &Path, result: &QueryResult) -> Result<(), FileError> {
    write_atomic(path, |file| {
        for item in result.retrieval.iter().flat_map(|retrieved| &retrieved.items) {
            serde_json::to_writer(&mut *file, item)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })
}

/// Writes the query embedding `[D]`, the density's parameters `[D]`, the samples `[N, D]` and
/// their log-densities `[N]`.
///
/// # Errors
/// When the file cannot be written.
pub fn write_samples(path: &Path, result: &QueryResult) -> Result<(), FileError> {
    let distribution = &result.distribution;
    let (n, d) = (result.samples.len(), distribution.dim());
    let each = |f: fn(&GeneralizedGaussian) -> f64| -> Vec<f64> {
        distribution.dimensions().iter().map(f).collect()
    };
    let samples = result.samples.iter().flat_map(|s| s.values.iter().copied()).collect();
    let query = result.query_embedding.values.clone();
    write_npz(
        path,
        &[
            Array::F32("samples", vec![n, d], samples),
            Array::F64(
                "log_prob",
                vec![n],
                result.samples.iter().map(|s| s.statistics.log_prob).collect(),
            ),
            Array::F32("query", vec![query.len()], query),
            Array::F64("mean", vec![d], each(GeneralizedGaussian::mu)),
            Array::F64("alpha", vec![d], each(GeneralizedGaussian::alpha)),
            Array::F64("beta", vec![d], each(GeneralizedGaussian::beta)),
            Array::F64("aleatoric", vec![d], distribution.aleatoric().to_vec()),
            Array::F64("epistemic", vec![d], distribution.epistemic().to_vec()),
        ],
    )
}
