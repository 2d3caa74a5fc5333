//! Encoders beside CLIP, and which decoders they fit, through the program.

use crate::support::{Desk, source};

#[test]
fn inspect_says_what_an_encoder_is_and_whether_a_decoder_draws_its_space() {
    let desk = Desk::new();
    let pair = ["models", "inspect", "demo/clip", "--decoder", "demo/unclip"];
    let report = desk.run(&[&pair[..], &["--json"]].concat()).ok().json();
    assert_eq!(report["encoder"]["kind"], "clip");
    assert_eq!(
        (&report["encoder"]["dim"], &report["encoder"]["norm"]),
        (&192.into(), &"raw".into())
    );
    assert_eq!(report["decoder_fit"]["fits"], true);
    let text = desk.run(&pair).ok().stdout();
    assert!(text.contains("the vision towers are the same"), "{text}");

    let blip = source("tests/fixtures/blip/itc").display().to_string();
    let pair = ["models", "inspect", blip.as_str(), "--decoder", "demo/unclip", "--json"];
    let report = desk.run(&pair).ok().json();
    assert_eq!(report["encoder"]["kind"], "blip");
    assert_eq!(report["decoder_fit"]["fits"], false);
    let reason = report["decoder_fit"]["reason"].as_str().unwrap();
    assert!(reason.contains("Use the encoder") && reason.contains("clip"), "{reason}");

    let report = desk.run(&["models", "inspect", "demo/unclip", "--json"]).ok().json();
    assert_eq!((&report["decoder"]["dim"], report["encoder"].is_null()), (&192.into(), true));
}

#[test]
fn an_encoder_that_predicts_distributions_gives_means_and_variances() {
    let desk = Desk::new();
    let folder = desk.path("prolip");
    std::fs::create_dir(&folder).unwrap();
    for (case, name) in [
        ("prolip/model", "config.json"),
        ("prolip/model", "model.safetensors"),
        ("siglip/model", "tokenizer.json"),
        ("siglip/model", "tokenizer_config.json"),
    ] {
        let from = source("tests/fixtures").join(case).join(name);
        std::fs::copy(from, folder.join(name)).unwrap();
    }
    let embed = ["embed", "two dogs", "a photo of a cat", "--encoder", "prolip"];
    let report = desk.run(&[&embed[..], &["--json"]].concat()).ok().json();
    for entry in report["embeddings"].as_array().unwrap() {
        assert!((entry["norm"].as_f64().unwrap() - 1.0).abs() < 1e-5, "{entry}");
        let variances = entry["variances"].as_array().unwrap();
        assert_eq!(variances.len(), 24);
        assert!(variances.iter().all(|v| v.as_f64().unwrap() > 0.0), "{entry}");
    }
    let text = desk.run(&[&embed[..], &["--out", "e.npz"]].concat()).ok().stdout();
    assert!(text.contains("mean variance"), "{text}");
    let card = desk.run(&["models", "inspect", "prolip", "--json"]).ok().json();
    assert_eq!(card["encoder"]["predicts"], "gaussian");
}
