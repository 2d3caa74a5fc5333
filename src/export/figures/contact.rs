//! Contact sheets of decoded pictures: a walk along dimensions, and embeddings by noises.

use super::caption;
use super::drawing::{Align, Drawing, LINE_HEIGHT, Rect};
use super::page::{LABEL, MARGIN, Page, SMALL, WIDTH};
use super::table::Table;
use crate::session::recipe::Recipe;
use crate::session::result::Tile;
use crate::session::studies::noise_grid::{NoiseGrid, Share};
use crate::session::studies::traverse::Traverse;

const GAP: f64 = 6.0;
/// Edges of a tile in points.
const TILE: std::ops::RangeInclusive<f64> = 48.0..=160.0;
/// Room for the labels of rows.
const ROW_LABEL: f64 = 36.0;

/// Tiles in rows of `columns`, each with a label below; gives what follows its place.
fn tiles(page: &mut Page, tiles: &[Tile], columns: usize, left: f64, labels: &[String]) {
    let columns = columns.max(1);
    let edge = (WIDTH - MARGIN - left - GAP * (columns - 1) as f64) / columns as f64;
    let edge = edge.clamp(*TILE.start(), *TILE.end());
    // A row that does not fit goes on below.
    let fit = (((WIDTH - MARGIN - left + GAP) / (edge + GAP)) as usize).clamp(1, columns);
    let below = if labels.is_empty() { 0.0 } else { LABEL.size * LINE_HEIGHT + 2.0 };
    for (i, tile) in tiles.iter().enumerate() {
        let (row, column) = (i / fit, i % fit);
        let x = left + column as f64 * (edge + GAP);
        let y = page.y + row as f64 * (edge + GAP + below);
        page.drawing.picture(tile.image.clone(), Rect::new(x, y, x + edge, y + edge));
        if let Some(label) = labels.get(i) {
            let at = [x + edge / 2.0, y + edge + 2.0 + LABEL.size];
            page.drawing.text(label, at, LABEL, Align::Centre);
        }
    }
    page.y += tiles.len().div_ceil(fit) as f64 * (edge + GAP + below);
}

pub fn draw_traverse(traverse: &Traverse, recipe: Option<&Recipe>) -> Drawing {
    let named: Vec<String> = traverse.dimensions.iter().map(usize::to_string).collect();
    let mut page = Page::new(
        "A walk along dimensions",
        &format!(
            "The mean moved along {} {}, decoded with one noise.",
            if named.len() == 1 { "dimension" } else { "dimensions" },
            named.join(", ")
        ),
    );
    let labels: Vec<String> = traverse
        .offsets
        .iter()
        .map(|k| if *k == 0.0 { "mean".to_owned() } else { format!("{k:+} \u{3c3}") })
        .collect();
    tiles(&mut page, &traverse.tiles, traverse.tiles.len().min(9), MARGIN, &labels);
    let mut lines = vec![
        "\u{3c3}: total standard deviation of each dimension. A tile is one picture of one \
         embedding with one noise."
            .to_owned(),
    ];
    lines.extend(recipe.into_iter().flat_map(|recipe| caption::lines(recipe, "")));
    page.finish(&lines)
}

pub fn draw_noise_grid(grid: &NoiseGrid, recipe: Option<&Recipe>) -> Drawing {
    let share = |name: &str, share: &Share| {
        let percent = |v: f64| (100.0 * v).round();
        let interval = format!("{}\u{2013}{} %", percent(share.low), percent(share.high));
        if share.negative {
            format!("{name} 0 ({interval}; the interval reaches below 0)")
        } else {
            format!("{name} {} % ({interval})", percent(share.value))
        }
    };
    let mut page = Page::new(
        "Embeddings \u{d7} noises",
        &format!(
            "Rows: {} samples; columns: {} decoder noises. Shares of the difference between \
             pictures: {}, {}, {}.",
            grid.embeddings,
            grid.noises,
            share("embedding", &grid.embedding_share),
            share("noise", &grid.noise_share),
            share("both together", &grid.interaction_share)
        ),
    );
    let columns = grid.noises.max(1);
    for (row, pictures) in grid.tiles.chunks(columns).enumerate() {
        let at = [MARGIN, page.y + 4.0 + SMALL.size];
        page.drawing.text(&format!("#{row}"), at, SMALL, Align::Left);
        tiles(&mut page, pictures, columns, MARGIN + ROW_LABEL, &[]);
    }
    let mut lines = vec![
        "Two-way analysis of variance over the unit embeddings of the pictures; 90 % jackknife \
         intervals over rows and columns."
            .to_owned(),
    ];
    lines.extend(recipe.into_iter().flat_map(|recipe| caption::lines(recipe, "")));
    page.finish(&lines)
}

pub fn traverse_table(traverse: &Traverse) -> Table {
    let named: Vec<String> = traverse.dimensions.iter().map(usize::to_string).collect();
    let named = named.join(" ");
    Table::default()
        .text("dimensions", traverse.offsets.iter().map(|_| named.clone()))
        .numbers("offset", traverse.offsets.iter().copied())
        .numbers("cosine_to_mean", traverse.cosine_to_mean.iter().copied())
        .text("tile_hash", traverse.tiles.iter().map(|tile| tile.hash.clone()))
}

pub fn noise_grid_table(grid: &NoiseGrid) -> Table {
    let shares = [
        ("embedding", grid.embedding_share),
        ("noise", grid.noise_share),
        ("interaction", grid.interaction_share),
    ];
    Table::default()
        .text("component", shares.iter().map(|(name, _)| *name))
        .numbers("share", shares.iter().map(|(_, s)| s.value))
        .numbers("share_q05", shares.iter().map(|(_, s)| s.low))
        .numbers("share_q95", shares.iter().map(|(_, s)| s.high))
        .whole("negative_estimate", shares.iter().map(|(_, s)| usize::from(s.negative)))
        .whole("embeddings", shares.iter().map(|_| grid.embeddings))
        .whole("noises", shares.iter().map(|_| grid.noises))
}
