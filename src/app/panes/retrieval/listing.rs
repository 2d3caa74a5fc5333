//! Which items are listed, and in what order.
//!
//! In come a retrieval and what to show of it, out come lines in the order shown. Knows nothing of
//! how they are drawn.

use std::collections::HashMap;

use crate::session::recipe::MAX_TOP_K;
use crate::session::result::Retrieved;

/// Neighbours are undecided when the share of draws that rank one above the other lies here.
const UNDECIDED: std::ops::RangeInclusive<f32> = 0.4..=0.6;

/// What the items are ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Order {
    /// Cosine with the mean.
    #[default]
    Mean,
    /// Median rank over the draws, ties by the mean.
    Median,
}

/// What is shown of a retrieval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub order: Order,
    /// Only items that belong to the query. A sample's ranking is always shown whole.
    pub relevant_only: bool,
    /// The ranking of this sample, in place of that of the whole distribution.
    pub sample: Option<usize>,
}

/// One line of the list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// Row in the gallery.
    pub row: usize,
    /// Rank in the order shown, from 1, before any filter.
    pub place: usize,
    /// Index into [`Retrieved::items`]; `None` where only a sample ranks the item high.
    pub item: Option<usize>,
    /// Cosine with the mean, or with the sample.
    pub score: f64,
}

/// The lines of a view, by growing place.
pub fn lines(retrieved: &Retrieved, view: View) -> Vec<Line> {
    if let Some(hits) = view.sample.and_then(|sample| retrieved.sample_hits.get(sample)) {
        let items: HashMap<usize, usize> =
            retrieved.items.iter().enumerate().map(|(i, item)| (item.row, i)).collect();
        return hits
            .iter()
            .enumerate()
            .map(|(i, hit)| Line {
                row: hit.id,
                place: i + 1,
                item: items.get(&hit.id).copied(),
                score: hit.score,
            })
            .collect();
    }
    let items = &retrieved.items;
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by_key(|&i| match view.order {
        Order::Mean => (items[i].rank, 0),
        Order::Median => (items[i].rank_median, items[i].rank),
    });
    let line = |(position, i): (usize, usize)| {
        let place = match view.order {
            Order::Mean => items[i].rank,
            Order::Median => position + 1,
        };
        Line { row: items[i].row, place, item: Some(i), score: items[i].score }
    };
    order
        .into_iter()
        .enumerate()
        .filter(|&(_, i)| !view.relevant_only || items[i].relevant == Some(true))
        .map(line)
        .collect()
}

/// Number of lines among the first `k`; the line of k stands below them.
pub fn within(lines: &[Line], k: usize) -> usize {
    lines.partition_point(|line| line.place <= k)
}

/// The k whose line stands below the first `above` lines.
pub fn k_below(lines: &[Line], above: usize) -> usize {
    let last = above.clamp(1, lines.len().max(1)) - 1;
    lines.get(last).map_or(1, |line| line.place).clamp(1, MAX_TOP_K)
}

/// Share of draws that rank the first line above the second, where it leaves their order open.
pub fn undecided(retrieved: &Retrieved, first: &Line, second: &Line) -> Option<f32> {
    let share = *retrieved.above.get(first.item?)?.get(second.item?)?;
    UNDECIDED.contains(&share).then_some(share)
}

/// The item's name for people: its caption, or else its file.
pub fn name(retrieved: &Retrieved, row: usize) -> &str {
    match retrieved.names.get(&row) {
        Some(name) => name.caption.as_deref().unwrap_or(&name.image),
        None => "unnamed item",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::gallery::{Hit, Interval};
    use crate::session::result::{ItemName, RankedItem};

    /// An item by its rank and median rank; its row is ten times its rank.
    fn item(rank: usize, rank_median: usize) -> RankedItem {
        let interval = Interval { low: 0.2, high: 0.6 };
        RankedItem {
            rank,
            row: rank * 10,
            image: format!("{rank}.png"),
            image_path: None,
            caption: None,
            score: 1.0 / rank as f64,
            frozen_rank: rank,
            top_1_count: 4,
            p_top_1: 0.4,
            p_top_1_interval: interval,
            top_k_count: 4,
            p_top_k: 0.4,
            p_top_k_interval: interval,
            rank_median,
            rank_q25: rank_median,
            rank_q75: rank_median,
            relevant: Some(rank == 2),
            rank_low: 1,
            rank_high: 20,
        }
    }

    fn retrieved() -> Retrieved {
        let items = vec![item(1, 3), item(2, 1), item(7, 1)];
        let name = |row: usize, caption: Option<&str>| {
            let caption = caption.map(str::to_owned);
            (row, ItemName { image: format!("{row}.png"), image_path: None, caption })
        };
        Retrieved {
            gallery_size: 50,
            draws: 10,
            top_k: 2,
            items,
            distinct_best: 2,
            best_match_set: 1,
            best_match_rows: vec![20],
            sample_hits: vec![vec![Hit { id: 70, score: 0.9 }, Hit { id: 33, score: 0.8 }]],
            above: vec![vec![0.0, 0.4, 0.9], vec![0.6, 0.0, 0.7], vec![0.1, 0.3, 0.0]],
            names: BTreeMap::from([name(10, Some("a pear")), name(33, None)]),
        }
    }

    const MEAN: View = View { order: Order::Mean, relevant_only: false, sample: None };

    fn rows(lines: &[Line]) -> Vec<(usize, usize)> {
        lines.iter().map(|line| (line.row, line.place)).collect()
    }

    #[test]
    fn the_median_order_breaks_ties_by_the_mean_and_counts_places() {
        let retrieved = retrieved();
        assert_eq!(rows(&lines(&retrieved, MEAN)), [(10, 1), (20, 2), (70, 7)]);
        let median = View { order: Order::Median, ..MEAN };
        assert_eq!(rows(&lines(&retrieved, median)), [(20, 1), (70, 2), (10, 3)]);
    }

    #[test]
    fn a_filtered_item_keeps_the_place_that_it_has_among_all() {
        let retrieved = retrieved();
        let relevant = View { relevant_only: true, ..MEAN };
        assert_eq!(rows(&lines(&retrieved, relevant)), [(20, 2)]);
    }

    #[test]
    fn a_sample_shows_its_own_hits_with_what_is_known_of_them() {
        let retrieved = retrieved();
        let shown = lines(&retrieved, View { sample: Some(0), ..MEAN });
        assert_eq!(rows(&shown), [(70, 1), (33, 2)]);
        assert_eq!((shown[0].item, shown[1].item), (Some(2), None));
        assert_eq!(shown[0].score, 0.9);
        // A sample without hits does not empty the list.
        assert_eq!(lines(&retrieved, View { sample: Some(9), ..MEAN }).len(), 3);
    }

    #[test]
    fn the_line_of_k_stands_below_the_last_item_that_is_among_the_first_k() {
        let lines = lines(&retrieved(), MEAN);
        assert_eq!([1, 2, 5, 7, 90].map(|k| within(&lines, k)), [1, 2, 2, 3, 3]);
        assert_eq!([0, 1, 2, 3, 9].map(|above| k_below(&lines, above)), [1, 1, 2, 7, 7]);
        assert_eq!(k_below(&[], 3), 1);
    }

    #[test]
    fn neighbours_are_undecided_between_two_and_three_fifths() {
        let retrieved = retrieved();
        let lines = lines(&retrieved, MEAN);
        assert_eq!(undecided(&retrieved, &lines[0], &lines[1]), Some(0.4));
        assert_eq!(undecided(&retrieved, &lines[1], &lines[2]), None);
        let unknown = Line { item: None, ..lines[0] };
        assert_eq!(undecided(&retrieved, &unknown, &lines[1]), None);
    }

    #[test]
    fn an_item_is_called_by_its_caption_or_else_by_its_file() {
        let retrieved = retrieved();
        assert_eq!(name(&retrieved, 10), "a pear");
        assert_eq!(name(&retrieved, 33), "33.png");
    }
}
