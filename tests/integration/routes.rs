//! The ways from a text to image space: the diffusion prior, and the comparison of all.

use serde_json::Value;

use crate::support::{Desk, csv, short, source};

#[path = "../../src/decoder/prior/testing.rs"]
mod testing;

/// A desk with a prior that has learnt nothing, for the demo's encoder and decoder.
fn desk_with_prior() -> Desk {
    let desk = Desk::new();
    testing::write_random_prior(&desk.path("prior"), &source("assets/demo/clip"));
    desk
}

#[test]
fn samples_of_a_prior_are_decoded_called_empirical_and_replayed() {
    let desk = desk_with_prior();
    let by_prior = ["--prior", "prior", "--prior-steps", "3", "--prior-guidance", "2"];
    let arguments = [&["sample", "a slice of cake", "--out", "cake"][..], &by_prior].concat();
    let text = desk.run(&short(&arguments)).ok().stdout();
    for part in ["by diffusion prior", "empirical: estimated from 100 samples", "not estimated"] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    let recipe = std::fs::read_to_string(desk.path("cake/recipe.json")).unwrap();
    let recipe: Value = serde_json::from_str(&recipe).unwrap();
    assert!(recipe["models"]["adapter"].is_null());
    assert_eq!(recipe["models"]["bridge"], "prior");
    assert_eq!(recipe["models"]["bridge_model"]["hash"].as_str().unwrap().len(), 64);
    assert_eq!(recipe["sampling"]["prior"]["steps"], 3);
    for row in &csv(&desk.path("cake/uncertainty.csv"))[1..] {
        let numbers: Vec<f64> = row.iter().map(|cell| cell.parse().unwrap()).collect();
        assert!(numbers[4] > 0.0 && numbers[5] == 0.0, "{row:?}");
    }
    let replay = desk.run(&["replay", "cake/sheet.png"]).ok();
    assert!(replay.stdout().starts_with("equal: 3 of 3 tiles"), "{}", replay.stdout());

    // The draws that are decoded do not depend on how many stand behind the statistics.
    let more = ["sample", "a slice of cake", "--out", "more", "--draws", "150", "--samples", "2"];
    let more = [&more[..], &by_prior, &["--steps", "2"]].concat();
    desk.run(&more).ok();
    let tile = |folder: &str| image::open(desk.path(folder).join("tiles/0001.png")).unwrap();
    let (a, b) = (tile("cake").to_rgb8(), tile("more").to_rgb8());
    let worst = a.as_raw().iter().zip(b.as_raw()).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
    assert!(worst <= 1, "{worst}");
}

#[test]
fn a_prior_of_another_space_or_for_another_query_is_refused_with_the_way_out() {
    let desk = desk_with_prior();
    let foreign = source("tests/fixtures/unclip_text/pipeline_runs/pipeline");
    let foreign = foreign.to_str().unwrap();
    let image = std::fs::read_dir(source("assets/demo/gallery/images")).unwrap().next();
    let image = image.unwrap().unwrap().path();
    let image = image.to_str().unwrap();
    for (arguments, expected) in [
        (vec!["cake", "--prior", foreign], "stable-diffusion-2-1-unclip-small"),
        (vec![image, "--prior", "prior"], "--bridge none"),
        (vec!["cake", "--bridge", "prior"], "prior"),
        (vec!["cake", "--prior", "prior", "--bridge", "none"], "--bridge prior"),
        (vec!["cake", "--prior", "prior", "--adapter", "demo/adapters/text"], "no adapter"),
        (vec!["cake", "--prior", "prior", "--temperature", "0.5"], "temperature is 0.5"),
        (vec!["cake", "--prior", "prior", "--draws", "1", "--samples", "1"], "at least 2"),
    ] {
        let run = desk.run(&[&["sample"][..], &arguments, &["--no-search"]].concat());
        assert!([2, 3].contains(&run.code()), "{arguments:?}: {}", run.code());
        assert!(run.stderr().contains(expected), "{arguments:?}: {}", run.stderr());
    }
}

#[test]
fn routes_are_compared_and_written_as_tables_and_a_figure() {
    let desk = Desk::new();
    let files = ["routes.md", "routes.csv", "routes.json", "routes.svg"];
    let mut arguments = vec!["study", "routes", "--items", "3", "--samples", "2", "--steps", "2"];
    arguments.extend(["--routes", "cross-modal,prior,none", "--json"]);
    files.iter().for_each(|file| arguments.extend(["--out", file]));
    let json = desk.run(&arguments).ok().json();
    let comparison = &json["comparison"];
    assert_eq!((&comparison["items"], &comparison["samples"]), (&3.into(), &2.into()));
    let routes = comparison["routes"].as_array().unwrap();
    let names: Vec<&Value> = routes.iter().map(|route| &route["route"]).collect();
    assert_eq!(names, ["cross-modal", "none"]);
    for route in routes {
        let similarity = &route["similarity"];
        let number = |key: &str| similarity[key].as_f64().unwrap();
        assert!(number("low") <= number("value") && number("value") <= number("high"));
        assert!(route["rank"]["value"].as_f64().unwrap() >= 1.0);
        assert!(route["diversity"]["value"].as_f64().unwrap() > 0.0);
    }
    // The demo has no prior; it says so.
    assert_eq!(comparison["left_out"][0]["route"], "prior");
    assert!(comparison["ceiling"]["diversity"].is_null());

    let table = csv(&desk.path("routes.csv"));
    assert_eq!(table.len(), 2 + 3, "recipe, header, two routes and the image itself");
    let markdown = std::fs::read_to_string(desk.path("routes.md")).unwrap();
    assert!(markdown.contains("| cross-modal adapter | "), "{markdown}");
    let written: Value =
        serde_json::from_str(&std::fs::read_to_string(desk.path("routes.json")).unwrap()).unwrap();
    assert_eq!(written["rows"][2]["route"], "the image itself");
    let svg = std::fs::read_to_string(desk.path("routes.svg")).unwrap();
    assert!(svg.contains("Routes from text to image space"));
}
