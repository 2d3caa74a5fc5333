//! One golden case: its inputs, and the comparison of outputs with the expected ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value;

use crate::files::read_bounded;
use crate::model::config::read_json;
use crate::model::precision::Precision;

const TENSOR_FILE_LIMIT: u64 = 1 << 30;

/// Why a case could not be run. Any error of the code under test ends up here as text.
#[derive(Debug)]
pub struct CaseError(pub String);

impl std::fmt::Display for CaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for CaseError {
    fn from(error: E) -> Self {
        CaseError(error.to_string())
    }
}

/// One expected tensor against what Haze computed.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub name: String,
    pub passed: bool,
    /// Largest absolute difference.
    pub worst_error: f64,
    /// Largest difference as a share of its tolerance; above 1 fails.
    pub ratio: f64,
    /// Why it failed, when it is not a matter of size.
    pub note: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Expectation {
    #[serde(default)]
    atol: f64,
    #[serde(default)]
    rtol: f64,
    #[serde(default)]
    exact: bool,
    #[serde(default)]
    atol_steps: Option<Vec<f64>>,
    /// In place of all others where Haze computes in float16.
    #[serde(default)]
    atol_f16: Option<f64>,
    #[serde(default)]
    atol_bf16: Option<f64>,
}

impl Expectation {
    /// For numbers computed in `precision`; None where the case states no tolerance for it.
    fn of(self, precision: Precision) -> Option<Self> {
        let half = match precision {
            Precision::F32 => return Some(self),
            Precision::F16 => self.atol_f16,
            Precision::Bf16 => self.atol_bf16,
        };
        Some(Self { atol: half?, rtol: 0.0, atol_steps: None, ..self })
    }

    fn loosened(self, factor: f64) -> Self {
        let steps = self.atol_steps.map(|steps| steps.iter().map(|atol| atol * factor).collect());
        Self { atol: self.atol * factor, rtol: self.rtol * factor, atol_steps: steps, ..self }
    }
}

/// What cases are run with and held to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Standard {
    /// Multiplies every tolerance, but for tensors that must be equal.
    pub loosen: f64,
    /// What networks compute in that have a choice on the device.
    pub precision: Precision,
}

impl Default for Standard {
    /// Exact float32 arithmetic, as on a CPU.
    fn default() -> Self {
        Self { loosen: 1.0, precision: Precision::F32 }
    }
}

/// A tensor of a case file with every number widened to f64.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

/// A case folder, opened.
pub struct Case {
    folder: PathBuf,
    json: Value,
    inputs: BTreeMap<String, Numbers>,
    expected: BTreeMap<String, Numbers>,
    comparisons: Vec<Comparison>,
    standard: Standard,
    computed_in: Precision,
}

impl Case {
    /// Reads `case.json`, `inputs.safetensors` and `expected.safetensors`.
    ///
    /// # Errors
    /// When one of them is missing or malformed.
    pub fn open(folder: &Path) -> Result<Self, CaseError> {
        Ok(Self {
            folder: folder.to_owned(),
            json: read_json(&folder.join("case.json"))?,
            inputs: read_numbers(&folder.join("inputs.safetensors"))?,
            expected: read_numbers(&folder.join("expected.safetensors"))?,
            comparisons: Vec::new(),
            standard: Standard::default(),
            computed_in: Precision::F32,
        })
    }

    /// Runs the case by another standard than the default.
    pub fn hold_to(&mut self, standard: Standard) {
        self.standard = standard;
    }

    /// What a network with a choice should compute in.
    pub fn precision(&self) -> Precision {
        self.standard.precision
    }

    /// Says what the tensors checked from here on were computed in, which chooses the tolerance.
    pub fn computed_in(&mut self, precision: Precision) {
        self.computed_in = precision;
    }

    /// What the case tests: decides which code runs.
    pub fn kind(&self) -> &str {
        self.json["kind"].as_str().unwrap_or_default()
    }

    /// The folder of the case.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder with the model files: `model` of `case.json`, relative to the case, else the
    /// folder of the case itself.
    pub fn model_folder(&self) -> PathBuf {
        match self.json["model"].as_str() {
            Some(model) => self.folder.join(model),
            None => self.folder.clone(),
        }
    }

    /// The whole `case.json`.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Names of all inputs.
    pub fn input_names(&self) -> impl Iterator<Item = &str> {
        self.inputs.keys().map(String::as_str)
    }

    /// Names of all expected tensors.
    pub fn expected_names(&self) -> Vec<String> {
        self.expected.keys().cloned().collect()
    }

    /// True when the case expects a tensor of that name.
    pub fn expects(&self, name: &str) -> bool {
        self.expected.contains_key(name)
    }

    /// The expected numbers of one tensor, for checks that go beyond a tolerance.
    pub fn expected(&self, name: &str) -> Result<&Numbers, CaseError> {
        self.expected
            .get(name)
            .ok_or_else(|| CaseError(format!("the case expects no tensor {name:?}")))
    }

    /// One input as plain numbers.
    pub fn input(&self, name: &str) -> Result<&Numbers, CaseError> {
        self.inputs
            .get(name)
            .ok_or_else(|| CaseError(format!("inputs.safetensors has no tensor {name:?}")))
    }

    /// One input as a float32 tensor.
    pub fn float<const D: usize>(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<Tensor<D>, CaseError> {
        let numbers = self.input(name)?;
        self.check_rank(name, numbers, D)?;
        let values: Vec<f32> = numbers.values.iter().map(|&v| v as f32).collect();
        let data = TensorData::new(values, numbers.shape.clone());
        Ok(Tensor::from_data(data, (device, DType::F32)))
    }

    /// One input as an integer tensor.
    pub fn int<const D: usize>(
        &self,
        name: &str,
        device: &Device,
    ) -> Result<Tensor<D, Int>, CaseError> {
        let numbers = self.input(name)?;
        self.check_rank(name, numbers, D)?;
        let values: Vec<i32> = numbers.values.iter().map(|&v| v as i32).collect();
        Ok(Tensor::from_data(TensorData::new(values, numbers.shape.clone()), device))
    }

    fn check_rank(&self, name: &str, numbers: &Numbers, rank: usize) -> Result<(), CaseError> {
        if numbers.shape.len() == rank {
            return Ok(());
        }
        Err(CaseError(format!("input {name} has shape {:?}, expected rank {rank}", numbers.shape)))
    }

    /// Compares a computed tensor with the expected one of that name.
    ///
    /// # Errors
    /// When the tensor cannot be read back from its device, or nothing of that name is expected.
    pub fn check<const D: usize>(&mut self, name: &str, got: Tensor<D>) -> Result<(), CaseError> {
        let shape = got.dims().to_vec();
        let values = got.try_into_data()?.iter::<f64>().collect();
        self.check_values(name, &shape, values)
    }

    /// Compares computed numbers with the expected tensor of that name.
    ///
    /// # Errors
    /// When nothing of that name is expected, or no tolerance is stated for the precision.
    pub fn check_values(
        &mut self,
        name: &str,
        shape: &[usize],
        got: Vec<f64>,
    ) -> Result<(), CaseError> {
        let expectation: Expectation = serde_json::from_value(self.json["expected"][name].clone())?;
        let precision = self.computed_in;
        let expectation = expectation.of(precision).ok_or_else(|| {
            CaseError(format!("the case states no tolerance of {name} for {precision}"))
        })?;
        let expectation = expectation.loosened(self.standard.loosen);
        let expected = self.expected(name)?;
        let comparison = compare(name, expected, shape, &got, &expectation);
        self.comparisons.push(comparison);
        Ok(())
    }

    /// Records the result of a check that is more than a tolerance.
    pub fn record(&mut self, comparison: Comparison) {
        self.comparisons.push(comparison);
    }

    /// All comparisons, with a failed one for every expected tensor that was never compared,
    /// except those the case itself calls informative.
    pub fn into_comparisons(mut self) -> Vec<Comparison> {
        for name in self.expected.keys() {
            let compared = self.comparisons.iter().any(|c| &c.name == name);
            let doc = self.json["expected"][name]["doc"].as_str().unwrap_or_default();
            if !compared && !doc.starts_with("informative") {
                self.comparisons.push(Comparison {
                    name: name.clone(),
                    passed: false,
                    worst_error: f64::INFINITY,
                    ratio: f64::INFINITY,
                    note: Some("expected by the case but not computed".to_owned()),
                });
            }
        }
        self.comparisons
    }
}

fn compare(
    name: &str,
    expected: &Numbers,
    shape: &[usize],
    got: &[f64],
    expectation: &Expectation,
) -> Comparison {
    if expected.shape != shape || got.len() != expected.values.len() {
        return Comparison {
            name: name.to_owned(),
            passed: false,
            worst_error: f64::INFINITY,
            ratio: f64::INFINITY,
            note: Some(format!("shape {shape:?}, expected {:?}", expected.shape)),
        };
    }
    let row = got.len().checked_div(shape.first().copied().unwrap_or(1)).unwrap_or(1).max(1);
    let (mut worst_error, mut ratio) = (0f64, 0f64);
    for (i, (&g, &e)) in got.iter().zip(&expected.values).enumerate() {
        let error = if g == e || (g.is_nan() && e.is_nan()) { 0.0 } else { (g - e).abs() };
        let error = if error.is_nan() { f64::INFINITY } else { error };
        let atol = match &expectation.atol_steps {
            Some(steps) => steps.get(i / row).copied().unwrap_or(expectation.atol),
            None => expectation.atol,
        };
        let tolerance = if expectation.exact { 0.0 } else { atol + expectation.rtol * e.abs() };
        worst_error = worst_error.max(error);
        if error > 0.0 {
            ratio = ratio.max(error / tolerance);
        }
    }
    Comparison { name: name.to_owned(), passed: ratio <= 1.0, worst_error, ratio, note: None }
}

fn read_numbers(path: &Path) -> Result<BTreeMap<String, Numbers>, CaseError> {
    let bytes = read_bounded(path, TENSOR_FILE_LIMIT, "a tensor file")?;
    let file = SafeTensors::deserialize(&bytes)
        .map_err(|error| CaseError(format!("{}: {error}", path.display())))?;
    file.iter()
        .map(|(name, view)| {
            let values = widen(view.dtype(), view.data())
                .ok_or_else(|| CaseError(format!("{name}: dtype {:?}", view.dtype())))?;
            Ok((name.to_owned(), Numbers { shape: view.shape().to_vec(), values }))
        })
        .collect()
}

fn widen(dtype: Dtype, bytes: &[u8]) -> Option<Vec<f64>> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|&chunk| f(chunk)).collect()
    }
    Some(match dtype {
        Dtype::F64 => each(bytes, f64::from_le_bytes),
        Dtype::F32 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F16 => each(bytes, |b| half::f16::from_le_bytes(b).to_f64()),
        Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::I32 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
        Dtype::U8 | Dtype::BOOL => bytes.iter().map(|&b| f64::from(b)).collect(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_held_to_its_own_tolerance_or_to_none() {
        let text = r#"{"atol": 1e-6, "rtol": 1e-4, "atol_steps": [1e-7], "atol_f16": 0.5}"#;
        let stated = || serde_json::from_str::<Expectation>(text).unwrap();
        let half = stated().of(Precision::F16).unwrap().loosened(3.0);
        assert_eq!((half.atol, half.rtol, half.atol_steps), (1.5, 0.0, None));
        assert!(stated().of(Precision::Bf16).is_none());
        let single = stated().of(Precision::F32).unwrap().loosened(2.0);
        assert_eq!((single.atol, single.rtol), (2e-6, 2e-4));
        assert_eq!(single.atol_steps, Some(vec![2e-7]));
    }
}
