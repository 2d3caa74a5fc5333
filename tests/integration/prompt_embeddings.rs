//! The second decoder route: samples of a text encoder's hidden states, shown by Stable Diffusion.

use crate::support::{Desk, Finished, csv, short, source};

const NOTE: &str = "samples of prompt embeddings, not of the shared space";
const SAMPLES: usize = 2;

fn fixture(name: &str) -> String {
    source("tests/fixtures/sd_prompt").join(name).to_str().unwrap().to_owned()
}

fn sample(desk: &Desk, adapter: &str, more: &[&str]) -> Finished {
    let (decoder, adapter) = (fixture("sd15/pipeline"), fixture(adapter));
    let named = ["sample", "a red cat", "--decoder", &decoder, "--adapter", &adapter];
    desk.run(&short(&[&named, more].concat()))
}

#[test]
fn a_stable_diffusion_folder_and_its_adapter_make_another_experiment_that_says_so() {
    let desk = Desk::new();
    let text = sample(&desk, "adapter/flattened.safetensors", &["--out", "cat"]).ok().stdout();
    assert!(text.contains(NOTE) && text.contains("Retrieval and the comparison"), "{text}");
    assert!(!text.contains("frozen rank"), "{text}");

    let recipe = std::fs::read(desk.path("cat/recipe.json")).unwrap();
    let recipe: serde_json::Value = serde_json::from_slice(&recipe).unwrap();
    assert_eq!(recipe["models"]["bridge"], "prompt-embeddings");
    assert_eq!(recipe["models"]["encoder"], recipe["models"]["decoder"]);
    assert!(recipe["models"]["gallery"].is_null());
    // 77 tokens of 16 numbers and the heading.
    assert_eq!(csv(&desk.path("cat/uncertainty.csv")).len(), 77 * 16 + 1);
    assert!(!desk.path("cat/retrieval.jsonl").exists());
    let tiles = std::fs::read_dir(desk.path("cat/tiles")).unwrap().count();
    assert_eq!(tiles, SAMPLES + 1);

    let replay = desk.run(&["replay", "cat/sheet.png"]).ok().stdout();
    assert!(replay.starts_with("equal: 3 of 3 tiles"), "{replay}");
    // The recipe is a whole description: no option has to be repeated.
    let again = desk.run(&["sample", "--recipe", "cat/recipe.json", "--json", "--out", "again"]);
    let again = again.ok().json();
    assert_eq!(again["note"], NOTE);
    assert_eq!(again["route"], "prompt-embeddings");
    assert!(again["retrieval"].is_null());
    let first = &again["samples"][0];
    assert!(first["decoded_cosine"].is_null() && first["log_prob"].is_number(), "{first}");
    for tile in ["mean.png", "0000.png", "0001.png"] {
        let read = |folder: &str| std::fs::read(desk.path(&format!("{folder}/tiles/{tile}")));
        assert_eq!(read("cat").unwrap(), read("again").unwrap(), "{tile}");
    }
}

#[test]
fn an_adapter_of_single_tokens_works_from_its_pth_file_and_without_decoding() {
    let desk = Desk::new();
    let run = sample(&desk, "adapter/per_token.pth", &["--no-decode", "--json", "--out", "cat"]);
    let json = run.ok().json();
    assert_eq!(json["note"], NOTE);
    assert!(json["uncertainty"]["aleatoric"].as_f64().unwrap() > 0.0);
    assert!(!desk.path("cat/tiles").exists());
    let dry = sample(&desk, "adapter/per_token.pth", &["--dry-run"]).ok().stdout();
    assert!(dry.contains("3 of 32 x 32 pixels"), "{dry}");
}

#[test]
fn what_does_not_fit_the_route_is_refused_with_the_reason() {
    let desk = Desk::new();
    let photo = source("tests/fixtures/unclip_image/input.png");
    let photo = photo.to_str().unwrap();
    let (decoder, other) = (fixture("sd15/pipeline"), fixture("sd21/pipeline"));
    let flattened = fixture("adapter/flattened.safetensors");
    let shared = source("tests/fixtures/probvlm/adapter/model.safetensors");
    let shared = shared.to_str().unwrap();
    for (arguments, expected) in [
        (vec!["--image", photo, "--decoder", &decoder, "--adapter", &flattened], "only a text"),
        (vec!["cat", "--decoder", &decoder], "no adapter for prompt embeddings"),
        (vec!["cat", "--decoder", &decoder, "--adapter", shared], "img_BayesCap"),
        (vec!["cat", "--decoder", &other, "--adapter", &flattened], "20 tokens of 12"),
        (vec!["cat", "--adapter", &flattened], "adapters of prompt embeddings"),
        (vec!["cat", "--bridge", "prompt-embeddings"], "StableDiffusionPipeline"),
        (
            vec![
                "cat",
                "--decoder",
                &decoder,
                "--adapter",
                &flattened,
                "--gallery",
                "demo/gallery",
            ],
            "no gallery can be searched",
        ),
        (
            vec!["cat", "--decoder", &decoder, "--adapter", &flattened, "--encoder", "demo/clip"],
            "its own text encoder",
        ),
        (
            vec!["cat", "--decoder", &decoder, "--adapter", &flattened, "--bridge", "none"],
            "leave --bridge none out",
        ),
        (
            vec!["cat", "--decoder", &decoder, "--adapter", &flattened, "--noise-level", "9"],
            "only image embeddings are noised",
        ),
    ] {
        let run = desk.run(&short(&[&["sample", "--out", "out"], arguments.as_slice()].concat()));
        assert_ne!(run.code(), 0, "{arguments:?}: {}", run.stdout());
        let error = run.stderr();
        assert!(error.contains(expected), "{arguments:?}: {error}");
        assert!(!desk.path("out").exists(), "{arguments:?}");
    }
}

#[test]
fn a_recipe_changes_between_the_routes_by_naming_the_other_decoder() {
    let desk = Desk::new();
    let out = ["sample", "a red cat", "--no-decode", "--json", "--out"];
    desk.run(&short(&[&out[..], &["shared"]].concat())).ok();
    let (decoder, adapter) = (fixture("sd15/pipeline"), fixture("adapter/per_token.safetensors"));
    let base = ["sample", "--no-decode", "--json", "--recipe"];
    let to_prompt = ["shared/recipe.json", "--decoder", &decoder, "--adapter", &adapter];
    let there = desk.run(&[&base[..], &to_prompt, &["--out", "prompt"]].concat()).ok().json();
    assert_eq!(there["note"], NOTE);
    let to_shared = ["prompt/recipe.json", "--decoder", "demo/unclip", "--out", "back"];
    let back = desk.run(&[&base[..], &to_shared].concat()).ok().json();
    assert!(back["note"].is_null());
    assert_eq!(back["route"], "cross-modal");
}
