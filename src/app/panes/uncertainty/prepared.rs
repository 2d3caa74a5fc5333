//! What the plots show of one result (and the one it is compared with), worked out once and kept
//! until another result or another order is shown.

use std::sync::Arc;

use super::order::{Arrangement, Order};
use crate::app::gpu::density::Column;
use crate::app::panes::axes::Range;
use crate::session::result::QueryResult;

/// Share of the dimensions that the first view may leave outside at either end, so that a few
/// extreme dimensions do not flatten all others.
const OUTSIDE: f64 = 0.005;

/// Plot data of one result.
pub struct Prepared {
    pub result: Arc<QueryResult>,
    /// B of a comparison, if its distribution has as many dimensions.
    pub other: Option<Other>,
    pub order: Order,
    pub arrangement: Arrangement,
    /// By position, each dimension's peak at 1.
    pub own_scale: Arc<[Column]>,
    /// By position, the highest peak of all at 1.
    pub common_scale: Arc<[Column]>,
    /// Density of the highest peak, per unit.
    pub highest_peak: f64,
    /// `[D]` total variance by dimension.
    pub total: Vec<f64>,
    /// Samples as points: position + 0.5, value.
    pub samples: Arc<[[f32; 2]]>,
    /// The query's embedding `[D]`, where it lives in the distribution's own space.
    pub query: Option<Vec<f32>>,
    /// All values that any dimension reaches.
    pub values: Range,
    /// The values shown at first.
    pub first_view: Range,
    /// Dimensions that reach beyond the first view.
    pub outside: usize,
}

/// The compared result.
pub struct Other {
    pub result: Arc<QueryResult>,
    /// `[D]` total variance by dimension.
    pub total: Vec<f64>,
}

impl Prepared {
    /// Whether this is still what `result`, `other` and `order` give.
    pub fn is_of(
        &self,
        result: &Arc<QueryResult>,
        other: Option<&Arc<QueryResult>>,
        order: Order,
    ) -> bool {
        let same_other = match (&self.other, other) {
            (Some(kept), Some(other)) => Arc::ptr_eq(&kept.result, other),
            (None, Some(other)) => other.distribution.dim() != self.result.distribution.dim(),
            (kept, None) => kept.is_none(),
        };
        Arc::ptr_eq(&self.result, result) && same_other && self.order == order
    }

    pub fn new(result: &Arc<QueryResult>, other: Option<&Arc<QueryResult>>, order: Order) -> Self {
        let distribution = &result.distribution;
        let arrangement = Arrangement::new(distribution, order);
        let other = other
            .filter(|other| other.distribution.dim() == distribution.dim())
            .map(|other| Other { result: Arc::clone(other), total: other.distribution.total() });
        let densities = distribution.dimensions();
        let log_peaks: Vec<f64> = densities.iter().map(|d| d.log_prob(d.mu())).collect();
        let highest = log_peaks.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let columns = |peak: &dyn Fn(usize) -> f64| -> Arc<[Column]> {
            let column = |&d: &usize| {
                let density = &densities[d];
                // Shapes beyond this look like steps at any zoom, and f32 powers overflow.
                let beta = density.beta().min(200.0);
                [density.mu(), density.alpha(), beta, peak(d)].map(|v| v as f32)
            };
            arrangement.dimensions.iter().map(column).collect()
        };
        let samples = result
            .samples
            .iter()
            .flat_map(|sample| {
                let positions = &arrangement.positions;
                sample.values.iter().enumerate().filter_map(move |(d, &value)| {
                    positions.get(d).map(|&position| [position as f32 + 0.5, value])
                })
            })
            .collect();
        let query = &result.query_embedding;
        let query = (query.modality == result.space && query.dim() == distribution.dim())
            .then(|| query.values.clone());
        let total = distribution.total();
        let (values, first_view, outside) = value_ranges(result, other.as_ref(), &total);
        Self {
            result: Arc::clone(result),
            order,
            own_scale: columns(&|_| 1.0),
            common_scale: columns(&|d| (log_peaks[d] - highest).exp()),
            highest_peak: highest.exp(),
            total,
            samples,
            query,
            values,
            first_view,
            outside,
            arrangement,
            other,
        }
    }

    /// Number of dimensions.
    pub fn dim(&self) -> usize {
        self.arrangement.dimensions.len()
    }
}

/// All values within three standard deviations, the values shown at first, and how many
/// dimensions reach beyond those.
fn value_ranges(
    result: &QueryResult,
    other: Option<&Other>,
    total: &[f64],
) -> (Range, Range, usize) {
    let reach = |result: &QueryResult, total: &[f64]| -> Vec<Range> {
        let densities = result.distribution.dimensions().iter();
        densities
            .zip(total)
            .map(|(density, variance)| {
                let spread = 3.0 * variance.sqrt();
                Range::new(density.mu() - spread, density.mu() + spread)
            })
            .collect()
    };
    let mut reaches = reach(result, total);
    if let Some(other) = other {
        reaches.extend(reach(&other.result, &other.total));
    }
    let mut lows: Vec<f64> = reaches.iter().map(|r| r.low).collect();
    let mut highs: Vec<f64> = reaches.iter().map(|r| r.high).collect();
    lows.sort_by(f64::total_cmp);
    highs.sort_by(f64::total_cmp);
    let (Some(&low), Some(&high)) = (lows.first(), highs.last()) else {
        return (Range::new(-1.0, 1.0), Range::new(-1.0, 1.0), 0);
    };
    let spare = (reaches.len() as f64 * OUTSIDE).floor() as usize;
    let margin = |range: Range| {
        let margin = (range.width() * 0.04).max(1e-9);
        Range::new(range.low - margin, range.high + margin)
    };
    let values = margin(Range::new(low, high));
    let mut view = margin(Range::new(lows[spare], highs[highs.len() - 1 - spare]));
    // Leaving dimensions out must be worth it.
    if view.width() > 0.6 * values.width() {
        view = values;
    }
    let outside =
        reaches[..total.len()].iter().filter(|r| r.low < view.low || r.high > view.high).count();
    (values, view, outside)
}
