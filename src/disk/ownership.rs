//! Owner, group and mode of what is there, changed through a descriptor: no symlink is followed, on
//! the way to it neither.

use std::{
    ffi::{CStr, CString},
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::Path,
};

use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, chownat, fchmod, fchown,
        openat, openat2, statat,
    },
    io::Errno,
};

use super::tree::MAX_DEPTH;
use crate::model::layout::MARKER;

const OPENED: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Gives a file or a folder to another owner or group, and changes bits of its mode. `path` has no
/// symlink in it.
///
/// # Errors
/// Those of openat2(2), fchown(2) and fchmod(2).
pub(crate) fn give(
    path: &Path,
    owner: Option<u32>,
    group: Option<u32>,
    set: u32,
    clear: u32,
) -> io::Result<()> {
    let file = match openat2(CWD, path, OPENED, Mode::empty(), ResolveFlags::NO_SYMLINKS) {
        // No such call in this kernel, or a filter that knows it not.
        Err(Errno::NOSYS | Errno::PERM) => openat(CWD, path, OPENED, Mode::empty()),
        opened => opened,
    };
    let file = File::from(file?);
    if owner.is_some() || group.is_some() {
        fchown(&file, owner.map(Uid::from_raw), group.map(Gid::from_raw))?;
    }
    let mode = file.metadata()?.mode() & 0o7777;
    let wanted = mode & !clear | set;
    if wanted != mode {
        fchmod(&file, Mode::from_raw_mode(wanted))?;
    }
    Ok(())
}

/// Gives a sealed episode, and all in it, to another owner; a symlink in it itself, and not what it
/// leads to. One that is open is its recorder's: nothing is done then, and false returned.
///
/// # Errors
/// Those of openat(2), getdents(2) and fchownat(2).
pub(crate) fn give_sealed(episode: &Path, owner: u32) -> io::Result<bool> {
    let folder = openat(CWD, episode, OPENED | OFlags::DIRECTORY, Mode::empty())?;
    let marker = CString::new(MARKER)?;
    match statat(&folder, &*marker, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(found) if FileType::from_raw_mode(found.st_mode).is_file() => {}
        Ok(_) | Err(Errno::NOENT) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    let owner = Uid::from_raw(owner);
    give_all_in(&folder, owner, MAX_DEPTH)?;
    fchown(&folder, Some(owner), None)?;
    Ok(true)
}

fn give_all_in(folder: &impl std::os::fd::AsFd, owner: Uid, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(Errno::LOOP.into());
    }
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let found = statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(found.st_mode).is_dir() {
            let below = openat(folder, name, OPENED | OFlags::DIRECTORY, Mode::empty())?;
            give_all_in(&below, owner, depth - 1)?;
        }
        chownat(folder, name, Some(owner), None, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// The sealed episodes in `episodes` that this user cannot move: other owners' folders, which none
/// of their groups may write to.
///
/// # Errors
/// Those of listing the folder.
pub(crate) fn sealed_of_others(
    episodes: &Path,
    uid: u32,
    is_in: impl Fn(u32) -> bool,
) -> io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(episodes)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        let is_open_to = is_in(metadata.gid()) && metadata.mode() & 0o030 == 0o030;
        if metadata.is_dir()
            && !entry.file_name().as_bytes().starts_with(b".")
            && metadata.uid() != uid
            && !is_open_to
            && std::fs::symlink_metadata(entry.path().join(MARKER)).is_ok_and(|it| it.is_file())
        {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
