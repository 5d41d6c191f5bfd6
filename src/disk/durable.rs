//! The only renames, links, removals and fsyncs in the tree.
//!
//! A name is durable only after three steps in this order: fsync the file, rename it into place,
//! fsync the folder (without the last, most power cuts lose the rename). A failed fsync is never
//! tried again on the same file: the kernel reports the error once, drops the dirty pages and
//! answers the next fsync with success (fsync(2), and the PostgreSQL "fsyncgate" of 2018). A caller
//! that sees an error here throws the file away.
//!
//! ```text
//!  files        create_scratch ▸ (sync_slice) ▸ replace, publish
//!               write_file, write_new_file_in, write_record, place_file, remove_file
//!               keep_spares, make_spare    for a record on a full disk
//!  directories  move_directory, move_to_name, move_unchanged
//!                                          rename; across file systems
//!                                            copy ▸ compare ▸ rename ▸ remove
//!               build_directory            .sealift-copy-<n>-<name> ▸ fsync ▸ rename
//!               remove_tree, remove_tree_into_spares
//!                                          rename to .sealift-trash-<n>-<name> ▸ fsync ▸ unlink
//!                                          where there is no rename: a note in it ▸ fsync
//!                                            ▸ unlink what was listed
//!               finish_removal             what is left of one of those
//!               finish_leftovers           what a killed process left under our scratch names
//!               try_move                   is it a rename?
//! ```

#![expect(
    clippy::disallowed_methods,
    reason = "this is the file that the rest of the tree is sent to"
)]

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags, fstat, fsync, mkdirat, openat},
    io::Errno,
    process::geteuid,
};

use crate::{
    disk::{lookup, tree::shown},
    model::{layout::COPY_PREFIX, progress::Progress},
};

mod at_work;
mod compare;
mod copy_space;
mod copy_tree;
mod entry_list;
mod flush_pool;
mod holes;
mod inside;
mod move_tree;
mod removal_note;
mod remove_in_place;
mod remove_tree;
mod rename;
mod rename_check;
mod resume;
mod scratch;
mod spare;
mod take_away;
#[cfg(test)]
mod tests;

pub(crate) use self::at_work::who_is_at_work;
pub(crate) use self::compare::holds_the_same;
pub(crate) use self::copy_space::{bytes_of_copy, exceeds_the_disk, lacks_inodes, room_needed};
pub(crate) use self::copy_tree::cannot_hold;
pub(crate) use self::flush_pool::{FlushFailed, FlushPool, with_flush_pool};
pub(crate) use self::inside::{NotDurable, write_new_file_in};
pub(crate) use self::move_tree::{
    MoveChecked, build_as, build_directory, clear_unbuilt, move_directory, move_to_name,
    move_unchanged,
};
pub(crate) use self::removal_note::{
    forget_note, has_removal_note, is_being_removed, is_being_removed_in, is_broken_off,
    is_rest_of, stays_beside,
};
pub(crate) use self::remove_in_place::Finished;
pub(crate) use self::remove_tree::{
    Leftovers, finish_leftovers, remove_tree, remove_tree_into_spares,
};
pub(crate) use self::rename::{put_aside, put_aside_as, put_back};
pub(crate) use self::rename_check::{Tried, Trier, clear_trials, try_move};
pub(crate) use self::resume::finish_aside;
pub(crate) use self::spare::{is_full, keep_spares, make_spare};
pub(crate) use self::take_away::finish_removal;

/// What became of a publication that must not overwrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Published {
    /// It stands under its final name, and would after a power cut.
    Done,
    /// Something else has the name; ours is where it was.
    NameTaken,
}

/// Creates scratch to write into. A leftover of the same name is unlinked first and never
/// truncated, since another process may still be reading it.
///
/// # Errors
/// Those of unlink(2) and open(2).
pub(crate) fn create_scratch(path: &Path) -> io::Result<File> {
    remove_file(path)?;
    scratch::create_new(path)
}

/// Makes finished scratch durable under its final name, replacing what was there.
///
/// # Errors
/// Those of fsync(2) and rename(2). After an error the scratch must be thrown away.
pub(crate) fn replace(scratch: &File, from: &Path, to: &Path) -> io::Result<()> {
    sync_scratch(scratch, from)?;
    std::fs::rename(from, to)?;
    sync_folder_of(to)
}

/// Makes finished scratch durable under its final name, unless that is taken.
///
/// # Errors
/// Those of fsync(2) and renameat2(2). After an error the scratch must be thrown away.
pub(crate) fn publish(scratch: &File, from: &Path, to: &Path) -> io::Result<Published> {
    sync_scratch(scratch, from)?;
    let published = rename_file_noreplace(from, to)?;
    sync_folder_of(to)?;
    Ok(published)
}

fn sync_scratch(scratch: &File, name: &Path) -> io::Result<()> {
    scratch.sync_all()?;
    if scratch::still_leads_to(scratch, name)? {
        Ok(())
    } else {
        Err(scratch::taken_over(name))
    }
}

/// Writes a small file durably, replacing what was there: readers see the old or the new one, never
/// a half.
///
/// # Errors
/// Those of writing and of [`replace`]; nothing is left behind.
pub(crate) fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_record(path, bytes, &[])
}

/// As [`write_file`]; on a full disk in the place of a spare ([`keep_spares`]).
///
/// # Errors
/// As [`write_file`].
pub(crate) fn write_record(path: &Path, bytes: &[u8], spares: &[PathBuf]) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = spare::write_scratch(&temporary, bytes, spares).and_then(|file| {
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        replace(&file, &temporary, path)
    });
    if written.is_err() {
        spare::give_up(&temporary, spares);
    }
    written
}

/// As [`write_record`], in the place of the record that is there: it takes neither room nor a
/// spare. False where that cannot be; what was there is gone then, or is what it was.
///
/// # Errors
/// Those of fsync(2) and rename(2). Killed half-way, there is no record of this name.
pub(crate) fn write_over_record(path: &Path, bytes: &[u8], spares: &[PathBuf]) -> io::Result<bool> {
    let temporary = temporary_beside(path)?;
    let Some(file) = spare::over_a_record(path, &temporary, bytes, spares)? else {
        return Ok(false);
    };
    let written = file
        .set_permissions(std::fs::Permissions::from_mode(0o644))
        .and_then(|()| replace(&file, &temporary, path));
    if written.is_err() {
        spare::give_up(&temporary, spares);
    }
    written.map(|()| true)
}

/// Writes a small file durably, replacing what was there, by way of scratch of the caller's choice:
/// where several may write the same file at once, each brings a name of its own. `scratch` is on
/// the same file system and belongs to the caller alone.
///
/// # Errors
/// Those of writing and of [`replace`]; no scratch is left behind.
pub(crate) fn write_file_by_way_of(scratch: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = create_scratch(scratch).and_then(|mut file| {
        file.write_all(bytes)?;
        replace(&file, scratch, path)
    });
    if written.is_err() {
        let _ = remove_file(scratch);
    }
    written
}

/// Writes a small file that can be rebuilt, replacing what was there. Readers see the old or the
/// new one, never a half; after a power cut it may be missing, empty or old, so its readers must be
/// able to tell. `scratch` is on the same file system and belongs to the caller alone.
///
/// # Errors
/// Those of writing and of rename(2); nothing is left behind.
pub(crate) fn write_rebuildable_file(path: &Path, scratch: &Path, bytes: &[u8]) -> io::Result<()> {
    let written = create_scratch(scratch)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| std::fs::rename(scratch, path));
    if written.is_err() {
        let _ = remove_file(scratch);
    }
    written
}

/// Writes a small file for others to read, replacing what was there: they see the old or the new
/// one, never a half. Not flushed: it is written anew soon.
///
/// # Errors
/// Those of writing and of rename(2); nothing is left behind.
pub(crate) fn write_shown_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    let written = create_scratch(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        std::fs::rename(&temporary, path)
    });
    if written.is_err() {
        let _ = remove_file(&temporary);
    }
    written
}

/// Writes a small file durably, unless its name is taken; on a full disk in the place of a spare.
///
/// # Errors
/// Those of writing and of [`publish`]; nothing is left behind.
pub(crate) fn write_new_record(
    path: &Path,
    bytes: &[u8],
    spares: &[PathBuf],
) -> io::Result<Published> {
    // Publishing looks again; but a spare is not to be spent on what is taken already.
    if std::fs::symlink_metadata(path).is_ok() {
        return Ok(Published::NameTaken);
    }
    let temporary = temporary_beside(path)?;
    let written = spare::write_scratch(&temporary, bytes, spares).and_then(|file| {
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        publish(&file, &temporary, path)
    });
    if !matches!(written, Ok(Published::Done)) {
        spare::give_up(&temporary, spares);
    }
    written
}

/// Removes a file; one that is not there is no error. Not synced: a removal that a power cut undoes
/// is done again.
///
/// # Errors
/// Those of unlink(2).
pub fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Makes an empty file and removes it again: a process that watches its folder hears of it.
///
/// # Errors
/// Those of open(2) and unlink(2).
pub(crate) fn appear_and_go(path: &Path) -> io::Result<()> {
    create_scratch(path).and_then(|_| remove_file(path))
}

/// Gives a file a second name, durably, or copies it where it cannot have one (another file system,
/// a file system without links, another user's file under `fs.protected_hardlinks`). Never over an
/// existing file, never through a symlink.
///
/// # Errors
/// Those of open(2), link(2), reading, writing and fsync(2).
pub(crate) fn place_file(from: &Path, to: &Path, progress: &Progress) -> io::Result<()> {
    let source = lookup::regular(from)?;
    // link(2) does not follow a symlink either.
    match std::fs::hard_link(from, to) {
        Ok(()) => source.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        Err(_) => copy_tree::copy_file_to(&source, to, progress),
    }?;
    sync_folder_of(to)
}

/// Flushes a folder's entries.
///
/// # Errors
/// Those of open(2) and fsync(2). `EINVAL` is none: so says a file system that does not know how to
/// flush a folder (some FUSE and SMB), and has nothing better to offer.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => Ok(()),
        synced => synced,
    }
}

/// Creates a folder and those above it that are missing, each durably. One that is there is no
/// error.
///
/// # Errors
/// Those of mkdir(2) and fsync(2).
pub(crate) fn create_folder(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    create_folder(parent)?;
    match std::fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists || !path.is_dir() => Err(error),
        _ => sync_folder(parent),
    }
}

/// Creates a folder in an open one, durably: open to its owner alone, opened, and true. One that is
/// there is opened, and false.
///
/// # Errors
/// Those of mkdirat(2), openat(2) and fsync(2); what stands there is no folder, or another user has
/// put another one in the place of that which was made.
pub(crate) fn create_folder_in(folder: &OwnedFd, name: &OsStr) -> io::Result<(OwnedFd, bool)> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let is_new = match mkdirat(folder, name, Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let made = openat(folder, name, flags, Mode::empty())?;
    if is_new {
        let found = fstat(&made)?;
        // One that others could write to, they could have moved here.
        if geteuid().is_root() && (found.st_uid != 0 || found.st_mode & 0o022 != 0) {
            return Err(Errno::AGAIN.into());
        }
        match fsync(openat(folder, c".", flags, Mode::empty())?) {
            // As in sync_folder().
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((made, is_new))
}

/// Makes a folder anew that was removed, and none above it: where those are gone too (an
/// unmounted disk), it would not be the folder that was. Durable; true where it was made. Whatever
/// else stands under its name is for its user to find.
///
/// # Errors
/// Those of mkdir(2) and fsync(2).
pub(crate) fn recreate_folder(path: &Path) -> io::Result<bool> {
    if path.is_dir() {
        return Ok(false);
    }
    match std::fs::create_dir(path) {
        Ok(()) => sync_folder_of(path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Flushes what has been written to a growing file so far, beside its writer, so that the last
/// flush is short however long the file becomes. An error is final for the file even if its writer
/// sees none: the kernel reports it once, and here is where it was reported. So it is for the
/// caller to see that the file is never flushed again, nor named.
///
/// # Errors
/// Those of fdatasync(2).
pub(crate) fn sync_slice(file: &File) -> io::Result<()> {
    file.sync_data()
}

/// Flushes one open file or folder.
///
/// # Errors
/// Those of fsync(2).
pub(crate) fn sync_file(file: &File) -> io::Result<()> {
    file.sync_all()
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    sync_folder(parent_of(path)?)
}

/// The folder that a name stands in; for a bare name the working directory.
fn parent_of(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(parent) => Ok(parent),
        None => Err(io::ErrorKind::InvalidInput.into()),
    }
}

/// The same error, with the path in its words and its kind kept.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", shown(path)))
}

/// renameat2(2) with `RENAME_NOREPLACE`; where the file system does not know it (NFS, some FUSE),
/// link(2), which refuses a taken name just as atomically; and where there are no links either, a
/// look and then rename(2), which only one process at a time may do (the daemon's lock; a
/// receiver's store on such a file system has one receiver).
fn rename_file_noreplace(from: &Path, to: &Path) -> io::Result<Published> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Published::Done),
        Err(Errno::EXIST) => Ok(Published::NameTaken),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match std::fs::hard_link(from, to) {
            Ok(()) => remove_file(from).map(|()| Published::Done),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Published::NameTaken),
            Err(error) if has_no_links(&error) => rename::rename_after_a_look(from, to),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

/// Some FUSE and SMB file systems have neither; link(2) says so in several ways.
fn has_no_links(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        errno,
        Some(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::MLINK)
    )
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let mut name = OsString::from(COPY_PREFIX);
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    Ok(path.with_file_name(name))
}
