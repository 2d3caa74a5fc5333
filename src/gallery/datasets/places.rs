//! Where the images that a dataset names lie.

use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

use super::{GalleryError, stem};
use crate::files::FileError;

/// How many images are looked up to find the folder that they lie in.
const PROBES: usize = 32;
/// Most folders beside a dataset's file that are tried.
const FOLDER_LIMIT: usize = 256;

pub const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// Refuses an image name that leads out of the image folder. `source` is the file that holds it.
pub fn check_inside(source: &Path, name: &str) -> Result<(), GalleryError> {
    let inside = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if name.is_empty() || !inside {
        let name = name.to_owned();
        return Err(GalleryError::UnsafeName { path: source.to_owned(), name });
    }
    Ok(())
}

/// The folder that most of a few images spread over `ids` are found in, and how many that were:
/// `images/` in `folder`, `folder` itself, or another folder in it (Flickr30k ships
/// `flickr30k-images/`, Kaggle's copy `flickr30k_images/flickr30k_images/`). Where none is found,
/// `images/`, so that the error about missing images names that.
pub fn image_root<S: AsRef<str>>(folder: &Path, ids: &[S]) -> (PathBuf, usize) {
    let mut candidates = vec![folder.join("images"), folder.to_owned()];
    if let Ok(entries) = std::fs::read_dir(folder) {
        let folders = entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
        let mut beside: Vec<_> = folders.take(FOLDER_LIMIT).collect();
        beside.sort();
        for path in beside {
            let nested = path.join(path.file_name().unwrap_or_default());
            candidates.push(path);
            candidates.push(nested);
        }
    }
    let step = ids.len().div_ceil(PROBES).max(1);
    let found = |root: &Path| {
        ids.iter().step_by(step).filter(|id| root.join(id.as_ref()).is_file()).count()
    };
    let mut best = (0, 0);
    for (i, candidate) in candidates.iter().enumerate() {
        let count = found(candidate);
        if count > best.0 {
            best = (count, i);
        }
    }
    (candidates.swap_remove(best.1), best.0)
}

/// All images at or below `root`, sorted by path. Hidden files and folders are left out; links are
/// followed, each real folder once.
pub fn find_images(root: &Path) -> Result<Vec<PathBuf>, GalleryError> {
    let mut images = Vec::new();
    let mut visited = HashSet::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        let real = folder.canonicalize().map_err(FileError::read(&folder))?;
        if !visited.insert(real) {
            continue;
        }
        for path in super::entries(&folder)? {
            if path.is_dir() {
                open.push(path);
            } else if is_image(&path) {
                images.push(path);
            }
        }
    }
    images.sort();
    Ok(images)
}

/// Whether the file's name ends as an image's does.
pub fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// A path below `root`, with `/` between folders.
pub fn id_below(root: &Path, path: &Path) -> String {
    let below = path.strip_prefix(root).unwrap_or(path);
    below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// Images by the name or the number that a list calls them by.
pub struct ImageIndex {
    root: PathBuf,
    names: HashMap<String, PathBuf>,
    /// The number that a name ends in (`COCO_val2014_000000000042` is 42); `None` where several do.
    numbers: HashMap<u64, Option<PathBuf>>,
}

impl ImageIndex {
    /// Indexes all images at or below `root`.
    pub fn of(root: &Path) -> Result<Self, GalleryError> {
        let (mut names, mut numbers) = (HashMap::new(), HashMap::new());
        for path in find_images(root)? {
            let name = stem(&path);
            let digits = name.len() - name.trim_end_matches(|c: char| c.is_ascii_digit()).len();
            if let Ok(number) = name[name.len() - digits..].parse() {
                numbers
                    .entry(number)
                    .and_modify(|known| *known = None)
                    .or_insert(Some(path.clone()));
            }
            names.entry(name).or_insert(path);
        }
        Ok(Self { root: root.to_owned(), names, numbers })
    }

    /// The image's id below the root, and its file.
    pub fn get(&self, name: &str) -> Option<(String, PathBuf)> {
        let path = self
            .names
            .get(name)
            .or_else(|| self.names.get(&stem(Path::new(name))))
            .or_else(|| self.numbers.get(&name.parse().ok()?)?.as_ref())?;
        Some((id_below(&self.root, path), path.clone()))
    }
}
