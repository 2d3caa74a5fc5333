//! Cases of the schedulers: whole runs with a stand-in for the network, lists of time steps, and
//! the tables of the noise schedules.

use std::path::Path;

use burn::tensor::{Device, Tensor};
use serde_json::{Value, json};

use super::{Case, CaseError};
use crate::decoder::scheduler::{Scheduler, SchedulerConfig, SchedulerKind};

pub fn run(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    if case.kind() == "scheduler_tables" {
        return tables(case, device);
    }
    let runs = case.json()["runs"].as_object().cloned().unwrap_or_default();
    for (name, run) in &runs {
        denoise(case, name, run, device)?;
    }
    timestep_lists(case, &runs)
}

/// The network of the cases: 0.1 x + 0.3 sin x + 0.01 sin t.
fn standin(x: Tensor<4>, t: f64) -> Tensor<4> {
    x.clone().mul_scalar(0.1) + x.sin().mul_scalar(0.3).add_scalar(0.01 * t.sin())
}

fn denoise(case: &mut Case, name: &str, run: &Value, device: &Device) -> Result<(), CaseError> {
    let text = |key: &str| run[key].as_str().unwrap_or_default();
    let config = SchedulerConfig::read(&case.folder().join(text("config")))?;
    let steps = run["num_inference_steps"].as_u64().unwrap_or_default() as usize;
    let mut scheduler = Scheduler::<4>::new(&config, config.kind()?, steps)?
        .with_eta(run["eta"].as_f64().unwrap_or_default());
    if run["pass_prev_timestep"] == json!(false) {
        scheduler = scheduler.with_unit_stride();
    }

    // "noise" or "noise * 4"
    let mut words = text("noise").split(" * ");
    let noise = words.next().unwrap_or_default();
    let factor: f64 = words.next().map_or(Ok(1.0), str::parse)?;
    let shape = case.input(noise)?.shape.clone();
    let noise = padded(case, noise, device)?.mul_scalar(factor);
    let step_noise = match run["step_noise"].as_str() {
        Some(name) => Some(padded(case, name, device)?),
        None => None,
    };

    let mut sample = noise.mul_scalar(scheduler.init_noise_sigma());
    let [rows, ..] = sample.dims();
    let (mut inputs, mut samples, mut originals) = (Vec::new(), Vec::new(), Vec::new());
    let start = sample.clone();
    for (i, &t) in scheduler.timesteps().to_vec().iter().enumerate() {
        let input = scheduler.scale_model_input(sample.clone(), i);
        let output = standin(input.clone(), t);
        let noise = step_noise.as_ref().map(|n| n.clone().narrow(0, i * rows, rows));
        let step = scheduler.step(output, i, sample, noise)?;
        sample = step.prev_sample;
        inputs.push(input);
        samples.push(sample.clone());
        originals.push(step.pred_original_sample);
    }

    let stack: Vec<usize> = [samples.len()].into_iter().chain(shape.iter().copied()).collect();
    for (what, shape, tensors) in [
        ("init_sample", &shape, vec![start]),
        ("scaled_inputs", &stack, inputs),
        ("samples", &stack, samples),
        ("x0", &stack, originals),
    ] {
        let name = format!("{name}/{what}");
        if case.expects(&name) {
            let values = Tensor::cat(tensors, 0).try_into_data()?.iter::<f64>().collect();
            case.check_values(&name, shape, values)?;
        }
    }
    let timesteps = scheduler.timesteps();
    case.check_values(&format!("{name}/timesteps"), &[timesteps.len()], timesteps.to_vec())?;
    let sigma = vec![scheduler.init_noise_sigma()];
    case.check_values(&format!("{name}/init_noise_sigma"), &[1], sigma)?;
    let name = format!("{name}/sigmas");
    if let (Some(sigmas), true) = (scheduler.sigmas(), case.expects(&name)) {
        case.check_values(&name, &[sigmas.len()], sigmas.to_vec())?;
    }
    Ok(())
}

/// An input of any shape as a tensor of rank 4: `[step x rows, ..]`, where the first dimension of
/// step noise counts the steps.
fn padded(case: &Case, name: &str, device: &Device) -> Result<Tensor<4>, CaseError> {
    Ok(match case.input(name)?.shape.len() {
        2 => case.float::<2>(name, device)?.unsqueeze_dims(&[2, 3]),
        3 => case.float::<3>(name, device)?.flatten::<2>(0, 1).unsqueeze_dims(&[2, 3]),
        5 => case.float::<5>(name, device)?.flatten::<4>(0, 1),
        _ => case.float::<4>(name, device)?,
    })
}

/// `timestep_table/SPACING-nSTEPS`: the lists of Stable Diffusion's schedule at other spacings,
/// or of the unCLIP scheduler's defaults.
fn timestep_lists(case: &mut Case, runs: &serde_json::Map<String, Value>) -> Result<(), CaseError> {
    for name in case.expected_names() {
        let Some(list) = name.strip_prefix("timestep_table/") else { continue };
        let (spacing, steps) = list
            .split_once("-n")
            .ok_or_else(|| CaseError(format!("{name}: expected SPACING-nSTEPS")))?;
        let json = if spacing == "unclip" {
            json!({ "_class_name": SchedulerKind::UnClip.class_name() })
        } else {
            let mut json = json!({
                "beta_schedule": "scaled_linear", "prediction_type": "v_prediction",
                "steps_offset": 1, "skip_prk_steps": true, "timestep_spacing": spacing
            });
            let class = runs.values().map(|run| run["class_name"].clone()).next();
            json["_class_name"] = class.unwrap_or_default();
            json
        };
        let config = SchedulerConfig::from_json(json, Path::new(&name))?;
        let timesteps = config.timesteps(config.kind()?, steps.parse()?)?;
        case.check_values(&name, &[timesteps.len()], timesteps)?;
    }
    Ok(())
}

fn tables(case: &mut Case, device: &Device) -> Result<(), CaseError> {
    let (original, noise) =
        (case.float::<4>("original", device)?, case.float::<4>("noise", device)?);
    let timesteps: Vec<usize> =
        case.input("timesteps")?.values.iter().map(|&t| t as usize).collect();
    for name in case.expected_names() {
        let Some(schedule) = name.strip_suffix("/betas") else { continue };
        let (start, end) = if schedule == "linear" { (0.0001, 0.02) } else { (0.00085, 0.012) };
        let json = json!({
            "num_train_timesteps": 1000, "beta_schedule": schedule,
            "beta_start": start, "beta_end": end
        });
        let config = SchedulerConfig::from_json(json, Path::new(&name))?;
        let table = config.noise_table(SchedulerKind::Ddpm)?;
        for (what, values) in [("betas", table.betas()), ("alphas_cumprod", table.alphas_cumprod())]
        {
            let values = values.iter().map(|&v| f64::from(v)).collect();
            case.check_values(&format!("{schedule}/{what}"), &[table.len()], values)?;
        }
        let row = |tensor: &Tensor<4>, i: usize| tensor.clone().narrow(0, i, 1);
        let each = |f: &dyn Fn(Tensor<4>, Tensor<4>, usize) -> Tensor<4>| {
            let rows = timesteps.iter().enumerate();
            Tensor::cat(rows.map(|(i, &t)| f(row(&original, i), row(&noise, i), t)).collect(), 0)
        };
        let noised = each(&|x, n, t| table.add_noise(x, n, t));
        let velocity = each(&|x, n, t| table.velocity(x, n, t));
        case.check(&format!("{schedule}/add_noise"), noised)?;
        case.check(&format!("{schedule}/velocity"), velocity)?;
    }
    Ok(())
}
