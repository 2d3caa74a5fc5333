//! The grid of decoded draws, likeliest first.

use super::{Align, Area, Canvas, HEADING_HEIGHT, SMALL_SIZE, colour, heading};
use crate::session::result::{QueryResult, SampleStatistics};

const CAPTION_LINE: u32 = 17;

/// Where the tiles of a grid stand.
pub struct Layout {
    tiles: usize,
    columns: u32,
    tile: u32,
    gap: u32,
    caption_lines: u32,
}

impl Layout {
    /// Fewer tiles are drawn larger; captions appear where there is room for them.
    pub fn of(result: &QueryResult) -> Self {
        let tiles = result.tiles.len();
        let (tile, caption_lines) = match tiles {
            0..=16 => (172, 2),
            17..=36 => (144, 2),
            37..=100 => (96, 1),
            _ => (64, 0),
        };
        let square = (tiles as f64).sqrt().ceil() as u32;
        let columns = square.clamp(4, 64);
        Self { tiles, columns, tile, gap: if tile > 96 { 8 } else { 4 }, caption_lines }
    }

    pub fn width(&self) -> u32 {
        if self.tiles == 0 { 0 } else { self.columns * (self.tile + self.gap) - self.gap }
    }

    pub fn height(&self) -> u32 {
        if self.tiles == 0 {
            return 0;
        }
        HEADING_HEIGHT + (self.tiles as u32).div_ceil(self.columns) * self.row_height()
    }

    fn row_height(&self) -> u32 {
        self.tile + self.caption_lines * CAPTION_LINE + 3 * self.gap / 2
    }

    pub fn draw(&self, canvas: &mut Canvas, result: &QueryResult, (x, y): (u32, u32)) {
        if self.tiles == 0 {
            return;
        }
        let noise = if result.recipe.decoding.independent_noise {
            "each has its own decoder noise"
        } else {
            "same decoder noise for all"
        };
        let searched = result.retrieval.is_some() && self.caption_lines > 1;
        let below = if searched { "; below each, cosine and name of its best match" } else { "" };
        let below = match self.caption_lines {
            1 => "; percent: share of less likely draws",
            _ => below,
        };
        let noise = format!("{noise}{below}");
        let area = Area::new(x, y, self.width(), HEADING_HEIGHT);
        heading(canvas, &format!("{} draws, likeliest first", self.tiles), &noise, area);
        for (place, index) in result.by_likelihood().into_iter().enumerate() {
            let (column, row) = (place as u32 % self.columns, place as u32 / self.columns);
            let left = x + column * (self.tile + self.gap);
            let top = y + HEADING_HEIGHT + row * self.row_height();
            let Some(tile) = result.tiles.get(index) else { continue };
            canvas.paste(&tile.image, Area::new(left, top, self.tile, self.tile));
            canvas.frame(Area::new(left, top, self.tile, self.tile), colour::LINE);
            self.caption(canvas, &result.samples[index].statistics, (left, top + self.tile + 3));
        }
    }

    fn caption(&self, canvas: &mut Canvas, sample: &SampleStatistics, (x, y): (u32, u32)) {
        let typicality = format!("{:.0} %", 100.0 * sample.typicality);
        let first = match self.caption_lines {
            0 => return,
            1 => format!("#{}  {typicality}", sample.index),
            _ => format!("#{}  typicality {typicality}", sample.index),
        };
        let first = canvas.fit(&first, SMALL_SIZE, self.tile);
        canvas.text(&first, (x, y), SMALL_SIZE, colour::TEXT, Align::Left);
        if let Some(nearest) = sample.nearest.as_ref().filter(|_| self.caption_lines > 1) {
            let name = nearest.caption.as_deref().unwrap_or_else(|| stem(&nearest.image));
            let text = format!("{:.2}  {name}", nearest.score);
            let text = canvas.fit(&text, SMALL_SIZE, self.tile);
            canvas.text(&text, (x, y + CAPTION_LINE), SMALL_SIZE, colour::MUTED_TEXT, Align::Left);
        }
    }
}

/// A file name without folder and extension.
pub fn stem(path: &str) -> &str {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
