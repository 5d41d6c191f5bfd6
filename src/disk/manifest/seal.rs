//! `sealift seal`: makes an episode durable, then says so.
//!
//! Three walks: one flushes every file and folder, several at a time; one reads and hashes, after
//! which the file system has nothing left to settle (NFS sets a file's mtime when it is flushed);
//! one looks whether anything moved since. Only then the marker is written. A power cut at any
//! point leaves either no marker, or a marker and everything that it lists.
//!
//! A file that is open for writing is not complete, whatever its time stamps say (`open_files.rs`):
//! it is asked after before its first byte is read and behind its last. The first walk waits for it
//! to be closed, for [`PATIENCE`] all in all: a recorder that has several threads may have closed
//! it a moment ago, with a copy of its descriptor in a child that has not reached its exec(2) yet.
//!
//! The episode is the daemon's from the moment at which the marker has its name: what follows goes
//! by the folder's descriptor, for the folder may be in `shipped/` by then.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{MAX_MANIFEST_BYTES, Manifest};
use crate::{
    clock,
    disk::{
        durable::{self, FlushFailed, NotDurable, Published},
        flock::Flock,
        open_files::{FileHolder, OpenFileProbe, Writers, find_holder},
        tree::{
            self, Closed, Entry, Kind, LinksOut, Stat, TreeError, in_words, open, shown, to_path,
        },
    },
    model::{
        episode::Digest,
        layout::MARKER,
        progress::{self, Cancelled, Progress},
    },
};

/// How long files that are still open for writing are waited for, all together.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often one is asked after meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What else is asked of a seal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SealOptions {
    /// A marker that is there is put aside, hidden beside the episode, and it is sealed anew.
    pub(crate) again: bool,
    /// Nothing is sealed where anything in it was written to within this time.
    pub(crate) idle: Option<Duration>,
}

/// What was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Files in the manifest.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of another user: whether they are open for writing cannot be told.
    pub untold: u64,
    /// What will not be in the archive, as it is: `"FIFO"`, `"socket"`, `"device"`, and its path
    /// relative to the episode.
    pub left_out: Vec<(&'static str, PathBuf)>,
    /// Symlinks that lead to what will not be in the archive.
    pub links_out: LinksOut,
    /// Where the marker is that was there before.
    pub put_aside: Option<PathBuf>,
}

/// Why an episode was not sealed. There is no marker then that was not there before, but for
/// [`SealError::NotFlushed`].
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// There is nothing of that name.
    #[error(
        "there is no such directory. If it was sealed before, it may have been shipped: `sealift trace ID` says where it is"
    )]
    Missing,
    /// It lost its name while it was being sealed.
    #[error(
        "it was moved or removed while it was being sealed, and this command did not seal it: `sealift trace ID` says where \
         it is, if another program sealed it meanwhile"
    )]
    MovedAway,
    /// It is a file or the like.
    #[error("not a directory")]
    NotADirectory,
    /// An episode is a directory of its own, not a name for another one.
    #[error("a symlink: seal the directory that it points to")]
    Symlink,
    /// It was sealed before, or by another process meanwhile.
    #[error("already sealed: it has a done.marker")]
    AlreadySealed,
    /// It was copied away, and is a half, or may be.
    #[error(
        "there is a .sealift-removing in it: it is what is left of an episode that was moved to another disk, or the copy of such \
         a rest, and may not be whole. Nothing was sealed. `sealift doctor` says what becomes of it; if you know that it is whole, \
         remove that file, then seal again"
    )]
    BeingRemoved,
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
    /// It was written to within the time for which it had to be left alone.
    #[error(
        "{} was written to less than {} ago: its recorder may be at work. Nothing was sealed",
        in_words(.path), crate::model::text::span(.idle.as_secs())
    )]
    NotIdle {
        /// What was written last.
        path: PathBuf,
        /// For how long nothing should have been.
        idle: Duration,
    },
    /// A file is open for writing, or mapped writable.
    #[error(
        "{} is still open for writing{}: close it (and unmap it), then seal again. Nothing was sealed",
        in_words(.path), .holder.as_ref().map(|holder| format!(" by {holder}")).unwrap_or_default()
    )]
    OpenForWriting {
        /// Which.
        path: PathBuf,
        /// By which process, where /proc shows it.
        holder: Option<FileHolder>,
    },
    /// The marker has its name, and may lose it at a power cut. The episode is sealed.
    #[error(
        "sealed, and on its way; but its folder could not be flushed to the disk: a power cut may take done.marker away. \
         Look after the disk"
    )]
    NotFlushed(#[source] io::Error),
    /// More files than a manifest can list.
    #[error(
        "too many files for a manifest of {MAX_MANIFEST_BYTES} bytes: create an empty done.marker instead"
    )]
    TooManyFiles,
    /// The marker that was put aside could not get its name back.
    #[error("{why}. Its marker of before is now {}, and cannot be put back: {error}", shown(.marker))]
    MarkerAside {
        /// Why it was not sealed.
        why: Box<Self>,
        /// Where its marker is.
        marker: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
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

/// Flushes everything in `directory`, then creates `done.marker` with the manifest, durably and
/// never over another.
///
/// # Errors
/// [`SealError`].
pub fn seal(directory: &Path, progress: &Progress) -> Result<Sealed, SealError> {
    seal_observed(directory, SealOptions::default(), progress, |_| ())
}

/// As [`seal`], with more that is asked.
///
/// # Errors
/// [`SealError`]. A marker that was put aside has its name again, but for
/// [`SealError::MarkerAside`].
pub(crate) fn seal_with(
    directory: &Path,
    options: SealOptions,
    progress: &Progress,
) -> Result<Sealed, SealError> {
    seal_observed(directory, options, progress, |_| ())
}

/// [`seal`], with each entry shown before it is hashed: where a test plays a recorder that will not
/// stop.
fn seal_observed(
    directory: &Path,
    options: SealOptions,
    progress: &Progress,
    mut observe: impl FnMut(&Entry<'_>),
) -> Result<Sealed, SealError> {
    let episode = resolve(directory, options)?;
    // Two at once would write the marker through one scratch file. Let go when the process ends,
    // however it ends.
    let sealing = File::open(&episode).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SealError::Missing,
        _ => io_error(b"", error),
    })?;
    let sealing = Flock::exclusive(sealing).map_err(|_| SealError::AlreadySealing)?;
    may_be_sealed(&episode, options, progress)?;
    let put_aside = match options.again {
        true => put_marker_aside(&episode)?,
        false => None,
    };
    let sealed = seal_held(&episode, &sealing, progress, &mut observe)
        .map_err(|error| explain(error, &episode, &sealing));
    match (sealed, put_aside) {
        (Ok(sealed), put_aside) => Ok(Sealed {
            put_aside,
            ..sealed
        }),
        (Err(error @ SealError::NotFlushed(_)), _) | (Err(error), None) => Err(error),
        (Err(why), Some(marker)) => Err(put_marker_back(why, marker, &episode)),
    }
}

fn put_marker_back(why: SealError, marker: PathBuf, episode: &Path) -> SealError {
    match durable::put_back(&marker, &episode.join(MARKER)) {
        Ok(()) => why,
        Err(error) => SealError::MarkerAside {
            why: Box::new(why),
            marker,
            error,
        },
    }
}

/// What an error means once it is known where the directory is by now. Another program may make the
/// marker meanwhile; then the daemon ships the episode and moves it away from its path, and the
/// descriptor still leads to it.
fn explain(error: SealError, episode: &Path, sealing: &File) -> SealError {
    if matches!(
        error,
        SealError::NotFlushed(_) | SealError::Tree(TreeError::Cancelled(_))
    ) {
        return error;
    }
    if open::has_file(sealing, c"done.marker") {
        return SealError::AlreadySealed;
    }
    let held = Stat::of(sealing).ok().map(|held| (held.dev, held.ino));
    match episode.symlink_metadata().map(|now| (now.dev(), now.ino())) {
        Ok(named) if held.is_none_or(|held| held == named) => error,
        Ok(_) => SealError::MovedAway,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => SealError::MovedAway,
        Err(_) => error,
    }
}

fn may_be_sealed(
    episode: &Path,
    options: SealOptions,
    progress: &Progress,
) -> Result<(), SealError> {
    if durable::has_removal_note(episode) {
        return Err(SealError::BeingRemoved);
    }
    match options.idle {
        Some(idle) => was_left_alone(episode, idle, progress),
        None => Ok(()),
    }
}

fn seal_held(
    episode: &Path,
    sealing: &File,
    progress: &Progress,
    mut observe: impl FnMut(&Entry<'_>),
) -> Result<Sealed, SealError> {
    let mut writers = OpenFileQuery {
        probe: OpenFileProbe::below(episode),
        left: PATIENCE,
        untold: 0,
    };
    flush(episode, &mut writers, progress)?;

    let mut manifest = Manifest::default();
    let mut bytes = 0;
    let (mut left_out, mut links_out) = (Vec::new(), LinksOut::default());
    let read = tree::walk(episode, progress, |entry| {
        observe(&entry);
        match entry.kind {
            Kind::File(closed) => {
                let file = closed.open()?;
                writers.refuse(episode, entry.path, &file)?;
                let sha256 = hash(&file, entry.path, &entry.stat, progress)?;
                writers.refuse(episode, entry.path, &file)?;
                manifest.push(entry.path, entry.stat.size_bytes, sha256);
                bytes += entry.stat.size_bytes;
            }
            Kind::Special(what) => left_out.push((what, to_path(entry.path))),
            Kind::Symlink(target) => links_out.note(entry.path, target),
            Kind::Directory | Kind::Left(_) => {}
        }
        Ok::<(), SealError>(())
    })?;
    let marker = manifest
        .to_bytes()
        .map_err(|error| io_error(MARKER.as_bytes(), error.into()))?;
    if marker.len() as u64 > MAX_MANIFEST_BYTES {
        return Err(SealError::TooManyFiles);
    }
    if tree::fingerprint(episode, progress)? != read.fingerprint {
        return Err(SealError::StillWriting { path: to_path(b"") });
    }
    match durable::write_new_file_in(sealing, MARKER, &marker) {
        Ok(Published::Done) => Ok(Sealed {
            files: manifest.len() as u64,
            bytes,
            untold: writers.untold,
            left_out,
            links_out,
            put_aside: None,
        }),
        Ok(Published::NameTaken) => Err(SealError::AlreadySealed),
        Err(NotDurable::NotPlaced(source)) => Err(io_error(MARKER.as_bytes(), source)),
        Err(NotDurable::NotFlushed(source)) => Err(SealError::NotFlushed(source)),
    }
}

fn was_left_alone(episode: &Path, idle: Duration, progress: &Progress) -> Result<(), SealError> {
    let (path, written) = tree::newest_write(episode, progress)?;
    // What is said to be from the future was written just now.
    let ago_s = clock::wall_now().unix_seconds().saturating_sub(written);
    if u64::try_from(ago_s).is_ok_and(|ago_s| ago_s >= idle.as_secs()) {
        Ok(())
    } else {
        Err(SealError::NotIdle { path, idle })
    }
}

/// Beside the episode and hidden: in it, it would be shipped as a part of it.
fn put_marker_aside(episode: &Path) -> Result<Option<PathBuf>, SealError> {
    let marker = episode.join(MARKER);
    if marker.symlink_metadata().is_err() {
        return Ok(None);
    }
    let (Some(folder), Some(name)) = (episode.parent(), episode.file_name()) else {
        return Ok(None);
    };
    let mut aside = OsString::from(".");
    aside.push(name);
    aside.push(".marker");
    durable::put_aside_as(&marker, folder, &aside)
        .map(Some)
        .map_err(|source| io_error(MARKER.as_bytes(), source))
}

/// Asks after files that may be written to still.
struct OpenFileQuery {
    probe: OpenFileProbe,
    /// What is left of [`PATIENCE`].
    left: Duration,
    /// Those that cannot be asked after, since they are another user's.
    untold: u64,
}

impl OpenFileQuery {
    /// Waits for a file to be closed, as long as there is patience.
    #[expect(
        clippy::disallowed_methods,
        reason = "no call waits for the last writer's close(2)"
    )]
    fn wait_for(
        &mut self,
        episode: &Path,
        closed: &Closed<'_>,
        path: &[u8],
    ) -> Result<File, SealError> {
        let mut file = closed.open()?;
        loop {
            match self.probe.writers(&file) {
                Writers::Open if self.left.is_zero() => {
                    return self.refuse(episode, path, &file).map(|()| file);
                }
                Writers::Open => {
                    std::thread::sleep(ASK_EVERY);
                    self.left = self.left.saturating_sub(ASK_EVERY);
                    // What was written meanwhile is no reason to refuse: nothing was read yet.
                    file = closed.open_as_it_is()?;
                }
                Writers::NotPermitted => {
                    self.untold += 1;
                    return Ok(file);
                }
                Writers::Closed | Writers::Untold => return Ok(file),
            }
        }
    }

    fn refuse(&self, episode: &Path, path: &[u8], file: &File) -> Result<(), SealError> {
        if self.probe.writers(file) == Writers::Open {
            let path = to_path(path);
            let holder = find_holder(&episode.join(&path));
            return Err(SealError::OpenForWriting { path, holder });
        }
        Ok(())
    }
}

/// Checks that it can be sealed at all, and gives its real path: the walk goes by the directory's
/// own name.
fn resolve(directory: &Path, options: SealOptions) -> Result<PathBuf, SealError> {
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
        Ok(_) if options.again => Ok(episode),
        Ok(marker) if marker.is_file() => Err(SealError::AlreadySealed),
        Ok(marker) if marker.is_dir() => Err(SealError::OddMarker("a directory")),
        Ok(marker) if marker.is_symlink() => Err(SealError::OddMarker("a symlink")),
        Ok(_) => Err(SealError::OddMarker("a FIFO, a socket or a device")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(episode),
        Err(source) => Err(io_error(MARKER.as_bytes(), source)),
    }
}

impl From<FlushFailed> for SealError {
    fn from(FlushFailed { path, cause }: FlushFailed) -> Self {
        io_error(path.as_os_str().as_bytes(), cause)
    }
}

fn flush(
    episode: &Path,
    writers: &mut OpenFileQuery,
    progress: &Progress,
) -> Result<(), SealError> {
    durable::with_flush_pool(|flushes| {
        tree::walk(episode, progress, |entry| {
            let file = match entry.kind {
                Kind::File(closed) => writers.wait_for(episode, &closed, entry.path)?,
                Kind::Left(folder) => folder
                    .try_clone()
                    .map_err(|source| io_error(entry.path, source))?,
                Kind::Directory | Kind::Symlink(_) | Kind::Special(_) => return Ok(()),
            };
            Ok::<(), SealError>(flushes.flush(to_path(entry.path), file)?)
        })
    })?;
    // The episode's own name is an entry of the folder above it.
    let above = episode.parent().unwrap_or(episode);
    durable::sync_folder(above).map_err(|source| SealError::Io {
        path: above.to_owned(),
        source,
    })
}

fn hash(file: &File, path: &[u8], seen: &Stat, progress: &Progress) -> Result<Digest, SealError> {
    let hasher = progress::hash(file, progress).map_err(|source| {
        source.downcast::<Cancelled>().map_or_else(
            |source| io_error(path, source),
            |cancelled| TreeError::from(cancelled).into(),
        )
    })?;
    // The size is part of the comparison, so a file that was read short or long does not pass.
    match Stat::of(file) {
        Ok(now) if now == *seen => Ok(hasher.into()),
        Ok(_) => Err(SealError::StillWriting {
            path: to_path(path),
        }),
        Err(source) => Err(io_error(path, source)),
    }
}

fn io_error(path: &[u8], source: io::Error) -> SealError {
    SealError::Io {
        path: to_path(path),
        source,
    }
}

#[cfg(test)]
mod tests;
