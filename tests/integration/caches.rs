//! `haze embed --dataset`, as a process, and what its caches give.

use std::path::Path;

use haze::encoder::Modality;
use haze::experiment::cache;
use haze::experiment::{EmbeddedPairs, PairStore};
use serde_json::{Value, json};

use crate::support::{Desk, source};

/// The first images of the demo gallery as a dataset: 20 to train, 10 to validate, 5 to test.
fn dataset(desk: &Desk) {
    let gallery = source("assets/demo/gallery");
    let bytes = std::fs::read(gallery.join("dataset.json")).unwrap();
    let mut dataset: Value = serde_json::from_slice(&bytes).unwrap();
    let images = dataset["images"].as_array_mut().unwrap();
    images.truncate(35);
    std::fs::create_dir_all(desk.path("data/images")).unwrap();
    for (i, image) in images.iter_mut().enumerate() {
        image["split"] = json!(if i < 20 {
            "train"
        } else if i < 30 {
            "val"
        } else {
            "test"
        });
        let name = image["filename"].as_str().unwrap();
        let (from, to) = (gallery.join("images").join(name), desk.path("data/images").join(name));
        std::fs::copy(from, to).unwrap();
    }
    std::fs::write(desk.path("data/dataset.json"), dataset.to_string()).unwrap();
}

fn open(path: &Path) -> PairStore {
    cache::open(path, &mut Vec::new()).unwrap()
}

#[test]
fn chosen_splits_are_embedded_once_and_open_as_pairs() {
    let desk = Desk::new();
    dataset(&desk);
    let embed = ["embed", "--dataset", "data", "--out", "cache-of-data", "--splits", "train,val"];
    let done = desk.run(&[&embed[..], &["--json"]].concat()).ok().json();
    assert_eq!(done["cache"]["images"], 30);
    assert_eq!(done["cache"]["skipped"], json!([]));
    let folder = desk.path("cache-of-data");
    let pairs = EmbeddedPairs::new(open(&folder)).unwrap();
    let splits: Vec<_> = pairs.split_counts().into_iter().collect();
    assert_eq!(splits, [("train", 20), ("val", 10)]);
    assert!(pairs.words(0).is_some() && pairs.store().logit_scale.is_some());
    // Raw: the demo's image embeddings have norms around 14.6.
    assert!(pairs.embedding(Modality::Image, 0).norm() > 5.0);

    // The same command finds everything done and touches nothing.
    let part = folder.join("image_emb/image_emb_0000.npy");
    let before = std::fs::metadata(&part).unwrap().modified().unwrap();
    desk.run(&embed).ok();
    assert_eq!(std::fs::metadata(&part).unwrap().modified().unwrap(), before);
}

#[test]
fn a_stale_cache_says_what_changed_and_overwrite_replaces_it() {
    let desk = Desk::new();
    dataset(&desk);
    let embed = ["embed", "--dataset", "data", "--out", "kept", "--quiet"];
    desk.run(&embed).ok();
    let other = desk.run(&[&embed[..], &["--splits", "train"]].concat());
    assert_eq!(other.code(), 3);
    assert!(other.stderr().contains("--splits all, not train"), "{}", other.stderr());

    let path = desk.path("data/dataset.json");
    let mut content: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    content["images"].as_array_mut().unwrap().pop();
    let gone = content["images"][4]["filename"].as_str().unwrap().to_owned();
    std::fs::remove_file(desk.path("data/images").join(&gone)).unwrap();
    std::fs::write(&path, content.to_string()).unwrap();
    let changed = desk.run(&embed);
    assert_eq!(changed.code(), 3);
    let message = changed.stderr();
    assert!(message.contains("dataset") && message.contains("changed"), "{message}");
    assert!(message.contains("--overwrite"), "{message}");

    let again = desk.run(&[&embed[..], &["--overwrite", "--json"]].concat()).ok().json();
    assert_eq!(again["cache"]["images"], 33);
    let skipped = again["cache"]["skipped"].as_array().unwrap();
    assert!(skipped.len() == 1 && skipped[0]["reason"].as_str().unwrap().contains(&gone));

    // Another encoder is noticed by its files.
    let manifest = desk.path("kept/cache.json");
    let text = std::fs::read_to_string(&manifest).unwrap();
    let mut value: Value = serde_json::from_str(&text).unwrap();
    value["encoder"]["hash"] = json!("0000");
    std::fs::write(&manifest, value.to_string()).unwrap();
    let encoder = desk.run(&embed);
    assert!(encoder.stderr().contains("the encoder changed"), "{}", encoder.stderr());
}

#[test]
fn copies_and_features_are_cached_when_asked_for() {
    let desk = Desk::new();
    dataset(&desk);
    let embed = ["embed", "--dataset", "data", "--out", "c", "--splits", "test"];
    desk.run(&[&embed[..], &["--augment", "4", "--pooled"]].concat()).ok();
    let store = open(&desk.path("c"));
    let augmented = store.augmented.as_ref().unwrap();
    assert_eq!((augmented.passes, augmented.images.len()), (4, 5));
    assert!(augmented.images.iter().all(|&variance| variance > 0.0));
    assert_eq!(store.pooled.as_ref().unwrap().texts.len(), store.texts.len());
    EmbeddedPairs::new(store).unwrap();
}

#[test]
fn wrong_use_is_refused_before_any_work() {
    let desk = Desk::new();
    dataset(&desk);
    for arguments in [
        &["embed"][..],
        &["embed", "--dataset", "data"],
        &["embed", "a text", "--splits", "train"],
        &["embed", "a text", "--dataset", "data", "--out", "c"],
        &["embed", "--dataset", "data", "--out", "c", "--augment", "1"],
    ] {
        assert_eq!(desk.run(arguments).code(), 2, "{arguments:?}");
    }
    let nope = desk.run(&["embed", "--dataset", "data", "--out", "c", "--splits", "dev"]);
    assert_eq!(nope.code(), 3);
    assert!(nope.stderr().contains("\"dev\"") && nope.stderr().contains("train (20)"));
    let into = desk.run(&["embed", "--dataset", "data", "--out", "data"]);
    assert_eq!(into.code(), 3);
    assert!(into.stderr().contains("will not write into it"), "{}", into.stderr());
    assert_eq!(desk.entries(), ["data"]);
}
