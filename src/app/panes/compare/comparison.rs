//! The numbers of two results against each other, worked out once per pair.
//!
//! In come two entries, out goes what they differ in. Nothing here draws.

use std::collections::BTreeMap;

use egui_plot::PlotPoint;

use super::recipe_diff::{self, FieldDiff, same_model};
use crate::app::state::history::Entry;
use crate::distribution::EmbeddingDistribution;
use crate::distribution::squared_wasserstein2;
use crate::encoder::cosine;
use crate::session::recipe::{ModelRef, Models};
use crate::session::result::{QueryResult, RankedItem, Reference, Retrieved};

/// Everything about A against B.
#[derive(Debug, Clone)]
pub struct Comparison {
    pub recipe: Vec<FieldDiff>,
    /// Why the numbers of A and B cannot be compared, in words.
    pub obstacle: Option<String>,
    /// What to keep in mind although they can.
    pub cautions: Vec<&'static str>,
    pub figures: Option<Figures>,
    pub percentiles: Option<Pair<Reference>>,
    pub dimensions: Option<Dimensions>,
    pub distance: Option<Distance>,
    pub overlap: Option<Overlap>,
}

/// The same thing of A and of B.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair<T> {
    pub a: T,
    pub b: T,
}

/// Variances, means over dimensions, squared embedding units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    pub aleatoric: Pair<f64>,
    pub epistemic: Pair<f64>,
    pub total: Pair<f64>,
}

/// Total standard deviation per dimension.
#[derive(Debug, Clone)]
pub struct Dimensions {
    /// log2(sigma A / sigma B) over its rank, ascending; dimensions where one of them is 0 are
    /// left out.
    pub log_ratio: Vec<PlotPoint>,
    /// sigma A - sigma B over its rank, ascending, embedding units.
    pub difference: Vec<PlotPoint>,
    /// Each by itself over its rank, ascending, embedding units.
    pub sorted: Pair<Vec<PlotPoint>>,
    /// Number of dimensions where A spreads more.
    pub wider: usize,
    pub count: usize,
}

/// How far apart the distributions are.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Cosine between the means, -1 to 1.
    pub cosine: f64,
    /// 2-Wasserstein distance in embedding units, between Gaussians of the same means and total
    /// variances.
    pub wasserstein2: f64,
}

/// What both find in the gallery.
#[derive(Debug, Clone)]
pub struct Overlap {
    /// The smaller k of both.
    pub k: usize,
    /// Items among the first k of both, by the mean.
    pub shared: usize,
    pub gallery_size: usize,
    pub draws: Pair<usize>,
    /// Items among the first k of one of them, best rank first.
    pub rows: Vec<OverlapRow>,
}

/// One item, as both rank it.
#[derive(Debug, Clone, PartialEq)]
pub struct OverlapRow {
    pub row: usize,
    pub name: String,
    /// `None`: not listed by it.
    pub a: Option<Ranks>,
    pub b: Option<Ranks>,
}

/// Ranks of one item: by the mean, and the median with the central 50 and 90 % over draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranks {
    pub mean: usize,
    pub low: usize,
    pub q25: usize,
    pub median: usize,
    pub q75: usize,
    pub high: usize,
}

impl Comparison {
    /// Compares two entries as far as both are known.
    pub fn of(a: &Entry, b: &Entry) -> Self {
        let mut comparison = Self {
            recipe: recipe_diff::fields(&a.recipe, &b.recipe),
            obstacle: None,
            cautions: Vec::new(),
            figures: None,
            percentiles: None,
            dimensions: None,
            distance: None,
            overlap: None,
        };
        let (Some(a), Some(b)) = (&a.result, &b.result) else { return comparison };
        comparison.percentiles = match (a.reference.clone(), b.reference.clone()) {
            (Some(a), Some(b)) => Some(Pair { a, b }),
            _ => None,
        };
        comparison.obstacle = obstacle(a, b);
        if comparison.obstacle.is_some() {
            return comparison;
        }
        comparison.cautions = cautions(a, b);
        comparison.figures = Some(figures(&a.distribution, &b.distribution));
        comparison.dimensions = Some(dimensions(&a.distribution, &b.distribution));
        comparison.distance = distance(&a.distribution, &b.distribution);
        comparison.overlap = overlap(a, b);
        comparison
    }
}

fn obstacle(a: &QueryResult, b: &QueryResult) -> Option<String> {
    let (encoder_a, encoder_b) = (&a.recipe.models.encoder, &b.recipe.models.encoder);
    if !same_model(encoder_a, encoder_b) {
        return Some(
            "A and B come from different encoders. Their embeddings live in different spaces, so \
             neither variances nor distances can be compared."
                .to_owned(),
        );
    }
    let (dim_a, dim_b) = (a.distribution.dim(), b.distribution.dim());
    (dim_a != dim_b).then(|| {
        format!(
            "A has {dim_a} dimensions and B has {dim_b}. Neither variances nor distances can be \
             compared."
        )
    })
}

fn cautions(a: &QueryResult, b: &QueryResult) -> Vec<&'static str> {
    let mut cautions = Vec::new();
    if a.space != b.space {
        cautions.push(
            "One distribution is over text embeddings, the other over image embeddings: their \
             distance contains the gap between the two.",
        );
    }
    let (model_a, model_b) = (predicting(&a.recipe.models), predicting(&b.recipe.models));
    if a.recipe.models.adapter.is_some() != b.recipe.models.adapter.is_some() {
        cautions.push(
            "One distribution is an adapter's, the other is estimated from samples of a prior.",
        );
    } else if model_a.zip(model_b).is_some_and(|(a, b)| !same_model(a, b)) {
        cautions.push(
            "A and B come from different adapters: part of the difference is theirs, not the \
             queries'.",
        );
    }
    if a.recipe.sampling.dropout_passes != b.recipe.sampling.dropout_passes {
        cautions.push("The epistemic variances come from different numbers of dropout passes.");
    }
    cautions
}

/// What the distribution came from: the adapter, or the prior.
fn predicting(models: &Models) -> Option<&ModelRef> {
    models.adapter.as_ref().or(models.bridge_model.as_ref())
}

fn figures(a: &EmbeddingDistribution, b: &EmbeddingDistribution) -> Figures {
    Figures {
        aleatoric: Pair { a: a.mean_aleatoric(), b: b.mean_aleatoric() },
        epistemic: Pair { a: a.mean_epistemic(), b: b.mean_epistemic() },
        total: Pair { a: a.mean_total(), b: b.mean_total() },
    }
}

fn dimensions(a: &EmbeddingDistribution, b: &EmbeddingDistribution) -> Dimensions {
    let deviation =
        |d: &EmbeddingDistribution| -> Vec<f64> { d.total().into_iter().map(f64::sqrt).collect() };
    let (a, b) = (deviation(a), deviation(b));
    let both = || a.iter().zip(&b).map(|(&a, &b)| (a, b));
    Dimensions {
        log_ratio: ranked(both().filter(|&(a, b)| a > 0.0 && b > 0.0).map(|(a, b)| (a / b).log2())),
        difference: ranked(both().map(|(a, b)| a - b)),
        wider: both().filter(|(a, b)| a > b).count(),
        count: a.len(),
        sorted: Pair { a: ranked(a.iter().copied()), b: ranked(b.iter().copied()) },
    }
}

/// Values over their rank from 1, ascending.
fn ranked(values: impl Iterator<Item = f64>) -> Vec<PlotPoint> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let point = |(i, value): (usize, f64)| PlotPoint::new((i + 1) as f64, value);
    values.into_iter().enumerate().map(point).collect()
}

fn distance(a: &EmbeddingDistribution, b: &EmbeddingDistribution) -> Option<Distance> {
    let squared = squared_wasserstein2(&a.matched_gaussian(), &b.matched_gaussian()).ok()?;
    Some(Distance { cosine: cosine(&a.mean(), &b.mean()), wasserstein2: squared.sqrt() })
}

fn overlap(a: &QueryResult, b: &QueryResult) -> Option<Overlap> {
    let (gallery_a, gallery_b) = (&a.recipe.models.gallery, &b.recipe.models.gallery);
    if !same_model(gallery_a.as_ref()?, gallery_b.as_ref()?) {
        return None;
    }
    let (a, b) = (a.retrieval.as_ref()?, b.retrieval.as_ref()?);
    let k = a.top_k.min(b.top_k).min(a.gallery_size);
    let mut rows: BTreeMap<usize, OverlapRow> = BTreeMap::new();
    for found in [a, b] {
        for item in found.items.iter().filter(|item| item.rank <= k) {
            rows.entry(item.row).or_insert_with(|| OverlapRow {
                row: item.row,
                name: item.caption.clone().unwrap_or_else(|| item.image.clone()),
                a: None,
                b: None,
            });
        }
    }
    for item in &a.items {
        if let Some(row) = rows.get_mut(&item.row) {
            row.a = Some(Ranks::of(item));
        }
    }
    for item in &b.items {
        if let Some(row) = rows.get_mut(&item.row) {
            row.b = Some(Ranks::of(item));
        }
    }
    let mut rows: Vec<OverlapRow> = rows.into_values().collect();
    let rank = |ranks: &Option<Ranks>| ranks.map_or(usize::MAX, |ranks| ranks.mean);
    rows.sort_by_key(|row| (rank(&row.a).min(rank(&row.b)), rank(&row.a), row.row));
    let within = |ranks: &Option<Ranks>| rank(ranks) <= k;
    let shared = rows.iter().filter(|row| within(&row.a) && within(&row.b)).count();
    let size = |found: &Retrieved| found.gallery_size;
    let draws = Pair { a: a.draws, b: b.draws };
    Some(Overlap { k, shared, gallery_size: size(a).max(size(b)), draws, rows })
}

impl Ranks {
    fn of(item: &RankedItem) -> Self {
        Self {
            mean: item.rank,
            low: item.rank_low,
            q25: item.rank_q25,
            median: item.rank_median,
            q75: item.rank_q75,
            high: item.rank_high,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::panes::samples::fixture;

    fn with(result: QueryResult, id: u64) -> Entry {
        let mut entry = fixture::entry(id, "a", 2);
        entry.recipe = result.recipe.clone();
        entry.result = Some(Arc::new(result));
        entry
    }

    #[test]
    fn a_result_does_not_differ_from_itself() {
        let entry = fixture::entry(1, "a", 2);
        let same = Comparison::of(&entry, &entry);
        assert!(same.recipe.is_empty() && same.obstacle.is_none() && same.cautions.is_empty());
        let distance = same.distance.unwrap();
        assert!((distance.cosine - 1.0).abs() < 1e-9);
        assert_eq!(distance.wasserstein2, 0.0);
        let dimensions = same.dimensions.unwrap();
        assert!(dimensions.log_ratio.iter().all(|point| point.y == 0.0));
        assert_eq!(dimensions.wider, 0);
        let overlap = same.overlap.unwrap();
        assert_eq!((overlap.shared, overlap.k, overlap.rows.len()), (10, 10, 10));
    }

    #[test]
    fn twice_the_scale_is_a_log_ratio_of_one_where_nothing_is_epistemic() {
        let scaled = |alpha, id| {
            let mut result = fixture::spread("a", 2, alpha);
            let dimensions = result.distribution.dimensions().to_vec();
            let none = vec![0.0; dimensions.len()];
            result.distribution = EmbeddingDistribution::new(dimensions, none).unwrap();
            with(result, id)
        };
        let comparison = Comparison::of(&scaled(1.0, 1), &scaled(0.5, 2));
        let dimensions = comparison.dimensions.unwrap();
        assert!(dimensions.log_ratio.iter().all(|point| (point.y - 1.0).abs() < 1e-9));
        assert_eq!(dimensions.wider, dimensions.count);
        let figures = comparison.figures.unwrap();
        assert!((figures.aleatoric.a / figures.aleatoric.b - 4.0).abs() < 1e-9);
    }

    #[test]
    fn results_of_different_encoders_have_no_difference_but_a_reason() {
        let mut other = fixture::result("b", 2);
        other.recipe.models.encoder.path = "another".into();
        let comparison = Comparison::of(&fixture::entry(1, "a", 2), &with(other, 2));
        assert!(comparison.obstacle.unwrap().contains("different encoders"));
        assert!(comparison.figures.is_none() && comparison.overlap.is_none());
        // A percentile is of each encoder's own gallery.
        assert!(comparison.percentiles.is_some());
    }

    #[test]
    fn overlap_counts_the_first_k_of_both_and_lists_what_either_has() {
        let mut other = fixture::result("b", 2);
        let retrieval = other.retrieval.as_mut().unwrap();
        // Rows 5 to 14 on ranks 1 to 10.
        retrieval.items = (0..10)
            .map(|i| {
                let mut item = fixture::ranked(i);
                item.row = i + 5;
                item
            })
            .collect();
        let overlap = Comparison::of(&fixture::entry(1, "a", 2), &with(other, 2)).overlap.unwrap();
        assert_eq!((overlap.shared, overlap.rows.len()), (5, 15));
        let row = overlap.rows.iter().find(|row| row.row == 5).unwrap();
        assert_eq!((row.a.unwrap().mean, row.b.unwrap().mean), (6, 1));
        assert!(overlap.rows.iter().find(|row| row.row == 0).unwrap().b.is_none());
    }

    #[test]
    fn different_galleries_have_no_overlap() {
        let mut other = fixture::result("b", 2);
        other.recipe.models.gallery = None;
        let a = fixture::entry(1, "a", 2);
        assert!(Comparison::of(&a, &with(other, 2)).overlap.is_none());
    }
}
