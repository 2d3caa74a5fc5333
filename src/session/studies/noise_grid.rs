//! K embeddings crossed with M decoder noises: how much of the difference between pictures comes
//! from the embedding, and how much from the decoder's noise.

use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::encoder::Embedding;
use crate::session::engine::NoiseGridRequest;
use crate::session::event::Event;
use crate::session::result::Tile;
use crate::session::{Job, NoiseOf, OnEvent, Session, SessionError, guarded};

/// A finished grid.
#[derive(Debug, Clone)]
pub struct NoiseGrid {
    /// K: rows.
    pub embeddings: usize,
    /// M: columns.
    pub noises: usize,
    /// `[K * M]` row by row.
    pub tiles: Vec<Tile>,
    /// Shares of the variance of the re-embedded pictures (two-way ANOVA over unit embeddings,
    /// components of variance by expected mean squares, negative ones set to 0).
    pub embedding_share: Share,
    pub noise_share: Share,
    /// Interaction of the two: what one noise makes of one embedding alone.
    pub interaction_share: Share,
}

/// A share of variance, 0 to 1, with its 90 % jackknife interval over rows and columns; 0 to 1 where
/// there are only two of either.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share {
    pub value: f64,
    pub low: f64,
    pub high: f64,
    /// The component's estimate was negative; the share is then 0.
    pub negative: bool,
}

/// Decodes the grid, embeds its pictures and takes their variance apart.
///
/// # Errors
/// When K or M is below 2 or above the samples there are, models fail, or the job was cancelled.
pub fn cross(
    session: &Session,
    request: &NoiseGridRequest,
    on_event: OnEvent<'_>,
) -> Result<NoiseGrid, SessionError> {
    guarded(|| {
        let (k, m) = (request.embeddings, request.noises);
        let samples = &request.analysis.samples;
        for (what, found, most) in
            [("the number of embeddings", k, samples.len()), ("the number of noises", m, 64)]
        {
            if !(2..=most).contains(&found) {
                return Err(SessionError::OutOfRange {
                    what,
                    found: found.to_string(),
                    expected: format!("2 to {most}"),
                });
            }
        }
        let mut recipe = request.analysis.recipe.clone();
        let steps = recipe.decoding.steps;
        let rows: Vec<Vec<f32>> = samples.iter().take(k).map(|s| s.values.clone()).collect();
        let mut columns: Vec<(Vec<Tile>, Vec<Embedding>)> = Vec::with_capacity(m);
        for noise in 0..m {
            // One progress bar over all columns.
            let mut inner = |event: Event<'_>| match event {
                Event::Progress { done, total } => {
                    let done = noise * total + done;
                    on_event(Event::Progress { done, total: m * total })
                }
                other => on_event(other),
            };
            let mut job = Job::new(&mut inner);
            let decoded = session
                .decode_embeddings(
                    &mut recipe,
                    rows.clone(),
                    NoiseOf::Tile(noise as u64),
                    None,
                    &mut job,
                    &mut |_| {},
                )?
                .ok_or_else(|| SessionError::Mismatch("the recipe names no decoder".to_owned()))?;
            columns.push((decoded.tiles, decoded.seen));
        }
        tracing::debug!(k, m, steps, "grid decoded");
        let at = |row: usize, column: usize| columns[column].1[row].unit();
        let cells: Vec<Vec<f32>> = (0..k)
            .flat_map(|row| (0..m).map(move |column| (row, column)))
            .map(|(r, c)| at(r, c))
            .collect();
        let shares = shares_with_intervals(&cells, k, m);
        let tiles = (0..k)
            .flat_map(|row| (0..m).map(move |column| (row, column)))
            .map(|(row, column)| columns[column].0[row].clone())
            .collect();
        Ok(NoiseGrid {
            embeddings: k,
            noises: m,
            tiles,
            embedding_share: shares[0],
            noise_share: shares[1],
            interaction_share: shares[2],
        })
    })
}

/// Components of variance of rows, columns and their interaction, summed over dimensions.
///
/// Two-way random effects without replication (Searle, Casella and McCulloch, *Variance
/// Components*, 1992, chapter 4): E MS_rows = M σ²_rows + σ²_rest, and so on.
fn components<'a>(cell: impl Fn(usize, usize) -> &'a [f32], k: usize, m: usize) -> [f64; 3] {
    let dim = cell(0, 0).len();
    let (mut rows, mut columns, mut rest) = (0.0, 0.0, 0.0);
    for d in 0..dim {
        let x = |r: usize, c: usize| f64::from(cell(r, c)[d]);
        let row_mean: Vec<f64> =
            (0..k).map(|r| (0..m).map(|c| x(r, c)).sum::<f64>() / m as f64).collect();
        let column_mean: Vec<f64> =
            (0..m).map(|c| (0..k).map(|r| x(r, c)).sum::<f64>() / k as f64).collect();
        let grand = row_mean.iter().sum::<f64>() / k as f64;
        rows += m as f64 * row_mean.iter().map(|v| (v - grand).powi(2)).sum::<f64>();
        columns += k as f64 * column_mean.iter().map(|v| (v - grand).powi(2)).sum::<f64>();
        for (r, row) in row_mean.iter().enumerate() {
            for (c, column) in column_mean.iter().enumerate() {
                rest += (x(r, c) - row - column + grand).powi(2);
            }
        }
    }
    let (free_rows, free_columns) = ((k - 1) as f64, (m - 1) as f64);
    let rest = rest / (free_rows * free_columns);
    let rows = (rows / free_rows - rest) / m as f64;
    let columns = (columns / free_columns - rest) / k as f64;
    [rows, columns, rest]
}

/// Shares of the components; negative ones count as 0.
fn shares(components: [f64; 3]) -> [f64; 3] {
    let positive = components.map(|v| v.max(0.0));
    let total: f64 = positive.iter().sum();
    positive.map(|v| if total > 0.0 { v / total } else { 0.0 })
}

/// The shares with delete-one jackknife intervals over rows and over columns (Efron and Stein, Annals
/// of Statistics 9(3), 1981), by Student's t with the degrees of freedom of the smaller side. A
/// bootstrap would not do: a row that is drawn twice agrees with itself, which takes from the
/// interaction and gives to the rows.
fn shares_with_intervals(cells: &[Vec<f32>], k: usize, m: usize) -> [Share; 3] {
    let found = components(|r, c| &cells[r * m + c], k, m);
    let values = shares(found);
    // What is left after one of two rows or columns goes has no variance.
    let deviations = (k.min(m) >= 3).then(|| {
        let without = |gone: usize| move |i: usize| if i < gone { i } else { i + 1 };
        let rows: Vec<[f64; 3]> = (0..k)
            .map(|gone| {
                let row = without(gone);
                shares(components(|r, c| &cells[row(r) * m + c], k - 1, m))
            })
            .collect();
        let columns: Vec<[f64; 3]> = (0..m)
            .map(|gone| {
                let column = without(gone);
                shares(components(|r, c| &cells[r * m + column(c)], k, m - 1))
            })
            .collect();
        std::array::from_fn::<f64, 3, _>(|i| {
            (jackknife_variance(&rows, i) + jackknife_variance(&columns, i)).sqrt()
        })
    });
    let t =
        StudentsT::new(0.0, 1.0, (k.min(m) - 1) as f64).map_or(f64::NAN, |t| t.inverse_cdf(0.95));
    std::array::from_fn(|i| {
        let (low, high) = match deviations {
            Some(deviations) => (values[i] - t * deviations[i], values[i] + t * deviations[i]),
            None => (0.0, 1.0),
        };
        Share {
            value: values[i],
            low: low.clamp(0.0, 1.0),
            high: high.clamp(0.0, 1.0),
            negative: found[i] < 0.0,
        }
    })
}

/// (n - 1) / n times the sum of squared deviations of the leave-one-out values.
fn jackknife_variance(left_out: &[[f64; 3]], i: usize) -> f64 {
    let n = left_out.len() as f64;
    let mean = left_out.iter().map(|shares| shares[i]).sum::<f64>() / n;
    (n - 1.0) / n * left_out.iter().map(|shares| (shares[i] - mean).powi(2)).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cells `row effect + column effect` in two dimensions.
    fn grid(rows: &[f32], columns: &[f32]) -> Vec<Vec<f32>> {
        rows.iter().flat_map(|r| columns.iter().map(move |c| vec![r + c, 0.0])).collect()
    }

    #[test]
    fn rows_alone_get_the_whole_share() {
        let cells = grid(&[0.0, 1.0, 2.0], &[0.0; 4]);
        let [rows, columns, rest] = shares_with_intervals(&cells, 3, 4);
        assert_eq!((rows.value, columns.value, rest.value), (1.0, 0.0, 0.0));
    }

    #[test]
    fn additive_effects_are_told_apart_by_their_variances() {
        // Sample variances of the effects: 1 for rows, 4 for columns.
        let cells = grid(&[0.0, 1.0, 2.0], &[0.0, 2.0, 4.0]);
        let [rows, columns, rest] = components(|r, c| &cells[r * 3 + c], 3, 3);
        assert!((rows - 1.0).abs() < 1e-9 && (columns - 4.0).abs() < 1e-9 && rest.abs() < 1e-9);
        let [row_share, column_share, _] = shares([rows, columns, rest]);
        assert!((row_share - 0.2).abs() < 1e-9 && (column_share - 0.8).abs() < 1e-9);
    }

    #[test]
    fn intervals_hold_their_share_and_narrow_with_more_rows_and_columns() {
        let noisy = |k: usize, m: usize| -> Vec<Vec<f32>> {
            let value = |r: usize, c: usize| {
                let (r, c) = (r as f32, c as f32);
                (1.7 * r).sin() + 0.5 * (2.3 * c).cos() + 0.3 * (5.1 * r + 3.7 * c).sin()
            };
            (0..k).flat_map(|r| (0..m).map(move |c| vec![value(r, c)])).collect()
        };
        let width = |k, m| -> f64 {
            let shares = shares_with_intervals(&noisy(k, m), k, m);
            for share in shares {
                assert!(share.low <= share.value && share.value <= share.high, "{share:?}");
            }
            shares.iter().map(|share| share.high - share.low).sum()
        };
        assert!(width(12, 12) < width(4, 4));
        // Two rows say nothing of how far they can be trusted.
        assert_eq!(width(2, 4), 3.0);
    }

    #[test]
    fn a_negative_component_is_marked_and_counts_as_none() {
        // Pure interaction: row and column means are all equal.
        let cells = vec![vec![1.0], vec![-1.0], vec![-1.0], vec![1.0]];
        let [rows, _, rest] = shares_with_intervals(&cells, 2, 2);
        assert!(rows.negative && rows.value == 0.0);
        assert_eq!(rest.value, 1.0);
    }
}
