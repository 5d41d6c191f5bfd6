//! `sealift seal`: makes an episode durable, then says so.
//!
//! Three walks: one flushes every file and folder, from the leaves up; one reads and hashes, after which the file
//! system has nothing left to settle (NFS sets a file's mtime when it is flushed); one looks whether anything moved
//! since. Only then the marker is written. A power cut at any point leaves either no marker, or a marker and
//! everything that it lists.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use super::{MAX_MANIFEST_BYTES, Manifest};
use crate::{
    durable::{self, Published},
    episode::Digest,
    layout::MARKER,
    progress::Progress,
    tree::{self, Entry, Kind, Stat, TreeError, in_words, shown, to_path},
};

const READ_BYTES: usize = 256 * 1024;

/// What was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Files in the manifest.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What will not be in the archive, as it is: `"FIFO"`, `"socket"`, `"device"`, and its path relative to the episode.
    pub left_out: Vec<(&'static str, PathBuf)>,
}

/// Why an episode was not sealed. There is no marker then that was not there before.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is nothing of that name.
    #[error("there is no such directory")]
    Missing,
    /// It is a file or the like.
    #[error("not a directory")]
    NotADirectory,
    /// An episode is a directory of its own, not a name for another one.
    #[error("a symlink: seal the directory that it points to")]
    Symlink,
    /// Somebody sealed it before, or while we were at it.
    #[error("already sealed: it has a done.marker")]
    AlreadySealed,
    /// Something else than a marker has its name.
    #[error(
        "not sealed, and cannot be: done.marker is there and is {0}. done.marker must be a regular file: remove it, then \
         seal again"
    )]
    OddMarker(&'static str),
    /// Another process is at it, or holds a lock on the directory for a reason of its own.
    #[error("it is being sealed by another process: wait for that one to end")]
    AlreadySealing,
    /// Something inside changed while it was being sealed.
    #[error("the recorder is still writing: {} changed", in_words(.path))]
    StillWriting {
        /// What changed.
        path: PathBuf,
    },
    /// More files than a manifest can list.
    #[error(
        "too many files for a manifest of {MAX_MANIFEST_BYTES} bytes: create an empty done.marker instead"
    )]
    TooManyFiles,
    /// The episode cannot be read to its end.
    #[error(transparent)]
    Tree(TreeError),
    /// Reading, flushing or writing the marker failed.
    #[error("failed to make {} durable", shown(.path))]
    Io {
        /// What was being read, flushed or written.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
}

impl From<TreeError> for SealError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Changed { path } => Self::StillWriting { path },
            TreeError::Gone => Self::Missing,
            other => Self::Tree(other),
        }
    }
}

/// Flushes everything in `directory`, then creates `done.marker` with the manifest, durably and never over another.
///
/// # Errors
/// [`SealError`].
pub fn seal(directory: &Path, progress: &Progress) -> Result<Sealed, SealError> {
    seal_observed(directory, progress, |_| ())
}

/// [`seal`], with each entry shown before it is hashed: where a test plays a recorder that will not stop.
fn seal_observed(
    directory: &Path,
    progress: &Progress,
    mut observe: impl FnMut(&Entry<'_>),
) -> Result<Sealed, SealError> {
    let episode = resolve(directory)?;
    // Two at once would write the marker through one scratch file. Let go when the process ends, however it ends.
    let sealing = File::open(&episode).map_err(|error| io_error(b"", error))?;
    rustix::fs::flock(&sealing, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| SealError::AlreadySealing)?;
    flush(&episode, progress)?;

    let mut manifest = Manifest::default();
    let mut bytes = 0;
    let mut left_out = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    let read = tree::walk(&episode, progress, |entry| {
        observe(&entry);
        match entry.kind {
            Kind::File(closed) => {
                let sha256 = hash(&closed.open()?, entry.path, &entry.stat, &mut buffer, progress)?;
                manifest.push(entry.path, entry.stat.size_bytes, sha256);
                bytes += entry.stat.size_bytes;
            }
            Kind::Special(what) => left_out.push((what, to_path(entry.path))),
            Kind::Directory | Kind::Symlink(_) | Kind::Left(_) => {}
        }
        Ok::<(), SealError>(())
    })?;
    let marker = manifest.to_bytes().map_err(|error| io_error(MARKER.as_bytes(), error.into()))?;
    if marker.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(SealError::TooManyFiles);
    }
    if tree::fingerprint(&episode, progress)? != read.fingerprint {
        return Err(SealError::StillWriting { path: to_path(b"") });
    }
    match durable::write_new_file(&episode.join(MARKER), &marker) {
        Ok(Published::Done) => Ok(Sealed { files: manifest.len() as u64, bytes, left_out }),
        Ok(Published::NameTaken) => Err(SealError::AlreadySealed),
        Err(source) => Err(io_error(MARKER.as_bytes(), source)),
    }
}

/// Checks that it can be sealed at all, and gives its real path: the walk goes by the directory's own name.
fn resolve(directory: &Path) -> Result<PathBuf, SealError> {
    // A trailing slash would make lstat(2) follow a symlink; components() drops it.
    let directory: PathBuf = directory.components().collect();
    let missing = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SealError::Missing,
        io::ErrorKind::NotADirectory => SealError::NotADirectory,
        _ => io_error(b"", source),
    };
    let found = directory.symlink_metadata().map_err(missing)?.file_type();
    if found.is_symlink() {
        return Err(SealError::Symlink);
    }
    if !found.is_dir() {
        return Err(SealError::NotADirectory);
    }
    let episode = directory.canonicalize().map_err(missing)?;
    match episode.join(MARKER).symlink_metadata() {
        Ok(marker) if marker.is_file() => Err(SealError::AlreadySealed),
        Ok(marker) if marker.is_dir() => Err(SealError::OddMarker("a directory")),
        Ok(marker) if marker.is_symlink() => Err(SealError::OddMarker("a symlink")),
        Ok(_) => Err(SealError::OddMarker("a FIFO, a socket or a device")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(episode),
        Err(source) => Err(io_error(MARKER.as_bytes(), source)),
    }
}

fn flush(episode: &Path, progress: &Progress) -> Result<(), SealError> {
    tree::walk(episode, progress, |entry| {
        let flushed = match entry.kind {
            Kind::File(closed) => durable::sync_file(&closed.open()?),
            Kind::Left(folder) => durable::sync_file(folder),
            Kind::Directory | Kind::Symlink(_) | Kind::Special(_) => Ok(()),
        };
        flushed.map_err(|source| io_error(entry.path, source))
    })?;
    // The episode's own name is an entry of the folder above it.
    let above = episode.parent().unwrap_or(episode);
    durable::sync_folder(above).map_err(|source| SealError::Io { path: above.to_owned(), source })
}

fn hash(
    file: &File,
    path: &[u8],
    seen: &Stat,
    buffer: &mut [u8],
    progress: &Progress,
) -> Result<Digest, SealError> {
    let mut hasher = Sha256::new();
    let mut reader = file;
    loop {
        progress.check().map_err(TreeError::from)?;
        let read = match reader.read(buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(source) => return Err(io_error(path, source)),
        };
        hasher.update(&buffer[..read]);
        progress.advance(read as u64);
    }
    // The size is part of the comparison, so a file that was read short or long does not pass.
    match Stat::of(file) {
        Ok(now) if now == *seen => Ok(hasher.into()),
        Ok(_) => Err(SealError::StillWriting { path: to_path(path) }),
        Err(source) => Err(io_error(path, source)),
    }
}

fn io_error(path: &[u8], source: io::Error) -> SealError {
    SealError::Io { path: to_path(path), source }
}

#[cfg(test)]
mod tests {
    use std::{
        ffi::OsStr,
        fs,
        os::unix::{ffi::OsStrExt as _, fs::symlink},
    };

    use super::*;
    use crate::manifest::parse;

    fn episode() -> (tempfile::TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a");
        fs::create_dir_all(path.join("data")).unwrap();
        fs::write(path.join("data/x"), "1234").unwrap();
        fs::write(path.join(OsStr::from_bytes(b"\xff")), "").unwrap();
        symlink("data/x", path.join("link")).unwrap();
        (root, path)
    }

    #[test]
    fn sealing_writes_a_manifest_of_every_file() {
        let (_root, path) = episode();
        let _socket = std::os::unix::net::UnixListener::bind(path.join("socket")).unwrap();
        let sealed = seal(&path, &Progress::default()).unwrap();
        assert_eq!(sealed, Sealed { files: 2, bytes: 4, left_out: vec![("socket", "socket".into())] });
        let manifest = parse(&fs::read(path.join(MARKER)).unwrap()).unwrap().unwrap();
        let paths: Vec<_> = manifest.files.iter().map(|file| &*file.path).collect();
        assert_eq!(paths, [&b"data/x"[..], b"\xff"]);
        assert_eq!(manifest.files[0].sha256, Digest::of(b"1234"));
        assert!(matches!(seal(&path, &Progress::default()), Err(SealError::AlreadySealed)));
    }

    #[test]
    fn what_is_no_directory_of_its_own_is_refused() {
        let (root, path) = episode();
        let link = root.path().join("link");
        symlink(&path, &link).unwrap();
        let refused = |path: &Path| seal(path, &Progress::default()).unwrap_err();
        assert!(matches!(refused(&link), SealError::Symlink));
        assert!(matches!(refused(&root.path().join("link/")), SealError::Symlink));
        assert!(matches!(refused(&path.join("data/x")), SealError::NotADirectory));
        assert!(matches!(refused(&root.path().join("none")), SealError::Missing));
        symlink("nowhere", path.join(MARKER)).unwrap();
        assert!(matches!(refused(&path), SealError::OddMarker("a symlink")));
    }

    #[test]
    fn a_file_that_grows_while_it_is_hashed_is_still_being_written() {
        let (_root, path) = episode();
        let file = File::open(path.join("data/x")).unwrap();
        let seen = Stat::of(&file).unwrap();
        fs::write(path.join("data/x"), "12345").unwrap();
        let error = hash(&file, b"data/x", &seen, &mut [0; 16], &Progress::default()).unwrap_err();
        assert_eq!(error.to_string(), "the recorder is still writing: data/x changed");
        assert!(!path.join(MARKER).exists());
    }

    #[test]
    fn a_write_behind_the_hashing_is_still_writing() {
        let (_root, path) = episode();
        let result = seal_observed(&path, &Progress::default(), |entry| {
            if entry.path == b"link" {
                fs::write(path.join("data/x"), "12345").unwrap();
            }
        });
        assert!(matches!(result, Err(SealError::StillWriting { .. })));
        assert!(!path.join(MARKER).exists());
        assert!(seal(&path, &Progress::default()).is_ok());
    }

    #[test]
    fn of_two_that_seal_at_once_one_is_told_to_wait() {
        let (_folder, path) = episode();
        let result = seal_observed(&path, &Progress::default(), |_| {
            assert!(matches!(seal(&path, &Progress::default()), Err(SealError::AlreadySealing)));
        });
        assert!(result.is_ok(), "{result:?}");
    }

    #[test]
    fn a_cancelled_seal_leaves_no_marker() {
        let (_root, path) = episode();
        let progress = Progress::default();
        progress.cancel();
        assert!(matches!(seal(&path, &progress), Err(SealError::Tree(TreeError::Cancelled(_)))));
        assert_eq!(fs::read_dir(path).unwrap().count(), 3);
    }
}
