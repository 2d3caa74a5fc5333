//! The Samples pane: the query, the mean and every sample as tiles, decoded or not.
//!
//! In comes the entry on screen; out go hovers, selections, and wishes to decode, enlarge, copy or
//! save. How a picture is made is not known here.

mod band;
#[cfg(test)]
pub mod fixture;
mod grid;
mod hover_card;
mod layout;
pub mod menu;
pub mod picture;
pub mod statistics;
pub mod tile;
mod toolbar;

use std::sync::Arc;
use std::time::Duration;

use super::Cx;
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::state::history::{DecodeState, Entry, EntryId};
use crate::app::state::jobs::{Job, JobKind, Progress};
use crate::app::state::sample_order::ShownSamples;
use crate::app::state::selection::{Item, Selection};
use crate::app::widgets;
use crate::session::event::Stage;
use grid::{Content, Grid};

/// Seconds that each sample is on show while playing.
const PLAY_SECONDS: f64 = 0.4;

/// View state of the Samples pane.
#[derive(Default)]
pub struct SamplesPane {
    shown: ShownSamples,
    grid: Grid,
    play: Option<Play>,
}

/// Samples shown one after another.
struct Play {
    entry: EntryId,
    /// Place in the shown order.
    at: usize,
    /// When this one came on.
    since: f64,
}

impl SamplesPane {
    pub fn ui(&mut self, ui: &mut egui::Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let Some(entry) = state.entry() else {
            self.play = None;
            return without_entry(ui, cx);
        };
        if entry.result.is_none() && entry.tiles.is_empty() {
            self.play = None;
            return without_result(ui, cx);
        }
        let shown = self.shown.of(entry, &state.settings.sample_order);
        let mut playing = self.play.is_some();
        toolbar::show(ui, cx, entry, shown.len(), &mut playing);
        toolbar::decoding(ui, cx, entry);
        let on_show = self.play(ui, entry, &shown, playing);
        let items = items(&state.selection, &shown);
        let content = Content { entry, items: &items, step: step(cx, entry), playing: on_show };
        self.grid.ui(ui, cx, &content);
    }

    /// Goes on playing; the sample on show.
    fn play(
        &mut self,
        ui: &egui::Ui,
        entry: &Entry,
        shown: &Arc<Vec<usize>>,
        playing: bool,
    ) -> Option<Item> {
        let now = ui.input(|input| input.time);
        if !playing || shown.is_empty() {
            self.play = None;
            return None;
        }
        let mut play = match self.play.take() {
            Some(play) if play.entry == entry.id => play,
            // Another query came on screen.
            Some(_) => return None,
            None => Play { entry: entry.id, at: 0, since: now },
        };
        let fresh = play.since == now;
        let (at, since) = advance(play.at, play.since, now, shown.len());
        let changed = at != play.at;
        (play.at, play.since) = (at, since);
        let item = Item::Sample(shown[at]);
        if changed || fresh {
            self.grid.reveal(item);
        }
        let left = (play.since + PLAY_SECONDS - now).max(0.0);
        ui.ctx().request_repaint_after(Duration::from_secs_f64(left));
        self.play = Some(play);
        Some(item)
    }
}

/// Place in the order and its start, at a time. A late frame shows the next sample, not a later
/// one: none is skipped.
fn advance(at: usize, since: f64, now: f64, count: usize) -> (usize, f64) {
    if now - since >= PLAY_SECONDS { ((at + 1) % count, now) } else { (at.min(count - 1), since) }
}

/// The query and the mean, then the samples in order; without those that are hidden by isolating
/// the selected ones.
fn items(selection: &Selection, shown: &[usize]) -> Vec<Item> {
    let isolated = selection.isolated && selection.samples().next().is_some();
    let samples = shown.iter().map(|&index| Item::Sample(index));
    [Item::Query, Item::Mean]
        .into_iter()
        .chain(samples.filter(|&item| !isolated || selection.contains(item)))
        .collect()
}

/// Share done of the pictures that are being decoded, 0 to 1.
fn step(cx: &Cx<'_>, entry: &Entry) -> Option<f32> {
    let DecodeState::Running(job) = &entry.decode else { return None };
    let Job { stage: Some(Stage::Decode), progress: Some(progress), .. } =
        cx.state.jobs.get(*job)?
    else {
        return None;
    };
    Some(batch_share(progress, entry.recipe.decoding.steps))
}

/// Share done of the current batch: the progress counts the steps of all batches. Where a
/// scheduler takes another number of steps than it was asked for, the share of everything.
fn batch_share(progress: &Progress, steps: usize) -> f32 {
    let Progress { done, total, .. } = *progress;
    if total == 0 {
        0.0
    } else if steps > 0 && total % steps == 0 && done < total {
        (done % steps) as f32 / steps as f32
    } else {
        done as f32 / total as f32
    }
}

fn without_entry(ui: &mut egui::Ui, cx: &mut Cx<'_>) {
    if waiting(ui, cx) {
        return;
    }
    let sentence = "What a query could look like: ask something, and its samples stand here as \
                    pictures.";
    widgets::empty(ui, cx, icons::GRID_FOUR, sentence, Some(UiCommand::FocusQuery));
}

fn without_result(ui: &mut egui::Ui, cx: &mut Cx<'_>) {
    if waiting(ui, cx) {
        return;
    }
    let sentence = "This query's embeddings were not kept. Run it again to see its samples.";
    widgets::empty(ui, cx, icons::GRID_FOUR, sentence, Some(UiCommand::Run));
}

/// Shows the job that will bring a result, or why the last one failed.
fn waiting(ui: &mut egui::Ui, cx: &mut Cx<'_>) -> bool {
    let state = cx.state;
    if let Some(job) = state.jobs.latest(JobKind::Analyse) {
        widgets::busy(ui, cx, job);
        return true;
    }
    if let Some(failure) = &state.query_failure {
        widgets::failure(ui, cx, "The query failed", failure);
        return true;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::layout::PaneKind;
    use crate::app::state::selection::SelectMode;

    #[test]
    fn query_and_mean_stand_first_and_stay_when_samples_are_isolated() {
        let mut selection = Selection::default();
        let all = [Item::Query, Item::Mean, Item::Sample(4), Item::Sample(1)];
        assert_eq!(items(&selection, &[4, 1]), all);
        selection.isolated = true;
        assert_eq!(items(&selection, &[4, 1]), all);
        selection.apply(&[Item::Sample(1)], SelectMode::Add, PaneKind::Samples);
        assert_eq!(items(&selection, &[4, 1]), [Item::Query, Item::Mean, Item::Sample(1)]);
    }

    #[test]
    fn playing_stays_on_a_sample_for_its_time_and_skips_none() {
        assert_eq!(advance(0, 10.0, 10.3, 3), (0, 10.0));
        assert_eq!(advance(0, 10.0, 10.4, 3), (1, 10.4));
        // A frame that came late.
        assert_eq!(advance(1, 10.0, 15.0, 3), (2, 15.0));
        assert_eq!(advance(2, 10.0, 10.5, 3), (0, 10.5));
        // A filter made the list shorter.
        assert_eq!(advance(8, 10.0, 10.1, 3), (2, 10.0));
    }

    #[test]
    fn the_bar_of_a_preview_starts_anew_with_every_batch() {
        let progress = |done, total| Progress { done, total, since: std::time::Instant::now() };
        assert_eq!(batch_share(&progress(5, 40), 20), 0.25);
        assert_eq!(batch_share(&progress(25, 40), 20), 0.25);
        assert_eq!(batch_share(&progress(40, 40), 20), 1.0);
        assert_eq!(batch_share(&progress(13, 26), 25), 0.5);
        assert_eq!(batch_share(&progress(0, 0), 20), 0.0);
    }
}
