//! Which thumbnails are put on the map: the most important first, none over another.

use egui::{Pos2, Rect, Vec2};

/// Thumbnails on the map, at most.
pub const MOST: usize = 60;

/// Places squares of `side` around candidates, in their order, as long as they do not overlap and
/// lie in `within`. Returns the index of each candidate that has a place, and its square.
pub fn place(
    candidates: impl IntoIterator<Item = Pos2>,
    side: f32,
    within: Rect,
) -> Vec<(usize, Rect)> {
    let mut placed: Vec<(usize, Rect)> = Vec::new();
    for (candidate, centre) in candidates.into_iter().enumerate() {
        let square = Rect::from_center_size(centre, Vec2::splat(side));
        let free = placed.iter().all(|(_, other)| !other.expand(2.0).intersects(square));
        if within.intersects(square) && free {
            placed.push((candidate, square));
            if placed.len() == MOST {
                break;
            }
        }
    }
    placed
}

#[cfg(test)]
mod tests {
    use egui::pos2;

    use super::*;

    #[test]
    fn earlier_candidates_keep_their_place_and_none_overlap() {
        let within = Rect::from_min_max(pos2(0.0, 0.0), pos2(500.0, 500.0));
        let candidates = [pos2(100.0, 100.0), pos2(110.0, 100.0), pos2(300.0, 300.0)];
        let placed = place(candidates, 48.0, within);
        assert_eq!(placed.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 2]);
        let many = (0..1000).map(|i| pos2((i % 40) as f32 * 13.0, (i / 40) as f32 * 20.0));
        let placed = place(many, 10.0, within);
        assert_eq!(placed.len(), MOST);
        for (i, (_, a)) in placed.iter().enumerate() {
            assert!(placed[i + 1..].iter().all(|(_, b)| !a.intersects(*b)));
        }
    }

    #[test]
    fn what_is_out_of_sight_takes_no_place() {
        let within = Rect::from_min_max(pos2(0.0, 0.0), pos2(100.0, 100.0));
        assert!(place([pos2(-200.0, 50.0)], 48.0, within).is_empty());
    }
}
