//! Exact search both ways, and every metric of retrieval, against numpy and scipy.

use burn::tensor::Device;

use super::{Case, CaseError};
use crate::evaluation::{
    Binning, Trend, expected_calibration_error, hits_at_k, image_to_text_ranks, recall_at_k,
    selective_risk, text_to_image_ranks, trend, uncertainty_bins,
};
use crate::gallery::{EmbeddingRows, ExactSearch, Hit};

/// Levels of uncertainty in every expected table.
const BINS: usize = 10;

/// Kind "retrieval". The search runs on the CPU whatever the device.
pub fn run(case: &mut Case, _device: &Device) -> Result<(), CaseError> {
    let per_image = case.input("captions_per_image")?.values.first().copied().unwrap_or(0.0);
    if per_image < 1.0 {
        return Err(CaseError(format!("captions_per_image is {per_image}")));
    }
    let captions = case.input("text")?.shape[0];
    let image_of_caption: Vec<_> = (0..captions).map(|j| j / per_image as usize).collect();
    for direction in ["i2t", "t2i"] {
        let ranks = match direction {
            "i2t" => {
                let found = search(case, direction, "image", "text")?;
                image_to_text_ranks(ids(&found), &image_of_caption)?
            }
            _ => {
                let found = search(case, direction, "text", "image")?;
                text_to_image_ranks(ids(&found), &image_of_caption)?
            }
        };
        let recall = [1, 5, 10].map(|k| recall_at_k(&ranks, k));
        let recall = recall.into_iter().collect::<Result<Vec<_>, _>>()?;
        case.check_values(&format!("{direction}/recall_1_5_10"), &[recall.len()], recall)?;
        let hits = hits_at_k(&ranks, 1);
        let numbers = hits.iter().map(|&hit| f64::from(hit)).collect();
        case.check_values(&format!("{direction}/hit_at_1"), &[hits.len()], numbers)?;
        uncertainty(case, direction, &hits)?;
    }
    let levels: Vec<_> = (0..BINS).map(|level| level as f64).collect();
    let flat = trend(&levels, &[1.0; BINS])?;
    check_trend(case, "degenerate/S_R2_mSR2", flat)
}

/// Searches `gallery` for each of `queries` and checks ids, scores and gaps to the next score.
fn search(
    case: &mut Case,
    direction: &str,
    queries: &str,
    gallery: &str,
) -> Result<Vec<Vec<Hit>>, CaseError> {
    let (queries, _) = vectors(case, queries)?;
    let (gallery, dim) = vectors(case, gallery)?;
    let engine = ExactSearch::new(EmbeddingRows::from_values(gallery.concat(), dim)?)?;
    let shape = case.expected(&format!("{direction}/topk_ids"))?.shape.clone();
    let &[_, k] = &shape[..] else {
        return Err(CaseError(format!("{direction}/topk_ids has shape {shape:?}")));
    };
    // One more than is listed, for the gap behind the last.
    let found = engine.search(&queries, k + 1)?;
    let table = |value: &dyn Fn(&[Hit]) -> f64| {
        found.iter().flat_map(|hits| hits.windows(2).map(value)).collect::<Vec<_>>()
    };
    let shape = [queries.len(), k];
    case.check_values(&format!("{direction}/topk_ids"), &shape, table(&|h| h[0].id as f64))?;
    case.check_values(&format!("{direction}/topk_scores"), &shape, table(&|h| h[0].score))?;
    let gaps = table(&|h| h[0].score - h[1].score);
    case.check_values(&format!("{direction}/gap_to_next"), &shape, gaps)?;
    Ok(found)
}

fn ids(found: &[Vec<Hit>]) -> impl Iterator<Item = impl Iterator<Item = usize>> {
    found.iter().map(|hits| hits.iter().map(|hit| hit.id))
}

/// The rows of an input `[N, D]`, and D.
fn vectors(case: &Case, name: &str) -> Result<(Vec<Vec<f32>>, usize), CaseError> {
    let numbers = case.input(name)?;
    let &[_, dim] = &numbers.shape[..] else {
        return Err(CaseError(format!("input {name} has shape {:?}", numbers.shape)));
    };
    let row = |row: &[f64]| row.iter().map(|&v| v as f32).collect();
    Ok((numbers.values.chunks(dim.max(1)).map(row).collect(), dim))
}

/// Checks what the uncertainty of the queries says about their hits.
fn uncertainty(case: &mut Case, direction: &str, hits: &[bool]) -> Result<(), CaseError> {
    let uncertainty = case.input(&format!("{direction}_uncertainty"))?.values.clone();
    for (name, binning) in [("quantile", Binning::Quantile), ("width", Binning::Width)] {
        let bins = uncertainty_bins(&uncertainty, hits, BINS, binning)?;
        let index: Vec<_> = bins.iter().map(|bin| bin.index as f64).collect();
        let mean: Vec<_> = bins.iter().map(|bin| bin.mean_uncertainty).collect();
        let recall: Vec<_> = bins.iter().map(|bin| bin.recall).collect();
        let count: Vec<_> = bins.iter().map(|bin| bin.count as f64).collect();
        let prefix = format!("{direction}/{name}");
        let by_index = trend(&index, &recall)?;
        check_trend(case, &format!("{prefix}/S_R2_mSR2_by_index"), by_index)?;
        check_trend(case, &format!("{prefix}/S_R2_mSR2_by_mean"), trend(&mean, &recall)?)?;
        for (column, values) in [
            ("bin_index", index),
            ("bin_mean_uncertainty", mean),
            ("bin_recall", recall),
            ("bin_count", count),
        ] {
            case.check_values(&format!("{prefix}/{column}"), &[values.len()], values)?;
        }
    }
    let risk = selective_risk(&uncertainty, hits)?;
    let areas = vec![risk.aurc, risk.excess_aurc];
    case.check_values(&format!("{direction}/aurc_eaurc"), &[2], areas)?;

    let confidence = case.input(&format!("{direction}_confidence"))?.values.clone();
    for bins in [10, 15] {
        let error = expected_calibration_error(&confidence, hits, bins)?;
        case.check_values(&format!("{direction}/ece{bins}"), &[1], vec![error])?;
    }
    Ok(())
}

fn check_trend(case: &mut Case, name: &str, trend: Trend) -> Result<(), CaseError> {
    case.check_values(name, &[3], vec![trend.spearman, trend.r_squared, trend.minus_s_r2()])
}
