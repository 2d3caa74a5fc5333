//! `haze evaluate --plausible`, as a process: ECCV Caption's and CxC's files about a data set in
//! Karpathy's layout.

use std::collections::HashMap;

use haze::encoder::Modality;
use haze::experiment::{EmbeddedPairs, cache};
use serde_json::Value;

use crate::support::{Desk, csv, source};

/// Embeds the images that are on disk: of the test split 4 and 6.
fn embed(desk: &Desk) {
    let dataset = source("tests/fixtures/datasets/karpathy").display().to_string();
    desk.run(&["embed", "--dataset", &dataset, "--out", "kept", "--quiet"]).ok();
}

fn files(desk: &Desk, names: &[&str]) -> Vec<String> {
    for name in names {
        let from = source("tests/fixtures/datasets/plausible").join(name);
        std::fs::copy(from, desk.path(name)).unwrap();
    }
    names.iter().map(|&name| name.to_owned()).collect()
}

fn evaluate(files: &[String]) -> Vec<String> {
    let command = "evaluate --train kept:train,restval,val --val kept:val --test kept:test --methods \
                   cosine-distance --bootstrap 20 --permutations 20 --json --plausible";
    command.split(' ').map(str::to_owned).chain(files.iter().cloned()).collect()
}

/// R@1, R-precision and AP@R of one query by the cosines of all gallery items.
fn by_hand(pairs: &EmbeddedPairs, from: Modality, query: u64, matches: &[u64]) -> [f64; 3] {
    let to = match from {
        Modality::Image => Modality::Text,
        Modality::Text => Modality::Image,
    };
    let ids = |modality| -> Vec<u64> {
        (0..pairs.count(modality)).map(|i| pairs.coco_id(modality, i).unwrap()).collect()
    };
    let at = ids(from).iter().position(|id| *id == query).unwrap();
    let row = pairs.row(from, at);
    let cosine = |item: usize| -> f64 {
        let other = pairs.row(to, item);
        row.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
    };
    let gallery = ids(to);
    let mut order: Vec<usize> = (0..gallery.len()).collect();
    order.sort_by(|&a, &b| cosine(b).total_cmp(&cosine(a)));
    let right: Vec<bool> =
        order[..matches.len()].iter().map(|&item| matches.contains(&gallery[item])).collect();
    let count = matches.len() as f64;
    let precision = |k: usize| right[..=k].iter().filter(|&&r| r).count() as f64 / (k + 1) as f64;
    let sum: f64 = (0..right.len()).filter(|&k| right[k]).map(precision).sum();
    let all = right.iter().filter(|&&r| r).count() as f64;
    [f64::from(u8::from(right[0])), all / count, sum / count]
}

#[test]
fn the_published_files_score_retrieval_both_ways_and_what_they_miss_is_counted() {
    let desk = Desk::new();
    embed(&desk);
    let names = ["eccv_image_to_caption.json", "eccv_caption_to_image.json", "sits_test.csv"];
    let mut arguments = evaluate(&files(&desk, &names));
    arguments.extend(["--out", "report"].map(str::to_owned));
    let report = desk.run(&arguments).ok().json()["report"].clone();

    let store = cache::open(&desk.path("kept"), &mut Vec::new()).unwrap();
    let pairs = EmbeddedPairs::unit(store).unwrap().with_splits(&["test"]).unwrap();
    // Without image 5, caption 51 and what is nowhere.
    let own: Vec<u64> = (30..37).filter(|&caption| caption != 32).collect();
    let images = |at: u64, more: &[u64]| (at, more.to_vec());
    let mut rated: Vec<(u64, Vec<u64>)> = own.iter().map(|&c| images(c, &[4])).collect();
    rated[0] = images(30, &[4, 6]);
    rated.extend([50, 52, 53, 54].map(|c| images(c, &[6])));
    let expected = [
        // Direction, truth, queries of the file, and matches listed for those in the test set.
        (0, "eccv", 4, 9, vec![images(4, &[35, 30, 52]), images(6, &[50, 52, 53, 54, 33])]),
        (1, "eccv", 4, 5, vec![images(31, &[4]), images(50, &[6, 4])]),
        (0, "cxc", 2, 13, vec![(4, own.clone()), images(6, &[50, 52, 53, 54, 30])]),
        (1, "cxc", 12, 11, rated),
    ];
    let mut listed_in_tables = HashMap::new();
    for (direction, truth, judged, listed, matches) in expected {
        let found = report["tests"][0]["directions"][direction]["plausible"].as_array().unwrap();
        assert_eq!(found.len(), 2);
        let found = found.iter().find(|found| found["truth"] == truth).unwrap();
        let query = [Modality::Image, Modality::Text][direction];
        let scores: Vec<[f64; 3]> =
            matches.iter().map(|(id, of)| by_hand(&pairs, query, *id, of)).collect();
        let mean = |i: usize| scores.iter().map(|s| s[i]).sum::<f64>() / scores.len() as f64;
        let value = |found: &Value| found["value"].as_f64().unwrap();
        let what = format!("{truth}, {direction}: {found}");
        assert_eq!(found["queries"], matches.len(), "{what}");
        let used: usize = matches.iter().map(|(_, of)| of.len()).sum();
        assert_eq!(found["matches"], used, "{what}");
        assert_eq!(
            (&found["judged"], &found["listed"]),
            (&judged.into(), &listed.into()),
            "{what}"
        );
        assert!((value(&found["recall"][0]) - mean(0)).abs() < 1e-12, "{what} {scores:?}");
        assert!((value(&found["r_precision"]) - mean(1)).abs() < 1e-12, "{what} {scores:?}");
        assert!((value(&found["map_at_r"]) - mean(2)).abs() < 1e-12, "{what} {scores:?}");
        assert!(value(&found["recall"][2]) >= value(&found["recall"][1]));
        assert!(found["map_at_r"]["low"].as_f64() <= found["map_at_r"]["high"].as_f64());
        listed_in_tables.insert((["i2t", "t2i"][direction], truth), mean(2));
    }
    let notes = report["notes"].to_string();
    assert!(notes.contains("of the 4 queries that eccv judges 2"), "{notes}");

    let rows = csv(&desk.path("report/plausible.csv"));
    let column = |name: &str| rows[0].iter().position(|title| title == name).unwrap();
    assert_eq!(rows.len(), 5, "{rows:?}");
    for row in &rows[1..] {
        let key = (row[column("direction")].as_str(), row[column("truth")].as_str());
        let found: f64 = row[column("map_at_r")].parse().unwrap();
        assert!((found - listed_in_tables[&key]).abs() < 1e-6, "{row:?}");
    }
    let text = std::fs::read_to_string(desk.path("report/report.md")).unwrap();
    assert!(text.contains("plausible matches") && text.contains("mAP@R"), "{text}");
    let shown: Vec<String> = arguments[..arguments.len() - 2].to_vec();
    let shown: Vec<String> = shown.into_iter().filter(|argument| argument != "--json").collect();
    let printed = desk.run(&shown).ok().stdout();
    assert!(printed.contains("image to text, eccv") && printed.contains("2 of 4"), "{printed}");
}

#[test]
fn files_and_test_sets_that_do_not_belong_together_are_told_apart() {
    let desk = Desk::new();
    embed(&desk);
    let names = files(&desk, &["eccv_image_to_caption.json"]);
    let refused = |arguments: &[String], words: &[&str]| {
        let run = desk.run(arguments);
        assert_eq!(run.code(), 3, "{}", run.stderr());
        let message = run.stderr();
        assert!(words.iter().all(|word| message.contains(word)), "{message}");
    };
    // The demo is not from COCO.
    let demo = ["evaluate", "--methods", "random", "--plausible", &names[0]];
    refused(&demo.map(str::to_owned), &["0 of", "images have an id of COCO", "dataset_coco.json"]);
    let foreign = "foreign_caption_to_image.json";
    std::fs::write(desk.path(foreign), r#"{"31": [777], "12345": [4]}"#).unwrap();
    let both = [names[0].clone(), foreign.to_owned()];
    refused(&evaluate(&both), &[foreign, "2 texts", "none is in coco test with a match"]);
    std::fs::rename(desk.path(&names[0]), desk.path("eccv.json")).unwrap();
    refused(&evaluate(&["eccv.json".to_owned()]), &["eccv.json", "*_image_to_caption.json"]);
    refused(&evaluate(&["gone.csv".to_owned()]), &["gone.csv"]);
}
