//! The text files of VSE++ (Faghri et al., 2018), on which PCME++ and others build.
//!
//! `{train,dev,test,testall}_caps.txt` has one caption a line, `{..}_ids.txt` the image of each
//! line, or of each group of lines (five captions an image). `id_mapping.json` maps ids to image
//! paths; without it an id is looked up among the image files by name or trailing number. COCO's
//! `test` is the first part of `testall`: its images have split `test`, the other images of
//! `testall` have split `testall`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::notes::Notes;
use super::places::{ImageIndex, check_inside, image_root};
use super::{Caption, DatasetItem, GalleryError, entries, file_name, item, text, unusable};

/// The word in the files' names, and the split it stands for.
const SPLITS: [(&str, &str); 5] =
    [("train", "train"), ("dev", "val"), ("val", "val"), ("test", "test"), ("testall", "testall")];

/// The folder of the caption files: `folder`, or one below it such as `coco_precomp/`.
pub fn find(folder: &Path) -> Result<Option<PathBuf>, GalleryError> {
    let holds = |folder: &Path| {
        SPLITS.iter().any(|(name, _)| folder.join(format!("{name}_caps.txt")).is_file())
    };
    if holds(folder) {
        return Ok(Some(folder.to_owned()));
    }
    let mut found: Vec<_> =
        entries(folder)?.into_iter().filter(|path| path.is_dir() && holds(path)).collect();
    if found.len() > 1 {
        let names: Vec<_> = found.iter().map(|path| path.display().to_string()).collect();
        let reason = format!("it holds several datasets, name one of {}", names.join(", "));
        return Err(unusable(folder, reason));
    }
    Ok(found.pop())
}

/// Reads all splits that are there.
pub fn read(folder: &Path, notes: &mut Notes) -> Result<Vec<DatasetItem>, GalleryError> {
    let mut images: Vec<(String, &'static str, Vec<Caption>)> = Vec::new();
    let mut splits: HashMap<String, &'static str> = HashMap::new();
    for (name, split) in SPLITS {
        let path = folder.join(format!("{name}_caps.txt"));
        if !path.is_file() {
            continue;
        }
        for (id, captions) in read_split(&path, folder, name, notes)? {
            match splits.get(&id) {
                None => {}
                Some(&"test") if split == "testall" => continue,
                Some(other) => {
                    let reason = format!("the image {id:?} is in {other} and listed again here");
                    return Err(unusable(&path, reason));
                }
            }
            splits.insert(id.clone(), split);
            images.push((id, split, captions));
        }
    }
    let found = splits.values();
    if found.clone().any(|&s| s == "test") && found.clone().any(|&s| s == "testall") {
        notes.say(
            "images of testall that are in test too have split test, the others testall; take \
             both for the whole test split",
        );
    }
    locate(folder, images, notes)
}

/// The images of one split with their captions, in the order of the file.
fn read_split(
    path: &Path,
    folder: &Path,
    name: &str,
    notes: &mut Notes,
) -> Result<Vec<(String, Vec<Caption>)>, GalleryError> {
    let captions = text::lines(path, notes)?;
    let ids_path = folder.join(format!("{name}_ids.txt"));
    if !ids_path.is_file() {
        let reason = format!("{} is missing, which names its images", file_name(&ids_path));
        return Err(unusable(path, reason));
    }
    let ids = text::list(&ids_path, notes)?;
    if ids.is_empty() || !captions.len().is_multiple_of(ids.len()) || captions.is_empty() {
        let reason = format!(
            "it has {} lines but {} has {} ids; expected one id for each line, or one for every \
             so many lines",
            captions.len(),
            file_name(&ids_path),
            ids.len()
        );
        return Err(unusable(path, reason));
    }
    let each = captions.len() / ids.len();
    let mut positions: HashMap<&str, usize> = HashMap::new();
    let mut images: Vec<(String, Vec<Caption>)> = Vec::new();
    for (i, (id, lines)) in ids.iter().zip(captions.chunks(each)).enumerate() {
        let position = match positions.get(id.as_str()) {
            Some(_) if each > 1 => {
                let reason = format!("the image {id:?} is listed twice");
                return Err(unusable(&ids_path, reason));
            }
            Some(&position) => position,
            None => {
                positions.insert(id, images.len());
                images.push((id.clone(), Vec::new()));
                images.len() - 1
            }
        };
        for (j, line) in lines.iter().enumerate() {
            let place = || text::place(path, i * each + j);
            images[position].1.extend(text::caption_of(line, notes, place));
        }
    }
    Ok(images)
}

/// Finds the image files.
fn locate(
    folder: &Path,
    images: Vec<(String, &'static str, Vec<Caption>)>,
    notes: &mut Notes,
) -> Result<Vec<DatasetItem>, GalleryError> {
    // `coco_precomp/` often stands beside the images.
    let above = folder.parent().unwrap_or(folder);
    let files = [folder.join("id_mapping.json"), above.join("id_mapping.json")];
    let mut places: Vec<(String, PathBuf)> = Vec::with_capacity(images.len());
    if let Some(mapping) = files.iter().find(|path| path.is_file()) {
        let known: BTreeMap<String, String> =
            text::json(mapping, "a map of image ids to paths", notes)?;
        let mut ids = Vec::with_capacity(images.len());
        for (id, ..) in &images {
            let path = known.get(id).ok_or_else(|| {
                unusable(mapping, format!("it has no path for the image id {id:?}"))
            })?;
            check_inside(mapping, path)?;
            ids.push(path.clone());
        }
        let roots = [image_root(folder, &ids), image_root(above, &ids)];
        let best = usize::from(roots[1].1 > roots[0].1);
        places.extend(ids.into_iter().map(|id| (id.clone(), roots[best].0.join(id))));
    } else {
        let mut indices = vec![ImageIndex::of(folder)?];
        if above.join("images").is_dir() {
            indices.push(ImageIndex::of(&above.join("images"))?);
        }
        for (id, ..) in &images {
            let found = indices.iter().find_map(|index| index.get(id));
            places.push(match found {
                Some(place) => place,
                None => {
                    check_inside(folder, id)?;
                    notes.count("image ids of which no file was found", id);
                    (format!("{id}.jpg"), folder.join(format!("images/{id}.jpg")))
                }
            });
        }
    }
    let items = images.into_iter().zip(places).map(|((image_id, split, captions), (id, path))| {
        let mut item = item(id, path.into(), captions);
        item.split = Some(split.to_owned());
        item.labels.insert("image_id".to_owned(), image_id);
        item
    });
    Ok(items.collect())
}
