//! Kronecker factors of a projection layer's posterior, and the posterior that follows from them.

use faer::linalg::solvers::DenseSolveCore;
use faer::{Mat, Side};
use rayon::prelude::*;

use crate::adapter::AdapterError;

/// Rows multiplied at a time.
const BLOCK: usize = 256;
/// How far a factor may be from symmetric, as a share of its largest number: rounding of f32.
const ASYMMETRY: f64 = 1e-3;

/// K-FAC factors of the generalised Gauss-Newton matrix of a layer `y = W φ`, W `[D, P]`: the
/// Hessian of the loss of all items is about A ⊗ B (BayesVLM, arXiv 2412.06014).
#[derive(Debug, Clone, PartialEq)]
pub struct KroneckerFactors {
    /// Σ φ φᵀ / √N over N items, `[P, P]`.
    pub a: Mat<f64>,
    /// Σ Jᵀ H J / √N over N items, `[D, D]`: the Hessian of the loss for y.
    pub b: Mat<f64>,
    /// How often the N items count; the authors' files have 1.
    pub pseudo_count: f64,
    /// Precision λ of the Gaussian prior of every weight.
    pub prior_precision: f64,
}

impl KroneckerFactors {
    /// The posterior of W: with A ← √n A + √λ I and B ← √n B + √λ I, the matrix normal
    /// N(W; Ŵ, A⁻¹ ⊗ B⁻¹).
    ///
    /// # Errors
    /// When count or precision are no positive numbers, or a factor is not square, symmetric,
    /// finite and positive definite after the prior is added. `what` names the layer.
    pub fn posterior(&self, what: &str) -> Result<Posterior, AdapterError> {
        for (name, value) in
            [("pseudo count", self.pseudo_count), ("prior precision", self.prior_precision)]
        {
            if !(value.is_finite() && value > 0.0) {
                return Err(unusable(format!(
                    "the {name} of the {what} projection is {value}, expected a positive number"
                )));
            }
        }
        let with_prior = |factor: &Mat<f64>, name: &str| {
            let named = format!("factor {name} of the {what} projection");
            let symmetric = symmetrised(factor, &named)?;
            let (scale, prior) = (self.pseudo_count.sqrt(), self.prior_precision.sqrt());
            let sum = Mat::from_fn(symmetric.nrows(), symmetric.ncols(), |i, j| {
                scale * symmetric[(i, j)] + if i == j { prior } else { 0.0 }
            });
            inverse(&sum, &named)
        };
        let a_inverse = with_prior(&self.a, "A")?;
        let b_inverse = with_prior(&self.b, "B")?;
        let b_diagonal = (0..b_inverse.nrows()).map(|d| b_inverse[(d, d)]).collect();
        Ok(Posterior { a_inverse, b_diagonal })
    }
}

/// Covariance of a projection's outputs, as far as it is used: diagonal over dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct Posterior {
    /// A⁻¹ `[P, P]`.
    a_inverse: Mat<f64>,
    /// Diagonal of B⁻¹, `[D]`.
    b_diagonal: Vec<f64>,
}

impl Posterior {
    /// From A⁻¹ and the diagonal of B⁻¹, as the authors' model files hold them.
    ///
    /// # Errors
    /// When A⁻¹ is not square, symmetric, finite and positive definite, or the diagonal not
    /// positive. `what` names the layer.
    pub fn new(
        a_inverse: Mat<f64>,
        b_diagonal: Vec<f64>,
        what: &str,
    ) -> Result<Self, AdapterError> {
        let named = format!("A⁻¹ of the {what} projection");
        let a_inverse = symmetrised(&a_inverse, &named)?;
        if a_inverse.llt(Side::Lower).is_err() {
            return Err(not_positive(&named));
        }
        if let Some(d) = b_diagonal.iter().position(|b| !(b.is_finite() && *b > 0.0)) {
            return Err(unusable(format!(
                "the diagonal of B⁻¹ of the {what} projection is {} in dimension {d}, expected a \
                 positive number",
                b_diagonal[d]
            )));
        }
        Ok(Self { a_inverse, b_diagonal })
    }

    /// A⁻¹ `[P, P]`.
    pub fn a_inverse(&self) -> &Mat<f64> {
        &self.a_inverse
    }

    /// (B⁻¹)_dd, `[D]`.
    pub fn b_diagonal(&self) -> &[f64] {
        &self.b_diagonal
    }

    /// φᵀ A⁻¹ φ of each row of `[N, P]` features. A factor with one more row than features
    /// belongs to a layer with a bias (SigLIP's), whose input is 1.
    ///
    /// # Errors
    /// When the features are no whole rows of P or P - 1 finite numbers, `width` each.
    pub fn input_variance(&self, features: &[f32], width: usize) -> Result<Vec<f64>, AdapterError> {
        let size = self.a_inverse.nrows();
        if width == 0
            || (width != size && width + 1 != size)
            || !features.len().is_multiple_of(width)
        {
            return Err(AdapterError::Dimension { found: width, expected: size });
        }
        if let Some(at) = features.iter().position(|v| !v.is_finite()) {
            return Err(AdapterError::NotFinite { dimension: at % width, found: features[at] });
        }
        let blocks = features.par_chunks(BLOCK * width).map(|rows| {
            let count = rows.len() / width;
            let phi = Mat::from_fn(count, size, |i, j| match j < width {
                true => f64::from(rows[i * width + j]),
                false => 1.0,
            });
            let product = &phi * &self.a_inverse;
            let of = |i| (0..size).map(|j| product[(i, j)] * phi[(i, j)]).sum::<f64>().max(0.0);
            (0..count).map(of).collect::<Vec<f64>>()
        });
        Ok(blocks.collect::<Vec<_>>().concat())
    }
}

/// The mean of a matrix and its transpose, which must be about equal.
fn symmetrised(matrix: &Mat<f64>, named: &str) -> Result<Mat<f64>, AdapterError> {
    let (rows, columns) = (matrix.nrows(), matrix.ncols());
    if rows == 0 || rows != columns {
        return Err(unusable(format!("{named} is [{rows}, {columns}], expected a square matrix")));
    }
    let (mut largest, mut difference) = (0f64, 0f64);
    for j in 0..columns {
        for i in 0..rows {
            let value = matrix[(i, j)];
            if !value.is_finite() {
                return Err(unusable(format!("{named} is {value} at [{i}, {j}]")));
            }
            largest = largest.max(value.abs());
            difference = difference.max((value - matrix[(j, i)]).abs());
        }
    }
    if difference > ASYMMETRY * largest {
        return Err(unusable(format!(
            "{named} differs from its transpose by {difference} where its numbers reach {largest}, \
             expected a symmetric matrix"
        )));
    }
    Ok(Mat::from_fn(rows, columns, |i, j| 0.5 * (matrix[(i, j)] + matrix[(j, i)])))
}

fn inverse(matrix: &Mat<f64>, named: &str) -> Result<Mat<f64>, AdapterError> {
    let factor = matrix.llt(Side::Lower).map_err(|_| not_positive(named))?;
    Ok(factor.inverse())
}

fn not_positive(named: &str) -> AdapterError {
    unusable(format!(
        "{named} is not positive definite; the file is damaged, or the prior precision is too small"
    ))
}

pub(super) fn unusable(reason: String) -> AdapterError {
    AdapterError::Fit { what: "BayesVLM posterior", reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, standard_normal};

    fn matrix(rows: &[&[f64]]) -> Mat<f64> {
        Mat::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
    }

    fn factors() -> KroneckerFactors {
        KroneckerFactors {
            a: matrix(&[&[1.0, 1.0], &[1.0, 4.0]]),
            b: matrix(&[&[2.0, 0.0, 1.0], &[0.0, 1.0, 0.0], &[1.0, 0.0, 3.0]]),
            pseudo_count: 4.0,
            prior_precision: 9.0,
        }
    }

    #[test]
    fn the_variance_is_the_value_worked_out_by_hand() {
        // A = 2 [1 1; 1 4] + 3 I = [5 2; 2 11], det 51, inverse [11 -2; -2 5] / 51.
        // B = [7 0 2; 0 5 0; 2 0 9], inverse diagonal 9/59, 1/5, 7/59.
        let posterior = factors().posterior("image").unwrap();
        let expected = (11.0 - 2.0 * 2.0 * 3.0 + 5.0 * 9.0) / 51.0;
        let found = posterior.input_variance(&[1.0, 3.0, 0.0, 1.0], 2).unwrap();
        assert!((found[0] - expected).abs() < 1e-12 && (found[1] - 5.0 / 51.0).abs() < 1e-12);
        for (found, expected) in posterior.b_diagonal().iter().zip([9.0 / 59.0, 0.2, 7.0 / 59.0]) {
            assert!((found - expected).abs() < 1e-12);
        }
        // A layer with a bias: the last feature is 1.
        let with_bias = posterior.input_variance(&[1.0], 1).unwrap();
        assert!((with_bias[0] - (11.0 - 4.0 + 5.0) / 51.0).abs() < 1e-12);
    }

    #[test]
    fn projections_by_weights_drawn_from_the_posterior_have_this_variance() {
        let factors = factors();
        let posterior = factors.posterior("text").unwrap();
        let phi = [0.7f32, -1.2];
        let quadratic = posterior.input_variance(&phi, 2).unwrap()[0];
        // W = L_B Z L_Aᵀ has covariance A⁻¹ ⊗ B⁻¹ when L Lᵀ is the inverse of each factor.
        let add = |m: &Mat<f64>| {
            Mat::from_fn(m.nrows(), m.nrows(), |i, j| {
                2.0 * m[(i, j)] + if i == j { 3.0 } else { 0.0 }
            })
        };
        let root = |m: &Mat<f64>| {
            let inverse = add(m).llt(Side::Lower).unwrap().inverse();
            inverse.llt(Side::Lower).unwrap().L().to_owned()
        };
        let (left, right) = (root(&factors.b), root(&factors.a));
        let count = 60_000;
        let noise = standard_normal(4, Stream::Resampling, 0, count * 6);
        let mut squares = [0.0; 3];
        for z in noise.chunks_exact(6) {
            let z = Mat::from_fn(3, 2, |i, j| f64::from(z[i * 2 + j]));
            let weights = &left * &z * right.transpose();
            for (d, sum) in squares.iter_mut().enumerate() {
                let y: f64 = (0..2).map(|p| weights[(d, p)] * f64::from(phi[p])).sum();
                *sum += y * y;
            }
        }
        for (squares, b) in squares.iter().zip(posterior.b_diagonal()) {
            let (sampled, formula) = (squares / count as f64, quadratic * b);
            // 4 standard errors of a sample variance.
            let tolerance = 4.0 * (2.0 / count as f64).sqrt();
            assert!((sampled / formula - 1.0).abs() < tolerance, "{sampled} {formula}");
        }
    }

    #[test]
    fn factors_without_an_inverse_are_refused_by_name() {
        let refused = |change: &dyn Fn(&mut KroneckerFactors), words: &str| {
            let mut factors = factors();
            change(&mut factors);
            let message = factors.posterior("image").unwrap_err().to_string();
            assert!(message.contains(words) && message.contains("image"), "{message}");
        };
        refused(&|f| f.a = matrix(&[&[1.0, 0.0], &[0.0, -9.0]]), "factor A");
        refused(&|f| f.a = matrix(&[&[1.0, 0.0], &[0.0, -9.0]]), "not positive definite");
        refused(&|f| f.b = matrix(&[&[1.0, 0.0]]), "[1, 2], expected a square");
        refused(&|f| f.a = matrix(&[&[1.0, 2.0], &[0.0, 9.0]]), "transpose");
        refused(&|f| f.b[(0, 1)] = f64::NAN, "NaN at [0, 1]");
        refused(&|f| f.prior_precision = 0.0, "prior precision");
        let posterior = factors().posterior("image").unwrap();
        assert!(posterior.input_variance(&[1.0; 6], 3).is_err());
        assert!(posterior.input_variance(&[1.0; 3], 2).is_err());
        assert!(posterior.input_variance(&[1.0, f32::NAN], 2).is_err());
        let negative = Posterior::new(matrix(&[&[1.0]]), vec![1.0, -1.0], "text").unwrap_err();
        assert!(negative.to_string().contains("dimension 1"), "{negative}");
    }
}
