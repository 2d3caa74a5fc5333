//! Image spaces: which encoder made the embeddings that a decoder was trained on.
//!
//! Two spaces of one dimension have nothing in common unless the very same vision tower made them.
//! An unCLIP pipeline carries that tower as `image_encoder`; its config and some of its weights are
//! compared with those of the encoder.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use serde::Serialize;

use crate::encoder::clip::{ClipVisionConfig, vision_weights};
use crate::encoder::{Activation, EncoderConfig, EncoderError, TransformerConfig};
use crate::model::config::{ConfigError, read_json};

/// A published encoder whose image embeddings a published decoder was trained on.
#[derive(Debug, PartialEq)]
pub struct KnownSpace {
    pub name: &'static str,
    /// The encoder on the Hugging Face hub.
    pub encoder: &'static str,
    /// The decoder on the Hugging Face hub.
    pub decoder: &'static str,
    dim: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    hidden_act: Activation,
}

/// Both take images of 224 pixels in patches of 14.
const KNOWN: [KnownSpace; 2] = [
    KnownSpace {
        name: "OpenAI CLIP ViT-L/14",
        encoder: "openai/clip-vit-large-patch14",
        decoder: "sd2-community/stable-diffusion-2-1-unclip-small",
        dim: 768,
        hidden_size: 1024,
        intermediate_size: 4096,
        num_hidden_layers: 24,
        num_attention_heads: 16,
        hidden_act: Activation::QuickGelu,
    },
    KnownSpace {
        name: "OpenCLIP ViT-H/14",
        encoder: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        decoder: "sd2-community/stable-diffusion-2-1-unclip",
        dim: 1024,
        hidden_size: 1280,
        intermediate_size: 5120,
        num_hidden_layers: 32,
        num_attention_heads: 16,
        hidden_act: Activation::Gelu,
    },
];

impl KnownSpace {
    /// The published space whose vision tower has this shape. The weights may be others.
    pub fn of(config: &ClipVisionConfig) -> Option<&'static Self> {
        let t = &config.transformer;
        let patches = (config.patches.image_size, config.patches.patch_size) == (224, 14);
        KNOWN.iter().find(|known| {
            patches
                && known.dim == config.projection_dim
                && known.hidden_size == t.hidden_size
                && known.intermediate_size == t.intermediate_size
                && known.num_hidden_layers == t.num_hidden_layers
                && known.num_attention_heads == t.num_attention_heads
                && known.hidden_act == t.hidden_act
        })
    }
}

/// What an unCLIP pipeline folder decodes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecoderCard {
    /// Dimension of the image embeddings.
    pub dim: usize,
    /// The vision tower that made them, where the folder says.
    #[serde(skip)]
    pub image_encoder: Option<ClipVisionConfig>,
    /// The published space of that tower's shape.
    pub space: Option<&'static str>,
    #[serde(skip)]
    folder: PathBuf,
}

impl DecoderCard {
    /// Reads the configs of a pipeline folder; `None` when it decodes no image embeddings.
    ///
    /// # Errors
    /// When a config is malformed.
    pub fn read(folder: &Path) -> Result<Option<Self>, ConfigError> {
        let normalizer = folder.join("image_normalizer").join("config.json");
        if !normalizer.is_file() {
            return Ok(None);
        }
        let config: serde_json::Value = read_json(&normalizer)?;
        let dim = match &config["embedding_dim"] {
            // The default of `StableUnCLIPImageNormalizer`.
            serde_json::Value::Null => 768,
            value => value.as_u64().and_then(|dim| usize::try_from(dim).ok()).ok_or_else(|| {
                ConfigError::value(&normalizer, "embedding_dim", value, "a whole number")
            })?,
        };
        let tower = folder.join("image_encoder");
        let image_encoder = match tower.join("config.json").is_file() {
            true => Some(ClipVisionConfig::load(&tower)?),
            false => None,
        };
        let space = image_encoder.as_ref().and_then(KnownSpace::of).map(|space| space.name);
        Ok(Some(Self { dim, image_encoder, space, folder: folder.to_owned() }))
    }

    /// The encoder to use with this decoder, and where it is: one in the same bundle, else the
    /// published one.
    fn encoder(&self) -> Option<String> {
        let beside = self.folder.parent().map(|bundle| bundle.join("clip"));
        if let Some(beside) = beside
            && let Ok(config) = EncoderConfig::load(&beside)
            && matches!(compare(&beside, &config, self), Ok(Fit::Same))
        {
            return Some(beside.display().to_string());
        }
        let known = KnownSpace::of(self.image_encoder.as_ref()?)?;
        Some(known.encoder.to_owned())
    }

    /// The card as name and value, for people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let space = match (&self.image_encoder, self.space) {
            (_, Some(name)) => format!("shaped as {name}"),
            (Some(config), None) => describe(config),
            (None, _) => "not said: the folder has no image_encoder".to_owned(),
        };
        let mut rows = vec![
            ("decodes", format!("raw image embeddings of {} dimensions", self.dim)),
            ("image space", space),
        ];
        if let Some(encoder) = self.encoder() {
            rows.push(("encoder for it", encoder));
        }
        rows
    }
}

/// Whether a decoder was trained on the image embeddings of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub enum Fit {
    /// The vision towers are the same.
    Same,
    /// Nothing speaks against it, but the weights could not be compared.
    Unproven(String),
    /// The spaces are different.
    Different(String),
}

/// Compares an encoder folder with a pipeline folder.
///
/// # Errors
/// When a config or weight file of one of them is missing or malformed.
pub fn fit(encoder: &Path, decoder: &Path) -> Result<Fit, EncoderError> {
    let config = EncoderConfig::load(encoder)?;
    let Some(card) = DecoderCard::read(decoder)? else {
        return Ok(Fit::Unproven("the decoder has no image_normalizer".to_owned()));
    };
    Ok(match compare(encoder, &config, &card)? {
        Fit::Different(reason) => {
            Fit::Different(format!("{reason}. {}", alternatives(&config, &card)))
        }
        fit => fit,
    })
}

/// As [`fit`], without a word on what to use instead.
fn compare(
    encoder: &Path,
    config: &EncoderConfig,
    card: &DecoderCard,
) -> Result<Fit, EncoderError> {
    let different = |reason: String| Ok(Fit::Different(reason));
    let EncoderConfig::Clip { vision, .. } = config else {
        return different(format!(
            "the embeddings of {} are of another space than the raw CLIP image embeddings that the \
             decoder was trained on",
            config.kind().name()
        ));
    };
    if config.dim() != card.dim {
        return different(format!(
            "the encoder makes embeddings of {} dimensions, the decoder takes {}",
            config.dim(),
            card.dim
        ));
    }
    let Some(tower) = &card.image_encoder else {
        return Ok(Fit::Unproven(
            "the dimensions are equal, but the decoder's folder has no image_encoder that says \
             which encoder it was trained with"
                .to_owned(),
        ));
    };
    if vision != tower {
        return different(format!(
            "the decoder was trained on embeddings of another vision tower ({}) than the \
             encoder's ({}), though both have {} dimensions",
            describe(tower),
            describe(vision),
            card.dim
        ));
    }
    let folder = card.folder.join("image_encoder");
    if !has_weights(&folder) {
        return Ok(Fit::Unproven(
            "the configs of the vision towers are equal, but the decoder's image_encoder has no \
             weights to compare with"
                .to_owned(),
        ));
    }
    let theirs = vision_weights(&folder, &Device::flex())?;
    let ours = vision_weights(encoder, &Device::flex())?;
    if !close(&ours, &theirs) {
        return different(
            "the decoder was trained on embeddings of a vision tower of the same shape as the \
             encoder's but with other weights"
                .to_owned(),
        );
    }
    Ok(Fit::Same)
}

fn has_weights(folder: &Path) -> bool {
    let is_weights =
        |path: &Path| path.extension().is_some_and(|extension| extension == "safetensors");
    std::fs::read_dir(folder)
        .is_ok_and(|entries| entries.flatten().any(|entry| is_weights(&entry.path())))
}

/// Equal but for the rounding of half precision (bfloat16 keeps 8 bits): the distance of the two is
/// below 1 % of their length, where that of independent weights is about 140 %.
fn close(a: &[f32], b: &[f32]) -> bool {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>();
    let distance = square(&mut a.iter().zip(b).map(|(&a, &b)| f64::from(a) - f64::from(b)));
    let length = square(&mut a.iter().map(|&a| f64::from(a)));
    a.len() == b.len() && distance <= 1e-4 * length
}

fn describe(config: &ClipVisionConfig) -> String {
    if let Some(known) = KnownSpace::of(config) {
        return format!("shaped as {}", known.name);
    }
    let TransformerConfig { hidden_size, num_hidden_layers, hidden_act, .. } = &config.transformer;
    format!(
        "{num_hidden_layers} layers of width {hidden_size}, {}, patches of {} in {} pixels, {} \
         dimensions",
        hidden_act.name(),
        config.patches.patch_size,
        config.patches.image_size,
        config.projection_dim
    )
}

/// The nearest pairs that work.
fn alternatives(config: &EncoderConfig, card: &DecoderCard) -> String {
    let encoder = card.encoder();
    let decoder = match config {
        EncoderConfig::Clip { vision, .. } => KnownSpace::of(vision).map(|known| known.decoder),
        _ => None,
    };
    match (encoder, decoder) {
        (Some(encoder), Some(decoder)) => {
            format!(
                "Use the encoder {encoder} with this decoder, or the decoder {decoder} with this encoder"
            )
        }
        (Some(encoder), None) => format!("Use the encoder {encoder} with this decoder"),
        (None, Some(decoder)) => format!("Use the decoder {decoder} with this encoder"),
        (None, None) => format!(
            "Use the encoder that the decoder was trained with, or a published pair: {} with {}",
            KNOWN[0].encoder, KNOWN[0].decoder
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn demo() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo")
    }

    /// A copy of what is compared in the demo's pair.
    struct Copy(tempfile::TempDir);

    impl Copy {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for part in ["clip", "unclip/image_encoder", "unclip/image_normalizer"] {
                std::fs::create_dir_all(folder.path().join(part)).unwrap();
                for entry in std::fs::read_dir(demo().join(part)).unwrap() {
                    let entry = entry.unwrap();
                    let to = folder.path().join(part).join(entry.file_name());
                    std::fs::copy(entry.path(), to).unwrap();
                }
            }
            Self(folder)
        }

        fn edit(&self, file: &str, edit: impl Fn(&mut Value)) {
            let path = self.0.path().join(file);
            let mut json: Value = read_json(&path).unwrap();
            edit(&mut json);
            std::fs::write(path, json.to_string()).unwrap();
        }

        fn encoder(&self) -> PathBuf {
            self.0.path().join("clip")
        }

        fn decoder(&self) -> PathBuf {
            self.0.path().join("unclip")
        }

        fn reason(&self) -> String {
            match fit(&self.encoder(), &self.decoder()).unwrap() {
                Fit::Different(reason) => reason,
                other => panic!("{other:?}"),
            }
        }
    }

    /// Rewrites every number of a half-precision weight file.
    fn change_weights(path: &Path, change: impl Fn(f32) -> f32) {
        let bytes = std::fs::read(path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let tensors: Vec<(String, Vec<usize>, Vec<u8>)> = file
            .iter()
            .map(|(name, view)| {
                let values = view.data().as_chunks::<2>().0.iter();
                let values = values.map(|&v| half::f16::from_le_bytes(v).to_f32());
                let data = values.flat_map(|v| change(v).to_le_bytes()).collect();
                (name.to_owned(), view.shape().to_vec(), data)
            })
            .collect();
        let views = tensors.iter().map(|(name, shape, data)| {
            let dtype = safetensors::Dtype::F32;
            let view = safetensors::tensor::TensorView::new(dtype, shape.clone(), data).unwrap();
            (name.as_str(), view)
        });
        std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
    }

    #[test]
    fn the_demo_pair_is_one_space_in_any_precision() {
        assert_eq!(fit(&demo().join("clip"), &demo().join("unclip")).unwrap(), Fit::Same);
        let copy = Copy::new();
        // To single precision with the error of bfloat16.
        let weights = copy.decoder().join("image_encoder/model.safetensors");
        change_weights(&weights, |v| half::bf16::from_f32(v).to_f32());
        assert_eq!(fit(&copy.encoder(), &copy.decoder()).unwrap(), Fit::Same);
    }

    #[test]
    fn equal_dimensions_and_configs_with_other_weights_are_another_space() {
        let copy = Copy::new();
        change_weights(&copy.decoder().join("image_encoder/model.safetensors"), |v| 1.1 * v);
        let reason = copy.reason();
        assert!(reason.contains("other weights"), "{reason}");
    }

    #[test]
    fn another_vision_tower_of_the_same_dimension_is_named_with_both_shapes() {
        let copy = Copy::new();
        copy.edit("clip/config.json", |json| json["vision_config"]["hidden_act"] = json!("gelu"));
        let reason = copy.reason();
        assert!(reason.contains("quick_gelu") && reason.contains(", gelu"), "{reason}");
        assert!(reason.contains("192 dimensions"), "{reason}");
    }

    #[test]
    fn the_nearest_pair_that_works_is_the_one_of_the_bundle_or_the_published_one() {
        // BLIP with the demo's decoder: beside the decoder lies the encoder for it.
        let blip = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/blip/itc");
        let Fit::Different(reason) = fit(&blip, &demo().join("unclip")).unwrap() else { panic!() };
        let clip = demo().join("clip").display().to_string();
        assert!(reason.contains("BLIP") && reason.contains(&clip), "{reason}");

        // ViT-H/14 with the decoder of ViT-L/14, as the published configs describe them.
        let copy = Copy::new();
        let large = json!({
            "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
            "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14,
            "image_size": 224, "hidden_act": "quick_gelu", "projection_dim": 768,
        });
        copy.edit("unclip/image_encoder/config.json", |json| *json = large.clone());
        copy.edit("unclip/image_normalizer/config.json", |json| json["embedding_dim"] = json!(768));
        copy.edit("clip/config.json", |json| {
            json["projection_dim"] = json!(1024);
            json["vision_config"] = json!({
                "hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32,
                "num_attention_heads": 16, "patch_size": 14, "hidden_act": "gelu",
            });
        });
        let reason = copy.reason();
        for part in ["1024 dimensions", "takes 768", KNOWN[0].encoder, KNOWN[1].decoder] {
            assert!(reason.contains(part), "{part}: {reason}");
        }
        let card = DecoderCard::read(&copy.decoder()).unwrap().unwrap();
        assert_eq!(card.space, Some(KNOWN[0].name));
    }

    #[test]
    fn a_decoder_without_its_image_encoder_is_neither_refused_nor_trusted() {
        let copy = Copy::new();
        std::fs::remove_file(copy.decoder().join("image_encoder/model.safetensors")).unwrap();
        let unproven = |copy: &Copy| match fit(&copy.encoder(), &copy.decoder()).unwrap() {
            Fit::Unproven(reason) => reason,
            other => panic!("{other:?}"),
        };
        assert!(unproven(&copy).contains("no weights"));
        std::fs::remove_dir_all(copy.decoder().join("image_encoder")).unwrap();
        assert!(unproven(&copy).contains("no image_encoder"));
        assert_eq!(DecoderCard::read(&copy.encoder()).unwrap(), None);
    }
}
