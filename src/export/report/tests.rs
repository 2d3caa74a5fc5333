use super::*;
use crate::experiment::tests::small_report;

#[test]
fn a_written_report_reads_back_and_its_tables_and_figures_are_there() {
    let report = small_report();
    let folder = tempfile::tempdir().unwrap();
    let files = write_report(report, folder.path()).unwrap();
    assert_eq!(&read_report(&folder.path().join(REPORT_FILE)).unwrap(), report);
    for name in [
        "methods.csv",
        "levels.csv",
        "recall.csv",
        "risk_coverage.csv",
        "reliability.csv",
        "likelihood.csv",
        "training.csv",
        "methods.parquet",
        "differences.png",
        "levels-t2i.svg",
        "risk-coverage-i2t.png",
        "reliability-t2i.png",
        "transforms.png",
        "training.png",
    ] {
        let path = folder.path().join(name);
        assert!(files.contains(&path) && path.metadata().unwrap().len() > 100, "{name}");
    }
    let csv = std::fs::read_to_string(folder.path().join("methods.csv")).unwrap();
    let rows = csv.lines().count() - 1;
    let seeds: usize =
        report.tests[0].directions.iter().flat_map(|d| &d.methods).map(|m| m.seeds.len()).sum();
    assert_eq!(rows, seeds);
    let aurc = report.tests[0].directions[0].methods[0].seeds[0].failure.aurc.value;
    assert!(csv.contains(&aurc.to_string()), "every number in full precision");
}

#[test]
fn the_texts_name_every_method_with_its_interval_and_the_nulls() {
    let report = small_report();
    let text = markdown_text(report);
    {
        for word in
            ["Gaussian", "cosine distance", "random", "R@1", "AURC", "share of random orders"]
        {
            assert!(text.contains(word), "{word}\n{text}");
        }
    }
    let markdown = markdown_text(report);
    assert!(markdown.contains("ECE") && markdown.contains("NLL") && markdown.contains("null 95 %"));
    let paper = paper_tables(report);
    assert!(paper[0].rows.is_empty() && paper[0].note.contains("None"), "{}", paper[0].note);
    let mut other = report.clone();
    for direction in &mut other.tests[0].directions {
        direction.methods[0].method = crate::experiment::Method::ProbVlm;
    }
    assert!(paper_tables(&other)[0].note.contains("Other data"));
    other.tests[0].split.name = "coco test".to_owned();
    let coco = &paper_tables(&other)[0];
    assert_eq!(coco.rows[0][2], "0.93");
    assert!(coco.note.contains("names agree"));
}

#[test]
fn a_report_of_another_version_or_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    std::fs::write(&path, "{}").unwrap();
    assert!(read_report(&path).is_err());
    let mut report = small_report().clone();
    report.schema += 1;
    std::fs::write(&path, serde_json::to_vec(&report).unwrap()).unwrap();
    assert!(read_report(&path).unwrap_err().to_string().contains("version"));
}
