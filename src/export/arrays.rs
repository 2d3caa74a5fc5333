//! Named arrays in one NPZ file, as `numpy.load` reads them.

use std::io::{self, Seek, Write};
use std::path::Path;

use npyz::npz::NpzWriter;
use npyz::{AutoSerialize, WriterBuilder};

use crate::files::{FileError, write_atomic};

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
}
