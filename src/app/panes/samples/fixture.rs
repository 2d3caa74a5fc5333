//! Small results for tests, with everything that a pane can show.

use std::sync::Arc;
use std::time::SystemTime;

use image::RgbImage;

use crate::app::state::history::{DecodeState, Entry, EntryId, TileState};
use crate::distribution::{EmbeddingDistribution, GeneralizedGaussian};
use crate::encoder::{Embedding, Modality};
use crate::gallery::Interval;
use crate::session::draws::Draws;
use crate::session::recipe::{Bridge, ModelRef, Models, Recipe, RecipeQuery, Sampling};
use crate::session::result::{
    ItemName, Nearest, QueryResult, RankedItem, Reference, Retrieved, Tile,
};

const DIMENSIONS: usize = 6;
const GALLERY: usize = 40;

/// A recipe for a text.
pub fn recipe(text: &str, samples: usize) -> Recipe {
    let models = Models {
        encoder: ModelRef::new("encoder"),
        adapter: Some(ModelRef::new("adapter")),
        bridge: Bridge::CrossModal,
        bridge_model: None,
        decoder: Some(ModelRef::new("decoder")),
        gallery: Some(ModelRef::new("gallery")),
    };
    let mut recipe = Recipe::new(RecipeQuery::Text(text.to_owned()), models);
    recipe.sampling = Sampling { samples, draws: 200, ..Sampling::default() };
    recipe
}

/// A result with `samples` samples and ten ranked items; not decoded.
pub fn result(text: &str, samples: usize) -> QueryResult {
    spread(text, samples, 0.5)
}

/// As [`result`], every dimension with this scale.
pub fn spread(text: &str, samples: usize, alpha: f64) -> QueryResult {
    let density = |d: usize| GeneralizedGaussian::new(d as f64, alpha, 1.5).unwrap();
    let distribution =
        EmbeddingDistribution::new((0..DIMENSIONS).map(density).collect(), vec![0.01; DIMENSIONS])
            .unwrap();
    let recipe = recipe(text, samples);
    let draws = Draws::new(&distribution, &recipe.sampling).unwrap();
    let mut drawn = draws.samples(samples, None);
    for sample in &mut drawn {
        let row = sample.statistics.index % 3;
        sample.statistics.nearest = Some(Nearest {
            row,
            image: format!("{row}.png"),
            caption: Some(format!("item {row}")),
            score: 0.3 - 0.01 * sample.statistics.index as f64,
        });
    }
    let items: Vec<RankedItem> = (0..10).map(ranked).collect();
    let name = |item: &RankedItem| {
        let name =
            ItemName { image: item.image.clone(), image_path: None, caption: item.caption.clone() };
        (item.row, name)
    };
    let retrieval = Retrieved {
        gallery_size: GALLERY,
        draws: 200,
        top_k: 10,
        names: items.iter().map(name).collect(),
        items,
        distinct_best: 3,
        best_match_set: 2,
        best_match_rows: vec![0, 1],
        sample_hits: Vec::new(),
        above: Vec::new(),
    };
    QueryResult {
        recipe,
        device: "CPU".to_owned(),
        query_image: None,
        query_embedding: Embedding { values: vec![1.0; DIMENSIONS], modality: Modality::Text },
        tokens_cut: 0,
        space: Modality::Image,
        distribution,
        reference: Some(Reference {
            count: 100,
            share_below: 0.6,
            median: 0.1,
            quantiles: Vec::new(),
        }),
        samples: drawn,
        draws: Arc::new(draws),
        mean_tile: None,
        tiles: Vec::new(),
        retrieval: Some(retrieval),
        timings: Vec::new(),
    }
}

/// The item of a row that stands at rank `row + 1`.
pub fn ranked(row: usize) -> RankedItem {
    RankedItem {
        rank: row + 1,
        row,
        image: format!("{row}.png"),
        image_path: None,
        caption: Some(format!("item {row}")),
        score: 0.4 - 0.01 * row as f64,
        frozen_rank: row + 1,
        top_1_count: 0,
        p_top_1: 0.0,
        p_top_1_interval: Interval { low: 0.0, high: 0.02 },
        top_k_count: 100,
        p_top_k: 0.5,
        p_top_k_interval: Interval { low: 0.43, high: 0.57 },
        rank_median: row + 1,
        rank_q25: row + 1,
        rank_q75: row + 2,
        relevant: None,
        rank_low: 1.max(row),
        rank_high: row + 5,
    }
}

/// An entry that holds a result and its finished tiles, of 8 x 8 pixels.
pub fn entry(id: u64, text: &str, samples: usize) -> Entry {
    let result = result(text, samples);
    let tile = |number: usize| {
        let image = RgbImage::from_pixel(8, 8, image::Rgb([number as u8, 100, 200]));
        TileState::Done(Arc::new(Tile { image, hash: number.to_string() }))
    };
    Entry {
        id: EntryId(id),
        recipe: result.recipe.clone(),
        result: Some(Arc::new(result)),
        tiles: (0..=samples).map(tile).collect(),
        decode: DecodeState::Finished,
        pinned: false,
        asked: SystemTime::UNIX_EPOCH,
        warnings: Vec::new(),
    }
}
