//! The main job: query to distribution to samples to images, retrieval and files.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Desk, csv, short, source};

#[test]
fn a_text_query_writes_everything_a_researcher_needs() {
    let desk = Desk::new();
    let run = desk.run(&short(&["sample", "a slice of cake", "--out", "cake"])).ok();
    let text = run.stdout();
    for part in ["aleatoric", "epistemic", "Retrieval", "frozen rank", "haze replay"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let files: BTreeSet<String> = std::fs::read_dir(desk.path("cake"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let expected = [
        "recipe.json",
        "retrieval.jsonl",
        "samples.csv",
        "samples.npz",
        "sheet.png",
        "tiles",
        "uncertainty.csv",
    ];
    assert_eq!(files, expected.map(str::to_owned).into());
    assert_eq!(desk.entries(), ["cake"], "nothing else is left behind");

    let uncertainty = csv(&desk.path("cake/uncertainty.csv"));
    let dims = uncertainty.len() - 1;
    assert_eq!(uncertainty[0].join(","), "dimension,mean,alpha,beta,aleatoric,epistemic,total");
    for row in &uncertainty[1..] {
        let numbers: Vec<f64> = row.iter().map(|cell| cell.parse().unwrap()).collect();
        assert!(numbers[4] > 0.0 && numbers[5] >= 0.0, "{row:?}");
        assert!((numbers[4] + numbers[5] - numbers[6]).abs() <= 1e-9 * numbers[6], "{row:?}");
    }

    let mut npz = npyz::npz::NpzArchive::open(desk.path("cake/samples.npz")).unwrap();
    let samples = npz.by_name("samples").unwrap().unwrap();
    assert_eq!(samples.shape(), [2, dims as u64]);

    let lines = std::fs::read_to_string(desk.path("cake/retrieval.jsonl")).unwrap();
    let items: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(items.len() >= 10);
    let ranks: Vec<u64> = items.iter().map(|item| item["rank"].as_u64().unwrap()).collect();
    assert!(ranks.is_sorted(), "{ranks:?}");
    assert_eq!(ranks[..3], [1, 2, 3]);
    for item in &items {
        let number = |key: &str| item[key].as_f64().unwrap();
        assert!(number("p_top_1") <= number("p_top_k"));
        assert!(number("rank_low") <= number("rank_median"));
        assert!(number("rank_median") <= number("rank_high"));
    }
    let tiles = std::fs::read_dir(desk.path("cake/tiles")).unwrap().count();
    assert_eq!(tiles, 3, "two samples and the mean");
}

#[test]
fn a_sheet_replays_to_the_same_pixels_and_a_changed_recipe_does_not() {
    let desk = Desk::new();
    desk.run(&short(&["sample", "a red apple", "--out", "apple", "--seed", "7"])).ok();
    let replay = desk.run(&["replay", "apple/sheet.png"]).ok();
    assert!(replay.stdout().starts_with("equal: 3 of 3 tiles"), "{}", replay.stdout());

    // The same sheet with another seed inside.
    let path = desk.path("apple/sheet.png");
    let (pixels, mut metadata) = haze::export::metadata::read_sheet(&path).unwrap();
    metadata["recipe"]["sampling"]["seed"] = 8.into();
    haze::export::metadata::write_sheet(&path, &pixels, &metadata).unwrap();
    let replay = desk.run(&["replay", "apple/sheet.png", "--json"]);
    assert_eq!(replay.code(), 6, "{}{}", replay.stdout(), replay.stderr());
    let report = &replay.json()["replay"];
    assert_eq!(report["equal"], false);
    assert_eq!(report["tiles_equal"], 0);
    assert!(report["largest_pixel_difference"].as_u64().unwrap() > 0);
}

#[test]
fn an_image_query_replays_from_its_folder_after_the_original_is_gone() {
    let desk = Desk::new();
    let images = source("assets/demo/gallery/images");
    let image = std::fs::read_dir(images).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(image, desk.path("query.png")).unwrap();
    let run = desk.run(&short(&["sample", "query.png", "--out", "result", "--json"])).ok();
    assert!(run.json()["query"]["image"]["pixels"].as_str().unwrap().len() == 64);
    std::fs::remove_file(desk.path("query.png")).unwrap();
    desk.run(&["replay", "result/sheet.png"]).ok();

    // Another picture in its place is noticed.
    std::fs::copy(desk.path("result/tiles/mean.png"), desk.path("query.png")).unwrap();
    let replay = desk.run(&["replay", "result/sheet.png"]);
    assert_eq!(replay.code(), 3);
    assert!(replay.stderr().contains("not the one the recipe was made with"));
}

#[test]
fn tiles_do_not_depend_on_the_batch_size_or_on_the_number_of_samples() {
    let desk = Desk::new();
    let common = ["sample", "a blue fish", "--steps", "2", "--draws", "50", "--json"];
    let run = |more: &[&str]| desk.run(&[&common, more].concat()).ok();
    run(&["--samples", "3", "--batch-size", "1", "--out", "one"]);
    run(&["--samples", "3", "--batch-size", "4", "--out", "four"]);
    run(&["--samples", "2", "--batch-size", "4", "--out", "fewer"]);
    let pixels = |path: &str| image::open(desk.path(path)).unwrap().to_rgb8().into_raw();
    for tile in ["mean.png", "0000.png", "0001.png"] {
        let reference = pixels(&format!("one/tiles/{tile}"));
        for other in ["four", "fewer"] {
            let other = pixels(&format!("{other}/tiles/{tile}"));
            let worst = reference.iter().zip(&other).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            // Matrix products of other sizes round differently in the last bits.
            assert!(worst <= 1, "{tile} differs by {worst}");
        }
    }
}

#[test]
fn a_recipe_goes_in_as_it_came_out_and_options_change_it() {
    let desk = Desk::new();
    desk.run(&short(&["sample", "food", "--out", "first", "--seed", "3"])).ok();
    let recipe = "first/recipe.json";
    desk.run(&["sample", "--recipe", recipe, "--out", "again"]).ok();
    let read = |path: &str| std::fs::read(desk.path(path)).unwrap();
    assert_eq!(read("first/recipe.json"), read("again/recipe.json"));
    assert_eq!(read("first/uncertainty.csv"), read("again/uncertainty.csv"));
    assert_eq!(read("first/tiles/0001.png"), read("again/tiles/0001.png"));

    let dry = desk.run(&[
        "sample",
        "--recipe",
        recipe,
        "--samples",
        "5",
        "--no-search",
        "--dry-run",
        "--json",
    ]);
    let dry = dry.ok().json();
    assert_eq!(dry["recipe"]["sampling"]["samples"], 5);
    assert_eq!(dry["recipe"]["sampling"]["seed"], 3);
    assert_eq!(dry["recipe"]["models"]["gallery"], Value::Null);
    assert_eq!(dry["plan"]["images"], 6);
    assert_eq!(dry["plan"]["precision"], "f32");
    assert_eq!(dry["plan"]["vae_tile"], Value::Null);
    assert_eq!(desk.entries(), ["again", "first"], "a dry run writes nothing");
}

#[test]
fn every_bridge_decodes_and_they_differ() {
    let desk = Desk::new();
    let mut tiles = BTreeSet::new();
    for bridge in ["cross-modal", "linear-map", "mean-shift", "none"] {
        desk.run(&short(&["sample", "a green car", "--bridge", bridge, "--out", bridge])).ok();
        tiles.insert(std::fs::read(desk.path(bridge).join("tiles/mean.png")).unwrap());
    }
    assert_eq!(tiles.len(), 4);
}

#[test]
fn sampling_without_decoding_or_searching_still_gives_the_uncertainty() {
    let desk = Desk::new();
    let run = desk.run(&["sample", "food", "--no-decode", "--no-search", "--out", "x", "--json"]);
    let json = run.ok().json();
    assert!(json["uncertainty"]["aleatoric"].as_f64().unwrap() > 0.0);
    assert!(json["uncertainty"]["epistemic"].as_f64().unwrap() > 0.0);
    assert_eq!(json["retrieval"], Value::Null);
    assert!(desk.path("x/sheet.png").is_file());
    assert!(!desk.path("x/tiles").exists());
    assert!(!desk.path("x/retrieval.jsonl").exists());
}

#[test]
fn an_index_is_searched_like_the_images_it_was_made_from() {
    let desk = Desk::new();
    let gallery = source("assets/demo/gallery");
    let gallery = gallery.to_str().unwrap();
    desk.run(&["index", gallery, "--out", "index"]).ok();
    let search = |gallery: &str| {
        let run = desk.run(&["search", "a red apple", "--gallery", gallery, "--json"]).ok();
        let items = run.json()["items"].as_array().unwrap().clone();
        items.iter().map(|item| item["image"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let found = search("index");
    assert_eq!(found, search(gallery));
    assert_eq!(found.len(), 10);
}

#[test]
fn embeddings_written_by_embed_are_decoded_by_decode() {
    let desk = Desk::new();
    let image = desk.path("tile.png");
    image::RgbImage::from_pixel(40, 30, image::Rgb([200, 40, 40])).save(&image).unwrap();
    desk.run(&["embed", "tile.png", "--out", "e.npz"]).ok();
    let json = desk.run(&["embed", "tile.png", "a text", "--json"]).ok().json();
    assert_eq!(json["embeddings"][0]["modality"], "image");
    assert_eq!(json["embeddings"][1]["modality"], "text");
    desk.run(&["decode", "e.npz", "--out", "from-npz", "--steps", "2"]).ok();
    desk.run(&["decode", "tile.png", "--out", "from-image", "--steps", "2"]).ok();
    let read = |folder: &str| std::fs::read(desk.path(folder).join("0000.png")).unwrap();
    assert_eq!(read("from-npz"), read("from-image"));
}

#[test]
fn doctor_and_inspect_describe_the_bundle() {
    let desk = Desk::new();
    let doctor = desk.run(&["doctor", "--json"]).ok().json();
    assert_eq!(doctor["problems"], 0);
    let inspect = desk.run(&["models", "inspect", "demo/unclip", "--json"]).ok().json();
    let classes: Vec<&str> = inspect["parts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|part| part["class"].as_str())
        .collect();
    assert!(classes.contains(&"UNet2DConditionModel"), "{classes:?}");
}

#[test]
fn studies_print_their_numbers_and_write_figures_and_tables() {
    let desk = Desk::new();
    let walk = ["study", "walk", "food", "--dimensions", "3,17", "--reach", "1", "--steps", "2"];
    let finished = desk.run(&[&walk[..], &["--json", "-o", "walk.png"]].concat()).ok();
    let tiles = finished.json()["tiles"].as_array().unwrap().clone();
    assert_eq!(tiles.len(), 3);
    assert!((tiles[1]["cosine"].as_f64().unwrap() - 1.0).abs() < 1e-6, "the middle is the mean");
    assert_ne!(tiles[0]["hash"], tiles[2]["hash"]);
    assert!(image::open(desk.path("walk.png")).is_ok());

    let noises = ["study", "noises", "food", "--embeddings", "2", "--noises", "2", "--steps", "2"];
    let finished = desk.run(&[&noises[..], &["--json"]].concat()).ok();
    let share = |name: &str| finished.json()[name]["share"].as_f64().unwrap();
    let sum = share("embedding") + share("noise") + share("interaction");
    assert!((sum - 1.0).abs() < 1e-9, "{sum}");

    let ladder =
        ["study", "ladder", "food", "a drawing of food", "a glossy drawing of a red apple"];
    let finished =
        desk.run(&[&ladder[..], &["--json", "-o", "l.svg", "-o", "l.csv"]].concat()).ok();
    assert_eq!(finished.json()["steps"].as_array().unwrap().len(), 3);
    assert!(desk.path("l.svg").is_file() && desk.path("l.csv").is_file());

    let finished = desk.run(&["study", "evaluate", "--json"]).ok();
    let recall = finished.json()["recall"][2].as_f64().unwrap();
    assert!((0.2..0.6).contains(&recall), "recall@10 {recall}");
    assert_eq!(desk.run(&["study", "evaluate", "-o", "x.doc"]).code(), 2);
}
