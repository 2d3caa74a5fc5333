//! What a model folder can be used for, told by its config files alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::cache::folders;
use crate::files::FileError;
use crate::model::config::read_json;

/// Endings of files that weights are read from.
const WEIGHT_ENDINGS: [&str; 4] = [".safetensors", ".bin", ".pth", ".pt"];
/// Bundles nest their models two folders deep (`adapters/text-image/`).
const DEPTH_LIMIT: usize = 3;

/// What a model does in Haze.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Embeds texts or images.
    Encoder,
    /// Makes images from embeddings.
    Decoder,
    /// Makes image embeddings from text embeddings.
    Prior,
    /// Predicts the distribution of an embedding.
    Adapter,
    /// Maps text embeddings to image embeddings.
    Bridge,
}

/// One use of a model folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ability {
    pub role: Role,
    /// The architecture, by the name that its paper gives it.
    pub kind: String,
    /// Dimensions D of the embeddings; `None` where the config does not say.
    pub dim: Option<u64>,
}

impl std::fmt::Display for Ability {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let role = match self.role {
            Role::Encoder => "encoder",
            Role::Decoder => "decoder",
            Role::Prior => "prior",
            Role::Adapter => "adapter",
            Role::Bridge => "bridge",
        };
        write!(f, "{role}: {}", self.kind)?;
        self.dim.map_or(Ok(()), |dim| write!(f, ", {dim} dimensions"))
    }
}

/// What the model in `folder` can be used for; `None` when its configs name nothing that Haze
/// knows. Weights are not looked at.
pub fn ability(folder: &Path) -> Option<Ability> {
    let config = |path: &str| read_json::<Value>(&folder.join(path)).ok();
    if let Some(adapter) = config("adapter_config.json") {
        return of_adapter(&adapter);
    }
    if let Some(index) = config("model_index.json") {
        return of_pipeline(&index, &config);
    }
    of_model(&config("config.json")?)
}

/// Weight files that a model folder and its parts should have and do not: those that an index of
/// shards names, and one for each `config.json`. Programs that ask for a config alone leave such.
pub fn missing_weights(folder: &Path) -> Vec<String> {
    let mut missing = Vec::new();
    let parts = folders(folder).unwrap_or_default();
    for part in std::iter::once(folder.to_owned()).chain(parts) {
        let name = part.strip_prefix(folder).unwrap_or(&part).to_path_buf();
        let files = file_names(&part);
        let is_weights = |file: &String| WEIGHT_ENDINGS.iter().any(|ending| file.ends_with(ending));
        if !files.iter().any(is_weights) && files.iter().any(|file| file == "config.json") {
            missing.push(name.join("*.safetensors").display().to_string());
        }
        for index in files.iter().filter(|file| file.contains(".safetensors.index.")) {
            let Ok(index) = read_json::<Value>(&part.join(index)) else { continue };
            let shards = index.get("weight_map").and_then(Value::as_object).into_iter().flatten();
            let shards: BTreeSet<&str> = shards.filter_map(|(_, shard)| shard.as_str()).collect();
            let absent = shards.into_iter().filter(|shard| !files.iter().any(|file| file == shard));
            missing.extend(absent.map(|shard| name.join(shard).display().to_string()));
        }
    }
    missing
}

/// Names of the files directly in a folder, without links that lead nowhere.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// Models in a folder and the folders below it, a model's own parts left out.
///
/// # Errors
/// When a folder cannot be read.
pub fn models_below(folder: &Path) -> Result<Vec<(PathBuf, Ability)>, FileError> {
    let mut found = Vec::new();
    collect(folder, 0, &mut found)?;
    Ok(found)
}

fn collect(
    folder: &Path,
    depth: usize,
    found: &mut Vec<(PathBuf, Ability)>,
) -> Result<(), FileError> {
    if let Some(ability) = ability(folder) {
        found.push((folder.to_owned(), ability));
    } else if depth < DEPTH_LIMIT {
        for inner in folders(folder)? {
            collect(&inner, depth + 1, found)?;
        }
    }
    Ok(())
}

fn of_adapter(config: &Value) -> Option<Ability> {
    let text = |key: &str| config.get(key).and_then(Value::as_str);
    let kind = text("kind")?;
    let role =
        if matches!(kind, "linear-map" | "mean-shift") { Role::Bridge } else { Role::Adapter };
    let kind = match (text("input_modality"), text("output_modality")) {
        (Some(input), Some(output)) => format!("{kind}, {input} to {output}"),
        _ => kind.to_owned(),
    };
    let dim = ["dim", "input_dim", "embedding_dim"].into_iter().find_map(|key| number(config, key));
    Some(Ability { role, kind, dim })
}

fn of_pipeline(index: &Value, config: &dyn Fn(&str) -> Option<Value>) -> Option<Ability> {
    let part = |path: &str, key: &str| config(path).and_then(|config| number(&config, key));
    let class = index.get("_class_name").and_then(Value::as_str)?;
    let (role, kind, dim) = match class {
        "StableUnCLIPImg2ImgPipeline" | "StableUnCLIPPipeline" => (
            Role::Decoder,
            "unCLIP, from image embeddings",
            part("image_encoder/config.json", "projection_dim")
                .or_else(|| part("image_normalizer/config.json", "embedding_dim")),
        ),
        "StableDiffusionPipeline" | "StableDiffusionImg2ImgPipeline" => (
            Role::Decoder,
            "Stable Diffusion, from prompt embeddings",
            part("text_encoder/config.json", "hidden_size"),
        ),
        "UnCLIPPipeline" | "KandinskyV22PriorPipeline" | "KandinskyPriorPipeline" => {
            let kind = if class == "UnCLIPPipeline" { "Karlo" } else { "Kandinsky" };
            (Role::Prior, kind, part("prior/config.json", "embedding_dim"))
        }
        _ => return None,
    };
    Some(Ability { role, kind: kind.to_owned(), dim })
}

/// `config.json` of transformers or diffusers; missing keys take the defaults of transformers.
fn of_model(config: &Value) -> Option<Ability> {
    let inner = |part: &str, key: &str| number(config.get(part)?, key);
    let own = |key: &str, default: u64| Some(number(config, key).unwrap_or(default));
    if config.get("_class_name").and_then(Value::as_str) == Some("PriorTransformer") {
        let dim = number(config, "embedding_dim");
        return Some(Ability { role: Role::Prior, kind: "PriorTransformer".to_owned(), dim });
    }
    let (kind, dim) = match config.get("model_type").and_then(Value::as_str)? {
        "clip" => ("CLIP, texts and images", own("projection_dim", 512)),
        "clip_vision_model" => ("CLIP, images", own("projection_dim", 512)),
        "clip_text_model" => ("CLIP, texts", own("projection_dim", 512)),
        "blip" => ("BLIP, texts and images", own("image_text_hidden_size", 256)),
        "siglip" => {
            let dim = inner("vision_config", "hidden_size").unwrap_or(768);
            ("SigLIP, texts and images", Some(dim))
        }
        "prolip" => ("ProLIP, texts and images", number(config, "projection_dim")),
        _ => return None,
    };
    Some(Ability { role: Role::Encoder, kind: kind.to_owned(), dim })
}

fn number(config: &Value, key: &str) -> Option<u64> {
    config.get(key).and_then(Value::as_u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_bundle_has_an_encoder_a_decoder_and_adapters() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
        let models = models_below(&demo).unwrap();
        let of = |name: &str| {
            let found = models.iter().find(|(folder, _)| folder.ends_with(name));
            found.unwrap_or_else(|| panic!("{name} is missing: {models:?}")).1.clone()
        };
        let (encoder, decoder) = (of("clip"), of("unclip"));
        assert_eq!((encoder.role, decoder.role), (Role::Encoder, Role::Decoder));
        assert!(encoder.dim.is_some());
        assert_eq!(encoder.dim, decoder.dim, "the decoder takes the encoder's embeddings");
        assert!(models.iter().any(|(_, ability)| ability.role == Role::Adapter));
        // The parts of the decoder are not models of their own.
        assert!(!models.iter().any(|(folder, _)| folder.ends_with("image_encoder")));
    }

    #[test]
    fn a_config_without_weights_and_a_shard_that_is_absent_are_noticed() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
        for whole in ["clip", "unclip", "adapters/text"] {
            assert!(missing_weights(&demo.join(whole)).is_empty(), "{whole}");
        }
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        write("config.json", "{}");
        write("unet/config.json", "{}");
        let index = r#"{"weight_map":{"a":"x-1.safetensors","b":"x-2.safetensors"}}"#;
        write("unet/x.safetensors.index.json", index);
        write("unet/x-1.safetensors", "");
        assert_eq!(missing_weights(folder.path()), ["*.safetensors", "unet/x-2.safetensors"]);
    }

    #[test]
    fn configs_of_published_models_are_known() {
        let of = |json: Value| of_model(&json).map(|a| (a.role, a.dim));
        let clip = serde_json::json!({ "model_type": "clip", "projection_dim": 768 });
        assert_eq!(of(clip), Some((Role::Encoder, Some(768))));
        let blip = serde_json::json!({ "model_type": "blip" });
        assert_eq!(of(blip), Some((Role::Encoder, Some(256))));
        let siglip =
            serde_json::json!({ "model_type": "siglip", "vision_config": { "hidden_size": 1152 } });
        assert_eq!(of(siglip), Some((Role::Encoder, Some(1152))));
        assert_eq!(of(serde_json::json!({ "model_type": "llama" })), None);
    }
}
