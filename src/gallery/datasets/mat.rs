//! Vectors of whole numbers in MATLAB's version 5 files, such as `imagelabels.mat`.
//!
//! Format: MathWorks, "MAT-File Format", R2023b, chapter 1. Little-endian files, with elements
//! compressed or not; other variables than numeric arrays are passed over.

use std::io::Read;

const FILE_HEADER: usize = 128;
/// Most bytes that a compressed variable may unfold to.
const VARIABLE_LIMIT: u64 = 64 << 20;
/// Longest name of a variable. MATLAB's own limit is 63.
const NAME_LIMIT: usize = 256;

const COMPRESSED: u32 = 15;
const MATRIX: u32 = 14;
const INT8: u32 = 1;
const INT32: u32 = 5;
const UINT32: u32 = 6;

/// Reads the variable `wanted`, a numeric array, in MATLAB's column order.
///
/// # Errors
/// In words without the file's name: when it is no such file, is damaged, has no such variable, or
/// that holds anything but whole numbers.
pub fn whole_numbers(file: &[u8], wanted: &str) -> Result<Vec<i64>, String> {
    if file.starts_with(b"MATLAB 7.3") || file.starts_with(b"\x89HDF") {
        return Err("it is a version 7.3 (HDF5) file; save it with save(..., '-v7')".to_owned());
    }
    let header = file.get(..FILE_HEADER).ok_or("it is shorter than a MAT file's header")?;
    match &header[124..] {
        [_, 1, b'I', b'M'] => {}
        [1, _, b'M', b'I'] => return Err("it is big-endian, which is not read".to_owned()),
        _ => return Err("it is no version 5 MAT file".to_owned()),
    }
    let mut found = Vec::new();
    let mut rest = &file[FILE_HEADER..];
    while !rest.is_empty() {
        let element = take(&mut rest)?;
        let unfolded;
        let element = if element.kind == COMPRESSED {
            unfolded = unfold(element.data)?;
            take(&mut unfolded.as_slice())?.to_owned()
        } else {
            element.to_owned()
        };
        if element.0 != MATRIX {
            continue;
        }
        let (name, data) = array(&element.1)?;
        if name == wanted {
            let (count, data) = data.ok_or_else(|| format!("its {wanted:?} is not numeric"))?;
            let numbers = data.numbers()?;
            if count != Some(numbers.len() as i64) {
                let found = numbers.len();
                return Err(format!("the shape of {wanted:?} does not fit its {found} numbers"));
            }
            return Ok(numbers);
        }
        if found.len() < 16 {
            found.push(name);
        }
    }
    Err(format!("it has no variable {wanted:?}; found {found:?}"))
}

/// A tagged piece of a file.
#[derive(Clone, Copy)]
struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

impl Element<'_> {
    fn to_owned(self) -> (u32, Vec<u8>) {
        (self.kind, self.data.to_vec())
    }

    /// The numbers of a numeric element, which must be whole.
    fn numbers(self) -> Result<Vec<i64>, String> {
        let size = match self.kind {
            1 | 2 => 1,
            3 | 4 => 2,
            5..=7 => 4,
            9 | 12 | 13 => 8,
            other => return Err(format!("its numbers are of the unknown type {other}")),
        };
        let number = |bytes: &[u8]| -> Option<i64> {
            Some(match self.kind {
                1 => i8::from_le_bytes(bytes.try_into().ok()?).into(),
                2 => bytes[0].into(),
                3 => i16::from_le_bytes(bytes.try_into().ok()?).into(),
                4 => u16::from_le_bytes(bytes.try_into().ok()?).into(),
                5 => i32::from_le_bytes(bytes.try_into().ok()?).into(),
                6 => u32::from_le_bytes(bytes.try_into().ok()?).into(),
                7 => whole(f32::from_le_bytes(bytes.try_into().ok()?).into())?,
                9 => whole(f64::from_le_bytes(bytes.try_into().ok()?))?,
                12 => i64::from_le_bytes(bytes.try_into().ok()?),
                _ => u64::from_le_bytes(bytes.try_into().ok()?).try_into().ok()?,
            })
        };
        let numbers = self.data.chunks_exact(size).map(number);
        numbers.collect::<Option<_>>().ok_or_else(|| "it holds numbers that are not whole".into())
    }
}

fn whole(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && number.abs() < 2f64.powi(53)).then_some(number as i64)
}

/// Takes one element off the front: 8 bytes of tag, the data, and padding to 8 bytes; or, when the
/// upper half of the first word is not zero, up to 4 bytes of data in the tag itself.
fn take<'a>(rest: &mut &'a [u8]) -> Result<Element<'a>, String> {
    let damaged = || "it is damaged or cut short".to_owned();
    let (tag, behind) = rest.split_at_checked(8).ok_or_else(damaged)?;
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let kind = word(tag);
    if kind >> 16 != 0 {
        let length = (kind >> 16) as usize;
        *rest = behind;
        let data = tag[4..].get(..length).ok_or_else(damaged)?;
        return Ok(Element { kind: kind & 0xffff, data });
    }
    let length = word(&tag[4..]) as usize;
    let data = behind.get(..length).ok_or_else(damaged)?;
    // A compressed element has no padding; the last of a file may lack it.
    let padded = if kind == COMPRESSED { length } else { length.next_multiple_of(8) };
    *rest = behind.get(padded..).unwrap_or_default();
    Ok(Element { kind, data })
}

fn unfold(data: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    flate2::read::ZlibDecoder::new(data)
        .take(VARIABLE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("a compressed variable is damaged: {error}"))?;
    if bytes.len() as u64 > VARIABLE_LIMIT {
        return Err(format!("a variable unfolds to more than {} MiB", VARIABLE_LIMIT >> 20));
    }
    Ok(bytes)
}

/// An array's name, and the product of its shape with its numbers; `None` for these when it is a
/// cell array, text, structure or sparse.
type Array<'a> = (String, Option<(Option<i64>, Element<'a>)>);

fn array(mut rest: &[u8]) -> Result<Array<'_>, String> {
    let flags = take(&mut rest)?;
    let class = match flags {
        Element { kind: UINT32, data: [class, ..] } => *class,
        _ => return Err("an array has no flags".to_owned()),
    };
    let shape = take(&mut rest)?;
    if shape.kind != INT32 {
        return Err("an array has no shape".to_owned());
    }
    let name = take(&mut rest)?;
    if name.kind != INT8 || name.data.len() > NAME_LIMIT {
        return Err("an array has no name".to_owned());
    }
    let name = String::from_utf8_lossy(name.data).into_owned();
    // Classes 6 to 15 are double, single and the whole numbers.
    if !(6..=15).contains(&class) {
        return Ok((name, None));
    }
    let count = shape.numbers()?.iter().try_fold(1i64, |count, &n| count.checked_mul(n));
    Ok((name, Some((count, take(&mut rest)?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(kind: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = [kind.to_le_bytes(), (data.len() as u32).to_le_bytes()].concat();
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    /// A file of one double array with this shape.
    fn file(name: &str, shape: [i32; 2], numbers: &[f64]) -> Vec<u8> {
        let shape: Vec<u8> = shape.iter().flat_map(|n| n.to_le_bytes()).collect();
        let numbers: Vec<u8> = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
        let parts = [
            element(UINT32, &[6, 0, 0, 0, 0, 0, 0, 0]),
            element(INT32, &shape),
            element(INT8, name.as_bytes()),
            element(9, &numbers),
        ];
        let mut bytes = vec![b' '; FILE_HEADER];
        bytes[124..].copy_from_slice(&[0, 1, b'I', b'M']);
        bytes.extend(element(MATRIX, &parts.concat()));
        bytes
    }

    #[test]
    fn whole_numbers_are_read_and_others_refused() {
        let whole = file("labels", [1, 2], &[77.0, -3.0]);
        assert_eq!(whole_numbers(&whole, "labels").unwrap(), [77, -3]);
        for (bytes, word) in [
            (file("labels", [1, 1], &[0.5]), "not whole"),
            (file("labels", [1, 1], &[f64::NAN]), "not whole"),
            (file("labels", [3, 1], &[1.0]), "does not fit its 1 numbers"),
            (file("label", [1, 1], &[1.0]), "found [\"label\"]"),
            (whole[..whole.len() - 9].to_vec(), "cut short"),
            (b"MATLAB 7.3 MAT-file".to_vec(), "-v7"),
            (vec![b' '; 200], "no version 5"),
            (Vec::new(), "shorter"),
        ] {
            let error = whole_numbers(&bytes, "labels").unwrap_err();
            assert!(error.contains(word), "{word}: {error}");
        }
    }

    #[test]
    fn a_compressed_variable_that_unfolds_without_end_is_refused() {
        let mut packed = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut packed, &vec![0; VARIABLE_LIMIT as usize + 2]).unwrap();
        let mut bytes = file("other", [1, 1], &[1.0]);
        bytes.extend(element(COMPRESSED, &packed.finish().unwrap()));
        assert!(whole_numbers(&bytes, "labels").unwrap_err().contains("64 MiB"));
    }
}
