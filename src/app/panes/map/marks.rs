//! Where a result's query, mean, samples and draws lie on the map, and how they are drawn.

use std::sync::Arc;

use egui::{Align2, Color32, FontId, Painter, Pos2, Rect, Stroke, pos2, vec2};
use rayon::prelude::*;

use crate::app::gpu::points::{self, Shape, Transform};
use crate::app::panes::{Cx, axes};
use crate::app::state::selection::Item;
use crate::session::projection::GalleryMap;
use crate::session::result::QueryResult;

/// Draws shown on the map, at most: the first of them.
pub const MOST_DRAWS: usize = 5000;

/// A result on a map.
pub struct Marks {
    pub result: Arc<QueryResult>,
    map: Arc<GalleryMap>,
    /// `None` where the result cannot be put on the map.
    pub places: Option<Places>,
    /// Why not, or what to bear in mind.
    pub remark: Option<String>,
}

/// Positions on the map.
pub struct Places {
    pub mean: [f32; 2],
    pub query: Option<[f32; 2]>,
    pub samples: Vec<[f32; 2]>,
    pub draws: Arc<[[f32; 2]]>,
    /// Whether rows of the result's retrieval are rows of this map.
    pub same_gallery: bool,
}

impl Marks {
    /// Projects everything; kept by the pane until result or map change.
    pub fn new(result: &Arc<QueryResult>, map: &Arc<GalleryMap>) -> Self {
        let dim = map.centre.len();
        let found = result.distribution.dim();
        let gallery = result.recipe.models.gallery.as_ref();
        let same_gallery = gallery.is_some_and(|gallery| {
            gallery.hash.is_empty()
                || map.gallery_hash.is_empty()
                || gallery.hash == map.gallery_hash
        });
        let places = (found == dim).then(|| {
            let project = |values: &Vec<f32>| map.project(values);
            let query = &result.query_embedding.values;
            Places {
                mean: map.project(&result.distribution.mean()),
                query: (query.len() == dim).then(|| map.project(query)),
                samples: result.samples.iter().map(|sample| project(&sample.values)).collect(),
                draws: result
                    .draws
                    .values
                    .par_iter()
                    .take(MOST_DRAWS)
                    .map(project)
                    .collect::<Vec<_>>()
                    .into(),
                same_gallery,
            }
        });
        let remark = if places.is_none() {
            Some(format!(
                "The query is not on this map: its embedding has {found} dimensions, the map's \
                 gallery {dim}"
            ))
        } else if !same_gallery {
            Some("This map is of another gallery than the one that was searched".to_owned())
        } else if result.space == crate::encoder::Modality::Text {
            Some("The samples are text embeddings: they lie apart from images".to_owned())
        } else {
            None
        };
        Self { result: Arc::clone(result), map: Arc::clone(map), places, remark }
    }

    pub fn is_of(&self, result: &Arc<QueryResult>, map: &Arc<GalleryMap>) -> bool {
        Arc::ptr_eq(&self.result, result) && Arc::ptr_eq(&self.map, map)
    }

    /// Everything that can be pointed at, apart from gallery points.
    pub fn targets(&self) -> impl Iterator<Item = (Item, [f32; 2])> + '_ {
        self.places.iter().flat_map(|places| {
            let samples = places.samples.iter().enumerate();
            let query = places.query.map(|at| (Item::Query, at));
            std::iter::once((Item::Mean, places.mean))
                .chain(query)
                .chain(samples.map(|(i, &at)| (Item::Sample(i), at)))
        })
    }
}

/// Squares on relevant items, rings and rank numbers on the items found.
pub fn retrieved(
    painter: &Painter,
    cx: &Cx<'_>,
    marks: &Marks,
    of_row: &dyn Fn(usize) -> Option<Pos2>,
) {
    let theme = cx.theme;
    let (Some(retrieval), Some(places)) = (&marks.result.retrieval, &marks.places) else { return };
    if !places.same_gallery {
        return;
    }
    let selection = &cx.state.selection;
    let faded = selection.rows().next().is_some();
    let mut labels: Vec<Rect> = Vec::new();
    for item in &retrieval.items {
        let Some(at) = of_row(item.row) else { continue };
        if !painter.clip_rect().expand(12.0).contains(at) {
            continue;
        }
        let target = Item::Gallery(item.row);
        let chosen = !faded || selection.contains(target) || selection.hovered == Some(target);
        if !chosen && selection.isolated {
            continue;
        }
        let opacity = if chosen { 1.0 } else { 0.35 };
        if item.relevant == Some(true) {
            let colour = theme.relevant.gamma_multiply(opacity);
            points::mark(painter, at, 3.5, Shape::Square, colour, None);
        }
        if item.rank > retrieval.top_k {
            continue;
        }
        let colour = theme.strong.gamma_multiply(opacity);
        painter.circle_stroke(at, 6.0, Stroke::new(1.0, colour));
        let font = FontId::proportional(axes::AXIS_TEXT);
        let galley = painter.layout_no_wrap(item.rank.to_string(), font, colour);
        let label = Rect::from_min_size(at + vec2(7.0, -galley.size().y), galley.size());
        // The better rank keeps its number; zooming in makes room for others.
        if labels.iter().all(|other| !other.intersects(label)) {
            let ground = theme.panel.gamma_multiply(0.7 * opacity);
            painter.rect_filled(label.expand2(vec2(2.0, 0.0)), 2.0, ground);
            painter.galley(label.min, galley, colour);
            labels.push(label);
        }
    }
}

/// Samples, query and mean. Those of B are hollow and carry its letter.
pub fn result(
    painter: &Painter,
    cx: &Cx<'_>,
    marks: &Marks,
    transform: Transform,
    hollow: bool,
    letter: Option<&str>,
) {
    let theme = cx.theme;
    let Some(places) = &marks.places else { return };
    let selection = &cx.state.selection;
    let some_chosen = selection.samples().next().is_some();
    for (i, &sample) in places.samples.iter().enumerate() {
        let target = Item::Sample(i);
        let chosen = selection.contains(target);
        let lit = hollow || !some_chosen || chosen || selection.hovered == Some(target);
        if !lit && selection.isolated {
            continue;
        }
        let colour = theme.samples.gamma_multiply(if lit { 1.0 } else { 0.35 });
        let at = transform.apply(sample);
        let outline = hollow.then_some(1.5);
        if !hollow {
            // A thin edge in the panel's colour keeps neighbours apart.
            painter.circle_filled(at, 4.0, theme.panel.gamma_multiply(0.8));
        }
        points::mark(painter, at, 3.0, Shape::Disc, colour, outline);
        if chosen && !hollow {
            painter.circle_stroke(at, 6.0, Stroke::new(2.0, theme.accent));
        }
    }
    if let Some(query) = places.query
        && !hollow
    {
        diamond(painter, transform.apply(query), 6.0, theme.query, Some(1.5), theme.panel);
    }
    let mean = transform.apply(places.mean);
    diamond(painter, mean, 4.5, theme.query, hollow.then_some(1.5), theme.panel);
    if let Some(letter) = letter {
        let at = mean + vec2(8.0, -2.0);
        axes::tag(painter, at, Align2::LEFT_BOTTOM, letter, theme.strong, theme.panel);
    }
    for (item, place) in [(Item::Mean, Some(places.mean)), (Item::Query, places.query)] {
        if let Some(place) = place
            && selection.contains(item)
            && !hollow
        {
            painter.circle_stroke(transform.apply(place), 9.0, Stroke::new(2.0, theme.accent));
        }
    }
}

fn diamond(
    painter: &Painter,
    at: Pos2,
    radius: f32,
    colour: Color32,
    outline: Option<f32>,
    ground: Color32,
) {
    points::mark(painter, at, radius + 2.0, Shape::Diamond, ground.gamma_multiply(0.75), None);
    points::mark(painter, at, radius, Shape::Diamond, colour, outline);
}

/// The ring around what is pointed at.
pub fn ring(painter: &Painter, cx: &Cx<'_>, at: Pos2) {
    painter.circle_stroke(at, 9.0, Stroke::new(4.0, cx.theme.panel.gamma_multiply(0.7)));
    painter.circle_stroke(at, 9.0, Stroke::new(2.0, cx.theme.accent));
}

/// Round values along the lower and the left edge, and what the axes are.
pub fn axes_of_map(painter: &Painter, cx: &Cx<'_>, camera: &super::Camera, rect: Rect) {
    let theme = cx.theme;
    let low = camera.data_at(rect, rect.left_bottom());
    let high = camera.data_at(rect, rect.right_top());
    let font = FontId::proportional(axes::AXIS_TEXT);
    let most = |length: f32| (length / 90.0).max(2.0) as usize;
    let grid = Stroke::new(1.0, theme.text.gamma_multiply(0.08));
    let transform = camera.transform(rect);
    let range = axes::Range::new(low[0], high[0]);
    let step = axes::step(range.width(), most(rect.width()));
    for value in axes::ticks(&range, most(rect.width())) {
        let x = transform.apply([value as f32, 0.0]).x;
        painter.vline(x, rect.y_range(), grid);
        let inside = x > rect.left() + 40.0 && x < rect.right() - 24.0;
        if inside && rect.width() > 300.0 {
            let at = pos2(x, rect.bottom() - 2.0);
            let text = axes::tick_label(value, step);
            painter.text(at, Align2::CENTER_BOTTOM, text, font.clone(), theme.muted);
        }
    }
    let range = axes::Range::new(low[1], high[1]);
    let step = axes::step(range.width(), most(rect.height()));
    for value in axes::ticks(&range, most(rect.height())) {
        let y = transform.apply([0.0, value as f32]).y;
        painter.hline(rect.x_range(), y, grid);
        let inside = y > rect.top() + 8.0 && y < rect.bottom() - 24.0;
        if inside && rect.width() > 300.0 {
            let at = pos2(rect.left() + 3.0, y);
            let text = axes::tick_label(value, step);
            painter.text(at, Align2::LEFT_CENTER, text, font.clone(), theme.muted);
        }
    }
}
