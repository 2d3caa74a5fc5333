//! Reading untrusted files within bounds, and writing files that are either whole or absent.
//!
//! Every reader in Haze goes through [`read_bounded`] or [`map_readonly`]; every writer goes
//! through [`write_atomic`], so an interrupted run, a full disk or an error in the middle never
//! leaves a partial file behind.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

/// Why a file could not be read or written. Always names the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("{}: cannot read it: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "{}: cannot write it: {source}; check that the folder exists, is writable and that the \
         disk has room",
        path.display()
    )]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{}: the file has {found} bytes, more than the {limit} expected at most for {what}",
        path.display()
    )]
    TooLarge { path: PathBuf, what: &'static str, found: u64, limit: u64 },
    #[error("{}: is a folder, expected {what}", path.display())]
    IsFolder { path: PathBuf, what: &'static str },
}

impl FileError {
    /// Builds a mapper from `io::Error` to a read error about `path`.
    pub fn read(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
        move |source| FileError::Read { path: path.to_owned(), source }
    }

    /// Builds a mapper from `io::Error` to a write error about `path`.
    pub fn write(path: &Path) -> impl FnOnce(io::Error) -> FileError + '_ {
        move |source| FileError::Write { path: path.to_owned(), source }
    }

    /// True when the operation that failed was a write.
    pub fn is_write(&self) -> bool {
        matches!(self, FileError::Write { .. })
    }
}

/// Reads a whole file of at most `limit` bytes. `what` says what the file should be ("an image").
///
/// # Errors
/// When the file is missing, unreadable, a folder, or longer than `limit`.
pub fn read_bounded(path: &Path, limit: u64, what: &'static str) -> Result<Vec<u8>, FileError> {
    let file = open(path, what)?;
    let found = file.metadata().map_err(FileError::read(path))?.len();
    if found > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), what, found, limit });
    }
    let mut bytes = Vec::with_capacity(found as usize);
    // `take`: a file that grows while it is read, or a device without a length, stays bounded.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(FileError::read(path))?;
    if bytes.len() as u64 > limit {
        return Err(FileError::TooLarge {
            path: path.to_owned(),
            what,
            found: bytes.len() as u64,
            limit,
        });
    }
    Ok(bytes)
}

/// Memory-maps a file for reading. The mapping must not outlive the caller's trust that nobody
/// truncates the file meanwhile; Haze only maps model weights and embedding stores.
///
/// # Errors
/// When the file is missing, unreadable or a folder.
pub fn map_readonly(path: &Path, what: &'static str) -> Result<memmap2::Mmap, FileError> {
    let file = open(path, what)?;
    // SAFETY: the map is read-only; concurrent truncation by another process would raise SIGBUS,
    // which is the documented contract of memory-mapped model files.
    unsafe { memmap2::Mmap::map(&file) }.map_err(FileError::read(path))
}

/// Tells the system that these bytes of a map are not needed any more, so that they do not count as
/// memory in use; they are read from the file again if someone asks. Does nothing off Unix.
pub fn release_pages(map: &memmap2::Mmap, bytes: std::ops::Range<usize>) {
    #[cfg(unix)]
    {
        let advice = memmap2::UncheckedAdvice::DontNeed;
        let bytes = bytes.start.min(map.len())..bytes.end.min(map.len());
        // SAFETY: the map is shared with the file and never written to, so that dropped pages come
        // back with the same content. It is only advice: a refusal changes nothing.
        let _ = unsafe { map.unchecked_advise_range(advice, bytes.start, bytes.len()) };
    }
    #[cfg(not(unix))]
    let _ = (map, bytes);
}

fn open(path: &Path, what: &'static str) -> Result<File, FileError> {
    let file = File::open(path).map_err(FileError::read(path))?;
    if file.metadata().map_err(FileError::read(path))?.is_dir() {
        return Err(FileError::IsFolder { path: path.to_owned(), what });
    }
    Ok(file)
}

/// Writes a file atomically: `fill` writes to a temporary file in the same folder, which is
/// flushed to disk and renamed over `path` only when `fill` succeeded.
///
/// # Errors
/// When the folder is missing or unwritable, the disk is full, or `fill` fails. The previous
/// content of `path`, if any, is then untouched and no temporary file stays behind.
pub fn write_atomic(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> io::Result<()>,
) -> Result<(), FileError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".haze-")
        .suffix(".partial")
        .tempfile_in(folder)
        .map_err(FileError::write(path))?;
    {
        let mut writer = BufWriter::new(temporary.as_file_mut());
        fill(&mut writer).map_err(FileError::write(path))?;
        writer.flush().map_err(FileError::write(path))?;
    }
    temporary.as_file().sync_all().map_err(FileError::write(path))?;
    restore_default_mode(temporary.as_file(), path)?;
    temporary.persist(path).map_err(|error| FileError::write(path)(error.error))?;
    Ok(())
}

/// Temporary files are created private (0600); results are ordinary files (0644).
fn restore_default_mode(file: &File, path: &Path) -> Result<(), FileError> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))
            .map_err(FileError::write(path))?;
    }
    #[cfg(not(unix))]
    let _ = (file, path);
    Ok(())
}

/// Creates a folder and its parents.
///
/// # Errors
/// When it cannot be created, or when a file of that name is in the way.
pub fn create_folder(path: &Path) -> Result<(), FileError> {
    std::fs::create_dir_all(path).map_err(FileError::write(path))
}

/// Where settings and secrets are kept.
pub const CONFIG: SystemPlace = SystemPlace {
    own: "HAZE_CONFIG",
    windows: "APPDATA",
    macos: "Library/Application Support",
    xdg: "XDG_CONFIG_HOME",
    home: ".config",
};

/// A number of bytes as people read it.
pub fn readable_size(bytes: u64) -> String {
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", units[unit]) }
}

/// Where a system keeps one kind of file.
#[derive(Debug, Clone, Copy)]
pub struct SystemPlace {
    /// Environment variable of ours that names the folder itself.
    pub own: &'static str,
    /// Environment variable that names the folder above ours on Windows.
    pub windows: &'static str,
    /// The folder above ours on macOS, below the home folder.
    pub macos: &'static str,
    /// Environment variable that names the folder above ours elsewhere,
    pub xdg: &'static str,
    /// else this one below the home folder.
    pub home: &'static str,
}

impl SystemPlace {
    /// Our folder; `None` where the system has no place for one. It may not exist yet.
    pub fn folder(&self) -> Option<PathBuf> {
        let variable =
            |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        if let Some(folder) = variable(self.own) {
            return Some(folder);
        }
        let base = if cfg!(target_os = "windows") {
            variable(self.windows)?
        } else if cfg!(target_os = "macos") {
            variable("HOME")?.join(self.macos)
        } else {
            variable(self.xdg).or_else(|| Some(variable("HOME")?.join(self.home)))?
        };
        Some(base.join("haze"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("result.json");
        write_atomic(&path, |w| w.write_all(b"old")).unwrap();
        let error = write_atomic(&path, |w| {
            w.write_all(b"half of the new")?;
            Err(io::Error::other("disk full"))
        })
        .unwrap_err();
        assert!(error.is_write());
        assert!(error.to_string().contains("disk full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn byte_counts_are_readable() {
        assert_eq!(readable_size(12), "12 B");
        assert_eq!(readable_size(1536), "1.5 KiB");
        assert_eq!(readable_size(5 << 30), "5.0 GiB");
    }

    #[test]
    fn a_file_above_the_limit_is_refused_by_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big");
        std::fs::write(&path, [0; 11]).unwrap();
        let error = read_bounded(&path, 10, "a test file").unwrap_err();
        assert!(matches!(error, FileError::TooLarge { found: 11, limit: 10, .. }));
        assert_eq!(read_bounded(&path, 11, "a test file").unwrap().len(), 11);
    }
}
