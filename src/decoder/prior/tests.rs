use std::path::PathBuf;

use super::testing::write_random_prior;
use super::*;
use crate::model::device::ComputeDevice;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn fixture() -> PathBuf {
    root().join("tests/fixtures/unclip_text/pipeline_runs/pipeline")
}

fn prior() -> Prior {
    Prior::load(&fixture(), &ComputeDevice::cpu().device).unwrap()
}

fn options(count: usize) -> PriorOptions {
    PriorOptions { steps: 4, seed: 3, count, ..PriorOptions::default() }
}

fn sample(prior: &Prior, text: &str, options: &PriorOptions) -> Vec<Vec<f32>> {
    prior.sample(text, options, &mut |_| ControlFlow::Continue(())).unwrap()
}

fn far(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn a_sample_is_the_same_alone_in_every_batch_and_among_any_number() {
    let prior = prior();
    let whole = sample(&prior, "two dogs", &options(7));
    assert_eq!(whole.len(), 7);
    for batch_size in [1, 3] {
        let batched = PriorOptions { batch_size: Some(batch_size), ..options(7) };
        for (a, b) in whole.iter().zip(&sample(&prior, "two dogs", &batched)) {
            assert!(far(a, b) < 1e-4, "{batch_size}");
        }
    }
    let alone = PriorOptions { first: 5, ..options(1) };
    assert!(far(&sample(&prior, "two dogs", &alone)[0], &whole[5]) < 1e-4);
    assert_eq!(sample(&prior, "two dogs", &options(7)), whole);
}

#[test]
fn text_seed_index_and_guidance_change_a_sample() {
    let prior = prior();
    let base = sample(&prior, "two dogs", &options(2));
    assert!(far(&base[0], &base[1]) > 0.01);
    for (text, changed) in [
        ("a red cat", options(1)),
        ("two dogs", PriorOptions { seed: 4, ..options(1) }),
        ("two dogs", PriorOptions { guidance_scale: 1.0, ..options(1) }),
        ("two dogs", PriorOptions { steps: 5, ..options(1) }),
    ] {
        assert!(far(&sample(&prior, text, &changed)[0], &base[0]) > 0.01, "{changed:?}");
    }
}

#[test]
fn progress_counts_every_step_of_every_batch_and_a_break_stops_at_once() {
    let prior = prior();
    let options = PriorOptions { batch_size: Some(2), ..options(5) };
    let mut seen = Vec::new();
    let result = prior.sample("two dogs", &options, &mut |progress| {
        seen.push((progress.done, progress.total));
        ControlFlow::Continue(())
    });
    assert!(result.is_ok());
    assert_eq!(seen, (1..=12).map(|done| (done, 12)).collect::<Vec<_>>());
    let mut calls = 0;
    let result = prior.sample("two dogs", &options, &mut |_| {
        calls += 1;
        if calls == 6 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(result, Err(DecodeError::Cancelled)));
    assert_eq!(calls, 6);
}

#[test]
fn noisy_embeddings_of_several_texts_stand_by_their_text() {
    let prior = prior();
    let device = ComputeDevice::cpu().device;
    let dim = prior.embedding_dim();
    let noisy = draw(&mut [generator(1, Stream::PriorSamples, 0)], 6 * dim, &device);
    let noisy = noisy.reshape([6, dim]);
    let prepare = |texts: &[&str]| {
        let PriorText { text_embeds, hidden_states, mask } = prior.encode(texts).unwrap();
        prior.network().prepare(text_embeds, hidden_states, mask).unwrap()
    };
    let together = prior.network().forward(noisy.clone(), 400.0, &prepare(&["a cat", "dogs, two"]));
    let together: Vec<f32> = together.unwrap().into_data().iter().collect();
    for (i, text) in ["a cat", "dogs, two"].into_iter().enumerate() {
        let rows = noisy.clone().narrow(0, 3 * i, 3);
        let alone = prior.network().forward(rows, 400.0, &prepare(&[text])).unwrap();
        let alone: Vec<f32> = alone.into_data().iter().collect();
        assert!(far(&alone, &together[3 * i * dim..3 * (i + 1) * dim]) < 1e-4, "{text}");
    }
    let three = prepare(&["a", "b", "c", "d"]);
    let error = prior.network().forward(noisy, 400.0, &three).unwrap_err().to_string();
    assert!(error.contains("a multiple of 4"), "{error}");
}

#[test]
fn a_prior_in_the_layout_of_kandinsky_with_another_text_length_is_read() {
    let folder = tempfile::tempdir().unwrap();
    write_random_prior(folder.path(), &root().join("assets/demo/clip"));
    let prior = Prior::load(folder.path(), &ComputeDevice::cpu().device).unwrap();
    assert_eq!(prior.embedding_dim(), 192);
    let samples = sample(&prior, "a slice of cake", &options(2));
    assert!(samples.iter().flatten().all(|v| v.is_finite()) && samples[0] != samples[1]);
}

#[test]
fn numbers_out_of_range_are_named() {
    let prior = prior();
    for (options, expected) in [
        (PriorOptions { steps: 0, ..options(1) }, "2 to 1000"),
        (PriorOptions { batch_size: Some(0), ..options(1) }, "batch size is 0"),
        (PriorOptions { guidance_scale: f64::NAN, ..options(1) }, "guidance scale is NaN"),
    ] {
        let result = prior.sample("a", &options, &mut |_| ControlFlow::Continue(()));
        let error = result.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A copy of the fixture's parts with one config changed.
fn changed(part: &str, key: &str, value: Value) -> String {
    let folder = tempfile::tempdir().unwrap();
    for entry in ["prior", "prior_text_encoder", "prior_tokenizer", "prior_scheduler"] {
        std::fs::create_dir(folder.path().join(entry)).unwrap();
        for file in std::fs::read_dir(fixture().join(entry)).unwrap() {
            let file = file.unwrap().path();
            let to = folder.path().join(entry).join(file.file_name().unwrap());
            std::fs::copy(file, to).unwrap();
        }
    }
    std::fs::copy(fixture().join("model_index.json"), folder.path().join("model_index.json"))
        .unwrap();
    let path = folder.path().join(part);
    let mut config: Value = read_json(&path).unwrap();
    config[key] = value;
    std::fs::write(&path, config.to_string()).unwrap();
    Prior::load(folder.path(), &ComputeDevice::cpu().device).unwrap_err().to_string()
}

#[test]
fn what_is_no_prior_or_does_not_fit_is_refused_with_the_reason() {
    for (part, key, value, expected) in [
        (
            "model_index.json",
            "_class_name",
            "StableDiffusionPipeline".into(),
            "StableUnCLIPPipeline",
        ),
        ("prior/config.json", "norm_in_type", "layer".into(), "norm_in_type is \"layer\""),
        ("prior/config.json", "num_layers", 3.into(), "missing"),
        ("prior/config.json", "num_layers", 1.into(), "config does not call for"),
        ("prior/config.json", "embedding_dim", 48.into(), "calls for"),
        ("prior/config.json", "num_embeddings", 76.into(), "calls for"),
        ("prior/config.json", "clip_embed_dim", 48.into(), "embedding_dim, 32"),
        ("prior/config.json", "num_layers", (1u64 << 40).into(), "num_layers"),
        ("prior_text_encoder/config.json", "projection_dim", 16.into(), "the prior needs 32"),
    ] {
        let error = changed(part, key, value);
        assert!(error.contains(expected), "{key}: {error}");
    }
}
