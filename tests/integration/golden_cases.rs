//! Golden outputs of the reference libraries, through `haze verify`.

use crate::support::{Desk, source};

#[test]
fn every_golden_case_passes_at_its_tolerance() {
    let cases = source("tests/fixtures");
    let run = Desk::new().run(&["verify", cases.to_str().unwrap()]);
    assert_eq!(run.code(), 0, "{}{}", run.stdout(), run.stderr());
    let text = run.stdout();
    let last = text.lines().last().unwrap();
    let known = text.lines().filter(|line| line.starts_with("ok")).count();
    assert!(known >= 30, "only {known} cases were run:\n{text}");
    assert!(last.starts_with(&format!("{known} passed, 0 failed")), "{last}");
}

#[test]
fn a_changed_weight_fails_its_case_and_an_unknown_kind_is_skipped_by_name() {
    let desk = Desk::new();
    copy(&source("tests/fixtures/vae/autoencoder_kl"), &desk.path("cases/vae"));
    let weights = find(&desk.path("cases/vae"), "diffusion_pytorch_model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    // The last bytes belong to some tensor's data, in any order of tensors.
    let at = bytes.len() - 1;
    bytes[at] ^= 0x40;
    std::fs::write(&weights, bytes).unwrap();
    copy(&source("tests/fixtures/probvlm/distances"), &desk.path("cases/other"));
    let case = desk.path("cases/other/case.json");
    let text = std::fs::read_to_string(&case).unwrap();
    std::fs::write(&case, text.replacen("\"distances\"", "\"telepathy\"", 1)).unwrap();

    let run = desk.run(&["verify", "cases"]);
    assert_eq!(run.code(), 6, "{}{}", run.stdout(), run.stderr());
    let last = run.stdout().lines().last().unwrap().to_owned();
    assert_eq!(last, "0 passed, 1 failed, 1 skipped: other");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

fn find(folder: &std::path::Path, name: &str) -> std::path::PathBuf {
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.file_name().is_some_and(|n| n == name) {
                return path;
            }
        }
    }
    panic!("no {name}");
}
