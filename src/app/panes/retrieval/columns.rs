//! Where the parts of a row stand, by the width there is.

use egui::Rangef;

/// Edge of a thumbnail in points.
pub const THUMBNAIL: f32 = 64.0;
/// Height of a row in points; the same in every view, so that nothing jumps.
pub const ROW_HEIGHT: f32 = 76.0;
/// Room for the brackets of undecided neighbours.
pub const GUTTER: f32 = 14.0;
/// Room for the scroll bar, which floats over the list.
const RIGHT_MARGIN: f32 = 12.0;
/// Twenty dots in two rows.
pub const DOTS_WIDTH: f32 = 58.0;

/// From this width on, bars and shares have columns of their own.
const WIDE: f32 = 560.0;
const WITH_DOTS: f32 = 420.0;
const WITH_TOP_1: f32 = 340.0;
const WITH_BAR: f32 = 300.0;
/// Least widths of the caption and of a bar with its own column.
const LEAST_TEXT: f32 = 72.0;
const LEAST_BAR: f32 = 120.0;

/// Horizontal places from the row's left edge. What is `None` has no room.
#[derive(Debug, Clone, PartialEq)]
pub struct Columns {
    pub rank: Rangef,
    pub thumbnail: Rangef,
    /// Caption, cosine and remarks.
    pub text: Rangef,
    pub bar: Option<Rangef>,
    /// P(top 1); stands above `top_k` when both have the same place.
    pub top_1: Option<Rangef>,
    pub top_k: Option<Rangef>,
    pub dots: bool,
}

impl Columns {
    /// Columns for a list `width` wide, whose ranks and shares need these widths.
    pub fn new(width: f32, rank_width: f32, share_width: f32) -> Self {
        let rank = Rangef::new(GUTTER, GUTTER + rank_width);
        let thumbnail = Rangef::new(rank.max + 6.0, rank.max + 6.0 + THUMBNAIL);
        let left = thumbnail.max + 8.0;
        let mut right = (width - RIGHT_MARGIN).max(left);
        let mut columns = Self {
            rank,
            thumbnail,
            text: Rangef::new(left, right),
            bar: None,
            top_1: None,
            top_k: None,
            dots: width >= WITH_DOTS,
        };
        let share_width = share_width.max(if columns.dots { DOTS_WIDTH } else { 0.0 });
        let rest = right - left;
        let wide = width >= WIDE && rest - 2.0 * share_width - 44.0 >= LEAST_BAR + LEAST_TEXT;
        let mut take = |room: f32, gap: f32| {
            let range = Rangef::new(right - room, right);
            right -= room + gap;
            range
        };
        if wide {
            columns.top_k = Some(take(share_width, 12.0));
            columns.top_1 = Some(take(share_width, 16.0));
            let most = rest - 2.0 * share_width - 44.0 - LEAST_TEXT;
            columns.bar = Some(take((0.3 * width).min(380.0).min(most), 16.0));
        } else if width >= WITH_BAR && rest - share_width - 12.0 >= LEAST_TEXT {
            columns.top_k = Some(take(share_width, 12.0));
            columns.top_1 = columns.top_k.filter(|_| width >= WITH_TOP_1);
        }
        columns.text.max = right.max(left);
        if width >= WITH_BAR && !wide {
            columns.bar = Some(columns.text);
        }
        columns
    }

    /// Whether the bar stands below the caption, in the same column.
    pub fn bar_below(&self) -> bool {
        self.bar == Some(self.text)
    }

    /// Whether both shares stand in one column, one above the other.
    pub fn shares_stacked(&self) -> bool {
        self.top_1.is_some() && self.top_1 == self.top_k
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_leave_one_by_one_as_the_list_narrows() {
        let at = |width| Columns::new(width, 22.0, 75.0);
        let parts = |width: f32| {
            let columns = at(width);
            (columns.bar.is_some(), columns.top_k.is_some(), columns.top_1.is_some(), columns.dots)
        };
        assert_eq!(parts(900.0), (true, true, true, true));
        assert_eq!(parts(420.0), (true, true, true, true));
        assert_eq!(parts(419.0), (true, true, true, false));
        assert_eq!(parts(339.0), (true, true, false, false));
        assert_eq!(parts(240.0), (false, false, false, false));
        assert!(at(559.0).bar_below() && !at(560.0).bar_below());
        assert!(at(559.0).shares_stacked() && !at(560.0).shares_stacked());
    }

    #[test]
    fn columns_never_overlap_and_the_caption_always_has_room() {
        for width in (240..2000).step_by(7) {
            for (rank_width, share_width) in [(12.0, 50.0), (40.0, 105.0)] {
                let columns = Columns::new(width as f32, rank_width, share_width);
                let mut ranges = vec![columns.rank, columns.thumbnail, columns.text];
                ranges.extend(columns.bar.filter(|_| !columns.bar_below()));
                ranges.extend(columns.top_1.filter(|_| !columns.shares_stacked()));
                ranges.extend(columns.top_k);
                for pair in ranges.windows(2) {
                    assert!(pair[0].max <= pair[1].min, "{width}: {columns:?}");
                }
                assert!(ranges.last().unwrap().max <= width as f32);
                assert!(columns.text.span() >= 50.0, "{width}: {columns:?}");
            }
        }
    }
}
