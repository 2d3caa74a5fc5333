//! What a pull would do, before it does anything: files, sizes, licence, room on the disk.

use std::path::Path;

use hf_hub::repository::ModelInfo;
use serde::Serialize;
use serde_json::Value;

use super::client::Connection;
use super::selection::{RepoFile, Skipped, Wanted, select};
use super::{HubError, HubName, Tell};

/// Longest text of a gate that is shown.
const TERMS_LIMIT: usize = 4000;

/// A model to pull.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    pub name: HubName,
    pub wanted: Wanted,
}

/// The files of one commit that a pull brings into the cache.
#[derive(Debug, Clone, Serialize)]
pub struct PullPlan {
    #[serde(skip)]
    pub name: HubName,
    /// The commit, 40 hexadecimal digits.
    pub commit: String,
    pub files: Vec<PlannedFile>,
    pub skipped: Vec<Skipped>,
    pub licence: Licence,
    /// Bytes of all files.
    pub bytes: u64,
    /// Bytes of those that are not in the cache. What an interrupted pull left counts as missing.
    pub download_bytes: u64,
    /// Bytes free where the cache lies; `None` where the system does not say.
    pub free_bytes: Option<u64>,
}

/// A file of a plan.
#[derive(Debug, Clone, Serialize)]
pub struct PlannedFile {
    #[serde(flatten)]
    pub file: RepoFile,
    /// In the cache at this commit already.
    pub cached: bool,
}

/// What the model card says about the licence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Licence {
    /// Its name; "not stated" where the card is silent.
    pub name: String,
    /// Address of its text.
    pub link: Option<String>,
    /// True when the owner gives the model only to accounts that accepted terms.
    pub gated: bool,
    /// The terms as the owner words them, for a gated model.
    pub terms: Option<String>,
    /// The page where they are accepted.
    pub page: String,
}

impl PullPlan {
    /// Asks the hub for the commit and its files, and chooses among them.
    ///
    /// # Errors
    /// When the hub cannot be asked or has no such model, or nothing of it can be used.
    pub fn make(
        connection: &Connection,
        request: &PullRequest,
        tell: &mut Tell<'_>,
    ) -> Result<Self, HubError> {
        let name = &request.name;
        connection.place.online(&name.to_string())?;
        connection.run(async {
            let (commit, info) = connection.info(name, tell).await?;
            let files = connection.files(name, &commit, tell).await?;
            let mut selection = select(&name.repo(), files, &request.wanted)?;
            if let Some(folder) = name.folder() {
                selection.taken.retain(|file| file.path.starts_with(&format!("{folder}/")));
                if selection.taken.is_empty() {
                    let found = vec![format!("no files in a folder {folder}")];
                    return Err(HubError::NothingSelected { repo: name.repo(), found });
                }
            }
            let cache = &connection.place.cache;
            let snapshot = cache.repo(name).join("snapshots").join(&commit);
            let is_cached = |file: &RepoFile| {
                let facts = std::fs::metadata(snapshot.join(&file.path));
                facts.is_ok_and(|facts| facts.is_file() && facts.len() == file.bytes)
            };
            let files: Vec<PlannedFile> = selection
                .taken
                .into_iter()
                .map(|file| PlannedFile { cached: is_cached(&file), file })
                .collect();
            let sum = |cached: bool| {
                let files = files.iter().filter(|planned| cached || !planned.cached);
                files.fold(0u64, |sum, planned| sum.saturating_add(planned.file.bytes))
            };
            Ok(Self {
                name: name.clone(),
                commit,
                licence: Licence::of(&info, connection.place.page(&name.repo())),
                skipped: selection.skipped,
                bytes: sum(true),
                download_bytes: sum(false),
                free_bytes: free_bytes(cache.folder()),
                files,
            })
        })
    }

    /// # Errors
    /// When the disk has no room for what is missing.
    pub(super) fn check_disk(&self, folder: &Path) -> Result<(), HubError> {
        match self.free_bytes {
            Some(free) if free < self.download_bytes => Err(HubError::Disk {
                repo: self.name.repo(),
                folder: folder.to_owned(),
                needed: self.download_bytes,
                free,
            }),
            _ => Ok(()),
        }
    }

    /// `owner/name@commit`: the name under which exactly these files are found again.
    ///
    /// # Errors
    /// Never for a plan that was made.
    pub fn pinned(&self) -> Result<HubName, HubError> {
        self.name.at(&self.commit)
    }
}

impl Licence {
    fn of(info: &ModelInfo, page: String) -> Self {
        let card = |key: &str| info.card_data.as_ref().and_then(|card| card.get(key));
        let text = |key: &str| card(key).and_then(Value::as_str).map(readable);
        let name = match card("license") {
            Some(Value::Array(names)) => {
                let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
                Some(readable(&names.join(", ")))
            }
            _ => text("license"),
        };
        let name = match name.as_deref() {
            Some("other") | None => text("license_name").or(name),
            _ => name,
        };
        let gated = match &info.gated {
            None | Some(Value::Null | Value::Bool(false)) => false,
            Some(_) => true,
        };
        Self {
            name: name.filter(|name| !name.is_empty()).unwrap_or_else(|| "not stated".to_owned()),
            link: text("license_link"),
            gated,
            terms: text("extra_gated_prompt").filter(|_| gated),
            page,
        }
    }
}

/// Foreign text of several lines for a terminal.
fn readable(text: &str) -> String {
    let keep = |c: &char| *c == '\n' || !c.is_control();
    text.chars().filter(keep).take(TERMS_LIMIT).collect()
}

/// Bytes that a user may still write where `folder` lies, or will lie.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let existing = folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let facts = rustix::fs::statvfs(existing).ok()?;
    Some(facts.f_bavail.saturating_mul(facts.f_frsize))
}

#[cfg(not(unix))]
fn free_bytes(_folder: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn licence(json: Value) -> Licence {
        Licence::of(&serde_json::from_value(json).unwrap(), "page".to_owned())
    }

    #[test]
    fn the_licence_is_read_from_the_card() {
        let open = licence(serde_json::json!({
            "id": "a/b", "gated": false, "cardData": { "license": "mit" }
        }));
        assert_eq!((open.name.as_str(), open.gated, open.terms), ("mit", false, None));
        let gated = licence(serde_json::json!({
            "id": "a/b", "gated": "auto",
            "cardData": {
                "license": "other", "license_name": "own", "license_link": "https://l",
                "extra_gated_prompt": "Be\u{1b}[31m kind.\nAlways.",
            },
        }));
        assert_eq!((gated.name.as_str(), gated.gated), ("own", true));
        assert_eq!(gated.terms.as_deref(), Some("Be[31m kind.\nAlways."));
        assert_eq!(licence(serde_json::json!({ "id": "a/b" })).name, "not stated");
    }

    #[cfg(unix)]
    #[test]
    fn free_space_is_known_also_for_a_folder_to_come() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(&folder.path().join("not/yet")).unwrap() > 0);
    }
}
