//! PyTorch files that hold one tensor and no dictionary (`torch.save(tensor, path)`).
//!
//! The reader of state dicts takes dictionaries only. A tensor's pickle is a program that leaves
//! the tensor on a stack; with one instruction before and one after it, the same program leaves a
//! dictionary that holds it. Nothing of the pickle is executed here.

use std::io::{Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

/// What the tensor is called in the dictionary.
pub const NAME: &str = "tensor";
/// The pickle of one tensor takes some hundred bytes.
const PICKLE_LIMIT: u64 = 1 << 16;
/// Such a file has a pickle, one storage and a few notes.
const ENTRY_LIMIT: usize = 64;

const PROTO: u8 = 0x80;
const EMPTY_DICT: u8 = b'}';
const BINUNICODE: u8 = b'X';
const SETITEM: u8 = b's';
const STOP: u8 = b'.';

/// A copy of the file in the system's folder for temporary files, with the tensor as the one entry
/// [`NAME`] of a dictionary. `None` when the file cannot be such a file, or the copy fails.
pub fn as_state_dict(path: &Path) -> Option<NamedTempFile> {
    let mut archive = ZipArchive::new(std::fs::File::open(path).ok()?).ok()?;
    if archive.len() > ENTRY_LIMIT {
        return None;
    }
    let mut copy = NamedTempFile::new().ok()?;
    let mut writer = ZipWriter::new(copy.as_file_mut());
    for index in 0..archive.len() {
        let entry = archive.by_index(index).ok()?;
        let name = entry.name().ok()?.into_owned();
        if !name.ends_with("/data.pkl") {
            writer.raw_copy_file(entry).ok()?;
            continue;
        }
        let mut pickle = Vec::new();
        entry.take(PICKLE_LIMIT).read_to_end(&mut pickle).ok()?;
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
        writer.start_file(name, options).ok()?;
        writer.write_all(&in_dictionary(&pickle)?).ok()?;
    }
    writer.finish().ok()?;
    Some(copy)
}

/// The program with a dictionary around what it leaves.
fn in_dictionary(pickle: &[u8]) -> Option<Vec<u8>> {
    let [PROTO, version, program @ .., STOP] = pickle else { return None };
    let mut wrapped = vec![PROTO, *version, EMPTY_DICT, BINUNICODE];
    wrapped.extend((NAME.len() as u32).to_le_bytes());
    wrapped.extend(NAME.as_bytes());
    wrapped.extend(program);
    wrapped.extend([SETITEM, STOP]);
    Some(wrapped)
}
