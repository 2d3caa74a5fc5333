//! The Compare pane: the entry on screen (A) against another (B), on shared scales.
//!
//! In come the two entries; out go hovers, selections, and the wish to swap or to end. A is solid
//! and filled, B dashed and hollow, with their letters: never told apart by hue.

mod comparison;
mod dimensions;
mod figures;
mod overlap;
mod pairs;
mod recipe_diff;

use std::sync::{Arc, Weak};

use egui::text::LayoutJob;
use egui::{
    Align2, CollapsingHeader, FontId, Grid, RichText, Role, ScrollArea, Sense, Shape, Stroke,
    StrokeKind, TextFormat, Ui, WidgetInfo, vec2,
};

use super::Cx;
use super::hover::HoverTeller;
use super::samples::statistics::number;
use crate::app::action::Action;
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::state::history::{Entry, EntryId};
use crate::app::state::jobs::{Job, JobKind};
use crate::app::state::selection::Item;
use crate::app::theme::{self, Theme};
use crate::app::widgets;
use crate::session::result::QueryResult;
use comparison::{Comparison, Distance, Pair};
use dimensions::SpreadView;
use recipe_diff::{FieldDiff, Word};

/// View state of the Compare pane.
#[derive(Default)]
pub struct ComparePane {
    compared: Option<Compared>,
    spread: SpreadView,
    teller: HoverTeller,
}

/// A comparison and what it was made of.
struct Compared {
    entries: (EntryId, EntryId),
    /// Weak, so that results are not kept alive, and yet their addresses are not used again.
    results: (Weak<QueryResult>, Weak<QueryResult>),
    comparison: Arc<Comparison>,
}

impl ComparePane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let (Some(a), Some(b)) = (state.entry(), state.other()) else {
            self.compared = None;
            let sentence = "Put two queries side by side: choose “Compare” in the history's menu, \
                            or take the query before this one.";
            let icon = icons::SQUARE_SPLIT_HORIZONTAL;
            return widgets::empty(ui, cx, icon, sentence, Some(UiCommand::Compare));
        };
        let comparison = self.comparison(a, b);
        let hovered = ScrollArea::vertical()
            .id_salt("compare")
            .auto_shrink(false)
            .show(ui, |ui| {
                header(ui, cx, a, b);
                self.contents(ui, cx, a, b, &comparison)
            })
            .inner;
        self.teller.tell(cx, hovered);
    }

    /// The comparison of two entries, worked out again only when a result has changed.
    fn comparison(&mut self, a: &Entry, b: &Entry) -> Arc<Comparison> {
        let weak = |entry: &Entry| entry.result.as_ref().map(Arc::downgrade).unwrap_or_default();
        let (entries, results) = ((a.id, b.id), (weak(a), weak(b)));
        let kept = self.compared.as_ref().filter(|kept| {
            kept.entries == entries
                && kept.results.0.ptr_eq(&results.0)
                && kept.results.1.ptr_eq(&results.1)
        });
        if let Some(kept) = kept {
            return Arc::clone(&kept.comparison);
        }
        let comparison = Arc::new(Comparison::of(a, b));
        let kept = Arc::clone(&comparison);
        self.compared = Some(Compared { entries, results, comparison: kept });
        comparison
    }

    /// All sections; the item under the pointer.
    fn contents(
        &mut self,
        ui: &mut Ui,
        cx: &mut Cx<'_>,
        a: &Entry,
        b: &Entry,
        comparison: &Comparison,
    ) -> Option<Item> {
        missing(ui, cx, a, b);
        if let Some(obstacle) = &comparison.obstacle {
            warning(ui, cx.theme, "A and B are not comparable", obstacle);
        }
        for caution in &comparison.cautions {
            warning(ui, cx.theme, "Mind", caution);
        }
        section(ui, "What was asked", |ui| recipe(ui, cx.theme, &comparison.recipe));
        if comparison.figures.is_some() || comparison.percentiles.is_some() {
            section(ui, "Uncertainty", |ui| {
                let passes = Pair {
                    a: a.recipe.sampling.dropout_passes,
                    b: b.recipe.sampling.dropout_passes,
                };
                figures::show(ui, cx.theme, comparison, passes);
            });
        }
        if let Some(spread) = &comparison.dimensions {
            section(ui, "Spread per dimension", |ui| {
                dimensions::show(ui, cx.theme, spread, &mut self.spread);
            });
        }
        if let Some(distance) = &comparison.distance {
            section(ui, "Distance", |ui| distances(ui, cx.theme, distance));
        }
        let mut hovered = None;
        if let Some(overlap) = &comparison.overlap {
            section(ui, "Retrieval", |ui| hovered = overlap::show(ui, cx, overlap));
        } else if a.result.is_some() && b.result.is_some() && comparison.obstacle.is_none() {
            section(ui, "Retrieval", |ui| {
                let text = "A and B did not search the same gallery.";
                ui.label(RichText::new(text).color(cx.theme.muted));
            });
        }
        section(ui, "Tiles", |ui| hovered = pairs::show(ui, cx, a, b).or(hovered));
        hovered
    }
}

fn section(ui: &mut Ui, name: &str, add: impl FnOnce(&mut Ui)) {
    let title = RichText::new(name).font(theme::strong(13.0));
    CollapsingHeader::new(title).id_salt(name).default_open(true).show_unindented(ui, add);
    ui.add_space(6.0);
}

/// Both queries, and what can be done with the pair.
fn header(ui: &mut Ui, cx: &mut Cx<'_>, a: &Entry, b: &Entry) {
    for (name, entry) in [("A", a), ("B", b)] {
        ui.horizontal(|ui| {
            letter(ui, cx.theme, name);
            let title = RichText::new(entry.title()).color(cx.theme.strong);
            ui.add(egui::Label::new(title).truncate());
        });
    }
    ui.horizontal_wrapped(|ui| {
        widgets::command_button(ui, cx, UiCommand::SwapCompared);
        let end = ui.button(format!("{} End comparison", icons::X));
        if end.on_hover_text("Takes B away; both queries stay in the history").clicked() {
            cx.send(Action::CompareWith(None));
        }
    });
    ui.add_space(4.0);
}

/// What is not known yet of A or of B.
fn missing(ui: &mut Ui, cx: &mut Cx<'_>, a: &Entry, b: &Entry) {
    let state = cx.state;
    for (letter, entry) in [("A", a), ("B", b)] {
        if entry.result.is_some() {
            continue;
        }
        let of_entry = |job: &&Job| job.kind == JobKind::Analyse && job.entry == Some(entry.id);
        if let Some(job) = state.jobs.iter().find(of_entry) {
            widgets::busy(ui, cx, job);
        } else {
            let text = format!("The numbers of {letter} are not there: run that query again.");
            ui.label(RichText::new(text).color(cx.theme.warning));
        }
    }
}

fn warning(ui: &mut Ui, theme: &Theme, title: &str, text: &str) {
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 4.0;
        ui.label(RichText::new(icons::WARNING).color(theme.warning));
        ui.label(RichText::new(format!("{title}:")).color(theme.warning));
        ui.label(text);
    });
}

/// Changed fields only, one row each.
fn recipe(ui: &mut Ui, theme: &Theme, fields: &[FieldDiff]) {
    if fields.is_empty() {
        ui.label(RichText::new("Nothing differs: the same recipe.").color(theme.muted));
        return;
    }
    let column = ((ui.available_width() - 100.0) / 2.0 - 16.0).max(48.0);
    Grid::new("recipe differences").num_columns(3).striped(true).show(ui, |ui| {
        ui.label("");
        letter(ui, theme, "A");
        letter(ui, theme, "B");
        ui.end_row();
        for field in fields {
            ui.label(RichText::new(field.name).color(theme.muted));
            for words in [&field.a, &field.b] {
                ui.scope(|ui| {
                    ui.set_max_width(column);
                    ui.add(egui::Label::new(marked(theme, words, column)).wrap());
                });
            }
            ui.end_row();
        }
    });
}

/// Words, with those underlined that the other side lacks.
fn marked(theme: &Theme, words: &[Word], width: f32) -> LayoutJob {
    let mut job = LayoutJob::default();
    job.wrap.max_width = width;
    let font = FontId::proportional(13.0);
    if words.is_empty() {
        job.append("(empty)", 0.0, TextFormat::simple(font, theme.muted));
        return job;
    }
    for (i, word) in words.iter().enumerate() {
        if i > 0 {
            job.append(" ", 0.0, TextFormat::simple(font.clone(), theme.text));
        }
        let format = if word.differs {
            TextFormat {
                underline: Stroke::new(1.0, theme.strong),
                ..TextFormat::simple(theme::strong(13.0), theme.strong)
            }
        } else {
            TextFormat::simple(font.clone(), theme.text)
        };
        job.append(&word.text, 0.0, format);
    }
    job
}

fn distances(ui: &mut Ui, theme: &Theme, distance: &Distance) {
    for (name, value, meaning) in [
        (
            "cosine between the means",
            number(distance.cosine),
            "Cosine of the angle between the predicted means, -1 to 1.",
        ),
        (
            "2-Wasserstein distance",
            format!("{} embedding units", number(distance.wasserstein2)),
            "Between Gaussians with the means and total variances of A and B: the distance of the \
             means and the difference of the spreads together.",
        ),
    ] {
        ui.horizontal_wrapped(|ui| {
            ui.label(RichText::new(name).color(theme.muted));
            ui.monospace(value);
        })
        .response
        .on_hover_text(meaning);
    }
}

/// The letter of a side: A in a solid frame, B in a dashed one.
fn letter(ui: &mut Ui, theme: &Theme, name: &str) {
    let (rect, response) = ui.allocate_exact_size(vec2(18.0, 18.0), Sense::hover());
    response.widget_info(|| WidgetInfo::labeled(Role::Label, true, name));
    let frame = rect.shrink(1.0);
    let stroke = Stroke::new(1.0, theme.edge);
    if name == "B" {
        let corners = [
            frame.left_top(),
            frame.right_top(),
            frame.right_bottom(),
            frame.left_bottom(),
            frame.left_top(),
        ];
        ui.painter().extend(Shape::dashed_line(&corners, stroke, 3.0, 2.0));
    } else {
        ui.painter().rect_stroke(frame, 2, stroke, StrokeKind::Inside);
    }
    let font = theme::strong(11.0);
    ui.painter().text(rect.center(), Align2::CENTER_CENTER, name, font, theme.strong);
}
