//! Ranks 1 to N on a logarithmic axis.

use egui::Rangef;

/// Maps ranks to points.
#[derive(Debug, Clone, Copy)]
pub struct RankAxis {
    pub range: Rangef,
    /// N, the number of items in the gallery.
    pub items: usize,
}

impl RankAxis {
    /// Position of a rank; those beyond N stand at N.
    pub fn x(&self, rank: usize) -> f32 {
        let span = (self.items.max(2) as f64).ln();
        let share = ((rank.max(1) as f64).ln() / span).min(1.0);
        self.range.min + share as f32 * self.range.span()
    }

    /// The powers of ten up to N.
    pub fn decades(&self) -> impl Iterator<Item = usize> {
        let items = self.items;
        std::iter::successors(Some(1usize), |rank| rank.checked_mul(10))
            .take_while(move |&rank| rank <= items)
    }

    /// Where a label `width` wide stands: centred on its rank, but inside the axis.
    pub fn label_range(&self, rank: usize, width: f32) -> Rangef {
        let left = (self.x(rank) - width / 2.0).min(self.range.max - width).max(self.range.min);
        Rangef::new(left, left + width)
    }

    /// The ranks to label when a label is `width_of(rank)` wide: 1 and N, and the powers of ten
    /// whose labels do not touch those before or that of N.
    pub fn labels(&self, width_of: impl Fn(usize) -> f32) -> Vec<usize> {
        const GAP: f32 = 6.0;
        let place = |rank| self.label_range(rank, width_of(rank));
        let last = self.items.max(1);
        let mut labels = vec![1];
        let mut end = place(1).max + GAP;
        let limit = place(last).min - GAP;
        if last == 1 || limit + GAP < end {
            return labels;
        }
        for rank in self.decades().filter(|&rank| rank > 1 && rank < last) {
            let range = place(rank);
            if range.min >= end && range.max <= limit {
                labels.push(rank);
                end = range.max + GAP;
            }
        }
        labels.push(last);
        labels
    }
}

/// A rank as a label: 10, 1k, 1M; others whole.
pub fn label(rank: usize) -> String {
    if rank > 0 && rank.is_multiple_of(1_000_000) {
        format!("{}M", rank / 1_000_000)
    } else if rank > 0 && rank.is_multiple_of(1000) {
        format!("{}k", rank / 1000)
    } else {
        super::words::grouped(rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(items: usize, width: f32) -> RankAxis {
        RankAxis { range: Rangef::new(100.0, 100.0 + width), items }
    }

    #[test]
    fn the_axis_is_logarithmic_from_1_to_n() {
        let axis = axis(10_000, 200.0);
        assert_eq!((axis.x(1), axis.x(10_000), axis.x(99_999)), (100.0, 300.0, 300.0));
        assert!((axis.x(100) - 200.0).abs() < 1e-3);
        assert_eq!(axis.decades().collect::<Vec<_>>(), [1, 10, 100, 1000, 10_000]);
    }

    #[test]
    fn labels_do_not_touch() {
        for items in [2, 9, 100, 480, 40_504, 1_000_000] {
            for width in [60.0, 120.0, 400.0] {
                let axis = axis(items, width);
                let width_of = |rank: usize| label(rank).len() as f32 * 7.0;
                let labels = axis.labels(width_of);
                assert_eq!(labels[0], 1);
                for pair in labels.windows(2) {
                    let [before, after] =
                        [pair[0], pair[1]].map(|rank| axis.label_range(rank, width_of(rank)));
                    assert!(before.max < after.min, "{items} items, {width} wide: {labels:?}");
                    assert!(after.max <= axis.range.max + 1e-3);
                }
            }
        }
    }

    #[test]
    fn a_gallery_of_one_item_has_one_label() {
        assert_eq!(axis(1, 100.0).labels(|_| 8.0), [1]);
        assert_eq!(axis(1, 100.0).x(1), 100.0);
    }

    #[test]
    fn labels_of_round_ranks_are_short() {
        assert_eq!([1, 10, 1000, 10_000, 1_000_000].map(label), ["1", "10", "1k", "10k", "1M"]);
        assert_eq!(label(40_504), "40,504");
    }
}
