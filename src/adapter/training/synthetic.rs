//! Training on data whose density is known.

use std::ops::ControlFlow;

use super::*;
use crate::adapter::ProbVlm;
use crate::adapter::loss::Family;
use crate::adapter::probvlm::Preset;
use crate::distribution::GeneralizedGaussian;
use crate::encoder::{Embedding, Modality};
use crate::model::device::ComputeDevice;
use crate::random::{Stream, generator, standard_normal};

const DIM: usize = 4;
const TRAINING: usize = 12_000;
const HELD_OUT: usize = 2000;

/// A generalised Gaussian around `2 x` whose scale and shape are smooth functions of the input.
fn truth(x: &[f32], d: usize) -> GeneralizedGaussian {
    let smooth = |t: f32| f64::from(t).tanh();
    let alpha = (0.8 * smooth(x[d])).exp();
    let beta = 1.5 + 0.7 * smooth(x[(d + 1) % DIM]);
    GeneralizedGaussian::new(2.0 * f64::from(x[d]), alpha, beta).unwrap()
}

/// Inputs and targets `[N, D]`; targets follow `density` of their input.
struct Drawn {
    inputs: Vec<f32>,
    targets: Vec<f32>,
}

fn draw(count: usize, seed: u64, density: impl Fn(&[f32], usize) -> GeneralizedGaussian) -> Drawn {
    let inputs = standard_normal(seed, Stream::Resampling, 0, count * DIM);
    let mut rng = generator(seed, Stream::Resampling, 1);
    let targets = inputs
        .chunks(DIM)
        .flat_map(|x| (0..DIM).map(|d| density(x, d)).collect::<Vec<_>>())
        .map(|density| density.sample(&mut rng) as f32)
        .collect();
    Drawn { inputs, targets }
}

impl Drawn {
    fn data(&self) -> TrainingData<'_> {
        let rows = |values| Rows::new(values, DIM).unwrap();
        let items = (0..self.inputs.len() / DIM).map(|i| Item { input: i, target: i }).collect();
        TrainingData::new(rows(&self.inputs), rows(&self.targets), items).unwrap()
    }

    fn queries(&self) -> Vec<Embedding> {
        let query = |x: &[f32]| Embedding { values: x.to_vec(), modality: Modality::Text };
        self.inputs.chunks(DIM).map(query).collect()
    }
}

fn train(family: Family, training: &Drawn, held_out: &Drawn) -> (Box<ProbVlm>, Vec<EpochRecord>) {
    let options = TrainingOptions {
        family,
        hidden_dim: 48,
        dropout: 0.0,
        learning_rate: 5e-3,
        batch_size: 256,
        epochs: 25,
        patience: 25,
        input_noise: Some(0.0),
        ..TrainingOptions::new(Preset::Paper)
    };
    let run = TrainingRun {
        options: &options,
        input_modality: Modality::Text,
        output_modality: Modality::Image,
        training: &training.data(),
        validation: &held_out.data(),
        checkpoint: None,
        device: &ComputeDevice::cpu().device,
    };
    match run.run(|_| ControlFlow::Continue(())).unwrap() {
        TrainingOutcome::Finished { adapter, history } => (adapter, history),
        other => panic!("not finished: {other:?}"),
    }
}

/// Pearson's correlation of pairs, and the mean of the second less the first.
fn agreement(pairs: &[[f64; 2]]) -> (f64, f64) {
    let count = pairs.len() as f64;
    let mean = [0, 1].map(|k| pairs.iter().map(|p| p[k]).sum::<f64>() / count);
    let product = |i: usize, j: usize| -> f64 {
        pairs.iter().map(|p| (p[i] - mean[i]) * (p[j] - mean[j])).sum()
    };
    (product(0, 1) / (product(0, 0) * product(1, 1)).sqrt(), mean[1] - mean[0])
}

#[test]
fn scale_and_shape_of_a_known_density_are_recovered() {
    let (training, held_out) = (draw(TRAINING, 1, truth), draw(HELD_OUT, 2, truth));
    let (adapter, history) = train(Family::GeneralizedGaussian, &training, &held_out);
    let predicted = adapter.predict_batch(&held_out.queries(), 0, 0).unwrap();
    let compare = |part: &dyn Fn(&GeneralizedGaussian) -> f64| {
        let pairs: Vec<[f64; 2]> = held_out
            .inputs
            .chunks(DIM)
            .zip(&predicted)
            .flat_map(|(x, found)| (0..DIM).map(move |d| (truth(x, d), found.dimensions()[d])))
            .map(|(truth, found)| [part(&truth), part(&found)])
            .collect();
        agreement(&pairs)
    };
    let (alpha, alpha_bias) = compare(&|density| density.alpha().ln());
    let (beta, beta_bias) = compare(&|density| density.beta());
    let (variance, variance_bias) = compare(&|density| density.log_variance());
    println!("ln alpha: correlation {alpha:.3}, bias {alpha_bias:+.3}");
    println!("beta: correlation {beta:.3}, bias {beta_bias:+.3}");
    println!("ln variance: correlation {variance:.3}, bias {variance_bias:+.3}");
    assert!(alpha > 0.8 && alpha_bias.abs() < 0.1, "ln alpha: {alpha} {alpha_bias}");
    assert!(beta > 0.6 && beta_bias.abs() < 0.15, "beta: {beta} {beta_bias}");
    assert!(variance > 0.9 && variance_bias.abs() < 0.15, "{variance} {variance_bias}");

    // Close to the entropy, the least that any density costs.
    let entropy = held_out.inputs.chunks(DIM).flat_map(|x| (0..DIM).map(|d| truth(x, d).entropy()));
    let entropy = entropy.sum::<f64>() / (HELD_OUT * DIM) as f64;
    let summary = adapter.config().training.clone().unwrap();
    let excess = summary.validation_nll - entropy;
    println!("held-out NLL {:.4}, entropy {entropy:.4}", summary.validation_nll);
    assert!((-0.03..0.05).contains(&excess), "{excess}");
    assert!(summary.baselines.generalized_gaussian_nll - entropy > 0.3, "{summary:?}");

    let best = &history[summary.best_epoch - 1];
    let coverage = best.coverage.unwrap();
    println!("coverage {coverage:?}");
    for (found, nominal) in coverage.iter().zip(calibration::COVERAGES) {
        assert!((found - nominal).abs() < 0.03, "{coverage:?}");
    }
    assert!(best.pit.iter().all(|p| (p - 0.05).abs() < 0.015), "{:?}", best.pit);
}

#[test]
fn the_family_that_made_the_data_is_the_likeliest() {
    // Heteroscedastic data of either fixed shape: the right family costs the least, the other
    // one a known amount more, and the one that learns the shape comes close to the right one.
    for (beta, right, wrong) in
        [(2.0, Family::Gaussian, Family::Laplace), (1.0, Family::Laplace, Family::Gaussian)]
    {
        let density =
            |x: &[f32], d: usize| GeneralizedGaussian::new(0.0, truth(x, d).alpha(), beta).unwrap();
        let (training, held_out) = (draw(TRAINING, 3, density), draw(HELD_OUT, 4, density));
        let nll = |family| {
            let adapter = train(family, &training, &held_out).0;
            adapter.config().training.clone().unwrap().validation_nll
        };
        let (right, wrong, free) = (nll(right), nll(wrong), nll(Family::GeneralizedGaussian));
        println!("beta {beta}: right {right:.4}, wrong {wrong:.4}, generalised {free:.4}");
        // At the best scales a Laplace density costs 1 + ln(2 sqrt(2/π)) - ln sqrt(2πe) = 0.048 nats
        // more on Gaussian data, and a Gaussian ln sqrt(4πe) - 1 - ln 2 = 0.072 on Laplace data.
        assert!(wrong > right + 0.03, "beta {beta}: {right} {wrong}");
        assert!((free - right).abs() < 0.03, "beta {beta}: {right} {free}");
    }
}

#[test]
fn on_pure_noise_the_predicted_variance_is_the_same_for_all_inputs() {
    let density = |_: &[f32], _: usize| GeneralizedGaussian::new(1.0, 2.0, 1.5).unwrap();
    let (training, held_out) = (draw(TRAINING, 5, density), draw(HELD_OUT, 6, density));
    let (adapter, history) = train(Family::GeneralizedGaussian, &training, &held_out);
    let predicted = adapter.predict_batch(&held_out.queries(), 0, 0).unwrap();
    let logs: Vec<f64> = predicted
        .iter()
        .flat_map(|found| found.dimensions().iter().map(|density| density.log_variance()))
        .collect();
    let mean = logs.iter().sum::<f64>() / logs.len() as f64;
    let spread = logs.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / logs.len() as f64;
    let expected = density(&[], 0).log_variance();
    println!("ln variance {mean:.3} +- {:.3}, truth {expected:.3}", spread.sqrt());
    assert!((mean - expected).abs() < 0.1, "{mean} {expected}");
    assert!(spread.sqrt() < 0.12, "{}", spread.sqrt());
    // Nothing can be learned: the kept weights are no better than the constant.
    let summary = adapter.config().training.clone().unwrap();
    let gain = summary.baselines.generalized_gaussian_nll - summary.validation_nll;
    println!("gain over the constant {gain:+.4} nats");
    assert!(gain.abs() < 0.02, "{gain}");
    assert!(history.iter().all(|epoch| epoch.coverage.is_some()));
}
