//! Exact search by cosine over all rows, for many queries at once.
//!
//! Rows are scored in f32, tile by tile. A row whose score plus the largest error of f32 stays
//! below what is needed is passed over; every other row is scored again in f64, and the f64
//! scores alone decide. So the result is the order of f64 cosines with ties by the lower id, on
//! every machine and for any number of threads, and its cost is that of the f32 pass. Memory
//! grows with queries and hits, not with rows, apart from one f32 per row.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use rayon::prelude::*;

use super::dot::{LANES, cosine, error_bound, exact_norm, padded, products};
use super::{EmbeddingRows, GalleryError};
use crate::encoder::norm;

/// Numbers of a tile of rows: 256 KiB of f32, which stays in a core's second-level cache.
const TILE_NUMBERS: usize = 1 << 16;

/// Scores held at a time, 16 MiB, unless the tiles of all threads need more.
const SCORES: usize = 1 << 22;

/// Norms for which products of f32 neither overflow nor lose digits; other rows skip the f32 pass.
const SAFE_NORMS: std::ops::Range<f64> = 1e-15..1e15;

/// One result of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// Row of the gallery.
    pub id: usize,
    /// Cosine of query and row.
    pub score: f64,
}

/// Where an item stands among all items of a gallery.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Placement {
    /// 1 for the best match.
    pub rank: usize,
    /// Cosine of query and row.
    pub score: f64,
}

impl Hit {
    /// Best first: by score, then the lower id.
    fn order(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.id.cmp(&other.id))
    }
}

/// Exact search by cosine in a gallery `[N, D]`.
#[derive(Debug)]
pub struct ExactSearch {
    rows: EmbeddingRows,
    /// `[N]`; NaN where the norm is outside [`SAFE_NORMS`], so that every comparison fails.
    inverse_norms: Vec<f32>,
}

impl ExactSearch {
    /// Reads all rows once for their norms.
    ///
    /// # Errors
    /// When a row holds a value that is not finite; names the first.
    pub fn new(rows: EmbeddingRows) -> Result<Self, GalleryError> {
        let dim = rows.dim();
        let tile = (TILE_NUMBERS / dim.max(1)).max(1);
        let mut inverse_norms = vec![0f32; rows.len()];
        let broken = inverse_norms
            .par_chunks_mut(tile)
            .enumerate()
            .filter_map(|(i, inverse_norms)| {
                let first = i * tile;
                let mut values = vec![0.0; inverse_norms.len() * dim];
                rows.read(first..first + inverse_norms.len(), dim, &mut values);
                for (row, inverse) in values.chunks(dim).zip(inverse_norms.iter_mut()) {
                    let length = exact_norm(row);
                    let safe = SAFE_NORMS.contains(&length);
                    *inverse = if safe { length.recip() as f32 } else { f32::NAN };
                }
                let finite = |row: &[f32]| row.iter().all(|v| v.is_finite());
                values.chunks(dim).position(|row| !finite(row)).map(|row| first + row)
            })
            .min();
        match broken {
            Some(row) => Err(GalleryError::NotFinite { what: rows.describe(row) }),
            None => Ok(Self { rows, inverse_norms }),
        }
    }

    /// Number of rows N.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Dimension D.
    pub fn dim(&self) -> usize {
        self.rows.dim()
    }

    /// The rows that are searched.
    pub fn rows(&self) -> &EmbeddingRows {
        &self.rows
    }

    /// The `k` best rows of each query, best first; all N where `k` is larger. Queries are
    /// `[D]` each, of any norm; a zero query has cosine 0 with every row.
    ///
    /// # Errors
    /// When a query has another dimension or a value that is not finite.
    pub fn search(&self, queries: &[Vec<f32>], k: usize) -> Result<Vec<Vec<Hit>>, GalleryError> {
        let k = k.min(self.len());
        let mut best: Vec<_> = queries.iter().map(|_| Best::new(k)).collect();
        self.scan(queries, &mut best, |query, best, first, scores| {
            let mut row = vec![0.0; self.dim()];
            for (id, &score) in (first..).zip(scores) {
                // Written so that a NaN is not passed over.
                let needless = f64::from(score) + query.error < best.needed;
                if !needless {
                    best.offer(Hit { id, score: query.exact(self, id, &mut row) });
                }
            }
        })?;
        Ok(best.into_iter().map(Best::into_hits).collect())
    }

    /// Rank and score of each of `ids` for each query: `[Q][ids]`. The rank counts all rows, also
    /// far beyond what a search would list, in one pass over the gallery.
    ///
    /// # Errors
    /// When an id does not exist, or as [`ExactSearch::search`].
    pub fn ranks_of(
        &self,
        queries: &[Vec<f32>],
        ids: &[usize],
    ) -> Result<Vec<Vec<Placement>>, GalleryError> {
        if let Some(&id) = ids.iter().find(|&&id| id >= self.len()) {
            return Err(GalleryError::NoSuchItem { id, count: self.len() });
        }
        self.check(queries)?;
        let mut counts: Vec<_> = queries
            .par_iter()
            .map(|query| {
                let query = Query::new(query, self);
                let mut row = vec![0.0; self.dim()];
                let score = |&id: &usize| Hit { id, score: query.exact(self, id, &mut row) };
                RankCount::new(ids.iter().map(score).collect())
            })
            .collect();
        self.scan(queries, &mut counts, |query, counts, first, scores| {
            let mut row = vec![0.0; self.dim()];
            for (id, &score) in (first..).zip(scores) {
                counts.add(id, f64::from(score), query.error, || query.exact(self, id, &mut row));
            }
        })?;
        Ok(counts.into_iter().map(|counts| counts.placements()).collect())
    }

    fn check(&self, queries: &[Vec<f32>]) -> Result<(), GalleryError> {
        for (i, query) in queries.iter().enumerate() {
            if query.len() != self.dim() {
                return Err(GalleryError::Dimension {
                    what: format!("query {i}"),
                    found: query.len(),
                    expected: self.dim(),
                });
            }
            if !query.iter().all(|v| v.is_finite()) {
                return Err(GalleryError::NotFinite { what: format!("query {i}") });
            }
        }
        Ok(())
    }

    /// Scores all rows in f32 and hands them to `visit`: for each query its state, the first row
    /// and the scores of consecutive rows. Blocks of rows come in order; within a block, rows are
    /// scored by tiles in parallel and then visited by queries in parallel.
    fn scan<S: Send>(
        &self,
        queries: &[Vec<f32>],
        states: &mut [S],
        visit: impl Fn(&Query, &mut S, usize, &[f32]) + Sync,
    ) -> Result<(), GalleryError> {
        self.check(queries)?;
        if queries.is_empty() {
            return Ok(());
        }
        let padded = padded(self.dim());
        let prepared: Vec<_> = queries.iter().map(|query| Query::new(query, self)).collect();
        let matrix: Vec<f32> =
            queries.iter().flat_map(|query| unit_padded(query, padded)).collect();
        let tile = (TILE_NUMBERS / padded).clamp(LANES, 1024);
        let tile_scores = tile * queries.len();
        let tiles = (SCORES / tile_scores).max(rayon::current_num_threads());
        let mut scores = vec![0f32; tiles.min(self.len().div_ceil(tile)) * tile_scores];
        let block = scores.len() / tile_scores * tile;
        for first in (0..self.len()).step_by(block) {
            let end = self.len().min(first + block);
            let tiles = (end - first).div_ceil(tile);
            let scores = &mut scores[..tiles * tile_scores];
            let rows_of = |t: usize| first + t * tile..end.min(first + (t + 1) * tile);
            scores.par_chunks_mut(tile_scores).enumerate().for_each_init(
                || vec![0f32; tile * padded],
                |values, (t, scores)| self.score_tile(rows_of(t), &matrix, values, scores),
            );
            let scores = &*scores;
            prepared.par_iter().zip(&mut *states).enumerate().for_each(|(q, (query, state))| {
                for (t, scores) in scores.chunks(tile_scores).enumerate() {
                    let rows = rows_of(t);
                    let scores = &scores[q * rows.len()..(q + 1) * rows.len()];
                    visit(query, state, rows.start, scores);
                }
            });
        }
        Ok(())
    }

    /// f32 cosines of the queries `matrix` `[Q, P]` and a tile of rows, as `[Q, rows]` at the
    /// start of `scores`. `values` has room for the tile; what pads its rows is zero and stays so.
    fn score_tile(
        &self,
        rows: std::ops::Range<usize>,
        matrix: &[f32],
        values: &mut [f32],
        scores: &mut [f32],
    ) {
        let padded = padded(self.dim());
        let values = &mut values[..rows.len() * padded];
        self.rows.read(rows.clone(), padded, values);
        let scores = &mut scores[..matrix.len() / padded * rows.len()];
        products(matrix, values, padded, scores);
        let inverse_norms = &self.inverse_norms[rows.clone()];
        for scores in scores.chunks_mut(rows.len()) {
            scores.iter_mut().zip(inverse_norms).for_each(|(score, inverse)| *score *= inverse);
        }
    }
}

/// A query with what its exact scores need.
struct Query<'a> {
    values: &'a [f32],
    norm: f64,
    /// How far an f32 score may be from the exact one.
    error: f64,
}

impl<'a> Query<'a> {
    fn new(values: &'a [f32], search: &ExactSearch) -> Self {
        Self { values, norm: norm(values), error: error_bound(padded(search.dim())) }
    }

    fn exact(&self, search: &ExactSearch, id: usize, row: &mut [f32]) -> f64 {
        search.rows.read(id..id + 1, search.dim(), row);
        cosine(self.values, self.norm, row)
    }
}

fn unit_padded(query: &[f32], padded: usize) -> impl Iterator<Item = f32> {
    let scale = norm(query).max(f64::MIN_POSITIVE);
    let zeros = std::iter::repeat_n(0.0, padded - query.len());
    query.iter().map(move |&v| (f64::from(v) / scale) as f32).chain(zeros)
}

/// The best hits so far.
struct Best {
    k: usize,
    /// The worst of them on top.
    heap: BinaryHeap<WorstFirst>,
    /// Score that a further hit must reach; minus infinity until there are k hits.
    needed: f64,
}

struct WorstFirst(Hit);

impl Ord for WorstFirst {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.order(&other.0)
    }
}

impl PartialOrd for WorstFirst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for WorstFirst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for WorstFirst {}

impl Best {
    fn new(k: usize) -> Self {
        let needed = if k == 0 { f64::INFINITY } else { f64::NEG_INFINITY };
        Self { k, heap: BinaryHeap::with_capacity(k), needed }
    }

    fn offer(&mut self, hit: Hit) {
        if self.heap.len() < self.k {
            self.heap.push(WorstFirst(hit));
        } else if let Some(mut worst) = self.heap.peek_mut()
            && hit.order(&worst.0).is_lt()
        {
            *worst = WorstFirst(hit);
        }
        if self.heap.len() == self.k
            && let Some(worst) = self.heap.peek()
        {
            self.needed = worst.0.score;
        }
    }

    fn into_hits(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|hit| hit.0).collect()
    }
}

/// Counts, for some target rows, the rows that rank before each.
struct RankCount {
    /// The targets, best first, and the position that each was asked for at.
    targets: Vec<(Hit, usize)>,
    /// `ahead[i]`: rows that rank before target i but not before target i - 1. The rows behind
    /// all targets are not counted.
    ahead: Vec<usize>,
}

impl RankCount {
    fn new(targets: Vec<Hit>) -> Self {
        let mut targets: Vec<_> =
            targets.into_iter().enumerate().map(|(i, hit)| (hit, i)).collect();
        targets.sort_by(|a, b| a.0.order(&b.0));
        Self { ahead: vec![0; targets.len()], targets }
    }

    /// Counts row `id`, whose exact score lies within `error` of `score`, or anywhere if `score`
    /// is NaN.
    fn add(&mut self, id: usize, score: f64, error: f64, exact: impl FnOnce() -> f64) {
        if self.targets.last().is_none_or(|worst| score + error < worst.0.score) {
            return;
        }
        let surely_before = self.targets.partition_point(|t| t.0.score > score + error);
        // Written so that a NaN leaves it open.
        let surely_behind = |t: &(Hit, usize)| t.0.score < score - error;
        let first_behind = if !self.targets.get(surely_before).is_none_or(surely_behind) {
            let hit = Hit { id, score: exact() };
            // A target does not rank before itself.
            self.targets.partition_point(|t| t.0.order(&hit).is_le())
        } else {
            surely_before
        };
        if let Some(count) = self.ahead.get_mut(first_behind) {
            *count += 1;
        }
    }

    fn placements(self) -> Vec<Placement> {
        let mut placements = vec![Placement { rank: 0, score: 0.0 }; self.targets.len()];
        let mut before = 0;
        for ((hit, position), ahead) in self.targets.into_iter().zip(self.ahead) {
            before += ahead;
            placements[position] = Placement { rank: before + 1, score: hit.score };
        }
        placements
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Stream, standard_normal};

    fn vectors(index: u64, count: usize, dim: usize) -> Vec<Vec<f32>> {
        let values = standard_normal(5, Stream::EmbeddingSamples, index, count * dim);
        values.chunks(dim).map(<[f32]>::to_vec).collect()
    }

    fn search(rows: &[Vec<f32>]) -> ExactSearch {
        let rows = EmbeddingRows::from_values(rows.concat(), rows[0].len()).unwrap();
        ExactSearch::new(rows).unwrap()
    }

    /// All rows, sorted by the cosine of its definition, ties by id.
    fn naive(query: &[f32], rows: &[Vec<f32>]) -> Vec<usize> {
        let mut hits: Vec<_> = rows
            .iter()
            .enumerate()
            .map(|(id, row)| Hit { id, score: cosine(query, norm(query), row) })
            .collect();
        hits.sort_by(Hit::order);
        hits.into_iter().map(|hit| hit.id).collect()
    }

    /// Random rows with equal ones, ones scaled by powers of two, ones that differ in the last
    /// bit, zero rows and rows of extreme norm.
    fn hard_rows(count: usize, dim: usize) -> Vec<Vec<f32>> {
        let mut rows = vectors(0, count, dim);
        for i in (10..count).step_by(10) {
            rows[i] = rows[i - 10].clone();
            rows[i - 3] = rows[i - 10].iter().map(|v| v * 2f32.powi(i as i32 % 5 - 2)).collect();
            rows[i - 7] = rows[i - 10].clone();
            rows[i - 7][0] = rows[i - 10][0].next_up();
        }
        rows[1] = vec![0.0; dim];
        rows[2] = rows[0].iter().map(|v| v * 2f32.powi(126)).collect();
        rows[4] = rows[5].iter().map(|v| v * 2f32.powi(-100)).collect();
        rows
    }

    #[test]
    fn the_order_is_that_of_a_plain_sort_with_ties_by_id() {
        let rows = hard_rows(3000, 24);
        let engine = search(&rows);
        let mut queries = vectors(1, 5, 24);
        queries.push(rows[0].clone());
        queries.push(rows[20].iter().map(|v| v * 1e-30).collect());
        for k in [1, 7, 300, 3000] {
            let found = engine.search(&queries, k).unwrap();
            for (query, hits) in queries.iter().zip(&found) {
                let ids: Vec<_> = hits.iter().map(|hit| hit.id).collect();
                assert_eq!(ids, naive(query, &rows)[..k]);
            }
        }
    }

    #[test]
    fn many_queries_over_many_blocks_of_rows_find_what_each_finds_alone() {
        let rows = hard_rows(20_000, 8);
        let engine = search(&rows);
        let queries = vectors(1, 400, 8);
        let tile_scores = (TILE_NUMBERS / 8).min(1024) * queries.len();
        assert!(SCORES / tile_scores * 1024 < rows.len(), "one block holds all rows");
        let together = engine.search(&queries, 4).unwrap();
        let ids: Vec<_> = together[399].iter().map(|hit| hit.id).collect();
        let ranks = engine.ranks_of(&queries, &ids).unwrap();
        assert_eq!(ranks[399].iter().map(|p| p.rank).collect::<Vec<_>>(), [1, 2, 3, 4]);
        for i in [0, 1, 398, 399] {
            let query = std::slice::from_ref(&queries[i]);
            let order = naive(&queries[i], &rows);
            assert_eq!(together[i].iter().map(|hit| hit.id).collect::<Vec<_>>(), order[..4]);
            assert_eq!(engine.ranks_of(query, &ids).unwrap()[0], ranks[i]);
            assert!(ids.iter().zip(&ranks[i]).all(|(id, p)| order[p.rank - 1] == *id));
        }
    }

    #[test]
    fn ranks_agree_with_the_positions_in_a_full_search() {
        let rows = hard_rows(2000, 24);
        let engine = search(&rows);
        let mut queries = vectors(1, 3, 24);
        queries.push(rows[0].clone());
        let ids: Vec<_> = [0, 1, 2, 3, 4, 10, 20, 1999, 10].into();
        let placements = engine.ranks_of(&queries, &ids).unwrap();
        for ((query, placements), hits) in
            queries.iter().zip(placements).zip(engine.search(&queries, 2000).unwrap())
        {
            let order = naive(query, &rows);
            for (id, placement) in ids.iter().zip(placements) {
                assert_eq!(order[placement.rank - 1], *id);
                assert_eq!(hits[placement.rank - 1].score, placement.score);
            }
        }
    }

    #[test]
    fn equal_rows_tie_by_id_whatever_their_scale() {
        let row = vectors(0, 1, 50).remove(0);
        let rows: Vec<Vec<f32>> =
            [0, 3, -2, 0, 60].map(|e| row.iter().map(|v| v * 2f32.powi(e)).collect()).into();
        let queries = vectors(1, 4, 50);
        for hits in search(&rows).search(&queries, 5).unwrap() {
            let ids: Vec<_> = hits.iter().map(|hit| hit.id).collect();
            assert_eq!(ids, [0, 1, 2, 3, 4]);
            assert!(hits.iter().all(|hit| hit.score == hits[0].score));
        }
    }

    #[test]
    fn more_hits_than_rows_give_all_rows_and_none_give_none() {
        let engine = search(&vectors(0, 3, 8));
        let queries = vectors(1, 1, 8);
        assert_eq!(engine.search(&queries, 10).unwrap()[0].len(), 3);
        assert!(engine.search(&queries, 0).unwrap()[0].is_empty());
        assert!(engine.search(&[], 10).unwrap().is_empty());
        assert!(engine.ranks_of(&queries, &[]).unwrap()[0].is_empty());
    }

    #[test]
    fn a_zero_query_scores_zero_everywhere_and_keeps_the_order_of_ids() {
        let hits = search(&vectors(0, 4, 8)).search(&[vec![0.0; 8]], 4).unwrap().remove(0);
        assert_eq!(hits.iter().map(|hit| hit.id).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert!(hits.iter().all(|hit| hit.score == 0.0));
    }

    #[test]
    fn wrong_queries_and_ids_are_refused_by_name() {
        let engine = search(&vectors(0, 3, 8));
        let error = engine.search(&[vec![1.0; 8], vec![1.0; 9]], 1).unwrap_err();
        assert!(error.to_string().contains("query 1 has 9 dimensions, expected 8"));
        let error = engine.search(&[vec![f32::NAN; 8]], 1).unwrap_err();
        assert!(error.to_string().contains("query 0 holds a value that is not a finite number"));
        let error = engine.ranks_of(&[vec![1.0; 8]], &[0, 3]).unwrap_err();
        assert!(matches!(error, GalleryError::NoSuchItem { id: 3, count: 3 }));
    }

    #[test]
    fn the_first_row_that_is_not_finite_is_named() {
        let mut rows = vectors(0, 5000, 40);
        rows[4900][3] = f32::NAN;
        rows[4321][39] = f32::INFINITY;
        let rows = EmbeddingRows::from_values(rows.concat(), 40).unwrap();
        let error = ExactSearch::new(rows).unwrap_err();
        assert!(error.to_string().contains("row 4321 "), "{error}");
    }
}
