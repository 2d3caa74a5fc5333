//! All methods on the same pairs: what is asked for, and the report as it grows.
//!
//! In comes the report so far, out go the orders to run an experiment or to write its report.

use std::collections::BTreeSet;

use egui::{Color32, ComboBox, DragValue, RichText, Stroke, TextEdit, Ui};

use super::{heading, note};
use crate::app::action::{Action, BrowseFor};
use crate::app::chart::{AxisSpec, Chart};
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::state::Study;
use crate::app::state::jobs::JobKind;
use crate::app::theme;
use crate::app::widgets;
use crate::evaluation::{Estimate, LevelTrend};
use crate::experiment::report::{
    Budget, DirectionReport, MethodReport, ProbVlmSettings, Report, Settings, TestReport, Whose,
};
use crate::experiment::{Direction, Method};
use crate::session::engine::JobFailure;
use crate::session::experiments::{ExperimentData, ExperimentRequest, PairSource};

const ABOUT: &str = "Trains and scores methods on the same pairs, and shows which of them know \
                     when retrieval is wrong. Without caches it takes the demo's pairs; haze embed \
                     --dataset makes caches of your own.";
/// Learned quickly enough to look at; the command line takes all.
const FIRST_METHODS: [Method; 6] = [
    Method::ProbVlm,
    Method::Gaussian,
    Method::Pfe,
    Method::CosineDistance,
    Method::Entropy,
    Method::Random,
];

/// What is asked for, and what is looked at.
pub struct ExperimentView {
    training: String,
    validation: String,
    test: String,
    methods: BTreeSet<Method>,
    seeds: u64,
    epochs: usize,
    whose: Whose,
    test_set: usize,
    direction: Direction,
    shown: Option<Method>,
}

impl Default for ExperimentView {
    fn default() -> Self {
        Self {
            training: String::new(),
            validation: String::new(),
            test: String::new(),
            methods: FIRST_METHODS.into_iter().collect(),
            seeds: 2,
            epochs: 10,
            whose: Whose::Query,
            test_set: 0,
            direction: Direction::TextToImage,
            shown: None,
        }
    }
}

impl ExperimentView {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        let job = state.jobs.latest(JobKind::Experiment);
        note(ui, cx, ABOUT);
        ui.add_space(6.0);
        ui.add_enabled_ui(job.is_none(), |ui| self.form(ui, cx));
        ui.add_space(8.0);
        if let Some(job) = job {
            widgets::busy(ui, cx, job);
            if let Some(step) = &state.experiment_step {
                note(ui, cx, step);
            }
            ui.add_space(8.0);
        }
        match &state.experiment {
            Study::Done { result, .. } => self.report(ui, cx, result, job.is_some()),
            Study::Failed(failure) if job.is_none() => {
                let failure = JobFailure { smaller_batch: None, ..failure.clone() };
                widgets::failure(ui, cx, "The experiment failed", &failure);
            }
            _ => {}
        }
    }

    fn form(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let chosen = self.methods.len();
        let title = format!("Methods ({chosen} of {})", Method::ALL.len());
        egui::CollapsingHeader::new(title).id_salt("methods").show(ui, |ui| {
            ui.horizontal_wrapped(|ui| {
                for method in Method::ALL {
                    let mut wanted = self.methods.contains(&method);
                    if ui.checkbox(&mut wanted, method.label()).changed() {
                        match wanted {
                            true => self.methods.insert(method),
                            false => self.methods.remove(&method),
                        };
                    }
                }
            });
        });
        egui::CollapsingHeader::new("Data").id_salt("data").show(ui, |ui| {
            let fields = [
                ("Learn from", &mut self.training, "demo pairs, split train"),
                ("Stop by", &mut self.validation, "demo pairs, split val"),
                ("Test on", &mut self.test, "demo gallery"),
            ];
            egui::Grid::new("pairs").num_columns(2).spacing([8.0, 4.0]).show(ui, |ui| {
                for (label, text, hint) in fields {
                    let label = ui.label(label);
                    ui.add(TextEdit::singleline(text).hint_text(hint).desired_width(260.0))
                        .labelled_by(label.id)
                        .on_hover_text("A cache of embedded pairs, or PATH:SPLIT,SPLIT");
                    ui.end_row();
                }
            });
        });
        ui.horizontal_wrapped(|ui| {
            let label = ui.label("Seeds");
            ui.add(DragValue::new(&mut self.seeds).range(1..=20)).labelled_by(label.id);
            let label = ui.label("Epochs at most");
            ui.add(DragValue::new(&mut self.epochs).range(1..=500)).labelled_by(label.id);
            let label = ui.label("Uncertainty of");
            let combo = ComboBox::from_id_salt("whose").selected_text(words(self.whose));
            let response = combo.show_ui(ui, |ui| {
                for whose in [Whose::Query, Whose::Retrieved, Whose::Sum] {
                    ui.selectable_value(&mut self.whose, whose, words(whose));
                }
            });
            response.response.labelled_by(label.id);
        });
        ui.add_space(4.0);
        match self.request() {
            Ok(request) => {
                let text = format!("{} Compare {chosen} methods", icons::GAUGE);
                if widgets::primary_button(ui, cx.theme, &text).clicked() {
                    cx.send(Action::Experiment(Box::new(request)));
                }
            }
            Err(reason) => {
                ui.label(RichText::new(reason).color(cx.theme.warning));
            }
        }
    }

    /// What the form asks for, or what is missing.
    fn request(&self) -> Result<ExperimentRequest, String> {
        if self.methods.is_empty() {
            return Err("Choose at least one method.".to_owned());
        }
        let source = |text: &str| text.trim().parse::<PairSource>();
        let fields = [&self.training, &self.validation, &self.test];
        let filled = fields.iter().filter(|text| !text.trim().is_empty()).count();
        let data = match filled {
            0 => ExperimentData::Demo,
            3 => ExperimentData::Pairs {
                training: source(&self.training)?,
                validation: source(&self.validation)?,
                tests: vec![source(&self.test)?],
            },
            _ => return Err("Name pairs to learn from, to stop by and to test on, or none.".into()),
        };
        Ok(ExperimentRequest {
            data,
            encoder: None,
            plausible: Vec::new(),
            settings: Settings {
                methods: Method::ALL.into_iter().filter(|m| self.methods.contains(m)).collect(),
                seeds: (0..self.seeds).collect(),
                whose: self.whose,
                levels: vec![5, 10, 20],
                bootstrap: 500,
                permutations: 1000,
                budget: Budget { epochs: self.epochs, ..Budget::default() },
                probvlm: ProbVlmSettings::default(),
            },
            save_adapters: None,
        })
    }

    fn report(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, report: &Report, running: bool) {
        let Some(test) = report.tests.get(self.test_set).or(report.tests.first()) else { return };
        ui.horizontal_wrapped(|ui| {
            for (i, other) in report.tests.iter().enumerate().filter(|_| report.tests.len() > 1) {
                ui.selectable_value(&mut self.test_set, i, &other.split.name);
            }
            for direction in Direction::BOTH {
                let name = widgets::capitalised(&direction.to_string());
                ui.selectable_value(&mut self.direction, direction, name);
            }
            ui.add_enabled_ui(!running, |ui| {
                let response = ui.button("Write report…").on_hover_text(
                    "Tables (CSV, Parquet, Markdown, JSON) and figures (PNG, SVG) into a folder",
                );
                if response.clicked() {
                    cx.send(Action::Browse(BrowseFor::Report));
                }
            });
        });
        let wanted = self.direction;
        let Some(direction) = test.directions.iter().find(|d| d.direction == wanted) else {
            return;
        };
        recall_line(ui, test, direction);
        self.table(ui, cx, direction);
        let shown = self.shown.and_then(|method| direction.method(method));
        if let Some(method) = shown.or(direction.methods.first()) {
            levels(ui, cx, method);
            risk(ui, cx, method, direction.method(Method::CosineDistance));
            transforms(ui, cx, method);
        }
        reliability(ui, cx, direction);
        for text in &report.notes {
            note(ui, cx, text);
        }
    }

    /// One row per method, best AURC first; a click chooses the method of the charts.
    fn table(&mut self, ui: &mut Ui, cx: &Cx<'_>, direction: &DirectionReport) {
        let mut methods: Vec<&MethodReport> = direction.methods.iter().collect();
        methods.sort_by(|a, b| a.aurc.value.total_cmp(&b.aurc.value));
        let shown = self.shown.filter(|m| direction.method(*m).is_some());
        let shown = shown.or(direction.methods.first().map(|m| m.method));
        egui::ScrollArea::horizontal().id_salt("methods table").show(ui, |ui| {
            let grid = egui::Grid::new("methods").num_columns(5).spacing([14.0, 3.0]);
            grid.striped(true).show(ui, |ui| {
                for (title, hint) in HEADINGS {
                    let text = RichText::new(title).small().color(cx.theme.muted);
                    ui.label(text).on_hover_text(hint);
                }
                ui.end_row();
                for method in methods {
                    let is_shown = shown == Some(method.method);
                    let name = ui.selectable_label(is_shown, method.method.label());
                    if name.on_hover_text("Show its charts").clicked() {
                        self.shown = Some(method.method);
                    }
                    number(ui, cx, &method.aurc);
                    match &method.aurc_against_cosine {
                        Some(difference) => difference_label(ui, cx, difference),
                        None => {
                            ui.label("");
                        }
                    }
                    match &method.auroc {
                        Some(auroc) => number(ui, cx, auroc),
                        None => {
                            ui.label("-");
                        }
                    }
                    number(ui, cx, &method.minus_s_r2);
                    ui.end_row();
                }
            });
        });
        note(
            ui,
            cx,
            "Point at a number for its 95 % interval over queries and seeds. At five levels noise \
             exceeds a -S·R² of 0.51 one time in twenty: compare by AURC and AUROC.",
        );
    }
}

const HEADINGS: [(&str, &str); 5] = [
    ("method", "Sorted by AURC"),
    ("AURC", "Area under the risk-coverage curve: lower is better"),
    (
        "- cosine's",
        "The same minus that of plain cosine distance, over the same queries: below 0 is better. \
         Coloured where the interval is clear of 0.",
    ),
    ("AUROC", "Of a wrong best match, by uncertainty: 0.5 is chance, 1 ideal"),
    ("-S·R²", "Trend of recall over five levels of uncertainty: 1 is ideal"),
];

fn words(whose: Whose) -> &'static str {
    match whose {
        Whose::Query => "the query",
        Whose::Retrieved => "the best match",
        Whose::Sum => "both, added",
    }
}

fn interval_text(estimate: &Estimate) -> String {
    format!("{:.3}; 95 %: {:.3} to {:.3}", estimate.value, estimate.low, estimate.high)
}

fn number(ui: &mut Ui, cx: &Cx<'_>, estimate: &Estimate) {
    let text = RichText::new(format!("{:.3}", estimate.value)).monospace().color(cx.theme.strong);
    ui.label(text).on_hover_text(interval_text(estimate));
}

fn difference_label(ui: &mut Ui, cx: &Cx<'_>, difference: &Estimate) {
    let colour = match (difference.low > 0.0, difference.high < 0.0) {
        (true, _) => cx.theme.error,
        (_, true) => cx.theme.success,
        _ => cx.theme.muted,
    };
    let text = RichText::new(format!("{:+.3}", difference.value)).monospace().color(colour);
    ui.label(text).on_hover_text(interval_text(difference));
}

fn recall_line(ui: &mut Ui, test: &TestReport, direction: &DirectionReport) {
    let [one, five, ten] = direction.recall.map(|recall| 100.0 * recall.value);
    let text = format!(
        "{}: {} queries, recall@1 {one:.1} %, @5 {five:.1} %, @10 {ten:.1} % ({}; chance {:.1} %)",
        test.split.name,
        direction.queries,
        if test.by_class { "by class" } else { "by pair" },
        100.0 * direction.chance[0]
    );
    ui.add(egui::Label::new(RichText::new(text).font(theme::strong(12.0))).wrap());
    ui.add_space(4.0);
}

/// Recall over levels, for every seed.
fn levels(ui: &mut Ui, cx: &Cx<'_>, method: &MethodReport) {
    let trends: Vec<&LevelTrend> = method
        .seeds
        .iter()
        .filter_map(|s| s.trends.iter().find(|t| t.requested == 10).or(s.trends.first()))
        .collect();
    let Some(first) = trends.first() else { return };
    ui.add_space(10.0);
    heading(ui, cx, &format!("{}: recall over levels of uncertainty", method.method.label()));
    let count = trends.iter().map(|t| t.levels.len()).max().unwrap_or(1);
    let x = AxisSpec::between("level of uncertainty", 0.5, count as f64 + 0.5).whole();
    let recalls = trends.iter().flat_map(|t| t.levels.iter().map(|l| l.recall));
    let y = AxisSpec::from_zero("recall@1, share of the level's queries", recalls);
    let chart = Chart::new(ui, cx.theme, "Recall at 1 by level of uncertainty", 190.0, &x, &y);
    for trend in &trends {
        let points: Vec<_> =
            trend.levels.iter().map(|l| chart.at(l.index as f64 + 1.0, l.recall)).collect();
        chart.painter.line(points.clone(), Stroke::new(1.5, cx.theme.aleatoric));
        for point in points {
            chart.painter.circle_filled(point, 3.0, cx.theme.aleatoric);
        }
    }
    note(
        ui,
        cx,
        &format!(
            "One line per seed. -S·R² of the first: {:+.2} (95 %: {:+.2} to {:+.2}); {:.1} % of \
             random orders do as well.",
            first.minus_s_r2,
            first.interval[0],
            first.interval[1],
            100.0 * first.p_value
        ),
    );
}

/// Risk over coverage, beside that of cosine distance.
fn risk(ui: &mut Ui, cx: &Cx<'_>, method: &MethodReport, cosine: Option<&MethodReport>) {
    let Some(curve) = method.seeds.first().map(|seed| &seed.failure.curve) else { return };
    ui.add_space(10.0);
    heading(ui, cx, &format!("{}: wrong answers when the rest is left out", method.method.label()));
    let cosine = cosine.filter(|other| other.method != method.method);
    let other = cosine.and_then(|m| m.seeds.first()).map(|seed| &seed.failure.curve);
    let x = AxisSpec::between("share of the queries that are answered, surest first", 0.0, 1.0);
    let risks = curve.iter().chain(other.into_iter().flatten()).map(|point| point[1]);
    let y = AxisSpec::from_zero("share of wrong answers", risks);
    let chart = Chart::new(ui, cx.theme, "Risk by coverage", 190.0, &x, &y);
    let line = |curve: &[[f64; 2]], colour: Color32| {
        let points = curve.iter().map(|p| chart.at(p[0], p[1])).collect();
        chart.painter.line(points, Stroke::new(2.0, colour));
    };
    if let Some(other) = other {
        line(other, cx.theme.muted);
    }
    line(curve, cx.theme.aleatoric);
    let grey = if other.is_some() { " Grey: cosine distance." } else { "" };
    note(ui, cx, &format!("First seed; the area below is the AURC.{grey}"));
}

/// Probability integral transforms, where the method predicts densities.
fn transforms(ui: &mut Ui, cx: &Cx<'_>, method: &MethodReport) {
    let Some(checks) = &method.likelihood else { return };
    ui.add_space(10.0);
    heading(ui, cx, &format!("{}: are its densities right?", method.method.label()));
    let x = AxisSpec::between("where targets fall in their densities, per dimension", 0.0, 1.0);
    let y = AxisSpec::from_zero("share of targets", checks.pit.iter().copied());
    let chart = Chart::new(ui, cx.theme, "Probability integral transforms", 130.0, &x, &y);
    let bins = checks.pit.len().max(1) as f64;
    for (bin, share) in checks.pit.iter().enumerate() {
        let low = chart.at(bin as f64 / bins, 0.0);
        let high = chart.at((bin as f64 + 1.0) / bins, *share);
        let rect = egui::Rect::from_two_pos(low, high).shrink2(egui::vec2(0.5, 0.0));
        chart.painter.rect_filled(rect, 0.0, cx.theme.aleatoric);
    }
    let even = [chart.at(0.0, 1.0 / bins), chart.at(1.0, 1.0 / bins)];
    chart.painter.line_segment(even, Stroke::new(1.0, cx.theme.strong));
    let observed: Vec<String> = checks
        .coverage
        .iter()
        .map(|c| format!("{:.0} % in the central {:.0} %", 100.0 * c.observed, 100.0 * c.nominal))
        .collect();
    note(
        ui,
        cx,
        &format!(
            "Line: what right densities give. {}. {:.3} nats per dimension, one Gaussian for all \
             {:.3}.",
            observed.join(", "),
            checks.nll,
            checks.nll_constant
        ),
    );
}

/// Confidence of the softmax over the gallery, before and after temperature scaling.
fn reliability(ui: &mut Ui, cx: &Cx<'_>, direction: &DirectionReport) {
    let Some(found) = &direction.confidence else { return };
    ui.add_space(10.0);
    heading(ui, cx, "Does the softmax's confidence mean what it says?");
    let x = AxisSpec::between("mean confidence of the bin", 0.0, 1.0);
    let y = AxisSpec::between("share of right answers", 0.0, 1.0);
    let chart = Chart::new(ui, cx.theme, "Reliability", 200.0, &x, &y);
    let diagonal = [chart.at(0.0, 0.0), chart.at(1.0, 1.0)];
    chart.painter.line_segment(diagonal, Stroke::new(1.0, cx.theme.muted));
    let scaled = direction.scaled_confidence.as_ref();
    for (found, colour) in [(Some(found), cx.theme.aleatoric), (scaled, cx.theme.epistemic)] {
        let Some(found) = found else { continue };
        let points: Vec<_> =
            found.bins.iter().map(|bin| chart.at(bin.mean_confidence, bin.accuracy)).collect();
        chart.painter.line(points.clone(), Stroke::new(1.5, colour));
        for point in points {
            chart.painter.circle_filled(point, 3.5, colour);
        }
    }
    let ece = |e: &Estimate| format!("{:.3} (95 %: {:.3} to {:.3})", e.value, e.low, e.high);
    let mut text = format!("Orange: the encoder's logit scale, ECE {}.", ece(&found.ece));
    if let Some(scaled) = scaled {
        text += &format!(
            " Blue: temperature scaled on the validation pairs, ECE {}.",
            ece(&scaled.ece)
        );
    }
    note(ui, cx, &text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_asks_for_the_demo_or_for_all_three_pairs() {
        let mut view = ExperimentView::default();
        let request = view.request().unwrap();
        assert_eq!(request.data, ExperimentData::Demo);
        assert_eq!(request.settings.methods.len(), FIRST_METHODS.len());
        view.training = "a:train".to_owned();
        assert!(view.request().unwrap_err().contains("or none"));
        (view.validation, view.test) = ("a:val".to_owned(), "a:test".to_owned());
        let ExperimentData::Pairs { tests, .. } = view.request().unwrap().data else { panic!() };
        assert_eq!(tests[0].splits, ["test"]);
        view.methods.clear();
        assert!(view.request().unwrap_err().contains("method"));
    }
}
