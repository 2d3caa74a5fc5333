//! Oxford Flowers 102 with the captions of Reed et al. (2016).
//!
//! `jpg/image_XXXXX.jpg`, `imagelabels.mat` (`labels`: the class of image i at place i, both from
//! 1), `text_c10/class_000NN/image_XXXXX.txt`, ten captions each. Splits are lists of classes
//! (`trainvalclasses.txt`, `testclasses.txt`); without these, Oxford's own by `setid.mat`. An
//! image that only its captions or its label name is kept, as missing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::cub::{folders, is_text};
use super::notes::Notes;
use super::{
    CLASS, Caption, DatasetItem, GalleryError, entries, file_name, item, mat, places, split_lists,
    stem, text, unusable,
};
use crate::files::read_bounded;

const LABELS: &str = "imagelabels.mat";
const SETS: &str = "setid.mat";
/// Largest MATLAB file. Oxford's have some kB.
const MAT_LIMIT: u64 = 64 << 20;
/// Most images; Oxford has 8,189.
const IMAGE_LIMIT: usize = 1 << 20;

/// Whether a folder holds Flowers.
pub fn is(folder: &Path) -> bool {
    let captioned = folder.join("text_c10").is_dir();
    folder.join("jpg").is_dir() && (captioned || folder.join(LABELS).is_file())
}

/// What is known of one image.
#[derive(Default)]
struct Draft {
    image: Option<PathBuf>,
    class: Option<String>,
    captions: Vec<Caption>,
}

/// Reads the folder.
pub fn read(folder: &Path, notes: &mut Notes) -> Result<Vec<DatasetItem>, GalleryError> {
    let images = folder.join("jpg");
    let mut drafts: BTreeMap<String, Draft> = BTreeMap::new();
    for path in entries(&images)?.into_iter().filter(|path| places::is_image(path)) {
        let name = stem(&path);
        drafts.entry(name).or_default().image = Some(path);
    }
    let labels = folder.join(LABELS);
    if labels.is_file() {
        for (i, class) in numbers(&labels, "labels")?.into_iter().enumerate() {
            let class = (1..=99_999).contains(&class).then(|| format!("class_{class:05}"));
            let class = class.ok_or_else(|| {
                unusable(&labels, format!("the label of image {} is no class number", i + 1))
            })?;
            drafts.entry(image_name(i as i64 + 1)).or_default().class = Some(class);
        }
    }
    let captions = folder.join("text_c10");
    if captions.is_dir() {
        read_captions(&captions, &mut drafts, notes)?;
    }
    let mut items = Vec::with_capacity(drafts.len());
    for (name, draft) in drafts {
        let id = match &draft.image {
            Some(path) => places::id_below(&images, path),
            None => format!("{name}.jpg"),
        };
        if draft.image.is_none() {
            notes.count("captions or labels without an image", &id);
        }
        if draft.captions.is_empty() && captions.is_dir() {
            notes.count("images without captions", &id);
        }
        let image = draft.image.unwrap_or_else(|| images.join(&id));
        let mut item = item(id, image.into(), draft.captions);
        match draft.class {
            Some(class) => drop(item.labels.insert(CLASS.to_owned(), class)),
            None => notes.count("images without a class", &item.id),
        }
        items.push(item);
    }
    let lists = split_lists::find(folder, "txt")?;
    let sets = folder.join(SETS);
    if !lists.is_empty() {
        split_lists::apply_to_classes(&lists, &mut items, notes)?;
    } else if sets.is_file() {
        apply_sets(&sets, &mut items, notes)?;
    }
    Ok(items)
}

/// Adds the captions, and the classes that their folders say.
fn read_captions(
    folder: &Path,
    drafts: &mut BTreeMap<String, Draft>,
    notes: &mut Notes,
) -> Result<(), GalleryError> {
    for class in folders(folder)? {
        let name = file_name(&class);
        for path in entries(&class)?.into_iter().filter(|path| is_text(path)) {
            let draft = drafts.entry(stem(&path)).or_default();
            if let Some(other) = draft.class.as_ref().filter(|&other| *other != name) {
                let reason = format!(
                    "the folder says {name}, {LABELS} or another folder says {other}; the two do \
                     not belong together"
                );
                return Err(unusable(&path, reason));
            }
            draft.class = Some(name.clone());
            draft.captions.extend(text::captions(&path, notes)?);
        }
    }
    Ok(())
}

/// Splits by Oxford's `setid.mat`.
fn apply_sets(
    path: &Path,
    items: &mut [DatasetItem],
    notes: &mut Notes,
) -> Result<(), GalleryError> {
    let mut splits: BTreeMap<String, &str> = BTreeMap::new();
    for (variable, split) in [("trnid", "train"), ("valid", "val"), ("tstid", "test")] {
        for number in numbers(path, variable)? {
            if splits.insert(image_name(number), split).is_some() {
                return Err(unusable(path, format!("image {number} is in two sets or twice")));
            }
        }
    }
    notes.say("the splits are Oxford's own (setid.mat), which share all classes");
    for item in items {
        item.split = splits.get(&stem(Path::new(&item.id))).map(|&split| split.to_owned());
    }
    Ok(())
}

fn numbers(path: &Path, variable: &str) -> Result<Vec<i64>, GalleryError> {
    let bytes = read_bounded(path, MAT_LIMIT, "a MATLAB file")?;
    let numbers = mat::whole_numbers(&bytes, variable).map_err(|reason| unusable(path, reason))?;
    if numbers.len() > IMAGE_LIMIT {
        let reason = format!("{variable:?} has more than {IMAGE_LIMIT} numbers");
        return Err(unusable(path, reason));
    }
    Ok(numbers)
}

fn image_name(number: i64) -> String {
    format!("image_{number:05}")
}
