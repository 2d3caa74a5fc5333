//! Whole experiments on data whose truth is known.

use std::ops::ControlFlow;
use std::sync::LazyLock;

use rand::RngExt;
use rand_distr::{Distribution, StandardNormal};

use super::pairs::{CaptionLink, ImageFacts, PairStore};
use super::report::{Budget, ProbVlmSettings, Report, Settings, Whose};
use super::retrieval::{FittedScales, RetrievalPair};
use super::{Direction, EmbeddedPairs, Experiment, ExperimentError, Method, Progress, TestSet};
use crate::distribution::GeneralizedGaussian;
use crate::encoder::Modality;
use crate::evaluation::spearman;
use crate::gallery::EmbeddingRows;
use crate::model::device::ComputeDevice;
use crate::random::{Stream, generator};

const DIM: usize = 16;

/// Pairs of texts x and images `x + noise`, where the noise is generalised Gaussian with shape 1.5
/// and a scale between 0.2 and 2 that grows with the first coordinate of x. `known: false`
/// breaks the pairs up: an image is then of another text.
fn heteroscedastic(name: &str, count: usize, seed: u64, known: bool) -> EmbeddedPairs {
    let mut rng = generator(seed, Stream::EmbeddingNoise, 77);
    let (mut texts, mut images) = (Vec::new(), Vec::new());
    for _ in 0..count {
        let x: Vec<f64> = (0..DIM).map(|_| StandardNormal.sample(&mut rng)).collect();
        let noise = GeneralizedGaussian::new(0.0, scale(x[0]), 1.5).unwrap();
        images.extend(x.iter().map(|v| (v + noise.sample(&mut rng)) as f32));
        texts.extend(x.into_iter().map(|v| v as f32));
    }
    let facts =
        |i: usize| ImageFacts { id: format!("{i}"), split: None, class: None, coco_id: None };
    let link = |i: usize| CaptionLink {
        text: i as u32,
        image: if known { i as u32 } else { ((i + count / 2) % count) as u32 },
        level: None,
        id: None,
    };
    EmbeddedPairs::new(PairStore {
        logit_scale: Some(20.0),
        ..PairStore::new(
            name.to_owned(),
            EmbeddingRows::from_values(images, DIM).unwrap(),
            EmbeddingRows::from_values(texts, DIM).unwrap(),
            (0..count).map(facts).collect(),
            (0..count).map(link).collect(),
        )
    })
    .unwrap()
}

fn scale(first: f64) -> f64 {
    0.2 + 1.8 / (1.0 + (-2.0 * first).exp())
}

fn settings(methods: &[Method]) -> Settings {
    Settings {
        methods: methods.to_vec(),
        seeds: vec![0, 1],
        whose: Whose::Query,
        levels: vec![5, 10],
        bootstrap: 200,
        permutations: 500,
        probvlm: ProbVlmSettings::default(),
        budget: Budget { epochs: 40, batch_size: 64, learning_rate: 2e-3, patience: 8, passes: 5 },
    }
}

fn run(training: &EmbeddedPairs, test: &EmbeddedPairs, settings: &Settings) -> Report {
    let validation = heteroscedastic("validation", 400, 2, true);
    let tests = [TestSet { name: "test".to_owned(), pairs: test.clone() }];
    let device = ComputeDevice::cpu().device;
    let experiment = Experiment {
        training,
        validation: &validation,
        tests: &tests,
        plausible: &[],
        settings,
        device: &device,
    };
    experiment.run(&mut |_| Ok(ControlFlow::Continue(()))).unwrap()
}

/// A small experiment with a trained method, one without training, and noise; made once.
pub(crate) fn small_report() -> &'static Report {
    static REPORT: LazyLock<Report> = LazyLock::new(|| {
        let training = heteroscedastic("training", 300, 1, true);
        let test = heteroscedastic("test", 200, 3, true);
        let mut settings = settings(&[Method::Gaussian, Method::CosineDistance, Method::Random]);
        settings.budget.epochs = 2;
        run(&training, &test, &settings)
    });
    &REPORT
}

#[test]
fn a_known_scale_is_found_and_its_calibration_is_near_the_ideal() {
    let training = heteroscedastic("training", 3000, 1, true);
    let test = heteroscedastic("test", 3000, 3, true);
    let methods = [Method::ProbVlmCross, Method::CosineDistance, Method::Random];
    let report = run(&training, &test, &settings(&methods));
    let direction = report.direction(0, Direction::TextToImage).unwrap();
    let probvlm = direction.method(Method::ProbVlmCross).unwrap();
    println!("recall {:?}", direction.recall);
    println!("probvlm {:?} {:?} {:?}", probvlm.minus_s_r2, probvlm.auroc, probvlm.likelihood);
    assert!(probvlm.minus_s_r2.value > 0.8, "{:?}", probvlm.minus_s_r2);
    assert!(probvlm.auroc.unwrap().low > 0.7);
    let five = &probvlm.seeds[0].trends[0];
    assert!(five.requested == 5 && five.p_value < 0.02, "{five:?}");
    let likelihood = probvlm.likelihood.as_ref().unwrap();
    assert!(likelihood.nll < likelihood.nll_constant - 0.1);
    assert!(likelihood.crps < likelihood.crps_constant);
    for coverage in &likelihood.coverage {
        assert!((coverage.nominal - coverage.observed).abs() < 0.05, "{coverage:?}");
    }
    let noise = direction.method(Method::Random).unwrap();
    assert!(noise.auroc.unwrap().low < 0.5 && noise.auroc.unwrap().high > 0.5);
    assert!(probvlm.aurc_against_cosine.is_some() && probvlm.probvlm_aurc_against.is_none());
}

#[test]
fn the_uncertainty_follows_the_scale_that_the_data_were_drawn_with() {
    let training = heteroscedastic("training", 3000, 1, true);
    let validation = heteroscedastic("validation", 400, 2, true);
    let test = heteroscedastic("test", 1000, 3, true);
    let settings = settings(&[Method::ProbVlmCross]);
    let device = ComputeDevice::cpu().device;
    let fit = super::methods::Fit {
        training: &training,
        validation: &validation,
        budget: &settings.budget,
        probvlm: settings.probvlm,
        seed: 0,
        device: &device,
        scales: &FittedScales::of(&validation),
        fitted_probvlm: None,
    };
    let fitted =
        fit.run(Method::ProbVlmCross, &mut |_, _| ControlFlow::Continue(())).unwrap().method;
    let retrieval = RetrievalPair::of(&test).unwrap();
    let scores = fitted.score(&test, &retrieval, Modality::Text).unwrap();
    let truth: Vec<f64> =
        (0..1000).map(|i| scale(f64::from(test.row(Modality::Text, i)[0])).powi(2)).collect();
    let found = spearman(&scores.total, &truth).unwrap();
    println!("Spearman's correlation with the true variance: {found:.3}");
    assert!(found > 0.9, "{found}");
}

#[test]
fn pairs_that_have_nothing_to_do_with_each_other_score_like_noise() {
    let training = heteroscedastic("training", 1000, 1, false);
    let test = heteroscedastic("test", 600, 3, false);
    let mut settings = settings(&[Method::ProbVlmCross, Method::Gaussian, Method::CosineDistance]);
    settings.budget.epochs = 5;
    let report = run(&training, &test, &settings);
    for direction in &report.tests[0].directions {
        assert!(direction.recall[0].high < 0.02, "{:?}", direction.recall);
        assert!((direction.chance[2] - 10.0 / 600.0).abs() < 1e-12);
        for method in &direction.methods {
            if let Some(auroc) = method.auroc {
                assert!(auroc.low < 0.5 && auroc.high > 0.5, "{:?} {auroc:?}", method.method);
            }
        }
    }
}

#[test]
fn noise_has_uniform_p_values() {
    let test = heteroscedastic("test", 500, 3, true);
    let mut settings = settings(&[Method::Random]);
    settings.seeds = (0..100).collect();
    settings.bootstrap = 10;
    let report = run(&test, &test, &settings);
    let direction = report.direction(0, Direction::TextToImage).unwrap();
    let mut p: Vec<f64> =
        direction.methods[0].seeds.iter().map(|seed| seed.trends[1].p_value).collect();
    p.sort_by(f64::total_cmp);
    let distance =
        p.iter().enumerate().map(|(i, p)| (p - (i as f64 + 0.5) / 100.0).abs()).fold(0.0, f64::max);
    // Kolmogorov's 99.9 % point for 100 values is 0.195.
    assert!(distance < 0.195, "{distance} {p:?}");
}

#[test]
fn a_cancelled_experiment_stops_and_a_method_without_its_data_is_left_out_with_a_note() {
    let data = heteroscedastic("data", 60, 3, true);
    let device = ComputeDevice::cpu().device;
    let tests = [TestSet { name: "test".to_owned(), pairs: data.clone() }];
    let settings = settings(&[Method::Ttda, Method::CosineDistance]);
    let experiment = Experiment {
        training: &data,
        validation: &data,
        tests: &tests,
        plausible: &[],
        settings: &settings,
        device: &device,
    };
    let mut steps = 0;
    let cancelled = experiment.run(&mut |progress| {
        steps += usize::from(matches!(progress, Progress::Step { .. }));
        Ok(if steps == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    });
    assert!(matches!(cancelled, Err(ExperimentError::Cancelled)));
    let report = experiment.run(&mut |_| Ok(ControlFlow::Continue(()))).unwrap();
    assert!(report.notes.iter().any(|note| note.contains("TTDA")), "{:?}", report.notes);
    assert_eq!(report.tests[0].directions[0].methods.len(), 1);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn settings_and_data_that_make_no_sense_are_refused() {
    let data = heteroscedastic("data", 40, 3, true);
    let device = ComputeDevice::cpu().device;
    let refused = |change: &dyn Fn(&mut Settings), tests: &[TestSet], word: &str| {
        let mut settings = settings(&[Method::Random]);
        change(&mut settings);
        let experiment = Experiment {
            training: &data,
            validation: &data,
            tests,
            plausible: &[],
            settings: &settings,
            device: &device,
        };
        let error = experiment.run(&mut |_| Ok(ControlFlow::Continue(()))).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    };
    let tests = [TestSet { name: "test".to_owned(), pairs: data.clone() }];
    refused(&|_| {}, &[], "test sets");
    refused(&|s| s.methods.clear(), &tests, "methods");
    refused(&|s| s.methods.push(Method::Random), &tests, "twice");
    refused(&|s| s.seeds.clear(), &tests, "seeds");
    refused(&|s| s.levels = vec![1], &tests, "levels");
    let mut store = data.store().clone();
    let mut rng = generator(1, Stream::EmbeddingNoise, 1);
    let values: Vec<f32> = (0..40 * 3).map(|_| rng.random()).collect();
    store.images = EmbeddingRows::from_values(values.clone(), 3).unwrap();
    store.texts = EmbeddingRows::from_values(values, 3).unwrap();
    let other = TestSet { name: "other".to_owned(), pairs: EmbeddedPairs::new(store).unwrap() };
    refused(&|_| {}, &[other], "3 dimensions");
}
