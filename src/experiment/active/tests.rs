use std::ops::ControlFlow;

use super::*;
use crate::encoder::Modality;
use crate::experiment::pairs::{CaptionLink, ImageFacts};
use crate::experiment::retrieval::RetrievalPair;
use crate::experiment::{EmbeddedPairs, PairStore};
use crate::gallery::EmbeddingRows;
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};

const DIM: usize = 12;

/// Images are noise; captions are images moved one dimension on, with some noise: a rotated space
/// that a head can learn, and that plain cosines know nothing of.
fn rotated(images: usize, seed: u64) -> EmbeddedPairs {
    let captions_each = 2;
    let values = standard_normal(seed, Stream::EmbeddingSamples, 0, images * DIM);
    let mut texts = Vec::new();
    for i in 0..images * captions_each {
        let image = &values[i / captions_each * DIM..][..DIM];
        let noise = standard_normal(seed, Stream::EmbeddingSamples, 1 + i as u64, DIM);
        texts.extend((0..DIM).map(|d| image[(d + 1) % DIM] + 0.1 * noise[d]));
    }
    let facts = |i: usize| ImageFacts {
        id: format!("{seed}/{i}"),
        split: None,
        class: None,
        coco_id: None,
    };
    let link = |i: usize| CaptionLink {
        text: i as u32,
        image: (i / captions_each) as u32,
        level: None,
        id: None,
    };
    EmbeddedPairs::new(PairStore {
        logit_scale: Some(20.0),
        ..PairStore::new(
            format!("rotated {seed}"),
            EmbeddingRows::from_values(values, DIM).unwrap(),
            EmbeddingRows::from_values(texts, DIM).unwrap(),
            (0..images).map(facts).collect(),
            (0..images * captions_each).map(link).collect(),
        )
    })
    .unwrap()
}

fn small_settings() -> ActiveSettings {
    let mut settings = ActiveSettings::new(vec![10, 20, 30]);
    settings.seeds = vec![0, 5];
    settings.head = HeadOptions { hidden_dim: 32, epochs: 3, batch_size: 8, ..settings.head };
    settings.adapter.epochs = 2;
    settings.adapter.hidden_dim = 16;
    settings.passes = 3;
    settings
}

#[test]
fn a_head_learns_a_rotation_that_cosines_do_not_know() {
    let device = ComputeDevice::cpu().device;
    let (training, validation, test) = (rotated(500, 1), rotated(100, 2), rotated(100, 3));
    let options = HeadOptions {
        hidden_dim: 128,
        learning_rate: 3e-3,
        batch_size: 100,
        epochs: 60,
        patience: 60,
        ..HeadOptions::default()
    };
    let train = |epochs, go: ControlFlow<()>| {
        let options = HeadOptions { epochs, ..options.clone() };
        ProjectionHead::train(&training, &validation, &options, 4, &device, &mut || go)
    };
    let recall = |pairs: &EmbeddedPairs| {
        let found = RetrievalPair::of(pairs).unwrap();
        let at_1 = |ranks: &[Option<usize>]| crate::evaluation::recall_at_k(ranks, 1).unwrap();
        (at_1(&found.image_to_text.ranks), at_1(&found.text_to_image.ranks))
    };
    let head = train(60, ControlFlow::Continue(())).unwrap();
    let (before, after) = (recall(&test), recall(&head.apply(&test).unwrap()));
    assert!(before.0 < 0.1 && before.1 < 0.1, "{before:?}");
    assert!(after.0 > 0.5 && after.1 > 0.5, "{before:?} {after:?}");
    assert!(head.best_epoch() > 10);
    assert!(matches!(train(1, ControlFlow::Break(())), Err(ExperimentError::Cancelled)));
}

#[test]
fn a_head_that_only_makes_it_worse_leaves_the_encoder_as_it_is() {
    let device = ComputeDevice::cpu().device;
    let (training, other) = (rotated(20, 1), rotated(40, 2));
    // Held out are pairs that cosines match perfectly: nothing is to be gained.
    let perfect = PairStore { texts: other.store().images.clone(), ..other.store().clone() };
    let captions =
        (0..40).map(|i| CaptionLink { text: i, image: i, level: None, id: None }).collect();
    let perfect = EmbeddedPairs::new(PairStore { captions, logit_scale: Some(200.0), ..perfect });
    let perfect = perfect.unwrap();
    let options = HeadOptions { learning_rate: 0.05, epochs: 3, ..HeadOptions::default() };
    let go = &mut || ControlFlow::Continue(());
    let head = ProjectionHead::train(&training, &perfect, &options, 0, &device, go).unwrap();
    assert_eq!(head.best_epoch(), 0);
    let unit = crate::experiment::retrieval::unit_rows(perfect.matrix(Modality::Image), DIM);
    let same = head.project(Modality::Image, &unit, DIM, None).unwrap();
    assert!(unit.iter().zip(&same).all(|(a, b)| (a - b).abs() < 1e-6));
}

#[test]
fn curves_repeat_by_seed_and_share_their_start() {
    let device = ComputeDevice::cpu().device;
    let (pool, validation, test) = (rotated(40, 1), rotated(20, 2), rotated(20, 3));
    let data = ActiveData {
        pool: &pool,
        validation: &validation,
        test: &test,
        labelled: None,
        device: &device,
    };
    let settings = small_settings();
    let run = || {
        let mut measured = 0;
        let report = run(&data, &settings, &mut |event| {
            measured += usize::from(matches!(event, ActiveEvent::Measured { .. }));
            ControlFlow::Continue(())
        });
        (report.unwrap(), measured)
    };
    let (report, measured) = run();
    // One start per seed, then two rounds of eight strategies.
    assert_eq!(measured, 2 * (1 + 8 * 2));
    assert_eq!(report.curves.len(), 16);
    for curve in &report.curves {
        let budgets: Vec<usize> = curve.rounds.iter().map(|round| round.labelled).collect();
        assert_eq!(budgets, settings.budgets);
        let first = report.curves.iter().find(|other| other.seed == curve.seed).unwrap();
        assert_eq!(curve.rounds[0], first.rounds[0]);
    }
    let starts: Vec<_> = report.curves.iter().map(|curve| curve.rounds[0].image_nll).collect();
    assert_ne!(starts.first(), starts.last(), "every seed has a start of its own");
    let random = report.area(Strategy::Random, Measure::TextAurc).unwrap();
    assert!(random.against_random.is_none() && random.over_seeds.is_some());
    let other = report.area(Strategy::KCenter, Measure::TextAurc).unwrap();
    let expected: f64 =
        other.per_seed.iter().zip(&random.per_seed).map(|(a, b)| a - b).sum::<f64>() / 2.0;
    assert!((other.against_random.unwrap().value - expected).abs() < 1e-12);
    let (again, _) = run();
    assert_eq!(again.curves, report.curves);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<ActiveReport>(&json).unwrap(), report);
    let folder = tempfile::tempdir().unwrap();
    report.write_curves(&folder.path().join("curves.csv")).unwrap();
    let text = std::fs::read_to_string(folder.path().join("curves.csv")).unwrap();
    assert_eq!(text.lines().count(), 1 + 16 * 3);
}

#[test]
fn settings_that_do_not_fit_the_pool_are_refused_and_a_run_can_be_stopped() {
    let device = ComputeDevice::cpu().device;
    let (pool, validation) = (rotated(40, 1), rotated(20, 2));
    let open = ActiveData {
        pool: &pool,
        validation: &validation,
        test: &validation,
        labelled: None,
        device: &device,
    };
    let refused = |change: &dyn Fn(&mut ActiveSettings), labelled: Option<&[usize]>, word: &str| {
        let mut settings = small_settings();
        change(&mut settings);
        let go = &mut |_: ActiveEvent<'_>| ControlFlow::Continue(());
        let error = run(&ActiveData { labelled, ..open }, &settings, go).unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
    };
    refused(&|s| s.budgets = vec![10, 41], None, "40 images of the pool");
    refused(&|s| s.budgets = vec![20, 10], None, "[20, 10]");
    refused(&|s| s.budgets.clear(), None, "[]");
    refused(&|s| s.seeds = vec![1, 1], None, "1 twice");
    refused(&|s| s.strategies.clear(), None, "strategies");
    refused(&|s| s.head.batch_size = 1, None, "batch size");
    refused(&|_| (), Some(&[1, 2, 3]), "3, the number of images labelled already");
    refused(&|_| (), Some(&[1, 1]), "different positions");
    let mut steps = 0;
    let stopped = run(&open, &small_settings(), &mut |_| {
        steps += 1;
        if steps > 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(ExperimentError::Cancelled)));
    assert_eq!(steps, 5);
}
