//! Checksums as the hub names files by them: SHA-256 for large files (Git LFS), the SHA-1 of a Git
//! blob for small ones.

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// A digest in the making.
#[derive(Clone)]
pub enum Checksum {
    /// SHA-256 of the content: the oid of Git LFS.
    Sha256(Sha256),
    /// SHA-1 of `"blob <length>\0"` and the content: the oid of Git.
    GitSha1(Sha1),
}

impl Checksum {
    /// The kind of checksum that `expected` (hex) is, of a file of `bytes` bytes. `None` when it is
    /// neither: then it is no checksum, and no file name either.
    pub fn of_kind(expected: &str, bytes: u64) -> Option<Self> {
        let hex = expected.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match expected.len() {
            64 if hex => Some(Checksum::Sha256(Sha256::new())),
            40 if hex => {
                let mut sha1 = Sha1::new();
                sha1.update(format!("blob {bytes}\0"));
                Some(Checksum::GitSha1(sha1))
            }
            _ => None,
        }
    }

    /// Its name, for people.
    pub fn name(&self) -> &'static str {
        match self {
            Checksum::Sha256(_) => "SHA-256",
            Checksum::GitSha1(_) => "Git SHA-1",
        }
    }

    pub fn update(&mut self, content: &[u8]) {
        match self {
            Checksum::Sha256(digest) => digest.update(content),
            Checksum::GitSha1(digest) => digest.update(content),
        }
    }

    /// The digest in hex.
    pub fn finish(self) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect();
        match self {
            Checksum::Sha256(digest) => hex(&digest.finalize()),
            Checksum::GitSha1(digest) => hex(&digest.finalize()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_git_and_sha256sum() {
        // printf 'hello\n' | git hash-object --stdin; printf 'hello\n' | sha256sum
        let expected = [
            "ce013625030ba8dba906f756967f9e9ca394464a",
            "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03",
        ];
        for expected in expected {
            let mut checksum = Checksum::of_kind(expected, 6).unwrap();
            checksum.update(b"hel");
            checksum.update(b"lo\n");
            assert_eq!(checksum.finish(), expected);
        }
    }

    #[test]
    fn anything_else_is_no_checksum() {
        for text in ["", "../../x", &"g".repeat(40), &"A".repeat(64), &"a".repeat(32)] {
            assert!(Checksum::of_kind(text, 0).is_none(), "{text}");
        }
    }
}
