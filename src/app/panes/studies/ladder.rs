//! Uncertainty over queries of growing specificity, or over one image masked more and more.

use std::sync::Arc;

use egui::{Align2, FontId, Rect, RichText, Sense, Stroke, Ui, WidgetInfo, pos2, vec2};

use super::{job_state, note, segments};
use crate::app::action::Action;
use crate::app::chart::{AxisSpec, Chart, diamond, short_number};
use crate::app::command::UiCommand;
use crate::app::icons;
use crate::app::notices::{Notice, Severity};
use crate::app::panes::Cx;
use crate::app::state::Study;
use crate::app::state::jobs::JobKind;
use crate::app::theme;
use crate::app::widgets;
use crate::session::engine::{LadderRequest, LadderSteps};
use crate::session::recipe::RecipeQuery;
use crate::session::studies::ladder::{Ladder, LadderStep, MAX_STEPS};

const EXAMPLE: &str = "food\na drawing of food\na drawing of a red fruit\n\
                       a glossy drawing of a red apple";
/// Shares of the image that are masked, step by step.
const MASKS: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 0.9];
const ROW: f32 = 24.0;
const STEP_WIDTH: f32 = 28.0;
/// Titles keep this width before a column of numbers is shown.
const TITLE_WIDTH: f32 = 110.0;

/// Where the steps of the next ladder come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Texts,
    Masks,
}

/// The steps as they are being edited.
pub struct LadderView {
    source: Source,
    texts: String,
    /// The step that the pointer was over, in the chart or the table.
    hovered: Option<usize>,
}

impl Default for LadderView {
    fn default() -> Self {
        Self { source: Source::Texts, texts: EXAMPLE.to_owned(), hovered: None }
    }
}

impl LadderView {
    pub fn ui(&mut self, ui: &mut Ui, cx: &mut Cx<'_>) {
        let state = cx.state;
        segments(
            ui,
            &mut self.source,
            &[
                (
                    Source::Texts,
                    icons::TEXT_AA,
                    "Texts",
                    "Texts from the least to the most specific, one per line",
                ),
                (
                    Source::Masks,
                    icons::IMAGE,
                    "Masked image",
                    "The image of the Query pane, hidden more and more",
                ),
            ],
        );
        let steps = match self.source {
            Source::Texts => self.edit_texts(ui, cx),
            Source::Masks => masks(ui, cx),
        };
        let job = state.jobs.latest(JobKind::Ladder);
        ui.horizontal_wrapped(|ui| {
            let why = match (&steps, job) {
                (_, Some(_)) => "A ladder is being climbed",
                (Err(reason), None) => reason,
                _ => "",
            };
            ui.add_enabled_ui(steps.is_ok() && job.is_none(), |ui| {
                let text = format!("{} Climb the ladder", icons::STAIRS);
                let response = widgets::primary_button(ui, cx.theme, &text)
                    .on_hover_text("Predicts the uncertainty of every step with the form's models")
                    .on_disabled_hover_text(why);
                if response.clicked()
                    && let Ok(steps) = &steps
                {
                    climb(cx, steps.clone());
                }
            });
            if let Err(reason) = &steps {
                ui.label(RichText::new(*reason).small().color(cx.theme.muted));
            }
        });
        if job_state(ui, cx, job, &state.ladder, "The ladder failed") {
            return;
        }
        match &state.ladder {
            Study::Done { result, .. } => {
                ui.add_space(8.0);
                self.result(ui, cx, result);
            }
            _ => note(
                ui,
                cx,
                "Where the model understands specificity, its uncertainty falls from step to \
                 step.",
            ),
        }
    }

    fn edit_texts(&mut self, ui: &mut Ui, cx: &Cx<'_>) -> Result<LadderSteps, &'static str> {
        let edit = egui::TextEdit::multiline(&mut self.texts)
            .hint_text("One text per line, the least specific first")
            .desired_rows(4)
            .desired_width(f32::INFINITY);
        ui.add(edit).widget_info(|| {
            let mut info = WidgetInfo::labeled(egui::Role::TextInput, true, "Steps of the ladder");
            info.current_text_value = Some(self.texts.clone());
            info
        });
        if self.texts != EXAMPLE && ui.link("Use the example").clicked() {
            EXAMPLE.clone_into(&mut self.texts);
        }
        let texts = texts(&self.texts);
        note(ui, cx, &format!("{} steps, one per line, the least specific first", texts.len()));
        if texts.len() < 2 {
            return Err("Write at least two lines");
        }
        if texts.len() > MAX_STEPS {
            return Err("Too many lines: 64 steps at most");
        }
        Ok(LadderSteps::Queries(texts.into_iter().map(RecipeQuery::Text).collect()))
    }

    fn result(&mut self, ui: &mut Ui, cx: &mut Cx<'_>, ladder: &Ladder) {
        ui.add(
            egui::Label::new(
                RichText::new(trend(ladder)).font(theme::strong(13.0)).color(cx.theme.strong),
            )
            .wrap(),
        )
        .on_hover_text(
            "Kendall's τ between step and mean aleatoric variance: -1 where every step is less \
             uncertain than the one before, 1 where every step is more. p: how often shuffled \
             steps give a τ as far from 0 (two-sided).",
        );
        let count = ladder.steps.len();
        if let Some(text) = smallest_p(count) {
            note(ui, cx, &text);
        }
        let hovered = self.hovered.filter(|&step| step < count);
        let over_spread = spread(ui, cx, ladder, hovered);
        let over_cosine = cosine(ui, cx, ladder, hovered);
        ui.add_space(8.0);
        let over_table = table(ui, cx, ladder, hovered);
        let now = over_spread.or(over_cosine).or(over_table);
        if now != self.hovered {
            self.hovered = now;
            ui.ctx().request_repaint();
        }
    }
}

fn masks(ui: &mut Ui, cx: &mut Cx<'_>) -> Result<LadderSteps, &'static str> {
    let shares: Vec<String> = MASKS.iter().map(|share| format!("{:.0}", share * 100.0)).collect();
    match &cx.state.form.image {
        Some(image) => {
            let name = image.file_name().map_or_else(
                || image.display().to_string(),
                |name| name.to_string_lossy().into_owned(),
            );
            let text = format!("{name}, {} % of its area masked", shares.join(", "));
            ui.add(egui::Label::new(text).wrap()).on_hover_text(image.display().to_string());
            Ok(LadderSteps::Masks { image: image.clone(), shares: MASKS.to_vec() })
        }
        None => {
            ui.horizontal_wrapped(|ui| {
                ui.label("An image is needed.");
                widgets::command_button(ui, cx, UiCommand::OpenFile);
            });
            Err("Open an image first")
        }
    }
}

/// Asks for the ladder with everything else as in the form.
fn climb(cx: &mut Cx<'_>, steps: LadderSteps) {
    let first = match &steps {
        LadderSteps::Queries(queries) => queries.first().cloned(),
        LadderSteps::Masks { image, .. } => Some(RecipeQuery::image(image)),
    };
    let Some(first) = first else { return };
    match cx.state.form.recipe_for(first, &cx.state.assets) {
        Ok(recipe) => {
            cx.send(Action::Ladder(LadderRequest { recipe: Box::new(recipe), steps }));
        }
        Err(error) => cx.send(Action::Notify(Notice::new(
            Severity::Error,
            "The ladder cannot be climbed",
            error.to_string(),
        ))),
    }
}

/// The lines that are not empty.
fn texts(lines: &str) -> Vec<String> {
    lines.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn step_axis(count: usize) -> AxisSpec {
    AxisSpec::between("step", 0.5, count as f64 + 0.5).whole()
}

/// The aleatoric variance of every step, spread over dimensions; the step under the pointer.
fn spread(ui: &mut Ui, cx: &Cx<'_>, ladder: &Ladder, hovered: Option<usize>) -> Option<usize> {
    let steps = &ladder.steps;
    let values = steps.iter().flat_map(|step| [step.quantiles[4], step.aleatoric]);
    let y =
        AxisSpec::from_zero("aleatoric variance of a dimension, squared embedding units", values);
    let name = "Aleatoric variance by step of the ladder";
    let chart = Chart::new(ui, cx.theme, name, 190.0, &step_axis(steps.len()), &y);
    let over = chart.nearest((1..=steps.len()).map(|step| step as f64));
    if let Some(step) = over.or(hovered) {
        chart.highlight(step as f64 + 1.0, cx.theme);
    }
    for (i, step) in steps.iter().enumerate() {
        let x = (i + 1) as f64;
        let [q5, q25, q50, q75, q95] = step.quantiles;
        chart.interval(x, [q5, q95], 1.5, cx.theme.aleatoric);
        chart.interval(x, [q25, q75], 5.0, cx.theme.aleatoric);
        let median = chart.at(x, q50);
        chart.painter.circle(median, 3.5, cx.theme.panel, Stroke::new(1.5, cx.theme.aleatoric));
        diamond(&chart.painter, chart.at(x, step.aleatoric), 4.5, cx.theme.query);
    }
    if let Some(step) = over.and_then(|step| steps.get(step)) {
        chart.response.on_hover_text_at_pointer(describe(step));
    }
    let text = format!(
        "Spread over the dimensions: thin middle 90 %, thick 50 %, ring median, diamond mean; \
         n = {} dimensions at each of {} steps.",
        ladder.dimensions,
        steps.len()
    );
    note(ui, cx, &text);
    over
}

/// The baseline without any adapter; the step under the pointer.
fn cosine(ui: &mut Ui, cx: &Cx<'_>, ladder: &Ladder, hovered: Option<usize>) -> Option<usize> {
    let steps = &ladder.steps;
    let label = "baseline: cosine of the embedding with that of the last step";
    let y = AxisSpec::around(label, steps.iter().map(|step| step.cosine_to_last));
    let name = "Cosine with the last step, by step of the ladder";
    let chart = Chart::new(ui, cx.theme, name, 110.0, &step_axis(steps.len()), &y);
    let over = chart.nearest((1..=steps.len()).map(|step| step as f64));
    if let Some(step) = over.or(hovered) {
        chart.highlight(step as f64 + 1.0, cx.theme);
    }
    let points: Vec<_> = steps
        .iter()
        .enumerate()
        .map(|(i, step)| chart.at((i + 1) as f64, step.cosine_to_last))
        .collect();
    for pair in points.windows(2) {
        chart.painter.line_segment([pair[0], pair[1]], Stroke::new(1.5, cx.theme.muted));
    }
    for point in points {
        chart.painter.circle_filled(point, 3.0, cx.theme.muted);
    }
    if let Some(step) = over.and_then(|step| steps.get(step)) {
        chart.response.on_hover_text_at_pointer(describe(step));
    }
    note(ui, cx, "What the frozen encoder alone says: no adapter, no uncertainty.");
    over
}

/// A column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Aleatoric,
    Epistemic,
    Percentile,
    Cosine,
}

impl Column {
    const ALL: [Column; 4] =
        [Column::Aleatoric, Column::Epistemic, Column::Percentile, Column::Cosine];
    /// Which are shown first where there is little room.
    const BY_PRIORITY: [Column; 4] =
        [Column::Aleatoric, Column::Percentile, Column::Cosine, Column::Epistemic];

    fn name(self) -> &'static str {
        match self {
            Column::Aleatoric => "aleatoric",
            Column::Epistemic => "epistemic",
            Column::Percentile => "percentile",
            Column::Cosine => "cosine",
        }
    }

    fn tooltip(self) -> &'static str {
        match self {
            Column::Aleatoric => {
                "Spread the model expects because this text or image fits many meanings. More \
                 training data would not remove it. Mean variance per dimension, squared \
                 embedding units."
            }
            Column::Epistemic => {
                "Disagreement between runs of the same adapter with dropout. It should shrink with \
                 more data like this query. Mean variance per dimension, squared embedding units."
            }
            Column::Percentile => {
                "More uncertain than this share of the gallery's own captions or images. A \
                 comparison, not a probability of being wrong."
            }
            Column::Cosine => "Cosine between the embeddings of this step and of the last one",
        }
    }

    fn width(self) -> f32 {
        match self {
            Column::Aleatoric | Column::Epistemic | Column::Percentile => 72.0,
            Column::Cosine => 56.0,
        }
    }

    fn value(self, step: &LadderStep) -> String {
        match self {
            Column::Aleatoric => short_number(step.aleatoric),
            Column::Epistemic => short_number(step.epistemic),
            Column::Percentile => match step.share_below {
                Some(share) => percentile(share),
                None => "-".to_owned(),
            },
            Column::Cosine => format!("{:.3}", step.cosine_to_last),
        }
    }
}

/// The columns that fit beside the titles, in their order.
fn shown_columns(width: f32) -> Vec<Column> {
    let mut left = width - STEP_WIDTH - TITLE_WIDTH;
    let mut shown = Vec::new();
    for column in Column::BY_PRIORITY {
        if column.width() > left {
            break;
        }
        left -= column.width();
        shown.push(column);
    }
    Column::ALL.into_iter().filter(|column| shown.contains(column)).collect()
}

/// One row per step; a click makes it the query. The step under the pointer.
fn table(ui: &mut Ui, cx: &mut Cx<'_>, ladder: &Ladder, hovered: Option<usize>) -> Option<usize> {
    let width = ui.available_width();
    let columns = shown_columns(width);
    let numbers: f32 = columns.iter().map(|column| column.width()).sum();
    let title_width = (width - STEP_WIDTH - numbers - 8.0).max(40.0);
    let (head, _) = ui.allocate_exact_size(vec2(width, 20.0), Sense::hover());
    let small = FontId::proportional(11.0);
    let right_of = |column: usize| -> f32 {
        let before: f32 = columns[..=column].iter().map(|column| column.width()).sum();
        head.right() - numbers + before - 4.0
    };
    let muted = cx.theme.muted;
    let painter = ui.painter();
    painter.text(head.left_center(), Align2::LEFT_CENTER, "step", small.clone(), muted);
    for (i, column) in columns.iter().enumerate() {
        let at = pos2(right_of(i), head.center().y);
        painter.text(at, Align2::RIGHT_CENTER, column.name(), small.clone(), muted);
    }
    for (i, column) in columns.iter().enumerate() {
        let right = right_of(i);
        let rect = Rect::from_x_y_ranges((right - column.width() + 4.0)..=right, head.y_range());
        ui.interact(rect, ui.scope_id().with(("head", i)), Sense::hover())
            .on_hover_text(column.tooltip());
    }
    ui.painter().hline(head.x_range(), head.bottom(), Stroke::new(1.0, cx.theme.hairline));
    let mut over = None;
    for (i, step) in ladder.steps.iter().enumerate() {
        let (rect, response) = ui.allocate_exact_size(vec2(width, ROW), Sense::click());
        response.widget_info(|| {
            let text = format!("step {}: {}", i + 1, step.title);
            WidgetInfo::labeled(egui::Role::Button, true, text)
        });
        if response.contains_pointer() {
            over = Some(i);
        }
        if response.clicked() {
            make_query(cx, step);
        }
        if !ui.is_rect_visible(rect) {
            continue;
        }
        let painter = ui.painter();
        if response.contains_pointer() || hovered == Some(i) {
            painter.rect_filled(rect, 3.0, cx.theme.hover);
        }
        if response.has_focus() {
            let ring = Stroke::new(2.0, cx.theme.accent);
            painter.rect_stroke(rect, 3.0, ring, egui::StrokeKind::Inside);
        }
        let number = format!("{}", i + 1);
        painter.text(rect.left_center(), Align2::LEFT_CENTER, number, small.clone(), muted);
        let mut job = egui::text::LayoutJob::simple_singleline(
            step.title.clone(),
            FontId::proportional(13.0),
            cx.theme.text,
        );
        job.wrap = egui::text::TextWrapping::truncate_at_width(title_width);
        let galley = painter.layout_job(job);
        let top = rect.center().y - galley.size().y / 2.0;
        painter.galley(pos2(rect.left() + STEP_WIDTH, top), galley, cx.theme.text);
        for (c, column) in columns.iter().enumerate() {
            let at = pos2(right_of(c), rect.center().y);
            let font = FontId::monospace(12.0);
            painter.text(at, Align2::RIGHT_CENTER, column.value(step), font, cx.theme.text);
        }
        response.on_hover_ui(|ui| {
            ui.set_max_width(300.0);
            if let Some(image) = &step.image {
                let id = egui::Id::unique(("ladder step", i));
                let texture = cx.textures.picture(id, content_version(image), image);
                let size = texture.size_vec2();
                let fitted = size * (128.0 / size.max_elem());
                ui.add(egui::Image::new((texture.id(), fitted)).alt_text(&step.title));
            }
            ui.label(describe(step));
            let action = "A click makes this step the query.";
            ui.label(RichText::new(action).small().color(muted));
        });
    }
    over
}

/// Differs where the pixels do; only asked for the one picture under the pointer.
fn content_version(image: &image::RgbImage) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    image.as_raw().hash(&mut hasher);
    hasher.finish()
}

fn make_query(cx: &mut Cx<'_>, step: &LadderStep) {
    let action = match (&step.image, &step.query) {
        (Some(image), query) => Action::QueryPixels {
            image: Arc::new(image.clone()),
            name: format!("{}, {}", query.title(), step.title),
        },
        (None, RecipeQuery::Text(text)) => Action::QueryText(text.clone()),
        (None, RecipeQuery::Image { path, .. }) => Action::QueryImageFile(path.clone()),
    };
    cx.send(action);
}

/// A step in numbers.
fn describe(step: &LadderStep) -> String {
    let mut text = format!(
        "{}\naleatoric {}, epistemic {} (mean variance per dimension)",
        step.title,
        short_number(step.aleatoric),
        short_number(step.epistemic)
    );
    if let Some(share) = step.share_below {
        text += &format!("\nmore uncertain than {} of the gallery's own", percentile(share));
    }
    text += &format!("\ncosine with the last step {:.3}", step.cosine_to_last);
    text
}

/// A share of a finite gallery, which proves neither 0 % nor 100 %.
fn percentile(share: f64) -> String {
    match (100.0 * share).round() {
        percent if percent < 1.0 => "< 1 %".to_owned(),
        percent if percent > 99.0 => "> 99 %".to_owned(),
        percent => format!("{percent:.0} %"),
    }
}

/// What τ says, with its evidence.
fn trend(ladder: &Ladder) -> String {
    let goes = if ladder.tau < 0.0 {
        "tends to fall from step to step"
    } else if ladder.tau > 0.0 {
        "tends to rise from step to step"
    } else {
        "neither falls nor rises over the steps"
    };
    format!(
        "Aleatoric variance {goes}: τ = {:.2}, {} (permutation test, {} steps)",
        ladder.tau,
        p_in_words(ladder.p_value),
        ladder.steps.len()
    )
}

fn p_in_words(p: f64) -> String {
    if p < 0.001 { "p < 0.001".to_owned() } else { format!("p = {p:.3}") }
}

/// How little a test over few steps can show; `None` for many.
fn smallest_p(steps: usize) -> Option<String> {
    let orders: f64 = (2..=steps).map(|i| i as f64).product();
    let smallest = (2.0 / orders).min(1.0);
    (smallest >= 0.001).then(|| {
        format!(
            "With {steps} steps p cannot be below {smallest:.3}, however clear the trend: more \
             steps tell more."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_never_0_or_100() {
        assert_eq!([0.0, 0.83, 1.0].map(percentile), ["< 1 %", "83 %", "> 99 %"]);
    }

    #[test]
    fn empty_lines_are_no_steps() {
        assert_eq!(texts(" a \n\n b\n"), ["a", "b"]);
        assert_eq!(texts(EXAMPLE).len(), 4);
    }

    #[test]
    fn narrow_tables_keep_the_aleatoric_variance_longest() {
        assert_eq!(shown_columns(900.0), Column::ALL);
        assert_eq!(shown_columns(340.0), [Column::Aleatoric, Column::Percentile, Column::Cosine]);
        assert_eq!(shown_columns(220.0), [Column::Aleatoric]);
        assert!(shown_columns(100.0).is_empty());
    }

    #[test]
    fn the_trend_names_direction_evidence_and_steps() {
        let ladder = |tau, p_value| Ladder { steps: Vec::new(), dimensions: 3, tau, p_value };
        assert!(
            trend(&ladder(-0.8, 0.0334)).contains("fall from step to step: τ = -0.80, p = 0.033")
        );
        assert!(
            trend(&ladder(0.5, 0.0001)).contains("rise from step to step: τ = 0.50, p < 0.001")
        );
        assert!(trend(&ladder(0.0, 1.0)).contains("neither"));
    }

    #[test]
    fn the_smallest_possible_p_is_that_of_two_orders_out_of_all() {
        assert!(smallest_p(4).unwrap().contains("below 0.083"));
        assert!(smallest_p(2).unwrap().contains("below 1.000"));
        assert_eq!(smallest_p(8), None);
    }
}
