//! Arrays as `numpy` reads and writes them: `.npy`, and several by name in `.npz`.

use std::io::{self, Cursor, Read, Seek, Write};
use std::path::{Path, PathBuf};

use npyz::npz::{NpzArchive, NpzWriter};
use npyz::{AutoSerialize, DType, NpyFile, Order, WriterBuilder};

use crate::files::{FileError, read_bounded, write_atomic};

/// Array files larger than this are refused; galleries have their own reader.
const FILE_LIMIT: u64 = 1 << 30;
/// Bound on the numbers of one array, also when it is packed.
const NUMBER_LIMIT: u64 = 1 << 28;
/// Arrays looked for in an `.npz` file when none is named.
const DEFAULT_ARRAYS: [&str; 2] = ["embeddings", "samples"];

/// Why rows could not be read from an array file.
#[derive(Debug, thiserror::Error)]
pub enum ArrayError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}: not a readable array file: {source}", path.display())]
    Format { path: PathBuf, source: io::Error },
    #[error("{}: {reason}", path.display())]
    Content { path: PathBuf, reason: String },
}

/// One array: name, shape and values in row-major order.
pub enum Array<'a> {
    F32(&'a str, Vec<usize>, Vec<f32>),
    F64(&'a str, Vec<usize>, Vec<f64>),
}

/// Writes an NPZ file, atomically.
///
/// # Errors
/// When the file cannot be written.
///
/// # Panics
/// When the values of an array do not fill its shape.
pub fn write_npz(path: &Path, arrays: &[Array<'_>]) -> Result<(), FileError> {
    write_atomic(path, |file| {
        let mut npz = NpzWriter::new(file);
        for array in arrays {
            match array {
                Array::F32(name, shape, values) => write_array(&mut npz, name, shape, values)?,
                Array::F64(name, shape, values) => write_array(&mut npz, name, shape, values)?,
            }
        }
        // The zip directory is written here, so that a full disk is an error and not a lost drop.
        npz.zip_writer().finish().map_err(io::Error::other)?;
        Ok(())
    })
}

fn write_array<W: Write + Seek, T: AutoSerialize + Copy>(
    npz: &mut NpzWriter<W>,
    name: &str,
    shape: &[usize],
    values: &[T],
) -> io::Result<()> {
    assert_eq!(shape.iter().product::<usize>(), values.len(), "array {name}");
    let shape: Vec<u64> = shape.iter().map(|&n| n as u64).collect();
    let mut writer =
        npz.array(name, Default::default())?.default_dtype().shape(&shape).begin_nd()?;
    writer.extend(values.iter().copied())?;
    writer.finish()
}

/// Reads rows `[N, D]` (or one row `[D]`) of float16, float32 or float64 numbers from a `.npy` file,
/// or from an array of an `.npz` file: the one that is named, else `embeddings` or `samples`.
///
/// # Errors
/// When the file is missing, too large or malformed, has no such array, or the array has another
/// shape or type, or numbers that are not finite.
pub fn read_rows(path: &Path, name: Option<&str>) -> Result<Vec<Vec<f32>>, ArrayError> {
    let format = |source| ArrayError::Format { path: path.to_owned(), source };
    let content = |reason| ArrayError::Content { path: path.to_owned(), reason };
    let bytes = read_bounded(path, FILE_LIMIT, "an array file")?;
    if path.extension().is_none_or(|extension| extension != "npz") {
        return rows_of(NpyFile::new(bytes.as_slice()).map_err(format)?).map_err(content);
    }
    let mut npz = NpzArchive::new(Cursor::new(bytes)).map_err(format)?;
    let mut present: Vec<String> = npz.array_names().map(str::to_owned).collect();
    present.sort();
    let wanted = match name {
        Some(name) => Some(name),
        None => DEFAULT_ARRAYS.into_iter().find(|name| present.iter().any(|p| p == name)),
    };
    let array = wanted.map(|name| npz.by_name(name)).transpose().map_err(format)?.flatten();
    match array {
        Some(array) => rows_of(array).map_err(content),
        None => Err(content(format!(
            "it has no array {}; it holds {}",
            name.map_or(DEFAULT_ARRAYS.join(" or "), str::to_owned),
            present.join(", ")
        ))),
    }
}

fn rows_of<R: Read>(array: NpyFile<R>) -> Result<Vec<Vec<f32>>, String> {
    let shape = array.shape().to_vec();
    let (rows, dim) = match shape[..] {
        [dim] => (1, dim),
        [rows, dim] => (rows, dim),
        _ => return Err(format!("its array has shape {shape:?}, expected [N, D]")),
    };
    if rows.checked_mul(dim).is_none_or(|n| n == 0 || n > NUMBER_LIMIT) {
        return Err(format!("its array has shape {shape:?}, expected 1 to {NUMBER_LIMIT} numbers"));
    }
    if array.order() != Order::C && shape.len() > 1 {
        return Err("its array is in Fortran order; save it by numpy.ascontiguousarray".to_owned());
    }
    let kind = match array.dtype() {
        DType::Plain(kind) => kind.to_string(),
        other => return Err(format!("its array has dtype {}", other.descr())),
    };
    let unreadable = |error: io::Error| format!("its array is incomplete: {error}");
    let values: Vec<f32> = match kind.trim_start_matches(['<', '>', '=', '|']) {
        "f2" => array
            .into_vec::<half::f16>()
            .map_err(unreadable)?
            .into_iter()
            .map(half::f16::to_f32)
            .collect(),
        "f4" => array.into_vec::<f32>().map_err(unreadable)?,
        "f8" => {
            array.into_vec::<f64>().map_err(unreadable)?.into_iter().map(|v| v as f32).collect()
        }
        _ => return Err(format!("its array has dtype {kind}, expected float16, 32 or 64")),
    };
    if let Some(at) = values.iter().position(|v| !v.is_finite()) {
        let (row, column) = (at as u64 / dim, at as u64 % dim);
        return Err(format!("row {row} is not finite in column {column}"));
    }
    Ok(values.chunks(dim as usize).map(<[f32]>::to_vec).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_arrays_are_read_back_with_their_shapes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let rows = Array::F32("rows", vec![2, 3], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.5]);
        let line = Array::F64("line", vec![2], vec![0.1, -3.0]);
        write_npz(&path, &[rows, line]).unwrap();
        let mut npz = npyz::npz::NpzArchive::open(&path).unwrap();
        let rows = npz.by_name("rows").unwrap().unwrap();
        assert_eq!(rows.shape(), [2, 3]);
        assert_eq!(rows.into_vec::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0, 5.0, 6.5]);
        let line = npz.by_name("line").unwrap().unwrap();
        assert_eq!(line.into_vec::<f64>().unwrap(), [0.1, -3.0]);
    }

    #[test]
    fn rows_are_found_by_name_and_other_shapes_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        let samples = Array::F32("samples", vec![2, 2], vec![1.0, 2.0, 3.0, 4.0]);
        let cube = Array::F64("cube", vec![1, 2, 1], vec![0.5, 0.25]);
        let mean = Array::F64("mean", vec![2], vec![0.5, f64::NAN]);
        write_npz(&path, &[samples, cube, mean]).unwrap();
        assert_eq!(read_rows(&path, None).unwrap(), [[1.0, 2.0], [3.0, 4.0]]);
        let error = |name| read_rows(&path, Some(name)).unwrap_err().to_string();
        assert!(error("cube").contains("[1, 2, 1]"), "{}", error("cube"));
        assert!(error("mean").contains("not finite"), "{}", error("mean"));
        assert!(error("query").contains("cube, mean, samples"), "{}", error("query"));
    }

    #[test]
    fn a_truncated_array_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (9000000, 2), }\n";
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend([0; 64]);
        std::fs::write(&path, &bytes).unwrap();
        assert!(matches!(read_rows(&path, None), Err(ArrayError::Content { .. })));
    }
}
