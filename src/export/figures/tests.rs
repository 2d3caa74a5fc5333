use std::collections::BTreeMap;
use std::sync::Arc;

use image::RgbImage;

use super::drawing::{Align, Drawing, Shape, text_width};
use super::*;
use crate::adapter::training::{Baselines, EpochRecord};
use crate::distribution::{EmbeddingDistribution, GeneralizedGaussian};
use crate::encoder::{Embedding, Modality};
use crate::evaluation::Estimate;
use crate::experiment::active::report::{
    ActiveCurve, ActiveRound, CurveArea, FrozenRecall, QueryRisk,
};
use crate::experiment::active::{ActiveReport, ActiveSettings, Measure, Strategy};
use crate::experiment::report::SplitFacts;
use crate::gallery::Interval;
use crate::session::draws::Draws;
use crate::session::engine::EvaluationBin;
use crate::session::recipe::{Bridge, ModelRef, Models, RecipeQuery};
use crate::session::result::{RankedItem, Tile};
use crate::session::studies::ladder::LadderStep;
use crate::session::studies::noise_grid::Share;
use crate::session::studies::routes::{ItemScores, LeftOut, RouteScores, Scores};

const DIM: usize = 300;

fn recipe() -> Recipe {
    let model = |path: &str| ModelRef { path: path.into(), hash: "0123456789abcdef".repeat(4) };
    let models = Models {
        encoder: model("a/rather/long/path/of/a/bundle/on/some/disk/demo/clip"),
        adapter: Some(model("demo/adapters/cross-modal")),
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
    let estimate = |value: f64| Estimate { value, low: 0.9 * value, high: 1.1 * value };
    let scores = |diverse: bool| {
        let item = |i: usize| ItemScores {
            row: 3 * i,
            similarity: 0.5 + 0.01 * i as f64,
            given_similarity: 0.6,
            mean_similarity: 0.7,
            rank: 1.0 + 30.0 * i as f64,
            top_k: 0.5,
            diversity: diverse.then_some(0.1),
        };
        Scores {
            similarity: estimate(0.5),
            given_similarity: estimate(0.6),
            mean_similarity: estimate(0.7),
            rank: estimate(300.0),
            top_k: estimate(0.5),
            diversity: diverse.then(|| estimate(0.1)),
            each: (0..20).map(item).collect(),
        }
    };
    let route = |route: Bridge| RouteScores {
        route,
        adapter: Some("demo/adapters/text".into()),
        model: None,
        scores: scores(true),
    };
    let routes = Routes {
        gallery: "demo/gallery".to_owned(),
        gallery_size: 741,
        items: 20,
        samples: 4,
        routes: Bridge::ALL.map(route).to_vec(),
        ceiling: Some(scores(false)),
        left_out: vec![LeftOut { route: Bridge::Prior, reason: "none is named".to_owned() }],
    };
    check("routes", Figure::Routes { routes: &routes, recipe });
    assert_eq!(Figure::Routes { routes: &routes, recipe }.table().rows(), 5 + 1);
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
    for seeds in [1, 4] {
        let report = active(seeds);
        for measure in Measure::ALL {
            check("active learning", Figure::Active { report: &report, measure });
        }
    }
}

/// All strategies over four budgets. With more than one seed the values of a round are spread
/// around 0.3, 0.35, 0.4 and 0.45.
fn active(seeds: u64) -> ActiveReport {
    let settings = ActiveSettings {
        seeds: (0..seeds).collect(),
        ..ActiveSettings::new(vec![100, 200, 400, 1000])
    };
    let round = |labelled: usize, round: usize, seed: u64| {
        let value = 0.3 + 0.05 * round as f64 + 0.01 * (seed as f64 - (seeds - 1) as f64 / 2.0);
        let risk = QueryRisk { aurc: 1.0 - value, excess_aurc: 0.1 };
        ActiveRound {
            labelled,
            captions: 5 * labelled,
            image_to_text: [value; 3],
            text_to_image: [value; 3],
            image_risk: risk,
            text_risk: risk,
            head_epoch: 1,
            image_nll: 0.0,
            text_nll: 0.0,
        }
    };
    let curve = |strategy: Strategy, seed: u64| ActiveCurve {
        strategy,
        seed,
        rounds: (settings.budgets.iter().enumerate()).map(|(i, &n)| round(n, i, seed)).collect(),
    };
    let estimate = Estimate { value: -0.0123, low: -0.0345, high: 0.0012 };
    let area = |strategy: Strategy, measure: Measure| CurveArea {
        strategy,
        measure,
        per_seed: vec![0.4; seeds as usize],
        mean: 0.4,
        over_seeds: Some(estimate),
        against_random: (strategy != Strategy::Random && seeds > 1).then_some(estimate),
    };
    let facts = |name: &str| SplitFacts { name: name.to_owned(), images: 2000, captions: 10_000 };
    let areas = |&strategy: &Strategy| Measure::ALL.map(|measure| area(strategy, measure));
    ActiveReport {
        schema: 1,
        haze: env!("CARGO_PKG_VERSION").to_owned(),
        pool: facts("a pool with a name of some length"),
        validation: facts("val"),
        test: facts("the test split of that data set"),
        frozen: FrozenRecall { image_to_text: [0.25; 3], text_to_image: [0.25; 3] },
        curves: (Strategy::ALL.into_iter())
            .flat_map(|strategy| (0..seeds).map(move |seed| (strategy, seed)))
            .map(|(strategy, seed)| curve(strategy, seed))
            .collect(),
        areas: Strategy::ALL.iter().flat_map(areas).collect(),
        settings,
        seconds: 1.0,
    }
}

#[test]
fn learning_curves_have_a_band_where_there_are_seeds_and_the_numbers_of_both() {
    for (seeds, bands) in [(1, 0), (4, 8 + 7)] {
        let report = active(seeds);
        let measure = Measure::TextToImageRecallAt1;
        let figure = Figure::Active { report: &report, measure };
        let is_band = |shape: &&Shape| matches!(shape, Shape::Polygon { .. });
        assert_eq!(figure.draw().shapes.iter().filter(is_band).count(), bands);
        assert_eq!(figure.table().rows(), 8 * 4);
        let curve = report.mean_curve(Strategy::Bald, measure);
        assert_eq!(curve.iter().map(|p| p.labelled).collect::<Vec<_>>(), [100, 200, 400, 1000]);
        assert!((curve[3].mean - 0.45).abs() < 1e-12 && curve[3].seeds == seeds as usize);
        // Four values 0.01 apart: standard error 0.006455, Student's t of 3 degrees 3.182.
        let half = curve[3].over_seeds.map(|e| e.high - e.value);
        assert_eq!(half.is_some(), seeds > 1);
        assert!(half.is_none_or(|half| (half - 3.182 * 0.006_455).abs() < 1e-4), "{half:?}");
    }
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

        for format in [
            TableFormat::Csv,
            TableFormat::Parquet,
            TableFormat::Npz,
            TableFormat::Markdown,
            TableFormat::Json,
        ] {
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
