//! Content hashes of model folders, so that a recipe can tell whether it meets the same models.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use crate::files::{FileError, map_readonly};

/// Folders nested deeper than this are no model folders.
const DEPTH_LIMIT: usize = 8;

/// BLAKE3 hash (hex) over relative names and contents of all files in a folder, or of one file.
/// Hidden files are left out: they are caches and version control.
///
/// # Errors
/// When a file or folder cannot be read.
pub fn of_folder(folder: &Path) -> Result<String, FileError> {
    let mut files = Vec::new();
    if folder.is_dir() {
        collect(folder, 0, &mut files)?;
    } else {
        files.push(folder.to_owned());
    }
    let hashes: Vec<(String, blake3::Hash)> = files
        .par_iter()
        .map(|path| {
            let name = path.strip_prefix(folder).unwrap_or(path);
            // One spelling on every system.
            let name = name.components().map(|c| c.as_os_str().to_string_lossy());
            Ok((name.collect::<Vec<_>>().join("/"), of_file(path)?))
        })
        .collect::<Result<_, FileError>>()?;
    let mut hashes = hashes;
    hashes.sort_by(|a, b| a.0.cmp(&b.0));
    let mut hasher = blake3::Hasher::new();
    for (name, hash) in hashes {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(hash.as_bytes());
    }
    Ok(hasher.finalize().to_hex().to_string())
}

fn of_file(path: &Path) -> Result<blake3::Hash, FileError> {
    let length = std::fs::metadata(path).map_err(FileError::read(path))?.len();
    if length == 0 {
        return Ok(blake3::hash(&[]));
    }
    Ok(blake3::hash(&map_readonly(path, "a model file")?))
}

fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), FileError> {
    if depth > DEPTH_LIMIT {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder).map_err(FileError::read(folder))? {
        let path = entry.map_err(FileError::read(folder))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            collect(&path, depth + 1, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_follows_names_and_contents_and_nothing_else() {
        let make = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (name, content) in files {
                let path = folder.path().join(name);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, content).unwrap();
            }
            of_folder(folder.path()).unwrap()
        };
        let base = make(&[("config.json", "{}"), ("unet/weights", "abc")]);
        assert_eq!(base, make(&[("unet/weights", "abc"), ("config.json", "{}")]));
        assert_eq!(base, make(&[("config.json", "{}"), ("unet/weights", "abc"), (".cache", "x")]));
        assert_ne!(base, make(&[("config.json", "{}"), ("unet/weights", "abd")]));
        assert_ne!(base, make(&[("config.json", "{}"), ("vae/weights", "abc")]));
        assert_ne!(base, make(&[("config.json", "{}"), ("unet/weights", "abc"), ("more", "")]));
    }
}
