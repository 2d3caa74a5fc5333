//! Telling what a file or a set of tensors is, when it is not the weights that its name promises.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::WeightsError;
use super::safetensors::HEADER_LIMIT;
use crate::files::FileError;

/// Enough of a file to tell what it is.
const START: usize = 512;

/// Refuses files that are often found in the place of weights: pointers of Git LFS, error pages,
/// empty files, weights of another program.
///
/// # Errors
/// Names what the file is and what to do. Also when it cannot be read.
pub fn refuse_foreign_file(path: &Path) -> Result<(), WeightsError> {
    let file = File::open(path).map_err(FileError::read(path))?;
    if file.metadata().map_err(FileError::read(path))?.is_dir() {
        return Ok(());
    }
    let mut start = Vec::with_capacity(START);
    file.take(START as u64).read_to_end(&mut start).map_err(FileError::read(path))?;
    let pytorch = path.extension().is_some_and(|e| e == "pth" || e == "pt" || e == "bin");
    match foreign_start(&start, pytorch) {
        None => Ok(()),
        Some((what, advice)) => Err(WeightsError::Foreign {
            path: path.to_owned(),
            what: what.to_owned(),
            advice: advice.to_owned(),
        }),
    }
}

/// What a file is that starts like this, and what to do about it.
fn foreign_start(start: &[u8], pytorch: bool) -> Option<(&'static str, &'static str)> {
    let text = start.trim_ascii_start();
    let begins = |word: &str| {
        text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word.as_bytes()))
    };
    if start.is_empty() {
        return Some(("an empty file", "download it again"));
    }
    // A safetensors file starts with the length of its header; what could be one is none of these.
    if !pytorch && start.first_chunk().is_some_and(|n| u64::from_le_bytes(*n) <= HEADER_LIMIT) {
        return None;
    }
    if begins("version https://git-lfs.github.com/spec/") {
        return Some((
            "a pointer of Git LFS, not the weights it points to",
            "run git lfs pull in its repository, or download the file itself",
        ));
    }
    if begins("<!doctype") || begins("<html") || begins("<?xml") || begins("<head") {
        return Some((
            "a web page, perhaps an error message of the site it was downloaded from",
            "download the file again (a gated model needs a token and its licence accepted)",
        ));
    }
    if start.starts_with(b"GGUF") {
        return Some(("a GGUF file", "take the safetensors weights of the model"));
    }
    if pytorch {
        return None;
    }
    if begins("{") {
        return Some((
            "JSON text, perhaps an error message of the site it was downloaded from",
            "download the file again",
        ));
    }
    if start.starts_with(b"PK\x03\x04") || start.starts_with(&[0x80, 2]) {
        return Some((
            "a PyTorch file, whatever its name says",
            "take the safetensors weights of the model, or load it in Python and write it with \
             save_pretrained",
        ));
    }
    None
}

/// Tensors that belong to something else than a model of its own in the Hugging Face layout: what
/// they are, and what to do.
pub fn foreign_tensors<'a>(
    names: impl Iterator<Item = &'a str> + Clone,
) -> Option<(&'static str, &'static str)> {
    let any = |test: &dyn Fn(&str) -> bool| names.clone().any(test);
    let lora = |name: &str| {
        [".lora_A.", ".lora_B.", "lora_down.", "lora_up.", ".lora.down.", ".lora.up.", "_lora."]
            .iter()
            .any(|part| name.contains(part))
            || name.starts_with("lora_")
            || name.ends_with(".dora_scale")
    };
    if any(&lora) {
        return Some((
            "LoRA weights, which change a model but are none",
            "name the folder of a whole model; to use the LoRA, load both in diffusers, \
             fuse_lora() and save_pretrained()",
        ));
    }
    let original = |name: &str| {
        name.starts_with("model.diffusion_model.")
            || name.starts_with("first_stage_model.")
            || name.starts_with("cond_stage_model.")
    };
    if any(&original) {
        return Some((
            "a checkpoint in the original layout of Stable Diffusion, all parts in one file",
            "convert it with diffusers: StableUnCLIPImg2ImgPipeline.from_single_file(..) and \
             save_pretrained(..)",
        ));
    }
    if any(&|name| name.starts_with("model_ema.") || name.starts_with("ema.")) {
        return Some((
            "moving averages (EMA) of a training run under names of their own",
            "convert them to the names of the model, or take the weights of the model",
        ));
    }
    let quantised = |name: &str| {
        [".absmax", ".quant_map", ".quant_state", ".qweight", ".qzeros", ".weight_scale", ".SCB"]
            .iter()
            .any(|ending| name.ends_with(ending) || name.contains(&format!("{ending}.")))
    };
    if any(&quantised) {
        return Some((
            "quantised weights",
            "take the float16, bfloat16 or float32 weights of the model",
        ));
    }
    if any(&|name| name.starts_with("controlnet_")) {
        return Some(("the weights of a ControlNet", "name the folder of a whole pipeline"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::weights::Weights;

    #[test]
    fn what_often_lies_in_the_place_of_weights_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let first = |content: &[u8]| content.first().copied().unwrap_or_default();
        let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n";
        for (content, word, advice) in [
            (&b""[..], "empty file", "download"),
            (pointer.as_bytes(), "pointer of Git LFS", "git lfs pull"),
            (b"\n <!DOCTYPE html><html>Sorry", "web page", "download"),
            (b"<html><body>429</body>", "web page", "token"),
            (b"GGUF\x03\x00\x00\x00 and so on", "GGUF", "safetensors"),
            (b"{\"error\": \"Repository not found\"}", "JSON text", "download"),
            (
                b"PK\x03\x04\x00\x00\x08\x08\x00\x00archive/data.pkl",
                "PyTorch file",
                "save_pretrained",
            ),
            (b"\x80\x02}q\x00X\x05\x00\x00\x00hello", "PyTorch file", "save_pretrained"),
        ] {
            for name in ["model.safetensors", "state.pth"] {
                let path = folder.path().join(name);
                std::fs::write(&path, content).unwrap();
                let error = Weights::open(&path).err().unwrap().to_string();
                assert!(error.contains(name), "{error}");
                // Those are what such files should be.
                let own = name == "state.pth" && [b'P', 0x80, b'{'].contains(&first(content));
                assert!(own || error.contains(word) && error.contains(advice), "{name}: {error}");
            }
        }
    }

    #[test]
    fn tensors_of_something_else_are_told_by_their_names() {
        let of = |names: &[&str]| foreign_tensors(names.iter().copied()).map(|(what, _)| what);
        for (names, word) in [
            (&["unet.down_blocks.0.attn1.to_q.lora_A.weight"][..], "LoRA"),
            (&["lora_unet_mid_block_ff_net_2.lora_down.weight"], "LoRA"),
            (&["lora_te_text_model.alpha"], "LoRA"),
            (&["model_ema.decay", "model_ema.diffusion_modelinput_blocks00weight"], "EMA"),
            (&["model.diffusion_model.out.2.bias", "model_ema.decay"], "original layout"),
            (&["conv_in.weight", "conv_in.weight.absmax"], "quantised"),
            (&["controlnet_cond_embedding.conv_in.bias"], "ControlNet"),
        ] {
            assert!(
                of(names).is_some_and(|what| what.contains(word)),
                "{names:?}: {:?}",
                of(names)
            );
        }
        assert_eq!(of(&["conv_in.weight", "down_blocks.0.resnets.0.norm1.bias", "mean"]), None);
    }
}
