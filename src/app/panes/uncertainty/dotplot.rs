//! A quantile dotplot: fifty dots stand for equal shares of a distribution, stacked where they
//! are close, so that shares can be counted.
//!
//! Fifty dots led to better decisions than densities and intervals in Fernandes et al., "Uncertainty
//! displays using quantile dotplots or CDFs improve transit decision-making", CHI 2018.

use crate::app::panes::axes::Range;

/// One dot: its column from the left and its place in the stack, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dot {
    pub column: usize,
    pub height: usize,
}

/// Values of the dots: the middles between neighbouring quantiles, one dot for each equal share.
pub fn values(quantiles: &[f64]) -> Vec<f64> {
    quantiles.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).collect()
}

/// Stacks dots of ascending `values` into columns over `range`.
pub fn stack(values: &[f64], range: &Range, columns: usize) -> Vec<Dot> {
    let last = columns.saturating_sub(1);
    let mut heights = vec![0; columns.max(1)];
    values
        .iter()
        .map(|&value| {
            let share = range.share(value);
            let column = ((share * columns as f64).max(0.0) as usize).min(last);
            let dot = Dot { column, height: heights[column] };
            heights[column] += 1;
            dot
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_one_quantiles_give_fifty_dots() {
        let quantiles: Vec<f64> = (0..=50).map(f64::from).collect();
        let dots = values(&quantiles);
        assert_eq!(dots.len(), 50);
        assert_eq!((dots[0], dots[49]), (0.5, 49.5));
        assert!(values(&[]).is_empty());
    }

    #[test]
    fn every_dot_has_a_place_of_its_own() {
        let values: Vec<f64> = (0..50).map(|i| f64::from(i * i)).collect();
        let dots = stack(&values, &Range::new(0.0, 2401.0), 20);
        assert_eq!(dots.len(), 50);
        for (i, dot) in dots.iter().enumerate() {
            assert!(dot.column < 20);
            assert!(!dots[..i].contains(dot));
        }
        // More values are small than large.
        assert!(dots.iter().filter(|dot| dot.column < 5).count() > 20);
    }
}
