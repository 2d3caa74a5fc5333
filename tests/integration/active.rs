//! `haze annotate`, `haze active` and `haze select`, as processes.

use crate::support::Desk;

const ASK: [&str; 8] =
    ["annotate", "--cache", "demo/gallery", "--strategy", "k-center", "-n", "5", "--out"];

#[test]
fn answers_come_back_and_their_images_are_not_asked_for_again() {
    let desk = Desk::new();
    let labels = desk.path("labels.jsonl").display().to_string();
    let ask = |out: &str| desk.run(&[&ASK[..], &[out, "--labels", &labels]].concat());
    ask("first.csv").ok();
    let read = |name: &str| -> Vec<csv::StringRecord> {
        let mut reader = csv::Reader::from_path(desk.path(name)).unwrap();
        reader.records().map(Result::unwrap).collect()
    };
    let mut reader = csv::Reader::from_path(desk.path("first.csv")).unwrap();
    let headers = reader.headers().unwrap().clone();
    let column = |name: &str| headers.iter().position(|h| h == name).unwrap();
    let (id, answer) = (column("id"), column("answer"));
    let asked = read("first.csv");
    assert_eq!(asked.len(), 5);
    assert!(asked.iter().all(|row| row[answer].is_empty()));

    let mut filled = csv::Writer::from_path(desk.path("filled.csv")).unwrap();
    filled.write_record(&headers).unwrap();
    for row in &asked {
        let mut cells: Vec<String> = row.iter().map(str::to_owned).collect();
        cells[answer] = "a drawing".to_owned();
        filled.write_record(&cells).unwrap();
    }
    filled.flush().unwrap();
    drop(filled);
    let take = |file: &str| {
        desk.run(&["annotate", "--cache", "demo/gallery", "--labels", &labels, "--answers", file])
    };
    take("filled.csv").ok();
    let kept = std::fs::read_to_string(&labels).unwrap();
    assert_eq!(kept.lines().count(), 5, "{kept}");
    ask("second.csv").ok();
    let again = read("second.csv");
    assert!(again.iter().all(|row| asked.iter().all(|before| before[id] != row[id])));

    std::fs::write(desk.path("bad.csv"), "id,answer\nnowhere.png,a thing\n").unwrap();
    let bad = take("bad.csv");
    assert_eq!(bad.code(), 3, "{}", bad.stderr());
    assert!(bad.stderr().contains("nowhere.png"), "{}", bad.stderr());
    assert_eq!(std::fs::read_to_string(&labels).unwrap(), kept, "nothing is lost");
}

#[test]
fn models_are_ranked_by_their_uncertainty_beside_their_recall() {
    let desk = Desk::new();
    let run = desk.run(&["select", "a=demo/gallery", "b=demo/pairs:val", "--json"]);
    // Other items than the first candidate's: refused with the reason.
    assert_eq!(run.code(), 2, "{}", run.stderr());
    assert!(run.stderr().contains("same items"), "{}", run.stderr());
    let run = desk.run(&["select", "a=demo/gallery", "b=demo/gallery", "--json"]);
    run.ok();
}

#[test]
fn adapters_between_two_are_ranked_like_them() {
    let desk = Desk::new();
    desk.run(&["train", "image", "--out", "new", "--epochs", "1", "--quiet"]).ok();
    let select = |more: &[&str]| {
        let candidates = ["select", "old=demo/gallery", "new=demo/gallery", "--json"];
        let adapters = ["--adapter", "old=demo/adapters/image", "--adapter", "new=new"];
        desk.run(&[&candidates[..], &adapters, &["--passes", "3"], more].concat())
    };
    let report = select(&["--interpolate", "old", "new", "--steps", "3"]).ok().json();
    let report = &report["report"];
    let candidates = report["candidates"].as_array().unwrap();
    let names: Vec<&str> = candidates.iter().map(|c| c["name"].as_str().unwrap()).collect();
    let middle = ["0.750 old + 0.250 new", "0.500 old + 0.500 new", "0.250 old + 0.750 new"];
    assert_eq!(names, [&["old", "new"][..], &middle].concat());
    for signal in ["total", "aleatoric", "epistemic"] {
        let mut values: Vec<f64> =
            candidates.iter().map(|c| c["signals"][signal].as_f64().unwrap()).collect();
        assert!(values.iter().all(|value| value.is_finite() && *value > 0.0), "{values:?}");
        values.sort_by(f64::total_cmp);
        values.dedup();
        assert_eq!(values.len(), 5, "{signal}: every adapter is another one");
        let ranking = report["rankings"].as_array().unwrap();
        let ranking = ranking.iter().find(|r| r["signal"] == signal).unwrap();
        assert_eq!(ranking["order"].as_array().unwrap().len(), 5);
    }
    // The encoder is the same, and with it what is found.
    assert!(candidates.iter().all(|c| c["recall"] == candidates[0]["recall"]));

    let mean = select(&["--mean-adapter"]).ok().json();
    let total = |i: usize| mean["report"]["candidates"][i]["signals"]["total"].as_f64().unwrap();
    assert_eq!(total(0), total(1), "one adapter for all");
    assert_eq!(total(0), candidates[3]["signals"]["total"].as_f64().unwrap());

    for (more, word) in [
        (&["--interpolate", "old", "other"][..], "other"),
        (&["--interpolate", "old", "old"], "twice"),
        (&["--steps", "3"], "--interpolate"),
        (&["--interpolate", "old", "new", "--mean-adapter"], "--mean-adapter"),
    ] {
        let run = select(more);
        assert_eq!(run.code(), 2, "{}", run.stderr());
        assert!(run.stderr().contains(word), "{}", run.stderr());
    }
    let apart = ["a=demo/gallery", "b=demo/pairs:val", "--interpolate", "a", "b"];
    let adapters = ["--adapter", "a=new", "--adapter", "b=new"];
    let run = desk.run(&[&["select"][..], &apart, &adapters].concat());
    assert!(run.code() == 2 && run.stderr().contains("the same PATH"), "{}", run.stderr());
    let bare = ["select", "a=demo/gallery", "b=demo/gallery", "--interpolate", "a", "b"];
    let run = desk.run(&bare);
    assert!(run.code() == 2 && run.stderr().contains("--adapter a=DIR"), "{}", run.stderr());
}

#[test]
fn learning_curves_are_drawn_with_their_numbers_beside_them() {
    let desk = Desk::new();
    let run = desk.run(&[
        "active",
        "--strategies",
        "random,k-center",
        "--seeds",
        "2",
        "--budgets",
        "60,120",
        "--epochs",
        "1",
        "--head-epochs",
        "1",
        "--passes",
        "2",
        "--out",
        "report",
        "--json",
    ]);
    let found = run.ok().json();
    for measure in ["r1-i2t", "r1-t2i", "aurc-i2t", "aurc-t2i"] {
        let path = |ending: &str| desk.path("report").join(format!("curves-{measure}.{ending}"));
        let image = image::open(path("png")).unwrap().to_rgb8();
        assert!(image.width() == 1440 && image.pixels().any(|pixel| pixel.0 != [255; 3]));
        let svg = std::fs::read_to_string(path("svg")).unwrap();
        let (random, other) = ("random: area", "k-center: area");
        assert!(svg.contains(random) && svg.contains(other) && svg.contains("<polygon"), "{svg}");
        let mut reader = csv::Reader::from_path(path("csv")).unwrap();
        let titles = reader.headers().unwrap().clone();
        assert_eq!(
            &titles,
            &["strategy", "measure", "labelled", "seeds", "mean", "low", "high"][..]
        );
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        let cells: Vec<(&str, &str, &str)> =
            rows.iter().map(|row| (&row[0], &row[2], &row[3])).collect();
        let expected = ["random", "k-center"].map(|s| [(s, "60", "2"), (s, "120", "2")]);
        assert_eq!(cells, expected.concat());
        for row in &rows {
            let number = |i: usize| row[i].parse::<f64>().unwrap();
            assert!(number(5) <= number(4) && number(4) <= number(6), "{row:?}");
        }
    }
    // The mean of the raw curves of both seeds.
    let curves = found["report"]["curves"].as_array().unwrap();
    let of_random = curves.iter().filter(|curve| curve["strategy"] == "random");
    let last = of_random.map(|curve| curve["rounds"][1]["image_to_text"][0].as_f64().unwrap());
    let mean = last.sum::<f64>() / 2.0;
    let text = std::fs::read_to_string(desk.path("report/curves-r1-i2t.csv")).unwrap();
    let row: Vec<&str> = text.lines().nth(2).unwrap().split(',').collect();
    assert!((row[4].parse::<f64>().unwrap() - mean).abs() < 1e-6, "{row:?} {mean}");
    let files = found["files"].as_array().unwrap();
    assert!(files.last().unwrap().as_str().unwrap().ends_with("active.json"));
    assert_eq!(files.len(), 4 + 4 * 3);
}
