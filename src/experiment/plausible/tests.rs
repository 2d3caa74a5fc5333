use super::*;
use crate::evaluation::{Estimate, PlausibleFile};
use crate::experiment::PairStore;
use crate::experiment::pairs::{CaptionLink, ImageFacts};
use crate::experiment::report::{Budget, ProbVlmSettings, Whose};
use crate::gallery::EmbeddingRows;
use std::collections::{BTreeMap, BTreeSet};

const COUNT: usize = 120;

/// Images on a circle, each with a caption at its own place; image i has id 1000 + i, its caption
/// i.
fn test_set(with_ids: impl Fn(usize) -> bool) -> TestSet {
    let place = |i: usize| {
        let angle = i as f32 / COUNT as f32 * 3.0;
        [angle.cos(), angle.sin()]
    };
    let rows = || EmbeddingRows::from_values((0..COUNT).flat_map(place).collect(), 2).unwrap();
    let facts = (0..COUNT).map(|i| ImageFacts {
        id: i.to_string(),
        split: None,
        class: None,
        coco_id: with_ids(i).then_some(1000 + i as u64),
    });
    let captions = (0..COUNT as u32).map(|i| CaptionLink {
        text: i,
        image: i,
        level: None,
        id: with_ids(i as usize).then_some(i.into()),
    });
    let store = PairStore::new("circle", rows(), rows(), facts.collect(), captions.collect());
    TestSet { name: "circle".to_owned(), pairs: EmbeddedPairs::new(store).unwrap() }
}

fn file(image_to_text: &[(u64, Vec<u64>)]) -> PlausibleFile {
    let matches: BTreeMap<u64, BTreeSet<u64>> =
        image_to_text.iter().map(|(id, of)| (*id, of.iter().copied().collect())).collect();
    PlausibleFile {
        name: "eccv".to_owned(),
        path: "eccv_image_to_caption.json".into(),
        image_to_text: Some(PlausibleTruth::new(matches).unwrap()),
        text_to_image: None,
    }
}

fn settings() -> Settings {
    Settings {
        methods: Vec::new(),
        seeds: vec![3],
        whose: Whose::Query,
        levels: vec![5],
        bootstrap: 100,
        permutations: 1,
        budget: Budget::default(),
        probvlm: ProbVlmSettings::default(),
    }
}

fn scores(file: PlausibleFile) -> PlausibleMatches {
    let tests = [test_set(|_| true)];
    let found = PlausibleTests::new(&[file], &tests).unwrap();
    let run = |direction| Retrieval::run(&tests[0].pairs, direction, 10.0).unwrap();
    let other = found.score(0, &tests[0], &run(Direction::TextToImage), &settings()).unwrap();
    assert_eq!(other, []);
    let mut scores = found.score(0, &tests[0], &run(Direction::ImageToText), &settings()).unwrap();
    assert_eq!(scores.len(), 1);
    scores.remove(0)
}

#[test]
fn rankings_reach_as_deep_as_a_query_has_matches() {
    // All captions match the first image but the two nearest: AP@R of places 3 to 118.
    let all: Vec<u64> = (2..COUNT as u64).collect();
    let found = scores(file(&[(1000, all.clone())]));
    assert_eq!((found.queries, found.matches, found.listed), (1, 118, 118));
    assert_eq!(found.recall.map(|r| r.value), [0.0, 1.0, 1.0]);
    assert!((found.r_precision.value - 116.0 / 118.0).abs() < 1e-12);
    let precision: f64 = (3..=118).map(|k| (k - 2) as f64 / k as f64).sum();
    assert!((found.map_at_r.value - precision / 118.0).abs() < 1e-12);
}

#[test]
fn captions_of_one_image_are_drawn_together_and_intervals_hold_the_value() {
    let near = |i: u64| (1000 + i, vec![i, i + 1]);
    let far = |i: u64| (1000 + i, vec![(i + 60) % 120]);
    let list: Vec<_> = (0..40).map(near).chain((40..80).map(far)).collect();
    let found = scores(file(&list));
    assert_eq!((found.judged, found.queries), (80, 80));
    assert_eq!(found.recall[0].value, 0.5);
    let Estimate { value, low, high } = found.map_at_r;
    assert!(low < value && value < high && high - low < 0.3, "{found:?}");
}

#[test]
fn a_test_set_without_ids_is_left_out_with_a_note_beside_one_that_has_them() {
    let tests = [test_set(|i| i != 7), test_set(|_| true)];
    let files = [file(&[(1000, vec![0, 5000]), (9000, vec![1])])];
    let found = PlausibleTests::new(&files, &tests).unwrap();
    let notes = found.notes.join("\n");
    assert!(notes.contains("119 of 120 images have an id"), "{notes}");
    assert!(
        notes.contains("of the 2 queries that eccv judges 1") && notes.contains("1 of their 2")
    );
    let retrieval = Retrieval::run(&tests[0].pairs, Direction::ImageToText, 10.0).unwrap();
    assert_eq!(found.score(0, &tests[0], &retrieval, &settings()).unwrap(), []);
    assert_eq!(found.score(1, &tests[1], &retrieval, &settings()).unwrap().len(), 1);
    let Err(alone) = PlausibleTests::new(&files, &tests[..1]) else { panic!("no ids") };
    assert!(alone.to_string().contains("dataset_coco.json"), "{alone}");
    let foreign = [file(&[(1000, vec![5000])])];
    let Err(error) = PlausibleTests::new(&foreign, &tests) else { panic!("no match") };
    assert!(error.to_string().contains("eccv_image_to_caption.json"), "{error}");
    let none = PlausibleTests::new(&[], &tests[..1]).unwrap();
    assert_eq!(none.score(0, &tests[0], &retrieval, &settings()).unwrap(), []);
}
