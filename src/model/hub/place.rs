//! Where the hub is and where its cache lies, from the environment variables of `huggingface_hub`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use super::{HubCache, HubError};
use crate::files::read_bounded;

/// The hub that is asked where `HF_ENDPOINT` names no other.
const ENDPOINT: &str = "https://huggingface.co";
/// Tokens have some forty characters.
const TOKEN_LIMIT: u64 = 4096;

/// Cache folder, endpoint, token and offline mode.
#[derive(Debug, Clone)]
pub struct HubPlace {
    pub cache: HubCache,
    /// Address of the hub, without a slash at its end.
    pub endpoint: String,
    /// True: no request is ever made.
    pub offline: bool,
    token: Option<Token>,
}

/// A secret: sent to the endpoint, never printed.
#[derive(Clone)]
struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

impl HubPlace {
    /// Reads the environment.
    ///
    /// - cache: `HF_HUB_CACHE`, else `HUGGINGFACE_HUB_CACHE`, else `HF_HOME/hub`, else
    ///   `XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`;
    /// - endpoint: `HF_ENDPOINT`;
    /// - token: `HF_TOKEN`, else the file `HF_TOKEN_PATH`, else `token` in the folder that `hub`
    ///   would be in; none with `HF_HUB_DISABLE_IMPLICIT_TOKEN`;
    /// - offline: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    pub fn from_env() -> Self {
        Self::from(&|name| std::env::var_os(name))
    }

    /// The same, of any set of variables.
    pub fn from(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let home = set("HOME").or_else(|| set("USERPROFILE")).map(PathBuf::from);
        let folder = |name: &str| set(name).map(|value| expand(PathBuf::from(value), &home));
        let hf_home = folder("HF_HOME")
            .or_else(|| Some(folder("XDG_CACHE_HOME")?.join("huggingface")))
            .or_else(|| Some(home.clone()?.join(".cache/huggingface")))
            .unwrap_or_else(|| PathBuf::from(".cache/huggingface"));
        let cache = folder("HF_HUB_CACHE")
            .or_else(|| folder("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| hf_home.join("hub"));
        let read = |path: PathBuf| {
            let bytes = read_bounded(&path, TOKEN_LIMIT, "a token").ok()?;
            trimmed(&String::from_utf8(bytes).ok()?)
        };
        let token = if text("HF_HUB_DISABLE_IMPLICIT_TOKEN").is_some_and(|v| is_true(&v)) {
            None
        } else {
            text("HF_TOKEN")
                .and_then(|token| trimmed(&token))
                .or_else(|| read(folder("HF_TOKEN_PATH")?))
                .or_else(|| read(hf_home.join("token")))
        };
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            cache: HubCache::new(cache),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
                .into_iter()
                .any(|name| text(name).is_some_and(|value| is_true(&value))),
            token: token.map(Token),
        }
    }

    /// The token, for a request to the endpoint and to nobody else.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(|token| token.0.as_str())
    }

    /// Whether there is a token.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// The page of a repository, for people.
    pub fn page(&self, repo: &str) -> String {
        format!("{}/{repo}", self.endpoint)
    }

    /// # Errors
    /// When no request may be made.
    pub(super) fn online(&self, name: &str) -> Result<(), HubError> {
        if self.offline { Err(HubError::Offline { name: name.to_owned() }) } else { Ok(()) }
    }
}

/// `~/x` as a folder below the home folder.
fn expand(path: PathBuf, home: &Option<PathBuf>) -> PathBuf {
    match (path.strip_prefix(Path::new("~")), home) {
        (Ok(rest), Some(home)) => home.join(rest),
        _ => path,
    }
}

fn trimmed(token: &str) -> Option<String> {
    let token = token.trim();
    (!token.is_empty()).then(|| token.to_owned())
}

/// How `huggingface_hub` reads a switch.
fn is_true(value: &str) -> bool {
    matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(variables: &[(&str, &str)]) -> HubPlace {
        HubPlace::from(&|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_cache_folder_follows_the_order_of_huggingface_hub() {
        let all = [
            ("HOME", "/home/a"),
            ("XDG_CACHE_HOME", "/xdg"),
            ("HF_HOME", "~/hf"),
            ("HUGGINGFACE_HUB_CACHE", "/old"),
            ("HF_HUB_CACHE", "/new"),
        ];
        let expected = [
            "/home/a/.cache/huggingface/hub",
            "/xdg/huggingface/hub",
            "/home/a/hf/hub",
            "/old",
            "/new",
        ];
        for (count, expected) in expected.into_iter().enumerate() {
            assert_eq!(place(&all[..=count]).cache.folder(), Path::new(expected));
        }
        // An empty variable is none.
        let empty = place(&[("HOME", "/home/a"), ("HF_HOME", ""), ("HF_ENDPOINT", "")]);
        assert_eq!(empty.cache.folder(), Path::new(expected[0]));
        assert_eq!(empty.endpoint, ENDPOINT);
        assert_eq!(place(&[("HF_ENDPOINT", "http://h:1/")]).endpoint, "http://h:1");
    }

    #[test]
    fn the_token_comes_from_the_nearest_place_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert!(!place(&[("HF_HOME", home)]).has_token());
        std::fs::write(folder.path().join("token"), "hf_stored\n").unwrap();
        std::fs::write(folder.path().join("other"), "hf_other").unwrap();
        let other = folder.path().join("other");
        let stored = ("HF_HOME", home);
        let named = ("HF_TOKEN_PATH", other.to_str().unwrap());
        let given = ("HF_TOKEN", " hf_given ");
        assert_eq!(place(&[stored]).token(), Some("hf_stored"));
        assert_eq!(place(&[stored, named]).token(), Some("hf_other"));
        assert_eq!(place(&[stored, named, given]).token(), Some("hf_given"));
        assert_eq!(place(&[given, ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]).token(), None);
        let shown = format!("{:?}", place(&[given]));
        assert!(!shown.contains("hf_given"), "{shown}");
    }

    #[test]
    fn offline_is_a_switch() {
        for (value, offline) in [("1", true), ("true", true), ("0", false), ("", false)] {
            assert_eq!(place(&[("HF_HUB_OFFLINE", value)]).offline, offline, "{value:?}");
        }
    }
}
