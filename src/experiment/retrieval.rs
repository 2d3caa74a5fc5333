//! Cross-modal retrieval by the frozen embeddings: ranks, best matches and confidences.
//!
//! All methods share these results: adapters supply the uncertainty, never the ranking.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{EmbeddedPairs, ExperimentError};
use crate::encoder::Modality;
use crate::evaluation::{EvaluationError, fit_logit_scale};
use crate::gallery::{EmbeddingRows, ExactSearch, Hit};

/// Places of a ranking that are kept.
pub const DEPTH: usize = 50;
/// Queries searched at a time.
const BATCH: usize = 256;
/// CLIP's logit scale, for caches that do not name their own.
pub const DEFAULT_LOGIT_SCALE: f64 = 100.0;

/// Which side asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Images look for their captions.
    ImageToText,
    /// Captions look for their image.
    TextToImage,
}

impl Direction {
    pub const BOTH: [Direction; 2] = [Direction::ImageToText, Direction::TextToImage];

    /// The direction in which items of `modality` are the queries.
    pub fn asked_by(modality: Modality) -> Self {
        match modality {
            Modality::Image => Direction::ImageToText,
            Modality::Text => Direction::TextToImage,
        }
    }

    /// Modality of the queries.
    pub fn query(self) -> Modality {
        match self {
            Direction::ImageToText => Modality::Image,
            Direction::TextToImage => Modality::Text,
        }
    }

    /// Modality of the gallery.
    pub fn gallery(self) -> Modality {
        match self {
            Direction::ImageToText => Modality::Text,
            Direction::TextToImage => Modality::Image,
        }
    }

    /// Two letters and a digit: `i2t` or `t2i`.
    pub fn short(self) -> &'static str {
        match self {
            Direction::ImageToText => "i2t",
            Direction::TextToImage => "t2i",
        }
    }
}

impl std::fmt::Display for Direction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Direction::ImageToText => "image to text",
            Direction::TextToImage => "text to image",
        })
    }
}

/// Validation queries that logit scales are fitted on.
const SCALE_QUERIES: usize = 1000;

/// What cosines are multiplied with before a softmax, per direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    pub image_to_text: f64,
    pub text_to_image: f64,
}

impl Scales {
    /// That of a direction.
    pub fn get(&self, direction: Direction) -> f64 {
        match direction {
            Direction::ImageToText => self.image_to_text,
            Direction::TextToImage => self.text_to_image,
        }
    }
}

/// The logit scales that explain some pairs best (temperature scaling), or why there is none.
#[derive(Debug, Clone)]
pub struct FittedScales {
    image_to_text: Result<f64, EvaluationError>,
    text_to_image: Result<f64, EvaluationError>,
}

impl FittedScales {
    /// Fits both directions.
    pub fn of(validation: &EmbeddedPairs) -> Self {
        let fit = |direction| {
            let (cosines, relevant) = cosines_of_some(validation, direction, SCALE_QUERIES);
            fit_logit_scale(&cosines, &relevant, validation.logit_scale())
        };
        Self {
            image_to_text: fit(Direction::ImageToText),
            text_to_image: fit(Direction::TextToImage),
        }
    }

    /// That of a direction.
    ///
    /// # Errors
    /// When there is none.
    pub fn get(&self, direction: Direction) -> Result<f64, EvaluationError> {
        match direction {
            Direction::ImageToText => self.image_to_text.clone(),
            Direction::TextToImage => self.text_to_image.clone(),
        }
    }

    /// Both.
    ///
    /// # Errors
    /// When one is missing.
    pub fn all(&self) -> Result<Scales, EvaluationError> {
        Ok(Scales {
            image_to_text: self.get(Direction::ImageToText)?,
            text_to_image: self.get(Direction::TextToImage)?,
        })
    }
}

/// What the queries of one direction find.
#[derive(Debug, Clone)]
pub struct Retrieval {
    pub direction: Direction,
    /// The best [`DEPTH`] gallery positions of each query with their cosines, best first; ties by
    /// the lower position.
    pub best: Vec<Vec<Hit>>,
    /// Rank of the first relevant item, 0 for the first place, `None` beyond [`DEPTH`]. Relevant
    /// is the query's own pair, or every item of its class where the pairs have classes.
    pub ranks: Vec<Option<usize>>,
    pub softmax: Softmax,
}

/// The softmax over the whole gallery of scaled cosines, in numbers per query.
#[derive(Debug, Clone, Default)]
pub struct Softmax {
    /// Entropy in nats.
    pub entropy: Vec<f64>,
    /// Largest probability.
    pub confidence: Vec<f64>,
    /// Probability of all relevant items together.
    pub relevant: Vec<f64>,
}

/// Both directions over the same pairs.
#[derive(Debug, Clone)]
pub struct RetrievalPair {
    pub image_to_text: Retrieval,
    pub text_to_image: Retrieval,
    /// What cosines were multiplied with before the softmax.
    pub logit_scale: f64,
}

impl RetrievalPair {
    /// Searches in both directions.
    ///
    /// # Errors
    /// When a search fails.
    pub fn of(pairs: &EmbeddedPairs) -> Result<Self, ExperimentError> {
        let logit_scale = pairs.logit_scale();
        let run = |direction| Retrieval::run(pairs, direction, logit_scale);
        Ok(Self {
            image_to_text: run(Direction::ImageToText)?,
            text_to_image: run(Direction::TextToImage)?,
            logit_scale,
        })
    }

    /// The direction in which items of `modality` ask.
    pub fn asking(&self, modality: Modality) -> &Retrieval {
        match modality {
            Modality::Image => &self.image_to_text,
            Modality::Text => &self.text_to_image,
        }
    }

    /// One direction.
    pub fn get(&self, direction: Direction) -> &Retrieval {
        self.asking(direction.query())
    }
}

/// The best `depth` gallery positions of each query, best first; ties by the lower position.
///
/// # Errors
/// When the search fails.
pub fn best_of(
    pairs: &EmbeddedPairs,
    direction: Direction,
    depth: usize,
) -> Result<Vec<Vec<Hit>>, ExperimentError> {
    let (query, gallery) = (direction.query(), direction.gallery());
    let rows = EmbeddingRows::from_values(pairs.matrix(gallery), pairs.dim())?;
    let search = ExactSearch::new(rows)?;
    let count = pairs.count(query);
    let mut best = Vec::with_capacity(count);
    for start in (0..count).step_by(BATCH) {
        let positions = start..(start + BATCH).min(count);
        let queries: Vec<Vec<f32>> = positions.map(|position| pairs.row(query, position)).collect();
        best.extend(search.search(&queries, depth)?);
    }
    Ok(best)
}

impl Retrieval {
    /// Ranks the gallery for every query.
    ///
    /// # Errors
    /// When the search fails.
    pub fn run(
        pairs: &EmbeddedPairs,
        direction: Direction,
        logit_scale: f64,
    ) -> Result<Self, ExperimentError> {
        let softmax = Softmax::of(pairs, direction, logit_scale);
        let best = best_of(pairs, direction, DEPTH)?;
        let relevance = Relevance::new(pairs, direction);
        let rank = |(position, hits): (usize, &Vec<Hit>)| {
            hits.iter().position(|hit| relevance.is_relevant(position, hit.id))
        };
        let ranks = best.iter().enumerate().map(rank).collect();
        Ok(Self { direction, best, ranks, softmax })
    }

    /// Number of queries.
    pub fn len(&self) -> usize {
        self.ranks.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ranks.is_empty()
    }

    /// For each query whether the best match is relevant.
    pub fn hits(&self) -> Vec<bool> {
        crate::evaluation::hits_at_k(&self.ranks, 1)
    }

    /// Cosine of each query and its best match.
    pub fn best_similarity(&self) -> Vec<f64> {
        self.best.iter().map(|hits| hits[0].score).collect()
    }

    /// Position in the gallery of each query's best match.
    pub fn best_item(&self) -> Vec<usize> {
        self.best.iter().map(|hits| hits[0].id).collect()
    }
}

/// Which gallery items count as right for a query.
pub struct Relevance {
    /// Of each query: its image, or the class.
    wanted: Vec<u32>,
    /// Of each gallery item, likewise.
    has: Vec<u32>,
}

impl Relevance {
    /// By class where the pairs have classes, else by pair.
    pub fn new(pairs: &EmbeddedPairs, direction: Direction) -> Self {
        let by_class = pairs.has_classes();
        let of = |modality| -> Vec<u32> {
            let image = |image: usize| match by_class {
                true => pairs.facts(image).class.unwrap_or(u32::MAX),
                false => image as u32,
            };
            match modality {
                Modality::Image => (0..pairs.image_count()).map(image).collect(),
                Modality::Text => {
                    pairs.captions().iter().map(|c| image(c.image as usize)).collect()
                }
            }
        };
        Self { wanted: of(direction.query()), has: of(direction.gallery()) }
    }

    /// Whether a gallery item is right for a query.
    pub fn is_relevant(&self, query: usize, item: usize) -> bool {
        self.wanted[query] == self.has[item]
    }

    /// Number of right items of each query.
    pub fn counts(&self) -> Vec<usize> {
        let most = self.wanted.iter().chain(&self.has).max().map_or(0, |&m| m as usize + 1);
        let mut of_key = vec![0; most];
        self.has.iter().for_each(|&key| of_key[key as usize] += 1);
        self.wanted.iter().map(|&key| of_key[key as usize]).collect()
    }
}

/// Scales rows to unit length.
pub(crate) fn unit_rows(mut rows: Vec<f32>, dim: usize) -> Vec<f32> {
    rows.par_chunks_mut(dim).for_each(|row| {
        let length = crate::encoder::norm(row).max(f64::MIN_POSITIVE);
        row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
    });
    rows
}

impl Softmax {
    /// For every query of a direction, with cosines multiplied by `scale`.
    pub fn of(pairs: &EmbeddedPairs, direction: Direction, scale: f64) -> Self {
        let mut all = Self::default();
        for_each_row_of_cosines(pairs, direction, &|query, cosines, relevance| {
            one_softmax(cosines, scale, |item| relevance.is_relevant(query, item))
        })
        .into_iter()
        .for_each(|[entropy, confidence, relevant]| {
            all.entropy.push(entropy);
            all.confidence.push(confidence);
            all.relevant.push(relevant);
        });
        all
    }
}

/// Cosines with the whole gallery, and the positions of the relevant items, of at most `most`
/// queries evenly spread over all.
pub fn cosines_of_some(
    pairs: &EmbeddedPairs,
    direction: Direction,
    most: usize,
) -> (Vec<Vec<f64>>, Vec<Vec<usize>>) {
    let count = pairs.count(direction.query());
    let step = count.div_ceil(most.max(1)).max(1);
    let relevance = Relevance::new(pairs, direction);
    let dim = pairs.dim();
    let gallery = unit_rows(pairs.matrix(direction.gallery()), dim);
    (0..count)
        .step_by(step)
        .map(|query| {
            let row = unit_rows(pairs.row(direction.query(), query), dim);
            let relevant = (0..gallery.len() / dim)
                .filter(|&item| relevance.is_relevant(query, item))
                .collect::<Vec<_>>();
            (cosines(&row, &gallery, dim).collect(), relevant)
        })
        .unzip()
}

/// What `visit` makes of each query's cosines with the whole gallery, in the order of the queries.
fn for_each_row_of_cosines<T: Send>(
    pairs: &EmbeddedPairs,
    direction: Direction,
    visit: &(impl Fn(usize, &[f64], &Relevance) -> T + Sync),
) -> Vec<T> {
    let dim = pairs.dim();
    let gallery = unit_rows(pairs.matrix(direction.gallery()), dim);
    let relevance = Relevance::new(pairs, direction);
    (0..pairs.count(direction.query()))
        .into_par_iter()
        .map_init(Vec::new, |row, query| {
            let unit = unit_rows(pairs.row(direction.query(), query), dim);
            row.clear();
            row.extend(cosines(&unit, &gallery, dim));
            visit(query, row, &relevance)
        })
        .collect()
}

/// Products of a unit query with unit rows.
pub(crate) fn cosines<'a>(
    query: &'a [f32],
    gallery: &'a [f32],
    dim: usize,
) -> impl Iterator<Item = f64> + 'a {
    // Eight sums side by side, which the compiler turns into vector instructions.
    gallery.chunks_exact(dim).map(move |row| {
        let mut sums = [0f32; 8];
        let (a, b) = (row.chunks_exact(8), query.chunks_exact(8));
        let rest: f32 = a.remainder().iter().zip(b.remainder()).map(|(a, b)| a * b).sum();
        for (a, b) in a.zip(b) {
            for lane in 0..8 {
                sums[lane] += a[lane] * b[lane];
            }
        }
        f64::from(sums.iter().sum::<f32>() + rest)
    })
}

/// Entropy, largest probability and probability of the relevant items.
fn one_softmax(cosines: &[f64], scale: f64, is_relevant: impl Fn(usize) -> bool) -> [f64; 3] {
    // p_i = exp(l_i - m) / Z, so H = ln Z - sum p_i (l_i - m).
    let most = cosines.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut sum, mut weighted, mut relevant) = (0.0, 0.0, 0.0);
    for (item, cosine) in cosines.iter().enumerate() {
        let below = scale * (cosine - most);
        let weight = below.exp();
        sum += weight;
        weighted += weight * below;
        if is_relevant(item) {
            relevant += weight;
        }
    }
    [(sum.ln() - weighted / sum).max(0.0), 1.0 / sum, (relevant / sum).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::pairs::tests::small_store;

    #[test]
    fn own_pairs_are_relevant_and_ranks_count_from_zero() {
        let pairs = EmbeddedPairs::new(small_store()).unwrap();
        let found = RetrievalPair::of(&pairs).unwrap();
        // Captions in order: (1, .1) (.9, 0) of image a, (0, 2) of b, (-1, 0) and (1, .1) of c.
        assert_eq!(found.text_to_image.ranks, [Some(0), Some(0), Some(0), Some(0), Some(2)]);
        assert_eq!(found.image_to_text.ranks, [Some(0), Some(0), Some(0)]);
        assert_eq!(found.image_to_text.best_item()[1], 2);
        let chance = (found.image_to_text.best[0].len(), found.text_to_image.best[0].len());
        assert_eq!(chance, (5, 3));
    }

    #[test]
    fn classes_make_every_item_of_the_class_relevant() {
        let mut store = small_store();
        store.classes = vec!["x".to_owned(), "y".to_owned()];
        for (facts, class) in store.facts.iter_mut().zip([0, 1, 0]) {
            facts.class = Some(class);
        }
        let pairs = EmbeddedPairs::new(store).unwrap();
        let found = RetrievalPair::of(&pairs).unwrap();
        assert_eq!(found.text_to_image.ranks[4], Some(0));
        assert_eq!(Relevance::new(&pairs, Direction::ImageToText).counts(), [4, 1, 4]);
        assert_eq!(Relevance::new(&pairs, Direction::TextToImage).counts(), [2, 2, 1, 2, 2]);
    }

    #[test]
    fn entropy_confidence_and_truth_are_those_of_the_softmax() {
        let [entropy, confidence, relevant] = one_softmax(&[1.0, 0.0, 0.0], 2.0, |i| i == 1);
        let weights = [2f64.exp(), 1.0, 1.0];
        let sum: f64 = weights.iter().sum();
        let expected: f64 = weights.iter().map(|w| -(w / sum) * (w / sum).ln()).sum();
        assert!((entropy - expected).abs() < 1e-12);
        assert!((confidence - weights[0] / sum).abs() < 1e-12);
        assert!((relevant - 1.0 / sum).abs() < 1e-12);
    }

    #[test]
    fn cosines_of_some_queries_are_spread_and_know_what_is_relevant() {
        let pairs = EmbeddedPairs::new(small_store()).unwrap();
        let (cosines, relevant) = cosines_of_some(&pairs, Direction::TextToImage, 3);
        assert_eq!(relevant, [vec![0], vec![1], vec![2]]);
        assert!((cosines[1][1] - 1.0).abs() < 1e-6 && cosines[1][0].abs() < 1e-6);
        let whole = Softmax::of(&pairs, Direction::TextToImage, 100.0);
        assert_eq!(whole.entropy.len(), 5);
        assert!(whole.relevant[2] > 0.99);
    }
}
