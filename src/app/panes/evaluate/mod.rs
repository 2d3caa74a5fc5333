//! The Evaluate pane: how well the gallery's own captions find their items and whether the
//! uncertain captions find them worse; and, in a tab of its own, all methods on the same pairs.
//!
//! In comes the last evaluation, out goes the order to make one. How it is made is not known here.

mod experiment;

use egui::{RichText, ScrollArea, Ui};

use self::experiment::ExperimentView;
use super::Cx;
use crate::app::action::Action;
use crate::app::chart::{AxisSpec, Chart, short_number};
use crate::app::icons;
use crate::app::state::Study;
use crate::app::state::jobs::JobKind;
use crate::app::theme;
use crate::app::widgets;
use crate::gallery::{Interval, wilson};
use crate::session::engine::JobFailure;
use crate::session::studies::evaluation::Evaluation;

/// View state of the Evaluate pane.
#[derive(Default)]
pub struct EvaluatePane {
    tab: Tab,
    experiment: ExperimentView,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Tab {
    #[default]
    Gallery,
    Methods,
}

impl EvaluatePane {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        ui.horizontal(|ui| {
            ui.selectable_value(&mut self.tab, Tab::Gallery, "This gallery")
                .on_hover_text("The models of the query form on the gallery's own captions");
            ui.selectable_value(&mut self.tab, Tab::Methods, "All methods")
                .on_hover_text("Many methods, trained and scored on the same pairs");
        });
        ui.add_space(4.0);
        match self.tab {
            Tab::Gallery => gallery_ui(ui, cx),
            Tab::Methods => {
                ScrollArea::vertical()
                    .id_salt("experiment")
                    .auto_shrink(false)
                    .show(ui, |ui| self.experiment.ui(ui, cx));
            }
        }
    }
}

fn gallery_ui(ui: &mut Ui, cx: &mut Cx<'_>) {
    let state = cx.state;
    let job = state.jobs.latest(JobKind::Evaluate);
    if job.is_none() && matches!(state.evaluation, Study::None) {
        widgets::centred(ui, |ui| {
            ui.label(RichText::new(icons::GAUGE).size(32.0).color(cx.theme.muted));
            ui.add_space(4.0);
            ui.label(RichText::new(ABOUT).color(cx.theme.muted));
            ui.add_space(8.0);
            start_button(ui, cx, false);
        });
        return;
    }
    ScrollArea::vertical().auto_shrink(false).show(ui, |ui| {
        ui.horizontal_wrapped(|ui| start_button(ui, cx, job.is_some()));
        ui.add_space(8.0);
        if let Some(job) = job {
            widgets::busy(ui, cx, job);
        }
        match &state.evaluation {
            Study::Done { result, .. } => result_ui(ui, cx, result),
            Study::Failed(failure) if job.is_none() => {
                let failure = JobFailure { smaller_batch: None, ..failure.clone() };
                widgets::failure(ui, cx, "The evaluation failed", &failure);
            }
            _ => note(ui, cx, ABOUT),
        }
    });
}

const ABOUT: &str = "Searches the gallery with each of its own captions, and looks whether the \
                     captions that the adapter is more uncertain about find their item worse.";

fn start_button(ui: &mut Ui, cx: &mut Cx<'_>, running: bool) {
    ui.add_enabled_ui(!running, |ui| {
        let text = format!("{} Evaluate on this gallery's captions", icons::GAUGE);
        let response = widgets::primary_button(ui, cx.theme, &text)
            .on_hover_text("Takes the models and the gallery of the query form")
            .on_disabled_hover_text("An evaluation is running");
        if response.clicked() {
            cx.send(Action::Evaluate);
        }
    });
}

fn result_ui(ui: &mut Ui, cx: &Cx<'_>, evaluation: &Evaluation) {
    let Evaluation { gallery, captions, items, .. } = evaluation;
    let text = format!("{gallery}: {captions} captions, {items} items");
    ui.add(egui::Label::new(RichText::new(text).color(cx.theme.muted)).truncate());
    ui.add_space(4.0);
    heading(ui, cx, "Own item among the first k, by the frozen embedding");
    egui::Grid::new("recall").num_columns(2).spacing([16.0, 4.0]).show(ui, |ui| {
        for (k, recall) in [1, 5, 10].into_iter().zip(evaluation.recall) {
            ui.label(format!("Recall@{k}")).on_hover_text(format!(
                "Share of captions whose own item is among the first {k}. The interval says how \
                 far the share could be off for other captions like these."
            ));
            ui.horizontal_wrapped(|ui| {
                let share = format!("{:.1} %", 100.0 * recall);
                ui.label(RichText::new(share).font(theme::strong(13.0)).color(cx.theme.strong));
                let text = counted(recall, *captions);
                ui.label(RichText::new(text).small().color(cx.theme.muted));
            });
            ui.end_row();
        }
    });
    ui.add_space(12.0);
    heading(ui, cx, "Do uncertain captions retrieve worse?");
    ui.add(egui::Label::new(spearman_in_words(evaluation.spearman)).wrap()).on_hover_text(
        "Spearman's rank correlation between the mean aleatoric variance of a caption and the \
         rank of its own item: 1 where the order is the same, 0 where they have nothing to do \
         with each other.",
    );
    bins(ui, cx, evaluation);
    note(
        ui,
        cx,
        "This measures the order only: whether more uncertainty goes with worse retrieval on this \
         gallery. It does not say that the spread has the right size, nor how it behaves on other \
         galleries.",
    );
}

/// Recall by uncertainty.
fn bins(ui: &mut Ui, cx: &Cx<'_>, evaluation: &Evaluation) {
    let bins: Vec<_> = evaluation.bins.iter().filter(|bin| bin.count > 0).collect();
    if bins.is_empty() {
        return;
    }
    let label = "mean aleatoric variance of the bin, squared embedding units";
    let x = padded(label, bins.iter().map(|bin| bin.aleatoric));
    let y = AxisSpec::between("recall@10, share of captions", 0.0, 1.0);
    let name = "Recall at 10 by uncertainty";
    let chart = Chart::new(ui, cx.theme, name, 210.0, &x, &y);
    let over = chart.nearest(bins.iter().map(|bin| bin.aleatoric));
    if let Some(bin) = over.map(|bin| bins[bin]) {
        chart.highlight(bin.aleatoric, cx.theme);
    }
    for bin in &bins {
        let Interval { low, high } = interval(bin.recall_at_10, bin.count);
        chart.interval(bin.aleatoric, [low, high], 2.0, cx.theme.aleatoric);
        let at = chart.at(bin.aleatoric, bin.recall_at_10);
        chart.painter.circle_filled(at, 5.0, cx.theme.aleatoric);
    }
    if let Some(bin) = over.map(|bin| bins[bin]) {
        chart.response.on_hover_text_at_pointer(format!(
            "Aleatoric variance {}\nrecall@10 {:.1} % ({})",
            short_number(bin.aleatoric),
            100.0 * bin.recall_at_10,
            counted(bin.recall_at_10, bin.count)
        ));
    }
    let counts = bins.iter().map(|bin| bin.count);
    let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
    let n = if least == most { format!("{least}") } else { format!("{least} to {most}") };
    let text = format!(
        "Captions in {} bins of growing uncertainty, n = {n} in each; dot: recall@10, line: 95 % \
         Wilson interval.",
        bins.len()
    );
    note(ui, cx, &text);
}

/// An axis with room for the marks at both ends.
fn padded(label: &str, values: impl Iterator<Item = f64> + Clone) -> AxisSpec {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(f64::NEG_INFINITY, f64::max);
    let room = if high > low { 0.08 * (high - low) } else { low.abs().max(1e-6) * 0.1 };
    AxisSpec::between(label, low - room, high + room)
}

fn interval(share: f64, count: usize) -> Interval {
    wilson((share * count as f64).round() as usize, count.max(1))
}

/// "1220 of 2000; 58.9-63.1 %, 95 % Wilson".
fn counted(share: f64, count: usize) -> String {
    let Interval { low, high } = interval(share, count);
    format!(
        "{:.0} of {count}; {:.1}-{:.1} %, 95 % Wilson",
        share * count as f64,
        100.0 * low,
        100.0 * high
    )
}

/// What a rank correlation between uncertainty and rank says.
fn spearman_in_words(rho: f64) -> String {
    let how = match rho.abs() {
        size if size < 0.1 => None,
        size if size < 0.3 => Some("weakly"),
        size if size < 0.6 => Some("moderately"),
        _ => Some("strongly"),
    };
    let what = match how {
        None => "Uncertainty and rank have hardly anything to do with each other".to_owned(),
        Some(how) if rho > 0.0 => {
            format!("The more uncertain a caption, the later its own item, {how}")
        }
        Some(how) => format!(
            "The more uncertain a caption, the earlier its own item, {how}: the wrong way round"
        ),
    };
    format!("{what} (Spearman's ρ = {rho:.2}).")
}

fn heading(ui: &mut Ui, cx: &Cx<'_>, text: &str) {
    let text = RichText::new(text).font(theme::strong(12.0)).color(cx.theme.strong);
    ui.add(egui::Label::new(text).wrap());
}

fn note(ui: &mut Ui, cx: &Cx<'_>, text: &str) {
    ui.add(egui::Label::new(RichText::new(text).small().color(cx.theme.muted)).wrap());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_comes_with_its_count_and_interval() {
        assert_eq!(counted(0.5, 64), "32 of 64; 38.1-61.9 %, 95 % Wilson");
        assert_eq!(counted(0.0, 64), "0 of 64; 0.0-5.7 %, 95 % Wilson");
        assert!(counted(0.0, 0).starts_with("0 of 0"));
    }

    #[test]
    fn the_words_follow_sign_and_size_of_the_correlation() {
        assert!(spearman_in_words(0.05).contains("hardly anything"));
        assert!(spearman_in_words(0.4).contains("later its own item, moderately"));
        assert!(spearman_in_words(-0.7).contains("strongly: the wrong way round"));
    }

    #[test]
    fn marks_at_the_ends_of_an_axis_have_room() {
        let axis = padded("x", [1.0, 2.0].into_iter());
        assert!(axis.low < 1.0 && axis.high > 2.0);
        let axis = padded("x", [3.0].into_iter());
        assert!(axis.low < 3.0 && axis.high > 3.0);
    }
}
