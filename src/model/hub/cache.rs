//! The cache folder of `huggingface_hub`, as it lies on the disk.
//!
//! ```text
//! models--<owner>--<name>/
//!   refs/<revision>              a file that holds the commit of a branch or tag
//!   blobs/<checksum>             the content of files; <checksum>.incomplete while downloading
//!   snapshots/<commit>/<path>    links to blobs (copies where the system has no links)
//! ```

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::name::is_commit;
use super::{HubError, HubName};
use crate::files::{FileError, read_bounded};

/// A reference holds 40 characters.
const REF_LIMIT: u64 = 1024;
/// Folders nested deeper than this are no model repository.
const DEPTH_LIMIT: usize = 8;

/// The cache folder.
#[derive(Debug, Clone)]
pub struct HubCache {
    folder: PathBuf,
}

/// The files of one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    /// The folder that holds them, or the folder inside that the name names.
    pub folder: PathBuf,
}

/// A repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachedRepo {
    /// `owner/name`.
    pub repo: String,
    pub revisions: Vec<CachedRevision>,
    /// Bytes of files that an interrupted download left, by file.
    pub incomplete: Vec<u64>,
}

/// One commit of a repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CachedRevision {
    pub commit: String,
    /// Branches and tags that stand at it.
    pub refs: Vec<String>,
    pub folder: PathBuf,
    pub files: usize,
    /// Bytes of its files; revisions that share files each count them.
    pub bytes: u64,
    /// Files that the snapshot names and that are not there.
    pub missing: usize,
}

impl CachedRevision {
    /// The name that finds this revision of `repo` again: a branch where one stands at it.
    pub fn name(&self, repo: &str) -> String {
        match self.refs.as_slice() {
            refs if refs.iter().any(|name| name == "main") => repo.to_owned(),
            [first, ..] => format!("{repo}@{first}"),
            [] => format!("{repo}@{}", self.commit),
        }
    }
}

impl HubCache {
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// The folder itself. It may not exist.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of a repository.
    pub(super) fn repo(&self, name: &HubName) -> PathBuf {
        self.folder.join(format!("models--{}--{}", name.owner(), name.name()))
    }

    /// Where the lock of one blob is, as `huggingface_hub` takes it.
    pub(super) fn lock(&self, name: &HubName, checksum: &str) -> PathBuf {
        let repo = format!("models--{}--{}", name.owner(), name.name());
        self.folder.join(".locks").join(repo).join(format!("{checksum}.lock"))
    }

    /// Where the files of a name lie.
    ///
    /// # Errors
    /// When they are not in the cache; names the revisions that are.
    pub fn snapshot(&self, name: &HubName) -> Result<Snapshot, HubError> {
        let repo = self.repo(name);
        let commit = if is_commit(name.revision()) {
            Some(name.revision().to_ascii_lowercase())
        } else {
            read_ref(&repo.join("refs").join(name.revision()))?
        };
        let found = commit.and_then(|commit| {
            let snapshot = repo.join("snapshots").join(&commit);
            let folder = name.folder().map_or(snapshot.clone(), |inside| snapshot.join(inside));
            folder.exists().then_some(Snapshot { commit, folder })
        });
        found.ok_or_else(|| HubError::NotCached {
            name: name.to_string(),
            cache: self.folder.clone(),
            others: commits(&repo),
        })
    }

    /// Every model repository in the cache, by name. A cache that is not there is empty.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub fn repos(&self) -> Result<Vec<CachedRepo>, FileError> {
        let mut repos = Vec::new();
        for folder in folders(&self.folder)? {
            let Some(repo) = repo_of(&folder) else { continue };
            let refs = refs_by_commit(&folder.join("refs"))?;
            let mut revisions = Vec::new();
            for snapshot in folders(&folder.join("snapshots"))? {
                let commit = file_name(&snapshot);
                let mut revision = CachedRevision {
                    refs: refs.get(&commit).cloned().unwrap_or_default(),
                    commit,
                    folder: snapshot.clone(),
                    files: 0,
                    bytes: 0,
                    missing: 0,
                };
                measure(&snapshot, 0, &mut revision)?;
                revisions.push(revision);
            }
            let incomplete = incomplete_blobs(&folder.join("blobs"))?;
            repos.push(CachedRepo { repo, revisions, incomplete });
        }
        Ok(repos)
    }
}

/// The commit that a reference holds; `None` when there is no such reference.
fn read_ref(path: &Path) -> Result<Option<String>, HubError> {
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = read_bounded(path, REF_LIMIT, "a reference to a commit")?;
    let text = String::from_utf8_lossy(&bytes).trim().to_ascii_lowercase();
    // It becomes the name of a folder.
    if is_commit(&text) {
        return Ok(Some(text));
    }
    let reason = format!("it holds {text:?}, expected a commit of 40 hexadecimal digits");
    Err(HubError::DamagedCache { path: path.to_owned(), reason })
}

/// Commits of a repository, for an error message.
fn commits(repo: &Path) -> Vec<String> {
    folders(&repo.join("snapshots")).unwrap_or_default().iter().map(|f| file_name(f)).collect()
}

/// `owner/name` of a folder `models--owner--name`.
fn repo_of(folder: &Path) -> Option<String> {
    let (owner, name) = folder.file_name()?.to_str()?.strip_prefix("models--")?.split_once("--")?;
    let repo = format!("{owner}/{name}");
    HubName::parse(&repo).ok().map(|_| repo)
}

fn refs_by_commit(refs: &Path) -> Result<BTreeMap<String, Vec<String>>, FileError> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut files = Vec::new();
    walk(refs, 0, &mut |path, _| files.push(path.to_owned()))?;
    for file in files {
        let Ok(Some(commit)) = read_ref(&file) else { continue };
        let name = file.strip_prefix(refs).unwrap_or(&file);
        let name: Vec<_> = name.components().map(|c| c.as_os_str().to_string_lossy()).collect();
        found.entry(commit).or_default().push(name.join("/"));
    }
    Ok(found)
}

fn measure(folder: &Path, depth: usize, revision: &mut CachedRevision) -> Result<(), FileError> {
    walk(folder, depth, &mut |_, bytes| match bytes {
        Some(bytes) => {
            revision.files += 1;
            revision.bytes += bytes;
        }
        None => revision.missing += 1,
    })
}

/// Bytes of every `.incomplete` file.
fn incomplete_blobs(blobs: &Path) -> Result<Vec<u64>, FileError> {
    let mut found = Vec::new();
    walk(blobs, 0, &mut |path, bytes| {
        if path.extension().is_some_and(|ending| ending == "incomplete") {
            found.extend(bytes);
        }
    })?;
    Ok(found)
}

/// Bytes of all files below a folder, each counted once.
///
/// # Errors
/// When a folder cannot be read.
pub fn size_of(folder: &Path) -> Result<u64, FileError> {
    let (mut bytes, mut seen) = (0, HashSet::new());
    walk(folder, 0, &mut |path, size| {
        if seen.insert(path.canonicalize().unwrap_or_else(|_| path.to_owned())) {
            bytes += size.unwrap_or(0);
        }
    })?;
    Ok(bytes)
}

/// Visits the files below a folder, links followed, with their bytes; `None` for a link that leads
/// nowhere. A folder that does not exist is empty.
fn walk(
    folder: &Path,
    depth: usize,
    visit: &mut dyn FnMut(&Path, Option<u64>),
) -> Result<(), FileError> {
    if depth > DEPTH_LIMIT {
        return Ok(());
    }
    for path in entries(folder)? {
        match std::fs::metadata(&path) {
            Ok(facts) if facts.is_dir() => walk(&path, depth + 1, visit)?,
            Ok(facts) => visit(&path, Some(facts.len())),
            Err(_) => visit(&path, None),
        }
    }
    Ok(())
}

/// Folders directly in a folder, by name.
pub(super) fn folders(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let mut found = entries(folder)?;
    found.retain(|path| path.is_dir());
    Ok(found)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let listing = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        listing => listing.map_err(FileError::read(folder))?,
    };
    let mut found = listing
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(FileError::read(folder))?;
    found.sort();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    /// A cache as `huggingface_hub` leaves it, without links.
    fn cache() -> (tempfile::TempDir, HubCache) {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        };
        let snapshot = format!("models--openai--clip/snapshots/{COMMIT}");
        write("models--openai--clip/refs/main", COMMIT);
        write("models--openai--clip/refs/refs/pr/1", COMMIT);
        write(&format!("{snapshot}/config.json"), "{}");
        write(&format!("{snapshot}/vae/config.json"), "{ }");
        write("models--openai--clip/blobs/aa.incomplete", "half");
        write("models--a--b/refs/main", "../../../etc");
        write("datasets--a--b/refs/main", COMMIT);
        write("version.txt", "1");
        let cache = HubCache::new(folder.path().to_owned());
        (folder, cache)
    }

    #[test]
    fn a_name_leads_to_its_snapshot_by_branch_commit_and_folder() {
        let (folder, cache) = cache();
        let root = folder.path().join("models--openai--clip/snapshots").join(COMMIT);
        for (name, expected) in [
            ("openai/clip".to_owned(), root.clone()),
            (format!("openai/clip@{COMMIT}"), root.clone()),
            ("openai/clip@refs/pr/1".to_owned(), root.clone()),
            ("openai/clip/vae".to_owned(), root.join("vae")),
        ] {
            let found = cache.snapshot(&HubName::parse(&name).unwrap()).unwrap();
            assert_eq!((found.folder, found.commit.as_str()), (expected, COMMIT));
        }
    }

    #[test]
    fn what_is_not_cached_says_how_to_get_it() {
        let (_folder, cache) = cache();
        let error =
            |name: &str| cache.snapshot(&HubName::parse(name).unwrap()).unwrap_err().to_string();
        assert!(error("openai/none").contains("haze models pull openai/none"));
        let other = error("openai/clip@v2");
        assert!(other.contains("pull openai/clip@v2") && other.contains(COMMIT), "{other}");
        assert!(error("openai/clip/unet").contains("not in the hub cache"));
    }

    #[test]
    fn a_reference_that_is_no_commit_leads_nowhere() {
        let (_folder, cache) = cache();
        let error = cache.snapshot(&HubName::parse("a/b").unwrap()).unwrap_err();
        assert!(matches!(error, HubError::DamagedCache { .. }), "{error}");
    }

    #[test]
    fn the_listing_shows_models_with_their_sizes_and_what_is_unfinished() {
        let (_folder, cache) = cache();
        let repos = cache.repos().unwrap();
        let names: Vec<&str> = repos.iter().map(|repo| repo.repo.as_str()).collect();
        assert_eq!(names, ["a/b", "openai/clip"]);
        let clip = &repos[1];
        assert_eq!(clip.incomplete, [4]);
        assert_eq!(clip.revisions.len(), 1);
        assert_eq!(clip.revisions[0].refs, ["main", "refs/pr/1"]);
        assert_eq!((clip.revisions[0].files, clip.revisions[0].bytes), (2, 5));
        assert!(HubCache::new("/nowhere/at/all".into()).repos().unwrap().is_empty());
    }
}
