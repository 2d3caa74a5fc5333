//! The arrays of a cache: folders of numbered `.npy` files that are written one after the other.

use std::io::Write;
use std::path::{Path, PathBuf};

use half::f16;

use super::manifest::PartInfo;
use super::unusable;
use crate::experiment::ExperimentError;
use crate::files::{create_folder, write_atomic};
use crate::gallery::EmbeddingRows;
use crate::gallery::npy::{self, Float};

/// An array with one row per image or per distinct text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Array {
    /// Raw embeddings `[N, D]`, float16.
    ImageEmbeddings,
    TextEmbeddings,
    /// Variances over augmented copies `[N, 1]`, float32.
    ImageVariances,
    TextVariances,
    /// Features before the projection `[N, P]`, float16.
    PooledImages,
    PooledTexts,
}

impl Array {
    pub const ALL: [Array; 6] = [
        Array::ImageEmbeddings,
        Array::TextEmbeddings,
        Array::ImageVariances,
        Array::TextVariances,
        Array::PooledImages,
        Array::PooledTexts,
    ];

    /// Its folder, and the beginning of its files' names.
    pub fn name(self) -> &'static str {
        match self {
            Array::ImageEmbeddings => "image_emb",
            Array::TextEmbeddings => "text_emb",
            Array::ImageVariances => "image_tta",
            Array::TextVariances => "text_tta",
            Array::PooledImages => "pooled_image_emb",
            Array::PooledTexts => "pooled_text_emb",
        }
    }

    fn float(self) -> Float {
        match self {
            Array::ImageVariances | Array::TextVariances => Float::F32,
            _ => Float::F16,
        }
    }

    fn file(self, folder: &Path, part: usize) -> PathBuf {
        folder.join(self.name()).join(format!("{}_{part:04}.npy", self.name()))
    }

    /// Writes one part, `[rows, dim]` row by row; one that is there is replaced.
    pub fn write(
        self,
        folder: &Path,
        part: usize,
        dim: usize,
        values: &[f32],
    ) -> Result<(), ExperimentError> {
        create_folder(&folder.join(self.name()))?;
        let header = npy::header(self.float(), values.len() / dim, dim);
        Ok(write_atomic(&self.file(folder, part), |file| {
            file.write_all(&header)?;
            match self.float() {
                Float::F16 => values
                    .iter()
                    .try_for_each(|&value| file.write_all(&f16::from_f32(value).to_le_bytes())),
                Float::F32 => {
                    values.iter().try_for_each(|value| file.write_all(&value.to_le_bytes()))
                }
            }
        })?)
    }

    /// Maps the parts that the manifest names as one matrix.
    pub fn map(self, folder: &Path, parts: &[PartInfo]) -> Result<EmbeddingRows, ExperimentError> {
        let files: Vec<PathBuf> = (0..parts.len()).map(|i| self.file(folder, i)).collect();
        let rows = EmbeddingRows::map(&files)?;
        let found = rows.part_lengths();
        let wrong = found.iter().zip(parts).position(|(&found, part)| found != part.rows);
        if let Some(i) = wrong {
            return Err(unusable(
                &files[i],
                format!(
                    "it has {} rows, cache.json says {}; the files do not belong together, embed \
                     the dataset again with --overwrite",
                    found[i], parts[i].rows
                ),
            ));
        }
        Ok(rows)
    }
}

/// True when a row survives float16: all its numbers stay finite and not all become zero.
pub fn fits_half(row: &[f32]) -> bool {
    let narrow = || row.iter().map(|&value| f16::from_f32(value));
    narrow().all(f16::is_finite) && narrow().any(|value| value != f16::ZERO)
}
