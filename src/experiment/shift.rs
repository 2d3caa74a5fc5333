//! The shift matrix: train on each data set, test on all (figure 3 of the ProbVLM paper,
//! arXiv 2307.00398).

use std::ops::ControlFlow;

use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use super::method::Method;
use super::report::{Report, Settings};
use super::retrieval::Direction;
use super::run::{OnProgress, Progress};
use super::{EmbeddedPairs, Experiment, ExperimentError, TestSet};
use crate::evaluation::Estimate;

/// A data set that is trained on.
pub struct ShiftSource {
    pub name: String,
    pub training: EmbeddedPairs,
    pub validation: EmbeddedPairs,
}

/// Every source against every target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShiftMatrix {
    pub sources: Vec<String>,
    pub targets: Vec<String>,
    pub cells: Vec<ShiftCell>,
    /// The whole report of each source.
    pub reports: Vec<Report>,
}

/// One method, trained on one source and tested on one target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShiftCell {
    pub source: String,
    pub target: String,
    pub direction: Direction,
    pub method: Method,
    pub minus_s_r2: Estimate,
    pub aurc: Estimate,
    /// Mean over seeds of the mean uncertainty over the queries.
    pub mean_uncertainty: f64,
}

/// Runs one experiment per source over all targets.
///
/// # Errors
/// As [`Experiment::run`], for the first that fails.
pub fn shift_matrix(
    sources: &[ShiftSource],
    targets: &[TestSet],
    settings: &Settings,
    device: &Device,
    on_progress: OnProgress<'_>,
) -> Result<ShiftMatrix, ExperimentError> {
    let mut reports = Vec::new();
    for (i, source) in sources.iter().enumerate() {
        let experiment = Experiment {
            training: &source.training,
            validation: &source.validation,
            tests: targets,
            plausible: &[],
            settings,
            device,
        };
        reports.push(experiment.run(&mut |progress| match progress {
            Progress::Step { done, total, what } => on_progress(Progress::Step {
                done: i * total + done,
                total: sources.len() * total,
                what: format!("{}: {what}", source.name),
            }),
            // A report of one source says little about the matrix.
            Progress::Partial(_) => Ok(ControlFlow::Continue(())),
            other => on_progress(other),
        })?);
    }
    let mut cells = Vec::new();
    for (source, report) in sources.iter().zip(&reports) {
        for test in &report.tests {
            for direction in &test.directions {
                cells.extend(direction.methods.iter().map(|method| ShiftCell {
                    source: source.name.clone(),
                    target: test.split.name.clone(),
                    direction: direction.direction,
                    method: method.method,
                    minus_s_r2: method.minus_s_r2,
                    aurc: method.aurc,
                    mean_uncertainty: method.seeds.iter().map(|s| s.mean_uncertainty).sum::<f64>()
                        / method.seeds.len() as f64,
                }));
            }
        }
    }
    Ok(ShiftMatrix {
        sources: sources.iter().map(|s| s.name.clone()).collect(),
        targets: targets.iter().map(|t| t.name.clone()).collect(),
        cells,
        reports,
    })
}
