//! The retrieved items with their possible ranks.

use image::RgbImage;

use super::grid::stem;
use super::{Align, Area, BODY_SIZE, Canvas, HEADING_HEIGHT, SMALL_SIZE, colour, heading, share};
use crate::session::result::{QueryResult, RankedItem, Retrieved};

const ROW: u32 = 58;
const THUMBNAIL: u32 = 50;
const AXIS: u32 = 24;
/// More items than this are listed in the table file alone.
const ITEMS_SHOWN: usize = 12;

const RANK_X: u32 = 22;
const THUMBNAIL_X: u32 = 32;
const NAME_X: u32 = 94;
const INTERVAL_X: u32 = 306;
const INTERVAL_WIDTH: u32 = 170;
const TOP_1_X: u32 = 570;

pub fn height(result: &QueryResult) -> u32 {
    match &result.retrieval {
        None => 0,
        Some(retrieved) => HEADING_HEIGHT + AXIS + shown(retrieved) as u32 * ROW,
    }
}

fn shown(retrieved: &Retrieved) -> usize {
    retrieved.items.len().min(ITEMS_SHOWN)
}

pub fn draw(
    canvas: &mut Canvas,
    result: &QueryResult,
    thumbnails: &[Option<RgbImage>],
    area: Area,
) {
    let Some(retrieved) = &result.retrieval else { return };
    let note = format!(
        "{} items by cosine with the mean; ranks and shares over {} draws",
        retrieved.gallery_size, retrieved.draws
    );
    heading(canvas, "Retrieval", &note, area);
    let axis = RankAxis { x: area.x + INTERVAL_X, items: retrieved.gallery_size };
    let y = area.y + HEADING_HEIGHT;
    let label = |canvas: &mut Canvas, text: &str, x: u32, align| {
        canvas.text(text, (area.x + x, y), SMALL_SIZE, colour::MUTED_TEXT, align);
    };
    label(canvas, "item, cosine", NAME_X, Align::Left);
    label(canvas, "possible ranks (middle 90 %)", INTERVAL_X, Align::Left);
    label(canvas, "first", TOP_1_X, Align::Right);
    label(canvas, &format!("in top {}", retrieved.top_k), area.width, Align::Right);
    let top = y + AXIS;
    let bottom = top + shown(retrieved) as u32 * ROW;
    axis.draw_grid(canvas, top, bottom);
    for (i, item) in retrieved.items.iter().take(ITEMS_SHOWN).enumerate() {
        let row = Area::new(area.x, top + i as u32 * ROW, area.width, ROW);
        draw_row(canvas, item, thumbnails.get(i).and_then(Option::as_ref), retrieved.draws, row);
        axis.draw_interval(canvas, item, row);
    }
}

fn draw_row(
    canvas: &mut Canvas,
    item: &RankedItem,
    thumbnail: Option<&RgbImage>,
    draws: usize,
    row: Area,
) {
    let middle = row.y + ROW / 2;
    let rank = item.rank.to_string();
    canvas.text(&rank, (row.x + RANK_X, middle - 8), BODY_SIZE, colour::TEXT, Align::Right);
    let picture = Area::new(row.x + THUMBNAIL_X, row.y + 4, THUMBNAIL, THUMBNAIL);
    match thumbnail {
        Some(image) => canvas.paste(image, picture),
        None => canvas.fill(picture, colour::PANEL),
    }
    canvas.frame(picture, colour::LINE);
    let name = item.caption.as_deref().unwrap_or_else(|| stem(&item.image));
    let name = canvas.fit(name, BODY_SIZE, INTERVAL_X - NAME_X - 12);
    canvas.text(&name, (row.x + NAME_X, middle - 19), BODY_SIZE, colour::STRONG_TEXT, Align::Left);
    let score = format!("{:.3}", item.score);
    canvas.text(&score, (row.x + NAME_X, middle + 2), SMALL_SIZE, colour::MUTED_TEXT, Align::Left);
    for (count, x) in [(item.top_1_count, TOP_1_X), (item.top_k_count, row.width)] {
        let text = share(count, draws);
        canvas.text(&text, (row.x + x, middle - 8), BODY_SIZE, colour::TEXT, Align::Right);
    }
}

/// Ranks 1 to N on a logarithmic axis.
struct RankAxis {
    x: u32,
    items: usize,
}

impl RankAxis {
    fn position(&self, rank: usize) -> u32 {
        let span = (self.items.max(2) as f64).ln();
        let share = (rank.max(1) as f64).ln() / span;
        self.x + (share.min(1.0) * f64::from(INTERVAL_WIDTH)).round() as u32
    }

    fn draw_grid(&self, canvas: &mut Canvas, top: u32, bottom: u32) {
        let mut rank = 1;
        while rank <= self.items {
            let x = self.position(rank);
            canvas.fill(Area::new(x, top, 1, bottom - top), colour::LINE);
            let label = rank.to_string();
            canvas.text(&label, (x, bottom + 2), SMALL_SIZE, colour::MUTED_TEXT, Align::Centre);
            rank *= 10;
        }
    }

    fn draw_interval(&self, canvas: &mut Canvas, item: &RankedItem, row: Area) {
        let (low, high) = (self.position(item.rank_low), self.position(item.rank_high));
        let middle = row.y + ROW / 2;
        let bar = Area::new(low, middle - 3, (high - low).max(2), 6);
        canvas.fill(bar, colour::SAMPLES_SOFT);
        let median = self.position(item.rank_median).saturating_sub(2);
        canvas.fill(Area::new(median, middle - 6, 4, 12), colour::SAMPLES);
    }
}
