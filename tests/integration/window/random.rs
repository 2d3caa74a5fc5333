//! Random use: nothing panics, nothing wrong is shown, nothing grows.

use haze::app::HazeApp;
use haze::app::action::Action;
use haze::app::command::UiCommand;
use haze::app::dialogs::Dialogs;
use haze::app::layout::PaneKind;
use haze::app::state::history::TileState;
use haze::app::state::selection::{Item, SelectMode};
use haze::query::pixels_hash;
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::fake_engine::{fake_engine, tile};
use super::{drop_files, real_engine, send, window};
use crate::support::source;

const TEXTS: [&str; 8] = [
    "food",
    "a slice of cake",
    "a red apple",
    "a vehicle",
    "an animal",
    "a glossy drawing of a ring",
    "the sky at night",
    "something to wear",
];
const SIZES: [[f32; 2]; 6] = [
    [600.0, 400.0],
    [800.0, 600.0],
    [1280.0, 720.0],
    [640.0, 900.0],
    [1920.0, 1080.0],
    [1000.0, 500.0],
];

/// Commands that a test window can be sent at any time.
fn harmless(command: UiCommand) -> bool {
    !matches!(command, UiCommand::Quit | UiCommand::Paste)
}

fn random_action(rng: &mut impl Rng, app: &HazeApp) -> Action {
    let state = app.state();
    let ids: Vec<_> = state.history.iter().map(|entry| entry.id).collect();
    let any_id = |rng: &mut dyn FnMut(usize) -> usize| ids.get(rng(ids.len().max(1))).copied();
    let mut pick = |n: usize| rng.random_range(0..n.max(1));
    match pick(18) {
        0..=3 => Action::QueryText(TEXTS[pick(TEXTS.len())].to_owned()),
        4 => Action::Run { decode: Some(pick(2) == 0) },
        5 | 6 => match state.jobs.iter().nth(pick(3)) {
            Some(job) => Action::Cancel(job.id),
            None => Action::Command(UiCommand::Stop),
        },
        7 => match state.jobs.iter().nth(pick(2)) {
            Some(job) => Action::Pause(job.id, !job.paused),
            None => Action::Command(UiCommand::StopAll),
        },
        8 => {
            let mut form = state.form.clone();
            form.sampling.samples = 1 + pick(20);
            form.sampling.seed = pick(4) as u64;
            Action::EditForm { form: Box::new(form), analyse: false }
        }
        9 => {
            let mut form = state.form.clone();
            form.retrieval.top_k = 1 + pick(20);
            form.sampling.draws = 50 + pick(100);
            Action::EditForm { form: Box::new(form), analyse: true }
        }
        10 => any_id(&mut pick).map_or(Action::Evaluate, Action::OpenEntry),
        11 => any_id(&mut pick).map_or(Action::Evaluate, Action::DeleteEntry),
        12 => Action::CompareWith(any_id(&mut pick)),
        13 => Action::Select {
            items: vec![Item::Sample(pick(20)), Item::Gallery(pick(700)), Item::Dimension(pick(8))],
            mode: [SelectMode::Replace, SelectMode::Add, SelectMode::Toggle][pick(3)],
            from: PaneKind::ALL[pick(PaneKind::ALL.len())],
        },
        14 => Action::Hover([None, Some(Item::Sample(pick(30))), Some(Item::Mean)][pick(3)]),
        15 => Action::ShowPane(PaneKind::ALL[pick(PaneKind::ALL.len())]),
        16 => Action::Enlarge([None, Some(Item::Sample(pick(30))), Some(Item::Query)][pick(3)]),
        _ => {
            let commands: Vec<UiCommand> =
                UiCommand::ALL.into_iter().filter(|&command| harmless(command)).collect();
            Action::Command(commands[pick(commands.len())])
        }
    }
}

/// What is on screen belongs together.
fn check(app: &HazeApp, fake: bool) {
    let state = app.state();
    for entry in state.history.iter() {
        let title = entry.title();
        if let Some(result) = &entry.result {
            assert_eq!(result.title(), title, "the result of another query");
            assert_eq!(entry.tiles.len(), result.samples.len() + 1);
        }
        for shown in &entry.tiles {
            let TileState::Done(shown) = shown else { continue };
            assert_eq!(shown.hash, pixels_hash(&shown.image));
            if fake {
                assert_eq!(shown.hash, tile(&title).hash, "a picture of another query: {title}");
            }
        }
    }
    assert!(state.current.is_none_or(|id| state.history.get(id).is_some()));
    assert!(state.compared.is_none_or(|id| state.history.get(id).is_some()));
}

/// Resident memory in bytes, where the system tells.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

#[test]
fn a_thousand_random_commands_show_no_wrong_result_and_leak_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut harness = window([1280.0, 720.0], fake_engine(4), Dialogs::cancelled());
    let images = source("assets/demo/gallery/images");
    let files: Vec<_> =
        std::fs::read_dir(images).unwrap().take(8).map(|f| f.unwrap().path()).collect();
    let mut after_warm_up = None;
    for turn in 0..1000 {
        match rng.random_range(0..12) {
            0 => {
                harness.set_size(egui::Vec2::from(SIZES[rng.random_range(0..SIZES.len())]));
                harness.step();
            }
            1 => {
                let count = 1 + rng.random_range(0..3);
                let first = rng.random_range(0..files.len() - count);
                drop_files(&mut harness, &files[first..first + count]);
            }
            2 => {
                harness.hover_at(egui::pos2(
                    rng.random_range(0.0..1280.0),
                    rng.random_range(0.0..720.0),
                ));
                harness.step();
            }
            _ => {
                let action = random_action(&mut rng, harness.state());
                send(&mut harness, action);
            }
        }
        check(harness.state(), true);
        if turn == 400 {
            after_warm_up = resident();
        }
    }
    assert!(harness.state().core().dropped_messages > 0, "late words were sent, and not heard");
    if let (Some(before), Some(after)) = (after_warm_up, resident()) {
        let grown = after.saturating_sub(before) >> 20;
        assert!(grown < 200, "memory grew by {grown} MiB in 600 commands");
    }
}

#[test]
fn fifty_random_commands_on_the_real_engine_show_no_wrong_result() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut harness = window([1280.0, 720.0], real_engine(), Dialogs::cancelled());
    for _ in 0..50 {
        let action = random_action(&mut rng, harness.state());
        send(&mut harness, action);
        for _ in 0..rng.random_range(1..12) {
            harness.step();
            std::thread::sleep(std::time::Duration::from_millis(8));
        }
        check(harness.state(), false);
    }
}
