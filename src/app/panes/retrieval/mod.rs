//! The Retrieval pane: which gallery items match, and which ranks each of them may take.
//!
//! In comes the result on screen, out go selections, hovers, and wishes for another k or another
//! query. Knows nothing of how ranks are computed.

mod card;
mod columns;
mod headings;
mod list;
mod listing;
mod rank_axis;
mod row;
mod words;

use std::sync::{Arc, Weak};

use egui::{Align, Layout, RichText, Ui, vec2};

use super::Cx;
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::layout::PaneKind;
use crate::app::state::history::Entry;
use crate::app::state::jobs::JobKind;
use crate::app::state::selection::{Item, SelectMode, Selection};
use crate::app::theme;
use crate::app::{icons, widgets};
use crate::session::recipe::MAX_TOP_K;
use crate::session::result::{QueryResult, RankedItem, Retrieved};
use listing::{Line, Order, View};

/// Below this height the headings scroll with the list.
const SHORT: f32 = 320.0;
/// Seconds in which a job for another k should have begun.
const PATIENCE: f64 = 2.0;
/// Why there is nothing to list for prompt embeddings.
const WITHOUT_SHARED_SPACE: &str = "Prompt embeddings cannot be searched with: they are not of the \
                                    space that texts and images share.";

/// View state of the Retrieval pane.
#[derive(Default)]
pub struct RetrievalPane {
    order: Order,
    relevant_only: bool,
    lines: Option<CachedLines>,
    /// Gallery row under the keyboard's cursor.
    cursor: Option<usize>,
    /// Gallery row that a range selection starts from.
    anchor: Option<usize>,
    pointed: Option<Pointed>,
    /// A k that is being dragged or edited.
    new_k: Option<usize>,
    /// A k that was asked for, until its result is there.
    asked_k: Option<AskedK>,
}

/// The lines of a result in one view.
struct CachedLines {
    result: Weak<QueryResult>,
    view: View,
    lines: Arc<[Line]>,
}

/// The row under the pointer.
#[derive(Clone, Copy)]
struct Pointed {
    /// Row of the gallery.
    row: usize,
    /// Time in seconds at which the pointer came to it.
    since: f64,
}

/// A k that was asked for.
#[derive(Clone, Copy)]
struct AskedK {
    k: usize,
    /// Time in seconds at which it was.
    at: f64,
}

/// What is listed.
struct Listed<'a> {
    entry: &'a Entry,
    retrieved: &'a Retrieved,
    /// The compared entry's retrieval, where it searched the same gallery.
    other: Option<&'a Retrieved>,
    view: View,
    lines: Arc<[Line]>,
}

impl<'a> Listed<'a> {
    fn item(&self, line: &Line) -> Option<&'a RankedItem> {
        self.retrieved.items.get(line.item?)
    }

    /// The same row in the compared entry.
    fn in_other(&self, row: usize) -> Option<&'a RankedItem> {
        self.other?.items.iter().find(|item| item.row == row)
    }
}

impl RetrievalPane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let Some(entry) = state.entry() else {
            let sentence =
                "The gallery items that match a query stand here, with the ranks each may take.";
            widgets::empty(ui, cx, icons::RANKING, sentence, Some(UiCommand::FocusQuery));
            return;
        };
        let Some(result) = &entry.result else {
            without_result(ui, cx, entry);
            return;
        };
        let Some(retrieved) = &result.retrieval else {
            let sentence = match entry.recipe.models.bridge.note() {
                Some(_) => WITHOUT_SHARED_SPACE,
                None => "This query ran without a gallery. Choose one in the Query pane.",
            };
            widgets::empty(ui, cx, icons::RANKING, sentence, Some(UiCommand::ShowQuery));
            return;
        };
        paint_progress(ui, cx);
        let view = View {
            order: self.order,
            relevant_only: self.relevant_only && knows_relevant(retrieved),
            sample: shown_sample(&state.selection, retrieved),
        };
        let lines = self.lines(result, retrieved, view, &state.selection);
        let other = compared(entry, state.other());
        self.give_up_on_k(ui, cx);
        let listed = Listed { entry, retrieved, other, view, lines };
        let short = ui.available_height() < SHORT;
        if !short {
            self.header(ui, cx, &listed);
        }
        let scroll = egui::ScrollArea::vertical().id_salt("retrieved").auto_shrink(false);
        if !short {
            headings::ui(ui, cx.theme, &listed);
        }
        scroll.show(ui, |ui| {
            if short {
                self.header(ui, cx, &listed);
                headings::ui(ui, cx.theme, &listed);
            }
            self.list(ui, cx, &listed);
        });
    }

    /// The lines to show; made anew only when the result or the view changed.
    fn lines(
        &mut self,
        result: &Arc<QueryResult>,
        retrieved: &Retrieved,
        view: View,
        selection: &Selection,
    ) -> Arc<[Line]> {
        let known = self.lines.as_ref().filter(|known| {
            std::ptr::eq(known.result.as_ptr(), Arc::as_ptr(result)) && known.view == view
        });
        let lines = match known {
            Some(known) => Arc::clone(&known.lines),
            None => {
                let before = self.lines.as_ref().map(|known| known.result.as_ptr());
                if before != Some(Arc::as_ptr(result)) {
                    self.asked_k = None;
                }
                let lines: Arc<[Line]> = listing::lines(retrieved, view).into();
                let result = Arc::downgrade(result);
                self.lines = Some(CachedLines { result, view, lines: Arc::clone(&lines) });
                lines
            }
        };
        if selection.isolated && selection.rows().next().is_some() {
            let selected = |line: &&Line| selection.contains(Item::Gallery(line.row));
            return lines.iter().filter(selected).copied().collect();
        }
        lines
    }

    fn header(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, listed: &Listed<'_>) {
        self.gallery_line(ui, cx, listed);
        summary_line(ui, cx, listed);
        self.controls(ui, cx, listed);
    }

    fn gallery_line(&self, ui: &mut Ui, cx: &Cx<'_>, listed: &Listed<'_>) {
        let Listed { entry, retrieved, .. } = listed;
        ui.horizontal_wrapped(|ui| {
            if let Some(gallery) = &entry.recipe.models.gallery {
                let parts: Vec<_> = gallery.path.components().rev().take(2).collect();
                let short: std::path::PathBuf = parts.into_iter().rev().collect();
                let name = RichText::new(short.display().to_string()).font(theme::strong(13.0));
                ui.label(name.color(cx.theme.strong))
                    .on_hover_text(gallery.path.display().to_string());
            }
            let muted = |text: String| RichText::new(text).color(cx.theme.muted);
            ui.label(muted(format!("{} items", words::grouped(retrieved.gallery_size))));
            let badge = RichText::new(" exact ").small().background_color(cx.theme.hover);
            ui.label(badge.color(cx.theme.text)).on_hover_text(words::EXACT);
            let draws = words::grouped(retrieved.draws);
            ui.label(muted(format!("{draws} draws"))).on_hover_text(format!(
                "Ranks and shares are over {draws} draws of the predicted distribution. The decoded \
                 samples are the first {} of them.",
                retrieved.sample_hits.len()
            ));
        });
    }

    /// Order, filter and k.
    fn controls(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, listed: &Listed<'_>) {
        let retrieved = listed.retrieved;
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing.x = 4.0;
            for (order, name) in [(Order::Mean, "Mean"), (Order::Median, "Median rank")] {
                let button = egui::Button::selectable(self.order == order, name);
                if ui.add(button).on_hover_text(words::MEAN_OR_EXPECTED).clicked() {
                    self.order = order;
                }
            }
            ui.add_space(4.0);
            let most = MAX_TOP_K.min(retrieved.gallery_size).max(1);
            let mut k = self.k(retrieved);
            let field = egui::DragValue::new(&mut k)
                .range(1..=most)
                .speed(0.1)
                .prefix("k ")
                .update_while_editing(false);
            let field = ui.add(field).accessible_name("k").on_hover_text(
                "k of P(top k), and how many items are listed. Nothing is decoded again.",
            );
            if field.changed() {
                self.new_k = Some(k);
            }
            if field.drag_stopped() || field.changed() && !field.dragged() {
                self.ask_for_k(ui, cx, retrieved);
            }
            if knows_relevant(retrieved) {
                ui.add_space(4.0);
                ui.checkbox(&mut self.relevant_only, "relevant only").on_hover_text(
                    "Lists only the items that belong to the query: those with a caption equal to \
                     it, or the query image itself.",
                );
            }
        });
    }

    /// The k that is shown: the one being set, the one asked for, or the result's.
    fn k(&self, retrieved: &Retrieved) -> usize {
        self.new_k.or(self.asked_k.map(|asked| asked.k)).unwrap_or(retrieved.top_k)
    }

    /// Forgets a k that was asked for when nothing is on its way that could bring it.
    fn give_up_on_k(&mut self, ui: &Ui, cx: &Cx<'_>) {
        let now = ui.input(|input| input.time);
        if cx.state.jobs.latest(JobKind::Analyse).is_none() {
            self.asked_k = self.asked_k.filter(|asked| now - asked.at < PATIENCE);
        }
    }

    /// Asks for a result with the k that was set.
    fn ask_for_k(&mut self, ui: &Ui, cx: &mut Cx<'_>, retrieved: &Retrieved) {
        let Some(k) = self.new_k.take() else { return };
        if k == self.k(retrieved) {
            return;
        }
        self.asked_k = Some(AskedK { k, at: ui.input(|input| input.time) });
        let mut form = cx.state.form.clone();
        form.retrieval.top_k = k;
        cx.send(Action::EditForm { form: Box::new(form), analyse: true });
    }
}

/// An entry whose result is not there: on its way, failed, or not kept.
fn without_result(ui: &mut Ui, cx: &mut Cx<'_>, entry: &Entry) {
    let state = cx.state;
    let of_entry = |kind| state.jobs.iter().rev().find(move |job| job.kind == kind);
    let job = of_entry(JobKind::Analyse).filter(|job| job.entry.is_none_or(|id| id == entry.id));
    if let Some(job) = job.or_else(|| of_entry(JobKind::Warm)) {
        widgets::busy(ui, cx, job);
    } else if let Some(failure) = &state.query_failure {
        widgets::failure(ui, cx, "The query could not be run", failure);
    } else {
        let sentence = "Only the recipe of this query was kept. Run it to see its retrieval.";
        widgets::empty(ui, cx, icons::RANKING, sentence, Some(UiCommand::Run));
    }
}

/// While a newer result is on its way, a thin bar along the top; the list stays where it is.
fn paint_progress(ui: &Ui, cx: &Cx<'_>) {
    let Some(job) = cx.state.jobs.latest(JobKind::Analyse) else { return };
    let top = ui.max_rect();
    let mut bar = egui::Rect::from_min_size(top.min, vec2(top.width(), 2.0));
    ui.painter().rect_filled(bar, 0.0, cx.theme.hairline);
    bar.set_width(top.width() * job.fraction().unwrap_or(0.0));
    ui.painter().rect_filled(bar, 0.0, cx.theme.primary);
}

/// The set that holds first place, or whose ranking is shown; both in the same place and of the
/// same height.
fn summary_line(ui: &mut Ui, cx: &mut Cx<'_>, listed: &Listed<'_>) {
    let size = vec2(ui.available_width(), ui.spacing().interact_size.y);
    ui.allocate_ui_with_layout(size, Layout::left_to_right(Align::Center), |ui| {
        ui.set_min_size(size);
        if let Some(sample) = listed.view.sample {
            let hovered = cx.state.selection.hovered == Some(Item::Sample(sample));
            let how = if hovered { "hovered" } else { "selected" };
            let text = format!("{} Ranking of sample #{sample} ({how})", icons::RANKING);
            let text = RichText::new(text).color(cx.theme.samples);
            ui.add(egui::Label::new(text).truncate());
            return;
        }
        let retrieved = listed.retrieved;
        let text = words::best_match_set(retrieved.best_match_set);
        let button = ui.add(egui::Button::new(text).truncate());
        if button.on_hover_text(format!("{} Click to select it.", words::TOP_1_SET)).clicked() {
            let items = retrieved.best_match_rows.iter().map(|&row| Item::Gallery(row)).collect();
            let mode = SelectMode::Replace;
            cx.send(Action::Select { items, mode, from: PaneKind::Retrieval });
        }
    });
}

fn knows_relevant(retrieved: &Retrieved) -> bool {
    retrieved.items.iter().any(|item| item.relevant == Some(true))
}

/// The sample whose ranking is shown: the hovered one, or the only selected one.
fn shown_sample(selection: &Selection, retrieved: &Retrieved) -> Option<usize> {
    let hovered = match selection.hovered {
        Some(Item::Sample(sample)) => Some(sample),
        _ => None,
    };
    let mut selected = selection.samples();
    let only = selected.next().filter(|_| selected.next().is_none());
    hovered.or(only).filter(|&sample| sample < retrieved.sample_hits.len())
}

/// The other entry's retrieval, if its rows are rows of the same gallery.
fn compared<'a>(entry: &Entry, other: Option<&'a Entry>) -> Option<&'a Retrieved> {
    let other = other.filter(|other| other.id != entry.id)?;
    let hash = |entry: &Entry| entry.recipe.models.gallery.as_ref().map(|g| g.hash.clone());
    if hash(entry) != hash(other) {
        return None;
    }
    other.result.as_ref()?.retrieval.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hovered_sample_is_shown_before_the_selected_one_and_two_selected_show_none() {
        let retrieved = Retrieved {
            gallery_size: 1,
            draws: 1,
            top_k: 1,
            items: Vec::new(),
            distinct_best: 0,
            best_match_set: 0,
            best_match_rows: Vec::new(),
            sample_hits: vec![Vec::new(); 3],
            above: Vec::new(),
            names: std::collections::BTreeMap::new(),
        };
        let mut selection = Selection::default();
        assert_eq!(shown_sample(&selection, &retrieved), None);
        selection.apply(&[Item::Sample(1)], SelectMode::Replace, PaneKind::Samples);
        assert_eq!(shown_sample(&selection, &retrieved), Some(1));
        selection.hovered = Some(Item::Sample(2));
        assert_eq!(shown_sample(&selection, &retrieved), Some(2));
        selection.hovered = Some(Item::Gallery(0));
        assert_eq!(shown_sample(&selection, &retrieved), Some(1));
        selection.apply(&[Item::Sample(2)], SelectMode::Add, PaneKind::Samples);
        assert_eq!(shown_sample(&selection, &retrieved), None);
        selection.hovered = Some(Item::Sample(9));
        assert_eq!(shown_sample(&selection, &retrieved), None);
    }
}
