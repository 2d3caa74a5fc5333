//! `haze evaluate` and the studies over data sets, as processes.

use crate::support::Desk;

/// Small enough for a test: what does not learn, and one method for one epoch.
const QUICK: [&str; 12] = [
    "evaluate",
    "--methods",
    "gaussian,cosine-distance,entropy,random",
    "--seeds",
    "1",
    "--epochs",
    "1",
    "--bootstrap",
    "50",
    "--permutations",
    "50",
    "--json",
];

#[test]
fn the_demo_is_evaluated_whole_and_its_recall_is_that_of_the_reference() {
    let desk = Desk::new();
    let run = desk.run(&[&QUICK[..], &["--out", "report"]].concat());
    let report = run.ok().json()["report"].clone();
    let meta = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/meta.json"),
    )
    .unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    for (direction, name) in [(0, "image_to_text"), (1, "text_to_image")] {
        let found = &report["tests"][0]["directions"][direction];
        for (i, k) in [1, 5, 10].into_iter().enumerate() {
            let expected = meta["reference"][name][format!("R@{k}")].as_f64().unwrap();
            let recall = found["recall"][i]["value"].as_f64().unwrap();
            // Rows are stored as float16: a tie may fall the other way.
            assert!((recall - expected).abs() < 3e-3, "{name} R@{k}: {recall} {expected}");
        }
        let methods = found["methods"].as_array().unwrap();
        assert_eq!(methods.len(), 4);
        let auroc = |i: usize| methods[i]["auroc"]["value"].as_f64().unwrap();
        assert!(auroc(1) > 0.7, "cosine distance knows failures: {}", auroc(1));
        assert!((auroc(3) - 0.5).abs() < 0.1, "noise knows nothing: {}", auroc(3));
        assert!(methods[0]["likelihood"]["nll"].is_number());
        assert!(methods[1]["likelihood"].is_null());
    }
    for file in ["report.json", "report.md", "methods.csv"] {
        assert!(desk.path("report").join(file).is_file(), "{file}");
    }
    let again = desk.run(&[&QUICK[..], &["--out", "report"]].concat());
    assert_eq!(again.code(), 2);
    assert!(again.stderr().contains("--overwrite"), "{}", again.stderr());
}

#[test]
fn data_and_methods_that_are_not_there_are_named() {
    let desk = Desk::new();
    let run = desk.run(&["evaluate", "--methods", "probvlm2"]);
    assert_eq!(run.code(), 2);
    assert!(run.stderr().contains("probvlm-cross"), "{}", run.stderr());
    assert_eq!(desk.run(&["evaluate", "--train", "a", "--val", "b"]).code(), 2);
    let run = desk.run(&["evaluate", "--train", "no", "--val", "no", "--test", "no"]);
    assert_eq!(run.code(), 3);
    assert!(run.stderr().contains("no"), "{}", run.stderr());
}

#[test]
fn coarser_captions_are_more_uncertain_over_the_whole_gallery() {
    let desk = Desk::new();
    let run = desk.run(&[
        "study",
        "degrade",
        "caption-level",
        "--items",
        "100",
        "--out",
        "ladder.svg",
        "--json",
    ]);
    let ladder = run.ok().json();
    assert!(ladder["tau"]["low"].as_f64().unwrap() > 0.0, "{ladder}");
    assert!(ladder["rising"].as_f64().unwrap() > 0.5);
    assert!(desk.path("ladder.svg").is_file());
    let run = desk.run(&["study", "degrade", "mask-image", "--items", "10", "--json"]);
    let ladder = run.ok().json();
    assert_eq!(ladder["steps"].as_array().unwrap().len(), 5);
    assert_eq!(ladder["steps"][0]["change"]["value"], 0.0);
    let bad = desk.run(&["study", "degrade", "mask-image", "--shares", "0.5,0.2"]);
    assert_eq!(bad.code(), 2, "{}", bad.stderr());
}
