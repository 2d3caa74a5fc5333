//! A gallery in two dimensions: principal components of its unit embeddings, onto which queries
//! and samples are projected exactly.

use faer::{Mat, Side};
use rayon::prelude::*;

use crate::gallery::EmbeddingRows;

/// Rows that the components are fitted on at most; all rows are projected.
const FIT_ROWS: usize = 200_000;
/// Rows read at a time.
const CHUNK: usize = 4096;

/// A gallery's map.
#[derive(Debug, Clone)]
pub struct GalleryMap {
    /// Hash of the gallery.
    pub gallery_hash: String,
    /// `[N]` position of every item.
    pub positions: Vec<[f32; 2]>,
    /// `[D]` mean of the unit embeddings.
    pub centre: Vec<f32>,
    /// Two unit directions `[D]`.
    pub components: [Vec<f32>; 2],
    /// Share of the variance that each component explains, 0 to 1.
    pub explained: [f64; 2],
}

/// The eigenvectors of a gallery's covariance could not be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the gallery's map cannot be computed: {0}")]
pub struct ProjectionError(pub String);

impl GalleryMap {
    /// Fits the map of a gallery's embeddings. Rows without direction (zeros) lie at the centre.
    ///
    /// # Errors
    /// When the gallery is empty, or its covariance has no eigenvectors (values that are not
    /// finite).
    pub fn fit(rows: &EmbeddingRows, gallery_hash: &str) -> Result<Self, ProjectionError> {
        let (count, dim) = (rows.len(), rows.dim());
        if count == 0 || dim == 0 {
            return Err(ProjectionError("it is empty".to_owned()));
        }
        let stride = count.div_ceil(FIT_ROWS).max(1);
        let fitted: Vec<usize> = (0..count).step_by(stride).collect();
        let centre = mean(rows, &fitted);
        let covariance = covariance(rows, &fitted, &centre);
        let total: f64 = (0..dim).map(|i| covariance[i * dim + i]).sum();
        let matrix = Mat::from_fn(dim, dim, |i, j| covariance[i * dim + j]);
        let eigen = matrix
            .self_adjoint_eigen(Side::Lower)
            .map_err(|error| ProjectionError(format!("{error:?}")))?;
        // In nondecreasing order: the last two are the largest.
        let (values, vectors) = (eigen.S().column_vector(), eigen.U());
        let component = |place: usize| -> Vec<f32> {
            let Some(column) = dim.checked_sub(place + 1) else { return vec![0.0; dim] };
            let largest = (0..dim)
                .map(|i| vectors[(i, column)])
                .fold(0.0f64, |best, x| if x.abs() > best.abs() { x } else { best });
            // Eigenvectors have no sign of their own; this choice makes the map repeatable.
            let sign = if largest < 0.0 { -1.0 } else { 1.0 };
            (0..dim).map(|i| (sign * vectors[(i, column)]) as f32).collect()
        };
        let explained = |place: usize| -> f64 {
            match dim.checked_sub(place + 1) {
                Some(column) if total > 0.0 => (values[column] / total).clamp(0.0, 1.0),
                _ => 0.0,
            }
        };
        let mut map = Self {
            gallery_hash: gallery_hash.to_owned(),
            positions: Vec::new(),
            centre: centre.iter().map(|&c| c as f32).collect(),
            components: [component(0), component(1)],
            explained: [explained(0), explained(1)],
        };
        map.positions = (0..count).into_par_iter().map(|i| map.project(&rows.row(i))).collect();
        Ok(map)
    }

    /// Position of an embedding `[D]`, which is normalised first.
    pub fn project(&self, embedding: &[f32]) -> [f32; 2] {
        let norm = crate::encoder::norm(embedding);
        if norm == 0.0 {
            return [0.0; 2];
        }
        self.components.each_ref().map(|component| {
            let terms = embedding.iter().zip(&self.centre).zip(component);
            terms
                .map(|((&x, &c), &w)| (f64::from(x) / norm - f64::from(c)) * f64::from(w))
                .sum::<f64>() as f32
        })
    }
}

/// Rows as unit vectors; zeros stay zeros.
fn unit(row: &[f32]) -> Vec<f64> {
    let norm = crate::encoder::norm(row);
    let scale = if norm > 0.0 { 1.0 / norm } else { 0.0 };
    row.iter().map(|&x| f64::from(x) * scale).collect()
}

fn mean(rows: &EmbeddingRows, ids: &[usize]) -> Vec<f64> {
    let mut sum = vec![0.0; rows.dim()];
    for &id in ids {
        for (sum, x) in sum.iter_mut().zip(unit(&rows.row(id))) {
            *sum += x / ids.len() as f64;
        }
    }
    sum
}

/// `[D * D]`, the lower triangle of which is filled.
fn covariance(rows: &EmbeddingRows, ids: &[usize], centre: &[f64]) -> Vec<f64> {
    let dim = centre.len();
    let chunks: Vec<Vec<f64>> = ids
        .par_chunks(CHUNK)
        .map(|ids| {
            let mut sum = vec![0.0; dim * dim];
            for &id in ids {
                let row: Vec<f64> =
                    unit(&rows.row(id)).iter().zip(centre).map(|(x, c)| x - c).collect();
                for i in 0..dim {
                    for j in 0..=i {
                        sum[i * dim + j] += row[i] * row[j];
                    }
                }
            }
            sum
        })
        .collect();
    let mut total = vec![0.0; dim * dim];
    for chunk in chunks {
        for (total, x) in total.iter_mut().zip(chunk) {
            *total += x;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points around a direction, spread in two others more than in the rest.
    fn rows() -> EmbeddingRows {
        let mut values = Vec::new();
        for i in 0..60 {
            let (a, b) = ((i as f32 * 0.7).sin(), (i as f32 * 1.3).cos());
            values.extend([10.0, 3.0 * a, 1.5 * b, 0.01 * (i % 3) as f32, 0.0]);
        }
        EmbeddingRows::from_values(values, 5).unwrap()
    }

    #[test]
    fn the_two_directions_of_largest_spread_are_found() {
        let map = GalleryMap::fit(&rows(), "hash").unwrap();
        assert!(map.components[0][1] > 0.95, "{:?}", map.components);
        assert!(map.components[1][2] > 0.95, "{:?}", map.components);
        assert!(map.explained[0] > map.explained[1]);
        assert!(map.explained[0] + map.explained[1] > 0.95);
    }

    #[test]
    fn a_row_lies_where_its_own_projection_does_whatever_its_norm() {
        let rows = rows();
        let map = GalleryMap::fit(&rows, "hash").unwrap();
        let longer: Vec<f32> = rows.row(7).iter().map(|x| 5.0 * x).collect();
        for (a, b) in map.project(&longer).iter().zip(map.positions[7]) {
            assert!((a - b).abs() < 1e-6);
        }
    }

    #[test]
    fn positions_are_centred_on_the_gallery() {
        let map = GalleryMap::fit(&rows(), "hash").unwrap();
        for axis in 0..2 {
            let sum: f32 = map.positions.iter().map(|p| p[axis]).sum();
            assert!(sum.abs() < 1e-4);
        }
    }

    #[test]
    fn one_dimension_still_has_a_map() {
        let rows = EmbeddingRows::from_values(vec![1.0, -1.0, 2.0], 1).unwrap();
        let map = GalleryMap::fit(&rows, "hash").unwrap();
        assert_eq!(map.explained[1], 0.0);
        assert!(map.positions.iter().all(|p| p[1] == 0.0));
    }
}
