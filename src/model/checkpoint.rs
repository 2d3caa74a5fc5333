//! Which weight files of a model folder are read.
//!
//! A published folder may hold the same weights several times: whole or in shards, in full and in
//! half precision (`fp16`, `bf16` in the name), and in formats of other frameworks. In goes the
//! folder and the precision that is wanted, out comes one safetensors file or the index of one set
//! of shards; where there is neither, an error says what is there instead and what to do.

use std::path::{Path, PathBuf};

use super::precision::Precision;
use super::weights::{Weights, WeightsError};
use crate::files::FileError;

/// What the weight files of diffusers models are called, without variant and ending.
pub const DIFFUSERS: &str = "diffusion_pytorch_model";
/// What the weight files of transformers models are called.
pub const TRANSFORMERS: &str = "model";

/// More files than any model folder has; the rest is not looked at.
const ENTRY_LIMIT: usize = 10_000;

/// Opens the weights of a folder, in the variant that suits `precision` best.
///
/// # Errors
/// When the folder has no safetensors weights, a file of them is missing or damaged, or they are no
/// model of their own (LoRA, quantised, another layout).
pub fn open(folder: &Path, stem: &str, precision: Precision) -> Result<Weights, WeightsError> {
    Weights::open(&find(folder, stem, precision)?)?.refuse_foreign()
}

/// The weight file of a folder, or the index of its shards, in the variant that suits `precision`
/// best. A full file serves every precision, and a half one serves full precision.
///
/// # Errors
/// When there is neither.
pub fn find(folder: &Path, stem: &str, precision: Precision) -> Result<PathBuf, WeightsError> {
    // float16 has more significant bits than bfloat16, so that it is the better stand-in for full
    // precision; the other way round only the full file loses no more than it must.
    let variants: [Option<&str>; 3] = match precision {
        Precision::F32 => [None, Some("fp16"), Some("bf16")],
        Precision::F16 => [Some("fp16"), None, Some("bf16")],
        Precision::Bf16 => [Some("bf16"), None, Some("fp16")],
    };
    variants
        .into_iter()
        .flat_map(|variant| names(stem, variant))
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
        .map_or_else(|| Err(no_weights(folder, stem)), Ok)
}

/// One file, and the index of shards.
fn names(stem: &str, variant: Option<&str>) -> [String; 2] {
    match variant {
        None => [format!("{stem}.safetensors"), format!("{stem}.safetensors.index.json")],
        Some(variant) => [
            format!("{stem}.{variant}.safetensors"),
            format!("{stem}.safetensors.index.{variant}.json"),
        ],
    }
}

fn no_weights(folder: &Path, stem: &str) -> WeightsError {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return FileError::read(folder)(error).into(),
    };
    let mut found: Vec<String> = entries
        .take(ENTRY_LIMIT)
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    WeightsError::NoWeights {
        folder: folder.to_owned(),
        reason: reason(folder, stem, &found),
        expected: format!(
            "{stem}.safetensors, {stem}.fp16.safetensors, or shards with \
             {stem}.safetensors.index.json"
        ),
    }
}

/// What a folder without usable weights holds instead, and what to do.
fn reason(folder: &Path, stem: &str, found: &[String]) -> String {
    let first = |test: &dyn Fn(&str) -> bool| found.iter().find(|name| test(name));
    let ends = |endings: &'static [&str]| {
        move |name: &str| endings.iter().any(|ending| name.ends_with(ending))
    };
    let safetensors = |name: &str| name.ends_with(".safetensors");

    if let Some(name) = first(&|name| name.starts_with(stem) && !folder.join(name).exists()) {
        return format!("{name} is a link to a file that does not exist; download the model again");
    }
    if let Some(name) =
        first(&|name| safetensors(name) && (name.contains("lora") || name.starts_with("adapter_")))
    {
        return format!(
            "{name} is a LoRA, which changes a model but is none; name the folder of a whole model"
        );
    }
    if let Some(name) = first(&|name| safetensors(name) && name.contains("-of-")) {
        return format!("{name} is one of several shards, but their index is missing");
    }
    if let Some(name) = first(&|name| safetensors(name) && name.contains("ema")) {
        return format!(
            "{name} has a variant of the weights that is not taken by itself; to use it, copy or \
             link it to {stem}.safetensors"
        );
    }
    if let Some(name) = first(&safetensors) {
        return format!("it holds {name}, which is not what this part of a model is called");
    }
    if let Some(name) = first(&ends(&[".bin", ".bin.index.json", ".ckpt", ".pt", ".pth", ".pkl"])) {
        return format!(
            "it holds {name}, a pickle, which can run code and is not read for whole models; take \
             the safetensors files of the model (haze models pull), or load the folder in Python \
             with from_pretrained(..) and write it with save_pretrained(..)"
        );
    }
    for (endings, framework) in [
        (&[".msgpack", ".flax"][..], "Flax"),
        (&[".h5", ".tflite"], "TensorFlow"),
        (&[".onnx", ".onnx_data", ".onnx.data"], "ONNX"),
        (&[".gguf", ".ggml"], "GGUF"),
        (&[".mlmodelc", ".mlpackage", ".mlmodel"], "Core ML"),
    ] {
        if let Some(name) = first(&ends(endings)) {
            return format!(
                "it holds {name} for {framework} alone; take the PyTorch weights of the model, as \
                 safetensors"
            );
        }
    }
    if first(&|name| name.starts_with("openvino_model")).is_some() {
        return "it holds openvino_model for OpenVINO alone; take the PyTorch weights of the model, \
                as safetensors"
            .to_owned();
    }
    if let Some(name) = first(&ends(&[".incomplete", ".part", ".partial", ".aria2"])) {
        return format!("{name} is a download that did not finish; download the model again");
    }
    "there are none in it".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(tempfile::TempDir);

    impl Folder {
        fn with(names: &[&str]) -> Self {
            let folder = Self(tempfile::tempdir().unwrap());
            for name in names {
                std::fs::write(folder.0.path().join(name), b"x").unwrap();
            }
            folder
        }

        fn find(&self, precision: Precision) -> Result<String, WeightsError> {
            let path = find(self.0.path(), DIFFUSERS, precision)?;
            Ok(path.strip_prefix(self.0.path()).unwrap().display().to_string())
        }
    }

    #[test]
    fn the_variant_of_the_precision_comes_first_and_the_others_stand_in() {
        let full = "diffusion_pytorch_model.safetensors";
        let shards = "diffusion_pytorch_model.safetensors.index.json";
        let fp16 = "diffusion_pytorch_model.fp16.safetensors";
        let fp16_shards = "diffusion_pytorch_model.safetensors.index.fp16.json";
        let bf16 = "diffusion_pytorch_model.bf16.safetensors";
        let (f32s, f16s, bf16s) = (Precision::F32, Precision::F16, Precision::Bf16);
        for (names, precision, expected) in [
            (&[full, fp16, bf16][..], f32s, full),
            (&[full, fp16, bf16], f16s, fp16),
            (&[full, fp16, bf16], bf16s, bf16),
            (&[full, fp16], bf16s, full),
            (&[full, bf16], f16s, full),
            (&[fp16, bf16], f32s, fp16),
            (&[fp16], bf16s, fp16),
            (&[bf16], f16s, bf16),
            (&[full, shards], f32s, full),
            (&[shards, fp16], f32s, shards),
            (&[shards, fp16_shards], f16s, fp16_shards),
            (&[shards, fp16_shards], f32s, shards),
            (&[fp16_shards], f32s, fp16_shards),
        ] {
            let found = Folder::with(names).find(precision).unwrap();
            assert_eq!(found, expected, "{names:?} for {precision}");
        }
    }

    #[test]
    fn a_folder_of_other_files_says_what_they_are_and_what_to_do() {
        for (names, words) in [
            (&[][..], &["none in it", "diffusion_pytorch_model.fp16.safetensors"][..]),
            (&["config.json"], &["none in it"]),
            (&["diffusion_pytorch_model.bin"], &["pickle", "save_pretrained", "models pull"]),
            (&["pytorch_model.bin.index.json"], &["pickle"]),
            (&["v2-1.ckpt"], &["v2-1.ckpt", "pickle"]),
            (&["diffusion_flax_model.msgpack"], &["Flax", "safetensors"]),
            (&["tf_model.h5"], &["TensorFlow"]),
            (&["model.onnx", "model.onnx_data"], &["ONNX"]),
            (&["openvino_model.xml", "openvino_model.dat"], &["OpenVINO"]),
            (&["sd.gguf"], &["GGUF"]),
            (&["unet_ema.safetensors"], &["unet_ema.safetensors", "copy or link"]),
            (&["diffusion_pytorch_model.non_ema.safetensors"], &["non_ema", "copy or link"]),
            (&["pytorch_lora_weights.safetensors"], &["LoRA", "whole model"]),
            (&["adapter_model.safetensors"], &["LoRA"]),
            (
                &["diffusion_pytorch_model-00001-of-00002.safetensors"],
                &["00001-of-00002", "index is missing"],
            ),
            (&["weights.safetensors"], &["weights.safetensors", "not what"]),
            (&["diffusion_pytorch_model.safetensors.incomplete"], &["did not finish"]),
        ] {
            let error = Folder::with(names).find(Precision::F32).unwrap_err().to_string();
            for word in words {
                assert!(error.contains(word), "{names:?}: {error}");
            }
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_link_without_its_file_is_named() {
        let folder = Folder::with(&[]);
        let link = folder.0.path().join("diffusion_pytorch_model.safetensors");
        std::os::unix::fs::symlink("../../blobs/0123", link).unwrap();
        let error = folder.find(Precision::F32).unwrap_err().to_string();
        assert!(error.contains("link to a file that does not exist"), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = find(Path::new("no/such/folder"), DIFFUSERS, Precision::F32).unwrap_err();
        assert!(error.to_string().contains("no/such/folder"), "{error}");
    }
}
