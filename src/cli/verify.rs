//! `haze verify`: golden cases of the reference libraries.

use std::path::PathBuf;

use clap::{Args, ValueHint};
use serde_json::json;

use super::exit::usage;
use super::{Context, Exit};
use crate::files::FileError;
use crate::model::precision::PrecisionChoice;
use crate::session::SessionError;
use crate::verify::{CaseReport, Outcome, Standard, verify_folder};

/// Run golden cases and compare with their expected outputs
#[derive(Debug, Args)]
pub struct Verify {
    /// Folder with cases (`case.json`, `inputs.safetensors`, `expected.safetensors`) at any depth
    #[arg(value_name = "DIR", value_hint = ValueHint::DirPath)]
    folder: PathBuf,
    /// Multiply all tolerances, which are those of float32 on a CPU: a GPU sums in another order
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor)]
    loosen: f64,
    /// What UNets compute in: auto, f32, f16 or bf16; the CPU has f32 alone. The case must state a
    /// tolerance for it (`atol_f16`, `atol_bf16`)
    #[arg(long, value_name = "FORMAT", default_value = "f32")]
    precision: PrecisionChoice,
}

fn factor(text: &str) -> Result<f64, String> {
    let factor = text.parse().ok().filter(|factor| (1.0..=1e6).contains(factor));
    factor.ok_or_else(|| "expected a number from 1 to 1e6".to_owned())
}

impl Verify {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let device = match context.options.device {
            // The tolerances of the cases are those of exact float32 arithmetic on a CPU.
            crate::model::device::DeviceChoice::Auto => crate::model::device::ComputeDevice::cpu(),
            _ => context.device()?,
        };
        let print = !context.options.json;
        let mut interrupted = false;
        let precision = device.precision(self.precision).map_err(SessionError::from)?;
        let standard = Standard { loosen: self.loosen, precision };
        let reports = verify_folder(&self.folder, &device.device, standard, |report| {
            if print {
                println!("{}", line_of(report));
            }
            interrupted |= context.interrupt.is_set();
            context.interrupt.flow()
        })
        .map_err(FileError::read(&self.folder))?;
        if interrupted {
            return Err(SessionError::Cancelled.into());
        }
        if reports.is_empty() {
            return Err(usage(format!("{}: no case.json below it", self.folder.display())));
        }
        let passed = reports.iter().filter(|report| report.passed()).count();
        let failed = reports.iter().filter(|report| report.failed()).count();
        let skipped: Vec<&str> = reports
            .iter()
            .filter(|report| matches!(report.outcome, Outcome::Skipped(_)))
            .map(|report| report.name.as_str())
            .collect();
        let mut text = format!("{passed} passed, {failed} failed");
        if !skipped.is_empty() {
            text += &format!(", {} skipped: {}", skipped.len(), skipped.join(", "));
        }
        let json = json!({
            "passed": passed,
            "failed": failed,
            "skipped": skipped,
            "device": device.label,
            "loosen": self.loosen,
            "precision": precision,
            "cases": reports.iter().map(json_of).collect::<Vec<_>>(),
        });
        context.print(&json, text + "\n")?;
        Ok(if failed == 0 { Exit::Success } else { Exit::CheckFailed })
    }
}

fn line_of(report: &CaseReport) -> String {
    match &report.outcome {
        Outcome::Skipped(reason) => format!("skip  {}: {reason}", report.name),
        Outcome::Broken(reason) => format!("FAIL  {}: {reason}", report.name),
        Outcome::Compared(comparisons) => {
            let verdict = if report.passed() { "ok  " } else { "FAIL" };
            let worst = report.worst().map(|worst| {
                let note = worst.note.as_ref().map(|note| format!(", {note}")).unwrap_or_default();
                format!(
                    "; worst {}: error {:.2e}, {:.2} of its tolerance{note}",
                    worst.name, worst.worst_error, worst.ratio
                )
            });
            let count = comparisons.len();
            format!("{verdict}  {}: {count} tensors{}", report.name, worst.unwrap_or_default())
        }
    }
}

fn json_of(report: &CaseReport) -> serde_json::Value {
    let outcome = match &report.outcome {
        Outcome::Skipped(reason) => json!({ "skipped": reason }),
        Outcome::Broken(reason) => json!({ "passed": false, "error": reason }),
        Outcome::Compared(comparisons) => json!({
            "passed": report.passed(),
            "tensors": comparisons.len(),
            "worst": report.worst().map(|worst| json!({
                "tensor": worst.name,
                "error": finite(worst.worst_error),
                "ratio": finite(worst.ratio),
                "note": worst.note,
            })),
        }),
    };
    json!({ "name": report.name, "outcome": outcome })
}

/// JSON has no infinity.
fn finite(value: f64) -> serde_json::Value {
    if value.is_finite() { value.into() } else { "infinite".into() }
}
