//! Files that list the members of a split: `flickr30k_test.txt`, `trainvalclasses.txt`,
//! `coco_restval_ids.npy`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::notes::Notes;
use super::{CLASS, DatasetItem, GalleryError, entries, file_name, stem, text, unusable};

/// Images of CUB's training classes that PCME leaves out of training.
const SEEN_TEST: &str = "seen_test";

/// A list and the split that it is named after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitList {
    pub split: &'static str,
    /// Whether it is the list of both halves, `trainval`, which gives way to lists of one of them.
    pub joint: bool,
    pub path: PathBuf,
}

/// The lists with this file ending in `folder` and in its `splits/` and `annotations/`, those of
/// one split (`train`, `val`) before those of two (`trainval`).
pub fn find(folder: &Path, ending: &str) -> Result<Vec<SplitList>, GalleryError> {
    let mut lists = Vec::new();
    for folder in [folder.to_owned(), folder.join("splits"), folder.join("annotations")] {
        if !folder.is_dir() {
            continue;
        }
        for path in entries(&folder)? {
            if path.extension().is_none_or(|found| found != ending) || !path.is_file() {
                continue;
            }
            if let Some((split, joint)) = split_of(&stem(&path)) {
                lists.push(SplitList { split, joint, path });
            }
        }
    }
    lists.sort_by_key(|list| list.joint);
    Ok(lists)
}

/// Splits items by lists of classes, by name (`001.Black_footed_Albatross`) or number (`1`), or of
/// images by name. A list of `seen_test` images takes them out of their class's split.
pub fn apply_to_classes(
    lists: &[SplitList],
    items: &mut [DatasetItem],
    notes: &mut Notes,
) -> Result<(), GalleryError> {
    let mut members: HashMap<String, Vec<usize>> = HashMap::new();
    for (i, item) in items.iter().enumerate() {
        if let Some(class) = item.labels.get(CLASS) {
            members.entry(class.clone()).or_default().push(i);
        }
    }
    let numbers: HashMap<u32, String> =
        members.keys().filter_map(|class| Some((class_number(class)?, class.clone()))).collect();
    let images: HashMap<String, usize> =
        items.iter().enumerate().map(|(i, item)| (stem(Path::new(&item.id)), i)).collect();
    let (seen, lists): (Vec<_>, Vec<_>) = lists.iter().partition(|list| list.split == SEEN_TEST);
    for SplitList { split, joint, path } in lists.into_iter().chain(seen) {
        for name in text::list(path, notes)? {
            let class =
                members.get(&name).or_else(|| members.get(numbers.get(&name.parse().ok()?)?));
            let image = images.get(&stem(Path::new(&name))).or_else(|| images.get(&name));
            let named = match (class, image) {
                (Some(class), _) => class.as_slice(),
                (None, Some(image)) => std::slice::from_ref(image),
                (None, None) => {
                    let what = "names in the split lists that no class or image has, left out";
                    notes.count(what, format!("{name} in {}", file_name(path)));
                    continue;
                }
            };
            for &position in named {
                match &items[position].split {
                    Some(_) if *joint => {}
                    Some(other) if other != split && *split != SEEN_TEST => {
                        let reason = format!("{name:?} is in the list of {other} too");
                        return Err(unusable(path, reason));
                    }
                    _ => items[position].split = Some((*split).to_owned()),
                }
            }
        }
    }
    for item in items.iter().filter(|item| item.split.is_none()) {
        notes.count("images in none of the split lists, kept without a split", &item.id);
    }
    Ok(())
}

/// The number of a class that is called `001.Black_footed_Albatross` or `class_00001`.
fn class_number(class: &str) -> Option<u32> {
    let digit = |c: char| c.is_ascii_digit();
    let behind = class.trim_start_matches(digit);
    let before = class.trim_end_matches(digit);
    match class.len() - behind.len() {
        0 => class[before.len()..].parse().ok(),
        digits => class[..digits].parse().ok(),
    }
}

/// The split that a list's name says, and whether it is `trainval`.
fn split_of(stem: &str) -> Option<(&'static str, bool)> {
    const OTHER_WORDS: [&str; 15] = [
        "flickr30k",
        "flickr8k",
        "flickr",
        "f30k",
        "coco",
        "cub",
        "flowers",
        "flower",
        "flo",
        "classes",
        "images",
        "ids",
        "list",
        "split",
        "karpathy",
    ];
    let stem = stem.to_lowercase();
    let words = stem.split(['_', '-', '.', ' ']).filter(|word| !OTHER_WORDS.contains(word));
    let word: String = words.collect();
    let word = ["classes", "images", "ids"]
        .iter()
        .find_map(|ending| word.strip_suffix(ending))
        .unwrap_or(&word);
    Some(match word {
        "train" => ("train", false),
        "restval" => ("restval", false),
        "val" | "valid" | "validation" | "dev" => ("val", false),
        "test" => ("test", false),
        "seentest" => (SEEN_TEST, false),
        "trainval" => ("train", true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_list_says_its_split() {
        for (name, split) in [
            ("test", Some(("test", false))),
            ("flickr30k_train", Some(("train", false))),
            ("coco_dev_ids", Some(("val", false))),
            ("trainvalclasses", Some(("train", true))),
            ("trainval_classes", Some(("train", true))),
            ("valid_ids", Some(("val", false))),
            ("seen_test_images", Some(("seen_test", false))),
            ("train_test_split", None),
            ("allclasses", None),
            ("images", None),
            ("readme", None),
        ] {
            assert_eq!(split_of(name), split, "{name}");
        }
    }
}
