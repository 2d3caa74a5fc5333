//! Estimates the posterior of both projections from cached pairs of an encoder.
//!
//! In: pooled features and embeddings of pairs. Out: the Kronecker factors that the authors
//! compute from LAION for their encoders (arXiv 2412.06014 and its code
//! `scripts/hessian_estimation.py`), so that the method runs on any encoder.

use std::borrow::Cow;

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rayon::prelude::*;

use super::factors::{KroneckerFactors, unusable};
use crate::adapter::AdapterError;
use crate::adapter::training::Rows;
use crate::encoder::{Modality, norm};

/// Queries whose logits are held at a time.
const BLOCK: usize = 256;
/// Range of the natural logarithm of the prior precision, and points of it that are tried before
/// the best one is refined.
const LOG_PRECISION: std::ops::RangeInclusive<f64> = -20.0..=25.0;
const GRID: usize = 451;
/// Steps of the golden section search, each of which shrinks the interval to 62 %.
const GOLDEN_STEPS: usize = 60;
/// Ridge penalty of the projection's least squares, as a share of the mean eigenvalue: features
/// are cached in half precision.
const RIDGE: f64 = 1e-6;

/// Cached features and embeddings of an encoder, and which belong together.
#[derive(Debug, Clone)]
pub struct PairedFeatures<'a> {
    /// `[N, Pv]` just before the image projection.
    pub image_features: Rows<'a>,
    /// `[N, D]` raw embeddings, projected from those.
    pub image_embeddings: Rows<'a>,
    /// `[T, Pt]`.
    pub text_features: Rows<'a>,
    /// `[T, D]`.
    pub text_embeddings: Rows<'a>,
    /// Row of an image and row of a text of each pair. An image with five captions may stand in
    /// five pairs; then its captions are each other's wrong candidates where they share a batch,
    /// so one pair per image is cleaner.
    pub pairs: Vec<(usize, usize)>,
}

/// How the factors are estimated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FitOptions {
    /// Factor on cosines in the encoder's training loss: exp of its `logit_scale`.
    pub logit_scale: f64,
    /// Candidates of the InfoNCE softmax. The authors take 32768, the batch of CLIP's training;
    /// memory grows with it, and fewer candidates make softmaxes surer and B smaller.
    pub candidates: usize,
}

impl FitOptions {
    /// The given logit scale and at most 4096 candidates.
    pub fn new(logit_scale: f64) -> Self {
        Self { logit_scale, candidates: 4096 }
    }
}

/// One side of the pairs.
#[derive(Clone, Copy)]
struct PairSide<'a> {
    features: Rows<'a>,
    embeddings: Rows<'a>,
    modality: Modality,
}

/// Factors of the image and of the text projection.
///
/// # Errors
/// When there are fewer pairs than features (the projection's norm, which sets the prior, is found
/// from them), rows or lengths do not fit together, an embedding is all zeros, or an option is out
/// of range.
pub fn fit_factors(
    data: &PairedFeatures,
    options: &FitOptions,
) -> Result<[KroneckerFactors; 2], AdapterError> {
    check(data, options)?;
    let image = PairSide {
        features: data.image_features,
        embeddings: data.image_embeddings,
        modality: Modality::Image,
    };
    let text = PairSide {
        features: data.text_features,
        embeddings: data.text_embeddings,
        modality: Modality::Text,
    };
    let images: Vec<usize> = data.pairs.iter().map(|pair| pair.0).collect();
    let texts: Vec<usize> = data.pairs.iter().map(|pair| pair.1).collect();
    Ok([
        fit_side(image, &images, text, &texts, options)?,
        fit_side(text, &texts, image, &images, options)?,
    ])
}

fn check(data: &PairedFeatures, options: &FitOptions) -> Result<(), AdapterError> {
    if !(options.logit_scale.is_finite() && options.logit_scale > 0.0) {
        return Err(unusable(format!(
            "the logit scale is {}, expected a positive number",
            options.logit_scale
        )));
    }
    if options.candidates < 2 {
        return Err(unusable(format!(
            "{} candidates make no softmax, expected 2 or more",
            options.candidates
        )));
    }
    for (what, features, embeddings) in [
        ("image", data.image_features, data.image_embeddings),
        ("text", data.text_features, data.text_embeddings),
    ] {
        if features.len() != embeddings.len() {
            return Err(unusable(format!(
                "{} pooled {what} features for {} embeddings; they do not belong together",
                features.len(),
                embeddings.len()
            )));
        }
        let mut rows: Vec<usize> =
            data.pairs.iter().map(|p| if what == "image" { p.0 } else { p.1 }).collect();
        rows.sort_unstable();
        rows.dedup();
        if let Some(&row) = rows.last().filter(|&&row| row >= features.len()) {
            return Err(unusable(format!("a pair names {what} {row} of {}", features.len())));
        }
        if rows.len() <= features.dim() {
            return Err(unusable(format!(
                "{} different {what}s cannot show a projection of {} features, expected more than \
                 {}; cache more pairs",
                rows.len(),
                features.dim(),
                features.dim()
            )));
        }
    }
    let (image, text) = (data.image_embeddings.dim(), data.text_embeddings.dim());
    if image != text {
        return Err(AdapterError::Dimension { found: text, expected: image });
    }
    Ok(())
}

fn fit_side(
    source: PairSide,
    source_rows: &[usize],
    target: PairSide,
    target_rows: &[usize],
    options: &FitOptions,
) -> Result<KroneckerFactors, AdapterError> {
    let count = source_rows.len();
    // Every n-th pair, so that neighbours in a file (one class, say) spread over the batches.
    let batches = count.div_ceil(options.candidates);
    let dim = source.embeddings.dim();
    let mut b = Mat::zeros(dim, dim);
    for batch in 0..batches {
        let pick = |rows: &[usize]| -> Vec<usize> {
            rows.iter().copied().skip(batch).step_by(batches).collect()
        };
        let queries = UnitRows::read(source, &pick(source_rows))?;
        let candidates = UnitRows::read(target, &pick(target_rows))?;
        b += info_nce_hessian(&queries, &candidates, options.logit_scale);
    }
    let gram = products(source.features, source.features, source_rows);
    let norm = projection_norm_squared(source, source_rows, &gram)?;
    let scale = 1.0 / (count as f64).sqrt();
    let a = Mat::from_fn(gram.nrows(), gram.ncols(), |i, j| scale * gram[(i, j)]);
    let b = Mat::from_fn(dim, dim, |i, j| 0.5 * scale * (b[(i, j)] + b[(j, i)]));
    let prior_precision = best_prior_precision(&a, &b, norm)?;
    Ok(KroneckerFactors { a, b, pseudo_count: 1.0, prior_precision })
}

/// Embeddings of unit length, and how long they were.
struct UnitRows {
    /// `[N, D]`.
    units: Mat<f64>,
    /// `[N]`.
    lengths: Vec<f64>,
}

impl UnitRows {
    fn read(side: PairSide, rows: &[usize]) -> Result<Self, AdapterError> {
        let embeddings: Vec<Cow<[f32]>> =
            rows.par_iter().map(|&row| side.embeddings.row(row)).collect();
        let lengths: Vec<f64> = embeddings.iter().map(|row| norm(row)).collect();
        if let Some(at) = lengths.iter().position(|&length| length == 0.0) {
            return Err(unusable(format!(
                "{} embedding {} is all zeros; it has no direction",
                side.modality, rows[at]
            )));
        }
        let units = Mat::from_fn(rows.len(), side.embeddings.dim(), |i, j| {
            f64::from(embeddings[i][j]) / lengths[i]
        });
        Ok(Self { units, lengths })
    }
}

/// Sum over queries of the Hessian of `-log softmax(s cos(x, y_c))` for the raw embedding x, up to
/// the part that the GGN leaves out: Σ_b Jᵦ (Yᵀ(diag p - p pᵀ)Y) Jᵦ s², with J = (I - u uᵀ)/‖x‖ of
/// the normalisation u = x/‖x‖.
///
/// With S = Yᵀ diag(p) Y - m mᵀ and m = Yᵀ p, J S J = (S - u (S u)ᵀ - (S u) uᵀ + (uᵀ S u) u uᵀ)/‖x‖²,
/// and Σ_b Yᵀ diag(p_b) Y / ‖x_b‖² is one product for all queries. So nothing of size `[D, D]` is
/// made per query.
fn info_nce_hessian(queries: &UnitRows, candidates: &UnitRows, scale: f64) -> Mat<f64> {
    let (count, classes) = (queries.units.nrows(), candidates.units.nrows());
    let dim = queries.units.ncols();
    let blocks: Vec<usize> = (0..count).step_by(BLOCK).collect();
    let block = |start: usize| -> (Vec<f64>, Mat<f64>) {
        let size = BLOCK.min(count - start);
        let u = queries.units.submatrix(start, 0, size, dim);
        let mut p = u * candidates.units.transpose();
        let mut weighted = p.clone();
        let mut class_weights = vec![0.0; classes];
        // uᵀ S u, and uᵀ m.
        let (mut curvature, mut mean) = (vec![0.0; size], vec![0.0; size]);
        for i in 0..size {
            let cosines: Vec<f64> = (0..classes).map(|c| p[(i, c)]).collect();
            let most = cosines.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = cosines.iter().map(|k| (scale * (k - most)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let inverse_square = queries.lengths[start + i].powi(-2);
            let mut second = 0.0;
            for (c, (weight, cosine)) in weights.iter().zip(&cosines).enumerate() {
                let probability = weight / sum;
                p[(i, c)] = probability;
                weighted[(i, c)] = probability * cosine;
                mean[i] += probability * cosine;
                second += probability * cosine * cosine;
                class_weights[c] += probability * inverse_square;
            }
            curvature[i] = second - mean[i] * mean[i];
        }
        let m = &p * &candidates.units;
        let g = &weighted * &candidates.units;
        let over = |i: usize| 1.0 / queries.lengths[start + i];
        let scaled_m = Mat::from_fn(size, dim, |i, d| m[(i, d)] * over(i));
        let scaled_u = Mat::from_fn(size, dim, |i, d| u[(i, d)] * over(i));
        // S u - ½ (uᵀ S u) u: what u has to be multiplied with on either side.
        let half = Mat::from_fn(size, dim, |i, d| {
            (g[(i, d)] - m[(i, d)] * mean[i] - 0.5 * curvature[i] * u[(i, d)]) * over(i)
        });
        let cross = scaled_u.transpose() * &half;
        let sum = scaled_m.transpose() * &scaled_m + &cross + cross.transpose();
        (class_weights, sum)
    };
    let zero = || (vec![0.0; classes], Mat::zeros(dim, dim));
    let (class_weights, subtracted) = blocks.into_par_iter().map(block).reduce(zero, |a, b| {
        let weights = a.0.iter().zip(&b.0).map(|(x, y)| x + y).collect();
        (weights, a.1 + b.1)
    });
    let weighted = Mat::from_fn(classes, dim, |c, d| candidates.units[(c, d)] * class_weights[c]);
    let sum = candidates.units.transpose() * weighted - subtracted;
    Mat::from_fn(dim, dim, |i, j| scale * scale * sum[(i, j)])
}

/// Σ xᵢ yᵢᵀ over rows, `[X, Y]`.
fn products(x: Rows, y: Rows, rows: &[usize]) -> Mat<f64> {
    let block = |rows: &[usize]| {
        let matrix = |side: Rows| {
            let values: Vec<Cow<[f32]>> = rows.iter().map(|&row| side.row(row)).collect();
            Mat::from_fn(rows.len(), side.dim(), |i, j| f64::from(values[i][j]))
        };
        matrix(x).transpose() * matrix(y)
    };
    let zero = || Mat::zeros(x.dim(), y.dim());
    rows.par_chunks(BLOCK).map(block).reduce(zero, |a, b| a + b)
}

/// ‖W‖² of the projection `y = W φ`, by least squares over the pairs; `gram` is Σ φ φᵀ.
fn projection_norm_squared(
    side: PairSide,
    rows: &[usize],
    gram: &Mat<f64>,
) -> Result<f64, AdapterError> {
    let size = gram.nrows();
    let trace: f64 = (0..size).map(|i| gram[(i, i)]).sum();
    let ridge = RIDGE * trace / size as f64;
    let regularised =
        Mat::from_fn(size, size, |i, j| gram[(i, j)] + if i == j { ridge } else { 0.0 });
    let factor = regularised.llt(Side::Lower).map_err(|_| {
        unusable(format!("the {} features are all zeros or not finite", side.modality))
    })?;
    let weights = factor.solve(products(side.features, side.embeddings, rows));
    Ok(weights.squared_norm_l2())
}

/// The prior precision λ that maximises the Laplace approximation of the evidence,
///
/// ½ P D ln λ - ½ λ ‖W‖² - ½ (D ln det(A + √λ I) + P ln det(B + √λ I)).
///
/// The authors' `optimize_prior_precision` leaves out the last ½ and swaps P and D in it, which
/// gives another λ; the λ in their files are what their code found.
///
/// # Errors
/// When a factor has no eigenvalues, or the evidence has no maximum within 2·10⁻⁹ to 7·10¹⁰.
fn best_prior_precision(
    a: &Mat<f64>,
    b: &Mat<f64>,
    norm_squared: f64,
) -> Result<f64, AdapterError> {
    let eigenvalues = |matrix: &Mat<f64>, name: &str| -> Result<Vec<f64>, AdapterError> {
        let values = matrix
            .self_adjoint_eigenvalues(Side::Lower)
            .map_err(|e| unusable(format!("factor {name} has no eigenvalues: {e:?}")))?;
        // Rounding leaves eigenvalues just below 0 where they are 0.
        Ok(values.into_iter().map(|value| value.max(0.0)).collect())
    };
    let (a, b) = (eigenvalues(a, "A")?, eigenvalues(b, "B")?);
    let (p, d) = (a.len() as f64, b.len() as f64);
    let evidence = |log: f64| {
        let root = (0.5 * log).exp();
        let log_det = |values: &[f64]| values.iter().map(|v| (v + root).ln()).sum::<f64>();
        0.5 * (p * d * log - log.exp() * norm_squared - d * log_det(&a) - p * log_det(&b))
    };
    let (low, high) = (*LOG_PRECISION.start(), *LOG_PRECISION.end());
    let step = (high - low) / (GRID - 1) as f64;
    let grid: Vec<f64> = (0..GRID).map(|i| evidence(low + step * i as f64)).collect();
    let best = (0..GRID).max_by(|&i, &j| grid[i].total_cmp(&grid[j])).unwrap_or(0);
    if best == 0 || best == GRID - 1 || !grid[best].is_finite() {
        return Err(unusable(format!(
            "no prior precision between {:.0e} and {:.0e} explains a projection of squared norm \
             {norm_squared}; features or embeddings may be constant",
            low.exp(),
            high.exp()
        )));
    }
    let (mut left, mut right) = (low + step * (best - 1) as f64, low + step * (best + 1) as f64);
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..GOLDEN_STEPS {
        let (x, y) = (right - ratio * (right - left), left + ratio * (right - left));
        if evidence(x) > evidence(y) { right = y } else { left = x }
    }
    Ok((0.5 * (left + right)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, standard_normal};

    fn rows(seed: u64, count: usize, dim: usize) -> Vec<f32> {
        standard_normal(seed, Stream::Resampling, 0, count * dim)
    }

    fn side(values: &[f32], dim: usize) -> UnitRows {
        let rows = Rows::new(values, dim).unwrap();
        let side = PairSide { features: rows, embeddings: rows, modality: Modality::Text };
        UnitRows::read(side, &(0..rows.len()).collect::<Vec<_>>()).unwrap()
    }

    /// The authors' formula, one query after the other, as written in their code.
    fn slow_hessian(queries: &UnitRows, candidates: &UnitRows, scale: f64) -> Mat<f64> {
        let (dim, classes) = (queries.units.ncols(), candidates.units.nrows());
        let mut sum = Mat::zeros(dim, dim);
        for (i, length) in queries.lengths.iter().enumerate() {
            let cosine = |c: usize| -> f64 {
                (0..dim).map(|d| queries.units[(i, d)] * candidates.units[(c, d)]).sum()
            };
            let weights: Vec<f64> = (0..classes).map(|c| (scale * cosine(c)).exp()).collect();
            let total: f64 = weights.iter().sum();
            let p: Vec<f64> = weights.iter().map(|w| w / total).collect();
            let y = &candidates.units;
            let m: Vec<f64> =
                (0..dim).map(|d| (0..classes).map(|c| p[c] * y[(c, d)]).sum()).collect();
            let s = Mat::from_fn(dim, dim, |j, k| {
                (0..classes).map(|c| p[c] * y[(c, j)] * y[(c, k)]).sum::<f64>() - m[j] * m[k]
            });
            let jacobian = Mat::from_fn(dim, dim, |j, k| {
                let own = if j == k { 1.0 } else { 0.0 };
                (own - queries.units[(i, j)] * queries.units[(i, k)]) / length
            });
            sum += &jacobian * s * &jacobian;
        }
        Mat::from_fn(dim, dim, |i, j| sum[(i, j)] * scale * scale)
    }

    #[test]
    fn the_hessian_of_all_queries_is_the_sum_of_the_authors_formula() {
        let (queries, candidates) = (side(&rows(1, 300, 5), 5), side(&rows(2, 40, 5), 5));
        for scale in [1.0, 30.0] {
            let fast = info_nce_hessian(&queries, &candidates, scale);
            let slow = slow_hessian(&queries, &candidates, scale);
            let largest = slow.norm_max();
            assert!((&fast - &slow).norm_max() < 1e-11 * largest, "{scale}");
        }
    }

    #[test]
    fn the_gauss_newton_matrix_is_the_curvature_of_the_loss_over_unit_directions() {
        // Of one candidate more than the query's own, the loss is ln(1 + exp(-s Δ)) with Δ the
        // difference of cosines. The GGN is p (1 - p) s² ∇Δ ∇Δᵀ.
        let (query, own, other) = ([2.0f32, 1.0], [1.0f32, 0.0], [0.0f32, 1.0]);
        let queries = side(&query, 2);
        let candidates = side(&[own, other].concat(), 2);
        let scale = 3.0;
        let difference = |x: f64, y: f64| (x - y) / (x * x + y * y).sqrt();
        let step = 1e-6;
        let gradient = [
            (difference(2.0 + step, 1.0) - difference(2.0 - step, 1.0)) / (2.0 * step),
            (difference(2.0, 1.0 + step) - difference(2.0, 1.0 - step)) / (2.0 * step),
        ];
        let p = 1.0 / (1.0 + (-scale * difference(2.0, 1.0)).exp());
        let found = info_nce_hessian(&queries, &candidates, scale);
        for i in 0..2 {
            for j in 0..2 {
                let expected = p * (1.0 - p) * scale * scale * gradient[i] * gradient[j];
                assert!((found[(i, j)] - expected).abs() < 1e-8, "{found:?}");
            }
        }
    }

    #[test]
    fn the_prior_precision_is_where_the_evidence_has_no_slope() {
        // All eigenvalues 0: ½ P D ln λ cancels against the determinants and only the norm is
        // left, so there is no maximum.
        assert!(best_prior_precision(&Mat::zeros(3, 3), &Mat::zeros(2, 2), 1.0).is_err());
        let a = Mat::from_fn(3, 3, |i, j| if i == j { 10.0 * (i + 1) as f64 } else { 0.0 });
        let b = Mat::from_fn(2, 2, |i, j| if i == j { 5.0 * (i + 1) as f64 } else { 0.0 });
        let precision = best_prior_precision(&a, &b, 0.5).unwrap();
        // d/dλ = ½ PD/λ - ½ ‖W‖² - ½ [D Σ 1/(a + √λ) + P Σ 1/(b + √λ)] / (2 √λ).
        let root = precision.sqrt();
        let sum = |values: &[f64]| values.iter().map(|v| 1.0 / (v + root)).sum::<f64>();
        let slope = 6.0 / precision
            - 0.5
            - (2.0 * sum(&[10.0, 20.0, 30.0]) + 3.0 * sum(&[5.0, 10.0])) / (2.0 * root);
        assert!(slope.abs() < 1e-6, "{precision} {slope}");
    }

    /// Images and texts that share a direction, projected from features by known weights.
    struct Synthetic {
        features: [Vec<f32>; 2],
        embeddings: [Vec<f32>; 2],
        norms: [f64; 2],
    }

    const COUNT: usize = 400;
    const WIDTHS: [usize; 2] = [6, 7];
    const DIM: usize = 4;

    fn synthetic() -> Synthetic {
        let mut made =
            Synthetic { features: [vec![], vec![]], embeddings: [vec![], vec![]], norms: [0.0; 2] };
        for (side, width) in WIDTHS.into_iter().enumerate() {
            let features = rows(side as u64 + 5, COUNT, width);
            let weights = rows(side as u64 + 9, DIM, width);
            for phi in features.chunks_exact(width) {
                let row = weights.chunks_exact(width);
                made.embeddings[side]
                    .extend(row.map(|w| w.iter().zip(phi).map(|(a, b)| a * b).sum::<f32>()));
            }
            made.norms[side] = weights.iter().map(|&w| f64::from(w).powi(2)).sum();
            made.features[side] = features;
        }
        made
    }

    impl Synthetic {
        fn data(&self) -> PairedFeatures<'_> {
            let rows = |values, dim| Rows::new(values, dim).unwrap();
            PairedFeatures {
                image_features: rows(&self.features[0], WIDTHS[0]),
                image_embeddings: rows(&self.embeddings[0], DIM),
                text_features: rows(&self.features[1], WIDTHS[1]),
                text_embeddings: rows(&self.embeddings[1], DIM),
                pairs: (0..COUNT).map(|i| (i, i)).collect(),
            }
        }
    }

    #[test]
    fn a_fit_gives_the_factors_of_both_sides_in_the_authors_scaling() {
        let made = synthetic();
        let data = made.data();
        let options = FitOptions { logit_scale: 10.0, candidates: COUNT };
        let [image, text] = fit_factors(&data, &options).unwrap();
        assert_eq!((image.a.nrows(), text.a.nrows(), image.b.nrows()), (6, 7, 4));
        let direct: f64 = made.features[0].chunks(6).map(|r| f64::from(r[0] * r[1])).sum();
        assert!((image.a[(0, 1)] - direct / 20.0).abs() < 1e-3);
        let (v, t) = (side(&made.embeddings[0], 4), side(&made.embeddings[1], 4));
        let slow = slow_hessian(&t, &v, 10.0);
        assert!((text.b[(0, 1)] - slow[(0, 1)] / 20.0).abs() < 1e-9 * slow.norm_max());
        // Four batches have the same items and a quarter of the candidates.
        let few = FitOptions { candidates: 100, ..options };
        let [quarter, _] = fit_factors(&data, &few).unwrap();
        assert_eq!(quarter.a, image.a);
        assert_ne!(quarter.b, image.b);
        // With the true norm of the weights the precision comes out the same.
        let precision = best_prior_precision(&image.a, &image.b, made.norms[0]).unwrap();
        assert!((precision / image.prior_precision - 1.0).abs() < 1e-4);
        assert!(image.posterior("image").is_ok());
    }

    #[test]
    fn data_that_cannot_show_a_posterior_is_refused() {
        let made = synthetic();
        let refused = |data: &PairedFeatures, options: &FitOptions, words: &str| {
            let message = fit_factors(data, options).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        };
        let (whole, options) = (made.data(), FitOptions::new(10.0));
        let pairs = whole.pairs[..6].to_vec();
        refused(&PairedFeatures { pairs, ..whole.clone() }, &options, "6 different images");
        let pairs = [&whole.pairs[..], &[(0, COUNT)]].concat();
        refused(&PairedFeatures { pairs, ..whole.clone() }, &options, "text 400 of 400");
        let text_embeddings = Rows::new(&made.embeddings[1][..40], DIM).unwrap();
        let lost = PairedFeatures { text_embeddings, ..whole.clone() };
        refused(&lost, &options, "400 pooled text features for 10");
        refused(&whole, &FitOptions { candidates: 1, ..options }, "1 candidates");
        refused(&whole, &FitOptions::new(f64::NAN), "logit scale is NaN");
        let mut flat = made.embeddings[0].clone();
        flat[8..12].fill(0.0);
        let image_embeddings = Rows::new(&flat, DIM).unwrap();
        let flat = PairedFeatures { image_embeddings, ..whole.clone() };
        refused(&flat, &options, "image embedding 2 is all zeros");
    }

    #[test]
    fn the_demo_encoder_gets_a_posterior_and_its_projections_norms_are_found() {
        use crate::encoder::{Encoder, Pooled};
        use crate::model::weights::Weights;
        use crate::query::{AlphaPolicy, read_image};
        use std::path::Path;

        let demo = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo"));
        let device = burn::tensor::Device::flex();
        let encoder = Encoder::load(&demo.join("clip"), &device).unwrap();
        let dataset: serde_json::Value =
            crate::model::config::read_json(&demo.join("gallery/dataset.json")).unwrap();
        let items = dataset["images"].as_array().unwrap();
        let read = |item: &serde_json::Value| {
            let path = demo.join("gallery/images").join(item["filename"].as_str().unwrap());
            read_image(&path).unwrap().to_rgb(AlphaPolicy::Drop)
        };
        let images: Vec<_> = items.par_iter().map(read).collect();
        let texts: Vec<&str> =
            items.iter().map(|item| item["sentences"][0]["raw"].as_str().unwrap()).collect();
        let (images, texts) =
            (encoder.pool_images(&images).unwrap(), encoder.pool_texts(&texts).unwrap());
        let split = |pooled: &[Pooled]| -> [Vec<f32>; 2] {
            [
                pooled.iter().flat_map(|p| p.features.iter().copied()).collect(),
                pooled.iter().flat_map(|p| p.embedding.values.iter().copied()).collect(),
            ]
        };
        let ([vf, ve], [tf, te]) = (split(&images), split(&texts));
        let rows = |values| Rows::new(values, 192).unwrap();
        let data = PairedFeatures {
            image_features: rows(&vf),
            image_embeddings: rows(&ve),
            text_features: rows(&tf),
            text_embeddings: rows(&te),
            pairs: (0..images.len()).map(|i| (i, i)).collect(),
        };
        let weights = Weights::open(&demo.join("clip/model.safetensors")).unwrap();
        for (features, embeddings, modality, name) in [
            (&vf, &ve, Modality::Image, "visual_projection.weight"),
            (&tf, &te, Modality::Text, "text_projection.weight"),
        ] {
            let side =
                PairSide { features: rows(features), embeddings: rows(embeddings), modality };
            let all: Vec<usize> = (0..images.len()).collect();
            let gram = products(side.features, side.features, &all);
            let found = projection_norm_squared(side, &all, &gram).unwrap();
            let weight = weights.tensor::<2>(name, &device).unwrap().into_data();
            let expected: f64 = weight.iter::<f32>().map(|w| f64::from(w).powi(2)).sum();
            println!("{modality}: squared norm {found}, of the weights {expected}");
            assert!((found / expected - 1.0).abs() < 0.05, "{modality} {found} {expected}");
        }
        let options = FitOptions::new(f64::from(encoder.logit_scale()));
        let [image, text] = fit_factors(&data, &options).unwrap();
        println!("lambda: image {}, text {}", image.prior_precision, text.prior_precision);
        let posterior = crate::adapter::BayesVlm::new(&image, &text).unwrap();
        for (pooled, modality) in [(&images, Modality::Image), (&texts, Modality::Text)] {
            for item in pooled.iter().take(20) {
                let variance = posterior.variance(modality, &item.features).unwrap();
                let share = variance.iter().sum::<f64>() / item.embedding.norm().powi(2);
                assert!(share > 1e-6 && share < 1.0, "{modality}: {share} of the squared norm");
            }
        }
    }
}
