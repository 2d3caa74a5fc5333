//! Shards of the webdataset format, as CLIP_benchmark publishes its data sets.
//!
//! `test/0.tar`, `test/1.tar`...; `test/nshards.txt` says how many. The members of one sample
//! share their name up to the first dot: `s0000001.jpg` with `s0000001.txt`, one caption a line,
//! or with `s0000001.cls`, a line number (from 0) of `classnames.txt`. Images stay where they are:
//! see [`TarMember`].

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use super::cub::folders;
use super::notes::Notes;
use super::text::CAPTIONS_LIMIT;
use super::{
    CLASS, Caption, DatasetItem, GalleryError, ImageLocation, entries, file_name, item, places,
    stem, text, unusable,
};
use crate::archive::{self, TarMember};
use crate::files::FileError;

const COUNT_FILE: &str = "nshards.txt";
const SPLITS: [&str; 5] = ["train", "restval", "val", "validation", "test"];

/// A shard and its split.
struct Shard {
    path: PathBuf,
    split: Option<String>,
}

/// Whether a folder holds shards, or folders of shards.
pub fn is(folder: &Path) -> Result<bool, GalleryError> {
    Ok(!shards(folder)?.is_empty())
}

/// Reads a folder of shards, a folder of such folders, or one shard.
pub fn read(path: &Path, notes: &mut Notes) -> Result<Vec<DatasetItem>, GalleryError> {
    let (root, shards) = match path.is_dir() {
        true => (path, shards(path)?),
        false => {
            let shard = Shard { path: path.to_owned(), split: None };
            (path.parent().unwrap_or(Path::new("/")), vec![shard])
        }
    };
    let class_names = match root.join("classnames.txt") {
        path if path.is_file() => Some(text::list(&path, notes)?),
        _ => None,
    };
    let mut items = Vec::new();
    for shard in shards {
        read_shard(root, &shard, class_names.as_deref(), &mut items, notes)?;
    }
    Ok(items)
}

/// The shards of a folder, else of the folders in it.
fn shards(folder: &Path) -> Result<Vec<Shard>, GalleryError> {
    let name = file_name(folder);
    let here = numbered(folder)?;
    if !here.is_empty() {
        let split = SPLITS.contains(&name.as_str()).then_some(name);
        return Ok(here.into_iter().map(|path| Shard { path, split: split.clone() }).collect());
    }
    let mut found = Vec::new();
    for folder in folders(folder)? {
        let split = Some(file_name(&folder));
        let shards = numbered(&folder)?.into_iter();
        found.extend(shards.map(|path| Shard { path, split: split.clone() }));
    }
    Ok(found)
}

/// The archives of a folder that are called by numbers, in their order.
fn numbered(folder: &Path) -> Result<Vec<PathBuf>, GalleryError> {
    let number = |path: &Path| -> Option<u64> { stem(path).parse().ok() };
    let is_tar = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "tar");
    let mut found: Vec<_> = entries(folder)?
        .into_iter()
        .filter(|path| is_tar(path) && number(path).is_some())
        .collect();
    found.sort_by_key(|path| number(path));
    let count = folder.join(COUNT_FILE);
    if count.is_file() {
        let text = text::list(&count, &mut Notes::default())?;
        let expected: u64 = text.first().and_then(|n| n.parse().ok()).ok_or_else(|| {
            unusable(&count, "expected one number, the count of shards".to_owned())
        })?;
        let missing = (0..expected).find(|&i| !found.iter().any(|path| number(path) == Some(i)));
        if let Some(missing) = missing {
            let reason = format!(
                "it names {expected} shards, but {missing}.tar is not there; fetch it, or open \
                 one shard by its path"
            );
            return Err(unusable(&count, reason));
        }
    }
    Ok(found)
}

/// The members of one sample.
#[derive(Default)]
struct Sample {
    image: Option<TarMember>,
    texts: Option<TarMember>,
    class: Option<TarMember>,
}

fn read_shard(
    root: &Path,
    shard: &Shard,
    class_names: Option<&[String]>,
    items: &mut Vec<DatasetItem>,
    notes: &mut Notes,
) -> Result<(), GalleryError> {
    let path = &shard.path;
    let mut samples: Vec<(String, Sample)> = Vec::new();
    let mut positions: HashMap<String, usize> = HashMap::new();
    for member in archive::members(path)? {
        places::check_inside(path, &member.name)?;
        let Some((key, ending)) = split_name(&member.name) else { continue };
        let position = *positions.entry(key.clone()).or_insert_with(|| {
            samples.push((key.clone(), Sample::default()));
            samples.len() - 1
        });
        let sample = &mut samples[position].1;
        let place = match ending.as_str() {
            "txt" => &mut sample.texts,
            "cls" => &mut sample.class,
            ending if places::EXTENSIONS.contains(&ending) => &mut sample.image,
            _ => continue,
        };
        if place.is_some() {
            let reason = format!("the sample {key:?} has two members of one kind: {}", member.name);
            return Err(unusable(path, reason));
        }
        *place = Some(member);
    }
    let mut file = File::open(path).map_err(FileError::read(path))?;
    let shard_id = places::id_below(root, path);
    for (key, Sample { image, texts, class }) in samples {
        let Some(image) = image else {
            if texts.is_some() || class.is_some() {
                notes.count("samples without an image, left out", format!("{shard_id}/{key}"));
            }
            continue;
        };
        let captions = match texts {
            Some(member) => {
                let bytes = member.read_from(&mut file, CAPTIONS_LIMIT, "captions")?;
                text::captions_of(&bytes, &member.path(), notes)?
            }
            None => Vec::<Caption>::new(),
        };
        let id = format!("{shard_id}/{}", image.name);
        let mut item = item(id, ImageLocation::Member(image), captions);
        item.split = shard.split.clone();
        if let Some(member) = class {
            let bytes = member.read_from(&mut file, CAPTIONS_LIMIT, "a class number")?;
            let class = class_name(&bytes, class_names).ok_or_else(|| {
                let known = class_names.map_or(0, <[String]>::len);
                let reason =
                    format!("{}: not the number of one of {known} class names", member.name);
                unusable(path, reason)
            })?;
            item.labels.insert(CLASS.to_owned(), class);
        }
        items.push(item);
    }
    Ok(())
}

/// The class that a `.cls` member says: by name where there are names.
fn class_name(bytes: &[u8], names: Option<&[String]>) -> Option<String> {
    let number: usize = std::str::from_utf8(bytes).ok()?.trim().parse().ok()?;
    match names {
        Some(names) => names.get(number).cloned(),
        None => Some(number.to_string()),
    }
}

/// Key and ending, in lower case, of a member: apart at the first dot of its file name.
fn split_name(name: &str) -> Option<(String, String)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let dot = start + name[start..].find('.')?;
    (dot > start).then(|| (name[..dot].to_owned(), name[dot + 1..].to_lowercase()))
}
