//! Log likelihoods of the items of two sets under one item's density.

use super::axis::AxisSpec;
use super::drawing::{Drawing, Rect};
use super::page::{Mark, Page};
use super::table::Table;
use crate::experiment::overlap::{LikelihoodOverlap, ScoredSet};
use crate::export::canvas::colour;

const BINS: usize = 40;

pub fn draw(overlap: &LikelihoodOverlap) -> Drawing {
    let LikelihoodOverlap { own, other, .. } = overlap;
    let mut page = Page::new(
        &format!("Likelihood of two sets under one density: {}", overlap.item),
        &format!(
            "A random item of {} is more likely than one of {} in {:.1} % of the draws. {:.1} % of \
             {} are more likely than the median of {}.",
            own.name,
            other.name,
            100.0 * overlap.auroc,
            100.0 * overlap.above_own_median,
            other.name,
            own.name
        ),
    );
    let all = || own.items.iter().chain(&other.items).map(|item| item.log_likelihood);
    let x = AxisSpec::around("log likelihood, nats per dimension", all());
    let low = all().fold(f64::INFINITY, f64::min);
    let high = all().fold(f64::NEG_INFINITY, f64::max);
    let width = ((high - low) / BINS as f64).max(f64::MIN_POSITIVE);
    let shares = |set: &ScoredSet| {
        let mut shares = vec![0.0; BINS];
        for item in &set.items {
            let bin = ((item.log_likelihood - low) / width) as usize;
            shares[bin.min(BINS - 1)] += 1.0 / set.items.len() as f64;
        }
        shares
    };
    let (ours, theirs) = (shares(own), shares(other));
    let y = AxisSpec::from_zero("share of the set's items", ours.iter().chain(&theirs).copied());
    let own_name = format!("{} ({} items)", own.name, own.items.len());
    let other_name = format!("{} ({} items)", other.name, other.items.len());
    page.legend(&[
        (Mark::Square, colour::ALEATORIC, &own_name),
        (Mark::Square, colour::EPISTEMIC, &other_name),
    ]);
    let chart = page.chart(240.0, &x, &y);
    let floor = chart.y.position(0.0);
    for (shares, paint) in [(&ours, colour::ALEATORIC), (&theirs, colour::EPISTEMIC)] {
        for (bin, &share) in shares.iter().enumerate().filter(|(_, share)| **share > 0.0) {
            let left = chart.x.position(low + bin as f64 * width);
            let right = chart.x.position(low + (bin + 1) as f64 * width);
            let top = chart.y.position(share);
            let Rect { left, top, right, bottom } = Rect::new(left, top, right, floor);
            let corners = vec![[left, bottom], [left, top], [right, top], [right, bottom]];
            page.drawing.polygon(corners.clone(), paint, 0.35);
            page.drawing.path(corners, 1.0, paint);
        }
    }
    page.finish(&[format!(
        "Densities over {}s, the item itself left out. Figure 4 of the ProbVLM paper (arXiv \
         2307.00398) shows this for one bird of CUB over CUB and COCO.",
        overlap.scored
    )])
}

pub fn table(overlap: &LikelihoodOverlap) -> Table {
    let sets = [&overlap.own, &overlap.other];
    let items = || sets.into_iter().flat_map(|set| set.items.iter().map(move |item| (set, item)));
    Table::default()
        .text("set", items().map(|(set, _)| set.name.clone()))
        .text("item", items().map(|(_, item)| item.id.clone()))
        .whole("position", items().map(|(_, item)| item.position))
        .numbers("log_likelihood", items().map(|(_, item)| item.log_likelihood))
}
