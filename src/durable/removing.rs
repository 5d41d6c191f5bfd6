//! Removing a directory, so that half of one is never seen under its name, and so that nothing outside of it goes.
//!
//! It is first renamed to `.sealift-trash-<n>-<name>` beside it, durably. What is removed after that is found by
//! descriptors, one component at a time, without following a symlink or entering a mount: a symlink or a bind mount
//! that somebody puts in the way makes an error, never a removal elsewhere.
//!
//! Where a directory can have no other name (EXDEV from every rename: overlayfs says so of what its lower layer has), it is removed
//! where it stands. A note inside it says so first, durably; then the marker goes, so that no half of it looks whole; then the
//! rest, and the note last. What is left of a source that was copied is removed by the next start only where the copy has it.

use std::{
    ffi::{CStr, CString, OsStr},
    fs::{File, Permissions},
    io::{self, Read as _, Write as _},
    os::{
        fd::AsRawFd as _,
        unix::{
            ffi::OsStrExt as _,
            fs::{OpenOptionsExt as _, PermissionsExt as _},
        },
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, unlinkat},
    io::Errno,
};

use serde::{Deserialize, Serialize};

use super::{
    Published, comparing, create_scratch, moving::put_back, named, parent_of, remove_file,
    renaming::rename_noreplace, spare::make_spare, sync_folder,
};
use crate::{
    layout::{ASIDE_PREFIX, MARKER, REMOVING, TRASH_PREFIX, hidden, is_scratch, name_behind},
    open_files::{Probe, Writers},
    progress::Progress,
    tree::{
        open::{self, Error, Stat},
        shown,
    },
};

/// How an NFS client names what was removed and is still open (the kernel's fs/nfs/unlink.c).
const NFS_PREFIX: &[u8] = b".nfs";

/// How many names of a folder are held at once, and unlinked before the next are read.
const NAMES_AT_ONCE: usize = 1024;

/// Removals of one name that may lie unfinished beside each other before something is plainly wrong.
const MAX_HIDDEN: u32 = 10_000;

/// So many files are tried for spares: more than there are spares, and some of them may be somebody else's.
const MOST_FOR_SPARES: usize = 64;

/// The longest part of a name that is kept in its trash name, for whoever looks there; bytes.
const MAX_KEPT_NAME_BYTES: usize = 200;

/// Removes a directory with everything in it; a file or a symlink too. One that is not there is no error.
///
/// Folders without write permission are given it where they are ours. `progress` makes a step for every entry; stopped or
/// killed half-way, the rest lies under its trash name and [`finish_leftovers`] goes on with it.
///
/// # Errors
/// With the path in words: no permission, a mount point inside, somebody who still writes there.
pub fn remove_tree(path: &Path, progress: &Progress) -> io::Result<()> {
    remove_tree_into_spares(path, &[], progress)
}

/// As [`remove_tree`]; what lies at its top becomes the spares that are missing, before anything of it is free for others.
///
/// # Errors
/// As [`remove_tree`].
pub fn remove_tree_into_spares(path: &Path, spares: &[PathBuf], progress: &Progress) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A name that does not matter any more: so much of it is kept that it fits.
    let kept = OsStr::from_bytes(&name.as_bytes()[..name.len().min(MAX_KEPT_NAME_BYTES)]);
    let hidden = match hide(path, TRASH_PREFIX, kept) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            note_removal(path, None)?;
            return remove_noted(path, Probe::never(), progress);
        }
        hidden => hidden?,
    };
    match hidden {
        Some(trash) => {
            sync_folder(parent_of(path)?)?;
            if !spares.is_empty() {
                let entries = std::fs::read_dir(&trash).into_iter().flatten().flatten();
                let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
                for file in files.take(MOST_FOR_SPARES) {
                    // What can be none is removed like the rest.
                    let _ = make_spare(&file.path(), spares);
                }
            }
            remove_scratch(&trash, progress)
        }
        None => Ok(()),
    }
}

/// Gives a directory a name that nobody knows, beside where it stands; not synced. `None` where it is not there.
pub(super) fn hide(path: &Path, prefix: &str, name: &OsStr) -> io::Result<Option<PathBuf>> {
    let folder = parent_of(path)?;
    for n in 0..MAX_HIDDEN {
        let hidden = folder.join(hidden(prefix, n, name));
        match rename_noreplace(path, &hidden) {
            Ok(Published::Done) => return Ok(Some(hidden)),
            Ok(Published::NameTaken) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(mounted(path)),
            Err(error) => return Err(named(path, &error)),
        }
    }
    let why = format!("{}: {MAX_HIDDEN} of its name lie unfinished beside it", path.display());
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

/// What stands in the note inside a directory that is removed where it stands.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    /// The version of this form; no other program's file has it.
    sealift_removing: u32,
    /// Where the directory was copied to; none where it was to go without that.
    #[serde(default)]
    copied_to: Option<PathBuf>,
}

const NOTE_VERSION: u32 = 1;
/// A path and a few words.
const MAX_NOTE_BYTES: u64 = 16 * 1024;

/// Writes the note, durably. From here on, what is left of the directory without its marker is no episode.
pub(super) fn note_removal(directory: &Path, copied_to: Option<&Path>) -> io::Result<()> {
    let note = Note { sealift_removing: NOTE_VERSION, copied_to: copied_to.map(Path::to_owned) };
    let path = directory.join(REMOVING);
    // One that is there is of a try that did not get further, or a half.
    remove_file(&path)?;
    let written = create_scratch(&path).and_then(|mut file| {
        file.write_all(&serde_json::to_vec(&note)?)?;
        file.sync_all()
    });
    let written = written.and_then(|()| sync_folder(directory));
    if written.is_err() {
        let _ = remove_file(&path);
    }
    written.map_err(|error| named(directory, &error))
}

/// Takes the note back: nothing was removed.
pub(super) fn withdraw_note(directory: &Path) -> io::Result<()> {
    remove_file(&directory.join(REMOVING))?;
    sync_folder(directory)
}

/// The note in a directory; `None` where there is none, or one that no holder of the lock has written whole.
fn note_in(directory: &Path) -> Option<Note> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(directory.join(REMOVING))
        .ok()?;
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut text = Vec::new();
    file.take(MAX_NOTE_BYTES).read_to_end(&mut text).ok()?;
    serde_json::from_slice::<Note>(&text).ok().filter(|note| note.sealift_removing == NOTE_VERSION)
}

/// Whether a directory is one that is removed where it stands.
#[must_use]
pub fn is_being_removed(directory: &Path) -> bool {
    note_in(directory).is_some()
}

/// Removes a directory with a note in it: its marker first and durably, the note last. Each file is asked after just before it goes:
/// one that is open for writing stays, and what was not removed yet with it.
pub(super) fn remove_noted(path: &Path, probe: Probe, progress: &Progress) -> io::Result<()> {
    if path.join(MARKER).symlink_metadata().is_ok_and(|marker| !marker.is_dir()) {
        remove_file(&path.join(MARKER)).map_err(|error| named(path, &error))?;
        sync_folder(path)?;
    }
    loop {
        let names: Vec<_> = std::fs::read_dir(path)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .filter(|name| !matches!(name, Ok(name) if name == REMOVING))
            .take(NAMES_AT_ONCE)
            .collect::<io::Result<_>>()?;
        if names.is_empty() {
            break;
        }
        for name in names {
            remove_closed(&path.join(name), probe, progress)?;
        }
    }
    remove_file(&path.join(REMOVING))?;
    // What was put there since is not ours to remove, and keeps the directory.
    std::fs::remove_dir(path).map_err(|error| named(path, &error))?;
    sync_folder(parent_of(path)?)
}

/// Goes on with the removal of a directory that has a note in it, as far as nothing goes that is nowhere else.
fn finish_noted(path: &Path, note: &Note, progress: &Progress) -> io::Result<()> {
    let is_elsewhere = match &note.copied_to {
        Some(copy) => comparing::holds_the_rest(path, copy, progress).unwrap_or(false),
        None => true,
    };
    if is_elsewhere {
        // Without a copy there is nothing to compare with: it was to go.
        let probe = if note.copied_to.is_some() { Probe::below(path) } else { Probe::never() };
        return remove_noted(path, probe, progress);
    }
    tracing::warn!(
        "{} was copied and was being removed, and what is left of it is not all in its copy{}. It stays, as a recording that is open: look at it, and seal it or remove it by hand.",
        shown(path),
        note.copied_to.as_ref().map(|copy| format!(" ({})", shown(copy))).unwrap_or_default()
    );
    withdraw_note(path)
}

/// For the start, under the lock: what a killed process left in a folder under our three scratch names. A removal is
/// finished. A copy is removed: it will be begun again, from its source, which is still there. What was put aside, to be
/// compared with its copy once more, gets its name back (or, where that was used again, a number behind it), for
/// nobody knows what was written to it: it is moved again. What was being removed where it stands is removed.
///
/// # Errors
/// The first one, after everything else was tried.
pub fn finish_leftovers(folder: &Path, progress: &Progress) -> io::Result<()> {
    let mut first_error = Ok(());
    for entry in std::fs::read_dir(folder)? {
        progress.step();
        let entry = entry?;
        let name = entry.file_name();
        let done = if let Some(name) = name_behind(ASIDE_PREFIX, &name) {
            put_back(&entry.path(), &folder.join(name)).map(|_| ())
        } else if is_scratch(&name.to_string_lossy()) {
            remove_scratch(&entry.path(), progress)
        } else if let Some(note) = note_in(&entry.path()) {
            finish_noted(&entry.path(), &note, progress)
        } else {
            Ok(())
        };
        first_error = first_error.and(done);
    }
    first_error
}

/// Removes what already has a scratch name.
pub(super) fn remove_scratch(path: &Path, progress: &Progress) -> io::Result<()> {
    remove_closed(path, Probe::never(), progress)
}

/// Removes an entry and all that is in it, up to the first file that is open for writing.
fn remove_closed(path: &Path, probe: Probe, progress: &Progress) -> io::Result<()> {
    let folder = File::open(parent_of(path)?)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    remove_entry(&folder, &CString::new(name.as_bytes())?, path, probe, progress)
}

fn remove_entry(
    folder: &File,
    name: &CStr,
    path: &Path,
    probe: Probe,
    progress: &Progress,
) -> io::Result<()> {
    progress.check().map_err(io::Error::other)?;
    progress.step();
    let stat = match open::stat(folder, name) {
        // Somebody was quicker.
        Err(Error::Io(Errno::NOENT)) => return Ok(()),
        stat => stat.map_err(|error| told(error, path))?,
    };
    if stat.file_type() == FileType::RegularFile && probe.asks() {
        // What cannot be opened is another user's, of whom nothing can be told.
        let file = open::file(folder, name, &stat, |now| (now.dev, now.ino) == (stat.dev, stat.ino));
        if file.is_ok_and(|file| probe.writers(&file) == Writers::Open) {
            let why = format!("{} is open for writing", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, why));
        }
    }
    if stat.file_type() != FileType::Directory {
        return unlink(folder, name, AtFlags::empty(), path);
    }
    {
        let inner = open_folder(folder, name, &stat, path)?;
        let mut permitted = false;
        loop {
            let names = some_names(&inner).map_err(|error| named(path, &error))?;
            if names.is_empty() {
                break;
            }
            for name in names {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                let removed = remove_entry(&inner, &name, &path, probe, progress);
                match removed {
                    // The folder lacks write or search permission: where it is ours, it is given them, once.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !permitted => {
                        permitted = true;
                        fchmod(&inner, Mode::RWXU).map_err(|_| error)?;
                        remove_entry(&inner, &name, &path, probe, progress)?;
                    }
                    removed => removed?,
                }
            }
        }
    }
    unlink(folder, name, AtFlags::REMOVEDIR, path)
}

fn unlink(folder: &File, name: &CStr, flags: AtFlags, path: &Path) -> io::Result<()> {
    match unlinkat(folder, name, flags) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::BUSY) if name.to_bytes().starts_with(NFS_PREFIX) => Err(held_open(path)),
        Err(Errno::BUSY) => Err(mounted(path)),
        Err(errno) => Err(named(path, &errno.into())),
    }
}

fn open_folder(parent: &File, name: &CStr, seen: &Stat, path: &Path) -> io::Result<File> {
    match open::folder(parent, name, seen) {
        Err(Error::Io(Errno::ACCESS)) => {
            give_permission(parent, name, seen).map_err(|error| named(path, &error))?;
            let seen = open::stat(parent, name).map_err(|error| told(error, path))?;
            open::folder(parent, name, &seen).map_err(|error| told(error, path))
        }
        opened => opened.map_err(|error| told(error, path)),
    }
}

/// chmod(2) of the very folder that was seen: `O_PATH` needs no permission on it, and its name under /proc leads to
/// the open folder, whatever has taken its name meanwhile.
fn give_permission(parent: &File, name: &CStr, seen: &Stat) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(parent, name, flags, Mode::empty())?;
    let found = Stat::from(fstat(&folder)?);
    if (found.dev, found.ino) != (seen.dev, seen.ino) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    std::fs::set_permissions(
        format!("/proc/self/fd/{}", folder.as_raw_fd()),
        Permissions::from_mode(Mode::RWXU.bits()),
    )
}

fn some_names(folder: &File) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
        if names.len() == NAMES_AT_ONCE {
            break;
        }
    }
    Ok(names)
}

fn told(error: Error, path: &Path) -> io::Error {
    match error {
        Error::Mount => mounted(path),
        Error::Changed => {
            let why = format!("{}: changed under our eyes, somebody is still writing there", path.display());
            io::Error::new(io::ErrorKind::ResourceBusy, why)
        }
        Error::Io(errno) => named(path, &errno.into()),
    }
}

/// What an NFS client makes of a removed file that somebody on this host has open. It goes when that is closed, and its folder can
/// be removed only then.
fn held_open(path: &Path) -> io::Error {
    let why = format!("{}: a removed file that a process on this host still has open", path.display());
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

fn mounted(path: &Path) -> io::Error {
    let why = format!("{0} is a mount point; unmount it: umount {0:?}", path.display());
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}
