//! COCO's own annotations, and PCME's lists of caption ids that split them.
//!
//! `annotations/captions_{train,val}2014.json` (or 2017's): `{"images": [{"id", "file_name"}],
//! "annotations": [{"id", "image_id", "caption"}]}`. PCME, and with it ProbVLM, splits by
//! `coco_{train,restval,dev,test}_ids.npy`, whole numbers `[N]` that are ids of captions: an image
//! is of the split that lists its captions, and the lists choose which captions it has.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::notes::Notes;
use super::split_lists::{self, SplitList};
use super::{DatasetItem, GalleryError, entries, file_name, item, places, text, unusable};
use crate::files::read_bounded;
use crate::gallery::npy;

/// Largest list of ids. COCO's train list has 3.3 MB.
const IDS_LIMIT: u64 = 256 << 20;

#[derive(Deserialize)]
struct File {
    images: Vec<Image>,
    annotations: Vec<Annotation>,
}

#[derive(Deserialize)]
struct Image {
    id: i64,
    file_name: String,
}

#[derive(Deserialize)]
struct Annotation {
    id: i64,
    image_id: i64,
    caption: String,
}

/// The caption files of a folder, in `annotations/` or in itself.
pub fn find(folder: &Path) -> Result<Vec<PathBuf>, GalleryError> {
    let named = |path: &PathBuf| {
        let name = file_name(path);
        name.starts_with("captions_") && name.ends_with(".json") && path.is_file()
    };
    for folder in [folder.join("annotations"), folder.to_owned()] {
        if folder.is_dir() {
            let found: Vec<_> = entries(&folder)?.into_iter().filter(named).collect();
            if !found.is_empty() {
                return Ok(found);
            }
        }
    }
    Ok(Vec::new())
}

/// An item, and the ids of its captions.
struct Draft {
    item: DatasetItem,
    /// Below the image folder when all splits share one.
    file_name: String,
    caption_ids: Vec<i64>,
}

/// Reads caption files; images lie in or below `root`.
pub fn read(
    root: &Path,
    files: &[PathBuf],
    notes: &mut Notes,
) -> Result<Vec<DatasetItem>, GalleryError> {
    let mut drafts = Vec::new();
    let mut owners = HashMap::new();
    for file in of_one_year(files, notes) {
        read_file(file, &mut drafts, &mut owners, notes)?;
    }
    let lists = split_lists::find(root, "npy")?;
    if !lists.is_empty() {
        apply(&lists, root, &mut drafts, &owners, notes)?;
    }
    place(root, &mut drafts);
    Ok(drafts.into_iter().map(|draft| draft.item).collect())
}

/// The files of the earliest year: 2014 and 2017 hold the same images in other splits, and both
/// are unpacked into one folder.
fn of_one_year<'a>(files: &'a [PathBuf], notes: &mut Notes) -> Vec<&'a PathBuf> {
    let year = |path: &PathBuf| {
        let name = file_name(path);
        name.chars().filter(char::is_ascii_digit).collect::<String>()
    };
    let earliest = files.iter().map(year).min().unwrap_or_default();
    let (kept, other): (Vec<_>, Vec<_>) = files.iter().partition(|path| year(path) == earliest);
    if let Some(other) = other.first() {
        notes.say(format!(
            "{} is of another year than {earliest} and was not read; name it to read it alone",
            file_name(other)
        ));
    }
    kept
}

/// Adds the images of one file. `owners` maps the id of a caption to the position of its image.
fn read_file(
    path: &Path,
    drafts: &mut Vec<Draft>,
    owners: &mut HashMap<i64, usize>,
    notes: &mut Notes,
) -> Result<(), GalleryError> {
    let file: File = text::json(path, "a COCO caption file", notes)?;
    // `captions_val2014.json` describes the images in `val2014/`, which are the split `val`.
    let name = file_name(path);
    let folder = name.trim_start_matches("captions_").trim_end_matches(".json");
    let split = folder.trim_end_matches(|c: char| c.is_ascii_digit());
    let mut positions = HashMap::with_capacity(file.images.len());
    for image in file.images {
        places::check_inside(path, &image.file_name)?;
        if positions.insert(image.id, drafts.len()).is_some() {
            return Err(unusable(path, format!("the image id {} is listed twice", image.id)));
        }
        let id = format!("{folder}/{}", image.file_name);
        let mut item = item(id, PathBuf::new().into(), Vec::new());
        item.split = (!split.is_empty()).then(|| split.to_owned());
        item.labels.insert("cocoid".to_owned(), image.id.to_string());
        drafts.push(Draft { item, file_name: image.file_name, caption_ids: Vec::new() });
    }
    for annotation in file.annotations {
        let Some(&position) = positions.get(&annotation.image_id) else {
            let what = "captions of images that the file does not list, left out";
            notes.count(what, format!("{name}, caption id {}", annotation.id));
            continue;
        };
        if owners.insert(annotation.id, position).is_some() {
            return Err(unusable(path, format!("the caption id {} is used twice", annotation.id)));
        }
        let place = || format!("{name}, caption id {}", annotation.id);
        if let Some(mut caption) = text::caption_of(&annotation.caption, notes, place) {
            caption.id = annotation.id.try_into().ok();
            drafts[position].item.captions.push(caption);
            drafts[position].caption_ids.push(annotation.id);
        }
    }
    Ok(())
}

/// Splits by lists of caption ids.
fn apply(
    lists: &[SplitList],
    root: &Path,
    drafts: &mut [Draft],
    owners: &HashMap<i64, usize>,
    notes: &mut Notes,
) -> Result<(), GalleryError> {
    let mut splits: HashMap<i64, &'static str> = HashMap::new();
    let mut of_image: Vec<Option<&'static str>> = vec![None; drafts.len()];
    for SplitList { split, joint, path } in lists {
        let bytes = read_bounded(path, IDS_LIMIT, "a list of caption ids")?;
        for id in npy::integers(&bytes).map_err(|reason| GalleryError::npy(path, reason))? {
            let Some(&position) = owners.get(&id) else {
                let what = "ids in the split lists that no caption has, left out";
                notes.count(what, format!("{id} in {}", file_name(path)));
                continue;
            };
            if *joint && of_image[position].is_some() {
                continue;
            }
            if splits.insert(id, split).is_some_and(|other| other != *split)
                || of_image[position].is_some_and(|other| other != *split)
            {
                let reason = format!(
                    "the captions of {:?} are listed for {split} and for {}; every image must be \
                     in one split",
                    drafts[position].item.id,
                    of_image[position].unwrap_or("another split"),
                );
                return Err(unusable(path, reason));
            }
            of_image[position] = Some(split);
        }
    }
    if splits.is_empty() {
        return Err(unusable(
            root,
            "none of the ids in its coco_*_ids.npy is the id of a caption in its captions_*.json; \
             they belong to other annotations",
        ));
    }
    for (draft, split) in drafts.iter_mut().zip(of_image) {
        draft.item.split = split.map(str::to_owned);
        if split.is_none() {
            notes.count("images in none of the split lists, kept without a split", &draft.item.id);
            continue;
        }
        let ids = std::mem::take(&mut draft.caption_ids);
        let captions = std::mem::take(&mut draft.item.captions);
        for (id, caption) in ids.into_iter().zip(captions) {
            if splits.contains_key(&id) {
                draft.item.captions.push(caption);
            } else {
                let what = "captions that the split lists leave out of a listed image";
                notes.count(what, format!("caption id {id}"));
            }
        }
    }
    Ok(())
}

/// Finds the image files: in a folder for each caption file (`val2014/`), or all in one.
fn place(root: &Path, drafts: &mut [Draft]) {
    let ids: Vec<&str> = drafts.iter().map(|draft| draft.item.id.as_str()).collect();
    let names: Vec<&str> = drafts.iter().map(|draft| draft.file_name.as_str()).collect();
    let (apart, found_apart) = places::image_root(root, &ids);
    let (together, found_together) = places::image_root(root, &names);
    for draft in drafts {
        draft.item.image = match found_together > found_apart {
            true => together.join(&draft.file_name),
            false => apart.join(&draft.item.id),
        }
        .into();
    }
}
