//! `haze train`, as a process.

use crate::support::Desk;

#[test]
fn a_trained_adapter_is_used_by_name() {
    let desk = Desk::new();
    let run = desk.run(&["train", "cross-modal", "--out", "mine", "--epochs", "1", "--json"]);
    let report = run.ok().json()["report"].clone();
    assert_eq!(report["history"].as_array().unwrap().len(), 1);
    assert!(report["training_pairs"].as_u64().unwrap() > 0);
    let sample = ["sample", "food", "--adapter", "mine", "--no-decode", "--out", "x", "--json"];
    desk.run(&sample).ok();
    let recipe = std::fs::read_to_string(desk.path("x/recipe.json")).unwrap();
    assert!(recipe.contains("\"mine\""), "{recipe}");

    let again = desk.run(&["train", "cross-modal", "--out", "mine", "--epochs", "1"]);
    assert_eq!(again.code(), 2);
    assert!(again.stderr().contains("--overwrite"), "{}", again.stderr());
}

#[test]
fn options_that_make_no_sense_are_refused_before_training() {
    let desk = Desk::new();
    for (option, value) in [("--epochs", "0"), ("--dropout", "1.5"), ("--learning-rate", "-1")] {
        let argument = format!("{option}={value}");
        let run = desk.run(&["train", "cross-modal", "--out", "x", &argument]);
        assert_eq!(run.code(), 2, "{option} {value}: {}", run.stderr());
    }
    let run = desk.run(&["train", "cross-modal", "--out", "y", "--val-split", "nope"]);
    assert_eq!(run.code(), 3);
    assert!(run.stderr().contains("nope") && run.stderr().contains("train"), "{}", run.stderr());
}
