//! Diffusion schedulers: which time steps the network sees, and how its outputs move the sample.
//!
//! In: a `scheduler_config.json` and the network's outputs. Out: the next sample, and the clean
//! sample predicted on the way. One file per algorithm; they share the noise [`tables`], the
//! [`timesteps`] and the [`prediction`] types. Scalars are f64 on the host, samples float32
//! tensors on their device.

mod config;
mod ddim;
mod ddpm;
mod dpm_solver;
mod euler;
mod pndm;
mod prediction;
mod sigmas;
mod tables;
mod timesteps;
mod unclip;
mod unipc;

use std::fmt;
use std::str::FromStr;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::DecodeError;
pub use config::SchedulerConfig;
use config::Settings;
pub use prediction::PredictionType;
pub use tables::NoiseTable;

/// The algorithms Haze can denoise with. Names are those of the command line and of recipes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SchedulerKind {
    /// Denoising diffusion implicit models (arXiv 2010.02502), deterministic.
    #[serde(rename = "ddim")]
    Ddim,
    /// Denoising diffusion probabilistic models (arXiv 2006.11239), adds noise at every step.
    #[serde(rename = "ddpm")]
    Ddpm,
    /// Pseudo numerical methods (arXiv 2202.09778), deterministic, one call more than steps.
    #[serde(rename = "pndm")]
    Pndm,
    /// Euler steps of the probability flow (arXiv 2206.00364), deterministic.
    #[serde(rename = "euler")]
    Euler,
    /// Euler steps that overshoot and add noise back.
    #[serde(rename = "euler-ancestral")]
    EulerAncestral,
    /// DPM-Solver++ 2M (arXiv 2211.01095), deterministic.
    #[serde(rename = "dpmsolver++")]
    DpmSolverPlusPlus,
    /// UniPC of order 2 (arXiv 2302.04867), deterministic.
    #[serde(rename = "unipc")]
    UniPc,
    /// The DDPM variant of the Karlo and Kandinsky priors, adds noise at every step.
    #[serde(rename = "unclip")]
    UnClip,
}

impl SchedulerKind {
    /// All kinds, in the order shown to the user.
    pub const ALL: [SchedulerKind; 8] = [
        Self::Ddim,
        Self::Ddpm,
        Self::Pndm,
        Self::Euler,
        Self::EulerAncestral,
        Self::DpmSolverPlusPlus,
        Self::UniPc,
        Self::UnClip,
    ];

    /// The class of this algorithm in the diffusers library, as config files name it.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::Ddim => "DDIMScheduler",
            Self::Ddpm => "DDPMScheduler",
            Self::Pndm => "PNDMScheduler",
            Self::Euler => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::DpmSolverPlusPlus => "DPMSolverMultistepScheduler",
            Self::UniPc => "UniPCMultistepScheduler",
            Self::UnClip => "UnCLIPScheduler",
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ddim => "ddim",
            Self::Ddpm => "ddpm",
            Self::Pndm => "pndm",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler-ancestral",
            Self::DpmSolverPlusPlus => "dpmsolver++",
            Self::UniPc => "unipc",
            Self::UnClip => "unclip",
        })
    }
}

impl FromStr for SchedulerKind {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.to_string() == text)
            .ok_or_else(|| DecodeError::UnknownScheduler(text.to_owned()))
    }
}

/// What one step gives.
#[derive(Debug, Clone)]
pub struct StepOutput<const D: usize> {
    /// The sample at the next time step.
    pub prev_sample: Tensor<D>,
    /// The clean sample x0 that this step's network output predicts.
    pub pred_original_sample: Tensor<D>,
}

/// A scheduler in the middle of one denoising run over samples of rank `D` (4 for latents
/// `[B, C, H, W]`, 2 for embeddings `[B, E]`).
///
/// Steps must be taken in order, as some algorithms look back at earlier outputs.
#[derive(Debug, Clone)]
pub struct Scheduler<const D: usize> {
    kind: SchedulerKind,
    timesteps: Vec<f64>,
    init_noise_sigma: f64,
    algorithm: Algorithm<D>,
}

#[derive(Debug, Clone)]
enum Algorithm<const D: usize> {
    Ddim(ddim::Ddim),
    Ddpm(ddpm::Ddpm),
    // Boxed: they hold several tensors, the others none.
    Pndm(Box<pndm::Pndm<D>>),
    Euler(euler::Euler),
    DpmSolver(Box<dpm_solver::DpmSolver<D>>),
    UniPc(Box<unipc::UniPc<D>>),
    UnClip(unclip::UnClip),
}

impl<const D: usize> Scheduler<D> {
    /// Starts a run of `steps` steps with the algorithm `kind` on the noise schedule of `config`.
    ///
    /// `kind` may differ from the config's own: keys that both algorithms know are kept, keys
    /// absent from the file take the default of `kind`, as diffusers' `from_config` does.
    ///
    /// # Errors
    /// When a key of the config has a value Haze does not support, or `steps` does not work with
    /// the schedule.
    pub fn new(
        config: &SchedulerConfig,
        kind: SchedulerKind,
        steps: usize,
    ) -> Result<Self, DecodeError> {
        let settings = Settings::resolve(config, kind)?;
        let timesteps = timesteps::timesteps(&settings, kind, steps)?;
        let error =
            |reason: String| DecodeError::Steps { scheduler: kind.to_string(), steps, reason };
        let first = timesteps.iter().copied().fold(0.0, f64::max);
        let trained = settings.table.len();
        if first >= trained as f64 {
            return Err(error(format!(
                "they would start at training step {first}, but the schedule ends at {}; \
                 use fewer steps",
                trained - 1
            )));
        }
        let mut init_noise_sigma = 1.0;
        let algorithm = match kind {
            SchedulerKind::Ddim => Algorithm::Ddim(ddim::Ddim::new(&settings, steps, &timesteps)),
            SchedulerKind::Ddpm => Algorithm::Ddpm(ddpm::Ddpm::new(&settings, &timesteps)),
            SchedulerKind::Pndm => {
                Algorithm::Pndm(Box::new(pndm::Pndm::new(&settings, steps, &timesteps)))
            }
            SchedulerKind::Euler | SchedulerKind::EulerAncestral => {
                let ancestral = kind == SchedulerKind::EulerAncestral;
                let euler = euler::Euler::new(&settings, &timesteps, ancestral);
                init_noise_sigma = euler.init_noise_sigma();
                Algorithm::Euler(euler)
            }
            SchedulerKind::DpmSolverPlusPlus | SchedulerKind::UniPc => {
                let sigmas = sigmas::sigmas(&settings.table, &timesteps);
                // Both divide by differences of log sigma.
                if sigmas.windows(2).any(|pair| pair[0] <= pair[1]) {
                    return Err(error(
                        "two of them fall on the same training step; use fewer steps".to_owned(),
                    ));
                }
                match kind {
                    SchedulerKind::UniPc => {
                        Algorithm::UniPc(Box::new(unipc::UniPc::new(&settings, sigmas)))
                    }
                    _ => Algorithm::DpmSolver(Box::new(dpm_solver::DpmSolver::new(
                        &settings, sigmas,
                    ))),
                }
            }
            SchedulerKind::UnClip => Algorithm::UnClip(unclip::UnClip::new(&settings, &timesteps)),
        };
        Ok(Self { kind, timesteps, init_noise_sigma, algorithm })
    }

    /// Sets DDIM's eta (arXiv 2010.02502, eq. 16): the share of DDPM's noise added at every step,
    /// 0 to 1. The other algorithms have no such parameter and ignore it.
    pub fn with_eta(mut self, eta: f64) -> Self {
        if let Algorithm::Ddim(ddim) = &mut self.algorithm {
            ddim.eta = eta;
        }
        self
    }

    /// Makes the unCLIP scheduler treat every step as one training step although it skips, which
    /// diffusers' `StableUnCLIPPipeline` does; only for reproducing its numbers. The other
    /// algorithms ignore it.
    pub fn with_unit_stride(mut self) -> Self {
        if let Algorithm::UnClip(unclip) = &mut self.algorithm {
            unclip.unit_stride = true;
        }
        self
    }

    /// The algorithm.
    pub fn kind(&self) -> SchedulerKind {
        self.kind
    }

    /// The time step of every network call, highest first. PNDM makes more calls than steps.
    pub fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    /// Standard deviation of the noise that denoising starts from.
    pub fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    /// Noise levels sigma = sqrt((1 - a) / a) of every call and the final 0, for the algorithms
    /// that work in sigma.
    pub fn sigmas(&self) -> Option<&[f64]> {
        match &self.algorithm {
            Algorithm::Euler(euler) => Some(euler.sigmas()),
            Algorithm::DpmSolver(solver) => Some(solver.sigmas()),
            Algorithm::UniPc(unipc) => Some(unipc.sigmas()),
            Algorithm::Ddim(_) | Algorithm::Ddpm(_) | Algorithm::Pndm(_) | Algorithm::UnClip(_) => {
                None
            }
        }
    }

    /// What the network is shown at call `i` for `sample`.
    pub fn scale_model_input(&self, sample: Tensor<D>, i: usize) -> Tensor<D> {
        match &self.algorithm {
            Algorithm::Euler(euler) => sample.mul_scalar(euler.input_scale(i)),
            _ => sample,
        }
    }

    /// True when call `i` adds fresh noise.
    pub fn needs_noise(&self, i: usize) -> bool {
        match &self.algorithm {
            Algorithm::Ddim(ddim) => ddim.eta > 0.0,
            Algorithm::Euler(euler) => euler.is_ancestral(),
            Algorithm::Ddpm(_) | Algorithm::UnClip(_) => self.timesteps[i] > 0.0,
            Algorithm::Pndm(_) | Algorithm::DpmSolver(_) | Algorithm::UniPc(_) => false,
        }
    }

    /// Moves `sample` to the next time step, given the network's `output` for call `i`, both of
    /// the same shape. `noise` is standard normal, of that shape too, and used only where
    /// [`Self::needs_noise`] says so.
    ///
    /// # Errors
    /// When noise is needed and `noise` is `None`.
    pub fn step(
        &mut self,
        output: Tensor<D>,
        i: usize,
        sample: Tensor<D>,
        noise: Option<Tensor<D>>,
    ) -> Result<StepOutput<D>, DecodeError> {
        let noise = match (self.needs_noise(i), noise) {
            (false, _) => None,
            (true, Some(noise)) => Some(noise),
            (true, None) => {
                return Err(DecodeError::NoiseMissing {
                    scheduler: self.kind.to_string(),
                    step: i,
                });
            }
        };
        Ok(match &mut self.algorithm {
            Algorithm::Ddim(ddim) => ddim.step(output, i, sample, noise),
            Algorithm::Ddpm(ddpm) => ddpm.step(output, i, sample, noise),
            Algorithm::Pndm(pndm) => pndm.step(output, i, sample),
            Algorithm::Euler(euler) => euler.step(output, i, sample, noise),
            Algorithm::DpmSolver(solver) => solver.step(output, i, sample),
            Algorithm::UniPc(unipc) => unipc.step(output, i, sample),
            Algorithm::UnClip(unclip) => unclip.step(output, i, sample, noise),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::device::ComputeDevice;
    use crate::random::{Stream, standard_normal};
    use burn::tensor::TensorData;
    use serde_json::json;
    use std::path::Path;

    fn config(spacing: &str, prediction: &str) -> SchedulerConfig {
        let json = json!({
            "_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear",
            "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": false,
            "set_alpha_to_one": true, "prediction_type": prediction,
            "timestep_spacing": spacing, "skip_prk_steps": true
        });
        SchedulerConfig::from_json(json, Path::new("scheduler_config.json")).unwrap()
    }

    fn draw(index: u64) -> Tensor<2> {
        let values = standard_normal(11, Stream::InitialLatents, index, 6);
        Tensor::from_data(TensorData::new(values, [2, 3]), &ComputeDevice::cpu().device)
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().iter().collect()
    }

    fn close(a: &[f32], b: &[f32]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-3)
    }

    #[test]
    fn names_are_read_back_and_are_those_of_recipes() {
        for kind in SchedulerKind::ALL {
            assert_eq!(kind.to_string().parse::<SchedulerKind>().unwrap(), kind);
            assert_eq!(serde_json::to_value(kind).unwrap(), json!(kind.to_string()));
        }
        let error = "dpm".parse::<SchedulerKind>().unwrap_err().to_string();
        assert!(error.contains("\"dpm\"") && error.contains("dpmsolver++"), "{error}");
    }

    /// Denoises with a network that knows the clean sample and predicts exactly.
    fn with_a_perfect_network(config: &SchedulerConfig, kind: SchedulerKind) -> Vec<f32> {
        let clean = draw(0);
        let table = config.noise_table(kind).unwrap();
        let mut scheduler = Scheduler::<2>::new(config, kind, 10).unwrap();
        let mut sample = draw(1).mul_scalar(scheduler.init_noise_sigma());
        for (i, &t) in scheduler.timesteps().to_vec().iter().enumerate() {
            let seen = scheduler.scale_model_input(sample.clone(), i);
            let a = f64::from(table.alphas_cumprod()[t as usize]);
            let noise = (seen - clean.clone().mul_scalar(a.sqrt())).div_scalar((1.0 - a).sqrt());
            let step = scheduler.step(noise, i, sample, Some(draw(2 + i as u64))).unwrap();
            assert!(close(&values(step.pred_original_sample), &values(clean.clone())), "{kind}");
            sample = step.prev_sample;
        }
        values(sample)
    }

    #[test]
    fn every_scheduler_reaches_the_clean_sample_of_a_perfect_network() {
        for kind in SchedulerKind::ALL {
            if kind != SchedulerKind::UnClip {
                let got = with_a_perfect_network(&config("trailing", "epsilon"), kind);
                assert!(close(&got, &values(draw(0))), "{kind}: {got:?}");
            }
        }
    }

    #[test]
    fn ddpm_and_euler_ancestral_are_one_process_in_two_scales() {
        let config = config("leading", "epsilon");
        let table = config.noise_table(SchedulerKind::Ddpm).unwrap();
        let mut ddpm = Scheduler::<2>::new(&config, SchedulerKind::Ddpm, 8).unwrap();
        let mut euler = Scheduler::<2>::new(&config, SchedulerKind::EulerAncestral, 8).unwrap();
        let timesteps = ddpm.timesteps().to_vec();
        assert_eq!(timesteps, euler.timesteps());
        let scale = |t: f64| f64::from(table.alphas_cumprod()[t as usize]).sqrt();
        let mut x = draw(0);
        let mut scaled = x.clone().div_scalar(scale(timesteps[0]));
        for i in 0..7 {
            let (output, noise) = (draw(10 + i as u64), draw(20 + i as u64));
            x = ddpm.step(output.clone(), i, x, Some(noise.clone())).unwrap().prev_sample;
            scaled = euler.step(output, i, scaled, Some(noise)).unwrap().prev_sample;
            let back = scaled.clone().mul_scalar(scale(timesteps[i + 1]));
            assert!(close(&values(back), &values(x.clone())), "call {i}");
        }
    }

    #[test]
    fn a_stochastic_step_without_noise_is_an_error() {
        let config = config("leading", "epsilon");
        let mut scheduler = Scheduler::<2>::new(&config, SchedulerKind::Ddpm, 4).unwrap();
        let error = scheduler.step(draw(0), 0, draw(1), None).unwrap_err().to_string();
        assert!(error.contains("ddpm") && error.contains("noise"), "{error}");
    }

    #[test]
    fn step_counts_that_an_algorithm_cannot_take_are_refused() {
        let config = config("leading", "epsilon");
        for (kind, steps) in [
            (SchedulerKind::Ddim, 0),
            (SchedulerKind::Ddim, 1001),
            // T // 1001 = 0: all steps on one training step.
            (SchedulerKind::UniPc, 1000),
            (SchedulerKind::DpmSolverPlusPlus, 1000),
        ] {
            let error = Scheduler::<2>::new(&config, kind, steps).unwrap_err().to_string();
            assert!(error.contains(&steps.to_string()), "{error}");
            assert!(error.contains(&kind.to_string()), "{error}");
        }
        assert!(Scheduler::<2>::new(&config, SchedulerKind::Ddim, 1000).is_ok());
    }
}
