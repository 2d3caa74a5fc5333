//! How the spread of A and B differs from dimension to dimension.

use egui::{RichText, Ui};
use egui_plot::{HLine, HoverPosition, Legend, Line, LineStyle, Plot, PlotPoint, PlotPoints};

use super::comparison::Dimensions;
use crate::app::theme::Theme;

const HEIGHT: f32 = 170.0;

/// What the plot shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SpreadView {
    #[default]
    Ratio,
    Difference,
    Both,
}

impl SpreadView {
    const ALL: [(SpreadView, &'static str, &'static str); 3] = [
        (SpreadView::Ratio, "Ratio", "log2 of σ of A over σ of B: 1 is twice as wide, −1 half"),
        (SpreadView::Difference, "Difference", "σ of A minus σ of B"),
        (SpreadView::Both, "A and B", "σ of A and of B, each sorted by itself"),
    ];

    fn axis(self) -> &'static str {
        match self {
            SpreadView::Ratio => "log2 (σ A / σ B)",
            SpreadView::Difference => "σ A − σ B (embedding units)",
            SpreadView::Both => "σ (embedding units)",
        }
    }
}

/// Shows the dimensions, sorted.
pub fn show(ui: &mut Ui, theme: &Theme, dimensions: &Dimensions, view: &mut SpreadView) {
    let Dimensions { wider, count, .. } = dimensions;
    ui.label(format!("A spreads more in {wider} of {count} dimensions (total σ)."));
    ui.horizontal_wrapped(|ui| {
        for (mode, name, tip) in SpreadView::ALL {
            ui.selectable_value(view, mode, name).on_hover_text(tip);
        }
    });
    let left_out = dimensions.count - dimensions.log_ratio.len();
    if *view == SpreadView::Ratio && left_out > 0 {
        let note = format!("{left_out} dimensions without any spread in A or B are left out.");
        ui.label(RichText::new(note).small().color(theme.muted));
    }
    let lines: Vec<(&str, &[PlotPoint])> = match view {
        SpreadView::Ratio => vec![("A / B", &dimensions.log_ratio)],
        SpreadView::Difference => vec![("A − B", &dimensions.difference)],
        SpreadView::Both => vec![("A", &dimensions.sorted.a), ("B", &dimensions.sorted.b)],
    };
    let largest = lines.iter().flat_map(|(_, points)| points.iter()).map(|p| p.y.abs());
    let largest = largest.fold(0.0, f64::max).max(1e-9);
    let mut plot = Plot::new("spread per dimension")
        .height(HEIGHT)
        .allow_drag(false)
        .allow_zoom(false)
        .allow_scroll(false)
        .allow_boxed_zoom(false)
        .x_axis_label("dimensions, sorted")
        .y_axis_label(view.axis())
        .include_y(largest)
        .label_formatter(|position| match position {
            HoverPosition::NearDataPoint { plot_name, position, .. } => {
                Some(format!("{plot_name}\n{:.0}: {:.4}", position.x, position.y))
            }
            HoverPosition::Elsewhere { .. } => None,
        });
    if *view == SpreadView::Both {
        plot = plot.include_y(0.0).legend(Legend::default());
    } else {
        // The same to both sides, so that neither A nor B looks larger.
        plot = plot.include_y(-largest);
    }
    plot.show(ui, |plot| {
        if *view != SpreadView::Both {
            plot.hline(HLine::new("no difference", 0.0).color(theme.edge).width(1.0));
        }
        for (name, points) in lines {
            let style = if name == "B" { LineStyle::dashed_dense() } else { LineStyle::Solid };
            plot.line(
                Line::new(name, PlotPoints::Borrowed(points))
                    .color(theme.total)
                    .width(1.5)
                    .style(style),
            );
        }
    });
}
