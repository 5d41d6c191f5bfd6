//! Renaming to a name that nothing has, whatever the file system knows of that.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};

use super::{
    Published, named, parent_of, remove_file, rename_file_noreplace, scratch::scratch_file,
    sync_folder,
};

/// So many are put aside under one name before an operator has to look.
const MAX_ASIDE: u32 = 100;

/// Held between a look at a name and the renaming to it: two workers of this process may want names
/// that are one.
static LOOKED_AND_RENAMES: Mutex<()> = Mutex::new(());

/// renameat2(2) with `RENAME_NOREPLACE`, for files and directories.
///
/// Where the file system does not know it (NFS, some FUSE), a file is linked; a directory is looked
/// for first, and then renamed. The look matters: rename(2) onto an empty directory succeeds, and
/// takes its place without a word. Between look and rename only the daemon's lock protects, which
/// is why every directory move is made under it, or by [`rename_claimed`].
pub(super) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<Published> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Published::Done),
        Err(Errno::EXIST) => Ok(Published::NameTaken),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
            if fs::symlink_metadata(from)?.is_dir() =>
        {
            rename_after_a_look(from, to)
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_file_noreplace(from, to),
        Err(error) => Err(error.into()),
    }
}

/// Gives what stands in the way of a folder the name `<name>.aside`, numbered where that is taken.
/// Durable when it returns.
///
/// # Errors
/// Those of renameat2(2) and fsync(2).
pub(crate) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path
        .file_name()
        .ok_or(io::ErrorKind::InvalidInput)?
        .to_owned();
    name.push(".aside");
    put_aside_as(path, parent_of(path)?, &name)
}

/// As [`put_aside`], in this folder and under this name.
///
/// # Errors
/// As [`put_aside`].
pub(crate) fn put_aside_as(path: &Path, folder: &Path, name: &OsStr) -> io::Result<PathBuf> {
    for n in 0..MAX_ASIDE {
        let mut aside = name.to_owned();
        if n > 0 {
            aside.push(format!(".{n}"));
        }
        let to = folder.join(aside);
        if rename_noreplace(path, &to)? == Published::Done {
            sync_folder(folder)?;
            sync_folder(parent_of(path)?)?;
            return Ok(to);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Gives what was put aside the name back that it had.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] where something has that name by now, and those of rename(2)
/// and fsync(2).
pub(crate) fn put_back(aside: &Path, path: &Path) -> io::Result<()> {
    if rename_noreplace(aside, path)? != Published::Done {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    sync_folder(parent_of(path)?)?;
    sync_folder(parent_of(aside)?)
}

pub(super) fn rename_after_a_look(from: &Path, to: &Path) -> io::Result<Published> {
    let _one_at_a_time = LOOKED_AND_RENAMES.lock();
    match fs::symlink_metadata(to) {
        Ok(_) => Ok(Published::NameTaken),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::rename(from, to)?;
            Ok(Published::Done)
        }
        Err(error) => Err(error),
    }
}

/// As [`rename_noreplace`], for a directory that is moved without the daemon's lock. Where the file
/// system does not know the flag, the name is claimed by mkdir(2), which only one can succeed at,
/// and the directory renamed onto that empty one. Who has put something into it meanwhile keeps it.
/// Killed in between, an empty directory is left under the name, and what was to be moved where it
/// was.
pub(super) fn rename_claimed(from: &Path, to: &Path) -> io::Result<Published> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => claim(from, to),
        Ok(()) => Ok(Published::Done),
        Err(Errno::EXIST) => Ok(Published::NameTaken),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn claim(from: &Path, to: &Path) -> io::Result<Published> {
    match fs::create_dir(to) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Ok(Published::NameTaken);
        }
        Err(error) => return Err(error),
    }
    match fs::rename(from, to) {
        Ok(()) => Ok(Published::Done),
        Err(error) => {
            // It is empty, or in use by now, and then it stays.
            let is_ours = fs::remove_dir(to).is_ok();
            if is_ours {
                Err(error)
            } else {
                Ok(Published::NameTaken)
            }
        }
    }
}

/// Whether we may give a directory another name, as far as the kernel tells without giving it one:
/// in a sticky folder only its owner may, and no user where a flag keeps it in place. It is renamed
/// onto a file, which rename(2) refuses as ENOTDIR, and looks at permissions before (may_delete in
/// the kernel's fs/namei.c).
///
/// # Errors
/// It is not permitted. What says nothing of that (a full disk, a file system with answers of its
/// own) is none.
pub(super) fn may_be_renamed(directory: &Path) -> io::Result<()> {
    let beside = parent_of(directory)?;
    let refused = |error: &io::Error| {
        matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    };
    let (file, _) = match scratch_file(beside, "renamed".as_ref()) {
        Err(error) if refused(&error) => return Err(named(beside, &error)),
        Err(_) => return Ok(()),
        Ok(made) => made,
    };
    let renamed = fs::rename(directory, &file);
    remove_file(&file)?;
    match renamed {
        Err(error) if refused(&error) => Err(named(directory, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
