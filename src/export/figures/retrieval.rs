//! The retrieved items and their possible ranks.

use super::axis::AxisSpec;
use super::caption;
use super::drawing::Drawing;
use super::intervals::{self, Row};
use super::page::Page;
use super::table::Table;
use crate::export::canvas::colour;
use crate::export::sheet::share;
use crate::session::result::{QueryResult, RankedItem, Retrieved};

/// Items on one figure; the caption says so where there are more, and the data holds all.
const ITEMS_DRAWN: usize = 60;

pub fn draw(result: &QueryResult, retrieved: &Retrieved) -> Drawing {
    let mut page = Page::new(
        &format!("Possible ranks: {}", caption::query(&result.recipe.query)),
        &format!(
            "The best of {} items by cosine with the mean. The best match is among {} in 90 % of \
             the draws.",
            retrieved.gallery_size,
            crate::export::sheet::items(retrieved.best_match_set)
        ),
    );
    let headings = ["cosine".to_owned(), "first".to_owned(), format!("in top {}", retrieved.top_k)];
    let axis = AxisSpec::ranks(
        format!("rank of {} items, log scale", retrieved.gallery_size),
        retrieved.gallery_size,
    );
    let row = |item: &RankedItem| Row {
        name: format!("{}. {}", item.rank, item.caption.as_deref().unwrap_or(&item.image)),
        quantiles: [item.rank_low, item.rank_q25, item.rank_median, item.rank_q75, item.rank_high]
            .map(|rank| rank as f64),
        cells: vec![
            format!("{:.3}", item.score),
            share(item.top_1_count, retrieved.draws),
            share(item.top_k_count, retrieved.draws),
        ],
    };
    let rows: Vec<Row> = retrieved.items.iter().take(ITEMS_DRAWN).map(row).collect();
    intervals::draw(&mut page, &axis, &headings, &rows, colour::SAMPLES);
    let mut intervals = format!(
        "Dot: median rank; thick: middle 50 %; thin: middle 90 % of {} draws. Each item by itself: \
         two overlapping intervals may still have a clear order. \u{201c}First\u{201d} and \
         \u{201c}in top {}\u{201d}: share of draws; not the chance that an item is correct.",
        retrieved.draws, retrieved.top_k
    );
    if retrieved.items.len() > ITEMS_DRAWN {
        intervals += &format!(
            " The first {ITEMS_DRAWN} of {} listed items are drawn; the exported data holds all.",
            retrieved.items.len()
        );
    }
    page.finish(&caption::lines(&result.recipe, &intervals))
}

pub fn table(retrieved: &Retrieved) -> Table {
    let items = &retrieved.items;
    let whole = |f: fn(&RankedItem) -> usize| items.iter().map(f);
    let numbers = |f: fn(&RankedItem) -> f64| items.iter().map(f);
    Table::default()
        .whole("rank", whole(|i| i.rank))
        .whole("row", whole(|i| i.row))
        .text("image", items.iter().map(|i| i.image.clone()))
        .text("caption", items.iter().map(|i| i.caption.clone().unwrap_or_default()))
        .numbers("cosine", numbers(|i| i.score))
        .whole("frozen_rank", whole(|i| i.frozen_rank))
        .whole("top_1_count", whole(|i| i.top_1_count))
        .numbers("p_top_1", numbers(|i| i.p_top_1))
        .whole("top_k_count", whole(|i| i.top_k_count))
        .numbers("p_top_k", numbers(|i| i.p_top_k))
        .whole("rank_q05", whole(|i| i.rank_low))
        .whole("rank_q25", whole(|i| i.rank_q25))
        .whole("rank_median", whole(|i| i.rank_median))
        .whole("rank_q75", whole(|i| i.rank_q75))
        .whole("rank_q95", whole(|i| i.rank_high))
        .maybe_whole("relevant", items.iter().map(|i| i.relevant.map(usize::from)))
}
