//! What the plots of one result need, computed once.

use std::sync::Arc;

use statrs::function::gamma::ln_gamma;

use crate::app::gpu::DensityRow;
use crate::distribution::GeneralizedGaussian;
use crate::session::result::QueryResult;

/// Order of the dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sort {
    #[default]
    Total,
    Aleatoric,
    Epistemic,
    Index,
}

impl Sort {
    pub const ALL: [Sort; 4] = [Sort::Total, Sort::Aleatoric, Sort::Epistemic, Sort::Index];

    pub fn name(self) -> &'static str {
        match self {
            Sort::Total => "by total \u{3c3}",
            Sort::Aleatoric => "by aleatoric \u{3c3}",
            Sort::Epistemic => "by epistemic \u{3c3}",
            Sort::Index => "by index",
        }
    }
}

/// One result, ready to be drawn.
pub struct Prepared {
    result: Arc<QueryResult>,
    sort: Sort,
    /// Dimensions in the order of the plot.
    pub order: Vec<usize>,
    /// Place in that order, by dimension.
    pub place: Vec<usize>,
    /// Densities in that order.
    pub rows: Arc<Vec<DensityRow>>,
    /// Values between which nearly all densities lie.
    pub values: [f32; 2],
    /// By dimension.
    pub aleatoric: Vec<f64>,
    pub epistemic: Vec<f64>,
    pub total: Vec<f64>,
}

impl Prepared {
    pub fn new(result: &Arc<QueryResult>, sort: Sort) -> Self {
        let distribution = &result.distribution;
        let total = distribution.total();
        let key = |d: usize| match sort {
            Sort::Total => total[d],
            Sort::Aleatoric => distribution.aleatoric()[d],
            Sort::Epistemic => distribution.epistemic()[d],
            Sort::Index => -(d as f64),
        };
        let mut order: Vec<usize> = (0..distribution.dim()).collect();
        order.sort_by(|&a, &b| key(b).total_cmp(&key(a)).then(a.cmp(&b)));
        let mut place = vec![0; order.len()];
        for (at, &d) in order.iter().enumerate() {
            place[d] = at;
        }
        let peaks: Vec<f64> = distribution.dimensions().iter().map(log_peak).collect();
        let largest = peaks.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let row = |&d: &usize| {
            let density = &distribution.dimensions()[d];
            DensityRow {
                mu: density.mu() as f32,
                alpha: density.alpha() as f32,
                beta: density.beta() as f32,
                peak: (peaks[d] - largest).exp() as f32,
            }
        };
        Self {
            rows: Arc::new(order.iter().map(row).collect()),
            values: values(result),
            aleatoric: distribution.aleatoric().to_vec(),
            epistemic: distribution.epistemic().to_vec(),
            result: Arc::clone(result),
            sort,
            order,
            place,
            total,
        }
    }

    /// Whether this was made from that result in that order.
    pub fn fits(&self, result: &Arc<QueryResult>, sort: Sort) -> bool {
        self.sort == sort && Arc::ptr_eq(&self.result, result)
    }

    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// The dimensions of largest total variance.
    pub fn most_uncertain(&self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.total.len()).collect();
        order.sort_by(|&a, &b| self.total[b].total_cmp(&self.total[a]).then(a.cmp(&b)));
        order.truncate(count);
        order
    }
}

/// Logarithm of the density at its mode: β / (2 α Γ(1/β)).
fn log_peak(density: &GeneralizedGaussian) -> f64 {
    let (alpha, beta) = (density.alpha(), density.beta());
    beta.ln() - (2.0 * alpha).ln() - ln_gamma(1.0 / beta)
}

/// From the lowest to the highest value of interest: three standard deviations around most means.
fn values(result: &QueryResult) -> [f32; 2] {
    let densities = result.distribution.dimensions();
    let mut low: Vec<f64> = densities.iter().map(|d| d.mu() - 3.0 * d.std_dev()).collect();
    let mut high: Vec<f64> = densities.iter().map(|d| d.mu() + 3.0 * d.std_dev()).collect();
    low.sort_by(f64::total_cmp);
    high.sort_by(f64::total_cmp);
    // A few dimensions of huge range would flatten all others.
    let cut = densities.len() / 50;
    let (low, high) = (low[cut], high[high.len() - 1 - cut]);
    let margin = 0.02 * (high - low).max(1e-6);
    [(low - margin) as f32, (high + margin) as f32]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_the_density_at_the_mode() {
        for (alpha, beta) in [(0.5, 2.0), (2.0, 1.0), (0.1, 0.7)] {
            let density = GeneralizedGaussian::new(0.3, alpha, beta).unwrap();
            assert!((log_peak(&density) - density.log_prob(0.3)).abs() < 1e-9);
        }
    }
}
