//! A matrix of embeddings, in memory or mapped from files.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use half::f16;
use memmap2::Mmap;

use super::GalleryError;
use super::npy::{self, Float};
use crate::adapter::training::RowSource;
use crate::encoder::norm;
use crate::files::map_readonly;

/// Rows looked at to tell whether a matrix is normalised.
const PROBES: usize = 256;

/// float16 rounds a unit vector's norm by up to 2^-11.
const UNIT_TOLERANCE: f64 = 2e-3;

/// Embeddings `[N, D]`: rows in memory, or rows of `.npy` files that are memory-mapped and
/// widened to f32 when they are read. Cloning is cheap.
///
/// Nothing is assumed about norms: clip-retrieval stores unit rows, other tools raw ones.
#[derive(Debug, Clone)]
pub struct EmbeddingRows {
    parts: Arc<[Part]>,
    dim: usize,
    len: usize,
    /// Whether rows are scaled to unit length when they are read.
    unit: bool,
}

#[derive(Debug)]
struct Part {
    /// Number of rows in the parts before this one.
    first: usize,
    rows: usize,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Memory(Vec<f32>),
    Mapped { file: Mmap, layout: npy::Layout, path: PathBuf },
}

impl EmbeddingRows {
    /// A matrix in memory from its values, row by row.
    ///
    /// # Errors
    /// When there are no values, or their number is no multiple of `dim`.
    pub fn from_values(values: Vec<f32>, dim: usize) -> Result<Self, GalleryError> {
        if dim == 0 || values.is_empty() || !values.len().is_multiple_of(dim) {
            return Err(GalleryError::Dimension {
                what: "the last row of the gallery".to_owned(),
                found: values.len().checked_rem(dim).unwrap_or(0),
                expected: dim,
            });
        }
        let len = values.len() / dim;
        let part = Part { first: 0, rows: len, data: Data::Memory(values) };
        Ok(Self { parts: Arc::new([part]), dim, len, unit: false })
    }

    /// Maps `.npy` files as one matrix, in the order given. Each holds `[n, D]` numbers, float16
    /// or float32, with the same D.
    ///
    /// # Errors
    /// When a file is missing or is not such a matrix, or the dimensions differ.
    pub fn map(paths: &[PathBuf]) -> Result<Self, GalleryError> {
        let mut parts = Vec::with_capacity(paths.len());
        let (mut dim, mut len) = (None, 0);
        for path in paths {
            let file = map_readonly(path, "an npy file")?;
            let layout = npy::parse(&file).map_err(|reason| GalleryError::npy(path, reason))?;
            let expected = *dim.get_or_insert(layout.dim);
            if layout.dim != expected {
                return Err(GalleryError::Dimension {
                    what: path.display().to_string(),
                    found: layout.dim,
                    expected,
                });
            }
            let data = Data::Mapped { file, layout, path: path.clone() };
            parts.push(Part { first: len, rows: layout.rows, data });
            len += layout.rows;
        }
        Ok(Self { parts: parts.into(), dim: dim.unwrap_or(0), len, unit: false })
    }

    /// The same rows, scaled to unit length when they are read; rows of zeros stay zeros.
    pub fn into_unit(self) -> Self {
        Self { unit: true, ..self }
    }

    /// The same rows as they are stored.
    pub fn into_raw(self) -> Self {
        Self { unit: false, ..self }
    }

    /// Number of rows N.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Dimension D.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Reads the bytes of an `.npy` file, as [`EmbeddingRows::map`] does; `path` is where they are
    /// from.
    pub(crate) fn from_npy(bytes: &[u8], path: &Path) -> Result<Self, GalleryError> {
        let layout = npy::parse(bytes).map_err(|reason| GalleryError::npy(path, reason))?;
        let mut values = vec![0f32; layout.rows * layout.dim];
        convert(layout.float, &bytes[layout.offset..], &mut values);
        let part = Part { first: 0, rows: layout.rows, data: Data::Memory(values) };
        Ok(Self { parts: Arc::new([part]), dim: layout.dim, len: layout.rows, unit: false })
    }

    /// Number of rows in each file, in order.
    pub(crate) fn part_lengths(&self) -> Vec<usize> {
        self.parts.iter().map(|part| part.rows).collect()
    }

    /// One row `[D]`.
    ///
    /// # Panics
    /// When `index` is not below [`EmbeddingRows::len`].
    pub fn row(&self, index: usize) -> Vec<f32> {
        let mut row = vec![0.0; self.dim];
        self.read(index..index + 1, self.dim, &mut row);
        row
    }

    /// Copies the rows of `range` to `out`, each to the start of its `stride` (at least D)
    /// numbers; the rest of a stride is left as it is.
    ///
    /// # Panics
    /// When the range is not within the matrix, or `out` is shorter than the rows.
    pub fn read(&self, range: Range<usize>, stride: usize, out: &mut [f32]) {
        assert!(range.end <= self.len && stride >= self.dim, "rows {range:?} of {}", self.len);
        assert!(out.len() >= range.len() * stride, "room for {} numbers", out.len());
        let mut part = self.parts.partition_point(|part| part.end() <= range.start);
        for (index, row) in range.zip(out.chunks_exact_mut(stride)) {
            while index >= self.parts[part].end() {
                part += 1;
            }
            let Part { first, data, .. } = &self.parts[part];
            let row = &mut row[..self.dim];
            data.read(index - first, row);
            if self.unit {
                let length = norm(row).max(f64::MIN_POSITIVE);
                row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
            }
        }
    }

    /// Says where a row comes from: its number, and the file that holds it.
    pub(super) fn describe(&self, index: usize) -> String {
        let part = self.parts.partition_point(|part| part.end() <= index);
        match self.parts.get(part) {
            Some(Part { first, data: Data::Mapped { path, .. }, .. }) => {
                format!("row {} of {}", index - first, path.display())
            }
            _ => format!("gallery row {index}"),
        }
    }

    /// True when rows spread over the matrix all have unit norm, as clip-retrieval writes them.
    /// Such rows have lost the norm that an unCLIP decoder needs.
    pub fn look_normalised(&self) -> bool {
        let step = self.len.div_ceil(PROBES).max(1);
        (0..self.len).step_by(step).all(|i| (norm(&self.row(i)) - 1.0).abs() < UNIT_TOLERANCE)
    }
}

impl RowSource for EmbeddingRows {
    fn len(&self) -> usize {
        self.len
    }

    fn dim(&self) -> usize {
        self.dim
    }

    fn read_row(&self, index: usize, out: &mut [f32]) {
        self.read(index..index + 1, self.dim, out);
    }
}

impl Part {
    /// The first row after this part.
    fn end(&self) -> usize {
        self.first + self.rows
    }
}

impl Data {
    fn read(&self, row: usize, out: &mut [f32]) {
        let dim = out.len();
        let (file, layout) = match self {
            Data::Memory(values) => {
                out.copy_from_slice(&values[row * dim..(row + 1) * dim]);
                return;
            }
            Data::Mapped { file, layout, .. } => (file, layout),
        };
        let bytes = dim * layout.float.size();
        let start = layout.offset + row * bytes;
        convert(layout.float, &file[start..start + bytes], out);
    }
}

fn convert(float: Float, bytes: &[u8], out: &mut [f32]) {
    match float {
        Float::F16 => widen(bytes, out),
        Float::F32 => {
            for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *out = f32::from_le_bytes(bytes);
            }
        }
    }
}

/// Widens little-endian float16 numbers. `half` converts eight numbers per call and through
/// memory, which takes longer than a search for one query; hence the instruction itself.
fn widen(bytes: &[u8], out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("f16c") {
        // SAFETY: the CPU has the feature.
        return unsafe { widen_f16c(bytes, out) };
    }
    widen_portable(bytes, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "f16c")]
fn widen_f16c(bytes: &[u8], out: &mut [f32]) {
    use std::arch::x86_64::{_mm_loadu_si128, _mm256_cvtph_ps, _mm256_storeu_ps};
    let (bytes, byte_rest) = bytes.as_chunks::<16>();
    let (out, out_rest) = out.as_chunks_mut::<8>();
    for (bytes, out) in bytes.iter().zip(out) {
        // SAFETY: both arrays have the 16 and 32 bytes that are read and written; neither
        // instruction asks for alignment.
        unsafe {
            let numbers = _mm_loadu_si128(bytes.as_ptr().cast());
            _mm256_storeu_ps(out.as_mut_ptr(), _mm256_cvtph_ps(numbers));
        }
    }
    widen_portable(byte_rest, out_rest);
}

fn widen_portable(bytes: &[u8], out: &mut [f32]) {
    for (out, &bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
        *out = f16::from_le_bytes(bytes).to_f32();
    }
}

/// Files `PREFIX_<number>.<extension>` of a folder, sorted by number ("10" after "9").
pub(super) fn numbered_files(
    folder: &Path,
    prefix: &str,
    extension: &str,
) -> Result<Vec<(u64, PathBuf)>, GalleryError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(crate::files::FileError::read(folder))? {
        let path = entry.map_err(crate::files::FileError::read(folder))?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| name.strip_prefix(prefix)?.strip_prefix('_')?.strip_suffix(extension))
            .and_then(|name| name.strip_suffix('.'))
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    if let Some(twice) = found.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(GalleryError::NotAStore {
            path: folder.to_owned(),
            reason: format!(
                "{} and {} have the same number",
                twice[0].1.display(),
                twice[1].1.display()
            ),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, float: Float, rows: &[&[f32]]) {
        let mut bytes = npy::header(float, rows.len(), rows[0].len()).to_vec();
        for &value in rows.iter().copied().flatten() {
            match float {
                Float::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
                Float::F32 => bytes.extend(value.to_le_bytes()),
            }
        }
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn files_of_both_widths_read_as_one_matrix() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a.npy"), folder.path().join("b.npy")];
        write(&paths[0], Float::F16, &[&[1.0, -0.5, 65504.0], &[0.0, 2.0, 3.0]]);
        write(&paths[1], Float::F32, &[&[1e-30, 7.0, -8.0]]);
        let rows = EmbeddingRows::map(&paths).unwrap();
        assert_eq!((rows.len(), rows.dim()), (3, 3));
        assert_eq!(rows.part_lengths(), [2, 1]);
        let mut out = [9.0; 8];
        rows.read(1..3, 4, &mut out);
        assert_eq!(out, [0.0, 2.0, 3.0, 9.0, 1e-30, 7.0, -8.0, 9.0]);
        assert_eq!(rows.row(0), [1.0, -0.5, 65504.0]);
        assert!(rows.describe(2).starts_with("row 0 of ") && rows.describe(2).ends_with("b.npy"));
    }

    #[test]
    fn every_float16_widens_to_its_value_at_any_address_and_length() {
        let numbers: Vec<_> = (0..=u16::MAX).map(f16::from_bits).collect();
        let mut bytes = vec![0];
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        for count in [numbers.len(), numbers.len() - 3] {
            let mut out = vec![0f32; count];
            widen(&bytes[1..1 + 2 * count], &mut out);
            for (number, value) in numbers.iter().zip(out) {
                let same = number.is_nan() && value.is_nan() || number.to_f32() == value;
                assert!(same, "{number:?} became {value}");
            }
        }
    }

    #[test]
    fn files_of_different_dimensions_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let paths = [folder.path().join("a.npy"), folder.path().join("b.npy")];
        write(&paths[0], Float::F16, &[&[1.0, 2.0]]);
        write(&paths[1], Float::F16, &[&[1.0, 2.0, 3.0]]);
        let error = EmbeddingRows::map(&paths).unwrap_err();
        assert!(matches!(error, GalleryError::Dimension { found: 3, expected: 2, .. }));
    }

    #[test]
    fn unit_rows_are_told_from_raw_ones() {
        let unit = EmbeddingRows::from_values(vec![0.6, 0.8, 1.0, 0.0, 0.0, -1.0], 2).unwrap();
        let raw = EmbeddingRows::from_values(vec![0.6, 0.8, 1.0, 0.1, 0.0, -1.0], 2).unwrap();
        assert!(unit.look_normalised());
        assert!(!raw.look_normalised());
    }

    #[test]
    fn numbered_files_are_sorted_by_number_and_strangers_left_out() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["e_10.npy", "e_9.npy", "e_0002.npy", "e_x.npy", "e_1.npz", "e_.npy", "f_3.npy"]
        {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let numbers = |found: Vec<(u64, PathBuf)>| found.iter().map(|f| f.0).collect::<Vec<_>>();
        assert_eq!(numbers(numbered_files(folder.path(), "e", "npy").unwrap()), [2, 9, 10]);
        std::fs::write(folder.path().join("e_2.npy"), b"").unwrap();
        let error = numbered_files(folder.path(), "e", "npy").unwrap_err();
        assert!(error.to_string().contains("the same number"));
    }
}
