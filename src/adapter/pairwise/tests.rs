use std::ops::ControlFlow;

use super::*;
use crate::adapter::Adapter;
use crate::adapter::training::{Rows, TrainingError, TrainingEvent};
use crate::evaluation::spearman;
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};

const DIM: usize = 16;
/// Number of concepts of each level, from the narrowest: every text of level 0 has its own.
const CONCEPTS: [Option<usize>; 5] = [None, Some(48), Some(12), Some(4), Some(1)];
/// Spread of the images around the text of each level.
const SPREAD: [f32; 5] = [0.1, 0.15, 0.2, 0.26, 0.35];

/// Texts that name narrow and broad concepts: a broad one has many images that are spread widely.
/// The last dimension of an embedding tells the level, which decides how uncertain the partner is.
struct Captions {
    images: Vec<f32>,
    texts: Vec<f32>,
    spread: Vec<f64>,
}

fn captions(count: usize, seed: u64) -> Captions {
    let content = DIM - 1;
    let unit = |values: &[f32]| -> Vec<f32> {
        let norm = crate::encoder::norm(values) as f32;
        values.iter().map(|v| v / norm).collect()
    };
    let noise = standard_normal(seed, Stream::Resampling, 1, count * content);
    let mut data = Captions { images: vec![], texts: vec![], spread: vec![] };
    for (i, noise) in noise.chunks(content).enumerate() {
        let level = i % CONCEPTS.len();
        let (seed, index) = match CONCEPTS[level] {
            Some(concepts) => (level as u64, i / CONCEPTS.len() % concepts),
            None => (1000 + seed, i),
        };
        let text = unit(&standard_normal(seed, Stream::Resampling, 100 + index as u64, content));
        let offset = unit(noise);
        let image: Vec<f32> =
            text.iter().zip(&offset).map(|(t, o)| t + SPREAD[level] * o).collect();
        let mark = 0.1 * (level as f32 - 2.0);
        data.images.extend(unit(&image).iter().chain(&[mark]).map(|x| 10.0 * x));
        data.texts.extend(text.iter().chain(&[mark]).map(|x| 3.0 * x));
        data.spread.push(f64::from(SPREAD[level]));
    }
    data
}

impl Captions {
    fn rows(&self) -> PairRows<'_> {
        let rows = |values| Rows::new(values, DIM).unwrap();
        let pairs = (0..self.spread.len()).map(|i| (i, i)).collect();
        PairRows::new(rows(&self.images), rows(&self.texts), pairs).unwrap()
    }

    fn embeddings(&self, modality: Modality) -> Vec<Embedding> {
        let values = match modality {
            Modality::Text => &self.texts,
            Modality::Image => &self.images,
        };
        values.chunks(DIM).map(|row| Embedding { values: row.to_vec(), modality }).collect()
    }
}

fn options(kind: PairwiseKind) -> PairwiseOptions {
    PairwiseOptions {
        hidden_dim: Some(64),
        learning_rate: 5e-3,
        batch_size: 96,
        epochs: 20,
        samples: 4,
        seed: 3,
        ..PairwiseOptions::new(kind)
    }
}

fn run(
    kind: PairwiseKind,
    options: &PairwiseOptions,
    on_event: impl FnMut(TrainingEvent) -> ControlFlow<()>,
) -> PairwiseOutcome {
    run_on(1008, kind, options, on_event)
}

fn run_on(
    count: usize,
    kind: PairwiseKind,
    options: &PairwiseOptions,
    on_event: impl FnMut(TrainingEvent) -> ControlFlow<()>,
) -> PairwiseOutcome {
    let (training, validation) = (captions(count, 2), captions(252, 3));
    let (training, validation) = (training.rows(), validation.rows());
    let device = ComputeDevice::cpu().device;
    let run = PairwiseRun {
        kind,
        options,
        training: &training,
        validation: &validation,
        device: &device,
    };
    run.run(on_event).unwrap()
}

fn go_on(_: TrainingEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn sides(outcome: PairwiseOutcome) -> [Option<Box<PairwiseAdapter>>; 2] {
    match outcome {
        PairwiseOutcome::Finished { text, image, .. } => [text, image],
        other => panic!("not finished: {other:?}"),
    }
}

#[test]
fn every_method_learns_how_widely_the_partners_are_spread() {
    let test = captions(420, 4);
    let texts = test.embeddings(Modality::Text);
    for kind in PairwiseKind::ALL {
        // AsymVLM also has to learn the mean, which takes more pairs.
        let (count, epochs) = if kind.spherical().is_some() { (4032, 40) } else { (1008, 20) };
        let options = PairwiseOptions { epochs, ..options(kind) };
        let PairwiseOutcome::Finished { text: Some(text), image, history } =
            run_on(count, kind, &options, go_on)
        else {
            panic!("{kind} gave no adapter for texts");
        };
        assert_eq!(image.is_some(), kind.spherical().is_none());
        let summary = text.config().training.as_ref().unwrap();
        assert!(summary.validation_loss < summary.first_validation_loss, "{kind}: {history:?}");
        let own = text.own_scores(&texts).unwrap().unwrap();
        let predicted = text.predict_batch(&texts, 0, 0).unwrap();
        let variance: Vec<f64> = predicted.iter().map(|p| p.mean_total()).collect();
        for (what, scores) in [("own score", own), ("variance", variance)] {
            let correlation = spearman(&scores, &test.spread).unwrap();
            assert!(correlation > 0.5, "{kind}: {what} {correlation}");
        }
    }
}

#[test]
fn a_run_repeats_with_its_seed_and_stops_when_it_is_asked_to() {
    for kind in [PairwiseKind::Pcme, PairwiseKind::AsymVmf] {
        let options = PairwiseOptions { epochs: 2, dropout: 0.1, ..options(kind) };
        let weights = |options: &PairwiseOptions| {
            let [text, _] = sides(run(kind, options, go_on));
            text.unwrap().network.to_pytorch().unwrap()
        };
        assert_eq!(weights(&options), weights(&options));
        assert_ne!(weights(&options), weights(&PairwiseOptions { seed: 4, ..options.clone() }));
        let mut batches = 0;
        let outcome = run(kind, &options, |event| {
            batches += usize::from(matches!(event, TrainingEvent::Batch { .. }));
            if batches == 13 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        // 10 whole batches of 96 in 1008.
        assert!(matches!(outcome, PairwiseOutcome::Interrupted { epochs: 1, batches: 3 }));
    }
}

#[test]
fn both_sides_of_asymvlm_are_trained_where_that_is_asked_for() {
    let kind = PairwiseKind::AsymPowerSpherical;
    let options = PairwiseOptions { image_side: true, epochs: 1, ..options(kind) };
    let [text, image] = sides(run(kind, &options, go_on));
    let (text, image) = (text.unwrap(), image.unwrap());
    assert_eq!((text.input_modality(), text.output_modality()), (Modality::Text, Modality::Image));
    assert_eq!(
        (image.input_modality(), image.output_modality()),
        (Modality::Image, Modality::Text)
    );
    let data = captions(1008, 2);
    let mean_norm =
        |values: &[f32]| values.chunks(DIM).map(crate::encoder::norm).sum::<f64>() / 1008.0;
    assert!((text.config().output_norm.unwrap() - mean_norm(&data.images)).abs() < 1e-9);
    assert!((image.config().output_norm.unwrap() - mean_norm(&data.texts)).abs() < 1e-9);
    // A density of points of one norm has its second moment there.
    let predicted = text.predict_batch(&data.embeddings(Modality::Text)[..5], 0, 0).unwrap();
    for p in predicted {
        let mean: f64 = p.dimensions().iter().map(|d| d.mu() * d.mu()).sum();
        let second = mean + p.aleatoric().iter().sum::<f64>();
        assert!((second.sqrt() / text.config().output_norm.unwrap() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn an_adapter_comes_back_from_its_folder_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let device = ComputeDevice::cpu().device;
    let test = captions(6, 5);
    for kind in PairwiseKind::ALL {
        let options = PairwiseOptions { epochs: 1, dropout: 0.2, ..options(kind) };
        let [text, image] = sides(run(kind, &options, go_on));
        for adapter in [text, image].into_iter().flatten() {
            let path = folder.path().join(format!("{kind}-{}", adapter.input_modality()));
            Predictor::save(&*adapter, &path).unwrap();
            let header = crate::adapter::AdapterHeader::read(&path).unwrap();
            assert!(header.kind.probabilistic().is_some());
            let loaded = Adapter::load(&path, &device).unwrap();
            let embeddings = test.embeddings(adapter.input_modality());
            let before = adapter.predict_batch(&embeddings, 3, 1).unwrap();
            assert_eq!(loaded.predict_batch(&embeddings, 3, 1).unwrap(), before);
            assert_eq!(before[4], loaded.predict(&embeddings[4], 3, 1).unwrap());
            assert_eq!(
                loaded.own_scores(&embeddings).unwrap(),
                adapter.own_scores(&embeddings).unwrap()
            );
            let epistemic = before.iter().any(|p| p.mean_epistemic() > 0.0);
            assert_eq!(epistemic, kind.spherical().is_some(), "{kind}");
            assert_eq!(
                adapter.match_probability().is_some(),
                matches!(kind, PairwiseKind::Pcme | PairwiseKind::PcmePlusPlus)
            );
        }
    }
}

#[test]
fn variances_scale_with_the_norm_of_the_embedding_and_the_mean_stays() {
    let kind = PairwiseKind::Pfe;
    let options = PairwiseOptions { epochs: 1, ..options(kind) };
    let [text, _] = sides(run(kind, &options, go_on));
    let text = text.unwrap();
    let embedding = captions(1, 6).embeddings(Modality::Text).remove(0);
    let longer = Embedding {
        values: embedding.values.iter().map(|v| 2.0 * v).collect(),
        modality: Modality::Text,
    };
    let both = [embedding.clone(), longer];
    let predicted = text.predict_batch(&both, 0, 0).unwrap();
    assert_eq!(predicted[0].mean(), embedding.values);
    assert!((predicted[1].mean_total() / predicted[0].mean_total() - 4.0).abs() < 1e-4);
    let own = text.own_scores(&both).unwrap().unwrap();
    assert!((own[0] / own[1] - 1.0).abs() < 1e-4);
    let raw = predicted[0].aleatoric().iter().sum::<f64>() / embedding.norm().powi(2);
    assert!((raw / own[0] - 1.0).abs() < 1e-6);
}

#[test]
fn captions_of_one_image_may_share_a_batch() {
    let data = captions(210, 7);
    let rows = |values| Rows::new(values, DIM).unwrap();
    let pairs: Vec<_> = (0..210).map(|i| (i, i / 5)).collect();
    let data = PairRows::new(rows(&data.images), rows(&data.texts), pairs).unwrap();
    let device = ComputeDevice::cpu().device;
    for kind in PairwiseKind::ALL {
        let options = PairwiseOptions { epochs: 1, ..options(kind) };
        let run = PairwiseRun {
            kind,
            options: &options,
            training: &data,
            validation: &data,
            device: &device,
        };
        assert!(matches!(run.run(go_on), Ok(PairwiseOutcome::Finished { .. })));
    }
}

#[test]
fn unusable_data_options_and_embeddings_are_refused() {
    let values = vec![1f32; 4 * DIM];
    let rows = Rows::new(&values, DIM).unwrap();
    let narrow = Rows::new(&values, DIM / 4).unwrap();
    assert!(PairRows::new(rows, rows, vec![]).is_err());
    assert!(PairRows::new(rows, rows, vec![(0, 4)]).is_err());
    assert!(PairRows::new(rows, narrow, vec![(0, 0)]).is_err());
    let device = ComputeDevice::cpu().device;
    let attempt = |kind, options: PairwiseOptions, data: &PairRows<'_>| {
        let run = PairwiseRun {
            kind,
            options: &options,
            training: data,
            validation: data,
            device: &device,
        };
        run.run(go_on).unwrap_err()
    };
    let kind = PairwiseKind::AsymVmf;
    let good = PairRows::new(rows, rows, vec![(0, 0), (1, 1)]).unwrap();
    let error = attempt(kind, PairwiseOptions { batch_size: 1, ..options(kind) }, &good);
    assert!(matches!(error, TrainingError::Option { option: "batch size", .. }));
    let error = attempt(kind, PairwiseOptions { dropout: 1.0, ..options(kind) }, &good);
    assert!(matches!(error, TrainingError::Option { option: "dropout", .. }));
    let tiny = PairRows::new(narrow, narrow, vec![(0, 0), (1, 1)]).unwrap();
    assert!(matches!(attempt(kind, options(kind), &tiny), TrainingError::Data(_)));
    let one = PairRows::new(rows, rows, vec![(0, 0)]).unwrap();
    assert!(matches!(attempt(kind, options(kind), &one), TrainingError::Data(_)));
    let zeros = vec![0f32; 2 * DIM];
    let zeros = Rows::new(&zeros, DIM).unwrap();
    let zeros = PairRows::new(zeros, zeros, vec![(0, 0), (1, 1)]).unwrap();
    let error = attempt(kind, options(kind), &zeros);
    assert!(matches!(error, TrainingError::Adapter(AdapterError::Zero)));

    let options = PairwiseOptions { epochs: 1, ..options(PairwiseKind::Pfe) };
    let [text, _] = sides(run(PairwiseKind::Pfe, &options, go_on));
    let text = text.unwrap();
    let predict = |values: Vec<f32>, modality| {
        text.predict_batch(&[Embedding { values, modality }], 0, 0).unwrap_err()
    };
    let wrong = predict(vec![1.0; DIM], Modality::Image);
    assert!(matches!(wrong, AdapterError::Modality { .. }));
    let wrong = predict(vec![1.0; DIM - 1], Modality::Text);
    assert!(matches!(wrong, AdapterError::Dimension { .. }));
    let wrong = predict(vec![f32::NAN; DIM], Modality::Text);
    assert!(matches!(wrong, AdapterError::NotFinite { .. }));
    assert!(matches!(predict(vec![0.0; DIM], Modality::Text), AdapterError::Zero));
}
