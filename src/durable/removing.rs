//! Removing a directory, so that half of one is never seen under its name, and so that nothing outside of it goes.
//!
//! It is first renamed to `.sealift-trash-<n>-<name>` beside it, durably. What is removed after that is found by
//! descriptors, one component at a time, without following a symlink or entering a mount: a symlink or a bind mount
//! that somebody puts in the way makes an error, never a removal elsewhere.

use std::{
    ffi::{CStr, CString, OsStr, OsString},
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

use super::{Published, moving::rename_noreplace, named, parent_of, sync_folder};
use crate::{
    layout::{TRASH_PREFIX, is_scratch},
    progress::Progress,
    tree::open::{self, Error, Stat},
};

/// How an NFS client names what was removed and is still open (the kernel's fs/nfs/unlink.c).
const NFS_PREFIX: &[u8] = b".nfs";

/// How many names of a folder are held at once, and unlinked before the next are read.
const NAMES_AT_ONCE: usize = 1024;

/// Removals of one name that may lie unfinished beside each other before something is plainly wrong.
const MAX_TRASH: u32 = 10_000;

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
    match put_aside(path)? {
        Some(trash) => remove_scratch(&trash, progress),
        None => Ok(()),
    }
}

/// The first half of [`remove_tree`]: gives a directory its trash name, durably. `None` where it is not there.
pub(super) fn put_aside(path: &Path) -> io::Result<Option<PathBuf>> {
    let folder = parent_of(path)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    for n in 0..MAX_TRASH {
        let trash = folder.join(trash_name(n, name));
        match rename_noreplace(path, &trash) {
            Ok(Published::Done) => {
                sync_folder(folder)?;
                return Ok(Some(trash));
            }
            Ok(Published::NameTaken) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => return Err(mounted(path)),
            Err(error) => return Err(named(path, &error)),
        }
    }
    let why = format!("{}: {MAX_TRASH} removals of it lie unfinished beside it", path.display());
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

/// For the start, under the lock: removes what a killed process left in a folder under our two scratch names. A removal is
/// finished; a copy will be begun again, from its source, which is still there.
///
/// # Errors
/// The first one, after everything else was tried.
pub fn finish_leftovers(folder: &Path, progress: &Progress) -> io::Result<()> {
    let mut first_error = Ok(());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if is_scratch(&entry.file_name().to_string_lossy()) {
            let removed = remove_scratch(&entry.path(), progress);
            first_error = first_error.and(removed);
        }
    }
    first_error
}

/// Removes what already has a scratch name.
pub(super) fn remove_scratch(path: &Path, progress: &Progress) -> io::Result<()> {
    let folder = File::open(parent_of(path)?)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    remove_entry(&folder, &CString::new(name.as_bytes())?, path, progress)
}

fn remove_entry(folder: &File, name: &CStr, path: &Path, progress: &Progress) -> io::Result<()> {
    progress.check().map_err(io::Error::other)?;
    progress.step();
    let stat = match open::stat(folder, name) {
        // Somebody was quicker.
        Err(Error::Io(Errno::NOENT)) => return Ok(()),
        stat => stat.map_err(|error| told(error, path))?,
    };
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
                let removed = remove_entry(&inner, &name, &path, progress);
                match removed {
                    // The folder lacks write or search permission: where it is ours, it is given them, once.
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied && !permitted => {
                        permitted = true;
                        fchmod(&inner, Mode::RWXU).map_err(|_| error)?;
                        remove_entry(&inner, &name, &path, progress)?;
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

fn trash_name(n: u32, name: &OsStr) -> OsString {
    let mut trash = OsString::from(format!("{TRASH_PREFIX}{n}"));
    if name.len() <= MAX_KEPT_NAME_BYTES {
        trash.push("-");
        trash.push(name);
    }
    trash
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
