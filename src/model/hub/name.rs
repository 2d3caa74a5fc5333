//! Names of models on the hub: `owner/name`, with a folder inside and a revision where needed.

use std::fmt;
use std::path::Path;

use super::HubError;

/// Longest owner or name that the hub allows.
const PART_LIMIT: usize = 96;
/// Far above any branch or tag.
const REVISION_LIMIT: usize = 200;

/// `owner/name[/folder][@revision]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubName {
    owner: String,
    name: String,
    folder: Option<String>,
    revision: Option<String>,
}

impl HubName {
    /// Reads a name as the user wrote it.
    ///
    /// # Errors
    /// When it is not of that form, or has characters that the hub does not allow.
    pub fn parse(text: &str) -> Result<Self, HubError> {
        let wrong = |reason: &str| {
            Err(HubError::Name { found: text.to_owned(), reason: reason.to_owned() })
        };
        let (path, revision) = match text.split_once('@') {
            Some((path, revision)) => (path, Some(revision)),
            None => (text, None),
        };
        let mut parts = path.split('/');
        let (Some(owner), Some(name)) = (parts.next(), parts.next()) else {
            return wrong("it has no owner");
        };
        if !is_part(owner) || !is_part(name) {
            return wrong(
                "owner and name have letters, digits, '-', '_' and '.', begin and end with a \
                 letter or digit, and have neither '--' nor '..'",
            );
        }
        let folder: Vec<&str> = parts.collect();
        if !folder.iter().all(|part| is_path_part(part)) {
            return wrong("the folder after owner and name is no relative path");
        }
        if !revision.is_none_or(is_revision) {
            return wrong("what follows '@' is no branch, tag or commit");
        }
        Ok(Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
            folder: (!folder.is_empty()).then(|| folder.join("/")),
            revision: revision.map(str::to_owned),
        })
    }

    /// The same, of a path that does not exist on this machine; `None` when it can be no name.
    pub fn of_path(path: &Path) -> Option<Self> {
        Self::parse(path.to_str()?).ok()
    }

    /// `owner/name`.
    pub fn repo(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The name without its owner.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder of the repository that is meant; `None` for the whole of it.
    pub fn folder(&self) -> Option<&str> {
        self.folder.as_deref()
    }

    /// Branch, tag or commit as it was named.
    pub fn named_revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// Branch, tag or commit; `main` where none was named.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// The same model at another revision.
    ///
    /// # Errors
    /// When `revision` can be no branch, tag or commit.
    pub fn at(&self, revision: &str) -> Result<Self, HubError> {
        if !is_revision(revision) {
            return Err(HubError::Name {
                found: revision.to_owned(),
                reason: "it is no branch, tag or commit".to_owned(),
            });
        }
        Ok(Self { revision: Some(revision.to_owned()), ..self.clone() })
    }
}

impl fmt::Display for HubName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        if let Some(folder) = &self.folder {
            write!(f, "/{folder}")?;
        }
        match &self.revision {
            Some(revision) => write!(f, "@{revision}"),
            None => Ok(()),
        }
    }
}

impl std::str::FromStr for HubName {
    type Err = HubError;

    fn from_str(text: &str) -> Result<Self, HubError> {
        Self::parse(text)
    }
}

/// True for a whole commit id: 40 hexadecimal digits.
pub fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The rule of `huggingface_hub.utils.validate_repo_id`.
fn is_part(part: &str) -> bool {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(|b| !matches!(b, b'-' | b'.'));
    let bytes = part.as_bytes();
    part.len() <= PART_LIMIT
        && bytes.iter().all(|&b| inside(b))
        && edge(bytes.first())
        && edge(bytes.last())
        && !part.contains("--")
        && !part.contains("..")
        && !part.ends_with(".git")
}

/// True for a path below a folder: it cannot lead out of it, on any system.
pub fn is_relative_path(path: &str) -> bool {
    path.len() <= 1024 && path.split('/').all(is_path_part)
}

fn is_path_part(part: &str) -> bool {
    let forbidden = |c: char| c.is_control() || matches!(c, '\\' | ':');
    !part.is_empty() && part != "." && part != ".." && !part.contains(forbidden)
}

fn is_revision(revision: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/');
    revision.len() <= REVISION_LIMIT
        && revision.bytes().all(allowed)
        && revision.split('/').all(|part| is_path_part(part) && !part.contains(".."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_apart_and_together_again() {
        for (text, repo, folder, revision) in [
            ("openai/clip-vit-large-patch14", "openai/clip-vit-large-patch14", None, "main"),
            ("a/b@fp16", "a/b", None, "fp16"),
            ("a/b@refs/pr/1", "a/b", None, "refs/pr/1"),
            ("kakaobrain/karlo-v1-alpha/prior", "kakaobrain/karlo-v1-alpha", Some("prior"), "main"),
            ("a/b.c_d/e/f@v1.0", "a/b.c_d", Some("e/f"), "v1.0"),
        ] {
            let name = HubName::parse(text).unwrap();
            assert_eq!(name.repo(), repo);
            assert_eq!((name.folder(), name.revision()), (folder, revision));
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn what_the_hub_would_not_have_is_no_name() {
        for text in [
            "",
            "gpt2",
            "/b",
            "a/",
            "a//b",
            "a/b/",
            "../b",
            "a/..",
            "a/b/../c",
            "a--b/c",
            "-a/b",
            "a/b.",
            "a/b.git",
            "a b/c",
            "C:\\models/x",
            "a/b@",
            "a/b@../x",
            "a/b@x y",
            "./clip",
        ] {
            assert!(HubName::parse(text).is_err(), "{text}");
        }
        assert!(HubName::parse(&format!("a/{}", "x".repeat(97))).is_err());
    }
}
