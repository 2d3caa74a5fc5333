//! Files of a plan into the cache.
//!
//! Content goes to `blobs/<checksum>.incomplete`, where an interrupted pull finds it again and asks
//! for the rest alone (`huggingface_hub` begins anew). A file whose checksum is right is renamed to `blobs/<checksum>`. Only when
//! all files are there, the snapshot gets its links and the branch its commit: a model is in the
//! cache as a whole or not at all.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checksum::Checksum;
use super::client::{Connection, Subject};
use super::name::is_commit;
use super::plan::{PlannedFile, PullPlan};
use super::{HubError, PullEvent, Tell, tell_or_stop};
use crate::files::{FileError, create_folder, write_atomic};

/// Bytes read at once when a partial file is taken up again.
const BUFFER: usize = 1 << 20;
/// Pause between two looks at a lock that another program holds.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// Brings the files of a plan into the cache and returns the folder that holds them. A file that
/// the snapshot has at its full size is trusted; what is downloaded is checked.
///
/// # Errors
/// When the disk has no room, the hub refuses or cannot be reached, a checksum is wrong, a file
/// cannot be written, or `tell` cancels. What was downloaded by then stays for the next try.
pub fn download(
    connection: &Connection,
    plan: &PullPlan,
    tell: &mut Tell<'_>,
) -> Result<PathBuf, HubError> {
    let cache = &connection.place.cache;
    connection.place.online(&plan.name.to_string())?;
    plan.check_disk(cache.folder())?;
    let repo = cache.repo(&plan.name);
    create_folder(&repo.join("blobs"))?;
    let mut done = plan.bytes - plan.download_bytes;
    let mut blobs = Vec::new();
    for planned in plan.files.iter().filter(|planned| !planned.cached) {
        let mut transfer = Transfer { connection, plan, planned, before: done };
        blobs.push((planned, connection.run(transfer.run(tell))?));
        done += planned.file.bytes;
        tell_or_stop(tell, PullEvent::Bytes { done, total: plan.bytes })?;
    }
    let snapshot = repo.join("snapshots").join(&plan.commit);
    create_folder(&snapshot)?;
    for (planned, blob) in &blobs {
        link(&repo, &snapshot, &planned.file.path, blob)?;
    }
    if !is_commit(plan.name.revision()) {
        let reference = repo.join("refs").join(plan.name.revision());
        create_folder(reference.parent().unwrap_or(&repo))?;
        write_atomic(&reference, |file| file.write_all(plan.commit.as_bytes()))?;
    }
    Ok(plan.name.folder().map_or(snapshot.clone(), |folder| snapshot.join(folder)))
}

/// The download of one file.
struct Transfer<'a> {
    connection: &'a Connection,
    plan: &'a PullPlan,
    planned: &'a PlannedFile,
    /// Bytes of the pull that were done when it began.
    before: u64,
}

impl Transfer<'_> {
    /// Downloads the file unless its blob is there; returns the blob's name.
    async fn run(&mut self, tell: &mut Tell<'_>) -> Result<String, HubError> {
        let file = &self.planned.file;
        let name = &self.plan.name;
        let subject = Subject { name, revision: &self.plan.commit, path: Some(&file.path) };
        let expected = if file.large {
            self.connection.checksum(&subject, tell).await?
        } else {
            file.oid.clone()
        };
        let Some(checksum) = Checksum::of_kind(&expected, file.bytes) else {
            let reason =
                format!("{} has the checksum {expected:?}, no SHA-256 or SHA-1", file.path);
            return Err(self.connection.malformed(name, reason));
        };
        let cache = &self.connection.place.cache;
        let blob = cache.repo(name).join("blobs").join(&expected);
        let lock = lock(&cache.lock(name, &expected), tell).await?;
        // Perhaps brought by another revision, or by who held the lock.
        if std::fs::metadata(&blob).is_ok_and(|facts| facts.len() == file.bytes) {
            return Ok(expected);
        }
        // Without a lock another program may write the same name: then it is one that nobody else
        // has, and nothing is taken up again.
        let ending = match lock {
            Some(_) => "incomplete".to_owned(),
            None => format!("{}.incomplete", std::process::id()),
        };
        let path = blob.with_extension(ending);
        let mut partial = Partial::open(path, file.bytes, checksum, tell)?;
        loop {
            let resumed = partial.have > 0;
            self.fill(&subject, &mut partial, tell).await?;
            let kind = partial.empty_checksum.name();
            let found = partial.checksum.clone().finish();
            if found == expected {
                partial.place(&blob)?;
                return Ok(expected);
            }
            partial.restart()?;
            if !resumed {
                partial.discard()?;
                let (repo, path) = (name.repo(), file.path.clone());
                return Err(HubError::Checksum { repo, path, kind, found, expected });
            }
            // What an earlier pull left may have been the wrong part: once more from the start.
            tracing::warn!("{}: the partial file was damaged; downloading it anew", file.path);
        }
    }

    /// Asks for what is missing, again and again while that brings anything.
    async fn fill(
        &self,
        subject: &Subject<'_>,
        partial: &mut Partial,
        tell: &mut Tell<'_>,
    ) -> Result<(), HubError> {
        let file = &self.planned.file;
        let event = PullEvent::File { path: &file.path, bytes: file.bytes, have: partial.have };
        tell_or_stop(tell, event)?;
        let (before, total) = (self.before, self.plan.bytes);
        let mut failures = 0;
        while partial.have < file.bytes {
            let start = partial.have;
            let result = {
                let mut tell = |event: PullEvent<'_>| match event {
                    PullEvent::Bytes { done, .. } => {
                        tell(PullEvent::Bytes { done: before + done, total })
                    }
                    other => tell(other),
                };
                let mut take = |offset, content: &[u8]| partial.write(offset, content);
                self.connection.stream(subject, start, file.bytes, &mut tell, &mut take).await
            };
            match result {
                Ok(Ok(())) => {}
                Ok(Err(failure)) => {
                    failures = if partial.have > start { 0 } else { failures };
                    self.connection.pause(failure, failures, subject, tell).await?;
                    failures += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// `blobs/<checksum>.incomplete` and the digest of what it holds.
struct Partial {
    path: PathBuf,
    file: File,
    /// Bytes that are there.
    have: u64,
    /// Bytes that the whole file has.
    bytes: u64,
    checksum: Checksum,
    empty_checksum: Checksum,
}

impl Partial {
    /// Opens what an earlier pull left, or begins.
    fn open(
        path: PathBuf,
        bytes: u64,
        checksum: Checksum,
        tell: &mut Tell<'_>,
    ) -> Result<Self, HubError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(FileError::write(&path))?;
        let empty_checksum = checksum.clone();
        let mut partial = Self { path, file, have: 0, bytes, checksum, empty_checksum };
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = partial.file.read(&mut buffer).map_err(FileError::read(&partial.path))?;
            if read == 0 {
                break;
            }
            partial.have += read as u64;
            if partial.have > bytes {
                partial.restart()?;
                break;
            }
            partial.checksum.update(&buffer[..read]);
            tell_or_stop(tell, PullEvent::Tick)?;
        }
        Ok(partial)
    }

    /// Adds the piece at `offset`; returns how many bytes are there. An offset of 0 begins anew.
    fn write(&mut self, offset: u64, content: &[u8]) -> Result<u64, HubError> {
        if offset == 0 && self.have > 0 {
            self.restart()?;
        }
        // More than the file has: the digest tells that it is another one.
        let content = &content[..content.len().min((self.bytes - self.have) as usize)];
        self.file.write_all(content).map_err(FileError::write(&self.path))?;
        self.checksum.update(content);
        self.have += content.len() as u64;
        Ok(self.have)
    }

    fn restart(&mut self) -> Result<(), HubError> {
        self.file.set_len(0).map_err(FileError::write(&self.path))?;
        self.have = 0;
        self.checksum = self.empty_checksum.clone();
        Ok(())
    }

    /// The file is whole and right.
    fn place(self, blob: &Path) -> Result<(), HubError> {
        self.file.sync_all().map_err(FileError::write(&self.path))?;
        drop(self.file);
        std::fs::rename(&self.path, blob).map_err(FileError::write(blob))?;
        Ok(())
    }

    fn discard(self) -> Result<(), HubError> {
        drop(self.file);
        std::fs::remove_file(&self.path).map_err(FileError::write(&self.path))?;
        Ok(())
    }
}

/// Keeps other programs, `huggingface_hub` among them, off a blob while it is written. `None` on a
/// file system without locks.
async fn lock(path: &Path, tell: &mut Tell<'_>) -> Result<Option<File>, HubError> {
    create_folder(path.parent().unwrap_or(Path::new(".")))?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(FileError::write(path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::WouldBlock) => {
                let why = "another program downloads the same file";
                tell_or_stop(tell, PullEvent::Waiting { why, pause: LOCK_PAUSE })?;
                tokio::time::sleep(LOCK_PAUSE).await;
            }
            Err(TryLockError::Error(error)) => {
                tracing::info!("{}: no lock: {error}", path.display());
                return Ok(None);
            }
        }
    }
}

/// Makes the snapshot's file lead to a blob: a relative link, or a copy where there are no links.
fn link(repo: &Path, snapshot: &Path, path: &str, blob: &str) -> Result<(), HubError> {
    let pointer = snapshot.join(path);
    let folder = pointer.parent().unwrap_or(snapshot);
    create_folder(folder)?;
    let up = "../".repeat(path.split('/').count() + 1);
    let relative = PathBuf::from(format!("{up}blobs/{blob}"));
    // Beside the pointer first, then over it: it is never absent.
    let fresh = folder.join(format!(".haze-{blob}.link"));
    let _ = std::fs::remove_file(&fresh);
    match symbolic_link(&relative, &fresh) {
        Ok(()) => {}
        Err(error) => {
            tracing::info!("{}: no link: {error}", pointer.display());
            let blob = repo.join("blobs").join(blob);
            std::fs::copy(&blob, &fresh).map_err(FileError::write(&pointer))?;
        }
    }
    std::fs::rename(&fresh, &pointer).map_err(FileError::write(&pointer))?;
    Ok(())
}

#[cfg(unix)]
fn symbolic_link(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(to, at)
}

#[cfg(windows)]
fn symbolic_link(to: &Path, at: &Path) -> std::io::Result<()> {
    std::os::windows::fs::symlink_file(to, at)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    #[test]
    fn a_partial_file_goes_on_where_it_ended_with_the_digest_of_the_whole() {
        let folder = tempfile::tempdir().unwrap();
        let expected = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        let blob = folder.path().join(expected);
        let incomplete = folder.path().join(format!("{expected}.incomplete"));
        let open = || {
            let checksum = Checksum::of_kind(expected, 6).unwrap();
            Partial::open(incomplete.clone(), 6, checksum, &mut |_| ControlFlow::Continue(()))
                .unwrap()
        };
        std::fs::write(&incomplete, "hel").unwrap();
        let mut partial = open();
        assert_eq!(partial.have, 3);
        assert_eq!(partial.write(3, b"lo\n").unwrap(), 6);
        assert_eq!(partial.checksum.clone().finish(), expected);
        partial.place(&blob).unwrap();
        assert_eq!(std::fs::read(&blob).unwrap(), b"hello\n");
        assert!(!incomplete.exists());

        // More than the whole, or a server that begins anew: from the start.
        std::fs::write(&incomplete, "much too long").unwrap();
        assert_eq!(open().have, 0);
        std::fs::write(&incomplete, "xy").unwrap();
        let mut partial = open();
        partial.write(0, b"hello\n and more").unwrap();
        assert_eq!(partial.checksum.clone().finish(), expected);
    }

    #[cfg(unix)]
    #[test]
    fn a_snapshot_leads_to_its_blobs_by_relative_links() {
        let folder = tempfile::tempdir().unwrap();
        let repo = folder.path().join("models--a--b");
        let snapshot = repo.join("snapshots/c");
        for name in ["blobs", "snapshots/c"] {
            std::fs::create_dir_all(repo.join(name)).unwrap();
        }
        std::fs::write(repo.join("blobs/aa"), "one").unwrap();
        std::fs::write(repo.join("blobs/bb"), "two").unwrap();
        link(&repo, &snapshot, "config.json", "aa").unwrap();
        link(&repo, &snapshot, "unet/x/config.json", "aa").unwrap();
        link(&repo, &snapshot, "config.json", "bb").unwrap();
        assert_eq!(
            std::fs::read_link(snapshot.join("config.json")).unwrap(),
            Path::new("../../blobs/bb")
        );
        assert_eq!(std::fs::read(snapshot.join("config.json")).unwrap(), b"two");
        assert_eq!(std::fs::read(snapshot.join("unet/x/config.json")).unwrap(), b"one");
        assert_eq!(std::fs::read_dir(&snapshot).unwrap().count(), 2);
    }
}
