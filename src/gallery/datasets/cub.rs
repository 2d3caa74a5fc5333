//! CUB-200-2011 with the captions of Reed et al. (2016).
//!
//! `images/<NNN.Class>/<name>.jpg` and `text_c10/<NNN.Class>/<name>.txt`, ten captions each. The
//! zero-shot splits list classes (`trainvalclasses.txt`, `testclasses.txt`) and PCME's
//! `seen_test_images.txt` images. An image that only its captions name is kept, as missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::notes::Notes;
use super::{
    CLASS, DatasetItem, GalleryError, entries, file_name, item, places, split_lists, stem, text,
};

const CAPTIONS: &str = "text_c10";

/// Whether a folder holds CUB.
pub fn is(folder: &Path) -> bool {
    folder.join(CAPTIONS).is_dir() && image_folder(folder).is_some()
}

/// `images/`, or where the archive of the images was unpacked.
fn image_folder(folder: &Path) -> Option<PathBuf> {
    let known = [folder.join("images"), folder.join("CUB_200_2011/images")];
    known.into_iter().find(|path| path.is_dir())
}

/// Reads the folder.
pub fn read(folder: &Path, notes: &mut Notes) -> Result<Vec<DatasetItem>, GalleryError> {
    let images = image_folder(folder).unwrap_or_else(|| folder.join("images"));
    // Class and name of an image; its file, and that of its captions.
    let mut found: BTreeMap<(String, String), (Option<PathBuf>, Option<PathBuf>)> = BTreeMap::new();
    for class in folders(&images)? {
        for path in entries(&class)?.into_iter().filter(|path| places::is_image(path)) {
            let key = (file_name(&class), stem(&path));
            found.entry(key).or_default().0 = Some(path);
        }
    }
    for class in folders(&folder.join(CAPTIONS))? {
        let texts = entries(&class)?.into_iter().filter(|path| is_text(path));
        for path in texts {
            let key = (file_name(&class), stem(&path));
            found.entry(key).or_default().1 = Some(path);
        }
    }
    let mut items = Vec::with_capacity(found.len());
    for ((class, name), (image, captions)) in found {
        let id = match &image {
            Some(path) => places::id_below(&images, path),
            None => format!("{class}/{name}.jpg"),
        };
        let texts = match captions {
            Some(path) => text::captions(&path, notes)?,
            None => {
                notes.count("images without a caption file", &id);
                Vec::new()
            }
        };
        if image.is_none() {
            notes.count("caption files without an image", &id);
        }
        let image = image.unwrap_or_else(|| images.join(&id));
        let mut item = item(id, image.into(), texts);
        item.labels.insert(CLASS.to_owned(), class);
        items.push(item);
    }
    let lists = split_lists::find(folder, "txt")?;
    if !lists.is_empty() {
        split_lists::apply_to_classes(&lists, &mut items, notes)?;
    }
    Ok(items)
}

/// The folders in a folder.
pub fn folders(folder: &Path) -> Result<Vec<PathBuf>, GalleryError> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir()).collect())
}

/// Whether the file's name ends in `.txt`.
pub fn is_text(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "txt")
}
