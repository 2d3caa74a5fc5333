//! What can go wrong with the hub and its cache, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use crate::files::{FileError, readable_size};

/// Why a model of the hub could not be found or downloaded.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    #[error("{found:?} is no model name: {reason}; expected owner/name, or owner/name@revision")]
    Name { found: String, reason: String },
    #[error("{what} is {found:?}, which is no pattern: {reason}")]
    Pattern { what: &'static str, found: String, reason: String },
    #[error(
        "HF_HUB_OFFLINE is set, so {name} cannot be looked up on the hub; unset it to download, or \
         use a model that haze models list shows"
    )]
    Offline { name: String },
    #[error(
        "{endpoint} has no model {repo}{}; check the spelling",
        if *has_token { ", or the token may not see it" } else {
            ", or it is private: then set HF_TOKEN"
        }
    )]
    RepoNotFound { repo: String, endpoint: String, has_token: bool },
    #[error("{repo} has no revision {revision:?}; see {page}/commits/main")]
    RevisionNotFound { repo: String, revision: String, page: String },
    #[error("{repo} has no file {path} at revision {revision}, though its listing names it")]
    FileNotFound { repo: String, path: String, revision: String },
    #[error(
        "{endpoint} refuses {repo} with 401: {}",
        if *has_token { "the token is wrong or has expired; make a new one and set HF_TOKEN" } else {
            "it wants a token; set HF_TOKEN, or save one in HF_HOME/token"
        }
    )]
    Unauthorized { repo: String, endpoint: String, has_token: bool },
    #[error(
        "{repo} is gated, and the hub does not give it to {}: accept its terms at {page} with \
         your account, then {}{}",
        if *has_token { "this token's account" } else { "anyone without a token" },
        if *has_token { "try again (some owners answer by hand)" } else {
            "set HF_TOKEN to a token of that account"
        },
        said(message)
    )]
    Gated { repo: String, page: String, has_token: bool, message: String },
    #[error(
        "{endpoint} refuses {repo} with 403: the token's account has no access; see {endpoint}/{repo}{}",
        said(message)
    )]
    Forbidden { repo: String, endpoint: String, message: String },
    #[error(
        "{endpoint} answers too many requests (429){}; wait, or set HF_TOKEN, which allows more",
        wait.map_or(String::new(), |wait| format!(" and asks to wait {} s", wait.as_secs()))
    )]
    RateLimited { endpoint: String, wait: Option<Duration> },
    #[error("{endpoint} answers {status} for {repo}{}; try again later", said(message))]
    Server { repo: String, endpoint: String, status: u16, message: String },
    #[error(
        "cannot reach {host} for {repo}: {reason}; check the network, a proxy, and HF_ENDPOINT. \
         What was downloaded stays; the same command goes on from there"
    )]
    Network { repo: String, host: String, reason: String },
    #[error("{endpoint} answers for {repo} with something that is no hub answer: {reason}")]
    Malformed { repo: String, endpoint: String, reason: String },
    #[error(
        "{path} of {repo} arrived with {kind} {found}, expected {expected}; it was thrown away. \
         Try again; if it stays so, the file on the hub or a proxy on the way is damaged"
    )]
    Checksum { repo: String, path: String, kind: &'static str, found: String, expected: String },
    #[error(
        "{repo} has its weights as pickles only ({}), which can run code when they are read, so \
         they are not downloaded; look for a revision with safetensors (the hub's conversion bot \
         offers one: --revision refs/pr/1), or convert it with \
         https://huggingface.co/spaces/safetensors/convert",
        files.join(", ")
    )]
    OnlyPickles { repo: String, files: Vec<String> },
    #[error("{repo} has no model weights that Haze can read; it has {}", list(found))]
    NoWeights { repo: String, found: Vec<String> },
    #[error("no file of {repo} is left by --include and --exclude; it has {}", list(found))]
    NothingSelected { repo: String, found: Vec<String> },
    #[error("{repo} has no variant {wanted:?}; it has {}", list(found))]
    Variant { repo: String, wanted: String, found: Vec<String> },
    #[error(
        "{repo} needs {} and {} has {} free; make room, or set HF_HUB_CACHE to a folder on another \
         disk",
        readable_size(*needed), folder.display(), readable_size(*free)
    )]
    Disk { repo: String, folder: PathBuf, needed: u64, free: u64 },
    #[error(
        "{repo} is gated under the licence {licence}: read the terms at {page}, then accept them \
         with haze models pull {repo} --accept-licence"
    )]
    LicenceNotAccepted { repo: String, licence: String, page: String },
    #[error(
        "{name} is not in the hub cache {}{}; download it with haze models pull {name}",
        cache.display(),
        if others.is_empty() { String::new() } else {
            format!(" at that revision, only at {}", others.join(", "))
        }
    )]
    NotCached { name: String, cache: PathBuf, others: Vec<String> },
    #[error("{}: {reason}; remove the file and pull the model again", path.display())]
    DamagedCache { path: PathBuf, reason: String },
    #[error("cannot set up the connection to the hub: {0}")]
    Client(String),
    #[error("cancelled")]
    Cancelled,
    #[error(transparent)]
    File(#[from] FileError),
}

fn said(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" (the hub says: {message})") }
}

/// At most a few of many names.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    match names.len() {
        0 => "nothing".to_owned(),
        count if count <= SHOWN => names.join(", "),
        count => format!("{} and {} more", names[..SHOWN].join(", "), count - SHOWN),
    }
}
