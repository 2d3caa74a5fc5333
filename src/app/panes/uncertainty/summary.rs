//! The key figures, and where the query stands among the gallery's own.

use egui::{RichText, Sense, Ui, pos2, vec2};

use crate::app::icons;
use crate::app::panes::Cx;
use crate::app::theme;
use crate::encoder::Modality;
use crate::session::result::{QueryResult, Reference};

/// Dropout passes below which the epistemic figure is rough.
const FEW_PASSES: usize = 30;

pub fn ui(ui: &mut Ui, cx: &mut Cx<'_>, result: &QueryResult) {
    let distribution = &result.distribution;
    let passes = result.recipe.sampling.dropout_passes;
    let other = cx.state.other().and_then(|entry| entry.result.clone());
    ui.horizontal_wrapped(|ui| {
        ui.spacing_mut().item_spacing.x = 20.0;
        let of_other = |get: fn(&crate::distribution::EmbeddingDistribution) -> f64| {
            other.as_ref().map(|result| get(&result.distribution))
        };
        figure(
            ui,
            cx,
            "Aleatoric",
            cx.theme.aleatoric,
            (distribution.mean_aleatoric(), of_other(|d| d.mean_aleatoric())),
            "Spread the model expects because this text or image fits many meanings. More training \
             data would not remove it.",
        );
        let tip = format!(
            "Disagreement between {passes} runs of the same adapter with dropout. It should shrink \
             with more data like this query."
        );
        let epistemic = (distribution.mean_epistemic(), of_other(|d| d.mean_epistemic()));
        figure(ui, cx, "Epistemic", cx.theme.epistemic, epistemic, &tip);
        figure(
            ui,
            cx,
            "Total",
            cx.theme.total,
            (distribution.mean_total(), of_other(|d| d.mean_total())),
            "Aleatoric plus epistemic variance. Variances add; their square roots (\u{3c3}) do not.",
        );
    });
    if let Some(reference) = &result.reference {
        among(ui, cx, result, reference);
    }
    let dim = distribution.dim();
    let mut text = format!(
        "Means over {dim} dimensions, squared embedding units; epistemic as \
                            estimated by dropout, {passes} passes."
    );
    if let Some(result) = &other {
        text +=
            &format!(" B: \u{201c}{}\u{201d}.", crate::app::widgets::shorten(&result.title(), 30));
    }
    ui.add(egui::Label::new(RichText::new(text).small().color(cx.theme.muted)).wrap());
    if passes < FEW_PASSES {
        let text = format!(
            "{} {passes} dropout passes give a rough epistemic figure; 100 are advised.",
            icons::WARNING
        );
        ui.label(RichText::new(text).small().color(cx.theme.warning));
    }
}

/// A number with its name; beneath it B's and the difference, where two queries are compared.
fn figure(
    ui: &mut Ui,
    cx: &Cx<'_>,
    name: &str,
    colour: egui::Color32,
    (value, other): (f64, Option<f64>),
    tip: &str,
) {
    let response = ui
        .vertical(|ui| {
            ui.spacing_mut().item_spacing.y = 0.0;
            ui.horizontal(|ui| {
                ui.spacing_mut().item_spacing.x = 5.0;
                let (rect, _) = ui.allocate_exact_size(vec2(8.0, 8.0), Sense::hover());
                ui.painter().rect_filled(rect, 2.0, colour);
                ui.label(RichText::new(name).small().color(cx.theme.muted));
            });
            let text = RichText::new(number(value)).text_style(theme::figure());
            ui.label(text.color(cx.theme.strong));
            if let Some(other) = other {
                let text = format!("B {}  (A - B {:+.3})", number(other), value - other);
                ui.label(RichText::new(text).small().color(cx.theme.text));
            }
        })
        .response;
    response.on_hover_text(tip);
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        v if v < 0.001 => format!("{value:.1e}"),
        v if v < 0.1 => format!("{value:.4}"),
        v if v < 100.0 => format!("{value:.3}"),
        _ => format!("{value:.0}"),
    }
}

/// The distribution of the gallery's own uncertainties as dots, and this query's among them.
fn among(ui: &mut Ui, cx: &Cx<'_>, result: &QueryResult, reference: &Reference) {
    let kind = match result.recipe.query.modality() {
        Modality::Text => "captions",
        Modality::Image => "images",
    };
    let placed = reference.placed();
    let text = if reference.share_below > 0.0 && reference.share_below < 1.0 {
        format!("More uncertain than {placed} of this gallery's {} {kind}", reference.count)
    } else {
        format!("More uncertain than {placed} of this gallery's {kind}")
    };
    let tip = format!("{text}. A comparison, not a probability of being wrong.");
    ui.add(egui::Label::new(RichText::new(text).small()).wrap()).on_hover_text(&tip);
    let (Some(&low), Some(&high)) = (reference.quantiles.first(), reference.quantiles.last())
    else {
        return;
    };
    let value = result.distribution.mean_aleatoric();
    let (low, high) = (low.min(value), high.max(value));
    let (rect, response) =
        ui.allocate_exact_size(vec2(ui.available_width().min(320.0), 24.0), Sense::hover());
    let x = |v: f64| {
        let share = if high > low { (v - low) / (high - low) } else { 0.5 };
        rect.left() + 4.0 + share as f32 * (rect.width() - 8.0)
    };
    let painter = ui.painter();
    let base = rect.bottom() - 3.0;
    painter.hline(rect.x_range(), base, egui::Stroke::new(1.0, cx.theme.hairline));
    // Dots of the 51 quantiles, stacked where they are close.
    let mut stacked: Vec<(f32, u32)> = Vec::new();
    for &quantile in &reference.quantiles {
        let column = ((x(quantile) - rect.left()) / 4.0).round() * 4.0;
        match stacked.iter_mut().find(|(at, _)| *at == column) {
            Some((_, count)) => *count += 1,
            None => stacked.push((column, 1)),
        }
    }
    let most = stacked.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let step = (18.0 / most as f32).min(3.5);
    for (column, count) in stacked {
        for i in 0..count {
            let at = pos2(rect.left() + column, base - 2.0 - i as f32 * step);
            painter.circle_filled(at, 1.5, cx.theme.gallery);
        }
    }
    let at = x(value);
    painter.vline(at, rect.top()..=base, egui::Stroke::new(2.0, cx.theme.aleatoric));
    response.on_hover_text(format!(
        "{tip}\nDots: quantiles of {} {kind}; line: this query's aleatoric variance, {}",
        reference.count,
        number(value)
    ));
}
