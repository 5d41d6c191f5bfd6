//! Removing a directory, so that half of one is never seen under its name, and so that nothing
//! outside of it goes.
//!
//! It is first renamed to `.sealift-trash-<n>-<name>` beside it, durably. What is removed after
//! that is found by descriptors, one component at a time, without following a symlink or entering a
//! mount: a symlink or a bind mount that is put in the way makes an error, never a removal
//! elsewhere.
//!
//! Where a directory can have no other name, it is removed where it stands (`remove_in_place.rs`).

use std::{
    ffi::{CStr, CString, OsStr},
    fs::{File, Permissions},
    io,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Dir, FileType, Mode, OFlags, fchmod, fstat, openat, unlinkat},
    io::Errno,
};

use super::{
    Published,
    at_work::alone,
    move_tree::put_back,
    named, parent_of,
    remove_in_place::{Guard, finish_removal, is_being_removed, remove_where_it_stands},
    rename::rename_noreplace,
    spare::make_spare,
    sync_folder,
};
use crate::{
    disk::{
        filesystem,
        tree::{
            self, Kind, TreeError,
            open::{self, Error, Stat},
            shown,
        },
    },
    model::{
        layout::{ASIDE_PREFIX, TRASH_PREFIX, hidden, is_scratch, name_behind},
        progress::Progress,
        text::foreign_command,
    },
};

/// How an NFS client names what was removed and is still open (the kernel's fs/nfs/unlink.c).
const NFS_PREFIX: &[u8] = b".nfs";

/// How many names of a folder are held at once, and unlinked before the next are read.
const NAMES_AT_ONCE: usize = 1024;

/// Removals of one name that may lie unfinished beside each other before something is plainly
/// wrong.
const MAX_HIDDEN: u32 = 10_000;

/// So many files are tried for spares: more than there are spares, and some of them may be another
/// user's.
const MOST_FOR_SPARES: usize = 64;

/// The longest part of a name that is kept in its trash name, for the operator who looks there, in
/// bytes.
const MAX_KEPT_NAME_BYTES: usize = 200;

/// Removes a directory with everything in it; a file or a symlink too. One that is not there is no
/// error.
///
/// Folders without write permission are given it where they are ours. `progress` makes a step for
/// every entry; stopped or killed half-way, the rest lies under its trash name and
/// [`finish_leftovers`] goes on with it.
///
/// # Errors
/// With the path in words: no permission, a mount point inside, a process that still writes there.
pub(crate) fn remove_tree(path: &Path, progress: &Progress) -> io::Result<()> {
    remove_tree_into_spares(path, &[], progress)
}

/// As [`remove_tree`]; what lies at its top becomes the spares that are missing, before anything of
/// it is free for others.
///
/// # Errors
/// As [`remove_tree`].
pub(crate) fn remove_tree_into_spares(
    path: &Path,
    spares: &[PathBuf],
    progress: &Progress,
) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // A name that does not matter any more: so much of it is kept that it fits.
    let kept = OsStr::from_bytes(&name.as_bytes()[..name.len().min(MAX_KEPT_NAME_BYTES)]);
    let hidden = match hide(path, TRASH_PREFIX, kept) {
        Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
            return remove_where_it_stands(path, progress);
        }
        hidden => hidden?,
    };
    match hidden {
        Some(trash) => {
            sync_folder(parent_of(path)?)?;
            if !spares.is_empty() {
                let entries = std::fs::read_dir(&trash).into_iter().flatten().flatten();
                let files =
                    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
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

/// Gives a directory a hidden name that no other process knows, beside where it stands; not synced.
/// `None` where it is not there.
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
    let why = format!(
        "{}: {MAX_HIDDEN} of its name lie unfinished beside it",
        path.display()
    );
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

/// What became of what a killed process left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leftovers {
    /// There is nothing of it any more.
    Finished,
    /// A move is at work there, and what it has made cannot be told from it: nothing was touched.
    InUse,
}

/// For the start, under the lock: what a killed process left in a folder under our three scratch
/// names. A removal is finished. A copy is removed: it will be begun again, from its source, which
/// is still there. What was put aside, to be compared with its copy once more, gets its name back
/// (or, where that was used again, a number behind it), since what was written to it is not known:
/// it is moved again. What was being removed where it stands is removed.
///
/// Only where no move is at work in the folder, of this process or of another. Where nothing was
/// left, nothing is asked.
///
/// # Errors
/// The first one, after everything else was tried.
pub(crate) fn finish_leftovers(folder: &Path, progress: &Progress) -> io::Result<Leftovers> {
    if !has_leftovers(folder, progress)? {
        return Ok(Leftovers::Finished);
    }
    let Some(_alone) = alone(folder)? else {
        return Ok(Leftovers::InUse);
    };
    let mut first_error = Ok(Leftovers::Finished);
    for entry in std::fs::read_dir(folder)? {
        progress.step();
        let entry = entry?;
        let name = entry.file_name();
        let done = if let Some(name) = name_behind(ASIDE_PREFIX, &name) {
            put_back(&entry.path(), &folder.join(name)).map(|_| ())
        } else if is_scratch(&name.to_string_lossy()) {
            remove_scratch(&entry.path(), progress)
        } else {
            // Where a file of it is open, the daemon goes on with it when that is closed.
            finish_removal(&entry.path(), progress).map(|_| ())
        };
        first_error = done.and(first_error);
    }
    first_error
}

fn has_leftovers(folder: &Path, progress: &Progress) -> io::Result<bool> {
    for entry in std::fs::read_dir(folder)? {
        progress.step();
        let entry = entry?;
        let name = entry.file_name();
        let is_ours =
            name_behind(ASIDE_PREFIX, &name).is_some() || is_scratch(&name.to_string_lossy());
        if is_ours || is_being_removed(&entry.path()) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether nothing in a directory keeps root itself from removing it (chattr(1)): what is copied
/// first, and then cannot be removed, would lie there hidden for ever.
///
/// # Errors
/// Something does, with what to type.
pub(super) fn may_be_removed(directory: &Path, progress: &Progress) -> io::Result<()> {
    // Most file systems that a copy is made from have such flags; what has none is not asked file
    // by file.
    if !filesystem::has_flags(directory) {
        return Ok(());
    }
    let frozen = |path: &[u8], flag: Option<char>| match flag {
        Some(flag) => {
            let what = if flag == 'i' {
                "immutable"
            } else {
                "append-only"
            };
            let path = directory.join(OsStr::from_bytes(path));
            Err(Frozen::Is(format!(
                "{} is {what}, whatever its permissions are, and would stay when the rest is moved by a copy. Type: sudo {}",
                shown(&path),
                foreign_command(&path, |path| format!("chattr -{flag} {path}"))
            )))
        }
        None => Ok(()),
    };
    let walked = tree::walk(directory, progress, |entry| match &entry.kind {
        // What may not be opened is what the copy itself finds out.
        Kind::File(closed) => closed.open_as_it_is().map_or(Ok(()), |file| {
            frozen(entry.path, filesystem::frozen_flag(&file))
        }),
        Kind::Left(folder) => frozen(entry.path, filesystem::frozen_flag(folder)),
        Kind::Directory | Kind::Symlink(_) | Kind::Special(_) => Ok(()),
    });
    match walked {
        Ok(_) => Ok(()),
        Err(Frozen::Is(why)) => Err(io::Error::other(why)),
        Err(Frozen::Failed(error @ TreeError::Cancelled(_))) => Err(io::Error::other(error)),
        // The copy meets that as well, and says it.
        Err(Frozen::Failed(_)) => Ok(()),
    }
}

/// Why a look for what cannot be removed does not go on.
enum Frozen {
    Is(String),
    Failed(TreeError),
}

impl From<TreeError> for Frozen {
    fn from(error: TreeError) -> Self {
        Self::Failed(error)
    }
}

/// Removes what already has a scratch name.
pub(super) fn remove_scratch(path: &Path, progress: &Progress) -> io::Result<()> {
    remove_closed(path, None, progress)
}

/// Removes an entry and all that is in it, up to the first thing that the guard stops at.
pub(super) fn remove_closed(
    path: &Path,
    guard: Option<&mut Guard<'_>>,
    progress: &Progress,
) -> io::Result<()> {
    let folder = File::open(parent_of(path)?)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    remove_entry(
        &folder,
        &CString::new(name.as_bytes())?,
        path,
        guard,
        progress,
    )
}

fn remove_entry(
    folder: &File,
    name: &CStr,
    path: &Path,
    mut guard: Option<&mut Guard<'_>>,
    progress: &Progress,
) -> io::Result<()> {
    progress.check().map_err(io::Error::other)?;
    progress.step();
    let stat = match open::stat(folder, name) {
        // Another process was quicker.
        Err(Error::Io(Errno::NOENT)) => return Ok(()),
        stat => stat.map_err(|error| told(error, path))?,
    };
    let other_names = match &guard {
        Some(guard) => guard.permits(folder, name, path, &stat)?,
        None => None,
    };
    if stat.file_type() != FileType::Directory {
        unlink(folder, name, AtFlags::empty(), path)?;
        if let Some(guard) = guard {
            guard.went(other_names);
        }
        return Ok(());
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
                let removed = remove_entry(&inner, &name, &path, guard.as_deref_mut(), progress);
                match removed {
                    // The folder lacks write or search permission: where it is ours, it is given
                    // them, once.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !permitted => {
                        permitted = true;
                        fchmod(&inner, Mode::RWXU).map_err(|_| error)?;
                        remove_entry(&inner, &name, &path, guard.as_deref_mut(), progress)?;
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

/// chmod(2) of the very folder that was seen: `O_PATH` needs no permission on it, and its name
/// under /proc leads to the open folder, whatever has taken its name meanwhile.
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
            let why = format!(
                "{}: changed under our eyes: it is still being written",
                path.display()
            );
            io::Error::new(io::ErrorKind::ResourceBusy, why)
        }
        Error::Io(errno) => named(path, &errno.into()),
    }
}

/// What an NFS client makes of a removed file that a process on this host has open. It goes when
/// that is closed, and its folder can be removed only then.
fn held_open(path: &Path) -> io::Error {
    let why = format!(
        "{}: a removed file that a process on this host still has open",
        path.display()
    );
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}

fn mounted(path: &Path) -> io::Error {
    let why = format!(
        "{0} is a mount point; unmount it: umount {0:?}",
        path.display()
    );
    io::Error::new(io::ErrorKind::ResourceBusy, why)
}
