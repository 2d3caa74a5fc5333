//! Where models, galleries and adapters are found: by path, in the bundles, in the hub's cache.
//!
//! A *bundle* is a folder with any of `clip/`, `unclip/`, `gallery/`, `pairs/` and `adapters/`.
//! The demo bundle `demo/` is one; any other folder in that layout works the same way.

use std::path::{Path, PathBuf};

use super::error::SessionError;
use crate::model::hub::{HubName, HubPlace};

/// The folder that holds bundles, in the order of search: the one the user named, next to the
/// executable, then the source tree.
#[derive(Debug, Clone)]
pub struct Assets {
    root: PathBuf,
    hub: HubPlace,
}

/// What a path stands for.
enum Found {
    /// A file or folder of this machine.
    Local(PathBuf),
    /// A folder in the hub's cache, and the name that leads to the same commit for ever.
    Hub { folder: PathBuf, pinned: PathBuf },
}

impl Assets {
    /// Finds the assets folder.
    ///
    /// # Errors
    /// When the named folder does not exist, or none is found; lists where it looked.
    pub fn find(named: Option<&Path>) -> Result<Self, SessionError> {
        if let Some(root) = named {
            if root.is_dir() {
                return Ok(Self { root: root.to_owned(), hub: HubPlace::from_env() });
            }
            return Err(SessionError::NoAssets { looked: vec![root.to_owned()] });
        }
        let mut looked = Vec::new();
        if let Ok(executable) = std::env::current_exe()
            && let Some(folder) = executable.parent()
        {
            looked.push(folder.join("assets"));
            looked.push(folder.join("../share/haze"));
        }
        looked.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"));
        match looked.iter().find(|folder| folder.is_dir()) {
            Some(root) => Ok(Self { root: root.clone(), hub: HubPlace::from_env() }),
            None => Err(SessionError::NoAssets { looked }),
        }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The hub and its cache.
    pub fn hub(&self) -> &HubPlace {
        &self.hub
    }

    /// A path as the user wrote it: absolute, relative to the working folder, or in the assets;
    /// else the name of a model in the hub's cache, `owner/name[/folder][@revision]`.
    ///
    /// # Errors
    /// When it is none of these; says how to download what may be a model of the hub.
    pub fn resolve(&self, path: &Path, what: &'static str) -> Result<PathBuf, SessionError> {
        match self.find_model(path, what)? {
            Found::Local(path) | Found::Hub { folder: path, .. } => Ok(path),
        }
    }

    /// The name of a model of the hub with the commit that it stands at now, so that a recipe finds
    /// the same files when the branch has moved on. Any other path is given back as it is.
    pub fn pin(&self, path: &Path) -> PathBuf {
        match self.find_model(path, "model") {
            Ok(Found::Hub { pinned, .. }) => pinned,
            _ => path.to_owned(),
        }
    }

    fn find_model(&self, path: &Path, what: &'static str) -> Result<Found, SessionError> {
        if path.exists() {
            return Ok(Found::Local(path.to_owned()));
        }
        let inside = self.root.join(path);
        if path.is_relative() && inside.exists() {
            return Ok(Found::Local(inside));
        }
        let (path, assets) = (path.to_owned(), self.root.clone());
        let Some(name) = HubName::of_path(&path) else {
            return Err(SessionError::NotFound { what, path, assets });
        };
        let found = self.hub.cache.snapshot(&name).and_then(|snapshot| {
            let pinned = name.at(&snapshot.commit)?.to_string().into();
            Ok(Found::Hub { folder: snapshot.folder, pinned })
        });
        found.map_err(|hub| SessionError::NotCached { what, path, assets, hub: Box::new(hub) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_local_path_wins_and_a_hub_name_is_pinned_to_its_commit() {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path().join("hub/models--openai--clip");
        let snapshot = repo.join("snapshots").join(COMMIT);
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repo.join("refs")).unwrap();
        std::fs::write(repo.join("refs/main"), COMMIT).unwrap();
        let assets = Assets {
            root: folder.path().join("assets"),
            hub: HubPlace::from(&|name| (name == "HF_HOME").then(|| folder.path().into())),
        };
        let name = Path::new("openai/clip");
        assert_eq!(assets.resolve(name, "encoder").unwrap(), snapshot);
        let pinned = assets.pin(name);
        assert_eq!(pinned, Path::new(&format!("openai/clip@{COMMIT}")));
        assert_eq!(assets.resolve(&pinned, "encoder").unwrap(), snapshot);

        let error = assets.resolve(Path::new("openai/other"), "encoder").unwrap_err().to_string();
        assert!(error.contains("does not exist"), "{error}");
        assert!(error.contains("haze models pull openai/other"), "{error}");
        let error = assets.resolve(Path::new("clip"), "encoder").unwrap_err().to_string();
        assert!(!error.contains("pull"), "one word is no hub name: {error}");

        let local = assets.root.join(name);
        std::fs::create_dir_all(&local).unwrap();
        assert_eq!(assets.resolve(name, "encoder").unwrap(), local);
        assert_eq!(assets.pin(name), name);
    }
}
