//! Ctrl-C: finished results stay, nothing half-written is left.
#![cfg(unix)]

use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::support::Desk;

/// Starts the program, waits until `ready`, sends SIGINT and returns its exit code.
fn interrupt(desk: &Desk, arguments: &[&str], ready: impl Fn() -> bool) -> Option<i32> {
    let mut child =
        desk.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let start = Instant::now();
    while !ready() {
        assert!(start.elapsed() < Duration::from_secs(120), "it never got that far");
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(Duration::from_millis(20));
    }
    let kill = std::process::Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(kill.success());
    child.wait().unwrap().code()
}

#[test]
fn an_interrupted_decode_leaves_earlier_results_and_no_partial_ones() {
    let desk = Desk::new();
    desk.run(&["sample", "food", "--no-decode", "--out", "earlier"]).ok();
    let before = std::fs::read(desk.path("earlier/recipe.json")).unwrap();
    let arguments =
        ["sample", "cake", "--samples", "64", "--steps", "500", "--out", "earlier", "--overwrite"];
    // The partial folder is made before any work.
    let partial = || desk.entries().iter().any(|name| name.ends_with(".partial"));
    assert_eq!(interrupt(&desk, &arguments, partial), Some(130));
    assert_eq!(desk.entries(), ["earlier"]);
    assert_eq!(std::fs::read(desk.path("earlier/recipe.json")).unwrap(), before);
}

#[test]
fn interrupted_training_goes_on_to_the_same_weights() {
    let desk = Desk::new();
    let train = |out: &str| {
        let epochs = ["--epochs", "4", "--patience", "4", "--quiet"];
        [&["train", "cross-modal", "--out", out], &epochs[..]].concat().join(" ")
    };
    let whole = train("whole");
    desk.run(&whole.split(' ').collect::<Vec<_>>()).ok();

    let parts = train("parts");
    let parts: Vec<&str> = parts.split(' ').collect();
    let checkpoint = desk.path("parts").join(haze::session::training::CHECKPOINT_FILE);
    assert_eq!(interrupt(&desk, &parts, || checkpoint.is_file()), Some(130));
    assert!(!desk.path("parts/adapter_config.json").exists());
    desk.run(&parts).ok();
    let weights = |run: &str| std::fs::read(desk.path(run).join("adapter.safetensors")).unwrap();
    assert!(weights("whole") == weights("parts"), "the weights differ");
    assert!(!checkpoint.exists());
}

#[test]
fn an_interrupted_cache_goes_on_to_the_same_rows() {
    let desk = Desk::new();
    let gallery = crate::support::source("assets/demo/gallery").display().to_string();
    let embed = |out| ["embed", "--dataset", &gallery, "--out", out, "--quiet"].map(str::to_owned);
    desk.run(&embed("whole")).ok();

    let parts = embed("parts");
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let manifest = desk.path("parts/cache.json");
    assert_eq!(interrupt(&desk, &parts, || manifest.is_file()), Some(130));
    let notes = &mut Vec::new();
    let unfinished = haze::experiment::cache::open(&desk.path("parts"), notes).unwrap_err();
    assert!(unfinished.to_string().contains("unfinished"), "{unfinished}");
    desk.run(&parts).ok();
    let mut open = |name| haze::experiment::cache::open(&desk.path(name), notes).unwrap();
    let (whole, parts) = (open("whole"), open("parts"));
    assert_eq!(whole.images.len(), parts.images.len());
    assert!((0..whole.images.len()).all(|row| whole.images.row(row) == parts.images.row(row)));
    assert!((0..whole.texts.len()).all(|row| whole.texts.row(row) == parts.texts.row(row)));
    assert_eq!((whole.facts, whole.captions), (parts.facts, parts.captions));
}
