//! Files inside uncompressed tar archives, read in place.
//!
//! In goes an archive that nobody has vouched for; out come the places of its members, and their
//! bytes within bounds. A member is called by a path through its archive, such as
//! `test/0.tar/s0001.jpg`, so that whatever keeps the path of an image file can keep this too.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use crate::files::FileError;

/// Most members of one archive. A shard of a dataset has some thousands.
const MEMBER_LIMIT: usize = 1 << 20;

/// Most bytes of headers and long names before one member.
const HEADER_LIMIT: u64 = 1 << 20;

/// Where a file lies in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarMember {
    pub archive: PathBuf,
    /// Its path inside the archive, with `/` between folders.
    pub name: String,
    /// First byte in the archive.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

impl TarMember {
    /// The path through the archive.
    pub fn path(&self) -> PathBuf {
        self.archive.join(&self.name)
    }

    /// Reads the member. `what` says what it should be ("an image").
    ///
    /// # Errors
    /// When it has more than `limit` bytes, or the archive is gone, unreadable or has shrunk.
    pub fn read(&self, limit: u64, what: &'static str) -> Result<Vec<u8>, FileError> {
        let mut file = File::open(&self.archive).map_err(FileError::read(&self.archive))?;
        self.read_from(&mut file, limit, what)
    }

    /// [`TarMember::read`] from an archive that is open already.
    ///
    /// # Errors
    /// As [`TarMember::read`].
    pub fn read_from(
        &self,
        file: &mut File,
        limit: u64,
        what: &'static str,
    ) -> Result<Vec<u8>, FileError> {
        let path = self.path();
        if self.length > limit {
            return Err(FileError::TooLarge { path, what, found: self.length, limit });
        }
        let mut bytes = Vec::with_capacity(self.length as usize);
        let read = file
            .seek(SeekFrom::Start(self.offset))
            .and_then(|_| file.take(self.length).read_to_end(&mut bytes));
        read.map_err(FileError::read(&path))?;
        if bytes.len() as u64 != self.length {
            return Err(FileError::read(&path)(cut_short(self, bytes.len() as u64)));
        }
        Ok(bytes)
    }
}

/// Lists the regular files of an archive, in its order. Their content is not read.
///
/// # Errors
/// When the file is no tar archive, is cut short, or has more than 2^20 members.
pub fn members(archive: &Path) -> Result<Vec<TarMember>, FileError> {
    let file = File::open(archive).map_err(FileError::read(archive))?;
    let total = file.metadata().map_err(FileError::read(archive))?.len();
    let left = Cell::new(HEADER_LIMIT);
    let mut tar = tar::Archive::new(Bounded { file, left: &left });
    let mut members = Vec::new();
    for entry in tar.entries_with_seek().map_err(FileError::read(archive))? {
        let entry = entry.map_err(FileError::read(archive))?;
        left.set(HEADER_LIMIT);
        let kind = entry.header().entry_type();
        if !(kind.is_file() || kind.is_contiguous()) {
            continue;
        }
        let member = TarMember {
            archive: archive.to_owned(),
            name: String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned(),
            offset: entry.raw_file_position(),
            length: entry.size(),
        };
        let found = total.saturating_sub(member.offset);
        if member.length > found {
            return Err(FileError::read(archive)(cut_short(&member, found)));
        }
        if members.len() == MEMBER_LIMIT {
            let reason = format!("it has more than {MEMBER_LIMIT} members");
            return Err(FileError::read(archive)(io::Error::other(reason)));
        }
        members.push(member);
    }
    Ok(members)
}

/// Reads the member that a path through an archive names. `None` when no part of `path` is an
/// archive: a file whose name ends in `.tar`, with more of the path behind it.
pub fn read_path(
    path: &Path,
    limit: u64,
    what: &'static str,
) -> Option<Result<Vec<u8>, FileError>> {
    let (archive, name) = split(path)?;
    let read = members(&archive).and_then(|members| {
        let member = members.iter().find(|member| member.name == name).ok_or_else(|| {
            let reason = format!("the archive has no member {name:?}");
            FileError::read(path)(io::Error::new(io::ErrorKind::NotFound, reason))
        })?;
        member.read(limit, what)
    });
    Some(read)
}

/// The archive on a path, and the member's name behind it.
fn split(path: &Path) -> Option<(PathBuf, String)> {
    let mut archive = PathBuf::new();
    let mut components = path.components();
    for component in components.by_ref() {
        archive.push(component);
        let Component::Normal(name) = component else { continue };
        let ending = Path::new(name).extension().is_some_and(|e| e.eq_ignore_ascii_case("tar"));
        if ending && archive.is_file() {
            let parts: Vec<_> = components.map(|c| c.as_os_str().to_string_lossy()).collect();
            return (!parts.is_empty()).then(|| (archive, parts.join("/")));
        }
    }
    None
}

fn cut_short(member: &TarMember, found: u64) -> io::Error {
    let TarMember { name, length, .. } = member;
    io::Error::new(
        io::ErrorKind::UnexpectedEof,
        format!("the archive is cut short: {name:?} should have {length} bytes, {found} are there"),
    )
}

/// A file of which only so many bytes may be read: the tar reader takes the length of a long name
/// on trust.
struct Bounded<'a> {
    file: File,
    left: &'a Cell<u64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        let left = self.left.get().checked_sub(count as u64);
        self.left.set(left.ok_or_else(|| {
            io::Error::other(format!("a member's headers have more than {HEADER_LIMIT} bytes"))
        })?);
        Ok(count)
    }
}

impl Seek for Bounded<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An archive of these files, in a folder of its own.
    fn archive(files: &[(&str, &[u8])]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0.tar");
        let mut builder = tar::Builder::new(File::create(&path).unwrap());
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *content).unwrap();
        }
        builder.into_inner().unwrap();
        (folder, path)
    }

    #[test]
    fn members_are_read_in_place_and_by_their_path() {
        let long = format!("{}/b.jpg", "folder".repeat(40));
        let (_folder, path) = archive(&[("a.txt", b"words"), (&long, b"picture")]);
        let found = members(&path).unwrap();
        assert_eq!(found.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a.txt", &long]);
        assert_eq!(found[1].read(7, "a test").unwrap(), b"picture");
        let error = found[1].read(6, "a test").unwrap_err();
        assert!(matches!(error, FileError::TooLarge { found: 7, limit: 6, .. }));
        assert_eq!(read_path(&found[1].path(), 10, "a test").unwrap().unwrap(), b"picture");
        let error = read_path(&path.join("c.jpg"), 10, "a test").unwrap().unwrap_err();
        assert!(error.to_string().contains("no member \"c.jpg\""), "{error}");
        assert!(read_path(&path, 10, "a test").is_none());
        assert!(read_path(Path::new("/nowhere.tar/a.jpg"), 10, "a test").is_none());
    }

    #[test]
    fn an_archive_cut_short_or_of_another_format_is_an_error() {
        let (_folder, path) = archive(&[("a.txt", &[7; 3000])]);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..1500]).unwrap();
        let error = members(&path).unwrap_err().to_string();
        assert!(error.contains("cut short") && error.contains("3000"), "{error}");
        std::fs::write(&path, [b'x'; 2048]).unwrap();
        assert!(members(&path).is_err());
    }

    #[test]
    fn a_name_that_claims_megabytes_is_refused() {
        let (_folder, path) = archive(&[]);
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(8 << 20);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(9 << 20, b'n');
        std::fs::write(&path, bytes).unwrap();
        let error = members(&path).unwrap_err().to_string();
        assert!(error.contains("headers"), "{error}");
    }
}
