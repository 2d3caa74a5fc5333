//! Text of unknown encoding and line ends.
//!
//! UTF-8, with or without a byte order mark; what is not is read as Windows-1252, which holds
//! Latin-1, and counted. A file that mixes both is told line by line.

use std::borrow::Cow;
use std::path::Path;

use serde::de::DeserializeOwned;

use super::notes::Notes;
use super::{Caption, GalleryError, caption, file_name, unusable};
use crate::files::read_bounded;

/// Largest text file of a whole dataset. COCO's captions have 30 MB.
const TEXT_LIMIT: u64 = 512 << 20;
/// Largest text file of one image.
pub const CAPTIONS_LIMIT: u64 = 1 << 20;
/// Largest json file. Karpathy's of COCO has 144 MB.
const JSON_LIMIT: u64 = 1 << 30;

const NOT_UTF8: &str = "lines that are not UTF-8, read as Windows-1252";
pub const BLANK: &str = "blank captions, left out";

/// Reads a text file of a whole dataset as it stands.
pub fn read(path: &Path) -> Result<Vec<u8>, GalleryError> {
    Ok(read_bounded(path, TEXT_LIMIT, "a table of texts")?)
}

/// Reads the lines of a file, as they stand, without their ends. What follows the last line end
/// is a line only if it is not empty.
pub fn lines(path: &Path, notes: &mut Notes) -> Result<Vec<String>, GalleryError> {
    split_lines(&read(path)?, path, notes)
}

/// Reads the entries of a list: trimmed lines that are not blank.
pub fn list(path: &Path, notes: &mut Notes) -> Result<Vec<String>, GalleryError> {
    let trimmed = lines(path, notes)?.into_iter().map(|line| line.trim().to_owned());
    Ok(trimmed.filter(|line| !line.is_empty()).collect())
}

/// Reads the captions of one image, one a line. Blank lines are counted.
pub fn captions(path: &Path, notes: &mut Notes) -> Result<Vec<Caption>, GalleryError> {
    let bytes = read_bounded(path, CAPTIONS_LIMIT, "the captions of one image")?;
    captions_of(&bytes, path, notes)
}

/// [`captions`] from memory; `path` is what notes call it.
pub fn captions_of(
    bytes: &[u8],
    path: &Path,
    notes: &mut Notes,
) -> Result<Vec<Caption>, GalleryError> {
    let lines = split_lines(bytes, path, notes)?.into_iter().enumerate();
    Ok(lines.filter_map(|(i, line)| caption_of(&line, notes, || place(path, i))).collect())
}

/// A caption, unless it is blank, which is counted.
pub fn caption_of(text: &str, notes: &mut Notes, place: impl Fn() -> String) -> Option<Caption> {
    let text = text.trim();
    if text.is_empty() {
        notes.count(BLANK, place());
        return None;
    }
    Some(caption(text))
}

/// "train_caps.txt, line 7" for line index 6.
pub fn place(path: &Path, line: usize) -> String {
    format!("{}, line {}", file_name(path), line + 1)
}

fn split_lines(bytes: &[u8], path: &Path, notes: &mut Notes) -> Result<Vec<String>, GalleryError> {
    let bytes = without_mark(bytes, path)?;
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let lines = bytes.split(|&byte| byte == b'\n').enumerate();
    Ok(lines
        .map(|(i, line)| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            decode(line, notes, || place(path, i)).into_owned()
        })
        .collect())
}

/// Decodes bytes that should be UTF-8.
pub fn decode<'a>(
    bytes: &'a [u8],
    notes: &mut Notes,
    place: impl FnOnce() -> String,
) -> Cow<'a, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => {
            notes.count(NOT_UTF8, place());
            Cow::Owned(bytes.iter().map(|&byte| windows_1252(byte)).collect())
        }
    }
}

/// Takes off the byte order mark of UTF-8.
pub fn without_mark<'a>(bytes: &'a [u8], path: &Path) -> Result<&'a [u8], GalleryError> {
    if bytes.starts_with(&[0xff, 0xfe]) || bytes.starts_with(&[0xfe, 0xff]) {
        return Err(unusable(path, "it is UTF-16 text; save it as UTF-8"));
    }
    Ok(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes))
}

/// Reads a json file. `what` says what it should be ("a Karpathy json file").
pub fn json<T: DeserializeOwned>(
    path: &Path,
    what: &'static str,
    notes: &mut Notes,
) -> Result<T, GalleryError> {
    let bytes = read_bounded(path, JSON_LIMIT, what)?;
    let text = decode(without_mark(&bytes, path)?, notes, || file_name(path));
    serde_json::from_str(&text).map_err(|error| unusable(path, format!("not {what}: {error}")))
}

/// The character of a byte, as the WHATWG encoding standard has it.
fn windows_1252(byte: u8) -> char {
    const HIGH: [char; 32] = [
        '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž',
        '\u{8f}', '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}',
        'ž', 'Ÿ',
    ];
    match byte {
        0x80..=0x9f => HIGH[usize::from(byte - 0x80)],
        other => char::from(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> (Vec<String>, Vec<String>) {
        let mut notes = Notes::default();
        let captions = captions_of(bytes, Path::new("/x/a.txt"), &mut notes).unwrap();
        (captions.into_iter().map(|c| c.text).collect(), notes.into_sentences())
    }

    #[test]
    fn lines_end_in_every_way_and_blank_ones_are_counted() {
        let (found, notes) = texts(b"\xef\xbb\xbfone\r\n  two \n\n \nthree");
        assert_eq!(found, ["one", "two", "three"]);
        assert_eq!(notes, ["blank captions, left out: 2 (first: a.txt, line 3)"]);
        assert_eq!(texts(b"one\n"), (vec!["one".to_owned()], Vec::new()));
        assert_eq!(texts(b"").0, [""; 0]);
    }

    #[test]
    fn a_line_that_is_not_utf8_is_read_as_windows_1252_and_its_neighbour_as_utf8() {
        let (found, notes) = texts(b"caf\xe9 \x93nice\x94 \x80 5\ncaf\xc3\xa9\n");
        assert_eq!(found, ["café “nice” € 5", "café"]);
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("Windows-1252: 1 (first: a.txt, line 1)"), "{notes:?}");
    }

    #[test]
    fn utf16_is_refused_with_what_to_do() {
        let mut notes = Notes::default();
        let error = captions_of(b"\xff\xfea\0", Path::new("a.txt"), &mut notes).unwrap_err();
        assert!(error.to_string().contains("save it as UTF-8"));
    }
}
