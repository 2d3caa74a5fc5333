//! Mean ± k σ along chosen dimensions, decoded: what those dimensions mean.

use crate::encoder::cosine;
use crate::session::engine::TraverseRequest;
use crate::session::result::Tile;
use crate::session::{Job, NoiseOf, OnEvent, Session, SessionError, guarded};

/// A finished walk.
#[derive(Debug, Clone)]
pub struct Traverse {
    pub dimensions: Vec<usize>,
    /// k of every tile.
    pub offsets: Vec<f64>,
    pub tiles: Vec<Tile>,
    /// Cosine between the moved embedding and the mean, per tile.
    pub cosine_to_mean: Vec<f64>,
}

/// Decodes the walk. All tiles start from the same noise.
///
/// # Errors
/// When no dimension or one that does not exist is named, no decoder is, models fail, or the job
/// was cancelled.
pub fn walk(
    session: &Session,
    request: &TraverseRequest,
    on_event: OnEvent<'_>,
) -> Result<Traverse, SessionError> {
    guarded(|| {
        let distribution = &request.analysis.distribution;
        let dim = distribution.dim();
        if request.dimensions.is_empty() || request.dimensions.iter().any(|&d| d >= dim) {
            return Err(SessionError::OutOfRange {
                what: "the list of dimensions",
                found: format!("{:?}", request.dimensions),
                expected: format!("at least one, each from 0 to {}", dim - 1),
            });
        }
        let mean = distribution.mean();
        let deviations: Vec<f64> = distribution.total().iter().map(|v| v.sqrt()).collect();
        let moved = moved(&mean, &deviations, &request.dimensions, &request.offsets);
        let cosine_to_mean = moved.iter().map(|values| cosine(values, &mean)).collect();
        let mut recipe = request.analysis.recipe.clone();
        let mut job = Job::new(on_event);
        let decoded = session
            .decode_embeddings(&mut recipe, moved, NoiseOf::Tile(0), None, &mut job, &mut |_| {})?
            .ok_or_else(|| SessionError::Mismatch("the recipe names no decoder".to_owned()))?;
        Ok(Traverse {
            dimensions: request.dimensions.clone(),
            offsets: request.offsets.clone(),
            tiles: decoded.tiles,
            cosine_to_mean,
        })
    })
}

/// The mean with the chosen dimensions moved by each offset times their standard deviation.
fn moved(mean: &[f32], deviations: &[f64], dimensions: &[usize], offsets: &[f64]) -> Vec<Vec<f32>> {
    let at = |&offset: &f64| {
        let mut values = mean.to_vec();
        for &d in dimensions {
            values[d] += (offset * deviations[d]) as f32;
        }
        values
    };
    offsets.iter().map(at).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_chosen_dimensions_move_each_by_its_own_deviation() {
        let all = moved(&[1.0, 2.0, 3.0], &[0.5, 1.0, 2.0], &[0, 2], &[-1.0, 0.0, 2.0]);
        assert_eq!(all, [[0.5, 2.0, 1.0], [1.0, 2.0, 3.0], [2.0, 2.0, 7.0]]);
    }
}
