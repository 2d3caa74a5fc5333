//! The header of NumPy's `.npy` files, for matrices of floats that are read in place.
//!
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>. The header
//! is parsed here and not by `npyz`, because that multiplies the shape without an overflow check
//! and reads nested literals by recursion: both are open to a hostile file.

const MAGIC: &[u8] = b"\x93NUMPY";

/// NumPy itself refuses longer headers unless told otherwise.
const HEADER_LIMIT: usize = 10_000;

/// Total length of the headers that [`header`] writes: room for any shape, aligned to 64 bytes.
pub(crate) const HEADER_LEN: usize = 128;

/// Type of the numbers of a matrix, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Float {
    F16,
    F32,
}

impl Float {
    pub(crate) fn size(self) -> usize {
        match self {
            Float::F16 => 2,
            Float::F32 => 4,
        }
    }
}

/// Where the rows of a matrix lie in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub float: Float,
    pub rows: usize,
    pub dim: usize,
    /// Byte offset of the first row.
    pub offset: usize,
}

/// Reads the header of a file: what it says, and the byte offset of the first number.
fn read_header(file: &[u8]) -> Result<(Header, usize), String> {
    let rest = file.strip_prefix(MAGIC).ok_or("it does not begin as an npy file does")?;
    let (version, rest) = rest.split_at_checked(2).ok_or("it ends within the header")?;
    let (length, rest) = match version[0] {
        1 => {
            let (length, rest) = rest.split_first_chunk().ok_or("it ends within the header")?;
            (usize::from(u16::from_le_bytes(*length)), rest)
        }
        2 | 3 => {
            let (length, rest) = rest.split_first_chunk().ok_or("it ends within the header")?;
            (u32::from_le_bytes(*length) as usize, rest)
        }
        other => return Err(format!("npy version {other} is unknown; versions 1 to 3 are read")),
    };
    if length > HEADER_LIMIT {
        return Err(format!("its header has {length} bytes, at most {HEADER_LIMIT} are read"));
    }
    let text = rest.get(..length).ok_or("it ends within the header")?;
    let text = std::str::from_utf8(text).map_err(|_| "its header is not text")?;
    let header = parse_dict(text)
        .ok_or_else(|| format!("its header is not understood: {:?}", text.trim_end()))?;
    Ok((header, file.len() - rest.len() + length))
}

/// Reads the header of a whole file and checks it against the file's length.
pub(crate) fn parse(file: &[u8]) -> Result<Layout, String> {
    let (Header { descr, fortran_order, shape }, offset) = read_header(file)?;
    let float = match descr.as_str() {
        "<f2" => Float::F16,
        "<f4" => Float::F32,
        other => {
            return Err(format!(
                "its numbers are {other:?}, expected little-endian float16 \"<f2\" or float32 \
                 \"<f4\"; convert with numpy's astype"
            ));
        }
    };
    if fortran_order {
        return Err("it is stored by columns (fortran_order); save it with \
                    numpy.ascontiguousarray"
            .to_owned());
    }
    let &[rows, dim] = &shape[..] else {
        return Err(format!("its shape is {shape:?}, expected two axes [N, D]"));
    };
    if dim == 0 {
        return Err("its rows have no dimensions".to_owned());
    }
    let described = (rows as u128) * (dim as u128) * (float.size() as u128);
    let found = (file.len() - offset) as u128;
    if described != found {
        return Err(format!(
            "its header describes {described} bytes of {rows} rows, but {found} bytes follow{}",
            if found < described { "; it is cut off" } else { "" }
        ));
    }
    Ok(Layout { float, rows, dim, offset })
}

/// Reads a file of whole numbers with one axis `[N]`.
pub(crate) fn integers(file: &[u8]) -> Result<Vec<i64>, String> {
    let (Header { descr, shape, .. }, offset) = read_header(file)?;
    let &[count] = &shape[..] else {
        return Err(format!("its shape is {shape:?}, expected one axis [N]"));
    };
    let bytes = &file[offset..];
    let size = match descr.as_str() {
        "|u1" | "|i1" => 1,
        "<u2" | "<i2" => 2,
        "<u4" | "<i4" => 4,
        "<i8" => 8,
        other => {
            return Err(format!(
                "its numbers are {other:?}, expected little-endian whole numbers of up to 64 \
                 bits; convert with numpy's astype(\"int64\")"
            ));
        }
    };
    if (count as u128) * size as u128 != bytes.len() as u128 {
        return Err(format!(
            "its header describes {count} numbers of {size} bytes, but {} bytes follow",
            bytes.len()
        ));
    }
    let signed = descr.contains('i');
    Ok(bytes
        .chunks_exact(size)
        .map(|number| {
            let fill = if signed && number[size - 1] >= 0x80 { 0xff } else { 0 };
            let mut wide = [fill; 8];
            wide[..size].copy_from_slice(number);
            i64::from_le_bytes(wide)
        })
        .collect())
}

/// A version 1 header of [`HEADER_LEN`] bytes for `rows` C-ordered rows of `dim` numbers.
pub(crate) fn header(float: Float, rows: usize, dim: usize) -> [u8; HEADER_LEN] {
    let descr = match float {
        Float::F16 => "<f2",
        Float::F32 => "<f4",
    };
    let dict =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {dim}), }}");
    let mut bytes = [b' '; HEADER_LEN];
    bytes[..6].copy_from_slice(MAGIC);
    bytes[6..8].copy_from_slice(&[1, 0]);
    bytes[8..10].copy_from_slice(&((HEADER_LEN - 10) as u16).to_le_bytes());
    bytes[10..10 + dict.len()].copy_from_slice(dict.as_bytes());
    bytes[HEADER_LEN - 1] = b'\n';
    bytes
}

struct Header {
    descr: String,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// Parses the Python dict literal of a header: three known keys in any order.
fn parse_dict(text: &str) -> Option<Header> {
    let mut literal = Literal(text);
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    literal.token("{")?;
    while literal.token("}").is_none() {
        let key = literal.string()?;
        literal.token(":")?;
        match key {
            "descr" => descr = Some(literal.string()?.to_owned()),
            "fortran_order" => fortran_order = Some(literal.boolean()?),
            "shape" => shape = Some(literal.integers()?),
            _ => return None,
        }
        if literal.token(",").is_none() {
            literal.token("}")?;
            break;
        }
    }
    literal.0.trim().is_empty().then_some(())?;
    Some(Header { descr: descr?, fortran_order: fortran_order?, shape: shape? })
}

/// The rest of a Python literal.
struct Literal<'a>(&'a str);

impl<'a> Literal<'a> {
    fn token(&mut self, token: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(token)?;
        Some(())
    }

    fn string(&mut self) -> Option<&'a str> {
        let quote =
            if self.token("'").is_some() { '\'' } else { self.token("\"").map(|()| '"')? };
        let (content, rest) = self.0.split_once(quote)?;
        self.0 = rest;
        Some(content)
    }

    fn boolean(&mut self) -> Option<bool> {
        match self.token("True") {
            Some(()) => Some(true),
            None => self.token("False").map(|()| false),
        }
    }

    /// `()`, `(3,)`, `(3, 4)`; Python 2 wrote `(3L, 4L)`.
    fn integers(&mut self) -> Option<Vec<usize>> {
        self.token("(")?;
        let mut integers = Vec::new();
        while self.token(")").is_none() {
            let text = self.0.trim_start();
            let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            integers.push(text[..end].parse().ok()?);
            self.0 = &text[end..];
            let _ = self.token("L");
            if self.token(",").is_none() {
                self.token(")")?;
                break;
            }
        }
        Some(integers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A version 1 file with this header text and `data` bytes after it.
    fn file(dict: &str, data: usize) -> Vec<u8> {
        let mut bytes = [MAGIC, &[1, 0]].concat();
        bytes.extend((dict.len() as u16).to_le_bytes());
        bytes.extend(dict.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    #[test]
    fn a_written_header_reads_back_also_by_another_reader() {
        for (rows, dim) in [(0, 1), (3, 5), (123_456_789, 4096)] {
            let bytes = header(Float::F16, rows, dim);
            let other = npyz::NpyHeader::from_reader(&bytes[..]).unwrap();
            assert_eq!(other.shape(), [rows as u64, dim as u64]);
            assert_eq!(other.dtype().descr(), "'<f2'");
            assert_eq!(other.order(), npyz::Order::C);
        }
        let mut bytes = header(Float::F32, 3, 5).to_vec();
        bytes.resize(HEADER_LEN + 60, 0);
        let layout = parse(&bytes).unwrap();
        assert_eq!(layout, Layout { float: Float::F32, rows: 3, dim: 5, offset: HEADER_LEN });
    }

    #[test]
    fn headers_of_all_versions_and_spellings_are_read() {
        let dict = "{\"shape\":(2L,3L),'fortran_order' : False,'descr':'<f2'}\n";
        let expected = Layout { float: Float::F16, rows: 2, dim: 3, offset: 10 + dict.len() };
        assert_eq!(parse(&file(dict, 12)), Ok(expected));
        let mut second = [MAGIC, &[2, 0]].concat();
        second.extend((dict.len() as u32).to_le_bytes());
        second.extend(dict.as_bytes());
        second.extend([0; 12]);
        assert_eq!(parse(&second), Ok(Layout { offset: 12 + dict.len(), ..expected }));
    }

    #[test]
    fn what_is_not_a_c_ordered_matrix_of_floats_is_refused_with_its_reason() {
        let dict = |descr: &str, fortran: &str, shape: &str| {
            format!("{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}")
        };
        for (dict, data, reason) in [
            (dict("'<f8'", "False", "(2, 2)"), 32, "\"<f8\""),
            (dict("'>f4'", "False", "(2, 2)"), 16, "little-endian"),
            (dict("'|O'", "False", "(2, 2)"), 16, "\"|O\""),
            (dict("[('a', '<f4')]", "False", "(2,)"), 8, "not understood"),
            (dict("'<f4'", "True", "(2, 2)"), 16, "fortran_order"),
            (dict("'<f4'", "False", "(4,)"), 16, "two axes"),
            (dict("'<f4'", "False", "(1, 2, 2)"), 16, "two axes"),
            (dict("'<f4'", "False", "(4, 0)"), 0, "no dimensions"),
            (dict("'<f4'", "False", "(-4, 2)"), 16, "not understood"),
            (dict("'<f4'", "False", "(2, 2)"), 15, "cut off"),
            (dict("'<f4'", "False", "(2, 2)"), 17, "17 bytes follow"),
            (dict("'<f2'", "False", "(1000000000000, 512)"), 64, "cut off"),
            (dict("'<f2'", "False", "(18446744073709551615, 18446744073709551615)"), 64, "cut off"),
            (dict("'<f2'", "False", "(99999999999999999999, 2)"), 64, "not understood"),
            ("(".repeat(9000), 0, "not understood"),
            ("{".to_owned(), 0, "not understood"),
        ] {
            let error = parse(&file(&dict, data)).unwrap_err();
            assert!(error.contains(reason), "{dict}: {error}");
        }
        assert!(parse(b"PK\x03\x04").unwrap_err().contains("does not begin"));
        let whole = file(&dict("'<f4'", "False", "(1, 1)"), 4);
        for end in 0..whole.len() {
            assert!(parse(&whole[..end]).is_err(), "cut at {end}");
        }
        let mut long = [MAGIC, &[3, 0]].concat();
        long.extend(u32::MAX.to_le_bytes());
        assert!(parse(&long).unwrap_err().contains("at most"));
    }

    #[test]
    fn whole_numbers_of_every_size_keep_their_sign() {
        let file = |descr: &str, shape: &str, bytes: &[u8]| {
            let dict = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}");
            let length = (dict.len() as u16).to_le_bytes();
            [MAGIC, &[1, 0], &length, dict.as_bytes(), bytes].concat()
        };
        assert_eq!(integers(&file("<i8", "(1,)", &(-5i64).to_le_bytes())).unwrap(), [-5]);
        assert_eq!(integers(&file("<i2", "(2,)", &[0xff, 0xff, 2, 1])).unwrap(), [-1, 258]);
        assert_eq!(integers(&file("<u4", "(1,)", &[0xff; 4])).unwrap(), [4_294_967_295]);
        assert_eq!(integers(&file("|u1", "(2,)", &[200, 1])).unwrap(), [200, 1]);
        for (descr, shape, word) in [
            ("<f4", "(2,)", "whole numbers"),
            ("<i4", "(1, 1)", "one axis"),
            ("<i4", "(2,)", "2 numbers of 4 bytes"),
            ("<i4", "(99999999999999999,)", "bytes follow"),
        ] {
            let error = integers(&file(descr, shape, &[0; 4])).unwrap_err();
            assert!(error.contains(word), "{descr} {shape}: {error}");
        }
    }
}
