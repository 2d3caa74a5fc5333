//! Flickr30k as its authors and Kaggle give it out.
//!
//! `results.csv` is `image_name| comment_number| comment`, `results_20130124.token` is
//! `1000092795.jpg#0<tab>comment`. Splits are lists of image names, with or without `.jpg`, in
//! files such as `flickr30k_test.txt`. One line of Kaggle's file lacks its second `|`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::notes::Notes;
use super::split_lists::{self, SplitList};
use super::{DatasetItem, GalleryError, entries, file_name, item, places, stem, text, unusable};

/// Whether a file name (in lower case) is one of Flickr30k's.
pub fn is_caption_file(name: &str) -> bool {
    name == "results.csv" || name.starts_with("results") && name.ends_with(".token")
}

/// The caption file in `folder`, or in a folder below it.
pub fn find(folder: &Path) -> Result<Option<PathBuf>, GalleryError> {
    let named = |path: &PathBuf| is_caption_file(&file_name(path)) && path.is_file();
    let inside = entries(folder)?;
    if let Some(path) = inside.iter().find(|path| named(path)) {
        return Ok(Some(path.clone()));
    }
    let below = |folder: &PathBuf| folder.join("results.csv");
    Ok(inside.iter().map(below).find(|path| path.is_file()))
}

/// Reads the caption file at `path`, and the split lists beside it or in `root`, the folder that
/// was opened.
pub fn read(path: &Path, root: &Path, notes: &mut Notes) -> Result<Vec<DatasetItem>, GalleryError> {
    let mut items: Vec<DatasetItem> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    let mut numbers = std::collections::HashSet::new();
    for (i, line) in text::lines(path, notes)?.iter().enumerate() {
        if line.trim().is_empty() || i == 0 && line.starts_with("image_name") {
            continue;
        }
        let (name, number, comment) =
            parse(line, notes, || text::place(path, i)).ok_or_else(|| {
                unusable(
                    path,
                    format!(
                        "line {} is {line:?}, expected \"image_name| comment_number| comment\" or \
                     \"image_name#comment_number<tab>comment\"",
                        i + 1
                    ),
                )
            })?;
        places::check_inside(path, name)?;
        let position = *positions.entry(name.to_owned()).or_insert_with(|| {
            items.push(item(name.to_owned(), PathBuf::new().into(), Vec::new()));
            items.len() - 1
        });
        if !numbers.insert((position, number)) {
            let reason = format!("line {}: comment {number} of {name:?} is there twice", i + 1);
            return Err(unusable(path, reason));
        }
        let caption = text::caption_of(comment, notes, || text::place(path, i));
        items[position].captions.extend(caption);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_str()).collect();
    let (images, _) = places::image_root(folder, &ids);
    for item in &mut items {
        item.image = images.join(&item.id).into();
    }
    let mut lists = split_lists::find(folder, "txt")?;
    if lists.is_empty() && root != folder {
        // Kaggle's file stands among the images.
        lists = split_lists::find(root, "txt")?;
    }
    if !lists.is_empty() {
        apply(&lists, &mut items, notes)?;
    }
    Ok(items)
}

/// Image, number and text of a line.
fn parse<'a>(
    line: &'a str,
    notes: &mut Notes,
    place: impl Fn() -> String,
) -> Option<(&'a str, u32, &'a str)> {
    let Some((name, rest)) = line.split_once('|') else {
        let (name, comment) = line.split_once('\t')?;
        let (name, number) = name.rsplit_once('#')?;
        return Some((name.trim(), number.trim().parse().ok()?, comment));
    };
    let rest = rest.trim_start();
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number = rest[..digits].parse().ok()?;
    let behind = rest[digits..].trim_start();
    let comment = match behind.strip_prefix('|') {
        Some(comment) => comment,
        None => {
            notes.count("lines that lack the \"|\" before the comment", place());
            behind
        }
    };
    Some((name.trim(), number, comment))
}

/// Splits by lists of image names.
fn apply(
    lists: &[SplitList],
    items: &mut [DatasetItem],
    notes: &mut Notes,
) -> Result<(), GalleryError> {
    let positions: HashMap<String, usize> =
        items.iter().enumerate().map(|(i, item)| (stem(Path::new(&item.id)), i)).collect();
    for SplitList { split, joint, path } in lists {
        for name in text::list(path, notes)? {
            let Some(&position) = positions.get(&stem(Path::new(&name))) else {
                let what = "names in the split lists that no image has, left out";
                notes.count(what, format!("{name} in {}", file_name(path)));
                continue;
            };
            let item = &mut items[position];
            match &item.split {
                Some(_) if *joint => {}
                Some(other) if other != split => {
                    let reason = format!("{name:?} is in the list of {other} too");
                    return Err(unusable(path, reason));
                }
                _ => item.split = Some((*split).to_owned()),
            }
        }
    }
    for item in items.iter().filter(|item| item.split.is_none()) {
        notes.count("images in none of the split lists, kept without a split", &item.id);
    }
    Ok(())
}
