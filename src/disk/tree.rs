//! The one walk over an episode's directory, and the fingerprint that it takes on the way.
//!
//! ```text
//!  run-7/            Directory  ""                 the order is that of the path's bytes,
//!  run-7/a-b         File       "a-b"              a folder's counted with the '/' that the
//!  run-7/a/          Directory  "a"                archive writes behind it: hence "a-b"
//!  run-7/a/x         Symlink    "a/x"              before "a/" ('-' is 0x2d, '/' is 0x2f)
//!                    Left       "a"
//!  run-7/done.marker File       "done.marker"
//!                    Left       ""
//! ```
//!
//! The walk never leaves the episode. It goes by directory descriptors, one component at a time; a
//! symlink is reported and never followed; what is mounted inside is an error and never read; a
//! FIFO is never opened, since that would wait for its writer (fifo(7)). Whatever turns out to be
//! another thing than it was a moment ago is
//! [`TreeError::Changed`]: another process is still writing, and the caller comes back later.
//!
//! What is left out, at the top of the episode only, and only where it is a regular file: the
//! receipt and the reason that we wrote ourselves (`own_files.rs` says how they are told from a
//! recorder's own), and the scratch that we may have been killed over while writing them or the
//! marker. Everything else is reported, `.nfsXXXX` files included: they hold data, and when they go
//! the episode has changed.
//!
//! The fingerprint is a digest over every entry's path, kind and permission bits, and for all but
//! directories over size, mtime, ctime (nanoseconds) and a symlink's target (`mark.rs` takes it).
//! Left out:
//! - inodes. They are no property of what was recorded: mergerfs makes that of a folder of its
//!   path, so that every rename changes it, and sshfs, vfat and exfat number anew what the kernel
//!   has forgotten. Only where ctime says nothing ([`Walked::to_remember`]) they are what has an
//!   episode read and compared.
//! - size, mtime and ctime of directories. They change when we add our receipt and when the episode
//!   is moved; what was added or removed shows in the entries themselves.
//! - mtime and ctime of `done.marker`, for which the digest of what it holds stands instead
//!   (`marker.rs` says why).
//! - the device. Its number may change with every boot, and the fingerprint is kept across boots.
//!   [`Walked`] has that of the episode's directory beside the fingerprint.
//!
//! So it stays equal when the episode is renamed on its file system, and differs as soon as
//! anything inside is written to, created, removed, renamed, or given other permissions. One thing
//! escapes it: before Linux 6.13 a file's times move in ticks of up to 10 ms, and a second write of
//! the same length within a tick leaves no trace. A manifest catches that, and a recorder that
//! writes behind its own marker is at odds with every rule we gave it.

mod links_out;
mod mark;
mod marker;
pub(crate) mod modes;
pub(crate) mod open;
pub(crate) mod own_files;
#[cfg(test)]
mod tests;
mod walk_summary;

use std::{
    ffi::{CStr, CString, OsStr},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::AsFd as _,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

pub use self::links_out::LinksOut;
use self::mark::TreeMarks;
pub(crate) use self::open::Stat;
pub(crate) use self::walk_summary::{Walked, to_remember};
use crate::{
    disk::filesystem::{may_be_replaced_unseen, may_lack_ctime},
    model::{
        episode::{Fingerprint, FolderId},
        progress::{Cancelled, Progress},
        text::printable,
    },
};
use rustix::{
    fs::{FileType, RawDir},
    io::Errno,
};

/// How many folders may stand inside one another. The walk holds one descriptor a level, and an
/// ordinary process may open 1024 (getrlimit(2)), of which several walks and the connections must
/// have their share.
pub(crate) const MAX_DEPTH: usize = 128;

/// For the names of one getdents64(2) call.
const LISTING_BUFFER_BYTES: usize = 32 * 1024;

/// Why a walk could not be finished. Paths are relative to the episode; its own directory is `.`.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// An entry went, came or became another thing under our eyes. Worth another try later.
    #[error("{} changed while it was read", in_words(path))]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// There is no such episode (any more).
    #[error("the episode is gone")]
    Gone,
    /// Something is mounted inside the episode; it could neither be read honestly nor moved.
    #[error(
        "{} is a mount point: unmount it, or keep it out of the episode",
        in_words(path)
    )]
    Mount {
        /// Where.
        path: PathBuf,
    },
    /// Folders nested deeper than [`MAX_DEPTH`].
    #[error("{} is nested deeper than {MAX_DEPTH} folders", shown(path))]
    TooDeep {
        /// The first folder that is too deep.
        path: PathBuf,
    },
    /// The file system refused: `EACCES`, `EIO` and the like.
    #[error("failed to read {}", in_words(path))]
    Io {
        /// What was being looked at.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// Told to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// One thing that the walk came to.
#[derive(Debug)]
pub(crate) struct Entry<'walk> {
    /// Its path relative to the episode, without a trailing slash; empty for the episode's
    /// directory itself.
    pub path: &'walk [u8],
    /// As it was found, before anything was opened. For [`Kind::Left`], as it was on the way in.
    pub stat: Stat,
    /// What it is.
    pub kind: Kind<'walk>,
}

/// What an [`Entry`] is.
#[derive(Debug)]
pub(crate) enum Kind<'walk> {
    /// A folder, before what is in it.
    Directory,
    /// A regular file, not opened yet.
    File(Closed<'walk>),
    /// A symlink and its target, uninterpreted.
    Symlink(&'walk [u8]),
    /// A FIFO, socket or device: `"FIFO"`, `"socket"`, `"device"`.
    Special(&'static str),
    /// The same folder, after what is in it: open, so that it can be synced.
    Left(&'walk File),
}

/// A regular file that the walk has seen and that can be opened.
#[derive(Debug)]
pub(crate) struct Closed<'walk> {
    folder: &'walk File,
    name: &'walk CStr,
    path: &'walk [u8],
    stat: Stat,
}

impl Closed<'_> {
    /// Opens it for reading, without following, waiting or crossing a mount, and compares what was
    /// opened with what was seen.
    ///
    /// # Errors
    /// [`TreeError::Changed`] where the two are not [the same](Self::is_still),
    /// [`TreeError::Mount`], [`TreeError::Io`].
    pub(crate) fn open(&self) -> Result<File, TreeError> {
        open::file(self.folder, self.name, &self.stat, |now| self.is_still(now))
            .map_err(|error| error.at(self.path))
    }

    /// Opens it as [`open`](Self::open) does, where it is the same file still, whatever was written
    /// to it.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
    pub(crate) fn open_as_it_is(&self) -> Result<File, TreeError> {
        let is_it = |now: &Stat| {
            (now.dev, now.ino, now.mode) == (self.stat.dev, self.stat.ino, self.stat.mode)
        };
        open::file(self.folder, self.name, &self.stat, is_it).map_err(|error| error.at(self.path))
    }

    /// Whether this is the file that was seen, and no process has written to it since. Of
    /// `done.marker` the times do not count.
    pub(crate) fn is_still(&self, now: &Stat) -> bool {
        if marker::is_it(self.path) {
            marker::untimed(now) == marker::untimed(&self.stat)
        } else {
            *now == self.stat
        }
    }
}

/// What of an episode was written to last, and when (mtime, seconds of Unix time): a name that was
/// made or removed counts for the folder that it is in.
///
/// # Errors
/// [`TreeError`].
pub(crate) fn newest_write(
    episode: &Path,
    progress: &Progress,
) -> Result<(PathBuf, i64), TreeError> {
    let top = std::fs::symlink_metadata(episode);
    let mut newest = (PathBuf::new(), top.map_or(0, |top| top.mtime()));
    walk(episode, progress, |entry| {
        if entry.stat.mtime.0 > newest.1 {
            newest = (to_path(entry.path), entry.stat.mtime.0);
        }
        Ok::<(), TreeError>(())
    })?;
    Ok(newest)
}

/// Takes the fingerprint of an episode. Opens none of its files but the marker and what may be a
/// record of ours.
///
/// # Errors
/// Those of [`walk`].
pub fn fingerprint(episode: &Path, progress: &Progress) -> Result<Fingerprint, TreeError> {
    walk(episode, progress, |_| Ok::<(), TreeError>(())).map(|walked| walked.fingerprint)
}

/// Which directory this is; `None` where it cannot be looked at.
pub(crate) fn folder_id(episode: &Path) -> Option<FolderId> {
    let (top, stat) = open_top(episode).ok()?;
    Some(FolderId {
        inode: stat.ino,
        made_ns: open::made_ns(&top),
    })
}

/// Whether an episode is what it was when this fingerprint was taken. What changes under our eyes
/// is not.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] where it is gone; otherwise why it could not be compared, with the
/// path in words.
pub(crate) fn is_still(episode: &Path, then: Fingerprint, progress: &Progress) -> io::Result<bool> {
    Ok(look(episode, progress)?.is_some_and(|now| now.is(then)))
}

/// Walks an episode to compare it with what it was. `None` where it changes under our eyes.
///
/// # Errors
/// As [`is_still`].
pub(crate) fn look(episode: &Path, progress: &Progress) -> io::Result<Option<Walked>> {
    match walk(episode, progress, |_| Ok::<(), TreeError>(())) {
        Ok(now) => Ok(Some(now)),
        Err(TreeError::Changed { .. }) => Ok(None),
        Err(TreeError::Gone) => Err(io::ErrorKind::NotFound.into()),
        Err(TreeError::Io { path, source }) => Err(io::Error::new(
            source.kind(),
            format!("{}: {source}", shown(&path)),
        )),
        Err(
            error @ (TreeError::Mount { .. } | TreeError::TooDeep { .. } | TreeError::Cancelled(_)),
        ) => Err(io::Error::other(error)),
    }
}

/// Walks an episode in the order of the module's head and shows each entry to `visit`. Memory: the
/// listings of the folders on the current path. `progress` makes a step for every entry.
///
/// # Errors
/// [`TreeError`], and whatever `visit` returns, which ends the walk.
pub(crate) fn walk<E: From<TreeError>>(
    episode: &Path,
    progress: &Progress,
    mut visit: impl FnMut(Entry<'_>) -> Result<(), E>,
) -> Result<Walked, E> {
    let (top, top_stat) = open_top(episode)?;
    let folder = FolderId {
        inode: top_stat.ino,
        made_ns: open::made_ns(&top),
    };
    let (lacks_ctime, unseen) = (may_lack_ctime(&top), may_be_replaced_unseen(&top));
    let own_name = episode.file_name().unwrap_or_default();
    let mut buffer = Vec::with_capacity(LISTING_BUFFER_BYTES);
    let mut marks = TreeMarks::new();
    let mut path = Vec::new();
    progress.check().map_err(TreeError::from)?;

    marks.entry(&path, &top_stat, b"");
    visit(Entry {
        path: &path,
        stat: top_stat,
        kind: Kind::Directory,
    })?;
    let mut levels = vec![WalkLevel {
        names: list(&top, &path, &mut buffer, progress)?,
        folder: top,
        stat: top_stat,
        path_len: 0,
    }];

    loop {
        let depth = levels.len();
        let Some(level) = levels.last_mut() else {
            break;
        };
        path.truncate(level.path_len);
        let Some(name) = level.names.next() else {
            visit(Entry {
                path: &path,
                stat: level.stat,
                kind: Kind::Left(&level.folder),
            })?;
            levels.pop();
            continue;
        };
        progress.check().map_err(TreeError::from)?;
        progress.step();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.text.to_bytes());

        let stat = match open::stat(&level.folder, &name.text) {
            // `sealift requeue` removes the reason from what it has put back. It would have been
            // left out.
            Err(open::Error::Io(Errno::NOENT)) if depth == 1 && own_files::may_be(&name.text) => {
                continue;
            }
            stat => stat.map_err(|error| error.at(&path))?,
        };
        if name.is_folder != (stat.file_type() == FileType::Directory) {
            return Err(TreeError::Changed {
                path: to_path(&path),
            }
            .into());
        }
        match stat.file_type() {
            FileType::Directory => {
                marks.entry(&path, &stat, b"");
                visit(Entry {
                    path: &path,
                    stat,
                    kind: Kind::Directory,
                })?;
                if depth > MAX_DEPTH {
                    return Err(TreeError::TooDeep {
                        path: to_path(&path),
                    }
                    .into());
                }
                let folder = open::folder(&level.folder, &name.text, &stat)
                    .map_err(|error| error.at(&path))?;
                let names = list(&folder, &path, &mut buffer, progress)?;
                levels.push(WalkLevel {
                    names,
                    folder,
                    stat,
                    path_len: path.len(),
                });
            }
            FileType::RegularFile => {
                let closed = Closed {
                    folder: &level.folder,
                    name: &name.text,
                    path: &path,
                    stat,
                };
                if depth == 1
                    && own_files::left_out(own_name, &closed)
                        .or_else(|error| own_files::went(&closed, error))?
                {
                    continue;
                }
                match marker::content(&closed, progress)? {
                    Some(content) => {
                        marks.entry(&path, &marker::untimed(&stat), &content.0);
                    }
                    None => marks.entry(&path, &stat, b""),
                }
                visit(Entry {
                    path: &path,
                    stat,
                    kind: Kind::File(closed),
                })?;
            }
            FileType::Symlink => {
                let target = open::symlink_target(&level.folder, &name.text)
                    .map_err(|error| error.at(&path))?;
                marks.entry(&path, &stat, target.to_bytes());
                visit(Entry {
                    path: &path,
                    stat,
                    kind: Kind::Symlink(target.to_bytes()),
                })?;
            }
            special => {
                marks.entry(&path, &stat, b"");
                let what = match special {
                    FileType::Fifo => "FIFO",
                    FileType::Socket => "socket",
                    _ => "device",
                };
                visit(Entry {
                    path: &path,
                    stat,
                    kind: Kind::Special(what),
                })?;
            }
        }
    }
    let lacks_ctime = lacks_ctime && !marks.ctime_tells();
    let (fingerprint, of_version_2) = marks.finish();
    let may_be_swapped = lacks_ctime && unseen;
    Ok(Walked {
        fingerprint,
        of_version_2,
        lacks_ctime,
        may_be_swapped,
        device: top_stat.dev,
        folder,
    })
}

/// What something is that is no regular file.
pub(crate) fn what_it_is(kind: std::fs::FileType) -> Option<&'static str> {
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => Some("a directory"),
        _ if kind.is_symlink() => Some("a symlink"),
        _ => Some("a FIFO, a socket or a device"),
    }
}

/// Reads a regular file at the top of an episode with the walk's care: at most `max_bytes` and one
/// more, so that the caller sees whether there was more. `None` where there is no such file, or
/// where it is something else.
///
/// # Errors
/// As [`walk`].
pub(crate) fn read_top(
    episode: &Path,
    name: &CStr,
    max_bytes: u64,
) -> Result<Option<Vec<u8>>, TreeError> {
    let (top, _) = open_top(episode)?;
    let path = name.to_bytes();
    let stat = match open::stat(&top, name) {
        Err(open::Error::Io(Errno::NOENT)) => return Ok(None),
        found => found.map_err(|error| error.at(path))?,
    };
    if stat.file_type() != FileType::RegularFile {
        return Ok(None);
    }
    read_bounded(
        &Closed {
            folder: &top,
            name,
            path,
            stat,
        },
        max_bytes,
    )
    .map(Some)
}

/// Opens a file of an episode for reading, whatever it is by now, only to be asked after. `None`
/// where it cannot be had without following a symlink or crossing a mount.
pub(crate) fn open_known(episode: &Path, path: &Path) -> Option<File> {
    let (top, _) = open_top(episode).ok()?;
    open::beneath(&top, path)
}

/// A relative path as an error shows it: nothing in it reaches a terminal unescaped.
pub(crate) fn shown(path: &Path) -> String {
    printable(&path.to_string_lossy())
}

/// As [`shown`], with a name for what has none: the episode's own folder.
pub(crate) fn in_words(path: &Path) -> String {
    if path == Path::new(".") {
        "the episode's folder".to_owned()
    } else {
        shown(path)
    }
}

/// The path of an [`Entry`], for an error.
pub(crate) fn to_path(path: &[u8]) -> PathBuf {
    if path.is_empty() {
        PathBuf::from(".")
    } else {
        PathBuf::from(OsStr::from_bytes(path))
    }
}

struct WalkLevel {
    folder: File,
    stat: Stat,
    names: std::vec::IntoIter<EntryName>,
    path_len: usize,
}

struct EntryName {
    text: CString,
    is_folder: bool,
}

fn read_bounded(closed: &Closed<'_>, max_bytes: u64) -> Result<Vec<u8>, TreeError> {
    let mut bytes = Vec::new();
    match closed
        .open()?
        .take(max_bytes.saturating_add(1))
        .read_to_end(&mut bytes)
    {
        Ok(_) => Ok(bytes),
        Err(source) => Err(TreeError::Io {
            path: to_path(closed.path),
            source,
        }),
    }
}

fn open_top(episode: &Path) -> Result<(File, Stat), TreeError> {
    open::top(episode).map_err(|errno| match errno {
        Errno::NOENT => TreeError::Gone,
        // Removed on an NFS server, or the server has started anew: looked at again.
        Errno::STALE => TreeError::Changed { path: to_path(b"") },
        errno => TreeError::Io {
            path: to_path(b""),
            source: errno.into(),
        },
    })
}

/// A folder's names in the order of the archive. Of a huge folder, or on a slow disk, that takes
/// minutes, in which it moves.
fn list(
    folder: &File,
    path: &[u8],
    buffer: &mut Vec<u8>,
    progress: &Progress,
) -> Result<std::vec::IntoIter<EntryName>, TreeError> {
    let mut names = Vec::new();
    let mut entries = RawDir::new(folder.as_fd(), buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        progress.check()?;
        progress.step();
        let entry = entry.map_err(|errno| open::Error::Io(errno).at(path))?;
        let text = entry.file_name();
        if matches!(text.to_bytes(), b"." | b"..") {
            continue;
        }
        let is_folder = match entry.file_type() {
            // Some file systems leave the type out of the listing (getdents64(2)).
            FileType::Unknown => {
                let of_it = |error: open::Error| error.at(&[path, text.to_bytes()].join(&b'/'));
                open::stat(folder, text).map_err(of_it)?.file_type() == FileType::Directory
            }
            known => known == FileType::Directory,
        };
        names.push(EntryName {
            text: text.to_owned(),
            is_folder,
        });
    }
    names.sort_unstable_by(|a, b| a.in_archive().cmp(b.in_archive()));
    Ok(names.into_iter())
}

impl EntryName {
    fn in_archive(&self) -> impl Iterator<Item = u8> {
        self.text
            .to_bytes()
            .iter()
            .copied()
            .chain(self.is_folder.then_some(b'/'))
    }
}
