//! Scaled dot-product attention.

use rayon::prelude::*;

use super::activation::exp;
use super::gemm::{Output, PackedMatrix, ROW_BLOCK, Rows, multiply};
use super::scratch::with_scratch;
use super::simd::vectorised;

/// Keys and values of R contexts of L positions, packed for products with queries.
#[derive(Debug, Clone)]
pub struct Context {
    rows: usize,
    heads: usize,
    /// `[d, L]` for each row and head.
    keys: Vec<PackedMatrix>,
    /// `[L, d]` for each row and head.
    values: Vec<PackedMatrix>,
}

/// Columns of a matrix: `width` of them from column `first`, of rows at a distance of `stride`.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    pub values: &'a [f32],
    pub stride: usize,
    pub first: usize,
    pub width: usize,
}

impl Context {
    /// From keys and values of `rows` contexts, one below the other.
    pub fn new(keys: Columns<'_>, values: Columns<'_>, rows: usize, heads: usize) -> Self {
        let length = keys.values.len() / keys.stride / rows;
        let size = keys.width / heads;
        let pack = |from: Columns<'_>, index: usize, transposed: bool| {
            let (row, head) = (index / heads, index % heads);
            let start = row * length * from.stride + from.first + head * size;
            let values = &from.values[start..];
            if transposed {
                PackedMatrix::pack(values, [size, length], [1, from.stride])
            } else {
                PackedMatrix::pack(values, [length, size], [from.stride, 1])
            }
        };
        let (keys, values) = (0..rows * heads)
            .into_par_iter()
            .map(|index| (pack(keys, index, true), pack(values, index, false)))
            .unzip();
        Self { rows, heads, keys, values }
    }

    /// `softmax(q k^T / sqrt(d)) v`, all heads side by side: `[N, C]` for N queries. The queries
    /// are divided among the contexts in order.
    pub fn attend(&self, queries: Columns<'_>) -> Vec<f32> {
        let channels = queries.width;
        let size = channels / self.heads;
        let count = queries.values.len() / queries.stride;
        let per_row = count / self.rows;
        let mut out = vec![0.0; count * channels];
        let blocks: Vec<(usize, usize, &mut [f32])> = out
            .chunks_exact_mut(per_row * channels)
            .enumerate()
            .flat_map(|(row, out)| {
                out.chunks_mut(ROW_BLOCK * channels)
                    .enumerate()
                    .map(move |(block, out)| (row, row * per_row + block * ROW_BLOCK, out))
            })
            .collect();
        blocks.into_par_iter().for_each(|(row, first, out)| {
            let count = out.len() / channels;
            let length = self.values[row * self.heads].inner();
            with_scratch(count * length, |scores| {
                for head in 0..self.heads {
                    let index = row * self.heads + head;
                    let start = first * queries.stride + queries.first + head * size;
                    let rows =
                        Rows { values: &queries.values[start..], stride: queries.stride, count };
                    multiply(rows, &self.keys[index], scores, length, Output::Overwrite);
                    softmax(scores, length, (size as f32).sqrt().recip());
                    let weights = Rows::dense(scores, length);
                    let out = &mut out[head * size..];
                    multiply(weights, &self.values[index], out, channels, Output::Overwrite);
                }
            });
        });
        out
    }
}

vectorised! {
    /// `softmax(scale x)` of every row of length `width`, in place.
    fn softmax(x: &mut [f32], width: usize, scale: f32) {
        const LANES: usize = 16;
        for row in x.chunks_exact_mut(width) {
            let (blocks, rest) = row.as_chunks_mut::<LANES>();
            let mut largest = [f32::NEG_INFINITY; LANES];
            for block in blocks.iter() {
                for i in 0..LANES {
                    largest[i] = if block[i] > largest[i] { block[i] } else { largest[i] };
                }
            }
            let mut top = f32::NEG_INFINITY;
            for x in largest.iter().chain(rest.iter()) {
                top = if *x > top { *x } else { top };
            }
            let mut sums = [0f32; LANES];
            for block in blocks.iter_mut() {
                for i in 0..LANES {
                    block[i] = exp((block[i] - top) * scale);
                    sums[i] += block[i];
                }
            }
            let mut total = 0.0;
            for sum in sums {
                total += sum;
            }
            for x in rest.iter_mut() {
                *x = exp((*x - top) * scale);
                total += *x;
            }
            let share = total.recip();
            for x in row {
                *x *= share;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        crate::random::standard_normal(seed, crate::random::Stream::Initialisation, 0, count)
    }

    #[test]
    fn attention_agrees_with_its_definition_for_every_row_and_head() {
        let (rows, per_row, length, heads, size) = (2, 130, 19, 3, 5);
        let channels = heads * size;
        let q = numbers(rows * per_row * channels, 1);
        // Keys and values side by side, as a joint projection leaves them.
        let kv = numbers(rows * length * 2 * channels, 2);
        let part = |first| Columns { values: &kv, stride: 2 * channels, first, width: channels };
        let context = Context::new(part(0), part(channels), rows, heads);
        let got =
            context.attend(Columns { values: &q, stride: channels, first: 0, width: channels });
        for query in 0..rows * per_row {
            let row = query / per_row;
            for head in 0..heads {
                let at = |position: usize, offset: usize, i: usize| {
                    let start = (row * length + position) * 2 * channels + offset + head * size;
                    f64::from(kv[start + i])
                };
                let scores: Vec<f64> = (0..length)
                    .map(|position| {
                        let dot: f64 = (0..size)
                            .map(|i| {
                                f64::from(q[query * channels + head * size + i])
                                    * at(position, 0, i)
                            })
                            .sum();
                        (dot / (size as f64).sqrt()).exp()
                    })
                    .collect();
                let total: f64 = scores.iter().sum();
                for i in 0..size {
                    let expected: f64 = (0..length)
                        .map(|position| scores[position] / total * at(position, channels, i))
                        .sum();
                    let got = f64::from(got[query * channels + head * size + i]);
                    assert!((got - expected).abs() < 2e-6, "query {query} head {head}");
                }
            }
        }
    }
}
