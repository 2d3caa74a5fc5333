//! A small prior with random weights, for tests: it has the text encoder of a CLIP folder and makes
//! embeddings of that dimension, but has learnt nothing.

use std::collections::BTreeMap;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};

const HEADS: usize = 2;
const HEAD: usize = 8;
const LAYERS: usize = 2;

/// Writes a folder in the layout of `KandinskyV22PriorPipeline` for the CLIP model in `clip`, whose
/// text tower must be as wide as its embeddings.
pub fn write_random_prior(folder: &Path, clip: &Path) {
    let write = |path: &str, json: &Value| {
        let path = folder.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, json.to_string()).unwrap();
    };
    let config = std::fs::read(clip.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&config).unwrap();
    let text = &config["text_config"];
    let dim = config["projection_dim"].as_u64().unwrap() as usize;
    assert_eq!(text["hidden_size"], config["projection_dim"]);
    let length = text["max_position_embeddings"].as_u64().unwrap() as usize;
    write("model_index.json", &json!({ "_class_name": "KandinskyV22PriorPipeline" }));
    write(
        "scheduler/scheduler_config.json",
        &json!({
            "_class_name": "UnCLIPScheduler", "beta_schedule": "squaredcos_cap_v2",
            "clip_sample": true, "clip_sample_range": 5.0, "num_train_timesteps": 1000,
            "prediction_type": "sample", "variance_type": "fixed_small_log"
        }),
    );
    write(
        "prior/config.json",
        &json!({
            "_class_name": "PriorTransformer", "num_attention_heads": HEADS,
            "attention_head_dim": HEAD, "num_layers": LAYERS, "embedding_dim": dim,
            "num_embeddings": length, "additional_embeddings": 4
        }),
    );
    for part in ["text_encoder", "tokenizer"] {
        std::fs::create_dir_all(folder.join(part)).unwrap();
        for entry in std::fs::read_dir(clip).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, folder.join(part).join(path.file_name().unwrap())).unwrap();
        }
    }
    write_weights(&folder.join("prior/diffusion_pytorch_model.safetensors"), dim, length);
}

fn write_weights(path: &Path, dim: usize, length: usize) {
    let width = HEADS * HEAD;
    let mut shapes: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    let mut linear = |name: &str, from: usize, to: usize| {
        shapes.insert(format!("{name}.weight"), vec![to, from]);
        shapes.insert(format!("{name}.bias"), vec![to]);
    };
    linear("time_embedding.linear_1", width, width);
    linear("time_embedding.linear_2", width, width);
    linear("proj_in", dim, width);
    linear("embedding_proj", dim, width);
    linear("encoder_hidden_states_proj", dim, width);
    linear("proj_to_clip_embeddings", width, dim);
    for block in 0..LAYERS {
        let name = |part: &str| format!("transformer_blocks.{block}.{part}");
        for part in ["to_q", "to_k", "to_v", "to_out.0"] {
            linear(&name(&format!("attn1.{part}")), width, width);
        }
        linear(&name("ff.net.0.proj"), width, 4 * width);
        linear(&name("ff.net.2"), 4 * width, width);
    }
    let norms = (0..LAYERS)
        .flat_map(|block| ["norm1", "norm3"].map(|n| format!("transformer_blocks.{block}.{n}")))
        .chain(["norm_out".to_owned()]);
    for norm in norms {
        shapes.insert(format!("{norm}.weight"), vec![width]);
        shapes.insert(format!("{norm}.bias"), vec![width]);
    }
    shapes.insert("positional_embedding".to_owned(), vec![1, length + 4, width]);
    shapes.insert("prd_embedding".to_owned(), vec![1, 1, width]);
    shapes.insert("clip_mean".to_owned(), vec![1, dim]);
    shapes.insert("clip_std".to_owned(), vec![1, dim]);

    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut bytes = BTreeMap::new();
    for (name, shape) in &shapes {
        let count: usize = shape.iter().product();
        let inputs = if shape.len() == 2 && name.ends_with("weight") { shape[1] } else { 1 };
        let value = |_| {
            let normal: f32 = StandardNormal.sample(&mut rng);
            match name.as_str() {
                "clip_mean" => 0.1 * normal,
                "clip_std" => 0.6,
                _ if inputs > 1 => normal / (inputs as f32).sqrt(),
                _ if name.contains("norm") && name.ends_with("weight") => 1.0 + 0.1 * normal,
                _ => 0.3 * normal,
            }
        };
        let values: Vec<u8> = (0..count).map(value).flat_map(f32::to_le_bytes).collect();
        bytes.insert(name.clone(), values);
    }
    let views = shapes.iter().map(|(name, shape)| {
        (name.as_str(), TensorView::new(Dtype::F32, shape.clone(), &bytes[name]).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}
