//! `scheduler_config.json`: which algorithm, which noise schedule, which conventions.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::prediction::PredictionType;
use super::tables::{BetaSchedule, NoiseTable};
use super::timesteps::Spacing;
use super::{SchedulerKind, timesteps};
use crate::decoder::DecodeError;
use crate::files::read_bounded;
use crate::model::config::ConfigError;

const FILE_NAME: &str = "scheduler_config.json";
const FILE_LIMIT: u64 = 16 << 20;
/// More training steps than any diffusion model has.
const TRAIN_STEPS_LIMIT: usize = 100_000;

/// A scheduler config as it stands in its file. What it means depends on the algorithm it is used
/// for, since each has defaults of its own for absent keys.
#[derive(Debug, Clone)]
pub struct SchedulerConfig {
    path: PathBuf,
    values: Map<String, Value>,
}

impl SchedulerConfig {
    /// Reads `scheduler_config.json`, given the file or its folder.
    ///
    /// # Errors
    /// When the file is missing, too large or not a JSON object.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let mut bytes = read_bounded(&path, FILE_LIMIT, "a scheduler config")?;
        blank_infinities(&mut bytes);
        match serde_json::from_slice(&bytes) {
            Ok(json) => Self::from_json(json, &path),
            Err(source) => Err(ConfigError::Parse { path, source }),
        }
    }

    /// Takes a config that is already parsed; `path` names it in errors.
    ///
    /// # Errors
    /// When it is not a JSON object.
    pub fn from_json(json: Value, path: &Path) -> Result<Self, ConfigError> {
        match json {
            Value::Object(values) => Ok(Self { path: path.to_owned(), values }),
            other => Err(ConfigError::value(path, "the scheduler config", other, "a JSON object")),
        }
    }

    /// The algorithm that the config itself names (`_class_name`).
    ///
    /// # Errors
    /// When it names none, or one that Haze does not have.
    pub fn kind(&self) -> Result<SchedulerKind, ConfigError> {
        let key = "_class_name";
        let found = self.values.get(key).cloned().unwrap_or(Value::Null);
        SchedulerKind::ALL
            .into_iter()
            .find(|kind| found.as_str() == Some(kind.class_name()))
            .ok_or_else(|| {
                let names = SchedulerKind::ALL.map(SchedulerKind::class_name).join(", ");
                self.error(key, found, format!("one of {names} (or choose a scheduler by name)"))
            })
    }

    /// The noise schedule, as algorithm `kind` reads it.
    ///
    /// # Errors
    /// When a key has a value Haze does not support.
    pub fn noise_table(&self, kind: SchedulerKind) -> Result<NoiseTable, ConfigError> {
        Settings::resolve(self, kind).map(|settings| settings.table)
    }

    /// The time steps that algorithm `kind` visits in `steps` steps, highest first.
    ///
    /// # Errors
    /// When a key has a value Haze does not support, or `steps` is out of range.
    pub fn timesteps(&self, kind: SchedulerKind, steps: usize) -> Result<Vec<f64>, DecodeError> {
        timesteps::timesteps(&Settings::resolve(self, kind)?, kind, steps)
    }

    fn error(
        &self,
        key: &str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> ConfigError {
        ConfigError::value(&self.path, key, found, expected)
    }

    /// The value of a key; absent and null are the same.
    fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.error(key, value, "true or false")),
        }
    }

    fn integer(&self, key: &str, default: usize, most: usize) -> Result<usize, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match value.as_u64().map(usize::try_from) {
            Some(Ok(number)) if number <= most => Ok(number),
            _ => Err(self.error(key, value, format!("a whole number up to {most}"))),
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.error(key, value, "a number")),
        }
    }

    /// One of several named values.
    fn choice<T: Copy>(
        &self,
        key: &str,
        default: T,
        choices: &[(&str, T)],
    ) -> Result<T, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        match choices.iter().find(|(name, _)| value.as_str() == Some(name)) {
            Some(&(_, choice)) => Ok(choice),
            None => {
                let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
                Err(self.error(key, value, names.join(" or ")))
            }
        }
    }
}

/// A config as one algorithm understands it.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) table: NoiseTable,
    pub(super) prediction: PredictionType,
    pub(super) spacing: Spacing,
    pub(super) steps_offset: usize,
    /// Predicted clean samples are clamped to plus or minus this.
    pub(super) clip: Option<f64>,
    pub(super) skip_prk_steps: bool,
    set_alpha_to_one: bool,
}

impl Settings {
    pub(super) fn resolve(
        config: &SchedulerConfig,
        kind: SchedulerKind,
    ) -> Result<Self, ConfigError> {
        use SchedulerKind::{Ddim, Ddpm, Euler, EulerAncestral, Pndm, UnClip, UniPc};
        refuse_unsupported(config, kind)?;
        let is_unclip = kind == UnClip;
        let prediction_types = [
            ("epsilon", PredictionType::Epsilon),
            ("sample", PredictionType::Sample),
            ("v_prediction", PredictionType::Velocity),
        ];
        // The unCLIP scheduler has no velocity form, no spacing and one noise schedule.
        let known = if is_unclip { &prediction_types[..2] } else { &prediction_types[..] };
        let prediction = config.choice("prediction_type", PredictionType::Epsilon, known)?;
        let default_spacing = match kind {
            Ddim | Ddpm | Pndm => Spacing::Leading,
            Euler | EulerAncestral | SchedulerKind::DpmSolverPlusPlus | UniPc | UnClip => {
                Spacing::Linspace
            }
        };
        let spacings = [
            ("leading", Spacing::Leading),
            ("trailing", Spacing::Trailing),
            ("linspace", Spacing::Linspace),
        ];
        let clips = matches!(kind, Ddim | Ddpm | UnClip) && config.flag("clip_sample", true)?;
        let clip = if clips { Some(config.number("clip_sample_range", 1.0)?) } else { None };
        if let Some(range) = clip.filter(|range| !range.is_finite() || *range <= 0.0) {
            return Err(config.error("clip_sample_range", range, "a number above 0"));
        }
        Ok(Self {
            table: noise_table(config, is_unclip)?,
            prediction,
            spacing: config.choice("timestep_spacing", default_spacing, &spacings)?,
            steps_offset: config.integer("steps_offset", 0, TRAIN_STEPS_LIMIT)?,
            clip,
            skip_prk_steps: config.flag("skip_prk_steps", false)?,
            set_alpha_to_one: config.flag("set_alpha_to_one", kind == Ddim)?,
        })
    }

    /// alpha-bar before training step 0, for DDIM and PNDM.
    pub(super) fn final_alpha(&self) -> f64 {
        if self.set_alpha_to_one { 1.0 } else { self.table.alpha_bar(0) }
    }
}

fn noise_table(config: &SchedulerConfig, is_unclip: bool) -> Result<NoiseTable, ConfigError> {
    let steps = config.integer("num_train_timesteps", 1000, TRAIN_STEPS_LIMIT)?;
    if steps < 2 {
        return Err(config.error("num_train_timesteps", steps, "at least 2"));
    }
    let schedules = [
        ("squaredcos_cap_v2", BetaSchedule::SquaredCosine),
        ("linear", BetaSchedule::Linear),
        ("scaled_linear", BetaSchedule::ScaledLinear),
    ];
    let schedule = if is_unclip {
        config.choice("beta_schedule", BetaSchedule::SquaredCosine, &schedules[..1])?
    } else {
        config.choice("beta_schedule", BetaSchedule::Linear, &schedules)?
    };
    let start = config.number("beta_start", 0.0001)?;
    let end = config.number("beta_end", 0.02)?;
    for (key, beta) in [("beta_start", start), ("beta_end", end)] {
        if !(beta > 0.0 && beta < 1.0) {
            return Err(config.error(key, beta, "a number between 0 and 1"));
        }
    }
    Ok(NoiseTable::new(schedule, steps, start, end))
}

/// Refuses options that change the algorithm in a way Haze does not implement. Options that the
/// algorithm does not know are ignored, as after a switch of algorithm.
fn refuse_unsupported(config: &SchedulerConfig, kind: SchedulerKind) -> Result<(), ConfigError> {
    use SchedulerKind::{Ddim, Ddpm, DpmSolverPlusPlus, Euler, Pndm, UnClip, UniPc};
    let sigma_kinds = matches!(kind, Euler | DpmSolverPlusPlus | UniPc);
    let solvers = matches!(kind, DpmSolverPlusPlus | UniPc);
    let fixed_small = &["fixed_small", "fixed_small_log"][..];
    let off = &["false"][..];
    let rules: [(&str, bool, &[&str]); 19] = [
        ("trained_betas", kind != UnClip, &[]),
        ("thresholding", matches!(kind, Ddim | Ddpm) || solvers, off),
        ("rescale_betas_zero_snr", !matches!(kind, Pndm | UnClip), off),
        ("variance_type", kind == Ddpm, fixed_small),
        ("variance_type", kind == UnClip, &fixed_small[1..]),
        ("use_karras_sigmas", sigma_kinds, off),
        ("use_exponential_sigmas", sigma_kinds, off),
        ("use_beta_sigmas", sigma_kinds, off),
        ("use_flow_sigmas", solvers, off),
        ("use_lu_lambdas", kind == DpmSolverPlusPlus, off),
        ("final_sigmas_type", sigma_kinds, &["zero"]),
        ("interpolation_type", kind == Euler, &["linear"]),
        ("timestep_type", kind == Euler, &["discrete"]),
        ("algorithm_type", kind == DpmSolverPlusPlus, &["dpmsolver++"]),
        ("solver_order", solvers, &["2"]),
        // Each solver reads the other's variants as its own default.
        ("solver_type", kind == DpmSolverPlusPlus, &["midpoint", "logrho", "bh1", "bh2"]),
        ("solver_type", kind == UniPc, &["bh2", "midpoint", "heun", "logrho"]),
        ("lower_order_final", kind == UniPc, &["true"]),
        ("predict_x0", kind == UniPc, &["true"]),
    ];
    for (key, applies, accepted) in rules {
        let Some(value) = config.get(key).filter(|_| applies) else { continue };
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !accepted.contains(&text.as_str()) {
            let expected = match accepted {
                [] => "null".to_owned(),
                _ => accepted.join(" or "),
            };
            return Err(config.error(key, value, expected + " (others are not supported)"));
        }
    }
    if let Some(value) = config.get("disable_corrector")
        && kind == UniPc
        && value.as_array().is_none_or(|list| !list.is_empty())
    {
        return Err(config.error("disable_corrector", value, "an empty list"));
    }
    if let Some(value) = config.get("lambda_min_clipped")
        && kind == DpmSolverPlusPlus
    {
        return Err(config.error("lambda_min_clipped", value, "-Infinity"));
    }
    Ok(())
}

/// Python writes infinities as bare words, which are not JSON; they become null ("no bound").
fn blank_infinities(bytes: &mut [u8]) {
    let (mut in_string, mut i) = (false, 0);
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if in_string => i += 1,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            _ => {
                for word in [&b"-Infinity"[..], b"Infinity"] {
                    if bytes[i..].starts_with(word) {
                        bytes[i..i + word.len()].fill(b' ');
                        bytes[i..i + 4].copy_from_slice(b"null");
                    }
                }
            }
        }
        i += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn config(json: Value) -> SchedulerConfig {
        SchedulerConfig::from_json(json, Path::new("scheduler_config.json")).unwrap()
    }

    #[test]
    fn absent_keys_take_the_defaults_of_the_algorithm_asked_for() {
        // Stable Diffusion's published PNDM config, which names no spacing.
        let config = config(json!({
            "_class_name": "PNDMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "prediction_type": "v_prediction",
            "clip_sample": false, "set_alpha_to_one": false, "skip_prk_steps": true,
            "steps_offset": 1, "num_train_timesteps": 1000
        }));
        assert_eq!(config.kind().unwrap(), SchedulerKind::Pndm);
        let steps = |kind| config.timesteps(kind, 4).unwrap();
        assert_eq!(steps(SchedulerKind::Pndm), [751., 501., 501., 251., 1.]);
        assert_eq!(steps(SchedulerKind::Ddim), [751., 501., 251., 1.]);
        assert_eq!(steps(SchedulerKind::Euler), [999., 666., 333., 0.]);
        let ddim = Settings::resolve(&config, SchedulerKind::Ddim).unwrap();
        assert_eq!(ddim.clip, None);
        assert!(!ddim.set_alpha_to_one);
        assert_eq!(ddim.prediction, PredictionType::Velocity);
    }

    #[test]
    fn an_unsupported_value_is_named_with_its_key_and_the_supported_ones() {
        for (key, value, expected) in [
            ("beta_schedule", json!("exp"), "scaled_linear"),
            ("prediction_type", json!("flow_prediction"), "v_prediction"),
            ("timestep_spacing", json!("random"), "trailing"),
            ("thresholding", json!(true), "false"),
            ("rescale_betas_zero_snr", json!(true), "false"),
            ("trained_betas", json!([0.1, 0.2]), "null"),
            ("num_train_timesteps", json!(1), "2"),
            ("num_train_timesteps", json!(1e12), "whole number"),
            ("beta_end", json!(2.0), "between 0 and 1"),
            ("clip_sample", json!("no"), "true or false"),
        ] {
            let mut values = json!({ "_class_name": "DDIMScheduler" });
            values[key] = value.clone();
            let error = Settings::resolve(&config(values), SchedulerKind::Ddim).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(key) && text.contains(expected), "{text}");
            assert!(text.contains("scheduler_config.json"), "{text}");
        }
    }

    #[test]
    fn solver_variants_are_refused_by_the_solver_that_would_differ() {
        for (kind, key, value, accepted) in [
            (SchedulerKind::UniPc, "solver_type", json!("bh1"), false),
            (SchedulerKind::UniPc, "solver_type", json!("midpoint"), true),
            (SchedulerKind::UniPc, "disable_corrector", json!([0]), false),
            (SchedulerKind::UniPc, "disable_corrector", json!([]), true),
            (SchedulerKind::DpmSolverPlusPlus, "solver_type", json!("heun"), false),
            (SchedulerKind::DpmSolverPlusPlus, "solver_type", json!("bh2"), true),
            (SchedulerKind::DpmSolverPlusPlus, "lambda_min_clipped", json!(-5.1), false),
            (SchedulerKind::DpmSolverPlusPlus, "solver_order", json!(3), false),
        ] {
            let result = Settings::resolve(&config(json!({ key: value })), kind);
            assert_eq!(result.is_ok(), accepted, "{kind} {key}: {result:?}");
        }
    }

    #[test]
    fn options_of_another_algorithm_do_not_matter() {
        let config = config(json!({
            "_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true, "solver_order": 3
        }));
        assert!(Settings::resolve(&config, SchedulerKind::Euler).is_err());
        assert!(Settings::resolve(&config, SchedulerKind::Ddim).is_ok());
        assert!(Settings::resolve(&config, SchedulerKind::UniPc).is_err());
    }

    #[test]
    fn an_unknown_class_is_an_error_only_when_its_own_algorithm_is_asked_for() {
        let config = config(json!({ "_class_name": "LMSDiscreteScheduler" }));
        let text = config.kind().unwrap_err().to_string();
        assert!(text.contains("LMSDiscreteScheduler") && text.contains("DDIMScheduler"), "{text}");
        assert!(config.timesteps(SchedulerKind::Ddim, 10).is_ok());
    }

    #[test]
    fn infinities_written_by_python_are_read() {
        let mut bytes = br#"{"a": -Infinity, "-Infinity \" Infinity": Infinity}"#.to_vec();
        blank_infinities(&mut bytes);
        let json: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json, json!({ "a": null, "-Infinity \" Infinity": null }));
    }
}
