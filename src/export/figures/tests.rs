use std::collections::BTreeMap;
use std::sync::Arc;

use image::RgbImage;

use super::drawing::{Align, Drawing, Shape, text_width};
use super::*;
use crate::adapter::training::{Baselines, EpochRecord};
use crate::distribution::{EmbeddingDistribution, GeneralizedGaussian};
use crate::encoder::{Embedding, Modality};
use crate::gallery::Interval;
use crate::session::draws::Draws;
use crate::session::engine::EvaluationBin;
use crate::session::recipe::{Bridge, ModelRef, Models, RecipeQuery};
use crate::session::result::{RankedItem, Tile};
use crate::session::studies::ladder::LadderStep;
use crate::session::studies::noise_grid::Share;

const DIM: usize = 300;

fn recipe() -> Recipe {
    let model = |path: &str| ModelRef { path: path.into(), hash: "0123456789abcdef".repeat(4) };
    let models = Models {
        encoder: model("a/rather/long/path/of/a/bundle/on/some/disk/demo/clip"),
        adapter: model("demo/adapters/cross-modal"),
        bridge: Bridge::CrossModal,
        bridge_model: None,
        decoder: Some(model("demo/unclip")),
        gallery: Some(model("demo/gallery")),
    };
    let text = "a very long query about a slice of cake with <cherries> & cream, ".repeat(4);
    let mut recipe = Recipe::new(RecipeQuery::Text(text), models);
    recipe.sampling.draws = 200;
    recipe
}

pub(crate) fn result() -> QueryResult {
    let recipe = recipe();
    let density = |i: usize| {
        let alpha = 0.01 + i as f64 * 1e-4;
        GeneralizedGaussian::new((i as f64 * 0.7).sin(), alpha, 0.8 + (i % 5) as f64 * 0.3).unwrap()
    };
    let epistemic = (0..DIM).map(|i| 1e-6 * i as f64).collect();
    let distribution =
        EmbeddingDistribution::new((0..DIM).map(density).collect(), epistemic).unwrap();
    let draws = Draws::new(&distribution, &recipe.sampling).unwrap();
    let item = |rank: usize| RankedItem {
        rank,
        row: rank * 3,
        image: format!("{rank}.png"),
        image_path: None,
        caption: Some("a caption that is much longer than its column ".repeat(1 + rank % 3)),
        score: 0.3,
        frozen_rank: rank + 1,
        top_1_count: 200 / rank,
        p_top_1: 1.0 / rank as f64,
        p_top_1_interval: Interval { low: 0.0, high: 1.0 },
        top_k_count: 200,
        p_top_k: 1.0,
        p_top_k_interval: Interval { low: 0.9, high: 1.0 },
        rank_median: rank,
        rank_q25: rank.saturating_sub(1).max(1),
        rank_q75: rank + 3,
        relevant: None,
        rank_low: 1,
        rank_high: rank + 40,
    };
    let retrieved = Retrieved {
        gallery_size: 741,
        draws: 200,
        top_k: 10,
        items: (1..=70).map(item).collect(),
        distinct_best: 4,
        best_match_set: 3,
        best_match_rows: vec![3, 6, 9],
        sample_hits: Vec::new(),
        above: Vec::new(),
        names: BTreeMap::new(),
    };
    QueryResult {
        query_embedding: Embedding { values: vec![0.1; DIM], modality: Modality::Text },
        tokens_cut: 0,
        space: Modality::Image,
        samples: draws.samples(16, None),
        draws: Arc::new(draws),
        distribution,
        reference: None,
        device: "CPU".to_owned(),
        query_image: None,
        mean_tile: None,
        tiles: Vec::new(),
        retrieval: Some(retrieved),
        timings: Vec::new(),
        recipe,
    }
}

pub(crate) fn map() -> GalleryMap {
    let unit = |i: usize| (0..DIM).map(|d| f32::from(u8::from(d == i))).collect::<Vec<f32>>();
    GalleryMap {
        gallery_hash: String::new(),
        positions: (0..741).map(|i| [(i as f32).sin() * 0.4, (i as f32).cos() * 0.2]).collect(),
        centre: vec![0.0; DIM],
        components: [unit(0), unit(1)],
        explained: [0.312, 0.1],
    }
}

pub(crate) fn tile() -> Tile {
    Tile { image: RgbImage::from_pixel(64, 64, image::Rgb([9, 90, 200])), hash: "00".to_owned() }
}

/// Calls `check` with every kind of figure.
fn for_every_figure(mut check: impl FnMut(&'static str, Figure<'_>)) {
    let (result, map) = (result(), map());
    let recipe = Some(&result.recipe);
    check("uncertainty", Figure::Uncertainty(&result));
    check("density", Figure::Density(&result));
    let retrieved = result.retrieval.as_ref().unwrap();
    check("retrieval", Figure::Retrieval { result: &result, retrieved });
    check("map", Figure::Map { result: &result, map: &map });
    check("samples", Figure::Samples(&result));
    check("comparison", Figure::Comparison { a: &result, b: &result });
    let step = |i: usize| LadderStep {
        query: result.recipe.query.clone(),
        title: "a step with a title that does not fit on one line of its column".repeat(1 + i % 2),
        image: None,
        aleatoric: 0.02 / (i + 1) as f64,
        epistemic: 0.001,
        quantiles: [0.001, 0.002, 0.003, 0.004, 0.01 + i as f64 * 0.001],
        share_below: None,
        cosine_to_last: 0.8,
    };
    let steps = (0..12).map(step).collect();
    let ladder = Ladder { steps, dimensions: DIM, tau: -0.6, p_value: 0.01 };
    check("ladder", Figure::Ladder { ladder: &ladder, recipe });
    let traverse = Traverse {
        dimensions: vec![1, 7, 30],
        offsets: (-5..=5).map(f64::from).collect(),
        tiles: (0..11).map(|_| tile()).collect(),
        cosine_to_mean: vec![0.9; 11],
    };
    check("traverse", Figure::Traverse { traverse: &traverse, recipe });
    let share = Share { value: 0.6, low: 0.5, high: 0.7, negative: false };
    let grid = NoiseGrid {
        embeddings: 5,
        noises: 4,
        tiles: (0..20).map(|_| tile()).collect(),
        embedding_share: share,
        noise_share: share,
        interaction_share: Share { value: 0.0, negative: true, ..share },
    };
    check("noise grid", Figure::NoiseGrid { grid: &grid, recipe });
    let bin = |i: u8| EvaluationBin {
        count: 100,
        aleatoric: 0.01 * f64::from(i),
        recall_at_10: 1.0 - 0.1 * f64::from(i),
    };
    let evaluation = Evaluation {
        gallery: "demo/gallery".to_owned(),
        captions: 500,
        items: 741,
        recall: [0.1, 0.2, 0.3],
        bins: (0..5).map(bin).collect(),
        spearman: 0.2,
    };
    check("evaluation", Figure::Evaluation { evaluation: &evaluation, recipe });
    let epoch = |epoch: usize| EpochRecord {
        epoch,
        training_loss: 1.0 / epoch as f64,
        validation_nll: -1.0 - 0.1 * epoch as f64,
        validation_l1: 0.1,
        learning_rate: 1e-4,
        best: epoch < 9,
        ..EpochRecord::default()
    };
    let epochs: Vec<EpochRecord> = (1..=10).map(epoch).collect();
    let losses: Vec<[f64; 2]> = (1..5000).map(|i| [f64::from(i) / 500.0, 1.0]).collect();
    let baselines = Some(Baselines { gaussian_nll: -1.2, generalized_gaussian_nll: -1.3 });
    check("training", Figure::Training(Training { epochs: &epochs, losses: &losses, baselines }));
    let untrained = Training { epochs: &[], losses: &[], baselines: None };
    check("training that has not begun", Figure::Training(untrained));
}

/// Left, top, right and bottom of every text.
fn text_boxes(drawing: &Drawing) -> Vec<(String, [f64; 4])> {
    let text_box = |shape: &Shape| {
        let Shape::Text { text, at, style, align } = shape else { return None };
        let width = text_width(text, *style);
        let left = match align {
            Align::Left => at[0],
            Align::Centre => at[0] - width / 2.0,
            Align::Right => at[0] - width,
        };
        let (top, bottom) = (at[1] - 0.75 * style.size, at[1] + 0.2 * style.size);
        Some((text.clone(), [left, top, left + width, bottom]))
    };
    drawing.shapes.iter().filter_map(text_box).collect()
}

#[test]
fn no_text_leaves_the_page_of_any_figure() {
    for_every_figure(|name, figure| {
        let drawing = figure.draw();
        let boxes = text_boxes(&drawing);
        assert!(boxes.len() > 4, "{name}");
        for (text, [left, top, right, bottom]) in boxes {
            let inside =
                left >= 0.0 && top >= 0.0 && right <= drawing.width && bottom <= drawing.height;
            assert!(inside, "{name}: {text:?} at {left} {top} {right} {bottom}");
        }
    });
}

#[test]
fn no_two_texts_of_a_figure_overlap() {
    for_every_figure(|name, figure| {
        let boxes = text_boxes(&figure.draw());
        for (i, (text, a)) in boxes.iter().enumerate() {
            for (other, b) in &boxes[i + 1..] {
                let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
                assert!(apart, "{name}: {text:?} {a:?} and {other:?} {b:?}");
            }
        }
    });
}

#[test]
fn every_figure_says_how_it_was_made() {
    for_every_figure(|name, figure| {
        let texts: Vec<String> = text_boxes(&figure.draw()).into_iter().map(|(t, _)| t).collect();
        let text = texts.join(" ");
        assert!(text.contains("Haze"), "{name}");
        if figure.recipe().is_some() {
            assert!(text.contains("0123456789"), "{name}: {text}");
        }
    });
}

#[test]
fn every_figure_is_written_in_every_format_and_carries_its_recipe() {
    let folder = tempfile::tempdir().unwrap();
    for_every_figure(|name, figure| {
        let png = folder.path().join("figure.png");
        write_figure(figure, FigureFormat::Png, &png).unwrap();
        let image = image::open(&png).unwrap().to_rgb8();
        assert_eq!(image.width(), 1440, "{name}");
        let inked = image.pixels().filter(|p| p.0 != [255; 3]).count();
        assert!(inked > 2000, "{name}: {inked} pixels");

        let svg = folder.path().join("figure.svg");
        write_figure(figure, FigureFormat::Svg, &svg).unwrap();
        let text = std::fs::read_to_string(&svg).unwrap();
        assert!(text.len() < 8 << 20, "{name}: {} bytes", text.len());
        assert_eq!(text.contains("haze_recipe"), figure.recipe().is_some(), "{name}");

        let formats = [TableFormat::Csv, TableFormat::Parquet, TableFormat::Npz];
        for format in formats {
            write_pane_data(figure, format, &folder.path().join("data")).unwrap();
        }
    });
}

#[test]
fn the_data_of_a_figure_has_a_row_for_everything_drawn() {
    let (result, map) = (result(), map());
    assert_eq!(Figure::Uncertainty(&result).table().rows(), DIM);
    assert_eq!(Figure::Samples(&result).table().rows(), 200);
    let retrieved = result.retrieval.as_ref().unwrap();
    assert_eq!(Figure::Retrieval { result: &result, retrieved }.table().rows(), 70);
    assert_eq!(Figure::Map { result: &result, map: &map }.table().rows(), 741 + 2 + 16);
    assert_eq!(Figure::Density(&result).table().rows(), 256 * 100);
}
