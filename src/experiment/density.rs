//! How far an embedding lies from the training embeddings of its modality: two density scores that
//! need no training beyond looking at them.
//!
//! Both work on unit embeddings, as retrieval does. Larger is further away, and less certain.

use faer::linalg::solvers::Solve;
use faer::{Mat, Side};
use rayon::prelude::*;

use super::retrieval::unit_rows;
use super::{EmbeddedPairs, ExperimentError};
use crate::encoder::Modality;
use crate::gallery::{EmbeddingRows, ExactSearch};

/// Neighbours that [`KnnDensity`] looks at, where nothing else is asked for.
pub const DEFAULT_NEIGHBOURS: usize = 10;
/// Rows scored at a time.
const BATCH: usize = 256;

/// Euclidean distance to the k-th nearest training embedding: deep nearest neighbours (Sun et al.
/// 2022, arXiv 2204.06507).
#[derive(Debug)]
pub struct KnnDensity {
    search: ExactSearch,
    k: usize,
}

impl KnnDensity {
    /// Keeps the distinct training embeddings of a modality; captions of equal words that share
    /// an embedding count once.
    ///
    /// # Errors
    /// When `k` is 0, or there are fewer than `k` embeddings.
    pub fn fit(
        training: &EmbeddedPairs,
        modality: Modality,
        k: usize,
    ) -> Result<Self, ExperimentError> {
        let (rows, count) = distinct_rows(training, modality);
        if k == 0 || k > count {
            return Err(ExperimentError::Setting {
                what: "the number of neighbours k",
                found: k.to_string(),
                expected: format!("1 to the {count} different {modality} embeddings of training"),
            });
        }
        let search = ExactSearch::new(EmbeddingRows::from_values(rows, training.dim())?)?;
        Ok(Self { search, k })
    }

    /// Distance of each of `[N, D]` rows, which are normalised first, to its k-th nearest
    /// neighbour: 0 to 2. A training embedding is its own nearest neighbour, at 0.
    ///
    /// # Errors
    /// When the rows are no whole rows of D finite numbers.
    pub fn score(&self, rows: &[f32]) -> Result<Vec<f64>, ExperimentError> {
        let dim = self.search.dim();
        check_rows(rows, dim)?;
        let mut scores = Vec::with_capacity(rows.len() / dim);
        for rows in rows.chunks(BATCH * dim) {
            let queries: Vec<Vec<f32>> = rows.chunks_exact(dim).map(<[f32]>::to_vec).collect();
            let hits = self.search.search(&queries, self.k)?;
            // ‖a - b‖² = 2 - 2 a·b of unit vectors. The last hit is the k-th.
            let distance = |score: f64| (2.0 - 2.0 * score).max(0.0).sqrt();
            scores.extend(hits.iter().map(|hits| distance(hits[self.k - 1].score)));
        }
        Ok(scores)
    }
}

/// Mahalanobis distance to one Gaussian fitted to the training embeddings (Lee et al. 2018, arXiv
/// 1807.03888, with one class), its covariance shrunk to a multiple of the identity as Ledoit and
/// Wolf 2004 show.
#[derive(Debug)]
pub struct MahalanobisDensity {
    mean: Vec<f64>,
    /// Σ⁻¹ `[D, D]`.
    precision: Mat<f64>,
    shrinkage: f64,
}

impl MahalanobisDensity {
    /// Fits mean and covariance to the distinct training embeddings of a modality.
    ///
    /// # Errors
    /// When there are fewer than two of them, or they are all the same.
    pub fn fit(training: &EmbeddedPairs, modality: Modality) -> Result<Self, ExperimentError> {
        let (rows, count) = distinct_rows(training, modality);
        let dim = training.dim();
        let constant = || {
            training.unusable(format!(
                "the {count} different {modality} embeddings of training do not vary, so they \
                 have no covariance; train on more pairs"
            ))
        };
        if count < 2 {
            return Err(constant());
        }
        let mut mean = vec![0.0; dim];
        for row in rows.chunks_exact(dim) {
            mean.iter_mut().zip(row).for_each(|(m, &x)| *m += f64::from(x) / count as f64);
        }
        let block = |rows: &[f32]| {
            let centred =
                Mat::from_fn(rows.len() / dim, dim, |i, j| f64::from(rows[i * dim + j]) - mean[j]);
            let fourth: f64 = (0..centred.nrows())
                .map(|i| (0..dim).map(|j| centred[(i, j)].powi(2)).sum::<f64>().powi(2))
                .sum();
            (centred.transpose() * &centred, fourth)
        };
        let zero = || (Mat::zeros(dim, dim), 0.0);
        let (scatter, fourth) =
            rows.par_chunks(BATCH * dim).map(block).reduce(zero, |a, b| (a.0 + b.0, a.1 + b.1));
        let n = count as f64;
        let covariance = Mat::from_fn(dim, dim, |i, j| scatter[(i, j)] / n);
        let average = (0..dim).map(|i| covariance[(i, i)]).sum::<f64>() / dim as f64;
        let rounding = f64::from(f32::EPSILON).powi(2);
        if average <= rounding {
            return Err(constant());
        }
        // Ledoit and Wolf's d² and b²: d² is how far the covariance is from the identity's
        // multiple, b² how far it is from its own expectation.
        let squares = covariance.squared_norm_l2();
        let from_identity = squares - dim as f64 * average * average;
        let from_truth = ((fourth / n - squares) / n).clamp(0.0, from_identity.max(0.0));
        let shrinkage = if from_identity > 0.0 { from_truth / from_identity } else { 1.0 };
        let shrunk = Mat::from_fn(dim, dim, |i, j| {
            let target = if i == j { average } else { 0.0 };
            // A covariance of low rank that would not be shrunk still gets an inverse.
            let floor = if i == j { rounding } else { 0.0 };
            (1.0 - shrinkage) * covariance[(i, j)] + shrinkage * target + floor
        });
        let factor = shrunk.llt(Side::Lower).map_err(|_| constant())?;
        let precision = factor.solve(Mat::<f64>::identity(dim, dim));
        Ok(Self { mean, precision, shrinkage })
    }

    /// Share of the identity in the covariance, 0 to 1.
    pub fn shrinkage(&self) -> f64 {
        self.shrinkage
    }

    /// √((x - μ)ᵀ Σ⁻¹ (x - μ)) of each of `[N, D]` rows, which are normalised first; 0 or more.
    ///
    /// # Errors
    /// When the rows are no whole rows of D finite numbers.
    pub fn score(&self, rows: &[f32]) -> Result<Vec<f64>, ExperimentError> {
        let dim = self.mean.len();
        check_rows(rows, dim)?;
        let block = |rows: &[f32]| -> Vec<f64> {
            let rows = unit_rows(rows.to_vec(), dim);
            let count = rows.len() / dim;
            let centred =
                Mat::from_fn(count, dim, |i, j| f64::from(rows[i * dim + j]) - self.mean[j]);
            let product = &centred * &self.precision;
            let square = |i| (0..dim).map(|j| product[(i, j)] * centred[(i, j)]).sum::<f64>();
            (0..count).map(|i| square(i).max(0.0).sqrt()).collect()
        };
        Ok(rows.par_chunks(BATCH * dim).map(block).collect::<Vec<_>>().concat())
    }
}

/// Unit embeddings of a modality, each row of the store once, and their number.
fn distinct_rows(pairs: &EmbeddedPairs, modality: Modality) -> (Vec<f32>, usize) {
    let mut rows: Vec<usize> =
        (0..pairs.count(modality)).map(|position| pairs.row_of(modality, position)).collect();
    rows.sort_unstable();
    rows.dedup();
    let dim = pairs.dim();
    let mut values = vec![0f32; rows.len() * dim];
    values.par_chunks_mut(dim).zip(&rows).for_each(|(out, &row)| {
        pairs.rows(modality).read(row..row + 1, dim, out);
    });
    (unit_rows(values, dim), rows.len())
}

fn check_rows(rows: &[f32], dim: usize) -> Result<(), ExperimentError> {
    if !rows.len().is_multiple_of(dim) {
        return Err(ExperimentError::Setting {
            what: "the number of values to score",
            found: rows.len().to_string(),
            expected: format!("whole rows of {dim}"),
        });
    }
    match rows.iter().position(|v| !v.is_finite()) {
        Some(at) => Err(ExperimentError::Setting {
            what: "an embedding to score",
            found: format!("{} in dimension {} of row {}", rows[at], at % dim, at / dim),
            expected: "finite numbers".to_owned(),
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::PairStore;
    use crate::experiment::pairs::{CaptionLink, ImageFacts};
    use crate::random::{Stream, standard_normal};

    /// Pairs whose images and texts are these rows, one caption per image.
    fn pairs(values: Vec<f32>, dim: usize) -> EmbeddedPairs {
        let rows = EmbeddingRows::from_values(values, dim).unwrap();
        let count = rows.len() as u32;
        EmbeddedPairs::new(PairStore::new(
            "rows".to_owned(),
            rows.clone(),
            rows,
            (0..count)
                .map(|i| ImageFacts { id: i.to_string(), split: None, class: None, coco_id: None })
                .collect(),
            (0..count).map(|i| CaptionLink { text: i, image: i, level: None, id: None }).collect(),
        ))
        .unwrap()
    }

    #[test]
    fn the_kth_neighbour_is_measured_between_unit_embeddings() {
        // At angles 0, 90 and 180 degrees, of any length.
        let training = pairs(vec![2.0, 0.0, 0.0, 5.0, -0.1, 0.0], 2);
        let first = KnnDensity::fit(&training, Modality::Image, 1).unwrap();
        let second = KnnDensity::fit(&training, Modality::Image, 2).unwrap();
        let queries = [9.0, 0.0, 1.0, 1.0, 0.0, -3.0];
        let chord = |degrees: f64| 2.0 * (degrees.to_radians() / 2.0).sin();
        for (found, expected) in [
            (first.score(&queries).unwrap(), [0.0, chord(45.0), chord(90.0)]),
            (second.score(&queries).unwrap(), [chord(90.0), chord(45.0), chord(90.0)]),
        ] {
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-7, "{found} {expected}");
            }
        }
        for k in [0, 4] {
            let error = KnnDensity::fit(&training, Modality::Text, k).unwrap_err().to_string();
            assert!(error.contains("1 to the 3 different text"), "{error}");
        }
        assert!(first.score(&[1.0, 2.0, 3.0]).is_err() && first.score(&[1.0, f32::NAN]).is_err());
    }

    #[test]
    fn captions_that_share_an_embedding_are_one_neighbour() {
        let small = EmbeddedPairs::new(crate::experiment::pairs::tests::small_store()).unwrap();
        // Five captions of four embeddings.
        assert!(KnnDensity::fit(&small, Modality::Text, 4).is_ok());
        assert!(KnnDensity::fit(&small, Modality::Text, 5).is_err());
    }

    /// Unit vectors near (1, 0, 0, 0) whose other components are normals with these deviations.
    fn cone(seed: u64, count: usize, deviations: [f32; 3]) -> Vec<f32> {
        let noise = standard_normal(seed, Stream::Resampling, 0, count * 3);
        let row = |z: &[f32]| {
            let side: Vec<f32> = z.iter().zip(deviations).map(|(z, s)| z * s).collect();
            let first = (1.0 - side.iter().map(|x| x * x).sum::<f32>()).sqrt();
            [first, side[0], side[1], side[2]]
        };
        noise.chunks_exact(3).flat_map(row).collect()
    }

    #[test]
    fn squared_mahalanobis_distances_of_the_same_gaussian_are_chi_squared() {
        let deviations = [0.01, 0.03, 0.002];
        let training = pairs(cone(1, 4000, deviations), 4);
        let density = MahalanobisDensity::fit(&training, Modality::Image).unwrap();
        assert!(density.shrinkage() < 0.01, "{}", density.shrinkage());
        // Without the first dimension, which is a function of the others, three degrees of
        // freedom; the fourth adds its own normed square, so means lie around 3 to 4.
        let fresh = density.score(&cone(2, 4000, deviations)).unwrap();
        let mean = fresh.iter().map(|d| d * d).sum::<f64>() / 4000.0;
        let on_axis = density.score(&[1.0, 0.03, 0.0, 0.0, 1.0, 0.0, 0.06, 0.0]).unwrap();
        assert!((2.5..4.5).contains(&mean), "{mean}");
        assert!((2.0..4.0).contains(&on_axis[0]), "three deviations in one, {on_axis:?}");
        assert!((1.5..3.5).contains(&on_axis[1]), "two deviations in the other, {on_axis:?}");
        // Ever wider is further away, whatever the direction.
        let wide = density.score(&cone(3, 500, [0.1, 0.2, 0.02])).unwrap();
        let wide = wide.iter().sum::<f64>() / 500.0;
        assert!(wide > 4.0 * mean.sqrt(), "{wide}");
    }

    #[test]
    fn covariance_of_few_rows_is_shrunk_and_of_equal_rows_refused() {
        let few = cone(7, 6, [0.02, 0.02, 0.02]);
        let density = MahalanobisDensity::fit(&pairs(few, 4), Modality::Text).unwrap();
        assert!((0.1..=1.0).contains(&density.shrinkage()), "{}", density.shrinkage());
        let same = pairs(vec![1.0, 2.0, 2.0, 4.0, 0.5, 1.0], 2);
        let error = MahalanobisDensity::fit(&same, Modality::Text).unwrap_err().to_string();
        assert!(error.contains("do not vary"), "{error}");
    }

    #[test]
    fn shrinkage_is_that_of_ledoit_and_wolf() {
        // Unit vectors at 0, 60, 180 and 240 degrees: mean 0, every squared norm 1, covariance
        // ½ [1 + ¼, √3/4; √3/4, ¾], of squared norm 0.625 and mean eigenvalue ½.
        let (x, y) = (0.5f32, 0.75f32.sqrt());
        let training = pairs(vec![1.0, 0.0, x, y, -1.0, 0.0, -x, -y], 2);
        let density = MahalanobisDensity::fit(&training, Modality::Image).unwrap();
        // d² = 0.625 - 2 * 0.25, b² = (1 - 0.625) / 4.
        assert!((density.shrinkage() - 0.75).abs() < 1e-6, "{}", density.shrinkage());
        let (xx, yy, xy) = (0.53125, 0.46875, 3f64.sqrt() / 32.0);
        let score = density.score(&[0.0, 2.0]).unwrap()[0];
        assert!((score - (xx / (xx * yy - xy * xy)).sqrt()).abs() < 1e-6, "{score}");
    }
}
