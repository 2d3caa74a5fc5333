//! A plain folder of images, with captions beside them or without.
//!
//! Captions of `a.jpg` stand in `a.txt`, one a line, or in a table of all images: see
//! [`table`](super::table). Where a table is, files beside the images are not read.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::notes::Notes;
use super::{DatasetItem, GalleryError, item, places, table, text};

/// Reads all images at or below `root` (absolute), sorted by path, and their captions.
pub fn read(root: &Path, notes: &mut Notes) -> Result<Vec<DatasetItem>, GalleryError> {
    let images = places::find_images(root)?;
    if let Some(file) = table::find(root) {
        let mut items = table::read(&file, root, notes)?;
        let listed: HashSet<String> = items.iter().map(|item| item.id.clone()).collect();
        for image in images {
            let id = places::id_below(root, &image);
            if !listed.contains(&id) {
                notes.count("images that the table does not name, kept without captions", &id);
                items.push(item(id, image.into(), Vec::new()));
            }
        }
        return Ok(items);
    }
    let mut items = Vec::with_capacity(images.len());
    let mut stems: HashMap<_, usize> = HashMap::new();
    for image in images {
        let beside = image.with_extension("txt");
        let captions = match beside.is_file() {
            true => text::captions(&beside, notes)?,
            false => Vec::new(),
        };
        if !captions.is_empty() {
            *stems.entry(beside).or_default() += 1;
        }
        items.push(item(places::id_below(root, &image), image.into(), captions));
    }
    let captioned = stems.values().sum::<usize>();
    if captioned > 0 && captioned < items.len() {
        let (without, all) = (items.len() - captioned, items.len());
        notes.say(format!("images without a text file of their name: {without} of {all}"));
    }
    for (shared, count) in stems {
        if count > 1 {
            notes.count("captions shared by images of one name", shared.display());
        }
    }
    items.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gallery::Dataset;

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
        assert!(dataset.items.iter().all(|item| item.image.path().is_absolute()));
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
