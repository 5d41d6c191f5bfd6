//! Removing a directory where it stands, since it can have no other name (EXDEV from every rename:
//! overlayfs says so of what its lower layer has).
//!
//! ```text
//!  .sealift-removing in it, durably ▸ the marker ▸ fsync
//!    ▸ each other entry ▸ our records ▸ the note ▸ the directory
//!        ├─ a file is open: the rest stays, and it is gone on with later
//!        └─ written to, or not listed: the rest stays, and the note says so
//! ```
//!
//! The note says first that this is no episode any more; then the marker goes, so that no half of
//! it looks whole. The directory keeps its name meanwhile, and so other programs can write to it,
//! or put something into it. Therefore only what was listed before the copy was compared with it is
//! removed ([`super::entry_list`]), and each entry is looked at just before it goes: between that
//! look and the unlink lie microseconds, in which what is written is lost.
//!
//! What was copied first is gone on with by the next start, as far as the copy has it. What was to
//! go without a copy is not: the clean-up judges its age anew, by our record in it, which is why
//! that goes last. `removal_note.rs` says for which directory a note counts.

use std::{
    ffi::{CStr, OsStr},
    fs::File,
    io,
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, statat},
    io::Errno,
};

pub(super) use super::removal_note::{is_being_removed, note_removal};
use super::{
    compare,
    entry_list::RemovalList,
    named, parent_of,
    removal_note::{counting, note_that_it_stays, withdraw_note},
    remove_file,
    remove_tree::remove_closed,
    sync_folder,
};
use crate::{
    disk::{
        open_files::{self, OpenFileProbe, Writers},
        tree::{
            open::{self, Error, Stat},
            shown,
        },
    },
    model::{
        layout::{MARKER, REASON, RECEIPT, REMOVING, without_number},
        progress::Progress,
    },
};

/// How many names of a folder are held at once, and unlinked before the next are read.
const NAMES_AT_ONCE: usize = 1024;

/// Why a removal did not go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stopped {
    #[error("{} is open for writing", shown(.0))]
    Open(PathBuf),
    #[error("{} was written to, or put there, while the rest was removed", shown(.0))]
    Changed(PathBuf),
}

impl From<Stopped> for io::Error {
    fn from(stopped: Stopped) -> Self {
        Self::new(io::ErrorKind::ResourceBusy, stopped)
    }
}

/// What is asked of each entry before it goes.
pub(super) struct Guard<'a> {
    top: &'a Path,
    probe: OpenFileProbe,
    listed: RemovalList,
}

impl Guard<'_> {
    fn relative<'path>(&self, path: &'path Path) -> &'path Path {
        path.strip_prefix(self.top).unwrap_or(path)
    }

    /// Whether this may go. A file that has other names is handed back, to be looked at once more
    /// when it has lost this one.
    pub(super) fn permits(
        &self,
        folder: &File,
        name: &CStr,
        path: &Path,
        seen: &Stat,
    ) -> io::Result<Option<OwnedFd>> {
        let relative = self.relative(path);
        if seen.file_type() == FileType::RegularFile && self.probe.asks() {
            // What cannot be opened is another user's, of whom nothing can be told.
            let file = open::file(folder, name, seen, |now| {
                (now.dev, now.ino) == (seen.dev, seen.ino)
            });
            if file.is_ok_and(|file| self.probe.writers(&file) == Writers::Open) {
                return Err(Stopped::Open(relative.to_owned()).into());
            }
        }
        // Only now: who had it open before has written by now, and shows in this.
        let now = match statat(
            folder,
            name,
            AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        ) {
            Ok(now) => now,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(named(path, &errno.into())),
        };
        let stat = Stat::from(now);
        if !self.listed.has(relative.as_os_str().as_bytes(), &stat) {
            return Err(Stopped::Changed(relative.to_owned()).into());
        }
        if now.st_nlink < 2 || stat.file_type() == FileType::Directory {
            return Ok(None);
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(openat(folder, name, flags, Mode::empty()).ok())
    }

    /// It went under this name.
    pub(super) fn went(&mut self, other_names: Option<OwnedFd>) {
        if let Some(now) = other_names.and_then(|file| fstat(file).ok()) {
            self.listed.lost_a_name(&now.into());
        }
    }
}

/// What became of a removal.
enum RemovalEnd {
    Removed,
    /// It was sealed anew before anything went.
    MarkerChanged,
    Stopped(Stopped),
}

/// Removes a directory with a note in it: its marker first and durably, the note last. Where
/// nothing is listed, whatever is there goes.
fn remove_noted(
    path: &Path,
    mut guard: Option<Guard<'_>>,
    progress: &Progress,
) -> io::Result<RemovalEnd> {
    let top = File::open(path)?;
    match open::stat(&top, c"done.marker") {
        Ok(marker) if marker.file_type() != FileType::Directory => {
            if guard
                .as_ref()
                .is_some_and(|guard| !guard.listed.has(MARKER.as_bytes(), &marker))
            {
                return Ok(RemovalEnd::MarkerChanged);
            }
            remove_file(&path.join(MARKER)).map_err(|error| named(path, &error))?;
            sync_folder(path)?;
        }
        Ok(_) | Err(Error::Io(Errno::NOENT)) => {}
        Err(Error::Io(errno)) => return Err(named(path, &errno.into())),
        Err(Error::Changed | Error::Mount) => return Err(io::ErrorKind::ResourceBusy.into()),
    }
    match remove_rest(path, guard.as_mut(), progress) {
        Ok(()) => Ok(RemovalEnd::Removed),
        Err(error) => match error.downcast::<Stopped>() {
            Ok(stopped) => Ok(RemovalEnd::Stopped(stopped)),
            Err(error) => Err(error),
        },
    }
}

fn remove_rest(
    path: &Path,
    mut guard: Option<&mut Guard<'_>>,
    progress: &Progress,
) -> io::Result<()> {
    for records_too in [false, true] {
        loop {
            let names: Vec<_> = std::fs::read_dir(path)?
                .map(|entry| entry.map(|entry| entry.file_name()))
                .filter(
                    |name| !matches!(name, Ok(name) if name == REMOVING || (!records_too && is_record(name))),
                )
                .take(NAMES_AT_ONCE)
                .collect::<io::Result<_>>()?;
            if names.is_empty() {
                break;
            }
            for name in names {
                remove_closed(&path.join(name), guard.as_deref_mut(), progress)?;
            }
        }
    }
    remove_file(&path.join(REMOVING))?;
    match std::fs::remove_dir(path) {
        // What was put there since is not ours to remove, and keeps the directory.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && guard.is_some() => {
            return Err(Stopped::Changed(PathBuf::from(".")).into());
        }
        removed => removed.map_err(|error| named(path, &error))?,
    }
    sync_folder(parent_of(path)?)
}

fn is_record(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| [RECEIPT, REASON].contains(&without_number(name)))
}

/// Removes a directory where it stands, that is copied nowhere and was to go.
pub(super) fn remove_where_it_stands(path: &Path, progress: &Progress) -> io::Result<()> {
    note_removal(path, None)?;
    // What cannot be read through is given permission on the way, and goes as it is.
    let listed = RemovalList::of(path, progress).ok();
    let guard = listed.map(|listed| Guard {
        top: path,
        probe: OpenFileProbe::never(),
        listed,
    });
    let why = match remove_noted(path, guard, progress)? {
        RemovalEnd::Removed => return Ok(()),
        RemovalEnd::MarkerChanged => Stopped::Changed(MARKER.into()),
        RemovalEnd::Stopped(why) => why,
    };
    withdraw_note(path)?;
    Err(io::Error::new(
        io::ErrorKind::ResourceBusy,
        format!("{}: {why}. What is left of it stays", path.display()),
    ))
}

/// What became of the source of a copy that was to be removed where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub(crate) enum Finished {
    /// There is no such removal under way.
    NoSuch,
    /// It is gone.
    Removed,
    /// This file of it is open for writing. It is still being removed, and is to be gone on with
    /// when that is closed.
    Open(PathBuf),
    /// This file of it is not what the copy has: what is left stays, and is not removed any more.
    Stays(PathBuf),
}

/// Whether the source, which has a note in it, is what it was; `against` is asked when what stands
/// in it was listed. The first that speaks against it is handed back, with the note taken back and
/// nothing removed.
pub(super) fn remove_copied<E>(
    path: &Path,
    copy: &Path,
    probe: OpenFileProbe,
    against: impl FnOnce() -> Option<E>,
    changed: impl FnOnce() -> E,
    progress: &Progress,
) -> io::Result<Result<Finished, E>> {
    let listed = RemovalList::of(path, progress);
    let listed = match listed {
        Ok(listed) => listed,
        Err(error) => {
            withdraw_note(path)?;
            return Err(error);
        }
    };
    if let Some(against) = against() {
        withdraw_note(path)?;
        return Ok(Err(against));
    }
    match remove_noted(
        path,
        Some(Guard {
            top: path,
            probe,
            listed,
        }),
        progress,
    )? {
        RemovalEnd::MarkerChanged => {
            withdraw_note(path)?;
            Ok(Err(changed()))
        }
        RemovalEnd::Removed => Ok(Ok(Finished::Removed)),
        RemovalEnd::Stopped(Stopped::Open(file)) => Ok(Ok(Finished::Open(file))),
        RemovalEnd::Stopped(Stopped::Changed(file)) => stays(path, copy, file).map(Ok),
    }
}

fn stays(path: &Path, copy: &Path, file: PathBuf) -> io::Result<Finished> {
    note_that_it_stays(path, copy)?;
    tracing::warn!(
        "{} was copied to {} and was being removed, and {} was written to, or put there, meanwhile. What is left of it stays, as a recording \
         that is open: look at it, and seal it under another name or remove it by hand (`sealift doctor`).",
        shown(path),
        shown(copy),
        shown(&path.join(&file))
    );
    Ok(Finished::Stays(file))
}

/// Goes on with the removal of a directory that was copied and has a note in it, as far as nothing
/// goes that is nowhere else. Under the lock. What was to go without a copy, and what a note does
/// not count for, is no such removal.
///
/// # Errors
/// It, or its copy, cannot be read, or removed.
pub(super) fn finish_removal(path: &Path, progress: &Progress) -> io::Result<Finished> {
    let Some(copy) = counting(path).and_then(|note| note.copied_to) else {
        return Ok(Finished::NoSuch);
    };
    let listed = RemovalList::of(path, progress)?;
    let probe = OpenFileProbe::below(path);
    if let Some(file) = open_files::find_open(path, probe, progress).map_err(io::Error::other)? {
        return Ok(Finished::Open(file));
    }
    if let Some(missing) = missing_in(path, &copy, progress)? {
        return stays(path, &copy, missing);
    }
    match remove_noted(
        path,
        Some(Guard {
            top: path,
            probe,
            listed,
        }),
        progress,
    )? {
        RemovalEnd::Removed => {
            tracing::info!(
                "removed what a move had left of {}: {} has all of it",
                shown(path),
                shown(&copy)
            );
            Ok(Finished::Removed)
        }
        RemovalEnd::Stopped(Stopped::Open(file)) => Ok(Finished::Open(file)),
        RemovalEnd::Stopped(Stopped::Changed(file)) => stays(path, &copy, file),
        RemovalEnd::MarkerChanged => stays(path, &copy, MARKER.into()),
    }
}

/// The first that is left of a source and is not in its copy.
fn missing_in(path: &Path, copy: &Path, progress: &Progress) -> io::Result<Option<PathBuf>> {
    match std::fs::symlink_metadata(copy) {
        Ok(found) if found.is_dir() => {
            compare::missing_in(path, copy, progress).map_err(io::Error::other)
        }
        Ok(_) => Ok(Some(PathBuf::from("."))),
        // Its disk may not be mounted, whether or not the place of that is there: nothing is known
        // then.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(io::Error::new(
            error.kind(),
            format!(
                "its copy is not there: {}. Mount the disk of that; where the copy was taken away on purpose, see to what is left in {} by \
                 hand. Type: sudo mount -a",
                shown(copy),
                shown(path)
            ),
        )),
        Err(error) => Err(named(copy, &error)),
    }
}
