//! `haze models pull` and `list` against a hub on the loopback, and hub names as model paths.

mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::{Desk, Finished, source};
use server::{COMMIT, Fault, Hub, HubFile, TOKEN, git_sha1, sha256};

/// Bytes of the weights of [`tiny`].
const WEIGHTS: usize = 300_000;

/// A CLIP repository in the usual layout; its weights are no weights.
fn tiny() -> BTreeMap<String, HubFile> {
    let weights: Vec<u8> = (0..WEIGHTS).map(|i| (i * i / 7 % 251) as u8).collect();
    let small = |text: &str| HubFile { content: text.as_bytes().to_vec(), large: false };
    BTreeMap::from([
        (".gitattributes".to_owned(), small("*.safetensors filter=lfs")),
        ("README.md".to_owned(), small("# A model")),
        ("config.json".to_owned(), small(r#"{"model_type":"clip","projection_dim":768}"#)),
        ("model.safetensors".to_owned(), HubFile { content: weights, large: true }),
        ("pytorch_model.bin".to_owned(), HubFile { content: vec![1; 500], large: true }),
        ("tokenizer.json".to_owned(), small("{}")),
    ])
}

/// The demo's encoder as a repository.
fn demo_clip() -> BTreeMap<String, HubFile> {
    let folder = source("assets/demo/clip");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let large = name.ends_with("safetensors");
        (name, HubFile { content: std::fs::read(path).unwrap(), large })
    });
    files.collect()
}

/// The program on this hub, with its cache on the desk and without the user's token.
fn command(desk: &Desk, hub: &Hub, arguments: &[&str]) -> Command {
    let mut command = desk.command(arguments);
    command.env("HF_ENDPOINT", &hub.endpoint).env("NO_PROXY", "127.0.0.1");
    for name in [
        "HF_HUB_OFFLINE",
        "HF_TOKEN",
        "HF_TOKEN_PATH",
        "HTTP_PROXY",
        "http_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        command.env_remove(name);
    }
    command
}

fn run(desk: &Desk, hub: &Hub, arguments: &[&str]) -> Finished {
    Finished::of(command(desk, hub, arguments).output().unwrap())
}

fn run_with_token(desk: &Desk, hub: &Hub, token: &str, arguments: &[&str]) -> Finished {
    Finished::of(command(desk, hub, arguments).env("HF_TOKEN", token).output().unwrap())
}

const PULL: [&str; 4] = ["models", "pull", "acme/model", "--json"];

/// The folder of the repository in the cache of a desk.
fn repo(desk: &Desk) -> PathBuf {
    desk.path("cache/hf/hub/models--acme--model")
}

fn weights_blob(desk: &Desk) -> PathBuf {
    repo(desk).join("blobs").join(sha256(&tiny()["model.safetensors"].content))
}

fn incomplete(desk: &Desk) -> PathBuf {
    weights_blob(desk).with_extension("incomplete")
}

/// Names below a folder.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Ranges that were asked of the content network.
fn ranges(hub: &Hub) -> Vec<Option<String>> {
    let requests = hub.take_requests();
    let asked = requests.iter().filter(|r| r.content_network && r.method == "GET");
    asked.map(|request| request.header("range").map(str::to_owned)).collect()
}

#[test]
fn a_pulled_model_lies_in_the_layout_of_huggingface_hub() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    let pulled = run(&desk, &hub, &PULL).ok().json();
    assert_eq!(pulled["commit"], COMMIT);
    assert_eq!(pulled["licence"]["name"], "openrail++");
    let snapshot = repo(&desk).join("snapshots").join(COMMIT);
    assert_eq!(pulled["folder"], snapshot.to_str().unwrap());
    assert_eq!(names(&snapshot), ["config.json", "model.safetensors", "tokenizer.json"]);
    assert_eq!(std::fs::read_to_string(repo(&desk).join("refs/main")).unwrap(), COMMIT);
    for name in names(&snapshot) {
        let file = &tiny()[&name];
        let etag = if file.large { sha256(&file.content) } else { git_sha1(&file.content) };
        assert_eq!(std::fs::read(snapshot.join(&name)).unwrap(), file.content);
        #[cfg(unix)]
        assert_eq!(
            std::fs::read_link(snapshot.join(&name)).unwrap(),
            Path::new("../../blobs").join(etag)
        );
    }
    assert_eq!(names(&repo(&desk).join("blobs")).len(), 3);
    let skipped: Vec<&str> = pulled["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert_eq!(skipped, [".gitattributes", "README.md", "pytorch_model.bin"]);

    // Once more: nothing is left to download.
    hub.take_requests();
    let again = run(&desk, &hub, &PULL).ok().json();
    assert_eq!(again["download_bytes"], 0);
    assert!(hub.take_requests().iter().all(|request| request.path.starts_with("/api/")));
}

#[test]
fn a_pulled_encoder_is_used_by_its_name_and_pinned_in_the_recipe() {
    let (desk, hub) = (Desk::new(), Hub::new(demo_clip()));
    let embed = |encoder: &str| {
        run(&desk, &hub, &["embed", "a slice of cake", "--encoder", encoder, "--json"])
    };
    let missing = embed("acme/model");
    assert_eq!(missing.code(), 3);
    assert!(missing.stderr().contains("haze models pull acme/model"), "{}", missing.stderr());
    assert_eq!(hub.count(), 0, "a name alone asks nobody");

    run(&desk, &hub, &PULL).ok();
    let asked = hub.count();
    let named = embed("acme/model").ok().stdout();
    assert!(!named.is_empty());
    let arguments = ["sample", "cake", "--encoder", "acme/model", "--no-decode", "--out", "named"];
    run(&desk, &hub, &arguments).ok();
    assert_eq!(hub.count(), asked, "what is cached is not asked for");
    let recipe: Value =
        serde_json::from_slice(&std::fs::read(desk.path("named/recipe.json")).unwrap()).unwrap();
    let encoder = &recipe["models"]["encoder"];
    assert_eq!(encoder["path"], format!("acme/model@{COMMIT}"));
    // The same files as the demo's, so the same content hash.
    run(&desk, &hub, &["sample", "cake", "--no-decode", "--out", "local"]).ok();
    let local: Value =
        serde_json::from_slice(&std::fs::read(desk.path("local/recipe.json")).unwrap()).unwrap();
    assert_eq!(encoder["hash"], local["models"]["encoder"]["hash"]);
}

#[test]
fn a_connection_that_is_cut_goes_on_with_the_rest_alone() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    hub.fail("GET", "/blob/", 1, Fault::Cut(100_000));
    hub.fail("GET", "/blob/", 1, Fault::Cut(50_000));
    run(&desk, &hub, &PULL).ok();
    let last = WEIGHTS - 1;
    let expected =
        [None, Some(format!("bytes=100000-{last}")), Some(format!("bytes=150000-{last}"))];
    assert_eq!(ranges(&hub), expected);
    assert_eq!(std::fs::read(weights_blob(&desk)).unwrap(), tiny()["model.safetensors"].content);
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    hub.fail("GET", "/blob/", 1, Fault::Cut(100_000));
    hub.fail("GET", "/blob/", 1, Fault::NoRange);
    run(&desk, &hub, &PULL).ok();
    assert_eq!(ranges(&hub).len(), 2);
    assert_eq!(std::fs::read(weights_blob(&desk)).unwrap(), tiny()["model.safetensors"].content);
}

#[cfg(unix)]
#[test]
fn an_interrupted_pull_is_listed_as_incomplete_and_goes_on() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    hub.fail("GET", "/blob/", 1, Fault::Stall(120_000));
    let mut child = command(&desk, &hub, &PULL)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let length = || std::fs::metadata(incomplete(&desk)).map_or(0, |facts| facts.len());
    while length() < 120_000 {
        assert!(child.try_wait().unwrap().is_none(), "it ended too early");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    let stopped = Finished::of(child.wait_with_output().unwrap());
    assert_eq!(stopped.code(), 130);
    assert!(stopped.stderr().contains("goes on from here"), "{}", stopped.stderr());
    assert_eq!(length(), 120_000);
    // Half a model is none.
    assert!(!repo(&desk).join("snapshots").exists() && !repo(&desk).join("refs").exists());
    let listed = run(&desk, &hub, &["models", "list", "--json"]).ok().json();
    let row = listed["models"].as_array().unwrap().iter().find(|row| row["name"] == "acme/model");
    assert_eq!(row.unwrap()["complete"], false);

    hub.take_requests();
    run(&desk, &hub, &PULL).ok();
    assert_eq!(ranges(&hub), [Some(format!("bytes=120000-{}", WEIGHTS - 1))]);
    assert!(!incomplete(&desk).exists() && weights_blob(&desk).exists());
}

#[test]
fn a_partial_file_that_is_damaged_is_downloaded_anew() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    std::fs::create_dir_all(repo(&desk).join("blobs")).unwrap();
    std::fs::write(incomplete(&desk), vec![9; 1000]).unwrap();
    run(&desk, &hub, &PULL).ok();
    assert_eq!(ranges(&hub), [Some(format!("bytes=1000-{}", WEIGHTS - 1)), None]);
    assert_eq!(std::fs::read(weights_blob(&desk)).unwrap(), tiny()["model.safetensors"].content);
}

#[test]
fn a_file_with_a_wrong_checksum_is_not_placed() {
    for (path, kind) in [("/blob/", "SHA-256"), ("tokenizer.json", "Git SHA-1")] {
        let (desk, hub) = (Desk::new(), Hub::new(tiny()));
        hub.fail("GET", path, 9, Fault::Flip);
        let failed = run(&desk, &hub, &PULL);
        assert_eq!(failed.code(), 3, "{}", failed.stderr());
        assert!(failed.stderr().contains(kind), "{}", failed.stderr());
        assert!(!repo(&desk).join("snapshots").exists() && !repo(&desk).join("refs").exists());
        let blobs = names(&repo(&desk).join("blobs"));
        assert!(!blobs.iter().any(|name| name.ends_with("incomplete")), "{blobs:?}");
        // What came right before it stays; the damaged file is not among them.
        let damaged = if path == "/blob/" { "model.safetensors" } else { "tokenizer.json" };
        let content = &tiny()[damaged].content;
        assert!(!blobs.contains(&sha256(content)) && !blobs.contains(&git_sha1(content)));
    }
}

#[test]
fn the_token_goes_to_the_hub_and_to_nobody_else() {
    let (desk, hub) = (Desk::new(), Hub::gated(tiny()));
    let arguments = [&PULL[..], &["--accept-licence", "-vv"]].concat();
    let pulled = run_with_token(&desk, &hub, TOKEN, &arguments).ok();
    assert!(!pulled.stdout().contains(TOKEN) && !pulled.stderr().contains(TOKEN));
    let requests = hub.take_requests();
    let (network, own): (Vec<_>, Vec<_>) = requests.iter().partition(|r| r.content_network);
    assert!(!network.is_empty());
    assert!(network.iter().all(|request| request.header("authorization").is_none()), "{network:?}");
    let bearer = format!("Bearer {TOKEN}");
    assert!(own.iter().all(|r| r.header("authorization") == Some(&bearer)), "{own:?}");

    // The token that the login command of huggingface_hub stored is found, too.
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path("cache/hf")).unwrap();
    std::fs::write(desk.path("cache/hf/token"), TOKEN).unwrap();
    run(&desk, &hub, &arguments).ok();
}

#[test]
fn a_gated_model_shows_its_licence_and_is_not_downloaded_without_consent() {
    let (desk, hub) = (Desk::new(), Hub::gated(tiny()));
    let page = format!("{}/acme/model", hub.endpoint);
    let refused = run_with_token(&desk, &hub, TOKEN, &PULL);
    assert_eq!(refused.code(), 2);
    for part in ["openrail++", "Use it for research alone.", page.as_str(), "--accept-licence"] {
        assert!(refused.stderr().contains(part), "{part}: {}", refused.stderr());
    }
    assert!(hub.take_requests().iter().all(|request| request.path.starts_with("/api/")));
    assert!(!repo(&desk).exists());

    let accept = [&PULL[..], &["--accept-licence"]].concat();
    let anyone = run(&desk, &hub, &accept);
    assert_eq!(anyone.code(), 3);
    assert!(anyone.stderr().contains("set HF_TOKEN"), "{}", anyone.stderr());
    assert!(anyone.stderr().contains(&page), "{}", anyone.stderr());
    let other = run_with_token(&desk, &hub, "hf_other", &accept);
    assert_eq!(other.code(), 3);
    assert!(other.stderr().contains("accept its terms"), "{}", other.stderr());
    assert!(other.stderr().contains("not in the authorized list"), "{}", other.stderr());
    let expired = run_with_token(&desk, &hub, "hf_expired", &accept);
    assert_eq!(expired.code(), 3);
    assert!(expired.stderr().contains("token is wrong or has expired"), "{}", expired.stderr());
}

#[test]
fn what_is_not_on_the_hub_is_named() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    let fails = |name: &str, expected: &[&str]| {
        let failed = run(&desk, &hub, &["models", "pull", name]);
        assert_eq!(failed.code(), 3, "{}", failed.stderr());
        for part in expected {
            assert!(failed.stderr().contains(part), "{part}: {}", failed.stderr());
        }
    };
    fails("acme/none", &["no model acme/none", "HF_TOKEN"]);
    fails("acme/model@v9", &["no revision \"v9\""]);
    hub.fail("GET", "config.json", 1, Fault::Status(404, &[("x-error-code", "EntryNotFound")]));
    fails("acme/model", &["no file config.json"]);
    hub.fail(
        "HEAD",
        "model.safetensors",
        1,
        Fault::Status(403, &[("x-error-message", "Blocked.")]),
    );
    fails("acme/model", &["403", "Blocked."]);
    hub.fail("GET", "/revision/", 1, Fault::Status(429, &[("retry-after", "9000")]));
    fails("acme/model", &["429", "9000 s"]);
    hub.fail("GET", "/revision/", 1, Fault::Body("<html>Log in to the network</html>".to_owned()));
    fails("acme/model", &["no hub answer"]);

    let usage = run(&desk, &hub, &["models", "pull", "gpt2"]);
    assert_eq!(usage.code(), 2);
    assert!(usage.stderr().contains("owner/name"), "{}", usage.stderr());
    let usage = run(&desk, &hub, &["models", "pull", "acme/model", "--variant", "fp16"]);
    assert_eq!(usage.code(), 2);
}

#[test]
fn a_busy_or_failing_hub_is_asked_again() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    hub.fail("GET", "/revision/", 1, Fault::Status(429, &[("retry-after", "1")]));
    hub.fail("GET", "/tree/", 1, Fault::Status(500, &[]));
    hub.fail("HEAD", "model.safetensors", 1, Fault::Status(503, &[]));
    hub.fail("GET", "/blob/", 1, Fault::Status(502, &[]));
    run(&desk, &hub, &PULL).ok();
    let requests = hub.take_requests();
    let count = |path: &str| requests.iter().filter(|r| r.path.contains(path)).count();
    assert_eq!(count("/revision/"), 2);
    assert!(weights_blob(&desk).exists());
}

#[test]
fn offline_asks_nobody() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    let offline = command(&desk, &hub, &PULL).env("HF_HUB_OFFLINE", "1").output().unwrap();
    let offline = Finished::of(offline);
    assert_eq!(offline.code(), 3);
    assert!(offline.stderr().contains("HF_HUB_OFFLINE"), "{}", offline.stderr());
    assert_eq!(hub.count(), 0);
}

#[test]
fn a_dry_run_lists_and_writes_nothing() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    let text = run(&desk, &hub, &["models", "pull", "acme/model", "--dry-run"]).ok().stdout();
    for part in ["openrail++", "model.safetensors", "293.0 KiB", "left out: a pickle", COMMIT] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!repo(&desk).exists());
    assert!(hub.take_requests().iter().all(|request| request.path.starts_with("/api/")));
}

#[test]
fn pickles_alone_and_a_hostile_listing_are_refused() {
    let mut files = tiny();
    files.remove("model.safetensors");
    let (desk, hub) = (Desk::new(), Hub::new(files));
    let refused = run(&desk, &hub, &PULL);
    assert_eq!(refused.code(), 3);
    assert!(refused.stderr().contains("pytorch_model.bin"), "{}", refused.stderr());

    let mut files = tiny();
    let evil = HubFile { content: b"evil".to_vec(), large: false };
    files.insert("../../../evil.json".to_owned(), evil);
    let (desk, hub) = (Desk::new(), Hub::new(files));
    let refused = run(&desk, &hub, &PULL);
    assert_eq!(refused.code(), 3);
    assert!(refused.stderr().contains("leads elsewhere"), "{}", refused.stderr());
    assert!(!repo(&desk).exists());
}

#[test]
fn a_revision_is_found_again_by_its_name_and_its_commit() {
    let (desk, hub) = (Desk::new(), Hub::new(tiny()));
    run(&desk, &hub, &["models", "pull", "acme/model", "--revision", "v1"]).ok();
    let listed = run(&desk, &hub, &["models", "list", "--json"]).ok().json();
    let models = listed["models"].as_array().unwrap();
    let row = models.iter().find(|row| row["commit"] == COMMIT).unwrap();
    assert_eq!(row["name"], "acme/model@v1");
    assert_eq!(row["ability"]["role"], "encoder");
    assert_eq!(row["ability"]["dim"], 768);
    // The demo's models are in the same list.
    assert!(models.iter().any(|row| row["name"] == "demo/unclip"));

    let inspect = |name: &str| run(&desk, &hub, &["models", "inspect", name]);
    for name in ["acme/model".to_owned(), "acme/model@v2".to_owned()] {
        let missing = inspect(&name);
        assert_eq!(missing.code(), 3);
        assert!(missing.stderr().contains(COMMIT), "{}", missing.stderr());
    }
    // It is found; that its weights are none is another matter.
    for name in ["acme/model@v1".to_owned(), format!("acme/model@{COMMIT}")] {
        assert!(inspect(&name).stderr().contains("model.safetensors"));
    }
}
