//! In which order the dimensions stand along x.

use crate::distribution::EmbeddingDistribution;

/// Sort key of the dimensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// As the embedding has them.
    Index,
    #[default]
    Total,
    Aleatoric,
    Epistemic,
}

impl Order {
    pub const ALL: [Order; 4] = [Order::Index, Order::Total, Order::Aleatoric, Order::Epistemic];

    /// What the axis label says after "dimension, ".
    pub fn label(self) -> &'static str {
        match self {
            Order::Index => "by index",
            Order::Total => "by total σ",
            Order::Aleatoric => "by aleatoric σ",
            Order::Epistemic => "by epistemic σ",
        }
    }
}

/// A permutation of the dimensions and its inverse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrangement {
    /// `[D]` dimension at each position.
    pub dimensions: Vec<usize>,
    /// `[D]` position of each dimension.
    pub positions: Vec<usize>,
}

impl Arrangement {
    /// Sorted by falling variance, which is falling σ; ties and [`Order::Index`] by index.
    pub fn new(distribution: &EmbeddingDistribution, order: Order) -> Self {
        let key = match order {
            Order::Index => Vec::new(),
            Order::Total => distribution.total(),
            Order::Aleatoric => distribution.aleatoric().to_vec(),
            Order::Epistemic => distribution.epistemic().to_vec(),
        };
        let mut dimensions: Vec<usize> = (0..distribution.dim()).collect();
        if order != Order::Index {
            dimensions.sort_by(|&a, &b| key[b].total_cmp(&key[a]).then(a.cmp(&b)));
        }
        let mut positions = vec![0; dimensions.len()];
        for (position, &dimension) in dimensions.iter().enumerate() {
            positions[dimension] = position;
        }
        Self { dimensions, positions }
    }
}

/// The `count` dimensions of largest total variance, largest first.
pub fn most_uncertain(distribution: &EmbeddingDistribution, count: usize) -> Vec<usize> {
    let mut dimensions = Arrangement::new(distribution, Order::Total).dimensions;
    dimensions.truncate(count);
    dimensions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::distribution::GeneralizedGaussian;

    fn distribution() -> EmbeddingDistribution {
        let dimension = |sigma| GeneralizedGaussian::gaussian(0.0, sigma).unwrap();
        let dimensions = [0.1, 0.3, 0.2, 0.3].map(dimension).to_vec();
        EmbeddingDistribution::new(dimensions, vec![0.5, 0.0, 0.1, 0.0]).unwrap()
    }

    #[test]
    fn dimensions_stand_from_the_largest_to_the_smallest_of_the_key() {
        let sorted = |order| Arrangement::new(&distribution(), order).dimensions;
        assert_eq!(sorted(Order::Index), [0, 1, 2, 3]);
        assert_eq!(sorted(Order::Aleatoric), [1, 3, 2, 0]);
        assert_eq!(sorted(Order::Epistemic), [0, 2, 1, 3]);
        assert_eq!(sorted(Order::Total), [0, 2, 1, 3]);
        assert_eq!(most_uncertain(&distribution(), 2), [0, 2]);
        assert_eq!(most_uncertain(&distribution(), 99).len(), 4);
    }

    #[test]
    fn positions_are_the_inverse_of_dimensions() {
        for order in Order::ALL {
            let Arrangement { dimensions, positions } = Arrangement::new(&distribution(), order);
            for (position, &dimension) in dimensions.iter().enumerate() {
                assert_eq!(positions[dimension], position);
            }
        }
    }
}
