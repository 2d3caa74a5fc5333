use super::*;
use crate::adapter::training::{Item, Rows, TrainingData};
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};

const DIM: usize = 6;

/// Inputs, and targets `M x + c` plus `noise` times a standard normal.
fn pairs(count: usize, seed: u64, noise: f32) -> (Vec<f32>, Vec<f32>) {
    let matrix = standard_normal(77, Stream::Resampling, 0, DIM * DIM);
    let x = standard_normal(seed, Stream::Resampling, 1, count * DIM);
    let e = standard_normal(seed, Stream::Resampling, 2, count * DIM);
    let mut y = Vec::new();
    for (row, e) in x.chunks(DIM).zip(e.chunks(DIM)) {
        for d in 0..DIM {
            let mapped: f32 = row.iter().zip(&matrix[d * DIM..]).map(|(x, m)| x * m).sum();
            y.push(mapped + d as f32 + noise * e[d]);
        }
    }
    (x, y)
}

fn data<'a>((x, y): &'a (Vec<f32>, Vec<f32>)) -> TrainingData<'a> {
    let items = (0..x.len() / DIM).map(|i| Item { input: i, target: i }).collect();
    TrainingData::new(Rows::new(x, DIM).unwrap(), Rows::new(y, DIM).unwrap(), items).unwrap()
}

fn fit(training: &TrainingData<'_>, validation: &TrainingData<'_>) -> (LinearMap, FitSummary) {
    LinearMap::fit(training, validation, &ComputeDevice::cpu().device).unwrap()
}

#[test]
fn a_linear_relation_is_found_exactly() {
    let (training, validation) = (pairs(5000, 1, 0.0), pairs(50, 2, 0.0));
    let (map, summary) = fit(&data(&training), &data(&validation));
    assert!(summary.explained > 0.9999, "{summary:?}");
    assert_eq!(summary.penalty, Some(1e-4));
    for (x, y) in validation.0.chunks(DIM).zip(validation.1.chunks(DIM)) {
        for (got, y) in map.apply(x).unwrap().iter().zip(y) {
            assert!((got - y).abs() < 5e-3, "{got} {y}");
        }
    }
}

#[test]
fn the_penalty_grows_when_there_is_little_to_learn() {
    let (training, validation) = (pairs(40, 1, 30.0), pairs(2000, 2, 30.0));
    let (_, summary) = fit(&data(&training), &data(&validation));
    assert!(summary.penalty.unwrap() >= 1.0, "{summary:?}");
}

#[test]
fn the_mean_shift_moves_one_mean_onto_the_other() {
    let training = pairs(4000, 5, 0.1);
    let (map, _) = MeanShift::fit(&data(&training), &data(&training)).unwrap();
    let mean = |values: &[f32], d: usize| -> f64 {
        values.iter().skip(d).step_by(DIM).map(|&v| f64::from(v)).sum::<f64>() / 4000.0
    };
    let moved: Vec<f32> = training.0.chunks(DIM).flat_map(|row| map.apply(row).unwrap()).collect();
    for d in 0..DIM {
        assert!((mean(&moved, d) - mean(&training.1, d)).abs() < 1e-5);
    }
}

#[test]
fn a_mean_shift_explains_everything_where_a_shift_is_all_there_is() {
    let (x, _) = pairs(300, 3, 0.0);
    let y = x.iter().map(|v| v + 2.5).collect();
    let shifted = (x, y);
    let (_, summary) = MeanShift::fit(&data(&shifted), &data(&shifted)).unwrap();
    assert!(summary.explained > 0.999_999);
}

#[test]
fn saved_bridges_map_the_same_after_loading_and_refuse_what_does_not_fit() {
    let training = pairs(200, 1, 0.5);
    let data = data(&training);
    let (linear, linear_fit) = fit(&data, &data);
    let (shift, shift_fit) = MeanShift::fit(&data, &data).unwrap();
    let query = Embedding { values: training.0[..DIM].to_vec(), modality: Modality::Text };
    for (map, fit) in
        [(BridgeMap::Linear(linear), linear_fit), (BridgeMap::MeanShift(shift), shift_fit)]
    {
        let encoder = Some("tower-7".to_owned());
        let bridge = Bridge::new(map, Modality::Text, Modality::Image, encoder, Some(fit));
        let folder = tempfile::tempdir().unwrap();
        bridge.save(folder.path()).unwrap();
        let loaded = Bridge::load(folder.path()).unwrap();
        assert_eq!(loaded, bridge);
        let mapped = loaded.apply(&query).unwrap();
        assert_eq!(mapped, bridge.apply(&query).unwrap());
        assert_eq!(mapped.modality, Modality::Image);
        assert!(matches!(loaded.apply(&mapped), Err(AdapterError::Modality { .. })));
        let short = Embedding { values: vec![0.0; DIM - 1], modality: Modality::Text };
        assert!(matches!(loaded.apply(&short), Err(AdapterError::Dimension { found: 5, .. })));

        let path = folder.path().join(CONFIG_FILE);
        let json = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, json.replace("\"output_dim\": 6", "\"output_dim\": 5")).unwrap();
        let error = Bridge::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("shape [6"), "{error}");
        std::fs::write(&path, json.replace(bridge.config().kind.as_str(), "probvlm")).unwrap();
        assert!(matches!(Bridge::load(folder.path()), Err(AdapterError::Kind { .. })));
    }
}
