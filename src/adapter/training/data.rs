//! What a training run learns from: rows of cached embeddings, and which belong together.

use std::borrow::Cow;

use rayon::prelude::*;

use crate::adapter::training::TrainingError;

/// Rows of embeddings that are read one by one, such as those of a memory-mapped file.
pub trait RowSource: Sync {
    /// Number of rows N.
    fn len(&self) -> usize;

    /// True when there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of dimensions D.
    fn dim(&self) -> usize;

    /// Copies row `index` to `out` `[D]`.
    fn read_row(&self, index: usize, out: &mut [f32]);
}

/// Embeddings as they came from an encoder, `[N, D]` row by row.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    source: Source<'a>,
    dim: usize,
    len: usize,
}

#[derive(Clone, Copy)]
enum Source<'a> {
    Memory(&'a [f32]),
    Stored(&'a dyn RowSource),
}

impl std::fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rows").field("len", &self.len).field("dim", &self.dim).finish()
    }
}

impl<'a> Rows<'a> {
    /// Rows of `dim` numbers.
    ///
    /// # Errors
    /// When `dim` is zero, the numbers do not make whole rows, or one is not finite.
    pub fn new(values: &'a [f32], dim: usize) -> Result<Self, TrainingError> {
        if dim == 0 || !values.len().is_multiple_of(dim) {
            return Err(TrainingError::Data(format!(
                "{} numbers are no whole rows of {dim}",
                values.len()
            )));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(TrainingError::Data(format!(
                "embedding {} is {} in dimension {}, expected finite numbers",
                at / dim,
                values[at],
                at % dim
            )));
        }
        Ok(Self { source: Source::Memory(values), dim, len: values.len() / dim })
    }

    /// Rows that stay where they are, and are read when they are needed.
    ///
    /// # Errors
    /// When the rows have no dimension, or a number is not finite: all of them are read once.
    pub fn stored(source: &'a dyn RowSource) -> Result<Self, TrainingError> {
        let (len, dim) = (source.len(), source.dim());
        if dim == 0 {
            return Err(TrainingError::Data("rows of 0 numbers are no embeddings".to_owned()));
        }
        let rows = Self::checked(source);
        let bad = (0..len)
            .into_par_iter()
            .map_init(
                || vec![0f32; dim],
                |row, index| {
                    source.read_row(index, row);
                    let at = row.iter().position(|v| !v.is_finite())?;
                    Some((index, at, row[at]))
                },
            )
            .find_first(Option::is_some)
            .flatten();
        match bad {
            None => Ok(rows),
            Some((index, at, value)) => Err(TrainingError::Data(format!(
                "embedding {index} is {value} in dimension {at}, expected finite numbers"
            ))),
        }
    }

    /// Rows that were found finite before.
    pub(crate) fn checked(source: &'a dyn RowSource) -> Self {
        Self { source: Source::Stored(source), dim: source.dim(), len: source.len() }
    }

    /// Number of rows N.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of dimensions D.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// One row `[D]`.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize) -> Cow<'a, [f32]> {
        match self.source {
            Source::Memory(values) => {
                Cow::Borrowed(&values[index * self.dim..(index + 1) * self.dim])
            }
            Source::Stored(source) => {
                let mut row = vec![0.0; self.dim];
                source.read_row(index, &mut row);
                Cow::Owned(row)
            }
        }
    }
}

/// One thing to learn: the rows of an input and of its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    pub input: usize,
    pub target: usize,
}

/// Items over rows of inputs and targets. The same row may be in many items: an image is the
/// target of each of its captions.
#[derive(Debug, Clone)]
pub struct TrainingData<'a> {
    pub(in crate::adapter) inputs: Rows<'a>,
    pub(in crate::adapter) targets: Rows<'a>,
    pub(in crate::adapter) items: Vec<Item>,
    pub(super) crossed: Option<Crossed<'a>>,
}

/// For every item the row that it should also explain a little: the paired embedding of the other
/// modality.
#[derive(Debug, Clone)]
pub(super) struct Crossed<'a> {
    pub(super) targets: Rows<'a>,
    pub(super) of_item: Vec<usize>,
}

impl<'a> TrainingData<'a> {
    /// Items over inputs and targets.
    ///
    /// # Errors
    /// When there is no item, an item names a row that is not there, or the dimensions differ.
    pub fn new(
        inputs: Rows<'a>,
        targets: Rows<'a>,
        items: Vec<Item>,
    ) -> Result<Self, TrainingError> {
        if items.is_empty() {
            return Err(TrainingError::Data("there are no pairs to learn from".to_owned()));
        }
        check_dims(inputs, targets)?;
        check_rows(items.iter().map(|i| i.input), inputs, "input")?;
        check_rows(items.iter().map(|i| i.target), targets, "target")?;
        Ok(Self { inputs, targets, items, crossed: None })
    }

    /// Every row is its own target: the intra-modal task of ProbVLM.
    ///
    /// # Errors
    /// When there is no row.
    pub fn identity(rows: Rows<'a>) -> Result<Self, TrainingError> {
        let items = (0..rows.len()).map(|i| Item { input: i, target: i }).collect();
        Self::new(rows, rows, items)
    }

    /// Adds the crossed term: item i should also explain row `of_item[i]` of `targets`.
    ///
    /// # Errors
    /// When there is not one row per item, or it is not there, or the dimensions differ.
    pub fn with_crossed(
        mut self,
        targets: Rows<'a>,
        of_item: Vec<usize>,
    ) -> Result<Self, TrainingError> {
        check_dims(self.inputs, targets)?;
        check_rows(of_item.iter().copied(), targets, "crossed target")?;
        if of_item.len() != self.items.len() {
            return Err(TrainingError::Data(format!(
                "{} crossed targets for {} items",
                of_item.len(),
                self.items.len()
            )));
        }
        self.crossed = Some(Crossed { targets, of_item });
        Ok(self)
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Never true: data without items cannot be made.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of dimensions D.
    pub fn dim(&self) -> usize {
        self.inputs.dim()
    }

    /// A hash of everything in it, to tell whether a checkpoint belongs to it.
    pub(super) fn fingerprint(&self) -> String {
        let mut hash = blake3::Hasher::new();
        let mut rows = |rows: &Rows<'_>| {
            hash.update(&rows.dim.to_le_bytes());
            for index in 0..rows.len() {
                let row = rows.row(index);
                hash.update(bytemuck::cast_slice(&row));
            }
        };
        rows(&self.inputs);
        rows(&self.targets);
        if let Some(crossed) = &self.crossed {
            rows(&crossed.targets);
        }
        let crossed = self.crossed.iter().flat_map(|c| c.of_item.iter().copied());
        for index in self.items.iter().flat_map(|i| [i.input, i.target]).chain(crossed) {
            hash.update(&index.to_le_bytes());
        }
        hash.finalize().to_hex().to_string()
    }
}

fn check_dims(inputs: Rows<'_>, targets: Rows<'_>) -> Result<(), TrainingError> {
    if inputs.dim() == targets.dim() {
        return Ok(());
    }
    Err(TrainingError::Data(format!(
        "inputs have {} dimensions, targets {}; both must come from one encoder",
        inputs.dim(),
        targets.dim()
    )))
}

fn check_rows(
    mut indices: impl Iterator<Item = usize>,
    rows: Rows<'_>,
    what: &str,
) -> Result<(), TrainingError> {
    match indices.find(|&i| i >= rows.len()) {
        None => Ok(()),
        Some(i) => Err(TrainingError::Data(format!(
            "an item names {what} row {i}, there are {} rows",
            rows.len()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_items_that_do_not_fit_are_refused() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        assert!(Rows::new(&values, 4).is_err());
        assert!(Rows::new(&[1.0, f32::NAN], 1).is_err());
        let rows = Rows::new(&values, 2).unwrap();
        let other = Rows::new(&values, 3).unwrap();
        let item = |input, target| vec![Item { input, target }];
        assert!(TrainingData::new(rows, rows, Vec::new()).is_err());
        assert!(TrainingData::new(rows, rows, item(0, 3)).is_err());
        assert!(TrainingData::new(rows, other, item(0, 0)).is_err());
        let data = TrainingData::new(rows, rows, item(0, 2)).unwrap();
        assert!(data.clone().with_crossed(rows, vec![0, 1]).is_err());
        assert!(data.with_crossed(rows, vec![2]).is_ok());
    }

    #[test]
    fn the_fingerprint_sees_rows_and_items() {
        let (a, b) = ([1.0, 2.0], [1.0, 2.5]);
        let data = |values, target| {
            let rows = Rows::new(values, 1).unwrap();
            TrainingData::new(rows, rows, vec![Item { input: 0, target }]).unwrap().fingerprint()
        };
        assert_eq!(data(&a, 1), data(&a, 1));
        assert_ne!(data(&a, 1), data(&a, 0));
        assert_ne!(data(&a, 1), data(&b, 1));
    }
}
