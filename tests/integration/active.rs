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
