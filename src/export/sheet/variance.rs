//! Variance of every dimension, largest first: aleatoric with epistemic stacked on top (variances
//! add, standard deviations do not).

use super::{Align, Area, Canvas, HEADING_HEIGHT, SMALL_SIZE, colour, heading};
use crate::session::result::QueryResult;

pub const HEIGHT: u32 = 280;
const LEFT_AXIS: u32 = 56;
const BOTTOM_AXIS: u32 = 40;
const TICKS: u32 = 4;

pub fn draw(canvas: &mut Canvas, result: &QueryResult, area: Area) {
    heading(canvas, "Uncertainty by dimension", "variance in squared embedding units", area);
    let (aleatoric, epistemic) = (result.distribution.aleatoric(), result.distribution.epistemic());
    let mut order: Vec<usize> = (0..aleatoric.len()).collect();
    let total = |i: usize| aleatoric[i] + epistemic[i];
    order.sort_by(|&a, &b| total(b).total_cmp(&total(a)).then(a.cmp(&b)));
    let Some(&largest) = order.first() else { return };

    let plot = Area::new(
        area.x + LEFT_AXIS,
        area.y + HEADING_HEIGHT,
        area.width - LEFT_AXIS,
        HEIGHT - HEADING_HEIGHT - BOTTOM_AXIS,
    );
    let step = tick_step(total(largest) / f64::from(TICKS));
    let top = (total(largest) / step).ceil().max(1.0) * step;
    let ticks = (top / step).round() as u32;
    let pixels = |value: f64| (value / top * f64::from(plot.height)).round() as u32;
    for tick in 0..=ticks {
        let value = f64::from(tick) * step;
        let y = plot.bottom() - pixels(value);
        canvas.fill(Area::new(plot.x, y, plot.width, 1), colour::LINE);
        let label = tick_label(value, step);
        canvas.text(&label, (plot.x - 8, y - 8), SMALL_SIZE, colour::MUTED_TEXT, Align::Right);
    }
    // One column of pixels at a time: with more dimensions than pixels a column is their mean.
    for column in 0..plot.width {
        let n = order.len();
        let from = column as usize * n / plot.width as usize;
        let to = ((column as usize + 1) * n).div_ceil(plot.width as usize).clamp(from + 1, n);
        let mean = |values: &[f64]| {
            order[from..to].iter().map(|&i| values[i]).sum::<f64>() / (to - from) as f64
        };
        let (a, total) = (pixels(mean(aleatoric)), pixels(mean(aleatoric) + mean(epistemic)));
        let x = plot.x + column;
        canvas.fill(Area::new(x, plot.bottom() - a, 1, a), colour::ALEATORIC);
        canvas.fill(Area::new(x, plot.bottom() - total, 1, total - a), colour::EPISTEMIC);
    }
    let below = plot.bottom() + 8;
    let label = format!("{} dimensions, by total variance", order.len());
    canvas.text(&label, (plot.x, below), SMALL_SIZE, colour::MUTED_TEXT, Align::Left);
    let mut right = plot.right();
    for (name, paint) in [("epistemic", colour::EPISTEMIC), ("aleatoric", colour::ALEATORIC)] {
        let width = canvas.text(name, (right, below), SMALL_SIZE, colour::TEXT, Align::Right);
        right -= width + 18;
        canvas.fill(Area::new(right, below + 3, 12, 12), paint);
        right -= 16;
    }
}

/// The next of 1, 2, 5 times a power of ten at or above `value`.
fn tick_step(value: f64) -> f64 {
    if value.is_nan() || value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|f| f * power >= value * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

fn tick_label(value: f64, step: f64) -> String {
    let decimals = (-step.log10().floor()).clamp(0.0, 8.0) as usize;
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_at_round_numbers() {
        assert_eq!(tick_step(0.013), 0.02);
        assert_eq!(tick_step(0.3), 0.5);
        assert_eq!(tick_step(7.0), 10.0);
        assert_eq!(tick_step(0.0), 1.0);
        assert_eq!(tick_label(0.04, 0.02), "0.04");
        assert_eq!(tick_label(10.0, 5.0), "10");
    }
}
