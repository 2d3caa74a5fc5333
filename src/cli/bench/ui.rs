//! `haze bench ui`: frame times of the real window under a scripted user, and the time from a
//! query to its retrieval.

use clap::Args;
use serde_json::{Value, json};

use super::super::{Context, Exit, system, table};
use crate::app::launch::AppOptions;
use crate::app::trace::{self, TraceOptions, TraceReport};
use crate::session::SessionError;

/// Queries whose time is taken, after one that loads the models.
const QUERIES: usize = 30;
/// Samples decoded while the window is in use.
const SAMPLES: usize = 64;

/// Frame times of the window under a scripted user; needs a display
#[derive(Debug, Args)]
pub struct Ui {
    /// Length of each of the two phases: at rest, and while samples are decoded
    #[arg(long, value_name = "SECONDS", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Size of the window in points
    #[arg(long, value_name = "WIDTHxHEIGHT", default_value = "1440x900", value_parser = window_size)]
    size: [f32; 2],
}

impl Ui {
    pub fn run(&self, context: &Context) -> anyhow::Result<Exit> {
        let interrupt = context.interrupt.clone();
        let options = TraceOptions {
            seconds: f64::from(self.seconds),
            queries: queries(),
            samples: SAMPLES,
            stop: Box::new(move || interrupt.is_set()),
        };
        let app = AppOptions {
            device: Some(context.options.device.clone()),
            window_size: Some(self.size),
            keep_settings: false,
            ..AppOptions::new(context.assets()?)
        };
        let report = match trace::run(app, options) {
            Ok(report) => report,
            Err(trace::TraceError::Closed) if context.interrupt.is_set() => {
                return Err(SessionError::Cancelled.into());
            }
            Err(error) => return Err(error.into()),
        };
        context.print(&json_of(&report, self.size), text_of(&report, self.size))?;
        Ok(Exit::Success)
    }
}

/// Different texts, in a fixed order.
fn queries() -> Vec<String> {
    const KINDS: [&str; 4] = ["a red", "a blue", "a small round", "a drawing of a"];
    const THINGS: [&str; 8] =
        ["apple", "car", "bird", "house", "flower", "hat", "boat", "slice of cake"];
    let all =
        KINDS.iter().flat_map(|kind| THINGS.iter().map(move |thing| format!("{kind} {thing}")));
    all.take(QUERIES + 1).collect()
}

fn window_size(text: &str) -> Result<[f32; 2], String> {
    let parts = text.split_once('x').and_then(|(width, height)| {
        Some([width.parse::<u16>().ok()?, height.parse::<u16>().ok()?])
    });
    match parts {
        Some([width @ 600..=16_384, height @ 400..=16_384]) => Ok([width, height].map(f32::from)),
        _ => Err("expected WIDTHxHEIGHT in points, at least 600x400".to_owned()),
    }
}

/// The value below which a share `q` of the values lies (nearest rank); NaN of none.
fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let place = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

fn text_of(report: &TraceReport, [width, height]: [f32; 2]) -> String {
    let mut text = format!(
        "{width} x {height} points, drawn by {}, computed by {}\n\n",
        report.adapter,
        report.device.as_deref().unwrap_or("an unknown device")
    );
    let columns = [
        table::words("phase"),
        table::words("time per frame"),
        table::numbers("frames"),
        table::numbers("p50"),
        table::numbers("p99"),
        table::numbers("worst"),
    ];
    let ms = |value: f64| format!("{value:.2} ms");
    let rows = report.phases.iter().flat_map(|phase| {
        let row = |what: &str, values: &[f64]| {
            let numbers = [0.5, 0.99, 1.0].map(|q| ms(quantile(values, q)));
            let words = [phase.name.to_owned(), what.to_owned(), values.len().to_string()];
            words.into_iter().chain(numbers).collect::<Vec<String>>()
        };
        [row("CPU", &phase.cpu_ms), row("frame to frame", &phase.interval_ms)]
    });
    text += &table::render(&columns, &rows.collect::<Vec<_>>());
    text += &format!("\nfirst frame after {:.0} ms\n", report.first_frame_ms);
    text += &format!(
        "query to retrieval: p50 {:.1} ms, p95 {:.1} ms over {} queries\n",
        quantile(&report.query_ms, 0.5),
        quantile(&report.query_ms, 0.95),
        report.query_ms.len()
    );
    text
}

fn json_of(report: &TraceReport, size: [f32; 2]) -> Value {
    let summary = |values: &[f64]| {
        json!({
            "p50_ms": quantile(values, 0.5),
            "p95_ms": quantile(values, 0.95),
            "p99_ms": quantile(values, 0.99),
            "worst_ms": quantile(values, 1.0),
            "times_ms": values,
        })
    };
    let phases = report.phases.iter().map(|phase| {
        json!({
            "phase": phase.name,
            "cpu": summary(&phase.cpu_ms),
            "frame_to_frame": summary(&phase.interval_ms),
        })
    });
    json!({
        "haze": env!("CARGO_PKG_VERSION"),
        "adapter": report.adapter,
        "device": report.device,
        "cpu": system::cpu_name(),
        "window_points": size,
        "first_frame_ms": report.first_frame_ms,
        "query_to_retrieval": summary(&report.query_ms),
        "phases": phases.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!([0.5, 0.95, 0.99, 1.0].map(|q| quantile(&values, q)), [50.0, 95.0, 99.0, 100.0]);
        assert_eq!(quantile(&[3.0], 0.5), 3.0);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_queries_are_all_different() {
        let different: std::collections::BTreeSet<String> = queries().into_iter().collect();
        assert_eq!(different.len(), QUERIES + 1);
    }

    #[test]
    fn a_window_size_is_two_sensible_numbers() {
        assert_eq!(window_size("1440x900"), Ok([1440.0, 900.0]));
        assert!(window_size("1440").is_err() && window_size("10x10").is_err());
    }
}
