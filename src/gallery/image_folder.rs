//! A plain folder of images as a dataset without captions.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use super::{Dataset, DatasetItem, GalleryError};
use crate::files::FileError;

const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// Reads all images at or below `root` (absolute), sorted by path. Hidden files and folders are
/// left out; links are followed, each real folder once.
pub(super) fn read(root: &Path) -> Result<Dataset, GalleryError> {
    let mut images = Vec::new();
    let mut visited = HashSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let real = folder.canonicalize().map_err(FileError::read(&folder))?;
        if !visited.insert(real) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(FileError::read(&folder))? {
            let entry = entry.map_err(FileError::read(&folder))?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let path = entry.path();
            if path.is_dir() {
                open.push(path);
            } else if is_image(&path) {
                images.push(path);
            }
        }
    }
    if images.is_empty() {
        return Err(GalleryError::NoImages { path: root.to_owned() });
    }
    let mut items: Vec<_> = images.into_iter().map(|image| item(root, image)).collect();
    items.sort_by(|a, b| a.id.cmp(&b.id));
    let name = root.file_name().unwrap_or(root.as_os_str()).to_string_lossy().into_owned();
    Ok(Dataset { name, source: root.to_owned(), items })
}

fn item(root: &Path, image: PathBuf) -> DatasetItem {
    let below = image.strip_prefix(root).unwrap_or(&image);
    let id = below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/");
    DatasetItem { id, image, captions: Vec::new(), split: None, labels: BTreeMap::new() }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_recursively_in_the_order_of_their_paths() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b.PNG", "a/z.jpeg", "a/y.gif", ".hidden.png", "notes.txt", "c.webp.part"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
        let dataset = Dataset::open(folder.path()).unwrap();
        let ids: Vec<_> = dataset.items.iter().map(|item| item.id.as_str()).collect();
        assert_eq!(ids, ["a/y.gif", "a/z.jpeg", "b.PNG"]);
        assert!(dataset.items.iter().all(|item| item.image.is_absolute()));
        dataset.require_images().unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_points_back_up_does_not_loop() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("a")).unwrap();
        std::fs::write(folder.path().join("a/one.png"), b"").unwrap();
        std::os::unix::fs::symlink(folder.path(), folder.path().join("a/up")).unwrap();
        assert_eq!(Dataset::open(folder.path()).unwrap().items.len(), 1);
    }

    #[test]
    fn a_folder_without_images_is_an_error_that_says_what_is_expected() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("notes.txt"), b"").unwrap();
        let error = Dataset::open(folder.path()).unwrap_err();
        assert!(matches!(error, GalleryError::NoImages { .. }));
        assert!(error.to_string().contains("jpeg"));
    }
}
