//! The main flow by accessible labels, on the demo bundle.

use egui_kittest::kittest::Queryable as _;
use haze::app::action::Action;
use haze::app::command::UiCommand;
use haze::app::dialogs::Dialogs;
use haze::app::state::form::QueryForm;
use haze::app::state::history::{DecodeState, TileState};
use haze::export::replay::SheetMetadata;
use haze::session::engine::{JobEvent, Message, Order, Outcome, Work};

use super::fake_engine::fake_engine;
use super::{decoded, drop_files, real_engine, send, wait, window};
use crate::support::{Desk, source};

fn edit(app: &haze::app::HazeApp, change: impl FnOnce(&mut QueryForm)) -> Action {
    let mut form = app.state().form.clone();
    change(&mut form);
    Action::EditForm { form: Box::new(form), analyse: false }
}

#[test]
fn a_typed_query_shows_retrieval_then_samples_and_its_sheet_replays_to_the_same_pixels() {
    let desk = Desk::new();
    let sheet = desk.path("exported.png");
    let mut harness = window([1280.0, 720.0], real_engine(), Dialogs::fixed(sheet.clone()));
    let few = edit(harness.state(), |form| {
        form.sampling.samples = 4;
        form.decoding.steps = 4;
    });
    send(&mut harness, few);
    let text = harness.get_by_label("Query text");
    text.focus();
    harness.step();
    harness.get_by_label("Query text").type_text("a glossy drawing of a red apple");
    harness.step();
    harness.key_press(egui::Key::Enter);
    wait(&mut harness, "retrieval", 60, |app| {
        app.state().entry().is_some_and(|entry| entry.result.is_some())
    });
    wait(&mut harness, "pictures", 60, decoded);
    harness.run_steps(3);
    assert!(harness.query_by_label_contains("rank 1:").is_some(), "the best match is listed");
    assert!(harness.query_by_label_contains("sample 0").is_some(), "samples can be picked");

    harness.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::E);
    harness.step();
    wait(&mut harness, "the sheet", 30, |_| sheet.is_file());
    let replay = desk.run(&["replay", sheet.to_str().unwrap(), "--json"]).ok();
    assert_eq!(replay.json()["replay"]["equal"], true, "{}", replay.stdout());
}

#[test]
fn a_cancelled_decode_stops_and_the_next_query_is_untouched() {
    let mut harness = window([1280.0, 720.0], real_engine(), Dialogs::cancelled());
    let many = edit(harness.state(), |form| form.decoding.steps = 400);
    send(&mut harness, many);
    send(&mut harness, Action::QueryText("food".to_owned()));
    wait(&mut harness, "a running decode", 60, |app| {
        app.state().jobs.iter().any(|job| job.progress.is_some_and(|p| p.done > 2))
    });
    harness.key_press(egui::Key::Escape);
    wait(&mut harness, "the end of it", 30, |app| {
        app.state().entry().is_some_and(|e| matches!(e.decode, DecodeState::Stopped { .. }))
    });
    let few = edit(harness.state(), |form| form.decoding.steps = 2);
    send(&mut harness, few);
    send(&mut harness, Action::QueryText("a vehicle".to_owned()));
    wait(&mut harness, "the next query", 60, |app| {
        decoded(app) && app.state().entry().is_some_and(|e| e.title() == "a vehicle")
    });
}

#[test]
fn a_statistic_alone_never_decodes_again() {
    let mut harness = window([1280.0, 720.0], real_engine(), Dialogs::cancelled());
    let few = edit(harness.state(), |form| {
        form.sampling.samples = 2;
        form.decoding.steps = 2;
    });
    send(&mut harness, few);
    send(&mut harness, Action::QueryText("food".to_owned()));
    wait(&mut harness, "pictures", 60, decoded);
    let hashes = |app: &haze::app::HazeApp| -> Vec<String> {
        let tile = |tile: &TileState| match tile {
            TileState::Done(tile) => tile.hash.clone(),
            _ => "missing".to_owned(),
        };
        app.state().entry().unwrap().tiles.iter().map(tile).collect()
    };
    let (id, before) = (harness.state().state().current, hashes(harness.state()));
    let mut form = harness.state().state().form.clone();
    form.retrieval.top_k = 3;
    send(&mut harness, Action::EditForm { form: Box::new(form), analyse: true });
    wait(&mut harness, "the new list", 30, |app| {
        let result = app.state().entry().and_then(|e| e.result.clone());
        result.and_then(|r| r.retrieval.clone()).is_some_and(|r| r.top_k == 3)
    });
    assert_eq!(harness.state().state().current, id);
    assert_eq!(hashes(harness.state()), before);
    assert!(decoded(harness.state()));
}

#[test]
fn samples_of_prompt_embeddings_are_decoded_under_their_own_name() {
    let mut harness = window([1280.0, 720.0], real_engine(), Dialogs::cancelled());
    let models = edit(harness.state(), |form| {
        let fixtures = source("tests/fixtures/sd_prompt");
        form.decoder = Some(fixtures.join("sd15/pipeline"));
        form.adapter = Some(fixtures.join("adapter/per_token.safetensors"));
        form.sampling.samples = 2;
        form.decoding.steps = 2;
    });
    send(&mut harness, models);
    send(&mut harness, Action::QueryText("two dogs".to_owned()));
    wait(&mut harness, "pictures", 60, decoded);
    harness.run_steps(3);
    for said in ["Samples of prompt embeddings, not of the shared space", "cannot be searched"] {
        assert!(harness.query_all_by_label_contains(said).next().is_some(), "{said}");
    }
    let entry = harness.state().state().entry().unwrap();
    assert!(entry.result.as_ref().unwrap().retrieval.is_none());
    assert!(entry.tiles.iter().all(|tile| matches!(tile, TileState::Done(_))));
}

#[test]
fn the_palette_finds_a_command_by_part_of_its_name() {
    let mut harness = window([1280.0, 720.0], real_engine(), Dialogs::cancelled());
    harness.key_press_modifiers(egui::Modifiers::COMMAND, egui::Key::P);
    harness.run_steps(2);
    harness.get_by_label("Command name").type_text("light");
    harness.run_steps(2);
    harness.key_press(egui::Key::Enter);
    harness.run_steps(3);
    assert_eq!(harness.ctx.theme(), egui::Theme::Light);
}

#[test]
fn undo_brings_the_form_back() {
    let mut harness = window([1280.0, 720.0], real_engine(), Dialogs::cancelled());
    let before = harness.state().state().form.clone();
    let changed = edit(harness.state(), |form| form.sampling.seed = 42);
    send(&mut harness, changed);
    send(&mut harness, Action::Command(UiCommand::Undo));
    harness.run_steps(2);
    assert_eq!(harness.state().state().form, before);
    send(&mut harness, Action::Command(UiCommand::Redo));
    harness.run_steps(2);
    assert_eq!(harness.state().state().form.sampling.seed, 42);
}

#[test]
fn when_the_engine_dies_the_window_lives_on_and_restarts_it() {
    let starts = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let engine: haze::app::StartEngine = Box::new(move |first, device, wake| {
        if starts.fetch_add(1, std::sync::atomic::Ordering::SeqCst) > 0 {
            return fake_engine(0)(first, device, wake);
        }
        let (handle, end) = haze::session::engine::channel(first, move || wake());
        // Dies at the first query, as a lost device may take everything with it.
        std::thread::spawn(move || {
            while let Ok(order) = end.orders.recv() {
                if let Order::Submit { work: Work::Analyse(_), .. } = order {
                    return;
                }
            }
        });
        handle
    });
    let mut harness = window([1280.0, 720.0], engine, Dialogs::cancelled());
    send(&mut harness, Action::QueryText("food".to_owned()));
    wait(&mut harness, "the bad news", 20, |app| {
        app.state().query_failure.as_ref().is_some_and(|failure| failure.device_lost)
    });
    harness.run_steps(2);
    // Every pane that waits for the engine offers it.
    let restart = harness.get_all_by_label_contains("Restart the engine").next().unwrap();
    restart.click();
    harness.run_steps(2);
    // The job numbers of the new engine go on where the old ones ended.
    send(&mut harness, Action::QueryText("a vehicle".to_owned()));
    wait(&mut harness, "a query on the new engine", 20, |app| {
        app.state().entry().is_some_and(|entry| entry.title() == "a vehicle")
    });
    assert!(harness.state().state().query_failure.is_none());
}

#[test]
fn a_sheet_of_the_command_line_brings_back_its_recipe_and_the_same_pixels() {
    let desk = Desk::new();
    desk.run(&["sample", "a vehicle", "-n", "2", "--steps", "3", "--seed", "9", "-o", "made"]).ok();
    let sheet = desk.path("made/sheet.png");
    let expected = SheetMetadata::read(&sheet).unwrap();
    let mut harness = window([1280.0, 720.0], real_engine(), Dialogs::cancelled());
    let before = harness.state().state().form.clone();
    drop_files(&mut harness, &[sheet]);
    for _ in 0..400 {
        harness.step();
        if harness.query_by_label_contains("Just look").is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(harness.state().state().form, before, "looking changes nothing");
    // The card finds its place within a few frames.
    harness.run_steps(4);
    harness.get_by_label_contains("Use all and run").click();
    harness.run_steps(2);
    assert!(harness.query_by_label_contains("Just look").is_none(), "the card is closed");
    wait(&mut harness, "its pictures", 30, decoded);
    let entry = harness.state().state().entry().unwrap();
    assert_eq!(entry.title(), "a vehicle");
    assert_eq!(entry.recipe.sampling.seed, 9);
    let hashes: Vec<Option<String>> = entry
        .tiles
        .iter()
        .map(|tile| match tile {
            TileState::Done(tile) => Some(tile.hash.clone()),
            _ => None,
        })
        .collect();
    let samples = expected.tiles.iter().map(|tile| tile.hash.clone());
    let wanted: Vec<_> = std::iter::once(expected.mean_tile.clone()).chain(samples).collect();
    assert_eq!(hashes, wanted);
}

#[test]
fn a_remote_device_is_named_in_the_settings_and_an_unusable_name_restarts_nothing() {
    let (sender, started) = std::sync::mpsc::channel();
    let engine: haze::app::StartEngine = Box::new(move |first, device, wake| {
        sender.send(device.to_string()).unwrap();
        fake_engine(0)(first, device, wake)
    });
    let mut harness = window([1280.0, 720.0], engine, Dialogs::cancelled());
    assert_eq!(started.recv().unwrap(), "auto");
    let with_device = |harness: &egui_kittest::Harness<'_, haze::app::HazeApp>, device: &str| {
        let settings = harness.state().state().settings.clone();
        Action::EditSettings(Box::new(haze::app::state::settings::Settings {
            device: device.to_owned(),
            ..settings
        }))
    };
    let change = with_device(&harness, "remote:gpu");
    send(&mut harness, change);
    send(&mut harness, Action::Command(UiCommand::Settings));
    harness.run_steps(3);
    harness.get_by_label("Find a setting").type_text("remote server");
    harness.run_steps(3);
    let field = harness.get_by_role_and_label(egui::Role::TextInput, "Remote server");
    field.focus();
    field.type_text("/path");
    harness.run_steps(3);
    assert!(harness.state().state().settings.device.contains("/path"));
    assert!(harness.get_all_by_label_contains("other characters").next().is_some());
    send(&mut harness, Action::Command(UiCommand::RestartEngine));
    harness.run_steps(2);
    assert!(started.try_recv().is_err());
    let change = with_device(&harness, "remote:gpu:80");
    send(&mut harness, change);
    send(&mut harness, Action::Command(UiCommand::RestartEngine));
    harness.run_steps(2);
    assert_eq!(started.try_recv().unwrap(), "remote:gpu:80");
}

#[test]
fn a_model_of_the_hub_is_asked_for_by_its_name_and_can_be_stopped() {
    let (tell, heard) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let engine: haze::app::StartEngine = Box::new(move |first, _device, wake| {
        let (handle, end) = haze::session::engine::channel(first, move || wake());
        let tell = tell.lock().unwrap().clone();
        std::thread::spawn(move || {
            for order in end.orders.iter() {
                let (job, event, said) = match order {
                    Order::Submit { job, work: Work::Pull(name) } => {
                        (job, JobEvent::Started, name.to_string())
                    }
                    Order::Cancel(job) => {
                        (job, JobEvent::Ended(Outcome::Cancelled), "stop".to_owned())
                    }
                    _ => continue,
                };
                end.messages.send(Message { job, event });
                let _ = tell.send(said);
            }
        });
        handle
    });
    let mut harness = window([1280.0, 1600.0], engine, Dialogs::cancelled());
    harness.get_by_label("Models").click();
    harness.run_steps(30);
    let field = |harness: &egui_kittest::Harness<'_, haze::app::HazeApp>, text: &str| {
        let field = harness.get_by_role_and_label(egui::accesskit::Role::TextInput, "From the hub");
        field.focus();
        field.type_text(text);
    };
    // One word is no name: the button does nothing.
    field(&harness, "acme");
    harness.run_steps(3);
    harness.get_by_label("Download").click();
    harness.run_steps(3);
    field(&harness, "/model@v1");
    harness.run_steps(3);
    harness.get_by_label("Download").click();
    let pulling = |app: &haze::app::HazeApp| {
        app.state().jobs.latest(haze::app::state::jobs::JobKind::Pull).is_some()
    };
    wait(&mut harness, "the download", 20, pulling);
    assert_eq!(heard.recv().unwrap(), "acme/model@v1");
    harness.run_steps(3);
    harness.get_by_label("Stop").click();
    wait(&mut harness, "the end of the download", 20, |app| !pulling(app));
    assert_eq!(heard.recv().unwrap(), "stop");
}
