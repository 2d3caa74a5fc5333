//! One number each for aleatoric, epistemic and total, and how the query compares with others.

use egui::{Align2, Color32, FontId, Rect, RichText, Sense, Stroke, Ui, pos2, vec2};

use super::dotplot;
use super::prepared::Prepared;
use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::panes::axes::{self, Range};
use crate::app::{theme, widgets};
use crate::distribution::EmbeddingDistribution;
use crate::encoder::Modality;
use crate::session::recipe::Bridge;
use crate::session::result::{QueryResult, Reference};

/// Dropout passes below which the split into two sources is called rough.
const FEW_PASSES: usize = 30;
/// Dropout passes that are advised.
const ADVISED_PASSES: usize = 100;

const ALEATORIC: &str = "Spread the model expects because this text or image fits many meanings. \
                         More training data would not remove it.";
const TOTAL: &str = "Aleatoric plus epistemic variance. Variances add; their square roots (σ) do \
                     not.";

/// One key figure.
struct Figure {
    name: &'static str,
    colour: Color32,
    /// `None`: not estimated.
    value: Option<f64>,
    other: Option<f64>,
    tooltip: String,
}

fn figures(cx: &Cx<'_>, prepared: &Prepared) -> [Figure; 3] {
    let theme = cx.theme;
    let passes = passes(&prepared.result);
    let a = &prepared.result.distribution;
    let b = prepared.other.as_ref().map(|other| &other.result.distribution);
    let of = |value: fn(&EmbeddingDistribution) -> f64| (value(a), b.map(value));
    let (aleatoric, epistemic, total) = (
        of(EmbeddingDistribution::mean_aleatoric),
        of(EmbeddingDistribution::mean_epistemic),
        of(EmbeddingDistribution::mean_total),
    );
    let empirical = samples_of_prior(&prepared.result);
    let aleatoric_text = match empirical {
        Some(draws) => {
            format!("Empirical: estimated from {draws} samples of the prior. {ALEATORIC}")
        }
        None => ALEATORIC.to_owned(),
    };
    let epistemic_text = if empirical.is_some() {
        "Not estimated: a prior has one set of weights.".to_owned()
    } else if passes == 0 {
        "Not estimated: the recipe has 0 dropout passes.".to_owned()
    } else {
        format!(
            "Disagreement between {passes} runs of the same adapter with dropout. It should shrink \
             with more data like this query."
        )
    };
    let figure = |name, colour, (value, other): (f64, Option<f64>), tooltip: String| Figure {
        name,
        colour,
        value: Some(value),
        other,
        tooltip,
    };
    let mut figures = [
        figure("aleatoric", theme.aleatoric, aleatoric, aleatoric_text),
        figure("epistemic", theme.epistemic, epistemic, epistemic_text),
        figure("total", theme.total, total, TOTAL.to_owned()),
    ];
    if passes == 0 {
        figures[1].value = None;
    }
    figures
}

/// How many samples of a prior the distribution was estimated from; `None` where it was predicted.
fn samples_of_prior(result: &QueryResult) -> Option<usize> {
    (result.recipe.models.bridge == Bridge::Prior).then_some(result.draws.values.len())
}

fn passes(result: &QueryResult) -> usize {
    result.recipe.sampling.dropout_passes
}

/// Draws the head, as large as the pane allows.
pub fn show(ui: &mut Ui, cx: &Cx<'_>, prepared: &Prepared) {
    let (width, height) = (ui.available_width(), ui.available_height());
    if width < 330.0 || height < 300.0 {
        one_line(ui, cx, prepared);
        return;
    }
    let beside = width >= 600.0;
    ui.horizontal(|ui| {
        ui.spacing_mut().item_spacing.x = 20.0;
        for figure in figures(cx, prepared) {
            key_figure(ui, cx, prepared, &figure);
        }
        if beside && let Some(reference) = &prepared.result.reference {
            let width = ui.available_width().min(320.0);
            strip(ui, cx, prepared, reference, vec2(width, 52.0));
        }
    });
    if !beside
        && height >= 460.0
        && let Some(reference) = &prepared.result.reference
    {
        strip(ui, cx, prepared, reference, vec2(ui.available_width().min(420.0), 52.0));
    }
    ui.horizontal(|ui| {
        if let Some(reference) = &prepared.result.reference {
            let sentence = percentile(reference, prepared.result.recipe.query.modality());
            let text = RichText::new(&sentence).color(cx.theme.text);
            let room = ui.available_width() * 0.6;
            ui.scope(|ui| {
                ui.set_max_width(room);
                ui.add(egui::Label::new(text).truncate()).on_hover_text(format!(
                    "{sentence} A comparison, not a probability of being wrong."
                ));
            });
        }
        badge(ui, cx, prepared);
    });
}

fn percentile(reference: &Reference, modality: Modality) -> String {
    let of = match modality {
        Modality::Text => "captions",
        Modality::Image => "images",
    };
    let count = axes::count(reference.count);
    // A finite number of captions proves neither 0 % nor 100 %.
    let placed = if reference.share_below <= 0.0 {
        "none".to_owned()
    } else if reference.share_below >= 1.0 {
        "all".to_owned()
    } else {
        reference.placed()
    };
    format!("More uncertain than {placed} of this gallery's own {count} {of}.")
}

/// How the two sources were told apart, and whether that is to be trusted.
fn badge(ui: &mut Ui, cx: &Cx<'_>, prepared: &Prepared) {
    if let Some(draws) = samples_of_prior(&prepared.result) {
        let text = format!("{} empirical, from {draws} samples of the prior", icons::INFO);
        let tooltip = "A prior can only be sampled. Mean and variance of every dimension are \
                       estimated from its samples, as if dimensions were independent and Gaussian; \
                       its guidance narrows them. Epistemic variance is not estimated.";
        let text = RichText::new(text).small().color(cx.theme.muted);
        ui.add(egui::Label::new(text).truncate()).on_hover_text(tooltip);
        return;
    }
    let passes = passes(&prepared.result);
    let few = passes < FEW_PASSES;
    let text = match passes {
        0 => "epistemic not estimated".to_owned(),
        1 => "as estimated by dropout, 1 pass".to_owned(),
        _ => format!("as estimated by dropout, {passes} passes"),
    };
    let (icon, colour) =
        if few { (icons::WARNING, cx.theme.warning) } else { (icons::INFO, cx.theme.muted) };
    let tooltip = if few {
        format!(
            "{text}. Fewer than {FEW_PASSES} passes split the two sources only roughly; \
             {ADVISED_PASSES} are advised. The number is in Query, under sampling."
        )
    } else {
        format!(
            "{text}. Estimates of the two sources leak into each other; far from the training data \
             the aleatoric one is unreliable."
        )
    };
    let text = RichText::new(format!("{icon} {text}")).small().color(colour);
    ui.add(egui::Label::new(text).truncate()).on_hover_text(tooltip);
}

/// Everything on one line, for small panes.
fn one_line(ui: &mut Ui, cx: &Cx<'_>, prepared: &Prepared) {
    let figures = figures(cx, prepared);
    let mut job = egui::text::LayoutJob::default();
    let mut whole = String::new();
    for figure in &figures {
        let value = figure.value.map_or("not estimated".to_owned(), axes::number);
        let mut text = format!("{} {value}", figure.name);
        if let Some(other) = figure.other {
            text += &format!(" (B {})", axes::number(other));
        }
        whole += &format!("{text}\n");
        let format = egui::TextFormat::simple(FontId::proportional(axes::AXIS_TEXT), figure.colour);
        job.append(&text, if job.is_empty() { 0.0 } else { 10.0 }, format);
    }
    whole += &format!("mean variance over {} dimensions, units²", prepared.dim());
    if let Some(reference) = &prepared.result.reference {
        let sentence = percentile(reference, prepared.result.recipe.query.modality());
        whole += &format!("\n{sentence} A comparison, not a probability of being wrong.");
    }
    ui.horizontal(|ui| {
        ui.add(egui::Label::new(job).truncate()).on_hover_text(whole);
    });
}

fn key_figure(ui: &mut Ui, cx: &Cx<'_>, prepared: &Prepared, figure: &Figure) {
    let theme = cx.theme;
    let response = ui
        .vertical(|ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            ui.label(RichText::new(figure.name).small().color(figure.colour));
            let value = figure.value.map_or("-".to_owned(), axes::number);
            let value = RichText::new(value).text_style(theme::figure()).color(theme.strong);
            ui.add(egui::Label::new(value).extend());
            let note = match (figure.value, figure.other) {
                (Some(a), Some(b)) => {
                    let sign = if a >= b { "+" } else { "" };
                    format!("B {}, A-B {sign}{}", axes::number(b), axes::number(a - b))
                }
                (None, _) => "not estimated".to_owned(),
                _ => "mean, units²".to_owned(),
            };
            ui.add(egui::Label::new(RichText::new(note).small().color(theme.muted)).extend());
        })
        .response;
    response.on_hover_ui(|ui| {
        ui.set_max_width(320.0);
        ui.label(RichText::new(widgets::capitalised(figure.name)).font(theme::strong(13.0)));
        ui.label(&figure.tooltip);
        let unit = format!("Mean variance over {} dimensions, in embedding units²", prepared.dim());
        ui.label(RichText::new(unit).small().color(theme.muted));
    });
}

/// Where the query stands among the reference: fifty dots, or its median where the quantiles are
/// not known, with this query as a line.
fn strip(ui: &mut Ui, cx: &Cx<'_>, prepared: &Prepared, reference: &Reference, size: egui::Vec2) {
    let theme = cx.theme;
    let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
    let own = prepared.result.distribution.mean_aleatoric();
    let other = prepared.other.as_ref().map(|other| other.result.distribution.mean_aleatoric());
    let plot = Rect::from_min_max(rect.min, pos2(rect.right(), rect.bottom() - 14.0));
    let values = dotplot::values(&reference.quantiles);
    let mut ends = [own, reference.median].into_iter().chain(other).chain(values.iter().copied());
    let first = ends.next().unwrap_or(own);
    let (low, high) = ends.fold((first, first), |(low, high), v| (low.min(v), high.max(v)));
    let margin = ((high - low) * 0.04).max(own.abs() * 1e-3).max(f64::MIN_POSITIVE);
    let range = Range::new(low - margin, high + margin);
    let x_of = |value: f64| plot.left() + (range.share(value) * f64::from(plot.width())) as f32;
    let painter = ui.painter_at(rect.intersect(ui.clip_rect()));
    painter.hline(plot.x_range(), plot.bottom(), Stroke::new(1.0, theme.edge));
    // Dots as large as the highest stack allows.
    let mut diameter = 7.0f32;
    let mut dots = Vec::new();
    while diameter >= 1.0 {
        let columns = (plot.width() / diameter).max(1.0) as usize;
        dots = dotplot::stack(&values, &range, columns);
        let highest = dots.iter().map(|dot| dot.height + 1).max().unwrap_or(0);
        if highest as f32 * diameter <= plot.height() {
            break;
        }
        diameter -= 0.5;
    }
    for dot in &dots {
        let x = plot.left() + (dot.column as f32 + 0.5) * diameter;
        let y = plot.bottom() - (dot.height as f32 + 0.5) * diameter;
        painter.circle_filled(pos2(x, y), diameter * 0.42, theme.edge);
    }
    if dots.is_empty() {
        painter.vline(x_of(reference.median), plot.y_range(), Stroke::new(1.0, theme.edge));
    }
    painter.vline(x_of(own), plot.y_range(), Stroke::new(2.0, theme.aleatoric));
    let tag = |value: f64, name: &str| {
        let side = if x_of(value) > plot.center().x { Align2::RIGHT_TOP } else { Align2::LEFT_TOP };
        let gap = if side == Align2::RIGHT_TOP { -6.0 } else { 6.0 };
        let at = pos2(x_of(value) + gap, plot.top() + 1.0);
        axes::tag(&painter, at, side, name, theme.text, theme.panel);
    };
    if let Some(other) = other {
        let line = [pos2(x_of(other), plot.top()), pos2(x_of(other), plot.bottom())];
        let stroke = Stroke::new(2.0, theme.aleatoric);
        painter.extend(egui::Shape::dashed_line(&line, stroke, 4.0, 3.0));
        tag(other, "B");
        tag(own, "A");
    } else {
        tag(own, "this query");
    }
    let below = Rect::from_min_max(pos2(rect.left(), plot.bottom() + 1.0), rect.max);
    let label =
        format!("mean aleatoric variance, units²: {} to {}", axes::number(low), axes::number(high));
    axes::caption(ui, below, Align2::LEFT_CENTER, &label, theme.muted);
    let sentence = percentile(reference, prepared.result.recipe.query.modality());
    let each = (reference.count as f64 / 50.0).max(1.0);
    let dots = if dots.is_empty() {
        "The line beside it is their median.".to_owned()
    } else {
        format!("Each of the 50 dots stands for 2 % of them, about {each:.0}.")
    };
    response.on_hover_text(format!(
        "{sentence} A comparison, not a probability of being wrong.\n{dots}"
    ));
}
