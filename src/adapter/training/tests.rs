use std::ops::ControlFlow;
use std::path::Path;

use super::*;
use crate::adapter::ProbVlm;
use crate::adapter::probvlm::Preset;
use crate::adapter::space::SpaceKind;
use crate::encoder::{Embedding, Modality};
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};

const DIM: usize = 4;

/// Inputs, and targets around them whose spread is `narrow` where the first input dimension is
/// negative and `wide` where it is positive.
struct Pairs {
    inputs: Vec<f32>,
    targets: Vec<f32>,
}

fn pairs(count: usize, seed: u64, narrow: f32, wide: f32) -> Pairs {
    let inputs = standard_normal(seed, Stream::Resampling, 0, count * DIM);
    let noise = standard_normal(seed, Stream::Resampling, 1, count * DIM);
    let targets = inputs
        .chunks(DIM)
        .zip(noise.chunks(DIM))
        .flat_map(|(x, e)| {
            let spread = if x[0] < 0.0 { narrow } else { wide };
            (0..DIM).map(move |d| 3.0 * x[d] + 10.0 + spread * e[d])
        })
        .collect();
    Pairs { inputs, targets }
}

impl Pairs {
    fn data(&self) -> TrainingData<'_> {
        let rows = |values| Rows::new(values, DIM).unwrap();
        let items = (0..self.inputs.len() / DIM).map(|i| Item { input: i, target: i }).collect();
        TrainingData::new(rows(&self.inputs), rows(&self.targets), items).unwrap()
    }
}

fn options() -> TrainingOptions {
    TrainingOptions {
        hidden_dim: 8,
        batch_size: 64,
        epochs: 4,
        seed: 3,
        learning_rate: 1e-3,
        ..TrainingOptions::new(Preset::Paper)
    }
}

fn run_with(
    options: &TrainingOptions,
    training: &TrainingData<'_>,
    validation: &TrainingData<'_>,
    checkpoint: Option<&Path>,
    on_event: impl FnMut(TrainingEvent) -> ControlFlow<()>,
) -> Result<TrainingOutcome, TrainingError> {
    let device = ComputeDevice::cpu().device;
    TrainingRun {
        options,
        input_modality: Modality::Text,
        output_modality: Modality::Image,
        training,
        validation,
        checkpoint,
        device: &device,
    }
    .run(on_event)
}

fn go_on(_: TrainingEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn finished(outcome: TrainingOutcome) -> (Box<ProbVlm>, Vec<EpochRecord>) {
    match outcome {
        TrainingOutcome::Finished { adapter, history } => (adapter, history),
        other => panic!("not finished: {other:?}"),
    }
}

#[test]
fn a_run_interrupted_anywhere_ends_like_one_that_was_not() {
    let (training, validation) = (pairs(300, 1, 0.5, 2.0), pairs(100, 2, 0.5, 2.0));
    let (training, validation) = (training.data(), validation.data());
    let options = options();
    let whole = finished(run_with(&options, &training, &validation, None, go_on).unwrap());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.checkpoint");
    // 5 batches an epoch: stops inside the first epoch, at its end, and twice in a later one.
    let stops = [3, 2, 7, 1];
    for batches in stops {
        let mut left = batches;
        let stop_after = |event| {
            left -= usize::from(matches!(event, TrainingEvent::Batch { .. }));
            if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let outcome = run_with(&options, &training, &validation, Some(&path), stop_after).unwrap();
        assert!(matches!(outcome, TrainingOutcome::Interrupted { .. }), "{outcome:?}");
    }
    let mut resumed_at = None;
    let watch = |event| {
        if let TrainingEvent::Started { resumed, .. } = event {
            resumed_at = Some(resumed);
        }
        ControlFlow::Continue(())
    };
    let parts = run_with(&options, &training, &validation, Some(&path), watch).unwrap();
    let parts = finished(parts);
    assert_eq!(resumed_at, Some((2, 3)));
    assert_eq!(parts.1, whole.1);
    assert_eq!(parts.0.config(), whole.0.config());
    assert_eq!(parts.0.network().to_pytorch().unwrap(), whole.0.network().to_pytorch().unwrap());
}

#[test]
fn the_number_of_threads_does_not_change_the_result() {
    let (training, validation) = (pairs(900, 1, 0.5, 2.0), pairs(100, 2, 0.5, 2.0));
    let options = TrainingOptions { batch_size: 700, hidden_dim: 300, epochs: 2, ..options() };
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (training, validation) = (training.data(), validation.data());
            let outcome = run_with(&options, &training, &validation, None, go_on).unwrap();
            finished(outcome).0.network().to_pytorch().unwrap()
        })
    };
    assert_eq!(with_threads(1), with_threads(3));
}

#[test]
fn the_spread_of_the_targets_is_learnt_where_it_varies() {
    let (training, validation) = (pairs(4000, 1, 0.3, 3.0), pairs(500, 2, 0.3, 3.0));
    let options = TrainingOptions {
        hidden_dim: 16,
        learning_rate: 1e-2,
        epochs: 12,
        input_noise: Some(0.0),
        ..options()
    };
    let outcome = run_with(&options, &training.data(), &validation.data(), None, go_on).unwrap();
    let (adapter, _) = finished(outcome);
    let summary = adapter.config().training.clone().unwrap();
    assert!(summary.validation_nll < summary.baselines.gaussian_nll - 0.5, "{summary:?}");
    let spread = |first: f32| {
        let values = vec![first, 0.0, 0.0, 0.0];
        let query = Embedding { values, modality: Modality::Text };
        adapter.predict(&query, 0, 0).unwrap().mean_aleatoric().sqrt()
    };
    assert!((0.2..0.6).contains(&spread(-1.0)), "{}", spread(-1.0));
    assert!((2.0..4.0).contains(&spread(1.0)), "{}", spread(1.0));
}

#[test]
fn an_untrained_adapter_is_the_gaussian_baseline() {
    let (training, validation) = (pairs(600, 1, 1.0, 1.0), pairs(200, 2, 1.0, 1.0));
    let options = TrainingOptions { learning_rate: 1e-9, epochs: 1, ..options() };
    let outcome = run_with(&options, &training.data(), &validation.data(), None, go_on).unwrap();
    let summary = finished(outcome).0.config().training.clone().unwrap();
    let difference = summary.validation_nll - summary.baselines.gaussian_nll;
    assert!(difference.abs() < 1e-3, "{summary:?}");
}

#[test]
fn the_summary_tells_the_likelihood_that_predictions_have() {
    for (space, preset) in
        [(SpaceKind::Standardised, Preset::Paper), (SpaceKind::Unit, Preset::Paper)]
    {
        let (training, validation) = (pairs(600, 1, 0.5, 2.0), pairs(50, 2, 0.5, 2.0));
        let options = TrainingOptions { space, ..TrainingOptions { preset, ..options() } };
        let outcome = run_with(&options, &training.data(), &validation.data(), None, go_on);
        let (adapter, _) = finished(outcome.unwrap());
        let mut nll = 0.0;
        for (x, y) in validation.inputs.chunks(DIM).zip(validation.targets.chunks(DIM)) {
            let query = Embedding { values: x.to_vec(), modality: Modality::Text };
            // A unit space describes targets of its own norm.
            let y = match space {
                SpaceKind::Standardised => y.to_vec(),
                SpaceKind::Unit => {
                    let norm = adapter.config().output_space.norm.unwrap();
                    let target = Embedding { values: y.to_vec(), modality: Modality::Image };
                    target.unit().iter().map(|v| v * norm as f32).collect()
                }
            };
            nll -= adapter.predict(&query, 0, 0).unwrap().log_prob(&y).unwrap() / DIM as f64;
        }
        let found = adapter.config().training.clone().unwrap().validation_nll;
        assert!((nll / 50.0 - found).abs() < 1e-4, "{space}: {} {found}", nll / 50.0);
    }
}

#[test]
fn an_adapter_of_one_modality_starts_from_the_identity() {
    let rows = pairs(500, 1, 1.0, 1.0);
    let data = TrainingData::identity(Rows::new(&rows.inputs, DIM).unwrap()).unwrap();
    let device = ComputeDevice::cpu().device;
    let options = TrainingOptions { learning_rate: 1e-9, epochs: 1, dropout: 0.0, ..options() };
    let run = TrainingRun {
        options: &options,
        input_modality: Modality::Text,
        output_modality: Modality::Text,
        training: &data,
        validation: &data,
        checkpoint: None,
        device: &device,
    };
    let (_, history) = finished(run.run(go_on).unwrap());
    // The trunk adds its random initial output to the input.
    assert!(history[0].validation_l1 < 0.4, "{history:?}");
}

#[test]
fn training_stops_when_the_held_out_score_no_longer_improves() {
    let training = pairs(200, 1, 0.1, 0.1);
    let mut unrelated = pairs(200, 2, 0.1, 0.1);
    unrelated.targets.rotate_left(DIM * 7);
    let options = TrainingOptions {
        epochs: 50,
        patience: 2,
        learning_rate: 1e-2,
        input_noise: Some(0.0),
        ..options()
    };
    let outcome = run_with(&options, &training.data(), &unrelated.data(), None, go_on).unwrap();
    let (adapter, history) = finished(outcome);
    let best = adapter.config().training.clone().unwrap().best_epoch;
    assert!(history.len() < 50);
    assert_eq!(history.len(), best + 2);
    assert!(history[best - 1].best && !history[best].best);
}

#[test]
fn a_diverging_loss_is_reported_with_its_place_and_keeps_the_checkpoint() {
    let training = pairs(200, 1, 1.0, 1.0);
    let data = training.data();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.checkpoint");
    let options =
        TrainingOptions { learning_rate: 1e30, schedule: Schedule::Constant, ..options() };
    let stop = |e| match e {
        TrainingEvent::Started { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    run_with(&options, &data, &data, Some(&path), stop).unwrap();
    let error = run_with(&options, &data, &data, Some(&path), go_on).unwrap_err();
    let TrainingError::Diverged { epoch: 1, batch, batches: 4, .. } = error else {
        panic!("{error}");
    };
    let text = error.to_string();
    let place = format!("epoch 1, batch {batch} of 4");
    assert!(text.contains(&place) && text.contains("training.checkpoint"), "{text}");
    // The checkpoint still holds the sound state from before.
    let again = run_with(&options, &data, &data, Some(&path), stop).unwrap();
    assert!(matches!(again, TrainingOutcome::Interrupted { epochs: 0, batches: 0 }));
}

#[test]
fn a_checkpoint_of_another_run_or_a_damaged_one_is_refused() {
    let (one, other) = (pairs(200, 1, 1.0, 1.0), pairs(200, 9, 1.0, 1.0));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.checkpoint");
    let options = TrainingOptions { epochs: 1, ..options() };
    run_with(&options, &one.data(), &one.data(), Some(&path), go_on).unwrap();
    let refused = |options: &TrainingOptions, training: &Pairs, what: &str| {
        let error = run_with(options, &training.data(), &one.data(), Some(&path), go_on);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(what), "{error}");
    };
    refused(&TrainingOptions { dropout: 0.25, ..options.clone() }, &one, "an option differs");
    refused(&options, &other, "the training data differs");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refused(&options, &one, "training.checkpoint");
}

#[test]
fn a_finished_run_found_again_gives_its_adapter_at_once() {
    let rows = pairs(200, 1, 1.0, 1.0);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training.checkpoint");
    let train = || {
        let mut batches = 0;
        let outcome = run_with(&options(), &rows.data(), &rows.data(), Some(&path), |event| {
            batches += usize::from(matches!(event, TrainingEvent::Batch { .. }));
            ControlFlow::Continue(())
        });
        (finished(outcome.unwrap()).0.network().to_pytorch().unwrap(), batches)
    };
    let (first, batches) = train();
    assert_eq!(batches, 16);
    assert_eq!(train(), (first, 0));
}

#[test]
fn options_out_of_range_are_named() {
    let rows = pairs(100, 1, 1.0, 1.0);
    let data = rows.data();
    for (options, name) in [
        (TrainingOptions { batch_size: 0, ..options() }, "batch size is 0"),
        (TrainingOptions { dropout: 1.0, ..options() }, "dropout is 1"),
        (TrainingOptions { learning_rate: f64::NAN, ..options() }, "learning rate is NaN"),
        (TrainingOptions { gradient_clip: Some(0.0), ..options() }, "gradient clip is 0"),
        (TrainingOptions { input_noise: Some(-1.0), ..options() }, "input noise is -1"),
    ] {
        let error = run_with(&options, &data, &data, None, go_on).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    }
}

#[test]
fn the_released_preset_trains_with_crossed_targets() {
    let rows = pairs(300, 1, 0.5, 0.5);
    let crossed = |rows: &Pairs| -> Vec<f32> { rows.targets.clone() };
    let others = crossed(&rows);
    let data = TrainingData::identity(Rows::new(&rows.inputs, DIM).unwrap())
        .unwrap()
        .with_crossed(Rows::new(&others, DIM).unwrap(), (0..300).collect())
        .unwrap();
    let device = ComputeDevice::cpu().device;
    let losses = |cross_weight: f64| {
        let options = TrainingOptions {
            epochs: 3,
            hidden_dim: 8,
            cross_weight,
            ..TrainingOptions::new(Preset::Released)
        };
        let run = TrainingRun {
            options: &options,
            input_modality: Modality::Image,
            output_modality: Modality::Image,
            training: &data,
            validation: &data,
            checkpoint: None,
            device: &device,
        };
        finished(run.run(go_on).unwrap()).1
    };
    let (without, with) = (losses(0.0), losses(0.5));
    assert!(without[2].validation_l1 < without[0].validation_l1);
    assert!(with[0].training_loss > without[0].training_loss);
}
