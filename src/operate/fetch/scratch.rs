//! What has arrived of an archive, kept from one run to the next.
//!
//! ```text
//! <folder>/
//!   .sealift-fetch-<id>.tar.zst.partial  its bytes so far; locked as long as a fetch writes to it
//!   .sealift-fetch-<id>.json             what the receiver said of the archive that they belong to
//!   .sealift-copy-<n>-<id>/              being unpacked (durable.rs)
//! ```
//!
//! The description is durable before the first byte is written, and the file is emptied before
//! that: bytes never stand under the description of another archive. The bytes themselves are not
//! flushed. A power cut may leave other ones than were written, so everything is hashed anew by the
//! next run, and compared when it is whole.
//!
//! A leftover is believed only where it is a regular file of ours: in a folder that others write
//! to, another user's file beside that user's description of it would be passed off as a
//! receiver's.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::{KeptDownload, answer::Described};
use crate::{
    disk::{durable, lookup},
    model::{
        episode::{Digest, EpisodeId},
        progress::{self, Cancelled, Progress},
    },
};

const PREFIX: &str = ".sealift-fetch-";
const PARTIAL_SUFFIX: &str = ".tar.zst.partial";
const DESCRIPTION_SUFFIX: &str = ".json";
/// A description has a few hundred bytes.
const MAX_DESCRIPTION_BYTES: u64 = 64 * 1024;
/// How often the file may be taken from under us by a fetch that ends, before something is plainly
/// wrong.
const MAX_TRIES: u32 = 16;

/// A scratch file in use: no other process writes to it.
pub(super) struct DownloadScratch {
    file: File,
    path: PathBuf,
    description_path: PathBuf,
    /// What has arrived is of this archive; `None` where nothing has.
    described: Option<Described>,
    len_bytes: u64,
    hasher: Sha256,
    /// The names are gone, or another process's by now.
    is_discarded: bool,
}

/// What opening came to.
pub(super) enum OpenedScratch {
    Scratch(Box<DownloadScratch>),
    /// Another fetch of this episode writes here.
    Busy,
    /// Told to stop, while what is here was hashed.
    Stopped(KeptDownload),
}

impl DownloadScratch {
    /// Opens what an earlier run has left of this address, or begins with nothing.
    pub(super) fn open(
        folder: &Path,
        id: &EpisodeId,
        address: &str,
        progress: &Progress,
    ) -> io::Result<OpenedScratch> {
        let path = folder.join(format!("{PREFIX}{}{PARTIAL_SUFFIX}", id.as_str()));
        let description_path = folder.join(format!("{PREFIX}{}{DESCRIPTION_SUFFIX}", id.as_str()));
        for _ in 0..MAX_TRIES {
            let Some(file) = open_ours(&path, true)? else {
                durable::remove_file(&path)?;
                continue;
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(OpenedScratch::Busy),
                // A file system without locks: two fetches would meet at the digest, and both lose.
                Err(TryLockError::Error(error)) => {
                    tracing::debug!("{}: cannot be locked: {error}", path.display());
                }
            }
            // The one who held the lock may have removed the name just now.
            let (held, named) = (file.metadata()?, fs::symlink_metadata(&path));
            if !named.is_ok_and(|named| (named.dev(), named.ino()) == (held.dev(), held.ino())) {
                continue;
            }
            let described =
                read_description(&description_path)?.filter(|found| found.address == address);
            let mut scratch = Self {
                file,
                path,
                description_path,
                described,
                len_bytes: 0,
                hasher: Sha256::new(),
                is_discarded: false,
            };
            if scratch.take_up(progress)?.is_err() {
                let bytes = scratch.file.metadata()?.len();
                return Ok(OpenedScratch::Stopped(KeptDownload {
                    bytes,
                    path: scratch.path.clone(),
                }));
            }
            return Ok(OpenedScratch::Scratch(Box::new(scratch)));
        }
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "it is replaced as often as it is opened",
        ))
    }

    /// Hashes what is there. Where that cannot be the beginning of what is described, there is
    /// nothing.
    fn take_up(&mut self, progress: &Progress) -> io::Result<Result<(), Cancelled>> {
        let len_bytes = self.file.metadata()?.len();
        let limit_bytes = self
            .described
            .as_ref()
            .map_or(0, |found| found.size_bytes.unwrap_or(u64::MAX));
        if len_bytes > limit_bytes {
            return self.empty().map(Ok);
        }
        match progress::hash(&self.file, &progress.beside()) {
            Ok(hasher) => {
                self.hasher = hasher;
                self.len_bytes = self.file.stream_position()?;
                Ok(Ok(()))
            }
            Err(error) => error.downcast::<Cancelled>().map(Err),
        }
    }

    /// Throws away what has arrived.
    pub(super) fn empty(&mut self) -> io::Result<()> {
        self.described = None;
        if self.file.metadata()?.len() > 0 {
            self.file.set_len(0)?;
            // Or else a power cut could bring the bytes back, under a description that is durable
            // by then.
            durable::sync_file(&self.file)?;
        }
        self.file.seek(SeekFrom::Start(0))?;
        (self.len_bytes, self.hasher) = (0, Sha256::new());
        Ok(())
    }

    /// Throws away what has arrived, and begins with this archive.
    pub(super) fn begin(&mut self, described: Described) -> io::Result<()> {
        self.empty()?;
        self.describe(described)
    }

    /// Says more about the archive that has arrived.
    pub(super) fn describe(&mut self, described: Described) -> io::Result<()> {
        durable::write_file(&self.description_path, &serde_json::to_vec(&described)?)?;
        self.described = Some(described);
        Ok(())
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(bytes) {
            // What of it was written is not hashed: it goes.
            self.file.set_len(self.len_bytes)?;
            self.file.seek(SeekFrom::Start(self.len_bytes))?;
            return Err(error);
        }
        self.hasher.update(bytes);
        self.len_bytes += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn described(&self) -> Option<&Described> {
        self.described.as_ref()
    }

    pub(super) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// Whether all of it is here.
    pub(super) fn is_whole(&self) -> bool {
        self.described
            .as_ref()
            .is_some_and(|described| described.size_bytes == Some(self.len_bytes))
    }

    /// Digest of what is here.
    pub(super) fn sha256(&self) -> Digest {
        self.hasher.clone().into()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The bytes, from the first on.
    pub(super) fn reader(&self) -> io::Result<File> {
        let mut file = self.file.try_clone()?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    }

    /// Removes both files: the archive first, since without its description it is nothing.
    pub(super) fn discard(mut self) -> io::Result<()> {
        self.is_discarded = true;
        durable::remove_file(&self.path)?;
        durable::remove_file(&self.description_path)
    }
}

impl Drop for DownloadScratch {
    /// A fetch that came to nothing (no such episode, a slip in the address) leaves nothing. The
    /// lock is still held here.
    fn drop(&mut self) {
        if !self.is_discarded && self.file.metadata().is_ok_and(|file| file.len() == 0) {
            // What stays is empty, and begun with by the next one.
            let _ = durable::remove_file(&self.path)
                .and_then(|()| durable::remove_file(&self.description_path));
        }
    }
}

fn read_description(path: &Path) -> io::Result<Option<Described>> {
    let Some(file) = open_ours(path, false)? else {
        return Ok(None);
    };
    let mut text = Vec::new();
    file.take(MAX_DESCRIPTION_BYTES).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text).ok())
}

/// Opens a file where it is a regular one of ours; `None` where it is something else or another
/// user's, and where it is not there and is not to be made.
fn open_ours(path: &Path, may_make: bool) -> io::Result<Option<File>> {
    let mut options = lookup::options();
    options.write(may_make).create(may_make).truncate(false);
    let file = match options.mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound && !may_make => return Ok(None),
        // A symlink.
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return Ok(None),
        Err(error) => return Err(error),
    };
    let stat = file.metadata()?;
    let is_ours = stat.is_file() && stat.uid() == rustix::process::geteuid().as_raw();
    Ok(is_ours.then_some(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path, address: &str) -> DownloadScratch {
        let id = EpisodeId::parse("a").unwrap();
        // A process that another test starts just now has the last one's descriptor between its
        // fork(2) and its execve(2).
        let opened = (0..1_000_000).find_map(|_| {
            match DownloadScratch::open(folder, &id, address, &Progress::default()).unwrap() {
                OpenedScratch::Scratch(scratch) => Some(*scratch),
                OpenedScratch::Busy => None,
                OpenedScratch::Stopped(why) => panic!("{why:?}"),
            }
        });
        opened.expect("in use for ever")
    }

    fn described(address: &str) -> Described {
        Described {
            address: address.to_owned(),
            size_bytes: Some(6),
            sha256: Some(Digest::of(b"abcdef")),
            content_sha256: None,
            etag: None,
        }
    }

    #[test]
    fn what_has_arrived_is_taken_up_by_the_next_run_and_hashed_over_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut scratch = open(folder.path(), "r");
        assert_eq!((scratch.len_bytes(), scratch.described()), (0, None));
        scratch.begin(described("r")).unwrap();
        scratch.append(b"abc").unwrap();
        drop(scratch);
        let mut scratch = open(folder.path(), "r");
        assert_eq!((scratch.len_bytes(), scratch.is_whole()), (3, false));
        scratch.append(b"def").unwrap();
        assert!(scratch.is_whole());
        assert_eq!(scratch.sha256(), Digest::of(b"abcdef"));
        drop(scratch);
        let scratch = open(folder.path(), "r");
        assert!(scratch.is_whole());
        scratch.discard().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn bytes_without_a_fitting_description_are_nothing() {
        for spoil in [
            (|folder: &Path| fs::write(folder.join(".sealift-fetch-a.json"), "{").unwrap())
                as fn(&Path),
            |folder| durable::remove_file(&folder.join(".sealift-fetch-a.json")).unwrap(),
            |folder| {
                fs::write(
                    folder.join(".sealift-fetch-a.tar.zst.partial"),
                    "longer than it",
                )
                .unwrap();
            },
            |folder| {
                durable::remove_file(&folder.join(".sealift-fetch-a.tar.zst.partial")).unwrap();
                std::os::unix::fs::symlink(
                    "/etc/passwd",
                    folder.join(".sealift-fetch-a.tar.zst.partial"),
                )
                .unwrap();
            },
            |folder| {
                let description = folder.join(".sealift-fetch-a.json");
                fs::write(folder.join("theirs"), fs::read(&description).unwrap()).unwrap();
                durable::remove_file(&description).unwrap();
                std::os::unix::fs::symlink("theirs", description).unwrap();
            },
            |folder| {
                // Another user's; only root can play that, and for others the description is
                // spoiled.
                let partial = folder.join(".sealift-fetch-a.tar.zst.partial");
                if std::os::unix::fs::chown(
                    partial,
                    Some(rustix::process::geteuid().as_raw() + 1),
                    None,
                )
                .is_err()
                {
                    fs::write(folder.join(".sealift-fetch-a.json"), "").unwrap();
                }
            },
            |folder| {
                let begun = open(folder, "another receiver").described().cloned();
                assert_eq!(begun, None);
            },
        ] {
            let folder = tempfile::tempdir().unwrap();
            let mut scratch = open(folder.path(), "r");
            scratch.begin(described("r")).unwrap();
            scratch.append(b"abc").unwrap();
            drop(scratch);
            spoil(folder.path());
            let scratch = open(folder.path(), "r");
            assert_eq!(
                (scratch.len_bytes(), scratch.sha256()),
                (0, Digest::of(b""))
            );
            assert_eq!(scratch.file.metadata().unwrap().len(), 0);
            drop(scratch);
            let left = fs::read_dir(folder.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            assert_eq!(
                left.filter(|name| name != "theirs").count(),
                0,
                "nothing leaves nothing"
            );
        }
    }

    #[test]
    fn two_fetches_of_one_episode_do_not_write_to_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let id = EpisodeId::parse("a").unwrap();
        let scratch = open(folder.path(), "r");
        let second = DownloadScratch::open(folder.path(), &id, "r", &Progress::default()).unwrap();
        assert!(matches!(second, OpenedScratch::Busy));
        scratch.discard().unwrap();
        open(folder.path(), "r");
    }
}
