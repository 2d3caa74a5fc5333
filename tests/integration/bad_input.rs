//! Bad input: one clear error, a documented exit code, and nothing left behind.

use std::path::Path;

use crate::support::{Desk, source};

/// Runs a command that must fail with `code`, say every one of `words`, and write nothing but what
/// was there.
fn fails(desk: &Desk, arguments: &[&str], code: i32, words: &[&str]) {
    let before = desk.entries();
    let run = desk.run(arguments);
    let errors = run.stderr();
    assert_eq!(run.code(), code, "{arguments:?}: {errors}\n{}", run.stdout());
    for word in words {
        assert!(errors.contains(word), "{arguments:?}: no {word:?} in: {errors}");
    }
    assert!(!errors.contains("panicked"), "{errors}");
    assert_eq!(desk.entries(), before, "{arguments:?} left something behind");
}

/// A copy of the demo bundle; large files are links to the originals.
fn bundle(desk: &Desk) -> std::path::PathBuf {
    let to = desk.path("bundle");
    link(&source("assets/demo"), &to);
    to
}

fn link(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            link(&path, &target);
        } else if std::fs::hard_link(&path, &target).is_err() {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

/// Replaces a linked file by other content.
fn replace(path: &Path, content: &[u8]) {
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, content).unwrap();
}

#[test]
fn queries_that_are_none() {
    let desk = Desk::new();
    fails(&desk, &["sample", "   "], 3, &["empty"]);
    fails(&desk, &["sample"], 2, &["QUERY"]);
    fails(&desk, &["sample", "--image", "missing.png"], 3, &["missing.png"]);
    fails(&desk, &["sample", "mistyped.jpg"], 3, &["mistyped.jpg"]);
    std::fs::write(desk.path("corrupt.png"), b"\x89PNG\r\n\x1a\nnot really").unwrap();
    fails(&desk, &["sample", "corrupt.png"], 3, &["corrupt.png"]);
    std::fs::write(desk.path("text.png"), "plain text").unwrap();
    fails(&desk, &["sample", "text.png"], 3, &["text.png"]);
    std::fs::write(desk.path("huge.png"), huge_png()).unwrap();
    fails(&desk, &["sample", "huge.png"], 3, &["huge.png"]);
    let long = "word ".repeat(10_000);
    fails(&desk, &["sample", &long], 3, &["shorten"]);
}

/// A PNG header that claims 60000 x 60000 pixels.
fn huge_png() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, 60_000, 60_000);
    encoder.set_color(png::ColorType::Rgb);
    drop(encoder.write_header().unwrap());
    bytes
}

#[test]
fn numbers_out_of_range() {
    let desk = Desk::new();
    fails(&desk, &["sample", "food", "--samples", "0"], 2, &["samples is 0", "1 to"]);
    fails(&desk, &["sample", "food", "--samples", "1000000"], 2, &["samples is 1000000"]);
    fails(&desk, &["sample", "food", "--steps", "0"], 2, &["steps is 0"]);
    fails(&desk, &["sample", "food", "--temperature", "NaN"], 2, &["temperature"]);
    fails(&desk, &["sample", "food", "--noise-level", "1000"], 2, &["noise level"]);
    fails(&desk, &["sample", "food", "--scheduler", "magic"], 2, &["magic", "ddim"]);
    fails(&desk, &["sample", "food", "--bridge", "golden-gate"], 2, &["golden-gate", "mean-shift"]);
    fails(&desk, &["sample", "food", "--batch-size", "0"], 2, &["batch size"]);
    let run = desk.command_on("toaster", &["sample", "food"]).output().unwrap();
    assert_eq!(run.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&run.stderr).contains("toaster"));
}

#[test]
fn a_graphics_device_works_or_is_refused_but_never_crashes() {
    let desk = Desk::new();
    let arguments = ["sample", "food", "--no-decode", "--no-search", "--out", "x"];
    let run = desk.command_on("wgpu", &arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    match run.status.code() {
        Some(0) => assert!(desk.path("x/sheet.png").is_file()),
        Some(4) => assert!(errors.contains("--device cpu"), "{errors}"),
        code => panic!("{code:?}: {errors}"),
    }
}

#[test]
fn damaged_weights() {
    let desk = Desk::new();
    let bundle = bundle(&desk);
    let clip = bundle.join("clip/model.safetensors");
    let whole = std::fs::read(&clip).unwrap();
    let sample = ["sample", "food", "--bundle", "bundle", "--out", "x"];

    replace(&clip, &whole[..whole.len() / 2]);
    fails(&desk, &sample, 3, &["model.safetensors", "incomplete"]);
    replace(&clip, b"");
    fails(&desk, &sample, 3, &["model.safetensors"]);
    // A header that claims far more than there is.
    replace(&clip, &[&u64::MAX.to_le_bytes()[..], b"{}"].concat());
    fails(&desk, &sample, 3, &["model.safetensors"]);
    std::fs::remove_file(&clip).unwrap();
    fails(&desk, &sample, 3, &["model.safetensors"]);
}

#[test]
fn weights_that_are_not_numbers_or_do_not_fit_their_config() {
    let desk = Desk::new();
    let bundle = bundle(&desk);
    let sample = ["sample", "food", "--bundle", "bundle", "--out", "x"];
    let clip = bundle.join("clip/model.safetensors");
    let whole = std::fs::read(&clip).unwrap();
    let mut poisoned = whole.clone();
    let at = poisoned.len() - 2;
    // All bits of the exponent set: not a number in float16 and in float32.
    poisoned[at..].copy_from_slice(&[0xff, 0x7f]);
    replace(&clip, &poisoned);
    fails(&desk, &sample, 3, &["not finite"]);
    replace(&clip, &whole);

    let config = bundle.join("clip/config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    replace(&config, text.replace("\"hidden_size\": ", "\"hidden_size\": 1").as_bytes());
    fails(&desk, &sample, 3, &["clip"]);
    replace(&config, text.replace("quick_gelu", "swish9").as_bytes());
    fails(&desk, &sample, 3, &["config.json", "swish9"]);
    replace(&config, b"{ not json");
    fails(&desk, &sample, 3, &["config.json"]);
    replace(&config, text.replace("\"clip\"", "\"telepathy\"").as_bytes());
    fails(&desk, &sample, 3, &["telepathy"]);
}

#[test]
fn decoders_that_cannot_be_used() {
    let desk = Desk::new();
    let bundle = bundle(&desk);
    let sample = ["sample", "food", "--bundle", "bundle", "--out", "x"];
    let scheduler = bundle.join("unclip/scheduler/scheduler_config.json");
    let text = std::fs::read_to_string(&scheduler).unwrap();
    replace(&scheduler, text.replace("v_prediction", "w_prediction").as_bytes());
    fails(&desk, &sample, 3, &["scheduler_config.json", "w_prediction"]);
    replace(&scheduler, text.as_bytes());
    let unet = bundle.join("unclip/unet/config.json");
    let text = std::fs::read_to_string(&unet).unwrap();
    replace(&unet, text.replace("CrossAttnDownBlock2D", "QuantumDownBlock2D").as_bytes());
    fails(&desk, &sample, 3, &["config.json", "QuantumDownBlock2D"]);
    std::fs::remove_file(&unet).unwrap();
    fails(&desk, &sample, 3, &["config.json"]);
}

/// What is found in the folders of published models, in the place of a decoder's weights.
#[test]
fn decoders_whose_weights_are_something_else() {
    let desk = Desk::new();
    let bundle = bundle(&desk);
    let sample = ["sample", "food", "--bundle", "bundle", "--out", "x"];
    let unet = bundle.join("unclip/unet");
    let weights = unet.join("diffusion_pytorch_model.safetensors");
    let whole = std::fs::read(&weights).unwrap();

    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    replace(&weights, pointer);
    fails(&desk, &sample, 3, &["diffusion_pytorch_model.safetensors", "git lfs pull"]);
    replace(&weights, b"<!doctype html><title>502</title>");
    fails(&desk, &sample, 3, &["web page", "download"]);

    std::fs::rename(&weights, unet.join("diffusion_pytorch_model.bin")).unwrap();
    fails(&desk, &sample, 3, &["unclip/unet", "pickle", "save_pretrained"]);
    std::fs::remove_file(unet.join("diffusion_pytorch_model.bin")).unwrap();
    std::fs::write(unet.join("diffusion_flax_model.msgpack"), b"x").unwrap();
    fails(&desk, &sample, 3, &["Flax", "safetensors"]);

    let index = unet.join("diffusion_pytorch_model.safetensors.index.json");
    std::fs::write(&index, r#"{"weight_map": {"conv_in.bias": "../../../weights.safetensors"}}"#)
        .unwrap();
    fails(&desk, &sample, 3, &["index.json", "../../../weights.safetensors"]);
    std::fs::write(&index, r#"{"weight_map": {"conv_in.bias": "one.safetensors"}}"#).unwrap();
    fails(&desk, &sample, 3, &["1 of its 1 shards", "one.safetensors"]);
    std::fs::remove_file(&index).unwrap();

    std::fs::write(unet.join("diffusion_pytorch_model.fp16.safetensors"), whole).unwrap();
    let config = unet.join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    replace(&config, text.replace("UNet2DConditionModel", "FluxTransformer2DModel").as_bytes());
    fails(&desk, &sample, 3, &["FluxTransformer2DModel", "UNet2DConditionModel"]);
    let index = bundle.join("unclip/model_index.json");
    let text = std::fs::read_to_string(&index).unwrap();
    replace(&index, text.replace("StableUnCLIPImg2ImgPipeline", "FluxPipeline").as_bytes());
    fails(&desk, &sample, 3, &["FluxPipeline", "StableUnCLIPImg2ImgPipeline", "sd2-community"]);
    fails(&desk, &["sample", "food", "--precision", "half"], 2, &["half", "bf16"]);
    fails(&desk, &["sample", "food", "--vae-tiling", "maybe"], 2, &["maybe", "auto"]);
}

#[test]
fn places_that_cannot_be_written() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("thesis")).unwrap();
    std::fs::write(desk.path("thesis/chapter.tex"), "").unwrap();
    fails(&desk, &["sample", "food", "--out", "thesis", "--overwrite"], 5, &["no result folder"]);
    std::fs::write(desk.path("file"), "").unwrap();
    fails(&desk, &["sample", "food", "--out", "file/inside"], 5, &["file"]);
    assert_eq!(std::fs::read_dir(desk.path("thesis")).unwrap().count(), 1);
}

/// A file size limit makes writes fail half-way, as a full disk does.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_leaves_nothing_behind() {
    let desk = Desk::new();
    let program = env!("CARGO_BIN_EXE_haze");
    // 8 blocks of 512 bytes or 1024, by shell: smaller than the sheet. SIGXFSZ is ignored, so that
    // the write fails with an error.
    let script = format!(
        "trap '' XFSZ; ulimit -f 8; exec '{program}' sample food --no-search --samples 2 \
         --steps 1 --draws 10 --device cpu --out x"
    );
    let run = std::process::Command::new("sh")
        .args(["-c", &script])
        .current_dir(desk.path(""))
        .env("HAZE_CACHE", desk.path("cache"))
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(5), "{errors}");
    assert!(errors.contains("cannot write"), "{errors}");
    assert!(desk.entries().is_empty(), "{:?}", desk.entries());
}

#[test]
fn files_that_are_no_sheets_or_recipes() {
    let desk = Desk::new();
    std::fs::write(desk.path("note.png"), "hello").unwrap();
    fails(&desk, &["replay", "note.png"], 3, &["note.png", "PNG"]);
    image::RgbImage::new(4, 4).save(desk.path("plain.png")).unwrap();
    fails(&desk, &["replay", "plain.png"], 3, &["plain.png", "no Haze recipe"]);
    std::fs::write(desk.path("r.json"), r#"{"schema": 99}"#).unwrap();
    fails(&desk, &["sample", "--recipe", "r.json"], 3, &["r.json", "schema"]);
    fails(&desk, &["sample", "--recipe", "none.json"], 3, &["none.json"]);
}

#[test]
fn galleries_and_arrays_that_cannot_be_used() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("empty")).unwrap();
    fails(&desk, &["index", "empty", "--out", "x"], 3, &["empty"]);
    fails(&desk, &["search", "food", "--gallery", "nowhere"], 3, &["nowhere"]);
    std::fs::write(desk.path("a.npy"), b"\x93NUMPY").unwrap();
    fails(&desk, &["decode", "a.npy", "--out", "x"], 3, &["a.npy"]);
    let array = haze::export::arrays::Array::F32("embeddings", vec![1, 3], vec![0.0; 3]);
    haze::export::arrays::write_npz(&desk.path("b.npz"), &[array]).unwrap();
    fails(&desk, &["decode", "b.npz", "--out", "x"], 3, &["3 dimensions"]);
    fails(&desk, &["verify", "empty"], 2, &["case.json"]);
    fails(&desk, &["models", "inspect", "empty"], 3, &["no model here"]);
}

#[test]
fn errors_are_json_when_asked_for() {
    let desk = Desk::new();
    let run = desk.run(&["sample", "food", "--samples", "0", "--json"]);
    assert_eq!(run.code(), 2);
    assert_eq!(run.json()["exit_code"], 2);
    assert!(run.json()["error"].as_str().unwrap().contains("samples is 0"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_window_without_a_display_is_refused_with_what_works_instead() {
    let desk = Desk::new();
    fails(&desk, &[], 7, &["DISPLAY", "haze sample", "haze demo --headless"]);
    fails(&desk, &["bench", "ui"], 7, &["DISPLAY"]);
}

#[test]
fn a_part_of_the_benchmark_takes_its_own_options_only() {
    let desk = Desk::new();
    fails(&desk, &["bench", "--repeat", "2", "ui"], 2, &["ui"]);
    fails(&desk, &["bench", "ui", "--size", "10x10"], 2, &["600x400"]);
}
