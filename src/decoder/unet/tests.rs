use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;
use crate::model::device::ComputeDevice;
use crate::random::{Stream, standard_normal};
use burn::tensor::{DType, TensorData};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/unet").join(name)
}

fn noise<const D: usize>(shape: [usize; D], index: u64) -> Tensor<D> {
    let values = standard_normal(1, Stream::InitialLatents, index, shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (&ComputeDevice::cpu().device, DType::F32))
}

fn load(name: &str, engine: Engine) -> UNet {
    load_in(name, engine, Precision::F32)
}

fn load_in(name: &str, engine: Engine, precision: Precision) -> UNet {
    UNet::load_for(&fixture(name), &ComputeDevice::cpu().device, engine, precision).unwrap()
}

fn distance(a: Tensor<4>, b: Tensor<4>) -> f32 {
    (a - b).abs().max().into_scalar()
}

#[test]
fn the_kernels_of_the_cpu_agree_with_burn_in_every_block() {
    for name in ["sd15", "sd21_unclip"] {
        let run = |engine| {
            let unet = load(name, engine);
            let text = noise([2, 5, unet.text_dim()], 1);
            let class = unet.class_vector_len().map(|length| noise([4, length], 2));
            let conditioning = unet.prepare(text, class).unwrap();
            let mut seen = BTreeMap::new();
            let sample = noise([4, unet.in_channels(), 9, 14], 3);
            let out = unet
                .forward_observed(sample, 37.5, &conditioning, &mut |name, value| {
                    if let Intermediate::Map(map) = value {
                        seen.insert(name.to_owned(), map);
                    }
                })
                .unwrap();
            seen.insert("out".to_owned(), out);
            seen
        };
        let (burn, cpu) = (run(Engine::Burn), run(Engine::Cpu));
        assert!(burn.keys().eq(cpu.keys()) && burn.len() > 8);
        for (block, map) in burn {
            let size: f32 = map.clone().abs().max().into_scalar();
            let error = distance(map, cpu[&block].clone());
            assert!(error < 1e-5 * size, "{name} {block}: {error} of {size}");
        }
    }
}

#[test]
fn text_rows_serve_their_share_of_the_batch() {
    for engine in [Engine::Burn, Engine::Cpu] {
        let unet = load("sd15", engine);
        let sample = noise([4, unet.in_channels(), 8, 8], 1);
        let text = noise([2, 5, unet.text_dim()], 2);
        let shared = unet.forward(sample.clone(), 10.0, text.clone(), None).unwrap();
        let [first, second] = [0, 1].map(|i| text.clone().narrow(0, i, 1));
        let each = Tensor::cat(vec![first.clone(), first.clone(), second.clone(), second], 0);
        let own = unet.forward(sample.clone(), 10.0, each, None).unwrap();
        assert!(distance(shared.clone(), own) < 1e-5);
        // And the rows do matter.
        let one = unet.forward(sample, 10.0, first, None).unwrap();
        assert!(distance(shared, one) > 1e-3);
    }
}

#[test]
fn images_of_a_batch_do_not_influence_each_other() {
    let unet = load("sd21_unclip", Engine::Cpu);
    let sample = noise([3, unet.in_channels(), 10, 6], 1);
    let text = noise([1, 5, unet.text_dim()], 2);
    let class = noise([3, unet.class_vector_len().unwrap()], 3);
    let times = vec![1.0, 500.5, 999.0];
    let all =
        unet.forward(sample.clone(), times.clone(), text.clone(), Some(class.clone())).unwrap();
    for (i, time) in times.into_iter().enumerate() {
        let sample = sample.clone().narrow(0, i, 1);
        let class = class.clone().narrow(0, i, 1);
        let alone = unet.forward(sample, time, text.clone(), Some(class)).unwrap();
        assert!(distance(all.clone().narrow(0, i, 1), alone) < 1e-6);
    }
}

#[test]
fn inputs_that_do_not_fit_are_refused_with_the_expected_shape() {
    let unet = load("sd21_unclip", Engine::Cpu);
    let (text, length) = (unet.text_dim(), unet.class_vector_len().unwrap());
    let class = || Some(noise([1, length], 1));
    let error = |result: Result<Tensor<4>, ModelError>| result.unwrap_err().to_string();

    let sample = noise([2, unet.in_channels() + 1, 8, 8], 1);
    let message = error(unet.forward(sample, 1.0, noise([1, 5, text], 1), class()));
    assert!(
        message.contains("sample") && message.contains("[batch, 4, height, width]"),
        "{message}"
    );

    let sample = || noise([2, unet.in_channels(), 8, 8], 1);
    let message = error(unet.forward(sample(), 1.0, noise([1, 5, text + 1], 1), class()));
    assert!(message.contains("encoder_hidden_states"), "{message}");
    let message = error(unet.forward(sample(), 1.0, noise([1, 5, text], 1), None));
    assert!(message.contains("needs a class vector"), "{message}");
    let message = error(unet.forward(sample(), 1.0, noise([3, 5, text], 1), class()));
    assert!(message.contains("3 rows of text for 2 images"), "{message}");
    let times = vec![1.0, 2.0, 3.0];
    let message = error(unet.forward(sample(), times, noise([1, 5, text], 1), class()));
    assert!(message.contains("3 timesteps for 2 images"), "{message}");

    let without = load("sd15", Engine::Cpu);
    let text = noise([1, 5, without.text_dim()], 1);
    let message = error(without.forward(sample(), 1.0, text, Some(noise([1, 3], 1))));
    assert!(message.contains("takes no class vector"), "{message}");
}

#[test]
fn weights_that_do_not_fit_the_config_are_refused_by_tensor_name() {
    let device = ComputeDevice::cpu().device;
    let change = |from: &str, to: &str| {
        let folder = tempfile::tempdir().unwrap();
        let config = std::fs::read_to_string(fixture("sd21_unclip").join("config.json")).unwrap();
        let changed = config.replace(from, to);
        assert_ne!(config, changed, "{from} is not in the config");
        std::fs::write(folder.path().join("config.json"), changed).unwrap();
        let weights = "diffusion_pytorch_model.safetensors";
        std::fs::copy(fixture("sd21_unclip").join(weights), folder.path().join(weights)).unwrap();
        UNet::load(folder.path(), &device).unwrap_err().to_string()
    };
    let wide = change(
        "\"projection_class_embeddings_input_dim\": 40",
        "\"projection_class_embeddings_input_dim\": 41",
    );
    assert!(wide.contains("class_embedding.linear_1.weight") && wide.contains("41"), "{wide}");
    let absent = change("\"class_embed_type\": \"projection\"", "\"class_embed_type\": null");
    assert!(
        absent.contains("does not match its config") && absent.contains("class_embedding"),
        "{absent}"
    );
    let deep = change("\"layers_per_block\": 2", "\"layers_per_block\": 3");
    assert!(deep.contains("missing") && deep.contains("resnets.2"), "{deep}");
}

#[test]
fn a_folder_without_weights_says_which_files_it_may_hold() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("sd15").join("config.json"), folder.path().join("config.json")).unwrap();
    let error = UNet::load(folder.path(), &ComputeDevice::cpu().device).unwrap_err().to_string();
    assert!(error.contains("diffusion_pytorch_model.fp16.safetensors"), "{error}");
}

/// On the CPU by burn's operations, which a GPU runs too.
#[test]
fn half_precision_agrees_with_full_to_its_own_rounding() {
    for (precision, tolerance) in [(Precision::F16, 0.006), (Precision::Bf16, 0.04)] {
        for name in ["sd15", "sd21_unclip"] {
            let run = |precision| {
                let unet = load_in(name, Engine::Burn, precision);
                assert_eq!(unet.precision(), precision);
                let text = noise([2, 5, unet.text_dim()], 1);
                let class = unet.class_vector_len().map(|length| noise([2, length], 2));
                let sample = noise([2, unet.in_channels(), 8, 12], 3);
                unet.forward(sample, 511.0, text, class).unwrap()
            };
            let (full, half) = (run(Precision::F32), run(precision));
            assert_eq!(half.dtype(), DType::F32);
            let size: f32 = full.clone().abs().max().into_scalar();
            let error = distance(full, half) / size;
            assert!(error < tolerance, "{name} in {precision}: {error}");
            // It is half precision that was tested.
            assert!(error > 1e-5, "{name} in {precision}: {error}");
        }
    }
}

#[test]
fn the_kernels_of_the_cpu_compute_in_full_precision_whatever_is_asked_for() {
    let unet = load_in("sd15", Engine::Cpu, Precision::F16);
    assert_eq!(unet.precision(), Precision::F32);
}

#[test]
fn weights_beyond_half_precision_name_the_tensor_and_a_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| folder.path().join(name);
    std::fs::copy(fixture("sd15").join("config.json"), to("config.json")).unwrap();
    let weights = "diffusion_pytorch_model.safetensors";
    let mut bytes = std::fs::read(fixture("sd15").join(weights)).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&1e6f32.to_le_bytes());
    std::fs::write(to(weights), bytes).unwrap();
    let load = |precision| {
        UNet::load_for(folder.path(), &ComputeDevice::cpu().device, Engine::Burn, precision)
    };
    let error = load(Precision::F16).unwrap_err().to_string();
    assert!(error.contains("beyond the range of F16") && error.contains("bf16"), "{error}");
    load(Precision::Bf16).unwrap();
    load(Precision::F32).unwrap();
}

#[test]
fn configs_of_other_architectures_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = r#"{"_class_name": "SD3Transformer2DModel"}"#;
    std::fs::write(folder.path().join("config.json"), config).unwrap();
    let error = UNet::load(folder.path(), &ComputeDevice::cpu().device).unwrap_err().to_string();
    for word in ["config.json", "_class_name", "SD3Transformer2DModel", "UNet2DConditionModel"] {
        assert!(error.contains(word), "{error}");
    }
}

/// The fixture's weights in two shards and an index, or as one file of bfloat16.
fn rewritten(shards: bool) -> tempfile::TempDir {
    use safetensors::tensor::{Dtype, SafeTensors, TensorView};
    let folder = tempfile::tempdir().unwrap();
    let to = |name: &str| folder.path().join(name);
    std::fs::copy(fixture("sd15").join("config.json"), to("config.json")).unwrap();
    let bytes = std::fs::read(fixture("sd15").join("diffusion_pytorch_model.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    if shards {
        let mut map = BTreeMap::new();
        for shard in 0..2 {
            let name = format!("diffusion_pytorch_model-0000{}-of-00002.safetensors", shard + 1);
            let part: Vec<_> =
                file.tensors().into_iter().enumerate().filter(|(i, _)| i % 2 == shard).collect();
            map.extend(part.iter().map(|(_, (tensor, _))| (tensor.clone(), name.clone())));
            let part = part.into_iter().map(|(_, named)| named);
            safetensors::serialize_to_file(part, None, &to(&name)).unwrap();
        }
        let index = serde_json::json!({ "weight_map": map }).to_string();
        std::fs::write(to("diffusion_pytorch_model.safetensors.index.json"), index).unwrap();
    } else {
        let narrow: Vec<(String, Vec<usize>, Vec<u8>)> = file
            .iter()
            .map(|(name, view)| {
                let values = view.data().as_chunks::<4>().0.iter();
                let values =
                    values.flat_map(|v| half::bf16::from_f32(f32::from_le_bytes(*v)).to_le_bytes());
                (name.to_owned(), view.shape().to_vec(), values.collect())
            })
            .collect();
        let views = narrow.iter().map(|(name, shape, data)| {
            (name.as_str(), TensorView::new(Dtype::BF16, shape.clone(), data).unwrap())
        });
        let path = to("diffusion_pytorch_model.bf16.safetensors");
        safetensors::serialize_to_file(views, None, &path).unwrap();
    }
    folder
}

#[test]
fn shards_and_half_files_are_the_same_network() {
    let device = ComputeDevice::cpu().device;
    let run = |unet: &UNet| {
        let text = noise([1, 5, unet.text_dim()], 1);
        unet.forward(noise([1, unet.in_channels(), 8, 8], 2), 300.0, text, None).unwrap()
    };
    let whole = run(&load("sd15", Engine::Cpu));
    let shards = UNet::load(rewritten(true).path(), &device).unwrap();
    assert_eq!(distance(run(&shards), whole.clone()), 0.0);
    let narrow = UNet::load(rewritten(false).path(), &device).unwrap();
    let error = distance(run(&narrow), whole.clone());
    let size: f32 = whole.abs().max().into_scalar();
    assert!(error > 0.0 && error < 0.08 * size, "{error} of {size}");
}
