//! Where the image of a dataset's item lies.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::archive::TarMember;
use crate::files::{FileError, read_bounded};

/// A file of its own, or a member of a tar archive that is read in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageLocation {
    /// Absolute path.
    File(PathBuf),
    Member(TarMember),
}

impl ImageLocation {
    /// Reads the file, still encoded as PNG, JPEG and so on.
    ///
    /// # Errors
    /// When it is missing, unreadable or has more than `limit` bytes.
    pub fn read(&self, limit: u64) -> Result<Vec<u8>, FileError> {
        match self {
            ImageLocation::File(path) => read_bounded(path, limit, "an image"),
            ImageLocation::Member(member) => member.read(limit, "an image"),
        }
    }

    /// The path of the file, or the one through its archive (`test/0.tar/s0001.jpg`), which
    /// [`read_image`](crate::query::read_image) reads too.
    pub fn path(&self) -> PathBuf {
        match self {
            ImageLocation::File(path) => path.clone(),
            ImageLocation::Member(member) => member.path(),
        }
    }

    /// Whether the file, or the archive, exists.
    pub fn exists(&self) -> bool {
        match self {
            ImageLocation::File(path) => path.is_file(),
            ImageLocation::Member(member) => member.archive.is_file(),
        }
    }

    /// Bytes; 0 where the file is missing.
    pub fn size(&self) -> u64 {
        match self {
            ImageLocation::File(path) => std::fs::metadata(path).map_or(0, |m| m.len()),
            ImageLocation::Member(member) if self.exists() => member.length,
            ImageLocation::Member(_) => 0,
        }
    }
}

impl From<PathBuf> for ImageLocation {
    fn from(path: PathBuf) -> Self {
        ImageLocation::File(path)
    }
}

impl From<&Path> for ImageLocation {
    fn from(path: &Path) -> Self {
        ImageLocation::File(path.to_owned())
    }
}

impl fmt::Display for ImageLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(formatter)
    }
}
