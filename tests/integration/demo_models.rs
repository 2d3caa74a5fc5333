//! Whether the demo bundle's models do what they are for. Nothing here knows its sizes.

use std::ops::ControlFlow;
use std::path::PathBuf;

use haze::adapter::{Adapter, AdapterHeader, AdapterKind};
use haze::decoder::{DecodeOptions, UnClipPipeline};
use haze::distribution::GeneralizedGaussian;
use haze::encoder::{Embedding, Encoder, Modality};
use haze::evaluation::{recall_at_k, text_to_image_ranks};
use haze::gallery::{Dataset, DatasetItem, EmbeddingRows, ExactSearch, PairSet};
use haze::model::device::ComputeDevice;
use haze::query::{AlphaPolicy, read_located_image};

use crate::support::source;

/// The demo's held-out gallery, embedded.
struct Demo {
    items: Vec<DatasetItem>,
    encoder: Encoder,
    search: ExactSearch,
    images: Vec<Embedding>,
}

fn bundle(part: &str) -> PathBuf {
    source("assets/demo").join(part)
}

impl Demo {
    fn load() -> Self {
        let device = ComputeDevice::cpu().device;
        let encoder = Encoder::load(&bundle("clip"), &device).unwrap();
        let items = Dataset::open(&bundle("gallery")).unwrap().items;
        let pixels: Vec<image::RgbImage> = items
            .iter()
            .map(|item| read_located_image(&item.image).unwrap().to_rgb(AlphaPolicy::default()))
            .collect();
        let images = encoder.embed_images(&pixels).unwrap();
        let rows = images.iter().flat_map(Embedding::unit).collect();
        let search =
            ExactSearch::new(EmbeddingRows::from_values(rows, encoder.dim()).unwrap()).unwrap();
        Self { items, encoder, search, images }
    }

    /// All captions with their images.
    fn split(&self) -> Split {
        let captions = self.captions();
        let texts: Vec<&str> = captions.iter().map(|c| c.0).collect();
        Split {
            texts: self.encoder.embed_texts(&texts).unwrap(),
            images: self.images.clone(),
            pairs: captions.iter().enumerate().map(|(i, c)| (i, c.1)).collect(),
        }
    }

    /// Text, image and level of every caption.
    fn captions(&self) -> Vec<(&str, usize, Option<u32>)> {
        self.items
            .iter()
            .enumerate()
            .flat_map(|(i, item)| item.captions.iter().map(move |c| (c.text.as_str(), i, c.level)))
            .collect()
    }
}

#[test]
fn text_to_image_recall_equals_the_reference_library_s() {
    let demo = Demo::load();
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(bundle("meta.json")).unwrap()).unwrap();
    let captions = demo.captions();
    let texts: Vec<&str> = captions.iter().map(|c| c.0).collect();
    let embedded = demo.encoder.embed_texts(&texts).unwrap();
    let queries: Vec<Vec<f32>> = embedded.into_iter().map(|e| e.values).collect();
    let rankings = demo.search.search(&queries, 10).unwrap();
    let recall = |level: Option<u32>, k: usize| {
        let chosen: Vec<usize> =
            (0..captions.len()).filter(|&i| level.is_none() || captions[i].2 == level).collect();
        let ranked = chosen.iter().map(|&i| rankings[i].iter().map(|hit| hit.id));
        let images: Vec<usize> = chosen.iter().map(|&i| captions[i].1).collect();
        recall_at_k(&text_to_image_ranks(ranked, &images).unwrap(), k).unwrap()
    };
    let check = |found: f64, expected: &serde_json::Value, what: &str| {
        let expected = expected.as_f64().unwrap();
        println!("{what}: {found:.5}, reference {expected:.5}");
        assert!((found - expected).abs() < 1e-6, "{what}: {found}, expected {expected}");
    };
    let reference = &meta["reference"];
    for (name, expected) in reference["text_to_image"].as_object().unwrap() {
        let k = name.trim_start_matches("R@").parse().unwrap();
        check(recall(None, k), expected, name);
    }
    for (level, figures) in reference["text_to_image_by_level"].as_object().unwrap() {
        for (name, expected) in figures.as_object().unwrap() {
            let k = name.trim_start_matches("R@").parse().unwrap();
            let what = format!("level {level} {name}");
            check(recall(Some(level.parse().unwrap()), k), expected, &what);
        }
    }
}

#[test]
fn decoding_an_image_s_own_embedding_brings_its_concept_back_far_above_chance() {
    let demo = Demo::load();
    let device = ComputeDevice::cpu().device;
    let decoder = UnClipPipeline::load(&bundle("unclip"), &device).unwrap();
    let count = 32.min(demo.items.len());
    let chosen: Vec<usize> = (0..count).map(|i| i * demo.items.len() / count).collect();
    let embeddings: Vec<Vec<f32>> = chosen.iter().map(|&i| demo.images[i].values.clone()).collect();
    let options = DecodeOptions { guidance_scale: 5.0, steps: 10, ..DecodeOptions::default() };
    let images = decoder.decode(&embeddings, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    let seen = demo.encoder.embed_images(&images).unwrap();
    let queries: Vec<Vec<f32>> = seen.iter().map(|e| e.values.clone()).collect();
    let mut ranks: Vec<usize> = demo
        .search
        .ranks_of(&queries, &chosen)
        .unwrap()
        .iter()
        .enumerate()
        .map(|(i, placements)| placements[i].rank)
        .collect();
    ranks.sort_unstable();
    let within = |k: usize| ranks.iter().filter(|&&rank| rank <= k).count() as f64 / count as f64;
    let gallery = demo.items.len() as f64;
    let median = ranks[count / 2] as f64;
    println!(
        "round trip of {count} images: R@1 {:.3}, R@10 {:.3} (chance {:.3}), median rank {median} \
         of {gallery}",
        within(1),
        within(10),
        10.0 / gallery
    );
    assert!(within(10) > 8.0 * 10.0 / gallery, "R@10 is {}", within(10));
    assert!(median < gallery / 6.0, "median rank {median}");
}

/// The demo's pairs of one split: different texts and all images, embedded, and which belong
/// together.
struct Split {
    texts: Vec<Embedding>,
    images: Vec<Embedding>,
    pairs: Vec<(usize, usize)>,
}

impl Split {
    fn load(name: &str, encoder: &Encoder) -> Self {
        let set = PairSet::open(&bundle("pairs")).unwrap().with_split(name).unwrap();
        let rows = set.all_image_rows();
        let image =
            |values: &[f32]| Embedding { values: values.to_vec(), modality: Modality::Image };
        let mut texts: Vec<&str> = set.captions().iter().map(|c| c.text.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        let pairs = set
            .captions()
            .iter()
            .map(|c| (texts.binary_search(&c.text.as_str()).unwrap(), c.image))
            .collect();
        Self {
            texts: encoder.embed_texts(&texts).unwrap(),
            images: rows.chunks(set.dim()).map(image).collect(),
            pairs,
        }
    }

    /// Input and target of every pair for an adapter from one modality to another.
    fn sides(&self, input: Modality, target: Modality) -> Vec<(&Embedding, &Embedding)> {
        let pick = |modality, (text, image): (usize, usize)| match modality {
            Modality::Text => &self.texts[text],
            Modality::Image => &self.images[image],
        };
        self.pairs.iter().map(|&pair| (pick(input, pair), pick(target, pair))).collect()
    }
}

#[test]
fn every_adapter_of_the_bundle_predicts_held_out_pairs_better_than_one_gaussian_does() {
    let device = ComputeDevice::cpu().device;
    let demo = Demo::load();
    let train = Split::load("train", &demo.encoder);
    let held_out =
        [("unseen concepts", Split::load("val", &demo.encoder)), ("gallery", demo.split())];
    let mut checked = 0;
    for entry in std::fs::read_dir(bundle("adapters")).unwrap() {
        let folder = entry.unwrap().path();
        if AdapterHeader::read(&folder).unwrap().kind != AdapterKind::ProbVlm {
            continue;
        }
        let adapter = Adapter::load(&folder, &device).unwrap();
        let (input, target) = (adapter.input_modality(), adapter.output_modality());
        let constant = one_gaussian(&train.sides(input, target));
        for (set, split) in &held_out {
            let pairs = split.sides(input, target);
            let inputs: Vec<Embedding> = pairs.iter().map(|(input, _)| (*input).clone()).collect();
            let predicted = adapter.predict_batch(&inputs, 0, 0).unwrap();
            let count = (pairs.len() * adapter.dim()) as f64;
            let nll = -predicted
                .iter()
                .zip(&pairs)
                .map(|(density, (_, target))| density.log_prob(&target.values).unwrap())
                .sum::<f64>()
                / count;
            let of_constant = -pairs
                .iter()
                .flat_map(|(_, target)| constant.iter().zip(&target.values))
                .map(|(density, &value)| density.log_prob(f64::from(value)))
                .sum::<f64>()
                / count;
            let name = folder.file_name().unwrap().to_string_lossy().into_owned();
            println!("{name}, {set}: {nll:.4} nats per dimension, one Gaussian {of_constant:.4}");
            assert!(nll < of_constant, "{name}, {set}: {nll}, one Gaussian {of_constant}");
            checked += 1;
        }
    }
    assert!(checked >= 6, "only {checked} checks");
}

/// The Gaussian of every dimension of the targets, by their mean and variance.
fn one_gaussian(pairs: &[(&Embedding, &Embedding)]) -> Vec<GeneralizedGaussian> {
    let n = pairs.len() as f64;
    (0..pairs[0].1.dim())
        .map(|i| {
            let values = || pairs.iter().map(|(_, target)| f64::from(target.values[i]));
            let mean = values().sum::<f64>() / n;
            let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            GeneralizedGaussian::gaussian(mean, variance.sqrt()).unwrap()
        })
        .collect()
}

#[test]
fn vague_captions_are_more_uncertain_than_exact_ones() {
    let demo = Demo::load();
    let device = ComputeDevice::cpu().device;
    let adapter = Adapter::load(&bundle("adapters/cross-modal"), &device).unwrap();
    let captions = demo.captions();
    let mut levels: Vec<u32> = captions.iter().filter_map(|c| c.2).collect();
    levels.sort_unstable();
    levels.dedup();
    assert!(levels.len() >= 2);
    let means: Vec<f64> = levels
        .iter()
        .map(|&level| {
            let texts: Vec<&str> =
                captions.iter().filter(|c| c.2 == Some(level)).map(|c| c.0).collect();
            let embedded = demo.encoder.embed_texts(&texts).unwrap();
            let predicted = adapter.predict_batch(&embedded, 0, 0).unwrap();
            predicted.iter().map(|d| d.mean_aleatoric()).sum::<f64>() / predicted.len() as f64
        })
        .collect();
    println!("mean aleatoric variance by level: {means:?}");
    assert!(means.is_sorted_by(|a, b| a < b), "{means:?}");

    let of = |text: &str| {
        let embedding = demo.encoder.embed_texts(&[text]).unwrap().swap_remove(0);
        adapter.predict(&embedding, 0, 0).unwrap().mean_aleatoric()
    };
    let (vague, exact) = (of("food"), of("a glossy drawing of a red apple"));
    println!("food {vague:.4}, a glossy drawing of a red apple {exact:.4}");
    assert!(vague > exact, "food {vague}, a glossy drawing of a red apple {exact}");
}
