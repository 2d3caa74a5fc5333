//! What a finished query holds: everything the window shows and the export writes.

use std::collections::BTreeMap;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::draws::Draws;
use super::recipe::Recipe;
use crate::distribution::EmbeddingDistribution;
use crate::encoder::{Embedding, Modality};
use crate::gallery::{Hit, Interval};

/// A finished query.
#[derive(Debug, Clone)]
pub struct QueryResult {
    /// The recipe with every default and model hash filled in: running it again gives this result.
    pub recipe: Recipe,
    /// The device it ran on, as shown to the user.
    pub device: String,
    /// The query image, for an image query.
    pub query_image: Option<RgbImage>,
    /// What the frozen encoder made of the query; not normalised.
    pub query_embedding: Embedding,
    /// Text tokens beyond the encoder's limit, which it never saw.
    pub tokens_cut: usize,
    /// Space that the distribution and its samples live in.
    pub space: Modality,
    pub distribution: EmbeddingDistribution,
    /// How this query's uncertainty compares with the gallery's own captions or images.
    pub reference: Option<Reference>,
    /// The samples that were decoded, in order of their index.
    pub samples: Vec<Sample>,
    /// All draws behind the statistics; the samples are the first of them.
    pub draws: std::sync::Arc<Draws>,
    /// Decoded image of the mean embedding.
    pub mean_tile: Option<Tile>,
    /// Decoded images, one per sample; empty when nothing was decoded.
    pub tiles: Vec<Tile>,
    pub retrieval: Option<Retrieved>,
    pub timings: Vec<StageTime>,
}

/// The uncertainty of one query among those of a gallery's own texts or images.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Number of gallery captions (text query) or images (image query) compared with.
    pub count: usize,
    /// Share of them with a lower mean aleatoric variance, 0 to 1.
    pub share_below: f64,
    /// Median of their mean aleatoric variances.
    pub median: f64,
    /// Their mean aleatoric variances at 0, 2, 4, … 100 % of the captions, 51 values.
    #[serde(default)]
    pub quantiles: Vec<f64>,
}

impl Reference {
    /// Where the query stands, as the end of "more uncertain than": a finite number of captions
    /// proves neither 0 % nor 100 %.
    pub fn placed(&self) -> String {
        if self.share_below <= 0.0 {
            format!("none of {}", self.count)
        } else if self.share_below >= 1.0 {
            format!("all {}", self.count)
        } else {
            let percent = (100.0 * self.share_below).round().clamp(1.0, 99.0);
            format!("{percent:.0} %")
        }
    }
}

/// One drawn embedding.
#[derive(Debug, Clone)]
pub struct Sample {
    /// `[D]` components in the adapter's output space, not normalised.
    pub values: Vec<f32>,
    pub statistics: SampleStatistics,
}

/// How a drawn embedding stands in the distribution it came from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleStatistics {
    /// Index of the draw; with the seed it determines the values.
    pub index: usize,
    /// Log-density in nats.
    pub log_prob: f64,
    /// Share of all draws that are less likely than this one, 0 to 1.
    pub typicality: f64,
    /// Euclidean distance from the mean.
    pub distance_to_mean: f64,
    pub cosine_to_mean: f64,
    /// The gallery item closest to this sample.
    pub nearest: Option<Nearest>,
    /// Cosine between the sample as the decoder saw it and the embedding of the decoded image:
    /// how much of the sample survived decoding.
    pub decoded_cosine: Option<f64>,
}

/// The best match of one sample.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Nearest {
    /// Row in the gallery.
    pub row: usize,
    pub image: String,
    pub caption: Option<String>,
    pub score: f64,
}

/// One decoded image.
#[derive(Debug, Clone)]
pub struct Tile {
    pub image: RgbImage,
    /// BLAKE3 hash of width, height and RGB bytes.
    pub hash: String,
}

/// Retrieval with the mean, and what the draws make of it.
#[derive(Debug, Clone)]
pub struct Retrieved {
    /// Number of items searched.
    pub gallery_size: usize,
    /// Number of draws behind every probability and interval.
    pub draws: usize,
    /// k of P(in top k).
    pub top_k: usize,
    /// The mean's best items, others that are often in the top k, and those that belong to the
    /// query (at most k of each); by the mean's ranking.
    pub items: Vec<RankedItem>,
    /// Number of different items that are the best match of at least one draw.
    pub distinct_best: usize,
    /// Size of the smallest set of items that holds the best match in 90 % of the draws.
    pub best_match_set: usize,
    /// Rows of that set, most frequent first.
    pub best_match_rows: Vec<usize>,
    /// For each decoded sample its own best items, `top_k` at most, best first.
    pub sample_hits: Vec<Vec<Hit>>,
    /// `[n][n]` over the first n of `items`, at most 64: share of draws in which item i scores above
    /// item j, ties by the lower row; 0 on the diagonal.
    pub above: Vec<Vec<f32>>,
    /// Names of every row mentioned anywhere in this result.
    pub names: BTreeMap<usize, ItemName>,
}

/// What is known of a gallery row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemName {
    /// File name of the image.
    pub image: String,
    /// Where that image is on this machine, if the gallery says so.
    pub image_path: Option<std::path::PathBuf>,
    pub caption: Option<String>,
}

/// One retrieved item and its possible ranks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankedItem {
    /// Rank by the mean, from 1.
    pub rank: usize,
    /// Row in the gallery.
    pub row: usize,
    /// File name of the image.
    pub image: String,
    /// Where that image is on this machine, if the gallery says so.
    #[serde(skip)]
    pub image_path: Option<std::path::PathBuf>,
    pub caption: Option<String>,
    /// Cosine with the mean.
    pub score: f64,
    /// Rank by the frozen embedding of the query itself, without the adapter, from 1.
    pub frozen_rank: usize,
    /// Number of draws that rank this item first.
    pub top_1_count: usize,
    /// Share of draws that rank this item first.
    pub p_top_1: f64,
    /// 95 % Wilson interval of `p_top_1`, for what finitely many draws leave open.
    pub p_top_1_interval: Interval,
    /// Number of draws that rank this item among the first k.
    pub top_k_count: usize,
    /// Share of draws that rank this item among the first k.
    pub p_top_k: f64,
    /// 95 % Wilson interval of `p_top_k`.
    pub p_top_k_interval: Interval,
    /// Median rank over the draws.
    pub rank_median: usize,
    /// 25 % quantile of its rank over the draws.
    pub rank_q25: usize,
    /// 75 % quantile of its rank over the draws.
    pub rank_q75: usize,
    /// Whether it belongs to the query: one of its captions is the query text, or it is the query
    /// image itself. `None` where no item of the gallery does, so that nothing is known.
    pub relevant: Option<bool>,
    /// 5 % quantile of its rank over the draws.
    pub rank_low: usize,
    /// 95 % quantile of its rank over the draws.
    pub rank_high: usize,
}

/// How long one stage took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    pub stage: String,
    pub seconds: f64,
}

impl QueryResult {
    /// The query as one line of text: the text itself, or the file name of the image.
    pub fn title(&self) -> String {
        self.recipe.query.title()
    }

    /// What is decoded: the mean, then every sample.
    pub(super) fn to_decode(&self) -> Vec<Vec<f32>> {
        let samples = self.samples.iter().map(|sample| sample.values.clone());
        std::iter::once(self.distribution.mean()).chain(samples).collect()
    }

    /// Takes the tiles of [`Self::to_decode`].
    pub(super) fn set_tiles(&mut self, tiles: Vec<Tile>) {
        let mut tiles = tiles.into_iter();
        self.mean_tile = tiles.next();
        self.tiles = tiles.collect();
    }

    /// Indices of the samples, likeliest first; ties by index.
    pub fn by_likelihood(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples.len()).collect();
        let log_prob = |i: usize| self.samples[i].statistics.log_prob;
        order.sort_by(|&a, &b| log_prob(b).total_cmp(&log_prob(a)).then(a.cmp(&b)));
        order
    }
}
