use std::path::{Path, PathBuf};

use super::*;
use crate::adapter::Adapter;
use crate::encoder::Modality;
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};

fn device() -> Device {
    ComputeDevice::cpu().device
}

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/probvlm/adapter")
}

pub(super) fn text(seed: u64, dim: usize) -> Embedding {
    Embedding {
        values: standard_normal(seed, Stream::Resampling, 0, dim),
        modality: Modality::Text,
    }
}

/// A small adapter that nobody trained, with the given spaces.
pub(super) fn adapter(preset: Preset, space: Space, dim: usize) -> ProbVlm {
    let config = ProbVlmConfig {
        kind: crate::adapter::PROBVLM.to_owned(),
        preset,
        family: Family::GeneralizedGaussian,
        input_modality: Modality::Text,
        output_modality: Modality::Image,
        input_dim: dim,
        output_dim: dim,
        hidden_dim: 2 * dim,
        dropout: 0.2,
        input_space: space.config(),
        output_space: space.config(),
        encoder: Some("tower-7".to_owned()),
        unit_rows: None,
        training: None,
    };
    let network = Network::random(dim, 2 * dim, 3, &device());
    ProbVlm::from_parts(config, space.clone(), space, network)
}

fn unit() -> Space {
    Space::Unit { factor: 1.0, norm: None }
}

pub(super) fn standardised(dim: usize) -> Space {
    let rows: Vec<Vec<f32>> =
        (0..20).map(|i| standard_normal(9, Stream::Resampling, i, dim)).collect();
    Space::standardised(rows.iter().map(Vec::as_slice), dim)
}

#[test]
fn a_saved_adapter_predicts_the_same_after_loading() {
    for (preset, space) in [
        (Preset::Paper, standardised(10)),
        (Preset::Paper, Space::Unit { factor: 1.0, norm: Some(14.5) }),
        (Preset::Released, Space::Unit { factor: 100.0, norm: None }),
    ] {
        let adapter = adapter(preset, space, 10);
        let folder = tempfile::tempdir().unwrap();
        adapter.save(folder.path()).unwrap();
        let loaded = Adapter::load(folder.path(), &device()).unwrap();
        let query = text(1, 10);
        assert_eq!(loaded.predict(&query, 6, 2).unwrap(), adapter.predict(&query, 6, 2).unwrap());
        assert_eq!(loaded.encoder(), Some("tower-7"));
        assert_eq!(
            (loaded.input_modality(), loaded.output_modality(), loaded.dim()),
            (Modality::Text, Modality::Image, 10)
        );
    }
}

#[test]
fn both_checkpoint_formats_of_the_authors_give_the_same_adapter() {
    for modality in [Modality::Text, Modality::Image] {
        let load = |name: &str| ProbVlm::load_released(&fixture().join(name), modality, &device());
        let (pth, safetensors) = (load("model.pth").unwrap(), load("model.safetensors").unwrap());
        assert_eq!(
            pth.network().to_pytorch().unwrap(),
            safetensors.network().to_pytorch().unwrap()
        );
        assert_eq!(pth.config(), safetensors.config());
        assert_eq!(pth.config().preset, Preset::Released);
    }
}

#[test]
fn a_checkpoint_without_the_modality_is_refused_by_name() {
    let adapter = adapter(Preset::Paper, unit(), 6);
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path()).unwrap();
    let file = folder.path().join("adapter.safetensors");
    let error = ProbVlm::load_released(&file, Modality::Text, &device()).unwrap_err().to_string();
    assert!(error.contains("txt_BayesCap.mod.0.weight") && error.contains("block_mu"), "{error}");
}

#[test]
fn a_batch_gives_what_its_members_give_alone() {
    for preset in [Preset::Paper, Preset::Released] {
        let adapter = adapter(preset, unit(), 8);
        let queries: Vec<Embedding> = (0..5).map(|i| text(i, 8)).collect();
        let batch = adapter.predict_batch(&queries, 7, 11).unwrap();
        for (query, together) in queries.iter().zip(&batch) {
            let alone = adapter.predict(query, 7, 11).unwrap();
            for d in 0..8 {
                let close = |a: f64, b: f64| (a - b).abs() <= 1e-5 * (a.abs() + b.abs()) + 1e-9;
                assert!(close(alone.dimensions()[d].mu(), together.dimensions()[d].mu()));
                assert!(close(alone.aleatoric()[d], together.aleatoric()[d]));
                assert!(close(alone.epistemic()[d], together.epistemic()[d]));
            }
        }
    }
}

#[test]
fn passes_decide_the_epistemic_part_alone() {
    let adapter = adapter(Preset::Paper, unit(), 8);
    let query = text(4, 8);
    let none = adapter.predict(&query, 0, 1).unwrap();
    let some = adapter.predict(&query, 20, 1).unwrap();
    assert_eq!(none.dimensions(), some.dimensions());
    assert!(none.epistemic().iter().all(|&e| e == 0.0));
    assert!(some.epistemic().iter().all(|&e| e > 0.0));
    assert_eq!(some, adapter.predict(&query, 20, 1).unwrap());
    assert_ne!(some, adapter.predict(&query, 20, 2).unwrap());
}

#[test]
fn the_epistemic_variance_is_that_of_mu_over_the_masks() {
    let adapter = adapter(Preset::Paper, unit(), 5);
    let query = text(8, 5);
    let (passes, seed, hidden) = (4, 21, 10);
    let x = Tensor::<2>::from_data(TensorData::new(query.unit(), [1, 5]), &device());
    let mus: Vec<Vec<f32>> = (0..passes)
        .map(|pass| {
            let mask = dropout_mask(0.2, seed, pass, hidden);
            let mask = Tensor::from_data(TensorData::new(mask, [1, hidden]), &device());
            read(adapter.network().forward_masked(x.clone(), mask).mu).unwrap()
        })
        .collect();
    let predicted = adapter.predict(&query, passes as usize, seed).unwrap();
    for d in 0..5 {
        let column: Vec<f64> = mus.iter().map(|m| f64::from(m[d]) * query.norm()).collect();
        let mean = column.iter().sum::<f64>() / passes as f64;
        let variance = column.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / passes as f64;
        let error = (variance - predicted.epistemic()[d]).abs();
        assert!(error < 1e-4 * variance.max(1e-6), "{variance} {}", predicted.epistemic()[d]);
    }
}

#[test]
fn a_longer_query_of_a_unit_space_gives_a_wider_density_in_the_same_direction() {
    let adapter = adapter(Preset::Paper, unit(), 8);
    let query = text(4, 8);
    let doubled =
        Embedding { values: query.values.iter().map(|v| 2.0 * v).collect(), ..query.clone() };
    let (one, two) =
        (adapter.predict(&query, 5, 0).unwrap(), adapter.predict(&doubled, 5, 0).unwrap());
    for d in 0..8 {
        let (a, b) = (one.dimensions()[d], two.dimensions()[d]);
        assert!((b.mu() - 2.0 * a.mu()).abs() < 1e-5);
        assert!((b.alpha() / a.alpha() - 2.0).abs() < 1e-5);
        assert!((two.epistemic()[d] / one.epistemic()[d] - 4.0).abs() < 1e-3);
    }
}

#[test]
fn the_released_preset_clips_alpha_and_beta() {
    let adapter = adapter(Preset::Released, unit(), 4);
    assert_eq!(adapter.alpha_beta(-3.0, -3.0), (5.0, 0.1));
    assert_eq!(adapter.alpha_beta(1e6, 9.0), (1e-4, 5.0));
    let (alpha, beta) = adapter.alpha_beta(2.0, 1.5);
    assert!((alpha - 1.0 / 2.00001).abs() < 1e-9 && (beta - 1.6).abs() < 1e-7);
}

#[test]
fn a_family_fixes_the_shape_survives_saving_and_is_not_written_for_probvlm() {
    let mut adapter = adapter(Preset::Paper, unit(), 8);
    let query = text(4, 8);
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path()).unwrap();
    let json = std::fs::read_to_string(folder.path().join("adapter_config.json")).unwrap();
    assert!(!json.contains("family"), "older folders have none: {json}");
    for (family, beta) in [(Family::Gaussian, 2.0), (Family::Laplace, 1.0)] {
        adapter.config.family = family;
        adapter.save(folder.path()).unwrap();
        let loaded = Adapter::load(folder.path(), &device()).unwrap();
        assert!(loaded.describe().contains(&family.to_string()));
        let found = loaded.predict(&query, 3, 0).unwrap();
        assert!(found.dimensions().iter().all(|density| density.beta() == beta));
    }
}

#[test]
fn unfit_embeddings_are_refused_with_what_was_found() {
    let adapter = adapter(Preset::Paper, unit(), 8);
    let image = Embedding { modality: Modality::Image, ..text(1, 8) };
    assert!(matches!(
        adapter.predict(&image, 0, 0),
        Err(AdapterError::Modality { found: Modality::Image, expected: Modality::Text })
    ));
    assert!(matches!(
        adapter.predict(&text(1, 9), 0, 0),
        Err(AdapterError::Dimension { found: 9, expected: 8 })
    ));
    let mut broken = text(1, 8);
    broken.values[3] = f32::NAN;
    assert!(matches!(
        adapter.predict(&broken, 0, 0),
        Err(AdapterError::NotFinite { dimension: 3, .. })
    ));
    let zero = Embedding { values: vec![0.0; 8], modality: Modality::Text };
    assert!(matches!(adapter.predict(&zero, 0, 0), Err(AdapterError::Zero)));
}

#[test]
fn a_folder_whose_config_contradicts_its_weights_is_refused() {
    let adapter = adapter(Preset::Paper, unit(), 6);
    let folder = tempfile::tempdir().unwrap();
    adapter.save(folder.path()).unwrap();
    let path = folder.path().join("adapter_config.json");
    let json = std::fs::read_to_string(&path).unwrap();
    let refuse = |json: String, part: &str| {
        std::fs::write(&path, json).unwrap();
        let error = Adapter::load(folder.path(), &device()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refuse(json.replace("\"hidden_dim\": 12", "\"hidden_dim\": 13"), "adapter.safetensors");
    refuse(json.replace("\"output_dim\": 6", "\"output_dim\": 7"), "output_dim is 7");
    refuse(json.replace("\"dropout\": 0.2", "\"dropout\": 1.0"), "dropout is 1");
    refuse(json.replace("\"probvlm\"", "\"linear-map\""), "linear-map");
    refuse(json.replace("\"unit\"", "\"standardised\""), "input_space.mean");
}

#[test]
fn an_adapter_of_unit_embeddings_is_used_on_raw_ones_by_direction_and_norm() {
    use crate::adapter::{Adapter, Predictor};
    let device = crate::model::device::ComputeDevice::cpu().device;
    let bundle = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/adapters");
    let folder = tempfile::tempdir().unwrap();
    let raw = |length: f32, modality| Embedding {
        values: (0..192).map(|d| length * ((d as f32) * 0.7).sin() / 9.8).collect(),
        modality,
    };
    for (name, modality, crossed) in
        [("image", Modality::Image, false), ("cross-modal", Modality::Text, true)]
    {
        let plain = ProbVlm::load(&bundle.join(name), &device).unwrap();
        plain.save_trained_on_unit(folder.path(), 3.0).unwrap();
        let saved = Adapter::load(folder.path(), &device).unwrap();
        let unit = Embedding { values: raw(1.0, modality).unit(), modality };
        let expected = &plain.predict(&unit, 4, 1).unwrap();
        let found = saved.predict(&raw(7.0, modality), 4, 1).unwrap();
        let length = if crossed { 3.0 } else { raw(7.0, modality).norm() };
        for d in 0..192 {
            let (a, b) = (&expected.dimensions()[d], &found.dimensions()[d]);
            assert!((length * a.mu() - b.mu()).abs() < 1e-3 * length, "{name} {d}");
            assert!((length * length * a.variance() / b.variance() - 1.0).abs() < 1e-3);
            let (e, f) = (expected.epistemic()[d], found.epistemic()[d]);
            assert!((length * length * e - f).abs() <= 1e-3 * f + 1e-12);
        }
    }
}
