//! Checks against golden outputs of the reference libraries.
//!
//! A case is a folder with `case.json`, `inputs.safetensors`, `expected.safetensors` and model
//! files. [`verify_folder`] runs every case below a folder that Haze knows the kind of.

mod blip;
mod case;
mod clip;
mod decoding;
mod distribution;
mod preprocess;
mod prior;
mod probvlm;
mod prolip;
mod prompt;
mod retrieval;
mod scheduler;
mod siglip;
mod tokenizer;
mod unclip;
mod unet;
mod vae;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use burn::tensor::Device;

pub use case::{Case, CaseError, Comparison, Standard};

/// What became of one case.
#[derive(Debug)]
pub enum Outcome {
    /// All expected tensors were compared; failed ones are among them.
    Compared(Vec<Comparison>),
    /// The case could not be run at all.
    Broken(String),
    /// Haze has no such feature (yet).
    Skipped(String),
}

/// One case and its outcome.
#[derive(Debug)]
pub struct CaseReport {
    /// Folder of the case relative to the verified folder.
    pub name: String,
    pub outcome: Outcome,
}

impl CaseReport {
    pub fn passed(&self) -> bool {
        matches!(&self.outcome, Outcome::Compared(c) if !c.is_empty() && c.iter().all(|c| c.passed))
    }

    pub fn failed(&self) -> bool {
        !self.passed() && !matches!(self.outcome, Outcome::Skipped(_))
    }

    /// The comparison closest to, or furthest beyond, its tolerance.
    pub fn worst(&self) -> Option<&Comparison> {
        match &self.outcome {
            Outcome::Compared(list) => list.iter().max_by(|a, b| a.ratio.total_cmp(&b.ratio)),
            _ => None,
        }
    }
}

/// Finds all folders with a `case.json` at or below `root`, sorted by path.
///
/// # Errors
/// When `root` or a folder below it cannot be read.
pub fn find_cases(root: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        if folder.join("case.json").is_file() {
            found.push(folder.clone());
        }
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Runs every case at or below `root` and hands each report to `on_report` as it comes; `Break`
/// stops after that case.
///
/// # Errors
/// When the folders cannot be listed.
pub fn verify_folder(
    root: &Path,
    device: &Device,
    standard: Standard,
    mut on_report: impl FnMut(&CaseReport) -> ControlFlow<()>,
) -> std::io::Result<Vec<CaseReport>> {
    let mut reports = Vec::new();
    for folder in find_cases(root)? {
        let relative = folder.strip_prefix(root).unwrap_or(&folder);
        let name = match relative.to_string_lossy() {
            name if name.is_empty() => ".".to_owned(),
            name => name.into_owned(),
        };
        let report = CaseReport { name, outcome: verify_case(&folder, device, standard) };
        let flow = on_report(&report);
        reports.push(report);
        if flow.is_break() {
            break;
        }
    }
    Ok(reports)
}

/// Runs the case in one folder. A panic in the code under test is reported, not propagated.
pub fn verify_case(folder: &Path, device: &Device, standard: Standard) -> Outcome {
    let run = || -> Result<Outcome, CaseError> {
        let mut case = Case::open(folder)?;
        case.hold_to(standard);
        match case.kind().to_owned().as_str() {
            "blip" => blip::run(&mut case, device)?,
            "clip_model" | "clip_text_sd2" | "clip_text_proj" | "clip_vision" => {
                clip::run(&mut case, device)?;
            }
            "clip_tokenizer" => tokenizer::run(&mut case, device)?,
            "kandinsky_prior" | "prior" | "unclip_text" => prior::run(&mut case, device)?,
            "preprocess" => preprocess::run(&mut case, device)?,
            "prolip" => prolip::run(&mut case, device)?,
            "siglip" => siglip::run(&mut case, device)?,
            "probvlm_adapter" => probvlm::run(&mut case, device)?,
            "ggd" | "distances" => distribution::run(&mut case, device)?,
            "retrieval" => retrieval::run(&mut case, device)?,
            "scheduler" | "scheduler_tables" => scheduler::run(&mut case, device)?,
            "sd_prompt" => prompt::run(&mut case, device)?,
            "sd_prompt_adapter" => prompt::run_adapter(&mut case, device)?,
            "unclip_image" => unclip::run(&mut case, device)?,
            "unet" => unet::run(&mut case, device)?,
            "vae" => vae::run(&mut case, device)?,
            other => return Ok(Outcome::Skipped(format!("kind {other:?} is not supported"))),
        }
        Ok(Outcome::Compared(case.into_comparisons()))
    };
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(error)) => Outcome::Broken(error.to_string()),
        Err(panic) => {
            let text = crate::panics::message(panic.as_ref());
            Outcome::Broken(format!("panicked: {}", text.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;

    fn all_pass(cases: &str) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(cases);
        let device = ComputeDevice::cpu().device;
        let reports = verify_folder(&root, &device, Standard::default(), |report| {
            println!("{}: worst {:?}", report.name, report.worst());
            ControlFlow::Continue(())
        });
        let reports = reports.unwrap();
        assert!(!reports.is_empty());
        for report in &reports {
            assert!(report.passed(), "{report:#?}");
        }
    }

    #[test]
    fn the_towers_and_the_tokenizer_agree_with_transformers() {
        all_pass("clip");
    }

    #[test]
    fn blip_agrees_with_transformers() {
        all_pass("blip");
    }

    #[test]
    fn siglip_agrees_with_transformers() {
        all_pass("siglip");
    }

    #[test]
    fn prolip_agrees_with_the_authors_code() {
        all_pass("prolip");
    }

    #[test]
    fn preprocessing_equals_pillow_bit_for_bit() {
        all_pass("clip_preprocess");
    }

    #[test]
    fn the_adapter_agrees_with_the_authors_network_and_loss() {
        all_pass("probvlm/adapter");
    }

    #[test]
    fn densities_and_distances_agree_with_scipy() {
        all_pass("probvlm/ggd");
        all_pass("probvlm/distances");
    }

    #[test]
    fn rankings_and_metrics_agree_with_exact_arithmetic() {
        all_pass("retrieval");
    }

    #[test]
    fn schedulers_agree_with_diffusers() {
        all_pass("schedulers");
    }

    #[test]
    fn the_unet_agrees_with_diffusers() {
        all_pass("unet");
    }

    #[test]
    fn the_vae_agrees_with_diffusers() {
        all_pass("vae");
    }

    #[test]
    fn the_pipeline_agrees_with_diffusers() {
        all_pass("unclip_image");
    }

    #[test]
    fn the_route_by_prompt_embeddings_agrees_with_diffusers_and_pytorch() {
        all_pass("sd_prompt");
    }

    #[test]
    fn the_priors_and_their_pipelines_agree_with_diffusers() {
        all_pass("unclip_text");
    }

    #[test]
    fn a_case_may_name_the_folder_of_its_model_and_be_held_to_other_tolerances() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let source = fixtures.join("clip/vision_proj_gelu");
        let root = tempfile::tempdir().unwrap();
        let (model, case) = (root.path().join("model"), root.path().join("cases/vision"));
        std::fs::create_dir_all(&model).unwrap();
        std::fs::create_dir_all(&case).unwrap();
        for (file, to) in [
            ("config.json", &model),
            ("model.safetensors", &model),
            ("inputs.safetensors", &case),
            ("expected.safetensors", &case),
        ] {
            std::fs::copy(source.join(file), to.join(file)).unwrap();
        }
        let text = std::fs::read_to_string(source.join("case.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json["model"] = "../../model".into();
        std::fs::write(case.join("case.json"), json.to_string()).unwrap();

        let device = ComputeDevice::cpu().device;
        let ratio = |loosen| {
            let standard = Standard { loosen, ..Standard::default() };
            let outcome = verify_case(&case, &device, standard);
            CaseReport { name: String::new(), outcome }.worst().unwrap().ratio
        };
        let (exact, loosened) = (ratio(1.0), ratio(4.0));
        assert!(exact > 0.0 && exact <= 1.0, "{exact}");
        assert!((exact / loosened - 4.0).abs() < 1e-9, "{exact} {loosened}");
    }
}
