//! Moving a directory to another folder, under a name that nobody has.
//!
//! ```text
//!  rename    from ──renameat2(NOREPLACE)──▶ folder/name[~n]   ▸ fsync both folders ▸ asked again: put back, or done
//!  EXDEV     from ──copy──▶ folder/.sealift-copy-name ▸ fsync all ▸ asked again ▸ rename to name[~n] ▸ fsync
//!            from ──rename──▶ .sealift-trash-n-name ▸ fsync ▸ removed
//! ```
//!
//! EXDEV means another file system, or two `ReadWritePaths` of one unit, which are mounts of their own (rename(2)). A copy
//! killed before its last rename is scratch, and the source is whole; killed after it, both are whole under
//! their names: the source will be moved again, and the two stand beside each other as `name` and `name~1`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags},
    io::Errno,
};

use super::{
    Published, copying, named, parent_of,
    removing::{put_aside, remove_scratch, remove_tree},
    rename_file_noreplace, sync_folder,
};
use crate::{
    layout::{COPY_PREFIX, numbered},
    progress::Progress,
    tree,
};

/// How many directories of one name may stand beside each other. A recorder that uses one name again and again
/// has years before it gets there; the look at each costs a microsecond.
const MAX_NUMBER: u32 = 100_000;

/// What became of a move that holds only as long as the directory stays what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum MoveChecked {
    /// It stands there, durably.
    To(PathBuf),
    /// It was changed meanwhile. It stands here: under its old name, or numbered where that was taken again.
    Changed(PathBuf),
}

/// Moves a directory to `folder`, as `name`, or as `name~1`, `name~2`, ... where that is taken. Durable when it returns.
///
/// # Errors
/// With the path in words where one file among many is concerned. The directory is where it was, unless it was
/// the last fsync that failed.
pub fn move_directory(from: &Path, folder: &Path, name: &str, progress: &Progress) -> io::Result<PathBuf> {
    if let Some(to) = rename_numbered(from, folder, name)? {
        return Ok(to);
    }
    // Renamed, a directory takes along what is still written to it. A copy does not: it must be at rest.
    let seen = tree::fingerprint(from, progress).map_err(io::Error::other)?;
    let unchanged = |path: &Path| Ok(tree::fingerprint(path, progress).map_err(io::Error::other)? == seen);
    match move_by_copy(from, folder, name, &unchanged, progress)? {
        MoveChecked::To(to) => Ok(to),
        MoveChecked::Changed(_) => {
            let why =
                format!("{}: changed while it was copied, somebody is still writing there", from.display());
            Err(io::Error::new(io::ErrorKind::ResourceBusy, why))
        }
    }
}

/// As [`move_directory`], and then asks `unchanged` of the directory where it stands now. Where that says no, or fails, the
/// directory is put back. Where its old name was used again meanwhile, it is put beside it, numbered: it is then
/// shipped as an episode of that name, and nothing is lost.
///
/// # Errors
/// As [`move_directory`], and those of `unchanged`.
pub fn move_unchanged(
    from: &Path,
    folder: &Path,
    name: &str,
    unchanged: &dyn Fn(&Path) -> io::Result<bool>,
    progress: &Progress,
) -> io::Result<MoveChecked> {
    let Some(to) = rename_numbered(from, folder, name)? else {
        return move_by_copy(from, folder, name, unchanged, progress);
    };
    match unchanged(&to) {
        Ok(true) => Ok(MoveChecked::To(to)),
        other => {
            let back = put_back(&to, from)?;
            other.map(|_| MoveChecked::Changed(back))
        }
    }
}

/// Builds a directory out of sight and then gives it its name, numbered where that is taken. `fill` writes into the
/// path it is given, each file durably.
///
/// # Errors
/// Those of `fill`, mkdir(2), fsync(2) and renameat2(2); nothing is left behind but scratch.
pub fn build_directory(
    folder: &Path,
    name: &str,
    fill: impl FnOnce(&Path) -> io::Result<()>,
    progress: &Progress,
) -> io::Result<PathBuf> {
    let scratch = scratch_for(folder, name, progress)?;
    fs::create_dir(&scratch)?;
    let built = fill(&scratch)
        .and_then(|()| sync_folder(&scratch))
        .and_then(|()| rename_numbered(&scratch, folder, name));
    match built {
        Ok(Some(to)) => Ok(to),
        Ok(None) => Err(Errno::XDEV.into()),
        Err(error) => {
            // The first error is the one to report; scratch that stays is removed at the next start.
            let _ = remove_scratch(&scratch, progress);
            Err(error)
        }
    }
}

/// renameat2(2) with `RENAME_NOREPLACE`, for files and directories.
///
/// Where the file system does not know it (NFS, some FUSE), a file is linked; a directory is looked for first, and then renamed.
/// The look matters: rename(2) onto an empty directory succeeds, and takes its place without a word. Between look and
/// rename only the daemon's lock protects, which is why every directory move is made under it.
pub(super) fn rename_noreplace(from: &Path, to: &Path) -> io::Result<Published> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Published::Done),
        Err(Errno::EXIST) => Ok(Published::NameTaken),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if fs::symlink_metadata(from)?.is_dir() => {
            rename_after_a_look(from, to)
        }
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_file_noreplace(from, to),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn rename_after_a_look(from: &Path, to: &Path) -> io::Result<Published> {
    match fs::symlink_metadata(to) {
        Ok(_) => Ok(Published::NameTaken),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::rename(from, to)?;
            Ok(Published::Done)
        }
        Err(error) => Err(error),
    }
}

/// `None` where it would have to be copied.
fn rename_numbered(from: &Path, folder: &Path, name: &str) -> io::Result<Option<PathBuf>> {
    for n in 0..=MAX_NUMBER {
        let to = folder.join(numbered(name, n));
        match rename_noreplace(from, &to) {
            Ok(Published::Done) => {
                sync_folder(folder)?;
                sync_folder(parent_of(from)?)?;
                return Ok(Some(to));
            }
            Ok(Published::NameTaken) => {}
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => return Ok(None),
            Err(error) => return Err(named(from, &error)),
        }
    }
    let why = format!("{name} and {name}~1 to {name}~{MAX_NUMBER} are all taken in {}", folder.display());
    Err(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

fn put_back(from: &Path, old: &Path) -> io::Result<PathBuf> {
    let name = old.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidInput)?;
    rename_numbered(from, parent_of(old)?, name)?.ok_or_else(|| Errno::XDEV.into())
}

fn move_by_copy(
    from: &Path,
    folder: &Path,
    name: &str,
    unchanged: &dyn Fn(&Path) -> io::Result<bool>,
    progress: &Progress,
) -> io::Result<MoveChecked> {
    let scratch = scratch_for(folder, name, progress)?;
    let published = copying::copy_directory(from, &scratch, progress).and_then(|()| {
        // Asked of the source, as late as possible: what is written there after this is lost with it.
        if unchanged(from)? { rename_numbered(&scratch, folder, name) } else { Ok(None) }
    });
    let to = match published {
        Ok(Some(to)) => to,
        Ok(None) => {
            remove_scratch(&scratch, progress)?;
            return Ok(MoveChecked::Changed(from.to_owned()));
        }
        Err(error) => {
            let _ = remove_scratch(&scratch, progress);
            return Err(error);
        }
    };
    match put_aside(from) {
        Ok(Some(trash)) => {
            if let Err(error) = remove_scratch(&trash, progress) {
                tracing::warn!(
                    "{} was copied to {}, but what is left of it cannot be removed: {error}. It is tried again at the \
                     next start.",
                    from.display(),
                    to.display()
                );
            }
            Ok(MoveChecked::To(to))
        }
        Ok(None) => Ok(MoveChecked::To(to)),
        Err(error) => {
            // The source must stay, and so there must be no second one.
            remove_tree(&to, progress)?;
            Err(error)
        }
    }
}

/// Where to build or copy `name`. What lies there is left over from a failure and is removed.
fn scratch_for(folder: &Path, name: &str, progress: &Progress) -> io::Result<PathBuf> {
    let scratch = folder.join(format!("{COPY_PREFIX}{name}"));
    match remove_scratch(&scratch, progress) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(scratch),
    }
}
