//! Which picture stands for an item of an entry.

use std::sync::Arc;

use egui::{Rect, TextureHandle, Vec2, vec2};
use image::RgbImage;

use crate::app::panes::Cx;
use crate::app::state::history::{Entry, TileState};
use crate::app::state::selection::Item;
use crate::app::textures::{Look, ThumbnailState};
use crate::session::recipe::RecipeQuery;

/// Version of a finished picture: later than any preview.
const FINISHED: u64 = u64::MAX;

/// A picture on the graphics device.
#[derive(Clone)]
pub struct Picture {
    pub texture: TextureHandle,
    /// Width and height in pixels of what is shown, before any scaling.
    pub size: [u32; 2],
    /// A preview: not to be judged from.
    pub unfinished: bool,
}

/// Number of the tile that belongs to an item: the mean first, then the samples.
pub fn tile_number(item: Item) -> Option<usize> {
    match item {
        Item::Mean => Some(0),
        Item::Sample(index) => Some(index + 1),
        _ => None,
    }
}

/// The tile of an item.
pub fn tile(entry: &Entry, item: Item) -> Option<&TileState> {
    entry.tiles.get(tile_number(item)?)
}

/// The finished pixels of an item.
pub fn pixels(entry: &Entry, item: Item) -> Option<&RgbImage> {
    match item {
        Item::Query => entry.result.as_ref()?.query_image.as_ref(),
        _ => match tile(entry, item)? {
            TileState::Done(tile) => Some(&tile.image),
            _ => None,
        },
    }
}

/// A copy of the finished pixels that can be sent.
pub fn shared_pixels(entry: &Entry, item: Item) -> Option<Arc<RgbImage>> {
    pixels(entry, item).map(|image| Arc::new(image.clone()))
}

/// The picture of an item, to be shown at `side` points; `pixel_art` keeps pixels square when it
/// is enlarged. `None` where there is none (yet).
pub fn picture(
    cx: &mut Cx<'_>,
    entry: &Entry,
    item: Item,
    side: f32,
    pixels_per_point: f32,
    pixel_art: bool,
) -> Option<Picture> {
    let side = (side * pixels_per_point).ceil().max(1.0) as u32;
    let look = Look { side, unfinished: false, pixels: pixel_art };
    let finished = |cx: &mut Cx<'_>, id: egui::Id, image: &RgbImage| {
        let texture = cx.textures.tile(id, FINISHED, image, look)?;
        Some(Picture { texture, size: [image.width(), image.height()], unfinished: false })
    };
    match item {
        Item::Query => {
            if let Some(image) = entry.result.as_ref().and_then(|r| r.query_image.as_ref()) {
                return finished(cx, egui::Id::unique(("query picture", entry.id)), image);
            }
            match &entry.recipe.query {
                RecipeQuery::Image { path, .. } => thumbnail(cx, path),
                RecipeQuery::Text(_) => None,
            }
        }
        Item::Gallery(row) => {
            let names = &entry.result.as_ref()?.retrieval.as_ref()?.names;
            thumbnail(cx, names.get(&row)?.image_path.as_deref()?)
        }
        Item::Dimension(_) => None,
        Item::Mean | Item::Sample(_) => {
            let id = egui::Id::unique(("tile picture", entry.id, tile_number(item)));
            match tile(entry, item)? {
                TileState::Empty => None,
                TileState::Preview { image, version } => {
                    let look = Look { unfinished: true, ..look };
                    let texture = cx.textures.tile(id, u64::from(*version), image, look)?;
                    let size = [image.width(), image.height()];
                    Some(Picture { texture, size, unfinished: true })
                }
                TileState::Done(tile) => finished(cx, id, &tile.image),
            }
        }
    }
}

fn thumbnail(cx: &mut Cx<'_>, path: &std::path::Path) -> Option<Picture> {
    match cx.textures.thumbnail(path) {
        ThumbnailState::Ready(texture) => {
            let size = texture.size().map(|edge| edge as u32);
            Some(Picture { texture, size, unfinished: false })
        }
        _ => None,
    }
}

/// The largest rectangle of a picture's shape inside another, in its centre.
pub fn fitted(size: [u32; 2], inside: Rect) -> Rect {
    let size = vec2(size[0].max(1) as f32, size[1].max(1) as f32);
    let scale = (inside.size() / size).min_elem();
    Rect::from_center_size(inside.center(), size * scale)
}

/// Texture coordinates of a whole picture.
pub fn whole() -> Rect {
    Rect::from_min_size(egui::Pos2::ZERO, Vec2::splat(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use egui::pos2;

    #[test]
    fn a_picture_keeps_its_shape_and_touches_two_edges() {
        let inside = Rect::from_min_size(pos2(10.0, 10.0), vec2(100.0, 100.0));
        let wide = fitted([200, 50], inside);
        assert_eq!(wide.size(), vec2(100.0, 25.0));
        assert_eq!(wide.center(), inside.center());
        assert_eq!(fitted([16, 16], inside), inside);
    }

    #[test]
    fn the_mean_is_tile_zero_and_samples_follow() {
        assert_eq!(tile_number(Item::Mean), Some(0));
        assert_eq!(tile_number(Item::Sample(0)), Some(1));
        assert_eq!(tile_number(Item::Query), None);
    }
}
